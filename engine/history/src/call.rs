//! What a guest asks for, and what it is told.

use serde::{Deserialize, Serialize};

use crate::{ExecutionId, Failure, Json};

/// The longest wait: one year, in milliseconds. A longer one is refused where it is asked for.
pub const WAIT_MS_MAX: u64 = 365 * 24 * 3_600_000;

/// How often a failed step is tried again, and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Attempts in all, the first included.
    pub max_attempts: u32,
    /// Wait before the second attempt.
    pub delay_ms: u64,
    /// Each further wait is the one before times this.
    pub backoff: f64,
    /// No wait is longer.
    pub delay_ms_max: u64,
    /// Random share added to or taken from each wait.
    pub jitter: f64,
}

impl Default for RetryPolicy {
    /// Three attempts, 1 s, doubling, ±20 %, at most 5 minutes.
    fn default() -> Self {
        Self { max_attempts: 3, delay_ms: 1_000, backoff: 2.0, delay_ms_max: 300_000, jitter: 0.2 }
    }
}

/// What bounds a step; what is left out comes from the step's declaration, then the default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StepOptions {
    /// When and how often to try again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryPolicy>,
    /// Bounds each stretch between two durable waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Bounds the whole step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
}

impl StepOptions {
    /// These options, with what they leave out taken from `other`.
    #[must_use]
    pub fn or(self, other: &Self) -> Self {
        Self {
            retry: self.retry.or_else(|| other.retry.clone()),
            timeout_ms: self.timeout_ms.or(other.timeout_ms),
            deadline_ms: self.deadline_ms.or(other.deadline_ms),
        }
    }
}

/// Which step to run, with what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepCall {
    /// A step of the same component, or `component/step`.
    pub step: String,
    /// Its input.
    pub input: Json,
}

/// How a host-driven poll goes about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PollPolicy {
    /// From the end of one check to the start of the next.
    pub interval_ms: u64,
    /// Checks in all.
    pub max_attempts: u32,
    /// From the poll's start, looked at before each check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// A question to a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalRequest {
    /// `manual` unless the author has more than one sort.
    pub kind: String,
    /// What is asked.
    pub title: String,
    /// What the person needs to see.
    pub data: Json,
    /// JSON Schema of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Json>,
    /// How long the question stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// A person's yes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// The answer.
    pub data: Json,
    /// Who gave it.
    pub by: String,
    /// What they said besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// Which workflow to run as a child, with what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkflowCall {
    /// A workflow of the same component, or `component/workflow`.
    pub workflow: String,
    /// Its input.
    pub input: Json,
    /// The child's id; derived from parent and call when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<ExecutionId>,
}

/// An outgoing HTTP request. It is never stored: the guest that wants it is rerun and asks again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// The method.
    pub method: String,
    /// Where to; may hold `{{secret:NAME}}` in its path and query.
    pub url: String,
    /// Names and values; values may hold `{{secret:NAME}}`.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// For the whole exchange.
    pub timeout_ms: Option<u64>,
}

/// An answer to an [`HttpRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpResponse {
    /// The status code.
    pub status: u16,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    #[serde(with = "crate::body")]
    pub body: Vec<u8>,
}

/// A durable call of a guest.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// Wait for a time.
    Sleep {
        /// How long.
        duration_ms: u64,
    },
    /// Run a step.
    Step(StepCall, StepOptions),
    /// Run a check step until it is ready.
    Poll(StepCall, PollPolicy),
    /// Ask a person.
    Approval(ApprovalRequest),
    /// Wait for a message.
    Signal {
        /// The message's name.
        name: String,
        /// How long to wait for it.
        timeout_ms: Option<u64>,
    },
    /// Send an HTTP request.
    Fetch(HttpRequest),
    /// Run a child and wait for its output.
    RunWorkflow(WorkflowCall),
    /// Start an execution that outlives this one.
    StartWorkflow(WorkflowCall),
    /// End this run and begin the next.
    ContinueAsNew {
        /// The next run's input.
        input: Json,
    },
}

/// What a guest is told about one of its calls.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The sleep is over.
    Slept,
    /// The output of a step, check, child; the data of a signal.
    Value(Json),
    /// A person said yes.
    Approved(Approval),
    /// The server answered.
    Responded(HttpResponse),
    /// The execution was started.
    Started(ExecutionId),
    /// It did not succeed.
    Failed(Failure),
}

impl Call {
    /// What replay compares instead of a refused call itself: 32 hex digits over all that it asks for.
    pub(crate) fn digest(&self) -> String {
        let text = match self {
            Self::Sleep { duration_ms } => format!("sleep {duration_ms}"),
            Self::Step(call, _) => written("step", call),
            Self::Poll(call, policy) => written("poll", &(call, policy)),
            Self::Approval(request) => written("approval", request),
            Self::Signal { name, timeout_ms } => written("signal", &(name, timeout_ms)),
            Self::Fetch(request) => format!("fetch {}", request.digest()),
            Self::RunWorkflow(call) => written("child", call),
            Self::StartWorkflow(call) => written("start", call),
            Self::ContinueAsNew { input } => written("continue", input),
        };
        crate::body::to_hex(&blake3::hash(text.as_bytes()).as_bytes()[..16])
    }

    /// Bytes of the arguments that are held while it is open.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Self::Sleep { .. } => 0,
            Self::Step(call, _) | Self::Poll(call, _) => call.step.len() + call.input.as_str().len(),
            Self::Approval(request) => request.weight(),
            Self::Signal { name, .. } => name.len(),
            Self::Fetch(request) => request.weight(),
            Self::RunWorkflow(call) | Self::StartWorkflow(call) => call.workflow.len() + call.input.as_str().len(),
            Self::ContinueAsNew { input } => input.as_str().len(),
        }
    }
}

fn written(what: &str, arguments: &impl Serialize) -> String {
    format!("{what} {}", serde_json::to_string(arguments).expect("calls have a JSON form"))
}

impl ApprovalRequest {
    /// Bytes of its texts.
    pub(crate) fn weight(&self) -> usize {
        let schema = self.schema.as_ref().map_or(0, |schema| schema.as_str().len());
        self.kind.len() + self.title.len() + self.data.as_str().len() + schema
    }
}

impl HttpResponse {
    /// Bytes of its headers and body.
    pub(crate) fn weight(&self) -> usize {
        self.body.len() + self.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
    }
}

impl HttpRequest {
    /// Bytes of its texts and its body.
    pub(crate) fn weight(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len() + 48).sum();
        self.method.len() + self.url.len() + headers + self.body.len()
    }

    /// What replay compares instead of the request itself: 32 hex digits over all of it but the timeout.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut part = |bytes: &[u8]| {
            hasher.update(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes()).update(bytes);
        };
        part(self.method.as_bytes());
        part(self.url.as_bytes());
        for (name, value) in &self.headers {
            part(name.as_bytes());
            part(value.as_bytes());
        }
        part(&self.body);
        crate::body::to_hex(&hasher.finalize().as_bytes()[..16])
    }
}
