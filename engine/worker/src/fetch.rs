//! Outgoing HTTP: sends permitted requests within limits of size and time.

pub(crate) mod answer_memory;
mod available;
mod budget;
mod connector;
mod meter;
mod outgoing;
mod outlets;
mod permits;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use cerebelum_history::{Failure, HttpRequest, HttpResponse, kind};
use cerebelum_store::Store;
use futures::future::BoxFuture;
use http::Response;
use http::response::Parts;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper_util::client::legacy::Error;
use tokio::time::Instant;

use crate::Config;
use crate::env::{HostHeaders, HttpClient};
use crate::grants::Grants;
use answer_memory::AnswerPermit;
pub(crate) use answer_memory::{
    AnswerMemory, ENGINE_ANSWER_BYTES_MAX, EXECUTION_ANSWER_BYTES_MAX, ExecutionMemory, OPEN_REQUEST_BYTES, Taken,
    TenantMemory,
};
use outlets::Outlets;
use permits::NotGranted;
pub(crate) use permits::{covers, is_host};

/// The largest body of an answer, in bytes.
const RESPONSE_BYTES_MAX: usize = 8 << 20;
/// How many headers an answer may have.
const RESPONSE_HEADERS_MAX: usize = 128;
/// How many bytes the head of an answer may have.
const RESPONSE_HEADER_BYTES_MAX: usize = 64 << 10;
/// The longest cause of a failed request, in bytes.
const CAUSE_BYTES_MAX: usize = 500;
const TOTAL: Duration = Duration::from_secs(60);
/// How long an answer may wait for memory in all, besides the time that its server takes. It is longer than the default
/// lease: an engine whose database does not answer loses its executions before an answer fails for want of memory.
const ROOM_WAIT_MAX: Duration = Duration::from_secs(60);

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
        permit: &'a mut AnswerPermit,
    ) -> BoxFuture<'a, Result<HttpResponse, Failure>> {
        Box::pin(async move { self.outlets.of(grants.tenant).await.fetch(request, (headers, grants), permit).await })
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
    /// How long it may still wait for memory.
    room_wait: Duration,
}

impl Until {
    fn new(timeout: Duration) -> Self {
        Self { deadline: Instant::now() + timeout, timeout, room_wait: ROOM_WAIT_MAX }
    }

    async fn limit<T>(&self, doing: impl Future<Output = T>) -> Result<T, Failure> {
        let late = |_| {
            let ms = self.timeout.as_millis();
            Failure::retryable(kind::HTTP_TIMEOUT, format!("no complete answer within {ms} ms"))
        };
        tokio::time::timeout_at(self.deadline, doing).await.map_err(late)
    }

    /// Waits for memory. The wait extends the deadline, because it is the engine's time and not the server's.
    async fn grow(&mut self, permit: &mut AnswerPermit, bytes: usize) -> Result<(), Failure> {
        let began = Instant::now();
        let grown = tokio::time::timeout(self.room_wait, permit.grow_to(bytes)).await;
        let waited = began.elapsed();
        self.deadline += waited;
        self.room_wait = self.room_wait.saturating_sub(waited);
        grown.map_err(|_| {
            let seconds = ROOM_WAIT_MAX.as_secs();
            let why =
                format!("there was no memory for the answer for {seconds} s: other answers of the tenant hold it");
            Failure::retryable(kind::HTTP_TIMEOUT, why)
        })
    }
}

/// Reads an answer as memory becomes available for what has arrived of it.
async fn read(
    response: Response<Incoming>,
    permit: &mut AnswerPermit,
    until: &mut Until,
) -> Result<HttpResponse, Failure> {
    let (head, mut body) = response.into_parts();
    let head_bytes = check_head(&head)?;
    let announced = body.size_hint().exact().map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    check_size(announced.unwrap_or(0))?;
    until.grow(permit, head_bytes).await?;
    let mut bytes = Vec::new();
    while let Some(frame) = until.limit(body.frame()).await? {
        // A body of which there is always something more must not keep the thread.
        tokio::task::coop::consume_budget().await;
        let Ok(data) = frame.map_err(|e| failure(&e))?.into_data() else { continue };
        let length = bytes.len() + data.len();
        check_size(length)?;
        if length > bytes.capacity() {
            // Twice what has arrived, so that many small pieces are not copied many times. What was announced is no more
            // than a bound: a server may announce much and send nothing.
            let capacity = (2 * bytes.capacity()).min(announced.unwrap_or(RESPONSE_BYTES_MAX)).max(length);
            until.grow(permit, head_bytes + capacity).await?;
            bytes.reserve_exact(capacity - bytes.len());
        }
        bytes.extend_from_slice(&data);
    }
    bytes.shrink_to_fit();
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    Ok(HttpResponse { status: head.status.as_u16(), headers, body: bytes })
}

/// The bytes of an answer's headers.
fn check_head(head: &Parts) -> Result<usize, Failure> {
    let (count, bytes) =
        (head.headers.len(), head.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum());
    match count > RESPONSE_HEADERS_MAX || bytes > RESPONSE_HEADER_BYTES_MAX {
        true => Err(Failure::new(
            kind::HTTP_TOO_LARGE,
            format!(
                "the answer has {count} headers with {bytes} bytes, at most {RESPONSE_HEADERS_MAX} with \
                 {RESPONSE_HEADER_BYTES_MAX} are taken"
            ),
        )),
        false => Ok(bytes),
    }
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
