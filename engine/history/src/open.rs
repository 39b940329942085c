//! Open calls: what an execution waits for, stored beside its history (L13).

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
    /// Where it stands.
    pub phase: CallPhase,
    /// What has to be durable before its outcome may be delivered; not kept, since what was read is durable.
    #[serde(skip)]
    pub(crate) lsn: u64,
    /// What its arguments and its journal hold, in bytes.
    #[serde(skip)]
    pub(crate) bytes: u64,
}

/// Where an open call stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum CallPhase {
    /// A sleep.
    Sleep {
        /// When it is over.
        until: Timestamp,
    },
    /// A step.
    Step(Box<OpenStep>),
    /// A host-driven poll.
    Poll(Box<OpenPoll>),
    /// A question to a person.
    Approval {
        /// Its id.
        id: String,
        /// What is asked, for `waiting_on`.
        title: String,
        /// When it stops standing.
        until: Option<Timestamp>,
    },
    /// A signal.
    Signal {
        /// Its name.
        name: String,
        /// When waiting for it ends.
        until: Option<Timestamp>,
    },
    /// An HTTP request. Its guest asks again when it is rerun.
    Fetch {
        /// Where to, for `waiting_on`.
        url: String,
    },
    /// Another execution.
    Child {
        /// Its id.
        id: ExecutionId,
        /// Whether its end is waited for, or only its start.
        awaited: bool,
    },
}

impl CallPhase {
    /// The step that is called, or that checks.
    pub(crate) fn step(&self) -> Option<&PinnedStep> {
        match self {
            Self::Step(open) => Some(&open.step),
            Self::Poll(open) => Some(&open.step),
            _ => None,
        }
    }
}

/// A component's step with what bounds it, resolved when the call was first recorded (L17).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PinnedStep {
    /// The call as issued.
    pub call: StepCall,
    /// The component, when it is not the execution's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<Digest>,
    /// When to try again.
    pub retry: RetryPolicy,
    /// Bounds each stretch between durable waits.
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

/// One attempt after another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempts {
    /// Which one, from 1.
    pub attempt: u32,
    /// When it began or will begin: what its clock shows first.
    pub began: Timestamp,
    /// After how many recorded events it began: its journal lies behind them.
    pub journal: u64,
    /// When the next attempt begins and why the last one failed, while waiting for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<(Timestamp, Failure)>,
}

/// An open step call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenStep {
    /// What runs.
    pub step: PinnedStep,
    /// How often.
    pub attempts: Attempts,
    /// When the whole step has to be over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// After how many recorded events the call was issued, once its journal holds values to be dropped at its end (L12).
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
    /// How the poll goes about it.
    pub policy: PollPolicy,
    /// At which position it was issued: tells it apart from others of its name.
    #[serde(default)]
    pub issued: u64,
    /// The check that runs or is next, from 1.
    pub round: u32,
    /// The attempts of this round's check.
    pub attempts: Attempts,
    /// When the next check begins, between two checks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Timestamp>,
    /// What the last check said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Json>,
    /// The journal of this round. It is not part of the history, which a poll lengthens by two events only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[serde(with = "crate::event::in_a_row")]
    pub journal: Vec<Event>,
    /// How many of those were read from the store.
    #[serde(skip)]
    pub(crate) durable: usize,
}

impl OpenCall {
    /// A call of this kind that holds its arguments.
    pub(crate) fn new(since: Timestamp, phase: CallPhase, lsn: u64) -> Self {
        let bytes = phase.weight();
        Self { since, phase, lsn, bytes }
    }

    /// Tells this call from others of its name in the same activation.
    #[must_use]
    pub fn lsn(&self) -> u64 {
        self.lsn
    }

    /// The moment at which time alone moves this call.
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

    /// Whether it waits for the end of a child.
    pub(crate) fn waits_for_child(&self) -> bool {
        matches!(self.phase, CallPhase::Child { awaited: true, .. })
    }

    /// Weighs it anew after a change.
    pub(crate) fn weigh(&mut self) {
        self.bytes = self.phase.weight();
    }

    /// What it holds, in bytes.
    pub(crate) fn weight(&self) -> u64 {
        self.bytes + FLAT_BYTES
    }

    /// Says that all of this was read from the store.
    pub(crate) fn read_back(&mut self) {
        self.weigh();
        if let CallPhase::Poll(poll) = &mut self.phase {
            poll.durable = poll.journal.len();
        }
    }

    /// The last stamp that this call knows of.
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

    /// The scope whose guest works for this call at the moment; none while it waits.
    #[must_use]
    pub fn running(&self, name: &CallName) -> Option<Scope> {
        match &self.phase {
            CallPhase::Step(_) if self.is_running() => Some(name.step_scope()),
            CallPhase::Poll(poll) if self.is_running() => Some(name.round_scope(poll.round)),
            _ => None,
        }
    }

    /// The stored text.
    #[must_use]
    pub fn encode(&self) -> String {
        serde_json::to_string(self).expect("open calls have a JSON form")
    }

    /// The call of such a text.
    ///
    /// # Errors
    /// The cause, when it was not written by [`OpenCall::encode`].
    pub fn decode(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|e| e.to_string())
    }
}

impl CallPhase {
    /// Bytes of its texts, its input and its journal.
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
