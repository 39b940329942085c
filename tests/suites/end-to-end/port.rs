//! What clients of one port hold: no number of them keeps the next one out.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use test_engine::{Database, Engine, http_get};
use tokio::net::TcpSocket;

use crate::tenants::token;

/// More than a tenant may have of bytes that have arrived, in requests of almost the largest size.
const SLOW_REQUESTS: usize = 40;
const BODY_BYTES: usize = 4 << 20;
/// More than all connections of strangers.
const SILENT: usize = 1_600;
/// On a busy machine; where the port stood still, it took 10 s and more.
const SOON: Duration = Duration::from_secs(5);

/// Sends requests that lack their last byte, until the engine takes no more.
fn almost_send(engine: &Engine, token: &str) -> Vec<TcpStream> {
    let address = engine.url().strip_prefix("http://").unwrap();
    let spaces = vec![b' '; BODY_BYTES - 1];
    let send = |_| {
        let mut stream = TcpStream::connect(address).unwrap();
        let head = "POST /v1/views HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
        write!(stream, "{head}authorization: Bearer {token}\r\ncontent-length: {BODY_BYTES}\r\n\r\n").unwrap();
        // Those that are too many are refused in the middle.
        let _ = stream.write_all(&spaces);
        stream
    };
    (0..SLOW_REQUESTS).map(send).collect()
}

#[test]
fn tenants_whose_requests_do_not_end_keep_no_other_out() {
    let engine = Engine::start(Database::Sqlite);
    engine.upload("test-guests");
    let admin = token(&engine, "", &["--role", "admin", "--name", "ada"]);
    let mut held = Vec::new();
    for tenant in ["one", "two", "three"] {
        engine.ok(&["tenant", "create", tenant, "--token", &admin]);
        let viewer = token(&engine, &admin, &["--role", "viewer", "--name", tenant, "--tenant", tenant]);
        held.extend(almost_send(&engine, &viewer));
    }
    let began = Instant::now();
    assert!(engine.ok(&["whoami", "--token", &admin]).contains("ada"));
    // More than the part of a request that is never counted.
    let input = format!("{{\"steps\":2{}}}", " ".repeat(100_000));
    engine.ok(&["start", "sequence", "--input", &input, "--wait", "--token", &admin]);
    engine.ok(&["tenant", "suspend", "one", "--token", &admin]);
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    drop(held);
}

#[tokio::test]
async fn silent_connections_of_one_address_keep_no_other_waiting() {
    let engine = Engine::start(Database::Sqlite);
    let port: SocketAddr = engine.url().strip_prefix("http://").unwrap().parse().unwrap();
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        // One that finds no place is closed, which is not seen here.
        silent.push(tokio::time::timeout(SOON, socket.connect(port)).await);
    }
    let began = Instant::now();
    assert_eq!(http_get(&format!("{}/healthz", engine.url())), "ready\n");
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}
