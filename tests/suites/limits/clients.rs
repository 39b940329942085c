//! Requests of clients: starts, signals, attributes; large ones, and many at once.

use cerebelum_server::proto;
use cerebelum_server::proto::engine_client::EngineClient;
use futures::stream::{FuturesUnordered, StreamExt};
use serde_json::json;
use test_engine::Database;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use crate::capped::Capped;

const MIB: usize = 1 << 20;
/// How long a view is saved.
const SAVED_FOR: std::time::Duration = std::time::Duration::from_secs(5);

on_both_databases!(
    large_starts,
    many_large_starts_in_one_call,
    signals_that_no_workflow_reads,
    attributes_at_the_start,
    a_view_that_is_saved_all_the_time
);

/// Attacks an engine over several connections, while others are served.
fn check<A: Future<Output = ()> + Send + 'static>(database: Database, attack: fn(Vec<EngineClient<Channel>>) -> A) {
    let mut capped = Capped::start(database);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let url = capped.engine.url().to_owned();
    let attack = runtime.spawn(async move {
        let mut clients = Vec::new();
        for _ in 0..8 {
            let channel = Endpoint::from_shared(url.clone()).unwrap().connect().await.unwrap();
            clients.push(EngineClient::new(channel));
        }
        attack(clients).await;
    });
    capped.serves_others_while(|_| !attack.is_finished());
    runtime.block_on(attack).unwrap();
    capped.end("clients");
}

fn start(workflow: &str, bytes: usize) -> proto::StartRequest {
    let input = json!("x".repeat(bytes)).to_string();
    proto::StartRequest { workflow: workflow.to_owned(), input, ..proto::StartRequest::default() }
}

/// 800 starts of nearly 1 MiB at once: each is accepted, or refused with the advice to try again.
async fn large_starts(clients: Vec<EngineClient<Channel>>) {
    let one = |mut client: EngineClient<Channel>| async move {
        match client.start(start("swallowing", MIB - 100)).await {
            Ok(_) => {}
            Err(status) => {
                assert!([Code::Unavailable, Code::ResourceExhausted].contains(&status.code()), "{status}");
            }
        }
    };
    let mut starts: FuturesUnordered<_> = clients.iter().cycle().take(800).cloned().map(one).collect();
    while starts.next().await.is_some() {}
}

/// One call with 300 starts of nearly 1 MiB, from each of 3 clients: an engine with this memory takes no more at a time.
async fn many_large_starts_in_one_call(clients: Vec<EngineClient<Channel>>) {
    let one = |mut client: EngineClient<Channel>| async move {
        let wishes = futures::stream::iter((0..300).map(|_| start("swallowing", MIB - 100)));
        let answer = client.start_many(wishes).await.unwrap().into_inner();
        assert_eq!(answer.results.len(), 300);
    };
    let mut calls: FuturesUnordered<_> = clients.into_iter().take(3).map(one).collect();
    while calls.next().await.is_some() {}
}

/// Signals that no workflow reads: the sender is refused when the inbox is full, by number or by size.
async fn signals_that_no_workflow_reads(clients: Vec<EngineClient<Channel>>) {
    let mut client = clients[0].clone();
    for (bytes, at_least, at_most) in [(MIB - 100, 10, 40), (10, 900, 1_100)] {
        let input = json!({"what": "hold", "count": 1}).to_string();
        let started = client.start(proto::StartRequest { input, ..start("load", 0) }).await.unwrap().into_inner();
        let data = json!("x".repeat(bytes)).to_string();
        let signal = |name: &str| proto::SignalRequest {
            execution_id: started.execution_id.clone(),
            name: name.to_owned(),
            data: data.clone(),
        };
        let mut taken = 0;
        let refused = loop {
            match client.signal(signal("not-awaited")).await {
                Ok(_) => taken += 1,
                Err(status) => break status,
            }
            assert!(taken < at_most, "it takes more and more");
        };
        assert!(taken >= at_least, "{taken} signals of {bytes} bytes were taken");
        assert_eq!((refused.code(), refused.message().contains("inbox-full")), (Code::FailedPrecondition, true));
        let terminate = proto::TerminateRequest { execution_id: started.execution_id.clone() };
        client.terminate(terminate).await.expect("what stops it always passes");
    }
}

/// Attributes at the start are checked like those that a guest sets.
async fn attributes_at_the_start(clients: Vec<EngineClient<Channel>>) {
    let mut client = clients[0].clone();
    let many = |count: usize, value: &str| (0..count).map(|n| (format!("n{n}"), value.to_owned())).collect();
    let one = |name: &str, value: &str| std::collections::HashMap::from([(name.to_owned(), value.to_owned())]);
    let large = json!("x".repeat(100 << 10)).to_string();
    for (attributes, word) in [
        (many(65, "1"), "at most 64 attributes"),
        (many(50_000, "1"), "at most 64 attributes"),
        (one("large", &large), "bytes together"),
        (one("list", "[1]"), "text, number, boolean or null"),
        (one("object", "{}"), "text, number, boolean or null"),
        (one("two words", "1"), "not an attribute name"),
        (one("", "1"), "not an attribute name"),
    ] {
        let refused = client.start(proto::StartRequest { attributes, ..start("swallowing", 10) }).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains(word), "{refused} should say {word}");
    }
    let attributes = many(64, "\"value\"");
    let taken = client.start(proto::StartRequest { attributes, ..start("swallowing", 10) }).await.unwrap();
    assert!(taken.into_inner().attributes.contains("n63"), "all of them");
}

/// 800 requests at once that save the same view, again and again: the writer of the database is not only theirs.
async fn a_view_that_is_saved_all_the_time(clients: Vec<EngineClient<Channel>>) {
    let began = std::time::Instant::now();
    let saves = clients.iter().cycle().take(800).cloned().map(|mut client| async move {
        let mut saved = 0;
        while began.elapsed() < SAVED_FOR {
            let view = proto::SaveViewRequest { name: "mine".to_owned(), shared: true, ..Default::default() };
            match client.save_view(view).await {
                Ok(_) => saved += 1,
                Err(status) => {
                    assert!([Code::Unavailable, Code::ResourceExhausted].contains(&status.code()), "{status}");
                }
            }
        }
        saved
    });
    let saved: usize = saves.collect::<FuturesUnordered<_>>().collect::<Vec<_>>().await.into_iter().sum();
    assert!(saved > 100, "only {saved} were saved");
}
