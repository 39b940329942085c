//! Lost answers: the connection breaks at the worst moment, and every append still happens once.

use std::sync::Arc;

use cerebelum_history::Position;
use cerebelum_store::{Batch, ClaimFilter, Command, HistoryPart, Size, Store, StoreError, open};
use test_postgres::{Cluster, Cut, Shutdown, Wire};

use crate::bench::{Bench, LONG, events, fresh, key, lease, new, release, written};

async fn wired() -> (Bench, Wire, Arc<dyn Store>) {
    let bench = Bench::postgres().await;
    let wire = Wire::to(&bench.url);
    let store = open(wire.url()).await.unwrap();
    (bench, wire, store)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_whose_commit_is_lost_on_the_way_happens_once() {
    let (bench, wire, store) = wired().await;
    let node = lease(&*store, "n").await;
    let mut head = bench.started(node, "a").await;
    for fault in [Some(Cut::AfterCommit), Some(Cut::BeforeCommit), Some(Cut::AfterCommit), None] {
        let mut batch = events(node, &head, 1);
        batch.messages = vec![("a".parse().unwrap(), format!("{}", batch.head.position.0))];
        head = batch.head.clone();
        wire.cut_next_commits(fault);
        assert_eq!(written(store.append(fresh(), vec![batch]).await.unwrap()), [Ok(())]);
        assert_eq!(wire.cuts_left(), 0);
    }
    assert_eq!(bench.inbox("a").await, ["2", "3", "4", "5"]);
    assert_eq!(bench.history(&key("a"), 1, Position(1), Position(5)).await.unwrap().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_whose_commit_is_lost_on_the_way_happens_once() {
    let (bench, wire, store) = wired().await;
    let node = lease(&*store, "n").await;
    // The first start also stores its program. What follows has one COMMIT each.
    bench.sleeping("z", None).await;
    let start = |new| store.append(fresh(), vec![Batch::start(node, new)]);
    assert_eq!(written(start(new("y")).await.unwrap()), [Ok(())]);
    for (id, fault) in [("a", Cut::AfterCommit), ("b", Cut::BeforeCommit)] {
        wire.cut_next_commits([fault]);
        let new = new(id);
        assert_eq!(written(start(new.clone()).await.unwrap()), [Ok(())]);
        assert_eq!(wire.cuts_left(), 0);
        assert!(bench.claim_one(node, &new.head.key).await.unwrap().is_some());
        assert_eq!(bench.write(events(node, &new.head, 1)).await, Ok(()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_whose_answer_is_lost_is_given_back() {
    let (bench, wire, store) = wired().await;
    let node = lease(&*store, "n").await;
    let head = bench.started(node, "a").await;
    assert_eq!(bench.write(release(node, &head, Some(cerebelum_history::Timestamp(1)))).await, Ok(()));
    wire.cut_next_commits([Cut::AfterCommit]);
    assert!(matches!(
        store.claim(node, ClaimFilter::Next { limit: 9, size: Size::Any }).await,
        Err(StoreError::Unavailable(_))
    ));
    assert_eq!(store.claim(node, ClaimFilter::Next { limit: 9, size: Size::Any }).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_whose_commit_is_lost_is_said_to_be_unknown() {
    let (bench, wire, store) = wired().await;
    bench.sleeping("a", None).await;
    wire.cut_next_commits([Cut::AfterCommit]);
    assert!(matches!(store.command(&key("a"), Command::Send("hello".into()), None).await, Err(StoreError::Unknown(_))));
    assert_eq!(bench.inbox("a").await, ["hello"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_the_server_loses_nothing_that_was_acknowledged() {
    let cluster = Arc::new(tokio::task::spawn_blocking(Cluster::start).await.unwrap());
    let store = open(&cluster.url("postgres")).await.unwrap();
    let node = lease(&*store, "n").await;
    let new = new("a");
    let begins = Batch { release: false, ..Batch::start(node, new.clone()) };
    assert_eq!(written(store.append(fresh(), vec![begins]).await.unwrap()), [Ok(())]);
    let mut head = new.head;
    let crashing = {
        let cluster = cluster.clone();
        tokio::task::spawn_blocking(move || cluster.restart(Shutdown::Immediate))
    };
    let mut count = 0;
    // Writes go on before, during and after the crash. A write that fails as unavailable or unknown is repeated.
    while !crashing.is_finished() || count < 50 {
        let batch = events(node, &head, 1);
        let id = fresh();
        head = batch.head.clone();
        loop {
            match store.append(id, vec![batch.clone()]).await {
                Ok(answers) => break assert_eq!(written(answers), [Ok(())]),
                Err(StoreError::Unavailable(_) | StoreError::Unknown(_)) => {}
                Err(other) => panic!("{other}"),
            }
        }
        count += 1;
    }
    crashing.await.unwrap();
    // A connection from before the crash may still be in the pool. The read then fails, and is repeated.
    let chunks = loop {
        match store.history(&key("a"), 1, HistoryPart::Between(Position(1), Position(u64::MAX))).await {
            Err(StoreError::Unavailable(_)) => {}
            read => break read.unwrap(),
        }
    };
    assert_eq!(chunks.len(), count + 1);
    let stored = loop {
        match store.execution(&key("a")).await {
            Err(StoreError::Unavailable(_)) => {}
            read => break read.unwrap(),
        }
    };
    assert_eq!(stored.unwrap().position, head.position);
    let renewed = loop {
        match store.renew_lease(node, LONG).await {
            Err(StoreError::Unavailable(_)) => {}
            renewed => break renewed.unwrap(),
        }
    };
    assert!(renewed.is_some());
}
