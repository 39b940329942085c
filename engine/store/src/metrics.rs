//! How long the operations of the database take, and how they fail.

use std::time::Instant;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::error::StoreError;

const SECONDS: [f64; 11] = [0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0];

/// The executions that no node has claimed although their time has come. Those that only have unread messages are not
/// among them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Their number; counting stops at [`BACKLOG_MAX`].
    pub due: u64,
    /// How long the oldest of them has been due, in milliseconds.
    pub oldest_ms: u64,
}

/// The most executions that [`Backlog::due`] counts.
pub const BACKLOG_MAX: u32 = 10_000;

/// Open connections to the database, without the one that listens for hints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConnectionCounts {
    /// Connections with an operation under way.
    pub used: u64,
    /// The others.
    pub idle: u64,
}

/// What an operation of the store is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Taking, renewing and ending leases.
    Lease,
    /// Claiming executions, and looking when the next one is due.
    Claim,
    /// Writing batches.
    Append,
    /// Reading, for the engine or for clients.
    Read,
    /// Writing what is not part of a batch.
    Write,
    /// Checking and deleting in the background.
    Sweep,
    /// Counting for the metrics.
    Count,
}

impl Operation {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Lease, "lease"),
        (Self::Claim, "claim"),
        (Self::Append, "append"),
        (Self::Read, "read"),
        (Self::Write, "write"),
        (Self::Sweep, "sweep"),
        (Self::Count, "count"),
    ];
}

/// The kinds of errors, as [`kind`] numbers them.
const KINDS: [&str; 5] = ["unavailable", "rejected", "unknown", "corrupt", "unusable"];

/// The number of an error's kind; none when a request was not valid, which says nothing about the database.
const fn kind(error: &StoreError) -> Option<usize> {
    match error {
        StoreError::Unavailable(_) => Some(0),
        StoreError::Rejected(_) => Some(1),
        StoreError::Unknown(_) => Some(2),
        StoreError::Corrupt(_) => Some(3),
        StoreError::Unusable(_) => Some(4),
        StoreError::Invalid(_) | StoreError::NotKept(_) => None,
    }
}

/// The metrics of one operation.
#[derive(Debug, Clone)]
struct OfOperation {
    seconds: Histogram,
    errors: [Counter; KINDS.len()],
}

/// Histograms by one label.
type Histograms = Family<[(&'static str, &'static str); 1], Histogram, fn() -> Histogram>;

/// The metrics of a store. Clones measure the same.
#[derive(Debug, Clone)]
pub struct StoreMetrics {
    seconds: Histograms,
    errors: Family<[(&'static str, &'static str); 2], Counter>,
    /// In the order of [`Operation::ALL`], so that no operation looks anything up.
    operations: [OfOperation; Operation::ALL.len()],
}

impl Default for StoreMetrics {
    fn default() -> Self {
        let new: fn() -> Histogram = || Histogram::new(SECONDS);
        let (seconds, errors) = (Family::new_with_constructor(new), Family::default());
        let operations = Operation::ALL.map(|(_, operation)| OfOperation {
            seconds: Family::get_or_create_owned(&seconds, &[("operation", operation)]),
            errors: KINDS.map(|kind| errors.get_or_create_owned(&[("operation", operation), ("kind", kind)])),
        });
        Self { seconds, errors, operations }
    }
}

impl StoreMetrics {
    /// Lists these metrics in a registry.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Time of the database's operations, with the wait for a connection";
        registry.register_with_unit("database", help, Unit::Seconds, self.seconds.clone());
        registry.register("database_errors", "Operations of the database that failed", self.errors.clone());
    }

    /// Runs an operation and measures it.
    pub(crate) async fn measure<T, E: Into<StoreError>>(
        &self,
        operation: Operation,
        doing: impl Future<Output = Result<T, E>>,
    ) -> Result<T, StoreError> {
        let began = Instant::now();
        let done = doing.await.map_err(E::into);
        let of_operation = &self.operations[operation as usize];
        of_operation.seconds.observe(began.elapsed().as_secs_f64());
        if let Some(kind) = done.as_ref().err().and_then(kind) {
            of_operation.errors[kind].inc();
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_stand_at_their_own_places() {
        for (at, (operation, _)) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(operation as usize, at);
        }
    }

    #[tokio::test]
    async fn an_operation_is_counted_under_its_own_name_and_an_invalid_request_is_no_error() {
        let metrics = StoreMetrics::default();
        let unavailable = StoreError::Unavailable("gone".into());
        let invalid = StoreError::Invalid("cursor".into());
        for outcome in [Ok(7), Err(unavailable), Err(invalid)] {
            let _ = metrics.measure(Operation::Append, std::future::ready(outcome)).await;
        }
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let of = |line: &str| text.lines().any(|found| found == line);
        assert!(of("database_seconds_count{operation=\"append\"} 3"), "{text}");
        assert!(of("database_errors_total{operation=\"append\",kind=\"unavailable\"} 1"), "{text}");
        let errors = text.lines().filter(|line| line.starts_with("database_errors_total"));
        let counted: u64 = errors.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum();
        assert_eq!(counted, 1, "{text}");
    }
}
