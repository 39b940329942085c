//! The requests of one activation on their way out and back.

use std::collections::{BTreeMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use cerebelum_history::{CallName, Execution, Failure, Scope, kind, planted};
use cerebelum_store::Incarnation;
use futures::future::{AbortHandle, Abortable, BoxFuture};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};

use crate::effects::{AnswerHold, Arrived, Counts, Doorway, Effect, Way, leave};
use crate::node::Node;

/// A call, which of that name, and its answer; none when the lease was over before it could leave.
pub(crate) type FetchAnswer = (CallName, u64, Option<Arrived>);

/// A request under way.
struct OpenFetch {
    /// Which of the calls of that name: a retried step may make one anew.
    opened: u64,
    wanted: AbortHandle,
    way: Arc<Way>,
}

/// The requests of one activation.
pub(crate) struct Requests {
    /// None when nobody wants the answer any more.
    under_way: FuturesUnordered<BoxFuture<'static, Option<FetchAnswer>>>,
    asked: BTreeMap<CallName, OpenFetch>,
    /// How many of those are where.
    counts: Arc<Counts>,
    doorway: Doorway,
    /// What answers hold until everything up to these marks is durable, in their order.
    arrived: VecDeque<(u64, AnswerHold)>,
}

impl Requests {
    /// None yet.
    pub(crate) fn new(node: &Node) -> Self {
        Self {
            under_way: FuturesUnordered::new(),
            asked: BTreeMap::new(),
            counts: Arc::default(),
            doorway: Doorway::new(node),
            arrived: VecDeque::new(),
        }
    }

    /// Whether this very call is on its way.
    pub(crate) fn has(&self, call: &CallName, opened: u64) -> bool {
        self.asked.get(call).is_some_and(|asked| asked.opened == opened)
    }

    /// Sends a request through the one door, behind what `lsn` makes durable.
    pub(crate) fn send(
        &mut self,
        by: (Arc<Node>, Incarnation),
        (call, opened): (CallName, u64),
        effect: Effect,
        lsn: u64,
    ) {
        let (wanted, registration) = AbortHandle::new_pair();
        let way = Way::new(&self.counts);
        self.asked.insert(call.clone(), OpenFetch { opened, wanted, way: way.clone() });
        let leaving = AssertUnwindSafe(leave(by, (self.doorway.clone(), lsn), way, effect)).catch_unwind();
        // A mistake of ours must not leave the call open for ever: timeouts and deadlines wait for its end.
        let leaving = leaving.map(|left| left.unwrap_or_else(|_| Some(panicked())));
        let leaving = Abortable::new(leaving, registration);
        self.under_way.push(Box::pin(async move { Some((call, opened, leaving.await.ok()?)) }));
    }

    /// The next answer that somebody wants; none while none is waited for.
    pub(crate) async fn next(&mut self) -> Option<FetchAnswer> {
        while let Some(answered) = self.under_way.next().await {
            if answered.is_some() {
                return answered;
            }
        }
        None
    }

    /// Strikes a request off. `false`: its call was made anew since, or is no more, and the answer is nobody's.
    pub(crate) fn strike(&mut self, call: &CallName, opened: u64) -> bool {
        let is_ours = self.has(call, opened);
        if is_ours && let Some(asked) = self.asked.remove(call) {
            // One that the engine failed to perform may never have left.
            asked.way.leave();
        }
        is_ours
    }

    /// In a pause nothing leaves, and a request whose call is closed never: nobody waits for its answer (L16).
    pub(crate) fn hold_back(&mut self, execution: &mut Execution) {
        self.doorway.barrier.pause(execution.is_paused() && !planted("pause-lets-effects-out"));
        for (call, opened) in execution.take_withdrawn() {
            if !self.has(&call, opened) {
                continue;
            }
            if let Some(asked) = self.asked.remove(&call).filter(|_| !planted("closed-call-leaves")) {
                asked.wanted.abort();
                asked.way.leave();
            }
        }
    }

    /// Everything up to this mark is durable: what waits for it may leave.
    pub(crate) fn release(&mut self, lsn: u64) {
        self.doorway.barrier.is_durable(lsn);
        while self.arrived.front().is_some_and(|(until, _)| *until <= lsn) {
            self.arrived.pop_front();
        }
    }

    /// Keeps what an answer holds until everything up to this mark is durable. From there on what is left of the answer is
    /// part of the execution's own memory.
    pub(crate) fn hold(&mut self, lsn: u64, held: Option<AnswerHold>) {
        self.arrived.extend(held.map(|held| (lsn, held)));
    }

    /// Whether one waits for the log in order to leave.
    pub(crate) fn await_log(&self) -> bool {
        self.counts.any_unlogged()
    }

    /// Whether one of this scope only waits because so many others are outside.
    pub(crate) fn await_turn(&self, scope: &Scope) -> bool {
        let first = CallName { scope: scope.clone(), ordinal: 0 };
        let mut own = self.asked.range(first..).take_while(|(call, _)| call.scope == *scope);
        own.any(|(_, asked)| asked.way.awaits_turn())
    }

    /// Whether one is outside, or will be as soon as its cause is durable. In a pause those inside wait for its end, and
    /// go again when the guests are rerun.
    pub(crate) fn keep_awake(&self, is_paused: bool) -> bool {
        self.asked.len() > if is_paused { self.counts.inside() } else { 0 }
    }
}

/// The answer to a call that the engine failed to perform.
fn panicked() -> Arrived {
    let failure =
        Failure::retryable(kind::ENGINE_FAILURE, "the engine failed while it performed this call: see its log");
    Arrived { result: Err(failure), held: None }
}
