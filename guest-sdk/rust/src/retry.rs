//! Retries in place, with durable waits between the attempts.

use std::marker::PhantomData;

use futures::future::{FutureExt, LocalBoxFuture};

use crate::context::Context;
use crate::durable::{Ask, Durable, Yields};
use crate::error::{Error, Result, kind};
use crate::time::IntoDuration;

/// `ctx.retry(|attempt| async move { … }).attempts(10).delay("5s").backoff(2.0).await?`.
pub type Retry<'a, F, R, T> = Durable<'a, AskRetry<'a, F, R, T>>;

/// The request behind [`Retry`].
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
    /// The number of attempts, including the first; the default is 3.
    pub fn attempts(self, attempts: u32) -> Self {
        self.map(|ask| AskRetry { attempts, ..ask })
    }

    /// The wait before the second attempt; the default is 1 s.
    pub fn delay(self, delay: impl IntoDuration) -> Self {
        self.map(|ask| AskRetry { delay: delay.into_ms(), ..ask })
    }

    /// The longest wait.
    pub fn max_delay(self, max_delay: impl IntoDuration) -> Self {
        self.map(|ask| AskRetry { max_delay: max_delay.into_ms(), ..ask })
    }

    /// Each further wait is the one before it times this factor. The default is 1.0, a constant wait.
    pub fn backoff(self, backoff: f64) -> Self {
        self.map(|ask| AskRetry { backoff, ..ask })
    }

    /// Tries again only after errors that meet this condition; the default is all but permanent errors.
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
                // A cancelled execution must end and not try again.
                if error.is(kind::CANCELLED) || !(self.only_if)(&error) {
                    return Err(error);
                }
                if attempt >= self.attempts {
                    // The policy of the step around must not multiply the attempts that the author asked for.
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
    // The cast saturates, which is right for a delay that has grown too large.
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
