//! What was seen to be wrong, and how much of everything there was.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Cheap to clone; all clones are one.
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

    /// A law was broken.
    pub(crate) fn violation(&self, what: String) {
        self.noted().violations.push(what);
    }

    /// Checks something that must hold.
    pub(crate) fn check(&self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.violation(otherwise());
        }
    }

    /// One more of these.
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
