//! Moments, as seen from now.

use std::time::{SystemTime, UNIX_EPOCH};

use prost_types::Timestamp;

use crate::durations::roughly;

/// The moment from which relative times count, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Now(pub(crate) u64);

impl Now {
    /// This machine's clock.
    pub(crate) fn measured() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// The moment as the wire's type.
    pub(crate) fn timestamp(self) -> Timestamp {
        let seconds = i64::try_from(self.0 / 1_000).unwrap_or(i64::MAX);
        let nanos = i32::try_from(self.0 % 1_000 * 1_000_000).unwrap_or(0);
        Timestamp { seconds, nanos }
    }
}

/// Milliseconds since 1970.
pub(crate) fn moment_ms(at: &Timestamp) -> u64 {
    let seconds = u64::try_from(at.seconds).unwrap_or(0);
    seconds.saturating_mul(1_000).saturating_add(u64::try_from(at.nanos / 1_000_000).unwrap_or(0))
}

/// `3m 12s ago`, `in 2h`.
pub(crate) fn ago(at: Option<&Timestamp>, now: Now) -> String {
    let Some(at) = at.map(moment_ms) else { return String::new() };
    match at > now.0 {
        true => format!("in {}", roughly(at - now.0)),
        false => format!("{} ago", roughly(now.0 - at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_told_from_now() {
        let at = Timestamp { seconds: 100, nanos: 0 };
        assert_eq!(ago(Some(&at), Now(292_000)), "3m 12s ago");
        assert_eq!(ago(Some(&at), Now(40_000)), "in 1m");
        assert_eq!(ago(None, Now(0)), "");
        assert_eq!(moment_ms(&Now(292_123).timestamp()), 292_123);
    }
}
