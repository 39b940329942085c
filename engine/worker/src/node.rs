//! One engine on one database: what its executions share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use cerebelum_sandbox::{Ledger, at_most_one_of};
use cerebelum_store::{Batch, ExecutionKey, Existing, Store, StoreError, TenantId};
use futures::FutureExt;
use tokio::sync::Notify;

use crate::appender::{Appended, Appender};
use crate::batcher::{Batcher, Request};
use crate::clock::Clock;
use crate::computing::Computing;
use crate::config::Config;
use crate::directory::Directory;
use crate::effects::Exchanges;
use crate::env::{ComponentLoader, Env, HttpClient, Runtime};
use crate::eviction::IdleGuests;
use crate::execution_lines::ExecutionLines;
use crate::fetch::{AnswerMemory, ENGINE_ANSWER_BYTES_MAX};
use crate::full_inboxes::FullInboxes;
use crate::lease::LeaseKeeper;
use crate::liveness::Liveness;
use crate::metrics::Metrics;
use crate::poison::{CrashLog, IsolationGate};
use crate::quotas::Usages;
use crate::shares::FairShares;
use crate::start_command::look_up;
use crate::tenant_turns::ClientTurns;
use crate::traces::Traces;
use crate::transit::{Transit, TransitPermit};
use crate::wake::Wake;
use crate::watchers::Watchers;

impl Request for (Batch, TransitPermit) {
    fn tenant(&self) -> TenantId {
        self.0.key.tenant
    }

    fn bytes(&self) -> usize {
        self.0.bytes()
    }
}

/// The environment of the executions of one engine.
pub(crate) struct Node {
    pub(crate) config: Config,
    /// What tenants use of their quotas.
    pub(crate) usages: Usages,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) programs: Arc<dyn ComponentLoader>,
    pub(crate) directory: Directory,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) lease: Arc<LeaseKeeper>,
    /// Each batch comes with its permit from [`Transit`], which is released when the database has answered.
    pub(crate) appends: Batcher<(Batch, TransitPermit), Appended>,
    /// Writes the batches.
    pub(crate) appender: Arc<Appender>,
    /// Looks up whether executions that clients want to start exist already.
    pub(crate) begun: Batcher<ExecutionKey, Result<Option<Existing>, StoreError>>,
    pub(crate) transit: Transit,
    /// Bytes of all executions that wait for the log (L6).
    pub(crate) bytes_ahead: Arc<AtomicU64>,
    /// The host memory held for guests and clients.
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) crash_log: Arc<CrashLog>,
    pub(crate) isolation: IsolationGate,
    /// They are evicted when other guests need their slots.
    pub(crate) idle_guests: Arc<IdleGuests>,
    /// Where guests compute for long.
    pub(crate) computing: Arc<Computing>,
    /// Sends the requests of steps, and nothing else does: see [`crate::effects::leave`].
    pub(crate) web: Arc<dyn HttpClient>,
    /// Memory for incoming answers.
    pub(crate) answers: AnswerMemory,
    /// Memory for requests that are outside.
    pub(crate) open_requests: AnswerMemory,
    /// Requests that are outside, until their answers are durable.
    pub(crate) exchanges: Arc<Exchanges>,
    pub(crate) stopping: AtomicBool,
    pub(crate) wake: Arc<Wake>,
    pub(crate) watchers: Watchers,
    /// Shares the threads among the tenants' activations and requests.
    pub(crate) shares: Arc<FairShares>,
    pub(crate) turns: ClientTurns,
    pub(crate) metrics: Arc<Metrics>,
    /// Where spans go; none if none are exported.
    pub(crate) traces: Option<Arc<Traces>>,
    pub(crate) lines: ExecutionLines,
    pub(crate) liveness: Arc<Liveness>,
    pub(crate) full_inboxes: FullInboxes,
    /// Notified when a bulk job was created here.
    pub(crate) bulk_news: Notify,
}

impl Node {
    pub(crate) fn new(config: Config, env: Env, (crash_log, ledger): (CrashLog, Arc<Ledger>)) -> Arc<Self> {
        let Env { store, programs, web, runtime } = env;
        let clock = Arc::new(Clock::new(runtime.clone()));
        let metrics = Arc::new(Metrics::new(&store.metrics(), &programs.metrics()));
        let lease = Arc::new(LeaseKeeper::new(clock.clone(), metrics.clone()));
        let (watchers, wake) = (Watchers::default(), Arc::new(Wake::new()));
        let (liveness, shares) = (Liveness::new(runtime.clone()), FairShares::new());
        let appender = Arc::new(Appender::new(&store, &lease, &runtime, (&metrics, &watchers)));
        let writes = appender.clone();
        let appends = Batcher::new(&liveness, move |sent: Vec<_>| {
            let (batches, on_the_way): (Vec<Batch>, Vec<TransitPermit>) = sent.into_iter().unzip();
            let written = writes.clone().append(batches);
            written.inspect(move |_| drop(on_the_way))
        });
        let found = store.clone();
        let begun = Batcher::new(&liveness, move |keys| look_up(found.clone(), keys));
        Arc::new(Self {
            traces: config.traces.clone().map(|settings| Traces::new(settings, &runtime, &metrics)),
            directory: Directory::new(&liveness, store.clone(), programs.clone()),
            transit: Transit::new(ledger.bytes_max()),
            bytes_ahead: Arc::default(),
            crash_log: Arc::new(crash_log),
            isolation: IsolationGate::default(),
            idle_guests: IdleGuests::new(config.warm_bytes_max),
            computing: Arc::new(Computing::new(runtime.clone(), shares.clone())),
            web,
            answers: AnswerMemory::new(at_most_one_of(8, ENGINE_ANSWER_BYTES_MAX)),
            open_requests: AnswerMemory::of_requests(),
            exchanges: Arc::default(),
            stopping: AtomicBool::new(false),
            config,
            usages: Usages::default(),
            store,
            programs,
            runtime,
            clock,
            lease,
            appends,
            appender,
            lines: ExecutionLines::default(),
            begun,
            ledger,
            wake,
            watchers,
            shares,
            turns: ClientTurns::new(),
            metrics,
            liveness,
            full_inboxes: FullInboxes::default(),
            bulk_news: Notify::new(),
        })
    }
}
