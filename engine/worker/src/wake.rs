//! When to look for work next: the earliest time something hibernated is due, or a hint that something came.

use std::sync::Mutex;

use cerebelum_history::Timestamp;
use tokio::sync::Notify;

/// Wakes whoever claims.
#[derive(Debug)]
pub(crate) struct Wake {
    /// The earliest due time known; the end of time when none is.
    next: Mutex<Timestamp>,
    notify: Notify,
}

impl Wake {
    pub(crate) fn new() -> Self {
        Self { next: Mutex::new(Timestamp(u64::MAX)), notify: Notify::new() }
    }

    /// Something will be due then.
    pub(crate) fn expect(&self, due: Timestamp) {
        let mut next = self.next.lock().expect("nobody panics while holding a time");
        if due < *next {
            *next = due;
            self.notify.notify_one();
        }
    }

    /// There is work now.
    pub(crate) fn now(&self) {
        self.expect(Timestamp(0));
    }

    /// The earliest due time known.
    pub(crate) fn next(&self) -> Timestamp {
        *self.next.lock().expect("nobody panics while holding a time")
    }

    /// Forgets what was known, before the store is asked.
    pub(crate) fn reset(&self) {
        *self.next.lock().expect("nobody panics while holding a time") = Timestamp(u64::MAX);
    }

    /// Comes back when [`Wake::next`] has moved forward.
    pub(crate) async fn moved(&self) {
        self.notify.notified().await;
    }
}
