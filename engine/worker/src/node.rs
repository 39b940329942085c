//! One engine on one database: claims executions and keeps them running.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cerebelum_history::{Execution, Json};
use cerebelum_sandbox::Ledger;
use cerebelum_store::{
    Batch, Claimed, Command, ExecutionKey, Existing, Incarnation, NewExecution, Size, Store, StoreError,
};
use futures::FutureExt;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::activation::{Ack, Activation, Exit, NewActivation};
use crate::appender::{Appended, Appender};
use crate::batch::parking;
use crate::batcher::Batcher;
use crate::clock::Clock;
use crate::config::Config;
use crate::directory::Directory;
use crate::effects::Exchanges;
use crate::engine_error::{EngineError, EngineErrors, PAUSE_MIN};
use crate::env::{ComponentLoader, Env, HttpClient, Runtime};
use crate::eviction::IdleGuests;
use crate::fetch::{AnswerMemory, ENGINE_ANSWER_BYTES_MAX};
use crate::lease::LeaseKeeper;
use crate::liveness::Liveness;
use crate::metrics::Metrics;
use crate::poison::{CrashLog, Isolation, IsolationGate};
use crate::restore;
use crate::room::{OnTheWay, Room};
use crate::schema::Checker;
use crate::start_command::look_up;
use crate::supervise::{Supervisor, words};
use crate::throttle::Throttle;
use crate::wake::Wake;
use crate::watchers::Watchers;

/// How many executions may run ahead of their own start. A crash loses no more of their work than that, and executions
/// that are started first are acknowledged first.
const BEGINNING_MAX: usize = 256;
/// A large program that is not used for one to two of these intervals is dropped, and the memory of its slots is freed.
const REST: Duration = Duration::from_secs(10);

/// An execution in memory, as the rest of the node sees it.
struct Slot {
    nudge: mpsc::UnboundedSender<()>,
    /// The next claim, if the execution was claimed again while its activation was ending.
    next: Option<(Incarnation, Claimed)>,
}

/// How an execution is loaded into memory.
enum Load {
    /// Claimed, with its stored rows.
    Claimed(Box<Claimed>),
    /// It begins here, and nothing of it is stored yet.
    New(Box<NewActivation>),
}

impl Load {
    fn key(&self) -> &ExecutionKey {
        match self {
            Self::Claimed(claimed) => &claimed.head.key,
            Self::New(begins) => &begins.head.key,
        }
    }
}

/// The state that all activations of an engine share.
pub(crate) struct Node {
    pub(crate) config: Config,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) directory: Directory,
    pub(crate) checker: Checker,
    pub(crate) programs: Arc<dyn ComponentLoader>,
    pub(crate) web: Arc<dyn HttpClient>,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) lease: Arc<LeaseKeeper>,
    /// Each batch comes with its permit from [`Room`], which is released when the database has answered.
    pub(crate) appends: Batcher<(Batch, OnTheWay), Appended>,
    /// Looks up whether executions that clients want to start exist already.
    pub(crate) begun: Batcher<ExecutionKey, Result<Option<Existing>, StoreError>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) wake: Wake,
    pub(crate) watchers: Watchers,
    pub(crate) crash_log: Arc<CrashLog>,
    pub(crate) isolation: IsolationGate,
    pub(crate) liveness: Arc<Liveness>,
    pub(crate) supervisor: Supervisor,
    /// Limits the log lines about the engine's own faults with executions.
    pub(crate) said: Throttle,
    /// The idle guests. They are evicted when other guests need their slots.
    pub(crate) warm: Arc<IdleGuests>,
    /// The host memory held for guests and clients.
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) room: Room,
    beginning: Arc<Semaphore>,
    active: Mutex<BTreeMap<ExecutionKey, Slot>>,
    /// Bytes of all executions that wait for the log (L6).
    pub(crate) bytes_ahead: Arc<AtomicU64>,
    pub(crate) stopping: AtomicBool,
    /// Memory for incoming answers.
    pub(crate) answers: AnswerMemory,
    /// Requests that are outside, until their answers are durable.
    pub(crate) exchanges: Arc<Exchanges>,
}

impl Node {
    pub(crate) fn new(config: Config, env: Env, (crash_log, ledger): (CrashLog, Arc<Ledger>)) -> Arc<Self> {
        let Env { store, programs, web, runtime } = env;
        let clock = Arc::new(Clock::new(runtime.clone()));
        let lease = Arc::new(LeaseKeeper::new(clock.clone()));
        let metrics = Arc::new(Metrics::new());
        let watchers = Watchers::default();
        let appender = Arc::new(Appender::new(&store, &lease, &runtime, (&metrics, &watchers)));
        let warm = IdleGuests::new(config.warm_bytes_max);
        let liveness = Liveness::new(runtime.clone());
        let watched = liveness.clone();
        let appends = Batcher::new(
            &watched,
            |(batch, _): &(Batch, OnTheWay)| batch.bytes(),
            move |sent: Vec<_>| {
                let (batches, on_the_way): (Vec<Batch>, Vec<OnTheWay>) = sent.into_iter().unzip();
                let written = appender.clone().append(batches);
                written.inspect(move |_| drop(on_the_way))
            },
        );
        Arc::new(Self {
            begun: {
                let store = store.clone();
                Batcher::new(&watched, |_| 0, move |keys| look_up(store.clone(), keys))
            },
            config,
            checker: Checker::new(),
            directory: Directory::new(&watched, store.clone(), programs.clone()),
            supervisor: Supervisor::new(runtime.clone(), metrics.clone()),
            said: Throttle::default(),
            liveness,
            programs,
            store,
            web,
            runtime,
            clock,
            lease,
            appends,
            metrics,
            wake: Wake::new(),
            watchers,
            crash_log: Arc::new(crash_log),
            isolation: IsolationGate::default(),
            warm,
            room: Room::new(ledger.bytes_max()),
            ledger,
            beginning: Arc::new(Semaphore::new(BEGINNING_MAX)),
            active: Mutex::new(BTreeMap::new()),
            bytes_ahead: Arc::default(),
            stopping: AtomicBool::new(false),
            answers: AnswerMemory::new(ENGINE_ANSWER_BYTES_MAX),
            exchanges: Arc::default(),
        })
    }

    /// How many executions are in memory.
    pub(crate) fn in_memory(&self) -> usize {
        self.active().len()
    }

    /// Whether this execution is in memory.
    pub(crate) fn is_active(&self, key: &ExecutionKey) -> bool {
        self.active().contains_key(key)
    }

    /// The size that a further execution may have to be loaded into memory, if there is room for any.
    pub(crate) fn room(&self) -> Option<Size> {
        let in_memory = self.in_memory();
        if self.stopping.load(Ordering::Relaxed) || in_memory >= self.config.activations_max {
            return None;
        }
        // With no execution in memory, none will shrink, so one more may be loaded in any case.
        if self.ledger.has_room() || in_memory == 0 {
            return Some(Size::Any);
        }
        Some(Size::Small).filter(|_| self.ledger.has_room_for(0))
    }

    /// Loads a claimed execution into memory and runs it.
    pub(crate) fn activate(self: &Arc<Self>, incarnation: Incarnation, claimed: Claimed) {
        let key = claimed.head.key.clone();
        let (nudge, nudges) = mpsc::unbounded_channel();
        match self.active().entry(key.clone()) {
            // It was released and claimed again before its last activation was removed. The same slot goes on with the
            // new claim.
            Entry::Occupied(mut present) => {
                present.get_mut().next = Some((incarnation, claimed));
                return;
            }
            Entry::Vacant(free) => free.insert(Slot { nudge, next: None }),
        };
        self.spawn_activation(key, (incarnation, Load::Claimed(Box::new(claimed))), nudges);
    }

    /// Begins an execution in memory. The receiver is notified once it is stored; without a notification the caller has
    /// to store it another way.
    pub(crate) fn begin(self: &Arc<Self>, new: &NewExecution, input: &Json) -> Option<oneshot::Receiver<Ack>> {
        let incarnation = self.lease.incarnation()?;
        let (head, key) = (new.head.clone(), new.head.key.clone());
        let room = self.room();
        if head.settled || room.is_none() || self.crash_log.isolation(&key.id) != Isolation::Shared {
            return None;
        }
        let (options, attributes) = (restore::options(&head).ok()?, restore::attributes(&head).ok()?);
        let execution = Execution::start(restore::identity(&head), input.clone(), options, head.started_at);
        let execution = execution.with_attributes(attributes);
        let bytes = execution.held_bytes();
        if room == Some(Size::Small) && !self.ledger.has_room_for(bytes) {
            return None;
        }
        let (nudge, nudges) = mpsc::unbounded_channel();
        match self.active().entry(key.clone()) {
            Entry::Occupied(_) => return None,
            Entry::Vacant(free) => free.insert(Slot { nudge, next: None }),
        };
        let (stored, is_stored) = oneshot::channel();
        let held = self.ledger.account().hold(bytes);
        self.spawn_activation(
            key,
            (incarnation, Load::New(Box::new(NewActivation { head, execution, held, stored }))),
            nudges,
        );
        Some(is_stored)
    }

    /// Runs an execution until it leaves memory.
    fn spawn_activation(
        self: &Arc<Self>,
        key: ExecutionKey,
        arrived: (Incarnation, Load),
        mut nudges: mpsc::UnboundedReceiver<()>,
    ) {
        let node = self.clone();
        self.runtime.spawn(Box::pin(async move {
            let mut next = Some(arrived);
            while let Some((incarnation, arrival)) = next {
                node.metrics.activations.inc();
                nudges = node.clone().run(incarnation, arrival, nudges).await;
                next = node.remove(&key).map(|(incarnation, claimed)| (incarnation, Load::Claimed(Box::new(claimed))));
            }
            // A client that began to watch it a moment ago may have missed its last commit.
            node.watchers.changed(&key);
            // A message that arrived while the activation was ending is for the next one.
            if nudges.try_recv().is_ok() {
                node.wake.now();
            }
        }));
    }

    /// Called when an activation has ended. Returns the next claim if the execution was claimed again meanwhile;
    /// otherwise removes the execution from memory.
    fn remove(&self, key: &ExecutionKey) -> Option<(Incarnation, Claimed)> {
        let mut active = self.active();
        let next = active.get_mut(key)?.next.take();
        if next.is_none() {
            active.remove(key);
        }
        next
    }

    fn active(&self) -> MutexGuard<'_, BTreeMap<ExecutionKey, Slot>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one activation after the other until the claim is given back or lost.
    async fn run(
        self: Arc<Self>,
        incarnation: Incarnation,
        mut arrival: Load,
        mut nudges: mpsc::UnboundedReceiver<()>,
    ) -> mpsc::UnboundedReceiver<()> {
        let mut troubles = EngineErrors::default();
        loop {
            let (key, begins) = (arrival.key().clone(), matches!(arrival, Load::New(_)));
            let reason = match &arrival {
                Load::New(_) => None,
                Load::Claimed(claimed) => {
                    troubles.why_park(&self, claimed).or_else(|| self.crash_log.why_park(claimed))
                }
            };
            let activation = match (arrival, reason) {
                (Load::New(begins), _) => {
                    let turn = self.beginning.clone().acquire_owned().await.expect("nobody closes the beginning");
                    Ok(Activation::begin(self.clone(), (incarnation, *begins, turn), nudges))
                }
                (Load::Claimed(claimed), Some(reason)) => Err((Box::new(claimed.head), reason, nudges)),
                (Load::Claimed(claimed), None) => Activation::new(self.clone(), (incarnation, *claimed), nudges),
            };
            let over = match activation {
                Ok(activation) => {
                    let lived = AssertUnwindSafe(activation.live()).catch_unwind().await;
                    let (over, back) = lived.unwrap_or_else(|panic| {
                        let cause = words(&*panic);
                        tracing::error!(execution = %key.id, cause, "a mistake of the engine ended an activation");
                        (Exit::EngineError(EngineError::Panic(cause)), self.new_nudges(&key))
                    });
                    nudges = back;
                    over
                }
                Err((head, reason, back)) => {
                    nudges = back;
                    self.set_aside(incarnation, &head, reason).await
                }
            };
            let is_released = matches!(over, Exit::Released | Exit::ReleasedWithWork);
            if is_released {
                crate::fail::point("released");
            }
            if over == Exit::ReleasedWithWork {
                self.wake.now();
            }
            // An execution that could not begin was never claimed by this node.
            if is_released || (begins && over == Exit::Lost) || self.lease.incarnation() != Some(incarnation) {
                return nudges;
            }
            match over {
                // The store reports the loss before the lease does. Either the lease ends soon, or the node still has
                // the claim.
                Exit::Lost => self.runtime.sleep(PAUSE_MIN).await,
                Exit::EngineError(trouble) => {
                    self.say(&key, &trouble);
                    troubles.one_more(&self, trouble);
                    troubles.pause(&self, &mut nudges).await;
                }
                Exit::Rebuild | Exit::Released | Exit::ReleasedWithWork => {}
            }
            arrival = match self.reload(&key, incarnation).await {
                Some(claimed) => Load::Claimed(Box::new(claimed)),
                None => return nudges,
            };
        }
    }

    fn say(&self, key: &ExecutionKey, trouble: &EngineError) {
        self.said.warn(&*self.runtime, |more| {
            tracing::warn!(execution = %key.id, cause = %trouble, more, "trouble: it is tried again");
        });
    }

    /// A channel of nudges that replaces a lost one.
    fn new_nudges(&self, key: &ExecutionKey) -> mpsc::UnboundedReceiver<()> {
        let (nudge, nudges) = mpsc::unbounded_channel();
        if let Some(present) = self.active().get_mut(key) {
            // Nudges sent to the lost channel are delivered here.
            let _ = nudge.send(());
            present.nudge = nudge;
        }
        nudges
    }

    /// Reads an execution that this node still holds, retrying as long as the database takes; none when the claim is
    /// lost.
    async fn reload(&self, key: &ExecutionKey, incarnation: Incarnation) -> Option<Claimed> {
        while self.lease.incarnation() == Some(incarnation) {
            match self.store.load(key).await {
                Ok(found) => return found.filter(|found| found.owner == Some(incarnation)),
                // Another read would find the same damage, so the execution is parked for a person.
                Err(StoreError::Corrupt(cause)) => {
                    let reason = format!("corrupt-history: {cause}");
                    if self.park(incarnation, key, reason).await {
                        return None;
                    }
                }
                Err(error) => self.said.warn(&*self.runtime, |more| {
                    tracing::warn!(%error, execution = %key.id, more, "cannot read it again yet");
                }),
            }
            self.runtime.sleep(PAUSE_MIN).await;
        }
        None
    }

    /// Parks an execution that cannot be loaded into memory.
    async fn set_aside(&self, incarnation: Incarnation, head: &cerebelum_store::ExecutionRow, reason: String) -> Exit {
        tracing::error!(execution = %head.key.id, reason, "parked");
        self.metrics.parked.inc();
        match self.appends.submit((parking(incarnation, head, head.position, reason.clone()), None)).await {
            Some(Ok(_)) => Exit::Released,
            // If the row cannot be written as it was read, the execution is parked by its key alone.
            Some(Err(_)) if self.park(incarnation, &head.key, reason).await => Exit::Released,
            Some(Err(_)) | None => Exit::Lost,
        }
    }

    /// Parks an execution by its key alone. `false` when the database does not answer, or this node has lost the
    /// execution.
    async fn park(&self, incarnation: Incarnation, key: &ExecutionKey, reason: String) -> bool {
        tracing::error!(execution = %key.id, reason, "parked");
        let parked = self.store.command(key, Command::Park { incarnation, reason }).await;
        parked.unwrap_or_else(|error| {
            tracing::warn!(%error, execution = %key.id, "cannot park it yet");
            false
        })
    }

    /// Notifies the activation, or the claiming task if there is none, that a message arrived for this execution.
    pub(crate) fn nudge(&self, key: &ExecutionKey) {
        let nudged = {
            let active = self.active();
            active.get(key).is_some_and(|present| present.nudge.send(()).is_ok())
        };
        if !nudged {
            self.wake.now();
        }
    }

    /// Drops unused programs, forever.
    pub(crate) async fn keep_resting(self: Arc<Self>) {
        loop {
            self.runtime.sleep(REST).await;
            self.programs.rest();
        }
    }

    /// Passes hints on, forever.
    pub(crate) async fn keep_listening(self: Arc<Self>) {
        let mut hints = self.store.hints();
        loop {
            match hints.recv().await {
                Ok(key) => {
                    self.nudge(&key);
                    self.watchers.changed(&key);
                }
                Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => self.nudge_all(),
                Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    fn nudge_all(&self) {
        for present in self.active().values() {
            // An activation that is ending checks for messages once more by itself.
            let _ = present.nudge.send(());
        }
        self.wake.now();
    }

    /// Expires the leases of silent nodes, forever.
    pub(crate) async fn keep_expiring_leases(self: Arc<Self>) {
        loop {
            self.runtime.sleep(self.config.lease / 4).await;
            match self.store.expire_leases().await {
                Ok(0) => {}
                Ok(count) => {
                    tracing::info!(count, "leases of silent nodes ended");
                    self.wake.now();
                }
                Err(error) => tracing::debug!(%error, "cannot take over"),
            }
        }
    }
}
