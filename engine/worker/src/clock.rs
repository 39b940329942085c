//! The node's clock: monotonic, and set by the database's clock (L8). A jump of the wall clock does not move it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cerebelum_history::{Moment, Timestamp};

use crate::env::Runtime;

/// Milliseconds since 1970 by the database's clock, advanced by this machine's boot-time clock.
pub(crate) struct Clock {
    runtime: Arc<dyn Runtime>,
    /// Database time minus boot time, in milliseconds.
    offset_ms: AtomicU64,
    /// The latest time returned, so that a new offset never moves the clock back.
    latest: AtomicU64,
}

/// A duration in milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds since 1970 by this machine's wall clock. For names only, never for decisions.
pub(crate) fn wall_ms() -> u64 {
    millis(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default())
}

impl Clock {
    pub(crate) fn new(runtime: Arc<dyn Runtime>) -> Self {
        Self { runtime, offset_ms: AtomicU64::new(0), latest: AtomicU64::new(0) }
    }

    pub(crate) fn runtime(&self) -> &dyn Runtime {
        &*self.runtime
    }

    /// This machine's boot-time clock, for measuring durations.
    pub(crate) fn boot_ms(&self) -> u64 {
        self.runtime.boot_ms()
    }

    /// Sets the clock to a reading of the database's clock.
    pub(crate) fn set(&self, database: Timestamp) {
        self.offset_ms.store(database.0.saturating_sub(self.boot_ms()), Ordering::Relaxed);
    }

    /// The current time; never earlier than a time returned before.
    pub(crate) fn now(&self) -> Timestamp {
        let now = self.boot_ms() + self.offset_ms.load(Ordering::Relaxed);
        Timestamp(self.latest.fetch_max(now, Ordering::Relaxed).max(now))
    }

    /// The time so long ago.
    pub(crate) fn ago(&self, age: Duration) -> Timestamp {
        Timestamp(self.now().0.saturating_sub(millis(age)))
    }

    /// The current time, with a random number.
    pub(crate) fn moment(&self) -> Moment {
        // A double holds 53 bits of precision.
        let chance = (self.runtime.chance() >> 11) as f64 / (1_u64 << 53) as f64;
        Moment { at: self.now(), chance }
    }

    /// The time until `then`; zero when it has passed.
    pub(crate) fn until(&self, then: Timestamp) -> Duration {
        Duration::from_millis(then.since(self.now()))
    }
}
