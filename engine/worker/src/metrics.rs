//! The engine's counters and histograms, and their rendering for Prometheus.

use cerebelum_history::Status;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

const PREFIX: &str = "cerebelum";
const BATCHES: [f64; 10] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0];
const CLAIMED: [f64; 6] = [0.0, 1.0, 4.0, 16.0, 64.0, 256.0];
const LATENESS_SECONDS: [f64; 11] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0];

/// What one engine counts itself.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) started: Counter,
    pub(crate) commits: Counter,
    pub(crate) refused: Counter,
    pub(crate) events: Counter,
    pub(crate) events_read: Counter,
    pub(crate) turns: Counter,
    pub(crate) replays: Counter,
    pub(crate) retries: Counter,
    pub(crate) parked: Counter,
    pub(crate) activations: Counter,
    pub(crate) fetches: Counter,
    pub(crate) deleted: Counter,
    pub(crate) core_task_restarts: Counter,
    pub(crate) batch_sizes: Histogram,
    pub(crate) claim_sizes: Histogram,
    pub(crate) timer_lateness: Histogram,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let (batch_sizes, claim_sizes) = (Histogram::new(BATCHES), Histogram::new(CLAIMED));
        let timer_lateness = Histogram::new(LATENESS_SECONDS);
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register("commit_batches", "Batches per commit", batch_sizes.clone());
        registry.register("claim_executions", "Executions claimed at once", claim_sizes.clone());
        registry.register_with_unit("timer_lateness", "How late timers fired", Unit::Seconds, timer_lateness.clone());
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        Self {
            started: counter("executions_started", "Executions started by this node"),
            commits: counter("commits", "Transactions that wrote batches"),
            refused: counter("batches_refused", "Batches the store refused"),
            events: counter("events", "Events written"),
            events_read: counter("events_read", "Events read back to rerun guests, or to drop values of ended steps"),
            turns: counter("turns", "Times a guest ran until it could not move"),
            replays: counter("replays", "Guests that were rerun over recorded events"),
            retries: counter("retries", "Attempts of steps that failed and are tried again"),
            parked: counter("parked", "Executions set aside for a person"),
            activations: counter("activations", "Times an execution was taken into memory"),
            fetches: counter("fetches", "HTTP requests that left"),
            deleted: counter("executions_deleted", "Ended executions deleted in the background"),
            core_task_restarts: counter("core_task_restarts", "Core tasks that ended and began again"),
            batch_sizes,
            claim_sizes,
            timer_lateness,
            registry,
        }
    }

    /// All metrics as OpenMetrics text, with what is measured elsewhere.
    pub(crate) fn render(&self, measured: Measured) -> String {
        let mut text = String::new();
        encode_registry(&mut text, &self.registry)
            .and_then(|()| encode_registry(&mut text, &measured.registry()))
            .and_then(|()| encode_eof(&mut text))
            .expect("a text takes whatever is written to it");
        text
    }
}

/// What other parts of the engine measure, at one moment.
pub(crate) struct Measured {
    pub(crate) by_status: Vec<(Status, u64)>,
    pub(crate) in_memory: usize,
    pub(crate) guests: usize,
    pub(crate) guests_started: u64,
    pub(crate) host_bytes: u64,
    pub(crate) database_calls: u64,
}

impl Measured {
    fn registry(self) -> Registry {
        let by_status = Family::<[(&str, &str); 1], Gauge>::default();
        // A status that no execution has is shown as 0: alarms cannot be set for what is absent.
        for (status, count) in Status::ALL.map(|status| (status, 0)).into_iter().chain(self.by_status) {
            by_status.get_or_create(&[("status", status.word())]).inc_by(signed(count));
        }
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register("executions", "Executions by status", by_status);
        registry.register("executions_in_memory", "Executions in memory", gauge(self.in_memory as u64));
        registry.register("guests", "Guest instances in memory", gauge(self.guests as u64));
        let help = "Host memory held for guests and clients";
        registry.register_with_unit("host_memory", help, Unit::Bytes, gauge(self.host_bytes));
        registry.register("guests_started", "Guest instances started", ConstCounter::new(self.guests_started));
        let help = "Operations asked of the database, reading ones included";
        registry.register("database_calls", help, ConstCounter::new(self.database_calls));
        registry
    }
}

fn gauge(value: u64) -> ConstGauge {
    ConstGauge::new(signed(value))
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
