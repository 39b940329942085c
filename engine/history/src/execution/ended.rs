//! How scopes and executions end.

use super::{Action, End, EndedStep, Execution, Moment};
use crate::event::{Cause, EventData};
use crate::journal::NonDeterminism;
use crate::limits::{HISTORY_BYTES_MAX, HISTORY_EVENTS_MAX, LAST_CHECK_BYTES_MAX};
use crate::open::{Attempts, CallPhase, OpenCall, OpenStep};
use crate::poll::CheckResult;
use crate::{CallName, Failure, Json, Position, Scope, Timestamp, kind, planted};

/// The value of a check that asks for another round. It is only shown, so a large one is not kept.
fn shown(value: Json) -> Json {
    match value.as_str().len() {
        0..=LAST_CHECK_BYTES_MAX => value,
        bytes => Json::of(&serde_json::json!({ "too_large": bytes })),
    }
}

impl Execution {
    /// Handles the end of a guest with this result. The guest is no longer in memory.
    ///
    /// # Errors
    /// If the guest ended before it had repeated the recorded calls.
    pub fn ended(&mut self, scope: &Scope, result: Result<Json, Failure>, now: Moment) -> Result<(), NonDeterminism> {
        let Some(journal) = self.drop_journal(scope) else { return Ok(()) };
        if self.end.is_some() {
            return Ok(());
        }
        journal.check_complete(scope.as_str(), &format!("the guest ended: {result:?}"))?;
        match scope.call() {
            None => self.workflow_ended(result, now),
            Some(name) => match self.open.get(&name).map(|call| &call.phase) {
                Some(CallPhase::Step(_)) => self.attempt_ended(&name, result, now),
                Some(CallPhase::Poll(open)) if name.round_scope(open.round) == *scope => {
                    self.check_ended(&name, result, now)
                }
                _ => {}
            },
        }
        Ok(())
    }

    /// Fails an attempt whose stretch took too long for the engine. What the attempt recorded is void.
    pub fn timed_out(&mut self, scope: &Scope, failure: Failure, now: Moment) {
        self.drop_journal(scope);
        if self.end.is_some() {
            return;
        }
        let running = |name: &CallName| self.open.get(name).and_then(|call| call.running(name)).as_ref() == Some(scope);
        match scope.call() {
            None => self.workflow_ended(Err(failure), now),
            Some(name) if running(&name) => match self.open.get(&name).map(|call| &call.phase) {
                Some(CallPhase::Step(_)) => self.attempt_ended(&name, Err(failure), now),
                Some(CallPhase::Poll(_)) => self.check_ended(&name, Err(failure), now),
                _ => {}
            },
            Some(_) => {}
        }
    }

    fn workflow_ended(&mut self, result: Result<Json, Failure>, now: Moment) {
        let end = match result {
            Ok(output) => End::Completed(output),
            Err(failure) if failure.kind == kind::CANCELLED && self.options.is_cancelled() => End::Cancelled(failure),
            Err(failure) => End::Failed(failure),
        };
        self.finish(end, now);
    }

    fn attempt_ended(&mut self, name: &CallName, result: Result<Json, Failure>, now: Moment) {
        self.stop(&name.step_scope(), now);
        let Some(CallPhase::Step(open)) = self.open.get(name).map(|call| &call.phase) else { return };
        let (attempt, ordinal) = (open.attempts.attempt, name.ordinal);
        let data = match result {
            Ok(output) => EventData::StepCompleted { ordinal, output: Some(output) },
            Err(failure) => match open.step.retry.delay_after(attempt, &failure, now.chance) {
                Some(delay_ms) => return self.retry_step(name, (attempt, failure), delay_ms, now),
                None => EventData::StepFailed { ordinal, failure, attempt },
            },
        };
        self.close_step(name, data, now);
    }

    pub(super) fn close_step(&mut self, name: &CallName, data: EventData, now: Moment) {
        let Some(OpenCall { phase: CallPhase::Step(open), since, .. }) = self.close_call(name) else { return };
        self.note_value(&name.scope);
        let is_completed = matches!(data, EventData::StepCompleted { .. });
        let took_ms = self.record(now.at, &name.scope, data).since(since);
        self.changes.ended_steps.push(EndedStep { took_ms, attempts: open.attempts.attempt, is_completed });
        self.drop_values(name, &open);
    }

    fn retry_step(&mut self, name: &CallName, (attempt, failure): (u32, Failure), delay_ms: u64, now: Moment) {
        let data = EventData::StepRetried { ordinal: name.ordinal, attempt, failure: failure.clone(), delay_ms };
        let at = self.record(now.at, &name.scope, data);
        let journal = self.journal_mark(&name.scope);
        self.change_call(name, |phase| {
            if let CallPhase::Step(open) = phase {
                open.attempts.retry = Some((at.plus(delay_ms), failure.in_short()));
                if !planted("retry-keeps-journal") {
                    open.attempts.journal = journal;
                }
            }
        });
    }

    fn check_ended(&mut self, name: &CallName, result: Result<Json, Failure>, now: Moment) {
        let Some(CallPhase::Poll(open)) = self.open.get(name).map(|call| &call.phase) else { return };
        let (round, attempt, ordinal) = (open.round, open.attempts.attempt, name.ordinal);
        self.stop(&name.round_scope(round), now);
        let Some(CallPhase::Poll(open)) = self.open.get(name).map(|call| &call.phase) else { return };
        match result.and_then(|output| CheckResult::parse(&output, &open.step.call)) {
            Ok(CheckResult::Ready(value)) => {
                let value = Some(value);
                self.close_poll(name, EventData::PollCompleted { ordinal, value, attempts: round }, now);
            }
            Ok(CheckResult::NotYet(value)) => self.not_yet(name, value, now),
            Err(failure) => match open.step.retry.delay_after(attempt, &failure, now.chance) {
                Some(delay_ms) => {
                    let journal = self.round_mark(name);
                    let until = self.stamp.max(now.at).plus(delay_ms);
                    self.change_call(name, |phase| {
                        if let CallPhase::Poll(open) = phase {
                            open.attempts.retry = Some((until, failure.in_short()));
                            open.attempts.journal = journal;
                        }
                    });
                }
                None => self.close_poll(name, EventData::PollFailed { ordinal, failure, attempts: round }, now),
            },
        }
    }

    pub(super) fn close_poll(&mut self, name: &CallName, data: EventData, now: Moment) {
        if self.close_call(name).is_some() {
            self.note_value(&name.scope);
            self.record(now.at, &name.scope, data);
        }
    }

    fn not_yet(&mut self, name: &CallName, value: Json, now: Moment) {
        let Some(CallPhase::Poll(open)) = self.open.get(name).map(|call| &call.phase) else { return };
        let attempts = open.round;
        let next = match open.policy.next_check(attempts, now.at.max(self.stamp)) {
            Ok(next) => next,
            Err(failure) => {
                let data = EventData::PollFailed { ordinal: name.ordinal, failure, attempts };
                return self.close_poll(name, data, now);
            }
        };
        let nested = name.scope.poll().is_some();
        let journal = if nested { self.journal_mark(&name.scope) } else { 0 };
        self.change_call(name, |phase| {
            let CallPhase::Poll(open) = phase else { return };
            open.last = Some(shown(value));
            open.round += 1;
            open.attempts = Attempts { attempt: 1, began: next, journal, retry: None };
            open.next = Some(next);
            open.journal.clear();
            open.durable = 0;
        });
    }

    /// Ends the run if its history is larger than a history may be. Outcomes are recorded whether there is room or not,
    /// and a step that is retried for ever makes no request that could be refused.
    pub(super) fn end_if_overfull(&mut self, now: Moment) {
        // When the last allowed call is made, each open call may still add its outcome.
        const EVENTS_MAX: u64 = HISTORY_EVENTS_MAX * 2;
        if self.history_bytes > HISTORY_BYTES_MAX || self.position.0 > EVENTS_MAX {
            let failure = self.overfull();
            self.finish(End::Failed(failure), now);
        }
    }

    /// The failure of a full history.
    pub(super) fn overfull(&self) -> Failure {
        let (events, bytes) = (self.position.0, self.history_bytes);
        Failure::new(
            kind::HISTORY_LIMIT,
            format!(
                "the history has {events} events and {bytes} bytes where {HISTORY_EVENTS_MAX} and {HISTORY_BYTES_MAX} are the limit: use continue_as_new to go on with a fresh one, and keep large data elsewhere"
            ),
        )
    }

    /// Begins a further check of a poll, unless the poll's time is over.
    pub(super) fn begin_round(&mut self, name: &CallName, now: Moment) {
        let Some(call) = self.open.get(name) else { return };
        let CallPhase::Poll(open) = &call.phase else { return };
        if let Err(failure) = open.policy.test_time(now.at.max(self.stamp).since(call.since)) {
            let data = EventData::PollFailed { ordinal: name.ordinal, failure, attempts: open.round - 1 };
            return self.close_poll(name, data, now);
        }
        if planted("round-reruns-workflow") {
            self.wanted.insert(Scope::root());
        }
        self.change_call(name, |phase| {
            if let CallPhase::Poll(open) = phase {
                open.next = None;
            }
        });
    }

    /// The number of recorded events after which the journal of a poll's next attempt begins.
    fn round_mark(&self, name: &CallName) -> u64 {
        let outer = name.scope.poll().unwrap_or_else(|| name.clone());
        let recorded = self.poll(&outer).map_or(0, |open| open.journal.len());
        u64::try_from(recorded).unwrap_or(u64::MAX)
    }

    /// Ends the execution, or this run of it.
    pub(super) fn finish(&mut self, end: End, now: Moment) {
        self.stop(&Scope::root(), now);
        let data = match end.clone() {
            End::Completed(output) => EventData::ExecutionCompleted { output },
            End::Failed(failure) => EventData::ExecutionFailed { failure },
            End::Cancelled(failure) => EventData::ExecutionCancelled { failure },
            End::Continued(input) => EventData::ExecutionContinued { input },
        };
        self.record(now.at, &Scope::root(), data);
        self.wanted.clear();
        self.end = Some(end);
    }

    /// Ends a scope: its guest is dropped and its open calls are cancelled, with everything that they started (L15).
    pub(super) fn stop(&mut self, scope: &Scope, now: Moment) {
        let first = CallName { scope: scope.clone(), ordinal: 0 };
        let inside = self.open.range(first..).map(|(name, _)| name).take_while(|name| name.scope == *scope);
        let inside: Vec<CallName> = inside.cloned().collect();
        for name in inside.into_iter().filter(|_| !planted("ended-scope-leaves-calls")) {
            self.cancel_call(&name, Cause::ScopeEnded, now);
        }
        self.wanted.remove(scope);
        if self.drop_journal(scope).is_some() {
            self.actions.push_back(Action::Stop(scope.clone()));
        }
    }

    /// Notes that the journal of this scope's step holds a value.
    pub(super) fn note_value(&mut self, scope: &Scope) {
        let Some(name) = scope.call().filter(|_| scope.poll().is_none()) else { return };
        let position = self.position.0;
        if let Some(CallPhase::Step(open)) = self.open.get_mut(&name).map(|call| &mut call.phase)
            && open.values_after.is_none()
        {
            open.values_after = Some(position);
            self.changes.touch(&name);
        }
    }

    /// Drops the values in a finished step's journal (L12). The driver drops those that it has already taken; the
    /// others are dropped here.
    pub(super) fn drop_values(&mut self, name: &CallName, ended: &OpenStep) {
        let Some(after) = ended.values_after.filter(|_| !planted("values-stay")) else { return };
        self.history_bytes = self.history_bytes.saturating_sub(ended.value_bytes);
        let scope = name.step_scope();
        let untaken = u64::try_from(self.changes.events.len()).unwrap_or(u64::MAX);
        let taken = self.position.0.saturating_sub(untaken);
        for position in self.unsaved.positions_of(&scope, Position(taken)) {
            let index = usize::try_from(position.0 - taken - 1).unwrap_or(usize::MAX);
            if let Some(event) = self.changes.events.get_mut(index) {
                event.data = event.data.clone().without_values();
            }
        }
        if after < taken {
            self.changes.valueless.push((scope, Position(after + 1), Position(taken)));
        }
    }

    /// The given moment, but no earlier than the time at which something was due.
    pub(super) fn no_earlier(now: Moment, due: Timestamp) -> Moment {
        Moment { at: now.at.max(due), ..now }
    }
}
