//! The JSON that programs read: one shape for every message, each on one line, with guests' values as they were
//! written.

pub(crate) mod bulk;
pub(crate) mod links;
mod members;
pub(crate) mod shapes;
pub(crate) mod tenants;
pub(crate) mod views;

use prost_types::Timestamp;
use serde::Serialize;

use crate::proto;
use members::FromWire;
pub use members::ToJson;
use shapes::{LogJson, RemovedJson, ResultJson};

/// A message as programs read it.
#[must_use]
pub fn of(message: &impl ToJson) -> String {
    message.to_json()
}

/// The output of `result`.
#[must_use]
pub fn result(status: &proto::ExecutionStatus) -> String {
    let summary = status.summary.clone().unwrap_or_default();
    line(&ResultJson {
        execution_id: &summary.execution_id,
        status: &summary.status,
        output: FromWire::from_wire(&status.output),
        failure: FromWire::from_wire(&status.failure),
    })
}

/// Versions of a component that were removed.
#[must_use]
pub fn removed(name: &str, digests: &[String]) -> String {
    line(&RemovedJson { name, digests })
}

/// A log line, and the step that wrote it if that is known.
#[must_use]
pub fn log_line(log: &proto::LogLine, step: Option<&str>) -> String {
    line(&LogJson { step, ..LogJson::from_wire(log) })
}

/// A moment as RFC 3339 in UTC with milliseconds.
#[must_use]
pub fn rfc3339(at: &Timestamp) -> String {
    let moment = jiff::Timestamp::new(at.seconds, at.nanos).unwrap_or_default();
    format!("{moment:.3}")
}

/// What a person wrote for a scalar: JSON as it is, anything else as a text.
pub(crate) fn json_or_text(written: &str) -> String {
    let is_json = serde_json::from_str::<serde::de::IgnoredAny>(written).is_ok();
    if is_json { written.to_owned() } else { serde_json::Value::from(written).to_string() }
}

/// A JSON text without whitespace between its tokens; the tokens stay as they were written.
#[must_use]
pub fn compact(text: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let mut keep = |c: &char| {
        let kept = in_string || !c.is_ascii_whitespace();
        match c {
            _ if escaped => escaped = false,
            '\\' if in_string => escaped = true,
            '"' => in_string = !in_string,
            _ => {}
        }
        kept
    };
    // Growing in steps would hold two copies at a time, and as much again at the end.
    let mut kept = String::with_capacity(text.len());
    kept.extend(text.chars().filter(|c| keep(c)));
    kept
}

/// The milliseconds from one moment to a later one; 0 when the second is earlier.
#[must_use]
pub fn milliseconds_between(from: &Timestamp, to: &Timestamp) -> u64 {
    let ms = |at: &Timestamp| at.seconds * 1_000 + i64::from(at.nanos) / 1_000_000;
    u64::try_from(ms(to) - ms(from)).unwrap_or(0)
}

fn line(value: &impl Serialize) -> String {
    let text = serde_json::to_string(value).expect("these shapes have text keys only");
    // Guests' values keep the line breaks with which they were written. A program that reads lines must not see those.
    compact(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64, ms: i32) -> Option<Timestamp> {
        Some(Timestamp { seconds, nanos: ms * 1_000_000 })
    }

    #[test]
    fn an_event_is_one_line_with_its_fields_as_members() {
        let mut shown = proto::Event {
            position: 3,
            time: at(1_700_000_000, 120),
            kind: "StepStarted".into(),
            scope: "2".into(),
            fields: "{\"input\": {\n \"b\" : 9007199254740993, \"a\": \"x\\\" y\" } }".into(),
        };
        let head = r#"{"position":3,"time":"2023-11-14T22:13:20.120Z","kind":"StepStarted","scope":"2""#;
        assert_eq!(of(&shown), format!(r#"{head},"input":{{"b":9007199254740993,"a":"x\" y"}}}}"#));
        shown.fields = "{ }".into();
        assert_eq!(of(&shown), format!("{head}}}"));
    }

    #[test]
    fn a_status_has_every_field_of_the_contract() {
        let step = proto::Step {
            name: "create".into(),
            scope: "1".into(),
            status: "completed".into(),
            attempt: 2,
            started_at: at(10, 250),
            ended_at: at(12, 0),
            output: Some("[1 , 2]".into()),
            failure: None,
            input_preview: r#"{"n":1}"#.into(),
        };
        let summary = proto::Summary {
            execution_id: "e1".into(),
            workflow: "hello/greet".into(),
            digest: "d".into(),
            status: "completed".into(),
            started_at: at(10, 0),
            ended_at: at(12, 0),
            run: 1,
            events: 4,
            ..Default::default()
        };
        let shown = of(&proto::ExecutionStatus {
            summary: Some(summary),
            input: "null".into(),
            output: Some("7".into()),
            steps: vec![step],
            ..Default::default()
        });
        let expected = concat!(
            r#"{"execution_id":"e1","workflow":"hello/greet","component":"hello","digest":"d","status":"completed","#,
            r#""attributes":{},"started_at":"1970-01-01T00:00:10.000Z","ended_at":"1970-01-01T00:00:12.000Z","run":1,"#,
            r#""events":4,"parent":null,"input":null,"output":7,"failure":null,"waiting_on":[],"progress":[],"steps":["#,
            r#"{"name":"create","input_preview":"{\"n\":1}","scope":"1","status":"completed","attempt":2,"started_at":"1970-01-01T00:00:10.250Z","#,
            r#""ended_at":"1970-01-01T00:00:12.000Z","duration_ms":1750,"output":[1,2],"failure":null}]}"#
        );
        assert_eq!(shown, expected);
    }
}
