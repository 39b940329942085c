//! Metrics of guests: starts, turns, reruns, evictions.

use cerebelum_history::Scope;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::families::{ByWord, counter, counters, seconds, seconds_by};

const START_SECONDS: [f64; 11] = [0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];
const COMPUTE_SECONDS: [f64; 10] = [0.000_05, 0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.1, 1.0, 10.0, 30.0];
const SCOPES: [&str; 2] = ["workflow", "step"];

/// The execution was loaded into memory, and its guests with it.
pub(crate) const REPLAY_LOADED: usize = 0;
/// The guest was evicted while its execution stayed in memory.
pub(crate) const REPLAY_EVICTED: usize = 1;

/// The number of the label of a scope: the workflow's, or a step's.
pub(crate) fn scope_of(scope: &Scope) -> usize {
    usize::from(!scope.is_root())
}

#[derive(Debug)]
pub(crate) struct GuestMetrics {
    pub(crate) start: Histogram,
    pub(crate) compute: ByWord<Histogram>,
    pub(crate) turns: ByWord<Counter>,
    pub(crate) replays: ByWord<Counter>,
    pub(crate) events_read: Counter,
    pub(crate) evictions: Counter,
}

impl GuestMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        Self {
            start: seconds(
                registry,
                ("guest_start", "Time to start a guest, with its wait for a slot and for memory"),
                &START_SECONDS,
            ),
            compute: seconds_by(
                registry,
                ("guest_compute", "Time that a guest computes in one turn"),
                ("scope", &SCOPES),
                &COMPUTE_SECONDS,
            ),
            turns: counters(registry, ("turns", "Times a guest ran until it could not move"), "scope", &SCOPES),
            replays: counters(
                registry,
                ("replays", "Guests that were rerun over recorded events"),
                "reason",
                &["loaded", "evicted"],
            ),
            events_read: counter(
                registry,
                "events_read",
                "Events read back to rerun guests, or to drop values of ended steps",
            ),
            evictions: counter(registry, "guest_evictions", "Idle guests that made room for others"),
        }
    }
}
