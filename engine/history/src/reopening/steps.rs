//! What steps did after a call of their own had failed, and whether starting them over would do harm.
//!
//! # The rule
//!
//! A step that is opened again starts over and repeats its calls with the same keys, as a retry does. A server that
//! knows the keys gives the same responses as before, but a call that failed may succeed this time. The code then goes
//! another way, and what it did on the way it went before is not undone: a step that charges, fails to ship and then
//! refunds would ship something that is not paid for. So a step must not start over if, in any attempt,
//!
//! 1. a call of its own failed, and
//! 2. a call that it issued afterwards may have changed something.
//!
//! A call has **failed** if its outcome is a failure: a status of 400 or more counts, and so does a timeout, and so
//! does a call that the code gave up (the loser of a race, the body of an `asyncio.timeout`). Whether the code took it
//! for a failure or for an ordinary branch makes no difference: a wait that timed out is waited for once more, and may
//! end differently. (This does not hold for the calls of the workflow itself. Only one of them is opened again, and
//! the others end as before.)
//!
//! A later call **may have changed something** unless it only waits or reads (`GET`, `HEAD`, `OPTIONS`), or is known
//! to have done nothing: it was answered 4xx, no connection was made, the person rejected it, the step failed and none
//! of its own calls may have changed anything. A status of 5xx and a broken connection leave that open.
//!
//! A failure **no longer counts** once a repetition of the call has succeeded, since the code is then on the way that
//! it would have gone without the failure. Creating what a `GET` or `HEAD` did not find (404, 410) counts as such a
//! repetition: a `PUT` or `POST` to the same address, or a `POST` to the address above it. Without this, steps that
//! create only what is not there yet could not be resumed, and these are made to run twice.
//!
//! In doubt the rule refuses: a person can insist, or start a new execution, and an effect that comes after its
//! compensation cannot be taken back. It knows failures only. A step that reads `{"stock": 0}` in a successful
//! response and refunds looks like any other step.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::event::{Cause, Event, EventData};
use crate::{CallName, Scope, kind};

/// A failed call, and a call that may have changed something after it.
pub(super) type WentOn<'a> = (&'a Event, &'a Event);

/// So many failures of an attempt are compared with its later calls: all with all would be quadratic.
const FAILURES_MAX: usize = 1_000;

/// The steps of a history, by scope.
#[derive(Default)]
pub(super) struct StepScopes<'a> {
    scopes: HashMap<Scope, StepScope<'a>>,
}

#[derive(Default)]
struct StepScope<'a> {
    /// The calls of the current attempt, by ordinal.
    calls: BTreeMap<u32, &'a Event>,
    /// The ordinals of those that may have changed something.
    effects: BTreeSet<u32>,
    /// Those that failed.
    failures: Vec<Caught<'a>>,
    /// The first failure beyond [`FAILURES_MAX`], which no later success clears.
    beyond: Option<Caught<'a>>,
    /// Whether an earlier attempt may have changed something.
    has_effects: bool,
    /// What an earlier attempt did after a failure, or a step that this one called.
    went_on: Option<WentOn<'a>>,
}

/// A call that failed while its step went on.
struct Caught<'a> {
    call: &'a Event,
    /// The last ordinal by then.
    asked: u32,
    /// Whether it asked for something that was not there.
    is_missing: bool,
}

/// How a call of a step stands after an event.
enum Progress {
    Issued,
    Succeeded,
    Failed {
        /// Whether it may have changed something all the same.
        may_have_effects: bool,
    },
}

impl<'a> StepScopes<'a> {
    pub(super) fn of(history: &'a [Event]) -> Self {
        let mut steps = Self::default();
        history.iter().for_each(|event| steps.take(event));
        steps
    }

    fn take(&mut self, event: &'a Event) {
        let Some(ordinal) = event.data.ordinal() else { return };
        let callee = || CallName { scope: event.scope.clone(), ordinal }.step_scope();
        match &event.data {
            EventData::StepStarted { .. } => drop(self.scopes.remove(&callee())),
            EventData::StepRetried { .. } => self.scopes.entry(callee()).or_default().close(),
            _ => {}
        }
        if event.data.ended_step().is_none() {
            if !event.scope.is_root() {
                self.scopes.entry(event.scope.clone()).or_default().take(event, false);
            }
        } else if !event.scope.is_root() {
            let ended = self.scopes.remove(&callee()).unwrap_or_default();
            self.scopes.entry(event.scope.clone()).or_default().take_end(event, ended);
        } else if matches!(event.data, EventData::StepCompleted { .. }) {
            self.scopes.remove(&callee());
        } else if let Some(step) = self.scopes.get_mut(&callee()) {
            step.close();
        }
    }

    /// Whether no step of the workflow went on after a failure.
    pub(super) fn are_harmless(&self) -> bool {
        self.scopes.values().all(|scope| scope.went_on.is_none())
    }

    /// What the step did that this call of the workflow started.
    pub(super) fn went_on(&self, ordinal: u32) -> Option<WentOn<'a>> {
        let step = CallName { scope: Scope::root(), ordinal }.step_scope();
        self.scopes.get(&step).and_then(|scope| scope.went_on)
    }
}

impl<'a> StepScope<'a> {
    /// Takes the end of a call that may have started a step: whatever the end, starting over repeats that step as well.
    fn take_end(&mut self, event: &'a Event, mut ended: Self) {
        ended.close();
        self.went_on = self.went_on.or(ended.went_on);
        self.take(event, ended.has_effects);
    }

    /// Takes an event of this scope. If it ends a step, `has_effects` says whether that may have changed something.
    fn take(&mut self, event: &'a Event, has_effects: bool) {
        let Some(ordinal) = event.data.ordinal() else { return };
        let call = self.calls.get(&ordinal).copied();
        match progress(&event.data, call, has_effects) {
            Some(Progress::Issued) => {
                self.calls.insert(ordinal, event);
                if is_effect(&event.data) {
                    self.effects.insert(ordinal);
                }
                if matches!(event.data, EventData::CallRefused { .. }) {
                    self.fail(event, false);
                }
            }
            Some(Progress::Failed { may_have_effects }) => {
                if !may_have_effects {
                    self.effects.remove(&ordinal);
                }
                if let Some(call) = call {
                    self.fail(call, matches!(event.data.error_status(), Some(404 | 410)));
                }
            }
            Some(Progress::Succeeded) => {
                if let Some(call) = call {
                    self.failures.retain(|caught| !caught.is_tried_again_by(call));
                }
            }
            None => {}
        }
    }

    fn fail(&mut self, call: &'a Event, is_missing: bool) {
        let asked = self.calls.keys().next_back().copied().unwrap_or(0);
        let is_full = self.failures.len() >= FAILURES_MAX;
        match self.failures.iter_mut().find(|caught| is_repeat(&caught.call.data, &call.data)) {
            Some(before) => before.is_missing &= is_missing,
            None if is_full => drop(self.beyond.get_or_insert(Caught { call, asked, is_missing })),
            None => self.failures.push(Caught { call, asked, is_missing }),
        }
    }

    /// Ends the attempt.
    fn close(&mut self) {
        let later = |caught: &Caught<'a>| {
            let mut effects = self.effects.range(caught.asked + 1..).filter_map(|ordinal| self.calls.get(ordinal));
            effects.find(|call| !caught.is_tried_again_by(call)).map(|later| (caught.call, *later))
        };
        self.went_on = self.went_on.or_else(|| self.failures.iter().chain(&self.beyond).find_map(later));
        self.has_effects |= !self.effects.is_empty();
        self.calls.clear();
        self.effects.clear();
        self.failures.clear();
        self.beyond = None;
    }
}

impl Caught<'_> {
    /// Whether this call is another try of the one that failed.
    fn is_tried_again_by(&self, call: &Event) -> bool {
        is_repeat(&self.call.data, &call.data) || self.is_missing && is_creation(&self.call.data, &call.data)
    }
}

/// How a call stands after an event. It may be a call of a step, which `has_effects` if it may have changed something.
fn progress(data: &EventData, call: Option<&Event>, has_effects: bool) -> Option<Progress> {
    let failed = |may_have_effects| Some(Progress::Failed { may_have_effects });
    match data {
        EventData::StepStarted { .. }
        | EventData::SleepStarted { .. }
        | EventData::PollStarted { .. }
        | EventData::ApprovalRequested { .. }
        | EventData::SignalAwaited { .. }
        | EventData::FetchStarted { .. }
        | EventData::ChildStarted { .. }
        | EventData::AttributeSet { .. }
        | EventData::CallRefused { .. } => Some(Progress::Issued),
        EventData::StepCompleted { .. }
        | EventData::SleepCompleted { .. }
        | EventData::PollCompleted { .. }
        | EventData::ApprovalReceived { .. }
        | EventData::SignalReceived { .. }
        | EventData::ChildAccepted { .. }
        | EventData::ChildCompleted { .. } => Some(Progress::Succeeded),
        EventData::FetchCompleted { .. } => match data.error_status() {
            None => Some(Progress::Succeeded),
            Some(status) => failed(status >= 500),
        },
        EventData::FetchFailed { failure, .. } => failed(may_have_been_sent(&failure.kind)),
        EventData::StepFailed { .. } => failed(has_effects),
        EventData::ChildFailed { .. } => failed(true),
        EventData::PollFailed { .. }
        | EventData::ApprovalRejected { .. }
        | EventData::ApprovalTimedOut { .. }
        | EventData::SignalTimedOut { .. } => failed(false),
        EventData::CallCancelled { cause: Cause::Dropped, .. } => match call.map(|call| &call.data)? {
            EventData::SleepStarted { .. } => None,
            EventData::StepStarted { .. } => failed(has_effects),
            dropped => failed(matches!(dropped, EventData::FetchStarted { .. } | EventData::ChildStarted { .. })),
        },
        // The code is told of neither: it ends with the attempt.
        EventData::CallCancelled { cause: Cause::Requested | Cause::ScopeEnded, .. } => None,
        EventData::StepRetried { .. }
        | EventData::ExecutionStarted { .. }
        | EventData::ExecutionCompleted { .. }
        | EventData::ExecutionFailed { .. }
        | EventData::ExecutionCancelled { .. }
        | EventData::ExecutionContinued { .. }
        | EventData::CancelRequested { .. }
        | EventData::ExecutionPaused
        | EventData::ExecutionResumed
        | EventData::ExecutionReopened { .. }
        | EventData::ExecutionParked { .. } => None,
    }
}

/// Whether a request that failed with this kind may have reached its server.
fn may_have_been_sent(kind: &str) -> bool {
    !matches!(kind, kind::HTTP_CONNECT | kind::NOT_GRANTED | kind::INVALID_ARGUMENT | kind::QUOTA)
}

/// Whether this call may change something outside the step that issues it.
fn is_effect(issue: &EventData) -> bool {
    match issue {
        EventData::FetchStarted { method, .. } => !matches!(method.as_str(), "GET" | "HEAD" | "OPTIONS"),
        _ => matches!(
            issue,
            EventData::StepStarted { .. }
                | EventData::PollStarted { .. }
                | EventData::ApprovalRequested { .. }
                | EventData::ChildStarted { .. }
                | EventData::AttributeSet { .. }
        ),
    }
}

/// Whether the second call is a repetition of the first.
fn is_repeat(first: &EventData, second: &EventData) -> bool {
    match (first, second) {
        (EventData::StepStarted { call: a, .. }, EventData::StepStarted { call: b, .. }) => a == b,
        (EventData::PollStarted { check: a, .. }, EventData::PollStarted { check: b, .. }) => a == b,
        (EventData::ApprovalRequested { request: a, .. }, EventData::ApprovalRequested { request: b, .. }) => a == b,
        (EventData::SignalAwaited { name: a, .. }, EventData::SignalAwaited { name: b, .. }) => a == b,
        (EventData::ChildStarted { call: a, .. }, EventData::ChildStarted { call: b, .. }) => a == b,
        (EventData::FetchStarted { method: a, url, .. }, EventData::FetchStarted { method: b, url: other, .. }) => {
            (a, url) == (b, other)
        }
        _ => false,
    }
}

/// Whether the second request creates what the first one asked for.
fn is_creation(first: &EventData, second: &EventData) -> bool {
    let (EventData::FetchStarted { method, url, .. }, EventData::FetchStarted { method: second, url: other, .. }) =
        (first, second)
    else {
        return false;
    };
    let (asked, created) = (without_query(url), without_query(other));
    // The address of a server itself is above everything, and says nothing.
    let above = asked.rsplit_once('/').map(|(above, _)| above).filter(|above| above.matches('/').count() > 2);
    matches!(method.as_str(), "GET" | "HEAD")
        && match second.as_str() {
            "PUT" => created == asked,
            "POST" => created == asked || above == Some(created),
            _ => false,
        }
}

fn without_query(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or(url).trim_end_matches('/')
}
