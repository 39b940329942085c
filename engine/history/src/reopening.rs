//! Which call of a failed execution can be opened again, and whether that is safe.

mod steps;

use std::collections::HashMap;

use crate::event::{Event, EventData};
use crate::journal::{ISSUED_ANEW, Recorded, reopen};
use crate::{CallName, Execution, Failure, Moment, Outcome, kind};
use steps::{StepScopes, WentOn};

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
        /// The call that would be opened again, or 0 as in [`Reopening::Safe`].
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
/// nothing in response to it. It is unsafe if the workflow issued any call afterwards (a compensation, say). Calls that
/// were issued before the failure are harmless, whatever became of them since: they keep their outcomes, or are issued
/// again if they were cut off. In particular, a signal or an approval that timed out has timed out for good: a workflow
/// that took its timeout for an ordinary branch goes on in that branch.
///
/// Steps start over: the one that is opened again, and those that were cut off. That is unsafe if such a step went on
/// after a failure of its own; the rule is in `reopening/steps.rs`.
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
    let inside = StepScopes::of(history);
    match end.kind.as_str() {
        kind::DEADLINE if !has_the_very => {
            let later = started_over(&recorded, 0, &inside);
            return later.map_or(Reopening::Safe(0), |later| harmful(0, later));
        }
        kind::HISTORY_LIMIT | kind::CALL_LIMIT | kind::ATTRIBUTE_LIMIT if !has_the_very => return Reopening::Nothing,
        _ => {}
    }
    let candidates = failures.iter().filter(|failed| !has_the_very || is_the_very(failed));
    let judged = candidates.map(|failed| {
        let later = failed.later.map(|event| (failed.issue(&recorded), event));
        (failed.ordinal, later.or_else(|| started_over(&recorded, failed.ordinal, &inside)))
    });
    let times = |ordinal: u32| reopened.get(&ordinal).copied().unwrap_or(0);
    match judged.min_by_key(|(ordinal, later)| (later.is_some(), times(*ordinal))) {
        None => Reopening::Nothing,
        Some((call, None)) => Reopening::Safe(call),
        Some((call, Some(later))) => harmful(call, later),
    }
}

fn harmful(call: u32, (failed, later): WentOn<'_>) -> Reopening {
    Reopening::Unsafe { call, failed: in_words(failed), later: in_words(later) }
}

/// What a step did after a failure of its own, if reopening this call would start such a step over.
fn started_over<'a>(recorded: &[Recorded<'a>], call: u32, inside: &StepScopes<'a>) -> Option<WentOn<'a>> {
    // Most histories have no such step, and need no second look.
    if inside.are_harmless() {
        return None;
    }
    let mut again = recorded.to_vec();
    reopen(&mut again, call, 0);
    let mut anew = again.iter().filter(|(_, place, _)| *place == ISSUED_ANEW);
    anew.find_map(|(event, ..)| inside.went_on(event.data.ordinal()?))
}

/// The call that a forced request opens again, see [`reopening`].
#[must_use]
pub fn failed_call(history: &[Event]) -> Option<u32> {
    reopening(history).call(ReopenMode::Forced)
}

/// A call of the workflow that failed.
struct Failed<'a> {
    ordinal: u32,
    /// The event of the failure.
    event: &'a Event,
    failure: Failure,
    /// The first call that the workflow issued afterwards.
    later: Option<&'a Event>,
}

impl<'a> Failed<'a> {
    /// The event that issued the call. A history that lacks it is damaged, and the failure has to do instead.
    fn issue(&self, recorded: &[Recorded<'a>]) -> &'a Event {
        let is_issue = |event: &Event| event.data.is_issue() && event.data.ordinal() == Some(self.ordinal);
        recorded.iter().map(|(event, ..)| *event).find(|event| is_issue(event)).unwrap_or(self.event)
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
            failures.push(Failed { ordinal, event, failure, later: None });
        }
    }
    failures.into_iter().rev()
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
