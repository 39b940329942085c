//! Hints: which nodes hear of executions that a message may have moved.

use std::time::Duration;

use cerebelum_store::{ClaimFilter, ExecutionKey, open};
use tokio::sync::broadcast::Receiver;

use crate::bench::{Bench, batch, key, lease, release};
use crate::on_both;

on_both!(whoever_listens_hears_of_messages, hints_end_with_the_store);

async fn heard(hints: &mut Receiver<ExecutionKey>) -> ExecutionKey {
    tokio::time::timeout(Duration::from_secs(60), hints.recv()).await.expect("a hint comes").unwrap()
}

async fn whoever_listens_hears_of_messages(bench: Bench) {
    let node = bench.lease("n").await;
    let (a, _) = (bench.started(node, "a").await, bench.sleeping("b", None).await);
    let mut hints = bench.hints();
    bench.send(&key("a"), "hello".into()).await.unwrap();
    assert_eq!(heard(&mut hints).await, key("a"));
    let mut letters = batch(node, &a);
    letters.messages = vec![("b".parse().unwrap(), "hello".into()), ("nobody".parse().unwrap(), "hello".into())];
    assert_eq!(bench.write(letters).await, Ok(()));
    assert_eq!(heard(&mut hints).await, key("b"));
    assert!(hints.is_empty());
}

async fn hints_end_with_the_store(bench: Bench) {
    let mut hints = bench.hints();
    let Bench { store, .. } = bench;
    drop(store);
    let ended = tokio::time::timeout(Duration::from_secs(60), hints.recv()).await.expect("the end comes");
    assert!(ended.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_node_hears_of_messages_to_what_it_holds_and_of_nothing_else() {
    let bench = Bench::postgres().await;
    let other = open(&bench.url).await.unwrap();
    let here = bench.lease("here").await;
    let there = lease(&*other, "there").await;
    let mine = bench.started(here, "mine").await;
    let theirs = bench.started(here, "theirs").await;
    assert_eq!(bench.write(release(here, &theirs, None)).await, Ok(()));
    assert_eq!(other.claim(there, ClaimFilter::One(key("theirs"))).await.unwrap().len(), 1);
    let mut hints = other.hints();
    // Whether the node is already listening cannot be seen from outside, so hints are sent until it hears one.
    let first = loop {
        let mut letters = batch(here, &mine);
        letters.messages = vec![("mine".parse().unwrap(), "1".into()), ("theirs".parse().unwrap(), "2".into())];
        assert_eq!(bench.write(letters).await, Ok(()));
        if let Ok(heard) = tokio::time::timeout(Duration::from_millis(200), hints.recv()).await {
            break heard.unwrap();
        }
    };
    assert_eq!(first, key("theirs"));
    while let Ok(heard) = hints.try_recv() {
        assert_eq!(heard, key("theirs"));
    }
}

/// The hint lets other nodes go on with the execution at once, and not only at their next poll.
#[tokio::test(flavor = "multi_thread")]
async fn another_node_hears_that_a_node_has_left() {
    let bench = Bench::postgres().await;
    let other = open(&bench.url).await.unwrap();
    let mut hints = other.hints();
    // Whether the node is already listening cannot be seen from outside, so nodes come and leave until it hears one.
    let heard = loop {
        let here = bench.lease("here").await;
        bench.started(here, "a").await;
        bench.end_lease(here).await.unwrap();
        if let Ok(heard) = tokio::time::timeout(Duration::from_millis(200), hints.recv()).await {
            break heard.unwrap();
        }
        bench.meddle("delete from executions").await;
    };
    assert_eq!(heard, key("a"));
}
