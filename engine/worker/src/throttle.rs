//! One line a second: a log must not grow with the trouble it tells of.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::env::Runtime;

/// The least milliseconds between two lines of one kind.
const PAUSE_MS: u64 = 1_000;

/// Lets one line of a kind through each second, and counts the others.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    /// When the next line may be written.
    next_ms: AtomicU64,
    held_back: AtomicU64,
}

impl Throttle {
    /// Writes a line, unless one was written within the last second. `line` is given how many were held back before it.
    pub(crate) fn warn(&self, runtime: &dyn Runtime, line: impl FnOnce(u64)) {
        let now_ms = runtime.boot_ms();
        let next_ms = self.next_ms.load(Ordering::Relaxed);
        let is_ours = now_ms >= next_ms
            && self.next_ms.compare_exchange(next_ms, now_ms + PAUSE_MS, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if is_ours {
            line(self.held_back.swap(0, Ordering::Relaxed));
        } else {
            self.held_back.fetch_add(1, Ordering::Relaxed);
        }
    }
}
