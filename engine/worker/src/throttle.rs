//! One line a second, so that the log does not grow with the number of errors.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::env::Runtime;

/// The shortest time between two lines of one kind, in milliseconds.
const PAUSE_MS: u64 = 1_000;

/// Lets one line of a kind through each second and counts the others.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    /// When the next line may be written.
    next_ms: AtomicU64,
    held_back: AtomicU64,
}

impl Throttle {
    /// Writes a line, unless one was written within the last second. `line` gets the number of lines held back before
    /// it.
    pub(crate) fn line(&self, runtime: &dyn Runtime, line: impl FnOnce(u64)) {
        self.line_at(runtime.boot_ms(), line);
    }

    fn line_at(&self, now_ms: u64, line: impl FnOnce(u64)) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_much_goes_wrong_there_is_one_line_a_second_and_each_is_counted() {
        const EACH_MS: u64 = 50;
        let (throttle, mut lines) = (Throttle::default(), Vec::new());
        for now_ms in 7_000..17_000 {
            for _ in 0..EACH_MS {
                throttle.line_at(now_ms, |held_back| lines.push((now_ms, held_back)));
            }
        }
        assert_eq!(lines.len(), 10, "{lines:?}");
        assert!(lines.windows(2).all(|two| two[1].0 - two[0].0 == PAUSE_MS), "{lines:?}");
        let told: u64 = lines.iter().map(|(_, held_back)| held_back + 1).sum();
        assert_eq!(told, 1 + 9 * PAUSE_MS * EACH_MS, "all up to the last line");
    }
}
