//! Compiled components on their way to the disk, in the background.

use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

/// How many may be left when the next one is compiled: until it is kept, its machine code is in memory.
const LEFT_MAX: usize = 4;

/// What is to be kept, one after the other: each is a copy of all its machine code and memory.
pub(crate) struct Keeping {
    /// How many are left.
    left: watch::Sender<usize>,
    one: Arc<Semaphore>,
}

/// One that is left. Also one that breaks off is done.
struct Left(watch::Sender<usize>);

impl Keeping {
    /// Has this done when its turn comes.
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

    /// Waits until another one may come.
    pub(crate) async fn has_room(&self) {
        self.until_left(LEFT_MAX - 1).await;
    }

    /// Waits until none is left.
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
