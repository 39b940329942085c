//! A pool of low-priority threads that compiles one component at a time.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rayon::{ThreadPool, ThreadPoolBuilder};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::SandboxError;
use crate::priority::compute_in_background;

/// Compiles components one after the other.
pub(crate) struct CompilePool {
    one: Arc<Semaphore>,
    threads: ThreadPool,
    busy: AtomicUsize,
    /// How many times the expected cost a component may take.
    pub(crate) patience: u64,
}

impl CompilePool {
    /// A component may take `patience` times as long as its structure lets expect.
    pub(crate) fn new(name: &'static str, patience: u64) -> Result<Self, SandboxError> {
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let threads = ThreadPoolBuilder::new()
            .num_threads(cores)
            .thread_name(move |number| format!("{name}-{number}"))
            .start_handler(|_| compute_in_background())
            .build();
        let threads = threads.map_err(|error| SandboxError::Engine(format!("cannot start threads: {error}")))?;
        Ok(Self { one: Arc::new(Semaphore::new(1)), threads, busy: AtomicUsize::new(0), patience })
    }

    /// Waits until nothing else is compiled in this pool. The permit must be held as long as the work lasts.
    pub(crate) async fn turn(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.one).acquire_owned().await.expect("nobody closes the semaphore")
    }

    /// Runs `work` on the pool's threads. Parallel work inside it stays on them.
    pub(crate) fn install<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.busy.fetch_add(1, Ordering::Relaxed);
        let done = self.threads.install(work);
        self.busy.fetch_sub(1, Ordering::Relaxed);
        done
    }

    /// How many components are being compiled in this pool.
    pub(crate) fn busy(&self) -> usize {
        self.busy.load(Ordering::Relaxed)
    }
}
