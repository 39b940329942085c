//! Open calls, which an execution waits for. They are stored beside its history (L13).

use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::limits::FLAT_BYTES;
use crate::{
    CallName, Digest, ExecutionId, Failure, Json, PollPolicy, RetryPolicy, Scope, StepCall, StepOptions, Timestamp,
};

/// A call that has no outcome yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenCall {
    /// When it was issued.
    pub since: Timestamp,
    /// The state of the call.
    pub phase: CallPhase,
    /// The LSN that has to be durable before the outcome may be delivered. It is not stored, because everything that
    /// was read from the store is durable.
    #[serde(skip)]
    pub(crate) lsn: u64,
    /// Bytes of the arguments and the journal.
    #[serde(skip)]
    pub(crate) bytes: u64,
}

/// The state of an open call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum CallPhase {
    /// A sleep.
    Sleep {
        /// When the sleep is over.
        until: Timestamp,
    },
    /// A step.
    Step(Box<OpenStep>),
    /// A host-driven poll.
    Poll(Box<OpenPoll>),
    /// A question to a person.
    Approval {
        /// The question's id.
        id: String,
        /// The title of the question, for `waiting_on`.
        title: String,
        /// When the question times out.
        until: Option<Timestamp>,
    },
    /// A signal.
    Signal {
        /// The signal's name.
        name: String,
        /// When the wait times out.
        until: Option<Timestamp>,
    },
    /// An HTTP request. The guest makes it again when it is rerun.
    Fetch {
        /// The URL, for `waiting_on`.
        url: String,
    },
    /// Another execution.
    Child {
        /// The other execution's id.
        id: ExecutionId,
        /// Whether the call waits for the end of the execution, or only for its start.
        awaited: bool,
    },
}

impl CallPhase {
    /// The step that was called, or that is the check of the poll.
    pub(crate) fn step(&self) -> Option<&PinnedStep> {
        match self {
            Self::Step(open) => Some(&open.step),
            Self::Poll(open) => Some(&open.step),
            _ => None,
        }
    }
}

/// A component's step with its bounds, resolved when the call was first recorded (L17).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PinnedStep {
    /// The call as the guest issued it.
    pub call: StepCall,
    /// The component, if it is not the execution's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<Digest>,
    /// The retry policy.
    pub retry: RetryPolicy,
    /// Bounds each stretch between two durable waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

impl PinnedStep {
    pub(crate) fn new(call: StepCall, component: Option<Digest>, options: StepOptions) -> Self {
        Self { call, component, retry: options.retry.unwrap_or_default(), timeout_ms: options.timeout_ms }
    }

    /// The step's name within its component.
    #[must_use]
    pub fn local_name(&self) -> &str {
        self.call.step.rsplit_once('/').map_or(&self.call.step, |(_, step)| step)
    }
}

/// The attempts of a step or a check, one after another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempts {
    /// The current attempt, from 1.
    pub attempt: u32,
    /// When the attempt began or will begin. The guest's clock shows this time first.
    pub began: Timestamp,
    /// The number of events that were recorded before the attempt began. Its journal lies behind them.
    pub journal: u64,
    /// While the retry delay lasts: when the next attempt begins, and why the last one failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<(Timestamp, Failure)>,
}

/// An open step call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenStep {
    /// The step that runs.
    pub step: PinnedStep,
    /// Its attempts.
    pub attempts: Attempts,
    /// The time by which the whole step has to be over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// The number of events that were recorded before the call was issued. It is set once the call's journal holds
    /// values that are dropped at its end (L12).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values_after: Option<u64>,
    /// Bytes of those values.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub value_bytes: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_nothing(bytes: &u64) -> bool {
    *bytes == 0
}

/// An open host-driven poll.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenPoll {
    /// The check.
    pub step: PinnedStep,
    /// The schedule of the poll.
    pub policy: PollPolicy,
    /// The position at which the poll was issued. It distinguishes the poll from others of the same name.
    #[serde(default)]
    pub issued: u64,
    /// The round of the check that runs or comes next, from 1.
    pub round: u32,
    /// The attempts of this round's check.
    pub attempts: Attempts,
    /// When the next check begins. It is set only between two checks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Timestamp>,
    /// The value of the last check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Json>,
    /// The journal of this round. It is not part of the history, to which a poll adds only two events.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[serde(with = "crate::event::in_a_row")]
    pub journal: Vec<Event>,
    /// How many of these events were read from the store.
    #[serde(skip)]
    pub(crate) durable: usize,
}

impl OpenCall {
    /// A call in this phase. It holds its arguments.
    pub(crate) fn new(since: Timestamp, phase: CallPhase, lsn: u64) -> Self {
        let bytes = phase.weight();
        Self { since, phase, lsn, bytes }
    }

    /// The LSN at which the call was issued. It distinguishes the call from others of the same name in one activation.
    #[must_use]
    pub fn lsn(&self) -> u64 {
        self.lsn
    }

    /// The time at which time alone moves this call.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        match &self.phase {
            CallPhase::Sleep { until } => Some(*until),
            CallPhase::Step(step) => earlier(step.attempts.retry.as_ref().map(|(until, _)| *until), step.deadline),
            CallPhase::Poll(poll) => poll.next.or(poll.attempts.retry.as_ref().map(|(until, _)| *until)),
            CallPhase::Approval { until, .. } | CallPhase::Signal { until, .. } => *until,
            CallPhase::Fetch { .. } | CallPhase::Child { .. } => None,
        }
    }

    /// Whether the call waits for the end of a child.
    pub(crate) fn waits_for_child(&self) -> bool {
        matches!(self.phase, CallPhase::Child { awaited: true, .. })
    }

    /// Counts the bytes anew after a change.
    pub(crate) fn weigh(&mut self) {
        self.bytes = self.phase.weight();
    }

    /// The bytes that the call holds.
    pub(crate) fn weight(&self) -> u64 {
        self.bytes + FLAT_BYTES
    }

    /// Notes that all of the call was read from the store.
    pub(crate) fn read_back(&mut self) {
        self.weigh();
        if let CallPhase::Poll(poll) = &mut self.phase {
            poll.durable = poll.journal.len();
        }
    }

    /// The latest stamp within this call.
    pub(crate) fn stamp(&self) -> Timestamp {
        let within = match &self.phase {
            CallPhase::Poll(poll) => poll.journal.last().map(|event| event.at),
            _ => None,
        };
        within.unwrap_or(self.since).max(self.since)
    }

    /// Whether a guest works for this call at the moment.
    pub(crate) fn is_running(&self) -> bool {
        match &self.phase {
            CallPhase::Step(step) => step.attempts.retry.is_none(),
            CallPhase::Poll(poll) => poll.next.is_none() && poll.attempts.retry.is_none(),
            _ => false,
        }
    }

    /// The scope of the guest that works for this call at the moment, or none while the call waits.
    #[must_use]
    pub fn running(&self, name: &CallName) -> Option<Scope> {
        match &self.phase {
            CallPhase::Step(_) if self.is_running() => Some(name.step_scope()),
            CallPhase::Poll(poll) if self.is_running() => Some(name.round_scope(poll.round)),
            _ => None,
        }
    }

    /// The call's stored text.
    #[must_use]
    pub fn encode(&self) -> String {
        serde_json::to_string(self).expect("open calls have a JSON form")
    }

    /// The call in a stored text.
    ///
    /// # Errors
    /// The cause, if the text was not written by [`OpenCall::encode`].
    pub fn decode(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|e| e.to_string())
    }
}

impl CallPhase {
    /// Bytes of the texts, the input and the journal.
    fn weight(&self) -> u64 {
        let texts = match self {
            Self::Sleep { .. } => 0,
            Self::Step(open) => open.step.call.input.as_str().len(),
            Self::Poll(open) => {
                let last = open.last.as_ref().map_or(0, |last| last.as_str().len());
                open.step.call.input.as_str().len() + last
            }
            Self::Approval { id, title, .. } => id.len() + title.len(),
            Self::Signal { name, .. } => name.len(),
            Self::Fetch { url } => url.len(),
            Self::Child { id, .. } => id.as_str().len(),
        };
        let journal = match self {
            Self::Poll(open) => open.journal.iter().map(|event| event.data.weight()).sum(),
            _ => 0,
        };
        texts as u64 + journal
    }
}

fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    [a, b].into_iter().flatten().min()
}
