//! How guests are started and forgotten, and which outcome each is told next.

use super::{Execution, Identity, Moment};
use crate::event::{Event, EventData};
use crate::journal::{Journal, NonDeterminism, WAITS};
use crate::open::CallPhase;
use crate::{CallName, Delivery, Digest, Entry, GuestInput, Json, Position, Scope, Timestamp, planted};

impl Execution {
    /// The first event that the driver has to hand in for [`Execution::begin`], or none if the guest needs no events.
    #[must_use]
    pub fn journal_from(&self, scope: &Scope) -> Option<Position> {
        if scope.is_root() {
            return Some(Position(1));
        }
        let journal = self.attempts(scope)?.journal;
        (scope.poll().is_none() && Position(journal) < self.position).then(|| Position(journal).next())
    }

    /// Starts a scope's guest, with the stored events from [`Execution::journal_from`] on (of any scope, in order).
    /// Returns `None` if the guest is no longer wanted.
    pub fn begin(&mut self, scope: &Scope, stored: &[Event]) -> Option<GuestInput> {
        let from = self.journal_from(scope).map_or(0, |from| from.0);
        let stored: Vec<(Position, &Event)> = (from..).map(Position).zip(stored).collect();
        self.begin_with(scope, &stored)
    }

    /// The same as [`Execution::begin`], with each event's position, so that events of other scopes may be left out.
    pub fn begin_with(&mut self, scope: &Scope, stored: &[(Position, &Event)]) -> Option<GuestInput> {
        self.wanted.remove(scope);
        let journal = match scope.poll() {
            Some(poll) => self.journal_in_poll(scope, &poll)?,
            None => self.journal_in_history(scope, stored)?,
        };
        let begin = if scope.is_root() {
            let first = stored.first().map(|(_, event)| *event);
            let first = first.or_else(|| self.unsaved.first().map(|(_, event)| event))?;
            let EventData::ExecutionStarted { input, .. } = &first.data else { return None };
            let workflow = self.identity.workflow.rsplit('/').next().unwrap_or_default();
            self.beginning(scope, Entry::Workflow(workflow.to_owned()), input.clone(), (first.at, 1))
        } else {
            let name = scope.call()?;
            let step = self.open.get(&name)?.phase.step()?;
            let attempts = self.attempts(scope)?;
            let entry = Entry::Step(step.local_name().to_owned());
            self.beginning(scope, entry, step.call.input.clone(), (attempts.began, attempts.attempt))
        };
        let mut journal = journal;
        journal.weigh_in(&self.journal_bytes);
        self.journals.insert(scope.clone(), journal);
        self.follow(scope);
        Some(begin)
    }

    fn journal_in_poll(&self, scope: &Scope, poll: &CallName) -> Option<Journal> {
        let attempts = self.attempts(scope)?;
        let after = usize::try_from(attempts.journal).unwrap_or(usize::MAX);
        let open = self.poll(poll)?;
        let lsn = |index| if index < open.durable { 0 } else { self.lsn };
        let place = |index: usize| self.log_place(scope, u64::try_from(index).map_or(0, |index| index + 1));
        let events = open.journal.iter().enumerate().skip(after).filter(|(_, event)| event.scope == *scope);
        let began = self.log_place(scope, attempts.journal);
        let recorded = events.map(|(index, event)| (event, place(index), lsn(index)));
        Some(Journal::of(attempts.attempt, began, recorded))
    }

    fn journal_in_history(&self, scope: &Scope, stored: &[(Position, &Event)]) -> Option<Journal> {
        let of_step = || self.attempts(scope).map(|attempts| (attempts.attempt, attempts.journal));
        let (attempt, began) = if scope.is_root() { (1, 0) } else { of_step()? };
        // A batch may be stored and not yet acknowledged. Its events must not be counted twice.
        let handed = stored.last().map_or(Position(began), |(last, _)| *last).max(Position(began));
        let recent = self.unsaved.events_of(scope, handed).map(|(at, event)| (event, at.0, self.lsn));
        let stored = stored.iter().filter(|(_, event)| event.scope == *scope);
        let events = stored.map(|(at, event)| (*event, at.0, 0)).chain(recent);
        Some(Journal::of(attempt, began, events))
    }

    fn beginning(&self, scope: &Scope, entry: Entry, input: Json, (clock, attempt): (Timestamp, u32)) -> GuestInput {
        let Identity { id, workflow, seed, run, .. } = &self.identity;
        GuestInput {
            entry,
            input,
            clock,
            seed: seed.random(*run, scope, attempt),
            execution: id.clone(),
            workflow: workflow.clone(),
            run: *run,
            attempt,
            idempotency_key: seed.scope_key(*run, scope),
        }
    }

    /// The component to which a scope's guest belongs.
    #[must_use]
    pub fn component(&self, scope: &Scope) -> &Digest {
        // A step that is called by a step belongs to its caller's component, unless it names another one.
        let mut scope = scope.clone();
        while let Some(name) = scope.call() {
            let pinned = self.open.get(&name).and_then(|call| match &call.phase {
                CallPhase::Step(open) => open.step.component.as_ref(),
                CallPhase::Poll(open) => open.step.component.as_ref(),
                _ => None,
            });
            if let Some(digest) = pinned {
                return digest;
            }
            scope = name.scope;
        }
        &self.identity.digest
    }

    /// How long one stretch of this scope's guest may take, in milliseconds.
    #[must_use]
    pub fn active_ms_max(&self, scope: &Scope) -> Option<u64> {
        match &self.open.get(&scope.call()?)?.phase {
            CallPhase::Step(open) => open.step.timeout_ms,
            CallPhase::Poll(open) => open.step.timeout_ms,
            _ => None,
        }
    }

    /// Notes that a scope's guest is no longer in memory. The guest is wanted again unless it was at rest.
    pub fn forget(&mut self, scope: &Scope) {
        if self.drop_journal(scope).is_some_and(|journal| !journal.is_at_rest()) || self.signals.any_matched_of(scope) {
            self.wanted.insert(scope.clone());
        }
    }

    /// Whether this scope's guest may be repeating what an earlier guest already did. Its time limit does not apply
    /// then.
    #[must_use]
    pub fn is_repeating(&self, scope: &Scope) -> bool {
        self.journals.get(scope).is_some_and(Journal::is_repeating)
    }

    /// The next outcome for a quiescent guest, if there is one. The outcome of a wait is held back until the wait's
    /// start is durable (L8).
    ///
    /// # Errors
    /// If the guest has not repeated the recorded calls: there is no outcome left, or the next outcome belongs to a
    /// call that the guest has not made.
    pub fn next_delivery(&mut self, scope: &Scope, now: Moment) -> Result<Option<Delivery>, NonDeterminism> {
        if self.paused || self.end.is_some() {
            return Ok(None);
        }
        let Some(journal) = self.journals.get_mut(scope) else { return Ok(None) };
        let durable = if planted("wait-told-before-durable") { u64::MAX } else { self.durable };
        journal.check_made(scope.as_str())?;
        let (mut delivery, mut blocked) = (journal.next(durable), None);
        if delivery.is_none() && journal.has_pending() {
            blocked = journal.blocking_lsn();
        } else if delivery.is_none() {
            journal.check_complete(scope.as_str(), WAITS)?;
            blocked = self.bind_signal(scope, now).err();
            let journal = self.journals.get_mut(scope).expect("a bound signal drops no guest");
            delivery = journal.next(self.durable);
            if delivery.is_none() && !journal.has_pending() {
                journal.rest();
            }
        }
        self.looked_at(scope, delivery.as_ref(), blocked);
        Ok(delivery)
    }

    /// The number of calls that a rerun of this scope's guest repeats.
    #[must_use]
    pub fn calls_of(&self, scope: &Scope) -> u32 {
        self.journals.get(scope).map_or(0, |journal| journal.asked)
    }

    /// Whether this scope's quiescent guest waits for something that may take long, rather than for an HTTP response.
    #[must_use]
    pub fn waits_durably(&self, scope: &Scope) -> bool {
        !self.tally.any_fetch_of(scope)
    }
}
