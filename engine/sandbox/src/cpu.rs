//! Limits how long a guest may compute: the CPU time of its thread, checked at every tick of the epoch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cerebelum_history::{Failure, kind};
use rustix::time::{ClockId, clock_gettime};
use wasmtime::{Store, UpdateDeadline};

use crate::trap::GuestExit;

/// The CPU limit of a repeated turn is this many times that of a new one.
const REPEAT_FACTOR: u64 = 10;

/// The CPU time that a guest has left until the next delivery.
pub(crate) struct Cpu {
    max_ns: u64,
    left_ns: AtomicU64,
    /// The thread's CPU time at the last check; 0 if it was not checked in this poll yet.
    mark_ns: AtomicU64,
    gave_way: AtomicBool,
}

impl Cpu {
    pub(crate) fn new(max: Duration) -> Arc<Self> {
        let max_ns = u64::try_from(max.as_nanos()).unwrap_or(u64::MAX);
        let (mark_ns, gave_way) = (AtomicU64::new(0), AtomicBool::new(false));
        Arc::new(Self { max_ns, left_ns: AtomicU64::new(max_ns), mark_ns, gave_way })
    }

    /// At every tick, charges the guest of this store and makes it yield. The guest ends when no time is left.
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

    /// Restores the full budget at a delivery. The first tick of a turn is free, because reading the clock is a system
    /// call and too expensive for every short turn.
    pub(crate) fn refill(&self) {
        self.fill(self.max_ns);
    }

    /// Restores the budget for a turn that was recorded and is repeated.
    pub(crate) fn refill_for_repeat(&self) {
        self.fill(self.max_ns.saturating_mul(REPEAT_FACTOR));
    }

    fn fill(&self, ns: u64) {
        self.left_ns.store(ns, Ordering::Relaxed);
        self.mark_ns.store(0, Ordering::Relaxed);
    }

    /// The guest continues after a yield, perhaps on another thread.
    pub(crate) fn resume(&self) {
        self.mark_ns.store(thread_cpu_ns(), Ordering::Relaxed);
    }

    /// Whether the guest yielded at a tick since the last call.
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

/// The CPU time that this thread has taken.
#[must_use]
pub fn thread_cpu() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}

fn thread_cpu_ns() -> u64 {
    u64::try_from(thread_cpu().as_nanos()).unwrap_or(u64::MAX)
}
