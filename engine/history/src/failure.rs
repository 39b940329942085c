//! Failures: the record of why something did not succeed, and the kinds that the engine gives.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Json;
use crate::limits::{DETAILS_BYTES_MAX, KIND_BYTES_MAX, MESSAGE_BYTES_MAX};

/// Why a call, a step or an execution did not succeed. It is data: guests return and receive it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// A stable word, see [`kind`]. Authors may use words of their own.
    pub kind: String,
    /// One line for a person to read.
    pub message: String,
    /// Any details that help to understand the failure, such as an exception's type and traceback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Json>,
    /// Whether another attempt could succeed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retryable: bool,
}

impl Failure {
    /// A failure that no further attempt can fix.
    #[must_use]
    pub fn new(kind: &str, message: impl Into<String>) -> Self {
        Self { kind: kind.to_owned(), message: message.into(), details: None, retryable: false }.within_limits()
    }

    /// A failure that another attempt may fix.
    #[must_use]
    pub fn retryable(kind: &str, message: impl Into<String>) -> Self {
        Self { retryable: true, ..Self::new(kind, message) }
    }

    /// The same failure within the limits: a kind of at most [`KIND_BYTES_MAX`] of `A-Z a-z 0-9 . _ : -` (other
    /// characters become `-`), a message cut to [`MESSAGE_BYTES_MAX`], and details of at most [`DETAILS_BYTES_MAX`].
    #[must_use]
    pub fn within_limits(mut self) -> Self {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._:-".contains(c);
        if self.kind.is_empty() {
            kind::FAILURE.clone_into(&mut self.kind);
        } else if self.kind.len() > KIND_BYTES_MAX || !self.kind.chars().all(allowed) {
            let word = |c| if allowed(c) { c } else { '-' };
            self.kind = self.kind.chars().take(KIND_BYTES_MAX).map(word).collect();
        }
        self.message.truncate(cut(&self.message, MESSAGE_BYTES_MAX).len());
        if let Some(details) = self.details.as_ref().filter(|details| details.as_str().len() > DETAILS_BYTES_MAX) {
            self.details = Some(Json::of(&cut(details.as_str(), DETAILS_BYTES_MAX / 4)));
        }
        self
    }

    /// The same failure for places that only show it: a short message and no details.
    pub(crate) fn in_short(&self) -> Self {
        const SHORT_BYTES: usize = 1 << 10;
        Self { message: cut(&self.message, SHORT_BYTES).to_owned(), details: None, ..self.clone() }
    }

    /// The same failure for lists: the beginning of its message, and of its details the type of an exception.
    #[must_use]
    pub fn for_lists(&self) -> Self {
        const LIST_BYTES: usize = 200;
        #[derive(Deserialize, Serialize)]
        struct Type {
            r#type: String,
        }
        let of_exception = self.details.as_ref().filter(|_| self.kind == kind::EXCEPTION);
        let kept = of_exception.and_then(|details| serde_json::from_str(details.as_str()).ok());
        let details = kept.filter(|Type { r#type }| r#type.len() <= LIST_BYTES).map(|kept| Json::of(&kept));
        let message = cut(&self.message, LIST_BYTES);
        let more = if message.len() < self.message.len() { "…" } else { "" };
        Self { message: format!("{message}{more}"), details, ..self.clone() }
    }

    /// Bytes of the texts.
    pub(crate) fn weight(&self) -> usize {
        self.kind.len() + self.message.len() + self.details.as_ref().map_or(0, |details| details.as_str().len())
    }
}

/// The beginning of a text, at most `bytes_max` bytes long.
fn cut(text: &str, bytes_max: usize) -> &str {
    let end = (0..=bytes_max.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    &text[..end]
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}

impl std::error::Error for Failure {}

/// The kinds of failure that the engine and its SDKs give. They are the same words everywhere.
pub mod kind {
    /// User code returned or raised a failure.
    pub const FAILURE: &str = "failure";
    /// User code raised an exception. The details have its type and its traceback.
    pub const EXCEPTION: &str = "exception";
    /// The guest trapped.
    pub const TRAP: &str = "trap";
    /// A stretch of a step, or an awaited signal, took too long.
    pub const TIMEOUT: &str = "timeout";
    /// A whole step or execution took too long.
    pub const DEADLINE: &str = "deadline";
    /// A client cancelled it.
    pub const CANCELLED: &str = "cancelled";
    /// A person rejected the request.
    pub const REJECTED: &str = "rejected";
    /// No person answered in time.
    pub const APPROVAL_TIMEOUT: &str = "approval-timeout";
    /// A poll used up its attempts.
    pub const POLL_EXHAUSTED: &str = "poll-exhausted";
    /// A poll used up its time.
    pub const POLL_TIMEOUT: &str = "poll-timeout";
    /// The guest asked for more memory than its limit.
    pub const MEMORY_LIMIT: &str = "memory-limit";
    /// The guest used more CPU time than its limit.
    pub const CPU_LIMIT: &str = "cpu-limit";
    /// The guest recursed too deeply.
    pub const STACK_OVERFLOW: &str = "stack-overflow";
    /// A value was larger than the limit for values.
    pub const OUTPUT_TOO_LARGE: &str = "output-too-large";
    /// A value was not valid JSON.
    pub const INVALID_OUTPUT: &str = "invalid-output";
    /// The history is full.
    pub const HISTORY_LIMIT: &str = "history-limit";
    /// Too many calls are open, their arguments are too large together, or they nest too deeply.
    pub const CALL_LIMIT: &str = "call-limit";
    /// An attribute has an invalid name or value, or the execution has too many attributes.
    pub const ATTRIBUTE_LIMIT: &str = "attribute-limit";
    /// The guest waits, but for nothing that could ever happen.
    pub const DEADLOCK: &str = "deadlock";
    /// The engine failed while it performed a call. The engine's log has the cause.
    pub const ENGINE_FAILURE: &str = "engine-failure";
    /// The guest lacks the permission.
    pub const NOT_GRANTED: &str = "not-granted";
    /// The tenant has used up one of its quotas, which the message names.
    pub const QUOTA: &str = "quota";
    /// An argument is not valid.
    pub const INVALID_ARGUMENT: &str = "invalid-argument";
    /// The named thing does not exist.
    pub const NOT_FOUND: &str = "not-found";
    /// The name is already taken by something else.
    pub const CONFLICT: &str = "conflict";
    /// A value does not match its schema.
    pub const SCHEMA_MISMATCH: &str = "schema-mismatch";
    /// No connection could be made.
    pub const HTTP_CONNECT: &str = "http-connect";
    /// The exchange took too long.
    pub const HTTP_TIMEOUT: &str = "http-timeout";
    /// The exchange broke off or was malformed.
    pub const HTTP_PROTOCOL: &str = "http-protocol";
    /// The response was larger than the limit for responses.
    pub const HTTP_TOO_LARGE: &str = "http-too-large";
    /// User code took the status of a response for a failure.
    pub const HTTP_STATUS: &str = "http-status";

    /// All of them.
    pub const ALL: [&str; 31] = [
        FAILURE,
        EXCEPTION,
        TRAP,
        TIMEOUT,
        DEADLINE,
        CANCELLED,
        REJECTED,
        APPROVAL_TIMEOUT,
        POLL_EXHAUSTED,
        POLL_TIMEOUT,
        MEMORY_LIMIT,
        CPU_LIMIT,
        STACK_OVERFLOW,
        OUTPUT_TOO_LARGE,
        INVALID_OUTPUT,
        HISTORY_LIMIT,
        CALL_LIMIT,
        ATTRIBUTE_LIMIT,
        DEADLOCK,
        ENGINE_FAILURE,
        NOT_GRANTED,
        QUOTA,
        INVALID_ARGUMENT,
        NOT_FOUND,
        CONFLICT,
        SCHEMA_MISMATCH,
        HTTP_CONNECT,
        HTTP_TIMEOUT,
        HTTP_PROTOCOL,
        HTTP_TOO_LARGE,
        HTTP_STATUS,
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of the page that lists the kinds, one row for one or several of them.
    fn documented() -> Vec<String> {
        let page = include_str!("../../../docs/operating.md");
        let section = page.split("\n## Failures\n").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
        let kinds = section.lines().filter(|line| line.starts_with("| `")).filter_map(|line| line.split('|').nth(1));
        kinds.flat_map(|cell| cell.split(',').map(|word| word.trim().trim_matches('`').to_owned())).collect()
    }

    #[test]
    fn every_kind_is_documented_and_every_documented_kind_is_known() {
        let (mut documented, mut known) = (documented(), kind::ALL.map(str::to_owned));
        documented.sort();
        known.sort();
        assert_eq!(documented, known);
    }

    #[test]
    fn kind_message_and_details_are_kept_within_limits() {
        let of = |kind: &str, message: &str, details: Option<Json>| {
            let failure = Failure { kind: kind.to_owned(), message: message.to_owned(), details, retryable: true }
                .within_limits();
            assert!(failure.kind.len() <= KIND_BYTES_MAX && !failure.kind.is_empty());
            assert!(failure.message.len() <= MESSAGE_BYTES_MAX);
            assert!(failure.details.as_ref().is_none_or(|details| details.as_str().len() <= DETAILS_BYTES_MAX));
            failure
        };
        assert_eq!(of("Card.Declined_2:x-y", "m", None).kind, "Card.Declined_2:x-y");
        assert_eq!(of("", "m", None).kind, kind::FAILURE);
        assert_eq!(of("two words\nand ü", "m", None).kind, "two-words-and--");
        assert_eq!(of(&"é".repeat(1 << 20), "m", None).kind, "-".repeat(KIND_BYTES_MAX));
        assert_eq!(of("k", &"é".repeat(MESSAGE_BYTES_MAX), None).message.len(), MESSAGE_BYTES_MAX);
        let small = Json::of(&"x".repeat(100));
        assert_eq!(of("k", "m", Some(small.clone())).details, Some(small));
        for filler in ["x", "\"", "\u{1}", "é"] {
            let large = of("k", "m", Some(Json::of(&filler.repeat(100 << 10)))).details;
            assert!(large.is_some_and(|details| details.as_str().starts_with(r#""\""#)), "the beginning stays");
        }
    }
}
