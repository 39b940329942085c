//! Stores histories, components and tenants. The store decides which node may write, and never what an event means.

mod address;
mod admin;
mod append;
mod approvals;
mod attributes;
mod calls;
mod chunks;
mod claim;
mod clock;
mod components;
mod connections;
mod crashes;
mod damage;
mod database;
mod db_error;
mod describe;
mod executions;
mod file_lock;
mod hints;
mod inbox;
mod list;
mod logs;
mod model;
mod nodes;
mod packs;
mod program_ids;
mod receipts;
mod removal;
mod retry;
mod row_ids;
mod sql;
mod store;

use std::time::Duration;

use cerebelum_history::{Digest, ExecutionId, Position, Timestamp};
use futures::future::BoxFuture;
use thiserror::Error;

pub use address::server_of;
pub use claim::{SMALL_BYTES, Size};
pub use clock::{Clocks, MachineClocks};
pub use describe::ExecutionDetail;
pub use model::*;
pub use removal::{Removable, Version};
pub use store::{open, open_for, open_with};

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
}

/// The result of an operation of the store, as a future.
pub type StoreFuture<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// A lease: the node's incarnation, and how long it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The fence for everything that this node writes.
    pub incarnation: Incarnation,
    /// The remaining time, counted from the moment of the request.
    pub remaining: Duration,
    /// The database's time at that moment.
    pub now: Timestamp,
}

/// The store of one engine. Both databases pass one contract suite (`tests/contract.rs`).
///
/// Each method is one transaction. All times that decide something are the database's.
pub trait Store: Send + Sync + 'static {
    // -- nodes --

    /// Begins a lease for the node with this name. Its earlier incarnations end at once: the executions that they had
    /// claimed are free again, and their later writes are refused.
    fn begin_lease(&self, node: &str, duration: Duration) -> StoreFuture<'_, Lease>;
    /// Extends a lease that is not over, as every committed append does too. Returns `None` if the lease is over; it
    /// stays over (L11).
    fn renew_lease(&self, incarnation: Incarnation, duration: Duration) -> StoreFuture<'_, Option<Lease>>;
    /// Ends a lease and frees the executions that it had claimed.
    fn end_lease(&self, incarnation: Incarnation) -> StoreFuture<'_, ()>;
    /// Ends the leases that have run out, so that the executions that they had claimed are free. Returns the number of
    /// these leases. For an execution that could have moved, one more crash is counted at its position (L18).
    fn expire_leases(&self) -> StoreFuture<'_, u64>;

    // -- executions --

    /// Claims up to `limit` free open executions (neither paused nor parked) that are due, have unseen messages, or are
    /// not settled. Paused executions are claimed only for their unseen messages and their deadline. The result is
    /// empty if the lease is over. Half of the limit is for messages first; among the others, those that are overdue
    /// longest come first. [`StoreError::Unknown`] means that some may have been claimed, and that only the end of the
    /// lease frees them.
    fn claim(&self, incarnation: Incarnation, limit: u32, size: Size) -> StoreFuture<'_, Vec<Claimed>>;
    /// Claims this execution if it is free and open, even if it is not due, or is parked or paused.
    fn claim_one(&self, incarnation: Incarnation, key: &ExecutionKey) -> StoreFuture<'_, Option<Claimed>>;
    /// The time at which the next free execution becomes due.
    fn next_due(&self) -> StoreFuture<'_, Option<Timestamp>>;
    /// Writes batches in one transaction, in order. Each batch is accepted or refused alone (L4). `id` settles an
    /// unknown COMMIT: a repeated call with the id of an applied one returns the same results. Most of the time here is
    /// spent waiting for the disk, so that many batches at once cost little more than one.
    fn append(&self, id: u64, batches: Vec<Batch>) -> StoreFuture<'_, Vec<Result<InboxCursor, AppendError>>>;
    /// Reads chunks of a history in order, from the one that holds `from`, without gaps and with verified checksums: at
    /// least one if there is any, then as many as have `bytes_max` bytes together. This is the read for clients:
    /// however many clients read, commits do not wait for them.
    fn history_page(&self, key: &ExecutionKey, run: u32, from: Position, bytes_max: u64)
    -> StoreFuture<'_, Vec<Chunk>>;
    /// Reads the chunks of a history from the one that holds `from`, up to `to`, without gaps and with verified
    /// checksums.
    fn history(&self, key: &ExecutionKey, run: u32, from: Position, to: Position) -> StoreFuture<'_, Vec<Chunk>>;
    /// Reads the chunks of a history that begin at these positions, with verified checksums. A missing chunk is an
    /// error of kind [`StoreError::Corrupt`].
    fn chunks(&self, key: &ExecutionKey, run: u32, firsts: Vec<Position>) -> StoreFuture<'_, Vec<Chunk>>;
    /// The row of an execution.
    fn execution(&self, key: &ExecutionKey) -> StoreFuture<'_, Option<ExecutionRow>>;
    /// For each of these ids, in order, the execution that has it, if there is one. It keeps a batch from beginning a new
    /// execution.
    fn find_existing(&self, keys: Vec<ExecutionKey>) -> StoreFuture<'_, Vec<Option<Existing>>>;
    /// Reads an execution's row, open calls and inbox together, without a claim.
    fn peek(&self, key: &ExecutionKey) -> StoreFuture<'_, Option<Claimed>>;
    /// The messages in an execution's inbox that no batch has marked as seen, oldest first.
    fn unseen(&self, key: &ExecutionKey) -> StoreFuture<'_, Vec<InboxRow>>;
    /// Reads an execution in full, in one committed state.
    fn describe(&self, key: &ExecutionKey) -> StoreFuture<'_, Option<ExecutionDetail>>;
    /// The same as [`Store::describe`]; for an execution that has not ended, it reads only the row, however long the
    /// history is.
    fn describe_if_ended(&self, key: &ExecutionKey) -> StoreFuture<'_, Option<ExecutionDetail>>;
    /// A page of executions, newest first: at most 1,000, and 8 MiB or a little more. A page may be shorter or even
    /// empty and still have a cursor, if nothing so far matches. [`StoreError::Invalid`]: the cursor is not valid, or a
    /// filter is longer than any value that it could match.
    fn list(&self, tenant: TenantId, filter: Filter) -> StoreFuture<'_, Page>;
    /// The number of executions with each status.
    fn count_by_status(&self) -> StoreFuture<'_, StatusCounts>;
    /// Puts a message into an execution's inbox. Returns `false` if the execution does not exist or has ended.
    fn send(&self, key: &ExecutionKey, message: String) -> StoreFuture<'_, bool>;
    /// The number of messages that wait in an execution's inbox, and their bytes together.
    fn unread(&self, key: &ExecutionKey) -> StoreFuture<'_, (u64, u64)>;
    /// Reopens a failed execution: its state becomes open, and its inbox receives the message. Returns `false` if it
    /// has not failed.
    fn reopen(&self, key: &ExecutionKey, message: String) -> StoreFuture<'_, bool>;
    /// Clears the parked flag and makes the execution claimable. Returns `false` if it is not parked.
    fn unpark(&self, key: &ExecutionKey) -> StoreFuture<'_, bool>;
    /// Parks an execution by its key alone: none of its rows is read. Afterwards it has no owner. Returns `false` if it
    /// has ended, belongs to another node, or does not exist.
    fn park(&self, incarnation: Incarnation, key: &ExecutionKey, reason: String) -> StoreFuture<'_, bool>;
    /// Ends an execution as cancelled, by its key alone: none of its rows is read, and nothing is added to its history.
    /// Its calls and messages are deleted, its questions are withdrawn, and `messages` are sent. This is for executions
    /// that can no longer be run. Returns `false` if the execution has ended or does not exist.
    fn bury(&self, key: &ExecutionKey, messages: Vec<(ExecutionId, String)>) -> StoreFuture<'_, bool>;
    /// Checks up to `limit` executions that no living node has claimed, from the place `after` on (0 at first). It
    /// parks those whose rows cannot be read or do not fit together, frees those whose node does not exist, and returns
    /// the others.
    fn audit(&self, after: i64, limit: u32) -> StoreFuture<'_, Audit>;
    /// Removes an ended execution with everything that belongs to it. Returns `false` if it has not ended or does not
    /// exist.
    fn delete(&self, key: &ExecutionKey) -> StoreFuture<'_, bool>;
    /// Removes up to `limit` executions that ended before this time, the earliest first. Returns their number.
    fn delete_ended(&self, before: Timestamp, limit: u32) -> StoreFuture<'_, u64>;
    /// Log lines after the number `after`, in order: at most `limit`, and none after the one that brings them to 8 MiB.
    fn logs(&self, key: &ExecutionKey, after: i64, limit: u32) -> StoreFuture<'_, Vec<LogRow>>;
    /// The latest progress of each scope of the current run.
    fn progress(&self, key: &ExecutionKey) -> StoreFuture<'_, Vec<Progress>>;

    // -- approvals --

    /// A page of questions, newest first. It has only open ones unless the filter names an execution.
    /// [`StoreError::Invalid`]: the cursor is not valid.
    fn approvals(&self, tenant: TenantId, filter: ApprovalFilter) -> StoreFuture<'_, ApprovalPage>;
    /// One question.
    fn approval(&self, tenant: TenantId, id: &str) -> StoreFuture<'_, Option<ApprovalRow>>;
    /// Answers a question by one compare-and-set (open, and not past its deadline by the database's clock) and puts the
    /// message into its execution's inbox in the same transaction (L9).
    fn answer(&self, tenant: TenantId, id: &str, to: ApprovalState, message: String) -> StoreFuture<'_, AnswerOutcome>;

    // -- components --

    /// Stores a component and makes it the current one of its name.
    #[expect(clippy::too_many_arguments, reason = "what a component is made of; a struct would be used once")]
    fn keep_component(
        &self,
        tenant: TenantId,
        name: &str,
        digest: &Digest,
        manifest: &str,
        bytes: Vec<u8>,
    ) -> StoreFuture<'_, ()>;
    /// All components, by name, the current one first.
    fn components(&self, tenant: TenantId) -> StoreFuture<'_, Vec<Component>>;
    /// A component by digest.
    fn component(&self, tenant: TenantId, digest: &Digest) -> StoreFuture<'_, Option<Component>>;
    /// The current component of a name.
    fn current(&self, tenant: TenantId, name: &str) -> StoreFuture<'_, Option<Component>>;
    /// A number that changes with every upload or removal. While it stays the same, names stand for the same
    /// components.
    fn uploads(&self, tenant: TenantId) -> StoreFuture<'_, i64>;
    /// A component's bytes.
    fn component_bytes(&self, tenant: TenantId, digest: &Digest) -> StoreFuture<'_, Option<Vec<u8>>>;

    // -- removal of components --

    /// Executions that may still run a component or call one of its steps, at most `limit` of them: open ones, and
    /// failed ones, because these may be reopened. It reads all such executions once, so it must not be called every
    /// second.
    fn component_users(&self, tenant: TenantId, digest: &Digest, limit: u32) -> StoreFuture<'_, Vec<ExecutionId>>;
    /// Takes a version away from its name, so that new executions no longer find it. Returns `false` if the name has no
    /// such version, or the version is not removable.
    fn remove_component(&self, version: Version, which: Removable) -> StoreFuture<'_, bool>;
    /// The versions that were replaced by another one before this time.
    fn replaced_components(&self, before: Timestamp) -> StoreFuture<'_, Vec<Version>>;
    /// The components that lost their last name before this time.
    fn nameless_components(&self, before: Timestamp) -> StoreFuture<'_, Vec<(TenantId, Digest)>>;
    /// Removes a component that lost its last name before this time, with its bytes. Returns `false` if it has a name
    /// or is already gone.
    fn delete_component(&self, tenant: TenantId, digest: &Digest, before: Timestamp) -> StoreFuture<'_, bool>;
    /// The digests of all components of all tenants.
    fn digests(&self) -> StoreFuture<'_, Vec<Digest>>;

    /// The number of transactions that this process has begun, reads included.
    fn transactions(&self) -> u64;
    /// The database's clock, without its jumps.
    fn now(&self) -> StoreFuture<'_, Timestamp>;
    /// Executions that messages from other nodes or clients may have moved. These are only hints. The channel ends with
    /// the store.
    fn hints(&self) -> tokio::sync::broadcast::Receiver<ExecutionKey>;
}
