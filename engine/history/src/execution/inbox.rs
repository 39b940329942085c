//! Input from the world: responses to requests, and the messages in an execution's inbox.

use serde::{Deserialize, Serialize};

use super::signals::QueuedSignal;
use super::{ApprovalEdge, End, Execution, Moment};
use crate::event::{Cause, EventData};
use crate::open::{CallPhase, OpenCall};
use crate::{
    Approval, CallName, ExecutionId, Failure, HttpResponse, Json, ReopenMode, Scope, SpanContext, Timestamp, kind,
    planted,
};

/// A message to an execution, as it is stored in its inbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// A signal.
    Signal {
        /// The signal's name.
        name: String,
        /// The signal's data.
        data: Json,
        /// The span that it came from, in traces.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<SpanContext>,
    },
    /// A person approved a question.
    Approved {
        /// The call that asked the question.
        call: CallName,
        /// The question's id.
        id: String,
        /// The answer.
        approval: Approval,
        /// The span that it came from, in traces.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<SpanContext>,
    },
    /// A person rejected a question.
    Rejected {
        /// The call that asked the question.
        call: CallName,
        /// The question's id.
        id: String,
        /// The person who rejected it.
        by: String,
        /// The person's reason.
        reason: String,
        /// The span that it came from, in traces.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<SpanContext>,
    },
    /// A child ended, could not be started, or (when only its start was awaited) exists now.
    Child {
        /// The run that started the child.
        run: u32,
        /// The call that waits for the child.
        call: CallName,
        /// The child's id: a call that was retried or reopened may wait for another child by now.
        id: ExecutionId,
        /// The result.
        result: ChildResult,
        /// The span that it came from, in traces.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<SpanContext>,
    },
    /// Cancel the execution. Clean-up may take as long as the workflow allows, counted from the request.
    Cancel {
        /// The time of the request.
        at: Timestamp,
    },
    /// End the execution at once.
    Terminate,
    /// Pause: nothing moves any more.
    Pause,
    /// Go on after a pause.
    Resume,
    /// Go on after a failure, if that is safe.
    Reopen,
    /// Go on after a failure, whatever the workflow has done since.
    ReopenForced,
}

impl Message {
    /// Whether it asks an execution that has failed to go on.
    #[must_use]
    pub const fn reopens(&self) -> bool {
        matches!(self, Self::Reopen | Self::ReopenForced)
    }

    /// The name of a signal, from the beginning of the signal as it is stored. There is none if the message is no signal
    /// or the beginning does not contain the whole name.
    #[must_use]
    pub fn signal_name(beginning: &str) -> Option<String> {
        let name = beginning.strip_prefix(r#"{"Signal":{"name":"#)?;
        serde_json::Deserializer::from_str(name).into_iter().next()?.ok()
    }

    /// The call that it ends, and the span that it came from.
    fn cause(&self) -> Option<(CallName, SpanContext)> {
        match self {
            Self::Approved { call, cause, .. }
            | Self::Rejected { call, cause, .. }
            | Self::Child { call, cause, .. } => Some((call.clone(), (*cause)?)),
            _ => None,
        }
    }

    /// Whether its effect would have outlasted a failure and the reopening after it.
    const fn outlasts_a_failure(&self) -> bool {
        matches!(self, Self::Pause | Self::Resume)
    }
}

/// The result of starting or running a child.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ChildResult {
    /// The child exists.
    Accepted(ExecutionId),
    /// The child returned this.
    Completed(Json),
    /// The child failed or was cancelled, or its id is already taken.
    Failed(Failure),
}

/// The fate of a message that an execution received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// The message was consumed.
    Consumed,
    /// The message stays until a call waits for it.
    Kept,
}

impl Execution {
    /// Handles the response to a request, or the failure to send it.
    pub fn fetched(&mut self, name: &CallName, result: Result<HttpResponse, Failure>, now: Moment) {
        if self.close_call(name).is_none() {
            return;
        }
        let ordinal = name.ordinal;
        self.note_value(&name.scope);
        let data = match result {
            Ok(response) => EventData::FetchCompleted { ordinal, response: Some(response), status: None },
            Err(failure) => EventData::FetchFailed { ordinal, failure },
        };
        self.record(now.at, &name.scope, data);
    }

    /// Handles the inbox message with this number. Each number is handled once per activation.
    pub fn receive(&mut self, seq: i64, seen: bool, message: Message, now: Moment) -> Receipt {
        if let Message::Signal { name, data, cause } = message {
            if !seen {
                self.lsn += 1;
                self.changes.seen.push(seq);
            }
            let signal = QueuedSignal { seq, data, cause };
            self.signals_bytes += signal.weight(&name);
            let matched = self.signals.arrive(&name, signal);
            if planted("signal-bound-early") {
                for scope in self.signals.ready_scopes() {
                    // The result of binding does not matter to a planted bug.
                    let _ = self.bind_signal(&scope, now);
                }
            }
            self.signalled(&name, matched);
            return Receipt::Kept;
        }
        if matches!(self.end, Some(End::Continued(_))) {
            // The next run receives the message.
            return Receipt::Kept;
        }
        // What came after the request to reopen is for the reopened execution: a cancel, say.
        let is_for_reopened = self.reopening.is_some() || (self.has_failed && message.outlasts_a_failure());
        if is_for_reopened {
            self.after_reopening.push((seq, message));
            return Receipt::Consumed;
        }
        self.lsn += 1;
        self.changes.consumed.push(seq);
        if let Message::Approved { id: asked, .. } | Message::Rejected { id: asked, .. } = &message {
            // If a cancel came before the answer, it withdrew the question. A batch with that withdrawal would be
            // refused for ever, because the store has the answer.
            self.changes.approvals.retain(|edge| !matches!(edge, ApprovalEdge::Withdrawn(id) if id == asked));
        }
        let is_over = self.end.is_some() || (self.has_failed && !message.reopens());
        if is_over {
            return Receipt::Consumed;
        }
        self.has_failed = false;
        self.changes.causes.extend(message.cause());
        match message {
            Message::Signal { .. } => {}
            Message::Approved { call, id, approval, .. } => {
                let ordinal = call.ordinal;
                self.answered(&call, &id, EventData::ApprovalReceived { ordinal, approval }, now);
            }
            Message::Rejected { call, id, by, reason, .. } => {
                let ordinal = call.ordinal;
                self.answered(&call, &id, EventData::ApprovalRejected { ordinal, by, reason }, now);
            }
            Message::Child { run, call, id, result, .. } => self.child_said(run, (&call, &id), result, now),
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
        // A workflow that waits for no call at the moment learns of the cancel from its next call.
        self.options.cancel_owed = open.is_empty();
        for name in open {
            self.cancel_call(&name, Cause::Requested, now);
        }
    }

    fn resume(&mut self, now: Moment) {
        self.paused = false;
        self.record(now.at, &Scope::root(), EventData::ExecutionResumed);
    }

    /// Tells an execution that has failed that a request to reopen it follows. Messages that it did not hear before it
    /// failed mean as little as if it had heard them: it stays paused, and no longer cancelled.
    pub fn expect_reopening(&mut self) {
        self.has_failed = true;
    }

    /// Goes on after a failure: this call of the workflow is open again, see [`crate::reopening`].
    pub fn reopen(&mut self, ordinal: u32, now: Moment) {
        self.reopening = None;
        self.options.deadline = None;
        (self.options.cancelled, self.options.cancel_until) = (false, None);
        self.options.cancel_owed = false;
        self.record(now.at, &Scope::root(), EventData::ExecutionReopened { ordinal });
        self.wanted.insert(Scope::root());
        self.receive_after_reopening(now);
    }

    /// Keeps the execution failed with its earlier failure, because going on is not safe.
    pub fn stay_failed(&mut self, failure: Failure, now: Moment) {
        self.reopening = None;
        self.finish(End::Failed(failure), now);
        self.receive_after_reopening(now);
    }

    /// Receives the messages that came while the execution waited to be reopened, each for the first time.
    fn receive_after_reopening(&mut self, now: Moment) {
        for (seq, message) in std::mem::take(&mut self.after_reopening) {
            self.receive(seq, false, message, now);
        }
    }

    /// Handles a change in the signals of this name or in the calls that wait for them. The guest of a newly matched
    /// call is wanted, and the guest that is next to receive the oldest signal is looked at again.
    pub(super) fn signalled(&mut self, name: &str, matched: Option<CallName>) {
        if let Some(call) = matched.filter(|call| !self.journals.contains_key(&call.scope)) {
            self.wanted.insert(call.scope);
        }
        if let Some(scope) = self.signals.ready_scope(name).cloned() {
            self.look_at(&scope);
        }
    }

    /// Binds a signal to the call of this scope that it is matched with: at the moment of delivery, never ahead (L9).
    ///
    /// # Errors
    /// The LSN that has to be durable before a signal that is already there can be bound.
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
        self.changes.causes.extend(signal.cause.map(|cause| (call.clone(), cause)));
        let data = EventData::SignalReceived { ordinal: call.ordinal, data: Some(signal.data) };
        self.record(now.at, &call.scope, data);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_stored_signal_is_read_from_its_beginning() {
        for name in ["paid", "a \"quoted\" \\ name", "line\nbreak", "größe"] {
            let stored =
                Json::of(&Message::Signal { name: name.to_owned(), data: Json::null(), cause: None }).to_string();
            let data = stored.find("\"data\"").expect("it has data");
            assert_eq!(Message::signal_name(&stored).as_deref(), Some(name));
            assert_eq!(Message::signal_name(&stored[..data]).as_deref(), Some(name), "whatever follows");
        }
        assert_eq!(Message::signal_name(r#"{"Signal":{"name":"pai"#), None);
        assert_eq!(Message::signal_name(&Json::of(&Message::Pause).to_string()), None);
    }
}
