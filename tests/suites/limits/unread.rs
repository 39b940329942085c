//! Answers that clients ask for and do not read: whole ones and streams, over REST and gRPC.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use cerebelum_server::proto;
use cerebelum_server::proto::engine_client::EngineClient;
use serde_json::json;
use test_engine::Database;
use tonic::transport::Endpoint;

use crate::capped::Capped;

const MIB: usize = 1 << 20;
/// How long the clients do not read.
const UNREAD: Duration = Duration::from_secs(5);

on_both_databases!(whole_answers, histories, streams_over_grpc);

/// Makes an execution with a large history, lets clients ask for it without reading, and serves others meanwhile.
fn check(database: Database, ask: fn(&str, &str) -> Box<dyn Send>) {
    let mut capped = Capped::start(database);
    let input = json!({"what": "outputs-in-turn", "count": 8, "bytes": MIB - 2});
    let id = capped.engine.begin("load", &input);
    assert_eq!(capped.engine.wait_for_end(&id)["status"], "completed");
    let asked = ask(capped.engine.url(), &id);
    let began = Instant::now();
    capped.serves_others_while(|_| began.elapsed() < UNREAD);
    drop(asked);
    capped.end("unread answers");
}

/// 400 connections that send a request each and read only the beginning of the answer.
fn requests(url: &str, path: &str) -> Box<dyn Send> {
    let address = url.strip_prefix("http://").unwrap();
    let open = || {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
        stream
    };
    let mut all: Vec<TcpStream> = (0..400).map(|_| open()).collect();
    let mut answered = 0;
    for stream in &mut all {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).expect("the engine is there and answers");
        let status = &head[9..];
        let is_known = [b"200", b"429", b"503"].contains(&status.try_into().unwrap());
        assert!(is_known, "{}", String::from_utf8_lossy(&head));
        answered += usize::from(status == b"200");
    }
    assert!(answered > 0, "nothing was answered");
    Box::new(all)
}

fn whole_answers(url: &str, id: &str) -> Box<dyn Send> {
    requests(url, &format!("/v1/executions/{id}"))
}

fn histories(url: &str, id: &str) -> Box<dyn Send> {
    requests(url, &format!("/v1/executions/{id}/history?after=3"))
}

fn streams_over_grpc(url: &str, id: &str) -> Box<dyn Send> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut open = Vec::new();
    runtime.block_on(async {
        for n in 0..300 {
            let channel = Endpoint::from_shared(url.to_owned()).unwrap();
            let mut client = EngineClient::new(channel.connect().await.unwrap());
            let request = proto::HistoryRequest { execution_id: id.to_owned(), after: n % 7, ..Default::default() };
            open.push((client.history(request).await.unwrap(), client));
        }
    });
    Box::new((open, runtime))
}
