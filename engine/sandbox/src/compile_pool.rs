//! A pool of low-priority threads that compiles one component at a time.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rayon::{ThreadPool, ThreadPoolBuilder};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::SandboxError;

/// How much lower the priority of these threads is than that of all others. Next to a busy thread, one of these gets a
/// tenth of a core.
const NICENESS: i32 = 10;

/// Compiles components one after the other.
pub(crate) struct CompilePool {
    one: Arc<Semaphore>,
    threads: ThreadPool,
    busy: AtomicUsize,
}

impl CompilePool {
    pub(crate) fn new(name: &'static str) -> Result<Self, SandboxError> {
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let threads = ThreadPoolBuilder::new()
            .num_threads(cores)
            .thread_name(move |number| format!("{name}-{number}"))
            .start_handler(|_| {
                // Without the permission to lower it, the threads run at normal priority.
                let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS);
            })
            .build();
        let threads = threads.map_err(|error| SandboxError::Engine(format!("cannot start threads: {error}")))?;
        Ok(Self { one: Arc::new(Semaphore::new(1)), threads, busy: AtomicUsize::new(0) })
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
