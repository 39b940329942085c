//! Traces: the names of spans, the text with which programs pass them on, and what an execution keeps of its trace.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::Timestamp;

/// The most bytes of a `tracestate` that are kept. A longer one is ignored.
pub const TRACE_STATE_BYTES_MAX: usize = 512;

/// The length of a `traceparent` of version 00.
const TRACEPARENT_BYTES: usize = 55;

/// A span as programs pass it on: the header `traceparent` of W3C Trace Context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpanContext {
    /// The trace.
    pub trace: [u8; 16],
    /// The span in the trace.
    pub span: [u8; 8],
    /// Whether the trace is recorded.
    pub is_sampled: bool,
}

/// The text is not a valid `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the text is not a `traceparent`")]
pub struct InvalidTraceparent;

impl FromStr for SpanContext {
    type Err = InvalidTraceparent;

    fn from_str(text: &str) -> Result<Self, InvalidTraceparent> {
        let bytes = text.as_bytes();
        let dashes = [2, 35, 52].iter().all(|at| bytes.get(*at) == Some(&b'-'));
        let [version] = hex(bytes.get(..2))?;
        // Later versions may add fields behind a further dash.
        let is_whole = match version {
            0 => bytes.len() == TRACEPARENT_BYTES,
            0xff => false,
            _ => bytes.get(TRACEPARENT_BYTES).is_none_or(|next| *next == b'-'),
        };
        let (trace, span, [flags]) = (hex(bytes.get(3..35))?, hex(bytes.get(36..52))?, hex(bytes.get(53..55))?);
        let is_valid = dashes && is_whole && trace != [0; 16] && span != [0; 8];
        is_valid.then_some(Self { trace, span, is_sampled: flags & 1 == 1 }).ok_or(InvalidTraceparent)
    }
}

/// The bytes that lower-case hex digits stand for.
fn hex<const BYTES: usize>(digits: Option<&[u8]>) -> Result<[u8; BYTES], InvalidTraceparent> {
    let digits = digits.filter(|digits| digits.len() == BYTES * 2).ok_or(InvalidTraceparent)?;
    let digit = |at: usize| match digits[at] {
        digit @ b'0'..=b'9' => Ok(digit - b'0'),
        digit @ b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(InvalidTraceparent),
    };
    let mut bytes = [0; BYTES];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = digit(at * 2)? << 4 | digit(at * 2 + 1)?;
    }
    Ok(bytes)
}

impl fmt::Display for SpanContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("00-")?;
        self.trace.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("-")?;
        self.span.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, "-{:02x}", u8::from(self.is_sampled))
    }
}

impl From<SpanContext> for String {
    fn from(context: SpanContext) -> Self {
        context.to_string()
    }
}

impl TryFrom<String> for SpanContext {
    type Error = InvalidTraceparent;

    fn try_from(text: String) -> Result<Self, InvalidTraceparent> {
        text.parse()
    }
}

/// The span from which a request came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerSpan {
    /// The span.
    pub span: SpanContext,
    /// The `tracestate` that came with it, if it is valid.
    pub state: Option<String>,
}

impl CallerSpan {
    /// The caller's span by its two headers. An invalid `traceparent` is as good as none, and a `tracestate` that is
    /// invalid or too long is left out.
    #[must_use]
    pub fn of(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        let is_member = |member: &str| member.trim().is_empty() || member.contains('=');
        let is_valid = |state: &&str| {
            let is_text = state.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t'));
            !state.is_empty() && state.len() <= TRACE_STATE_BYTES_MAX && is_text && state.split(',').all(is_member)
        };
        let state = tracestate.filter(is_valid).map(str::to_owned);
        Some(Self { span: traceparent.parse().ok()?, state })
    }
}

/// What a run keeps of its trace beside its history. It is there if the execution's spans are exported, which was decided
/// when it started.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TraceRecord {
    /// The span of the client that started the execution: the first trace goes on with its trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<SpanContext>,
    /// The caller's `tracestate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The span of another trace that caused this run: the parent's, or that of the run before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<SpanContext>,
    /// The span of the run's end, which causes the next run and what the parent is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<SpanContext>,
    /// The number of the present waking in memory, which begins anew after each hibernation. A crash does not count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub waking: u32,
    /// When the waking began, once something of it is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The number of the present trace.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub segment: u32,
    /// The first waking in this trace.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub first_waking: u32,
    /// The number of events before this trace.
    #[serde(default, skip_serializing_if = "is_none_yet")]
    pub after: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_none_yet(number: &u64) -> bool {
    *number == 0
}

impl TraceRecord {
    /// The record of an execution or a run that this span caused.
    #[must_use]
    pub fn caused_by(span: SpanContext) -> Self {
        Self { cause: Some(span), ..Self::default() }
    }

    /// The record of the next run of a chain, which the end of this one causes.
    #[must_use]
    pub(crate) fn of_next_run(&self) -> Self {
        Self { cause: self.end, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_valid_traceparent_is_read_and_written_without_change() {
        let context: SpanContext = VALID.parse().unwrap();
        assert!(context.is_sampled);
        assert_eq!(context.to_string(), VALID);
        let unsampled: SpanContext = VALID.replace("-01", "-02").parse().unwrap();
        assert!(!unsampled.is_sampled, "only the last bit says so");
        let later = format!("{}-and-more", VALID.replacen("00", "01", 1));
        assert_eq!(later.parse::<SpanContext>().unwrap(), context);
    }

    #[test]
    fn an_invalid_traceparent_is_refused() {
        for invalid in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 ",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
            "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01",
        ] {
            assert_eq!(invalid.parse::<SpanContext>(), Err(InvalidTraceparent), "{invalid:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd_to_be_refused(text in "\\PC{0,80}", cut in 0usize..=55, with in any::<char>()) {
            let _ = text.parse::<SpanContext>();
            let _ = format!("{}{with}{}", &VALID[..cut], &VALID[cut..]).parse::<SpanContext>();
            let _ = CallerSpan::of(VALID, Some(&text));
        }
    }

    #[test]
    fn a_tracestate_that_is_invalid_or_too_long_is_left_out() {
        let kept = |state: &str| CallerSpan::of(VALID, Some(state)).unwrap().state;
        assert_eq!(kept("a=1,b=2").as_deref(), Some("a=1,b=2"));
        let long = format!("a={}", "x".repeat(TRACE_STATE_BYTES_MAX - 2));
        assert_eq!(kept(&long).as_deref(), Some(&*long));
        for invalid in ["", "a", "a=\n", "a=é", &format!("{long}x")] {
            assert_eq!(kept(invalid), None, "{invalid:?}");
        }
        assert_eq!(CallerSpan::of("no", Some("a=1")), None);
    }

    #[test]
    fn a_record_costs_little_and_is_read_back() {
        assert_eq!(serde_json::to_string(&TraceRecord::default()).unwrap(), "{}");
        let record = TraceRecord { caller: VALID.parse().ok(), waking: 3, segment: 1, ..TraceRecord::default() };
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<TraceRecord>(&text).unwrap(), record);
        assert_eq!(record.of_next_run(), TraceRecord::default());
    }
}
