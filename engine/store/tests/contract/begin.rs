//! Executions that begin with their first batch, and appends that take the optimistic path: a second batch of a node
//! finds everything as the node left it.

use cerebelum_history::{Position, Timestamp};
use cerebelum_store::{AppendError, Batch, Incarnation, State};

use crate::bench::{Bench, chunk, end, events, fresh, key, new, opened, release};
use crate::on_all;

on_all!(
    a_first_batch_stores_all_of_it,
    an_execution_may_end_or_sleep_in_its_first_batch,
    a_first_batch_may_go_on_as_a_new_run,
    a_taken_id_is_refused_alone_and_leaves_nothing,
    l11_a_claim_that_was_lost_writes_nothing,
    l04_a_batch_that_does_not_follow_is_refused_on_the_straight_way_too,
    messages_are_counted_on_the_straight_way,
    what_ended_long_ago_goes_first_and_no_more_than_asked;
    // Only on databases:
    a_first_batch_that_breaks_a_rule_leaves_nothing,
);

/// The batch that an execution begins with.
fn begin(node: Incarnation, id: &str) -> Batch {
    let new = new(id);
    Batch { begins: true, after: Position(0), chunks: vec![new.first], ..Batch::of(node, new.head) }
}

/// Makes the next appends of this node take the optimistic path: from now on, the receipts in its row are known.
async fn warm(bench: &Bench, node: Incarnation) {
    assert_eq!(bench.write(begin(node, &format!("warm-{}", fresh()))).await, Ok(()));
}

async fn a_first_batch_stores_all_of_it(bench: Bench) {
    let node = bench.lease("n").await;
    for id in ["first", "second"] {
        let mut batch = begin(node, id);
        batch.head.attributes = r#"{"a":1}"#.into();
        batch.opened = vec![opened("1", "{}")];
        let head = batch.head.clone();
        assert_eq!(bench.write(batch).await, Ok(()), "{id}");
        let looked = bench.looked(id).await;
        assert_eq!((looked.owner, &looked.head, looked.calls.len()), (Some(node), &head, 1), "{id}");
        assert_eq!(bench.history(&key(id), 1, Position(1), Position(9)).await.unwrap(), [chunk(1, 1)]);
        assert_eq!(bench.write(events(node, &head, 2)).await, Ok(()), "{id}");
        assert_eq!(bench.head(id).await.position, Position(3));
    }
}

async fn an_execution_may_end_or_sleep_in_its_first_batch(bench: Bench) {
    let node = bench.lease("n").await;
    for id in ["one", "two"] {
        let ended = end(node, &new(id).head, State::Completed);
        let batch = Batch { begins: true, after: Position(0), chunks: vec![chunk(1, 2)], ..ended };
        assert_eq!(bench.write(batch).await, Ok(()));
        assert_eq!((bench.head(id).await.state, bench.looked(id).await.owner), (State::Completed, None));
        let id = format!("sleeps-{id}");
        let asleep = release(node, &new(&id).head, Some(Timestamp(1)));
        let batch = Batch { begins: true, after: Position(0), chunks: vec![chunk(1, 1)], ..asleep };
        assert_eq!(bench.write(batch).await, Ok(()));
        assert_eq!(bench.claimed(node).await, [id.as_str()]);
    }
}

async fn a_first_batch_may_go_on_as_a_new_run(bench: Bench) {
    let node = bench.lease("n").await;
    warm(&bench, node).await;
    let mut batch = begin(node, "a");
    batch.chunks = vec![chunk(1, 2)];
    batch.next_run = Some(chunk(1, 1));
    batch.head.run = 2;
    let head = batch.head.clone();
    assert_eq!(bench.write(batch).await, Ok(()));
    assert_eq!(bench.history(&key("a"), 1, Position(1), Position(9)).await.unwrap(), [chunk(1, 2)]);
    assert_eq!(bench.history(&key("a"), 2, Position(1), Position(9)).await.unwrap(), [chunk(1, 1)]);
    assert_eq!(bench.write(events(node, &head, 1)).await, Ok(()));
}

async fn a_taken_id_is_refused_alone_and_leaves_nothing(bench: Bench) {
    let node = bench.lease("n").await;
    let theirs = bench.sleeping("taken", None).await;
    warm(&bench, node).await;
    let mut taken = begin(node, "taken");
    taken.opened = vec![opened("1", "{}")];
    let batches = vec![begin(node, "a"), taken, begin(node, "b")];
    assert_eq!(bench.append_all(fresh(), batches).await, [Ok(()), Err(AppendError::Exists), Ok(())]);
    let looked = bench.looked("taken").await;
    assert_eq!((looked.head.seed, looked.owner, looked.calls.len()), (theirs.seed, None, 0));
    assert_eq!(bench.history(&key("taken"), 1, Position(1), Position(9)).await.unwrap().len(), 1);
    assert_eq!(bench.looked("b").await.owner, Some(node));
}

async fn l11_a_claim_that_was_lost_writes_nothing(bench: Bench) {
    let node = bench.lease("n").await;
    let batch = begin(node, "a");
    let head = batch.head.clone();
    assert_eq!(bench.write(batch).await, Ok(()));
    warm(&bench, node).await;
    bench.expire(node).await;
    assert_eq!(bench.expire_leases().await.unwrap(), 1);
    let mut late = events(node, &head, 1);
    late.opened = vec![opened("1", "{}")];
    assert_eq!(bench.append_all(fresh(), vec![late, begin(node, "b")]).await, [Err(AppendError::ClaimLost); 2]);
    let looked = bench.looked("a").await;
    assert_eq!((looked.head.position, looked.calls.len(), looked.owner), (Position(1), 0, None));
    assert_eq!(bench.history(&key("a"), 1, Position(1), Position(1)).await.unwrap().len(), 1);
    assert_eq!(bench.execution(&key("b")).await.unwrap(), None);
}

async fn l04_a_batch_that_does_not_follow_is_refused_on_the_straight_way_too(bench: Bench) {
    let node = bench.lease("n").await;
    let (a, b) = (begin(node, "a"), begin(node, "b"));
    let (head_a, head_b) = (a.head.clone(), b.head.clone());
    assert_eq!(bench.append_all(fresh(), vec![a, b]).await, [Ok(()), Ok(())]);
    warm(&bench, node).await;
    let mut moved = events(node, &head_a, 1);
    moved.after = Position(5);
    let id = fresh();
    let batches = vec![moved, events(node, &head_b, 1)];
    assert_eq!(bench.append_all(id, batches.clone()).await, [Err(AppendError::Moved), Ok(())]);
    assert_eq!(bench.append_all(id, batches).await, [Err(AppendError::Moved), Ok(())], "the same append happens once");
    assert_eq!((bench.head("a").await.position, bench.head("b").await.position), (Position(1), Position(2)));
}

async fn messages_are_counted_on_the_straight_way(bench: Bench) {
    let node = bench.lease("n").await;
    warm(&bench, node).await;
    let batch = begin(node, "a");
    let head = batch.head.clone();
    assert_eq!(bench.write(batch).await, Ok(()));
    bench.send(&key("a"), "hello".into()).await.unwrap();
    let seq = bench.looked("a").await.inbox[0].seq;
    let answers = bench.append(fresh(), vec![events(node, &head, 1)]).await.unwrap();
    assert_eq!(answers.into_iter().map(|answer| answer.map(|newest| newest.0)).collect::<Vec<_>>(), [Ok(seq)]);
}

async fn what_ended_long_ago_goes_first_and_no_more_than_asked(bench: Bench) {
    let node = bench.lease("n").await;
    for (id, ended_at) in [("late", 3_000), ("early", 1_000), ("middle", 2_000)] {
        let mut ended = end(node, &new(id).head, State::Completed);
        ended.head.ended_at = Some(Timestamp(ended_at));
        let batch = Batch { begins: true, after: Position(0), chunks: vec![chunk(1, 2)], ..ended };
        assert_eq!(bench.write(batch).await, Ok(()));
    }
    bench.started(node, "open").await;
    let left = async || {
        let mut left = Vec::new();
        for id in ["early", "middle", "late", "open"] {
            left.extend(bench.execution(&key(id)).await.unwrap().map(|_| id));
        }
        left
    };
    assert_eq!(bench.delete_ended(Timestamp(3_000), 1).await.unwrap(), 1);
    assert_eq!(left().await, ["middle", "late", "open"]);
    assert_eq!(bench.delete_ended(Timestamp(3_000), 9).await.unwrap(), 1);
    assert_eq!(bench.delete_ended(Timestamp(3_000), 9).await.unwrap(), 0);
    assert_eq!(left().await, ["late", "open"]);
}

async fn a_first_batch_that_breaks_a_rule_leaves_nothing(bench: Bench) {
    let node = bench.lease("n").await;
    warm(&bench, node).await;
    let mut broken = begin(node, "broken");
    // An execution that has ended must have an end time.
    broken.head.state = State::Completed;
    let mut twice = begin(node, "twice");
    twice.next_run = Some(chunk(1, 1));
    assert_eq!(
        bench.append_all(fresh(), vec![broken, twice, begin(node, "a")]).await,
        [Err(AppendError::Forbidden), Err(AppendError::Forbidden), Ok(())]
    );
    for id in ["broken", "twice"] {
        assert_eq!(bench.execution(&key(id)).await.unwrap(), None, "{id}");
    }
    assert_eq!(bench.looked("a").await.owner, Some(node));
}
