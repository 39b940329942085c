//! Signals that have not been delivered, and the calls that wait for them: which call gets which signal.
//!
//! Among those of one name, the oldest signal is for the oldest call, the second for the second, and so on. Each change
//! takes logarithmic time in the number of signals and calls.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use crate::limits::FLAT_BYTES;
use crate::{CallName, Json, Scope, SpanContext, Timestamp};

/// A signal in the queue.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct QueuedSignal {
    pub(super) seq: i64,
    pub(super) data: Json,
    pub(super) cause: Option<SpanContext>,
}

impl QueuedSignal {
    /// About how many bytes the signal takes, including its name.
    pub(super) fn weight(&self, name: &str) -> u64 {
        (name.len() + self.data.as_str().len()) as u64 + FLAT_BYTES
    }
}

/// A waiting call. The calls are served in this order.
type WaitingCall = (Timestamp, CallName);

/// The signals and the calls of one name.
#[derive(Debug, Default)]
struct Named {
    /// The signals, each with its arrival number among signals of all names.
    queue: VecDeque<(u64, QueuedSignal)>,
    /// The calls that have a signal: as many of the oldest calls as there are signals.
    matched: BTreeSet<WaitingCall>,
    /// The calls that have no signal yet.
    others: BTreeSet<WaitingCall>,
    /// The entry of this name in [`Signals::ready`].
    ready: Option<(Scope, u64)>,
}

/// The signals and the calls that wait for them, by name.
#[derive(Debug, Default)]
pub(super) struct Signals {
    by_name: HashMap<String, Named>,
    /// For each scope, the names whose oldest signal is for one of its calls, by the arrival of that signal.
    ready: HashMap<Scope, BTreeMap<u64, String>>,
    /// How many calls of each scope have a signal.
    matched_of: HashMap<Scope, usize>,
    arrived: u64,
}

impl Signals {
    /// Adds a signal. Returns the waiting call that it is matched with, if there is one.
    pub(super) fn arrive(&mut self, name: &str, signal: QueuedSignal) -> Option<CallName> {
        self.arrived += 1;
        let arrival = self.arrived;
        self.change(name, |named, _| named.queue.push_back((arrival, signal)))
    }

    /// Adds a call that waits for this name.
    pub(super) fn wait(&mut self, name: &str, since: Timestamp, call: &CallName) {
        let waiter = (since, call.clone());
        self.change(name, |named, matched_of| match named.matched.last() {
            Some(last) if waiter < *last => {
                count(matched_of, &waiter, true);
                named.matched.insert(waiter);
                let last = named.matched.pop_last().expect("at least the new one is there");
                count(matched_of, &last, false);
                named.others.insert(last);
            }
            Some(_) | None => drop(named.others.insert(waiter)),
        });
    }

    /// Removes a call that no longer waits. Returns the call that is matched with its signal instead.
    pub(super) fn leave(&mut self, name: &str, since: Timestamp, call: &CallName) -> Option<CallName> {
        let waiter = (since, call.clone());
        self.change(name, |named, matched_of| {
            if named.matched.remove(&waiter) {
                count(matched_of, &waiter, false);
            } else {
                named.others.remove(&waiter);
            }
        })
    }

    /// Takes the oldest signal of a name.
    pub(super) fn take(&mut self, name: &str) -> Option<QueuedSignal> {
        let mut taken = None;
        self.change(name, |named, matched_of| {
            taken = named.queue.pop_front();
            if named.matched.len() > named.queue.len() {
                let last = named.matched.pop_last().expect("more than none");
                count(matched_of, &last, false);
                named.others.insert(last);
            }
        });
        taken.map(|(_, signal)| signal)
    }

    /// Whether this call has a signal.
    pub(super) fn is_matched(&self, name: &str, since: Timestamp, call: &CallName) -> bool {
        self.by_name.get(name).is_some_and(|named| named.matched.contains(&(since, call.clone())))
    }

    /// Whether any call has a signal.
    pub(super) fn any_matched(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether any call of this scope has a signal.
    pub(super) fn any_matched_of(&self, scope: &Scope) -> bool {
        self.matched_of.contains_key(scope)
    }

    /// The names whose oldest signal is for a call of this scope, with that call, in the order of the signals' arrival.
    pub(super) fn ready_of(&self, scope: &Scope) -> impl Iterator<Item = (&str, &CallName)> {
        let names = self.ready.get(scope).into_iter().flat_map(BTreeMap::values);
        names.filter_map(|name| {
            let (_, call) = self.by_name.get(name)?.matched.first()?;
            Some((name.as_str(), call))
        })
    }

    /// The scopes of [`Signals::ready_of`].
    pub(super) fn ready_scopes(&self) -> Vec<Scope> {
        let mut scopes: Vec<Scope> = self.ready.keys().cloned().collect();
        scopes.sort();
        scopes
    }

    /// The scope that the oldest signal of this name is for.
    pub(super) fn ready_scope(&self, name: &str) -> Option<&Scope> {
        self.by_name.get(name)?.ready.as_ref().map(|(scope, _)| scope)
    }

    /// Changes the state of a name, and then matches as many calls as there are signals. Returns the newly matched
    /// call.
    fn change(&mut self, name: &str, change: impl FnOnce(&mut Named, &mut HashMap<Scope, usize>)) -> Option<CallName> {
        let mut named = self.by_name.remove(name).unwrap_or_default();
        change(&mut named, &mut self.matched_of);
        let mut newly = None;
        // One change makes room for at most one call.
        if named.matched.len() < named.queue.len()
            && let Some(next) = named.others.pop_first()
        {
            count(&mut self.matched_of, &next, true);
            newly = Some(next.1.clone());
            named.matched.insert(next);
        }
        self.list(name, &mut named);
        if !named.is_empty() {
            self.by_name.insert(name.to_owned(), named);
        }
        newly
    }

    /// Updates [`Signals::ready`] after a change to a name.
    fn list(&mut self, name: &str, named: &mut Named) {
        let first = named.matched.first().map(|(_, call)| call.scope.clone());
        let ready = first.zip(named.queue.front().map(|(arrival, _)| *arrival));
        if ready == named.ready {
            return;
        }
        if let Some((scope, arrival)) = named.ready.take()
            && let Some(names) = self.ready.get_mut(&scope)
        {
            names.remove(&arrival);
            if names.is_empty() {
                self.ready.remove(&scope);
            }
        }
        if let Some((scope, arrival)) = &ready {
            self.ready.entry(scope.clone()).or_default().insert(*arrival, name.to_owned());
        }
        named.ready = ready;
    }
}

impl Named {
    fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.matched.is_empty() && self.others.is_empty()
    }
}

/// Counts one matched call more or less.
fn count(matched_of: &mut HashMap<Scope, usize>, (_, call): &WaitingCall, more: bool) {
    let counted = matched_of.entry(call.scope.clone()).or_default();
    *counted = if more { *counted + 1 } else { *counted - 1 };
    if *counted == 0 {
        matched_of.remove(&call.scope);
    }
}
