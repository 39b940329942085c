//! The rules of polls. A poll in place, and the local modes of the SDKs, follow the same rules in code of their own: the
//! cases in `wit/polls.json` are run against all of them.

use serde::{Deserialize, Serialize};

use crate::limits::POLL_INTERVAL_MS_MIN;
use crate::{Failure, Json, StepCall, Timestamp, kind};

/// The schedule of a poll.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PollPolicy {
    /// The time from the end of one check to the start of the next.
    pub interval_ms: u64,
    /// The number of checks in all.
    pub max_attempts: u32,
    /// The time limit since the start of the poll, tested before each check but the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

impl PollPolicy {
    /// When the check after this one begins, if this one ended now and its condition did not hold.
    ///
    /// # Errors
    /// If it was the last check.
    pub(crate) fn next_check(&self, checks: u32, now: Timestamp) -> Result<Timestamp, Failure> {
        let interval = self.interval_ms;
        if checks < self.max_attempts {
            return Ok(now.plus(interval.max(POLL_INTERVAL_MS_MIN)));
        }
        let text = format!("Polling failed after {checks} attempts (interval: {interval}ms)");
        Err(Failure::new(kind::POLL_EXHAUSTED, text))
    }

    /// Tests the time limit before a check. The first check is made whatever the limit is.
    ///
    /// # Errors
    /// If this much time since the start of the poll is too much.
    pub(crate) fn test_time(&self, spent_ms: u64) -> Result<(), Failure> {
        match self.timeout_ms {
            Some(timeout) if spent_ms >= timeout => {
                let text = format!("Polling timed out after {spent_ms}ms (timeout: {timeout}ms)");
                Err(Failure::new(kind::POLL_TIMEOUT, text))
            }
            _ => Ok(()),
        }
    }
}

/// The answer of a check step.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum CheckResult {
    Ready(Json),
    NotYet(Json),
}

impl CheckResult {
    /// The answer in a check's output.
    pub(crate) fn parse(output: &Json, check: &StepCall) -> Result<Self, Failure> {
        serde_json::from_str(output.as_str()).map_err(|_| {
            let hint = r#"a check step answers {"ready": value} or {"not_yet": value}"#;
            Failure::new(kind::INVALID_OUTPUT, format!("{hint}, `{}` said {output}", check.step))
        })
    }
}
