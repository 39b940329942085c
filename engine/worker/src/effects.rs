//! The one door (L6): everything that an execution does to the outside world leaves through [`leave`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cerebelum_history::{Failure, HttpRequest, HttpResponse, planted};
use cerebelum_store::Incarnation;
use tokio::sync::Notify;

use crate::node::Node;
use crate::outside::Grants;

/// Something that the outside world will notice.
pub(crate) struct Effect {
    /// The request.
    pub(crate) request: HttpRequest,
    /// Its default `Idempotency-Key`.
    pub(crate) key: String,
    /// What the component asks for and may therefore be granted.
    pub(crate) grants: Grants,
    /// Set when it leaves.
    pub(crate) has_left: Arc<AtomicBool>,
}

/// What an activation's effects wait for: up to which mark its changes are durable, and that it is not paused. Whoever
/// waits is told in the order of asking.
#[derive(Default)]
pub(crate) struct Barrier {
    durable: AtomicU64,
    is_paused: AtomicBool,
    moved: Notify,
}

impl Barrier {
    /// Everything up to this mark is durable.
    pub(crate) fn is_durable(&self, mark: u64) {
        self.durable.store(mark, Ordering::Release);
        self.moved.notify_waiters();
    }

    /// Nothing leaves in a pause (L16).
    pub(crate) fn pause(&self, is_paused: bool) {
        if self.is_paused.swap(is_paused, Ordering::AcqRel) && !is_paused {
            self.moved.notify_waiters();
        }
    }

    fn is_open(&self, mark: u64) -> bool {
        self.durable.load(Ordering::Acquire) >= mark && !self.is_paused.load(Ordering::Acquire)
    }

    async fn opens(&self, mark: u64) {
        loop {
            let mut moved = std::pin::pin!(self.moved.notified());
            moved.as_mut().enable();
            if self.is_open(mark) {
                return;
            }
            moved.await;
        }
    }
}

/// Lets an effect out once everything up to `mark` is durable and this incarnation's lease still has a margin (L11).
///
/// Returns none when that will not come: the activation is over, and whoever takes the execution over asks again.
pub(crate) async fn leave(
    (node, incarnation): (Arc<Node>, Incarnation),
    barrier: Arc<Barrier>,
    mark: u64,
    effect: Effect,
) -> Option<Result<HttpResponse, Failure>> {
    if !planted("effect-before-barrier") {
        barrier.opens(mark).await;
    }
    // A renewal that is late may still come; when the lease is over, so is this activation.
    let may_leave = || node.lease.has_margin(incarnation) && barrier.is_open(mark);
    while !may_leave() && !planted("effect-before-barrier") {
        node.lease.incarnation().filter(|now| *now == incarnation)?;
        node.machine.sleep(Duration::from_millis(20)).await;
    }
    effect.has_left.store(true, Ordering::Release);
    node.metrics.fetches.add(1);
    let answer = node.web.fetch(effect.request, &effect.key, &effect.grants).await;
    crate::fail::point("effect-sent");
    Some(answer)
}
