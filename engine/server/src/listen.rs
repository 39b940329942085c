//! The port: the clients that may connect, the services on it, and how it closes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use cerebelum_worker::Engine;
use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::access::{Gate, admit};
use crate::answers::Budget;
use crate::guard::{Origins, PROBES, Walls, guard};
use crate::intake::Intake;
use crate::proto::FILE_DESCRIPTOR_SET;
use crate::proto::engine_server::{EngineServer, SERVICE_NAME};
use crate::public_url::{PublicUrl, asked_below, put_below};
use crate::scrape::RequestMetrics;
use crate::service::Service;
use crate::streams::stopped;
use crate::tls::{CertificateFiles, Tls};
use crate::trace_url::TraceUrl;
use crate::{answers, connections, intake, pages, rest, scrape};

/// How long calls under way may take when the engine stops.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// The connections that may wait to be accepted. The usual 128 are fewer than many clients that come back at once.
const BACKLOG: u32 = 1_024;
/// How often gRPC health checks whether the engine is ready.
const HEALTH_INTERVAL: Duration = Duration::from_millis(500);

/// Why the engine cannot be served.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The address is not a loopback address, and there is no TLS.
    #[error(
        "refusing to listen on {0} without TLS: set --tls-cert and --tls-key, or --behind-proxy if a proxy in front of this port has it, or use a loopback address such as 127.0.0.1:{port}",
        port = .0.port()
    )]
    BeyondLoopback(SocketAddr),
    /// The certificate or its key cannot be used.
    #[error("TLS: {0}")]
    Certificate(String),
    /// The address is in use, or does not belong to this machine.
    #[error("cannot listen on {0}: {1}; choose another address with --listen")]
    Bind(SocketAddr, std::io::Error),
}

/// From where clients may come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Reach {
    /// From this machine, by one of its loopback names.
    #[default]
    ThisMachine,
    /// From anywhere, over TLS.
    Tls(CertificateFiles),
    /// From anywhere, without TLS: a proxy in front of the port has it.
    BehindProxy,
}

/// The port and from where clients may come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// The address; port 0 means any free one.
    pub address: SocketAddr,
    /// From where clients may come.
    pub reach: Reach,
    /// The address by which people reach the port, if it is another one.
    pub public_url: Option<PublicUrl>,
    /// Where people look at traces.
    pub trace_url: Option<TraceUrl>,
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Self {
        Self { address, reach: Reach::default(), public_url: None, trace_url: None }
    }
}

/// A bound port that is not served yet: connections wait until [`Bound::serve`].
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Tls>,
    origins: Origins,
    public_url: Option<PublicUrl>,
    trace_url: Option<TraceUrl>,
}

/// Binds a port; port 0 means any free one, see [`Bound::address`].
///
/// # Errors
/// When the address is not a loopback address although there is neither TLS nor a proxy, when it cannot be listened on,
/// or when the certificate cannot be used.
pub async fn bind(listen: impl Into<Listen>) -> Result<Bound, ServeError> {
    let Listen { address: asked, reach, public_url, trace_url } = listen.into();
    let (tls, origins) = match reach {
        Reach::ThisMachine if !asked.ip().to_canonical().is_loopback() => {
            return Err(ServeError::BeyondLoopback(asked));
        }
        Reach::ThisMachine => (None, Origins::ThisMachine),
        Reach::Tls(files) => (Some(Tls::read(files).map_err(ServeError::Certificate)?), Origins::Tls),
        Reach::BehindProxy => (None, Origins::BehindProxy),
    };
    let listener = listen_on(asked).map_err(|e| ServeError::Bind(asked, e))?;
    let address = listener.local_addr().map_err(|e| ServeError::Bind(asked, e))?;
    Ok(Bound { listener, address, tls, origins, public_url, trace_url })
}

fn listen_on(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // An engine that was just killed leaves connections behind that would keep the port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl Bound {
    /// The address of the port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of the port on its own machine.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Serves the engine until `shutdown` resolves, then ends all streams and gives calls under way five seconds.
    pub async fn serve(self, engine: Engine, shutdown: impl Future<Output = ()> + Send) {
        let (stop, stopping) = watch::channel(false);
        let router = router(engine, &stopping, (self.origins, self.public_url.clone(), self.trace_url));
        let router = asked_below(self.public_url, router);
        let reloading = self.tls.clone().map(|tls| tokio::spawn(tls.keep_reloading()));
        let serving = connections::serve((self.listener, self.tls), router, stopping.clone());
        let overdue = async {
            shutdown.await;
            // All receivers are in the other branch.
            let _ = stop.send(true);
            tokio::time::sleep(STOP_GRACE).await;
        };
        tokio::select! {
            () = serving => {}
            () = overdue => {}
        }
        if let Some(reloading) = reloading {
            reloading.abort();
        }
    }
}

fn router(
    engine: Engine,
    stopping: &watch::Receiver<bool>,
    (origins, public_url, trace_url): (Origins, Option<PublicUrl>, Option<TraceUrl>),
) -> axum::Router {
    let reporter = HealthReporter::new();
    tokio::spawn(report_health(reporter.clone(), engine.clone(), stopping.clone()));
    let requests = RequestMetrics::default();
    let probes = axum::Router::new().route(PROBES[0], get(healthz)).with_state(engine.clone());
    let scrape = axum::Router::new().route(PROBES[1], get(scrape::metrics));
    let probes = probes.merge(scrape.with_state((engine.clone(), requests.clone())));
    let budget = Budget::default();
    let service = Arc::new(Service::new(engine.clone(), stopping.clone(), (budget.clone(), public_url.clone())));
    let (rest, operations) = rest::routes(service.clone());
    let (pages, entries) = pages::routes(service.clone(), (origins, trace_url));
    let grpc = Routes::new(EngineServer::from_arc(service))
        .add_service(tonic_health::pb::health_server::HealthServer::new(
            tonic_health::server::HealthService::from_health_reporter(reporter),
        ))
        .add_service(reflection().build_v1().expect("our own descriptors are well-formed"))
        .add_service(reflection().build_v1alpha().expect("our own descriptors are well-formed"));
    let grpc = grpc.prepare().into_axum_router();
    // Fallbacks of both would contradict each other: a path that begins with `/v1/` is one of REST.
    let router = probes.merge(rest).merge(pages).fallback_service(grpc);
    let counting = (Intake::default(), engine.clone());
    let gate = Gate { engine, operations, pages: entries.clone(), origins, public_url: public_url.clone() };
    // The last layer is the first that a request meets: nothing of its body is read before it is let in.
    router
        .layer(middleware::from_fn_with_state(public_url.clone(), put_below))
        .layer(middleware::from_fn_with_state(counting, intake::count))
        .layer(middleware::from_fn_with_state(budget, answers::weigh))
        .layer(middleware::from_fn_with_state(gate, admit))
        .layer(middleware::from_fn_with_state(Walls { origins, pages: entries, public_url }, guard))
        .layer(middleware::map_response(keep_private))
        .layer(middleware::from_fn_with_state(requests, scrape::measure))
}

/// Keeps an answer from caches, and from being taken for something else. Files that are the same for all readers say
/// themselves how long they may be kept.
async fn keep_private(mut answer: Response) -> Response {
    let headers = answer.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.entry(header::X_CONTENT_TYPE_OPTIONS).or_insert(HeaderValue::from_static("nosniff"));
    answer
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_beyond_loopback_is_refused_with_a_way_out() {
        for listen in ["0.0.0.0:9090", "[::]:9090", "192.168.0.7:9090"] {
            let refused = bind(listen.parse::<SocketAddr>().unwrap()).await.unwrap_err();
            assert!(refused.to_string().contains("127.0.0.1:9090"), "{refused}");
        }
    }

    #[tokio::test]
    async fn a_free_port_is_told_and_a_taken_one_refused() {
        let bound = bind("127.0.0.1:0".parse::<SocketAddr>().unwrap()).await.unwrap();
        assert_ne!(bound.address().port(), 0);
        let refused = bind(bound.address()).await.unwrap_err();
        assert!(refused.to_string().contains("--listen"), "{refused}");
    }
}
