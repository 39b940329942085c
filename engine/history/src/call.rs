//! The calls that a guest makes, and the outcomes that it is told.

use serde::{Deserialize, Serialize};

use crate::{ExecutionId, Failure, Json, PollPolicy};

/// How often a failed step is tried again, and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Attempts in all, the first included.
    pub max_attempts: u32,
    /// Wait before the second attempt.
    pub delay_ms: u64,
    /// Each further wait is the previous one times this factor.
    pub backoff: f64,
    /// The longest wait, however often the step is tried.
    pub delay_ms_max: u64,
    /// The random share that is added to or taken from each wait.
    pub jitter: f64,
}

impl Default for RetryPolicy {
    /// Three attempts, 1 s, doubling, ±20 %, at most 5 minutes.
    fn default() -> Self {
        Self { max_attempts: 3, delay_ms: 1_000, backoff: 2.0, delay_ms_max: 300_000, jitter: 0.2 }
    }
}

/// The bounds of a step. An option that is left out comes from the step's declaration, then from the default.
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
    /// These options, with the missing ones taken from `other`.
    #[must_use]
    pub fn or(self, other: &Self) -> Self {
        Self {
            retry: self.retry.or_else(|| other.retry.clone()),
            timeout_ms: self.timeout_ms.or(other.timeout_ms),
            deadline_ms: self.deadline_ms.or(other.deadline_ms),
        }
    }
}

/// The step to run, and its input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepCall {
    /// A step of the same component, or `component/step`.
    pub step: String,
    /// Its input.
    pub input: Json,
}

/// A question to a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalRequest {
    /// `manual`, unless the author has more than one kind of question.
    pub kind: String,
    /// The question.
    pub title: String,
    /// The data that the person needs for an answer.
    pub data: Json,
    /// The JSON Schema of the answer, with the list of approvers if there is one ([`crate::Approvers`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Json>,
    /// How long the question can be answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// A person's approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// The answer.
    pub data: Json,
    /// The person who approved.
    pub by: String,
    /// A remark that the person added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// The workflow to run as a child, and its input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkflowCall {
    /// A workflow of the same component, or `component/workflow`.
    pub workflow: String,
    /// Its input.
    pub input: Json,
    /// The child's id, derived from the parent and the call if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<ExecutionId>,
}

/// An outgoing HTTP request. It is never stored: its guest makes the same request again on a rerun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// The method.
    pub method: String,
    /// The URL. Its path and query may hold `{{secret:NAME}}`.
    pub url: String,
    /// Names and values; values may hold `{{secret:NAME}}`.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// The time limit of the whole exchange.
    pub timeout_ms: Option<u64>,
}

/// A response to an [`HttpRequest`].
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
    /// Run a child workflow and wait for its output.
    RunWorkflow(WorkflowCall),
    /// Start an execution that outlives this one.
    StartWorkflow(WorkflowCall),
    /// End this run and begin the next.
    ContinueAsNew {
        /// The next run's input.
        input: Json,
    },
}

/// The outcome of a call, which the guest is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The sleep is over.
    Slept,
    /// The output of a step, a check or a child, or the data of a signal.
    Value(Json),
    /// A person approved the request.
    Approved(Approval),
    /// The server responded.
    Responded(HttpResponse),
    /// The execution was started.
    Started(ExecutionId),
    /// The call failed.
    Failed(Failure),
}

impl Call {
    /// The digest that replay compares in place of a refused call: 32 hex digits over all of its arguments.
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
        blake3::hash(text.as_bytes()).to_hex()[..32].to_owned()
    }

    /// Bytes of the arguments that are held while the call is open.
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
    /// Bytes of the texts.
    pub(crate) fn weight(&self) -> usize {
        let schema = self.schema.as_ref().map_or(0, |schema| schema.as_str().len());
        self.kind.len() + self.title.len() + self.data.as_str().len() + schema
    }
}

impl HttpResponse {
    /// Bytes of the headers and the body.
    pub(crate) fn weight(&self) -> usize {
        self.body.len() + self.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
    }
}

impl HttpRequest {
    /// Bytes of the texts and the body.
    pub(crate) fn weight(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len() + 48).sum();
        self.method.len() + self.url.len() + headers + self.body.len()
    }

    /// The digest that replay compares in place of the request: 32 hex digits over everything but the timeout.
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
        hasher.finalize().to_hex()[..32].to_owned()
    }
}
