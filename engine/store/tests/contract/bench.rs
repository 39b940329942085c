//! The beginning of every test: a fresh database, and short helpers for operations on it.

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cerebelum_history::{CallName, Digest, ExecutionId, Position, Scope, Seed, Status, Timestamp};
use cerebelum_store::{
    Act, Answer, AnswerOutcome, AppendError, ApprovalFilter, ApprovalRow, ApprovalState, Batch, CallRow, Chunk,
    ClaimFilter, Claimed, Command, Component, ExecutionKey, ExecutionRow, HistoryPart, InboxCursor, Incarnation,
    NewExecution, Size, State, Store, StoreError, TenantId, Upload, VersionChange, VersionState, open,
};
use sqlx::{AssertSqlSafe, Connection, Executor, Row};
use test_memory_store::MemoryStore;

/// Too long to matter in any test that does not want it to.
pub(crate) const LONG: Duration = Duration::from_secs(600);
pub(crate) const T: TenantId = TenantId::DEFAULT;

/// A store over a fresh database.
pub(crate) struct Bench {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) url: String,
    pub(crate) folder: Option<tempfile::TempDir>,
    memory: Option<Arc<MemoryStore>>,
    /// The node that stores executions which no node has claimed: the last one that began.
    starter: Mutex<Option<Incarnation>>,
}

/// An answer to whichever asking of a question is open, without a link.
pub(crate) fn answer((tenant, id): (TenantId, &str), to: ApprovalState, message: String) -> Answer {
    Answer { tenant, id: id.to_owned(), asked_at: None, to, message, link: None }
}

impl Deref for Bench {
    type Target = dyn Store;
    fn deref(&self) -> &Self::Target {
        &*self.store
    }
}

impl Bench {
    pub(crate) async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("cerebelum.db").display());
        Self { store: open(&url).await.unwrap(), url, folder: Some(folder), memory: None, starter: Mutex::default() }
    }

    pub(crate) async fn postgres() -> Self {
        let url = test_postgres::database();
        Self { store: open(&url).await.unwrap(), url, folder: None, memory: None, starter: Mutex::default() }
    }

    pub(crate) fn memory() -> Self {
        let since = || std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
        let memory = Arc::new(MemoryStore::new(move || Timestamp(u64::try_from(since()).unwrap())));
        Self {
            store: memory.clone(),
            url: String::new(),
            folder: None,
            memory: Some(memory),
            starter: Mutex::default(),
        }
    }

    /// The database after the end of its engine, opened by the next one.
    pub(crate) async fn reopened(self) -> Self {
        let Self { store, url, folder, .. } = self;
        drop(store);
        Self { store: open(&url).await.unwrap(), url, folder, memory: None, starter: Mutex::default() }
    }

    /// Another engine on the same database: a second store on PostgreSQL, otherwise the same one.
    pub(crate) async fn second(&self) -> Arc<dyn Store> {
        match (&self.folder, &self.memory) {
            (Some(_), _) | (_, Some(_)) => self.store.clone(),
            (None, None) => open(&self.url).await.unwrap(),
        }
    }

    /// Runs a statement without the store. Returns the first number of the first row.
    pub(crate) async fn meddle(&self, words: impl Into<String>) -> i64 {
        assert!(self.memory.is_none(), "behind the store in memory there is nothing");
        let words = AssertSqlSafe(words.into());
        if self.folder.is_some() {
            let mut connection = sqlx::SqliteConnection::connect(&self.url).await.unwrap();
            connection.execute("pragma busy_timeout = 5000").await.unwrap();
            let said = sqlx::query(words).fetch_optional(&mut connection).await.unwrap().map_or(0, |row| row.get(0));
            // If it were the last one that closes, while the store looks, the log's file would be gone and still open.
            connection.close().await.unwrap();
            said
        } else {
            let mut connection = sqlx::PgConnection::connect(&self.url).await.unwrap();
            sqlx::query(words).fetch_optional(&mut connection).await.unwrap().map_or(0, |row| row.get(0))
        }
    }

    pub(crate) async fn lease(&self, node: &str) -> Incarnation {
        let incarnation = lease(&**self, node).await;
        *self.starter.lock().unwrap() = Some(incarnation);
        incarnation
    }

    /// Waits until a short lease has run out by the clock that counts.
    pub(crate) async fn expire(&self, incarnation: Incarnation) {
        if let Some(memory) = &self.memory {
            return memory.tables().expire(incarnation);
        }
        self.meddle(format!("update leases set expires_at = 1 where incarnation = {}", incarnation.0)).await;
        self.meddle(format!("update nodes set lengthened_until = 1 where incarnation = {}", incarnation.0)).await;
    }

    pub(crate) async fn claim(&self, node: Incarnation, limit: u32, size: Size) -> Result<Vec<Claimed>, StoreError> {
        self.store.claim(node, ClaimFilter::Next { limit, size }).await
    }

    pub(crate) async fn claim_one(&self, node: Incarnation, key: &ExecutionKey) -> Result<Option<Claimed>, StoreError> {
        Ok(self.store.claim(node, ClaimFilter::One(key.clone())).await?.pop())
    }

    /// The chunks of a history that hold these positions.
    pub(crate) async fn history(
        &self,
        key: &ExecutionKey,
        run: u32,
        from: Position,
        to: Position,
    ) -> Result<Vec<Chunk>, StoreError> {
        self.store.history(key, run, HistoryPart::Between(from, to)).await
    }

    pub(crate) async fn peek(&self, key: &ExecutionKey) -> Result<Option<Claimed>, StoreError> {
        self.load(key).await
    }

    pub(crate) async fn send(&self, key: &ExecutionKey, message: String) -> Result<bool, StoreError> {
        self.command(key, Command::Send(message), None).await
    }

    pub(crate) async fn reopen(&self, key: &ExecutionKey, message: String) -> Result<bool, StoreError> {
        self.command(key, Command::Reopen(message), None).await
    }

    /// Answers whichever asking of a question is open, without a link.
    pub(crate) async fn answer(
        &self,
        question: (TenantId, &str),
        to: ApprovalState,
        message: String,
        act: Option<Act>,
    ) -> Result<AnswerOutcome, StoreError> {
        self.store.answer(answer(question, to, message), act).await
    }

    pub(crate) async fn unpark(&self, key: &ExecutionKey) -> Result<bool, StoreError> {
        self.command(key, Command::Unpark, None).await
    }

    pub(crate) async fn delete(&self, key: &ExecutionKey) -> Result<bool, StoreError> {
        self.command(key, Command::Delete, None).await
    }

    pub(crate) async fn bury(
        &self,
        key: &ExecutionKey,
        messages: Vec<(ExecutionId, String)>,
    ) -> Result<bool, StoreError> {
        self.command(key, Command::Bury { messages }, None).await
    }

    /// One question.
    pub(crate) async fn approval(&self, tenant: TenantId, id: &str) -> Result<Option<ApprovalRow>, StoreError> {
        let filter = ApprovalFilter { id: Some(id.into()), ..ApprovalFilter::default() };
        Ok(self.approvals(tenant, filter).await?.approvals.pop())
    }

    /// The current component of a name.
    pub(crate) async fn current(&self, tenant: TenantId, name: &str) -> Result<Option<Component>, StoreError> {
        Ok(self.components(tenant).await?.into_iter().find(|component| component.current && component.name == name))
    }

    /// Stores executions that no node has claimed.
    pub(crate) async fn start(&self, new: Vec<NewExecution>) -> Vec<Result<(), AppendError>> {
        let starter = *self.starter.lock().unwrap();
        let mut node = match starter {
            Some(node) => node,
            None => self.lease("starter").await,
        };
        loop {
            let batches = new.iter().map(|new| Batch::start(node, new.clone())).collect();
            let stored = self.append_all(fresh(), batches).await;
            if !stored.contains(&Err(AppendError::ClaimLost)) {
                return stored;
            }
            node = self.lease("starter").await;
        }
    }

    /// Starts an execution that the node has claimed.
    pub(crate) async fn started(&self, node: Incarnation, id: &str) -> ExecutionRow {
        let new = new(id);
        assert_eq!(self.write(Batch { release: false, ..Batch::start(node, new.clone()) }).await, Ok(()));
        new.head
    }

    /// Starts an execution that has no owner.
    pub(crate) async fn sleeping(&self, id: &str, due: Option<Timestamp>) -> ExecutionRow {
        let mut new = new(id);
        new.head.settled = true;
        new.head.due = due;
        assert_eq!(self.start(vec![new.clone()]).await, [Ok(())]);
        new.head
    }

    /// Appends one batch under a fresh id.
    pub(crate) async fn write(&self, batch: Batch) -> Result<(), AppendError> {
        self.append_all(fresh(), vec![batch]).await.remove(0)
    }

    /// Appends batches. Returns for each only whether it was written.
    pub(crate) async fn append_all(&self, id: u64, batches: Vec<Batch>) -> Vec<Result<(), AppendError>> {
        written(self.append(id, batches).await.unwrap())
    }

    pub(crate) async fn head(&self, id: &str) -> ExecutionRow {
        self.execution(&key(id)).await.unwrap().unwrap()
    }

    pub(crate) async fn looked(&self, id: &str) -> Claimed {
        self.peek(&key(id)).await.unwrap().unwrap()
    }

    /// The texts in an execution's inbox.
    pub(crate) async fn inbox(&self, id: &str) -> Vec<String> {
        self.looked(id).await.inbox.into_iter().map(|row| row.message).collect()
    }

    /// The ids of the executions that a node claims now.
    pub(crate) async fn claimed(&self, node: Incarnation) -> Vec<String> {
        let mut ids: Vec<String> = self
            .claim(node, 100, Size::Any)
            .await
            .unwrap()
            .into_iter()
            .map(|claimed| claimed.head.key.id.to_string())
            .collect();
        ids.sort();
        ids
    }
}

/// For each batch, only whether it was written.
pub(crate) fn written(answers: Vec<Result<InboxCursor, AppendError>>) -> Vec<Result<(), AppendError>> {
    answers.into_iter().map(|answer| answer.map(|_| ())).collect()
}

/// A unique number for an append.
/// Begins a lease for the node with this name, as the incarnation after its last one.
pub(crate) async fn lease(store: &dyn Store, node: &str) -> Incarnation {
    let mut after = None;
    loop {
        match store.begin_lease(node, after, LONG).await.unwrap() {
            Ok(lease) => return lease.incarnation,
            Err(later) => after = Some(later),
        }
    }
}

pub(crate) fn fresh() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

pub(crate) fn key(id: &str) -> ExecutionKey {
    ExecutionKey { tenant: T, id: id.parse().unwrap() }
}

pub(crate) fn call(name: &str) -> CallName {
    name.parse().unwrap()
}

pub(crate) fn scope(path: &str) -> Scope {
    Scope::from_text(path)
}

pub(crate) fn chunk(first: u64, last: u64) -> Chunk {
    Chunk { first: Position(first), last: Position(last), events: format!("[\"{first} to {last}, \\u0000 é\"]") }
}

/// A new execution with one event, not settled and without an owner.
pub(crate) fn new(id: &str) -> NewExecution {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&fresh().to_le_bytes());
    let head = ExecutionRow {
        key: key(id),
        workflow: "shop/order".into(),
        digest: Digest::of(b"shop"),
        seed: Seed(seed),
        run: 1,
        state: State::Open,
        paused: false,
        parked: None,
        settled: false,
        position: Position(1),
        stamp: Timestamp(1_000),
        due: None,
        status: Status::Running,
        attributes: "{}".into(),
        options: "{}".into(),
        parent: None,
        started_at: Timestamp(1_000),
        ended_at: None,
        open_calls: None,
        waits_for: None,
        runs_from: None,
    };
    NewExecution { head, first: chunk(1, 1) }
}

/// A batch that changes nothing yet.
pub(crate) fn batch(node: Incarnation, head: &ExecutionRow) -> Batch {
    Batch::of(node, head.clone())
}

/// A batch that adds events.
pub(crate) fn events(node: Incarnation, head: &ExecutionRow, count: u64) -> Batch {
    let mut batch = batch(node, head);
    let last = Position(head.position.0 + count);
    batch.chunks = vec![chunk(head.position.0 + 1, last.0)];
    batch.head.position = last;
    batch
}

/// A batch that ends the claim: the execution sleeps until `due`.
pub(crate) fn release(node: Incarnation, head: &ExecutionRow, due: Option<Timestamp>) -> Batch {
    let mut batch = batch(node, head);
    batch.head.settled = true;
    batch.head.due = due;
    batch.release = true;
    batch
}

/// A batch that ends the execution.
pub(crate) fn end(node: Incarnation, head: &ExecutionRow, state: State) -> Batch {
    let mut batch = events(node, head, 1);
    batch.head.state = state;
    batch.head.settled = true;
    batch.head.ended_at = Some(Timestamp(2_000));
    batch.head.status = match state {
        State::Open => Status::Running,
        State::Completed => Status::Completed,
        State::Failed => Status::Failed,
        State::Cancelled => Status::Cancelled,
    };
    batch.release = true;
    batch
}

pub(crate) fn opened(name: &str, state: &str) -> CallRow {
    CallRow { name: call(name), state: state.into() }
}

/// These bytes as a component with this name.
pub(crate) fn upload(name: &str, manifest: &str, bytes: &[u8]) -> Upload {
    Upload {
        tenant: T,
        name: name.to_owned(),
        digest: Digest::of(bytes),
        manifest: manifest.to_owned(),
        bytes: Arc::new(bytes.to_vec()),
        change: VersionChange { state: VersionState::Current, granted: "[]".to_owned(), uploads: 0 },
    }
}

/// Stores a component, however many others are stored meanwhile.
pub(crate) async fn keep(store: &dyn Store, mut upload: Upload, act: Option<Act>) -> Result<(), StoreError> {
    loop {
        upload.change.uploads = store.uploads(upload.tenant).await?;
        if store.keep_component(upload.clone(), act.clone()).await? {
            return Ok(());
        }
    }
}
