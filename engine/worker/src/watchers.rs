//! Who wants to know when an execution's committed state has changed (L7: told by the committer, after the commit).

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use cerebelum_store::ExecutionKey;
use tokio::sync::watch;

/// Watched executions, each with a count of its commits.
#[derive(Debug, Default, Clone)]
pub(crate) struct Watchers(Arc<Mutex<HashMap<ExecutionKey, watch::Sender<u64>>>>);

impl Watchers {
    /// Begins to watch an execution.
    pub(crate) fn watch(&self, key: &ExecutionKey) -> watch::Receiver<u64> {
        let mut watched = self.0.lock().expect("nobody panics while holding the watchers");
        watched.entry(key.clone()).or_insert_with(|| watch::Sender::new(0)).subscribe()
    }

    /// Says that a commit changed this execution.
    pub(crate) fn changed(&self, key: &ExecutionKey) {
        let mut watched = self.0.lock().expect("nobody panics while holding the watchers");
        let Some(sender) = watched.get(key) else { return };
        if sender.receiver_count() == 0 {
            watched.remove(key);
        } else {
            sender.send_modify(|commits| *commits += 1);
        }
    }
}
