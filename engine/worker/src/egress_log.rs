//! One line in the log for each request of a step: who sent it, where to, what came of it. Of what was sent, and of the
//! answer, it has sizes only.

use std::time::Duration;

use cerebelum_history::{Failure, HttpRequest, HttpResponse, Scope, kind};
use cerebelum_store::ExecutionKey;
use url::Url;

/// The most characters of a method, or of a host and port. Longer ones are refused anyway.
const WORD_CHARS_MAX: usize = 260;

/// The failures of requests that did not leave.
const NOT_SENT: [&str; 2] = [kind::NOT_GRANTED, kind::INVALID_ARGUMENT];

/// The execution and the step that send a request.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    pub(crate) key: ExecutionKey,
    pub(crate) scope: Scope,
}

/// What the line says of a request before its answer is there.
pub(crate) struct RequestLine {
    sender: Sender,
    method: String,
    /// `host:port`.
    to: String,
    sent: usize,
}

impl RequestLine {
    pub(crate) fn new(sender: Sender, request: &HttpRequest) -> Self {
        let sent = request.method.len() + request.url.len() + headers(&request.headers) + request.body.len();
        Self { sender, method: word(&request.method), to: word(&destination(&request.url)), sent }
    }

    pub(crate) fn log(&self, result: &Result<HttpResponse, Failure>, took: Option<Duration>) {
        let Self { sender: Sender { key, scope }, method, to, sent } = self;
        let (status, received) = match result {
            Ok(answer) => (answer.status.to_string(), headers(&answer.headers) + answer.body.len()),
            Err(failure) => (failure.kind.clone(), 0),
        };
        let (sent, what) = match result {
            Err(failure) if NOT_SENT.contains(&&*failure.kind) => (0, "a request of a step was refused and not sent"),
            _ => (*sent, "a step sent a request"),
        };
        let (tenant, ms) = (key.tenant.0, took.unwrap_or_default().as_millis());
        tracing::info!(
            target: "cerebelum::requests",
            tenant, execution = %key.id, %scope, method, to, status, sent, received, ms, "{what}"
        );
    }
}

fn headers(all: &[(String, String)]) -> usize {
    all.iter().map(|(name, value)| name.len() + value.len()).sum()
}

/// The host and port of a URL. Placeholders of secrets are never filled in here, nor in a host at all.
fn destination(url: &str) -> String {
    let Ok(url) = Url::parse(url) else { return String::new() };
    let host = url.host_str().unwrap_or_default();
    url.port_or_known_default().map_or(host.to_owned(), |port| format!("{host}:{port}"))
}

/// The beginning of a guest's text.
fn word(text: &str) -> String {
    text.chars().take(WORD_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_host_and_port_and_nothing_else_of_a_url() {
        for (url, expected) in [
            ("https://user:pw@API.example.com/a/{{secret:K}}?q=1#f", "api.example.com:443"),
            ("http://[::1]:81/", "[::1]:81"),
            ("ftp://h/", "h:21"),
            ("nothing", ""),
            ("x:y", ""),
        ] {
            assert_eq!(destination(url), expected, "{url}");
        }
        assert!(word(&"é".repeat(1 << 20)).len() < 1_024);
    }
}
