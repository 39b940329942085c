//! Waiting until a condition holds: driven by the engine with a check step, or in place with a closure.

use std::marker::PhantomData;

use futures::future::{FutureExt, LocalBoxFuture};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::durable::{Ask, Durable, Yields};
use crate::error::{Error, Result, kind};
use crate::host::{Host, PollPolicy};
use crate::json::{Json, decode};
use crate::time::IntoDuration;

/// The answer of a check step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Check<T> {
    /// The condition holds: the poll ends with this value.
    Ready(T),
    /// Not yet. The value shows the current state to an operator who looks at the execution meanwhile.
    NotYet(Option<Json>),
}

impl<T> Check<T> {
    /// Not yet, without a value to show.
    #[must_use]
    pub const fn not_yet() -> Self {
        Self::NotYet(None)
    }

    /// Not yet, with the state that was seen.
    ///
    /// # Errors
    /// When the state has no JSON form.
    pub fn not_yet_but(seen: &impl Serialize) -> Result<Self> {
        Ok(Self::NotYet(Some(Json::of(seen)?)))
    }
}

impl<T> From<Option<T>> for Check<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::NotYet(None), Self::Ready)
    }
}

/// The shortest time between two checks, in milliseconds.
const INTERVAL_MS_MIN: u64 = 10;

/// Interval, number of attempts and timeout: the same for both forms.
struct PollSchedule {
    interval: Result<u64>,
    attempts: u32,
    timeout: Option<Result<u64>>,
}

impl PollSchedule {
    /// Every 5 seconds, 30 times.
    const fn new() -> Self {
        Self { interval: Ok(5_000), attempts: 30, timeout: None }
    }

    fn policy(self) -> Result<PollPolicy> {
        if self.attempts == 0 {
            return Err(Error::new(kind::INVALID_ARGUMENT, "a poll needs at least one attempt").permanent());
        }
        let (interval_ms, timeout_ms) = (self.interval?, self.timeout.transpose()?);
        Ok(PollPolicy { interval_ms, max_attempts: self.attempts, timeout_ms })
    }
}

/// A poll driven by the engine: `ctx.poll(check, input).every("5s").attempts(30).await?`.
pub type Poll<T> = Durable<'static, AskPoll<T>>;

/// The request behind [`Poll`].
pub struct AskPoll<T> {
    host: Host,
    step: String,
    input: Result<String>,
    rhythm: PollSchedule,
    yields: Yields<T>,
}

impl<T: DeserializeOwned + 'static> AskPoll<T> {
    pub(crate) fn call(ctx: &Context, step: String, input: Result<String>) -> Poll<T> {
        Durable::new(Self { host: ctx.host.clone(), step, input, rhythm: PollSchedule::new(), yields: PhantomData })
    }
}

impl<T: DeserializeOwned + 'static> Poll<T> {
    /// The time from the end of one check to the start of the next, at least 10 ms; the default is 5 s.
    pub fn every(self, interval: impl IntoDuration) -> Self {
        self.map(|ask| AskPoll { rhythm: PollSchedule { interval: interval.into_ms(), ..ask.rhythm }, ..ask })
    }

    /// The number of checks; the default is 30. When they are used up, the poll fails with kind `poll-exhausted`.
    pub fn attempts(self, attempts: u32) -> Self {
        self.map(|ask| AskPoll { rhythm: PollSchedule { attempts, ..ask.rhythm }, ..ask })
    }

    /// The time from the start of the poll, tested before each check but the first. When it is over, the poll fails
    /// with kind `poll-timeout`.
    pub fn timeout(self, timeout: impl IntoDuration) -> Self {
        self.map(|ask| AskPoll { rhythm: PollSchedule { timeout: Some(timeout.into_ms()), ..ask.rhythm }, ..ask })
    }
}

impl<T: DeserializeOwned + 'static> Ask<'static> for AskPoll<T> {
    type Output = T;

    fn ask(self) -> LocalBoxFuture<'static, Result<T>> {
        async move { decode(&self.host.poll(self.step, self.input?, self.rhythm.policy()?).await?) }.boxed_local()
    }
}

/// A poll in place: `ctx.poll_until(|attempt| async move { … }).every("5s").await?`.
pub type PollUntil<'a, F, R, C, T> = Durable<'a, AskUntil<F, R, C, T>>;

/// The request behind [`PollUntil`].
pub struct AskUntil<F, R, C, T> {
    ctx: Context,
    check: F,
    rhythm: PollSchedule,
    yields: Yields<(R, C, T)>,
}

/// The type that the closure of [`Context::poll_until`] yields: a [`Check`], or an `Option` where `None` means not yet.
pub trait IsCheck<T> {
    /// The value, if the condition holds.
    fn into_ready(self) -> Option<T>;
}

impl<T> IsCheck<T> for Check<T> {
    fn into_ready(self) -> Option<T> {
        match self {
            Self::Ready(value) => Some(value),
            Self::NotYet(_) => None,
        }
    }
}

impl<T> IsCheck<T> for Option<T> {
    fn into_ready(self) -> Option<T> {
        self
    }
}

impl<'a, F, R, C, T> AskUntil<F, R, C, T>
where
    F: FnMut(u32) -> R + Unpin + 'a,
    R: Future<Output = Result<C>> + 'a,
    C: IsCheck<T> + 'a,
    T: 'a,
{
    pub(crate) fn call(ctx: &Context, check: F) -> PollUntil<'a, F, R, C, T> {
        Durable::new(Self { ctx: ctx.clone(), check, rhythm: PollSchedule::new(), yields: PhantomData })
    }
}

impl<'a, F, R, C, T> PollUntil<'a, F, R, C, T>
where
    F: FnMut(u32) -> R + Unpin + 'a,
    R: Future<Output = Result<C>> + 'a,
    C: IsCheck<T> + 'a,
    T: 'a,
{
    /// The time from the end of one check to the start of the next, at least 10 ms; the default is 5 s.
    pub fn every(self, interval: impl IntoDuration) -> Self {
        self.map(|ask| AskUntil { rhythm: PollSchedule { interval: interval.into_ms(), ..ask.rhythm }, ..ask })
    }

    /// The number of checks; the default is 30.
    pub fn attempts(self, attempts: u32) -> Self {
        self.map(|ask| AskUntil { rhythm: PollSchedule { attempts, ..ask.rhythm }, ..ask })
    }

    /// The time from the start of the poll, tested before each check but the first.
    pub fn timeout(self, timeout: impl IntoDuration) -> Self {
        self.map(|ask| AskUntil { rhythm: PollSchedule { timeout: Some(timeout.into_ms()), ..ask.rhythm }, ..ask })
    }
}

impl<'a, F, R, C, T> Ask<'a> for AskUntil<F, R, C, T>
where
    F: FnMut(u32) -> R + Unpin + 'a,
    R: Future<Output = Result<C>> + 'a,
    C: IsCheck<T> + 'a,
    T: 'a,
{
    type Output = T;

    fn ask(self) -> LocalBoxFuture<'a, Result<T>> {
        let Self { ctx, check, rhythm, .. } = self;
        async move { poll_in_place(&ctx, check, rhythm.policy()?).await }.boxed_local()
    }
}

/// A poll that is durable through its sleeps: a rerun gets the outcomes of past attempts from the history and goes on
/// counting. Its rules are those of a poll that the engine drives; `wit/polls.json` has cases for both.
async fn poll_in_place<F, R, C, T>(ctx: &Context, mut check: F, policy: PollPolicy) -> Result<T>
where
    F: FnMut(u32) -> R,
    R: Future<Output = Result<C>>,
    C: IsCheck<T>,
{
    let PollPolicy { interval_ms, max_attempts, timeout_ms } = policy;
    let started_ms = ctx.host.now_ms();
    for attempt in 1..=max_attempts {
        if attempt > 1 {
            ctx.host.sleep(interval_ms.max(INTERVAL_MS_MIN)).await?;
            let spent_ms = ctx.host.now_ms().saturating_sub(started_ms);
            if let Some(timeout_ms) = timeout_ms.filter(|&timeout_ms| spent_ms >= timeout_ms) {
                let message = format!("Polling timed out after {spent_ms}ms (timeout: {timeout_ms}ms)");
                return Err(Error::new(kind::POLL_TIMEOUT, message).permanent());
            }
        }
        if let Some(value) = check(attempt).await?.into_ready() {
            return Ok(value);
        }
    }
    let message = format!("Polling failed after {max_attempts} attempts (interval: {interval_ms}ms)");
    // All attempts that the author asked for were made. The policy of the step around must not multiply them.
    Err(Error::new(kind::POLL_EXHAUSTED, message).permanent())
}
