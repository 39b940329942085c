//! How an execution's stay in memory ends: with an [`Exit`] as it should, or with an [`ActivationError`].

use cerebelum_history::NonDeterminism;
use cerebelum_sandbox::HostError;
use cerebelum_store::{AppendError, StoreError};
use thiserror::Error;

use crate::appender::NotWritten;
use crate::directory::NoProgram;

/// Why an execution left memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The claim was given back with the last batch: the execution hibernates, has ended or is parked.
    Released,
    /// The same, but the next claimant has something to do: a new run, or a message that arrived meanwhile.
    ReleasedWithWork,
    /// It was to begin here, and its first batch was not written. This node has no claim on it.
    NotStarted,
}

/// Why an activation cannot go on. None of these is the guest's failure.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum ActivationError {
    /// Another node has the claim, or this node's lease has ended.
    #[error("the claim is lost")]
    ClaimLost,
    /// The store refused a batch. Nothing of the batch happened, and memory is rebuilt from the store (L5).
    #[error("the store refused a batch")]
    Conflict,
    /// A person must look at the execution.
    #[error("{0}")]
    Parked(String),
    /// A resource that the engine needs is temporarily unavailable.
    #[error("{0}")]
    Unavailable(String),
    /// The database rejects the batch, even by itself.
    #[error("{0}")]
    Rejected(String),
    /// The constraints of the tables forbid the batch: another attempt would have the same result.
    #[error("{0}")]
    Forbidden(String),
    /// A bug in the engine.
    #[error("{0}")]
    Panic(String),
}

impl From<NonDeterminism> for ActivationError {
    fn from(mismatch: NonDeterminism) -> Self {
        Self::Parked(format!("diverged: {mismatch}"))
    }
}

impl From<StoreError> for ActivationError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Corrupt(cause) => Self::Parked(format!("corrupt-history: {cause}")),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

impl From<NotWritten> for ActivationError {
    fn from(error: NotWritten) -> Self {
        match error {
            NotWritten::Rejected(cause) => Self::Rejected(cause),
            NotWritten::Unavailable(cause) => Self::Unavailable(cause),
            NotWritten::Refused(AppendError::Moved | AppendError::AlreadyAnswered) => Self::Conflict,
            NotWritten::Refused(AppendError::TooEarly) => {
                Self::Unavailable("the database's clock is behind this node's".to_owned())
            }
            // Parked in its stored state: memory holds the row that was not written.
            NotWritten::Refused(AppendError::Forbidden) => {
                Self::Forbidden("the store forbids what was to be written".to_owned())
            }
            NotWritten::Refused(AppendError::ClaimLost | AppendError::Exists) => Self::ClaimLost,
        }
    }
}

impl From<NoProgram> for ActivationError {
    fn from(error: NoProgram) -> Self {
        match error {
            NoProgram::Missing => Self::Parked(
                "component-missing: the component is not in the store: upload it again, then resume".to_owned(),
            ),
            NoProgram::Damaged(cause) => {
                Self::Parked(format!("component-damaged: {cause}: restore it from a backup, then resume"))
            }
            NoProgram::Refused(cause) => Self::Parked(format!(
                "component-refused: this engine does not accept the component: {cause}: resume it on one that does"
            )),
            NoProgram::EngineError(cause) => Self::Unavailable(cause),
        }
    }
}

impl From<HostError> for ActivationError {
    fn from(error: HostError) -> Self {
        match error {
            // The history was recorded by other code: a rerun would fail in the same way.
            HostError::UnknownCall(_) | HostError::WrongOutcome(_) => {
                Self::Parked(format!("diverged: the history has {error}"))
            }
            HostError::MemoryUsedUp | HostError::Displaced | HostError::NoRoom(_) | HostError::Ended => {
                Self::Unavailable(error.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_of_other_code_parks_and_a_lack_of_room_does_not() {
        for (error, reason) in [(HostError::UnknownCall(7), "call 7"), (HostError::WrongOutcome(3), "call 3")] {
            let ActivationError::Parked(line) = ActivationError::from(error) else {
                panic!("it would come to the same again")
            };
            assert!(line.starts_with("diverged: the history has an outcome for ") && line.contains(reason), "{line}");
        }
        for error in [HostError::MemoryUsedUp, HostError::NoRoom(String::new()), HostError::Ended] {
            assert!(matches!(ActivationError::from(error), ActivationError::Unavailable(_)));
        }
    }
}
