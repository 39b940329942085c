//! The one door (L6): everything that an execution does to the outside world leaves through [`leave`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cerebelum_history::{Failure, HttpRequest, HttpResponse};
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
}

/// Up to which mark an activation's changes are durable. Whoever waits is told in the order of asking.
#[derive(Default)]
pub(crate) struct Durable {
    mark: AtomicU64,
    moved: Notify,
}

impl Durable {
    /// Everything up to this mark is durable.
    pub(crate) fn is_now(&self, mark: u64) {
        self.mark.store(mark, Ordering::Release);
        self.moved.notify_waiters();
    }

    async fn reaches(&self, mark: u64) {
        loop {
            let mut moved = std::pin::pin!(self.moved.notified());
            moved.as_mut().enable();
            if self.mark.load(Ordering::Acquire) >= mark {
                return;
            }
            moved.await;
        }
    }
}

/// Lets an effect out once everything up to `mark` is durable and the lease still has a margin (L11).
///
/// Returns none when that will not come: the activation is over, and whoever takes the execution over asks again.
pub(crate) async fn leave(
    node: Arc<Node>,
    durable: Arc<Durable>,
    mark: u64,
    effect: Effect,
) -> Option<Result<HttpResponse, Failure>> {
    durable.reaches(mark).await;
    // A renewal that is late may still come; when the lease is over, so is this activation.
    while !node.lease.has_margin() {
        node.lease.incarnation()?;
        node.machine.sleep(Duration::from_millis(20)).await;
    }
    node.metrics.fetches.add(1);
    let answer = node.web.fetch(effect.request, &effect.key, &effect.grants).await;
    crate::fail::point("effect-sent");
    Some(answer)
}
