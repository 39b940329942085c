//! Core tasks run forever. A task that ends or panics is restarted. An engine whose tasks keep ending reports it and
//! stops.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use cerebelum_history::planted;
use futures::FutureExt;
use tokio::sync::watch;

use crate::env::Runtime;
use crate::metrics::Metrics;

/// The pause before a task is restarted.
const RESTART_PAUSE: Duration = Duration::from_millis(500);
/// A task that has ended this often within [`RESTARTS_COUNT_MS`] will end again: the process has to be restarted.
const RESTARTS_MAX: usize = 5;
const RESTARTS_COUNT_MS: u64 = 60_000;

/// Supervises the core tasks of an engine.
#[derive(Clone)]
pub(crate) struct Supervisor {
    runtime: Arc<dyn Runtime>,
    metrics: Arc<Metrics>,
    /// Why the engine cannot go on.
    broken: watch::Sender<Option<String>>,
}

impl Supervisor {
    pub(crate) fn new(runtime: Arc<dyn Runtime>, metrics: Arc<Metrics>) -> Self {
        Self { runtime, metrics, broken: watch::Sender::new(None) }
    }

    /// Runs a core task forever and restarts it whenever it ends.
    pub(crate) async fn keep<F: Future<Output = ()> + Send>(self, task: &'static str, begin: impl Fn() -> F + Send) {
        let mut ends_ms: Vec<u64> = Vec::new();
        loop {
            let why = end_of(begin()).await;
            if planted("core-task-ends") {
                return;
            }
            let now_ms = self.runtime.boot_ms();
            ends_ms.retain(|end_ms| now_ms - end_ms < RESTARTS_COUNT_MS);
            ends_ms.push(now_ms);
            if ends_ms.len() >= RESTARTS_MAX {
                self.broken.send_replace(Some(format!("the core task `{task}` ended again and again: {why}")));
            }
            self.pause(task, &why).await;
        }
    }

    /// Runs a task forever that the engine can do without: however often it ends, the engine goes on.
    pub(crate) async fn keep_dispensable<F: Future<Output = ()> + Send>(
        self,
        task: &'static str,
        begin: impl Fn() -> F + Send,
    ) {
        loop {
            let why = end_of(begin()).await;
            self.pause(task, &why).await;
        }
    }

    async fn pause(&self, task: &'static str, why: &str) {
        tracing::error!(task, why, "a core task ended: it begins again");
        self.metrics.executions.core_task_restarts.inc();
        self.runtime.sleep(RESTART_PAUSE).await;
    }

    /// Returns the reason when the engine cannot go on.
    pub(crate) async fn broken(&self) -> String {
        let mut broken = self.broken.subscribe();
        let reason = broken.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        match reason {
            Some(reason) => reason,
            // The sender is gone, so the engine can no longer break.
            None => std::future::pending().await,
        }
    }
}

/// Runs a task and returns why it ended.
async fn end_of(task: impl Future<Output = ()> + Send) -> String {
    let ended = AssertUnwindSafe(task).catch_unwind().await;
    ended.err().map_or_else(|| "it came to its end".to_owned(), |panic| panic_message(&*panic))
}

/// The message of a panic.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("it panicked: {}", text.unwrap_or("without a word"))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::env::ThisRuntime;

    /// Runs a task that always ends, with or without a panic, until it was started this often. Returns whether the
    /// engine is broken then.
    async fn begun(times: usize, panics: bool) -> bool {
        let supervisor =
            Supervisor::new(Arc::new(ThisRuntime), Arc::new(Metrics::new(&Default::default(), &Default::default())));
        let (count, reached) = (AtomicUsize::new(0), tokio::sync::Notify::new());
        let task = || async {
            if count.fetch_add(1, Ordering::Relaxed) + 1 == times {
                reached.notify_one();
            }
            assert!(!panics, "a mistake");
        };
        tokio::select! {
            () = supervisor.clone().keep("test", task) => unreachable!("it runs for ever"),
            () = reached.notified() => {}
        }
        supervisor.broken.borrow().is_some()
    }

    #[tokio::test]
    async fn l22_a_core_task_that_ends_or_panics_begins_again() {
        assert!(!begun(2, true).await);
        assert!(!begun(2, false).await);
    }
}
