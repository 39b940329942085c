//! What is measured at the moment when the metrics are read: what the database counts, memory, the lease.

use cerebelum_history::Status;
use cerebelum_sandbox::SandboxUsage;
use cerebelum_store::{Backlog, ConnectionCounts, StatusCounts};
use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};

use super::PREFIX;
use super::families::Label;

/// What other parts of the engine measure, at one moment.
pub(crate) struct Measured {
    pub(crate) database: &'static str,
    pub(crate) is_ready: bool,
    pub(crate) lease_remaining_ms: u64,
    /// None when the database does not answer. A zero would say that nothing is parked.
    pub(crate) by_status: Option<StatusCounts>,
    /// None when the database does not answer.
    pub(crate) backlog: Option<Backlog>,
    pub(crate) in_memory: usize,
    pub(crate) usage: SandboxUsage,
    pub(crate) idle_guests: u64,
    /// Held and allowed, for executions that hold little and for those that hold much.
    pub(crate) host_bytes: [(u64, u64); 2],
    pub(crate) connections: ConnectionCounts,
    pub(crate) lost_log_lines: Option<u64>,
}

impl Measured {
    pub(super) fn registry(self) -> Registry {
        let mut registry = Registry::with_prefix(PREFIX);
        self.engine(&mut registry);
        self.executions(&mut registry);
        self.guests(&mut registry);
        registry
    }

    fn engine(&self, registry: &mut Registry) {
        let build = [("version", env!("CARGO_PKG_VERSION")), ("database", self.database)];
        let info = Family::<[(&str, &str); 2], Gauge>::default();
        info.get_or_create(&build).set(1);
        registry.register("build_info", "The version of this engine and its database", info);
        registry.register("ready", "Whether the engine is ready, as /healthz says", gauge(self.is_ready.into()));
        let help = "Time until this engine's lease ends if the database does not renew it";
        let remaining = ConstGauge::new(self.lease_remaining_ms as f64 / 1_000.0);
        registry.register_with_unit("lease_remaining", help, Unit::Seconds, remaining);
        let ConnectionCounts { used, idle } = self.connections;
        let help = "Open connections to the database";
        registry.register("database_connections", help, by("state", [("used", used), ("idle", idle)]));
        if let Some(lost) = self.lost_log_lines {
            registry.register("log_lines_lost", "Lines of the log that could not be written", ConstCounter::new(lost));
        }
    }

    fn executions(&self, registry: &mut Registry) {
        let by_status = Family::<Label, Gauge>::default();
        if let Some(counts) = &self.by_status {
            // A status that no execution has is shown as 0: alarms cannot be set for what is absent.
            for (status, count) in Status::ALL.map(|status| (status, 0)).iter().chain(counts) {
                by_status.get_or_create(&[("status", status.word())]).inc_by(signed(*count));
            }
        }
        registry.register("executions", "Executions by status", by_status);
        let help = "Executions whose time has come and that no engine has claimed, up to 10,000";
        let due = Maybe(self.backlog.map(|backlog| backlog.due as f64));
        registry.register("due_executions", help, due);
        let help = "How long the oldest of the due executions has been due";
        let oldest = Maybe(self.backlog.map(|backlog| backlog.oldest_ms as f64 / 1_000.0));
        registry.register_with_unit("oldest_due", help, Unit::Seconds, oldest);
        registry.register("executions_in_memory", "Executions in memory", gauge(self.in_memory as u64));
    }

    fn guests(&self, registry: &mut Registry) {
        let SandboxUsage { small, large, memory_bytes, memory_bytes_max, started } = self.usage;
        let help = "Guest instances in memory";
        registry.register("guests", help, by_size(small.0, large.0));
        let help = "Guest instances that there may be";
        registry.register("guest_slots", help, by_size(small.1, large.1));
        registry.register("guests_idle", "Guest instances that only wait", gauge(self.idle_guests));
        registry.register("guests_started", "Guest instances started", ConstCounter::new(started));
        for (name, help, bytes) in [
            ("guest_memory", "Memory of all guests: linear memory, tables, contexts and stacks", memory_bytes),
            ("guest_memory_limit", "The most memory that guests may have", memory_bytes_max),
        ] {
            registry.register_with_unit(name, help, Unit::Bytes, gauge(bytes));
        }
        let [small, large] = self.host_bytes;
        let help = "Host memory held for guests and clients, by the size of the executions that hold it";
        registry.register_with_unit("host_memory", help, Unit::Bytes, by_size(small.0, large.0));
        let help = "Above this much host memory, executions of this size wait";
        registry.register_with_unit("host_memory_limit", help, Unit::Bytes, by_size(small.1, large.1));
    }
}

/// A gauge that is absent while its value is not known.
#[derive(Debug)]
struct Maybe(Option<f64>);

impl EncodeMetric for Maybe {
    fn encode(&self, encoder: MetricEncoder) -> Result<(), std::fmt::Error> {
        self.0.map_or(Ok(()), |value| ConstGauge::new(value).encode(encoder))
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

fn by(label: &'static str, values: [(&'static str, u64); 2]) -> Family<Label, Gauge> {
    let family = Family::<Label, Gauge>::default();
    for (word, value) in values {
        family.get_or_create(&[(label, word)]).set(signed(value));
    }
    family
}

fn by_size(small: u64, large: u64) -> Family<Label, Gauge> {
    by("size", [("small", small), ("large", large)])
}

/// A gauge that was read.
pub(super) fn gauge(value: u64) -> ConstGauge {
    ConstGauge::new(signed(value))
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
