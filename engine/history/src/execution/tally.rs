//! Counts of the open calls, updated with every change. The status and the rounds of the driver need them.

use std::collections::{BTreeMap, HashMap};

use crate::open::{CallPhase, OpenCall};
use crate::status::{Class, Counts};
use crate::{CallName, Scope};

/// Counts of the open calls.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// For each call, the number of open calls inside what it runs.
    inner: HashMap<CallName, usize>,
    /// The class of each call, unless the call waits for a call inside it.
    counted: HashMap<CallName, Class>,
    counts: Counts,
    /// The number of open requests of each scope.
    fetches_of: HashMap<Scope, usize>,
}

impl Tally {
    /// The counts for the status.
    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Whether any request is open.
    pub(super) fn any_fetch(&self) -> bool {
        !self.fetches_of.is_empty()
    }

    /// Whether a request of this scope is open.
    pub(super) fn any_fetch_of(&self, scope: &Scope) -> bool {
        self.fetches_of.contains_key(scope)
    }

    /// Counts a call that was opened.
    pub(super) fn opened(&mut self, open: &BTreeMap<CallName, OpenCall>, name: &CallName, call: &OpenCall) {
        if let Some(outer) = name.scope.call() {
            *self.inner.entry(outer.clone()).or_default() += 1;
            self.changed(open, &outer);
        }
        if matches!(call.phase, CallPhase::Fetch { .. }) {
            *self.fetches_of.entry(name.scope.clone()).or_default() += 1;
        }
        self.recount(name, Some(call));
    }

    /// Counts a call that was closed.
    pub(super) fn closed(&mut self, open: &BTreeMap<CallName, OpenCall>, name: &CallName, call: &OpenCall) {
        self.recount(name, None);
        if matches!(call.phase, CallPhase::Fetch { .. }) {
            less(&mut self.fetches_of, &name.scope);
        }
        if let Some(outer) = name.scope.call() {
            less(&mut self.inner, &outer);
            self.changed(open, &outer);
        }
    }

    /// Counts a call whose phase has changed.
    pub(super) fn changed(&mut self, open: &BTreeMap<CallName, OpenCall>, name: &CallName) {
        self.recount(name, open.get(name));
    }

    fn recount(&mut self, name: &CallName, call: Option<&OpenCall>) {
        if let Some(class) = self.counted.remove(name) {
            *self.counts.of(class) -= 1;
        }
        if let Some(call) = call.filter(|call| !(call.is_running() && self.inner.contains_key(name))) {
            let class = Class::of(call);
            *self.counts.of(class) += 1;
            self.counted.insert(name.clone(), class);
        }
    }
}

fn less<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, of: &K) {
    if let Some(count) = counts.get_mut(of) {
        *count -= 1;
        if *count == 0 {
            counts.remove(of);
        }
    }
}
