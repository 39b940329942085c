//! The requests of one activation on their way out and back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cerebelum_history::{CallName, Execution, Failure, HttpResponse, planted};
use cerebelum_store::Incarnation;
use futures::StreamExt;
use futures::future::{AbortHandle, Abortable, BoxFuture};
use futures::stream::FuturesUnordered;

use crate::effects::{Barrier, Effect, leave};
use crate::node::Node;

/// A call, which of that name, and its answer; none when the lease was over before it could leave.
pub(crate) type Answered = (CallName, u64, Option<Result<HttpResponse, Failure>>);

/// A request under way.
struct Asked {
    /// Which of the calls of that name: a retried step may make one anew.
    opened: u64,
    wanted: AbortHandle,
    has_left: Arc<AtomicBool>,
}

/// The requests of one activation.
#[derive(Default)]
pub(crate) struct Requests {
    /// None when nobody wants the answer any more.
    under_way: FuturesUnordered<BoxFuture<'static, Option<Answered>>>,
    asked: BTreeMap<CallName, Asked>,
    barrier: Arc<Barrier>,
}

impl Requests {
    /// Whether this very call is on its way.
    pub(crate) fn has(&self, call: &CallName, opened: u64) -> bool {
        self.asked.get(call).is_some_and(|asked| asked.opened == opened)
    }

    /// Sends a request through the one door, behind what `mark` makes durable.
    pub(crate) fn send(
        &mut self,
        by: (Arc<Node>, Incarnation),
        (call, opened): (CallName, u64),
        effect: Effect,
        mark: u64,
    ) {
        let (wanted, registration) = AbortHandle::new_pair();
        self.asked.insert(call.clone(), Asked { opened, wanted, has_left: effect.has_left.clone() });
        let leaving = Abortable::new(leave(by, self.barrier.clone(), mark, effect), registration);
        self.under_way.push(Box::pin(async move { Some((call, opened, leaving.await.ok()?)) }));
    }

    /// The next answer that somebody wants; none while none is waited for.
    pub(crate) async fn next(&mut self) -> Option<Answered> {
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
        if is_ours {
            self.asked.remove(call);
        }
        is_ours
    }

    /// In a pause nothing leaves, and a request whose call is closed never: nobody waits for its answer (L16).
    pub(crate) fn hold_back(&mut self, execution: &Execution) {
        self.barrier.pause(execution.is_paused() && !planted("pause-lets-effects-out"));
        let open = execution.open();
        self.asked.retain(|call, asked| {
            let is_wanted = open.get(call).is_some_and(|call| call.mark() == asked.opened);
            if !is_wanted && !planted("closed-call-leaves") {
                asked.wanted.abort();
            }
            is_wanted
        });
    }

    /// Everything up to this mark is durable: what waits for it may leave.
    pub(crate) fn release(&self, mark: u64) {
        self.barrier.is_durable(mark);
    }

    /// Whether one waits in order to leave.
    pub(crate) fn await_log(&self) -> bool {
        self.asked.values().any(|asked| !asked.has_left.load(Ordering::Acquire))
    }

    /// Whether one is outside, or will be as soon as its cause is durable. In a pause those inside wait for its end, and
    /// go again when the guests are rerun.
    pub(crate) fn keep_awake(&self, is_paused: bool) -> bool {
        self.asked.values().any(|asked| !is_paused || asked.has_left.load(Ordering::Acquire))
    }
}
