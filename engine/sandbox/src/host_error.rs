//! Errors on the engine's side. None of them is ever a guest's failure.

use crate::compile_box::CompileError;
use thiserror::Error;

/// The engine's own fault with a guest. The activation is discarded and rebuilt later; nothing is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HostError {
    /// The memory for all guests together is used up.
    #[error("the memory for guests is used up: try again when others have ended, or raise the limit")]
    MemoryUsedUp,
    /// The guest waited for the ledger of host memory and was displaced by a guest of a workflow that uses less memory.
    #[error("a guest of a workflow that has less memory needs the place of this one")]
    Displaced,
    /// The instance pool is full, although admission found a free slot.
    #[error("no room for another guest: {0}")]
    NoRoom(String),
    /// An outcome was delivered for a call that the guest never made: the history belongs to other code.
    #[error("an outcome for call {0}, which the guest has not made")]
    UnknownCall(u32),
    /// An outcome was delivered that this call cannot have: the history belongs to other code.
    #[error("an outcome for call {0} that this kind of call cannot have")]
    WrongOutcome(u32),
    /// A turn was requested from a guest that has ended.
    #[error("the guest has ended")]
    Ended,
}

/// Why a component could not be prepared.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InspectError {
    /// The component is not acceptable; the line says why.
    #[error("{0}")]
    Refused(String),
    /// The engine's own fault.
    #[error("{0}")]
    HostError(String),
}

impl From<CompileError> for InspectError {
    fn from(error: CompileError) -> Self {
        match error {
            CompileError::Invalid(cause) | CompileError::Refused(cause) => Self::Refused(cause),
            CompileError::HostError(cause) => Self::HostError(cause),
        }
    }
}

/// Why a component that was accepted earlier could not be prepared.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LoadError<E> {
    /// Its bytes could not be read.
    #[error("{0}")]
    Bytes(E),
    /// Its bytes were read but not accepted.
    #[error(transparent)]
    Inspect(#[from] InspectError),
}

/// Why a sandbox could not be created.
#[derive(Debug, Error)]
pub enum SandboxError {
    /// The folder for artifacts cannot be used.
    #[error("cannot use the data folder {folder}: {cause}")]
    Folder {
        /// The folder.
        folder: String,
        /// The cause.
        cause: std::io::Error,
    },
    /// This machine cannot run guests as configured.
    #[error("cannot set up WebAssembly: {0}")]
    Engine(String),
}
