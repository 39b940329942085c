//! One stay of an execution in memory: history → guests → perform → commit → hibernate. The file to read first.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cerebelum_history::{Action, Event, Execution, Failure, Message, Position, Scope, kind};
use cerebelum_sandbox::{Held, Moving};
use cerebelum_store::{Claimed, ExecutionKey, ExecutionRow, Incarnation};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::activation_error::ActivationError;
use crate::appender::{Appended, CLAIM_LOST};
use crate::commit::{InFlight, answer_of};
use crate::effects::{Arrived, Effect};
use crate::engine_error::EngineError;
use crate::env::Runtime;
use crate::eviction::EvictionPriority;
use crate::guests::{Guests, Stopped};
use crate::journals::ChunkIndex;
use crate::node::Node;
use crate::requests::{FetchAnswer, Requests};
use crate::restore;
use crate::run_ahead::RunAheadLimit;

/// A history of at least this many bytes is loaded only when the ledger has room for it.
const LONG_BYTES: u64 = 1 << 20;
/// How often an execution that waits for room checks whether it may go on.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Why an activation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The claim was given back with the last batch: the execution hibernates, has ended or is parked.
    Released,
    /// The same, but the next claimant has something to do: a new run, or a message that arrived meanwhile.
    ReleasedWithWork,
    /// The store refused a batch. Nothing of the batch happened, and memory is rebuilt from the store (L5).
    Rebuild,
    /// The engine's own fault. Memory is rebuilt from the store after a pause.
    EngineError(EngineError),
    /// Another node has the claim.
    Lost,
}

/// An event that an activation waits for.
enum Wakeup {
    /// Guests have made more requests than one round takes.
    Asking,
    Stopped(Stopped),
    Fetched(FetchAnswer),
    Committed(Option<Appended>),
    Nudged,
    Due,
    TimedOut(Scope),
    Pressed,
    Idle,
}

/// An execution that begins, and the channel that is notified when it is stored.
pub(crate) struct NewActivation {
    pub(crate) head: ExecutionRow,
    pub(crate) execution: Execution,
    /// The memory that it holds in the ledger.
    pub(crate) held: Held,
    pub(crate) stored: oneshot::Sender<Ack>,
}

/// A start that is not durable yet.
pub(crate) struct PendingStart {
    pub(crate) stored: oneshot::Sender<Ack>,
    /// A permit: a limited number of executions may run ahead of their own start.
    _turn: OwnedSemaphorePermit,
}

/// Sent once the first batch of an execution is durable.
pub(crate) struct Ack;

/// An execution in memory, with its guests.
pub(crate) struct Activation {
    pub(crate) node: Arc<Node>,
    pub(crate) key: ExecutionKey,
    pub(crate) incarnation: Incarnation,
    pub(crate) head: ExecutionRow,
    pub(crate) execution: Execution,
    /// Set until the first batch of an execution that begins here is durable.
    pub(crate) starting: Option<PendingStart>,
    pub(crate) guests: Guests,
    pub(crate) requests: Requests,
    pub(crate) received: BTreeSet<i64>,
    /// The last stored position; 0 while nothing of the execution is stored.
    pub(crate) stored: Position,
    pub(crate) in_flight: Option<InFlight>,
    /// Since when changes are held back, by the machine's boot-time clock.
    pub(crate) held_since_ms: Option<u64>,
    /// The positions of the stored events of open steps.
    pub(crate) chunk_index: ChunkIndex,
    ahead: RunAheadLimit,
    /// The memory that the execution holds, in the ledger.
    held: Held,
    nudges: mpsc::UnboundedReceiver<()>,
}

impl Activation {
    /// Loads an execution that this node has claimed.
    pub(crate) fn new(
        node: Arc<Node>,
        (incarnation, claimed): (Incarnation, Claimed),
        nudges: mpsc::UnboundedReceiver<()>,
    ) -> Result<Self, (Box<ExecutionRow>, String, mpsc::UnboundedReceiver<()>)> {
        let execution = match restore::execution(&claimed) {
            Ok(execution) => execution,
            Err(cause) => return Err((Box::new(claimed.head), cause, nudges)),
        };
        let held = node.ledger.account().hold(0);
        let mut activation = Self::of(node, incarnation, (claimed.head, execution, held), nudges);
        activation.stored = activation.head.position;
        activation.chunk_index = ChunkIndex::new(activation.stored.next());
        for row in claimed.inbox {
            if let Err(cause) = activation.receive(row.seq, row.seen, &row.message) {
                return Err((Box::new(activation.head), cause, activation.nudges));
            }
        }
        Ok(activation)
    }

    /// Begins a new execution. It runs ahead of its own first batch.
    pub(crate) fn begin(
        node: Arc<Node>,
        (incarnation, begins, turn): (Incarnation, NewActivation, OwnedSemaphorePermit),
        nudges: mpsc::UnboundedReceiver<()>,
    ) -> Self {
        let NewActivation { head, execution, held, stored } = begins;
        let mut activation = Self::of(node, incarnation, (head, execution, held), nudges);
        activation.starting = Some(PendingStart { stored, _turn: turn });
        activation
    }

    fn of(
        node: Arc<Node>,
        incarnation: Incarnation,
        (head, execution, held): (ExecutionRow, Execution, Held),
        nudges: mpsc::UnboundedReceiver<()>,
    ) -> Self {
        Self {
            key: head.key.clone(),
            guests: Guests::new(node.clone(), head.key.id.clone(), held.account().clone()),
            chunk_index: ChunkIndex::new(Position(1)),
            requests: Requests::new(&node),
            ahead: RunAheadLimit::new(node.bytes_ahead.clone()),
            held,
            node,
            incarnation,
            head,
            execution,
            starting: None,
            received: BTreeSet::new(),
            stored: Position(0),
            in_flight: None,
            held_since_ms: None,
            nudges,
        }
    }

    /// Runs until the execution hibernates, ends or is lost to another node. Returns the channel of nudges as well.
    pub(crate) async fn live(mut self) -> (Exit, mpsc::UnboundedReceiver<()>) {
        let over = loop {
            match self.advance().await {
                Ok(()) => {}
                Err(ActivationError::Exit(over)) => break over,
                Err(ActivationError::Parked(reason)) => break self.park(reason).await,
                Err(ActivationError::Engine(trouble)) => match self.store_start().await {
                    Ok(()) => break Exit::EngineError(trouble),
                    Err(over) => break over,
                },
            }
        };
        self.guests.clear();
        (self.settle(over).await, self.nudges)
    }

    /// One round: fire due timers, run guests, perform actions, commit, then wait for the next event.
    async fn advance(&mut self) -> Result<(), ActivationError> {
        if self.is_leaving() {
            return self.await_release().await;
        }
        self.weigh();
        // Before the clock is read: the deadline by which the execution failed no longer applies.
        self.reopen_if_asked().await?;
        self.execution.tick(self.node.clock.moment());
        self.take_requests().await?;
        self.begin_guests().await?;
        self.deliver()?;
        self.perform().await?;
        self.commit().await?;
        match self.next_happening().await {
            Wakeup::Asking => Ok(()),
            Wakeup::Stopped(stopped) => self.take_turn(stopped),
            Wakeup::Fetched(answered) => self.take_answer(answered),
            Wakeup::Committed(answer) => self.take_receipt(answer).await,
            Wakeup::Nudged => self.read_inbox().await,
            Wakeup::TimedOut(scope) => self.timed_out(&scope),
            Wakeup::Pressed => {
                let request = if self.is_idle() { EvictionPriority::Polite } else { EvictionPriority::Urgent };
                self.give_way(self.guests.asked_to_go(request));
                if self.held.account().has_room() { Ok(()) } else { self.hibernate().await }
            }
            Wakeup::Due => Ok(()),
            Wakeup::Idle => self.hibernate().await,
        }
    }

    /// Starts the guests that are needed, as many as may move at once, each from its part of the history.
    async fn begin_guests(&mut self) -> Result<(), ActivationError> {
        // Their events go to the log, so guests that are started again and again must not exceed the run-ahead limit.
        if self.ahead.is_full(&self.execution) {
            return Ok(());
        }
        let wanted = self.execution.first_wanted(self.guests.room_to_begin());
        if wanted.is_empty() {
            return Ok(());
        }
        let from = |scope: Scope| Some((scope.clone(), self.execution.journal_from(&scope)?));
        let from: Vec<(Scope, Position)> = wanted.iter().cloned().filter_map(from).collect();
        let _loading = self.room_to_load(&wanted).await;
        let journals = self.journals(&from).await?;
        for scope in wanted {
            let digest = self.execution.component(&scope).clone();
            let program = self.node.directory.program(self.key.tenant, &digest).await?;
            let stored = journals.get(&scope).map_or(&[][..], Vec::as_slice);
            if stored.len() > usize::from(scope.is_root()) {
                self.node.metrics.replays.inc();
                crate::fail::point("replaying");
            }
            let stored: Vec<(Position, &Event)> = stored.iter().map(|(position, event)| (*position, event)).collect();
            let Some(begin) = self.execution.begin_with(&scope, &stored) else { continue };
            let stretch = self.execution.active_ms_max(&scope).map(Duration::from_millis);
            let repeats = self.execution.is_repeating(&scope);
            self.guests.begin(scope, (program, begin), (stretch, repeats));
        }
        Ok(())
    }

    /// Waits for room for a long history. The memory is held while the history is read.
    async fn room_to_load(&mut self, wanted: &[Scope]) -> Option<(Held, Moving)> {
        const COPIES: u64 = 2;
        let bytes = self.execution.history_bytes();
        if bytes < LONG_BYTES || !wanted.iter().any(Scope::is_root) {
            return None;
        }
        loop {
            let account = self.held.account();
            if let Some(moving) = account.may_move(bytes * COPIES) {
                return Some((account.hold(bytes * COPIES), moving));
            }
            // The execution that has the turn may stand still because it needs something that this one holds.
            let _ = self.node.runtime.within(LOOK_AGAIN, self.node.ledger.freed()).await;
        }
    }

    /// Updates the memory that the execution holds in the ledger.
    pub(crate) fn weigh(&mut self) {
        self.held.set(self.execution.held_bytes());
        if !self.guests.any_running() {
            self.held.account().rest();
        }
    }

    pub(crate) async fn events(&mut self, from: Position, to: Position) -> Result<Vec<Event>, ActivationError> {
        if to < from {
            return Ok(Vec::new());
        }
        let events = restore::events(&*self.node.store, &self.key, self.head.run, (from, to)).await?;
        self.node.metrics.events_read.inc_by(events.len() as u64);
        Ok(events)
    }

    /// Delivers the next outcome to each quiescent guest, as far as the run-ahead limit allows and as many guests as
    /// may move at once.
    fn deliver(&mut self) -> Result<(), ActivationError> {
        let events_max = self.node.config.run_ahead_events_max;
        while self.guests.has_room_to_move() {
            let Some(scope) = self.execution.next_to_tell().cloned() else { break };
            let sent_ms = self.in_flight.as_ref().map(|batch| self.node.clock.boot_ms() - batch.sent_boot_ms);
            if self.ahead.is_exceeded(&self.execution, events_max, sent_ms) {
                break;
            }
            if let Some(delivery) = self.execution.next_delivery(&scope, self.node.clock.moment())? {
                let repeats = self.execution.is_repeating(&scope);
                self.guests.deliver(&scope, (delivery, repeats));
            }
        }
        Ok(())
    }

    /// Performs the execution's actions: stops guests, and sends requests through [`crate::effects`].
    async fn perform(&mut self) -> Result<(), ActivationError> {
        self.requests.hold_back(&mut self.execution);
        for action in self.execution.take_actions() {
            match action {
                Action::Stop(scope) => self.guests.stop(&scope),
                Action::Fetch { call, opened, request, key, lsn } => {
                    if self.requests.has(&call, opened) {
                        continue;
                    }
                    let digest = self.execution.component(&call.scope).clone();
                    let program = self.node.directory.program(self.key.tenant, &digest).await?;
                    let grants = crate::env::Grants {
                        hosts: program.manifest().hosts.clone(),
                        secrets: program.manifest().secrets.clone(),
                    };
                    let effect = Effect { request, key, grants };
                    let by = (self.node.clone(), self.incarnation);
                    self.requests.send(by, (call, opened), effect, lsn);
                }
            }
        }
        Ok(())
    }

    async fn next_happening(&mut self) -> Wakeup {
        let alarm = self.next_alarm();
        let may_take = self.may_take_requests();
        let (pressed, one_seeks) = (self.guests.pressed(), self.guests.one_seeks());
        tokio::select! {
            biased;
            () = self.node.lease.ended(self.incarnation) => Wakeup::Committed(Some(Err(CLAIM_LOST))),
            answer = answer_of(&mut self.in_flight) => Wakeup::Committed(answer),
            () = std::future::ready(()), if may_take => Wakeup::Asking,
            Some(stopped) = self.guests.next_stopped() => Wakeup::Stopped(stopped),
            Some(answered) = self.requests.next() => Wakeup::Fetched(answered),
            Some(()) = self.nudges.recv() => Wakeup::Nudged,
            () = pressed => Wakeup::Pressed,
            () = one_seeks => Wakeup::Due,
            happening = ring(&*self.node.runtime, alarm) => happening,
        }
    }

    /// The next event that time alone brings, and how soon.
    fn next_alarm(&self) -> Option<(Duration, Wakeup)> {
        let due = self.execution.due().map(|due| (self.node.clock.until(due), Wakeup::Due));
        let overrun = self.guests.next_overrun().map(|(left, scope)| (left, Wakeup::TimedOut(scope)));
        let idle = self.in_flight.is_none() && self.is_idle();
        // When memory is short, an idle execution hibernates at once.
        let rests = if self.held.account().has_room() { self.node.config.hibernate_after } else { Duration::ZERO };
        let idle = idle.then_some((rests, Wakeup::Idle));
        let held = self.hold_left().map(|left| (left, Wakeup::Due));
        [due, overrun, idle, held].into_iter().flatten().min_by_key(|(left, _)| *left)
    }

    fn take_answer(&mut self, (call, opened, arrived): FetchAnswer) -> Result<(), ActivationError> {
        let Some(Arrived { result, held }) = arrived else { return Err(ActivationError::Exit(Exit::Lost)) };
        // The answer to a request that its step no longer waits for is dropped.
        if self.requests.strike(&call, opened) {
            self.execution.fetched(&call, result, self.node.clock.moment());
            self.requests.hold(self.execution.lsn(), held);
        }
        Ok(())
    }

    /// Evicts guests that only wait, because others need their slots. They are rerun when there is something to deliver
    /// to them.
    pub(crate) fn give_way(&mut self, scopes: Vec<Scope>) {
        for scope in scopes {
            self.guests.stop(&scope);
            self.execution.forget(&scope);
        }
    }

    /// A step has exceeded its timeout between two durable waits.
    fn timed_out(&mut self, scope: &Scope) -> Result<(), ActivationError> {
        let is_hindered = !self.execution.is_durable() || !self.held.account().has_room();
        if is_hindered || self.requests.await_turn(scope) {
            // The time in which the engine waits for its database, for memory or for a request's turn does not count
            // for the step.
            self.guests.extend(scope);
            return Ok(());
        }
        self.guests.stop(scope);
        let limit = self.execution.active_ms_max(scope).unwrap_or_default();
        let failure =
            Failure::retryable(kind::TIMEOUT, format!("the step took longer than {limit} ms between two waits"));
        self.execution.timed_out(scope, failure, self.node.clock.moment());
        Ok(())
    }

    pub(crate) async fn read_inbox(&mut self) -> Result<(), ActivationError> {
        while self.nudges.try_recv().is_ok() {}
        for row in self.node.store.unseen(&self.key).await? {
            self.receive(row.seq, row.seen, &row.message).map_err(ActivationError::Parked)?;
        }
        Ok(())
    }

    fn receive(&mut self, seq: i64, seen: bool, message: &str) -> Result<(), String> {
        if !self.received.insert(seq) {
            return Ok(());
        }
        let message: Message = serde_json::from_str(message)
            .map_err(|e| format!("corrupt-history: a message that cannot be read: {e}"))?;
        self.execution.receive(seq, seen, message, self.node.clock.moment());
        Ok(())
    }

    /// An operator has resumed a failed execution: the call that failed is opened again.
    async fn reopen_if_asked(&mut self) -> Result<(), ActivationError> {
        if !self.execution.is_reopening() {
            return Ok(());
        }
        let history = self.events(Position(1), self.execution.saved()).await?;
        self.execution.reopen_if_asked(&history, self.node.clock.moment()).map_err(ActivationError::Parked)
    }
}

async fn ring(runtime: &dyn Runtime, alarm: Option<(Duration, Wakeup)>) -> Wakeup {
    match alarm {
        Some((left, happening)) => {
            runtime.sleep(left).await;
            happening
        }
        None => std::future::pending().await,
    }
}
