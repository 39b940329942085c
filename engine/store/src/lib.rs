//! Keeps histories, components and tenants. It decides who may write, and never what an event means.

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
mod removal;
mod retry;
mod row_ids;
mod sql;
mod start;
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

/// Why the store did not do it.
#[derive(Debug, Clone, Error)]
pub enum StoreError {
    /// It cannot be reached just now; nothing is known to have happened. Try again.
    #[error("the database does not answer: {0}")]
    Unavailable(String),
    /// It did not take this, and may never do: too large, too slow, or for a reason that is not known to pass. Nothing has
    /// happened. Less at once may succeed.
    #[error("the database did not take it: {0}")]
    Rejected(String),
    /// Whether it happened is not known: the answer to a COMMIT was lost. Ask with the batch id.
    #[error("the database did not say whether it committed: {0}")]
    Unknown(String),
    /// What it keeps is not what was written.
    #[error("{0}")]
    Corrupt(String),
    /// It cannot be opened: wrong address, newer schema, in use by another engine.
    #[error("{0}")]
    Unusable(String),
    /// What was asked makes no sense: a cursor that no list returned, a filter beyond all bounds.
    #[error("{0}")]
    Invalid(String),
}

/// Whatever the store answers, later.
pub type StoreFuture<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// A lease: who this node is, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The fence of everything this node writes.
    pub incarnation: Incarnation,
    /// How long from the moment of asking.
    pub remaining: Duration,
    /// The database's clock at that moment.
    pub now: Timestamp,
}

/// The store of one engine. Both databases pass one contract suite (`tests/contract.rs`).
///
/// Each method is one transaction. Times that decide anything are the database's.
pub trait Store: Send + Sync + 'static {
    // -- nodes --

    /// Begins a lease for the node of this name, retiring its earlier incarnations at once:
    /// what they had claimed is free again, and what they still write is refused.
    fn begin_lease(&self, node: &str, duration: Duration) -> StoreFuture<'_, Lease>;
    /// Lengthens a lease that is not over; so does every committed append. `None`: it is over, and stays so (L11).
    fn renew_lease(&self, incarnation: Incarnation, duration: Duration) -> StoreFuture<'_, Option<Lease>>;
    /// Ends a lease and frees what it had claimed.
    fn end_lease(&self, incarnation: Incarnation) -> StoreFuture<'_, ()>;
    /// Ends the leases that have run out, so that what they had claimed is free. Returns how many. What could have moved has
    /// crashed once more at its position (L18).
    fn expire_leases(&self) -> StoreFuture<'_, u64>;

    // -- executions --

    /// Stores new executions, each alone: an id that is taken changes nothing. Asked again with the same seed, it is `New` again.
    /// Those with `claim` belong to `incarnation` (ignored, unclaimed, when its lease is over). [`StoreError::Unknown`] is
    /// as in [`Store::claim`].
    fn start(&self, incarnation: Option<Incarnation>, new: Vec<NewExecution>) -> StoreFuture<'_, Vec<StartOutcome>>;
    /// Claims up to `limit` free open executions (neither paused nor parked) that are due or have unseen messages, or are
    /// not settled; paused ones only for their unseen messages and their deadline. None when the lease is over. Half of the limit is for
    /// messages first; among the others the longest overdue come first. [`StoreError::Unknown`]: some may have been
    /// claimed, and only the end of the lease frees them.
    fn claim(&self, incarnation: Incarnation, limit: u32, size: Size) -> StoreFuture<'_, Vec<Claimed>>;
    /// Claims this execution if it is free and open, whether or not it is due, parked or paused.
    fn claim_one(&self, incarnation: Incarnation, key: &ExecutionKey) -> StoreFuture<'_, Option<Claimed>>;
    /// When the earliest free execution that is not yet due will be.
    fn next_due(&self) -> StoreFuture<'_, Option<Timestamp>>;
    /// Writes batches in one transaction; each is accepted or refused alone (L4), in order.
    /// `id` settles an unknown COMMIT: asked again with the same id, an applied call answers as it did.
    /// What takes most time here is waiting for the disk: many batches at once cost little more than one.
    fn append(&self, id: u64, batches: Vec<Batch>) -> StoreFuture<'_, Vec<Result<InboxCursor, AppendError>>>;
    /// Reads the chunks of a history from the one that holds `from` on, in order, checksums verified, no gaps: at least one
    /// if there is any, then as many as have `bytes_max` bytes in all. Clients read so: however many do, commits do not
    /// wait for them.
    fn history_page(&self, key: &ExecutionKey, run: u32, from: Position, bytes_max: u64)
    -> StoreFuture<'_, Vec<Chunk>>;
    /// Reads a history's chunks from the one that holds `from` on, up to `to`, checksums verified, no gaps.
    fn history(&self, key: &ExecutionKey, run: u32, from: Position, to: Position) -> StoreFuture<'_, Vec<Chunk>>;
    /// Reads the chunks of a history that begin at these positions, checksums verified. One that is missing is corrupt.
    fn chunks(&self, key: &ExecutionKey, run: u32, firsts: Vec<Position>) -> StoreFuture<'_, Vec<Chunk>>;
    /// The head of an execution.
    fn execution(&self, key: &ExecutionKey) -> StoreFuture<'_, Option<ExecutionRow>>;
    /// The executions of these ids, in order, as far as there are any: what [`Store::start`] would find in its way.
    fn find_existing(&self, keys: Vec<ExecutionKey>) -> StoreFuture<'_, Vec<Option<Existing>>>;
    /// Head, open calls and inbox of an execution, read together and not claimed.
    fn peek(&self, key: &ExecutionKey) -> StoreFuture<'_, Option<Claimed>>;
    /// The messages in an execution's inbox that no batch has marked as seen, oldest first.
    fn unseen(&self, key: &ExecutionKey) -> StoreFuture<'_, Vec<InboxRow>>;
    /// An execution in full, in one committed state.
    fn describe(&self, key: &ExecutionKey) -> StoreFuture<'_, Option<ExecutionDetail>>;
    /// The same; of an execution that has not ended only the head, however long its history is.
    fn describe_if_ended(&self, key: &ExecutionKey) -> StoreFuture<'_, Option<ExecutionDetail>>;
    /// A page of executions, newest first, at most 1,000 and 8 MiB or a little more. A page may be shorter than that, or
    /// empty, and still have a cursor: so far nothing fits. [`StoreError::Invalid`]: the cursor is none, or a filter is
    /// longer than anything that could be found.
    fn list(&self, tenant: TenantId, filter: Filter) -> StoreFuture<'_, Page>;
    /// How many executions have which status.
    fn count_by_status(&self) -> StoreFuture<'_, StatusCounts>;
    /// Puts a message into an execution's inbox. `false`: there is no such execution, or it has ended.
    fn send(&self, key: &ExecutionKey, message: String) -> StoreFuture<'_, bool>;
    /// How many messages wait in an execution's inbox, and how many bytes they have together.
    fn unread(&self, key: &ExecutionKey) -> StoreFuture<'_, (u64, u64)>;
    /// Reopens an execution that has failed: its state becomes open, its inbox holds the message. `false`: it has not failed.
    fn reopen(&self, key: &ExecutionKey, message: String) -> StoreFuture<'_, bool>;
    /// Clears the parked flag and makes the execution claimable. `false`: it is not parked.
    fn unpark(&self, key: &ExecutionKey) -> StoreFuture<'_, bool>;
    /// Sets an execution aside for a person, by its key alone: nothing of it is read. It belongs to nobody afterwards.
    /// `false`: it has ended, is another node's, or there is none.
    fn park(&self, incarnation: Incarnation, key: &ExecutionKey, reason: String) -> StoreFuture<'_, bool>;
    /// Ends an execution as cancelled, by its key alone: nothing of it is read, and nothing is added to its history. Its
    /// calls and messages are gone, its questions withdrawn, and `messages` sent. For what cannot be run any more.
    /// `false`: it has ended, or there is none.
    fn bury(&self, key: &ExecutionKey, messages: Vec<(ExecutionId, String)>) -> StoreFuture<'_, bool>;
    /// Looks at up to `limit` executions after a place (0 at first) that no living node has claimed: parks those whose rows
    /// cannot be read or do not fit together, frees those whose node is none, and returns the others.
    fn audit(&self, after: i64, limit: u32) -> StoreFuture<'_, Audit>;
    /// Removes an execution that has ended, with all that belongs to it. `false`: it has not ended, or there is none.
    fn delete(&self, key: &ExecutionKey) -> StoreFuture<'_, bool>;
    /// Removes up to `limit` executions that ended before this, the earliest first. Returns how many.
    fn delete_ended(&self, before: Timestamp, limit: u32) -> StoreFuture<'_, u64>;
    /// Log lines after a place, in order: at most `limit`, and no more after the one that brings them to 8 MiB.
    fn logs(&self, key: &ExecutionKey, after: i64, limit: u32) -> StoreFuture<'_, Vec<LogRow>>;
    /// Latest progress of each scope of the current run.
    fn progress(&self, key: &ExecutionKey) -> StoreFuture<'_, Vec<Progress>>;

    // -- approvals --

    /// A page of questions, newest first; only open ones unless an execution is named. [`StoreError::Invalid`]: the cursor
    /// is none.
    fn approvals(&self, tenant: TenantId, filter: ApprovalFilter) -> StoreFuture<'_, ApprovalPage>;
    /// One question.
    fn approval(&self, tenant: TenantId, id: &str) -> StoreFuture<'_, Option<ApprovalRow>>;
    /// Answers a question by one compare-and-set (open, and not past its deadline by the database's clock) and puts the
    /// message into its execution's inbox in the same transaction (L9).
    fn answer(&self, tenant: TenantId, id: &str, to: ApprovalState, message: String) -> StoreFuture<'_, AnswerOutcome>;

    // -- components --

    /// Keeps a component and makes it the current one of its name.
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
    /// How many uploads have changed what names stand for: as long as it is the same, so are they.
    fn uploads(&self, tenant: TenantId) -> StoreFuture<'_, i64>;
    /// A component's bytes.
    fn component_bytes(&self, tenant: TenantId, digest: &Digest) -> StoreFuture<'_, Option<Vec<u8>>>;

    // -- components that go --

    /// Executions that may still run a component or call a step of it, at most `limit` of them: open ones, and failed ones,
    /// which may be reopened. Reads all of those once: not for every second.
    fn component_users(&self, tenant: TenantId, digest: &Digest, limit: u32) -> StoreFuture<'_, Vec<ExecutionId>>;
    /// Takes a version away from its name, so that nothing new finds it. `false`: the name has no such version, or it is
    /// not removable.
    fn remove_component(&self, version: Version, which: Removable) -> StoreFuture<'_, bool>;
    /// The versions that another has taken the place of before this.
    fn replaced_components(&self, before: Timestamp) -> StoreFuture<'_, Vec<Version>>;
    /// The components that have had no name since before this.
    fn nameless_components(&self, before: Timestamp) -> StoreFuture<'_, Vec<(TenantId, Digest)>>;
    /// Removes a component that has had no name since before this, with its bytes. `false`: it has one, or is gone.
    fn delete_component(&self, tenant: TenantId, digest: &Digest, before: Timestamp) -> StoreFuture<'_, bool>;
    /// All components of all tenants.
    fn digests(&self) -> StoreFuture<'_, Vec<Digest>>;

    /// How many transactions this process has begun, those that only read included.
    fn transactions(&self) -> u64;
    /// The database's clock, without its jumps.
    fn now(&self) -> StoreFuture<'_, Timestamp>;
    /// Executions that messages from other nodes or clients may have moved: a hint, never a truth. Ends with the store.
    fn hints(&self) -> tokio::sync::broadcast::Receiver<ExecutionKey>;
}
