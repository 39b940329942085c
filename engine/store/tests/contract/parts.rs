//! Partial reads: chunks by their first position, and new messages; and batches with several chunks.

use cerebelum_history::Position;
use cerebelum_store::HistoryPart;

use crate::bench::{Bench, batch, chunk, key};
use crate::on_all;

on_all!(a_batch_may_have_several_chunks, chunks_are_read_by_where_they_begin, only_new_messages_are_read);

async fn a_batch_may_have_several_chunks(bench: Bench) {
    let node = bench.lease("n").await;
    let head = bench.started(node, "a").await;
    let mut gap = batch(node, &head);
    gap.chunks = vec![chunk(2, 4), chunk(6, 7)];
    gap.head.position = Position(7);
    let mut several = gap.clone();
    several.chunks = vec![chunk(2, 4), chunk(5, 5), chunk(6, 7)];
    assert!(bench.write(gap).await.is_err(), "a gap between two chunks of a batch");
    assert_eq!(bench.write(several).await, Ok(()));
    let all = bench.history(&key("a"), 1, Position(1), Position(99)).await.unwrap();
    assert_eq!(all, [chunk(1, 1), chunk(2, 4), chunk(5, 5), chunk(6, 7)]);
    let some = bench.history(&key("a"), 1, Position(4), Position(6)).await.unwrap();
    assert_eq!(some, [chunk(2, 4), chunk(5, 5), chunk(6, 7)]);
}

async fn chunks_are_read_by_where_they_begin(bench: Bench) {
    let node = bench.lease("n").await;
    for id in ["a", "b"] {
        let head = bench.started(node, id).await;
        let mut more = batch(node, &head);
        more.chunks = vec![chunk(2, 4), chunk(5, 5), chunk(6, 7)];
        more.head.position = Position(7);
        assert_eq!(bench.write(more).await, Ok(()));
    }
    let a = key("a");
    let of = |firsts: &[u64]| {
        let firsts = firsts.iter().copied().map(Position).collect();
        bench.store.history(&a, 1, HistoryPart::At(firsts))
    };
    assert_eq!(of(&[2, 6]).await.unwrap(), [chunk(2, 4), chunk(6, 7)]);
    assert_eq!(of(&[1]).await.unwrap(), [chunk(1, 1)]);
    assert_eq!(of(&[]).await.unwrap(), []);
}

async fn only_new_messages_are_read(bench: Bench) {
    let node = bench.lease("n").await;
    let head = bench.started(node, "a").await;
    bench.started(node, "b").await;
    let new = async || {
        let rows = bench.unseen(&key("a")).await.unwrap();
        assert!(rows.iter().all(|row| !row.seen));
        rows.into_iter().map(|row| row.message).collect::<Vec<_>>()
    };
    assert_eq!(new().await, [""; 0]);
    for message in ["first", "second", "third"] {
        assert!(bench.send(&key("a"), message.to_owned()).await.unwrap());
        assert!(bench.send(&key("b"), "another's".to_owned()).await.unwrap());
    }
    assert_eq!(new().await, ["first", "second", "third"]);
    let inbox = bench.looked("a").await.inbox;
    let mut taken = batch(node, &head);
    (taken.seen, taken.consumed) = (vec![inbox[0].seq], vec![inbox[1].seq]);
    assert_eq!(bench.write(taken).await, Ok(()));
    assert_eq!(new().await, ["third"]);
}
