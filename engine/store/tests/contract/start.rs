//! Starts: one execution per id, whichever client asks, however often.

use cerebelum_history::Parent;
use cerebelum_history::{Digest, Position};
use cerebelum_store::{AppendError, Batch, NewExecution};

use crate::bench::{Bench, call, chunk, events, fresh, key, new, written};
use crate::on_all;

on_all!(
    a_new_execution_is_read_as_it_was_written,
    an_id_that_is_taken_keeps_the_execution_that_has_it,
    what_exists_is_known_before_a_start,
    many_executions_start_in_one_call;
    // Only on databases:
    the_same_request_twice_is_one_start,
    many_clients_at_once_start_one_execution,
);

async fn a_new_execution_is_read_as_it_was_written(bench: Bench) {
    let mut new = new("a-Z_0.9:x");
    new.head.attributes = r#"{"customer": "é", "n": 12345678901234567890}"#.into();
    new.head.options = r#"{"x":"\u0000"}"#.into();
    new.head.parent = Some(Parent { id: "p".parse().unwrap(), run: 3, call: call("4#7.2"), awaited: false });
    new.head.position = Position(2);
    new.head.workflow = "weird name/with \"quotes\"".into();
    new.head.digest = Digest::of(b"other");
    new.first = chunk(1, 2);
    assert_eq!(bench.start(vec![new.clone()]).await, [Ok(())]);
    assert_eq!(bench.head("a-Z_0.9:x").await, new.head);
    assert_eq!(bench.history(&new.head.key, 1, Position(1), Position(2)).await.unwrap(), [new.first]);
    assert_eq!(bench.execution(&key("nobody")).await.unwrap(), None);
    assert_eq!(bench.peek(&key("nobody")).await.unwrap(), None);
}

async fn an_id_that_is_taken_keeps_the_execution_that_has_it(bench: Bench) {
    let node = bench.lease("n").await;
    let head = bench.started(node, "a").await;
    let grown = events(node, &head, 2);
    assert_eq!(bench.write(grown.clone()).await, Ok(()));
    let mut second = new("a");
    second.head.workflow = "shop/refund".into();
    let started = bench.start(vec![new("b"), second, new("b")]).await;
    assert_eq!(started, [Ok(()), Err(AppendError::Exists), Err(AppendError::Exists)]);
    assert_eq!(bench.head("a").await, grown.head);
}

async fn what_exists_is_known_before_a_start(bench: Bench) {
    let node = bench.lease("n").await;
    let grown = events(node, &bench.started(node, "a").await, 2);
    assert_eq!(bench.write(grown.clone()).await, Ok(()));
    let begun = bench.find_existing(vec![key("b"), key("a"), key("a")]).await.unwrap();
    let (head, first) = begun[1].clone().unwrap();
    assert_eq!((head, first.unwrap()), (grown.head, chunk(1, 1)));
    assert!(begun[0].is_none() && begun[2].is_some());
    assert_eq!(bench.find_existing(Vec::new()).await.unwrap().len(), 0);
}

async fn the_same_request_twice_is_one_start(bench: Bench) {
    // A client that did not get the answer repeats its request with the same seed.
    let new = new("a");
    assert_eq!(bench.start(vec![new.clone()]).await, [Ok(())]);
    assert_eq!(bench.start(vec![new.clone()]).await, [Err(AppendError::Exists)]);
    let existing = bench.find_existing(vec![key("a")]).await.unwrap().remove(0).unwrap();
    assert_eq!(existing.0.seed, new.head.seed);
    assert_eq!(bench.meddle("select count(*) from history").await, 1);
}

async fn many_clients_at_once_start_one_execution(bench: Bench) {
    let node = bench.lease("n").await;
    for round in 0..5 {
        let mut clients = Vec::new();
        for client in 0..50 {
            let store = if client % 10 == 0 { bench.second().await } else { bench.store.clone() };
            let new = new(&format!("e{round}"));
            let start = vec![Batch::start(node, new)];
            clients.push(tokio::spawn(async move { written(store.append(fresh(), start).await.unwrap()).remove(0) }));
        }
        let mut new = 0;
        for client in clients {
            new += usize::from(client.await.unwrap().is_ok());
        }
        assert_eq!(new, 1, "round {round}");
    }
    assert_eq!(bench.meddle("select count(*) from executions").await, 5);
    assert_eq!(bench.meddle("select count(*) from history").await, 5);
}

async fn many_executions_start_in_one_call(bench: Bench) {
    let news: Vec<NewExecution> = (0..1_500).map(|number| new(&format!("e{number}"))).collect();
    let started = bench.start(news.clone()).await;
    assert!(started.iter().all(Result::is_ok));
    assert_eq!(bench.head("e777").await, news[777].head);
    assert_eq!(bench.start(vec![]).await, []);
}
