//! Outgoing HTTP: sends permitted requests within limits of size and time.

mod available;
mod budget;
mod connector;
mod outgoing;
mod outlets;
mod permits;
pub(crate) mod room;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use cerebelum_history::{Failure, HttpRequest, HttpResponse, kind};
use cerebelum_store::Store;
use futures::future::BoxFuture;
use http::Response;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper_util::client::legacy::Error;
use tokio::time::Instant;

use crate::Config;
use crate::env::{HostHeaders, HttpClient};
use crate::grants::Grants;
use budget::Budget;
use outlets::Outlets;
use permits::NotGranted;
pub(crate) use permits::{covers, is_host};
use room::Room;
pub(crate) use room::{AnswerMemory, ENGINE_ANSWER_BYTES_MAX, EXECUTION_ANSWER_BYTES_MAX, ExecutionMemory};

/// The largest body of an answer, in bytes.
const RESPONSE_BYTES_MAX: usize = 8 << 20;
/// How many headers an answer may have.
const RESPONSE_HEADERS_MAX: usize = 128;
/// How many bytes the head of an answer may have.
const RESPONSE_HEADER_BYTES_MAX: usize = 64 << 10;
/// The longest cause of a failed request, in bytes.
const CAUSE_BYTES_MAX: usize = 500;
const TOTAL: Duration = Duration::from_secs(60);

/// Sends requests for steps, each tenant's over connections of its own.
pub(crate) struct Fetcher {
    outlets: Outlets,
}

impl HttpClient for Fetcher {
    fn prepare<'a>(&'a self, grants: &'a Grants) -> BoxFuture<'a, ()> {
        Box::pin(self.outlets.refresh(grants.tenant))
    }

    fn is_prepared(&self, grants: &Grants) -> bool {
        self.outlets.is_fresh(grants.tenant)
    }

    fn fetch<'a>(
        &'a self,
        request: HttpRequest,
        headers: &'a HostHeaders,
        grants: &'a Grants,
        room: &'a mut Room,
    ) -> BoxFuture<'a, Result<HttpResponse, Failure>> {
        Box::pin(async move { self.outlets.of(grants.tenant).await.fetch(request, (headers, grants), room).await })
    }
}

impl Fetcher {
    /// # Errors
    /// One line for a person, when this machine's certificates cannot be used.
    pub(crate) fn new(config: &Config, store: Arc<dyn Store>) -> Result<Self, String> {
        Ok(Self { outlets: Outlets::new(config, store)? })
    }
}

/// The deadline of an exchange.
struct Until {
    deadline: Instant,
    timeout: Duration,
}

impl Until {
    async fn limit<T>(&self, doing: impl Future<Output = T>) -> Result<T, Failure> {
        let late = |_| {
            let ms = self.timeout.as_millis();
            Failure::retryable(kind::HTTP_TIMEOUT, format!("no complete answer within {ms} ms"))
        };
        tokio::time::timeout_at(self.deadline, doing).await.map_err(late)
    }

    /// Waits for memory. The wait extends the deadline, because it is the engine's time and not the server's.
    async fn evict(&mut self, room: &mut Room, bytes: usize) {
        let began = Instant::now();
        room.grow_to(bytes).await;
        self.deadline += began.elapsed();
    }
}

/// Reads an answer as memory becomes available for it.
async fn read(
    response: Response<Incoming>,
    room: &mut Room,
    until: &mut Until,
    budget: &Budget,
) -> Result<HttpResponse, Failure> {
    let (head, mut body) = response.into_parts();
    let head_bytes: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    budget.spend(head_bytes as u64);
    if head.headers.len() > RESPONSE_HEADERS_MAX || head_bytes > RESPONSE_HEADER_BYTES_MAX {
        return Err(Failure::new(
            kind::HTTP_TOO_LARGE,
            format!(
                "the answer has {} headers with {head_bytes} bytes, at most {RESPONSE_HEADERS_MAX} with \
                 {RESPONSE_HEADER_BYTES_MAX} are taken",
                head.headers.len()
            ),
        ));
    }
    let expected = usize::try_from(body.size_hint().exact().unwrap_or(0)).unwrap_or(usize::MAX);
    check_size(expected)?;
    until.evict(room, head_bytes + expected).await;
    let mut bytes = Vec::with_capacity(expected);
    while let Some(frame) = until.limit(body.frame()).await? {
        let Ok(data) = frame.map_err(|e| failure(&e))?.into_data() else { continue };
        budget.spend(data.len() as u64);
        check_size(bytes.len() + data.len())?;
        until.evict(room, head_bytes + bytes.len() + data.len()).await;
        bytes.extend_from_slice(&data);
    }
    bytes.shrink_to_fit();
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    Ok(HttpResponse { status: head.status.as_u16(), headers, body: bytes })
}

fn check_size(bytes: usize) -> Result<(), Failure> {
    match bytes > RESPONSE_BYTES_MAX {
        true => {
            Err(Failure::new(kind::HTTP_TOO_LARGE, format!("the answer is larger than {RESPONSE_BYTES_MAX} bytes")))
        }
        false => Ok(()),
    }
}

/// Describes a transport error without the URL, which may contain a secret.
fn failure(error: &(dyn std::error::Error + 'static)) -> Failure {
    let is_connect = error.downcast_ref::<Error>().is_some_and(Error::is_connect);
    let (mut cause, mut timed_out) = (error, false);
    loop {
        if let Some(refused) = cause.downcast_ref::<NotGranted>() {
            return refused.clone().into();
        }
        let io = cause.downcast_ref::<io::Error>();
        timed_out |= io.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut);
        // The `source` of an IO error is the source of its inner error, so the inner error is examined first.
        let inner = io.and_then(io::Error::get_ref).map(|inner| inner as &(dyn std::error::Error + 'static));
        match inner.or_else(|| cause.source()) {
            Some(deeper) => cause = deeper,
            None => break,
        }
    }
    let kind = match () {
        () if timed_out => kind::HTTP_TIMEOUT,
        () if is_connect => kind::HTTP_CONNECT,
        () => kind::HTTP_PROTOCOL,
    };
    // What a server says at the end of a connection is its own text, of any length.
    let cause = cause.to_string();
    let cause = cause.split_once(" (b\"").map_or(cause.as_str(), |(cause, _)| cause);
    let cause = &cause[..cause.floor_char_boundary(CAUSE_BYTES_MAX)];
    Failure::retryable(kind, format!("the request failed: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_at_the_end_of_a_connection_is_not_told() {
        let said = "connection error received: unexpected internal error encountered (b\"you sent: hunter2\")";
        let told = failure(&io::Error::other(said)).message;
        assert_eq!(told, "the request failed: connection error received: unexpected internal error encountered");
        let long = failure(&io::Error::other("é".repeat(10_000))).message;
        assert!(long.len() < 600, "{}", long.len());
    }
}
