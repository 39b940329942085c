//! The contract of a store. Both databases pass one contract suite (`tests/contract`).

use std::collections::BTreeMap;
use std::time::Duration;

use cerebelum_history::{Digest, ExecutionId, Timestamp};
use futures::future::BoxFuture;

use crate::approvals::Answer;
use crate::audit::{Act, AuditFilter, AuditPage};
use crate::bulk::{BulkJob, BulkRefusal, BulkStep, NewBulkJob};
use crate::describe::ExecutionDetail;
use crate::error::StoreError;
use crate::identity::{Tenant, Token};
use crate::links::{ApprovalLink, FoundLink, LinkOutcome, NewLink};
use crate::list::{ChildCounts, Count};
use crate::metrics::{Backlog, ConnectionCounts, StoreMetrics};
use crate::model::{
    AnswerOutcome, AppendError, ApprovalPage, Batch, Chunk, Claimed, Component, ExecutionKey, ExecutionRow, Existing,
    InboxCursor, InboxRow, Incarnation, Lease, LogRow, Page, Progress, StatusCounts, Sweep, TenantId,
};
use crate::nodes::NodeRow;
use crate::removal::{Removable, Version};
use crate::requests::{ApprovalFilter, ClaimFilter, Command, Filter, HistoryPart, Upload, VersionChange};
use crate::saved_views::{NewView, StoredView, ViewKey, ViewLimits};
use crate::secrets::{Egress, SecretChange};

/// The result of an operation of the store, as a future.
pub type StoreFuture<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// The store of one engine. Each method is one transaction. All times that decide something are the database's. A method
/// that takes an act stores it in its transaction, if that changes anything; the engine's own doings have no act.
pub trait Store: AuditStore + BulkStore + ComponentStore + IdentityStore + LinkStore + SecretStore + ViewStore {
    // -- nodes --

    /// Begins a lease for the node with this name, whose last incarnation was `after`. Its earlier incarnations end at
    /// once: the executions that they had claimed are free again, and their later writes are refused. Where the node had
    /// a later incarnation than `after`, nothing changes, and that one is returned as the error: so a request that is
    /// carried out late, when the process that made it has died, does not end the lease of the next process (L11).
    fn begin_lease(
        &self,
        node: &str,
        after: Option<Incarnation>,
        duration: Duration,
    ) -> StoreFuture<'_, Result<Lease, Incarnation>>;
    /// Extends a lease that is not over, as every committed append does too. Returns `None` if the lease is over; it
    /// stays over (L11).
    fn renew_lease(&self, incarnation: Incarnation, duration: Duration) -> StoreFuture<'_, Option<Lease>>;
    /// Ends a lease and frees the executions that it had claimed.
    fn end_lease(&self, incarnation: Incarnation) -> StoreFuture<'_, ()>;
    /// Ends the leases that have run out, so that the executions that they had claimed are free. Returns the number of
    /// these leases. For an execution that could have moved, one more crash is counted at its position (L18).
    fn expire_leases(&self) -> StoreFuture<'_, u64>;

    /// The nodes whose leases have not ended, by name.
    fn nodes(&self) -> StoreFuture<'_, Vec<NodeRow>>;

    // -- executions --

    /// Claims free open executions. The result is empty if the lease is over. [`StoreError::Unknown`] means that some may
    /// have been claimed, and that only the end of the lease frees them.
    fn claim(&self, incarnation: Incarnation, filter: ClaimFilter) -> StoreFuture<'_, Vec<Claimed>>;
    /// The time at which the next free execution becomes due.
    fn next_due(&self) -> StoreFuture<'_, Option<Timestamp>>;
    /// The free executions whose time has come.
    fn backlog(&self) -> StoreFuture<'_, Backlog>;
    /// Writes batches in one transaction, in order. Each batch is accepted or refused alone (L4). `id` settles an
    /// unknown COMMIT: a repeated call with the id of an applied one returns the same results. Most of the time here is
    /// spent waiting for the disk, so that many batches at once cost little more than one.
    fn append(&self, id: u64, batches: Vec<Batch>) -> StoreFuture<'_, Vec<Result<InboxCursor, AppendError>>>;
    /// Reads chunks of a history in order, without gaps and with verified checksums. [`StoreError::NotKept`]: the run was
    /// removed.
    fn history(&self, key: &ExecutionKey, run: u32, part: HistoryPart) -> StoreFuture<'_, Vec<Chunk>>;
    /// The row of an execution.
    fn execution(&self, key: &ExecutionKey) -> StoreFuture<'_, Option<ExecutionRow>>;
    /// For each of these ids, in order, the execution that has it, if there is one. It keeps a batch from beginning a new
    /// execution.
    fn find_existing(&self, keys: Vec<ExecutionKey>) -> StoreFuture<'_, Vec<Option<Existing>>>;
    /// Reads an execution's row, open calls and inbox together, without a claim.
    fn load(&self, key: &ExecutionKey) -> StoreFuture<'_, Option<Claimed>>;
    /// The messages in an execution's inbox that no batch has marked as seen, oldest first.
    fn unseen(&self, key: &ExecutionKey) -> StoreFuture<'_, Vec<InboxRow>>;
    /// Reads an execution in full, in one committed state.
    fn describe(&self, key: &ExecutionKey) -> StoreFuture<'_, Option<ExecutionDetail>>;
    /// A page of executions, newest first: at most 1,000, and 8 MiB or a little more. A page may be shorter or even
    /// empty and still have a cursor, if nothing so far matches. [`StoreError::Invalid`]: the cursor is not valid, or a
    /// filter is longer than any value that it could match.
    fn list(&self, tenant: TenantId, filter: Filter) -> StoreFuture<'_, Page>;
    /// The number of executions that match a filter, whose cursor and limit do not matter. Counting stops at `max`, or when
    /// it takes too long: then the number is not exact. [`StoreError::Invalid`]: as for [`Store::list`].
    fn count(&self, tenant: TenantId, filter: Filter, max: u64) -> StoreFuture<'_, Count>;
    /// The children of each of these executions by status, in order; of each, up to `max`, the newest ones.
    fn children_by_status(
        &self,
        tenant: TenantId,
        parents: Vec<ExecutionId>,
        max: u32,
    ) -> StoreFuture<'_, Vec<ChildCounts>>;
    /// The number of executions with each status.
    fn count_by_status(&self) -> StoreFuture<'_, StatusCounts>;
    /// Carries out a command. Returns `false` if the execution does not exist, or is in a state to which it does not
    /// apply.
    fn command(&self, key: &ExecutionKey, command: Command, act: Option<Act>) -> StoreFuture<'_, bool>;
    /// The number of messages that wait in an execution's inbox, and their bytes together.
    fn unread(&self, key: &ExecutionKey) -> StoreFuture<'_, (u64, u64)>;
    /// Checks up to `limit` executions that no living node has claimed, from the place `after` on (0 at first). It
    /// parks those whose rows cannot be read or do not fit together, frees those whose node does not exist, and returns
    /// the others.
    fn sweep(&self, after: i64, limit: u32) -> StoreFuture<'_, Sweep>;
    /// Removes up to `limit` executions that ended before this time, the earliest first. Returns their number. One that
    /// cannot be removed does not keep the others.
    fn delete_ended(&self, before: Timestamp, limit: u32) -> StoreFuture<'_, u64>;
    /// Deletes a piece of what up to `limit` removed executions have left behind: rows that no reader finds any more, fewer
    /// than 2,000 of them, and none after those that come to 4 MiB in one table. Takes as many messages out of the way of
    /// claims that came after the end of their executions. Returns the number of both; 0 if nothing is left.
    fn delete_remains(&self, limit: u32) -> StoreFuture<'_, u64>;
    /// The places of executions of which more than the last `keep` runs are kept, or whose removal of runs was begun: up to
    /// `limit`, in order, from the place after `after` on (0 at first). As for every `keep` here, the present run and the one
    /// before it are kept in any case.
    fn overdue_runs(&self, keep: u32, after: i64, limit: u32) -> StoreFuture<'_, Vec<i64>>;
    /// Removes the runs of the execution at this place before its last `keep` ones, for every reader at once, and deletes a
    /// piece of what they have stored, as large as one of [`Store::delete_remains`]. Returns the number of deleted rows. The
    /// first events of the first run stay, for [`Store::find_existing`]. A damaged execution keeps all that it has.
    fn remove_runs(&self, place: i64, keep: u32) -> StoreFuture<'_, u64>;
    /// Log lines of the runs that are kept, after the number `after`, in order: at most `limit`, and none after the one that brings them to 8 MiB.
    fn logs(&self, key: &ExecutionKey, after: i64, limit: u32) -> StoreFuture<'_, Vec<LogRow>>;
    /// The latest progress of each scope of the current run.
    fn progress(&self, key: &ExecutionKey) -> StoreFuture<'_, Vec<Progress>>;

    // -- approvals --

    /// A page of questions, newest first. [`StoreError::Invalid`]: the cursor is not valid.
    fn approvals(&self, tenant: TenantId, filter: ApprovalFilter) -> StoreFuture<'_, ApprovalPage>;
    /// Answers a question by one compare-and-set (open, and not past its deadline by the database's clock), uses up the
    /// link and puts the message into its execution's inbox in the same transaction (L9).
    fn answer(&self, answer: Answer, act: Option<Act>) -> StoreFuture<'_, AnswerOutcome>;

    /// What this store measures of itself.
    fn metrics(&self) -> StoreMetrics;
    /// The connections that are open at this moment.
    fn connections(&self) -> ConnectionCounts;
    /// The database's clock, without its jumps.
    fn now(&self) -> StoreFuture<'_, Timestamp>;
    /// Executions that messages from other nodes or clients may have moved. These are only hints. The channel ends with
    /// the store.
    fn hints(&self) -> tokio::sync::broadcast::Receiver<ExecutionKey>;
}

/// The tenants of one engine, and the tokens with which people and programs act for them.
pub trait IdentityStore: Send + Sync + 'static {
    /// Creates a tenant. Returns `None` if the name is taken.
    fn create_tenant(&self, name: &str, act: Option<Act>) -> StoreFuture<'_, Option<TenantId>>;
    /// All tenants, by name, until nothing is left of them. As in every list of the store, a row that cannot be read is
    /// left out.
    fn tenants(&self) -> StoreFuture<'_, Vec<Tenant>>;
    /// The tenant with this name. [`StoreError::Corrupt`]: its row cannot be read.
    fn find_tenant(&self, name: &str) -> StoreFuture<'_, Option<Tenant>>;
    /// The bytes that the executions of each tenant have stored, as they were written; tenants without any may be missing.
    fn stored_bytes(&self) -> StoreFuture<'_, BTreeMap<TenantId, u64>>;
    /// Suspends a tenant, or lifts the suspension. Returns `false` if there is none with this name.
    fn suspend_tenant(&self, name: &str, suspended: bool, act: Option<Act>) -> StoreFuture<'_, bool>;
    /// Marks a suspended tenant as deleted. Returns `false` if there is none with this name, it is not suspended, or it is
    /// marked already.
    fn delete_tenant(&self, name: &str, act: Option<Act>) -> StoreFuture<'_, bool>;
    /// Deletes up to `limit` executions of a tenant that is marked as deleted, in whatever state they are, or as many rows
    /// of another kind when it has no executions. Returns their number. If nothing is left of a tenant that was marked
    /// before this time, its name is free again; its number stays taken.
    fn purge_tenant(&self, tenant: TenantId, before: Timestamp, limit: u32) -> StoreFuture<'_, u64>;
    /// Replaces the quotas that were set for a tenant. Returns `false` if they are not the first ones given, or if there is
    /// no tenant with this name.
    fn set_quotas(&self, name: &str, quotas: (&str, &str), act: Option<Act>) -> StoreFuture<'_, bool>;
    /// The number of a tenant's open executions; counting stops at `max`.
    fn count_open(&self, tenant: TenantId, max: u64) -> StoreFuture<'_, u64>;
    /// Stores a new token. Returns `false` if its tenant has `tokens_max` valid tokens. Of tokens that have ended, it
    /// forgets the oldest beyond the same number.
    fn create_token(&self, token: Token, tokens_max: u32, act: Option<Act>) -> StoreFuture<'_, bool>;
    /// The tokens of a tenant: first the valid tokens, then the others, the newest first in each part.
    fn tokens(&self, tenant: TenantId) -> StoreFuture<'_, Vec<Token>>;
    /// A token with its tenant, whatever has become of both.
    fn find_token(&self, id: &str) -> StoreFuture<'_, Option<(Token, Tenant)>>;
    /// Notes that a token is used now, to the minute.
    fn note_use(&self, id: &str) -> StoreFuture<'_, ()>;
    /// Revokes a token of this tenant. Returns `false` if there is none with this id that is not revoked.
    fn revoke_token(&self, tenant: TenantId, id: &str, act: Option<Act>) -> StoreFuture<'_, bool>;
    /// Whether there ever was a token.
    fn has_tokens(&self) -> StoreFuture<'_, bool>;
}

/// What clients did. The acts are written by the methods that carry them out.
pub trait AuditStore: Send + Sync + 'static {
    /// A page of the acts of a tenant, the newest first. At most 10,000 acts are read for it, so that with a filter it may
    /// be short or even empty and still have a cursor. [`StoreError::Invalid`]: the cursor is not valid.
    fn acts(&self, tenant: TenantId, filter: AuditFilter) -> StoreFuture<'_, AuditPage>;
    /// Removes up to `limit` acts of a tenant that are older than this time, the oldest first. Returns their number.
    fn delete_acts(&self, tenant: TenantId, before: Timestamp, limit: u32) -> StoreFuture<'_, u64>;
}

/// Operations on every execution that matches a filter.
pub trait BulkStore: Send + Sync + 'static {
    /// Stores a new job. Returns `false` if its tenant has `limits.0` jobs that have not ended. Of its jobs that have ended,
    /// it forgets the oldest beyond `limits.1`.
    fn create_bulk(&self, job: NewBulkJob, limits: (u32, u32), act: Option<Act>) -> StoreFuture<'_, bool>;
    /// The jobs of a tenant, the newest first.
    fn bulk_jobs(&self, tenant: TenantId) -> StoreFuture<'_, Vec<BulkJob>>;
    /// The job with this id.
    fn bulk_job(&self, tenant: TenantId, id: &str) -> StoreFuture<'_, Option<BulkJob>>;
    /// The first executions on which a job could not carry out its operation, in order: at most [`crate::REFUSALS_KEPT`].
    fn bulk_refusals(&self, tenant: TenantId, id: &str) -> StoreFuture<'_, Vec<BulkRefusal>>;
    /// Stops a job. Returns `false` if there is none with this id that has not ended.
    fn stop_bulk(&self, tenant: TenantId, id: &str, act: Option<Act>) -> StoreFuture<'_, bool>;
    /// The jobs of all tenants that have not ended and on which no other living node works, by tenant and id: the oldest of
    /// each tenant, then the second ones, and so on. From now on they are this node's.
    fn claim_bulk(&self, node: Incarnation) -> StoreFuture<'_, Vec<(TenantId, String)>>;
    /// Carries out a step with its acts and moves the job's cursor, in one transaction. Returns `false` if the job has ended
    /// or stands elsewhere: then nothing happens.
    fn bulk_step(&self, step: BulkStep) -> StoreFuture<'_, bool>;
}

/// What requests of steps may reach and contain, by tenant.
pub trait SecretStore: Send + Sync + 'static {
    /// The hosts and sealed secrets of a tenant.
    fn egress(&self, tenant: TenantId) -> StoreFuture<'_, Egress>;
    /// Changes the secrets of a tenant, if their version is still this one. Otherwise it returns `false`.
    fn change_secrets(
        &self,
        tenant: TenantId,
        version: i64,
        change: SecretChange,
        act: Option<Act>,
    ) -> StoreFuture<'_, bool>;
    /// Sets the hosts that the operator allows to a tenant, as a JSON array, or none. Returns `false` if there is none with
    /// this name.
    fn set_hosts(&self, name: &str, hosts: Option<String>, act: Option<Act>) -> StoreFuture<'_, bool>;
}

/// Saved views of lists.
pub trait ViewStore: Send + Sync + 'static {
    /// Saves a view, in the place of one with the same key. Returns `false` if it is a new one and there are as many as
    /// there may be, or if there is no such tenant. The views of people whose names no token of the tenant has any more go
    /// with it.
    fn save_view(&self, view: NewView, limits: ViewLimits, act: Option<Act>) -> StoreFuture<'_, bool>;
    /// The views of a whole tenant by name, then those of this owner.
    fn views(&self, tenant: TenantId, owner: Option<&str>) -> StoreFuture<'_, Vec<StoredView>>;
    /// Deletes a view. Returns `false` if there is none with this key.
    fn delete_view(&self, key: ViewKey, act: Option<Act>) -> StoreFuture<'_, bool>;
}

/// Links with which people answer questions. [`Store::answer`] uses them up.
pub trait LinkStore: Send + Sync + 'static {
    /// Creates a link to an open question, unless the question has as many open links as it may. Of its links that have
    /// ended, it forgets the oldest beyond the same number.
    fn create_link(&self, link: NewLink, links_max: u32, act: Option<Act>) -> StoreFuture<'_, LinkOutcome>;
    /// The link with this digest and its question. A link that was revoked, or whose tenant is suspended or deleted, is
    /// not found.
    fn find_link(&self, digest: &Digest) -> StoreFuture<'_, Option<FoundLink>>;
    /// The links of a question, the newest first.
    fn links(&self, tenant: TenantId, approval: &str) -> StoreFuture<'_, Vec<ApprovalLink>>;
    /// Revokes the link of a question with this id. Returns `false` if there is none that is not used or revoked.
    fn revoke_link(&self, question: (TenantId, &str), id: &str, act: Option<Act>) -> StoreFuture<'_, bool>;
}

/// The components of one engine, by tenant: their names, declarations and bytes.
pub trait ComponentStore: Send + Sync + 'static {
    /// Stores a version of a component. Returns `false` if there was another upload or removal since its state was decided:
    /// then nothing happens.
    fn keep_component(&self, upload: Upload, act: Option<Act>) -> StoreFuture<'_, bool>;
    /// Gives a version that is stored a new state, and its name what is granted with it. Returns `false` as
    /// [`ComponentStore::keep_component`] does.
    fn change_version(&self, version: Version, change: VersionChange, act: Option<Act>) -> StoreFuture<'_, bool>;
    /// All components, by name, the current one first.
    fn components(&self, tenant: TenantId) -> StoreFuture<'_, Vec<Component>>;
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
    /// Whether an open or failed execution needs this version. It may look for a minute: no client waits for it.
    fn is_component_used(&self, tenant: TenantId, digest: &Digest) -> StoreFuture<'_, bool>;
    /// Takes a version away from its name, so that new executions no longer find it. Returns `false` if the name has no
    /// such version, or the version is not removable.
    fn remove_component(&self, version: Version, which: Removable, act: Option<Act>) -> StoreFuture<'_, bool>;
    /// The versions that were replaced by another one before this time.
    fn replaced_components(&self, before: Timestamp) -> StoreFuture<'_, Vec<Version>>;
    /// The components that lost their last name before this time.
    fn nameless_components(&self, before: Timestamp) -> StoreFuture<'_, Vec<(TenantId, Digest)>>;
    /// Removes a component that lost its last name before this time, with its bytes. Returns `false` if it has a name
    /// or is already gone.
    fn delete_component(&self, tenant: TenantId, digest: &Digest, before: Timestamp) -> StoreFuture<'_, bool>;
    /// The digests of all components of all tenants.
    fn digests(&self) -> StoreFuture<'_, Vec<Digest>>;
}
