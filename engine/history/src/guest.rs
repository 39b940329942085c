//! The conversation with one guest: it is told one thing at a time, and asks for any number of things.

use serde::{Deserialize, Serialize};

use crate::{Call, ExecutionId, Failure, Json, Outcome, Timestamp};

/// Which function of a component runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A workflow, by name.
    Workflow(String),
    /// A step, by name.
    Step(String),
}

/// What a guest begins with. Equal beginnings and deliveries make equal requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestInput {
    /// What runs.
    pub entry: Entry,
    /// With what.
    pub input: Json,
    /// What its clock shows until the first delivery.
    pub clock: Timestamp,
    /// Where its random numbers come from (L3).
    pub seed: [u8; 32],
    /// The execution it belongs to.
    pub execution: ExecutionId,
    /// The workflow of that execution.
    pub workflow: String,
    /// Which run of the execution, from 1.
    pub run: u32,
    /// Which attempt of the step, from 1.
    pub attempt: u32,
    /// The scope's stable key, 32 hex digits.
    pub idempotency_key: String,
}

/// How loud a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// For the author.
    Debug,
    /// For whoever is curious.
    Info,
    /// Something is odd.
    Warn,
    /// Something is wrong.
    Error,
}

impl Level {
    /// The word for it.
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

/// One thing a guest asks for or says, in the order it did.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// A durable call; ordinals count from 1 without gaps.
    Call(u32, Call),
    /// It no longer wants the outcome of this call.
    Drop(u32),
    /// A log line.
    Log(Level, String),
    /// Its progress in percent, and a word about it.
    Progress(u8, String),
    /// An attribute for the execution. Takes an ordinal, so that replay can match it.
    SetAttribute(u32, String, Json),
}

/// What a quiescent guest is told: the outcome of one call.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// Which of its calls.
    pub ordinal: u32,
    /// How it went.
    pub outcome: Outcome,
    /// What its clock shows from now on.
    pub clock: Timestamp,
}

/// What a guest did from one delivery until it could not move any more.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// What it asked for meanwhile, in order.
    pub requests: Vec<Request>,
    /// Its result, when it has ended.
    pub end: Option<Result<Json, Failure>>,
}
