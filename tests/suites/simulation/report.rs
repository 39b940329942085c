//! The violations that were found, and counts of events.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The report. Cheap to clone; all clones share one state.
#[derive(Clone, Default)]
pub(crate) struct Report(Arc<Mutex<Noted>>);

#[derive(Default)]
struct Noted {
    violations: Vec<String>,
    counts: BTreeMap<&'static str, u64>,
}

impl Report {
    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that a law was broken.
    pub(crate) fn violation(&self, what: String) {
        self.noted().violations.push(what);
    }

    /// Checks a condition that must hold.
    pub(crate) fn check(&self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.violation(otherwise());
        }
    }

    /// Counts one more of these.
    pub(crate) fn count(&self, what: &'static str) {
        *self.noted().counts.entry(what).or_default() += 1;
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.noted().violations.clone()
    }

    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.noted().counts.clone()
    }
}
