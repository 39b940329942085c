//! Metrics of what comes from outside and what leaves: requests of steps, answers, signals, uploads; and whether the
//! process itself keeps up.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::families::{ByWord, counter, counters, gauge, seconds, seconds_by};

const FETCH_SECONDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 60.0];
const APPROVAL_SECONDS: [f64; 9] = [1.0, 10.0, 60.0, 600.0, 3_600.0, 14_400.0, 86_400.0, 604_800.0, 2_592_000.0];
const LAG_SECONDS: [f64; 7] = [0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 2.0];
/// The class of the answer's status, or why there is none.
const FETCH_RESULTS: [&str; 13] = [
    "1xx",
    "2xx",
    "3xx",
    "4xx",
    "5xx",
    "http-connect",
    "http-timeout",
    "http-protocol",
    "http-too-large",
    "not-granted",
    "quota",
    "invalid-argument",
    "other",
];
const RESULTS: [&str; 3] = ["accepted", "refused", "unavailable"];

#[derive(Debug)]
pub(crate) struct OutsideMetrics {
    fetches: ByWord<Counter>,
    pub(crate) fetch: Histogram,
    pub(crate) fetches_in_flight: Gauge,
    pub(crate) approval_wait: ByWord<Histogram>,
    pub(crate) signals: ByWord<Counter>,
    pub(crate) uploads: ByWord<Counter>,
    pub(crate) spans_exported: Counter,
    pub(crate) spans_dropped: Counter,
    pub(crate) runtime_lag: Histogram,
}

impl OutsideMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        Self {
            fetches: counters(registry, ("fetches", "HTTP requests of steps that ended"), "result", &FETCH_RESULTS),
            fetch: seconds(registry, ("fetch", "Time of the HTTP requests of steps"), &FETCH_SECONDS),
            fetches_in_flight: gauge(registry, "fetches_in_flight", "HTTP requests of steps that are outside"),
            approval_wait: seconds_by(
                registry,
                ("approval_wait", "Time from a question to its answer"),
                ("decision", &["approved", "rejected"]),
                &APPROVAL_SECONDS,
            ),
            signals: counters(registry, ("signals", "Signals that clients sent"), "result", &RESULTS),
            uploads: counters(registry, ("uploads", "Components that clients uploaded"), "result", &RESULTS),
            spans_exported: counter(registry, "spans_exported", "Spans that the collector has taken"),
            spans_dropped: counter(registry, "spans_dropped", "Spans that were lost before the collector took them"),
            runtime_lag: seconds(
                registry,
                ("runtime_lag", "How much later than planned a task runs whose time has come"),
                &LAG_SECONDS,
            ),
        }
    }

    /// Counts a request of a step by the status of its answer, or by the kind of its failure.
    pub(crate) fn fetched(&self, result: Result<u16, &str>) {
        let counter = match result {
            Ok(status @ 100..600) => self.fetches.at(usize::from(status / 100 - 1)),
            Ok(_) => self.fetches.of("other"),
            Err(kind) => self.fetches.of(kind),
        };
        counter.inc();
    }
}

/// The result of what a client asked for, as a label.
pub(crate) const fn result_of<T>(answer: &Result<T, crate::ApiError>) -> usize {
    match answer {
        Ok(_) => 0,
        Err(crate::ApiError::Unavailable(_)) => 2,
        Err(_) => 1,
    }
}

/// Counts a request as in flight until it is dropped. The one that waits for its answer may go earlier.
pub struct InFlight(Gauge);

impl InFlight {
    /// A request more.
    #[must_use]
    pub fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_by_its_class_and_a_failure_by_its_kind() {
        let metrics = OutsideMetrics::new(&mut Registry::default());
        for result in [Ok(204), Ok(299), Ok(503), Err("http-connect"), Err("a-word-of-the-author"), Ok(700)] {
            metrics.fetched(result);
        }
        let counted = ["2xx", "5xx", "http-connect", "other", "4xx"].map(|word| metrics.fetches.of(word).get());
        assert_eq!(counted, [2, 1, 1, 2, 0]);
    }
}
