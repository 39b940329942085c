//! One engine on one database: what its executions share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use cerebelum_sandbox::Ledger;
use cerebelum_store::{Batch, ExecutionKey, Existing, Store, StoreError};
use futures::FutureExt;

use crate::admission::GuestHost;
use crate::appender::{Appended, Appender};
use crate::batcher::Batcher;
use crate::clock::Clock;
use crate::config::Config;
use crate::directory::Directory;
use crate::effects::Door;
use crate::env::{ComponentLoader, Env, Runtime};
use crate::eviction::IdleGuests;
use crate::fetch::{AnswerMemory, ENGINE_ANSWER_BYTES_MAX};
use crate::lease::LeaseKeeper;
use crate::liveness::Liveness;
use crate::metrics::Metrics;
use crate::poison::{CrashLog, IsolationGate};
use crate::room::{OnTheWay, Room};
use crate::start_command::look_up;
use crate::upload_turns::UploadTurns;
use crate::wake::Wake;
use crate::watchers::Watchers;

/// The environment of the executions of one engine.
pub(crate) struct Node {
    pub(crate) config: Config,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) programs: Arc<dyn ComponentLoader>,
    pub(crate) directory: Directory,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) lease: Arc<LeaseKeeper>,
    /// Each batch comes with its permit from [`Room`], which is released when the database has answered.
    pub(crate) appends: Batcher<(Batch, OnTheWay), Appended>,
    /// Looks up whether executions that clients want to start exist already.
    pub(crate) begun: Batcher<ExecutionKey, Result<Option<Existing>, StoreError>>,
    pub(crate) room: Room,
    /// Bytes of all executions that wait for the log (L6).
    pub(crate) bytes_ahead: Arc<AtomicU64>,
    /// The host memory held for guests and clients.
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) guest_host: Arc<GuestHost>,
    pub(crate) crash_log: Arc<CrashLog>,
    pub(crate) door: Arc<Door>,
    pub(crate) stopping: Arc<AtomicBool>,
    pub(crate) wake: Arc<Wake>,
    pub(crate) watchers: Watchers,
    pub(crate) upload_turns: UploadTurns,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) liveness: Arc<Liveness>,
}

impl Node {
    pub(crate) fn new(config: Config, env: Env, (crash_log, ledger): (CrashLog, Arc<Ledger>)) -> Arc<Self> {
        let Env { store, programs, web, runtime } = env;
        let clock = Arc::new(Clock::new(runtime.clone()));
        let lease = Arc::new(LeaseKeeper::new(clock.clone()));
        let (metrics, watchers, wake) = (Arc::new(Metrics::new()), Watchers::default(), Arc::new(Wake::new()));
        let liveness = Liveness::new(runtime.clone());
        let (crash_log, stopping) = (Arc::new(crash_log), Arc::new(AtomicBool::new(false)));
        let appender = Arc::new(Appender::new(&store, &lease, &runtime, (&metrics, &watchers)));
        let appends = Batcher::new(
            &liveness,
            |(batch, _): &(Batch, OnTheWay)| batch.bytes(),
            move |sent: Vec<_>| {
                let (batches, on_the_way): (Vec<Batch>, Vec<OnTheWay>) = sent.into_iter().unzip();
                let written = appender.clone().append(batches);
                written.inspect(move |_| drop(on_the_way))
            },
        );
        let begun = {
            let store = store.clone();
            Batcher::new(&liveness, |_| 0, move |keys| look_up(store.clone(), keys))
        };
        let guest_host = Arc::new(GuestHost {
            runtime: runtime.clone(),
            liveness: liveness.clone(),
            crash_log: crash_log.clone(),
            isolation: IsolationGate::default(),
            idle_guests: IdleGuests::new(config.warm_bytes_max),
            moving_max: config.guests_moving_max,
        });
        let door = Arc::new(Door {
            web,
            runtime: runtime.clone(),
            lease: lease.clone(),
            metrics: metrics.clone(),
            is_stopping: stopping.clone(),
            answers: AnswerMemory::new(ENGINE_ANSWER_BYTES_MAX),
            exchanges: Arc::default(),
        });
        Arc::new(Self {
            directory: Directory::new(&liveness, store.clone(), programs.clone()),
            room: Room::new(ledger.bytes_max()),
            bytes_ahead: Arc::default(),
            config,
            store,
            programs,
            runtime,
            clock,
            lease,
            appends,
            begun,
            ledger,
            guest_host,
            crash_log,
            door,
            stopping,
            wake,
            watchers,
            upload_turns: UploadTurns::default(),
            metrics,
            liveness,
        })
    }
}
