//! What programs may ask of an engine, in its own words. The server translates to and from these; it decides nothing.

use cerebelum_history::{Digest, ExecutionId, Failure, Json, Level, Position, Scope, Timestamp};
use thiserror::Error;

/// Why the engine did not do what it was asked. Every variant is one line for a person: what, and what to do.
#[derive(Debug, Clone, Error)]
pub enum ApiError {
    /// The request makes no sense as written (exit code 2).
    #[error("{0}")]
    Invalid(String),
    /// There is no such thing (exit code 3).
    #[error("{0}")]
    NotFound(String),
    /// It contradicts what is, or exceeds a limit (exit code 5).
    #[error("{0}")]
    Conflict(String),
    /// The engine's own trouble: ask again later (exit code 4).
    #[error("{0}")]
    Unavailable(String),
}

/// Why there is no engine; one line for a person.
#[derive(Debug, Clone, Error)]
pub enum OpenError {
    /// The database does not answer just now (exit code 4).
    #[error("{0}")]
    Unavailable(String),
    /// The data folder or the database cannot be used as they are (exit code 5).
    #[error("{0}")]
    Unusable(String),
}

impl From<String> for OpenError {
    fn from(why: String) -> Self {
        Self::Unusable(why)
    }
}

/// A component that was accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct ComponentInfo {
    /// The name it is known by.
    pub name: String,
    /// Its content address.
    pub digest: Digest,
    /// Names of its workflows.
    pub workflows: Vec<String>,
    /// Names of its steps.
    pub steps: Vec<String>,
    /// What it asks for: `http:HOST`, `secret:NAME`.
    pub capabilities: Vec<String>,
    /// Size in bytes.
    pub size: u64,
    /// When it was uploaded.
    pub uploaded_at: Timestamp,
    /// Whether new executions use it.
    pub current: bool,
}

/// A wish to start an execution.
#[derive(Debug, Clone)]
pub struct StartRequest {
    /// `component/workflow`, or the bare name while it is unique.
    pub workflow: String,
    /// The input, as text.
    pub input: String,
    /// The id; drawn when left out.
    pub id: Option<String>,
    /// Name to JSON scalar.
    pub attributes: Vec<(String, Json)>,
    /// Begin only after this time.
    pub delay_ms: u64,
    /// Fail with kind `deadline` after this time.
    pub deadline_ms: Option<u64>,
}

/// Something an execution waits for.
#[derive(Debug, Clone, PartialEq)]
pub struct WaitingOn {
    /// `sleep`, `approval`, `signal`, `retry`, `poll`, `step`, `fetch`, `child`, `start`, `delay`.
    pub kind: String,
    /// The step's, signal's, approval's … name.
    pub name: String,
    /// Which scope waits.
    pub scope: Scope,
    /// Since when.
    pub since: Timestamp,
    /// Until when at the latest, if time alone ends it.
    pub until: Option<Timestamp>,
    /// Checks or attempts so far, where they are counted.
    pub attempts: Option<u32>,
    /// The last value a poll saw.
    pub last: Option<Json>,
}

/// One step call, as seen from outside.
#[derive(Debug, Clone, PartialEq)]
pub struct StepView {
    /// The step's name.
    pub name: String,
    /// Its scope.
    pub scope: Scope,
    /// How its input begins.
    pub input_preview: String,
    /// `running`, `waiting`, `completed`, `failed`, `cancelled`.
    pub status: String,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Its output, unless it was dropped or there is none yet.
    pub output: Option<Json>,
    /// Why it failed, or why its last attempt did.
    pub failure: Option<Failure>,
}

/// The latest progress of a scope.
#[derive(Debug, Clone, PartialEq)]
pub struct ProgressView {
    /// The step's name, or the workflow's for the workflow itself.
    pub name: String,
    /// Whose.
    pub scope: Scope,
    /// 0 to 100.
    pub percent: u8,
    /// A word about it.
    pub message: String,
}

/// An execution as a list shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Its id.
    pub id: ExecutionId,
    /// `component/workflow`.
    pub workflow: String,
    /// The component it is pinned to.
    pub digest: Digest,
    /// `running`, `sleeping`, `waiting-for-approval`, `waiting`, `paused`, `parked`, `completed`, `failed`, `cancelled`.
    pub status: String,
    /// Name to JSON scalar, as one JSON object.
    pub attributes: Json,
    /// When it was started.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Which run (counts continue-as-new).
    pub run: u32,
    /// How many events its history has.
    pub events: u64,
    /// The execution that started it.
    pub parent: Option<ExecutionId>,
}

/// An execution in full.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// What a list shows.
    pub summary: Summary,
    /// Its input.
    pub input: Json,
    /// Its output, when completed.
    pub output: Option<Json>,
    /// Why it failed, was cancelled or is parked.
    pub failure: Option<Failure>,
    /// What it waits for.
    pub waiting_on: Vec<WaitingOn>,
    /// How far it says it is.
    pub progress: Vec<ProgressView>,
    /// Its step calls in order, as far as they are open or among the last events.
    pub steps: Vec<StepView>,
    /// How many events came before those: of a long history only the end is read.
    pub earlier_events: u64,
}

/// One event as shown to a reader.
#[derive(Debug, Clone, PartialEq)]
pub struct EventView {
    /// Its place.
    pub position: Position,
    /// When.
    pub time: Timestamp,
    /// Past-tense CamelCase word.
    pub kind: String,
    /// In which scope.
    pub scope: Scope,
    /// Everything else, as the members of one JSON object.
    pub fields: Json,
}

/// A question to a person.
#[derive(Debug, Clone, PartialEq)]
pub struct ApprovalView {
    /// Its id.
    pub id: String,
    /// Who asks.
    pub execution: ExecutionId,
    /// Its sort.
    pub kind: String,
    /// What is asked.
    pub title: String,
    /// What the person needs to see.
    pub data: Json,
    /// JSON Schema of the answer.
    pub schema: Option<Json>,
    /// When it was asked.
    pub requested_at: Timestamp,
    /// Until when it stands.
    pub deadline: Option<Timestamp>,
    /// `open`, `approved`, `rejected`, `timed-out`, `withdrawn`.
    pub state: String,
}

/// A person's decision.
#[derive(Debug, Clone)]
pub enum Decision {
    /// Yes, with data and a comment.
    Approve {
        /// JSON text; `{}` when nothing was said.
        data: String,
        /// Anything besides.
        comment: Option<String>,
    },
    /// No.
    Reject {
        /// Why not.
        reason: String,
    },
}

/// A log line as shown.
#[derive(Debug, Clone, PartialEq)]
pub struct LogView {
    /// Its number; lists resume after it.
    pub seq: i64,
    /// When.
    pub time: Timestamp,
    /// How loud.
    pub level: Level,
    /// In which scope.
    pub scope: Scope,
    /// In which attempt.
    pub attempt: u32,
    /// What.
    pub text: String,
}

/// Which questions to list.
#[derive(Debug, Clone, Default)]
pub struct ApprovalsRequest {
    /// Only of this execution: all that it has asked, not only the open ones.
    pub execution: Option<String>,
    /// Continue after this place.
    pub cursor: Option<String>,
    /// How many at most, 1,000 in any case; 0 means as many.
    pub limit: u32,
}

/// Which executions to list.
#[derive(Debug, Clone, Default)]
pub struct ListRequest {
    /// Only with this status word.
    pub status: Option<String>,
    /// Only of this workflow.
    pub workflow: Option<String>,
    /// Only with these attributes.
    pub attributes: Vec<(String, Json)>,
    /// Continue after this place.
    pub cursor: Option<String>,
    /// How many at most; 0 means 100.
    pub limit: u32,
}
