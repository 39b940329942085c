//! Guests come and go: what each begins with, and what it is told next.

use super::{Execution, Identity, Moment};
use crate::event::{Event, Fact};
use crate::journal::{Diverged, Journal};
use crate::open::Phase;
use crate::{Begin, CallName, Delivery, Digest, Entry, Json, Position, Scope, Timestamp, planted};

impl Execution {
    /// From which event on the driver has to hand in the history for [`Execution::begin`]; none when nothing of it matters.
    #[must_use]
    pub fn journal_from(&self, scope: &Scope) -> Option<Position> {
        if scope.is_root() {
            return Some(Position(1));
        }
        let journal = self.attempts(scope)?.journal;
        (scope.poll().is_none() && Position(journal) < self.position).then(|| Position(journal).next())
    }

    /// Makes a scope's guest begin, with the stored events from [`Execution::journal_from`] on (of any scope, in order).
    /// None when nobody wants it any more.
    pub fn begin(&mut self, scope: &Scope, stored: &[Event]) -> Option<Begin> {
        self.wanted.remove(scope);
        let from = self.journal_from(scope);
        let journal = match scope.poll() {
            Some(poll) => {
                let after = usize::try_from(self.attempts(scope)?.journal).unwrap_or(usize::MAX);
                let events = &self.poll(&poll)?.journal;
                let durable = self.poll(&poll)?.durable;
                let mark = |index| if index < durable { 0 } else { self.mark };
                let place = |index: usize| self.log_place(scope, u64::try_from(index).map_or(0, |index| index + 1));
                let events = events.iter().enumerate().skip(after).filter(|(_, event)| event.scope == *scope);
                let attempts = self.attempts(scope)?;
                let began = self.log_place(scope, attempts.journal);
                let recorded = events.map(|(index, event)| (event, place(index), mark(index)));
                Journal::of(attempts.attempt, began, recorded)
            }
            None => {
                let of_step = || self.attempts(scope).map(|attempts| (attempts.attempt, attempts.journal));
                let (attempt, began) = if scope.is_root() { (1, 0) } else { of_step()? };
                // A batch may be stored already and not yet acknowledged: its events come once all the same.
                let handed = u64::try_from(stored.len()).unwrap_or(u64::MAX);
                let recent = self.unsaved.iter().filter(|(at, _)| from.is_some_and(|from| at.0 >= from.0 + handed));
                let recent = recent.map(|(at, event)| (event, at.0, self.mark));
                let places = began + 1..;
                let events = stored.iter().zip(places).map(|(event, place)| (event, place, 0)).chain(recent);
                Journal::of(attempt, began, events.filter(|(event, ..)| event.scope == *scope))
            }
        };
        let begin = if scope.is_root() {
            let first = stored.first().or_else(|| self.unsaved.front().map(|(_, event)| event))?;
            let Fact::ExecutionStarted { input, .. } = &first.fact else { return None };
            let workflow = self.identity.workflow.rsplit('/').next().unwrap_or_default();
            self.begin_with(scope, Entry::Workflow(workflow.to_owned()), input.clone(), (first.at, 1))
        } else {
            let name = scope.call()?;
            let step = match &self.open.get(&name)?.phase {
                Phase::Step(open) => &open.step,
                Phase::Poll(open) => &open.step,
                _ => return None,
            };
            let attempts = self.attempts(scope)?;
            let entry = Entry::Step(step.local_name().to_owned());
            self.begin_with(scope, entry, step.call.input.clone(), (attempts.began, attempts.attempt))
        };
        self.journals.insert(scope.clone(), journal);
        Some(begin)
    }

    fn begin_with(&self, scope: &Scope, entry: Entry, input: Json, (clock, attempt): (Timestamp, u32)) -> Begin {
        let Identity { id, workflow, seed, run, .. } = &self.identity;
        Begin {
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

    /// The component that a scope's guest is of.
    #[must_use]
    pub fn component(&self, scope: &Scope) -> &Digest {
        // A step called by a step belongs to its caller's component unless it names another one.
        let mut scope = scope.clone();
        while let Some(name) = scope.call() {
            let pinned = self.open.get(&name).and_then(|call| match &call.phase {
                Phase::Step(open) => open.step.component.as_ref(),
                Phase::Poll(open) => open.step.component.as_ref(),
                _ => None,
            });
            if let Some(digest) = pinned {
                return digest;
            }
            scope = name.scope;
        }
        &self.identity.digest
    }

    /// How long one stretch of this scope's guest may take.
    #[must_use]
    pub fn stretch_ms_max(&self, scope: &Scope) -> Option<u64> {
        match &self.open.get(&scope.call()?)?.phase {
            Phase::Step(open) => open.step.timeout_ms,
            Phase::Poll(open) => open.step.timeout_ms,
            _ => None,
        }
    }

    /// Says that a scope's guest is no longer in memory. It is wanted again unless it was at rest.
    pub fn forget(&mut self, scope: &Scope) {
        if self.journals.remove(scope).is_some_and(|journal| !journal.is_at_rest()) {
            self.wanted.insert(scope.clone());
        }
        self.want_signalled();
    }

    /// What a quiescent guest is told next, if anything. Outcomes of waits are held back until their start is durable (L8).
    ///
    /// # Errors
    /// When nothing is left to tell and the guest has not repeated what was recorded.
    pub fn next_delivery(&mut self, scope: &Scope, now: Moment) -> Result<Option<Delivery>, Diverged> {
        if self.paused || self.end.is_some() {
            return Ok(None);
        }
        let Some(journal) = self.journals.get_mut(scope) else { return Ok(None) };
        let durable = if planted("wait-told-before-durable") { u64::MAX } else { self.durable };
        if let Some(delivery) = journal.next(durable) {
            return Ok(Some(delivery));
        }
        if journal.has_pending() {
            return Ok(None);
        }
        journal.check_complete(scope.as_str(), "the guest waits for something else")?;
        if self.bind_signal(scope, now) {
            let journal = self.journals.get_mut(scope).expect("the scope whose signal was bound has a guest");
            return Ok(journal.next(self.durable));
        }
        if let Some(journal) = self.journals.get_mut(scope) {
            journal.rest();
        }
        Ok(None)
    }

    /// Whether there is something that this scope's guest has not been told yet.
    #[must_use]
    pub fn has_untold(&self, scope: &Scope) -> bool {
        self.journals.get(scope).is_some_and(Journal::has_pending)
    }

    /// Whether this scope's quiescent guest waits for something that may take long, rather than for an HTTP answer.
    #[must_use]
    pub fn waits_durably(&self, scope: &Scope) -> bool {
        let first = CallName { scope: scope.clone(), ordinal: 0 };
        let mut calls = self.open.range(first..).take_while(|(name, _)| name.scope == *scope);
        !calls.any(|(_, call)| matches!(call.phase, Phase::Fetch { .. }))
    }
}
