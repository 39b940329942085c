//! The HTTP requests of one activation and their answers.

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

/// A call, which of the calls under that name it is, and its answer; none when the lease ended before the request could
/// leave.
pub(crate) type FetchAnswer = (CallName, u64, Option<Arrived>);

/// A request in progress.
struct OpenFetch {
    /// Which call under that name it is: a retried step may make the call again.
    opened: u64,
    wanted: AbortHandle,
    way: Arc<Way>,
}

/// The requests of one activation.
pub(crate) struct Requests {
    /// Yields none for a request whose answer is no longer wanted.
    under_way: FuturesUnordered<BoxFuture<'static, Option<FetchAnswer>>>,
    asked: BTreeMap<CallName, OpenFetch>,
    /// Counts these requests by their progress.
    counts: Arc<Counts>,
    doorway: Doorway,
    /// The resources that answers hold until everything up to these LSNs is durable, in order.
    arrived: VecDeque<(u64, AnswerHold)>,
}

impl Requests {
    /// Creates the set without requests.
    pub(crate) fn new(node: &Node) -> Self {
        Self {
            under_way: FuturesUnordered::new(),
            asked: BTreeMap::new(),
            counts: Arc::default(),
            doorway: Doorway::new(node),
            arrived: VecDeque::new(),
        }
    }

    /// Whether exactly this call is in progress.
    pub(crate) fn has(&self, call: &CallName, opened: u64) -> bool {
        self.asked.get(call).is_some_and(|asked| asked.opened == opened)
    }

    /// Sends a request through [`leave`], which waits until everything up to `lsn` is durable.
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
        // A panic must not leave the call open forever: timeouts and deadlines wait for its end.
        let leaving = leaving.map(|left| left.unwrap_or_else(|_| Some(panicked())));
        let leaving = Abortable::new(leaving, registration);
        self.under_way.push(Box::pin(async move { Some((call, opened, leaving.await.ok()?)) }));
    }

    /// The next answer that is still wanted; none when no request is in progress.
    pub(crate) async fn next(&mut self) -> Option<FetchAnswer> {
        while let Some(answered) = self.under_way.next().await {
            if answered.is_some() {
                return answered;
            }
        }
        None
    }

    /// Removes a request. `false` when its call was made again or closed since, so that the answer is not wanted.
    pub(crate) fn strike(&mut self, call: &CallName, opened: u64) -> bool {
        let is_ours = self.has(call, opened);
        if is_ours && let Some(asked) = self.asked.remove(call) {
            // A request that failed because of a bug may never have left.
            asked.way.leave();
        }
        is_ours
    }

    /// Holds requests back during a pause, and withdraws requests whose call is closed: no scope waits for their
    /// answers (L16).
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

    /// Everything up to this LSN is durable: requests that wait for it may leave.
    pub(crate) fn release(&mut self, lsn: u64) {
        self.doorway.barrier.is_durable(lsn);
        while self.arrived.front().is_some_and(|(until, _)| *until <= lsn) {
            self.arrived.pop_front();
        }
    }

    /// Keeps the resources of an answer until everything up to this LSN is durable. From then on the rest of the answer
    /// is part of the execution's own memory.
    pub(crate) fn hold(&mut self, lsn: u64, held: Option<AnswerHold>) {
        self.arrived.extend(held.map(|held| (lsn, held)));
    }

    /// Whether a request waits for the log before it can leave.
    pub(crate) fn await_log(&self) -> bool {
        self.counts.any_unlogged()
    }

    /// Whether a request of this scope waits only because too many others are outside.
    pub(crate) fn await_turn(&self, scope: &Scope) -> bool {
        let first = CallName { scope: scope.clone(), ordinal: 0 };
        let mut own = self.asked.range(first..).take_while(|(call, _)| call.scope == *scope);
        own.any(|(_, asked)| asked.way.awaits_turn())
    }

    /// Whether a request is outside, or will be as soon as its cause is durable. In a pause, requests that have not
    /// left wait for its end; they are made again when the guests are rerun.
    pub(crate) fn keep_awake(&self, is_paused: bool) -> bool {
        self.asked.len() > if is_paused { self.counts.inside() } else { 0 }
    }
}

/// The answer to a call that failed because of a bug in the engine.
fn panicked() -> Arrived {
    let failure =
        Failure::retryable(kind::ENGINE_FAILURE, "the engine failed while it performed this call: see its log");
    Arrived { result: Err(failure), held: None }
}
