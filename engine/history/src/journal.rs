//! The part of a history that belongs to one scope, with a cursor: the calls that the guest must make again, and the
//! outcome that it is told next.
//!
//! Live execution and replay are the same loop: an outcome that arrives now is queued behind those that were recorded
//! earlier.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use thiserror::Error;

use crate::event::{Cause, Event, EventData};
use crate::limits::FLAT_BYTES;
use crate::size::Weight;
use crate::{Call, Delivery, Failure, Json, Outcome, Request, Timestamp, brief, kind};

/// Of a call that does not match, so many letters are told.
const CALL_LETTERS_MAX: usize = 300;

/// A rerun did something other than what was recorded. The execution is parked with this text.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "the rerun diverged from the history in scope `{scope}` at call {ordinal}:\n  expected {expected}\n  actual   {actual}"
)]
pub struct NonDeterminism {
    /// The scope in which it happened.
    pub scope: String,
    /// The ordinal of the call at which it happened.
    pub ordinal: u32,
    /// The recorded behaviour.
    pub expected: String,
    /// The guest's behaviour.
    pub actual: String,
}

/// An outcome that waits to be delivered.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    pub(crate) ordinal: u32,
    pub(crate) outcome: Outcome,
    pub(crate) at: Timestamp,
    /// Where the outcome was recorded.
    pub(crate) place: u64,
    /// The LSN that has to be durable before the delivery.
    pub(crate) lsn: u64,
}

/// The journal of one scope whose guest is in memory.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    /// Recorded calls that the guest has not made again yet, in order.
    expected: VecDeque<EventData>,
    /// Calls that the guest dropped according to the record, and has not dropped again yet.
    drops: HashSet<u32>,
    /// Outcomes that were recorded and have not been delivered yet, in order.
    pending: VecDeque<Pending>,
    /// The calls of the pending outcomes, without the unwanted ones.
    untold: HashSet<u32>,
    /// Calls whose outcome the guest no longer wants.
    unwanted: HashSet<u32>,
    /// The highest ordinal of the calls that the guest has made.
    pub(crate) asked: u32,
    /// Whether the guest is quiescent and all of its requests were taken.
    pub(crate) is_quiescent: bool,
    /// The attempt of the step.
    pub(crate) attempt: u32,
    /// Where the last outcome that the guest was told was recorded, or the place at which this journal begins.
    pub(crate) told: u64,
    /// The number of log lines since then.
    pub(crate) lines: u32,
    /// Whether a call of this scope was ever reopened.
    pub(crate) reopened: bool,
    /// Whether the guest was told everything there was, and has done what it could with it.
    at_rest: bool,
    /// Where the last thing was recorded before this guest began, or none if nothing was.
    recorded_to: Option<u64>,
    /// Bytes of the expected calls and the pending outcomes.
    weight: Weight,
}

impl Journal {
    /// The journal that these events of one scope make, for a guest that starts over behind the place `told`.
    pub(crate) fn of<'a>(attempt: u32, told: u64, events: impl IntoIterator<Item = Recorded<'a>>) -> Self {
        let mut journal = Self { attempt, told, ..Self::default() };
        let mut recorded: Vec<Recorded<'_>> = Vec::new();
        for (event, place, lsn) in events {
            match &event.data {
                EventData::ExecutionReopened { ordinal } => {
                    reopen(&mut recorded, *ordinal, place);
                    journal.reopened = true;
                }
                _ => recorded.push((event, place, lsn)),
            }
        }
        let issued = recorded.iter().filter(|(event, place, _)| event.data.is_issue() && *place != ISSUED_ANEW);
        let mut issues: Vec<&EventData> = issued.clone().map(|(event, ..)| &event.data).collect();
        issues.sort_by_key(|data| data.ordinal());
        journal.expected = issues.into_iter().cloned().collect();
        journal.weight.add(journal.expected.iter().map(EventData::weight).sum());
        let marks: HashMap<u32, u64> = recorded
            .iter()
            .filter_map(|(event, _, lsn)| {
                Some((event.data.ordinal()?, *lsn)).filter(|_| *lsn > 0 && event.data.is_issue())
            })
            .collect();
        for (event, place, _) in recorded {
            if let EventData::CallCancelled { ordinal, cause: Cause::Dropped } = event.data {
                journal.drops.insert(ordinal);
            } else if let Some((ordinal, outcome)) = event.data.outcome() {
                let begun = if event.data.ends_a_wait() { marks.get(&ordinal).copied() } else { None };
                let lsn = begun.unwrap_or(0);
                journal.arrive(Pending { ordinal, outcome, at: event.at, place, lsn });
            }
        }
        let is_new = journal.expected.is_empty() && journal.pending.is_empty();
        journal.recorded_to = (!is_new).then(|| journal.pending.back().map_or(told, |last| last.place));
        journal
    }

    /// Whether the guest's reaction to the last outcome it was told may repeat what an earlier guest already did.
    pub(crate) fn is_repeating(&self) -> bool {
        self.recorded_to.is_some_and(|to| self.told <= to)
    }

    /// From now on counts the journal's bytes in this sum.
    pub(crate) fn weigh_in(&mut self, sum: &Arc<AtomicU64>) {
        self.weight.move_to(sum);
    }

    /// Whether the guest is quiescent and only something new can move it.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.at_rest && !self.has_pending()
    }

    /// Notes that the quiescent guest was told everything there is.
    pub(crate) fn rest(&mut self) {
        self.at_rest = true;
    }

    /// Whether the guest is still repeating recorded calls.
    pub(crate) fn is_replaying(&self) -> bool {
        !self.expected.is_empty()
    }

    /// Whether this call of the guest is the next recorded one.
    pub(crate) fn records(&self, ordinal: u32) -> bool {
        self.expected.front().and_then(EventData::ordinal) == Some(ordinal)
    }

    /// Whether the guest has an outcome coming.
    pub(crate) fn has_pending(&self) -> bool {
        !self.untold.is_empty()
    }

    /// Queues an outcome behind the others.
    pub(crate) fn arrive(&mut self, pending: Pending) {
        self.weight.add(pending.outcome.weight());
        if !self.unwanted.contains(&pending.ordinal) {
            self.untold.insert(pending.ordinal);
        }
        self.pending.push_back(pending);
    }

    /// Matches a request with the next recorded call. Returns `true` if it was recorded before.
    pub(crate) fn repeats(&mut self, scope: &str, request: &Request) -> Result<bool, NonDeterminism> {
        let (Request::Call(ordinal, _) | Request::SetAttribute(ordinal, ..)) = request else { return Ok(false) };
        self.asked = self.asked.max(*ordinal);
        // A call with a smaller ordinal than the next recorded one was reopened: it is issued anew.
        let Some(data) = self.expected.front().filter(|data| data.ordinal() <= Some(*ordinal)) else {
            return Ok(false);
        };
        let same = match request {
            Request::Call(ordinal, call) => data.is_issue_of(*ordinal, call),
            Request::SetAttribute(ordinal, name, value) => {
                matches!(data, EventData::AttributeSet { ordinal: o, name: n, value: v } if (o, n, v) == (ordinal, name, value))
            }
            Request::Drop(_) | Request::Log(..) | Request::Progress(..) => false,
        };
        if !same {
            return Err(self.diverged(scope, &Described(request).to_string()));
        }
        let bytes = self.expected.pop_front().map_or(0, |data| data.weight());
        self.weight.sub(bytes);
        Ok(true)
    }

    /// Handles the drop of a call by the guest. Returns `true` if there is nothing left to record about it.
    pub(crate) fn drops(&mut self, ordinal: u32) -> bool {
        self.unwanted.insert(ordinal);
        let has_come = self.untold.remove(&ordinal);
        self.drops.remove(&ordinal) || has_come
    }

    /// The LSN that has to be durable before the next outcome can be told, or none if no outcome is pending.
    pub(crate) fn blocking_lsn(&self) -> Option<u64> {
        self.next_wanted().map(|pending| pending.lsn)
    }

    /// The next outcome, without those of calls that the guest has dropped.
    fn next_wanted(&self) -> Option<&Pending> {
        self.pending.iter().find(|pending| !self.unwanted.contains(&pending.ordinal))
    }

    /// The next outcome that the guest wants, if its LSN is durable.
    pub(crate) fn next(&mut self, durable: u64) -> Option<Delivery> {
        while self.pending.front().is_some_and(|pending| self.unwanted.contains(&pending.ordinal)) {
            let bytes = self.pending.pop_front().map_or(0, |pending| pending.outcome.weight());
            self.weight.sub(bytes);
        }
        let pending = self.pending.pop_front_if(|pending| pending.lsn <= durable)?;
        self.untold.remove(&pending.ordinal);
        self.weight.sub(pending.outcome.weight());
        (self.told, self.lines) = (pending.place, 0);
        self.at_rest = false;
        Some(Delivery { ordinal: pending.ordinal, outcome: pending.outcome, clock: pending.at })
    }

    /// Checks that the quiescent guest made the call whose outcome comes next: a quiescent guest makes no more calls
    /// before it is told something.
    pub(crate) fn check_made(&self, scope: &str) -> Result<(), NonDeterminism> {
        match self.is_replaying() && self.next_wanted().is_some_and(|pending| pending.ordinal > self.asked) {
            true => Err(self.diverged(scope, WAITS)),
            false => Ok(()),
        }
    }

    /// Checks that the guest repeated everything. It must have done so once it has ended, or is quiescent with no
    /// outcome coming.
    pub(crate) fn check_complete(&self, scope: &str, did: &str) -> Result<(), NonDeterminism> {
        if self.is_replaying() || !self.drops.is_empty() { Err(self.diverged(scope, did)) } else { Ok(()) }
    }

    fn diverged(&self, scope: &str, actual: &str) -> NonDeterminism {
        let (ordinal, expected) = match (self.expected.front(), self.drops.iter().min()) {
            (Some(data), _) => (data.ordinal().unwrap_or(0), format!("{} {}", data.kind(), data.fields())),
            (None, Some(ordinal)) => (*ordinal, "this call to be dropped".to_owned()),
            (None, None) => (0, "nothing more".to_owned()),
        };
        NonDeterminism {
            scope: scope.to_owned(),
            ordinal,
            expected: brief(&expected, CALL_LETTERS_MAX),
            actual: brief(actual, CALL_LETTERS_MAX),
        }
    }
}

/// An event, the place where it was recorded, and an LSN: if the event begins a wait, this LSN has to be durable before
/// the end of the wait may be told (L8). The LSN is 0 if the event is already durable.
pub(crate) type Recorded<'a> = (&'a Event, u64, u64);

/// The place of an event that is numbered on its own behind a position: an event in a poll's own journal, or one that
/// is told anew after a reopening. No journal has more events than the lower bits can count.
pub(crate) const fn place_behind(position: u64, number: u64) -> u64 {
    (position << 32) | (number & 0xffff_ffff)
}

/// The text for a quiescent guest that waits instead of repeating a call.
pub(crate) const WAITS: &str = "the guest waits for something else";

/// The ordinal of the call that an event ended, if it ended one.
fn ends(event: &Event) -> Option<u32> {
    match event.data {
        EventData::CallCancelled { ordinal, .. } => Some(ordinal),
        _ => event.data.outcome().map(|(ordinal, _)| ordinal),
    }
}

/// The place of a call that was cut off and is issued anew. The call still counts among those that were issued by then.
pub(crate) const ISSUED_ANEW: u64 = u64::MAX;

/// Forgets the last outcome of this call and what followed its delivery, as [`EventData::ExecutionReopened`] says.
///
/// Calls that were open at that time and ended on their own keep their outcomes, as if the reopened call had only taken
/// longer: a step that completed does not run again. Calls that were cancelled because of the failure are issued anew.
/// The kept outcomes are now told at a later point than before, so they get places behind that of the reopening.
pub(crate) fn reopen(recorded: &mut Vec<Recorded<'_>>, ordinal: u32, reopening: u64) {
    let outcome = recorded.iter().rposition(|(event, ..)| ends(event) == Some(ordinal));
    let after = recorded.split_off(outcome.unwrap_or(recorded.len()));
    recorded.retain(|(event, ..)| !matches!(event.data, EventData::CallCancelled { cause: Cause::ScopeEnded, .. }));
    let issues = recorded.iter().filter(|(event, ..)| event.data.is_issue());
    let before = recorded.len();
    // Ordinals have no gaps: a call up to this ordinal was made before, even if it was reopened and recorded again
    // later.
    let asked = issues.filter_map(|(event, ..)| event.data.ordinal()).max();
    recorded.extend(after.into_iter().filter(|(event, ..)| {
        let is_own = !matches!(event.data, EventData::CallCancelled { .. });
        let of = if event.data.is_issue() { event.data.ordinal() } else { ends(event).filter(|of| *of != ordinal) };
        is_own && of.is_some() && of <= asked
    }));
    for (_, place, _) in recorded[before..].iter_mut().filter(|(_, place, _)| *place != ISSUED_ANEW) {
        *place = place_behind(reopening, *place);
    }
    let ended: HashSet<u32> = recorded.iter().filter_map(|(event, ..)| ends(event)).collect();
    for (event, place, _) in recorded {
        let is_lasting = matches!(event.data, EventData::AttributeSet { .. });
        if event.data.is_issue() && !is_lasting && event.data.ordinal().is_some_and(|of| !ended.contains(&of)) {
            *place = ISSUED_ANEW;
        }
    }
}

struct Described<'a>(&'a Request);

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Request::Call(ordinal, call) => write!(f, "call {ordinal}, {call:?}"),
            other => write!(f, "{other:?}"),
        }
    }
}

impl EventData {
    /// Whether this records a request of a guest: a call, or something else that takes an ordinal.
    pub(crate) fn is_issue(&self) -> bool {
        match self {
            Self::StepStarted { .. }
            | Self::SleepStarted { .. }
            | Self::PollStarted { .. }
            | Self::ApprovalRequested { .. }
            | Self::SignalAwaited { .. }
            | Self::FetchStarted { .. }
            | Self::ChildStarted { .. }
            | Self::AttributeSet { .. }
            | Self::CallRefused { .. } => true,
            Self::ExecutionStarted { .. }
            | Self::ExecutionCompleted { .. }
            | Self::ExecutionFailed { .. }
            | Self::ExecutionCancelled { .. }
            | Self::ExecutionContinued { .. }
            | Self::CancelRequested { .. }
            | Self::ExecutionPaused
            | Self::ExecutionResumed
            | Self::ExecutionReopened { .. }
            | Self::ExecutionParked { .. }
            | Self::StepRetried { .. }
            | Self::StepCompleted { .. }
            | Self::StepFailed { .. }
            | Self::SleepCompleted { .. }
            | Self::PollCompleted { .. }
            | Self::PollFailed { .. }
            | Self::ApprovalReceived { .. }
            | Self::ApprovalRejected { .. }
            | Self::ApprovalTimedOut { .. }
            | Self::SignalReceived { .. }
            | Self::SignalTimedOut { .. }
            | Self::FetchCompleted { .. }
            | Self::FetchFailed { .. }
            | Self::ChildAccepted { .. }
            | Self::ChildCompleted { .. }
            | Self::ChildFailed { .. }
            | Self::CallCancelled { .. } => false,
        }
    }

    /// Whether this ends a wait whose start has to be durable before its end is told (L8).
    fn ends_a_wait(&self) -> bool {
        matches!(
            self,
            Self::SleepCompleted { .. }
                | Self::ApprovalReceived { .. }
                | Self::ApprovalRejected { .. }
                | Self::ApprovalTimedOut { .. }
                | Self::SignalReceived { .. }
                | Self::SignalTimedOut { .. }
        )
    }

    /// The ordinal of the call that this event is about.
    #[must_use]
    pub fn ordinal(&self) -> Option<u32> {
        match self {
            Self::StepStarted { ordinal, .. }
            | Self::StepRetried { ordinal, .. }
            | Self::StepCompleted { ordinal, .. }
            | Self::StepFailed { ordinal, .. }
            | Self::SleepStarted { ordinal, .. }
            | Self::SleepCompleted { ordinal }
            | Self::PollStarted { ordinal, .. }
            | Self::PollCompleted { ordinal, .. }
            | Self::PollFailed { ordinal, .. }
            | Self::ApprovalRequested { ordinal, .. }
            | Self::ApprovalReceived { ordinal, .. }
            | Self::ApprovalRejected { ordinal, .. }
            | Self::ApprovalTimedOut { ordinal }
            | Self::SignalAwaited { ordinal, .. }
            | Self::SignalReceived { ordinal, .. }
            | Self::SignalTimedOut { ordinal }
            | Self::FetchStarted { ordinal, .. }
            | Self::FetchCompleted { ordinal, .. }
            | Self::FetchFailed { ordinal, .. }
            | Self::ChildStarted { ordinal, .. }
            | Self::ChildAccepted { ordinal, .. }
            | Self::ChildCompleted { ordinal, .. }
            | Self::ChildFailed { ordinal, .. }
            | Self::AttributeSet { ordinal, .. }
            | Self::ExecutionReopened { ordinal }
            | Self::CallCancelled { ordinal, .. }
            | Self::CallRefused { ordinal, .. } => Some(*ordinal),
            Self::ExecutionStarted { .. }
            | Self::ExecutionCompleted { .. }
            | Self::ExecutionFailed { .. }
            | Self::ExecutionCancelled { .. }
            | Self::ExecutionContinued { .. }
            | Self::CancelRequested { .. }
            | Self::ExecutionPaused
            | Self::ExecutionResumed
            | Self::ExecutionParked { .. } => None,
        }
    }

    /// Whether this event records that call under this ordinal.
    fn is_issue_of(&self, ordinal: u32, call: &Call) -> bool {
        if self.ordinal() != Some(ordinal) {
            return false;
        }
        match (self, call) {
            (Self::SleepStarted { duration_ms, .. }, Call::Sleep { duration_ms: asked }) => duration_ms == asked,
            (Self::StepStarted { call, .. }, Call::Step(asked, _)) => call == asked,
            (Self::PollStarted { check, policy, .. }, Call::Poll(asked, asked_policy)) => {
                check == asked && policy == asked_policy
            }
            (Self::ApprovalRequested { request, .. }, Call::Approval(asked)) => request == asked,
            (Self::SignalAwaited { name, timeout_ms, .. }, Call::Signal { name: asked, timeout_ms: asked_timeout }) => {
                name == asked && timeout_ms == asked_timeout
            }
            (Self::FetchStarted { digest, .. }, Call::Fetch(asked)) => *digest == asked.digest(),
            (Self::ChildStarted { call, awaited, .. }, Call::RunWorkflow(asked)) => call == asked && *awaited,
            (Self::ChildStarted { call, awaited, .. }, Call::StartWorkflow(asked)) => call == asked && !*awaited,
            (Self::CallRefused { digest, .. }, asked) => *digest == asked.digest(),
            _ => false,
        }
    }

    /// The outcome that this event tells a guest, with the ordinal of its call.
    pub(crate) fn outcome(&self) -> Option<(u32, Outcome)> {
        let value = |value: &Option<Json>| Outcome::Value(value.clone().unwrap_or_else(Json::null));
        Some(match self {
            Self::SleepCompleted { ordinal } => (*ordinal, Outcome::Slept),
            Self::StepCompleted { ordinal, output } => (*ordinal, value(output)),
            Self::PollCompleted { ordinal, value: v, .. } => (*ordinal, value(v)),
            Self::SignalReceived { ordinal, data } => (*ordinal, value(data)),
            Self::ChildCompleted { ordinal, output } => (*ordinal, value(output)),
            Self::ChildAccepted { ordinal, id } => (*ordinal, Outcome::Started(id.clone())),
            Self::ApprovalReceived { ordinal, approval } => (*ordinal, Outcome::Approved(approval.clone())),
            Self::FetchCompleted { ordinal, response, .. } => (*ordinal, Outcome::Responded(response.clone()?)),
            Self::StepFailed { ordinal, failure, .. }
            | Self::PollFailed { ordinal, failure, .. }
            | Self::FetchFailed { ordinal, failure }
            | Self::ChildFailed { ordinal, failure }
            | Self::CallRefused { ordinal, failure, .. } => (*ordinal, Outcome::Failed(failure.clone())),
            Self::ApprovalRejected { ordinal, by, reason } => {
                (*ordinal, failed(kind::REJECTED, &format!("rejected by {by}: {reason}")))
            }
            Self::ApprovalTimedOut { ordinal } => (*ordinal, failed(kind::APPROVAL_TIMEOUT, "nobody answered in time")),
            Self::SignalTimedOut { ordinal } => (*ordinal, failed(kind::TIMEOUT, "the signal did not come in time")),
            Self::CallCancelled { ordinal, cause: Cause::Requested } => {
                (*ordinal, failed(kind::CANCELLED, "the execution was cancelled"))
            }
            _ => return None,
        })
    }
}

impl Outcome {
    /// About how many bytes the outcome takes.
    pub(crate) fn weight(&self) -> u64 {
        let texts = match self {
            Self::Slept => 0,
            Self::Value(value) => value.as_str().len(),
            Self::Approved(approval) => approval.data.as_str().len(),
            Self::Responded(response) => response.weight(),
            Self::Started(id) => id.as_str().len(),
            Self::Failed(failure) => failure.weight(),
        };
        texts as u64 + FLAT_BYTES
    }
}

fn failed(kind: &str, message: &str) -> Outcome {
    Outcome::Failed(Failure::new(kind, message))
}
