//! The HTTP requests of one activation and their answers.

use std::collections::{BTreeMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use cerebelum_history::{CallName, Execution, Failure, Moment, Scope, kind, planted};
use cerebelum_store::{Incarnation, TenantId};
use futures::future::{AbortHandle, Abortable, BoxFuture};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};

use crate::activation_error::ActivationError;
use crate::effects::{AnswerHold, Arrived, Counts, Departure, Doorway, Effect, leave};
use crate::node::Node;
use crate::traces::Span;

/// A call, which of the calls under that name it is, and its answer; none when the lease ended before the request could
/// leave.
pub(crate) type FetchAnswer = (CallName, u64, Option<Arrived>);

/// A request in progress.
struct OpenFetch {
    /// Which call under that name it is: a retried step may make the call again.
    opened: u64,
    wanted: AbortHandle,
    departure: Arc<Departure>,
    span: Option<Box<Span>>,
}

/// The requests of one activation.
pub(crate) struct Requests {
    node: Arc<Node>,
    incarnation: Incarnation,
    /// Yields none for a request whose answer is no longer wanted.
    in_progress: FuturesUnordered<BoxFuture<'static, Option<FetchAnswer>>>,
    open: BTreeMap<CallName, OpenFetch>,
    /// Counts these requests by their progress.
    counts: Arc<Counts>,
    doorway: Doorway,
    /// The resources that answers hold until everything up to these LSNs is durable, in order.
    arrived: VecDeque<(u64, AnswerHold)>,
}

impl Requests {
    /// Creates the set without requests, of an execution of this tenant.
    pub(crate) fn new(node: Arc<Node>, incarnation: Incarnation, tenant: TenantId) -> Self {
        Self {
            doorway: Doorway::new(&node, tenant),
            node,
            incarnation,
            in_progress: FuturesUnordered::new(),
            open: BTreeMap::new(),
            counts: Arc::default(),
            arrived: VecDeque::new(),
        }
    }

    /// Whether exactly this call is in progress.
    pub(crate) fn has(&self, call: &CallName, opened: u64) -> bool {
        self.open.get(call).is_some_and(|fetch| fetch.opened == opened)
    }

    /// Sends the request of a call through [`leave`], which waits until everything up to `lsn` is durable.
    pub(crate) fn send(&mut self, (call, opened): (CallName, u64), mut effect: Effect, lsn: u64) {
        let (wanted, registration) = AbortHandle::new_pair();
        let departure = Departure::new(&self.counts);
        self.open
            .insert(call.clone(), OpenFetch { opened, wanted, departure: departure.clone(), span: effect.span.take() });
        let leaving = AssertUnwindSafe(leave(
            (self.node.clone(), self.incarnation),
            (self.doorway.clone(), lsn),
            departure,
            effect,
        ))
        .catch_unwind();
        // A panic must not leave the call open forever: timeouts and deadlines wait for its end.
        let leaving = leaving.map(|left| left.unwrap_or_else(|_| Some(panicked())));
        let leaving = Abortable::new(leaving, registration);
        self.in_progress.push(Box::pin(async move { Some((call, opened, leaving.await.ok()?)) }));
    }

    /// The next answer that is still wanted; none when no request is in progress.
    pub(crate) async fn next(&mut self) -> Option<FetchAnswer> {
        while let Some(answer) = self.in_progress.next().await {
            if answer.is_some() {
                return answer;
            }
        }
        None
    }

    /// Records the answer to a call, unless the call was made again or closed since: then no step waits for the answer.
    /// Returns the request's span, if its execution has any.
    pub(crate) fn take_answer(
        &mut self,
        (call, opened, arrived): FetchAnswer,
        execution: &mut Execution,
        now: Moment,
    ) -> Result<Option<Span>, ActivationError> {
        let Arrived { result, took, held } = arrived.ok_or(ActivationError::ClaimLost)?;
        if self.has(&call, opened)
            && let Some(fetch) = self.open.remove(&call)
        {
            // A request that failed because of a bug may never have left.
            fetch.departure.leave();
            let span = fetch.span.and_then(|span| span.answered(&result, (took, now.at)));
            execution.fetched(&call, result, now);
            // From the next commit on the rest of the answer is part of the execution's own memory.
            self.arrived.extend(held.map(|held| (execution.lsn(), held)));
            return Ok(span);
        }
        Ok(None)
    }

    /// Holds requests back during a pause, and withdraws requests whose call is closed: no scope waits for their
    /// answers (L16).
    pub(crate) fn hold_back(&mut self, execution: &mut Execution) {
        self.doorway.barrier.pause(execution.is_paused() && !planted("pause-lets-effects-out"));
        for (call, opened) in execution.take_withdrawn() {
            if !self.has(&call, opened) {
                continue;
            }
            if let Some(fetch) = self.open.remove(&call).filter(|_| !planted("closed-call-leaves")) {
                fetch.wanted.abort();
                fetch.departure.leave();
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

    /// Whether a request waits for the log before it can leave.
    pub(crate) fn await_log(&self) -> bool {
        self.counts.any_unlogged()
    }

    /// Whether a request of this scope waits only because too many others are outside.
    pub(crate) fn await_turn(&self, scope: &Scope) -> bool {
        let first = CallName { scope: scope.clone(), ordinal: 0 };
        let mut own = self.open.range(first..).take_while(|(call, _)| call.scope == *scope);
        own.any(|(_, fetch)| fetch.departure.awaits_turn())
    }

    /// Whether a request is outside, or will be as soon as its cause is durable. In a pause, requests that have not
    /// left wait for its end; they are made again when the guests are rerun.
    pub(crate) fn keep_awake(&self, is_paused: bool) -> bool {
        self.open.len() > if is_paused { self.counts.inside() } else { 0 }
    }
}

/// The answer to a call that failed because of a bug in the engine.
fn panicked() -> Arrived {
    let failure =
        Failure::retryable(kind::ENGINE_FAILURE, "the engine failed while it performed this call: see its log");
    Arrived { result: Err(failure), took: Duration::ZERO, held: None }
}
