//! Metrics of what is written: commits, refusals, leases.

use cerebelum_store::AppendError;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::families::{ByWord, counter, counters, histogram, seconds};

const COMMIT_SECONDS: [f64; 11] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
const BATCHES: [f64; 10] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0];
/// The lease was renewed.
pub(crate) const RENEWED: usize = 0;
/// The lease is lost.
pub(crate) const LOST: usize = 1;
/// The database did not answer in time, or with an error.
pub(crate) const UNANSWERED: usize = 2;

#[derive(Debug)]
pub(crate) struct WriteMetrics {
    pub(crate) commits: Counter,
    pub(crate) commit: Histogram,
    pub(crate) batch_sizes: Histogram,
    pub(crate) events: Counter,
    refused: ByWord<Counter>,
    pub(crate) takeovers: Counter,
    pub(crate) renewals: ByWord<Counter>,
}

impl WriteMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        Self {
            commits: counter(registry, "commits", "Transactions that wrote batches"),
            commit: seconds(
                registry,
                ("commit", "Time to make a group of batches durable, with all attempts"),
                &COMMIT_SECONDS,
            ),
            batch_sizes: histogram(registry, ("commit_batches", "Batches per commit"), &BATCHES),
            events: counter(registry, "events", "Events written"),
            refused: counters(
                registry,
                ("batches_refused", "Batches the store refused"),
                "reason",
                &["claim-lost", "moved", "exists", "already-answered", "too-early", "forbidden"],
            ),
            takeovers: counter(registry, "takeovers", "Leases of silent engines that this engine ended"),
            renewals: counters(
                registry,
                ("lease_renewals", "Attempts to renew the lease"),
                "result",
                &["renewed", "lost", "unanswered"],
            ),
        }
    }

    /// Counts a refused batch.
    pub(crate) fn refused(&self, why: &AppendError) {
        let reason = match why {
            AppendError::ClaimLost => 0,
            AppendError::Moved => 1,
            AppendError::Exists => 2,
            AppendError::AlreadyAnswered => 3,
            AppendError::TooEarly => 4,
            AppendError::Forbidden => 5,
        };
        self.refused.at(reason).inc();
    }
}
