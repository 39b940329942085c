//! Steps: how they are declared, and how they are called.

use std::marker::PhantomData;

use futures::future::{FutureExt, LocalBoxFuture};

use crate::context::Context;
use crate::durable::{Ask, Durable, Yields};
use crate::error::Result;
use crate::host::Host;
use crate::json::Data;
use crate::time::IntoDuration;

/// How often a failed step is tried again, and when.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// The number of attempts, including the first; 1 means no retry.
    pub max_attempts: u32,
    /// The wait before the second attempt, in milliseconds.
    pub delay_ms: u64,
    /// Each further wait is the one before it times this factor.
    pub backoff: f64,
    /// The longest wait, in milliseconds.
    pub max_delay_ms: u64,
    /// The random share that is added to or taken from each wait: 0.2 means ±20 %.
    pub jitter: f64,
}

impl RetryPolicy {
    /// Three attempts, 1 s, doubling, at most 5 minutes, ±20 %.
    pub const DEFAULT: Self =
        Self { max_attempts: 3, delay_ms: 1_000, backoff: 2.0, max_delay_ms: 300_000, jitter: 0.2 };
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The bounds of a step. A bound that is left out comes from the step's declaration, then from the engine.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StepOptions {
    /// How often a failed step is tried again, and when.
    pub retry: Option<RetryPolicy>,
    /// The bound of each stretch between two durable waits, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// The bound of the whole step, retries and waits included, in milliseconds.
    pub deadline_ms: Option<u64>,
}

/// A step. `#[step]` on a function makes a type of the same name that implements this, besides the function that calls
/// it.
pub trait Step: 'static {
    /// The name in the component.
    const NAME: &'static str;
    /// The first paragraph of the doc comment.
    const SUMMARY: Option<&'static str>;
    /// The bounds.
    const OPTIONS: StepOptions;
    /// The type of the input; `()` without one.
    type Input: Data;
    /// The type of the output.
    type Output: Data;

    /// The body, without retries, journal or sandbox.
    fn run(ctx: Context, input: Self::Input) -> impl Future<Output = Result<Self::Output>> + 'static;
}

/// A function made by `#[step]`, for functions that take a step without calling it.
#[diagnostic::on_unimplemented(message = "expected a function with `#[step]`", label = "not a step")]
pub trait IsStep<S: Step, Arity> {}

impl<S: Step, F: Fn(&Context, S::Input) -> StepRun<S>> IsStep<S, (S::Input,)> for F {}
impl<S: Step, F: Fn(&Context) -> StepRun<S>> IsStep<S, ()> for F {}

/// A call of a step: `create_droplet(&ctx, order).await?`.
pub type StepRun<S> = Durable<'static, AskStep<S, <S as Step>::Output>>;

/// A call of a step by its name: `component/step` for a step of another component.
pub type StepByName<T> = Durable<'static, AskStep<(), T>>;

/// The request behind [`StepRun`] and [`StepByName`]: step `S` (`()` when only its name is known) yielding `T`.
pub struct AskStep<S, T> {
    host: Host,
    pub(crate) step: String,
    pub(crate) input: Result<String>,
    retry: Option<RetryPolicy>,
    timeout: Option<Result<u64>>,
    deadline: Option<Result<u64>>,
    yields: Yields<(S, T)>,
}

impl<S: Step> StepRun<S> {
    /// The call of a step; the function that `#[step]` makes is only this.
    pub fn of(ctx: &Context, input: S::Input) -> Self {
        AskStep::call(ctx, S::NAME, input.to_json())
    }
}

impl<S: 'static, T: Data> AskStep<S, T> {
    pub(crate) fn call(ctx: &Context, step: &str, input: Result<String>) -> Durable<'static, Self> {
        Durable::new(Self {
            host: ctx.host.clone(),
            step: step.to_owned(),
            input,
            retry: None,
            timeout: None,
            deadline: None,
            yields: PhantomData,
        })
    }
}

impl<S: 'static, T: Data> Durable<'static, AskStep<S, T>> {
    /// Replaces the retry policy that the step declares, for this call.
    pub fn retry(self, policy: RetryPolicy) -> Self {
        self.map(|ask| AskStep { retry: Some(policy), ..ask })
    }

    /// Bounds each stretch of this call between two durable waits.
    pub fn timeout(self, timeout: impl IntoDuration) -> Self {
        self.map(|ask| AskStep { timeout: Some(timeout.into_ms()), ..ask })
    }

    /// Bounds this whole call, retries and waits included.
    pub fn deadline(self, deadline: impl IntoDuration) -> Self {
        self.map(|ask| AskStep { deadline: Some(deadline.into_ms()), ..ask })
    }
}

impl<S: 'static, T: Data> Ask<'static> for AskStep<S, T> {
    type Output = T;

    fn ask(self) -> LocalBoxFuture<'static, Result<T>> {
        async move {
            let options = StepOptions {
                retry: self.retry,
                timeout_ms: self.timeout.transpose()?,
                deadline_ms: self.deadline.transpose()?,
            };
            T::from_json(&self.host.run_step(self.step, self.input?, options).await?)
        }
        .boxed_local()
    }
}
