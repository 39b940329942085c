//! The life of one execution in memory, the file to read first: load → replay → turn → record → perform → commit → wait,
//! round after round, until it hibernates or leaves. The scheduler runs the rounds.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cerebelum_history::{Action, Event, Execution, Failure, Position, Scope, kind, planted};
use cerebelum_sandbox::Held;
use cerebelum_store::{Claimed, ExecutionRow, Incarnation};
use tokio::sync::Notify;

use crate::activation_error::{ActivationError, Exit};
use crate::appender::Appended;
use crate::commit::{Claim, ExecutionLog};
use crate::effects::Effect;
use crate::egress_log::Sender;
use crate::eviction::EvictionPriority;
use crate::guests::Guests;
use crate::inbox::{self, Inbox};
use crate::metrics::{REPLAY_EVICTED, REPLAY_LOADED, WAKE_TIMER};
use crate::node::Node;
use crate::record::{awaits_batch, record};
use crate::requests::Requests;
use crate::restore;
use crate::run_ahead::RunAheadLimit;
use crate::wakeup::{Sources, Wakeup};

/// An execution in memory, with its guests.
pub(crate) struct Activation {
    node: Arc<Node>,
    execution: Execution,
    log: ExecutionLog,
    guests: Guests,
    requests: Requests,
    inbox: Inbox,
    ahead: RunAheadLimit,
    /// Guests that were evicted since the execution was loaded, and are not back.
    evicted: BTreeSet<Scope>,
    /// The memory that the execution holds, in the ledger.
    held: Held,
}

impl Activation {
    /// Loads an execution that this node has claimed. The error has its row, and why it has to be parked.
    pub(crate) fn load(
        node: &Arc<Node>,
        (incarnation, claimed): (Incarnation, Claimed),
        nudge: &Arc<Notify>,
    ) -> Result<Self, (Box<ExecutionRow>, ActivationError)> {
        let execution = match restore::execution(&claimed) {
            Ok(execution) => execution,
            Err(cause) => return Err((Box::new(claimed.head), ActivationError::Parked(cause))),
        };
        let log = ExecutionLog::new(node.clone(), (incarnation, claimed.head), None);
        let held = node.ledger.account_of(&log.key().tenant.share()).hold(0);
        let mut activation = Self::new(node, log, (execution, held), nudge);
        match activation.inbox.receive(node, claimed.inbox, &mut activation.execution) {
            Ok(()) => Ok(activation),
            Err(error) => Err((Box::new(activation.log.row), error)),
        }
    }

    /// An execution in memory, with the memory that it holds. Its guests are started when they are needed.
    pub(crate) fn new(
        node: &Arc<Node>,
        mut log: ExecutionLog,
        (execution, held): (Execution, Held),
        nudge: &Arc<Notify>,
    ) -> Self {
        log.tracer = node.traces.as_ref().and_then(|traces| traces.follow(&log.row, &execution, node.clock.now()));
        let of = (&log.row.key, log.row.workflow.clone());
        Self {
            guests: Guests::new(node.clone(), of, held.account().clone()),
            requests: Requests::new(node.clone(), log.incarnation, log.row.key.tenant),
            inbox: Inbox::new(nudge.clone()),
            ahead: RunAheadLimit::new(node.bytes_ahead.clone()),
            evicted: BTreeSet::new(),
            node: node.clone(),
            execution,
            log,
            held,
        }
    }

    /// One round. Returns why the execution left memory, unless it stays.
    pub(crate) async fn round(&mut self) -> Result<Option<Exit>, ActivationError> {
        if self.log.is_leaving() {
            // Work that began now would be thrown away, so none begins.
            let answer = self.log.answer_or_loss().await;
            return self.committed(answer).await;
        }
        if !self.log.is_in_flight() {
            self.node.usages.full.check(self.log.key().tenant)?;
        }
        self.account();
        // Before the clock is read: the deadline by which the execution failed no longer applies.
        inbox::reopen_if_asked(&mut self.execution, &self.log.history, &self.node.clock).await?;
        self.tick();
        self.record().await?;
        self.replay().await?;
        self.turn()?;
        self.perform().await?;
        self.commit().await?;
        let wakeup = self.wait().await;
        self.wake(wakeup).await
    }

    /// Fires the timers whose time has come.
    fn tick(&mut self) {
        let (due, now) = (self.execution.due(), self.node.clock.moment());
        self.execution.tick(now);
        // In a pause nothing fires.
        if let Some(due) = due.filter(|due| *due <= now.at && self.execution.due() != Some(*due)) {
            let late_ms = now.at.since(due);
            self.node.metrics.executions.wake_delay.at(WAKE_TIMER).observe(late_ms as f64 / 1_000.0);
        }
    }

    /// Records what the guests asked for.
    async fn record(&mut self) -> Result<(), ActivationError> {
        record(&self.node, (self.log.key().tenant, &mut self.execution), &mut self.guests).await?;
        self.account();
        Ok(())
    }

    /// Starts the guests that are needed, as many as may move at once, each from its part of the history.
    async fn replay(&mut self) -> Result<(), ActivationError> {
        // Their events go to the log, so guests that are started again and again must not exceed the run-ahead limit.
        if self.ahead.is_full(&self.execution) {
            return Ok(());
        }
        let wanted = self.execution.first_wanted(self.guests.room_to_begin());
        if wanted.is_empty() {
            return Ok(());
        }
        let (journals, _room) = self.log.history.journals(&self.execution, &wanted, self.held.account()).await?;
        if !self.log.is_held() {
            // The next write, or the end of the lease, ends this activation.
            return Ok(());
        }
        for scope in wanted {
            let digest = self.execution.component(&scope);
            let program = self.node.directory.program(self.log.key().tenant, digest).await?;
            let stored = journals.get(&scope).map_or(&[][..], Vec::as_slice);
            let was_evicted = self.evicted.remove(&scope);
            if stored.len() > usize::from(scope.is_root()) {
                let reason = if was_evicted { REPLAY_EVICTED } else { REPLAY_LOADED };
                self.node.metrics.guests.replays.at(reason).inc();
                self.log.tracer.iter_mut().for_each(|tracer| tracer.replays(stored.len()));
                crate::fail::point("replaying");
            }
            let stored: Vec<(Position, &Event)> = stored.iter().map(|(position, event)| (*position, event)).collect();
            let Some(input) = self.execution.begin_with(&scope, &stored) else { continue };
            let active_max = self.execution.active_ms_max(&scope).map(Duration::from_millis);
            let repeats = self.execution.is_repeating(&scope);
            self.guests.begin(scope, (program, input), (active_max, repeats));
        }
        Ok(())
    }

    /// Tells quiescent guests their next outcomes, as far as the run-ahead limit and the guests that may move allow.
    fn turn(&mut self) -> Result<(), ActivationError> {
        let events_max = self.node.config.run_ahead_events_max;
        while self.guests.has_room_to_move() {
            let Some(scope) = self.execution.next_to_tell().cloned() else { break };
            if self.ahead.is_exceeded(&self.execution, events_max, self.log.in_flight_ms()) {
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
                Action::Fetch { call, opened, .. } if self.requests.has(&call, opened) => {}
                Action::Fetch { call, opened, request, key, lsn } => {
                    let digest = self.execution.component(&call.scope);
                    let grants = self.node.directory.grants(self.log.key().tenant, digest).await?;
                    let sender = Sender { key: self.log.key().clone(), scope: call.scope.clone() };
                    let (span, headers) = self.log.span_of_request(&self.execution, &call, (&request, key));
                    let effect = Effect { request, headers, grants, sender, span };
                    self.requests.send((call, opened), effect, lsn);
                }
            }
        }
        Ok(())
    }

    /// Writes the changes, unless a batch is still in flight (L4) or they can wait for more. During a long wait the
    /// execution leaves memory: the same batch gives the claim back.
    async fn commit(&mut self) -> Result<(), ActivationError> {
        if self.log.is_in_flight() || !self.execution.has_changes() {
            return Ok(());
        }
        // Depends on the history alone: it does not matter how long after the beginning of the wait this is.
        let wait = self.execution.due().map(|due| Duration::from_millis(due.since(self.execution.stamp())));
        let wait_is_long = wait.is_some_and(|wait| wait >= self.node.config.hibernate_at_once);
        if self.execution.end().is_some() || (wait_is_long && self.is_idle()) {
            // The guests are no longer needed. Their slots are freed before the disk has answered.
            self.evict(self.guests.quiescent());
            return self.write(Claim::GiveBack).await;
        }
        // A request waits for the log before it leaves, or a quiescent guest before it gets an outcome.
        let is_awaited = self.requests.await_log() || self.execution.holds_any_up();
        if self.log.must_write(self.guests.any_running()) || is_awaited || awaits_batch(&self.guests, &self.execution) {
            self.write(Claim::Keep).await?;
        }
        Ok(())
    }

    async fn write(&mut self, claim: Claim) -> Result<(), ActivationError> {
        self.log.write(&mut self.execution, self.guests.any_running(), claim).await
    }

    /// Waits for the next event.
    async fn wait(&mut self) -> Wakeup {
        let is_idle = !self.log.is_in_flight() && self.is_idle();
        // When memory is short, an idle execution hibernates at once.
        let idle = if self.held.account().has_room() { self.node.config.hibernate_after } else { Duration::ZERO };
        let Self { node, execution, log, guests, requests, inbox, .. } = self;
        Sources { node, execution, log, guests, requests, inbox }.next(is_idle.then_some(idle)).await
    }

    async fn wake(&mut self, wakeup: Wakeup) -> Result<Option<Exit>, ActivationError> {
        match wakeup {
            Wakeup::Requests | Wakeup::Due => {}
            Wakeup::Stopped(stopped) => {
                let displaced = self.guests.take_turn(stopped)?;
                self.make_room(displaced.into_iter().collect());
            }
            Wakeup::Fetched(answer) => {
                let span = self.requests.take_answer(answer, &mut self.execution, self.node.clock.moment())?;
                self.log.answered(span);
            }
            Wakeup::Committed(answer) => return self.committed(answer).await,
            Wakeup::Nudged => self.read_inbox().await?,
            Wakeup::TimedOut(scope) => self.timed_out(&scope),
            Wakeup::EvictionAsked => {
                let priority = if self.is_idle() { EvictionPriority::Polite } else { EvictionPriority::Urgent };
                self.make_room(self.guests.to_evict(priority));
                if !self.held.account().has_room() {
                    self.hibernate().await?;
                }
            }
            Wakeup::Idle => self.hibernate().await?,
        }
        Ok(None)
    }

    /// The batch in flight was written or refused.
    async fn committed(&mut self, answer: Option<Appended>) -> Result<Option<Exit>, ActivationError> {
        let (batch, newest) = match self.log.take_receipt(answer) {
            Err(ActivationError::Conflict) if planted("refused-and-patched") => return Ok(None),
            receipt => receipt?,
        };
        let has_messages = newest > self.inbox.newest();
        if batch.releases {
            return Ok(Some(if batch.continues || has_messages { Exit::ReleasedWithWork } else { Exit::Released }));
        }
        self.execution.acknowledge(batch.lsn, batch.position);
        if has_messages && !planted("pause-not-heard") {
            // A pause or cancel may have been stored before this batch was written (L16).
            self.read_inbox().await?;
        }
        self.requests.hold_back(&mut self.execution);
        self.requests.release(batch.lsn);
        Ok(None)
    }

    /// A step has exceeded its timeout between two durable waits.
    fn timed_out(&mut self, scope: &Scope) {
        // Time in which the engine waits for its database or for memory does not count, nor does that in which others
        // keep the guest or its request from moving.
        let waits_for_others = self.requests.await_turn(scope) || self.guests.waits_for_others(scope);
        if !self.execution.is_durable() || !self.held.account().has_room() || waits_for_others {
            return self.guests.extend(scope);
        }
        self.guests.stop(scope);
        let limit = self.execution.active_ms_max(scope).unwrap_or_default();
        let message = format!("the step took longer than {limit} ms between two waits");
        self.execution.timed_out(scope, Failure::retryable(kind::TIMEOUT, message), self.node.clock.moment());
    }

    /// Gives the claim back when there is nothing to do.
    async fn hibernate(&mut self) -> Result<(), ActivationError> {
        if !self.log.is_in_flight() && self.is_idle() { self.write(Claim::GiveBack).await } else { Ok(()) }
    }

    /// Leaves memory after an error. The error comes back when the execution has to be loaded again.
    pub(crate) async fn exit(&mut self, error: ActivationError) -> Result<Exit, ActivationError> {
        self.log.exit(error, &mut self.execution, &mut self.guests).await
    }

    fn is_idle(&self) -> bool {
        let is_paused = self.execution.is_paused();
        let is_quiet = !self.guests.any_running() && !self.requests.keep_awake(is_paused);
        is_quiet && (is_paused || self.execution.is_settled())
    }

    /// Evicts guests because others need their slots or their memory.
    fn make_room(&mut self, scopes: Vec<Scope>) {
        self.node.metrics.guests.evictions.inc_by(scopes.len() as u64);
        self.evicted.extend(scopes.iter().cloned());
        self.evict(scopes);
    }

    /// Evicts guests that only wait. They are rerun when there is something to tell them.
    fn evict(&mut self, scopes: Vec<Scope>) {
        for scope in scopes {
            self.guests.stop(&scope);
            self.execution.forget(&scope);
        }
    }

    /// Updates the memory that the execution holds in the ledger.
    fn account(&mut self) {
        self.held.set(self.execution.held_bytes());
        if !self.guests.any_running() {
            self.held.account().rest();
        }
    }

    async fn read_inbox(&mut self) -> Result<(), ActivationError> {
        self.inbox.read(&self.node, &self.log.row.key, &mut self.execution).await
    }
}
