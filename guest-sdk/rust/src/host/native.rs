//! The local executor as seen from inside a guest: a table in which calls are written down and answered.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use cerebelum_history as history;
use cerebelum_history::{Call, Failure, Outcome, Request, kind};
use futures::channel::oneshot;

use super::{Answer, HttpRequest, HttpResponse, Info, Level, PollPolicy, Question};
use crate::error::{Error, Result};
use crate::step::{RetryPolicy, StepOptions};

/// The calls of one guest. The executor reads the table when the guest is quiescent.
pub(crate) struct HostCalls {
    begin: history::GuestInput,
    clock_ms: Cell<u64>,
    /// The guest is being dropped: futures that are dropped now were not cancelled by the guest.
    closed: Cell<bool>,
    last_ordinal: Cell<u32>,
    open: RefCell<HashMap<u32, oneshot::Sender<Outcome>>>,
    requests: RefCell<Vec<Request>>,
}

impl HostCalls {
    pub(crate) fn new(begin: history::GuestInput) -> Rc<Self> {
        Rc::new(Self {
            clock_ms: Cell::new(begin.clock.0),
            begin,
            closed: Cell::new(false),
            last_ordinal: Cell::new(0),
            open: RefCell::default(),
            requests: RefCell::default(),
        })
    }

    pub(crate) fn deliver(&self, delivery: history::Delivery) {
        self.clock_ms.set(self.clock_ms.get().max(delivery.clock.0));
        if let Some(waiting) = self.open.borrow_mut().remove(&delivery.ordinal) {
            // The receiver is gone when the guest dropped the call in the meantime.
            drop(waiting.send(delivery.outcome));
        }
    }

    pub(crate) fn take_requests(&self) -> Vec<Request> {
        self.requests.take()
    }

    pub(crate) fn has_open_call(&self) -> bool {
        !self.open.borrow().is_empty()
    }

    pub(crate) fn close(&self) {
        self.closed.set(true);
    }

    fn is_step(&self) -> bool {
        matches!(self.begin.entry, history::Entry::Step(_))
    }

    fn next_ordinal(&self) -> u32 {
        self.last_ordinal.set(self.last_ordinal.get() + 1);
        self.last_ordinal.get()
    }

    fn issue(self: &Rc<Self>, call: Call) -> Waiting {
        let (answer, outcome) = oneshot::channel();
        let ordinal = self.next_ordinal();
        self.open.borrow_mut().insert(ordinal, answer);
        self.requests.borrow_mut().push(Request::Call(ordinal, call));
        Waiting { desk: self.clone(), ordinal, outcome }
    }
}

/// A call that waits for its outcome. Dropping it means that the guest no longer wants it.
struct Waiting {
    desk: Rc<HostCalls>,
    ordinal: u32,
    outcome: oneshot::Receiver<Outcome>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.desk.closed.get() && self.desk.open.borrow_mut().remove(&self.ordinal).is_some() {
            self.desk.requests.borrow_mut().push(Request::Drop(self.ordinal));
        }
    }
}

/// A handle on the local executor.
#[derive(Clone)]
pub(crate) struct Host(pub(crate) Rc<HostCalls>);

impl Host {
    async fn outcome_of(&self, call: Call) -> Result<Outcome> {
        let mut waiting = self.0.issue(call);
        match (&mut waiting.outcome).await.expect("the desk keeps a call's sender until it answers") {
            Outcome::Failed(failure) => Err(error_of(failure)),
            outcome => Ok(outcome),
        }
    }

    async fn value_of(&self, call: Call) -> Result<String> {
        match self.outcome_of(call).await? {
            Outcome::Value(value) => Ok(value.as_str().to_owned()),
            Outcome::Started(id) => Ok(id.to_string()),
            _ => unreachable!("the state machine gives each call an outcome of its own sort"),
        }
    }

    pub(crate) async fn sleep(&self, duration_ms: u64) -> Result<()> {
        if duration_ms > history::WAIT_MS_MAX {
            return Err(Error::new("invalid-argument", format!("a sleep of {duration_ms} ms is longer than a year"))
                .permanent());
        }
        if duration_ms > 0 {
            self.outcome_of(Call::Sleep { duration_ms }).await?;
        }
        Ok(())
    }

    pub(crate) async fn run_step(&self, step: String, input: String, options: StepOptions) -> Result<String> {
        self.value_of(Call::Step(step_call(step, input)?, options.into())).await
    }

    pub(crate) async fn poll(&self, step: String, input: String, policy: PollPolicy) -> Result<String> {
        let PollPolicy { interval_ms, max_attempts, timeout_ms } = policy;
        let policy = history::PollPolicy { interval_ms, max_attempts, timeout_ms };
        self.value_of(Call::Poll(step_call(step, input)?, policy)).await
    }

    pub(crate) async fn await_approval(&self, question: Question) -> Result<Answer> {
        let Question { kind, title, data, schema, timeout_ms } = question;
        let schema = schema.map(json).transpose()?;
        history::Approvers::of(schema.as_ref()).map_err(|why| {
            Error::new("invalid-argument", format!("an approval's approvers are not accepted: {why}")).permanent()
        })?;
        let request = history::ApprovalRequest { kind, title, data: json(data)?, schema, timeout_ms };
        match self.outcome_of(Call::Approval(request)).await? {
            Outcome::Approved(history::Approval { data, by, comment }) => {
                Ok(Answer { data: data.as_str().to_owned(), by, comment })
            }
            _ => unreachable!("an approval is approved or fails"),
        }
    }

    pub(crate) async fn await_signal(&self, name: String, timeout_ms: Option<u64>) -> Result<String> {
        self.value_of(Call::Signal { name, timeout_ms }).await
    }

    pub(crate) async fn run_workflow(&self, workflow: String, input: String, id: Option<String>) -> Result<String> {
        self.value_of(Call::RunWorkflow(workflow_call(workflow, input, id)?)).await
    }

    pub(crate) async fn start_workflow(&self, workflow: String, input: String, id: Option<String>) -> Result<String> {
        self.value_of(Call::StartWorkflow(workflow_call(workflow, input, id)?)).await
    }

    pub(crate) async fn continue_as_new(&self, input: String) -> Result<()> {
        if self.0.is_step() {
            return Err(Error::new(kind::NOT_GRANTED, "only a workflow can continue as new").permanent());
        }
        self.outcome_of(Call::ContinueAsNew { input: json(input)? }).await.map(drop)
    }

    pub(crate) async fn fetch(&self, request: HttpRequest) -> Result<HttpResponse> {
        if !self.0.is_step() {
            return Err(Error::new(kind::NOT_GRANTED, "a workflow cannot fetch: effects belong in steps").permanent());
        }
        let HttpRequest { method, url, headers, body, timeout_ms } = request;
        match self.outcome_of(Call::Fetch(history::HttpRequest { method, url, headers, body, timeout_ms })).await? {
            Outcome::Responded(history::HttpResponse { status, headers, body }) => {
                Ok(HttpResponse { status, headers, body })
            }
            _ => unreachable!("a fetch is answered or fails"),
        }
    }

    pub(crate) fn info(&self) -> Info {
        let begin = &self.0.begin;
        Info {
            execution_id: begin.execution.to_string(),
            workflow: begin.workflow.clone(),
            step: match &begin.entry {
                history::Entry::Step(name) => Some(name.clone()),
                history::Entry::Workflow(_) => None,
            },
            run: begin.run,
            attempt: begin.attempt,
            idempotency_key: begin.idempotency_key.clone(),
        }
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.0.clock_ms.get()
    }

    pub(crate) fn progress(&self, percent: u8, message: String) {
        self.0.requests.borrow_mut().push(Request::Progress(percent, message));
    }

    pub(crate) fn log(&self, level: Level, message: String) {
        let level = match level {
            Level::Debug => history::Level::Debug,
            Level::Info => history::Level::Info,
            Level::Warn => history::Level::Warn,
            Level::Error => history::Level::Error,
        };
        self.0.requests.borrow_mut().push(Request::Log(level, message));
    }

    pub(crate) fn set_attribute(&self, name: String, value: String) {
        assert!(!self.0.is_step(), "only a workflow can set attributes");
        let value = history::Json::parse(value).expect("a scalar has a JSON form");
        let ordinal = self.0.next_ordinal();
        self.0.requests.borrow_mut().push(Request::SetAttribute(ordinal, name, value));
    }
}

fn json(text: String) -> Result<history::Json> {
    history::Json::parse(text).map_err(|e| Error::new(kind::INVALID_ARGUMENT, e.to_string()).permanent())
}

fn step_call(step: String, input: String) -> Result<history::StepCall> {
    Ok(history::StepCall { step, input: json(input)? })
}

fn workflow_call(workflow: String, input: String, id: Option<String>) -> Result<history::WorkflowCall> {
    let id = id.map(|id| id.parse()).transpose();
    let id = id.map_err(|e: history::InvalidName| Error::new(kind::INVALID_ARGUMENT, e.to_string()).permanent())?;
    Ok(history::WorkflowCall { workflow, input: json(input)?, id })
}

/// An error as the history records it.
pub(crate) fn failure_of(error: Error) -> Failure {
    let (kind, message, details, retryable) = error.into_parts();
    let details = details.and_then(|details| history::Json::parse(details).ok());
    Failure { kind, message, details, retryable }.within_limits()
}

/// A failure as guests see it.
pub(crate) fn error_of(failure: Failure) -> Error {
    let Failure { kind, message, details, retryable } = failure;
    Error::of_parts(kind, message, details.map(|details| details.as_str().to_owned()), retryable)
}

impl From<StepOptions> for history::StepOptions {
    fn from(options: StepOptions) -> Self {
        let retry = options.retry.map(|policy| {
            let RetryPolicy { max_attempts, delay_ms, backoff, max_delay_ms, jitter } = policy;
            history::RetryPolicy { max_attempts, delay_ms, backoff, delay_ms_max: max_delay_ms, jitter }
        });
        Self { retry, timeout_ms: options.timeout_ms, deadline_ms: options.deadline_ms }
    }
}
