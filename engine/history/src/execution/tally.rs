//! Counts of the open calls, updated with every change. The status and the rounds of the driver need them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Execution;
use crate::open::{CallPhase, OpenCall};
use crate::status::{Class, Counts};
use crate::waits::{WaitKind, Waiting, until};
use crate::{CallName, FirstWait, Scope, Timestamp};

/// The place of a wait among those that matter to a person: of one kind, the one that ends first comes first.
type WaitPlace = (WaitKind, Timestamp, Timestamp);

/// Counts of the open calls.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// For each call, the number of open calls inside what it runs.
    inner: HashMap<CallName, usize>,
    /// What each call waits for, unless the call waits for a call inside it.
    counted: HashMap<CallName, WaitPlace>,
    counts: Counts,
    /// The calls that keep the execution from working.
    waits: BTreeSet<(WaitPlace, CallName)>,
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
        if let Some(place) = self.counted.remove(name) {
            *self.counts.of(Class::of(place.0)) -= 1;
            if !place.0.is_busy() {
                self.waits.remove(&(place, name.clone()));
            }
        }
        if let Some(call) = call.filter(|call| !(call.is_running() && self.inner.contains_key(name))) {
            let kind = WaitKind::of(call);
            let place = (kind, until(call).unwrap_or(Timestamp(u64::MAX)), call.since);
            *self.counts.of(Class::of(kind)) += 1;
            self.counted.insert(name.clone(), place);
            if !kind.is_busy() {
                self.waits.insert((place, name.clone()));
            }
        }
    }
}

impl Execution {
    /// What the execution waits for, in short, at a cost that does not grow with its open calls. None if it works, or has
    /// ended.
    #[must_use]
    pub fn first_wait(&self) -> Option<FirstWait> {
        if self.end.is_some() {
            return None;
        }
        if let Some(starts_at) = self.options.starts_at {
            return Some(FirstWait::delay(self.position, self.stamp, starts_at));
        }
        let (_, name) = self.tally.waits.first()?;
        let wait = Waiting::of(name, self.open.get(name)?);
        Some(FirstWait::new(self.position, wait, self.tally.waits.len() - 1))
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
