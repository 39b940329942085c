//! Who may live: slots for instances and bytes of linear memory, for the whole node. Whoever finds none waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::{Mutex, Notify, OwnedSemaphorePermit, Semaphore};

/// Of the node's memory, new guests take at most this share; the rest is for those that live to grow into.
const SHARE_FOR_STARTS: (u64, u64) = (3, 4);

/// Counts the living guests of a node and the memory they use.
pub(crate) struct Admission {
    used_bytes: AtomicU64,
    bytes_max: u64,
    freed: Notify,
    /// Held while waiting for memory: first come, first served, so that a large guest is not starved by small ones.
    queue: Mutex<()>,
    live: AtomicUsize,
    started: AtomicU64,
}

impl Admission {
    pub(crate) fn new(bytes_max: u64) -> Arc<Self> {
        Arc::new(Self {
            used_bytes: AtomicU64::new(0),
            bytes_max,
            freed: Notify::new(),
            queue: Mutex::new(()),
            live: AtomicUsize::new(0),
            started: AtomicU64::new(0),
        })
    }

    pub(crate) fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    pub(crate) fn started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }

    pub(crate) fn count_start(&self) {
        self.started.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits for a slot and for this many bytes.
    pub(crate) async fn admit(self: &Arc<Self>, slots: &Arc<Semaphore>, bytes: u64) -> Arc<Place> {
        let slot = Arc::clone(slots).acquire_owned().await.expect("nobody closes the slots");
        let queue = self.queue.lock().await;
        let share = self.bytes_max / SHARE_FOR_STARTS.1 * SHARE_FOR_STARTS.0;
        // A guest larger than the share could never live beside another; alone it may.
        let max = share.max(bytes);
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if self.take(bytes, max) {
                break;
            }
            freed.await;
        }
        drop(queue);
        self.live.fetch_add(1, Ordering::Relaxed);
        Arc::new(Place { admission: Arc::clone(self), bytes: AtomicU64::new(bytes), _slot: slot })
    }

    fn take(&self, bytes: u64, max: u64) -> bool {
        let add = |used: u64| used.checked_add(bytes).filter(|&sum| sum <= max);
        self.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }
}

/// A place among the living; given back when dropped.
pub(crate) struct Place {
    admission: Arc<Admission>,
    bytes: AtomicU64,
    _slot: OwnedSemaphorePermit,
}

impl Place {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Makes the place this large, if the node has the memory; it never shrinks.
    pub(crate) fn cover(&self, bytes: u64) -> bool {
        let have = self.bytes.load(Ordering::Relaxed);
        if bytes <= have {
            return true;
        }
        let covered = self.admission.take(bytes - have, self.admission.bytes_max);
        if covered {
            self.bytes.store(bytes, Ordering::Relaxed);
        }
        covered
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.used_bytes.fetch_sub(self.bytes.load(Ordering::Relaxed), Ordering::Relaxed);
        self.admission.live.fetch_sub(1, Ordering::Relaxed);
        self.admission.freed.notify_waiters();
    }
}
