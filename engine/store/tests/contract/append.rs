//! Appends: all or nothing, without gaps, each batch alone.

use cerebelum_history::{Position, Status, Timestamp};
use cerebelum_store::{AppendError, LogLine, Progress, State};

use crate::bench::{Bench, batch, call, chunk, end, events, fresh, key, new, opened, release, scope, written};
use crate::on_all;

on_all!(
    a_batch_writes_everything_it_says,
    l05_a_refused_batch_leaves_nothing_behind,
    l04_one_of_many_is_refused_alone,
    l04_positions_have_no_gaps,
    l11_a_stale_claim_cannot_append,
    an_ended_execution_takes_nothing_more,
    batches_of_one_execution_follow_each_other_in_one_append,
    l11_the_same_append_twice_happens_once,
    rewritten_chunks_keep_their_positions,
    the_next_run_starts_anew_and_keeps_the_old_one,
    texts_survive_exactly,
    many_appends_at_once_lose_nothing;
    // Only on databases:
    a_batch_that_breaks_a_rule_harms_no_other,
);

async fn a_batch_writes_everything_it_says(bench: Bench) {
    let node = bench.lease("n").await;
    let head = bench.started(node, "a").await;
    let mut batch = events(node, &head, 3);
    batch.head.status = Status::Sleeping;
    batch.head.attributes = r#"{"b": 1, "a": "x"}"#.into();
    batch.attributes_before = Some("{}".into());
    batch.head.options = r#"{"deadline":7}"#.into();
    batch.head.paused = true;
    batch.head.parked = Some("diverged\0\\".into());
    batch.head.due = Some(Timestamp(u64::MAX));
    batch.head.stamp = Timestamp(5_000);
    batch.opened = vec![opened("1", "{\"open\":1}"), opened("2#7.3", "{}")];
    batch.progress = vec![Progress { scope: scope("1"), percent: 33, message: "on".into() }];
    let expected = batch.head.clone();
    assert_eq!(bench.write(batch).await, Ok(()));
    let looked = bench.looked("a").await;
    assert_eq!(looked.head, expected);
    assert_eq!(looked.calls, [opened("1", "{\"open\":1}"), opened("2#7.3", "{}")]);
    assert_eq!(bench.history(&key("a"), 1, Position(0), Position(u64::MAX)).await.unwrap(), [chunk(1, 1), chunk(2, 4)]);
    assert_eq!(bench.history(&key("a"), 1, Position(3), Position(3)).await.unwrap(), [chunk(2, 4)]);
    assert_eq!(bench.history(&key("a"), 1, Position(5), Position(9)).await.unwrap(), []);
    assert_eq!(bench.history(&key("nobody"), 1, Position(1), Position(9)).await.unwrap(), []);

    let mut next = events(node, &expected, 1);
    next.opened = vec![opened("1", "{\"open\":2}"), opened("4", "{}")];
    next.closed = vec![call("2#7.3"), call("4"), call("9")];
    assert_eq!(bench.write(next).await, Ok(()));
    assert_eq!(bench.looked("a").await.calls, [opened("1", "{\"open\":2}")]);
}

async fn l05_a_refused_batch_leaves_nothing_behind(bench: Bench) {
    let node = bench.lease("n").await;
    let head = bench.started(node, "a").await;
    bench.sleeping("b", None).await;
    bench.send(&key("a"), "hello".into()).await.unwrap();
    let before = bench.looked("a").await;
    let mut moved = events(node, &head, 2);
    moved.after = Position(7);
    moved.chunks = vec![chunk(8, 9)];
    moved.head.position = Position(9);
    moved.opened = vec![opened("1", "{}")];
    moved.consumed = vec![before.inbox[0].seq];
    moved.messages = vec![("b".parse().unwrap(), "psst".into())];
    moved.children = vec![cerebelum_store::Child { new: new("c"), accepted: Some("yes".into()), refused: "no".into() }];
    moved.logs = vec![line(1)];
    moved.progress = vec![Progress { scope: scope(""), percent: 1, message: String::new() }];
    moved.release = true;
    assert_eq!(bench.write(moved).await, Err(AppendError::Moved));
    assert_eq!(bench.looked("a").await, before);
    assert_eq!(bench.inbox("b").await, [""; 0]);
    assert_eq!(bench.execution(&key("c")).await.unwrap(), None);
    assert_eq!(bench.logs(&key("a"), 0, 9).await.unwrap(), []);
    assert_eq!(bench.progress(&key("a")).await.unwrap(), []);
    // The execution is still claimed by the same node.
    assert_eq!(bench.write(events(node, &head, 1)).await, Ok(()));
}

async fn l04_one_of_many_is_refused_alone(bench: Bench) {
    let node = bench.lease("n").await;
    let mut batches = Vec::new();
    for number in 0..9 {
        let head = bench.started(node, &format!("e{number}")).await;
        let mut batch = events(node, &head, 1);
        if number % 4 == 0 {
            batch.after = Position(5);
        }
        batches.push(batch);
    }
    let answers = bench.append_all(fresh(), batches).await;
    for (number, answer) in answers.into_iter().enumerate() {
        let expected = if number % 4 == 0 { (Err(AppendError::Moved), 1) } else { (Ok(()), 2) };
        assert_eq!((answer, bench.head(&format!("e{number}")).await.position.0), expected, "e{number}");
    }
}

async fn l04_positions_have_no_gaps(bench: Bench) {
    let node = bench.lease("n").await;
    let head = bench.started(node, "a").await;
    let good = events(node, &head, 2);
    let mut gap = good.clone();
    gap.chunks = vec![chunk(3, 4)];
    gap.head.position = Position(4);
    let mut overlap = good.clone();
    overlap.chunks = vec![chunk(1, 3)];
    let mut backwards = good.clone();
    backwards.chunks = vec![chunk(2, 1)];
    let mut wrong_head = good.clone();
    wrong_head.head.position = Position(9);
    let mut wrong_run = good.clone();
    wrong_run.head.run = 2;
    for bad in [gap, overlap, backwards, wrong_head, wrong_run] {
        assert_eq!(bench.write(bad).await, Err(AppendError::Moved));
    }
    assert_eq!(bench.write(good.clone()).await, Ok(()));
    assert_eq!(bench.write(good).await, Err(AppendError::Moved));
    assert_eq!(bench.history(&key("a"), 1, Position(1), Position(9)).await.unwrap(), [chunk(1, 1), chunk(2, 3)]);
}

async fn l11_a_stale_claim_cannot_append(bench: Bench) {
    let (first, second) = (bench.lease("first").await, bench.lease("second").await);
    let head = bench.started(first, "a").await;
    assert_eq!(bench.write(events(second, &head, 1)).await, Err(AppendError::ClaimLost));
    assert_eq!(bench.write(release(first, &head, None)).await, Ok(()));
    assert_eq!(bench.write(events(first, &head, 1)).await, Err(AppendError::ClaimLost));
    assert!(bench.claim_one(second, &key("a")).await.unwrap().is_some());
    assert_eq!(bench.write(events(first, &head, 1)).await, Err(AppendError::ClaimLost));
    assert_eq!(bench.head("a").await.position, Position(1));
    assert_eq!(bench.write(events(second, &head, 1)).await, Ok(()));
    assert_eq!(bench.write(events(second, &new("nobody").head, 1)).await, Err(AppendError::ClaimLost));
}

async fn an_ended_execution_takes_nothing_more(bench: Bench) {
    let node = bench.lease("n").await;
    for state in [State::Completed, State::Failed, State::Cancelled] {
        let head = bench.started(node, &format!("{state:?}")).await;
        let mut ending = end(node, &head, state);
        // The claim ends with the execution, whether or not the batch releases it.
        ending.release = false;
        assert_eq!(bench.write(ending.clone()).await, Ok(()));
        let ended = bench.head(&format!("{state:?}")).await;
        assert_eq!(ended, ending.head);
        assert_eq!(bench.write(events(node, &ended, 1)).await, Err(AppendError::ClaimLost));
        assert!(!bench.send(&ended.key, "too late".into()).await.unwrap());
        assert_eq!(bench.claim_one(node, &ended.key).await.unwrap(), None);
    }
    assert_eq!(bench.claimed(node).await, [""; 0]);
}

async fn batches_of_one_execution_follow_each_other_in_one_append(bench: Bench) {
    let node = bench.lease("n").await;
    let (a, b) = (bench.started(node, "a").await, bench.started(node, "b").await);
    let first = events(node, &a, 2);
    let mut second = events(node, &first.head, 1);
    second.opened = vec![opened("1", "{}")];
    let mut third = events(node, &second.head, 1);
    third.closed = vec![call("1")];
    let batches = vec![first, events(node, &b, 1), second, third];
    assert_eq!(bench.append_all(fresh(), batches).await, [Ok(()); 4]);
    assert_eq!((bench.looked("a").await.calls, bench.head("a").await.position), (vec![], Position(5)));
    let chunks = bench.history(&key("a"), 1, Position(1), Position(5)).await.unwrap();
    assert_eq!(chunks, [chunk(1, 1), chunk(2, 3), chunk(4, 4), chunk(5, 5)]);
}

async fn l11_the_same_append_twice_happens_once(bench: Bench) {
    let node = bench.lease("n").await;
    let (a, b) = (bench.started(node, "a").await, bench.started(node, "b").await);
    let mut refused = events(node, &b, 1);
    refused.after = Position(8);
    let batches = vec![events(node, &a, 1), refused];
    let id = fresh();
    let answers = bench.append_all(id, batches.clone()).await;
    assert_eq!(answers, [Ok(()), Err(AppendError::Moved)]);
    assert_eq!(bench.append_all(id, batches.clone()).await, answers);
    // The receipt is also found after later appends, and after the lease has ended.
    assert_eq!(bench.write(events(node, &batches[0].head, 1)).await, Ok(()));
    assert_eq!(bench.append_all(id, batches.clone()).await, answers);
    bench.end_lease(node).await.unwrap();
    assert_eq!(bench.append_all(id, batches.clone()).await, answers);
    assert_eq!(bench.head("a").await.position, Position(3));
    assert_eq!(bench.append_all(fresh(), batches).await, [Err(AppendError::ClaimLost); 2]);
    assert_eq!(bench.append_all(fresh(), vec![]).await, []);
}

async fn rewritten_chunks_keep_their_positions(bench: Bench) {
    let node = bench.lease("n").await;
    let head = bench.started(node, "a").await;
    let first = events(node, &head, 2);
    assert_eq!(bench.write(first.clone()).await, Ok(()));
    let mut second = events(node, &first.head, 2);
    let (mut old, mut own) = (chunk(2, 3), chunk(4, 5));
    old.events = "[\"dropped\"]".into();
    own.events = "[\"dropped at once\"]".into();
    second.rewritten = vec![old.clone(), own.clone()];
    assert_eq!(bench.write(second).await, Ok(()));
    assert_eq!(bench.history(&key("a"), 1, Position(1), Position(5)).await.unwrap(), [chunk(1, 1), old, own]);
}

async fn a_batch_that_breaks_a_rule_harms_no_other(bench: Bench) {
    let node = bench.lease("n").await;
    let (a, b, c) = (bench.started(node, "a").await, bench.started(node, "b").await, bench.started(node, "c").await);
    // The execution has ended, but without a time.
    let mut broken = end(node, &b, State::Completed);
    broken.head.ended_at = None;
    let answers = bench.append_all(fresh(), vec![events(node, &a, 1), broken, events(node, &c, 1)]).await;
    assert_eq!(answers, [Ok(()), Err(AppendError::Forbidden), Ok(())]);
    let positions = [bench.head("a").await, bench.head("b").await, bench.head("c").await].map(|head| head.position.0);
    assert_eq!(positions, [2, 1, 2]);
    let broken = {
        let mut new = new("d");
        new.head.run = 0;
        new
    };
    assert_eq!(bench.start(vec![broken]).await, [Err(AppendError::Forbidden)]);
}

async fn the_next_run_starts_anew_and_keeps_the_old_one(bench: Bench) {
    let node = bench.lease("n").await;
    let head = bench.started(node, "a").await;
    let mut first = events(node, &head, 1);
    first.opened = vec![opened("1", "{}")];
    first.progress = vec![Progress { scope: scope(""), percent: 50, message: "half".into() }];
    first.logs = vec![line(1)];
    assert_eq!(bench.write(first.clone()).await, Ok(()));
    bench.send(&key("a"), "unread".into()).await.unwrap();
    let mut again = events(node, &first.head, 1);
    again.closed = vec![call("1")];
    again.logs = vec![line(2)];
    again.next_run = Some(chunk(1, 2));
    again.head.run = 2;
    again.head.position = Position(2);
    assert_eq!(bench.write(again.clone()).await, Ok(()));
    let looked = bench.looked("a").await;
    assert_eq!((looked.head, looked.calls.len(), looked.inbox.len()), (again.head.clone(), 0, 1));
    assert_eq!(bench.progress(&key("a")).await.unwrap(), []);
    let runs: Vec<u32> = bench.logs(&key("a"), 0, 9).await.unwrap().into_iter().map(|row| row.run).collect();
    assert_eq!(runs, [1, 1]);
    assert_eq!(bench.write(events(node, &again.head, 1)).await, Ok(()));
    let history = |run| bench.history(&again.key, run, Position(1), Position(99));
    assert_eq!(history(1).await.unwrap(), [chunk(1, 1), chunk(2, 2), chunk(3, 3)]);
    assert_eq!(history(2).await.unwrap(), [chunk(1, 2), chunk(3, 3)]);
    assert_eq!(history(3).await.unwrap(), []);
}

async fn texts_survive_exactly(bench: Bench) {
    let node = bench.lease("n").await;
    let head = bench.started(node, "a").await;
    let events_text =
        r#"["\u0000 \\ \" ' $1 ? :x {now} 🦀 9007199254740993 1e400 é"]"#.to_string() + &"x".repeat(1 << 20);
    let mut batch = events(node, &head, 1);
    batch.chunks[0].events = events_text.clone();
    batch.opened = vec![opened("1", &events_text)];
    batch.logs = vec![LogLine { text: "nul \0 and \\0 and \\".into(), ..line(1) }];
    batch.progress = vec![Progress { scope: scope(""), percent: 100, message: "nul \0".into() }];
    assert_eq!(bench.write(batch).await, Ok(()));
    assert_eq!(bench.history(&key("a"), 1, Position(2), Position(2)).await.unwrap()[0].events, events_text);
    assert_eq!(bench.looked("a").await.calls[0].state, events_text);
    assert_eq!(bench.logs(&key("a"), 0, 1).await.unwrap()[0].line.text, "nul \0 and \\0 and \\");
    assert_eq!(bench.progress(&key("a")).await.unwrap()[0].message, "nul \0");
}

async fn many_appends_at_once_lose_nothing(bench: Bench) {
    let node = bench.lease("n").await;
    let mut writers = Vec::new();
    for number in 0..8 {
        let mut head = bench.started(node, &format!("e{number}")).await;
        let store = bench.store.clone();
        writers.push(tokio::spawn(async move {
            for _ in 0..20 {
                let batch = events(node, &head, 1);
                head = batch.head.clone();
                assert_eq!(written(store.append(fresh(), vec![batch]).await.unwrap()), [Ok(())]);
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    for number in 0..8 {
        let chunks = bench.history(&key(&format!("e{number}")), 1, Position(1), Position(99)).await.unwrap();
        assert_eq!(chunks.len(), 21);
    }
    let head = bench.head("e0").await;
    assert_eq!(bench.write(batch(node, &head)).await, Ok(()));
}

fn line(number: u32) -> LogLine {
    let level = cerebelum_history::Level::Info;
    LogLine { scope: scope("1"), attempt: 1, place: 2, number, at: Timestamp(7), level, text: format!("line {number}") }
}
