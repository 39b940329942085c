//! Everything that time moves: sleeps, retries, rounds of polls, timeouts and deadlines.

use super::{ApprovalEdge, End, Execution, Moment};
use crate::event::EventData;
use crate::open::CallPhase;
use crate::{CallName, Failure, Scope, Timestamp, kind, planted};

impl Execution {
    /// Moves everything that is due. An outcome is stamped no earlier than it was due (L8).
    pub fn tick(&mut self, now: Moment) {
        if self.end.is_some() {
            return;
        }
        if self.options.deadline.is_some_and(|deadline| deadline <= now.at) {
            let failure = Failure::new(kind::DEADLINE, "the execution's deadline passed");
            return self.finish(End::Failed(failure), now);
        }
        if self.options.cancel_until.is_some_and(|until| until <= now.at) {
            let failure = Failure::new(kind::CANCELLED, "cancelled, and clean-up took longer than its grace period");
            return self.finish(End::Cancelled(failure), now);
        }
        self.end_if_overfull(now);
        if self.paused || self.end.is_some() {
            return;
        }
        if self.options.starts_at.is_some_and(|starts_at| starts_at <= now.at) {
            self.options.starts_at = None;
            self.lsn += 1;
            self.wanted.insert(Scope::root());
        }
        let early = if planted("timer-early") { 30 } else { 0 };
        while let Some((due, name)) = self.timers.first().filter(|(due, _)| *due <= now.at.plus(early)).cloned() {
            self.timers.pop_first();
            self.fire(&name, due, Self::no_earlier(now, due));
        }
    }

    fn fire(&mut self, name: &CallName, due: Timestamp, now: Moment) {
        let Some(call) = self.open.get(name) else { return };
        let (ordinal, started) = (name.ordinal, call.lsn);
        match &call.phase {
            CallPhase::Sleep { .. } => {
                self.close_call(name);
                self.record_after(now.at, &name.scope, EventData::SleepCompleted { ordinal }, started);
            }
            CallPhase::Step(open) if open.deadline.is_some_and(|deadline| deadline <= due) => {
                let attempt = open.attempts.attempt;
                self.stop(&name.step_scope(), now);
                let failure = Failure::new(kind::DEADLINE, "the step's deadline passed");
                self.close_step(name, EventData::StepFailed { ordinal, failure, attempt }, now);
            }
            CallPhase::Step(_) => self.change_call(name, |phase| {
                if let CallPhase::Step(open) = phase {
                    open.attempts.attempt += 1;
                    open.attempts.began = due;
                    open.attempts.retry = None;
                }
            }),
            CallPhase::Poll(open) if open.attempts.retry.is_some() => self.change_call(name, |phase| {
                if let CallPhase::Poll(open) = phase {
                    open.attempts.attempt += 1;
                    open.attempts.began = due;
                    open.attempts.retry = None;
                }
            }),
            CallPhase::Poll(_) => self.begin_round(name, now),
            CallPhase::Approval { id, .. } => {
                let edge = ApprovalEdge::TimedOut(id.clone());
                self.close_call(name);
                self.changes.approvals.push(edge);
                self.record_after(now.at, &name.scope, EventData::ApprovalTimedOut { ordinal }, started);
            }
            // A signal that came in time has yet to be delivered, and is bound on delivery.
            CallPhase::Signal { name: signal, .. } if self.signals.is_matched(signal, call.since, name) => {}
            CallPhase::Signal { .. } => {
                self.close_call(name);
                self.record_after(now.at, &name.scope, EventData::SignalTimedOut { ordinal }, started);
            }
            CallPhase::Fetch { .. } | CallPhase::Child { .. } => {}
        }
    }
}
