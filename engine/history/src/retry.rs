//! Delays between the attempts of a step.

use crate::limits::RETRY_DELAY_MS_MIN;
use crate::{Failure, RetryPolicy};

impl RetryPolicy {
    /// The wait after this attempt (from 1) failed, or none if it was the last attempt or another one cannot help. A
    /// wait is never shorter than [`RETRY_DELAY_MS_MIN`], because a step that fails at once must not keep the engine
    /// busy. The random number `chance` in 0..1 decides the jitter. The caller records the result and never draws it
    /// again (L14).
    #[must_use]
    pub fn delay_after(&self, attempt: u32, failure: &Failure, chance: f64) -> Option<u64> {
        if attempt >= self.max_attempts || !failure.retryable {
            return None;
        }
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let ms = |delay: u64| u32::try_from(delay).map_or(f64::from(u32::MAX), f64::from);
        let plain = (ms(self.delay_ms) * self.backoff.max(0.0).powi(exponent)).min(ms(self.delay_ms_max));
        let jitter = self.jitter.clamp(0.0, 1.0) * (2.0 * chance - 1.0);
        let delay = (plain * (1.0 + jitter)).clamp(0.0, f64::from(u32::MAX));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to 0..2^32 the line before"
        )]
        Some((delay.round() as u64).max(RETRY_DELAY_MS_MIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind;

    fn check(policy: &RetryPolicy, chance: f64, expect: &[Option<u64>]) {
        let failure = Failure::retryable(kind::FAILURE, "no");
        for (attempt, expect) in (1..).zip(expect) {
            assert_eq!(policy.delay_after(attempt, &failure, chance), *expect, "after attempt {attempt}");
        }
    }

    #[test]
    fn delays_grow_by_backoff_up_to_the_maximum_and_end_with_the_attempts() {
        let policy = RetryPolicy { max_attempts: 5, delay_ms: 5_000, backoff: 2.0, delay_ms_max: 30_000, jitter: 0.0 };
        check(&policy, 0.5, &[Some(5_000), Some(10_000), Some(20_000), Some(30_000), None]);
        check(&RetryPolicy { backoff: 1.0, ..policy }, 0.5, &[Some(5_000), Some(5_000)]);
    }

    #[test]
    fn jitter_is_a_share_both_ways() {
        let policy = RetryPolicy::default();
        check(&policy, 0.0, &[Some(800)]);
        check(&policy, 0.5, &[Some(1_000)]);
        check(&policy, 1.0, &[Some(1_200)]);
    }

    #[test]
    fn no_wait_is_shorter_than_the_floor() {
        let none = RetryPolicy { delay_ms: 0, delay_ms_max: 0, ..RetryPolicy::default() };
        check(&none, 0.5, &[Some(RETRY_DELAY_MS_MIN), Some(RETRY_DELAY_MS_MIN), None]);
        check(&RetryPolicy { delay_ms: 11, jitter: 1.0, ..none }, 0.0, &[Some(RETRY_DELAY_MS_MIN)]);
    }

    #[test]
    fn extreme_policies_neither_overflow_nor_panic() {
        let wild = RetryPolicy {
            max_attempts: u32::MAX,
            delay_ms: u64::MAX,
            backoff: f64::MAX,
            delay_ms_max: u64::MAX,
            jitter: f64::NAN,
        };
        let failure = Failure::retryable(kind::FAILURE, "no");
        for attempt in [1, 2, u32::MAX - 1] {
            assert!(wild.delay_after(attempt, &failure, 0.5).is_some());
        }
    }

    #[test]
    fn a_failure_that_no_attempt_can_mend_is_not_retried() {
        let failure = Failure::new(kind::FAILURE, "no");
        assert_eq!(RetryPolicy::default().delay_after(1, &failure, 0.5), None);
    }
}
