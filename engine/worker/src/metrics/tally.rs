//! What a batch brings to the metrics. It is counted once the batch is durable: what is not committed has not happened.

use cerebelum_history::{Changes, End, EndedStep, EventData, Position};
use cerebelum_store::ExecutionRow;

use super::Metrics;
use super::executions::{LONG_HISTORY_EVENTS, kind_of};
use crate::traces::hex;

/// The figures of one batch.
pub(crate) struct BatchTally {
    steps: Vec<EndedStep>,
    retries: u64,
    /// Whether it was an attempt of a step, and the number of its kind.
    failures: Vec<(bool, usize)>,
    /// The number of the outcome, and how long the execution took in milliseconds.
    end: Option<(usize, u64)>,
    /// Whether this run has ended.
    is_last: bool,
    /// The last position before the batch, and the last one in it.
    positions: (Position, Position),
}

impl BatchTally {
    /// The figures of changes that are not yet part of a batch. Nothing is looked at twice, and a batch without an end or
    /// a failure allocates nothing.
    pub(crate) fn of(
        changes: &mut Changes,
        (row, end): (&ExecutionRow, Option<&End>),
        positions: (Position, Position),
    ) -> Self {
        let (mut retries, mut failures) = (0, Vec::new());
        for event in &changes.events {
            match &event.data {
                EventData::StepRetried { failure, .. } => {
                    retries += 1;
                    failures.push((true, kind_of(&failure.kind)));
                }
                EventData::StepFailed { failure, .. } => failures.push((true, kind_of(&failure.kind))),
                EventData::ExecutionFailed { failure } => failures.push((false, kind_of(&failure.kind))),
                _ => {}
            }
        }
        let outcome = match end {
            Some(End::Completed(_)) => Some(0),
            Some(End::Failed(_)) => Some(1),
            Some(End::Cancelled(_)) => Some(2),
            Some(End::Continued(_)) | None => None,
        };
        let took_ms = changes.events.last().map_or(0, |last| last.at.since(row.started_at));
        let end_ms = outcome.map(|outcome| (outcome, took_ms));
        let steps = std::mem::take(&mut changes.ended_steps);
        Self { steps, retries, failures, end: end_ms, is_last: end.is_some(), positions }
    }

    /// Counts it, under the trace in which the execution was when it made the batch.
    pub(crate) fn count(&self, metrics: &Metrics, workflow: &str, trace: Option<[u8; 16]>) {
        let executions = &metrics.executions;
        let trace = || trace.map(|trace| [("trace_id", hex(trace))]);
        for step in &self.steps {
            let ended = if step.is_completed { &executions.steps_completed } else { &executions.steps_failed };
            ended.inc();
            executions.step_duration.observe(seconds(step.took_ms), trace(), None);
            executions.step_attempts.observe(step.attempts.into());
        }
        executions.retries.inc_by(self.retries);
        self.failures.iter().for_each(|failure| executions.failed(*failure));
        let (before, last) = self.positions;
        if (before.0 + 1..=last.0).contains(&LONG_HISTORY_EVENTS) {
            executions.long_histories.inc();
        }
        if self.is_last {
            executions.history_events.observe(last.0 as f64);
        }
        if let Some((outcome, took_ms)) = self.end {
            executions.workflows.of(workflow).ended[outcome].inc();
            executions.duration.at(outcome).observe(seconds(took_ms), trace(), None);
        }
    }
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}
