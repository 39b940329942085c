//! The connection to an engine.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cerebelum_server::proto;
use cerebelum_server::proto::engine_client::EngineClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Response, Status};

use crate::args::Global;
use crate::contexts::{Context, Contexts};
use crate::exit::{CliError, Code, Outcome, is_lost, root_cause};
use crate::traces;

/// Where an engine listens unless it is told otherwise.
const DEFAULT_URL: &str = "http://127.0.0.1:9090";
/// The largest answer that is accepted: an execution with many steps and large outputs.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// How long an engine may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The silence after which a connection is pinged, and the time that the engine then has to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long an engine may be away while a command waits for the end of an execution.
const AWAY_MAX: Duration = Duration::from_secs(60);
/// The time between two attempts to reach it meanwhile.
const AWAY_INTERVAL: Duration = Duration::from_millis(250);

/// Adds the token to every request, and the span from which the command comes.
#[derive(Clone)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        traces::add_caller(&mut request);
        Ok(request)
    }
}

/// The methods of an engine.
pub(crate) type Api = EngineClient<InterceptedService<Channel, Bearer>>;

/// An engine that answered.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) engine: Api,
    url: String,
}

/// Where the engine is, and the token for it.
pub(crate) struct Server {
    /// The engine's address.
    pub(crate) url: String,
    token: Option<String>,
    /// A file with authorities that vouch for its certificate, by its whole path.
    pub(crate) ca: Option<PathBuf>,
    /// A file with the client's own certificate and its private key, by its whole path.
    pub(crate) client_cert: Option<PathBuf>,
}

impl Server {
    /// The server that the flags and variables name. A context applies if no address is named, or if its own is; its token
    /// goes to no other address, and a token that is named goes before it.
    pub(crate) fn of(global: &Global) -> Outcome<Self> {
        let url = global.url.as_deref().map(|url| url.trim_end_matches('/').to_owned());
        let context = match (&global.context, &url) {
            (Some(name), _) => Some(Contexts::read()?.named(name)?.clone()),
            (None, Some(url)) => Contexts::read()?.at(url)?.cloned(),
            (None, None) => Contexts::read()?.current().cloned(),
        };
        let named = global.token.clone();
        let ca = global.ca.as_deref().map(|file| whole_path("--ca", file)).transpose()?;
        let cert = global.client_cert.as_deref().map(|file| whole_path("--client-cert", file)).transpose()?;
        let server = match context {
            Some(Context { url, token, ca: kept, client_cert }) => {
                Self { url, token: named.or(Some(token)), ca: ca.or(kept), client_cert: cert.or(client_cert) }
            }
            None => {
                let url = url.unwrap_or_else(|| DEFAULT_URL.to_owned());
                Self { url, token: named, ca, client_cert: cert }
            }
        };
        if server.token.is_some() && !is_tls(&server.url) && is_elsewhere(&server.url) {
            let why = "a token is not sent to another machine without TLS; use https://, or a tunnel to 127.0.0.1";
            return Err(CliError::usage(format!("--url {}: {why}", server.url)));
        }
        Ok(server)
    }
}

/// Whether a URL names another machine. Other errors in it are refused elsewhere.
fn is_elsewhere(url: &str) -> bool {
    let uri = url.parse::<tonic::transport::Uri>().ok();
    uri.is_some_and(|uri| uri.authority().is_some_and(|name| !cerebelum_server::is_this_machine(name)))
}

impl Client {
    /// Connects to the engine that the flags name.
    pub(crate) async fn connect(global: &Global) -> Outcome<Self> {
        let Server { url, token, ca, client_cert } = Server::of(global)?;
        let endpoint = endpoint(&url, (ca.as_deref(), client_cert.as_deref()))?;
        let bearer = bearer(token.as_deref())?;
        let channel = endpoint.connect().await.map_err(|e| unreachable_engine(&url, &e))?;
        let engine = EngineClient::with_interceptor(channel, bearer).max_decoding_message_size(ANSWER_BYTES_MAX);
        Ok(Self { engine, url })
    }

    /// The address of a page of this engine.
    pub(crate) fn address_of(&self, path: &str) -> String {
        format!("{}{path}", self.url.trim_end_matches('/'))
    }

    /// Converts an error of this engine.
    pub(crate) fn stop(&self, status: &Status) -> CliError {
        CliError::from_status(status, &self.url)
    }

    /// Sends a request, and returns the answer to it.
    pub(crate) async fn ask<Q, A>(
        &mut self,
        method: impl AsyncFnOnce(&mut Api, Q) -> Result<Response<A>, Status>,
        request: Q,
    ) -> Outcome<A> {
        method(&mut self.engine, request).await.map(Response::into_inner).map_err(|status| self.stop(&status))
    }

    /// Makes sure that the engine knows all parts of a filter: one of an earlier version would leave a part out that it does
    /// not know, and find all executions. Whoever knows a part refuses these values of it.
    pub(crate) async fn check_knows(&mut self, filter: &proto::ExecutionFilter) -> Outcome {
        let proto::ExecutionFilter { parent, id_prefix, waits_for, failure, since, until, .. } = filter;
        let mut probe = proto::ListRequest { limit: 1, ..Default::default() };
        let has_words = id_prefix.is_some() || waits_for.is_some() || failure.is_some();
        let flag = if has_words || since.is_some() || until.is_some() {
            probe.waits_for = Some("?".to_owned());
            "--id-prefix, --waits-for, --failure, --since and --until"
        } else if parent.is_some() {
            probe.parent = Some("..".to_owned());
            "--parent"
        } else {
            return Ok(());
        };
        match self.engine.list(probe).await {
            Err(status) if status.code() == tonic::Code::InvalidArgument => Ok(()),
            Err(status) => Err(self.stop(&status)),
            Ok(_) => {
                let why = format!("this engine is of an earlier version and does not know {flag}");
                Err(CliError::new(Code::Refused, why))
            }
        }
    }

    /// All versions of all components, as the engine lists them.
    pub(crate) async fn components(&mut self) -> Outcome<Vec<proto::Component>> {
        Ok(self.ask(Api::components, proto::ComponentsRequest {}).await?.components)
    }

    /// An execution as it is now.
    pub(crate) async fn status(&mut self, id: &str) -> Outcome<proto::ExecutionStatus> {
        self.ask(Api::status, proto::StatusRequest { execution_id: id.to_owned() }).await
    }

    /// An execution once it has ended. An engine that restarts meanwhile is waited for.
    pub(crate) async fn ended(&mut self, id: &str) -> Outcome<proto::ExecutionStatus> {
        let mut patience = ReconnectBackoff::default();
        loop {
            let request = proto::WaitRequest { execution_id: id.to_owned(), timeout_ms: None };
            match self.engine.wait(request).await {
                Ok(answer) => {
                    patience = ReconnectBackoff::default();
                    let status = answer.into_inner();
                    if has_ended(&status) {
                        return Ok(status);
                    }
                }
                Err(status) => patience.outlast(self, &status).await?,
            }
        }
    }
}

/// Whether the execution has ended, so that nothing will change any more.
pub(crate) fn has_ended(status: &proto::ExecutionStatus) -> bool {
    status.summary.as_ref().is_some_and(|summary| summary.ended_at.is_some())
}

/// Waits for an engine that has gone away, for a limited time.
#[derive(Default)]
pub(crate) struct ReconnectBackoff {
    since: Option<Instant>,
}

impl ReconnectBackoff {
    /// Returns when it is time to ask again.
    ///
    /// # Errors
    /// When the engine refused the request, or has been away for too long.
    pub(crate) async fn outlast(&mut self, client: &Client, status: &Status) -> Outcome {
        self.bears(client, status)?;
        Self::pause().await;
        Ok(())
    }

    /// Checks that the engine may come back, and has not been away for too long.
    ///
    /// # Errors
    /// When one of these does not hold: the error with which the program stops.
    pub(crate) fn bears(&mut self, client: &Client, status: &Status) -> Outcome {
        let away = is_lost(status) || status.code() == tonic::Code::Unavailable;
        let since = *self.since.get_or_insert_with(Instant::now);
        if !away || since.elapsed() > AWAY_MAX {
            return Err(client.stop(status));
        }
        Ok(())
    }

    /// The time between two tries.
    pub(crate) async fn pause() {
        tokio::time::sleep(AWAY_INTERVAL).await;
    }
}

fn is_tls(url: &str) -> bool {
    url.starts_with("https://")
}

/// A file's path as it is meant now, for later use from other folders.
fn whole_path(flag: &str, file: &Path) -> Outcome<PathBuf> {
    std::path::absolute(file).map_err(|e| CliError::usage(format!("{flag} {}: {e}", file.display())))
}

/// The text of a file that has certificates, and whatever else it needs.
fn read_pem(flag: &str, file: &Path, needs: &[(&str, &str)]) -> Outcome<String> {
    let wrong = |why: String| CliError::usage(format!("{flag} {}: {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|e| wrong(e.to_string()))?;
    for (what, mark) in [("certificate", "-----BEGIN CERTIFICATE-----")].iter().chain(needs) {
        if !text.contains(mark) {
            return Err(wrong(format!("there is no {what} in PEM in it")));
        }
    }
    Ok(text)
}

fn tls(ca: Option<&Path>, client_cert: Option<&Path>) -> Outcome<ClientTlsConfig> {
    let mut tls = match ca {
        None => ClientTlsConfig::new().with_enabled_roots(),
        Some(file) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read_pem("--ca", file, &[])?)),
    };
    if let Some(file) = client_cert {
        let both = read_pem("--client-cert", file, &[("private key", "PRIVATE KEY-----")])?;
        tls = tls.identity(Identity::from_pem(&both, &both));
    }
    Ok(tls)
}

fn endpoint(url: &str, (ca, client_cert): (Option<&Path>, Option<&Path>)) -> Outcome<Endpoint> {
    let wrong = || {
        CliError::usage(format!(
            "--url {url}: write http://HOST:PORT or https://HOST:PORT, such as http://127.0.0.1:9090"
        ))
    };
    if !url.starts_with("http://") && !is_tls(url) {
        return Err(wrong());
    }
    let mut endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| wrong())?;
    if is_tls(url) {
        endpoint = endpoint
            .tls_config(tls(ca, client_cert)?)
            .map_err(|e| CliError::usage(format!("TLS to {url}: {}", root_cause(&e))))?;
    }
    let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true);
    Ok(endpoint.http2_keep_alive_interval(KEEP_ALIVE).keep_alive_timeout(KEEP_ALIVE))
}

fn bearer(token: Option<&str>) -> Outcome<Bearer> {
    let value = token.map(|token| format!("Bearer {token}").parse()).transpose();
    value.map(Bearer).map_err(|_| CliError::usage("--token: a token has only visible ASCII characters"))
}

fn unreachable_engine(url: &str, error: &dyn std::error::Error) -> CliError {
    let cause = root_cause(error);
    let line = match url.strip_prefix("https://") {
        Some(place) if cause.contains("corrupt message") => {
            format!("what listens at {url} does not speak TLS: write http://{place}")
        }
        _ => format!(
            "no engine at {url} ({cause}); start one with `cerebelum serve`, or name another with --url or CEREBELUM_URL"
        ),
    };
    CliError::new(Code::Unreachable, line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn global(url: &str) -> Global {
        Global { url: Some(url.into()), token: None, ca: None, client_cert: None, context: None, json: false }
    }

    #[tokio::test]
    async fn an_engine_that_is_not_there_is_exit_4_and_says_how_to_start_one() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let stop = Client::connect(&global(&format!("http://{free}"))).await.err().unwrap();
        assert_eq!(stop.code, Some(Code::Unreachable));
        assert!(stop.line.contains("cerebelum serve") && !stop.line.contains('\n'), "{stop}");
    }

    #[tokio::test]
    async fn an_address_that_is_none_is_wrong_usage() {
        for url in ["127.0.0.1:9090", "ftp://x", "http://a b", "httpx://127.0.0.1:9090"] {
            let stop = Client::connect(&global(url)).await.err().unwrap();
            assert_eq!(stop.code, Some(Code::Usage), "{url}: {stop}");
        }
        let far = Global { token: Some("cb_1_2".into()), ..global("http://10.0.0.7:9090") };
        assert!(Client::connect(&far).await.err().unwrap().line.contains("without TLS"));
        let odd = Global { token: Some("a\nb".into()), ..global("http://127.0.0.1:9") };
        assert_eq!(Client::connect(&odd).await.err().unwrap().code, Some(Code::Usage));
    }
}
