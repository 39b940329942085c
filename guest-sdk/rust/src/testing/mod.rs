//! A local executor with a virtual clock, for `cargo test`: workflows run natively, a month of waiting takes no time.
//!
//! It drives the same state machine as the engine, and a guest makes the same calls and gets the same outcomes in the
//! same order. It differs from the engine in these points: the host's own clock, random numbers and `HashMap` order are
//! not replaced natively (use [`Context::now`](crate::Context::now)), a step's `timeout` has nothing to measure, and
//! steps of components other than the crate under test are replaced with [`Local::step_by_name`].
//!
//! ```
//! use cerebelum::prelude::*;
//! use cerebelum::testing::{Local, approve};
//!
//! #[step]
//! async fn charge(ctx: Context, cents: u64) -> Result<String> {
//!     http::post("https://pay.example.com/charges").json(&cents).send(&ctx).await?.error_for_status()?.json()
//! }
//!
//! #[workflow]
//! async fn sell(ctx: Context, cents: u64) -> Result<String> {
//!     ctx.approval("Sell?").timeout(days(30)).await?;
//!     charge(&ctx, cents).await
//! }
//!
//! let run = Local::new()
//!     .on_approval("Sell?", approve(&()).after(days(29)))
//!     .step(charge, |cents| Ok(format!("charged {cents}")))
//!     .run(sell, 500);
//! assert_eq!(run.output().unwrap(), "charged 500");
//! assert_eq!(run.elapsed(), days(29));
//! ```

mod guest;
mod local_execution;
mod manifest;
mod run;
mod script;
mod world;

use std::time::{Duration, SystemTime};

use cerebelum_history::{ExecutionId, Message, Timestamp};
use http::Request;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Result;
use crate::json::{Data, decode, encode};
use crate::step::{IsStep, Step, StepRun};
use crate::time::IntoDuration;
use crate::workflow::{IsWorkflow, Workflow};

pub use manifest::manifest;
pub use run::{Event, Run};
pub use script::{Answers, Asked, Decision, Reply, approve, reject, reply, silence};

use script::Script;
use world::World;

/// Midnight of 1 January 2000, UTC: the default start of the clock.
const EPOCH_MS: u64 = 946_684_800_000;

/// The world of a test: the answers, and the times of events. [`Local::run`] sets it in motion.
#[must_use = "nothing happens before `run`"]
pub struct Local {
    script: Script,
    began_ms: u64,
    hibernating: bool,
}

impl Default for Local {
    fn default() -> Self {
        Self::new()
    }
}

impl Local {
    /// A world with every workflow and step of this program, in which no question and no request is answered.
    pub fn new() -> Self {
        Self { script: Script::new(), began_ms: EPOCH_MS, hibernating: false }
    }

    /// Begins at this time instead of 1 January 2000.
    pub fn starting_at(self, time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { began_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX), ..self }
    }

    /// Drops every guest at every wait and reruns it afterwards, as an engine short of memory would. A workflow that
    /// makes other calls on a rerun fails with kind `diverged`.
    pub fn hibernating(self) -> Self {
        Self { hibernating: true, ..self }
    }

    /// Replaces a step with a closure. It is called once per attempt, with the retry policy of the real step.
    pub fn step<S: Step, A>(
        mut self,
        step: impl IsStep<S, A>,
        mut instead: impl FnMut(S::Input) -> Result<S::Output> + 'static,
    ) -> Self {
        let _ = step;
        self.script.replace(false, S::NAME, move |text| instead(S::Input::from_json(text)?)?.to_json());
        self
    }

    /// The same by name: `component/step` for a step of another component.
    pub fn step_by_name<I: DeserializeOwned + 'static, O: Serialize + 'static>(
        mut self,
        step: &str,
        mut instead: impl FnMut(I) -> Result<O> + 'static,
    ) -> Self {
        self.script.replace(false, step, move |text| encode(&instead(decode(text)?)?));
        self
    }

    /// Replaces a workflow that is run or started as a child with a closure.
    pub fn workflow_by_name<I: DeserializeOwned + 'static, O: Serialize + 'static>(
        mut self,
        workflow: &str,
        mut instead: impl FnMut(I) -> Result<O> + 'static,
    ) -> Self {
        self.script.replace(true, workflow, move |text| encode(&instead(decode(text)?)?));
        self
    }

    /// Answers approvals with this title: with one [`Decision`] for all, or with a closure that gets the question.
    pub fn on_approval(mut self, title: impl Into<String>, answers: impl Answers + 'static) -> Self {
        self.script.approvals.push((title.into(), Box::new(answers)));
        self
    }

    /// Answers all HTTP requests of steps. Secrets are still `{{secret:NAME}}` there.
    pub fn on_http<R: Reply>(mut self, mut server: impl FnMut(Request<Vec<u8>>) -> R + 'static) -> Self {
        self.script.http = Some(Box::new(move |request| server(request).into_result()));
        self
    }

    /// Sends a signal at the start, before any call waits for it.
    pub fn signal(self, name: impl Into<String>, data: &impl Serialize) -> Self {
        self.signal_after(Duration::ZERO, name, data)
    }

    /// Sends a signal this long after the start.
    pub fn signal_after(self, wait: impl IntoDuration, name: impl Into<String>, data: &impl Serialize) -> Self {
        let message = Message::Signal { name: name.into(), data: script::json(encode(data)), cause: None };
        self.later(wait, message)
    }

    /// Cancels the execution this long after the start.
    pub fn cancel_after(self, wait: impl IntoDuration) -> Self {
        let wait_ms = script::ms(wait);
        let at = Timestamp(self.began_ms).plus(wait_ms);
        self.later(Duration::from_millis(wait_ms), Message::Cancel { at })
    }

    fn later(mut self, wait: impl IntoDuration, message: Message) -> Self {
        self.script.messages.push((script::ms(wait), message));
        self
    }

    /// Runs a workflow to its end, or until it waits for something that never happens in this world.
    ///
    /// # Panics
    /// When the input has no JSON form.
    pub fn run<W: Workflow, A>(self, workflow: impl IsWorkflow<W, A>, input: W::Input) -> Run<W::Output> {
        let _ = workflow;
        self.start(W::NAME, input.to_json())
    }

    /// Runs a step as if a workflow had called it, with its retries.
    ///
    /// # Panics
    /// When the input has no JSON form.
    pub fn run_step<S: Step, A>(mut self, step: impl IsStep<S, A>, input: S::Input) -> Run<S::Output> {
        let _ = step;
        let name = format!("call of {}", S::NAME);
        self.script.put(true, &name, |ctx, input| {
            Box::pin(async move { StepRun::<S>::of(&ctx, Data::from_json(&input)?).await?.to_json() })
        });
        self.start(&name, input.to_json())
    }

    fn start<T: Data>(self, workflow: &str, input: Result<String>) -> Run<T> {
        let id: ExecutionId = "local".parse().expect("`local` is an execution id");
        let mut world = World::new(self.script, Timestamp(self.began_ms), self.hibernating);
        world.start(&id, workflow, script::json(input));
        world.run_until_ended(&id);
        Run::of(&world, &id, Timestamp(self.began_ms))
    }
}
