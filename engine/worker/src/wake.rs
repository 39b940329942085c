//! When to claim next: at the earliest due time of a hibernated execution, or on a hint that a message arrived.

use cerebelum_history::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Wakes the claiming task.
#[derive(Debug)]
pub(crate) struct Wake {
    /// The earliest known due time; the maximum when there is none.
    next: Mutex<Timestamp>,
    notify: Notify,
}

impl Wake {
    pub(crate) fn new() -> Self {
        Self { next: Mutex::new(Timestamp(u64::MAX)), notify: Notify::new() }
    }

    /// Records that an execution will be due at this time.
    pub(crate) fn expect(&self, due: Timestamp) {
        let mut next = self.next.lock();
        if due < *next {
            *next = due;
            self.notify.notify_one();
        }
    }

    /// Records that there is work now.
    pub(crate) fn now(&self) {
        self.expect(Timestamp(0));
    }

    /// The earliest known due time.
    pub(crate) fn next(&self) -> Timestamp {
        *self.next.lock()
    }

    /// Resets the due time before the store is queried.
    pub(crate) fn reset(&self) {
        *self.next.lock() = Timestamp(u64::MAX);
    }

    /// Returns when [`Wake::next`] has become earlier.
    pub(crate) async fn moved(&self) {
        self.notify.notified().await;
    }
}
