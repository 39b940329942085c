//! Moments as seen from now, and spans of time in short form.

use std::time::{SystemTime, UNIX_EPOCH};

use prost_types::Timestamp;

/// The moment from which relative times count, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now(pub u64);

impl Now {
    /// This machine's clock.
    #[must_use]
    pub fn measured() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// The moment as the wire's type.
    #[must_use]
    pub fn timestamp(self) -> Timestamp {
        let seconds = i64::try_from(self.0 / 1_000).unwrap_or(i64::MAX);
        let nanos = i32::try_from(self.0 % 1_000 * 1_000_000).unwrap_or(0);
        Timestamp { seconds, nanos }
    }
}

/// Milliseconds since 1970.
#[must_use]
pub fn moment_ms(at: &Timestamp) -> u64 {
    let seconds = u64::try_from(at.seconds).unwrap_or(0);
    seconds.saturating_mul(1_000).saturating_add(u64::try_from(at.nanos / 1_000_000).unwrap_or(0))
}

/// `3m 12s ago`, `in 2h`.
#[must_use]
pub fn ago(at: Option<&Timestamp>, now: Now) -> String {
    let Some(at) = at.map(moment_ms) else { return String::new() };
    match at > now.0 {
        true => format!("in {}", roughly(at - now.0)),
        false => format!("{} ago", roughly(now.0 - at)),
    }
}

/// A span in short form: two units at most.
#[must_use]
pub fn roughly(ms: u64) -> String {
    let (seconds, minutes, hours, days) = (ms / 1_000, ms / 60_000, ms / 3_600_000, ms / 86_400_000);
    match () {
        () if ms < 1_000 => format!("{ms}ms"),
        () if ms < 10_000 => format!("{}.{}s", seconds, ms % 1_000 / 100),
        () if minutes == 0 => format!("{seconds}s"),
        () if hours == 0 => two(minutes, "m", seconds % 60, "s"),
        () if days == 0 => two(hours, "h", minutes % 60, "m"),
        () => two(days, "d", hours % 24, "h"),
    }
}

fn two(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    match small {
        0 => format!("{large}{large_unit}"),
        _ => format!("{large}{large_unit} {small}{small_unit}"),
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

    #[test]
    fn a_reader_sees_two_units_at_most() {
        let cases = [
            (0, "0ms"),
            (850, "850ms"),
            (3_260, "3.2s"),
            (42_000, "42s"),
            (192_000, "3m 12s"),
            (7_500_000, "2h 5m"),
            (86_400_000, "1d"),
            (273_600_000, "3d 4h"),
        ];
        for (ms, text) in cases {
            assert_eq!(roughly(ms), text);
        }
    }
}
