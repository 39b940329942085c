//! Following an execution: told by commits, and read no more than has changed.

use std::time::Duration;

use cerebelum_store::{ExecutionKey, ExecutionRow, Progress};
use futures::Stream;
use tokio::sync::watch;

use crate::api::{ApiError, Status, Summary};
use crate::directory::unavailable;
use crate::engine::{Engine, LOOK_AGAIN, is_ended, key, no_execution};
use crate::views;
use crate::watchers::WatchState;

/// The shortest time between two looks at an execution that somebody follows: what changes meanwhile comes as one.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
/// A look at a long history takes long: one that follows it reads for at most one part in so many of the time.
const READING_SHARE: u32 = 5;

/// A look at an execution that somebody follows.
struct Look {
    head: ExecutionRow,
    /// A commit of this node or a hint says that something has changed. Commits of other nodes say nothing.
    is_told: bool,
}

/// Looks at an execution again and again.
struct Follower {
    engine: Engine,
    key: ExecutionKey,
    commits: Option<watch::Receiver<WatchState>>,
    /// What passes at least until the next look.
    pause: Duration,
    is_over: bool,
}

impl Follower {
    fn new(engine: &Engine, id: &str) -> Result<Self, ApiError> {
        Ok(Self { engine: engine.clone(), key: key(id)?, commits: None, pause: BETWEEN_LOOKS, is_over: false })
    }

    /// The next look, the first one at once; none after the execution has ended.
    async fn next(&mut self) -> Result<Option<Look>, ApiError> {
        if self.is_over {
            return Ok(None);
        }
        let is_told = self.moved().await;
        let found = self.engine.node.store.execution(&self.key).await.map_err(unavailable)?;
        let head = found.ok_or_else(|| no_execution(self.key.id.as_str()))?;
        self.is_over = is_ended(&views::summary(&head));
        Ok(Some(Look { head, is_told }))
    }

    /// Comes back when something may have changed, and whether anybody says so.
    async fn moved(&mut self) -> bool {
        let runtime = &self.engine.node.runtime;
        let Some(commits) = &mut self.commits else {
            self.commits = Some(self.engine.node.watchers.watch(&self.key));
            return true;
        };
        runtime.sleep(self.pause).await;
        runtime.within(LOOK_AGAIN, commits.changed()).await.is_some()
    }
}

/// The status of an execution that somebody follows.
struct Watcher {
    follower: Follower,
    last: Option<(ExecutionRow, Vec<Progress>)>,
}

impl Watcher {
    /// The next status, after something has changed; none after the execution has ended.
    async fn next(&mut self) -> Result<Option<Status>, ApiError> {
        while let Some(Look { head, is_told }) = self.follower.next().await? {
            let Follower { engine, key, .. } = &self.follower;
            let progress = engine.node.store.progress(key).await.map_err(unavailable)?;
            let seen = Some((head, progress));
            // Only a look that somebody asked for, or that shows something new, is worth reading the rest.
            if is_told || self.last != seen {
                self.last = seen;
                let began_ms = engine.node.runtime.boot_ms();
                let status = engine.status(key.id.as_str()).await?;
                let took = Duration::from_millis(engine.node.runtime.boot_ms() - began_ms);
                self.follower.pause = BETWEEN_LOOKS.max(took * (READING_SHARE - 1));
                self.follower.is_over = is_ended(&status.summary);
                return Ok(Some(status));
            }
        }
        Ok(None)
    }
}

impl Engine {
    /// What a list shows of an execution: now, after each change (several at once count as one), and every second, until it
    /// has ended. Of its history nothing is read.
    pub fn follow(&self, id: &str) -> impl Stream<Item = Result<Summary, ApiError>> + Send + use<> {
        futures::stream::unfold(Some(Follower::new(self, id)), |state| async move {
            match state? {
                Err(refused) => Some((Err(refused), None)),
                Ok(mut follower) => {
                    let look = follower.next().await.transpose()?;
                    let goes_on = look.is_ok().then_some(Ok(follower));
                    Some((look.map(|look| views::summary(&look.head)), goes_on))
                }
            }
        })
    }

    /// The status now and after each change (several at once count as one), until the execution has ended.
    pub fn watch(&self, id: &str) -> impl Stream<Item = Result<Status, ApiError>> + Send + use<> {
        let watcher = Follower::new(self, id).map(|follower| Watcher { follower, last: None });
        futures::stream::unfold(Some(watcher), |state| async move {
            match state? {
                Err(refused) => Some((Err(refused), None)),
                Ok(mut watcher) => {
                    let status = watcher.next().await.transpose()?;
                    let goes_on = status.is_ok().then_some(Ok(watcher));
                    Some((status, goes_on))
                }
            }
        })
    }
}
