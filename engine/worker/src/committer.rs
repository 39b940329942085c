//! Group commit: what many activations and clients want written goes to the store in few transactions.

use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use tokio::sync::{mpsc, oneshot};

use crate::outside::Machine;

/// The most wishes in one group: the most batches in one transaction.
const GROUP_MAX: usize = 512;

/// Whoever waits for an answer to one of the gathered wishes.
pub(crate) type Reply<R> = oneshot::Sender<R>;

/// Gathers wishes: while one group is being written the next one collects.
#[derive(Debug)]
pub(crate) struct Gather<T, R> {
    wishes: mpsc::UnboundedSender<(T, Reply<R>)>,
}

impl<T, R> Clone for Gather<T, R> {
    fn clone(&self) -> Self {
        Self { wishes: self.wishes.clone() }
    }
}

impl<T: Send + 'static, R: Send + 'static> Gather<T, R> {
    /// Begins to gather; `write` answers each wish of a group in order.
    pub(crate) fn new<F>(machine: &dyn Machine, mut write: impl FnMut(Vec<T>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Vec<R>> + Send + 'static,
    {
        let (wishes, mut gathered) = mpsc::unbounded_channel::<(T, Reply<R>)>();
        machine.spawn(Box::pin(async move {
            let mut group = Vec::new();
            while gathered.recv_many(&mut group, GROUP_MAX).await > 0 {
                let (wanted, replies): (Vec<T>, Vec<Reply<R>>) = group.drain(..).unzip();
                let written = AssertUnwindSafe(write(wanted)).catch_unwind().await;
                // A mistake of ours must not end all writing: whoever waits for this group hears nothing and looks again.
                let answers = written.unwrap_or_default();
                for (reply, answer) in replies.into_iter().zip(answers) {
                    // Whoever no longer waits does not need the answer.
                    let _ = reply.send(answer);
                }
            }
        }));
        Self { wishes }
    }

    /// Hands in a wish; the answer comes once it is durable or refused. None when the engine stops, or made a mistake.
    pub(crate) fn hand_in(&self, wish: T) -> impl Future<Output = Option<R>> + use<T, R> {
        let (reply, answer) = oneshot::channel();
        let sent = self.wishes.send((wish, reply));
        async move {
            sent.ok()?;
            answer.await.ok()
        }
    }
}
