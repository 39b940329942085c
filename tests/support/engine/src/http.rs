//! Plain HTTP to a service on loopback.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// How long an answer may take.
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);

/// Sends a request to a plain HTTP service on loopback and returns the body.
///
/// # Panics
/// When there is no answer.
pub fn http_get(url: &str) -> String {
    http("GET", url, "")
}

/// Sends JSON to a plain HTTP service on loopback and returns the body of the answer.
///
/// # Panics
/// When there is no answer.
pub fn http_post(url: &str, json: &str) -> String {
    http("POST", url, json)
}

/// The same with another method.
///
/// # Panics
/// When there is no answer.
pub(crate) fn http(method: &str, url: &str, json: &str) -> String {
    let rest = url.strip_prefix("http://").expect("an http address");
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut stream = TcpStream::connect(host).expect("it listens");
    stream.set_read_timeout(Some(ANSWERED_WITHIN)).expect("a timeout can be set");
    // Answers of the earlier version come in one piece; drivers of browsers do not know it, and answer in one piece anyway.
    let (version, kind) = match json {
        "" => ("1.0", ""),
        _ => ("1.1", "Connection: close\r\nContent-Type: application/json\r\n"),
    };
    let head =
        format!("{method} /{path} HTTP/{version}\r\nHost: {host}\r\n{kind}Content-Length: {}\r\n\r\n", json.len());
    write!(stream, "{head}{json}").expect("it takes a request");
    let (mut answer, mut length) = (BufReader::new(stream), u64::MAX);
    loop {
        let mut line = String::new();
        assert!(answer.read_line(&mut line).expect("it answers") > 0, "an answer has a body: {method} {url}");
        match line.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().expect("a number");
            }
            _ if line.trim_end().is_empty() => break,
            _ => {}
        }
    }
    let mut body = String::new();
    // Not every service ends the connection after its answer.
    answer.take(length).read_to_string(&mut body).expect("it answers");
    body
}
