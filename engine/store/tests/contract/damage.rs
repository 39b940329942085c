//! Damage: data that the store did not write is not read as if it had.

use cerebelum_history::Position;
use cerebelum_store::StoreError;

use crate::bench::{Bench, events, key};
use crate::on_both;

on_both!(
    a_flipped_byte_is_found_by_its_checksum,
    a_missing_middle_chunk_is_a_gap,
    a_missing_first_or_last_chunk_is_a_gap,
    a_chunk_of_another_place_is_found,
    damage_of_one_execution_is_its_own,
);

/// Writes three chunks: 1, 2 to 3, and 4 to 6.
async fn written(bench: &Bench, id: &str) {
    let node = bench.lease(id).await;
    let head = bench.started(node, id).await;
    let second = events(node, &head, 2);
    let third = events(node, &second.head, 3);
    assert_eq!(bench.write(second).await, Ok(()));
    assert_eq!(bench.write(third).await, Ok(()));
    assert_eq!(read(bench, id, 1).await, Ok(3));
}

async fn read(bench: &Bench, id: &str, from: u64) -> Result<usize, String> {
    match bench.history(&key(id), 1, Position(from), Position(u64::MAX)).await {
        Ok(chunks) => Ok(chunks.len()),
        Err(StoreError::Corrupt(what)) => Err(what),
        Err(other) => panic!("{other}"),
    }
}

fn corrupt(position: u64, what: &str) -> Result<usize, String> {
    Err(format!("the history of execution a, run 1: position {position} {what}"))
}

async fn a_flipped_byte_is_found_by_its_checksum(bench: Bench) {
    written(&bench, "a").await;
    bench.meddle("update history set events = replace(events, '2 to 3', '2 to 7') where first_position = 2").await;
    assert_eq!(read(&bench, "a", 1).await, corrupt(2, "does not match its checksum"));
    assert_eq!(read(&bench, "a", 3).await, corrupt(2, "does not match its checksum"));
    assert_eq!(read(&bench, "a", 4).await, Ok(1));
}

async fn a_missing_middle_chunk_is_a_gap(bench: Bench) {
    written(&bench, "a").await;
    bench.meddle("delete from history where first_position = 2").await;
    assert_eq!(read(&bench, "a", 1).await, corrupt(2, "is missing"));
    assert_eq!(read(&bench, "a", 2).await, corrupt(2, "is missing"));
    assert_eq!(read(&bench, "a", 4).await, Ok(1));
}

async fn a_missing_first_or_last_chunk_is_a_gap(bench: Bench) {
    written(&bench, "a").await;
    bench.meddle("delete from history where first_position = 4").await;
    assert_eq!(read(&bench, "a", 1).await, corrupt(4, "is missing"));
    assert_eq!(read(&bench, "a", 5).await, corrupt(5, "is missing"));
    assert_eq!(bench.history(&key("a"), 1, Position(1), Position(3)).await.unwrap().len(), 2);
    bench.meddle("delete from history where first_position = 1").await;
    assert_eq!(read(&bench, "a", 1).await, corrupt(1, "is missing"));
}

async fn a_chunk_of_another_place_is_found(bench: Bench) {
    written(&bench, "a").await;
    bench.meddle("update history set events = (select h.events from history h where h.first_position = 4), checksum = (select h.checksum from history h where h.first_position = 4) where first_position = 2").await;
    assert_eq!(read(&bench, "a", 1).await, corrupt(2, "does not match its checksum"));
}

async fn damage_of_one_execution_is_its_own(bench: Bench) {
    written(&bench, "a").await;
    written(&bench, "b").await;
    bench.meddle("update history set checksum = checksum + 1 where execution_no = (select execution_no from executions where id = 'a')").await;
    assert_eq!(read(&bench, "a", 1).await, corrupt(1, "does not match its checksum"));
    assert_eq!(read(&bench, "b", 1).await, Ok(3));
    assert!(bench.execution(&key("a")).await.unwrap().is_some());
}

/// PostgreSQL cannot hold such a text.
#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_is_no_utf8_spoils_its_history_and_not_its_head() {
    let bench = Bench::sqlite().await;
    written(&bench, "a").await;
    bench.meddle("update history set events = cast(x'5bff5d' as text) where first_position = 2").await;
    let whole = bench.describe(&key("a")).await.unwrap().unwrap();
    assert!(matches!(whole.history, Err(StoreError::Corrupt(_))));
    assert!(read(&bench, "a", 1).await.is_err());
    assert_eq!(read(&bench, "a", 4).await, Ok(1));
}
