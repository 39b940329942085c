//! Errors as guests see them.

use std::borrow::Cow;
use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The result of workflows, steps and durable calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kinds that the engine and this crate use. Authors may use words of their own.
pub mod kind {
    /// User code returned an error without naming a kind.
    pub const FAILURE: &str = "failure";
    /// A stretch of a step, or an awaited signal, took too long.
    pub const TIMEOUT: &str = "timeout";
    /// The execution, or this call, was cancelled.
    pub const CANCELLED: &str = "cancelled";
    /// A person rejected the approval.
    pub const REJECTED: &str = "rejected";
    /// No person answered in time.
    pub const APPROVAL_TIMEOUT: &str = "approval-timeout";
    /// A poll used up its attempts.
    pub const POLL_EXHAUSTED: &str = "poll-exhausted";
    /// A poll used up its time.
    pub const POLL_TIMEOUT: &str = "poll-timeout";
    /// A value is not JSON.
    pub const INVALID_OUTPUT: &str = "invalid-output";
    /// An argument is not valid.
    pub const INVALID_ARGUMENT: &str = "invalid-argument";
    /// A value does not have the expected type.
    pub const SCHEMA_MISMATCH: &str = "schema-mismatch";
    /// There is nothing of the given name.
    pub const NOT_FOUND: &str = "not-found";
    /// A server answered with a status that means failure.
    pub const HTTP_STATUS: &str = "http-status";
}

/// An error: a stable [`kind`](Error::kind), a line for a person, and details for programs.
///
/// `?` converts every [`std::error::Error`] and keeps its sources in the details. Another attempt may fix such an
/// error, and one from [`Error::new`]; [`permanent`](Error::permanent) says that no attempt will.
///
/// ```
/// use cerebelum::prelude::*;
///
/// fn parse(text: &str) -> Result<u16> {
///     let port: u16 = text.parse()?;
///     if port == 0 {
///         bail!("bad-port", "port {port} is reserved");
///     }
///     Ok(port)
/// }
/// assert_eq!(parse("0").unwrap_err().kind(), "bad-port");
/// assert_eq!(parse("x").unwrap_err().kind(), "failure");
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: Cow<'static, str>,
    message: String,
    details: Option<String>,
    retryable: bool,
}

impl Error {
    /// An error of the given kind that another attempt may fix.
    pub fn new(kind: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind: kind.into(), message: message.into(), details: None, retryable: true }))
    }

    /// The same error, which no further attempt can fix: a step that fails with it is not retried.
    #[must_use]
    pub fn permanent(mut self) -> Self {
        self.0.retryable = false;
        self
    }

    /// The same error with details, which must have a JSON form.
    #[must_use]
    pub fn with_details(mut self, details: impl serde::Serialize) -> Self {
        self.0.details = serde_json::to_string(&details).ok();
        self
    }

    /// The stable word for this sort of error.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.0.kind
    }

    /// Whether the error is of this kind.
    #[must_use]
    pub fn is(&self, kind: &str) -> bool {
        self.0.kind == kind
    }

    /// One line for a person.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The details, if there are any of that shape.
    #[must_use]
    pub fn details<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(self.0.details.as_deref()?).ok()
    }

    /// Whether another attempt could succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// Whether the execution, or this call, was cancelled. The guest should then clean up and return.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.is(kind::CANCELLED)
    }

    pub(crate) fn of_parts(kind: String, message: String, details: Option<String>, retryable: bool) -> Self {
        Self(Box::new(Inner { kind: kind.into(), message, details, retryable }))
    }

    /// Kind, message, details as JSON text, and whether another attempt could succeed.
    pub(crate) fn into_parts(self) -> (String, String, Option<String>, bool) {
        let Inner { kind, message, details, retryable } = *self.0;
        (kind.into_owned(), message, details, retryable)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.kind, self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)?;
        if let Some(details) = &self.0.details {
            write!(f, " {details}")?;
        }
        if self.0.retryable { Ok(()) } else { f.write_str(" (permanent)") }
    }
}

// `Error` itself does not implement `std::error::Error`, as in anyhow: only then can `?` convert every other error.
impl<E: std::error::Error + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        let sources: Vec<Value> = std::iter::successors(error.source(), |e| (*e).source())
            .map(|source| Value::from(source.to_string()))
            .collect();
        Self::new(kind::FAILURE, error.to_string())
            .with_details(json!({ "type": std::any::type_name::<E>(), "sources": sources }))
    }
}

/// Returns early with an [`Error`]: `bail!("kind", "message {value}")`.
#[macro_export]
macro_rules! bail {
    ($kind:expr, $($message:tt)+) => {
        return ::core::result::Result::Err($crate::Error::new($kind, ::std::format!($($message)+)).into())
    };
}

/// Returns early with an [`Error`] unless a condition holds: `ensure!(n > 0, "kind", "message {n}")`.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $kind:expr, $($message:tt)+) => {
        if !$condition {
            $crate::bail!($kind, $($message)+);
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Outer(std::num::ParseIntError);
    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bad number")
        }
    }
    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn a_standard_error_keeps_its_type_and_its_sources() {
        let error: Error = Outer("x".parse::<u8>().unwrap_err()).into();
        let details: Value = error.details().unwrap();
        assert_eq!(error.to_string(), "failure: bad number");
        assert!(details["type"].as_str().unwrap().ends_with("Outer"));
        assert_eq!(details["sources"], json!(["invalid digit found in string"]));
        assert!(error.is_retryable() && !error.permanent().is_retryable());
    }
}
