//! Small facts of an execution that are kept beside its history.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Small facts that stand beside the history.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ExecutionOptions {
    /// When the whole execution has to be over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// How long its clean-up may take after a cancel, as its workflow declared when it started; none for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_grace_ms: Option<u64>,
    /// It was cancelled.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancelled: bool,
    /// It was cancelled, and clean-up ends then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_until: Option<Timestamp>,
    /// It was cancelled while its workflow waited for nothing: its next call returns `cancelled`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancel_owed: bool,
    /// It begins only then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_at: Option<Timestamp>,
    /// How many executions stand above it as parents of parents.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub depth: u32,
    /// About how many bytes the history of its run holds; noted in steps, so that small ones need not say it.
    #[serde(default, skip_serializing_if = "is_none_yet")]
    pub history_bytes: u64,
    /// How many bytes of log lines its run has written.
    #[serde(default, skip_serializing_if = "is_none_yet")]
    pub log_bytes: u64,
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
    /// The facts of the next run of a chain: what was counted for this one begins anew.
    #[must_use]
    pub fn of_next_run(&self) -> Self {
        Self { starts_at: None, history_bytes: 0, log_bytes: 0, ..self.clone() }
    }

    /// Whether somebody asked for the execution to be cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        // Every cancel had a time limit when the flag was not there yet.
        self.cancelled || self.cancel_until.is_some()
    }
}
