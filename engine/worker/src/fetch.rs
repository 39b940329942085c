//! Outgoing HTTP: sends permitted requests within limits of size and time.

mod connector;
mod outgoing;
mod permits;
pub(crate) mod room;

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use cerebelum_history::{Failure, HttpRequest, HttpResponse, kind};
use cerebelum_store::TenantId;
use futures::future::BoxFuture;
use http::Response;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::Instant;

use crate::Config;
use crate::env::{Grants, HttpClient};
use connector::Connector;
use permits::{NotGranted, Permits};
use room::Room;
pub(crate) use room::{AnswerMemory, ENGINE_ANSWER_BYTES_MAX, EXECUTION_ANSWER_BYTES_MAX, ExecutionMemory};

/// The largest body of an answer, in bytes.
const RESPONSE_BYTES_MAX: usize = 8 << 20;
/// How many headers an answer may have.
const RESPONSE_HEADERS_MAX: usize = 128;
/// How many bytes the head of an answer may have.
const RESPONSE_HEADER_BYTES_MAX: usize = 64 << 10;
const CONNECT: Duration = Duration::from_secs(5);
const TOTAL: Duration = Duration::from_secs(60);
/// How long a connection without requests is kept.
const IDLE: Duration = Duration::from_secs(90);
/// How many connections without requests are kept for one host and port.
const IDLE_PER_HOST_MAX: usize = 32;

/// Sends requests for steps. The hosts and secrets in the engine's configuration are those of its operator, whose tenant
/// is `default`. Other tenants reach public addresses if `*` is allowed, over connections of their own.
pub(crate) struct Fetcher {
    of_operator: Outlet,
    of_others: Outlet,
}

/// A way out: the hosts that it leads to, and the secrets that it fills in.
struct Outlet {
    client: Client<Connector, Full<Bytes>>,
    permits: Permits,
    secrets: BTreeMap<String, String>,
}

impl HttpClient for Fetcher {
    fn fetch<'a>(
        &'a self,
        request: HttpRequest,
        key: &'a str,
        grants: &'a Grants,
        room: &'a mut Room,
    ) -> BoxFuture<'a, Result<HttpResponse, Failure>> {
        let outlet = if grants.tenant == TenantId::DEFAULT { &self.of_operator } else { &self.of_others };
        Box::pin(outlet.fetch(request, (key, grants), room))
    }
}

impl Fetcher {
    pub(crate) fn new(config: &Config) -> Result<Self, String> {
        let public: Vec<String> = config.allow_http.iter().filter(|host| *host == "*").cloned().collect();
        Ok(Self {
            of_operator: Outlet::new(config, &config.allow_http, config.secrets.clone())?,
            of_others: Outlet::new(config, &public, BTreeMap::new())?,
        })
    }
}

impl Outlet {
    fn new(config: &Config, allow_http: &[String], secrets: BTreeMap<String, String>) -> Result<Self, String> {
        let database = cerebelum_store::server_of(&config.database);
        let permits = Permits::new(allow_http, config.listens_on.clone(), database);
        let connector = Connector::new(permits.clone(), CONNECT)
            .map_err(|e| format!("cannot set up outgoing HTTP: {e}; are there any certificates on this machine?"))?;
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
            .timer(TokioTimer::new())
            .http1_max_headers(RESPONSE_HEADERS_MAX)
            .http1_max_buf_size(RESPONSE_HEADER_BYTES_MAX)
            .http2_max_header_list_size(RESPONSE_HEADER_BYTES_MAX as u32)
            .build(connector);
        Ok(Self { client, permits, secrets })
    }

    async fn fetch(
        &self,
        request: HttpRequest,
        (key, grants): (&str, &Grants),
        room: &mut Room,
    ) -> Result<HttpResponse, Failure> {
        let timeout = request.timeout_ms.map_or(TOTAL, Duration::from_millis).min(TOTAL);
        let request = outgoing::prepare(request, key, grants, (&self.permits, &self.secrets))?;
        let mut until = Until { deadline: Instant::now() + timeout, timeout };
        let response = until.limit(self.client.request(request)).await?.map_err(|e| failure(&e))?;
        read(response, room, &mut until).await
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
async fn read(response: Response<Incoming>, room: &mut Room, until: &mut Until) -> Result<HttpResponse, Failure> {
    let (head, mut body) = response.into_parts();
    let head_bytes: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
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
    Failure::retryable(kind, format!("the request failed: {cause}"))
}
