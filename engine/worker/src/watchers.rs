//! Watchers of executions. The committer notifies them of changes of the committed state, after the commit (L7).

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use cerebelum_store::ExecutionKey;
use tokio::sync::watch;

/// The known state of a watched execution.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct WatchState {
    /// Counts possible changes other than commits of this node. After one of these, only the store knows whether the
    /// execution has ended.
    pub(crate) hints: u64,
    /// Whether a commit of this node has ended it.
    pub(crate) ended: bool,
}

/// The watched executions.
#[derive(Debug, Default, Clone)]
pub(crate) struct Watchers(Arc<Mutex<HashMap<ExecutionKey, watch::Sender<WatchState>>>>);

impl Watchers {
    /// Starts watching an execution.
    pub(crate) fn watch(&self, key: &ExecutionKey) -> watch::Receiver<WatchState> {
        let mut watched = self.0.lock().expect("nobody panics while holding the watchers");
        watched.entry(key.clone()).or_insert_with(|| watch::Sender::new(WatchState::default())).subscribe()
    }

    /// Records that this execution may have changed.
    pub(crate) fn changed(&self, key: &ExecutionKey) {
        self.tell(key, |news| news.hints += 1);
    }

    /// Records that a commit changed this execution, and whether it ended it.
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
