//! Connections to the port: their number, the limits of each, and how they end.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tower_service::Service;

use crate::places::{Connection, Places, STRANGER_MIN};
use crate::streams::stopped;
use crate::tls::Tls;

/// After this time a connection that has not shown a caller is asked to close.
const STRANGER_MAX: Duration = Duration::from_secs(30);
/// The number of calls under way on one connection.
const CALLS_PER_CONNECTION_MAX: u32 = 128;
/// The number of headers of a request over HTTP/1.1.
const HEADERS_MAX: usize = 64;
/// The size of a request's headers, in bytes.
const HEADER_BYTES_MAX: u32 = 32 << 10;
/// The time in which the first request of a connection, and every request over HTTP/1.1, has to be read.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that was silent for this long is pinged.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// The time in which the ping has to be answered.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// The pause after a connection could not be accepted, for example because the process is out of file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Serves connections until the engine stops, and then until the last of them is closed.
pub(crate) async fn serve(
    (listener, tls): (TcpListener, Option<Tls>),
    router: Router,
    stopping: watch::Receiver<bool>,
) {
    let places = Places::new(STRANGER_MIN);
    let (alive, mut all_closed) = mpsc::channel::<()>(1);
    let accepting = async {
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok((stream, peer)) => {
                    // Without it answers are slower, but correct.
                    let _ = stream.set_nodelay(true);
                    (stream, peer.ip())
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            };
            let Some(connection) = places.meet(peer) else {
                tracing::debug!(%peer, "a connection found no place among those without a caller");
                continue;
            };
            let (alive, tls) = (alive.clone(), tls.clone());
            let (router, stopping) = (router.clone(), stopping.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = begin((stream, tls), &connection, router, stopping) => {}
                    () = connection.cut() => tracing::debug!("a connection without a caller made room for another one"),
                    () = connection.unread() => tracing::debug!("a connection was closed whose other end does not read"),
                }
                drop(alive);
            });
        }
    };
    tokio::select! {
        () = accepting => {}
        () = stopped(stopping.clone()) => {}
    }
    drop((listener, alive));
    // Nothing is ever sent: `recv` returns when the last sender is dropped.
    let _ = all_closed.recv().await;
}

async fn begin(
    (stream, tls): (impl AsyncRead + AsyncWrite + Send + Unpin + 'static, Option<Tls>),
    connection: &Arc<Connection>,
    router: Router,
    stopping: watch::Receiver<bool>,
) {
    let Some(tls) = tls else { return serve_one(stream, connection, router, stopping).await };
    match tokio::time::timeout(HEAD_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => serve_one(stream, connection, router, stopping).await,
        Ok(Err(error)) => tracing::debug!(%error, "a client and this engine found no common TLS"),
        Err(_) => tracing::debug!("a client began TLS and did not end it"),
    }
}

async fn serve_one(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    place: &Arc<Connection>,
    router: Router,
    stopping: watch::Receiver<bool>,
) {
    let of_request = place.clone();
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        of_request.asked();
        request.extensions_mut().insert(of_request.clone());
        router.clone().call(request)
    });
    let builder = builder();
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let (mut is_closing, mut is_timed, mut is_met) = (false, true, true);
    let stop = std::pin::pin!(stopped(stopping));
    let first = std::pin::pin!(tokio::time::sleep(HEAD_TIMEOUT));
    let stranger = std::pin::pin!(tokio::time::sleep(STRANGER_MAX));
    let (mut stop, mut first, mut stranger) = (stop, first, stranger);
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(error, "a connection broke off");
                }
                return;
            }
            () = stop.as_mut(), if !is_closing => {
                is_closing = true;
                connection.as_mut().graceful_shutdown();
            }
            () = stranger.as_mut(), if is_met && !is_closing => {
                is_met = false;
                if !place.has_caller() {
                    is_closing = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
            () = first.as_mut(), if is_timed => {
                is_timed = false;
                if !place.has_asked() {
                    return;
                }
            }
        }
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEADER_BYTES_MAX as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_concurrent_streams(CALLS_PER_CONNECTION_MAX);
    builder
}
