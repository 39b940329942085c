//! Which call of a failed execution can be opened again, and whether that is safe.

use std::collections::HashMap;

use crate::event::{Event, EventData};
use crate::journal::{Recorded, reopen};
use crate::{CallName, Execution, Failure, Moment, Outcome, Scope, kind};

/// How strictly a request to reopen a failed execution is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReopenMode {
    /// Reopen only if the code did nothing in response to the failure.
    Checked,
    /// Reopen whatever the code did since: a person has looked at it.
    Forced,
}

/// The effect that reopening an execution would have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reopening {
    /// The execution has not failed, or no call caused the failure, so that it would fail again.
    Nothing,
    /// This call of the workflow can be opened again. It is 0, which is not the ordinal of any call, if only the
    /// execution's deadline passed.
    Safe(u32),
    /// The code went on after this call of the workflow had failed. What it did then cannot be undone.
    Unsafe {
        /// The call that would be opened again.
        call: u32,
        /// The failed call to which the code reacted, in words.
        failed: String,
        /// The call that the code made afterwards, in words.
        later: String,
    },
}

impl Reopening {
    /// The call to open again, if this mode allows it.
    #[must_use]
    pub fn call(&self, mode: ReopenMode) -> Option<u32> {
        match self {
            Self::Nothing => None,
            Self::Safe(call) => Some(*call),
            Self::Unsafe { call, .. } => (mode == ReopenMode::Forced).then_some(*call),
        }
    }
}

impl Execution {
    /// Does what a client asked for with [`Message::Reopen`](crate::Message::Reopen), if one did: goes on, or stays failed
    /// where that is not safe. The driver hands in the whole history of the run.
    ///
    /// # Errors
    /// If the execution has not failed.
    pub fn reopen_if_asked(&mut self, history: &[Event], now: Moment) -> Result<(), String> {
        let Some(mode) = self.reopening() else { return Ok(()) };
        match (reopening(history).call(mode), history.last().map(|event| &event.data)) {
            (Some(ordinal), _) => self.reopen(ordinal, now),
            // The request referred to an older failure.
            (None, Some(EventData::ExecutionFailed { failure })) => self.stay_failed(failure.clone(), now),
            (None, _) => return Err("nothing to resume: the execution has not failed".to_owned()),
        }
        Ok(())
    }
}

/// Finds out what reopening an execution with this history would do.
///
/// The call to open is the one whose failure the workflow ended with, or else the last one that failed. Of several
/// candidates the safe ones come first, and among those the one that was reopened least often. Otherwise a failure that
/// the workflow tolerates would always be chosen ahead of the others.
///
/// Replay forgets what followed the delivery of the reopened call's failure. That is safe as long as the code did
/// nothing in response to it. It is unsafe if the workflow issued any call afterwards (a compensation, say), or if the
/// failed step itself went on after one of its own calls had failed, see `StepScopes`. Calls that were issued before
/// the failure are harmless, whatever became of them since: they keep their outcomes, or are issued again if they were
/// cut off.
#[must_use]
pub fn reopening(history: &[Event]) -> Reopening {
    let Some(EventData::ExecutionFailed { failure: end }) = history.last().map(|event| &event.data) else {
        return Reopening::Nothing;
    };
    let mut recorded: Vec<Recorded<'_>> = Vec::new();
    let mut reopened: HashMap<u32, u32> = HashMap::new();
    for event in history.iter().filter(|event| event.scope.is_root()) {
        match &event.data {
            EventData::ExecutionReopened { ordinal } => {
                reopen(&mut recorded, *ordinal, 0);
                *reopened.entry(*ordinal).or_default() += 1;
            }
            _ => recorded.push((event, 0, 0)),
        }
    }
    let failures: Vec<Failed<'_>> = failures(&recorded).collect();
    let is_the_very = |failed: &&Failed<'_>| failed.failure == *end;
    let has_the_very = failures.iter().any(|failed| is_the_very(&failed));
    match end.kind.as_str() {
        kind::DEADLINE if !has_the_very => return Reopening::Safe(0),
        kind::HISTORY_LIMIT | kind::CALL_LIMIT | kind::ATTRIBUTE_LIMIT if !has_the_very => return Reopening::Nothing,
        _ => {}
    }
    let candidates = failures.iter().filter(|failed| !has_the_very || is_the_very(failed));
    let inside = StepScopes::of(history);
    let judged = candidates.map(|failed| {
        let later =
            failed.later.map(|event| (failed.event(&recorded), event)).or_else(|| inside.went_on(failed.ordinal));
        (failed.ordinal, later)
    });
    let times = |ordinal: u32| reopened.get(&ordinal).copied().unwrap_or(0);
    match judged.min_by_key(|(ordinal, later)| (later.is_some(), times(*ordinal))) {
        None => Reopening::Nothing,
        Some((call, None)) => Reopening::Safe(call),
        Some((call, Some((failed, later)))) => {
            Reopening::Unsafe { call, failed: in_words(failed), later: in_words(later) }
        }
    }
}

/// The call that a forced request opens again, see [`reopening`].
#[must_use]
pub fn failed_call(history: &[Event]) -> Option<u32> {
    reopening(history).call(ReopenMode::Forced)
}

/// A call of the workflow that failed.
struct Failed<'a> {
    ordinal: u32,
    failure: Failure,
    /// The first call that the workflow issued afterwards.
    later: Option<&'a Event>,
}

impl<'a> Failed<'a> {
    /// The event that issued the call.
    fn event(&self, recorded: &[Recorded<'a>]) -> &'a Event {
        let is_issue = |event: &Event| event.data.is_issue() && event.data.ordinal() == Some(self.ordinal);
        let issue = recorded.iter().map(|(event, ..)| *event).find(|event| is_issue(event));
        issue.expect("a call that failed was issued")
    }
}

/// The failed calls of the workflow, the last one first.
fn failures<'a>(recorded: &[Recorded<'a>]) -> impl Iterator<Item = Failed<'a>> {
    let mut failures = Vec::new();
    // The highest ordinal so far. Ordinals have no gaps: a call up to this ordinal was made before, even if a reopening
    // issued it anew.
    let mut asked = 0;
    let mut untroubled = 0;
    for (event, ..) in recorded {
        // A call that a limit forbade cannot be opened again: the limit would forbid it again.
        if event.data.is_issue() {
            let ordinal = event.data.ordinal().unwrap_or(0);
            if ordinal > asked {
                for failed in &mut failures[untroubled..] {
                    let Failed { later, .. } = failed;
                    *later = Some(*event);
                }
                untroubled = failures.len();
                asked = ordinal;
            }
        } else if let Some((ordinal, Outcome::Failed(failure))) = event.data.outcome() {
            failures.push(Failed { ordinal, failure, later: None });
        }
    }
    failures.into_iter().rev()
}

/// What the steps of a history did after one of their own calls had failed.
///
/// A step that is opened again starts over and repeats its calls with the same keys, as a retry does. A server that
/// knows the keys gives the same responses as before. A step that charges, fails to ship and then refunds would
/// therefore ship something that is not paid for the second time.
///
/// A step went on if, in one attempt, a call failed and a different call was issued after it that did not fail. A
/// repetition of the failed call is only another try, and if it succeeds, the failure no longer counts.
#[derive(Default)]
struct StepScopes<'a> {
    scopes: HashMap<Scope, StepScope<'a>>,
}

#[derive(Default)]
struct StepScope<'a> {
    /// The calls of the current attempt, by ordinal.
    calls: HashMap<u32, &'a Event>,
    /// The first of these calls that failed.
    failed: Option<&'a Event>,
    /// The calls issued after it that have not failed.
    later: Vec<&'a Event>,
    /// A failed call and the call that followed it, from an earlier attempt or from a failed step inside this one.
    went_on: Option<(&'a Event, &'a Event)>,
}

impl<'a> StepScope<'a> {
    fn take(&mut self, event: &'a Event) {
        let Some(ordinal) = event.data.ordinal() else { return };
        if event.data.is_issue() {
            self.calls.insert(ordinal, event);
            if self.failed.is_some_and(|failed| is_effect(&event.data) && !is_repeat(&failed.data, &event.data)) {
                self.later.push(event);
            }
            if matches!(event.data, EventData::CallRefused { .. }) {
                self.failed = self.failed.or(Some(event));
            }
        } else if is_failure(&event.data) {
            self.later.retain(|later| later.data.ordinal() != Some(ordinal));
            self.failed = self.failed.or_else(|| self.calls.get(&ordinal).copied());
        } else if event.data.outcome().is_some() && self.is_another_try(ordinal) {
            (self.failed, self.later) = Default::default();
        }
    }

    /// Whether this call repeats the call that failed.
    fn is_another_try(&self, ordinal: u32) -> bool {
        self.failed.zip(self.calls.get(&ordinal)).is_some_and(|(failed, call)| is_repeat(&failed.data, &call.data))
    }

    /// Ends the attempt.
    fn close(&mut self) {
        let went_on = self.failed.zip(self.later.first().copied());
        self.went_on = self.went_on.or(went_on);
        (self.calls, self.failed, self.later) = Default::default();
    }
}

impl<'a> StepScopes<'a> {
    fn of(history: &'a [Event]) -> Self {
        let mut steps = Self::default();
        for event in history {
            if !event.scope.is_root() {
                steps.scopes.entry(event.scope.clone()).or_default().take(event);
            }
            let Some(ordinal) = event.data.ordinal() else { continue };
            let scope = || CallName { scope: event.scope.clone(), ordinal }.step_scope();
            match &event.data {
                EventData::StepStarted { .. } | EventData::StepCompleted { .. } => drop(steps.scopes.remove(&scope())),
                EventData::StepRetried { .. } => {
                    steps.scopes.entry(scope()).or_default().close();
                }
                EventData::StepFailed { .. } => steps.failed(&scope(), &event.scope),
                _ => {}
            }
        }
        steps
    }

    /// Notes that a step has failed: if it went on, its caller did too.
    fn failed(&mut self, step: &Scope, caller: &Scope) {
        let Some(scope) = self.scopes.get_mut(step) else { return };
        scope.close();
        let went_on = scope.went_on;
        if !caller.is_root() {
            let caller = self.scopes.entry(caller.clone()).or_default();
            caller.went_on = caller.went_on.or(went_on);
        }
    }

    /// The failed call and the one that followed it, in the step that this call of the workflow started.
    fn went_on(&self, ordinal: u32) -> Option<(&'a Event, &'a Event)> {
        let step = CallName { scope: Scope::root(), ordinal }.step_scope();
        self.scopes.get(&step).and_then(|scope| scope.went_on)
    }
}

/// Whether this call changes something outside the step that issues it.
fn is_effect(issue: &EventData) -> bool {
    matches!(
        issue,
        EventData::StepStarted { .. }
            | EventData::PollStarted { .. }
            | EventData::ApprovalRequested { .. }
            | EventData::FetchStarted { .. }
            | EventData::ChildStarted { .. }
            | EventData::AttributeSet { .. }
    )
}

fn is_failure(data: &EventData) -> bool {
    matches!(
        data,
        EventData::StepFailed { .. }
            | EventData::PollFailed { .. }
            | EventData::FetchFailed { .. }
            | EventData::ChildFailed { .. }
            | EventData::ApprovalRejected { .. }
    )
}

/// Whether the second call is a repetition of the first.
fn is_repeat(first: &EventData, second: &EventData) -> bool {
    match (first, second) {
        (EventData::StepStarted { call: a, .. }, EventData::StepStarted { call: b, .. }) => a == b,
        (EventData::PollStarted { check: a, .. }, EventData::PollStarted { check: b, .. }) => a == b,
        (EventData::ApprovalRequested { request: a, .. }, EventData::ApprovalRequested { request: b, .. }) => a == b,
        (EventData::ChildStarted { call: a, .. }, EventData::ChildStarted { call: b, .. }) => a == b,
        (EventData::FetchStarted { method: a, url, .. }, EventData::FetchStarted { method: b, url: other, .. }) => {
            (a, url) == (b, other)
        }
        _ => false,
    }
}

/// A call in words: "`ship` (call 3)".
fn in_words(issue: &Event) -> String {
    let what = match &issue.data {
        EventData::StepStarted { call, .. } => format!("`{}`", call.step),
        EventData::PollStarted { check, .. } => format!("the poll of `{}`", check.step),
        EventData::ApprovalRequested { request, .. } => format!("the approval `{}`", request.title),
        EventData::SignalAwaited { name, .. } => format!("the wait for signal `{name}`"),
        EventData::FetchStarted { method, url, .. } => format!("the request {method} {url}"),
        EventData::ChildStarted { call, .. } => format!("workflow `{}`", call.workflow),
        EventData::AttributeSet { name, .. } => format!("the change of attribute `{name}`"),
        EventData::SleepStarted { .. } => "a sleep".to_owned(),
        EventData::CallRefused { .. } => "what a limit forbids".to_owned(),
        _ => issue.data.kind(),
    };
    let ordinal = issue.data.ordinal().unwrap_or(0);
    let name = CallName { scope: issue.scope.clone(), ordinal };
    format!("{what} (call {name})")
}
