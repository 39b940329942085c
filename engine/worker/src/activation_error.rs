//! Why an activation cannot go on, and which errors park the execution for a person.

use cerebelum_history::NonDeterminism;
use cerebelum_sandbox::HostError;
use cerebelum_store::StoreError;

use crate::activation::Exit;
use crate::directory::NoProgram;
use crate::engine_error::EngineError;

/// Why an activation cannot go on.
pub(crate) enum ActivationError {
    /// A person must look at the execution.
    Parked(String),
    /// The engine's own fault; another activation tries again later.
    Engine(EngineError),
    /// The activation ends with this exit.
    Exit(Exit),
}

impl From<NonDeterminism> for ActivationError {
    fn from(diverged: NonDeterminism) -> Self {
        Self::Parked(format!("diverged: {diverged}"))
    }
}

impl From<StoreError> for ActivationError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Corrupt(cause) => Self::Parked(format!("corrupt-history: {cause}")),
            other => Self::Engine(EngineError::Passing(other.to_string())),
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
            NoProgram::EngineError(cause) => Self::Engine(EngineError::Passing(cause)),
        }
    }
}

impl From<HostError> for ActivationError {
    fn from(trouble: HostError) -> Self {
        match trouble {
            // The history was recorded by other code: a rerun would fail in the same way.
            HostError::UnknownCall(_) | HostError::WrongOutcome(_) => {
                Self::Parked(format!("diverged: the history has {trouble}"))
            }
            HostError::MemoryUsedUp | HostError::Displaced | HostError::NoRoom(_) | HostError::Ended => {
                Self::Engine(EngineError::Passing(trouble.to_string()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_of_other_code_parks_and_a_lack_of_room_does_not() {
        for (trouble, reason) in [(HostError::UnknownCall(7), "call 7"), (HostError::WrongOutcome(3), "call 3")] {
            let ActivationError::Parked(line) = ActivationError::from(trouble) else {
                panic!("it would come to the same again")
            };
            assert!(line.starts_with("diverged: the history has an outcome for ") && line.contains(reason), "{line}");
        }
        for trouble in [HostError::MemoryUsedUp, HostError::NoRoom(String::new()), HostError::Ended] {
            assert!(matches!(ActivationError::from(trouble), ActivationError::Engine(_)));
        }
    }
}
