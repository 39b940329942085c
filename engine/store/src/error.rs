//! The errors of the store, as its callers see them.

use cerebelum_history::ExecutionId;
use thiserror::Error;

/// Why the store refused or failed.
#[derive(Debug, Clone, Error)]
pub enum StoreError {
    /// The database cannot be reached at the moment, and nothing has happened as far as is known. The caller may try
    /// again.
    #[error("the database does not answer: {0}")]
    Unavailable(String),
    /// The database did not accept the data, and may never do so: it is too large, too slow, or failed for a reason
    /// that is not known to be temporary. Nothing has happened. Less data at once may be accepted.
    #[error("the database did not take it: {0}")]
    Rejected(String),
    /// The answer to a COMMIT was lost, so it is not known whether the transaction happened. The batch id settles that.
    #[error("the database did not say whether it committed: {0}")]
    Unknown(String),
    /// The stored data is not what was written.
    #[error("{0}")]
    Corrupt(String),
    /// The database cannot be opened: wrong address, newer schema, or in use by another engine.
    #[error("{0}")]
    Unusable(String),
    /// The request is not valid: a cursor that no list returned, or a filter beyond the limits.
    #[error("{0}")]
    Invalid(String),
    /// The run was removed, because later ones followed it.
    #[error("{0}")]
    NotKept(String),
}

impl StoreError {
    /// A run of an execution that is kept from a later run on.
    #[must_use]
    pub fn not_kept(id: &ExecutionId, run: u32, from: u32) -> Self {
        Self::NotKept(format!(
            "run {run} of execution `{id}` is no longer kept: the engine keeps the last runs of a chain (keep_runs), here from run {from} on"
        ))
    }
}
