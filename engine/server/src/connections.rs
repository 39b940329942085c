//! Connections to the port: their number, the limits of each, and how they end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tower_service::Service;

use crate::streams::stopped;
use crate::tls::Tls;

/// The number of open connections; further ones wait until one of them is closed.
const CONNECTIONS_MAX: usize = 512;
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
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (alive, mut all_closed) = mpsc::channel::<()>(1);
    let accepting = async {
        loop {
            let place = places.clone().acquire_owned().await.expect("nobody closes the places");
            let stream = match listener.accept().await {
                Ok((stream, _)) => {
                    // Without it answers are slower, but correct.
                    let _ = stream.set_nodelay(true);
                    stream
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            };
            let (alive, tls, router, stopping) = (alive.clone(), tls.clone(), router.clone(), stopping.clone());
            tokio::spawn(async move {
                match tls {
                    None => serve_one(stream, router, stopping).await,
                    Some(tls) => match tokio::time::timeout(HEAD_TIMEOUT, tls.accept(stream)).await {
                        Ok(Ok(stream)) => serve_one(stream, router, stopping).await,
                        Ok(Err(error)) => tracing::debug!(%error, "a client and this engine found no common TLS"),
                        Err(_) => tracing::debug!("a client began TLS and did not end it"),
                    },
                }
                drop((place, alive));
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

async fn serve_one(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    router: Router,
    stopping: watch::Receiver<bool>,
) {
    let has_asked = Arc::new(AtomicBool::new(false));
    let asked = has_asked.clone();
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
        router.clone().call(request)
    });
    let builder = builder();
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let (mut is_closing, mut is_timed) = (false, true);
    let stop = std::pin::pin!(stopped(stopping));
    let first = std::pin::pin!(tokio::time::sleep(HEAD_TIMEOUT));
    let (mut stop, mut first) = (stop, first);
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
            () = first.as_mut(), if is_timed => {
                is_timed = false;
                if !has_asked.load(Ordering::Relaxed) {
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
