//! The results of a run in a test.

use std::time::Duration;

use cerebelum_history::{End, ExecutionId, Scope, Timestamp};
use serde_json::Value;

use super::local_execution::LocalExecution;
use super::script::duration;
use super::world::World;
use crate::error::{Error, Result};
use crate::host::native::error_of;
use crate::json::Data;

/// One event, as `cerebelum history --json` would show it.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The position in the history, from 1.
    pub position: u64,
    /// The time since the start.
    pub time: Duration,
    /// A past-tense word such as `StepCompleted`.
    pub kind: String,
    /// The scope of the event, as a path of calls; empty for the workflow itself.
    pub scope: String,
    /// Everything else.
    pub fields: Value,
}

/// The result of a run: its output or error, its history, and how long it took by the virtual clock.
#[derive(Debug)]
pub struct Run<T> {
    result: Result<T>,
    elapsed: Duration,
    history: Vec<Event>,
    runs: u32,
    progress: Vec<(String, u8, String)>,
    logs: Vec<String>,
    attributes: Vec<(String, Value)>,
    others: Vec<String>,
}

impl<T> Run<T> {
    /// The output of the workflow.
    ///
    /// # Errors
    /// The error of the workflow; of kind `waiting` when it still waits for something that never happens in the test.
    pub fn output(&self) -> Result<&T, &Error> {
        self.result.as_ref()
    }

    /// The output itself, or the error.
    ///
    /// # Errors
    /// Those of [`Run::output`].
    pub fn into_output(self) -> Result<T> {
        self.result
    }

    /// How long the run took, by the virtual clock.
    #[must_use]
    pub const fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// The history of the last run.
    #[must_use]
    pub fn history(&self) -> &[Event] {
        &self.history
    }

    /// The kinds of the events, in order.
    #[must_use]
    pub fn kinds(&self) -> Vec<&str> {
        self.history.iter().map(|event| event.kind.as_str()).collect()
    }

    /// The number of runs: one, and one more for each continue-as-new.
    #[must_use]
    pub const fn runs(&self) -> u32 {
        self.runs
    }

    /// The last progress that the workflow itself reported.
    #[must_use]
    pub fn progress(&self) -> Option<(u8, &str)> {
        self.progress_of("")
    }

    /// The last progress that a scope reported: `"3"` is the step of the workflow's third call.
    #[must_use]
    pub fn progress_of(&self, scope: &str) -> Option<(u8, &str)> {
        self.progress.iter().find_map(|(of, percent, text)| (of == scope).then_some((*percent, text.as_str())))
    }

    /// The log lines, in order.
    #[must_use]
    pub fn logs(&self) -> &[String] {
        &self.logs
    }

    /// An attribute that the workflow set.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&Value> {
        self.attributes.iter().find_map(|(of, value)| (of == name).then_some(value))
    }

    /// The ids of the other executions that were started.
    #[must_use]
    pub fn others(&self) -> &[String] {
        &self.others
    }
}

impl<T: Data> Run<T> {
    pub(super) fn of(world: &World, id: &ExecutionId, began: Timestamp) -> Self {
        let seat = world.seat(id.as_str()).expect("the execution that was run is there");
        let events = seat.runs.last().map(Vec::as_slice).unwrap_or_default();
        let history = (1..).zip(events).map(|(position, event)| Event {
            position,
            time: duration(event.at.since(began)),
            kind: event.data.kind(),
            scope: event.scope.as_str().to_owned(),
            fields: value(event.data.fields().as_str()),
        });
        let text = |scope: &Scope| scope.as_str().to_owned();
        Self {
            result: result(seat),
            elapsed: duration(world.now().since(began)),
            history: history.collect(),
            runs: u32::try_from(seat.runs.len()).unwrap_or(u32::MAX),
            progress: seat.progress.iter().map(|(scope, (n, words))| (text(scope), *n, words.clone())).collect(),
            logs: seat.logs.iter().map(|line| line.text.clone()).collect(),
            attributes: attributes(seat),
            others: world.ids().filter(|other| *other != id.as_str()).map(str::to_owned).collect(),
        }
    }
}

fn attributes(seat: &LocalExecution) -> Vec<(String, Value)> {
    seat.execution.attributes().iter().map(|(name, json)| (name.clone(), value(json.as_str()))).collect()
}

fn result<T: Data>(seat: &LocalExecution) -> Result<T> {
    match (seat.execution.end(), &seat.stuck) {
        (Some(End::Completed(output)), _) => T::from_json(output.as_str()),
        (Some(End::Failed(failure) | End::Cancelled(failure)), _) => Err(error_of(failure.clone())),
        (Some(End::Continued(_)) | None, Some(stuck)) => {
            Err(Error::new(stuck.kind().to_owned(), stuck.message().to_owned()).permanent())
        }
        (Some(End::Continued(_)) | None, None) => unreachable!("a run ends, or it is known why not"),
    }
}

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}
