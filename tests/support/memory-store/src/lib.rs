//! The store's contract in memory, for the simulation. The contract tests of the store run on it as well as on the
//! databases.

mod append;
mod audit;
mod bulk;
mod claims;
mod components;
mod executions;
mod identity;
mod links;
mod questions;
mod saved_views;
mod secrets;
mod tables;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cerebelum_history::{Digest, ExecutionId, Timestamp};
use cerebelum_store::{
    Act, Answer, AnswerOutcome, AppendError, ApprovalFilter, ApprovalPage, Backlog, Batch, ChildCounts, Chunk,
    ClaimFilter, Claimed, Command, Component, ComponentStore, ConnectionCounts, Count, ExecutionDetail, ExecutionKey,
    ExecutionRow, Existing, Filter, HistoryPart, InboxCursor, InboxRow, Incarnation, Lease, LogRow, NodeRow, Page,
    Progress, Removable, StatusCounts, Store, StoreError, StoreFuture, StoreMetrics, Sweep, TenantId, Upload, Version,
    VersionChange,
};
use tokio::sync::broadcast;

pub use tables::{Row, Tables};

/// The number of hints that may be waiting for a receiver.
const HINTS_MAX: usize = 4_096;

/// A store in memory. Each call is one transaction, which has happened when the call returns.
pub struct MemoryStore {
    tables: Mutex<Tables>,
    hints: broadcast::Sender<ExecutionKey>,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl MemoryStore {
    /// An empty store with this clock.
    pub fn new(clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        let mut tables = Tables::default();
        tables.tenants.push(Tables::first_tenant());
        Self { tables: Mutex::new(tables), hints: broadcast::Sender::new(HINTS_MAX), clock: Arc::new(clock) }
    }

    /// Changes the tables at the current time, and sends hints about executions that moved.
    fn transact<'a, T: Send + 'a>(&self, doing: impl FnOnce(&mut Tables) -> T) -> StoreFuture<'a, T> {
        let (done, moved) = {
            let mut tables = self.tables();
            tables.now = (self.clock)();
            (doing(&mut tables), std::mem::take(&mut tables.moved))
        };
        for key in moved {
            // An error only means that there is no receiver.
            let _ = self.hints.send(key);
        }
        Box::pin(std::future::ready(Ok(done)))
    }

    /// Changes the tables, and stores the act of the client that wants it if that did something.
    fn act<'a, T: Send + 'a>(
        &self,
        act: Option<Act>,
        doing: impl FnOnce(&mut Tables) -> T,
        is_done: impl FnOnce(&T) -> bool,
    ) -> StoreFuture<'a, T> {
        self.transact(|tables| {
            let done = doing(tables);
            tables.note(act.filter(|_| is_done(&done)).as_ref());
            done
        })
    }

    /// The tables as they are, for checks.
    pub fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn begin_lease(
        &self,
        node: &str,
        after: Option<Incarnation>,
        duration: Duration,
    ) -> StoreFuture<'_, Result<Lease, Incarnation>> {
        self.transact(|tables| tables.begin_lease(node, after, duration))
    }

    fn renew_lease(&self, incarnation: Incarnation, duration: Duration) -> StoreFuture<'_, Option<Lease>> {
        self.transact(|tables| tables.renew_lease(incarnation, duration))
    }

    fn end_lease(&self, incarnation: Incarnation) -> StoreFuture<'_, ()> {
        self.transact(|tables| tables.retire(incarnation))
    }

    fn expire_leases(&self) -> StoreFuture<'_, u64> {
        self.transact(Tables::expire_leases)
    }

    fn nodes(&self) -> StoreFuture<'_, Vec<NodeRow>> {
        self.transact(|tables| tables.nodes())
    }

    fn claim(&self, incarnation: Incarnation, filter: ClaimFilter) -> StoreFuture<'_, Vec<Claimed>> {
        self.transact(|tables| match filter {
            ClaimFilter::Next { limit, size } => tables.claim(incarnation, limit, size),
            ClaimFilter::InTurn { limit, size, without, after } => {
                tables.claim_in_turn(incarnation, (limit, size), (&without, after))
            }
            ClaimFilter::One(key) => tables.claim_one(incarnation, &key).into_iter().collect(),
        })
    }

    fn next_due(&self) -> StoreFuture<'_, Option<Timestamp>> {
        self.transact(|tables| tables.next_due())
    }

    fn append(&self, id: u64, batches: Vec<Batch>) -> StoreFuture<'_, Vec<Result<InboxCursor, AppendError>>> {
        self.transact(|tables| tables.append(id, &batches))
    }

    fn history(&self, key: &ExecutionKey, run: u32, part: HistoryPart) -> StoreFuture<'_, Vec<Chunk>> {
        let read = self.transact(|tables| tables.history(key, run, &part));
        Box::pin(async move { read.await? })
    }

    fn execution(&self, key: &ExecutionKey) -> StoreFuture<'_, Option<ExecutionRow>> {
        self.transact(|tables| tables.executions.get(key).map(|row| row.head.clone()))
    }

    fn find_existing(&self, keys: Vec<ExecutionKey>) -> StoreFuture<'_, Vec<Option<Existing>>> {
        self.transact(|tables| {
            keys.iter().map(|key| tables.find_existing(key).map(|(head, first)| (head, Ok(first)))).collect()
        })
    }

    fn load(&self, key: &ExecutionKey) -> StoreFuture<'_, Option<Claimed>> {
        self.transact(|tables| tables.executions.get(key).map(tables::Row::claimed))
    }

    fn unseen(&self, key: &ExecutionKey) -> StoreFuture<'_, Vec<InboxRow>> {
        self.transact(|tables| tables.unseen(key))
    }

    fn describe(&self, key: &ExecutionKey) -> StoreFuture<'_, Option<ExecutionDetail>> {
        self.transact(|tables| tables.describe(key))
    }

    fn list(&self, tenant: TenantId, filter: Filter) -> StoreFuture<'_, Page> {
        self.transact(|tables| tables.list(tenant, &filter))
    }

    fn count(&self, tenant: TenantId, filter: Filter, max: u64) -> StoreFuture<'_, Count> {
        self.transact(|tables| tables.count(tenant, &filter, max))
    }

    fn children_by_status(
        &self,
        tenant: TenantId,
        parents: Vec<ExecutionId>,
        max: u32,
    ) -> StoreFuture<'_, Vec<ChildCounts>> {
        self.transact(|tables| tables.children_by_status(tenant, &parents, max))
    }

    fn count_by_status(&self) -> StoreFuture<'_, StatusCounts> {
        self.transact(|tables| tables.count_by_status())
    }

    fn command(&self, key: &ExecutionKey, command: Command, act: Option<Act>) -> StoreFuture<'_, bool> {
        self.act(act, |tables| tables.carry_out(key, command), |is_done| *is_done)
    }

    fn unread(&self, key: &ExecutionKey) -> StoreFuture<'_, (u64, u64)> {
        self.transact(|tables| tables.executions.get(key).map_or((0, 0), tables::Row::unread))
    }

    fn sweep(&self, _: i64, _: u32) -> StoreFuture<'_, Sweep> {
        // No row here is ever damaged, and no node vanishes.
        self.transact(|_| Sweep::default())
    }

    fn delete_ended(&self, before: Timestamp, limit: u32) -> StoreFuture<'_, u64> {
        self.transact(|tables| tables.delete_ended(before, limit))
    }

    fn delete_remains(&self, _: u32) -> StoreFuture<'_, u64> {
        // An execution goes here with everything that belongs to it.
        self.transact(|_| 0)
    }

    fn overdue_runs(&self, keep: u32, after: i64, limit: u32) -> StoreFuture<'_, Vec<i64>> {
        self.transact(|tables| tables.overdue_runs(keep, after, limit))
    }

    fn remove_runs(&self, place: i64, keep: u32) -> StoreFuture<'_, u64> {
        self.transact(|tables| tables.remove_runs(place, keep))
    }

    fn logs(&self, key: &ExecutionKey, after: i64, limit: u32) -> StoreFuture<'_, Vec<LogRow>> {
        self.transact(|tables| tables.logs(key, after, limit))
    }

    fn progress(&self, key: &ExecutionKey) -> StoreFuture<'_, Vec<Progress>> {
        self.transact(|tables| tables.progress(key))
    }

    fn approvals(&self, tenant: TenantId, filter: ApprovalFilter) -> StoreFuture<'_, ApprovalPage> {
        self.transact(|tables| tables.approvals(tenant, &filter))
    }

    fn answer(&self, answer: Answer, act: Option<Act>) -> StoreFuture<'_, AnswerOutcome> {
        let answered = |outcome: &AnswerOutcome| matches!(outcome, AnswerOutcome::Accepted(_));
        self.act(act, |tables| tables.answer(answer), answered)
    }

    fn backlog(&self) -> StoreFuture<'_, Backlog> {
        self.transact(|tables| tables.backlog())
    }

    fn metrics(&self) -> StoreMetrics {
        StoreMetrics::default()
    }

    fn connections(&self) -> ConnectionCounts {
        ConnectionCounts::default()
    }

    fn now(&self) -> StoreFuture<'_, Timestamp> {
        self.transact(|tables| tables.now)
    }

    fn hints(&self) -> broadcast::Receiver<ExecutionKey> {
        self.hints.subscribe()
    }
}

impl ComponentStore for MemoryStore {
    fn keep_component(&self, upload: Upload, act: Option<Act>) -> StoreFuture<'_, bool> {
        if self.tables().is_deleted(upload.tenant) {
            let refused = StoreError::Rejected("the tenant is deleted".to_owned());
            return Box::pin(std::future::ready(Err(refused)));
        }
        let component = Component {
            name: upload.name,
            digest: upload.digest,
            manifest: upload.manifest,
            size: upload.bytes.len() as u64,
            uploaded_at: (self.clock)(),
            current: false,
            proposed: false,
            granted: None,
        };
        let (tenant, change, bytes) = (upload.tenant, upload.change, upload.bytes.to_vec());
        self.act(act, |tables| tables.keep_component(tenant, (component, &change), bytes), |kept| *kept)
    }

    fn change_version(&self, version: Version, change: VersionChange, act: Option<Act>) -> StoreFuture<'_, bool> {
        self.act(act, |tables| tables.change_version(&version, &change), |placed| *placed)
    }

    fn components(&self, tenant: TenantId) -> StoreFuture<'_, Vec<Component>> {
        self.transact(|tables| tables.components(tenant))
    }

    fn uploads(&self, _: TenantId) -> StoreFuture<'_, i64> {
        self.transact(|tables| tables.uploads)
    }

    fn component_bytes(&self, tenant: TenantId, digest: &Digest) -> StoreFuture<'_, Option<Vec<u8>>> {
        self.transact(|tables| tables.bytes.get(&(tenant, digest.as_str().to_owned())).cloned())
    }

    fn component_users(&self, tenant: TenantId, digest: &Digest, limit: u32) -> StoreFuture<'_, Vec<ExecutionId>> {
        self.transact(|tables| tables.component_users(tenant, digest, limit))
    }

    fn is_component_used(&self, tenant: TenantId, digest: &Digest) -> StoreFuture<'_, bool> {
        self.transact(|tables| !tables.component_users(tenant, digest, 1).is_empty())
    }

    fn remove_component(&self, version: Version, which: Removable, act: Option<Act>) -> StoreFuture<'_, bool> {
        self.act(act, |tables| tables.remove_component(&version, which), |removed| *removed)
    }

    fn replaced_components(&self, before: Timestamp) -> StoreFuture<'_, Vec<Version>> {
        self.transact(|tables| tables.replaced_components(before))
    }

    fn nameless_components(&self, before: Timestamp) -> StoreFuture<'_, Vec<(TenantId, Digest)>> {
        self.transact(|tables| tables.nameless_components(before))
    }

    fn delete_component(&self, tenant: TenantId, digest: &Digest, before: Timestamp) -> StoreFuture<'_, bool> {
        self.transact(|tables| tables.delete_component(tenant, digest, before))
    }

    fn digests(&self) -> StoreFuture<'_, Vec<Digest>> {
        self.transact(|tables| tables.digests())
    }
}
