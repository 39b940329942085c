//! Actions of operators (reopen, delete), and what readers find of logs and progress.

use cerebelum_history::{Level, Position, Timestamp};
use cerebelum_store::{
    ApprovalChange, ExecutionDetail, ExecutionRow, Incarnation, LogLine, Progress, Size, State, StoreError,
};

use crate::bench::{Bench, batch, call, chunk, end, events, key, opened, scope};
use crate::on_all;

on_all!(
    what_has_failed_is_reopened_by_a_message,
    l07_a_log_line_is_kept_once,
    logs_are_read_page_by_page,
    the_latest_progress_of_a_scope_counts,
    an_execution_is_read_in_full;
    // Only on databases:
    only_what_has_ended_is_deleted_and_then_entirely,
    of_a_long_history_the_beginning_and_the_end_are_read,
);

async fn what_has_failed_is_reopened_by_a_message(bench: Bench) {
    let node = bench.lease("n").await;
    for state in [State::Completed, State::Cancelled] {
        let head = bench.started(node, &format!("{state:?}")).await;
        assert_eq!(bench.write(end(node, &head, state)).await, Ok(()));
        assert!(!bench.reopen(&head.key, "resume".into()).await.unwrap());
    }
    let head = bench.started(node, "a").await;
    assert!(!bench.reopen(&key("a"), "resume".into()).await.unwrap());
    assert!(!bench.reopen(&key("nobody"), "resume".into()).await.unwrap());
    let failed = end(node, &head, State::Failed);
    assert_eq!(bench.write(failed.clone()).await, Ok(()));
    assert!(bench.reopen(&key("a"), "resume".into()).await.unwrap());
    assert!(!bench.reopen(&key("a"), "resume".into()).await.unwrap());
    let claimed = bench.claim(node, 9, Size::Any).await.unwrap().remove(0);
    assert_eq!(
        (claimed.head.state, claimed.head.ended_at, claimed.head.position),
        (State::Open, None, failed.head.position)
    );
    assert_eq!(claimed.inbox[0].message, "resume");
    assert_eq!(bench.write(events(node, &claimed.head, 1)).await, Ok(()));
}

async fn only_what_has_ended_is_deleted_and_then_entirely(bench: Bench) {
    let node = bench.lease("n").await;
    let head = bench.started(node, "a").await;
    bench.started(node, "b").await;
    bench.send(&key("a"), "unread".into()).await.unwrap();
    let mut full = events(node, &head, 1);
    full.head.attributes = r#"{"x":1}"#.into();
    full.opened = vec![opened("1", "{}")];
    full.logs = vec![line(1, 1)];
    full.progress = vec![Progress { scope: scope(""), percent: 1, message: String::new() }];
    full.approvals =
        vec![ApprovalChange::Open { id: "q".into(), call: call("1"), request: "{}".into(), deadline: None }];
    assert_eq!(bench.write(full.clone()).await, Ok(()));
    assert!(!bench.delete(&key("a")).await.unwrap());
    assert_eq!(bench.write(end(node, &full.head, State::Completed)).await, Ok(()));
    assert!(bench.delete(&key("a")).await.unwrap());
    assert!(!bench.delete(&key("a")).await.unwrap());
    assert!(!bench.delete(&key("nobody")).await.unwrap());
    bench.delete_remains(9).await.unwrap();
    for table in ["calls", "inbox", "approvals", "logs", "progress", "attributes"] {
        assert_eq!(bench.meddle(format!("select count(*) from {table}")).await, 0, "{table}");
    }
    assert_eq!(bench.meddle("select count(*) from history").await, 1);
    assert_eq!(bench.meddle("select count(*) from executions").await, 1);
    // The id is free again.
    bench.started(node, "a").await;
}

async fn l07_a_log_line_is_kept_once(bench: Bench) {
    let node = bench.lease("n").await;
    let head = bench.started(node, "a").await;
    for _ in 0..3 {
        let mut said = batch(node, &head);
        said.logs = vec![line(1, 1), line(1, 2), LogLine { text: "another".into(), ..line(1, 1) }, line(2, 1)];
        said.logs.push(LogLine { place: 9, ..line(1, 1) });
        assert_eq!(bench.write(said).await, Ok(()));
    }
    let lines: Vec<LogLine> = bench.logs(&key("a"), 0, 99).await.unwrap().into_iter().map(|row| row.line).collect();
    assert_eq!(lines, [line(1, 1), line(1, 2), line(2, 1), LogLine { place: 9, ..line(1, 1) }]);
}

async fn logs_are_read_page_by_page(bench: Bench) {
    let node = bench.lease("n").await;
    let (a, b) = (bench.started(node, "a").await, bench.started(node, "b").await);
    for number in 0..5 {
        let (mut said, mut beside) = (batch(node, &a), batch(node, &b));
        said.logs = vec![line(1, 2 * number), line(1, 2 * number + 1)];
        beside.logs = vec![line(1, number)];
        bench.append_all(crate::bench::fresh(), vec![beside, said]).await;
    }
    let (mut after, mut numbers) = (0, Vec::new());
    loop {
        let page = bench.logs(&key("a"), after, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.iter().all(|row| row.seq > after) && page.is_sorted_by_key(|row| row.seq));
        after = last.seq;
        numbers.extend(page.iter().map(|row| row.line.number));
    }
    assert_eq!(numbers, (0..10).collect::<Vec<_>>());
    assert_eq!(bench.logs(&key("nobody"), 0, 3).await.unwrap(), []);
    assert_eq!(bench.history(&key("a"), 1, Position(1), Position(1)).await.unwrap().len(), 1);
}

async fn the_latest_progress_of_a_scope_counts(bench: Bench) {
    let node = bench.lease("n").await;
    let head = bench.started(node, "a").await;
    let progress = |of: &str, percent, message: &str| Progress { scope: scope(of), percent, message: message.into() };
    let mut first = batch(node, &head);
    first.progress = vec![progress("", 10, "a"), progress("", 20, "b"), progress("3", 0, "c")];
    let mut second = batch(node, &head);
    second.progress = vec![progress("3", 100, "d")];
    assert_eq!(bench.write(first).await, Ok(()));
    assert_eq!(bench.write(second).await, Ok(()));
    assert_eq!(bench.progress(&key("a")).await.unwrap(), [progress("", 20, "b"), progress("3", 100, "d")]);
    assert_eq!(bench.progress(&key("nobody")).await.unwrap(), []);
}

fn line(attempt: u32, number: u32) -> LogLine {
    let text = format!("line {number} of attempt {attempt}");
    LogLine { scope: scope("1"), attempt, place: 2, number, at: Timestamp(7), level: Level::Warn, text }
}

async fn an_execution_is_read_in_full(bench: Bench) {
    let node = bench.lease("n").await;
    let head = bench.started(node, "a").await;
    let mut batch = events(node, &head, 3);
    batch.opened = vec![opened("1", "{}")];
    batch.progress = vec![Progress { scope: scope("1"), percent: 33, message: "on".into() }];
    let head = batch.head.clone();
    assert_eq!(bench.write(batch.clone()).await, Ok(()));
    let all = bench.describe(&key("a")).await.unwrap().unwrap();
    assert_eq!((&all.head, all.history.unwrap()), (&head, vec![chunk(1, 1), chunk(2, 4)]));
    assert_eq!((all.calls, all.progress), (batch.opened, batch.progress));

    let last = end(node, &head, State::Completed);
    let head = last.head.clone();
    assert_eq!(bench.write(last).await, Ok(()));
    let all = bench.describe(&key("a")).await.unwrap().unwrap();
    let last = all.history.unwrap().last().unwrap().last;
    assert_eq!((&all.head, last), (&head, head.position));
    assert_eq!(all.progress.len(), 1);
    assert!(bench.describe(&key("nobody")).await.unwrap().is_none());
}

/// Writes commits with this many events of this many bytes each.
async fn grown(bench: &Bench, node: Incarnation, head: &mut ExecutionRow, commits: u64, (events, bytes): (u64, usize)) {
    for _ in 0..commits {
        let mut grows = self::events(node, head, events);
        grows.chunks[0].events = format!("[{}]", "1".repeat(bytes));
        *head = grows.head.clone();
        assert_eq!(bench.write(grows).await, Ok(()));
    }
}

async fn of_a_long_history_the_beginning_and_the_end_are_read(bench: Bench) {
    let node = bench.lease("n").await;
    let mut head = bench.started(node, "a").await;
    let ends = |whole: &ExecutionDetail| {
        let history = whole.history.as_ref().unwrap();
        (whole.first.as_ref().map(|first| first.last.0), history[0].first.0, history.last().unwrap().last.0)
    };
    // The read returns as much as fits in 4 MiB from the end on, and the beginning.
    grown(&bench, node, &mut head, 6, (2, 1 << 20)).await;
    let whole = bench.describe(&key("a")).await.unwrap().unwrap();
    assert_eq!(ends(&whole), (Some(1), 6, 13));
    // A larger chunk is read all the same if it is the last one.
    grown(&bench, node, &mut head, 1, (2, 5 << 20)).await;
    let whole = bench.describe(&key("a")).await.unwrap().unwrap();
    assert_eq!(ends(&whole), (Some(1), 14, 15));
    // Of small events the last 10,000 are read, from the chunk that holds the first of these.
    grown(&bench, node, &mut head, 4, (4_000, 10)).await;
    let whole = bench.describe(&key("a")).await.unwrap().unwrap();
    assert_eq!(ends(&whole), (Some(1), 4_016, 16_015));
    assert_eq!(whole.first.unwrap().first.0, 1);
    // A gap is noticed even in a part that would not be shown.
    bench.meddle("delete from history where first_position = 8016").await;
    let whole = bench.describe(&key("a")).await.unwrap().unwrap();
    assert!(matches!(whole.history, Err(StoreError::Corrupt(cause)) if cause.contains("position 8016 is missing")));
    grown(&bench, node, &mut head, 1, (1, 5 << 20)).await;
    let whole = bench.describe(&key("a")).await.unwrap().unwrap();
    assert!(matches!(whole.history, Err(StoreError::Corrupt(cause)) if cause.contains("position 8016 is missing")));
}
