//! Who may live: slots for instances and bytes of linear memory, for the whole node. Whoever finds none waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::{Mutex, Notify, OwnedSemaphorePermit, Semaphore};

/// Of the node's memory, workflows begin in at most so many sixteenths, and steps in so many: they find room where
/// workflows no longer do. The rest is for those that live to grow into.
const SHARES: (u64, u64) = (9, 12);

/// The places for guests of one kind.
pub(crate) struct Slots {
    all: Arc<Semaphore>,
    /// What workflows may have of them. They wait for their steps: without a rest that is the steps' own, workflows could
    /// take all places and wait for each other.
    workflows: Arc<Semaphore>,
}

impl Slots {
    pub(crate) fn new(count: u32) -> Self {
        let places = |count: u32| Arc::new(Semaphore::new(count as usize));
        Self { all: places(count), workflows: places(count - count / 4) }
    }
}

/// Counts the living guests of a node and the memory they use.
pub(crate) struct Admission {
    used_bytes: AtomicU64,
    bytes_max: u64,
    freed: Notify,
    /// Held while waiting for memory: first come, first served, so that a large guest is not starved by small ones.
    /// Workflows and steps have a queue each.
    queues: [Mutex<()>; 2],
    /// How many are in each.
    waiting: [AtomicUsize; 2],
    live: AtomicUsize,
    started: AtomicU64,
}

impl Admission {
    pub(crate) fn new(bytes_max: u64) -> Arc<Self> {
        Arc::new(Self {
            used_bytes: AtomicU64::new(0),
            bytes_max,
            freed: Notify::new(),
            queues: Default::default(),
            waiting: Default::default(),
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
    pub(crate) async fn admit(self: &Arc<Self>, slots: &Slots, is_workflow: bool, bytes: u64) -> Arc<Place> {
        let take =
            async |slots: &Arc<Semaphore>| Arc::clone(slots).acquire_owned().await.expect("nobody closes the slots");
        let as_workflow = if is_workflow { Some(take(&slots.workflows).await) } else { None };
        let slot = take(&slots.all).await;
        let share = self.bytes_max / 16 * if is_workflow { SHARES.0 } else { SHARES.1 };
        // A guest larger than the share could never live beside another; alone it may.
        let max = share.max(bytes);
        let kind = usize::from(is_workflow);
        // Nobody before us: no turn to wait for, which takes its time where thousands want to move.
        if self.waiting[kind].load(Ordering::Relaxed) > 0 || !self.take(bytes, max) {
            self.queue_for(kind, (bytes, max)).await;
        }
        self.live.fetch_add(1, Ordering::Relaxed);
        Arc::new(Place { admission: Arc::clone(self), bytes: AtomicU64::new(bytes), _slots: (slot, as_workflow) })
    }

    async fn queue_for(&self, kind: usize, (bytes, max): (u64, u64)) {
        let _counted = Counted::one_more(&self.waiting[kind]);
        let _turn = self.queues[kind].lock().await;
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if self.take(bytes, max) {
                return;
            }
            freed.await;
        }
    }

    fn take(&self, bytes: u64, max: u64) -> bool {
        let add = |used: u64| used.checked_add(bytes).filter(|&sum| sum <= max);
        self.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }
}

/// One more of something, as long as this lives.
struct Counted<'c>(&'c AtomicUsize);

impl<'c> Counted<'c> {
    fn one_more(count: &'c AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A place among the living; given back when dropped.
pub(crate) struct Place {
    admission: Arc<Admission>,
    bytes: AtomicU64,
    _slots: (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>),
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
