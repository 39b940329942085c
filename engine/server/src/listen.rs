//! The one port: who may connect, what is served on it, and how it closes.

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use cerebelum_worker::Engine;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::proto::FILE_DESCRIPTOR_SET;
use crate::proto::engine_server::{EngineServer, SERVICE_NAME};
use crate::service::Service;
use crate::streams::stopped;

/// Open connections are asked after this time of silence whether they are still there.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// How long calls under way may take when the engine stops.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// How often gRPC health looks whether the engine is ready.
const HEALTH_INTERVAL: Duration = Duration::from_millis(500);

/// Why the engine cannot be reached by anybody.
#[derive(Debug, Error)]
pub enum ServeError {
    /// Nobody would have to prove who they are.
    #[error(
        "refusing to listen on {0}: there is no authentication yet, so only this machine may connect; use a loopback address such as 127.0.0.1:{port}",
        port = .0.port()
    )]
    BeyondLoopback(SocketAddr),
    /// The address is taken or not ours.
    #[error("cannot listen on {0}: {1}; choose another address with --listen")]
    Bind(SocketAddr, std::io::Error),
    /// Serving broke off.
    #[error("serving on {0} broke off: {1}")]
    Broken(SocketAddr, String),
}

/// A port that is ours, with nobody behind it yet: connections wait until [`Bound::serve`].
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

/// Takes a port; port 0 means any free one, see [`Bound::address`].
///
/// # Errors
/// When the address is not a loopback address or cannot be listened on.
pub async fn bind(listen: SocketAddr) -> Result<Bound, ServeError> {
    if !listen.ip().to_canonical().is_loopback() {
        return Err(ServeError::BeyondLoopback(listen));
    }
    let listener = TcpListener::bind(listen).await.map_err(|e| ServeError::Bind(listen, e))?;
    let address = listener.local_addr().map_err(|e| ServeError::Bind(listen, e))?;
    Ok(Bound { listener, address })
}

/// Takes a port and serves the engine on it until `shutdown` resolves.
///
/// # Errors
/// When the port cannot be taken, or serving breaks off.
pub async fn serve(
    engine: Engine,
    listen: SocketAddr,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    bind(listen).await?.serve(engine, shutdown).await
}

impl Bound {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves the engine until `shutdown` resolves, then ends all streams and gives calls under way five seconds.
    ///
    /// # Errors
    /// When serving breaks off.
    pub async fn serve(self, engine: Engine, shutdown: impl Future<Output = ()> + Send) -> Result<(), ServeError> {
        let (stop, stopping) = watch::channel(false);
        let routes = routes(engine, &stopping);
        let serving = Server::builder()
            .accept_http1(true)
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .add_routes(routes)
            .serve_with_incoming_shutdown(
                TcpIncoming::from(self.listener).with_nodelay(Some(true)),
                stopped(stopping.clone()),
            );
        let overdue = async {
            shutdown.await;
            // Nobody listens when serving has broken off by itself, which the other branch reports.
            let _ = stop.send(true);
            tokio::time::sleep(STOP_GRACE).await;
        };
        tokio::select! {
            served = serving => served.map_err(|e| ServeError::Broken(self.address, in_full(&e))),
            () = overdue => Ok(()),
        }
    }
}

/// An error with what caused it: tonic's own text is only "transport error".
fn in_full(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |e| e.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn routes(engine: Engine, stopping: &watch::Receiver<bool>) -> Routes {
    let reporter = HealthReporter::new();
    tokio::spawn(report_health(reporter.clone(), engine.clone(), stopping.clone()));
    let pages =
        axum::Router::new().route("/healthz", get(healthz)).route("/metrics", get(metrics)).with_state(engine.clone());
    let mut routes = Routes::from(pages);
    let grpc = Routes::new(EngineServer::new(Service::new(engine, stopping.clone())))
        .add_service(tonic_health::pb::health_server::HealthServer::new(
            tonic_health::server::HealthService::from_health_reporter(reporter),
        ))
        .add_service(reflection().build_v1().expect("our own descriptors are well-formed"))
        .add_service(reflection().build_v1alpha().expect("our own descriptors are well-formed"));
    let router = std::mem::take(routes.axum_router_mut()).merge(grpc.into_axum_router());
    Routes::from(router.layer(middleware::from_fn(only_this_machine)))
}

fn reflection<'a>() -> tonic_reflection::server::Builder<'a> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

async fn report_health(reporter: HealthReporter, engine: Engine, stopping: watch::Receiver<bool>) {
    let mut told = None;
    loop {
        let ready = engine.readiness().is_ok();
        if told.replace(ready) != Some(ready) {
            let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
            reporter.set_service_status("", status).await;
            reporter.set_service_status(SERVICE_NAME, status).await;
        }
        tokio::select! {
            () = tokio::time::sleep(HEALTH_INTERVAL) => {}
            () = stopped(stopping.clone()) => break,
        }
    }
    reporter.set_service_status("", ServingStatus::NotServing).await;
    reporter.set_service_status(SERVICE_NAME, ServingStatus::NotServing).await;
}

async fn healthz(State(engine): State<Engine>) -> Response {
    match engine.readiness() {
        Ok(()) => (StatusCode::OK, "ready\n").into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")).into_response(),
    }
}

async fn metrics(State(engine): State<Engine>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], engine.metrics().await).into_response()
}

/// A web page that somebody on this machine reads can send requests here under a name of its own (DNS rebinding).
/// Until there is authentication, only requests that call this machine by its own names are served.
async fn only_this_machine(request: Request, next: Next) -> Response {
    match is_this_machine(&called_host(request.uri(), request.headers())) {
        true => next.run(request).await,
        false => {
            (StatusCode::MISDIRECTED_REQUEST, "call this engine by a loopback name such as 127.0.0.1\n").into_response()
        }
    }
}

fn called_host(uri: &axum::http::Uri, headers: &HeaderMap) -> String {
    let header = || headers.get(header::HOST).and_then(|host| host.to_str().ok()?.parse().ok());
    uri.authority().cloned().or_else(header).map_or_else(String::new, |authority| authority.host().to_owned())
}

fn is_this_machine(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_call_this_machine() {
        for host in ["localhost", "LOCALHOST", "127.0.0.1", "127.8.9.1", "[::1]", "::1"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in ["", "evil.example", "localhost.evil.example", "10.0.0.1", "0.0.0.0", "[fe80::1]"] {
            assert!(!is_this_machine(host), "{host}");
        }
    }

    #[tokio::test]
    async fn an_address_beyond_loopback_is_refused_with_a_way_out() {
        for listen in ["0.0.0.0:9090", "[::]:9090", "192.168.0.7:9090"] {
            let refused = bind(listen.parse().unwrap()).await.unwrap_err();
            assert!(refused.to_string().contains("127.0.0.1:9090"), "{refused}");
        }
    }

    #[tokio::test]
    async fn a_free_port_is_told_and_a_taken_one_refused() {
        let bound = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        assert_ne!(bound.address().port(), 0);
        let refused = bind(bound.address()).await.unwrap_err();
        assert!(refused.to_string().contains("--listen"), "{refused}");
    }
}
