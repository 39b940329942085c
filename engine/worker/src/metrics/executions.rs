//! Metrics of executions and their steps: starts, ends, failures, waits.

use cerebelum_history::kind;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::families::{ByWord, TracedHistogram, counter, counters, histogram, seconds, seconds_by};
use super::workflows::Workflows;

/// From 10 ms to 30 days.
const EXECUTION_SECONDS: [f64; 14] =
    [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 600.0, 3_600.0, 21_600.0, 86_400.0, 604_800.0, 2_592_000.0];
const START_SECONDS: [f64; 10] = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
const STEP_SECONDS: [f64; 11] = [0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0, 3_600.0, 86_400.0];
const ATTEMPTS: [f64; 6] = [1.0, 2.0, 3.0, 5.0, 10.0, 30.0];
const WAKE_SECONDS: [f64; 11] = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];
const CLAIMED: [f64; 6] = [0.0, 1.0, 4.0, 16.0, 64.0, 256.0];
const HISTORY_EVENTS: [f64; 7] = [10.0, 100.0, 1_000.0, 10_000.0, 25_000.0, 40_000.0, 50_000.0];
/// A history of so many events is near its limit of 50,000.
pub(super) const LONG_HISTORY_EVENTS: u64 = 40_000;

/// The outcomes of executions, as [`super::tally::BatchTally`] numbers them.
pub(super) const OUTCOMES: [&str; 3] = ["completed", "failed", "cancelled"];
/// What a failure ended: an execution, or an attempt of a step.
const SCOPES: [&str; 2] = ["workflow", "step"];
/// The reasons for parking, as `docs/operating.md` lists them.
const REASONS: [&str; 9] = [
    "diverged",
    "corrupt-history",
    "component-missing",
    "component-damaged",
    "component-refused",
    "engine-error",
    "engine-crash",
    "stored-bytes",
    "other",
];
/// A failure whose kind is a word of the workflow's author.
const AUTHOR: &str = "author";

/// The start of an execution that ran ahead of its own start.
pub(crate) const START_AHEAD: usize = 0;
/// The start of an execution that was stored first.
pub(crate) const START_STORED: usize = 1;
/// A time was reached.
pub(crate) const WAKE_TIMER: usize = 0;
/// The execution was stored before it ran.
pub(crate) const WAKE_START: usize = 1;

#[derive(Debug)]
pub(crate) struct ExecutionMetrics {
    pub(crate) workflows: Workflows,
    pub(super) duration: ByWord<TracedHistogram>,
    pub(crate) start: ByWord<Histogram>,
    pub(super) steps_completed: Counter,
    pub(super) steps_failed: Counter,
    pub(super) step_duration: TracedHistogram,
    pub(super) step_attempts: Histogram,
    pub(super) retries: Counter,
    failures: [Vec<Counter>; SCOPES.len()],
    parked: ByWord<Counter>,
    pub(crate) wake_delay: ByWord<Histogram>,
    pub(crate) activations: Counter,
    pub(crate) claim_sizes: Histogram,
    pub(super) history_events: Histogram,
    pub(super) long_histories: Counter,
    pub(crate) deleted: Counter,
    pub(crate) core_task_restarts: Counter,
}

impl ExecutionMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let steps = counters(registry, ("steps", "Steps that ended"), "outcome", &["completed", "failed"]);
        Self {
            workflows: Workflows::new(registry),
            duration: seconds_by(
                registry,
                ("execution_duration", "Time from the start of an execution to its end"),
                ("outcome", &OUTCOMES),
                &EXECUTION_SECONDS,
            ),
            start: seconds_by(
                registry,
                ("start", "Time from the request to start an execution to its durable answer"),
                ("path", &["ahead", "stored"]),
                &START_SECONDS,
            ),
            steps_completed: steps.at(0).clone(),
            steps_failed: steps.at(1).clone(),
            step_duration: seconds(
                registry,
                ("step_duration", "Time from the call of a step to its end, with its retries and waits"),
                &STEP_SECONDS,
            ),
            step_attempts: histogram(registry, ("step_attempts", "Attempts of steps that ended"), &ATTEMPTS),
            retries: counter(registry, "retries", "Attempts of steps that failed and are tried again"),
            failures: failures(registry),
            parked: counters(registry, ("parked", "Executions set aside for a person"), "reason", &REASONS),
            wake_delay: seconds_by(
                registry,
                ("wake_delay", "Time from when an execution can move to when it does"),
                ("cause", &["timer", "start"]),
                &WAKE_SECONDS,
            ),
            activations: counter(registry, "activations", "Times an execution was taken into memory"),
            claim_sizes: histogram(registry, ("claim_executions", "Executions claimed at once"), &CLAIMED),
            history_events: histogram(registry, ("history_events", "Events of runs that ended"), &HISTORY_EVENTS),
            long_histories: counter(registry, "long_histories", "Runs whose history reached 40,000 events"),
            deleted: counter(registry, "executions_deleted", "Ended executions deleted in the background"),
            core_task_restarts: counter(registry, "core_task_restarts", "Core tasks that ended and began again"),
        }
    }

    /// Counts a parking. The reason begins with a word and a colon.
    pub(crate) fn parked(&self, reason: &str) {
        self.parked.of(reason.split(':').next().unwrap_or_default()).inc();
    }

    /// Counts executions whose damage a sweep found.
    pub(crate) fn parked_by_sweep(&self, count: u64) {
        self.parked.of("corrupt-history").inc_by(count);
    }

    pub(super) fn failed(&self, (is_step, kind): (bool, usize)) {
        self.failures[usize::from(is_step)][kind].inc();
    }
}

/// The number of a failure's kind.
pub(super) fn kind_of(kind: &str) -> usize {
    kind::ALL.iter().position(|known| *known == kind).unwrap_or(kind::ALL.len())
}

fn failures(registry: &mut Registry) -> [Vec<Counter>; SCOPES.len()] {
    let family = Family::<[(&'static str, &'static str); 2], Counter>::default();
    let kinds = || kind::ALL.into_iter().chain([AUTHOR]);
    let of = |scope, kind| family.get_or_create_owned(&[("scope", scope), ("kind", kind)]);
    let failures = SCOPES.map(|scope| kinds().map(|kind| of(scope, kind)).collect());
    registry.register("failures", "Executions and attempts of steps that failed", family);
    failures
}
