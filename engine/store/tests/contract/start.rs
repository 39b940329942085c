//! Starts: one execution per id, whichever client asks, however often.

use cerebelum_history::Parent;
use cerebelum_history::{Digest, Position};
use cerebelum_store::{NewExecution, StartOutcome};

use crate::bench::{Bench, call, chunk, events, key, new};
use crate::on_all;

on_all!(
    a_new_execution_is_read_as_it_was_written,
    an_id_that_is_taken_answers_with_the_one_that_has_it,
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
    assert_eq!(bench.start(vec![new.clone()]).await.unwrap(), [StartOutcome::New]);
    assert_eq!(bench.head("a-Z_0.9:x").await, new.head);
    assert_eq!(bench.history(&new.head.key, 1, Position(1), Position(2)).await.unwrap(), [new.first]);
    assert_eq!(bench.execution(&key("nobody")).await.unwrap(), None);
    assert_eq!(bench.peek(&key("nobody")).await.unwrap(), None);
}

async fn an_id_that_is_taken_answers_with_the_one_that_has_it(bench: Bench) {
    let node = bench.lease("n").await;
    let head = bench.started(node, "a").await;
    let grown = events(node, &head, 2);
    assert_eq!(bench.write(grown.clone()).await, Ok(()));
    let mut second = new("a");
    second.head.workflow = "shop/refund".into();
    let started = bench.start(vec![new("b"), second, new("b")]).await.unwrap();
    let existing = StartOutcome::Exists(Box::new(grown.head), chunk(1, 1));
    assert_eq!(started[..2], [StartOutcome::New, existing]);
    assert!(matches!(&started[2], StartOutcome::Exists(head, _) if head.key == key("b")));
    assert_eq!(bench.head("a").await.workflow, "shop/order");
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
    assert_eq!(bench.start(vec![new.clone()]).await.unwrap(), [StartOutcome::New]);
    assert_eq!(bench.start(vec![new]).await.unwrap(), [StartOutcome::New]);
    assert_eq!(bench.meddle("select count(*) from history").await, 1);
}

async fn many_clients_at_once_start_one_execution(bench: Bench) {
    for round in 0..5 {
        let mut clients = Vec::new();
        for client in 0..50 {
            let store = if client % 10 == 0 { bench.second().await } else { bench.store.clone() };
            let new = new(&format!("e{round}"));
            clients.push(tokio::spawn(async move { store.start(vec![new]).await.unwrap().remove(0) }));
        }
        let mut new = 0;
        for client in clients {
            new += usize::from(client.await.unwrap() == StartOutcome::New);
        }
        assert_eq!(new, 1, "round {round}");
    }
    assert_eq!(bench.meddle("select count(*) from executions").await, 5);
    assert_eq!(bench.meddle("select count(*) from history").await, 5);
}

async fn many_executions_start_in_one_call(bench: Bench) {
    let news: Vec<NewExecution> = (0..1_500).map(|number| new(&format!("e{number}"))).collect();
    let started = bench.start(news.clone()).await.unwrap();
    assert!(started.iter().all(|started| *started == StartOutcome::New));
    assert_eq!(bench.head("e777").await, news[777].head);
    assert_eq!(bench.start(vec![]).await.unwrap(), []);
}
