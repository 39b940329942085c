//! The store over a SQL database: the methods of the trait, which call the functions of the other files.

mod clients;

use std::sync::Arc;
use std::time::Duration;

use cerebelum_history::{ExecutionId, Timestamp};
use futures::FutureExt;
use tokio::sync::broadcast;

use crate::append::{Appender, RecentReceipts};
use crate::approvals::Answer;
use crate::audit::Act;
use crate::clock::{Clocks, MachineClocks, SteadyClock};
use crate::components::Uploads;
use crate::contract::{Store, StoreFuture};
use crate::database::Database;
use crate::db_error::DbError;
use crate::describe::ExecutionDetail;
use crate::error::StoreError;
use crate::executions::StoredRow;
use crate::hints::Hints;
use crate::lanes::Lanes;
use crate::list::{ChildCounts, Count};
use crate::metrics::{Backlog, ConnectionCounts, Operation, StoreMetrics};
use crate::model::{
    AnswerOutcome, AppendError, ApprovalPage, Batch, Chunk, Claimed, ExecutionKey, ExecutionRow, Existing, InboxCursor,
    InboxRow, Incarnation, Lease, LogRow, Page, Progress, StatusCounts, Sweep, TenantId,
};
use crate::nodes::NodeRow;
use crate::program_ids::ProgramIds;
use crate::requests::{ApprovalFilter, ClaimFilter, Command, Filter, HistoryPart};
use crate::row_ids::RowIds;
use crate::store_calls::StoreCall;
use crate::{
    approvals, chunks, claim, commands, deletion, describe, executions, inbox, list, load, logs, nodes, old_runs,
    remains, sweep,
};

/// The duration of leases that [`open`] assumes.
const LEASE_DEFAULT: Duration = Duration::from_secs(10);

/// Opens a database, `sqlite:FILE` or `postgres://…`, and brings its schema up to date.
///
/// A SQLite file belongs to one engine at a time: a second one is refused until the first store is dropped.
///
/// # Errors
/// [`StoreError::Unusable`] if the address is not valid, the file is in use, or the schema is newer than this engine;
/// [`StoreError::Unavailable`] if the server does not answer.
pub async fn open(url: &str) -> Result<Arc<dyn Store>, StoreError> {
    open_for(url, LEASE_DEFAULT).await
}

/// The same as [`open`], for engines with leases of this duration: a server ends the open transactions of a silent
/// engine well before its lease is over.
///
/// # Errors
/// As [`open`].
pub async fn open_for(url: &str, lease: Duration) -> Result<Arc<dyn Store>, StoreError> {
    open_on(url, lease, Arc::new(MachineClocks)).await
}

/// The same as [`open`], on a machine with these clocks.
///
/// # Errors
/// As [`open`].
pub async fn open_with(url: &str, clocks: Arc<dyn Clocks>) -> Result<Arc<dyn Store>, StoreError> {
    open_on(url, LEASE_DEFAULT, clocks).await
}

async fn open_on(url: &str, lease: Duration, clocks: Arc<dyn Clocks>) -> Result<Arc<dyn Store>, StoreError> {
    let (database, clock) = Database::open(url, lease, clocks).await?;
    let hints = Hints::new(&database);
    let (programs, row_ids, uploads, metrics, recent) = Default::default();
    let lanes = Lanes::to(database.reads_max());
    Ok(Arc::new(SqlStore { database, clock, hints, programs, row_ids, uploads, metrics, recent, lanes }))
}

/// A store over one of the two databases.
struct SqlStore {
    database: Database,
    clock: SteadyClock,
    hints: Hints,
    programs: ProgramIds,
    row_ids: RowIds,
    uploads: Uploads,
    metrics: StoreMetrics,
    recent: tokio::sync::Mutex<RecentReceipts>,
    lanes: Lanes,
}

impl SqlStore {
    const fn appender(&self) -> Appender<'_> {
        let Self { database, clock, hints, programs, row_ids, recent, .. } = self;
        Appender { database, clock, hints, programs, row_ids, recent }
    }

    /// Runs one operation: measures it, boxes its future, and converts its error to the one that callers see.
    fn run<'a, T: Send + 'a>(
        &'a self,
        operation: Operation,
        doing: impl Future<Output = Result<T, DbError>> + Send + 'a,
    ) -> StoreFuture<'a, T> {
        let counted = async move {
            let _call = StoreCall::begin();
            doing.await
        };
        self.metrics.measure(operation, counted).boxed()
    }

    /// Runs a read of one tenant's executions.
    fn read<'a, T: Send + 'a>(
        &'a self,
        tenant: TenantId,
        doing: impl Future<Output = Result<T, DbError>> + Send + 'a,
    ) -> StoreFuture<'a, T> {
        self.run(Operation::Read, async move {
            let _place = self.lanes.enter(tenant).await;
            doing.await
        })
    }
}

impl Store for SqlStore {
    fn begin_lease(
        &self,
        node: &str,
        after: Option<Incarnation>,
        duration: Duration,
    ) -> StoreFuture<'_, Result<Lease, Incarnation>> {
        let node = node.to_owned();
        self.run(Operation::Lease, async move {
            let begun = nodes::begin((&self.database, &self.clock), (&node, after), duration).await?;
            if let Ok(lease) = &begun {
                self.hints.begin(lease.incarnation);
                self.row_ids.forget_all();
            }
            Ok(begun)
        })
    }

    fn renew_lease(&self, incarnation: Incarnation, duration: Duration) -> StoreFuture<'_, Option<Lease>> {
        self.run(
            Operation::Lease,
            async move { nodes::renew((&self.database, &self.clock), incarnation, duration).await },
        )
    }

    fn end_lease(&self, incarnation: Incarnation) -> StoreFuture<'_, ()> {
        self.run(Operation::Lease, async move {
            let freed = nodes::end(&self.database, incarnation).await?;
            // One key is enough, because a node that looks for this execution also finds the others. A background task
            // might not finish before this process ends.
            Hints::tell_elsewhere_now(&self.database, freed).await;
            Ok(())
        })
    }

    fn expire_leases(&self) -> StoreFuture<'_, u64> {
        self.run(Operation::Lease, async move { nodes::expire_leases(&self.database).await })
    }

    fn nodes(&self) -> StoreFuture<'_, Vec<NodeRow>> {
        self.run(Operation::Read, async move { nodes::list(&self.database).await })
    }

    fn claim(&self, incarnation: Incarnation, filter: ClaimFilter) -> StoreFuture<'_, Vec<Claimed>> {
        let parts = (&self.database, &self.row_ids);
        self.run(Operation::Claim, async move { claim::claim(parts, self.clock.now(), incarnation, &filter).await })
    }

    fn next_due(&self) -> StoreFuture<'_, Option<Timestamp>> {
        self.run(Operation::Claim, async move { claim::next_due(&self.database, self.clock.now()).await })
    }

    fn backlog(&self) -> StoreFuture<'_, Backlog> {
        self.run(Operation::Count, async move { claim::backlog(&self.database, self.clock.now()).await })
    }

    fn append(&self, id: u64, batches: Vec<Batch>) -> StoreFuture<'_, Vec<Result<InboxCursor, AppendError>>> {
        self.run(Operation::Append, async move { self.appender().append(id, &batches).await })
    }

    fn history(&self, key: &ExecutionKey, run: u32, part: HistoryPart) -> StoreFuture<'_, Vec<Chunk>> {
        let key = key.clone();
        self.read(key.tenant, async move { chunks::history(&self.database, &key, run, &part).await })
    }

    fn execution(&self, key: &ExecutionKey) -> StoreFuture<'_, Option<ExecutionRow>> {
        let key = key.clone();
        self.run(Operation::Read, async move {
            let found = executions::find(&mut self.database.client(key.tenant).await?, &key).await?;
            Ok(found.map(StoredRow::shown))
        })
    }

    fn find_existing(&self, keys: Vec<ExecutionKey>) -> StoreFuture<'_, Vec<Option<Existing>>> {
        self.run(Operation::Read, async move { executions::find_existing(&self.database, &keys).await })
    }

    fn load(&self, key: &ExecutionKey) -> StoreFuture<'_, Option<Claimed>> {
        let key = key.clone();
        self.read(key.tenant, async move { load::load(&self.database, &key).await })
    }

    fn unseen(&self, key: &ExecutionKey) -> StoreFuture<'_, Vec<InboxRow>> {
        let key = key.clone();
        self.read(key.tenant, async move { inbox::unseen(&mut self.database.read().await?, &key).await })
    }

    fn describe(&self, key: &ExecutionKey) -> StoreFuture<'_, Option<ExecutionDetail>> {
        let key = key.clone();
        self.run(Operation::Read, async move { describe::describe(&self.database, &key).await })
    }

    fn list(&self, tenant: TenantId, filter: Filter) -> StoreFuture<'_, Page> {
        self.run(Operation::Read, async move { list::list(&self.database, tenant, &filter).await })
    }

    fn count(&self, tenant: TenantId, filter: Filter, max: u64) -> StoreFuture<'_, Count> {
        self.run(Operation::Read, async move { list::count(&self.database, tenant, &filter, max).await })
    }

    fn children_by_status(
        &self,
        tenant: TenantId,
        parents: Vec<ExecutionId>,
        max: u32,
    ) -> StoreFuture<'_, Vec<ChildCounts>> {
        self.run(Operation::Read, async move { list::children_by_status(&self.database, tenant, &parents, max).await })
    }

    fn count_by_status(&self) -> StoreFuture<'_, StatusCounts> {
        self.run(Operation::Count, async move { list::count_by_status(&self.database).await })
    }

    fn command(&self, key: &ExecutionKey, command: Command, act: Option<Act>) -> StoreFuture<'_, bool> {
        let key = key.clone();
        self.run(Operation::Write, async move {
            let moved = commands::command(&self.database, &key, &command, act.as_ref()).await?;
            if matches!(command, Command::Park { .. } | Command::Bury { .. }) {
                self.row_ids.forget(&key);
            }
            let is_done = moved.is_some();
            self.hints.tell(moved.into_iter().flatten());
            Ok(is_done)
        })
    }

    fn unread(&self, key: &ExecutionKey) -> StoreFuture<'_, (u64, u64)> {
        let key = key.clone();
        self.read(key.tenant, async move { inbox::unread(&mut self.database.read().await?, &key).await })
    }

    fn sweep(&self, after: i64, limit: u32) -> StoreFuture<'_, Sweep> {
        self.run(Operation::Sweep, async move { sweep::sweep(&self.database, after, limit).await })
    }

    fn delete_ended(&self, before: Timestamp, limit: u32) -> StoreFuture<'_, u64> {
        self.run(Operation::Sweep, async move { deletion::delete_ended(&self.database, before, limit).await })
    }

    fn delete_remains(&self, limit: u32) -> StoreFuture<'_, u64> {
        self.run(Operation::Sweep, async move { remains::delete(&self.database, limit).await })
    }

    fn overdue_runs(&self, keep: u32, after: i64, limit: u32) -> StoreFuture<'_, Vec<i64>> {
        self.run(Operation::Sweep, async move { old_runs::overdue(&self.database, keep, after, limit).await })
    }

    fn remove_runs(&self, place: i64, keep: u32) -> StoreFuture<'_, u64> {
        self.run(Operation::Sweep, async move { old_runs::remove(&self.database, place, keep).await })
    }

    fn logs(&self, key: &ExecutionKey, after: i64, limit: u32) -> StoreFuture<'_, Vec<LogRow>> {
        let key = key.clone();
        self.run(Operation::Read, async move { logs::logs(&self.database, &key, after, limit).await })
    }

    fn progress(&self, key: &ExecutionKey) -> StoreFuture<'_, Vec<Progress>> {
        let key = key.clone();
        self.run(Operation::Read, async move { logs::progress(&self.database, &key).await })
    }

    fn approvals(&self, tenant: TenantId, filter: ApprovalFilter) -> StoreFuture<'_, ApprovalPage> {
        self.run(Operation::Read, async move { approvals::list(&self.database, tenant, &filter).await })
    }

    fn answer(&self, answer: Answer, act: Option<Act>) -> StoreFuture<'_, AnswerOutcome> {
        self.run(Operation::Write, async move {
            let (outcome, notice) = approvals::answer(&self.database, &answer, act.as_ref()).await?;
            self.hints.tell(notice);
            Ok(outcome)
        })
    }

    fn metrics(&self) -> StoreMetrics {
        self.metrics.clone()
    }

    fn connections(&self) -> ConnectionCounts {
        self.database.connections()
    }

    fn now(&self) -> StoreFuture<'_, Timestamp> {
        Box::pin(std::future::ready(Ok(self.clock.now())))
    }

    fn hints(&self) -> broadcast::Receiver<ExecutionKey> {
        self.hints.subscribe()
    }
}
