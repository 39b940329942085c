//! Spans of time as people write them: `5s`, `2h30m`, `1d`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::SpanRelativeTo;
use serde::Deserialize;

/// Largest first.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A span of time that a user wrote, such as `2h30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Span {
    /// In milliseconds.
    pub ms: u64,
}

impl Span {
    /// The span as the standard library's type.
    #[must_use]
    pub fn duration(self) -> Duration {
        Duration::from_millis(self.ms)
    }

    /// The span of a duration; fractions of a millisecond are dropped.
    #[must_use]
    pub fn of(duration: Duration) -> Self {
        Self { ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX) }
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a duration: write 500ms, 5s, 2h30m, 1d or 2w");
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
}
