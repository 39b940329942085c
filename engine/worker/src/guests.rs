//! The guests of one activation: which run, which are quiescent, and how long they have been at it.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use cerebelum_history::{Begin, Delivery, Entry, ExecutionId, Scope, Turn};
use cerebelum_sandbox::Trouble;
use futures::future::{AbortHandle, Abortable, BoxFuture};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::sync::{Notify, oneshot};

use crate::activation::Stuck;
use crate::node::Node;
use crate::outside::{Guest, Program};
use crate::warm::{Request, Stay};

/// A guest that stopped moving.
pub(crate) struct Stopped {
    pub(crate) scope: Scope,
    /// The guest unless it has ended, and what it asked for; or why the execution cannot go on with it.
    pub(crate) outcome: Result<(Option<Box<dyn Guest>>, Turn), Stuck>,
}

enum Seat {
    Running(AbortHandle),
    Quiescent(Box<dyn Guest>, Stay),
}

/// What a stretch of a guest may take, and when the present one is over.
#[derive(Clone, Copy)]
struct Stretch {
    length: Duration,
    /// By the machine's clock, in milliseconds.
    until: Option<u64>,
}

/// The guests of one activation.
pub(crate) struct Guests {
    node: Arc<Node>,
    id: ExecutionId,
    seats: BTreeMap<Scope, Seat>,
    stretches: BTreeMap<Scope, Stretch>,
    running: FuturesUnordered<BoxFuture<'static, Option<Stopped>>>,
    /// Hears that some of these should give way.
    pressure: Arc<Notify>,
}

impl Guests {
    /// No guests yet. `pressure` hears when some of them should give way.
    pub(crate) fn new(node: Arc<Node>, id: ExecutionId, pressure: Arc<Notify>) -> Self {
        let (seats, stretches, running) = (BTreeMap::new(), BTreeMap::new(), FuturesUnordered::new());
        Self { node, id, seats, stretches, running, pressure }
    }

    /// Starts a guest and runs it until it is quiescent.
    pub(crate) fn begin(
        &mut self,
        scope: Scope,
        (program, begin): (Arc<dyn Program>, Begin),
        stretch: Option<Duration>,
    ) {
        if let Some(length) = stretch {
            let until = Some(ends(&self.node, length));
            self.stretches.insert(scope.clone(), Stretch { length, until });
        }
        let node = self.node.clone();
        self.run(scope, async move { start(&node, program, begin).await }, None);
    }

    /// Tells a quiescent guest one outcome and runs it until it is quiescent again.
    pub(crate) fn deliver(&mut self, scope: &Scope, delivery: Delivery) {
        let Some(Seat::Quiescent(guest, _)) = self.seats.remove(scope) else { return };
        if let Some(stretch) = self.stretches.get_mut(scope) {
            stretch.until.get_or_insert_with(|| ends(&self.node, stretch.length));
        }
        self.run(scope.clone(), std::future::ready(Ok(guest)), Some(delivery));
    }

    /// Runs a turn of a guest, as soon as the guest is there.
    fn run(
        &mut self,
        scope: Scope,
        guest: impl Future<Output = Result<Box<dyn Guest>, Trouble>> + Send + 'static,
        delivery: Option<Delivery>,
    ) {
        let (abort, registration) = AbortHandle::new_pair();
        self.seats.insert(scope.clone(), Seat::Running(abort));
        let (node, id) = (self.node.clone(), self.id.clone());
        let turn = Abortable::new(
            async move {
                crate::fail::point(if scope.is_root() { "workflow-running" } else { "step-running" });
                let turn = async {
                    let waits = node.isolation.held_while_waiting().await;
                    let mut guest = guest.await?;
                    drop(waits);
                    let turn = node.isolation.run(&node.crash_log, id, guest.turn(delivery)).await?;
                    Ok((guest, turn))
                };
                let turned: Result<Result<_, Trouble>, _> = AssertUnwindSafe(turn).catch_unwind().await;
                let outcome = match turned {
                    Ok(Ok((guest, turn))) => Ok((Some(guest).filter(|_| turn.end.is_none()), turn)),
                    Ok(Err(trouble)) => Err(Stuck::from(trouble)),
                    // A mistake of ours: the guest is gone, its execution is rebuilt.
                    Err(_) => {
                        let cause = "the engine panicked while it ran a guest".to_owned();
                        Err(Stuck::Trouble(crate::trouble::Trouble::Panic(cause)))
                    }
                };
                Stopped { scope, outcome }
            },
            registration,
        );
        // One guest runs where its execution lives; several spread over the cores.
        if self.running.is_empty() {
            self.running.push(Box::pin(async move { turn.await.ok() }));
        } else {
            let (done, elsewhere) = oneshot::channel();
            let turn = async move { drop(done.send(turn.await)) };
            self.node.machine.spawn(Box::pin(turn));
            self.running.push(Box::pin(async move { elsewhere.await.ok()?.ok() }));
        }
    }

    /// The next guest that stops; none while none runs.
    pub(crate) async fn next_stopped(&mut self) -> Option<Stopped> {
        loop {
            if let Some(stopped) = self.running.next().await? {
                self.seats.remove(&stopped.scope);
                return Some(stopped);
            }
        }
    }

    /// Keeps a quiescent guest. A guest that waits durably has ended its stretch.
    pub(crate) fn keep(&mut self, scope: Scope, guest: Box<dyn Guest>, waits_durably: bool) {
        if waits_durably && let Some(stretch) = self.stretches.get_mut(&scope) {
            stretch.until = None;
        }
        let stay = self.node.warm.enter(guest.memory_bytes(), &self.pressure);
        self.seats.insert(scope, Seat::Quiescent(guest, stay));
    }

    /// Gives a guest's present stretch its whole length once more.
    pub(crate) fn extend(&mut self, scope: &Scope) {
        if let Some(stretch) = self.stretches.get_mut(scope) {
            stretch.until = Some(ends(&self.node, stretch.length));
        }
    }

    /// Drops a guest, wherever it is.
    pub(crate) fn stop(&mut self, scope: &Scope) {
        self.stretches.remove(scope);
        if let Some(Seat::Running(abort)) = self.seats.remove(scope) {
            abort.abort();
        }
    }

    /// Drops all guests.
    pub(crate) fn clear(&mut self) {
        for seat in std::mem::take(&mut self.seats).into_values() {
            if let Seat::Running(abort) = seat {
                abort.abort();
            }
        }
        self.running.clear();
        self.stretches.clear();
    }

    /// The scopes whose guest only waits and should give way to others.
    pub(crate) fn asked_to_go(&self, request: Request) -> Vec<Scope> {
        let asked = |(scope, seat): (&Scope, &Seat)| match seat {
            Seat::Quiescent(_, stay) if stay.is_asked_to_go(request) => Some(scope.clone()),
            Seat::Quiescent(..) | Seat::Running(_) => None,
        };
        self.seats.iter().filter_map(asked).collect()
    }

    /// The scopes whose guest is quiescent.
    pub(crate) fn quiescent(&self) -> Vec<Scope> {
        let quiescent = |(scope, seat): (&Scope, &Seat)| matches!(seat, Seat::Quiescent(..)).then(|| scope.clone());
        self.seats.iter().filter_map(quiescent).collect()
    }

    /// Whether any guest moves.
    pub(crate) fn any_running(&self) -> bool {
        self.seats.values().any(|seat| matches!(seat, Seat::Running(_)))
    }

    /// Which guest's stretch is over first, and how soon.
    pub(crate) fn next_overrun(&self) -> Option<(Duration, Scope)> {
        let ends = self.stretches.iter().filter_map(|(scope, stretch)| Some((stretch.until?, scope)));
        let (until, scope) = ends.min()?;
        Some((Duration::from_millis(until.saturating_sub(self.node.machine.boot_ms())), scope.clone()))
    }
}

/// How long a start may wait for a place before others are asked to give way.
const PATIENCE: Duration = Duration::from_millis(20);

/// Those who wait for long ask more rarely, or thousands of them would ask all the time.
const PATIENCE_MAX: Duration = Duration::from_secs(1);

/// Starts a guest. When all places are taken, guests that only wait are asked to go, twice as many each time: whoever
/// waits for a place must in the end hold none that it can do without, or all of them could wait for each other.
async fn start(node: &Node, program: Arc<dyn Program>, begin: Begin) -> Result<Box<dyn Guest>, Trouble> {
    let (request, mut patience) = match begin.entry {
        Entry::Workflow(_) => (Request::Polite, PATIENCE),
        // Places are kept for steps: when none is free, the machine is more likely busy than stuck.
        Entry::Step(_) => (Request::Urgent, PATIENCE * 10),
    };
    let mut start = std::pin::pin!(program.start(begin));
    let (mut wanted, mut waiting) = (1, None);
    loop {
        match node.machine.within(patience, &mut start).await {
            Some(started) => return started,
            None => {
                let _ = waiting.get_or_insert_with(|| node.liveness.waits("a guest for a place"));
                node.warm.make_room(wanted, request);
                wanted = wanted.saturating_mul(2);
                patience = (patience * 2).min(PATIENCE_MAX);
            }
        }
    }
}

/// When a stretch that begins now is over.
fn ends(node: &Node, length: Duration) -> u64 {
    node.machine.boot_ms().saturating_add(u64::try_from(length.as_millis()).unwrap_or(u64::MAX))
}

impl Drop for Guests {
    fn drop(&mut self) {
        self.clear();
    }
}
