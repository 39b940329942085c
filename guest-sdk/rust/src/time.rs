//! Durations as authors write them: a `Duration`, `days(3)` or `"5s"`.

#[path = "../macros/src/duration.rs"]
mod duration;

use std::time::Duration;

use crate::error::{Error, Result, kind};

/// That many milliseconds.
#[must_use]
pub const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// That many seconds.
#[must_use]
pub const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// That many minutes.
#[must_use]
pub const fn minutes(count: u64) -> Duration {
    Duration::from_secs(count.saturating_mul(60))
}

/// That many hours.
#[must_use]
pub const fn hours(count: u64) -> Duration {
    Duration::from_secs(count.saturating_mul(3_600))
}

/// That many days of 24 hours.
#[must_use]
pub const fn days(count: u64) -> Duration {
    Duration::from_secs(count.saturating_mul(86_400))
}

/// A duration: a [`Duration`], or a text such as `"500ms"`, `"5s"`, `"1m30s"`, `"2h"`, `"3d"`, `"2w"`.
///
/// A call that was given an invalid text fails with kind `invalid-argument`.
pub trait IntoDuration {
    /// The duration in milliseconds, with fractions rounded up: a wait is never shorter than requested.
    ///
    /// # Errors
    /// When a text is not a valid duration.
    fn into_ms(self) -> Result<u64>;
}

impl IntoDuration for Duration {
    fn into_ms(self) -> Result<u64> {
        Ok(u64::try_from(self.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
    }
}

impl IntoDuration for &str {
    fn into_ms(self) -> Result<u64> {
        duration::parse_ms(self).map_err(|e| Error::new(kind::INVALID_ARGUMENT, e).permanent())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_written() {
        for (text, ms) in [("0s", 0), ("500ms", 500), ("5s", 5_000), ("1m30s", 90_000), ("2h", 7_200_000)] {
            assert_eq!(text.into_ms().unwrap(), ms, "{text}");
        }
        assert_eq!(days(3).into_ms().unwrap(), "3d".into_ms().unwrap());
        assert_eq!(days(15).into_ms().unwrap(), "2w1d".into_ms().unwrap());
        assert_eq!(Duration::from_nanos(1).into_ms().unwrap(), 1);
        for text in ["", "5", "s", "5 s", "-5s", "5x", "999999999999d", "99999999999w"] {
            assert!(text.into_ms().is_err(), "{text}");
        }
    }
}
