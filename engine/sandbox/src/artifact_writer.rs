//! Writes compiled components to disk in the background.

use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

/// How many writes may be outstanding before the next compilation has to wait: the machine code stays in memory until
/// it is written.
const LEFT_MAX: usize = 4;

/// Queue of artifacts to write. They are written one at a time, because each write holds a copy of all the machine code
/// and memory images.
pub(crate) struct Keeping {
    /// How many writes are outstanding.
    left: watch::Sender<usize>,
    one: Arc<Semaphore>,
}

/// One outstanding write. A write that fails or panics is no longer outstanding either.
struct Left(watch::Sender<usize>);

impl Keeping {
    /// Queues a write.
    pub(crate) fn add(&self, keep: impl FnOnce() + Send + 'static) {
        let left = Left::new(&self.left);
        let one = Arc::clone(&self.one);
        tokio::spawn(async move {
            let _turn = one.acquire().await.expect("nobody closes the semaphore");
            let done = tokio::task::spawn_blocking(move || {
                keep();
                drop(left);
            });
            if let Err(error) = done.await {
                tracing::warn!(%error, "keeping a compiled artifact broke off");
            }
        });
    }

    /// Waits until another write may be queued.
    pub(crate) async fn has_room(&self) {
        self.until_left(LEFT_MAX - 1).await;
    }

    /// Waits until no write is outstanding.
    pub(crate) async fn done(&self) {
        self.until_left(0).await;
    }

    async fn until_left(&self, max: usize) {
        let few_left = self.left.subscribe().wait_for(|left| *left <= max).await.map(drop);
        few_left.expect("the sender is here");
    }
}

impl Default for Keeping {
    fn default() -> Self {
        Self { left: watch::Sender::new(0), one: Arc::new(Semaphore::new(1)) }
    }
}

impl Left {
    fn new(left: &watch::Sender<usize>) -> Self {
        left.send_modify(|left| *left += 1);
        Self(left.clone())
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        self.0.send_modify(|left| *left -= 1);
    }
}
