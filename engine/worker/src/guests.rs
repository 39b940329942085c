//! The guests of one activation: which of them run or are quiescent, and for how long they have been active.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cerebelum_history::{Delivery, Entry, ExecutionId, Failure, GuestInput, Json, Request, Scope, Turn};
use cerebelum_sandbox::{Account, Held, HostError};
use futures::future::{AbortHandle, Abortable, BoxFuture};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::sync::{Notify, oneshot};

use crate::activation_error::ActivationError;
use crate::env::{Guest, Program};
use crate::eviction::{EvictionPriority, IdleGuest, Pressure};
use crate::node::Node;

/// How many guests of one execution may wait for admission at once.
const WAITING_MAX: usize = 256;

/// The end of a guest's turn.
pub(crate) enum TurnEnd {
    /// The guest is quiescent or has ended: the guest, unless it has ended, and its turn.
    Complete(Option<Box<dyn Guest>>, Turn),
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
    pub(crate) guest: Option<Box<dyn Guest>>,
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
    Running(AbortHandle, u64),
    Quiescent {
        guest: Box<dyn Guest>,
        /// Kept as long as the guest is idle.
        _stay: IdleGuest,
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
    id: ExecutionId,
    /// The execution's account in the ledger.
    account: Arc<Account>,
    seats: BTreeMap<Scope, GuestSlot>,
    /// How many of the slots are `Running`.
    moving: usize,
    /// Guests whose turn has ended, with their pending requests, in the order in which they stopped.
    asking: VecDeque<PendingRequests>,
    stretches: BTreeMap<Scope, ActiveTime>,
    /// The times at which active times are exceeded, earliest first.
    ends: BTreeSet<(u64, Scope)>,
    running: FuturesUnordered<BoxFuture<'static, Option<Stopped>>>,
    /// The number of turns so far.
    turns: u64,
    /// The guests that wait for admission.
    unplaced: Arc<UnplacedGuests>,
    /// Notified when some of these guests are asked to leave.
    pressure: Arc<Pressure>,
}

/// Counts the starting guests that wait for admission.
#[derive(Default)]
struct UnplacedGuests {
    count: AtomicUsize,
    more: Notify,
}

/// A starting guest that waits for admission.
struct Unplaced(Arc<UnplacedGuests>);

impl Unplaced {
    fn new(unplaced: &Arc<UnplacedGuests>) -> Self {
        unplaced.count.fetch_add(1, Ordering::Relaxed);
        unplaced.more.notify_one();
        Self(unplaced.clone())
    }
}

impl Drop for Unplaced {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Guests {
    /// Creates the set without guests.
    pub(crate) fn new(node: Arc<Node>, id: ExecutionId, account: Arc<Account>) -> Self {
        Self {
            node,
            id,
            account,
            seats: BTreeMap::new(),
            moving: 0,
            asking: VecDeque::new(),
            stretches: BTreeMap::new(),
            ends: BTreeSet::new(),
            running: FuturesUnordered::new(),
            turns: 0,
            unplaced: Arc::default(),
            pressure: Arc::default(),
        }
    }

    /// How many more guests may start now. Half of the moving guests' limit is reserved for guests that are running
    /// already.
    pub(crate) fn room_to_begin(&self) -> usize {
        let unplaced = self.unplaced.count.load(Ordering::Relaxed);
        let moving = self.moving.saturating_sub(unplaced);
        self.moving_max().div_ceil(2).saturating_sub(moving).min(WAITING_MAX.saturating_sub(unplaced))
    }

    /// Whether an outcome may be delivered to one more quiescent guest now.
    pub(crate) fn has_room_to_move(&self) -> bool {
        self.moving.saturating_sub(self.unplaced.count.load(Ordering::Relaxed)) < self.moving_max()
    }

    fn moving_max(&self) -> usize {
        self.node.config.guests_moving_max.max(1)
    }

    /// Returns when one more guest waits for admission, so that others may move meanwhile.
    pub(crate) fn one_seeks(&self) -> impl Future<Output = ()> + use<> {
        let unplaced = self.unplaced.clone();
        async move { unplaced.more.notified().await }
    }

    /// Starts a guest and runs it until it is quiescent.
    pub(crate) fn begin(
        &mut self,
        scope: Scope,
        (program, begin): (Arc<dyn Program>, GuestInput),
        (stretch, repeats): (Option<Duration>, bool),
    ) {
        if let Some(length) = stretch {
            self.stretches.insert(scope.clone(), ActiveTime { length, until: None });
            self.set_end(&scope, Some(ends(&self.node, length)));
        }
        let (node, unplaced, account) = (self.node.clone(), self.unplaced.clone(), self.account.clone());
        self.run(scope, async move { start(&node, &unplaced, (program, account), begin).await }, (None, repeats));
    }

    /// Delivers one outcome to a quiescent guest and runs it until it is quiescent again.
    pub(crate) fn deliver(&mut self, scope: &Scope, (delivery, repeats): (Delivery, bool)) {
        let Some(GuestSlot::Quiescent { guest, .. }) = self.seats.remove(scope) else { return };
        if let Some(length) = self.stretches.get(scope).filter(|stretch| stretch.until.is_none()).map(|of| of.length) {
            self.set_end(scope, Some(ends(&self.node, length)));
        }
        self.run(scope.clone(), std::future::ready(Ok(guest)), (Some(delivery), repeats));
    }

    /// Runs a turn of a guest as soon as the guest is available.
    fn run(
        &mut self,
        scope: Scope,
        guest: impl Future<Output = Result<Box<dyn Guest>, HostError>> + Send + 'static,
        (delivery, repeats): (Option<Delivery>, bool),
    ) {
        let (abort, registration) = AbortHandle::new_pair();
        self.turns += 1;
        let number = self.turns;
        self.moving += 1;
        self.seats.insert(scope.clone(), GuestSlot::Running(abort, number));
        let (node, id, account) = (self.node.clone(), self.id.clone(), self.account.clone());
        let turn = Abortable::new(
            async move {
                crate::fail::point(if scope.is_root() { "workflow-running" } else { "step-running" });
                let turn = async {
                    let waits = node.isolation.held_while_waiting().await;
                    let mut guest = guest.await?;
                    drop(waits);
                    let turn = node.isolation.run(&node.crash_log, id, guest.turn(delivery, repeats)).await?;
                    Ok((guest, turn))
                };
                let turned: Result<Result<_, HostError>, _> = AssertUnwindSafe(turn).catch_unwind().await;
                let outcome = match turned {
                    Ok(Ok((guest, turn))) => Ok(TurnEnd::Complete(Some(guest).filter(|_| turn.end.is_none()), turn)),
                    Ok(Err(HostError::Displaced)) => Ok(TurnEnd::Displaced),
                    Ok(Err(trouble)) => Err(ActivationError::from(trouble)),
                    // A bug in the engine: the guest is lost, and its execution is rebuilt.
                    Err(_) => {
                        let cause = "the engine panicked while it ran a guest".to_owned();
                        Err(ActivationError::Engine(crate::engine_error::EngineError::Panic(cause)))
                    }
                };
                let held = account.hold(match &outcome {
                    Ok(TurnEnd::Complete(_, turn)) => weight(turn),
                    Ok(TurnEnd::Displaced) | Err(_) => 0,
                });
                Stopped { scope, outcome, number, held }
            },
            registration,
        );
        // A single guest runs on its activation's task; several are spread over the cores.
        if self.running.is_empty() {
            self.running.push(Box::pin(async move { turn.await.ok() }));
        } else {
            let (done, elsewhere) = oneshot::channel();
            let turn = async move { drop(done.send(turn.await)) };
            self.node.runtime.spawn(Box::pin(turn));
            self.running.push(Box::pin(async move { elsewhere.await.ok()?.ok() }));
        }
    }

    /// The next guest that stops; none when no guest runs.
    pub(crate) async fn next_stopped(&mut self) -> Option<Stopped> {
        loop {
            let Some(stopped) = self.running.next().await? else { continue };
            // Its scope may have been stopped, and started again, before this result arrived.
            let is_it = |seat: &GuestSlot| matches!(seat, GuestSlot::Running(_, number) if *number == stopped.number);
            if self.seats.get(&stopped.scope).is_some_and(is_it) {
                self.seats.remove(&stopped.scope);
                self.moving -= 1;
                return Some(stopped);
            }
        }
    }

    /// Queues a guest's requests.
    pub(crate) fn ask(&mut self, asking: PendingRequests) {
        self.asking.push_back(asking);
    }

    /// The guest whose requests are taken next.
    pub(crate) fn asking(&mut self) -> Option<PendingRequests> {
        self.asking.pop_front()
    }

    /// Puts a guest back whose requests were not all taken.
    pub(crate) fn ask_on(&mut self, asking: PendingRequests) {
        self.asking.push_front(asking);
    }

    /// Whether requests of any guest are still to be taken.
    pub(crate) fn any_asking(&self) -> bool {
        !self.asking.is_empty()
    }

    /// Keeps a quiescent guest. `calls` is the number of calls that a rerun would repeat. A durable wait ends the
    /// guest's active time.
    pub(crate) fn keep(
        &mut self,
        (scope, workflow): (Scope, &str),
        guest: Box<dyn Guest>,
        (calls, waits_durably): (u32, bool),
    ) {
        if waits_durably {
            self.set_end(&scope, None);
        }
        let stay = self.node.warm.enter((&scope, workflow), (guest.memory_bytes(), calls), &self.pressure);
        self.seats.insert(scope, GuestSlot::Quiescent { guest, _stay: stay });
    }

    /// Grants a guest its whole active time once more.
    pub(crate) fn extend(&mut self, scope: &Scope) {
        if let Some(length) = self.stretches.get(scope).map(|stretch| stretch.length) {
            self.set_end(scope, Some(ends(&self.node, length)));
        }
    }

    fn set_end(&mut self, scope: &Scope, until: Option<u64>) {
        let Some(stretch) = self.stretches.get_mut(scope) else { return };
        if let Some(before) = std::mem::replace(&mut stretch.until, until) {
            self.ends.remove(&(before, scope.clone()));
        }
        self.ends.extend(until.map(|until| (until, scope.clone())));
    }

    /// Drops a guest in any state.
    pub(crate) fn stop(&mut self, scope: &Scope) {
        self.set_end(scope, None);
        self.stretches.remove(scope);
        self.asking.retain(|asking| asking.scope != *scope);
        if let Some(GuestSlot::Running(abort, _)) = self.seats.remove(scope) {
            self.moving -= 1;
            abort.abort();
        }
    }

    /// Drops all guests.
    pub(crate) fn clear(&mut self) {
        for seat in std::mem::take(&mut self.seats).into_values() {
            if let GuestSlot::Running(abort, _) = seat {
                abort.abort();
            }
        }
        self.moving = 0;
        self.asking.clear();
        self.running.clear();
        self.stretches.clear();
        self.ends.clear();
    }

    /// Returns when some of the guests are asked to leave.
    pub(crate) fn pressed(&self) -> impl Future<Output = ()> + use<> {
        let pressure = self.pressure.clone();
        async move { pressure.notified().await }
    }

    /// The scopes whose idle guests are asked to leave.
    pub(crate) fn asked_to_go(&self, request: EvictionPriority) -> Vec<Scope> {
        self.pressure.asked(request)
    }

    /// The scopes whose guest is quiescent.
    pub(crate) fn quiescent(&self) -> Vec<Scope> {
        let quiescent =
            |(scope, seat): (&Scope, &GuestSlot)| matches!(seat, GuestSlot::Quiescent { .. }).then(|| scope.clone());
        self.seats.iter().filter_map(quiescent).collect()
    }

    /// Whether any guest moves, or has requests that were not taken yet.
    pub(crate) fn any_running(&self) -> bool {
        self.moving > 0 || self.any_asking()
    }

    /// The guest that exceeds its active time next, and how soon.
    pub(crate) fn next_overrun(&self) -> Option<(Duration, Scope)> {
        let (until, scope) = self.ends.first()?;
        Some((Duration::from_millis(until.saturating_sub(self.node.runtime.boot_ms())), scope.clone()))
    }
}

/// How long a start may wait for admission before other guests are asked to leave.
const PATIENCE: Duration = Duration::from_millis(20);

/// A guest that has waited long asks more rarely; otherwise thousands of them would ask all the time.
const PATIENCE_MAX: Duration = Duration::from_secs(1);

/// A guest that has asked for more than this many evictions also asks, urgently, guests of workflows with more idle
/// memory.
const ASKED_MAX: u32 = 4;

/// How a guest that waits for admission asks idle guests to leave: twice as many each time, at growing intervals.
///
/// While other steps are admitted, a step asks none before it has waited for [`PATIENCE_MAX`], and then only guests
/// that have waited as long. Most of the others are workflows whose steps wait in the same line, and the cost of
/// rerunning them is at the expense of those steps.
struct EvictionBackoff {
    is_step: bool,
    patience: Duration,
    wanted: u32,
    /// How many steps had been admitted at the last check.
    admitted: u64,
    /// The number of the last guest that had become idle when this one started to wait.
    latest: u64,
}

impl EvictionBackoff {
    fn new(is_step: bool, admitted: u64, latest: u64) -> Self {
        // Some slots are reserved for steps: when none of them is free, the machine is more likely busy than stuck.
        let patience = if is_step { PATIENCE * 9 } else { Duration::ZERO };
        Self { is_step, patience, wanted: 1, admitted, latest }
    }

    fn request(&self) -> EvictionPriority {
        if self.is_step { EvictionPriority::Urgent } else { EvictionPriority::Polite }
    }

    /// Called when the guest has waited in vain; `admitted` is the number of steps admitted so far. Returns how many
    /// guests to ask, and the highest number of an idle guest to ask; none if no guest is to be asked.
    fn ask(&mut self, admitted: u64) -> (u32, Option<u64>) {
        let line_moves = self.is_step && std::mem::replace(&mut self.admitted, admitted) != admitted;
        let up_to = match line_moves {
            false => Some(u64::MAX),
            true => Some(self.latest).filter(|_| self.patience == PATIENCE_MAX),
        };
        let wanted = self.wanted;
        self.wanted = wanted.saturating_mul(2);
        self.patience = (self.patience * 2).clamp(PATIENCE, PATIENCE_MAX);
        (wanted, up_to)
    }
}

/// Starts a guest. When all slots are taken, idle guests are asked to leave. An execution that waits for a slot must
/// not keep a slot that it can do without; otherwise all executions could wait for each other.
async fn start(
    node: &Node,
    unplaced: &Arc<UnplacedGuests>,
    (program, account): (Arc<dyn Program>, Arc<Account>),
    begin: GuestInput,
) -> Result<Box<dyn Guest>, HostError> {
    let (is_step, workflow) = (matches!(begin.entry, Entry::Step(_)), begin.workflow.clone());
    let mut start = std::pin::pin!(program.start(begin, account));
    if let Some(started) = node.runtime.within(PATIENCE, &mut start).await {
        return started;
    }
    let _seeking = Unplaced::new(unplaced);
    let mut plea = EvictionBackoff::new(is_step, program.steps_admitted(), node.warm.latest());
    let mut waiting = None;
    loop {
        if let Some(started) = node.runtime.within(plea.patience, &mut start).await {
            return started;
        }
        let _ = waiting.get_or_insert_with(|| node.liveness.waits("a guest for a place"));
        let (wanted, up_to) = plea.ask(program.steps_admitted());
        if let Some(up_to) = up_to {
            node.warm.evict(wanted, plea.request(), up_to);
        }
        if wanted > ASKED_MAX {
            node.warm.evict_among_others(wanted, &workflow);
        }
    }
}

/// When an active time that begins now is exceeded.
fn ends(node: &Node, length: Duration) -> u64 {
    node.runtime.boot_ms().saturating_add(u64::try_from(length.as_millis()).unwrap_or(u64::MAX))
}

impl Drop for Guests {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For the first six requests: how long the guest waits before it, how many guests it asks, and up to which number.
    fn asks(is_step: bool, line_moves: bool) -> Vec<(u128, u32, Option<u64>)> {
        let mut plea = EvictionBackoff::new(is_step, 0, 7);
        let mut look = |admitted| {
            let waited = plea.patience.as_millis();
            let (wanted, up_to) = plea.ask(admitted);
            (waited, wanted, up_to)
        };
        (1..=6).map(|number| look(if line_moves { number } else { 0 })).collect()
    }

    #[test]
    fn a_step_whose_line_moves_asks_late_and_only_those_that_wait_as_long() {
        let all = Some(u64::MAX);
        let standing = [(180, 1), (360, 2), (720, 4), (1_000, 8), (1_000, 16), (1_000, 32)];
        assert_eq!(asks(true, false), standing.map(|(waited, wanted)| (waited, wanted, all)));
        let up_to = [None, None, None, Some(7), Some(7), Some(7)];
        let moving: Vec<_> =
            standing.iter().zip(up_to).map(|((waited, wanted), up_to)| (*waited, *wanted, up_to)).collect();
        assert_eq!(asks(true, true), moving);
        let workflow =
            [(0, 1), (20, 2), (40, 4), (80, 8), (160, 16), (320, 32)].map(|(waited, wanted)| (waited, wanted, all));
        assert_eq!((asks(false, false), asks(false, true)), (workflow.to_vec(), workflow.to_vec()));
    }
}
