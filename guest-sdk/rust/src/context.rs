//! The context that every workflow and step gets: its access to everything durable.

use std::fmt::Display;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Result;
use crate::host::{Host, Info, Level};
use crate::http::{AskFetch, Body, Fetch};
use crate::json::{Data, encode};
use crate::poll::{AskPoll, AskUntil, Check, IsCheck, Poll, PollUntil};
use crate::retry::{AskRetry, Retry};
use crate::step::{AskStep, IsStep, Step, StepByName};
use crate::time::IntoDuration;
use crate::waits::{AskApproval, AskSignal, AskSleep, AwaitApproval, AwaitSignal, Sleep};
use crate::workflow::{AskStart, AskWorkflow, IsWorkflow, Workflow, WorkflowByName, WorkflowRun, WorkflowStart};

/// The first parameter of every workflow and step. Cheap to clone.
///
/// Methods that wait return a [`Durable`](crate::calls::Durable) call. Its outcome is recorded, so the code after it continues
/// with the same value after a crash, a restart of the engine, or a year of sleep.
#[derive(Clone)]
pub struct Context {
    pub(crate) host: Host,
}

/// Waiting.
impl Context {
    /// Waits for at most one year. The code after it runs at the deadline, whatever happened to the engine meanwhile.
    pub fn sleep(&self, duration: impl IntoDuration) -> Sleep {
        AskSleep::call(self, duration)
    }

    /// Runs a check step at intervals until it returns [`Check::Ready`]. The engine drives the poll: this guest is not
    /// in memory meanwhile, and the history does not grow with the attempts.
    pub fn poll<S, T, A>(&self, check: impl IsStep<S, A>, input: S::Input) -> Poll<T>
    where
        S: Step<Output = Check<T>>,
        T: DeserializeOwned + 'static,
    {
        let _ = check;
        AskPoll::call(self, S::NAME.to_owned(), input.to_json())
    }

    /// The same with a check step given by name: `component/step` for a step of another component.
    pub fn poll_by_name<T: DeserializeOwned + 'static>(&self, check: &str, input: &impl Serialize) -> Poll<T> {
        AskPoll::call(self, check.to_owned(), encode(input))
    }

    /// Polls in place: calls a closure with the number of the attempt until it yields `Ok(Some(value))` or
    /// [`Check::Ready`]. The calls that it awaits and the waits between attempts are durable: a rerun goes on where it
    /// was.
    pub fn poll_until<'a, F, R, C, T>(&self, check: F) -> PollUntil<'a, F, R, C, T>
    where
        F: FnMut(u32) -> R + Unpin + 'a,
        R: Future<Output = Result<C>> + 'a,
        C: IsCheck<T> + 'a,
        T: 'a,
    {
        AskUntil::call(self, check)
    }

    /// Retries in place: calls a closure with the number of the attempt until it succeeds.
    pub fn retry<'a, F, R, T>(&self, attempt: F) -> Retry<'a, F, R, T>
    where
        F: FnMut(u32) -> R + Unpin + 'a,
        R: Future<Output = Result<T>> + 'a,
        T: 'a,
    {
        AskRetry::call(self, attempt)
    }

    /// Asks a person. A rejection is an error of kind `rejected`; without an answer in time, the kind is
    /// `approval-timeout`.
    pub fn approval(&self, title: impl Into<String>) -> AwaitApproval {
        AskApproval::call(self, title.into())
    }

    /// Waits for a signal of that name. Signals that were sent earlier are queued.
    pub fn signal<T: DeserializeOwned + 'static>(&self, name: impl Into<String>) -> AwaitSignal<T> {
        AskSignal::call(self, name.into())
    }
}

/// Calling steps, workflows and servers.
impl Context {
    /// Calls a step by its name: `component/step` for a step of another component, in any language.
    pub fn step_by_name<T: Data>(&self, step: &str, input: &impl Serialize) -> StepByName<T> {
        AskStep::call(self, step, encode(input))
    }

    /// Runs a workflow of this component as a child and waits for its output. It is cancelled with this execution.
    pub fn run_workflow<W: Workflow, A>(&self, child: impl IsWorkflow<W, A>, input: W::Input) -> WorkflowRun<W> {
        let _ = child;
        WorkflowRun::<W>::of(self, input)
    }

    /// The same for a workflow given by name: `component/workflow`.
    pub fn run_workflow_by_name<T: Data>(&self, child: &str, input: &impl Serialize) -> WorkflowByName<T> {
        AskWorkflow::call(self, child, encode(input))
    }

    /// Starts a workflow of this component as an execution that outlives this one; yields its id.
    pub fn start_workflow<W: Workflow, A>(&self, workflow: impl IsWorkflow<W, A>, input: W::Input) -> WorkflowStart {
        let _ = workflow;
        AskStart::call(self, W::NAME, input.to_json())
    }

    /// The same for a workflow given by name: `component/workflow`.
    pub fn start_workflow_by_name(&self, workflow: &str, input: &impl Serialize) -> WorkflowStart {
        AskStart::call(self, workflow, encode(input))
    }

    /// Ends this run and starts the same workflow anew under the same id, with an empty history:
    /// `return ctx.continue_as_new(next).await;`. It returns only with the error when it was refused. Workflows only.
    ///
    /// # Errors
    /// When the input has no JSON form, or the host refuses.
    pub async fn continue_as_new<T>(&self, input: impl Serialize) -> Result<T> {
        self.host.continue_as_new(encode(&input)?).await?;
        futures::future::pending().await
    }

    /// Sends an HTTP request, in steps only. The module [`http`](crate::http) has a shorter way to write one.
    pub fn fetch(&self, request: http::Request<impl Into<Body>>) -> Fetch {
        AskFetch::call(self, request)
    }

    /// Limits the time of a future: yields its result, or drops it and fails with kind `timeout`.
    ///
    /// # Errors
    /// Those of the future, and `timeout`.
    pub async fn timeout<T>(&self, limit: impl IntoDuration, future: impl Future<Output = Result<T>>) -> Result<T> {
        let limit_ms = limit.into_ms()?;
        let sleep = std::pin::pin!(self.sleep(Duration::from_millis(limit_ms)));
        match futures::future::select(std::pin::pin!(future), sleep).await {
            futures::future::Either::Left((result, _)) => result,
            futures::future::Either::Right((slept, _)) => {
                slept?;
                Err(crate::Error::new(crate::kind::TIMEOUT, format!("took longer than {limit_ms}ms")))
            }
        }
    }
}

/// Progress, log lines and attributes.
impl Context {
    /// Sets the latest progress of this workflow or step, 0 to 100. State, not history; never repeated by a rerun.
    pub fn progress(&self, percent: u8, message: impl Display) {
        self.host.progress(percent.min(100), message.to_string());
    }

    /// Writes a line at level `info` for `cerebelum logs`. Never repeated by a rerun.
    pub fn info(&self, message: impl Display) {
        self.log(Level::Info, message);
    }

    /// Writes a line at level `warn`.
    pub fn warn(&self, message: impl Display) {
        self.log(Level::Warn, message);
    }

    /// Writes a line at the given level.
    pub fn log(&self, level: Level, message: impl Display) {
        self.host.log(level, message.to_string());
    }

    /// Sets an attribute of the execution, by which lists can be filtered. Workflows only.
    pub fn set_attribute(&self, name: impl Into<String>, value: impl Into<Scalar>) {
        self.host.set_attribute(name.into(), value.into().0);
    }
}

/// Facts about the execution, the run and the attempt.
impl Context {
    /// The time of the last event delivered to this workflow or step. It repeats on a rerun.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.host.now_ms())
    }

    /// The id of the execution.
    #[must_use]
    pub fn execution_id(&self) -> String {
        self.info_record().execution_id
    }

    /// The name of the workflow that the execution runs.
    #[must_use]
    pub fn workflow_name(&self) -> String {
        self.info_record().workflow
    }

    /// The name of the running step; none in a workflow.
    #[must_use]
    pub fn step_name(&self) -> Option<String> {
        self.info_record().step
    }

    /// The number of this run, from 1. Every continue-as-new increments it.
    #[must_use]
    pub fn run(&self) -> u32 {
        self.info_record().run
    }

    /// The number of this attempt of the step, from 1; always 1 in a workflow.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.info_record().attempt
    }

    /// 32 hex digits, the same in all retries and reruns: for services that support idempotency keys.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        self.info_record().idempotency_key
    }

    fn info_record(&self) -> Info {
        self.host.info()
    }
}

/// The value of an attribute: a text, number or boolean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scalar(String);

macro_rules! scalars {
    ($($type:ty),*) => { $(
        impl From<$type> for Scalar {
            fn from(value: $type) -> Self {
                Self(serde_json::json!(value).to_string())
            }
        }
    )* };
}

scalars!(&str, String, &String, bool, i32, u32, i64, u64, usize, f64);
