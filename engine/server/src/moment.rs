//! Moments as people write them: as a time before now, or in RFC 3339.

use std::str::FromStr;

use serde::Deserialize;

use crate::Span;
use crate::wording::Now;

/// A moment that a user wrote: as a time before now, or in RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Moment {
    /// This long before now.
    Ago(Span),
    /// In milliseconds since 1970.
    At(u64),
}

impl Moment {
    /// In milliseconds since 1970, as seen from `now_ms`.
    #[must_use]
    pub fn ms(self, now_ms: u64) -> u64 {
        match self {
            Self::Ago(span) => now_ms.saturating_sub(span.ms),
            Self::At(ms) => ms,
        }
    }

    /// On the wire, as seen from this moment.
    #[must_use]
    pub fn timestamp(self) -> prost_types::Timestamp {
        Now(self.ms(Now::measured().0)).timestamp()
    }
}

impl TryFrom<String> for Moment {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
