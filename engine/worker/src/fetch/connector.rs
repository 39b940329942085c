//! Opens connections for requests, only to addresses that were checked for the host and port.
//!
//! The client pools connections by scheme, host and port. The check depends on nothing else, so a pooled connection
//! leads nowhere that a new one would not.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::net::TcpStream;
use tower_service::Service;

use super::budget::Budget;
use super::meter::{Meter, Metered};
use super::permits::Permits;

type Tcp = TokioIo<Metered<TcpStream>>;

/// Opens TCP connections to checked addresses.
#[derive(Clone)]
pub(super) struct Checked {
    tcp: HttpConnector,
    permits: Permits,
    /// All that its connections move is spent from it.
    budget: Arc<Budget>,
    timeout: Duration,
}

impl Service<Uri> for Checked {
    type Response = Tcp;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Tcp>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let this = self.clone();
        async move {
            let host = to.host().ok_or_else(|| io::Error::other("the URL names no host"))?;
            let is_https = to.scheme_str() == Some("https");
            let port = to.port_u16().unwrap_or(if is_https { 443 } else { 80 });
            let addresses = this.permits.addresses(host, port).await?;
            this.open(&addresses).await
        }
        .boxed()
    }
}

impl Checked {
    /// Tries the addresses one after the other.
    async fn open(mut self, addresses: &[SocketAddr]) -> io::Result<Tcp> {
        let share = self.timeout / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name leads to no address");
        for address in addresses {
            // A literal address in place of the name, so that no further look-up happens.
            let literal = Uri::try_from(format!("http://{address}/")).map_err(io::Error::other)?;
            last = match tokio::time::timeout(share, self.tcp.call(literal)).await {
                Ok(Ok(connection)) => {
                    let meter = Meter::new(self.budget.clone());
                    return Ok(TokioIo::new(Metered::new(connection.into_inner(), meter)));
                }
                Ok(Err(error)) => io::Error::other(error),
                Err(_) => io::ErrorKind::TimedOut.into(),
            };
        }
        Err(last)
    }
}

/// The TLS of all connections: the certificates of this machine are read once.
///
/// # Errors
/// When they cannot be used.
pub(super) fn tls() -> Result<rustls::ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_platform_verifier()?
        .with_no_client_auth())
}

/// Opens connections within a timeout, with TLS for `https` URLs.
#[derive(Clone)]
pub(super) struct Connector {
    inner: HttpsConnector<Checked>,
    timeout: Duration,
}

impl Connector {
    pub(super) fn new(permits: Permits, budget: Arc<Budget>, timeout: Duration, tls: rustls::ClientConfig) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_all_versions();
        Self { inner: https.wrap_connector(Checked { tcp, permits, budget, timeout }), timeout }
    }
}

impl Service<Uri> for Connector {
    type Response = <HttpsConnector<Checked> as Service<Uri>>::Response;
    type Error = <HttpsConnector<Checked> as Service<Uri>>::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let opened = tokio::time::timeout(self.timeout, self.inner.call(to));
        async move { opened.await.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into())) }.boxed()
    }
}
