//! What each event says about spans.

use std::time::Duration;

use cerebelum_history::{CallName, Event, EventData, Failure, HttpResponse, Scope, Timestamp, kind};

use super::span::{AttributeValue, Span, SpanLink};
use super::tracer::{OpenStep, Tracer, about};
use crate::clock::millis;

impl Tracer {
    /// Looks at the next event of the history.
    pub(super) fn see(&mut self, event: &Event) {
        let Event { at, scope, data } = event;
        let call = |ordinal: &u32| CallName { scope: scope.clone(), ordinal: *ordinal };
        match data {
            EventData::StepStarted { ordinal, call: step, .. } => {
                let inner = call(ordinal).step_scope();
                self.steps.insert(inner.clone(), OpenStep { name: step.step.clone(), attempt: 1, began: *at });
                self.touch(&inner);
            }
            EventData::StepRetried { ordinal, failure, delay_ms, .. } => {
                let inner = call(ordinal).step_scope();
                self.step_ended(&inner, *at, Err(failure));
                if let Some(step) = self.forget(&inner) {
                    let next = OpenStep { attempt: step.attempt + 1, began: at.plus(*delay_ms), ..step };
                    self.steps.insert(inner, next);
                }
            }
            EventData::StepCompleted { ordinal, .. } => {
                self.step_over(&call(ordinal).step_scope(), *at, Ok("completed"))
            }
            EventData::StepFailed { ordinal, failure, .. } => {
                self.step_over(&call(ordinal).step_scope(), *at, Err(failure));
            }
            EventData::SleepStarted { ordinal, .. }
            | EventData::PollStarted { ordinal, .. }
            | EventData::ApprovalRequested { ordinal, .. }
            | EventData::SignalAwaited { ordinal, .. }
            | EventData::ChildStarted { ordinal, .. } => {
                self.touch(scope);
                self.waits.insert(call(ordinal), *at);
            }
            EventData::SleepCompleted { ordinal } => self.waited("sleep", &call(ordinal), *at, Ok("completed")),
            EventData::PollCompleted { ordinal, .. } => self.waited("poll", &call(ordinal), *at, Ok("completed")),
            EventData::PollFailed { ordinal, failure, .. } => {
                self.waited("poll", &call(ordinal), *at, Err(failure));
            }
            EventData::ApprovalReceived { ordinal, .. } => self.waited("approval", &call(ordinal), *at, Ok("approved")),
            EventData::ApprovalRejected { ordinal, .. } => self.waited("approval", &call(ordinal), *at, Ok("rejected")),
            EventData::ApprovalTimedOut { ordinal } => self.waited("approval", &call(ordinal), *at, Ok("timed-out")),
            EventData::SignalReceived { ordinal, .. } => self.waited("signal", &call(ordinal), *at, Ok("received")),
            EventData::SignalTimedOut { ordinal } => self.waited("signal", &call(ordinal), *at, Ok("timed-out")),
            EventData::ChildAccepted { ordinal, .. } => self.waited("child", &call(ordinal), *at, Ok("accepted")),
            EventData::ChildCompleted { ordinal, .. } => self.waited("child", &call(ordinal), *at, Ok("completed")),
            EventData::ChildFailed { ordinal, failure } => self.waited("child", &call(ordinal), *at, Err(failure)),
            EventData::CallCancelled { ordinal, .. } => {
                self.waits.remove(&call(ordinal));
                self.step_over(&call(ordinal).step_scope(), *at, Ok("cancelled"));
            }
            EventData::FetchStarted { .. }
            | EventData::FetchCompleted { .. }
            | EventData::FetchFailed { .. }
            | EventData::AttributeSet { .. }
            | EventData::CallRefused { .. } => self.touch(scope),
            EventData::ExecutionStarted { .. }
            | EventData::ExecutionCompleted { .. }
            | EventData::ExecutionFailed { .. }
            | EventData::ExecutionCancelled { .. }
            | EventData::ExecutionContinued { .. }
            | EventData::CancelRequested { .. }
            | EventData::ExecutionPaused
            | EventData::ExecutionResumed
            | EventData::ExecutionReopened { .. }
            | EventData::ExecutionParked { .. } => {}
        }
    }

    /// A step is over. One that was between two attempts has no span of its own for that time.
    fn step_over(&mut self, scope: &Scope, at: Timestamp, outcome: Result<&str, &Failure>) {
        if self.steps.get(scope).is_some_and(|step| step.began <= at) {
            self.step_ended(scope, at, outcome);
        }
        self.forget(scope);
    }

    fn step_ended(&mut self, scope: &Scope, at: Timestamp, outcome: Result<&str, &Failure>) {
        let span = self.step_span(scope, at).map(|span| ended(span, outcome));
        self.spans.extend(span);
    }

    /// A wait is over. Its span shows the part that lies in this waking, and says how long all of it was.
    fn waited(&mut self, what: &str, call: &CallName, at: Timestamp, outcome: Result<&str, &Failure>) {
        let Some(since) = self.waits.remove(call) else { return };
        let (context, parent) = (self.context(self.wait_id(call)), self.parent(&call.scope));
        let waited = AttributeValue::Seconds(at.since(since) as f64 / 1_000.0);
        let times = (since.max(self.began()), at);
        let mut span = about(self.subject.span((context, Some(parent)), format!("wait {what}"), times), call);
        span.state = self.state();
        span.links.extend(self.causes.remove(call).map(|context| SpanLink { context, what: "cause" }));
        self.spans.push(ended(span, outcome).with("cerebelum.wait_seconds", waited));
    }
}

fn ended(span: Span, outcome: Result<&str, &Failure>) -> Span {
    match outcome {
        Ok(word) => span.with("cerebelum.outcome", word),
        Err(failure) => span.with("cerebelum.outcome", "failed").failed(&failure.kind),
    }
}

impl Span {
    /// The span of a request with its answer; none if the request did not leave.
    pub(crate) fn answered(
        mut self,
        answer: &Result<HttpResponse, Failure>,
        (took, now): (Duration, Timestamp),
    ) -> Option<Self> {
        (self.began, self.ended) = (Timestamp(now.0.saturating_sub(millis(took))), now);
        match answer {
            Err(failure) if matches!(&*failure.kind, kind::NOT_GRANTED | kind::INVALID_ARGUMENT) => None,
            Err(failure) => Some(self.failed(&failure.kind)),
            Ok(response) => {
                let status = u32::from(response.status);
                let span = self.with("http.response.status_code", status);
                Some(if status >= 400 { span.failed(&status.to_string()) } else { span })
            }
        }
    }
}
