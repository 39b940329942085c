//! How long a guest may compute: its thread's CPU time, looked at whenever the epoch ticks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cerebelum_history::{Failure, kind};
use rustix::time::{ClockId, clock_gettime};
use wasmtime::{Store, UpdateDeadline};

use crate::trap::GuestExit;

/// What was recorded may take so many times as long when it is repeated.
const REPEAT_FACTOR: u64 = 10;

/// What one guest may still compute before the next delivery.
pub(crate) struct Cpu {
    max_ns: u64,
    left_ns: AtomicU64,
    /// The thread's CPU time when it was last looked at; 0 is "not in this poll yet".
    mark_ns: AtomicU64,
    gave_way: AtomicBool,
}

impl Cpu {
    pub(crate) fn new(max: Duration) -> Arc<Self> {
        let max_ns = u64::try_from(max.as_nanos()).unwrap_or(u64::MAX);
        let (mark_ns, gave_way) = (AtomicU64::new(0), AtomicBool::new(false));
        Arc::new(Self { max_ns, left_ns: AtomicU64::new(max_ns), mark_ns, gave_way })
    }

    /// Charges the guest of this store at every tick, makes it give way, and ends it when nothing is left.
    pub(crate) fn watch<T: 'static>(self: &Arc<Self>, store: &mut Store<T>) {
        let cpu = Arc::clone(self);
        store.epoch_deadline_callback(move |_| {
            if cpu.charge() {
                return Ok(UpdateDeadline::Yield(1));
            }
            let message = format!("the guest computed for {} ms without waiting for anything", cpu.max_ns / 1_000_000);
            Err(GuestExit::Failed(Failure::new(kind::CPU_LIMIT, message)).into())
        });
    }

    /// A delivery: everything is left again. Reading the clock is a system call, too dear for every short turn, so
    /// the first tick of a turn is free.
    pub(crate) fn refill(&self) {
        self.fill(self.max_ns);
    }

    /// The same for what was done before and is repeated.
    pub(crate) fn refill_for_repeat(&self) {
        self.fill(self.max_ns.saturating_mul(REPEAT_FACTOR));
    }

    fn fill(&self, ns: u64) {
        self.left_ns.store(ns, Ordering::Relaxed);
        self.mark_ns.store(0, Ordering::Relaxed);
    }

    /// The guest goes on after giving way, perhaps on another thread.
    pub(crate) fn resume(&self) {
        self.mark_ns.store(thread_cpu_ns(), Ordering::Relaxed);
    }

    /// Whether the guest gave way at a tick since this was last asked.
    pub(crate) fn take_gave_way(&self) -> bool {
        self.gave_way.swap(false, Ordering::Relaxed)
    }

    fn charge(&self) -> bool {
        let now_ns = thread_cpu_ns();
        let mark_ns = self.mark_ns.swap(now_ns, Ordering::Relaxed);
        let spent_ns = if mark_ns == 0 { 0 } else { now_ns.saturating_sub(mark_ns) };
        let left_ns = self.left_ns.load(Ordering::Relaxed).saturating_sub(spent_ns);
        self.left_ns.store(left_ns, Ordering::Relaxed);
        self.gave_way.store(true, Ordering::Relaxed);
        left_ns > 0
    }
}

fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}
