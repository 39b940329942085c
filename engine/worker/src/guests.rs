//! The guests of one activation: which run, which are quiescent, and how long they have been at it.

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

/// How many guests of one execution may wait for a place at once.
const WAITING_MAX: usize = 256;

/// How a turn of a guest ends.
pub(crate) enum TurnEnd {
    /// It is quiescent or has ended: the guest unless it has ended, and what it asked for.
    Complete(Option<Box<dyn Guest>>, Turn),
    /// It had to give its place to another guest; nothing of the turn counts.
    Displaced,
}

/// A guest that stopped moving.
pub(crate) struct Stopped {
    pub(crate) scope: Scope,
    /// Why it stopped, or why the execution cannot go on with it.
    pub(crate) outcome: Result<TurnEnd, ActivationError>,
    /// Which of the turns of this activation it was.
    number: u64,
    /// What it asked for, in the ledger until it has been taken up.
    pub(crate) held: Held,
}

/// What a guest asked for in a turn, as far as it was not taken yet.
pub(crate) struct PendingRequests {
    pub(crate) scope: Scope,
    /// The guest, unless it has ended.
    pub(crate) guest: Option<Box<dyn Guest>>,
    pub(crate) requests: std::vec::IntoIter<Request>,
    pub(crate) end: Option<Result<Json, Failure>>,
    /// All of it, in the ledger.
    pub(crate) _held: Held,
}

/// About how many bytes a turn has brought.
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
        /// Held as long as it waits.
        _stay: IdleGuest,
    },
}

/// What a stretch of a guest may take, and when the present one is over.
#[derive(Clone, Copy)]
struct ActiveTime {
    length: Duration,
    /// By the machine's clock, in milliseconds.
    until: Option<u64>,
}

/// The guests of one activation.
pub(crate) struct Guests {
    node: Arc<Node>,
    id: ExecutionId,
    /// What the execution holds.
    account: Arc<Account>,
    seats: BTreeMap<Scope, GuestSlot>,
    /// How many of the seats are of guests that run.
    moving: usize,
    /// Guests whose turn is over, with what they asked for, in the order in which they stopped.
    asking: VecDeque<PendingRequests>,
    stretches: BTreeMap<Scope, ActiveTime>,
    /// When stretches are over, the earliest first.
    ends: BTreeSet<(u64, Scope)>,
    running: FuturesUnordered<BoxFuture<'static, Option<Stopped>>>,
    /// Turns so far.
    turns: u64,
    /// Those that find no place at the moment.
    unplaced: Arc<UnplacedGuests>,
    /// Hears that some of these should give way.
    pressure: Arc<Pressure>,
}

/// Guests on their way to begin that find no place.
#[derive(Default)]
struct UnplacedGuests {
    count: AtomicUsize,
    more: Notify,
}

/// One of them.
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
    /// No guests yet.
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

    /// How many more guests may begin now. Half of those that may move are told something: they have a place.
    pub(crate) fn room_to_begin(&self) -> usize {
        let unplaced = self.unplaced.count.load(Ordering::Relaxed);
        let moving = self.moving.saturating_sub(unplaced);
        self.moving_max().div_ceil(2).saturating_sub(moving).min(WAITING_MAX.saturating_sub(unplaced))
    }

    /// Whether one more quiescent guest may be told something now.
    pub(crate) fn has_room_to_move(&self) -> bool {
        self.moving.saturating_sub(self.unplaced.count.load(Ordering::Relaxed)) < self.moving_max()
    }

    fn moving_max(&self) -> usize {
        self.node.config.guests_moving_max.max(1)
    }

    /// Comes back when one more finds no place, so that others may move meanwhile.
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

    /// Tells a quiescent guest one outcome and runs it until it is quiescent again.
    pub(crate) fn deliver(&mut self, scope: &Scope, (delivery, repeats): (Delivery, bool)) {
        let Some(GuestSlot::Quiescent { guest, .. }) = self.seats.remove(scope) else { return };
        if let Some(length) = self.stretches.get(scope).filter(|stretch| stretch.until.is_none()).map(|of| of.length) {
            self.set_end(scope, Some(ends(&self.node, length)));
        }
        self.run(scope.clone(), std::future::ready(Ok(guest)), (Some(delivery), repeats));
    }

    /// Runs a turn of a guest, as soon as the guest is there.
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
                    // A mistake of ours: the guest is gone, its execution is rebuilt.
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
        // One guest runs where its execution lives; several spread over the cores.
        if self.running.is_empty() {
            self.running.push(Box::pin(async move { turn.await.ok() }));
        } else {
            let (done, elsewhere) = oneshot::channel();
            let turn = async move { drop(done.send(turn.await)) };
            self.node.runtime.spawn(Box::pin(turn));
            self.running.push(Box::pin(async move { elsewhere.await.ok()?.ok() }));
        }
    }

    /// The next guest that stops; none while none runs.
    pub(crate) async fn next_stopped(&mut self) -> Option<Stopped> {
        loop {
            let Some(stopped) = self.running.next().await? else { continue };
            // Its scope may have been stopped, and begun anew, before this was heard.
            let is_it = |seat: &GuestSlot| matches!(seat, GuestSlot::Running(_, number) if *number == stopped.number);
            if self.seats.get(&stopped.scope).is_some_and(is_it) {
                self.seats.remove(&stopped.scope);
                self.moving -= 1;
                return Some(stopped);
            }
        }
    }

    /// Lines up what a guest asked for.
    pub(crate) fn ask(&mut self, asking: PendingRequests) {
        self.asking.push_back(asking);
    }

    /// The guest whose requests are to be taken now.
    pub(crate) fn asking(&mut self) -> Option<PendingRequests> {
        self.asking.pop_front()
    }

    /// Puts a guest back whose requests were not all taken.
    pub(crate) fn ask_on(&mut self, asking: PendingRequests) {
        self.asking.push_front(asking);
    }

    /// Whether any guest's requests are still to be taken.
    pub(crate) fn any_asking(&self) -> bool {
        !self.asking.is_empty()
    }

    /// Keeps a quiescent guest, of which a rerun repeats so many calls. One that waits durably has ended its stretch.
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

    /// Gives a guest's present stretch its whole length once more.
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

    /// Drops a guest, wherever it is.
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

    /// Comes back when some of the guests should give way.
    pub(crate) fn pressed(&self) -> impl Future<Output = ()> + use<> {
        let pressure = self.pressure.clone();
        async move { pressure.notified().await }
    }

    /// The scopes whose guest only waits and should give way to others.
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

    /// Which guest's stretch is over first, and how soon.
    pub(crate) fn next_overrun(&self) -> Option<(Duration, Scope)> {
        let (until, scope) = self.ends.first()?;
        Some((Duration::from_millis(until.saturating_sub(self.node.runtime.boot_ms())), scope.clone()))
    }
}

/// How long a start may wait for a place before others are asked to give way.
const PATIENCE: Duration = Duration::from_millis(20);

/// Those who wait for long ask more rarely, or thousands of them would ask all the time.
const PATIENCE_MAX: Duration = Duration::from_secs(1);

/// A guest that has asked for so many to go asks those of workflows that have more waiting, urgently.
const ASKED_MAX: u32 = 4;

/// How a guest without a place asks guests that only wait to go: twice as many each time, ever more rarely.
///
/// While other steps find places, a step asks none before it has waited for [`PATIENCE_MAX`], and then only guests that have
/// waited as long. Most of the others are workflows whose steps stand in the same line, and what their reruns cost is
/// taken from those steps.
struct EvictionBackoff {
    is_step: bool,
    patience: Duration,
    wanted: u32,
    /// How many steps had found places when it was looked last.
    admitted: u64,
    /// The last guest that had begun to wait when this one came.
    latest: u64,
}

impl EvictionBackoff {
    fn new(is_step: bool, admitted: u64, latest: u64) -> Self {
        // Places are kept for steps: when none is free, the machine is more likely busy than stuck.
        let patience = if is_step { PATIENCE * 9 } else { Duration::ZERO };
        Self { is_step, patience, wanted: 1, admitted, latest }
    }

    fn request(&self) -> EvictionPriority {
        if self.is_step { EvictionPriority::Urgent } else { EvictionPriority::Polite }
    }

    /// It has waited in vain, and so many steps have found places by now. Says how many guests to ask, if any: those that
    /// began to wait up to this number.
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

/// Starts a guest. When all places are taken, guests that only wait are asked to go: a guest that waits for a place must in
/// the end hold none that it can do without, or all of them could wait for each other.
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

/// When a stretch that begins now is over.
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

    /// How long it waits before each of its first six looks, how many it then asks, and up to which number.
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
