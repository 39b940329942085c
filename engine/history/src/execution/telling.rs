//! The quiescent guests that may have an outcome coming, so that the driver need not look at all guests.

use std::collections::{BTreeSet, HashSet};

use super::Execution;
use crate::journal::Journal;
use crate::{Delivery, Scope};

/// The guests that may have an outcome coming.
#[derive(Debug, Default)]
pub(super) struct Telling {
    /// Quiescent guests to look at: they became quiescent, or something arrived for them.
    look: BTreeSet<Scope>,
    /// Quiescent guests that wait until this LSN is durable.
    blocked: BTreeSet<(u64, Scope)>,
    /// Guests in memory with outcomes that they have not been told.
    untold: HashSet<Scope>,
    /// The quiescent guests among them.
    held_up: HashSet<Scope>,
}

impl Telling {
    pub(super) fn any_untold(&self) -> bool {
        !self.untold.is_empty()
    }

    /// Removes and returns the scopes that waited for this LSN or a lower one to be durable.
    pub(super) fn unblock(&mut self, durable: u64) -> Vec<Scope> {
        let mut free = Vec::new();
        while self.blocked.first().is_some_and(|(lsn, _)| *lsn <= durable) {
            free.extend(self.blocked.pop_first().map(|(_, scope)| scope));
        }
        free
    }

    fn follow(&mut self, scope: &Scope, journal: Option<&Journal>) {
        let is_untold = journal.is_some_and(Journal::has_pending);
        let is_quiescent = journal.is_some_and(|journal| journal.is_quiescent);
        put(&mut self.untold, scope, is_untold);
        put(&mut self.held_up, scope, is_untold && is_quiescent);
        if !is_quiescent {
            self.look.remove(scope);
        }
    }
}

fn put(scopes: &mut HashSet<Scope>, scope: &Scope, is_in: bool) {
    if !is_in {
        scopes.remove(scope);
    } else if !scopes.contains(scope) {
        scopes.insert(scope.clone());
    }
}

impl Execution {
    /// Notes that a guest is quiescent and that all of its requests were handed in.
    pub fn quiescent(&mut self, scope: &Scope) {
        if let Some(journal) = self.journals.get_mut(scope) {
            journal.is_quiescent = true;
            self.follow(scope);
            self.look_at(scope);
        }
    }

    /// A quiescent guest that may have an outcome coming. [`Execution::next_delivery`] returns the outcome or finds
    /// that there is none.
    #[must_use]
    pub fn next_to_tell(&self) -> Option<&Scope> {
        if self.paused || self.end.is_some() { None } else { self.telling.look.first() }
    }

    /// Whether a quiescent guest has an outcome that it has not been told yet.
    #[must_use]
    pub fn holds_any_up(&self) -> bool {
        !self.telling.held_up.is_empty()
    }

    /// Notes that this scope's guest may have an outcome coming.
    pub(super) fn look_at(&mut self, scope: &Scope) {
        if self.journals.get(scope).is_some_and(|journal| journal.is_quiescent) && !self.telling.look.contains(scope) {
            self.telling.look.insert(scope.clone());
        }
    }

    /// Updates the lists after a change to a journal.
    pub(super) fn follow(&mut self, scope: &Scope) {
        self.telling.follow(scope, self.journals.get(scope));
    }

    /// Removes the journal of a guest that is no longer in memory.
    pub(super) fn drop_journal(&mut self, scope: &Scope) -> Option<Journal> {
        let journal = self.journals.remove(scope)?;
        self.telling.follow(scope, None);
        Some(journal)
    }

    /// Notes the result of a look: the guest moves, waits for the log, or has no outcome coming.
    pub(super) fn looked_at(&mut self, scope: &Scope, delivery: Option<&Delivery>, blocked: Option<u64>) {
        self.telling.look.remove(scope);
        if let Some(journal) = self.journals.get_mut(scope) {
            journal.is_quiescent &= delivery.is_none();
            if let Some(lsn) = blocked.filter(|_| journal.is_quiescent) {
                self.telling.blocked.insert((lsn, scope.clone()));
            }
        }
        self.follow(scope);
    }
}
