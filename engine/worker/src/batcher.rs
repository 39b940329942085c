//! Group commit: what many activations and clients want written goes to the store in few transactions.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use tokio::sync::{mpsc, oneshot};

use crate::liveness::Liveness;

/// The most wishes in one group: the most batches in one transaction.
const GROUP_MAX: usize = 512;

/// The most bytes in one group, unless a single wish has more: what is in one transaction holds memory here and there, and
/// everybody else waits for it.
const GROUP_BYTES_MAX: usize = 8 << 20;

/// Whoever waits for an answer to one of the gathered wishes.
pub(crate) type Reply<R> = oneshot::Sender<R>;

/// Gathers wishes: while one group is being written the next one collects.
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
    /// Begins to gather; `write` answers each wish of a group in order. `weigh` says how many bytes a wish has, `liveness`
    /// hears since when a group is being written.
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
                    // A mistake of ours must not end all writing: whoever waits for this group hears nothing and looks
                    // again.
                    let answers = written.unwrap_or_default();
                    for (reply, answer) in replies.into_iter().zip(answers) {
                        // Whoever no longer waits does not need the answer.
                        let _ = reply.send(answer);
                    }
                }
            }
        }));
        Self { submitted }
    }

    /// Hands in a wish; the answer comes once it is durable or refused. None when the engine stops, or made a mistake.
    pub(crate) fn submit(&self, wish: T) -> impl Future<Output = Option<R>> + use<T, R> {
        let (reply, answer) = oneshot::channel();
        let sent = self.submitted.send((wish, reply));
        async move {
            sent.ok()?;
            answer.await.ok()
        }
    }
}

/// How many wishes go together: as many as fit, one at least.
fn fitting<T, R>(group: &[(T, Reply<R>)], weigh: impl Fn(&T) -> usize) -> usize {
    let mut bytes = 0_usize;
    let fits = |(wish, _): &&(T, Reply<R>)| {
        bytes = bytes.saturating_add(weigh(wish));
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
    fn a_group_has_no_more_bytes_than_it_may_and_one_wish_at_least() {
        check(&[1], 1);
        check(&[GROUP_BYTES_MAX + 1, 1], 1);
        check(&[GROUP_BYTES_MAX - 1, 1, 1], 2);
        check(&[0, 0, usize::MAX, usize::MAX], 2);
    }
}
