//! The calls that an execution waits for in the order in which they matter to a person, and the first of them, which
//! lists show.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::open::{CallPhase, OpenCall};
use crate::{CallName, Failure, Json, Position, Scope, Timestamp, brief};

/// Longer names are cut where lists show them.
const NAME_LETTERS_MAX: usize = 100;

/// What an open call waits for. The kinds that matter most to a person come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WaitKind {
    /// A person.
    Approval,
    /// The next attempt of a step.
    Retry,
    /// A signal.
    Signal,
    /// The next check of a poll, or its value.
    Poll,
    /// The end of a child.
    Child,
    /// The execution's own beginning.
    Delay,
    /// The beginning of a child.
    Start,
    /// Time.
    Sleep,
    /// The answer to a request.
    Fetch,
    /// A step that runs.
    Step,
}

impl WaitKind {
    /// Every kind.
    const ALL: [Self; 10] = [
        Self::Approval,
        Self::Retry,
        Self::Signal,
        Self::Poll,
        Self::Child,
        Self::Delay,
        Self::Start,
        Self::Sleep,
        Self::Fetch,
        Self::Step,
    ];

    pub(crate) fn of(call: &OpenCall) -> Self {
        match &call.phase {
            CallPhase::Sleep { .. } => Self::Sleep,
            CallPhase::Step(step) if step.attempts.retry.is_some() => Self::Retry,
            CallPhase::Step(_) => Self::Step,
            CallPhase::Poll(_) => Self::Poll,
            CallPhase::Approval { .. } => Self::Approval,
            CallPhase::Signal { .. } => Self::Signal,
            CallPhase::Fetch { .. } => Self::Fetch,
            CallPhase::Child { awaited: true, .. } => Self::Child,
            CallPhase::Child { awaited: false, .. } => Self::Start,
        }
    }

    /// The kind with this word.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// The word that is sent and shown.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Approval => "approval",
            Self::Retry => "retry",
            Self::Signal => "signal",
            Self::Poll => "poll",
            Self::Child => "child",
            Self::Delay => "delay",
            Self::Start => "start",
            Self::Sleep => "sleep",
            Self::Fetch => "fetch",
            Self::Step => "step",
        }
    }

    /// The kinds that lists show.
    pub fn listed() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|kind| !kind.is_busy())
    }

    /// Whether the execution works while it waits for this. Such waits are short and many: lists do not show them.
    pub(crate) const fn is_busy(self) -> bool {
        matches!(self, Self::Start | Self::Fetch | Self::Step)
    }
}

impl fmt::Display for WaitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// A call that an execution waits for.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    /// What it waits for.
    pub kind: WaitKind,
    /// The name of the step, signal, child and so on.
    pub name: String,
    /// The call.
    pub call: CallName,
    /// When the call was issued.
    pub since: Timestamp,
    /// When the call ends, if time alone can end it.
    pub until: Option<Timestamp>,
    /// The attempts or checks so far, if they are counted.
    pub attempts: Option<u32>,
    /// The value of a poll's last check.
    pub last: Option<Json>,
}

impl Waiting {
    pub(crate) fn of(name: &CallName, call: &OpenCall) -> Self {
        let (what, attempts, last) = match &call.phase {
            CallPhase::Sleep { .. } => (String::new(), None, None),
            CallPhase::Step(open) => (open.step.call.step.clone(), Some(open.attempts.attempt), None),
            CallPhase::Poll(open) => (open.step.call.step.clone(), Some(open.round), open.last.clone()),
            CallPhase::Approval { title, .. } => (title.clone(), None, None),
            CallPhase::Signal { name, .. } => (name.clone(), None, None),
            CallPhase::Fetch { url } => (url.clone(), None, None),
            CallPhase::Child { id, .. } => (id.to_string(), None, None),
        };
        let (kind, until) = (WaitKind::of(call), until(call));
        Self { kind, name: what, call: name.clone(), since: call.since, until, attempts, last }
    }
}

/// When a call ends, if time alone can end it.
pub(crate) fn until(call: &OpenCall) -> Option<Timestamp> {
    match &call.phase {
        CallPhase::Sleep { until } => Some(*until),
        CallPhase::Step(open) => open.attempts.retry.as_ref().map(|(until, _)| *until),
        CallPhase::Poll(_) => call.due(),
        CallPhase::Approval { until, .. } | CallPhase::Signal { until, .. } => *until,
        CallPhase::Fetch { .. } | CallPhase::Child { .. } => None,
    }
}

/// What an execution waits for, in short: the wait that matters most to a person, and how many others there are. It is
/// stored beside the status, so that a list needs no open calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstWait {
    /// The position of the last event by then. A row with another position was written by an engine that does not
    /// derive this.
    pub at: Position,
    /// The word of a [`WaitKind`].
    pub kind: String,
    /// The name of the step, signal, child and so on, or its beginning.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The scope that waits.
    pub scope: Scope,
    /// When the call was issued.
    pub since: Timestamp,
    /// When the call ends, if time alone can end it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The attempts or checks so far, if they are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// The number of other calls that it waits for, without the steps and requests that are under way.
    #[serde(default)]
    pub others: u32,
}

/// Why an execution failed, in short. It is stored where an execution that is open has its first wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastFailure {
    /// The position of the last event by then, as in [`FirstWait`].
    pub at: Position,
    /// The failure, as lists show it.
    pub failure: Failure,
}

/// What the executions of a list wait for: a kind, and the name of the step, signal and so on if one is meant. It is written
/// `signal` or `signal:paid`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WaitFilter {
    /// One that lists show.
    pub kind: WaitKind,
    /// Any name if there is none.
    pub name: Option<String>,
}

impl WaitFilter {
    /// How each [`FirstWait`] that fits continues as JSON behind its position.
    #[must_use]
    pub fn stored(&self) -> String {
        let kind = format!(r#""kind":"{}""#, self.kind);
        match &self.name {
            Some(name) => format!(r#"{kind},"name":{}"#, Json::of(&brief(name, NAME_LETTERS_MAX))),
            None => kind,
        }
    }
}

impl fmt::Display for WaitFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{}:{name}", self.kind),
            None => self.kind.fmt(f),
        }
    }
}

impl From<WaitFilter> for String {
    fn from(filter: WaitFilter) -> Self {
        filter.to_string()
    }
}

impl TryFrom<String> for WaitFilter {
    type Error = UnknownWait;

    fn try_from(text: String) -> Result<Self, UnknownWait> {
        text.parse()
    }
}

impl FromStr for WaitFilter {
    type Err = UnknownWait;

    fn from_str(text: &str) -> Result<Self, UnknownWait> {
        let (kind, name) = text.split_once(':').map_or((text, None), |(kind, name)| (kind, Some(name)));
        let kind = WaitKind::of_word(kind).filter(|kind| !kind.is_busy()).ok_or(UnknownWait)?;
        Ok(Self { kind, name: name.filter(|name| !name.is_empty()).map(str::to_owned) })
    }
}

/// No execution of a list can wait for what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownWait;

impl fmt::Display for UnknownWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<_> = WaitKind::listed().map(WaitKind::word).collect();
        write!(f, "a wait is one of {}, or one with a name, as `signal:paid`", kinds.join(", "))
    }
}

impl std::error::Error for UnknownWait {}

impl LastFailure {
    /// How each failure of this kind continues as JSON behind its position.
    #[must_use]
    pub fn stored(kind: &str) -> String {
        format!(r#""failure":{{"kind":{}"#, Json::of(&kind))
    }
}

impl FirstWait {
    pub(crate) fn new(at: Position, wait: Waiting, others: usize) -> Self {
        let Waiting { kind, name, call, since, until, attempts, .. } = wait;
        let (kind, others) = (kind.word().to_owned(), u32::try_from(others).unwrap_or(u32::MAX));
        Self { at, kind, name: brief(&name, NAME_LETTERS_MAX), scope: call.scope, since, until, attempts, others }
    }

    /// The wait of an execution whose start is delayed.
    pub(crate) fn delay(at: Position, since: Timestamp, until: Timestamp) -> Self {
        let (kind, scope) = (WaitKind::Delay.word().to_owned(), Scope::root());
        Self { at, kind, name: String::new(), scope, since, until: Some(until), attempts: None, others: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_finds_the_waits_and_failures_that_it_means_and_no_others() {
        let position = Position(7);
        let wait = |kind: WaitKind, name: &str| FirstWait {
            at: position,
            kind: kind.word().to_owned(),
            name: brief(name, NAME_LETTERS_MAX),
            scope: Scope::root(),
            since: Timestamp(1),
            until: None,
            attempts: None,
            others: 0,
        };
        let long = "ü".repeat(NAME_LETTERS_MAX + 1);
        let waits = [
            wait(WaitKind::Signal, "paid"),
            wait(WaitKind::Signal, "paid\",\"scope"),
            wait(WaitKind::Signal, &long),
            wait(WaitKind::Sleep, ""),
        ];
        let found = |filter: &str| {
            let beginning = format!(r#"{{"at":7,{}"#, filter.parse::<WaitFilter>().unwrap().stored());
            waits.each_ref().map(|wait| Json::of(wait).as_str().starts_with(&beginning))
        };
        assert_eq!(found("signal"), [true, true, true, false]);
        assert_eq!(found("signal:"), found("signal"));
        assert_eq!(found("signal:paid"), [true, false, false, false]);
        assert_eq!(found("signal:paid\",\"scope"), [false, true, false, false]);
        assert_eq!(found(&format!("signal:{long}")), [false, false, true, false]);
        assert_eq!(found("sleep"), [false, false, false, true]);
        assert_eq!(found("approval"), [false; 4]);
        for wrong in ["", "signals", "step", "fetch", ":paid"] {
            assert_eq!(wrong.parse::<WaitFilter>(), Err(UnknownWait), "{wrong}");
        }
        assert!(
            UnknownWait.to_string().starts_with("a wait is one of approval, retry, signal, poll, child, delay, sleep,")
        );
        let failure = |kind| Json::of(&LastFailure { at: position, failure: Failure::new(kind, "no") }).to_string();
        let beginning = format!(r#"{{"at":7,{}"#, LastFailure::stored("http"));
        assert_eq!(["http", "http-status"].map(|kind| failure(kind).starts_with(&beginning)), [true, false]);
    }
}
