//! The conversation with one guest: it is told one outcome at a time, and makes any number of requests.

use serde::{Deserialize, Serialize};

use crate::{Call, ExecutionId, Failure, Json, Outcome, Timestamp};

/// The function of a component that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A workflow, by name.
    Workflow(String),
    /// A step, by name.
    Step(String),
}

/// The start of a guest. Equal inputs and equal deliveries lead to equal requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestInput {
    /// The function to run.
    pub entry: Entry,
    /// Its input.
    pub input: Json,
    /// The time that the guest's clock shows until the first delivery.
    pub clock: Timestamp,
    /// The seed of its random numbers (L3).
    pub seed: [u8; 32],
    /// The execution it belongs to.
    pub execution: ExecutionId,
    /// The workflow of that execution.
    pub workflow: String,
    /// The run of the execution, from 1.
    pub run: u32,
    /// The attempt of the step, from 1.
    pub attempt: u32,
    /// The scope's stable key, 32 hex digits.
    pub idempotency_key: String,
}

/// The level of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// For the author.
    Debug,
    /// For general information.
    Info,
    /// Something is odd.
    Warn,
    /// Something is wrong.
    Error,
}

impl Level {
    /// The level as a word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// One request of a guest. Requests are taken in the order in which the guest made them.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// A durable call; ordinals count from 1 without gaps.
    Call(u32, Call),
    /// The guest no longer wants the outcome of this call.
    Drop(u32),
    /// A log line.
    Log(Level, String),
    /// Progress in percent, with a short message.
    Progress(u8, String),
    /// Sets an attribute of the execution. It takes an ordinal, so that replay can match it.
    SetAttribute(u32, String, Json),
}

/// The outcome of one of its calls, which a quiescent guest is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// The ordinal of the call.
    pub ordinal: u32,
    /// The outcome.
    pub outcome: Outcome,
    /// The time that the guest's clock shows from now on.
    pub clock: Timestamp,
}

/// What a guest did from one delivery until it was quiescent again.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// The requests that it made, in order.
    pub requests: Vec<Request>,
    /// Its result, if it has ended.
    pub end: Option<Result<Json, Failure>>,
}
