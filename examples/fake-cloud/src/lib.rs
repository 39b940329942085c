//! The outside world of the examples: a small HTTP service that writes every request into a ledger.
//!
//! Nothing is deduplicated: a repeated idempotency key stands in the ledger twice, so that tests see it. How a
//! resource behaves is a function of the ledger alone (a droplet is ready after so many looks at it), so a service
//! that is restarted with its ledger file goes on where it was.
//!
//! | request | answer |
//! |---|---|
//! | `POST /droplets`, `GET /droplets/{id}` | a droplet, with an address after `ready_after` looks |
//! | `POST /droplets/{id}/configure` | 204 |
//! | `POST /ssh/{ip}` | 503 for the first `refuse` attempts, then a banner |
//! | `POST /mails`, `POST /releases`, `POST /deployments`, `POST /parts` | 201 and its number among those |
//! | `POST /certificates`, `GET /certificates/{id}` | a certificate, issued after `ready_after` looks |
//! | `POST /certificates/{id}/install` | 204 |
//! | `POST /builds`, `GET /builds/{id}` | a build, ended after `ready_after` looks; badly if `?outcome=failure` or a body with `broken` created it |
//! | `POST /databases`, `GET /databases/{id}` | a database, connectable after `ready_after` looks |
//! | `POST /databases/{id}/migrate` | 204 |
//! | `GET /deployments/{id}` | a deployment, healthy after `ready_after` looks |
//! | `POST /orders/{article}` | 201 and its number among those; 409 `out of stock` for an article called `gone…`, 409 `back soon` for the first `refuse` orders of one called `rare…` |
//! | `GET /mirrors/{name}` | the name |
//! | any `/flaky/{name}?fail=N` | 503 for the first N requests of that path, then how many there were |
//! | any `/switch/{name}` | 503 until `PUT /switch/{name}/on` |
//! | any `/echo/…` | what was sent |
//! | any `/status/{code}` | that status |
//! | any `/notes/…` | how often that path was asked for |
//! | any `/slow/{ms}/…` | after that many milliseconds |
//! | `GET /ledger?after=N` | every request so far but those to the ledger, as JSON; only those numbered above N if told |
//! | any of these under `/of/{name}` | the same in a world of that name, which knows of no other |
//!
//! `?ready_after=N` and `?refuse=N`, on the request that creates the thing or on the one that asks for it, override
//! the defaults. Unknown paths are 404, and stand in the ledger as well.

mod ledger;
mod world;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use tokio::net::TcpListener;

pub use ledger::{Entry, Ledger};

use world::Answer;

/// The largest request body accepted, in bytes.
const BODY_BYTES_MAX: usize = 16 << 20;

/// How the world behaves unless a request says otherwise.
#[derive(Debug, Clone)]
pub struct Config {
    /// Looks at a droplet, certificate, database, build or deployment before it is ready.
    pub ready_after: u64,
    /// SSH attempts that are refused.
    pub refuse: u64,
    /// A file that every entry of the ledger is appended to, and that is read at the start.
    pub ledger: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self { ready_after: 3, refuse: 2, ledger: None }
    }
}

/// A running service; it ends when this is dropped.
#[derive(Debug)]
pub struct FakeCloud {
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    ledger: Mutex<Ledger>,
}

impl FakeCloud {
    /// Serves on this address; port 0 chooses a free one.
    ///
    /// # Errors
    /// When the address is taken or the ledger's file cannot be read.
    pub async fn start(listen: SocketAddr, config: Config) -> anyhow::Result<Self> {
        let ledger = Ledger::open(config.ledger.as_deref())?;
        let shared = Arc::new(Shared { config, ledger: Mutex::new(ledger) });
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let routes = Router::new().fallback(answer).with_state(shared.clone());
        let serving = tokio::spawn(async move {
            // The listener is good and nothing shuts it down: serving ends only with this task.
            let _ = axum::serve(listener, routes).await;
        });
        Ok(Self { address, shared, serving })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://` and where it listens, for the `base_url` of an example's input.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request so far.
    #[must_use]
    pub fn ledger(&self) -> Vec<Arc<Entry>> {
        self.shared.ledger.lock().unwrap_or_else(PoisonError::into_inner).entries().to_vec()
    }

    /// Serves until the process ends.
    pub async fn serve_forever(mut self) {
        // The task is aborted by nobody, so its end is the end of the process.
        let _ = (&mut self.serving).await;
    }
}

impl Drop for FakeCloud {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, BODY_BYTES_MAX).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let entry = Entry::new(&parts.method, &parts.uri, &parts.headers, &body);
    if parts.uri.path() == "/ledger" {
        let after = usize::try_from(entry.number_of("after").unwrap_or_default()).unwrap_or(usize::MAX);
        let ledger = shared.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = ledger.entries().get(after..).unwrap_or_default().to_vec();
        drop(ledger);
        return Json(entries).into_response();
    }
    let answered = {
        let mut ledger = shared.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        // What is not written down did not happen: the caller is told, and asks again.
        match ledger.append(entry) {
            Ok(world) => world::answer(&shared.config, world),
            Err(_) => Answer::Status(507),
        }
    };
    respond(answered, body).await
}

async fn respond(answer: Answer, body: Bytes) -> Response {
    match answer {
        Answer::Json(status, value) => (code(status), Json(value)).into_response(),
        Answer::Text(status, text) => (code(status), text).into_response(),
        Answer::Status(status) => code(status).into_response(),
        Answer::Echo => body.into_response(),
        Answer::Slow(ms) => {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            code(200).into_response()
        }
    }
}

fn code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST)
}
