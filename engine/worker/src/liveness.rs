//! Checks that everything that can move does (L22): records waits and their beginnings.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::env::Runtime;

/// The current waits of the engine, and when each of them began.
pub(crate) struct Liveness {
    runtime: Arc<dyn Runtime>,
    next: AtomicU64,
    waits: Mutex<BTreeMap<u64, (&'static str, u64)>>,
}

impl Liveness {
    pub(crate) fn new(runtime: Arc<dyn Runtime>) -> Arc<Self> {
        Arc::new(Self { runtime, next: AtomicU64::new(0), waits: Mutex::default() })
    }

    /// The runtime whose clock is used.
    pub(crate) fn runtime(&self) -> &dyn Runtime {
        &*self.runtime
    }

    /// Records a wait that lasts until the returned value is dropped. `what` fits "… has waited for 12 s".
    pub(crate) fn waits(self: &Arc<Self>, what: &'static str) -> TimedWait {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.waits.lock().insert(number, (what, self.runtime.boot_ms()));
        TimedWait { liveness: Arc::clone(self), number }
    }

    /// The longest current wait, and its duration.
    pub(crate) fn oldest(&self) -> Option<(&'static str, Duration)> {
        let (what, since_ms) = self.waits.lock().first_key_value().map(|(_, wait)| *wait)?;
        Some((what, Duration::from_millis(self.runtime.boot_ms().saturating_sub(since_ms))))
    }
}

/// A recorded wait.
pub(crate) struct TimedWait {
    liveness: Arc<Liveness>,
    number: u64,
}

impl Drop for TimedWait {
    fn drop(&mut self) {
        self.liveness.waits.lock().remove(&self.number);
    }
}
