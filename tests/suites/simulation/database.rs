//! A node's link to the database: slow, cut off, or losing the answer to a request that was carried out. A request that
//! was sent is carried out even when the sender dies.

mod clients;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cerebelum_history::{Digest, ExecutionId, Timestamp};
use cerebelum_store::{
    Act, Answer, AnswerOutcome, AppendError, ApprovalFilter, ApprovalPage, Backlog, Batch, ChildCounts, Chunk,
    ClaimFilter, Claimed, Command, Component, ComponentStore, ConnectionCounts, Count, ExecutionDetail, ExecutionKey,
    ExecutionRow, Existing, Filter, HistoryPart, IdentityStore, InboxCursor, InboxRow, Incarnation, Lease, LogRow,
    NodeRow, Page, Progress, Removable, StatusCounts, Store, StoreError, StoreFuture, StoreMetrics, Sweep, Tenant,
    TenantId, Token, Upload, Version, VersionChange,
};
use futures::FutureExt;
use futures::channel::oneshot;
use test_memory_store::MemoryStore;
use tokio::sync::broadcast;

use crate::clockwork::Clockwork;
use crate::report::Report;
use crate::world::{NODES, World};

/// The faults of the links, each as a number of times in a thousand calls.
#[derive(Default)]
pub(crate) struct Weather {
    pub(crate) unreachable: AtomicU64,
    pub(crate) answer_lost: AtomicU64,
    pub(crate) slow: AtomicU64,
    pub(crate) hint_lost: AtomicU64,
    /// Groups of batches that are refused for an unknown reason.
    pub(crate) rejected: AtomicU64,
    /// The execution for which nothing more can be written, if there is one, also when there are no other faults.
    pub(crate) unwritable: Mutex<Option<String>>,
    /// Until then the database is not reachable.
    pub(crate) down_until_ms: AtomicU64,
    /// How long each node stands still once its next batches are on disk; 0 when it does not.
    pub(crate) standstills_ms: [AtomicU64; NODES],
}

impl Weather {
    pub(crate) fn calm(&self) {
        let shares =
            [&self.unreachable, &self.answer_lost, &self.slow, &self.hint_lost, &self.rejected, &self.down_until_ms];
        shares.into_iter().chain(&self.standstills_ms).for_each(|share| share.store(0, Ordering::Relaxed));
    }
}

/// The longest that an answer takes when it is slow.
const SLOW_MS: u64 = 3_000;
/// How long the link tries again by itself, like a real store.
const PATIENCE_MS: u64 = 2_000;

/// The most bytes in one group of batches: a database has limits of its own, and refuses larger groups.
const GROUP_BYTES_MAX: usize = 4_000;

/// One node's link.
pub(crate) struct Link {
    node: usize,
    report: Report,
    clockwork: Clockwork,
    memory: Arc<MemoryStore>,
    weather: Arc<Weather>,
    hints: broadcast::Sender<ExecutionKey>,
}

impl Link {
    pub(crate) fn new(world: &World, node: usize) -> Self {
        let (clockwork, memory, weather) = (world.clockwork.clone(), world.memory.clone(), world.weather.clone());
        let hints = broadcast::Sender::new(4_096);
        let (mut heard, told, links) = (memory.hints(), hints.clone(), clockwork.clone());
        let sky = weather.clone();
        clockwork.spawn(None, async move {
            while let Ok(key) = heard.recv().await {
                if !links.permille(sky.hint_lost.load(Ordering::Relaxed)) {
                    // The receiver is gone when the node has died.
                    let _ = told.send(key);
                }
            }
        });
        Self { node, report: world.report.clone(), clockwork, memory, weather, hints }
    }

    /// One call to the database, with the faults of the weather.
    fn call<T: Send + 'static>(
        &self,
        doing: impl FnOnce(&MemoryStore) -> StoreFuture<'_, T> + Send + 'static,
    ) -> StoreFuture<'static, T> {
        let (clockwork, memory, weather) = (self.clockwork.clone(), self.memory.clone(), self.weather.clone());
        async move {
            let share = |share: &AtomicU64| clockwork.permille(share.load(Ordering::Relaxed));
            clockwork.sleep_ms(clockwork.below(3)).await;
            let is_down = clockwork.now_ms() < weather.down_until_ms.load(Ordering::Relaxed);
            if is_down || share(&weather.unreachable) {
                clockwork.sleep_ms(clockwork.below(20)).await;
                return Err(StoreError::Unavailable("cut off".to_owned()));
            }
            let took_ms = if share(&weather.slow) { clockwork.below(SLOW_MS) } else { clockwork.below(5) };
            let is_lost = share(&weather.answer_lost);
            let (tell, answer) = oneshot::channel();
            let server = clockwork.clone();
            clockwork.spawn(None, async move {
                server.sleep_ms(took_ms / 2).await;
                let done = doing(&memory).now_or_never().expect("memory answers at once");
                server.sleep_ms(took_ms.div_ceil(2)).await;
                // The caller may have died.
                let _ = tell.send(done);
            });
            let done = answer.await.expect("a database that was asked answers");
            if is_lost { Err(StoreError::Unknown("no answer to a commit".to_owned())) } else { done }
        }
        .boxed()
    }

    /// A read has no commit whose answer could be lost.
    fn read<T: Send + 'static>(
        &self,
        doing: impl FnOnce(&MemoryStore) -> StoreFuture<'_, T> + Send + 'static,
    ) -> StoreFuture<'static, T> {
        let call = self.call(doing);
        let unknown = |error| match error {
            StoreError::Unknown(cause) => StoreError::Unavailable(cause),
            other => other,
        };
        async move { call.await.map_err(unknown) }.boxed()
    }

    /// Refuses batches that the database never accepts, or not together, or not just now.
    fn take(&self, batches: &[Batch]) -> Result<(), StoreError> {
        let never = |batch: &Batch| self.is_unwritable(batch);
        let rejected = |why: &str| Err(StoreError::Rejected(why.to_owned()));
        let bytes: usize = batches.iter().map(Batch::bytes).sum();
        match () {
            // Both are errors that stay: what the database cannot do, and what breaks one of its rules.
            () if batches.iter().any(never) && self.clockwork.permille(500) => rejected("no reason that anybody knows"),
            () if batches.iter().any(never) => Err(StoreError::Corrupt("a rule of the database".to_owned())),
            () if batches.len() > 1 && bytes > GROUP_BYTES_MAX => rejected("too large"),
            () if self.clockwork.permille(self.weather.rejected.load(Ordering::Relaxed)) => rejected("not now"),
            () => Ok(()),
        }
    }

    /// Whether this is a batch of the one execution for which nothing more can be written after its start; parking it is
    /// allowed.
    fn is_unwritable(&self, batch: &Batch) -> bool {
        let unwritable = self.weather.unwritable.lock().expect("nobody panics here");
        let is_start = batch.begins && batch.release && batch.head.position.0 == 1;
        unwritable.as_deref() == Some(batch.key.id.as_str()) && batch.head.parked.is_none() && !is_start
    }

    /// One attempt to append, after which the node may stand still before it hears the answer.
    fn append_once(&self, id: u64, batches: Vec<Batch>) -> StoreFuture<'static, Vec<Result<InboxCursor, AppendError>>> {
        let (node, clockwork, weather) = (self.node, self.clockwork.clone(), self.weather.clone());
        let report = self.report.clone();
        self.call(move |memory| {
            let answer = memory.append(id, batches);
            let ms = weather.standstills_ms[node].swap(0, Ordering::Relaxed);
            if ms > 0 {
                clockwork.stand_still(node, ms);
                report.count("stops at a commit");
            }
            answer
        })
    }

    /// Like a real store, asks again with the same id before it returns an unknown outcome.
    async fn append_patiently(
        &self,
        id: u64,
        batches: Vec<Batch>,
    ) -> Result<Vec<Result<InboxCursor, AppendError>>, StoreError> {
        self.take(&batches)?;
        let until = self.clockwork.now_ms() + self.clockwork.below(PATIENCE_MS);
        let mut is_unknown = false;
        loop {
            let error = match self.append_once(id, batches.clone()).await {
                Ok(answers) => return Ok(answers),
                Err(error) => error,
            };
            is_unknown |= matches!(error, StoreError::Unknown(_));
            if self.clockwork.now_ms() >= until {
                let unknown = || StoreError::Unknown("no answer to a commit".to_owned());
                return Err(if is_unknown { unknown() } else { error });
            }
            self.clockwork.sleep_ms(50).await;
        }
    }
}

impl Store for Link {
    fn begin_lease(
        &self,
        node: &str,
        after: Option<Incarnation>,
        duration: Duration,
    ) -> StoreFuture<'_, Result<Lease, Incarnation>> {
        let node = node.to_owned();
        self.call(move |memory| memory.begin_lease(&node, after, duration))
    }

    fn renew_lease(&self, incarnation: Incarnation, duration: Duration) -> StoreFuture<'_, Option<Lease>> {
        self.call(move |memory| memory.renew_lease(incarnation, duration))
    }

    fn end_lease(&self, incarnation: Incarnation) -> StoreFuture<'_, ()> {
        self.call(move |memory| memory.end_lease(incarnation))
    }

    fn expire_leases(&self) -> StoreFuture<'_, u64> {
        self.call(|memory| memory.expire_leases())
    }

    fn nodes(&self) -> StoreFuture<'_, Vec<NodeRow>> {
        self.read(|memory| memory.nodes())
    }

    fn claim(&self, incarnation: Incarnation, filter: ClaimFilter) -> StoreFuture<'_, Vec<Claimed>> {
        let claimed = Arc::new(Mutex::new(Vec::new()));
        let noted = claimed.clone();
        let call = self.call(move |memory| {
            let answer = memory.claim(incarnation, filter).now_or_never().expect("memory answers at once");
            let keys = answer.iter().flatten().map(|claimed| claimed.head.key.clone());
            noted.lock().expect("nobody panics here").extend(keys);
            Box::pin(std::future::ready(answer))
        });
        async move {
            match call.await {
                // Like a real store, gives back claims that this node may hold without knowing, when the database
                // allows it.
                Err(StoreError::Unknown(cause)) if self.clockwork.permille(700) => {
                    let keys = std::mem::take(&mut *claimed.lock().expect("nobody panics here"));
                    let freed = self.call(move |memory| {
                        memory.tables().give_back(incarnation, &keys);
                        Box::pin(std::future::ready(Ok(())))
                    });
                    freed.await.map_err(|_| StoreError::Unknown(cause.clone()))?;
                    Err(StoreError::Unavailable(cause))
                }
                other => other,
            }
        }
        .boxed()
    }

    fn next_due(&self) -> StoreFuture<'_, Option<Timestamp>> {
        self.read(|memory| memory.next_due())
    }

    fn append(&self, id: u64, batches: Vec<Batch>) -> StoreFuture<'_, Vec<Result<InboxCursor, AppendError>>> {
        self.append_patiently(id, batches).boxed()
    }

    fn history(&self, key: &ExecutionKey, run: u32, part: HistoryPart) -> StoreFuture<'_, Vec<Chunk>> {
        let key = key.clone();
        self.read(move |memory| memory.history(&key, run, part))
    }

    fn execution(&self, key: &ExecutionKey) -> StoreFuture<'_, Option<ExecutionRow>> {
        let key = key.clone();
        self.read(move |memory| memory.execution(&key))
    }

    fn find_existing(&self, keys: Vec<ExecutionKey>) -> StoreFuture<'_, Vec<Option<Existing>>> {
        self.read(move |memory| memory.find_existing(keys))
    }

    fn load(&self, key: &ExecutionKey) -> StoreFuture<'_, Option<Claimed>> {
        let key = key.clone();
        self.read(move |memory| memory.load(&key))
    }

    fn unseen(&self, key: &ExecutionKey) -> StoreFuture<'_, Vec<InboxRow>> {
        let key = key.clone();
        self.read(move |memory| memory.unseen(&key))
    }

    fn describe(&self, key: &ExecutionKey) -> StoreFuture<'_, Option<ExecutionDetail>> {
        let key = key.clone();
        self.read(move |memory| memory.describe(&key))
    }

    fn list(&self, tenant: TenantId, filter: Filter) -> StoreFuture<'_, Page> {
        self.read(move |memory| memory.list(tenant, filter))
    }

    fn count(&self, tenant: TenantId, filter: Filter, max: u64) -> StoreFuture<'_, Count> {
        self.read(move |memory| memory.count(tenant, filter, max))
    }

    fn children_by_status(
        &self,
        tenant: TenantId,
        parents: Vec<ExecutionId>,
        max: u32,
    ) -> StoreFuture<'_, Vec<ChildCounts>> {
        self.read(move |memory| memory.children_by_status(tenant, parents, max))
    }

    fn count_by_status(&self) -> StoreFuture<'_, StatusCounts> {
        self.read(|memory| memory.count_by_status())
    }

    fn command(&self, key: &ExecutionKey, command: Command, act: Option<Act>) -> StoreFuture<'_, bool> {
        let key = key.clone();
        self.call(move |memory| memory.command(&key, command, act))
    }

    fn unread(&self, key: &ExecutionKey) -> StoreFuture<'_, (u64, u64)> {
        let key = key.clone();
        self.call(move |memory| memory.unread(&key))
    }

    fn sweep(&self, after: i64, limit: u32) -> StoreFuture<'_, Sweep> {
        self.read(move |memory| memory.sweep(after, limit))
    }

    fn delete_ended(&self, before: Timestamp, limit: u32) -> StoreFuture<'_, u64> {
        self.call(move |memory| memory.delete_ended(before, limit))
    }

    fn delete_remains(&self, limit: u32) -> StoreFuture<'_, u64> {
        self.call(move |memory| memory.delete_remains(limit))
    }

    fn overdue_runs(&self, keep: u32, after: i64, limit: u32) -> StoreFuture<'_, Vec<i64>> {
        self.read(move |memory| memory.overdue_runs(keep, after, limit))
    }

    fn remove_runs(&self, place: i64, keep: u32) -> StoreFuture<'_, u64> {
        self.call(move |memory| memory.remove_runs(place, keep))
    }

    fn logs(&self, key: &ExecutionKey, after: i64, limit: u32) -> StoreFuture<'_, Vec<LogRow>> {
        let key = key.clone();
        self.read(move |memory| memory.logs(&key, after, limit))
    }

    fn progress(&self, key: &ExecutionKey) -> StoreFuture<'_, Vec<Progress>> {
        let key = key.clone();
        self.read(move |memory| memory.progress(&key))
    }

    fn approvals(&self, tenant: TenantId, filter: ApprovalFilter) -> StoreFuture<'_, ApprovalPage> {
        self.read(move |memory| memory.approvals(tenant, filter))
    }

    fn answer(&self, answer: Answer, act: Option<Act>) -> StoreFuture<'_, AnswerOutcome> {
        self.call(move |memory| memory.answer(answer, act))
    }

    fn backlog(&self) -> StoreFuture<'_, Backlog> {
        self.read(|memory| memory.backlog())
    }

    fn metrics(&self) -> StoreMetrics {
        StoreMetrics::default()
    }

    fn connections(&self) -> ConnectionCounts {
        ConnectionCounts::default()
    }

    fn now(&self) -> StoreFuture<'_, Timestamp> {
        self.read(|memory| memory.now())
    }

    fn hints(&self) -> broadcast::Receiver<ExecutionKey> {
        self.hints.subscribe()
    }
}

impl ComponentStore for Link {
    fn keep_component(&self, upload: Upload, act: Option<Act>) -> StoreFuture<'_, bool> {
        self.call(move |memory| memory.keep_component(upload, act))
    }

    fn change_version(&self, version: Version, change: VersionChange, act: Option<Act>) -> StoreFuture<'_, bool> {
        self.call(move |memory| memory.change_version(version, change, act))
    }

    fn components(&self, tenant: TenantId) -> StoreFuture<'_, Vec<Component>> {
        self.read(move |memory| memory.components(tenant))
    }

    fn uploads(&self, tenant: TenantId) -> StoreFuture<'_, i64> {
        self.read(move |memory| memory.uploads(tenant))
    }

    fn component_bytes(&self, tenant: TenantId, digest: &Digest) -> StoreFuture<'_, Option<Vec<u8>>> {
        let digest = digest.clone();
        self.read(move |memory| memory.component_bytes(tenant, &digest))
    }

    fn component_users(&self, tenant: TenantId, digest: &Digest, limit: u32) -> StoreFuture<'_, Vec<ExecutionId>> {
        let digest = digest.clone();
        self.read(move |memory| memory.component_users(tenant, &digest, limit))
    }

    fn is_component_used(&self, tenant: TenantId, digest: &Digest) -> StoreFuture<'_, bool> {
        let digest = digest.clone();
        self.read(move |memory| memory.is_component_used(tenant, &digest))
    }

    fn remove_component(&self, version: Version, which: Removable, act: Option<Act>) -> StoreFuture<'_, bool> {
        self.call(move |memory| memory.remove_component(version, which, act))
    }

    fn replaced_components(&self, before: Timestamp) -> StoreFuture<'_, Vec<Version>> {
        self.read(move |memory| memory.replaced_components(before))
    }

    fn nameless_components(&self, before: Timestamp) -> StoreFuture<'_, Vec<(TenantId, Digest)>> {
        self.read(move |memory| memory.nameless_components(before))
    }

    fn delete_component(&self, tenant: TenantId, digest: &Digest, before: Timestamp) -> StoreFuture<'_, bool> {
        let digest = digest.clone();
        self.call(move |memory| memory.delete_component(tenant, &digest, before))
    }

    fn digests(&self) -> StoreFuture<'_, Vec<Digest>> {
        self.read(|memory| memory.digests())
    }
}

/// No fault strikes these: no execution of the simulation has anything to do with tokens.
impl IdentityStore for Link {
    fn create_tenant(&self, name: &str, act: Option<Act>) -> StoreFuture<'_, Option<TenantId>> {
        let name = name.to_owned();
        self.read(move |memory| memory.create_tenant(&name, act))
    }

    fn tenants(&self) -> StoreFuture<'_, Vec<Tenant>> {
        self.read(|memory| memory.tenants())
    }

    fn find_tenant(&self, name: &str) -> StoreFuture<'_, Option<Tenant>> {
        let name = name.to_owned();
        self.read(move |memory| memory.find_tenant(&name))
    }

    fn stored_bytes(&self) -> StoreFuture<'_, BTreeMap<TenantId, u64>> {
        self.read(|memory| memory.stored_bytes())
    }

    fn suspend_tenant(&self, name: &str, suspended: bool, act: Option<Act>) -> StoreFuture<'_, bool> {
        let name = name.to_owned();
        self.read(move |memory| memory.suspend_tenant(&name, suspended, act))
    }

    fn delete_tenant(&self, name: &str, act: Option<Act>) -> StoreFuture<'_, bool> {
        let name = name.to_owned();
        self.read(move |memory| memory.delete_tenant(&name, act))
    }

    fn purge_tenant(&self, tenant: TenantId, before: Timestamp, limit: u32) -> StoreFuture<'_, u64> {
        self.read(move |memory| memory.purge_tenant(tenant, before, limit))
    }

    fn set_quotas(&self, name: &str, (from, to): (&str, &str), act: Option<Act>) -> StoreFuture<'_, bool> {
        let (name, from, to) = (name.to_owned(), from.to_owned(), to.to_owned());
        self.read(move |memory| memory.set_quotas(&name, (&from, &to), act))
    }

    fn count_open(&self, tenant: TenantId, max: u64) -> StoreFuture<'_, u64> {
        self.read(move |memory| memory.count_open(tenant, max))
    }

    fn create_token(&self, token: Token, tokens_max: u32, act: Option<Act>) -> StoreFuture<'_, bool> {
        self.read(move |memory| memory.create_token(token, tokens_max, act))
    }

    fn tokens(&self, tenant: TenantId) -> StoreFuture<'_, Vec<Token>> {
        self.read(move |memory| memory.tokens(tenant))
    }

    fn find_token(&self, id: &str) -> StoreFuture<'_, Option<(Token, Tenant)>> {
        let id = id.to_owned();
        self.read(move |memory| memory.find_token(&id))
    }

    fn note_use(&self, id: &str) -> StoreFuture<'_, ()> {
        let id = id.to_owned();
        self.read(move |memory| memory.note_use(&id))
    }

    fn revoke_token(&self, tenant: TenantId, id: &str, act: Option<Act>) -> StoreFuture<'_, bool> {
        let id = id.to_owned();
        self.read(move |memory| memory.revoke_token(tenant, &id, act))
    }

    fn has_tokens(&self) -> StoreFuture<'_, bool> {
        self.read(|memory| memory.has_tokens())
    }
}
