//! TLS: the certificate of the port, read again when its files change.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How often the files are compared with what was read.
const RELOAD_INTERVAL: Duration = Duration::from_secs(5);
/// The protocols that a client may choose from, the best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Where the certificate chain and its private key are, and the authorities of clients; all in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, and those that lead from it to an authority.
    pub certificate: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
    /// Authorities: a client has to present a certificate that one of them has signed. Without this file, clients need none.
    pub client_authorities: Option<PathBuf>,
}

/// What the files contain.
#[derive(Clone, PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_authorities: Option<Vec<u8>>,
}

fn wrong(path: &Path, why: impl ToString) -> String {
    format!("{}: {}", path.display(), why.to_string())
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|e| wrong(path, e))?;
    if chain.is_empty() {
        return Err(wrong(path, "there is no certificate in PEM in it"));
    }
    Ok(chain)
}

/// Refuses clients without a certificate of one of these authorities.
fn verifier(path: &Path, pem: &[u8], provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(path, pem)? {
        roots.add(authority).map_err(|e| wrong(path, e))?;
    }
    WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build().map_err(|e| wrong(path, e))
}

impl CertificateFiles {
    /// The contents of the files, which are compared to find a change.
    fn read(&self) -> Result<Contents, String> {
        let read = |path: &Path| std::fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()));
        let client_authorities = self.client_authorities.as_deref().map(read).transpose()?;
        Ok(Contents { certificate: read(&self.certificate)?, key: read(&self.key)?, client_authorities })
    }

    fn config(&self, contents: &Contents) -> Result<Arc<ServerConfig>, String> {
        let chain = certificates(&self.certificate, &contents.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&contents.key).map_err(|e| wrong(&self.key, e))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let config = config.map_err(|e| e.to_string())?;
        let config = match self.client_authorities.as_deref().zip(contents.client_authorities.as_deref()) {
            Some((path, pem)) => config.with_client_cert_verifier(verifier(path, pem, &provider)?),
            None => config.with_no_client_auth(),
        };
        let mut config = config.with_single_cert(chain, key).map_err(|e| wrong(&self.certificate, e))?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(Arc::new(config))
    }
}

/// The certificate that new connections get.
#[derive(Clone)]
pub(crate) struct Tls {
    files: CertificateFiles,
    /// What was read of the files first.
    first: Contents,
    current: Arc<RwLock<Arc<ServerConfig>>>,
}

impl std::fmt::Debug for Tls {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// When one of them cannot be read, or they do not belong together; in one line that names the file.
    pub(crate) fn read(files: CertificateFiles) -> Result<Self, String> {
        let first = files.read()?;
        let current = files.config(&first)?;
        Ok(Self { files, first, current: Arc::new(RwLock::new(current)) })
    }

    /// The TLS side of a new connection.
    pub(crate) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> io::Result<TlsStream<S>> {
        let config = self.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        TlsAcceptor::from(config).accept(stream).await
    }

    /// Reads the files again when they have changed, for ever. Files that cannot be used change nothing.
    pub(crate) async fn keep_reloading(self) {
        let mut known = self.first;
        loop {
            tokio::time::sleep(RELOAD_INTERVAL).await;
            let read = self.files.read();
            if read.as_ref().is_ok_and(|read| *read == known) {
                continue;
            }
            match read.and_then(|read| Ok((self.files.config(&read)?, read))) {
                Ok((config, read)) => {
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = config;
                    known = read;
                    tracing::info!("the certificate has changed: new connections get the new one");
                }
                Err(why) => tracing::warn!(why, "the certificate cannot be read again: the one before stays"),
            }
        }
    }
}
