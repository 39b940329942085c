//! The lines of the engine's log about executions that begin and end. However many do, each second has one line of each
//! kind, which says how many others had none.

use cerebelum_store::{ExecutionKey, ExecutionRow, State};

use crate::env::Runtime;
use crate::throttle::Throttle;

/// The lines of one engine.
#[derive(Debug, Default)]
pub(crate) struct ExecutionLines {
    started: Throttle,
    ended: Throttle,
    /// Failures have their own, so that they are not lost among those that completed.
    failed: Throttle,
}

impl ExecutionLines {
    /// Says that the start of an execution is durable.
    pub(crate) fn started(&self, runtime: &dyn Runtime, key: &ExecutionKey, workflow: &str) {
        self.started.line(runtime, |held_back| {
            tracing::info!(event = "start", execution = %key, workflow, held_back, "an execution has started");
        });
    }

    /// Says that the end of an execution is durable, if its row has ended.
    pub(crate) fn ended(&self, runtime: &dyn Runtime, row: &ExecutionRow) {
        let lines = match row.state {
            State::Open => return,
            State::Failed => &self.failed,
            State::Completed | State::Cancelled => &self.ended,
        };
        lines.line(runtime, |held_back| {
            let took_ms = row.ended_at.map(|at| at.0.saturating_sub(row.started_at.0));
            tracing::info!(
                event = "end",
                execution = %row.key,
                workflow = row.workflow,
                run = row.run,
                status = %row.status,
                took_ms,
                held_back,
                "an execution has ended"
            );
        });
    }
}
