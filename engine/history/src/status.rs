//! How an execution looks from outside, derived from its open calls and its history (L20).

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::event::{Event, EventData};
use crate::open::{CallPhase, OpenCall};
use crate::waits::{WaitKind, Waiting};
use crate::{CallName, Failure, Json, Scope, StepCall, Timestamp, brief};

/// The number of letters of a step's input that are shown, to distinguish calls of the same step.
const PREVIEW_LETTERS_MAX: usize = 80;

/// The status of an execution or of a step. Its word is the same in rows, on the wire, in JSON and on the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum Status {
    /// Code runs, or a step or request is under way.
    Running,
    /// Only time has to pass.
    Sleeping,
    /// A person is asked.
    WaitingForApproval,
    /// A signal, a child, a retry, the next round of a poll or a delayed start is awaited.
    Waiting,
    /// A client paused it.
    Paused,
    /// A person has to look at it.
    Parked,
    /// It returned.
    Completed,
    /// It failed.
    Failed,
    /// It was cancelled or terminated.
    Cancelled,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 9] = [
        Self::Running,
        Self::Sleeping,
        Self::WaitingForApproval,
        Self::Waiting,
        Self::Paused,
        Self::Parked,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The word that is stored, sent and shown.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Sleeping => "sleeping",
            Self::WaitingForApproval => "waiting-for-approval",
            Self::Waiting => "waiting",
            Self::Paused => "paused",
            Self::Parked => "parked",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether it has ended.
    #[must_use]
    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// A text is not the word of any [`Status`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownStatus;

impl fmt::Display for UnknownStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a status is one of ")?;
        f.write_str(&Status::ALL.map(Status::word).join(", "))
    }
}

impl std::error::Error for UnknownStatus {}

impl From<Status> for &'static str {
    fn from(status: Status) -> Self {
        status.word()
    }
}

impl TryFrom<String> for Status {
    type Error = UnknownStatus;

    fn try_from(word: String) -> Result<Self, UnknownStatus> {
        word.parse()
    }
}

impl FromStr for Status {
    type Err = UnknownStatus;

    fn from_str(word: &str) -> Result<Self, UnknownStatus> {
        Self::ALL.into_iter().find(|status| status.word() == word).ok_or(UnknownStatus)
    }
}

/// The class in which an open call counts for the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Approval,
    /// A step or a request that is under way.
    Busy,
    Sleep,
    Other,
}

impl Class {
    pub(crate) const fn of(kind: WaitKind) -> Self {
        match kind {
            WaitKind::Approval => Self::Approval,
            WaitKind::Step | WaitKind::Fetch => Self::Busy,
            WaitKind::Sleep => Self::Sleep,
            WaitKind::Retry
            | WaitKind::Poll
            | WaitKind::Signal
            | WaitKind::Child
            | WaitKind::Start
            | WaitKind::Delay => Self::Other,
        }
    }
}

/// How many of the calls that an execution waits for belong to each class.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    approvals: usize,
    busy: usize,
    sleeps: usize,
    others: usize,
}

impl Counts {
    pub(crate) fn of(&mut self, class: Class) -> &mut usize {
        match class {
            Class::Approval => &mut self.approvals,
            Class::Busy => &mut self.busy,
            Class::Sleep => &mut self.sleeps,
            Class::Other => &mut self.others,
        }
    }

    /// The status of an execution that waits for these calls: that of the most specific one, or running if it waits for
    /// none.
    pub(crate) fn status(&self) -> Status {
        if self.approvals > 0 {
            Status::WaitingForApproval
        } else if self.busy > 0 || self.sleeps + self.others == 0 {
            Status::Running
        } else if self.sleeps > 0 {
            Status::Sleeping
        } else {
            Status::Waiting
        }
    }
}

/// The open calls, without the steps and polls that wait for a call of their own.
fn leaves(open: &BTreeMap<CallName, OpenCall>) -> impl Iterator<Item = (&CallName, &OpenCall)> {
    let inner: std::collections::HashSet<CallName> = open.keys().filter_map(|name| name.scope.call()).collect();
    open.iter().filter(move |(name, call)| !inner.contains(name) || !call.is_running())
}

/// The calls that an execution waits for: its open calls, without the steps and polls that wait for a call of their
/// own.
#[must_use]
pub fn waiting_on(open: &BTreeMap<CallName, OpenCall>) -> Vec<Waiting> {
    let mut waiting: Vec<Waiting> = leaves(open).map(|(name, call)| Waiting::of(name, call)).collect();
    waiting.sort_by_key(|waiting| (waiting.since, waiting.call.clone()));
    waiting
}

/// One step call as the history shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct StepLine {
    /// The step's name.
    pub name: String,
    /// The call.
    pub call: CallName,
    /// The beginning of the input.
    pub input_preview: String,
    /// Running, waiting, completed, failed or cancelled.
    pub status: Status,
    /// The attempt, from 1.
    pub attempt: u32,
    /// When it was called.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// The output, unless it was dropped.
    pub output: Option<Json>,
    /// The failure of the step or of its last attempt.
    pub failure: Option<Failure>,
}

/// The step calls and polls of a history in the order of their start. If the beginning of the history is missing, calls
/// that have been open since then are listed all the same.
#[must_use]
pub fn steps(history: &[Event], open: &BTreeMap<CallName, OpenCall>) -> Vec<StepLine> {
    let mut lines: Vec<StepLine> = Vec::new();
    let mut index: HashMap<CallName, usize> = HashMap::new();
    for event in history {
        let Some(ordinal) = event.data.ordinal() else { continue };
        let call = CallName { scope: event.scope.clone(), ordinal };
        if let EventData::StepStarted { call: step, .. } | EventData::PollStarted { check: step, .. } = &event.data {
            index.insert(call.clone(), lines.len());
            lines.push(StepLine::begun(call, step, event.at));
        } else if let Some(line) = index.get(&call).map(|at| &mut lines[*at]) {
            line.follow(event);
        }
    }
    let unseen = open.iter().filter(|(name, _)| !index.contains_key(name));
    let begun = |(name, call): (&CallName, &OpenCall)| {
        Some(StepLine::begun(name.clone(), &call.phase.step()?.call, call.since))
    };
    let mut earlier: Vec<StepLine> = unseen.filter_map(begun).collect();
    earlier.sort_by_key(|line| (line.started_at, line.call.clone()));
    lines.splice(0..0, earlier);
    let waiting = waiting_on(open);
    for line in lines.iter_mut().filter(|line| line.ended_at.is_none()) {
        line.stands(open.get(&line.call.clone()), &waiting);
    }
    lines
}

impl StepLine {
    fn begun(call: CallName, step: &StepCall, at: Timestamp) -> Self {
        Self {
            name: step.step.clone(),
            call,
            input_preview: brief(step.input.as_str(), PREVIEW_LETTERS_MAX),
            status: Status::Running,
            attempt: 1,
            started_at: at,
            ended_at: None,
            output: None,
            failure: None,
        }
    }

    fn follow(&mut self, event: &Event) {
        let (status, output, failure) = match &event.data {
            EventData::StepCompleted { output, .. } => (Status::Completed, output.clone(), None),
            EventData::PollCompleted { value, attempts, .. } => {
                self.attempt = *attempts;
                (Status::Completed, value.clone(), None)
            }
            EventData::StepFailed { failure, attempt, .. } => {
                self.attempt = *attempt;
                (Status::Failed, None, Some(failure.clone()))
            }
            EventData::PollFailed { failure, attempts, .. } => {
                self.attempt = *attempts;
                (Status::Failed, None, Some(failure.clone()))
            }
            EventData::CallCancelled { .. } => (Status::Cancelled, None, None),
            EventData::StepRetried { attempt, failure, .. } => {
                self.attempt = attempt + 1;
                self.failure = Some(failure.clone());
                return;
            }
            _ => return,
        };
        (self.status, self.output, self.ended_at) = (status, output, Some(event.at));
        self.failure = failure;
    }

    fn stands(&mut self, call: Option<&OpenCall>, waiting: &[Waiting]) {
        match call.map(|call| &call.phase) {
            Some(CallPhase::Step(open)) => self.attempt = open.attempts.attempt,
            Some(CallPhase::Poll(open)) => self.attempt = open.round,
            _ => {}
        }
        let scope: Scope = self.call.step_scope();
        let idle = |of: &Waiting| !matches!(of.kind, WaitKind::Fetch | WaitKind::Step);
        let mine = |of: &&Waiting| of.call == self.call || of.call.scope.is_within(&scope);
        if waiting.iter().filter(mine).any(idle) {
            self.status = Status::Waiting;
        }
    }
}
