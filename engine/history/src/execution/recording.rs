//! How events are recorded, and how open calls are kept together with their timers.

use super::Execution;
use crate::event::{Event, EventData};
use crate::journal::{Pending, place_behind};
use crate::open::{CallPhase, OpenCall};
use crate::{CallName, Scope, Timestamp};

impl Execution {
    /// Records an event: in the history, or in a poll's journal if the scope belongs to a round of the poll. An outcome
    /// is queued for the scope's guest, which is wanted if it is not in memory.
    pub(super) fn record(&mut self, at: Timestamp, scope: &Scope, data: EventData) -> Timestamp {
        self.record_after(at, scope, data, 0)
    }

    pub(super) fn record_after(&mut self, at: Timestamp, scope: &Scope, data: EventData, lsn: u64) -> Timestamp {
        self.stamp = self.stamp.max(at);
        let at = self.stamp;
        self.lsn += 1;
        let place = self.log_place(scope, self.journal_mark(scope) + 1);
        if let Some((ordinal, outcome)) = data.outcome() {
            match self.journals.get_mut(scope) {
                Some(journal) => {
                    journal.arrive(Pending { ordinal, outcome, at, place, lsn });
                    self.follow(scope);
                    self.look_at(scope);
                }
                None => drop(self.wanted.insert(scope.clone())),
            }
        }
        let bytes = data.weight();
        self.count_value(scope, data.value_weight());
        let event = Event { at, scope: scope.clone(), data };
        match scope.poll() {
            Some(poll) => {
                if let Some(CallPhase::Poll(open)) = self.open.get_mut(&poll).map(|call| &mut call.phase) {
                    open.journal.push(event);
                    self.changes.touch(&poll);
                    self.count_journal(&poll, bytes);
                }
            }
            None => {
                self.position = self.position.next();
                self.changes.events.push(event.clone());
                self.history_bytes += bytes;
                self.unsaved.push(self.position, event);
            }
        }
        at
    }

    /// Counts a value that is dropped when the step with this scope has ended (L12).
    fn count_value(&mut self, scope: &Scope, bytes: u64) {
        if bytes == 0 || scope.poll().is_some() {
            return;
        }
        let step = scope.call().and_then(|name| self.open.get_mut(&name));
        if let Some(CallPhase::Step(open)) = step.map(|call| &mut call.phase) {
            open.value_bytes += bytes;
        }
    }

    /// Counts the bytes of a request that is held until its response arrives.
    pub(super) fn weigh_request(&mut self, name: &CallName, bytes: u64) {
        if let Some(call) = self.open.get_mut(name) {
            self.open_bytes = self.open_bytes + bytes - call.bytes;
            call.bytes = bytes;
        }
    }

    /// Counts an event in a poll's own journal.
    fn count_journal(&mut self, poll: &CallName, bytes: u64) {
        if let Some(call) = self.open.get_mut(poll) {
            call.bytes += bytes;
            self.open_bytes += bytes;
        }
    }

    /// The number of recorded events after which a journal of this scope would begin now.
    pub(super) fn journal_mark(&self, scope: &Scope) -> u64 {
        let recorded = |poll: CallName| self.poll(&poll).map_or(0, |open| open.journal.len());
        scope.poll().map_or(self.position.0, |poll| u64::try_from(recorded(poll)).unwrap_or(u64::MAX))
    }

    /// The place of the event with this number in the journal of this scope. A poll's journal is numbered on its own,
    /// so the places of its events consist of the poll's position and their number.
    pub(super) fn log_place(&self, scope: &Scope, number: u64) -> u64 {
        let poll = scope.poll().and_then(|poll| self.poll(&poll));
        poll.map_or(number, |open| place_behind(open.issued, number))
    }

    pub(super) fn open_call(&mut self, name: CallName, since: Timestamp, phase: CallPhase) {
        let call = OpenCall::new(since, phase, self.lsn);
        self.open_bytes += call.weight();
        self.open_children += usize::from(call.waits_for_child());
        if let Some(due) = call.due() {
            self.timers.insert((due, name.clone()));
        }
        self.wanted.extend(call.running(&name));
        self.changes.touch(&name);
        self.count_in(&name, &call);
        self.open.insert(name, call);
    }

    /// Counts a call that is newly open.
    pub(super) fn count_in(&mut self, name: &CallName, call: &OpenCall) {
        self.tally.opened(&self.open, name, call);
        if let CallPhase::Signal { name: signal, .. } = &call.phase {
            self.signals.wait(signal, call.since, name);
        }
    }

    /// Changes an open call and keeps its timer in step.
    pub(super) fn change_call(&mut self, name: &CallName, change: impl FnOnce(&mut CallPhase)) {
        let Some(call) = self.open.get_mut(name) else { return };
        if let Some(due) = call.due() {
            self.timers.remove(&(due, name.clone()));
        }
        let before = call.weight();
        change(&mut call.phase);
        call.weigh();
        self.open_bytes = self.open_bytes + call.weight() - before;
        if let Some(due) = call.due() {
            self.timers.insert((due, name.clone()));
        }
        self.wanted.extend(call.running(name).filter(|scope| !self.journals.contains_key(scope)));
        self.tally.changed(&self.open, name);
        self.lsn += 1;
        self.changes.touch(name);
    }

    pub(super) fn close_call(&mut self, name: &CallName) -> Option<OpenCall> {
        let call = self.open.remove(name)?;
        self.open_bytes -= call.weight();
        self.open_children -= usize::from(call.waits_for_child());
        if let Some(due) = call.due() {
            self.timers.remove(&(due, name.clone()));
        }
        self.lsn += 1;
        self.changes.touch(name);
        self.tally.closed(&self.open, name, &call);
        match &call.phase {
            CallPhase::Signal { name: signal, .. } => {
                let matched = self.signals.leave(signal, call.since, name);
                self.signalled(signal, matched);
            }
            CallPhase::Fetch { .. } => self.withdrawn.push((name.clone(), call.lsn)),
            CallPhase::Sleep { .. }
            | CallPhase::Step(_)
            | CallPhase::Poll(_)
            | CallPhase::Approval { .. }
            | CallPhase::Child { .. } => {}
        }
        Some(call)
    }

    pub(super) fn attempts(&self, scope: &Scope) -> Option<&crate::open::Attempts> {
        match &self.open.get(&scope.call()?)?.phase {
            CallPhase::Step(open) => Some(&open.attempts),
            CallPhase::Poll(open) => Some(&open.attempts),
            _ => None,
        }
    }

    pub(super) fn poll(&self, name: &CallName) -> Option<&crate::open::OpenPoll> {
        match &self.open.get(name)?.phase {
            CallPhase::Poll(open) => Some(open),
            _ => None,
        }
    }
}
