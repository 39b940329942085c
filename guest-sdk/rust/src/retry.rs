//! Trying something again in place, with durable waits between the attempts.

use std::marker::PhantomData;

use futures::future::{FutureExt, LocalBoxFuture};

use crate::context::Context;
use crate::durable::{Ask, Durable, Yields};
use crate::error::{Error, Result, kind};
use crate::time::IntoDuration;

/// `ctx.retry(|attempt| async move { … }).attempts(10).delay("5s").backoff(2.0).await?`.
pub type Retry<'a, F, R, T> = Durable<'a, AskRetry<'a, F, R, T>>;

/// The question behind [`Retry`].
pub struct AskRetry<'a, F, R, T> {
    ctx: Context,
    attempt: F,
    attempts: u32,
    delay: Result<u64>,
    max_delay: Result<u64>,
    backoff: f64,
    only_if: Box<dyn Fn(&Error) -> bool + 'a>,
    yields: Yields<(R, T)>,
}

impl<'a, F, R, T> AskRetry<'a, F, R, T>
where
    F: FnMut(u32) -> R + Unpin + 'a,
    R: Future<Output = Result<T>> + 'a,
    T: 'a,
{
    pub(crate) fn call(ctx: &Context, attempt: F) -> Retry<'a, F, R, T> {
        Durable::new(Self {
            ctx: ctx.clone(),
            attempt,
            attempts: 3,
            delay: Ok(1_000),
            max_delay: Ok(u64::MAX),
            backoff: 1.0,
            only_if: Box::new(Error::is_retryable),
            yields: PhantomData,
        })
    }
}

impl<'a, F, R, T> Retry<'a, F, R, T>
where
    F: FnMut(u32) -> R + Unpin + 'a,
    R: Future<Output = Result<T>> + 'a,
    T: 'a,
{
    /// Attempts in all, the first included; 3 unless told.
    pub fn attempts(self, attempts: u32) -> Self {
        self.map(|ask| AskRetry { attempts, ..ask })
    }

    /// Wait before the second attempt; 1 s unless told.
    pub fn delay(self, delay: impl IntoDuration) -> Self {
        self.map(|ask| AskRetry { delay: delay.into_ms(), ..ask })
    }

    /// No wait is longer than this.
    pub fn max_delay(self, max_delay: impl IntoDuration) -> Self {
        self.map(|ask| AskRetry { max_delay: max_delay.into_ms(), ..ask })
    }

    /// Each further wait is the one before it times this factor; 1.0, a constant wait, unless told.
    pub fn backoff(self, backoff: f64) -> Self {
        self.map(|ask| AskRetry { backoff, ..ask })
    }

    /// Tries again only after errors of which this holds; unless told, after all but permanent ones.
    pub fn only_if(self, condition: impl Fn(&Error) -> bool + 'a) -> Self {
        self.map(|ask| AskRetry { only_if: Box::new(condition), ..ask })
    }
}

impl<'a, F, R, T> Ask<'a> for AskRetry<'a, F, R, T>
where
    F: FnMut(u32) -> R + Unpin + 'a,
    R: Future<Output = Result<T>> + 'a,
    T: 'a,
{
    type Output = T;

    fn ask(mut self) -> LocalBoxFuture<'a, Result<T>> {
        async move {
            let (delay_ms, max_delay_ms) = (self.delay?, self.max_delay?);
            let mut attempt = 1;
            loop {
                let error = match (self.attempt)(attempt).await {
                    Ok(value) => return Ok(value),
                    Err(error) => error,
                };
                // A cancelled execution is to end, not to be stubborn.
                if error.is(kind::CANCELLED) || !(self.only_if)(&error) {
                    return Err(error);
                }
                if attempt >= self.attempts {
                    // The policy of the step around it is not to multiply the attempts that its author wanted.
                    return Err(error.permanent());
                }
                self.ctx.host.sleep(wait_ms(delay_ms, self.backoff, attempt).min(max_delay_ms)).await?;
                attempt += 1;
            }
        }
        .boxed_local()
    }
}

/// The wait after this attempt (from 1): delay · backoff^(attempt - 1).
fn wait_ms(delay_ms: u64, backoff: f64, attempt: u32) -> u64 {
    let factor = backoff.max(0.0).powi(i32::try_from(attempt - 1).unwrap_or(i32::MAX));
    // The cast saturates, which is what an overgrown delay should do.
    (delay_ms as f64 * factor).round() as u64
}

#[cfg(test)]
mod tests {
    #[test]
    fn waits_grow_by_the_factor_and_saturate() {
        let waits: Vec<_> = (1..=4).map(|attempt| super::wait_ms(5_000, 2.0, attempt)).collect();
        assert_eq!(waits, [5_000, 10_000, 20_000, 40_000]);
        assert_eq!(super::wait_ms(7, 1.0, 100), 7);
        assert_eq!(super::wait_ms(1, 10.0, 4_000), u64::MAX);
    }
}
