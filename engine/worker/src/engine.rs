//! The public interface of a running engine: open, stop, readiness and metrics, and the door to its tenants.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cerebelum_sandbox::{Ledger, Sandbox};
use cerebelum_store::{StoreError, TenantId};
use futures::FutureExt;
use futures::future::BoxFuture;
use prometheus_client::registry::Registry;

use crate::Config;
use crate::api::{ApiError, OpenError};
use crate::env::{Env, Running, ThisRuntime};
use crate::fetch::Fetcher;
use crate::identity::{Caller, Identities};
use crate::lease::NodeName;
use crate::metrics::Measured;
use crate::node::Node;
use crate::poison::CrashLog;
use crate::scheduler::Scheduler;
use crate::schema::Checker;
use crate::supervise::Supervisor;
use crate::tenant_engine::TenantEngine;
use crate::vault::Vault;

/// How long a stop waits for the answers to requests that are outside, and for these answers to become durable.
const STOP_ANSWERS: Duration = Duration::from_secs(3);

/// How long the metrics wait for what the database counts. Prometheus waits for 10 s by default.
const COUNT_MAX: Duration = Duration::from_secs(2);
/// The pause between two looks at whether tasks run in time.
const LAG_PAUSE: Duration = Duration::from_millis(500);

/// How often the log says that the engine is not ready.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// A running engine; cheap to clone. What concerns a tenant goes through [`Engine::of`].
#[derive(Clone)]
pub struct Engine {
    pub(crate) node: Arc<Node>,
    pub(crate) scheduler: Arc<Scheduler>,
    pub(crate) checker: Arc<Checker>,
    pub(crate) identities: Arc<Identities>,
    pub(crate) vault: Arc<Vault>,
    supervisor: Supervisor,
    running: Arc<tokio::sync::Mutex<Vec<Running>>>,
    _name: Arc<NodeName>,
}

impl Engine {
    /// Opens the database, takes a lease and begins to run the executions in it.
    ///
    /// # Errors
    /// One line for a person, when the data folder or the database cannot be used.
    pub async fn open(config: Config) -> Result<Self, OpenError> {
        config.check().map_err(OpenError::Settings)?;
        // The folder is locked first: a second engine on it must not touch the database either.
        let name = NodeName::claim(&config.data, &ThisRuntime)?;
        let ledger = Ledger::new(config.host_bytes_max);
        let mut sandbox = cerebelum_sandbox::Config::new(&config.data);
        (sandbox.memory_bytes_max, sandbox.ledger) = (config.memory_bytes_max, ledger.clone());
        sandbox.compile_box = config.compile_box.clone();
        let store = cerebelum_store::open_for(&config.database, config.lease).await.map_err(|error| match error {
            StoreError::Unavailable(_) => OpenError::Unavailable(error.to_string()),
            other => OpenError::Unusable(other.to_string()),
        })?;
        let env = Env {
            web: Arc::new(Fetcher::new(&config, store.clone())?),
            store,
            programs: Arc::new(Sandbox::new(sandbox).map_err(|e| e.to_string())?),
            runtime: Arc::new(ThisRuntime),
        };
        Ok(Self::run(config, env, (name, ledger)).await?)
    }

    /// Like [`Engine::open`], on a given environment. The settings in `config` for the database and for requests of
    /// steps do not apply.
    ///
    /// # Errors
    /// One line for a person, when the data folder cannot be used.
    pub async fn open_on(config: Config, env: Env) -> Result<Self, String> {
        let name = NodeName::claim(&config.data, &*env.runtime)?;
        let ledger = Ledger::new(config.host_bytes_max);
        Self::run(config, env, (name, ledger)).await
    }

    async fn run(config: Config, env: Env, with: (NodeName, Arc<Ledger>)) -> Result<Self, String> {
        let (name, ledger) = with;
        let crash_log = CrashLog::open(&config.data)?;
        let vault = Arc::new(Vault::new(config.secrets_keys.clone()));
        let node = Node::new(config, env, (crash_log, ledger));
        let (lease, store, its_name, length) =
            (node.lease.clone(), node.store.clone(), name.name.clone(), node.config.lease);
        let runtime = node.runtime.clone();
        let lease = move || {
            let (lease, store, its_name) = (lease.clone(), store.clone(), its_name.clone());
            async move { lease.keep(store, its_name, length).await }
        };
        let scheduler = Scheduler::new(node.clone());
        let supervisor = Supervisor::new(runtime.clone(), node.metrics.clone());
        let core = |task: &'static str, run: fn(Arc<Scheduler>) -> BoxFuture<'static, ()>| {
            let scheduler = scheduler.clone();
            runtime.run(supervisor.clone().keep(task, move || run(scheduler.clone())))
        };
        let mut running = vec![
            runtime.run(supervisor.clone().keep("lease", lease)),
            core("hints", |scheduler| scheduler.keep_listening().boxed()),
            core("takeover", |scheduler| scheduler.keep_expiring_leases().boxed()),
        ];
        node.lease.first().await;
        running.push(core("claims", |scheduler| scheduler.keep_claiming().boxed()));
        running.push(core("programs", |scheduler| crate::removal::keep_unloading(scheduler.node.clone()).boxed()));
        running.push(core("sweep", |scheduler| crate::sweep::keep_sweeping(scheduler).boxed()));
        running.push(core("components", |scheduler| crate::removal::keep_removing(scheduler.node.clone()).boxed()));
        running.push(core("audit", |scheduler| crate::audit::keep_deleting(scheduler.node.clone()).boxed()));
        running.push(core("deletion", |scheduler| crate::retention::keep_purging(scheduler.node.clone()).boxed()));
        running.push(core("remains", |scheduler| crate::retention::keep_clearing(scheduler.node.clone()).boxed()));
        running.push(core("runs", |scheduler| crate::old_runs::keep_removing(scheduler.node.clone()).boxed()));
        running.push(core("storage", |scheduler| crate::storage::keep_measuring(scheduler.node.clone()).boxed()));
        if node.config.keep_ended.is_some() {
            running
                .push(core("retention", |scheduler| crate::retention::keep_deleting(scheduler.node.clone()).boxed()));
        }
        // In the simulation there is nothing to measure.
        if runtime.poll_clock().is_some() {
            running.push(core("lag", |scheduler| keep_measuring_lag(scheduler).boxed()));
            running.push(core("waits", |scheduler| keep_telling_of_waits(scheduler).boxed()));
        }
        let engine = Self {
            node,
            scheduler,
            checker: Arc::new(Checker::new()),
            identities: Arc::default(),
            vault,
            supervisor: supervisor.clone(),
            running: Arc::default(),
            _name: Arc::new(name),
        };
        let bulk = engine.of(&Caller::of_open_engine());
        running.push(runtime.run(supervisor.clone().keep("bulk", move || crate::bulk::keep_working(bulk.clone()))));
        if let Some(traces) = engine.node.traces.clone() {
            let exporting = move || traces.clone().keep_exporting();
            running.push(runtime.run(supervisor.keep_dispensable("traces", exporting)));
        }
        *engine.running.lock().await = running;
        Ok(engine)
    }

    /// Stops the engine: nothing new begins, and claims are given back so that another node can go on at once.
    pub async fn stop(&self) {
        self.node.stopping.store(true, Ordering::Relaxed);
        // No further requests leave. Answers to requests that are outside are worth a short wait, because those
        // requests would be repeated.
        let limit = STOP_ANSWERS.min(self.node.config.drain);
        if self.node.runtime.within(limit, self.node.exchanges.none()).await.is_none() {
            tracing::warn!("some answers did not come in time: those requests are repeated");
        }
        let running = std::mem::take(&mut *self.running.lock().await);
        futures::future::join_all(running.into_iter().map(Running::end)).await;
        if let Some(incarnation) = self.node.lease.incarnation() {
            self.node.lease.lose("the engine stops");
            let ended = self.node.store.end_lease(incarnation);
            if self.node.runtime.within(self.node.config.drain, ended).await.is_none() {
                tracing::warn!("the database did not confirm the end of the lease");
            }
        }
        if let Some(traces) = &self.node.traces {
            traces.flush().await;
        }
        self.node.programs.kept().await;
    }

    /// Whether the engine holds a lease and nothing that can move has waited for longer than a lease (L22).
    ///
    /// # Errors
    /// The reason, in one line.
    pub fn readiness(&self) -> Result<(), String> {
        if self.node.stopping.load(Ordering::Relaxed) {
            return Err("the engine is stopping".to_owned());
        }
        if self.node.lease.incarnation().is_none() {
            return Err("the engine has no lease on its database: its log says why".to_owned());
        }
        overdue(&self.node).map_or(Ok(()), Err)
    }

    /// Returns the reason when the engine cannot go on and a new process is needed.
    pub async fn broken(&self) -> String {
        self.supervisor.broken().await
    }

    /// Sets the function that tells how many lines of this process's log were lost, for the metrics.
    pub fn count_lost_log_lines(&self, lost: impl Fn() -> u64 + Send + Sync + 'static) {
        self.node.metrics.set_lost_lines(lost);
    }

    /// The metrics as OpenMetrics text, together with those of the server. While the database does not answer, what it
    /// counts is absent.
    pub async fn metrics(&self, server: &Registry) -> String {
        let node = &self.node;
        // The slow queries come first, so that the counters are as recent as the answer.
        let counting = async { (node.store.count_by_status().await.ok(), node.store.backlog().await.ok()) };
        let counted = node.runtime.within(COUNT_MAX, counting).await;
        let (by_status, backlog) = counted.unwrap_or_default();
        node.metrics.render(
            Measured {
                database: if node.config.database.starts_with("sqlite:") { "sqlite" } else { "postgres" },
                is_ready: self.readiness().is_ok(),
                lease_remaining_ms: node.lease.remaining_ms(),
                by_status,
                backlog,
                in_memory: self.scheduler.in_memory(),
                usage: node.programs.usage(),
                idle_guests: node.idle_guests.count(),
                host_bytes: node.ledger.by_size(),
                connections: node.store.connections(),
                lost_log_lines: node.metrics.lost_lines(),
            },
            server,
        )
    }

    /// Runs a task for a tenant, such as a request, so that tasks of all tenants share the threads fairly.
    pub fn fair<F: Future>(&self, tenant: TenantId, task: F) -> impl Future<Output = F::Output> + use<F> {
        self.node.shares.fair(tenant, task)
    }

    /// Counts a request of a tenant's clients.
    ///
    /// # Errors
    /// When the tenant asks too often.
    pub fn count_call(&self, tenant: TenantId) -> Result<(), ApiError> {
        self.node.usages.of(tenant).count_call(self.node.runtime.boot_ms())
    }

    /// The engine as this caller's tenant sees it. What the caller does there is noted in the audit.
    #[must_use]
    pub fn of(&self, caller: &Caller) -> TenantEngine {
        TenantEngine {
            node: self.node.clone(),
            scheduler: self.scheduler.clone(),
            checker: self.checker.clone(),
            tenant: caller.tenant,
            actor: caller.actor(),
            role: caller.role,
            span: caller.span.clone(),
        }
    }
}

/// Measures how much later than planned a task runs, forever.
async fn keep_measuring_lag(scheduler: Arc<Scheduler>) {
    let (runtime, lag) = (&scheduler.node.runtime, &scheduler.node.metrics.outside.runtime_lag);
    loop {
        let planned = runtime.poll_clock().map(|now| now + LAG_PAUSE);
        runtime.sleep(LAG_PAUSE).await;
        planned.inspect(|planned| lag.observe(planned.elapsed().as_secs_f64()));
    }
}

/// What has waited for longer than a lease, in words; none if nothing has.
fn overdue(node: &Node) -> Option<String> {
    let (what, waited) = node.liveness.oldest().filter(|(_, waited)| *waited > node.config.lease)?;
    Some(format!("{what} has waited for {} s", waited.as_secs()))
}

/// Tells the log why the engine is not ready although it has a lease, at most once a minute, forever.
async fn keep_telling_of_waits(scheduler: Arc<Scheduler>) {
    let node = &scheduler.node;
    loop {
        node.runtime.sleep(node.config.lease).await;
        if let Some(why) = overdue(node) {
            tracing::warn!(why, "not ready");
            node.runtime.sleep(TOLD_EVERY).await;
        }
    }
}
