//! What the world tells an execution: answers to requests, and the messages of its inbox.

use serde::{Deserialize, Serialize};

use super::signals::QueuedSignal;
use super::{ApprovalEdge, End, Execution, Moment};
use crate::event::{Cause, EventData};
use crate::open::{CallPhase, OpenCall};
use crate::{
    Approval, CallName, ExecutionId, Failure, HttpResponse, Json, ReopenMode, Scope, Timestamp, kind, planted,
};

/// A message to an execution, as it stands in its inbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// A signal.
    Signal {
        /// Its name.
        name: String,
        /// What it says.
        data: Json,
    },
    /// A person said yes.
    Approved {
        /// The call that asked.
        call: CallName,
        /// The question's id.
        id: String,
        /// The answer.
        approval: Approval,
    },
    /// A person said no.
    Rejected {
        /// The call that asked.
        call: CallName,
        /// The question's id.
        id: String,
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// A child ended, could not start, or (when only its start was awaited) is there.
    Child {
        /// The run that started it.
        run: u32,
        /// The call that waits.
        call: CallName,
        /// The child: a call that was retried or reopened may wait for another one by now.
        id: ExecutionId,
        /// How it went.
        result: ChildResult,
    },
    /// Cancel it; clean-up may take as long as the workflow allows, counted from the request.
    Cancel {
        /// When that was asked.
        at: Timestamp,
    },
    /// End it at once.
    Terminate,
    /// Let nothing move.
    Pause,
    /// Go on after a pause.
    Resume,
    /// Go on after a failure, if that is safe.
    Reopen,
    /// Go on after a failure, whatever the workflow did since.
    ReopenForced,
}

/// How a child went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ChildResult {
    /// It is there.
    Accepted(ExecutionId),
    /// It returned this.
    Completed(Json),
    /// It failed, was cancelled, or its id is taken.
    Failed(Failure),
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// It has been dealt with.
    Consumed,
    /// It stays until somebody waits for it.
    Kept,
}

impl Execution {
    /// A server answered, or could not be asked.
    pub fn fetched(&mut self, name: &CallName, result: Result<HttpResponse, Failure>, now: Moment) {
        if self.close_call(name).is_none() {
            return;
        }
        let ordinal = name.ordinal;
        self.note_value(&name.scope);
        let data = match result {
            Ok(response) => EventData::FetchCompleted { ordinal, response: Some(response) },
            Err(failure) => EventData::FetchFailed { ordinal, failure },
        };
        self.record(now.at, &name.scope, data);
    }

    /// Takes a message from the inbox, where it has this number. Each number is taken once per activation.
    pub fn receive(&mut self, seq: i64, seen: bool, message: Message, now: Moment) -> Receipt {
        if let Message::Signal { name, data } = message {
            if !seen {
                self.lsn += 1;
                self.changes.seen.push(seq);
            }
            let signal = QueuedSignal { seq, data };
            self.signals_bytes += signal.weight(&name);
            let matched = self.signals.arrive(&name, signal);
            if planted("signal-bound-early") {
                for scope in self.signals.ready_scopes() {
                    // Whether anything was bound does not matter to a mistake.
                    let _ = self.bind_signal(&scope, now);
                }
            }
            self.signalled(&name, matched);
            return Receipt::Kept;
        }
        if matches!(self.end, Some(End::Continued(_))) {
            // The next run is told.
            return Receipt::Kept;
        }
        self.lsn += 1;
        self.changes.consumed.push(seq);
        if let Message::Approved { id: asked, .. } | Message::Rejected { id: asked, .. } = &message {
            // A cancel that stands before the answer withdrew the question; a batch that says so would be refused
            // for ever, since the answer came first.
            self.changes.approvals.retain(|edge| !matches!(edge, ApprovalEdge::Withdrawn(id) if id == asked));
        }
        if self.end.is_some() {
            return Receipt::Consumed;
        }
        match message {
            Message::Signal { .. } => {}
            Message::Approved { call, id, approval } => {
                let ordinal = call.ordinal;
                self.answered(&call, &id, EventData::ApprovalReceived { ordinal, approval }, now);
            }
            Message::Rejected { call, id, by, reason } => {
                let ordinal = call.ordinal;
                self.answered(&call, &id, EventData::ApprovalRejected { ordinal, by, reason }, now);
            }
            Message::Child { run, call, id, result } => self.child_said(run, (&call, &id), result, now),
            Message::Cancel { at } => self.cancel(at, now),
            Message::Terminate => {
                self.finish(End::Cancelled(Failure::new(kind::CANCELLED, "the execution was terminated")), now);
            }
            Message::Pause if !self.paused => {
                self.paused = true;
                self.record(now.at, &Scope::root(), EventData::ExecutionPaused);
            }
            Message::Resume if self.paused => self.resume(now),
            Message::Reopen => self.reopening = Some(ReopenMode::Checked),
            Message::ReopenForced => self.reopening = Some(ReopenMode::Forced),
            Message::Pause | Message::Resume => {}
        }
        Receipt::Consumed
    }

    fn answered(&mut self, call: &CallName, asked: &str, data: EventData, now: Moment) {
        if matches!(self.open.get(call), Some(OpenCall { phase: CallPhase::Approval { id, .. }, .. }) if id == asked) {
            let started = self.close_call(call).map_or(0, |call| call.lsn);
            self.record_after(now.at, &call.scope, data, started);
        }
    }

    fn child_said(&mut self, run: u32, (call, child): (&CallName, &ExecutionId), result: ChildResult, now: Moment) {
        let is_waiting =
            matches!(self.open.get(call), Some(OpenCall { phase: CallPhase::Child { id, .. }, .. }) if id == child);
        if run != self.identity.run || !is_waiting {
            return;
        }
        self.close_call(call);
        let ordinal = call.ordinal;
        self.note_value(&call.scope);
        let data = match result {
            ChildResult::Accepted(id) => EventData::ChildAccepted { ordinal, id },
            ChildResult::Completed(output) => EventData::ChildCompleted { ordinal, output: Some(output) },
            ChildResult::Failed(failure) => EventData::ChildFailed { ordinal, failure },
        };
        self.record(now.at, &call.scope, data);
    }

    fn cancel(&mut self, at: Timestamp, now: Moment) {
        if self.options.is_cancelled() {
            return;
        }
        if self.paused {
            self.resume(now);
        }
        let until = self.options.cancel_grace_ms.map(|grace| at.plus(grace));
        (self.options.cancelled, self.options.cancel_until) = (true, until);
        self.record(now.at, &Scope::root(), EventData::CancelRequested { until });
        if self.options.starts_at.is_some() {
            let failure = Failure::new(kind::CANCELLED, "the execution was cancelled before it began");
            return self.finish(End::Cancelled(failure), now);
        }
        let root = Scope::root();
        let open: Vec<CallName> = self.open.keys().filter(|name| name.scope == root).cloned().collect();
        // A workflow that waits for nothing at the moment is told by its next call.
        self.options.cancel_owed = open.is_empty();
        for name in open {
            self.cancel_call(&name, Cause::Requested, now);
        }
    }

    fn resume(&mut self, now: Moment) {
        self.paused = false;
        self.record(now.at, &Scope::root(), EventData::ExecutionResumed);
    }

    /// Goes on after a failure: this call of the workflow, see [`crate::reopening`], is open again.
    pub fn reopen(&mut self, ordinal: u32, now: Moment) {
        self.reopening = None;
        self.options.deadline = None;
        (self.options.cancelled, self.options.cancel_until) = (false, None);
        self.options.cancel_owed = false;
        self.record(now.at, &Scope::root(), EventData::ExecutionReopened { ordinal });
        self.wanted.insert(Scope::root());
    }

    /// It stays failed with what it had failed with: going on is not safe.
    pub fn stay_failed(&mut self, failure: Failure, now: Moment) {
        self.reopening = None;
        self.finish(End::Failed(failure), now);
    }

    /// Who waits for signals of this name, or what waits for them, has changed: wants the guest of the call that a signal
    /// is there for now, and has the guest that is to be told the oldest one looked at.
    pub(super) fn signalled(&mut self, name: &str, matched: Option<CallName>) {
        if let Some(call) = matched.filter(|call| !self.journals.contains_key(&call.scope)) {
            self.wanted.insert(call.scope);
        }
        if let Some(scope) = self.signals.ready_scope(name).cloned() {
            self.look_at(&scope);
        }
    }

    /// Binds a signal to the call of this scope that it is there for: at the moment of delivery, never ahead (L9).
    ///
    /// # Errors
    /// What has to be durable before one that is there can be bound.
    pub(super) fn bind_signal(&mut self, scope: &Scope, now: Moment) -> Result<(), u64> {
        let lsn = |call: &CallName| self.open.get(call).map_or(u64::MAX, |call| call.lsn);
        let mut awaited = None;
        let bound = self.signals.ready_of(scope).find(|(_, call)| {
            let lsn = lsn(call);
            awaited = awaited.into_iter().chain((lsn > self.durable).then_some(lsn)).min();
            lsn <= self.durable
        });
        let Some((name, call)) = bound.map(|(name, call)| (name.to_owned(), call.clone())) else {
            return awaited.map_or(Ok(()), Err);
        };
        let Some(signal) = self.signals.take(&name) else { return Ok(()) };
        self.signals_bytes -= signal.weight(&name);
        self.changes.consumed.push(signal.seq);
        self.close_call(&call);
        self.note_value(&call.scope);
        let data = EventData::SignalReceived { ordinal: call.ordinal, data: Some(signal.data) };
        self.record(now.at, &call.scope, data);
        Ok(())
    }
}
