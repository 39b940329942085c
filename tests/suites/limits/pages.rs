//! Pages: forms of more fields than a page has, and values that take much more room on a page than they have bytes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;
use test_engine::{Database, Engine};

use crate::capped::Capped;

const MIB: usize = 1 << 20;
/// How long the clients ask.
const ASKED: Duration = Duration::from_secs(5);
const CLIENTS: usize = 16;

on_both_databases!(forms_of_two_million_fields, starts_like_one_with_a_deep_input);

/// Sends a request again and again from many clients, and serves others meanwhile. Each is answered with one of these
/// statuses.
fn check(database: Database, request: fn(&Engine) -> (String, Vec<&'static str>)) {
    let mut capped = Capped::start(database);
    let (request, expected) = request(&capped.engine);
    let address = capped.engine.url().strip_prefix("http://").unwrap().to_owned();
    let ask = move || {
        let (began, mut answers) = (Instant::now(), 0);
        while began.elapsed() < ASKED {
            let (head, _) = send(&address, &request);
            assert!(expected.iter().any(|status| head.contains(&format!(" {status} "))), "{head}");
            answers += 1;
        }
        answers
    };
    let clients: Vec<_> = (0..CLIENTS).map(|_| std::thread::spawn(ask.clone())).collect();
    capped.serves_others_while(|_| clients.iter().any(|client| !client.is_finished()));
    let answers: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
    assert!(answers >= CLIENTS, "each client was answered");
    capped.end("pages");
}

/// Sends a request on a connection of its own. Returns the first line of the answer, and the rest.
fn send(address: &str, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    // An engine that refuses a body while it comes closes the connection.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    let (head, rest) = answer.split_once("\r\n").unwrap_or_else(|| panic!("it answers, and not `{answer}`"));
    (head.to_owned(), rest.to_owned())
}

fn post(address: &str, path: &str, kind: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// The form that starts a workflow, with two million empty fields.
fn forms_of_two_million_fields(engine: &Engine) -> (String, Vec<&'static str>) {
    let address = engine.url().strip_prefix("http://").unwrap();
    let fields = format!("as=commands&{}", "a&".repeat(2 * MIB - 10));
    let form = "application/x-www-form-urlencoded";
    (post(address, "/start/test-guests/load", form, &fields), vec!["400", "429", "503"])
}

/// The form that starts an execution like one whose input is deep: each of its numbers stands behind 240 spaces if it is
/// laid out.
fn starts_like_one_with_a_deep_input(engine: &Engine) -> (String, Vec<&'static str>) {
    let address = engine.url().strip_prefix("http://").unwrap();
    let deep = format!("{}{}1{}", "[".repeat(120), "1,".repeat(MIB / 2 - 500), "]".repeat(120));
    let input = format!(r#"{{"what":"hold","count":1,"deep":{deep}}}"#);
    let start = format!(r#"{{"workflow":"load","input":{input}}}"#);
    let (head, rest) = send(address, &post(address, "/v1/executions", "application/json", &start));
    assert!(head.contains(" 200 "), "{head} {rest}");
    let started: Value = serde_json::from_str(rest.split_once("\r\n\r\n").unwrap().1).unwrap();
    let id = started["execution_id"].as_str().unwrap_or_else(|| panic!("an id in {started}"));
    let request =
        format!("GET /start/test-guests/load?like={id} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let (head, page) = send(address, &request);
    assert!(head.contains(" 200 "), "{head}");
    assert!(page.len() < 8 * MIB, "the page has {} MiB", page.len() / MIB);
    (request, vec!["200", "429", "503"])
}
