//! The executions in memory. The scheduler loads each of them when it is claimed or begins, runs its rounds, and after
//! each stay loads it again or lets it go.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cerebelum_history::Execution;
use cerebelum_store::{Act, Claimed, Command, ExecutionKey, ExecutionRow, Incarnation, Size, StoreError, TenantId};
use futures::FutureExt;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::activation::Activation;
use crate::activation_error::{ActivationError, Exit};
use crate::active::Active;
use crate::attempts::{Attempts, PAUSE_MIN};
use crate::commit::{Ack, ExecutionLog, PendingStart, park};
use crate::node::Node;
use crate::poison::Isolation;
use crate::supervise::panic_message;
use crate::tenant_turns::TenantTurns;
use crate::throttle::Throttle;

/// How many executions of a tenant may run ahead of their own start. A crash loses no more of their work than that, and executions
/// that are started first are acknowledged first.
const UNSTORED_MAX: usize = 256;

/// The executions in memory, and what runs them.
pub(crate) struct Scheduler {
    pub(crate) node: Arc<Node>,
    active: Mutex<Active<Slot>>,
    /// Turns of executions that run ahead of their own start.
    unstored: TenantTurns,
    /// Limits the log lines about the engine's own errors with executions.
    pub(crate) warnings: Throttle,
}

/// An execution in memory, as others see it.
struct Slot {
    /// A nudge carries nothing (L10): the execution looks at its inbox in the store.
    nudge: Arc<Notify>,
    /// The next claim, if the execution was claimed again while its activation was ending.
    next: Option<(Incarnation, Claimed)>,
}

/// The stay of one execution in memory, or several that follow one another.
struct Stay {
    key: ExecutionKey,
    incarnation: Incarnation,
    nudge: Arc<Notify>,
    attempts: Attempts,
}

/// The stage of a stay.
enum Stage {
    Claimed(Box<Claimed>),
    Active(Box<Activation>),
    Left(Result<Exit, ActivationError>),
}

impl Scheduler {
    pub(crate) fn new(node: Arc<Node>) -> Arc<Self> {
        let unstored = TenantTurns::new(UNSTORED_MAX);
        let active = Mutex::new(Active::new(node.config.activations_max));
        Arc::new(Self { node, active, unstored, warnings: Throttle::default() })
    }

    /// How many executions are in memory.
    pub(crate) fn in_memory(&self) -> usize {
        self.active.lock().len()
    }

    /// The tenants of which no more executions may be loaded, and how many of any of the others.
    pub(crate) fn claimable(&self) -> (Vec<TenantId>, usize) {
        self.active.lock().claimable()
    }

    /// Whether one more execution of this tenant may be loaded into memory.
    pub(crate) fn has_place(&self, tenant: TenantId) -> bool {
        self.active.lock().places_of(tenant) > 0
    }

    /// Whether this execution is in memory.
    pub(crate) fn is_active(&self, key: &ExecutionKey) -> bool {
        self.active.lock().get(key).is_some()
    }

    /// The size that a further execution may have to be loaded into memory, if there is room for any.
    pub(crate) fn size(&self) -> Option<Size> {
        let ledger = &self.node.ledger;
        if self.node.stopping.load(Ordering::Relaxed) {
            return None;
        }
        // With no execution in memory, none will shrink, so one more may be loaded in any case.
        if ledger.has_room() || self.in_memory() == 0 {
            return Some(Size::Any);
        }
        Some(Size::Small).filter(|_| ledger.has_room_for(0))
    }

    /// Loads a claimed execution into memory and runs it.
    pub(crate) fn activate(self: &Arc<Self>, incarnation: Incarnation, claimed: Claimed) {
        let (key, nudge) = (claimed.head.key.clone(), Arc::<Notify>::default());
        {
            let mut active = self.active.lock();
            // It was released and claimed again before its last activation was removed. The same slot goes on with the
            // new claim.
            if let Some(present) = active.get_mut(&key) {
                present.next = Some((incarnation, claimed));
                return;
            }
            active.insert(key.clone(), Slot { nudge: nudge.clone(), next: None });
        }
        self.spawn(Stay::new(key, incarnation, nudge), Stage::Claimed(Box::new(claimed)));
    }

    /// Begins an execution in memory, ahead of its first batch, and returns once that is durable. None when that is not
    /// known: the caller has to store the execution another way.
    pub(crate) async fn begin(
        self: &Arc<Self>,
        row: ExecutionRow,
        execution: Execution,
        act: Option<Act>,
    ) -> Option<Ack> {
        let node = &self.node;
        if row.settled || node.crash_log.isolation(&row.key.to_string()) != Isolation::Shared {
            return None;
        }
        let turn = self.unstored.next(row.key.tenant).await;
        let incarnation = node.lease.incarnation()?;
        let size = self.size()?;
        let bytes = execution.held_bytes();
        if size == Size::Small && !node.ledger.has_room_for(bytes) {
            return None;
        }
        let (key, nudge) = (row.key.clone(), Arc::<Notify>::default());
        {
            let mut active = self.active.lock();
            let has_place = active.places_of(key.tenant) > 0;
            if !has_place || !active.insert(key.clone(), Slot { nudge: nudge.clone(), next: None }) {
                return None;
            }
        }
        let (stored, is_stored) = oneshot::channel();
        let (starting, held) =
            (PendingStart { stored, act, _turn: turn }, node.ledger.account_of(&row.key.tenant.share()).hold(bytes));
        let log = ExecutionLog::new(node.clone(), (incarnation, row), Some(starting));
        let activation = Activation::new(node, log, (execution, held), &nudge);
        self.spawn(Stay::new(key, incarnation, nudge), Stage::Active(Box::new(activation)));
        is_stored.await.ok()
    }

    /// Notifies the activation, or the claiming task if there is none, that a message arrived for this execution.
    pub(crate) fn nudge(&self, key: &ExecutionKey) {
        match self.active.lock().get(key) {
            Some(slot) => slot.nudge.notify_one(),
            None => self.node.wake.now(),
        }
    }

    fn nudge_all(&self) {
        for slot in self.active.lock().values() {
            // An activation that is ending checks for messages once more by itself.
            slot.nudge.notify_one();
        }
        self.node.wake.now();
    }

    /// Passes hints on, forever.
    pub(crate) async fn keep_listening(self: Arc<Self>) {
        let mut hints = self.node.store.hints();
        loop {
            match hints.recv().await {
                Ok(key) => {
                    self.nudge(&key);
                    self.node.watchers.changed(&key);
                }
                Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => self.nudge_all(),
                Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    fn spawn(self: &Arc<Self>, stay: Stay, stage: Stage) {
        self.node.metrics.executions.activations.inc();
        let (scheduler, tenant) = (self.clone(), stay.key.tenant);
        let stay = self.node.shares.fair(tenant, async move { scheduler.run(stay, stage).await });
        self.node.runtime.spawn(Box::pin(stay));
    }

    /// Runs an execution from its claim or its start until it leaves memory.
    async fn run(&self, mut stay: Stay, stage: Stage) {
        let mut next = Some(stage);
        while let Some(stage) = next {
            let advanced = AssertUnwindSafe(self.advance(&mut stay, stage)).catch_unwind().await;
            next = advanced.unwrap_or_else(|panic| {
                let cause = panic_message(&*panic);
                tracing::error!(execution = %stay.key, cause, "a mistake of the engine ended an activation");
                Some(Stage::Left(Err(ActivationError::Panic(cause))))
            });
        }
        // A client that began to watch it a moment ago may have missed its last commit.
        self.node.watchers.changed(&stay.key);
        // A message that arrived while the activation was ending is for the next one.
        if stay.nudge.notified().now_or_never().is_some() {
            self.node.wake.now();
        }
    }

    /// The next stage; none when the execution is out of memory.
    async fn advance(&self, stay: &mut Stay, stage: Stage) -> Option<Stage> {
        match stage {
            Stage::Claimed(claimed) => Some(self.load(stay, *claimed).await),
            Stage::Active(mut activation) => match activation.round().await {
                Ok(None) => Some(Stage::Active(activation)),
                Ok(Some(exit)) => Some(Stage::Left(Ok(exit))),
                Err(error) => Some(Stage::Left(activation.exit(error).await)),
            },
            Stage::Left(left) => self.next_claim(stay, left).await.map(|claimed| Stage::Claimed(Box::new(claimed))),
        }
    }

    /// Loads a claimed execution, or parks it if it must not or cannot be loaded.
    async fn load(&self, stay: &mut Stay, claimed: Claimed) -> Stage {
        let why_park = stay.attempts.why_park(&self.node, &claimed);
        if let Some(reason) = why_park.or_else(|| self.node.crash_log.why_park(&claimed)) {
            return Stage::Left(self.park(stay, &claimed.head, reason).await);
        }
        match Activation::load(&self.node, (stay.incarnation, claimed), &stay.nudge) {
            Ok(activation) => Stage::Active(Box::new(activation)),
            Err((row, ActivationError::Parked(reason))) => Stage::Left(self.park(stay, &row, reason).await),
            Err((_, error)) => Stage::Left(Err(error)),
        }
    }

    /// After a stay: the claim with which the execution is loaded again. None when it is out of memory.
    async fn next_claim(&self, stay: &mut Stay, left: Result<Exit, ActivationError>) -> Option<Claimed> {
        if matches!(left, Ok(Exit::Released | Exit::ReleasedWithWork)) {
            crate::fail::point("released");
        }
        if left == Ok(Exit::ReleasedWithWork) {
            self.node.wake.now();
        }
        if let Err(error) = left
            && self.holds(stay)
        {
            self.pause(stay, error).await;
            if let Some(claimed) = self.reload(stay).await {
                return Some(claimed);
            }
        }
        let (incarnation, claimed) = self.remove(&stay.key)?;
        self.node.metrics.executions.activations.inc();
        (stay.incarnation, stay.attempts) = (incarnation, Attempts::default());
        Some(claimed)
    }

    /// Whether this node's lease is still the one of the claim.
    fn holds(&self, stay: &Stay) -> bool {
        self.node.lease.holds(stay.incarnation)
    }

    /// Waits before the execution is loaded again.
    async fn pause(&self, stay: &mut Stay, error: ActivationError) {
        match error {
            // The store reports the loss before the lease does. Either the lease ends soon, or the node still has the
            // claim.
            ActivationError::ClaimLost => self.node.runtime.sleep(PAUSE_MIN).await,
            ActivationError::Conflict => {}
            error => {
                self.warnings.line(&*self.node.runtime, |more| {
                    tracing::warn!(execution = %stay.key, cause = %error, more, "an error: it is tried again");
                });
                stay.attempts.failed(&self.node, error);
                stay.attempts.pause(&self.node, &stay.nudge).await;
            }
        }
    }

    /// Reads an execution that this node still holds, retrying as long as the database takes; none when the claim is
    /// lost.
    async fn reload(&self, stay: &Stay) -> Option<Claimed> {
        while self.holds(stay) {
            match self.node.store.load(&stay.key).await {
                Ok(found) => return found.filter(|found| found.owner == Some(stay.incarnation)),
                // Another read would find the same damage, so the execution is parked for a person.
                Err(StoreError::Corrupt(cause)) => {
                    let reason = format!("corrupt-history: {cause}");
                    if self.park_by_key(stay, reason).await {
                        return None;
                    }
                }
                Err(error) => self.warnings.line(&*self.node.runtime, |more| {
                    tracing::warn!(%error, execution = %stay.key, more, "cannot read it again yet");
                }),
            }
            self.node.runtime.sleep(PAUSE_MIN).await;
        }
        None
    }

    /// Called when a stay has ended. Returns the next claim if the execution was claimed again meanwhile; otherwise
    /// removes the execution from memory.
    fn remove(&self, key: &ExecutionKey) -> Option<(Incarnation, Claimed)> {
        let mut active = self.active.lock();
        let next = active.get_mut(key)?.next.take();
        if next.is_none() && active.remove(key) {
            self.node.wake.now();
        }
        next
    }

    /// Parks an execution that cannot be loaded into memory.
    async fn park(&self, stay: &Stay, row: &ExecutionRow, reason: String) -> Result<Exit, ActivationError> {
        match park(&self.node, stay.incarnation, (row, row.position), reason.clone()).await {
            // If the row cannot be written as it was read, the execution is parked by its key alone.
            Err(_) if self.park_by_key(stay, reason).await => Ok(Exit::Released),
            parked => parked,
        }
    }

    /// Parks an execution by its key alone. `false` when the database does not answer, or this node has lost the
    /// execution.
    async fn park_by_key(&self, stay: &Stay, reason: String) -> bool {
        tracing::error!(execution = %stay.key, reason, "parked");
        let park = Command::Park { incarnation: stay.incarnation, reason: reason.clone() };
        let parked = self.node.store.command(&stay.key, park, None).await;
        if matches!(parked, Ok(true)) {
            self.node.metrics.executions.parked(&reason);
        }
        parked.unwrap_or_else(|error| {
            self.warnings.line(&*self.node.runtime, |more| {
                tracing::warn!(%error, execution = %stay.key, more, "cannot park it yet");
            });
            false
        })
    }
}

impl Stay {
    fn new(key: ExecutionKey, incarnation: Incarnation, nudge: Arc<Notify>) -> Self {
        Self { key, incarnation, nudge, attempts: Attempts::default() }
    }
}
