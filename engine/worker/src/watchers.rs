//! Who wants to know when an execution's committed state has changed (L7: told by the committer, after the commit).

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use cerebelum_store::ExecutionKey;
use tokio::sync::watch;

/// What is known of a watched execution.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct WatchState {
    /// Counts what may have changed it beside the commits of this node: only the store knows whether it has ended then.
    pub(crate) hints: u64,
    /// A commit of this node has ended it.
    pub(crate) ended: bool,
}

/// Watched executions.
#[derive(Debug, Default, Clone)]
pub(crate) struct Watchers(Arc<Mutex<HashMap<ExecutionKey, watch::Sender<WatchState>>>>);

impl Watchers {
    /// Begins to watch an execution.
    pub(crate) fn watch(&self, key: &ExecutionKey) -> watch::Receiver<WatchState> {
        let mut watched = self.0.lock().expect("nobody panics while holding the watchers");
        watched.entry(key.clone()).or_insert_with(|| watch::Sender::new(WatchState::default())).subscribe()
    }

    /// Says that something may have changed this execution.
    pub(crate) fn changed(&self, key: &ExecutionKey) {
        self.tell(key, |news| news.hints += 1);
    }

    /// Says that a commit changed this execution, and whether it ended it.
    pub(crate) fn committed(&self, key: &ExecutionKey, ended: bool) {
        self.tell(key, |news| news.ended = ended);
    }

    fn tell(&self, key: &ExecutionKey, what: impl FnOnce(&mut WatchState)) {
        let mut watched = self.0.lock().expect("nobody panics while holding the watchers");
        let Some(sender) = watched.get(key) else { return };
        if sender.receiver_count() == 0 {
            watched.remove(key);
        } else {
            sender.send_modify(what);
        }
    }
}
