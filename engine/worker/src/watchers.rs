//! Watchers of executions. The committer notifies them of changes of the committed state, after the commit (L7).

use std::collections::HashMap;
use std::sync::Arc;

use cerebelum_store::ExecutionKey;
use parking_lot::Mutex;
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

/// Executions without a watcher are forgotten once there are this many, or twice as many as were left the last time.
const FORGET_FROM: usize = 1_024;

/// The watched executions.
#[derive(Debug, Default, Clone)]
pub(crate) struct Watchers(Arc<Mutex<Watched>>);

#[derive(Debug, Default)]
struct Watched {
    executions: HashMap<ExecutionKey, watch::Sender<WatchState>>,
    /// How many were left when the others were last forgotten.
    left: usize,
}

impl Watchers {
    /// Starts watching an execution.
    pub(crate) fn watch(&self, key: &ExecutionKey) -> watch::Receiver<WatchState> {
        let mut watched = self.0.lock();
        // An execution that never changes again, or never existed, is not told of a change, with which its entry would go.
        if watched.executions.len() >= FORGET_FROM.max(2 * watched.left) {
            watched.executions.retain(|_, sender| sender.receiver_count() > 0);
            watched.left = watched.executions.len();
        }
        let watched = watched.executions.entry(key.clone());
        watched.or_insert_with(|| watch::Sender::new(WatchState::default())).subscribe()
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
        let mut watched = self.0.lock();
        let Some(sender) = watched.executions.get(key) else { return };
        if sender.receiver_count() == 0 {
            watched.executions.remove(key);
        } else {
            sender.send_modify(what);
        }
    }
}

#[cfg(test)]
mod tests {
    use cerebelum_store::TenantId;

    use super::*;

    #[test]
    fn executions_that_nobody_watches_are_forgotten() {
        let watchers = Watchers::default();
        let key = |number: usize| ExecutionKey { tenant: TenantId(1), id: format!("x{number}").parse().unwrap() };
        let mut kept = watchers.watch(&key(0));
        for number in 1..10 * FORGET_FROM {
            drop(watchers.watch(&key(number)));
        }
        assert!(watchers.0.lock().executions.len() <= FORGET_FROM);
        watchers.changed(&key(0));
        assert_eq!(kept.borrow_and_update().hints, 1, "one that is watched is told");
    }
}
