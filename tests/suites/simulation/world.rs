//! The simulated world: nodes on one database, and the requests of clients.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use cerebelum_history::Timestamp;
use cerebelum_store::{ExecutionKey, TenantId};
use cerebelum_worker::{ApiError, Caller, Config, Engine, Env, Runtime, TenantEngine};
use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::{AbortHandle, Abortable, BoxFuture, Either, select};
use test_memory_store::MemoryStore;
use test_programs::Node as Program;

use crate::clockwork::Clockwork;
use crate::database::{Link, Weather};
use crate::guests::{GUEST_BYTES, Library, Shelf};
use crate::report::Report;
use crate::web::{HttpClient, Ledger};

/// The number of nodes that share the database.
pub(crate) const NODES: usize = 2;
/// How long a node may be silent.
pub(crate) const LEASE_MS: u64 = 4_000;
/// How long a client waits for an answer.
const PATIENCE_MS: u64 = 15_000;

/// Everything that was acknowledged, and must therefore never be lost.
#[derive(Default)]
pub(crate) struct Acknowledged {
    /// Executions by id, with the number of their program.
    pub(crate) starts: BTreeMap<String, usize>,
    /// Questions, with whether the answer was yes.
    pub(crate) answers: BTreeMap<String, bool>,
    /// Executions asked to end.
    pub(crate) cancels: BTreeSet<String>,
    /// Executions that were paused, since when.
    pub(crate) pauses: BTreeMap<String, u64>,
    /// The times of the last requests to resume them.
    pub(crate) resumed_ms: BTreeMap<String, u64>,
    /// The number of signals of each name.
    pub(crate) signals: BTreeMap<(String, String), u64>,
    /// Executions that were resumed after a failure, or may have been.
    pub(crate) mended: BTreeSet<String>,
    /// Executions whose failure is not that of a call: they cannot be resumed.
    pub(crate) hopeless: BTreeSet<String>,
    /// The histories that readers saw, event by event.
    pub(crate) read: BTreeMap<String, Vec<String>>,
}

/// The place of one node.
struct Place {
    data: tempfile::TempDir,
    engine: Mutex<Option<Engine>>,
    /// Whether the node dies in the next turn of a guest, and whether it has died there.
    crashes: AtomicBool,
    has_crashed: AtomicBool,
}

/// The whole world.
pub(crate) struct World {
    pub(crate) clockwork: Clockwork,
    pub(crate) report: Report,
    pub(crate) memory: Arc<MemoryStore>,
    pub(crate) weather: Arc<Weather>,
    pub(crate) library: Arc<Library>,
    pub(crate) programs: Vec<Program>,
    pub(crate) ledger: Ledger,
    acknowledged: Mutex<Acknowledged>,
    places: Vec<Place>,
    /// The number of places for guests on a node.
    guests_max: u32,
    config: Config,
}

impl World {
    pub(crate) fn new(seed: u64, programs: Vec<Program>) -> Arc<Self> {
        let clockwork = Clockwork::new(seed);
        let report = Report::default();
        let clock = clockwork.clone();
        let place = || Place {
            data: tempfile::tempdir().expect("a folder"),
            engine: Mutex::default(),
            crashes: AtomicBool::default(),
            has_crashed: AtomicBool::default(),
        };
        let choose = |of: &[u64]| of[usize::try_from(clockwork.below(of.len() as u64)).expect("a small number")];
        let mut config = Config::new(PathBuf::new());
        config.lease = Duration::from_millis(LEASE_MS);
        config.hibernate_after = Duration::from_millis(choose(&[5, 50, 500, 3_000]));
        config.hibernate_at_once = Duration::from_millis(choose(&[10, 60, 100_000]));
        config.run_ahead_events_max = usize::try_from(choose(&[0, 3, 1_000])).expect("a small number");
        config.activations_max = usize::try_from(choose(&[4, 10_000])).expect("a small number");
        config.backstop = Duration::from_millis(choose(&[300, 2_000]));
        // The same on every machine.
        config.guests_moving_max = usize::try_from(choose(&[1, 8])).expect("a small number");
        config.warm_bytes_max = choose(&[0, 2, 10_000]) * GUEST_BYTES;
        let guests_max = u32::try_from(choose(&[4, 1_000])).expect("a small number");
        let weather = Arc::<Weather>::default();
        if clockwork.permille(250) {
            let number = clockwork.below(programs.len() as u64);
            *weather.unwritable.lock().expect("nobody panics here") = Some(format!("e{number}"));
        }
        Arc::new(Self {
            memory: Arc::new(MemoryStore::new(move || Timestamp(clock.now_ms()))),
            weather,
            library: Arc::new(Library::new(clockwork.clone(), report.clone(), &programs)),
            programs,
            ledger: Ledger::default(),
            acknowledged: Mutex::default(),
            places: (0..NODES).map(|_| place()).collect(),
            guests_max,
            config,
            clockwork,
            report,
        })
    }

    pub(crate) fn acknowledged(&self) -> MutexGuard<'_, Acknowledged> {
        self.acknowledged.lock().expect("nobody panics here")
    }

    pub(crate) fn settings(&self) -> String {
        let c = &self.config;
        format!(
            "hibernate after {:?}, at once from {:?}, run ahead {}, activations {}, backstop {:?}, guests {}, unwritable {:?}",
            c.hibernate_after,
            c.hibernate_at_once,
            c.run_ahead_events_max,
            c.activations_max,
            c.backstop,
            self.guests_max,
            self.weather.unwritable
        )
    }

    /// Starts a node on the data that it left behind.
    pub(crate) fn boot(self: &Arc<Self>, node: usize) {
        let runtime = Arc::new(SimulatedMachine { clockwork: self.clockwork.clone(), node });
        let link = Link::new(self, node);
        let env = Env {
            store: Arc::new(link),
            programs: Arc::new(Shelf::new(self, node, self.guests_max)),
            web: Arc::new(HttpClient::new(self, node)),
            runtime,
        };
        let config = Config { data: self.places[node].data.path().to_owned(), ..self.config.clone() };
        let world = self.clone();
        self.clockwork.spawn(Some(node), async move {
            match Engine::open_on(config, env).await {
                Ok(engine) => *world.engine(node) = Some(engine),
                Err(why) => world.report.violation(format!("node {node} does not start: {why}")),
            }
        });
    }

    pub(crate) fn engine(&self, node: usize) -> MutexGuard<'_, Option<Engine>> {
        self.places[node].engine.lock().expect("nobody panics here")
    }

    /// The name of a node in the database.
    pub(crate) fn name(&self, node: usize) -> String {
        std::fs::read_to_string(self.places[node].data.path().join("node-id")).unwrap_or_default()
    }

    /// Kills a node as `kill -9` does.
    pub(crate) fn kill(&self, node: usize) {
        let engine = self.engine(node).take();
        self.clockwork.crash(node);
        self.clockwork.go_on(node);
        drop(engine);
        self.report.count("kills");
    }

    /// Makes this node die in the next turn of a guest.
    pub(crate) fn crash_soon(&self, node: usize) {
        self.places[node].has_crashed.store(false, Ordering::Relaxed);
        self.places[node].crashes.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_crashed(&self, node: usize) -> bool {
        self.places[node].has_crashed.load(Ordering::Relaxed)
    }

    /// Cancels a planned death; `false` when the node is already about to die.
    pub(crate) fn crashes_no_more(&self, node: usize) -> bool {
        self.places[node].crashes.swap(false, Ordering::Relaxed)
    }

    /// Called from within a turn: whether the node dies in it. It leaves behind what it has written by now.
    pub(crate) fn crashes_now(self: &Arc<Self>, node: usize) -> bool {
        if !self.places[node].crashes.swap(false, Ordering::Relaxed) {
            return false;
        }
        let running = self.places[node].data.path().join("running");
        let left_behind = std::fs::read(&running).expect("a node that runs guests marks them");
        let world = self.clone();
        self.clockwork.spawn(None, async move {
            world.kill(node);
            world.report.count("crashes");
            std::fs::write(running, left_behind).expect("the folder can be written");
            world.places[node].has_crashed.store(true, Ordering::Relaxed);
        });
        true
    }

    /// Sends a request to any node, as a client does: there may be no answer, or none within the client's timeout.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        call: impl FnOnce(TenantEngine) -> BoxFuture<'static, Result<T, ApiError>> + Send + 'static,
    ) -> Option<Result<T, ApiError>> {
        let first = usize::try_from(self.clockwork.below(NODES as u64)).expect("a small number");
        let node = (0..NODES).map(|n| (first + n) % NODES).find(|node| self.engine(*node).is_some())?;
        let engine = self.engine(node).as_ref()?.of(&Caller::of_open_engine());
        let (tell, answer) = oneshot::channel();
        let (abort, registration) = AbortHandle::new_pair();
        let serving = Abortable::new(
            async move {
                // The caller may be gone.
                let _ = tell.send(call(engine).await);
            },
            registration,
        );
        self.clockwork.spawn(Some(node), serving.map(drop));
        let patience = if self.clockwork.permille(50) { self.clockwork.below(40) } else { PATIENCE_MS };
        let patience = self.clockwork.sleep(Duration::from_millis(patience));
        match select(answer, patience).await {
            Either::Left((answer, _)) => answer.ok(),
            Either::Right(_) => {
                self.report.count("clients gone");
                abort.abort();
                None
            }
        }
    }

    /// Whether an execution of this id has ended, according to the database.
    pub(crate) fn is_over(&self, id: &str) -> bool {
        let tables = self.memory.tables();
        tables.executions.get(&key(id)).is_some_and(|row| row.head.state != cerebelum_store::State::Open)
    }

    /// Whether this is the execution for which nothing more can be written.
    pub(crate) fn is_unwritable(&self, id: &str) -> bool {
        self.weather.unwritable.lock().expect("nobody panics here").as_deref() == Some(id)
    }

    /// Whether the execution is parked.
    pub(crate) fn is_parked(&self, id: &str) -> bool {
        let tables = self.memory.tables();
        tables.executions.get(&key(id)).is_some_and(|row| row.head.parked.is_some())
    }

    /// The ids of all executions, children included.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.memory.tables().executions.keys().map(|key| key.id.to_string()).collect()
    }

    /// Stops the faults: every node goes on, and the database answers.
    pub(crate) fn calm(&self) {
        self.weather.calm();
        (0..NODES).for_each(|node| self.clockwork.go_on(node));
    }

    /// Takes the database away for a while.
    pub(crate) fn cut_off(&self, ms: u64) {
        self.weather.down_until_ms.store(self.clockwork.now_ms() + ms, Ordering::Relaxed);
        self.report.count("outages");
    }
}

pub(crate) fn key(id: &str) -> ExecutionKey {
    ExecutionKey { tenant: TenantId::DEFAULT, id: id.parse().expect("an id") }
}

/// A node's machine.
struct SimulatedMachine {
    clockwork: Clockwork,
    node: usize,
}

impl Runtime for SimulatedMachine {
    fn boot_ms(&self) -> u64 {
        // Every machine was started at another time.
        self.clockwork.now_ms() - 900_000 * self.node as u64
    }

    fn chance(&self) -> u64 {
        self.clockwork.bits()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.clockwork.sleep(duration).boxed()
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.clockwork.spawn(Some(self.node), task);
    }
}
