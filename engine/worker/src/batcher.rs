//! Group commit: requests of many activations and clients go to the store in few transactions.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use tokio::sync::{mpsc, oneshot};

use crate::liveness::Liveness;

/// The most requests in one group, and so the most batches in one transaction.
const GROUP_MAX: usize = 512;

/// The most bytes in one group, unless a single request has more. A transaction holds its content in memory here and in
/// the database, and all other requests wait for it.
const GROUP_BYTES_MAX: usize = 8 << 20;

/// The channel for the answer to one request.
pub(crate) type Reply<R> = oneshot::Sender<R>;

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

impl<T: Send + 'static, R: Send + 'static> Batcher<T, R> {
    /// Starts collecting. `write` answers the requests of a group in order. `weigh` returns the size of a request in
    /// bytes. `liveness` records since when a group is being written.
    pub(crate) fn new<F>(
        liveness: &Arc<Liveness>,
        weigh: impl Fn(&T) -> usize + Send + 'static,
        mut write: impl FnMut(Vec<T>) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Vec<R>> + Send + 'static,
    {
        let (submitted, mut gathered) = mpsc::unbounded_channel::<(T, Reply<R>)>();
        let watched = liveness.clone();
        liveness.runtime().spawn(Box::pin(async move {
            let mut group = Vec::new();
            while gathered.recv_many(&mut group, GROUP_MAX).await > 0 {
                let _waiting = watched.waits("a group for the database");
                while !group.is_empty() {
                    let (wanted, replies): (Vec<T>, Vec<Reply<R>>) = group.drain(..fitting(&group, &weigh)).unzip();
                    let written = AssertUnwindSafe(async { write(wanted).await }).catch_unwind().await;
                    // A panic must not end all writing. The callers of this group get no answer and check again.
                    let answers = written.unwrap_or_default();
                    for (reply, answer) in replies.into_iter().zip(answers) {
                        // A caller that no longer waits does not need the answer.
                        let _ = reply.send(answer);
                    }
                }
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

/// How many requests go into the next group: as many as fit, but at least one.
fn fitting<T, R>(group: &[(T, Reply<R>)], weigh: impl Fn(&T) -> usize) -> usize {
    let mut bytes = 0_usize;
    let fits = |(request, _): &&(T, Reply<R>)| {
        bytes = bytes.saturating_add(weigh(request));
        bytes <= GROUP_BYTES_MAX
    };
    group.iter().take_while(fits).count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[usize], expected: usize) {
        let group: Vec<(usize, Reply<()>)> = bytes.iter().map(|bytes| (*bytes, oneshot::channel().0)).collect();
        assert_eq!(fitting(&group, |bytes| *bytes), expected, "{bytes:?}");
    }

    #[test]
    fn a_group_has_no_more_bytes_than_it_may_and_one_request_at_least() {
        check(&[1], 1);
        check(&[GROUP_BYTES_MAX + 1, 1], 1);
        check(&[GROUP_BYTES_MAX - 1, 1, 1], 2);
        check(&[0, 0, usize::MAX, usize::MAX], 2);
    }
}
