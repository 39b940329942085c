//! Spans of time as people write and read them: `5s`, `2h30m`, `1d`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::SpanRelativeTo;
use serde::Deserialize;

/// Largest first.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A span of time that a user wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Span {
    /// In milliseconds.
    pub(crate) ms: u64,
}

impl Span {
    /// The span as the standard library's type.
    pub(crate) fn duration(self) -> Duration {
        Duration::from_millis(self.ms)
    }

    /// The span of a duration; fractions of a millisecond are dropped.
    pub(crate) fn of(duration: Duration) -> Self {
        Self { ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX) }
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no duration: write 500ms, 5s, 2h30m, 1d or 2w");
        if text.trim() == "0" {
            return Ok(Self { ms: 0 });
        }
        let span: jiff::Span = text.trim().parse().map_err(|_| wrong())?;
        // Months and years are refused: they have no fixed length.
        let length = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
        Ok(Self { ms: u64::try_from(length.as_millis()).map_err(|_| wrong())? })
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Span {
    /// In the form that can be read again: `2h30m`, `1s500ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ms == 0 {
            return f.write_str("0s");
        }
        let mut left = self.ms;
        for (name, factor) in UNITS {
            if left >= factor {
                write!(f, "{}{name}", left / factor)?;
                left %= factor;
            }
        }
        Ok(())
    }
}

/// A moment that a user wrote: as a time before now, or in RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// This long before now.
    Ago(Span),
    /// In milliseconds since 1970.
    At(u64),
}

impl Moment {
    /// In milliseconds since 1970, as seen from `now_ms`.
    pub(crate) fn ms(self, now_ms: u64) -> u64 {
        match self {
            Self::Ago(span) => now_ms.saturating_sub(span.ms),
            Self::At(ms) => ms,
        }
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(span) = text.parse() {
            return Ok(Self::Ago(span));
        }
        let wrong = |_| format!("`{text}` is no moment: write 2h, 1d or 2026-11-22T18:00:00Z");
        let at: jiff::Timestamp = text.parse().map_err(wrong)?;
        Ok(Self::At(u64::try_from(at.as_millisecond()).unwrap_or(0)))
    }
}

/// A span in short form: two units at most.
pub(crate) fn roughly(ms: u64) -> String {
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
    fn durations_are_read_as_people_write_them() {
        let cases = [
            ("500ms", 500),
            ("5s", 5_000),
            ("2h30m", 9_000_000),
            ("1d", 86_400_000),
            ("1w", 604_800_000),
            ("1m 30s", 90_000),
            ("1.5h", 5_400_000),
            ("5 minutes", 300_000),
            ("0", 0),
            ("0s", 0),
        ];
        for (text, ms) in cases {
            assert_eq!(text.parse(), Ok(Span { ms }), "{text}");
        }
        for text in ["", "5", "s", "-5s", "1mo", "1y", "5x", "5sm", "99999999999999999999s", "18446744073709551615s"] {
            let refused = text.parse::<Span>().unwrap_err();
            assert!(refused.contains("write 500ms"), "{text}: {refused}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for ms in [0, 1, 999, 1_500, 9_000_000, 86_400_000, 90_061_001] {
            let span = Span { ms };
            assert_eq!(span.to_string().parse(), Ok(span));
        }
    }

    #[test]
    fn a_moment_is_so_long_ago_or_in_rfc_3339() {
        let ms = |text: &str| text.parse::<Moment>().map(|moment| moment.ms(10_000_000));
        assert_eq!(ms("2h"), Ok(2_800_000));
        assert_eq!(ms("1w"), Ok(0));
        assert_eq!(ms("1970-01-01T00:00:07.5Z"), Ok(7_500));
        assert_eq!(ms("1970-01-01T01:00:07+01:00"), Ok(7_000));
        for text in ["yesterday", "5", "1970-01-01", ""] {
            assert!(ms(text).unwrap_err().contains("write 2h"), "{text}");
        }
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
