//! Servers that misbehave: they hold up the requests of no other tenant, and what they send has an end and is counted.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use test_engine::{Database, Engine, asked_for, component, until, within};

use crate::tenants::token;

on_both_databases!(
    open_answers_of_one_tenant_hold_up_no_other_tenant,
    what_a_server_sends_for_ever_has_an_end_and_is_counted,
);

/// A server that behaves as the path of a request says.
#[derive(Debug, Default)]
struct Server {
    /// The requests so far.
    requests: AtomicU64,
    sent: AtomicU64,
}

impl Server {
    fn start() -> (Arc<Self>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let server = Arc::new(Self::default());
        let serving = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let server = serving.clone();
                // It ends when the engine closes the connection.
                std::thread::spawn(move || server.serve(stream));
            }
        });
        (server, host)
    }

    fn serve(&self, mut stream: TcpStream) -> Option<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).ok()?;
            head.push(byte[0]);
        }
        self.requests.fetch_add(1, Ordering::SeqCst);
        let head = String::from_utf8(head).unwrap();
        let path = head.split(' ').nth(1).unwrap();
        let announced = "HTTP/1.1 200 OK\r\ncontent-length: 8388608\r\n\r\n";
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        match path {
            "/small" => self.say(&mut stream, "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"),
            "/large" => {
                self.say(&mut stream, "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1048576\r\n\r\n")?;
                self.say(&mut stream, &"a".repeat(1 << 20))
            }
            "/announced" => {
                self.say(&mut stream, announced)?;
                stream.read_exact(&mut [0]).ok()
            }
            "/trickling" => {
                self.say(&mut stream, announced)?;
                loop {
                    self.say(&mut stream, "a")?;
                    assert_eq!(asked_for(Duration::from_millis(50), || None::<()>), None, "time passes");
                }
            }
            "/unannounced" => {
                self.say(&mut stream, &format!("{chunked}100000\r\n{}\r\n", "a".repeat(1 << 20)))?;
                stream.read_exact(&mut [0]).ok()
            }
            "/informational" => self.repeat(&mut stream, "", "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n"),
            "/chunks" => self.repeat(&mut stream, chunked, "1\r\na\r\n"),
            "/extensions" => self.repeat(&mut stream, chunked, &format!("1;{}\r\na\r\n", "e".repeat(8_000))),
            "/trailers" => {
                self.repeat(&mut stream, &format!("{chunked}1\r\na\r\n0\r\n"), "a-trailer: aaaaaaaaaaaa\r\n")
            }
            other => panic!("no such path: {other}"),
        }
    }

    fn say(&self, stream: &mut TcpStream, text: &str) -> Option<()> {
        stream.write_all(text.as_bytes()).ok()?;
        self.sent.fetch_add(text.len() as u64, Ordering::SeqCst);
        Some(())
    }

    /// Says the same for ever.
    fn repeat(&self, stream: &mut TcpStream, first: &str, again: &str) -> Option<()> {
        self.say(stream, first)?;
        let again = again.repeat(1 + 10_000 / again.len());
        loop {
            self.say(stream, &again)?;
        }
    }
}

/// A tenant that may reach this host, and the token of its admin.
fn tenant(engine: &Engine, (admin, host): (&str, &str), name: &str) -> String {
    engine.ok(&["tenant", "create", name, "--token", admin]);
    engine.ok(&["tenant", "set-hosts", name, host, "--token", admin]);
    let token = token(engine, admin, &["--role", "admin", "--name", "bob", "--tenant", name]);
    engine.ok(&["upload", &component("test-guests"), "--name", "guests", "--token", &token]);
    token
}

/// Sends one request, and returns how the execution ended.
fn ask(engine: &Engine, token: &str, (url, timeout_ms): (&str, u64)) -> Value {
    let input = json!({"method": "GET", "url": url, "timeout_ms": timeout_ms}).to_string();
    let line = ["start", "guests/asks", "--input", &input, "--wait", "--json", "--token", token];
    serde_json::from_str(&engine.cli(&line).out).unwrap()
}

fn open_answers_of_one_tenant_hold_up_no_other_tenant(database: Database) {
    let (server, host) = Server::start();
    let mut engine = Engine::start(database);
    let admin = token(&engine, "", &["--role", "admin", "--name", "ada"]);
    let [noisy, quiet] = ["noisy", "quiet"].map(|name| tenant(&engine, (&admin, &host), name));
    let is_quick = |engine: &Engine, what: &str| {
        for (path, bytes) in [("small", 2), ("large", 1 << 20)] {
            let done = ask(engine, &quiet, (&format!("http://{host}/{path}"), 1_000));
            assert_eq!(done["output"], json!([200, bytes]), "{path} beside {what}: {done:#}");
        }
    };
    for path in ["announced", "trickling", "unannounced"] {
        let before = server.requests.load(Ordering::SeqCst);
        let input = json!({"url": format!("http://{host}/{path}"), "times": 20}).to_string();
        let ids: Vec<String> = (0..5).map(|number| format!("{path}-{number}")).collect();
        for id in &ids {
            engine.ok(&["start", "guests/asks_at_once", "--id", id, "--input", &input, "--token", &noisy]);
        }
        let are_open = || (server.requests.load(Ordering::SeqCst) >= before + 100).then_some(());
        until("100 answers have begun", are_open);
        is_quick(&engine, path);
        if path == "announced" {
            engine.kill_and_restart();
            is_quick(&engine, "a restart");
        }
        for id in &ids {
            engine.ok(&["terminate", id, "--token", &noisy]);
        }
    }
}

fn what_a_server_sends_for_ever_has_an_end_and_is_counted(database: Database) {
    let (server, host) = Server::start();
    let engine = Engine::start(database);
    let admin = token(&engine, "", &["--role", "admin", "--name", "ada"]);
    engine.ok(&["upload", &component("test-guests"), "--name", "guests", "--token", &admin]);
    for path in ["informational", "chunks", "extensions", "trailers"] {
        let acme = tenant(&engine, (&admin, &host), path);
        engine.ok(&["tenant", "set-quota", path, "egress-bytes-per-minute=10000", "--token", &admin]);
        let url = format!("http://{host}/{path}");
        within(Duration::from_secs(120), "it is in the quota", || {
            let before = server.sent.load(Ordering::SeqCst);
            let failed = ask(&engine, &acme, (&url, 60_000));
            let kind = failed["failure"]["kind"].as_str().unwrap_or_default();
            // A slow machine may not read so many small pieces within the time.
            let ends = kind == "http-protocol" || path == "chunks" && kind == "http-timeout";
            assert!(ends || kind == "quota", "{path}: {failed:#}");
            let sent = server.sent.load(Ordering::SeqCst) - before;
            assert!(sent < 40 << 20, "{path}: the server could send {sent} bytes");
            // The first one leaves: the engine may not know the quota yet, and then nothing is owed.
            (kind == "quota").then_some(())
        });
        let done = ask(&engine, &admin, (&format!("http://{host}/small"), 10_000));
        assert_eq!(done["output"], json!([200, 2]), "another tenant is not concerned: {done:#}");
    }
}
