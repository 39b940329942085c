//! What can go wrong on the engine's side. None of it is ever a guest's failure.

use thiserror::Error;

/// The engine's own trouble with a guest: the activation is thrown away and rebuilt later, nothing is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HostError {
    /// The memory that all guests may use together is used up.
    #[error("the memory for guests is used up: try again when others have ended, or raise the limit")]
    MemoryUsedUp,
    /// It waited for the ledger of host memory, and a guest of a workflow that has less memory needs its place.
    #[error("a guest of a workflow that has less memory needs the place of this one")]
    Displaced,
    /// The instance pool has no room, although admission found some.
    #[error("no room for another guest: {0}")]
    NoRoom(String),
    /// An outcome was delivered for a call that the guest never made: the history belongs to other code.
    #[error("an outcome for call {0}, which the guest has not made")]
    Unasked(u32),
    /// An outcome was delivered that this call cannot have: the history belongs to other code.
    #[error("an outcome for call {0} that this kind of call cannot have")]
    Unfitting(u32),
    /// A turn was asked of a guest that has ended.
    #[error("the guest has ended")]
    Ended,
}

/// Why a component could not be made ready.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InspectError {
    /// It is not acceptable; the line says what is wrong with it.
    #[error("{0}")]
    Refused(String),
    /// The engine's own trouble.
    #[error("{0}")]
    HostError(String),
}

/// Why a component that was accepted earlier could not be made ready.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LoadError<E> {
    /// Its bytes could not be had.
    #[error("{0}")]
    Bytes(E),
    /// They could be had and were not accepted.
    #[error(transparent)]
    Inspect(#[from] InspectError),
}

/// Why a sandbox could not be made.
#[derive(Debug, Error)]
pub enum SandboxError {
    /// The folder for artifacts cannot be used.
    #[error("cannot use the data folder {folder}: {cause}")]
    Folder {
        /// Which folder.
        folder: String,
        /// Why not.
        cause: std::io::Error,
    },
    /// This machine cannot run guests as configured.
    #[error("cannot set up WebAssembly: {0}")]
    Engine(String),
}
