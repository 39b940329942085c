//! What this engine measures, and its rendering for Prometheus. `docs/observability.md` has the table of all metrics.

mod executions;
mod families;
mod guests;
mod measured;
mod outside;
mod process;
mod tally;
mod workflows;
mod writes;

use std::sync::OnceLock;

use cerebelum_sandbox::SandboxMetrics;
use cerebelum_store::StoreMetrics;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::registry::Registry;

pub(crate) use executions::{START_AHEAD, START_STORED, WAKE_START, WAKE_TIMER};
pub(crate) use guests::{REPLAY_EVICTED, REPLAY_LOADED, scope_of};
pub(crate) use measured::Measured;
pub use outside::InFlight;
pub(crate) use outside::result_of;
pub(crate) use tally::BatchTally;
pub(crate) use writes::{LOST, RENEWED, UNANSWERED};

/// What the name of each metric begins with.
pub const PREFIX: &str = "cerebelum";

/// What one engine measures where it happens. Labels are closed sets, and what happens often has its metrics resolved
/// beforehand.
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) executions: executions::ExecutionMetrics,
    pub(crate) guests: guests::GuestMetrics,
    pub(crate) outside: outside::OutsideMetrics,
    pub(crate) writes: writes::WriteMetrics,
    /// Tells how many lines of the log were lost so far.
    lost_lines: OnceLock<Box<dyn Fn() -> u64 + Send + Sync>>,
}

impl Metrics {
    pub(crate) fn new(store: &StoreMetrics, sandbox: &SandboxMetrics) -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let executions = executions::ExecutionMetrics::new(&mut registry);
        let guests = guests::GuestMetrics::new(&mut registry);
        let outside = outside::OutsideMetrics::new(&mut registry);
        let writes = writes::WriteMetrics::new(&mut registry);
        store.register(&mut registry);
        sandbox.register(&mut registry);
        Self { registry, executions, guests, outside, writes, lost_lines: OnceLock::new() }
    }

    /// Sets the function that tells how many lines of the log were lost. Only the first one counts: a process has one log.
    pub(crate) fn set_lost_lines(&self, lost: impl Fn() -> u64 + Send + Sync + 'static) {
        let _ = self.lost_lines.set(Box::new(lost));
    }

    /// How many lines of the log were lost so far; none when this process counts none.
    pub(crate) fn lost_lines(&self) -> Option<u64> {
        self.lost_lines.get().map(|lost| lost())
    }

    /// All metrics as OpenMetrics text, with what is measured at this moment and what the server measures.
    pub(crate) fn render(&self, measured: Measured, server: &Registry) -> String {
        let mut text = String::new();
        [&self.registry, &measured.registry(), server, &process::registry()]
            .into_iter()
            .try_for_each(|registry| encode_registry(&mut text, registry))
            .and_then(|()| encode_eof(&mut text))
            .expect("a text takes whatever is written to it");
        text
    }
}
