//! Why something did not succeed: the one record, and the words it uses.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Json;

/// The longest failure message kept, in bytes; longer ones are cut.
pub const MESSAGE_BYTES_MAX: usize = 16 << 10;

/// Why a call, a step or an execution did not succeed. It is data: guests return and receive it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// A stable word, see [`kind`]; authors may use words of their own.
    pub kind: String,
    /// One line for a person.
    pub message: String,
    /// Anything that helps to understand: an exception's type and traceback, say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Json>,
    /// Whether another attempt could succeed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retryable: bool,
}

impl Failure {
    /// A failure that no further attempt can mend.
    #[must_use]
    pub fn new(kind: &str, message: impl Into<String>) -> Self {
        Self { kind: kind.to_owned(), message: message.into(), details: None, retryable: false }.within_limits()
    }

    /// A failure that another attempt may mend.
    #[must_use]
    pub fn retryable(kind: &str, message: impl Into<String>) -> Self {
        Self { retryable: true, ..Self::new(kind, message) }
    }

    /// The same with its message cut to [`MESSAGE_BYTES_MAX`].
    #[must_use]
    pub fn within_limits(mut self) -> Self {
        if self.message.len() > MESSAGE_BYTES_MAX {
            let cut = (0..=MESSAGE_BYTES_MAX).rev().find(|&i| self.message.is_char_boundary(i)).unwrap_or(0);
            self.message.truncate(cut);
        }
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}

impl std::error::Error for Failure {}

/// The kinds that the engine itself gives, the same words everywhere.
pub mod kind {
    /// User code returned or raised a failure.
    pub const FAILURE: &str = "failure";
    /// The guest trapped.
    pub const TRAP: &str = "trap";
    /// A stretch of a step, or an awaited signal, took too long.
    pub const TIMEOUT: &str = "timeout";
    /// A whole step or execution took too long.
    pub const DEADLINE: &str = "deadline";
    /// Somebody cancelled it.
    pub const CANCELLED: &str = "cancelled";
    /// A person said no.
    pub const REJECTED: &str = "rejected";
    /// No person answered in time.
    pub const APPROVAL_TIMEOUT: &str = "approval-timeout";
    /// A poll used up its attempts.
    pub const POLL_EXHAUSTED: &str = "poll-exhausted";
    /// A poll used up its time.
    pub const POLL_TIMEOUT: &str = "poll-timeout";
    /// The guest wanted more memory than it may have.
    pub const MEMORY_LIMIT: &str = "memory-limit";
    /// The guest computed longer than it may.
    pub const CPU_LIMIT: &str = "cpu-limit";
    /// The guest recursed too deeply.
    pub const STACK_OVERFLOW: &str = "stack-overflow";
    /// A value was larger than a value may be.
    pub const OUTPUT_TOO_LARGE: &str = "output-too-large";
    /// A value was no JSON.
    pub const INVALID_OUTPUT: &str = "invalid-output";
    /// The history is full.
    pub const HISTORY_LIMIT: &str = "history-limit";
    /// Too many calls are open.
    pub const CALL_LIMIT: &str = "call-limit";
    /// The guest waits for nothing that could ever happen.
    pub const DEADLOCK: &str = "deadlock";
    /// The engine failed while it performed a call; its log says how.
    pub const ENGINE_FAILURE: &str = "engine-failure";
    /// The guest may not do this.
    pub const NOT_GRANTED: &str = "not-granted";
    /// An argument makes no sense.
    pub const INVALID_ARGUMENT: &str = "invalid-argument";
    /// What was named does not exist.
    pub const NOT_FOUND: &str = "not-found";
    /// The name is taken by something else.
    pub const CONFLICT: &str = "conflict";
    /// A value does not match its schema.
    pub const SCHEMA_MISMATCH: &str = "schema-mismatch";
    /// No connection could be made.
    pub const HTTP_CONNECT: &str = "http-connect";
    /// The exchange took too long.
    pub const HTTP_TIMEOUT: &str = "http-timeout";
    /// The exchange broke off or was malformed.
    pub const HTTP_PROTOCOL: &str = "http-protocol";
    /// The answer was larger than an answer may be.
    pub const HTTP_TOO_LARGE: &str = "http-too-large";
}
