//! Plain HTTP to a service on loopback.

use std::io::{Read, Write};

/// Sends a request to a plain HTTP service on loopback and returns the body.
///
/// # Panics
/// When there is no answer.
pub fn http_get(url: &str) -> String {
    http("GET", url)
}

/// The same with another method and no body.
///
/// # Panics
/// When there is no answer.
pub(crate) fn http(method: &str, url: &str) -> String {
    let rest = url.strip_prefix("http://").expect("an http address");
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut stream = std::net::TcpStream::connect(host).expect("it listens");
    write!(stream, "{method} /{path} HTTP/1.0\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n")
        .expect("it takes a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).expect("an answer has a body")
}
