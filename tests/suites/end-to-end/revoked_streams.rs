//! What is open when its token is revoked ends as soon as docs/operating.md says, over each interface.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cerebelum_server::proto::WatchRequest;
use cerebelum_server::proto::engine_client::EngineClient;
use serde_json::json;
use test_engine::{Database, Engine, component, until};
use tonic::{Code, Request};

use crate::tenants::token;

on_both_databases!(streams_end_once_their_token_is_revoked_and_no_others);

/// The time of docs/operating.md.
const ENDED_WITHIN: Duration = Duration::from_secs(35);
/// When a test gives up on a stream that does not end.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(90);

/// How a stream ended: when, and what it said.
type Ended = JoinHandle<(Instant, String)>;

/// Opens a stream over HTTP, and returns once its answer has begun.
fn open(engine: &Engine, path: &str, header: &str) -> Ended {
    let seconds = GIVEN_UP_AFTER.as_secs().to_string();
    let mut child = Command::new("curl")
        .args(["-sSN", "-i", "--max-time", &seconds, "-H", header, &format!("{}{path}", engine.url())])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut answer = BufReader::new(child.stdout.take().unwrap());
    let mut status = String::new();
    answer.read_line(&mut status).unwrap();
    assert!(status.contains(" 200 "), "{path}: {status}");
    std::thread::spawn(move || {
        let mut said = String::new();
        answer.read_to_string(&mut said).unwrap();
        let ended = Instant::now();
        child.wait().unwrap();
        (ended, said)
    })
}

/// Watches over gRPC, and returns once the first message has come. The last word is the code with which it ended.
fn watch(engine: &Engine, token: &str) -> Ended {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut request = Request::new(WatchRequest { execution_id: "q".to_owned() });
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let mut answers = runtime.block_on(async {
        let mut client = EngineClient::connect(engine.url().to_owned()).await.unwrap();
        let mut answers = client.watch(request).await.unwrap().into_inner();
        answers.message().await.unwrap().expect("it is told at once");
        answers
    });
    std::thread::spawn(move || {
        let end = runtime.block_on(async {
            let end = async {
                while answers.message().await?.is_some() {}
                Ok::<_, tonic::Status>(())
            };
            tokio::time::timeout(GIVEN_UP_AFTER, end).await
        });
        (Instant::now(), format!("{:?}", end.unwrap().map_err(|refused| refused.code())))
    })
}

fn streams_end_once_their_token_is_revoked_and_no_others(database: Database) {
    let engine = Engine::start(database);
    let admin = token(&engine, "", &["--role", "admin", "--name", "ada"]);
    engine.ok(&["upload", &component("test-guests"), "--name", "guests", "--token", &admin]);
    // It has a line in its log: an answer without any begins later than it is made.
    let input = json!(["Still?"]).to_string();
    engine.ok(&["start", "guests/everywhere", "--id", "q", "--input", &input, "--token", &admin]);
    let reject = ["reject", "q", "--reason", "no", "--token", &admin];
    until("it asks", || engine.ok(&["approvals", "--token", &admin]).contains("Still?").then_some(()));
    let viewer = token(&engine, &admin, &["--role", "viewer", "--name", "eve"]);
    let bearer = |token: &str| format!("authorization: Bearer {token}");
    let mut streams: Vec<(&str, Ended)> =
        ["/v1/executions/q/events", "/v1/executions/q/history?follow=true", "/v1/executions/q/logs?follow=true"]
            .map(|path| (path, open(&engine, path, &bearer(&viewer))))
            .into();
    streams.push(("changes", open(&engine, "/executions/q/changes", &crate::pages::cookie(&engine, &viewer))));
    streams.push(("Watch", watch(&engine, &viewer)));
    let others = [open(&engine, "/v1/executions/q/events", &bearer(&admin)), watch(&engine, &admin)];
    engine.ok(&["token", "revoke", &viewer[3..15], "--token", &admin]);
    let revoked = Instant::now();
    for (name, stream) in streams {
        let (ended, said) = stream.join().unwrap();
        let after = ended.saturating_duration_since(revoked);
        assert!(after <= ENDED_WITHIN, "{name} ended after {after:?}: {said}");
        match name {
            "changes" => assert!(said.contains("event: broken"), "{said}"),
            "Watch" => assert_eq!(said, format!("{:?}", Err::<(), _>(Code::Unauthenticated))),
            _ => assert!(said.contains("unauthenticated") && said.contains("revoked"), "{name}: {said}"),
        }
    }
    // The streams of others go on to the end of the execution.
    engine.ok(&reject);
    let [events, watched] = others.map(|stream| stream.join().unwrap().1);
    assert!(events.contains("\"status\":\"failed\"") && !events.contains("event: problem"), "{events}");
    assert_eq!(watched, "Ok(())");
}
