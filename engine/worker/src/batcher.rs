//! Group commit: requests of many activations and clients go to the store in few transactions.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use cerebelum_store::{ExecutionKey, TenantId};
use futures::FutureExt;
use tokio::sync::{mpsc, oneshot};

use crate::liveness::Liveness;

/// The most requests in one group, and so the most batches in one transaction.
const GROUP_MAX: usize = 512;

/// The most requests of one tenant in a group while other tenants are active, since these wait for the whole group.
const GROUP_SHARE_MAX: usize = 8;

/// How long a tenant counts as active after its last request, in milliseconds.
const ACTIVE_MS: u64 = 1_000;

/// The most bytes in one group, unless a single request has more. A transaction holds its content in memory here and in
/// the database, and all other requests wait for it.
const GROUP_BYTES_MAX: usize = 8 << 20;

/// The channel for the answer to one request.
pub(crate) type Reply<R> = oneshot::Sender<R>;

/// What is submitted to a group.
pub(crate) trait Request: Send + 'static {
    /// The tenant for which it is submitted.
    fn tenant(&self) -> TenantId;
    /// Its size.
    fn bytes(&self) -> usize;
}

impl Request for TenantId {
    fn tenant(&self) -> TenantId {
        *self
    }

    fn bytes(&self) -> usize {
        0
    }
}

impl Request for ExecutionKey {
    fn tenant(&self) -> TenantId {
        self.tenant
    }

    fn bytes(&self) -> usize {
        0
    }
}

/// The requests that are in no group yet, in their order for each tenant.
struct Gathered<T, R> {
    tenants: BTreeMap<TenantId, Waiting<T, R>>,
}

struct Waiting<T, R> {
    requests: VecDeque<(T, Reply<R>)>,
    last_ms: u64,
}

impl<T: Request, R> Gathered<T, R> {
    fn add(&mut self, now_ms: u64, requests: impl Iterator<Item = (T, Reply<R>)>) {
        for (request, reply) in requests {
            let new = || Waiting { requests: VecDeque::new(), last_ms: now_ms };
            let waiting = self.tenants.entry(request.tenant()).or_insert_with(new);
            waiting.last_ms = now_ms;
            waiting.requests.push_back((request, reply));
        }
        self.tenants.retain(|_, waiting| waiting.last_ms + ACTIVE_MS >= now_ms || !waiting.requests.is_empty());
    }

    fn is_empty(&self) -> bool {
        self.tenants.values().all(|waiting| waiting.requests.is_empty())
    }

    /// The next group: one request of each tenant after the other, as many as fit, but at least one.
    fn group(&mut self) -> (Vec<T>, Vec<Reply<R>>) {
        let share = if self.tenants.len() > 1 { GROUP_SHARE_MAX } else { GROUP_MAX };
        let (mut group, mut bytes) = ((Vec::new(), Vec::new()), 0_usize);
        for _ in 0..share {
            for waiting in self.tenants.values_mut() {
                let Some((request, _)) = waiting.requests.front() else { continue };
                bytes = bytes.saturating_add(request.bytes());
                if !group.0.is_empty() && (bytes > GROUP_BYTES_MAX || group.0.len() >= GROUP_MAX) {
                    return group;
                }
                let (request, reply) = waiting.requests.pop_front().expect("it is the one that was looked at");
                group.0.push(request);
                group.1.push(reply);
            }
        }
        group
    }
}

/// Collects requests into groups: while one group is written, the next one collects.
#[derive(Debug)]
pub(crate) struct Batcher<T, R> {
    submitted: mpsc::UnboundedSender<(T, Reply<R>)>,
}

impl<T, R> Clone for Batcher<T, R> {
    fn clone(&self) -> Self {
        Self { submitted: self.submitted.clone() }
    }
}

impl<T: Request, R: Send + 'static> Batcher<T, R> {
    /// Starts collecting. `write` answers the requests of a group in order. `liveness` records since when a group is
    /// being written.
    pub(crate) fn new<F>(liveness: &Arc<Liveness>, mut write: impl FnMut(Vec<T>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Vec<R>> + Send + 'static,
    {
        let (submitted, mut incoming) = mpsc::unbounded_channel::<(T, Reply<R>)>();
        let watched = liveness.clone();
        liveness.runtime().spawn(Box::pin(async move {
            let mut gathered = Gathered { tenants: BTreeMap::new() };
            loop {
                let writing = keep_writing(&watched, &mut incoming, &mut gathered, &mut write);
                if AssertUnwindSafe(writing).catch_unwind().await.is_ok() {
                    return;
                }
                // A panic must not end all writing. The callers whose requests are lost get no answer and check again.
            }
        }));
        Self { submitted }
    }

    /// Submits a request. The answer comes once it is durable or refused; none when the engine stops or `write`
    /// panicked.
    pub(crate) fn submit(&self, request: T) -> impl Future<Output = Option<R>> + use<T, R> {
        let (reply, answer) = oneshot::channel();
        let sent = self.submitted.send((request, reply));
        async move {
            sent.ok()?;
            answer.await.ok()
        }
    }
}

/// Writes groups until no request can come any more.
async fn keep_writing<T: Request, R, F: Future<Output = Vec<R>>>(
    watched: &Arc<Liveness>,
    incoming: &mut mpsc::UnboundedReceiver<(T, Reply<R>)>,
    gathered: &mut Gathered<T, R>,
    write: &mut impl FnMut(Vec<T>) -> F,
) {
    let mut new = Vec::new();
    while !gathered.is_empty() || incoming.recv_many(&mut new, usize::MAX >> 1).await > 0 {
        // What was submitted while the last group was written takes part in this one.
        new.extend(std::iter::from_fn(|| incoming.try_recv().ok()));
        gathered.add(watched.runtime().boot_ms(), new.drain(..));
        // One group: under constant load there are always some that wait.
        let _waiting = watched.waits("a group for the database");
        let (requests, replies) = gathered.group();
        for (reply, answer) in replies.into_iter().zip(write(requests).await) {
            // A caller that no longer waits does not need the answer.
            let _ = reply.send(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::env::{Runtime, ThisRuntime};

    struct Sized(TenantId, usize);

    impl Request for Sized {
        fn tenant(&self) -> TenantId {
            self.0
        }

        fn bytes(&self) -> usize {
            self.1
        }
    }

    /// How many requests of each tenant are in the first group, if so many of these sizes wait.
    fn first_group(waiting: &[(i32, usize, usize)]) -> Vec<usize> {
        let mut gathered = Gathered { tenants: BTreeMap::new() };
        for (tenant, count, bytes) in waiting {
            let requests = (0..*count).map(|_| (Sized(TenantId(*tenant), *bytes), oneshot::channel::<()>().0));
            gathered.add(0, requests);
        }
        let (group, _) = gathered.group();
        waiting.iter().map(|(tenant, ..)| group.iter().filter(|of| of.0 == TenantId(*tenant)).count()).collect()
    }

    #[test]
    fn a_group_has_no_more_bytes_than_it_may_and_one_request_at_least() {
        assert_eq!(first_group(&[(1, 1, 1)]), [1]);
        assert_eq!(first_group(&[(1, 2, GROUP_BYTES_MAX + 1)]), [1]);
        assert_eq!(first_group(&[(1, 3, GROUP_BYTES_MAX / 2)]), [2]);
        assert_eq!(first_group(&[(1, 2, usize::MAX)]), [1]);
        assert_eq!(first_group(&[(1, 1_000, 1)]), [GROUP_MAX]);
    }

    #[test]
    fn a_tenant_does_not_wait_for_all_that_others_submitted() {
        assert_eq!(first_group(&[(1, 1_000, 1), (2, 1, 1)]), [GROUP_SHARE_MAX, 1]);
        assert_eq!(first_group(&[(1, 8, GROUP_BYTES_MAX / 4), (2, 8, GROUP_BYTES_MAX / 4)]), [2, 2]);
        let mut gathered = Gathered { tenants: BTreeMap::new() };
        let one = |tenant| [(TenantId(tenant), oneshot::channel::<()>().0)].into_iter();
        gathered.add(0, one(2));
        gathered.group();
        gathered.add(ACTIVE_MS, one(1));
        assert_eq!(gathered.tenants.len(), 2, "it was active a moment ago");
        gathered.add(ACTIVE_MS + 1, one(1));
        assert_eq!(gathered.tenants.len(), 1);
        assert_eq!(gathered.group().0.len(), 2, "in the order of their coming");
    }

    #[tokio::test]
    async fn a_panic_loses_the_group_that_it_meets_and_no_other_one() {
        let liveness = Liveness::new(Arc::new(ThisRuntime));
        let batcher = Batcher::new(&liveness, |group: Vec<TenantId>| {
            assert_ne!(group, [TenantId(7)], "before the group is written");
            async move {
                assert_ne!(group, [TenantId(8)], "while it is written");
                vec![(); group.len()]
            }
        });
        for (tenant, answer) in [(7, None), (1, Some(())), (8, None), (1, Some(()))] {
            assert_eq!(batcher.submit(TenantId(tenant)).await, answer);
        }
    }

    /// The longest wait that is recorded is of the group that is written, however long there is always one more.
    #[tokio::test]
    async fn a_constant_load_is_no_long_wait() {
        const WRITE: Duration = Duration::from_millis(5);
        let liveness = Liveness::new(Arc::new(ThisRuntime));
        let batcher = Batcher::new(&liveness, |group: Vec<TenantId>| async move {
            ThisRuntime.sleep(WRITE).await;
            vec![(); group.len()]
        });
        let written = AtomicUsize::new(0);
        let client = async || {
            while written.fetch_add(1, Ordering::Relaxed) < 300 {
                assert_eq!(batcher.submit(TenantId(1)).await, Some(()));
                let waited = liveness.oldest().map(|(_, waited)| waited).unwrap_or_default();
                assert!(waited < 40 * WRITE, "after {written:?} requests: {waited:?}");
            }
        };
        // Two take turns, so that one request always waits while the other is written.
        let second = async {
            ThisRuntime.sleep(WRITE / 2).await;
            client().await;
        };
        futures::join!(client(), second);
    }
}
