//! The engine's API in its own types. The server translates to and from these and decides nothing.

use cerebelum_history::{Digest, ExecutionId, Failure, FirstWait, Json, Level, Position, Scope, Status, Timestamp};
use cerebelum_store::StoreError;
use thiserror::Error;

use crate::execution_filter::ExecutionFilter;

/// Why the engine did not fulfil a request. Every variant is one line for a person: the cause, and the remedy.
#[derive(Debug, Clone, Error)]
pub enum ApiError {
    /// The request is not valid (exit code 2).
    #[error("{0}")]
    Invalid(String),
    /// The requested object does not exist (exit code 3).
    #[error("{0}")]
    NotFound(String),
    /// The request conflicts with the current state, or exceeds a limit (exit code 5).
    #[error("{0}")]
    Conflict(String),
    /// The request carries no valid token (exit code 5).
    #[error("{0}")]
    Unauthenticated(String),
    /// The caller's role does not allow it (exit code 5).
    #[error("{0}")]
    Forbidden(String),
    /// The tenant has or does as much as its quotas allow (exit code 5).
    #[error("{0}")]
    Quota(String),
    /// The engine's own fault: try again later (exit code 4).
    #[error("{0}")]
    Unavailable(String),
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        // The database's own message is for the operator: it may contain hosts, tables and values.
        match error {
            StoreError::Unavailable(cause) => {
                tracing::debug!(cause, "the database does not answer a client");
                Self::Unavailable("the database does not answer: try again in a moment".to_owned())
            }
            StoreError::Rejected(cause) => {
                tracing::debug!(cause, "the database rejects what a client asks for");
                Self::Unavailable("the database takes too long for this: try again, or ask for less".to_owned())
            }
            StoreError::Unknown(cause) => {
                tracing::debug!(cause, "a client is not told what became of a request");
                let told = "the database did not say whether it committed: see what became of it before you try again";
                Self::Unavailable(told.to_owned())
            }
            StoreError::Corrupt(cause) => {
                Self::Unavailable(format!("{cause}: it has to be repaired, or restored from a backup"))
            }
            StoreError::Invalid(cause) => Self::Invalid(cause),
            StoreError::NotKept(cause) => Self::Conflict(cause),
            StoreError::Unusable(cause) => Self::Unavailable(cause),
        }
    }
}

/// Why an engine could not be opened; one line for a person.
#[derive(Debug, Clone, Error)]
pub enum OpenError {
    /// The database does not answer at the moment (exit code 4).
    #[error("{0}")]
    Unavailable(String),
    /// The data folder or the database cannot be used in their present state (exit code 5).
    #[error("{0}")]
    Unusable(String),
    /// A setting cannot be used, at any time (exit code 2).
    #[error("{0}")]
    Settings(String),
}

impl From<String> for OpenError {
    fn from(why: String) -> Self {
        Self::Unusable(why)
    }
}

/// An accepted component.
#[derive(Debug, Clone, PartialEq)]
pub struct ComponentInfo {
    /// Its name.
    pub name: String,
    /// Its content address.
    pub digest: Digest,
    /// Names of its workflows.
    pub workflows: Vec<String>,
    /// Names of its steps.
    pub steps: Vec<String>,
    /// The capabilities that it requests: `http:HOST`, `secret:NAME`.
    pub capabilities: Vec<String>,
    /// Size in bytes.
    pub size: u64,
    /// When it was uploaded.
    pub uploaded_at: Timestamp,
    /// Whether new executions use it.
    pub current: bool,
    /// Whether it waits to be accepted.
    pub proposed: bool,
    /// Of its capabilities those that its name was not granted.
    pub not_granted: Vec<String>,
}

/// A request to start an execution.
#[derive(Debug, Clone)]
pub struct StartRequest {
    /// `component/workflow`, or the bare name while it is unique.
    pub workflow: String,
    /// The input, as text.
    pub input: String,
    /// The id; generated if left out.
    pub id: Option<String>,
    /// Attributes: name to JSON scalar.
    pub attributes: Vec<(String, Json)>,
    /// Begin only after this time, in milliseconds.
    pub delay_ms: u64,
    /// Fail with kind `deadline` after this time, in milliseconds.
    pub deadline_ms: Option<u64>,
}

/// A call that an execution waits for.
#[derive(Debug, Clone, PartialEq)]
pub struct WaitingOn {
    /// `sleep`, `approval`, `signal`, `retry`, `poll`, `step`, `fetch`, `child`, `start`, `delay`.
    pub kind: String,
    /// The name of the step, signal, approval and so on.
    pub name: String,
    /// The scope that waits.
    pub scope: Scope,
    /// When the wait began.
    pub since: Timestamp,
    /// When the wait ends at the latest, if time alone ends it.
    pub until: Option<Timestamp>,
    /// Checks or attempts so far, where they are counted.
    pub attempts: Option<u32>,
    /// The last value that a poll returned.
    pub last: Option<Json>,
}

/// The state of one step call.
#[derive(Debug, Clone, PartialEq)]
pub struct StepView {
    /// The step's name.
    pub name: String,
    /// Its scope.
    pub scope: Scope,
    /// The beginning of its input.
    pub input_preview: String,
    /// Running, waiting, completed, failed or cancelled.
    pub status: Status,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Its output, unless it was dropped or does not exist yet.
    pub output: Option<Json>,
    /// Why it failed, or why its last attempt failed.
    pub failure: Option<Failure>,
}

/// The latest progress of a scope.
#[derive(Debug, Clone, PartialEq)]
pub struct ProgressView {
    /// The step's name, or the workflow's for the workflow itself.
    pub name: String,
    /// The scope that reported it.
    pub scope: Scope,
    /// 0 to 100.
    pub percent: u8,
    /// A short message.
    pub message: String,
}

/// An execution as it appears in a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Its id.
    pub id: ExecutionId,
    /// `component/workflow`.
    pub workflow: String,
    /// The component it is pinned to.
    pub digest: Digest,
    /// Its status.
    pub status: Status,
    /// Attributes: name to JSON scalar, as one JSON object.
    pub attributes: Json,
    /// When it was started.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// The number of the run (counts continue-as-new).
    pub run: u32,
    /// The number of events in its history.
    pub events: u64,
    /// The execution that started it.
    pub parent: Option<ExecutionId>,
    /// What it waits for: of several calls, the one that matters most to a person.
    pub waits_for: Option<FirstWait>,
    /// Why it failed or is parked, in short.
    pub failure: Option<Failure>,
    /// The first run that is kept, if earlier ones were removed.
    pub runs_from: Option<u32>,
}

/// An execution in full.
#[derive(Debug, Clone, PartialEq)]
pub struct ExecutionStatus {
    /// The fields that a list shows.
    pub summary: Summary,
    /// Its input.
    pub input: Json,
    /// Its output, when completed.
    pub output: Option<Json>,
    /// Why it failed, was cancelled or is parked.
    pub failure: Option<Failure>,
    /// The calls that it waits for.
    pub waiting_on: Vec<WaitingOn>,
    /// The progress that its scopes report.
    pub progress: Vec<ProgressView>,
    /// Its step calls in order, as far as they are open or among the last events.
    pub steps: Vec<StepView>,
    /// The number of events before those: only the end of a long history is read.
    pub earlier_events: u64,
    /// The names of the signals that wait in its inbox, among the oldest 100 messages there.
    pub unread_signals: Vec<String>,
    /// The ids of the last traces of its present run, the oldest first; none unless its spans are exported.
    pub trace_ids: Vec<String>,
}

/// One event of a history.
#[derive(Debug, Clone, PartialEq)]
pub struct EventView {
    /// Its position.
    pub position: Position,
    /// Its time.
    pub time: Timestamp,
    /// Its kind, a CamelCase word in the past tense.
    pub kind: String,
    /// Its scope.
    pub scope: Scope,
    /// All other fields, as the members of one JSON object.
    pub fields: Json,
}

/// A question to a person.
#[derive(Debug, Clone, PartialEq)]
pub struct ApprovalView {
    /// Its id.
    pub id: String,
    /// The execution that asks.
    pub execution: ExecutionId,
    /// Its kind.
    pub kind: String,
    /// The question.
    pub title: String,
    /// The data that the person needs for the decision.
    pub data: Json,
    /// JSON Schema of the answer.
    pub schema: Option<Json>,
    /// The names and roles of those who may answer; empty if the author of the workflow named none.
    pub approvers: Vec<String>,
    /// When it was asked.
    pub requested_at: Timestamp,
    /// When it times out.
    pub deadline: Option<Timestamp>,
    /// `open`, `approved`, `rejected`, `timed-out`, `withdrawn`.
    pub state: String,
}

/// A person's decision.
#[derive(Debug, Clone)]
pub enum Decision {
    /// Approval, with data and a comment.
    Approve {
        /// JSON text; `{}` when none was given.
        data: String,
        /// A comment.
        comment: Option<String>,
    },
    /// Rejection.
    Reject {
        /// The reason.
        reason: String,
    },
}

/// A log line.
#[derive(Debug, Clone, PartialEq)]
pub struct LogView {
    /// Its number. Lists continue after it.
    pub seq: i64,
    /// Its time.
    pub time: Timestamp,
    /// Its level.
    pub level: Level,
    /// Its scope.
    pub scope: Scope,
    /// Its attempt.
    pub attempt: u32,
    /// Its text.
    pub text: String,
}

/// A filter for questions.
#[derive(Debug, Clone, Default)]
pub struct ApprovalsRequest {
    /// Only questions of this execution: all that it has asked, not only the open ones.
    pub execution: Option<String>,
    /// Continue after this cursor.
    pub cursor: Option<String>,
    /// The most questions to return, up to 1,000; 0 means 1,000.
    pub limit: u32,
}

/// A filter for executions.
#[derive(Debug, Clone, Default)]
pub struct ListRequest {
    /// The executions.
    pub filter: ExecutionFilter,
    /// Continue after this cursor.
    pub cursor: Option<String>,
    /// The most executions to return; 0 means 100.
    pub limit: u32,
}
