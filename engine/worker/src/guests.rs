//! The guests of one activation: which of them run or are quiescent, and for how long they have been active.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cerebelum_history::{Delivery, Failure, GuestInput, Json, Request, Scope, Turn};
use cerebelum_sandbox::{Account, GuestOwner, Held, HostError};
use cerebelum_store::{ExecutionKey, TenantId};
use futures::future::{AbortHandle, Abortable, BoxFuture, lazy};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::sync::oneshot;

use crate::activation_error::ActivationError;
use crate::admission::{self, Admitted, WaitingGuests};
use crate::clock::millis;
use crate::computing::{Polled, TurnLengths};
use crate::env::Program;
use crate::eviction::{EvictionPriority, IdleEntry, IdleGuest, Pressure};
use crate::metrics::scope_of;
use crate::node::Node;
use crate::poison::Isolation;

/// How many guests of one execution may wait for admission at once.
const WAITING_MAX: usize = 256;

/// The end of a guest's turn.
pub(crate) enum TurnEnd {
    /// The guest is quiescent or has ended: the guest, unless it has ended, and its turn.
    Complete(Option<Admitted>, Turn),
    /// The guest was displaced by another guest. Nothing of the turn counts.
    Displaced,
}

/// A guest that stopped moving.
pub(crate) struct Stopped {
    pub(crate) scope: Scope,
    /// How its turn ended, or why the execution cannot go on with it.
    pub(crate) outcome: Result<TurnEnd, ActivationError>,
    /// The number of the turn within this activation.
    number: u64,
    /// Its requests, accounted in the ledger until they are taken.
    pub(crate) held: Held,
}

/// The requests of a guest's turn that were not taken yet.
pub(crate) struct PendingRequests {
    pub(crate) scope: Scope,
    /// The guest, unless it has ended.
    pub(crate) guest: Option<Admitted>,
    pub(crate) requests: std::vec::IntoIter<Request>,
    pub(crate) end: Option<Result<Json, Failure>>,
    /// The memory of the turn, in the ledger.
    pub(crate) _held: Held,
}

/// The approximate size of a turn's requests and output, in bytes.
fn weight(turn: &Turn) -> u64 {
    let of = |request: &Request| match request {
        Request::Call(_, call) => call.weight(),
        Request::Drop(_) => 0,
        Request::Log(_, text) | Request::Progress(_, text) => text.len(),
        Request::SetAttribute(_, name, value) => name.len() + value.as_str().len(),
    };
    let asked: usize = turn.requests.iter().map(|request| of(request) + size_of::<Request>()).sum();
    let output = turn.end.iter().flatten().map(|output| output.as_str().len()).sum::<usize>();
    (asked + output) as u64
}

enum GuestSlot {
    Running {
        abort: AbortHandle,
        /// The number of the turn.
        number: u64,
        /// Whether the guest has begun to move: until then it waits for a slot or for a thread.
        has_begun: Arc<AtomicBool>,
    },
    Quiescent {
        guest: Admitted,
        /// Kept as long as the guest is idle.
        _idle: IdleGuest,
    },
}

/// The limit on a step's active time between two durable waits, and when the current one is reached.
#[derive(Clone, Copy)]
struct ActiveTime {
    length: Duration,
    /// By the machine's boot-time clock, in milliseconds.
    until: Option<u64>,
}

/// The guests of one activation.
pub(crate) struct Guests {
    node: Arc<Node>,
    tenant: TenantId,
    /// What is known of how long its guests' turns compute.
    lengths: Arc<TurnLengths>,
    /// The execution's key as text, for the crash log.
    key: Arc<str>,
    owner: GuestOwner,
    /// The execution's account in the ledger.
    account: Arc<Account>,
    slots: BTreeMap<Scope, GuestSlot>,
    /// How many of the slots are `Running`.
    moving: usize,
    /// Guests whose turn has ended, with their pending requests, in the order in which they stopped.
    pending: VecDeque<PendingRequests>,
    active_times: BTreeMap<Scope, ActiveTime>,
    /// The times at which active times are exceeded, earliest first.
    ends: BTreeSet<(u64, Scope)>,
    running: FuturesUnordered<BoxFuture<'static, Option<Stopped>>>,
    /// The number of turns so far.
    turns: u64,
    /// The guests that wait for admission.
    waiting: Arc<WaitingGuests>,
    /// Notified when some of these guests are asked to leave.
    pressure: Arc<Pressure>,
}

impl Guests {
    /// Creates the set without guests.
    pub(crate) fn new(node: Arc<Node>, (key, workflow): (&ExecutionKey, String), account: Arc<Account>) -> Self {
        Self {
            node,
            tenant: key.tenant,
            lengths: Arc::default(),
            key: key.to_string().into(),
            owner: account.owner_of(&workflow),
            account,
            slots: BTreeMap::new(),
            moving: 0,
            pending: VecDeque::new(),
            active_times: BTreeMap::new(),
            ends: BTreeSet::new(),
            running: FuturesUnordered::new(),
            turns: 0,
            waiting: Arc::default(),
            pressure: Arc::default(),
        }
    }

    /// How many more guests may start now. Half of the moving guests' limit is reserved for guests that are running
    /// already.
    pub(crate) fn room_to_begin(&self) -> usize {
        let waiting = self.waiting.count();
        let moving = self.moving.saturating_sub(waiting);
        self.moving_max().div_ceil(2).saturating_sub(moving).min(WAITING_MAX.saturating_sub(waiting))
    }

    /// Whether an outcome may be delivered to one more quiescent guest now.
    pub(crate) fn has_room_to_move(&self) -> bool {
        self.moving.saturating_sub(self.waiting.count()) < self.moving_max()
    }

    fn moving_max(&self) -> usize {
        self.node.config.guests_moving_max.max(1)
    }

    /// Returns when one more guest waits for admission, so that others may move meanwhile.
    pub(crate) fn one_more_waits(&self) -> impl Future<Output = ()> + use<> {
        let waiting = self.waiting.clone();
        async move { waiting.one_more().await }
    }

    /// Starts a guest and runs it until it is quiescent.
    pub(crate) fn begin(
        &mut self,
        scope: Scope,
        (program, begin): (Arc<dyn Program>, GuestInput),
        (active_max, repeats): (Option<Duration>, bool),
    ) {
        if let Some(length) = active_max {
            self.active_times.insert(scope.clone(), ActiveTime { length, until: None });
            self.set_end(&scope, Some(self.deadline(length)));
        }
        let (node, waiting) = (self.node.clone(), self.waiting.clone());
        let program = (program, self.account.clone(), self.owner.clone());
        let guest = async move { admission::start(&node, &waiting, program, begin).await };
        self.run(scope, guest, (None, repeats));
    }

    /// Delivers one outcome to a quiescent guest and runs it until it is quiescent again.
    pub(crate) fn deliver(&mut self, scope: &Scope, (delivery, repeats): (Delivery, bool)) {
        let Some(GuestSlot::Quiescent { guest, .. }) = self.slots.remove(scope) else { return };
        if let Some(length) =
            self.active_times.get(scope).filter(|active| active.until.is_none()).map(|active| active.length)
        {
            self.set_end(scope, Some(self.deadline(length)));
        }
        self.run(scope.clone(), std::future::ready(Ok(guest)), (Some(delivery), repeats));
    }

    /// Runs a turn of a guest as soon as the guest is available.
    fn run(
        &mut self,
        scope: Scope,
        guest: impl Future<Output = Result<Admitted, HostError>> + Send + 'static,
        (delivery, repeats): (Option<Delivery>, bool),
    ) {
        let (abort, registration) = AbortHandle::new_pair();
        self.turns += 1;
        let number = self.turns;
        self.moving += 1;
        let has_begun = Arc::new(AtomicBool::new(false));
        self.slots.insert(scope.clone(), GuestSlot::Running { abort, number, has_begun: has_begun.clone() });
        let (node, key, account) = (self.node.clone(), self.key.clone(), self.account.clone());
        let begin = self.node.computing.begin(self.tenant, &self.lengths);
        let turn_begins = begin.clone();
        let turn = Abortable::new(
            async move {
                crate::fail::point(if scope.is_root() { "workflow-running" } else { "step-running" });
                let turn = async {
                    let waits = node.isolation.held_while_waiting().await;
                    let mut admitted = guest.await?;
                    drop(waits);
                    turn_begins.give_way().await;
                    let begins = lazy(|_| has_begun.store(true, Ordering::Relaxed));
                    let turn = begins.then(|()| admitted.guest.turn(delivery, repeats));
                    let turn = Polled::new(&*node.runtime, turn);
                    let (turn, computed) = node.isolation.run(&node.crash_log, key, turn).await;
                    node.metrics.guests.compute.at(scope_of(&scope)).observe(computed.as_secs_f64());
                    Ok((admitted, turn?))
                };
                let turned: Result<Result<_, HostError>, _> = AssertUnwindSafe(turn).catch_unwind().await;
                let outcome = match turned {
                    Ok(Ok((admitted, turn))) => {
                        Ok(TurnEnd::Complete(Some(admitted).filter(|_| turn.end.is_none()), turn))
                    }
                    Ok(Err(HostError::Displaced)) => Ok(TurnEnd::Displaced),
                    Ok(Err(error)) => Err(ActivationError::from(error)),
                    // A bug in the engine: the guest is lost, and its execution is rebuilt.
                    Err(_) => Err(ActivationError::Panic("the engine panicked while it ran a guest".to_owned())),
                };
                let held = account.hold(match &outcome {
                    Ok(TurnEnd::Complete(_, turn)) => weight(turn),
                    Ok(TurnEnd::Displaced) | Err(_) => 0,
                });
                Stopped { scope, outcome, number, held }
            },
            registration,
        );
        let turn = begin.turn(turn);
        // A single guest runs on its activation's task; several are spread over the cores.
        if self.running.is_empty() {
            self.running.push(Box::pin(async move { turn.await?.ok() }));
        } else {
            let (done, elsewhere) = oneshot::channel();
            let turn = async move { drop(done.send(turn.await)) };
            self.node.runtime.spawn(Box::pin(self.node.shares.fair(self.tenant, turn)));
            self.running.push(Box::pin(async move { elsewhere.await.ok()??.ok() }));
        }
    }

    /// The next guest that stops; none when no guest runs.
    pub(crate) async fn next_stopped(&mut self) -> Option<Stopped> {
        loop {
            let Some(stopped) = self.running.next().await? else { continue };
            // Its scope may have been stopped, and started again, before this result arrived.
            let is_it =
                |slot: &GuestSlot| matches!(slot, GuestSlot::Running { number, .. } if *number == stopped.number);
            if self.slots.get(&stopped.scope).is_some_and(is_it) {
                self.slots.remove(&stopped.scope);
                self.moving -= 1;
                return Some(stopped);
            }
        }
    }

    /// Queues the requests of a guest that stopped, and its result if it has ended. Returns its scope if it was displaced.
    pub(crate) fn take_turn(&mut self, stopped: Stopped) -> Result<Option<Scope>, ActivationError> {
        let Stopped { scope, outcome, held, .. } = stopped;
        let TurnEnd::Complete(guest, turn) = outcome? else { return Ok(Some(scope)) };
        self.node.metrics.guests.turns.at(scope_of(&scope)).inc();
        let requests = turn.requests.into_iter();
        self.pending.push_back(PendingRequests { scope, guest, requests, end: turn.end, _held: held });
        Ok(None)
    }

    /// The guest whose requests are taken next.
    pub(crate) fn next_pending(&mut self) -> Option<PendingRequests> {
        self.pending.pop_front()
    }

    /// Puts a guest back whose requests were not all taken.
    pub(crate) fn put_back(&mut self, pending: PendingRequests) {
        self.pending.push_front(pending);
    }

    /// Whether requests of any guest are still to be taken.
    pub(crate) fn any_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Keeps a quiescent guest. `calls` is the number of calls that a rerun would repeat. A durable wait ends the
    /// guest's active time.
    pub(crate) fn keep(&mut self, scope: Scope, admitted: Admitted, (calls, waits_durably): (u32, bool)) {
        if waits_durably {
            self.set_end(&scope, None);
        }
        let idle = self.node.idle_guests.enter(IdleEntry {
            scope: scope.clone(),
            owner: self.owner.clone(),
            bytes: admitted.guest.memory_bytes(),
            calls,
            since_ms: admitted.since_ms,
            pressure: self.pressure.clone(),
        });
        self.slots.insert(scope, GuestSlot::Quiescent { guest: admitted, _idle: idle });
    }

    /// Whether this guest cannot move because others do: it waits for a slot or for a thread, or it moves alone and seldom
    /// because it may crash the engine.
    pub(crate) fn waits_for_others(&self, scope: &Scope) -> bool {
        let waits = |slot: &GuestSlot| match slot {
            GuestSlot::Running { has_begun, .. } => {
                !has_begun.load(Ordering::Relaxed) || self.node.crash_log.isolation(&self.key) == Isolation::Exclusive
            }
            GuestSlot::Quiescent { .. } => false,
        };
        self.slots.get(scope).is_some_and(waits)
    }

    /// Grants a guest its whole active time once more.
    pub(crate) fn extend(&mut self, scope: &Scope) {
        if let Some(length) = self.active_times.get(scope).map(|active| active.length) {
            self.set_end(scope, Some(self.deadline(length)));
        }
    }

    /// When an active time of this length is over if it begins now, by the machine's boot-time clock.
    fn deadline(&self, length: Duration) -> u64 {
        self.node.runtime.boot_ms().saturating_add(millis(length))
    }

    fn set_end(&mut self, scope: &Scope, until: Option<u64>) {
        let Some(active) = self.active_times.get_mut(scope) else { return };
        if let Some(before) = std::mem::replace(&mut active.until, until) {
            self.ends.remove(&(before, scope.clone()));
        }
        self.ends.extend(until.map(|until| (until, scope.clone())));
    }

    /// Drops a guest in any state.
    pub(crate) fn stop(&mut self, scope: &Scope) {
        self.set_end(scope, None);
        self.active_times.remove(scope);
        self.pending.retain(|pending| pending.scope != *scope);
        if let Some(GuestSlot::Running { abort, .. }) = self.slots.remove(scope) {
            self.moving -= 1;
            abort.abort();
        }
    }

    /// Drops all guests.
    pub(crate) fn clear(&mut self) {
        for slot in std::mem::take(&mut self.slots).into_values() {
            if let GuestSlot::Running { abort, .. } = slot {
                abort.abort();
            }
        }
        self.moving = 0;
        self.pending.clear();
        self.running.clear();
        self.active_times.clear();
        self.ends.clear();
    }

    /// Returns when some of the guests are asked to leave.
    pub(crate) fn eviction_asked(&self) -> impl Future<Output = ()> + use<> {
        let pressure = self.pressure.clone();
        async move { pressure.notified().await }
    }

    /// The scopes whose idle guests are asked to leave.
    pub(crate) fn to_evict(&self, priority: EvictionPriority) -> Vec<Scope> {
        self.pressure.asked(priority)
    }

    /// The scopes whose guest is quiescent.
    pub(crate) fn quiescent(&self) -> Vec<Scope> {
        let quiescent =
            |(scope, slot): (&Scope, &GuestSlot)| matches!(slot, GuestSlot::Quiescent { .. }).then(|| scope.clone());
        self.slots.iter().filter_map(quiescent).collect()
    }

    /// Whether any guest moves, or has requests that were not taken yet.
    pub(crate) fn any_running(&self) -> bool {
        self.moving > 0 || self.any_pending()
    }

    /// The guest that exceeds its active time next, and how soon.
    pub(crate) fn next_overrun(&self) -> Option<(Duration, Scope)> {
        let (until, scope) = self.ends.first()?;
        Some((Duration::from_millis(until.saturating_sub(self.node.runtime.boot_ms())), scope.clone()))
    }
}

impl Drop for Guests {
    fn drop(&mut self) {
        self.clear();
    }
}
