//! What the sandbox measures of itself.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

const COMPILE_SECONDS: [f64; 9] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// The metrics of a sandbox. Clones measure the same.
#[derive(Debug, Clone)]
pub struct SandboxMetrics {
    pub(crate) compile_seconds: Histogram,
    artifacts: Family<[(&'static str, &'static str); 1], Counter>,
    /// Components that were loaded from the disk.
    pub(crate) artifact_hits: Counter,
    /// Components that had to be compiled.
    pub(crate) artifact_misses: Counter,
}

impl Default for SandboxMetrics {
    fn default() -> Self {
        let artifacts = Family::<_, Counter>::default();
        let of = |result| artifacts.get_or_create_owned(&[("result", result)]);
        let (artifact_hits, artifact_misses) = (of("hit"), of("miss"));
        Self { compile_seconds: Histogram::new(COMPILE_SECONDS), artifacts, artifact_hits, artifact_misses }
    }
}

impl SandboxMetrics {
    /// Lists these metrics in a registry.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Time to check and compile a component";
        registry.register_with_unit("compile", help, Unit::Seconds, self.compile_seconds.clone());
        let help = "Look-ups of compiled components on disk";
        registry.register("artifact_cache", help, self.artifacts.clone());
    }
}

/// The slots and the memory of a sandbox, how much of them guests have, and how many guests there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SandboxUsage {
    /// Slots that small guests have taken, and all there are.
    pub small: (u64, u64),
    /// The same for large guests.
    pub large: (u64, u64),
    /// The memory of all guests, in bytes: linear memory, tables, contexts and stacks.
    pub memory_bytes: u64,
    /// The most that it may be.
    pub memory_bytes_max: u64,
    /// The number of guests started since the sandbox was created.
    pub started: u64,
}
