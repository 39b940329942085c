//! Options and counters of an execution that are kept beside its history.

use serde::{Deserialize, Serialize};

use crate::{Timestamp, TraceRecord};

/// Options and counters that are kept beside the history.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ExecutionOptions {
    /// The time by which the whole execution has to be over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// How long clean-up may take after a cancel, as the workflow declared when the execution started; none for no
    /// limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_grace_ms: Option<u64>,
    /// Whether the execution was cancelled.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancelled: bool,
    /// When clean-up ends, if the execution was cancelled and has a limit for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_until: Option<Timestamp>,
    /// Whether the execution was cancelled while its workflow waited for no call. The next call returns `cancelled`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancel_owed: bool,
    /// When the execution begins, if that is still to come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_at: Option<Timestamp>,
    /// The number of ancestors that this execution has as a child.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub depth: u32,
    /// About how many bytes the history of the run holds. The number is written in steps, so that a small history need
    /// not write it.
    #[serde(default, skip_serializing_if = "is_none_yet")]
    pub history_bytes: u64,
    /// The bytes of log lines that the run has written.
    #[serde(default, skip_serializing_if = "is_none_yet")]
    pub log_bytes: u64,
    /// What is kept of the execution's trace, if its spans are exported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<Box<TraceRecord>>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_none_yet(bytes: &u64) -> bool {
    *bytes == 0
}

impl ExecutionOptions {
    /// The options of the next run of a chain, with all that is counted per run set back.
    #[must_use]
    pub fn of_next_run(&self) -> Self {
        let trace = self.trace.as_ref().map(|trace| Box::new(trace.of_next_run()));
        Self { starts_at: None, history_bytes: 0, log_bytes: 0, trace, ..self.clone() }
    }

    /// Whether the execution was asked to cancel.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        // In data from before the flag existed, every cancel had a time limit.
        self.cancelled || self.cancel_until.is_some()
    }
}
