//! Requests that a web page can make a browser send, written byte by byte: none of them commands the engine, and none
//! gets an answer that the page could use.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in what its tests share")]

use std::net::SocketAddr;
use std::time::Duration;

use cerebelum_server::{bind, proto};
use cerebelum_worker::{Config, Engine};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// An engine with a component whose name is its own, to look for in answers, and the address of the engine.
async fn served() -> (SocketAddr, Engine, oneshot::Sender<()>, tempfile::TempDir) {
    let data = tempfile::tempdir().unwrap();
    let engine = Engine::open(Config::new(data.path())).await.unwrap();
    let bound = bind("127.0.0.1:0".parse::<SocketAddr>().unwrap()).await.unwrap();
    let address = bound.address();
    let (stop, stopped) = oneshot::channel();
    let of_server = engine.clone();
    tokio::spawn(async move { bound.serve(of_server, async { drop(stopped.await) }).await });
    (address, engine, stop, data)
}

/// A message as gRPC frames it.
fn framed(message: &impl Message) -> Vec<u8> {
    let bytes = message.encode_to_vec();
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_be_bytes());
    framed.extend_from_slice(&bytes);
    framed
}

/// Sends bytes and reads until the engine closes the connection, or the answer is complete.
async fn said(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = async {
        let mut part = [0; 4_096];
        loop {
            match stream.read(&mut part).await {
                Ok(0) | Err(_) => return,
                Ok(count) => answer.extend_from_slice(&part[..count]),
            }
            // All of these answers are short and end with a line.
            if answer.windows(4).any(|end| end == b"\r\n\r\n") && answer.ends_with(b"\n") {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), read).await.expect("the engine answers or closes");
    String::from_utf8_lossy(&answer).into_owned()
}

fn head(method: &str, path: &str, headers: &[(&str, String)], body: &[u8]) -> Vec<u8> {
    let mut request = format!("{method} {path} HTTP/1.1\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    [request.as_bytes(), body].concat()
}

const COMMAND: &str = "/cerebelum.v1.Engine/Components";

fn of(name: &'static str, value: &str) -> (&'static str, String) {
    (name, value.to_owned())
}

/// Commands as a page can make a browser send them, and other attempts of a page.
fn commands(address: SocketAddr) -> Vec<Vec<u8>> {
    let body = framed(&proto::ComponentsRequest {});
    let own = || ("host", address.to_string());
    vec![
        // A simple request, with every content type that needs no preflight, with and without its origin.
        head("POST", COMMAND, &[own(), of("content-type", "text/plain")], &body),
        head("POST", COMMAND, &[own(), of("content-type", "application/x-www-form-urlencoded")], &body),
        head("POST", COMMAND, &[own(), of("content-type", "multipart/form-data; boundary=x")], &body),
        head("POST", COMMAND, &[own()], &body),
        head("POST", COMMAND, &[own(), of("content-type", "application/grpc"), of("te", "trailers")], &body),
        head("POST", COMMAND, &[own(), of("content-type", "application/grpc-web+proto")], &body),
        head("POST", COMMAND, &[own(), of("content-type", "text/plain"), of("origin", "http://evil.example")], &body),
        head("POST", COMMAND, &[own(), of("content-type", "text/plain"), of("origin", "null")], &body),
        // A preflight, also one that asks for the private network.
        head(
            "OPTIONS",
            COMMAND,
            &[
                own(),
                of("origin", "http://evil.example"),
                of("access-control-request-method", "POST"),
                of("access-control-request-headers", "content-type"),
                of("access-control-request-private-network", "true"),
            ],
            b"",
        ),
        // An upgrade to HTTP/2 in clear, and to a web socket.
        head(
            "POST",
            COMMAND,
            &[
                own(),
                of("connection", "upgrade, http2-settings"),
                of("upgrade", "h2c"),
                of("http2-settings", "AAMAAABkAARAAAAAAAIAAAAA"),
                of("content-type", "application/grpc"),
            ],
            &body,
        ),
        head(
            "GET",
            "/healthz",
            &[
                own(),
                of("connection", "upgrade"),
                of("upgrade", "websocket"),
                of("sec-websocket-version", "13"),
                of("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA=="),
                of("origin", "http://evil.example"),
            ],
            b"",
        ),
    ]
}

/// Requests that read, under names that were made to lead here and from foreign pages.
fn looks(address: SocketAddr) -> Vec<Vec<u8>> {
    let own = || ("host", address.to_string());
    vec![
        // A name that was made to lead here, alone, hidden, twice, and in the request line.
        head("GET", "/metrics", &[of("host", "evil.example")], b""),
        head("GET", "/metrics", &[of("host", &format!("evil.example:{}", address.port()))], b""),
        head("GET", "/metrics", &[own(), of("host", "evil.example")], b""),
        head("GET", "/metrics", &[], b""),
        head("GET", "http://evil.example/metrics", &[own()], b""),
        head("GET", "/metrics", &[of("host", "localhost.evil.example")], b""),
        // Reading, with the headers in which a browser reports the origin.
        head("GET", "/metrics", &[own(), of("origin", "http://evil.example")], b""),
        head("GET", "/metrics", &[own(), of("origin", "http://localhost:3000")], b""),
        head("GET", "/metrics", &[own(), of("sec-fetch-site", "cross-site"), of("sec-fetch-mode", "no-cors")], b""),
        head("GET", "/healthz", &[own(), of("sec-fetch-site", "same-site")], b""),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_page_cannot_command_the_engine() {
    let (address, _engine, _stop, _data) = served().await;
    let own = || ("host", address.to_string());
    for request in commands(address).into_iter().chain(looks(address)) {
        let shown = String::from_utf8_lossy(&request).into_owned();
        let answer = said(address, &request).await;
        let (status, rest) = answer.split_at(answer.len().min(12));
        assert!(status.starts_with("HTTP/1.1 4") || status.starts_with("HTTP/1.1 5"), "{shown}\n{answer}");
        let tells = rest.contains("cerebelum_") || rest.contains("grpc-status") || rest.contains("ready\n");
        let lets = rest.to_ascii_lowercase().contains("access-control-allow");
        assert!(!tells && !lets, "{shown}\n{answer}");
    }
    // Requests from the address bar, and from this engine's own pages, are allowed.
    let origin = of("origin", &format!("http://{address}"));
    for mine in [of("sec-fetch-site", "none"), of("sec-fetch-site", "same-origin"), origin] {
        let answer = said(address, &head("GET", "/healthz", &[own(), mine], b"")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_too_large_or_never_end_are_let_go() {
    let (address, _engine, _stop, _data) = served().await;
    let own = || ("host", address.to_string());
    let many: Vec<_> = std::iter::once(own()).chain((0..200).map(|_| ("x", "y".to_owned()))).collect();
    let long = [own(), ("x", "y".repeat(64 << 10))];
    for request in [head("GET", "/healthz", &many, b""), head("GET", "/healthz", &long, b"")] {
        let answer = said(address, &request).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
    // Each of these connections is closed after a while: nothing sent, half a preface, half a head, and HTTP/2 without
    // a request.
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let silent = [&b""[..], b"PRI * HT", b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n", preface];
    let closed = futures::future::join_all(silent.map(|bytes| async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut rest = Vec::new();
        let end = stream.read_to_end(&mut rest);
        tokio::time::timeout(Duration::from_secs(60), end).await.map(drop).map_err(|_| bytes)
    }));
    for closed in closed.await {
        closed.unwrap_or_else(|bytes| panic!("a connection that says {:?} stays", String::from_utf8_lossy(bytes)));
    }
    let answer = said(address, &head("GET", "/healthz", &[own()], b"")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "others are served: {answer}");
}
