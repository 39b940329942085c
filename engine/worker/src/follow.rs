//! Follows an execution: woken by commits, and reads no more than has changed.

use std::time::Duration;

use cerebelum_store::{ExecutionKey, ExecutionRow, Progress};
use futures::Stream;
use tokio::sync::watch;

use crate::api::{ApiError, ExecutionStatus, Summary};
use crate::convert;
use crate::tenant_engine::{RECHECK, TenantEngine};
use crate::watchers::WatchState;

/// The shortest time between two checks of an execution that a client follows. Changes within that time are reported
/// together.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
/// Reading the status of a long history takes long. A follower spends at most 1/`READING_SHARE` of the time reading.
const READING_SHARE: u32 = 5;

/// The result of one check of a followed execution.
struct Look {
    head: ExecutionRow,
    /// Whether a commit of this node or a hint reported a change. Commits of other nodes report nothing.
    is_told: bool,
}

/// Checks an execution again and again.
struct Follower {
    engine: TenantEngine,
    key: ExecutionKey,
    commits: Option<watch::Receiver<WatchState>>,
    /// The shortest pause before the next check.
    pause: Duration,
    is_over: bool,
}

impl Follower {
    fn new(engine: &TenantEngine, id: &str) -> Result<Self, ApiError> {
        Ok(Self { engine: engine.clone(), key: engine.key(id)?, commits: None, pause: BETWEEN_LOOKS, is_over: false })
    }

    /// The next check, the first one at once; none after the execution has ended.
    async fn next(&mut self) -> Result<Option<Look>, ApiError> {
        if self.is_over {
            return Ok(None);
        }
        let is_told = self.moved().await;
        let head = self.engine.head(&self.key).await?;
        self.is_over = head.status.is_ended();
        Ok(Some(Look { head, is_told }))
    }

    /// Returns when the execution may have changed, and whether a commit or a hint reported that.
    async fn moved(&mut self) -> bool {
        let runtime = &self.engine.node.runtime;
        let Some(commits) = &mut self.commits else {
            self.commits = Some(self.engine.node.watchers.watch(&self.key));
            return true;
        };
        runtime.sleep(self.pause).await;
        runtime.within(RECHECK, commits.changed()).await.is_some()
    }
}

/// The status of a followed execution.
struct Watcher {
    follower: Follower,
    last: Option<(ExecutionRow, Vec<Progress>)>,
}

impl Watcher {
    fn new(engine: &TenantEngine, id: &str) -> Result<Self, ApiError> {
        Ok(Self { follower: Follower::new(engine, id)?, last: None })
    }

    /// The list entry after the next change, reported or found; none after the execution has ended.
    async fn changed(&mut self) -> Result<Option<Summary>, ApiError> {
        while let Some(Look { head, is_told }) = self.follower.next().await? {
            let Follower { engine, key, .. } = &self.follower;
            let progress = engine.node.store.progress(key).await?;
            let summary = convert::summary(&head);
            let seen = Some((head, progress));
            if is_told || self.last != seen {
                self.last = seen;
                return Ok(Some(summary));
            }
        }
        Ok(None)
    }

    /// The next status after a change; none after the execution has ended. Only then is the full status read.
    async fn next(&mut self) -> Result<Option<ExecutionStatus>, ApiError> {
        if self.changed().await?.is_none() {
            return Ok(None);
        }
        let Follower { engine, key, .. } = &self.follower;
        let began_ms = engine.node.runtime.boot_ms();
        let status = engine.status(key.id.as_str()).await?;
        let took = Duration::from_millis(engine.node.runtime.boot_ms() - began_ms);
        self.follower.pause = BETWEEN_LOOKS.max(took * (READING_SHARE - 1));
        self.follower.is_over = status.summary.status.is_ended();
        Ok(Some(status))
    }
}

impl TenantEngine {
    /// An execution's list entry: now, after each change (several at once count as one), and every second, until it has
    /// ended. Its history is not read.
    pub fn follow(&self, id: &str) -> impl Stream<Item = Result<Summary, ApiError>> + Send + use<> {
        futures::stream::try_unfold(Follower::new(self, id), |follower| async move {
            let mut follower = follower?;
            let look = follower.next().await?;
            Ok(look.map(|look| (convert::summary(&look.head), Ok(follower))))
        })
    }

    /// An execution's list entry now and after each change (several at once count as one), until the execution has ended.
    pub fn changes(&self, id: &str) -> impl Stream<Item = Result<Summary, ApiError>> + Send + use<> {
        futures::stream::try_unfold(Watcher::new(self, id), |watcher| async move {
            let mut watcher = watcher?;
            let summary = watcher.changed().await?;
            Ok(summary.map(|summary| (summary, Ok(watcher))))
        })
    }

    /// The status now and after each change (several at once count as one), until the execution has ended.
    pub fn watch(&self, id: &str) -> impl Stream<Item = Result<ExecutionStatus, ApiError>> + Send + use<> {
        futures::stream::try_unfold(Watcher::new(self, id), |watcher| async move {
            let mut watcher = watcher?;
            let status = watcher.next().await?;
            Ok(status.map(|status| (status, Ok(watcher))))
        })
    }
}
