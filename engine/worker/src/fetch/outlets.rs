//! The ways out of the engine, one for each tenant: the hosts that it may reach, its secrets, and its connections.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cerebelum_history::{Failure, HttpRequest, HttpResponse, kind};
use cerebelum_store::{Egress, Store, TenantId};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::answer_memory::AnswerPermit;
use super::available::{self, Available};
use super::budget::Budget;
use super::connector::{self, Connector};
use super::meter::Meter;
use super::outgoing;
use super::permits::Permits;
use super::{RESPONSE_HEADER_BYTES_MAX, RESPONSE_HEADERS_MAX, TOTAL, Until, failure, read};
use crate::Config;
use crate::grants::Grants;
use crate::quotas::{Quota, Quotas};
use crate::vault::Vault;

const CONNECT: Duration = Duration::from_secs(5);
/// How long a connection without requests is kept.
const IDLE: Duration = Duration::from_secs(90);
/// How many connections without requests are kept for one host and port.
const IDLE_PER_HOST_MAX: usize = 32;
/// How long the engine goes by what it read of a tenant's hosts and secrets.
const TRUST: Duration = Duration::from_secs(4);
/// How long a way out is kept that is not used, if there are many.
const KEPT: Duration = Duration::from_secs(60);
/// The most tenants whose ways out are kept.
const OUTLETS_MAX: usize = 1_000;
/// How many tenants' hosts and secrets are read at once.
const READS_MAX: usize = 4;
/// The pause before what a tenant's requests may reach is read again.
const READ_AGAIN: Duration = Duration::from_millis(200);
/// How many bytes of an answer over HTTP/2 may be in memory before its permit is asked for.
const HTTP2_STREAM_BYTES_MAX: u32 = 256 << 10;
/// The same of all answers on one connection.
const HTTP2_CONNECTION_BYTES_MAX: u32 = 1 << 20;
/// How many names are resolved at once: each look-up holds a thread until the system's resolver answers.
const LOOKUPS_MAX: usize = 128;

/// The ways out of all tenants.
pub(super) struct Outlets {
    config: Config,
    store: Arc<dyn Store>,
    vault: Vault,
    tls: rustls::ClientConfig,
    reads: Semaphore,
    lookups: Arc<Semaphore>,
    known: Mutex<HashMap<TenantId, Known>>,
}

/// A way out, and what it was made from.
struct Known {
    outlet: Arc<Outlet>,
    from: Egress,
    read_at: Instant,
}

/// A way out.
pub(super) struct Outlet {
    client: Client<Connector, Full<Bytes>>,
    permits: Permits,
    secrets: Available,
    budget: Arc<Budget>,
    /// What the budget is, in bytes.
    per_minute: u64,
}

impl Outlets {
    /// # Errors
    /// One line for a person, when this machine's certificates cannot be used.
    pub(super) fn new(config: &Config, store: Arc<dyn Store>) -> Result<Self, String> {
        let tls = connector::tls();
        let tls =
            tls.map_err(|e| format!("cannot set up outgoing HTTP: {e}; are there any certificates on this machine?"))?;
        Ok(Self {
            tls,
            vault: Vault::new(config.secrets_keys.clone()),
            config: config.clone(),
            store,
            reads: Semaphore::new(READS_MAX),
            lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)),
            known: Mutex::default(),
        })
    }

    /// Reads what a tenant's requests may reach and contain, unless that was read lately. It waits until the database
    /// answers: no request fails because of that.
    pub(super) async fn refresh(&self, tenant: TenantId) {
        while !self.is_fresh(tenant) {
            let one = self.reads.acquire().await;
            // Another request may have read it meanwhile.
            if self.is_fresh(tenant) {
                return;
            }
            let read_at = Instant::now();
            match self.store.egress(tenant).await {
                Ok(egress) => self.know(tenant, egress, read_at),
                Err(error) => {
                    tracing::debug!(%error, tenant = tenant.0, "cannot read what requests may reach");
                    // Other tenants' rows may well be readable.
                    drop(one);
                    tokio::time::sleep(READ_AGAIN).await;
                }
            }
        }
    }

    /// The way out of a tenant, as it was read last.
    pub(super) async fn of(&self, tenant: TenantId) -> Arc<Outlet> {
        loop {
            if let Some(known) = self.known.lock().get(&tenant) {
                return known.outlet.clone();
            }
            // It was forgotten in between: there are many tenants.
            self.refresh(tenant).await;
        }
    }

    /// Whether what is known of a tenant was read lately.
    pub(super) fn is_fresh(&self, tenant: TenantId) -> bool {
        self.known.lock().get(&tenant).is_some_and(|known| known.read_at.elapsed() < TRUST)
    }

    /// Keeps what was read, with the way out that it makes.
    fn know(&self, tenant: TenantId, from: Egress, read_at: Instant) {
        let mut known = self.known.lock();
        let outlet = match known.remove(&tenant) {
            Some(before) if before.from == from => before.outlet,
            before => Arc::new(self.outlet(tenant, &from, before)),
        };
        if known.len() >= OUTLETS_MAX {
            known.retain(|_, known| known.read_at.elapsed() < KEPT);
        }
        if known.len() >= OUTLETS_MAX {
            known.clear();
        }
        known.insert(tenant, Known { outlet, from, read_at });
    }

    /// A way out to these hosts with these secrets. It goes on with the budget of the one before and, if the hosts are the
    /// same, with its connections.
    fn outlet(&self, tenant: TenantId, from: &Egress, before: Option<Known>) -> Outlet {
        let budget = before.as_ref().map(|before| before.outlet.budget.clone()).unwrap_or_default();
        let per_minute = Quotas::parse(&from.quotas).max(Quota::EgressBytesPerMinute);
        let same_hosts = before.filter(|before| before.from.hosts == from.hosts).map(|before| before.outlet);
        let configured = match tenant {
            TenantId::DEFAULT => Available::configured(&self.config.secrets),
            _ => Available::default(),
        };
        let secrets = configured.with_stored(&self.vault, tenant, from);
        if let Some(Outlet { client, permits, .. }) = same_hosts.as_deref() {
            return Outlet { client: client.clone(), permits: permits.clone(), secrets, budget, per_minute };
        }
        let (listeners, database) = (self.config.listens_on.clone(), cerebelum_store::server_of(&self.config.database));
        let permits = Permits::new(&self.hosts(tenant, from), listeners, database).sharing(self.lookups.clone());
        // A tenant does not go on with the sessions of another one.
        let mut tls = self.tls.clone();
        tls.resumption = rustls::client::Resumption::default();
        let connector = Connector::new(permits.clone(), budget.clone(), CONNECT, tls);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
            .timer(TokioTimer::new())
            .http1_max_headers(RESPONSE_HEADERS_MAX)
            .http1_max_buf_size(RESPONSE_HEADER_BYTES_MAX)
            .http2_max_header_list_size(RESPONSE_HEADER_BYTES_MAX as u32)
            .http2_initial_stream_window_size(HTTP2_STREAM_BYTES_MAX)
            .http2_initial_connection_window_size(HTTP2_CONNECTION_BYTES_MAX)
            .build(connector);
        Outlet { client, permits, secrets, budget, per_minute }
    }

    /// The hosts that the operator allows to a tenant: those set for it, or else those of the configuration. Of these,
    /// private addresses are for the tenant `default` only.
    fn hosts(&self, tenant: TenantId, from: &Egress) -> Vec<String> {
        if let Some(hosts) = &from.hosts {
            return serde_json::from_str(hosts).unwrap_or_default();
        }
        let is_for = |host: &&String| tenant == TenantId::DEFAULT || *host == "*";
        self.config.allow_http.iter().filter(is_for).cloned().collect()
    }
}

impl Outlet {
    pub(super) async fn fetch(
        &self,
        request: HttpRequest,
        (headers, grants): (&crate::env::HostHeaders, &Grants),
        permit: &mut AnswerPermit,
    ) -> Result<HttpResponse, Failure> {
        let timeout = request.timeout_ms.map_or(TOTAL, Duration::from_millis).min(TOTAL);
        let named = available::named(&request);
        let request = outgoing::prepare(request, headers, grants, (&self.permits, &self.secrets))?;
        if !self.budget.admits(self.per_minute, Instant::now()) {
            return Err(over_budget(self.per_minute));
        }
        let echoes = self.secrets.echoes(&named);
        let mut until = Until::new(timeout);
        let exchange = async {
            let response = until.limit(self.client.request(request)).await?.map_err(|e| failure(&e))?;
            let _on_wire = response.extensions().get::<Meter>().map(Meter::answer);
            read(response, permit, &mut until).await
        };
        let mut answer = exchange.await.map_err(|failure| echoes.remove_from_failure(failure))?;
        echoes.remove_from(&mut answer);
        Ok(answer)
    }
}

/// Why a request does not leave when the budget is used up. Another attempt may come later.
fn over_budget(max: u64) -> Failure {
    Failure::retryable(kind::QUOTA, Quota::EgressBytesPerMinute.exceeded(max).to_string())
}
