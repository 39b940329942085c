//! The JSON that programs read: one shape for every message, each on one line, with guests' values as they were
//! written.

use prost_types::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::proto;

/// A moment as RFC 3339 in UTC with milliseconds.
#[must_use]
pub fn rfc3339(at: &Timestamp) -> String {
    let moment = jiff::Timestamp::new(at.seconds, at.nanos).unwrap_or_default();
    format!("{moment:.3}")
}

/// The output of `status`.
#[must_use]
pub fn status(status: &proto::ExecutionStatus) -> String {
    let summary = status.summary.clone().unwrap_or_default();
    line(&StatusJson {
        summary: SummaryJson::from(&summary),
        input: raw(&status.input),
        output: status.output.as_deref().map(raw),
        failure: status.failure.as_ref().map(Into::into),
        waiting_on: status.waiting_on.iter().map(Into::into).collect(),
        progress: status.progress.iter().map(Into::into).collect(),
        steps: status.steps.iter().map(Into::into).collect(),
        earlier_events: Some(status.earlier_events).filter(|events| *events > 0),
    })
}

/// An execution as a list shows it.
#[must_use]
pub fn summary(summary: &proto::Summary) -> String {
    line(&SummaryJson::from(summary))
}

/// The output of `result`.
#[must_use]
pub fn result(status: &proto::ExecutionStatus) -> String {
    let summary = status.summary.clone().unwrap_or_default();
    line(&ResultJson {
        execution_id: &summary.execution_id,
        status: &summary.status,
        output: status.output.as_deref().map(raw),
        failure: status.failure.as_ref().map(Into::into),
    })
}

/// A component.
#[must_use]
pub fn component(component: &proto::Component) -> String {
    line(&ComponentJson {
        name: &component.name,
        digest: &component.digest,
        workflows: &component.workflows,
        steps: &component.steps,
        capabilities: &component.capabilities,
        size: component.size,
        uploaded_at: component.uploaded_at.as_ref().map(rfc3339),
        current: component.current,
    })
}

/// Versions of a component that were removed.
#[must_use]
pub fn removed(name: &str, digests: &[String]) -> String {
    line(&RemovedJson { name, digests })
}

/// An event: its head, then the members of its `fields`.
#[must_use]
pub fn event(event: &proto::Event) -> String {
    let head = line(&EventJson {
        position: event.position,
        time: event.time.as_ref().map(rfc3339),
        kind: &event.kind,
        scope: &event.scope,
    });
    let fields = compact(&event.fields);
    match fields.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        Some(members) if !members.is_empty() => format!("{},{members}}}", head.trim_end_matches('}')),
        _ => head,
    }
}

/// A log line, and the step that wrote it if that is known.
#[must_use]
pub fn log_line(log: &proto::LogLine, step: Option<&str>) -> String {
    line(&LogJson {
        step,
        seq: log.seq,
        time: log.time.as_ref().map(rfc3339),
        level: &log.level,
        scope: &log.scope,
        attempt: log.attempt,
        text: &log.text,
    })
}

/// A question to a person.
#[must_use]
pub fn approval(approval: &proto::Approval) -> String {
    line(&ApprovalJson {
        approval_id: &approval.approval_id,
        execution_id: &approval.execution_id,
        kind: &approval.kind,
        title: &approval.title,
        data: raw(&approval.data),
        schema: approval.schema.as_deref().map(raw),
        requested_at: approval.requested_at.as_ref().map(rfc3339),
        deadline: approval.deadline.as_ref().map(rfc3339),
        state: &approval.state,
    })
}

/// A tenant.
#[must_use]
pub fn tenant(tenant: &proto::Tenant) -> String {
    line(&TenantJson {
        name: &tenant.name,
        created_at: tenant.created_at.as_ref().map(rfc3339),
        suspended_at: tenant.suspended_at.as_ref().map(rfc3339),
    })
}

/// A token without its secret.
#[must_use]
pub fn token(token: &proto::Token) -> String {
    line(&TokenJson { secret: None, ..TokenJson::from(token) })
}

/// A new token, with its secret.
#[must_use]
pub fn created_token(created: &proto::CreatedToken) -> String {
    let token = created.token.clone().unwrap_or_default();
    line(&TokenJson { secret: Some(&created.secret), ..TokenJson::from(&token) })
}

/// Who the caller is.
#[must_use]
pub fn caller(caller: &proto::Caller) -> String {
    line(&CallerJson {
        tenant: &caller.tenant,
        role: &caller.role,
        name: caller.name.as_deref(),
        token_id: caller.token_id.as_deref(),
    })
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
    text.chars().filter(|c| keep(c)).collect()
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

/// A guest's JSON. The engine checked it when it came in. If it is not JSON after all, it is shown as a string.
fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned())
        .or_else(|_| serde_json::value::to_raw_value(text))
        .expect("a text is a JSON string")
}

#[derive(Serialize)]
struct StatusJson<'a> {
    #[serde(flatten)]
    summary: SummaryJson<'a>,
    input: Box<RawValue>,
    output: Option<Box<RawValue>>,
    failure: Option<FailureJson<'a>>,
    waiting_on: Vec<WaitingOnJson<'a>>,
    progress: Vec<ProgressJson<'a>>,
    steps: Vec<StepJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    earlier_events: Option<u64>,
}

#[derive(Serialize)]
struct TenantJson<'a> {
    name: &'a str,
    created_at: Option<String>,
    suspended_at: Option<String>,
}

#[derive(Serialize)]
struct TokenJson<'a> {
    id: &'a str,
    /// The whole token, of a new one.
    #[serde(rename = "token", skip_serializing_if = "Option::is_none")]
    secret: Option<&'a str>,
    tenant: &'a str,
    role: &'a str,
    name: &'a str,
    created_at: Option<String>,
    expires_at: Option<String>,
    revoked_at: Option<String>,
    last_used_at: Option<String>,
}

impl<'a> From<&'a proto::Token> for TokenJson<'a> {
    fn from(from: &'a proto::Token) -> Self {
        Self {
            id: &from.id,
            secret: None,
            tenant: &from.tenant,
            role: &from.role,
            name: &from.name,
            created_at: from.created_at.as_ref().map(rfc3339),
            expires_at: from.expires_at.as_ref().map(rfc3339),
            revoked_at: from.revoked_at.as_ref().map(rfc3339),
            last_used_at: from.last_used_at.as_ref().map(rfc3339),
        }
    }
}

#[derive(Serialize)]
struct CallerJson<'a> {
    tenant: &'a str,
    role: &'a str,
    name: Option<&'a str>,
    token_id: Option<&'a str>,
}

#[derive(Serialize)]
struct SummaryJson<'a> {
    execution_id: &'a str,
    workflow: &'a str,
    component: &'a str,
    digest: &'a str,
    status: &'a str,
    attributes: Box<RawValue>,
    started_at: Option<String>,
    ended_at: Option<String>,
    run: u32,
    events: u64,
    parent: Option<&'a str>,
}

impl<'a> From<&'a proto::Summary> for SummaryJson<'a> {
    fn from(from: &'a proto::Summary) -> Self {
        Self {
            execution_id: &from.execution_id,
            workflow: &from.workflow,
            component: from.workflow.split_once('/').map_or("", |(component, _)| component),
            digest: &from.digest,
            status: &from.status,
            attributes: raw(if from.attributes.is_empty() { "{}" } else { &from.attributes }),
            started_at: from.started_at.as_ref().map(rfc3339),
            ended_at: from.ended_at.as_ref().map(rfc3339),
            run: from.run,
            events: from.events,
            parent: from.parent.as_deref(),
        }
    }
}

#[derive(Serialize)]
struct ResultJson<'a> {
    execution_id: &'a str,
    status: &'a str,
    output: Option<Box<RawValue>>,
    failure: Option<FailureJson<'a>>,
}

#[derive(Serialize)]
struct FailureJson<'a> {
    kind: &'a str,
    message: &'a str,
    details: Option<Box<RawValue>>,
    retryable: bool,
}

impl<'a> From<&'a proto::Failure> for FailureJson<'a> {
    fn from(from: &'a proto::Failure) -> Self {
        let details = from.details.as_deref().map(raw);
        Self { kind: &from.kind, message: &from.message, details, retryable: from.retryable }
    }
}

#[derive(Serialize)]
struct WaitingOnJson<'a> {
    kind: &'a str,
    name: &'a str,
    scope: &'a str,
    since: Option<String>,
    until: Option<String>,
    attempts: Option<u32>,
    last: Option<Box<RawValue>>,
}

impl<'a> From<&'a proto::WaitingOn> for WaitingOnJson<'a> {
    fn from(from: &'a proto::WaitingOn) -> Self {
        Self {
            kind: &from.kind,
            name: &from.name,
            scope: &from.scope,
            since: from.since.as_ref().map(rfc3339),
            until: from.until.as_ref().map(rfc3339),
            attempts: from.attempts,
            last: from.last.as_deref().map(raw),
        }
    }
}

#[derive(Serialize)]
struct ProgressJson<'a> {
    scope: &'a str,
    name: &'a str,
    percent: u32,
    message: &'a str,
}

impl<'a> From<&'a proto::Progress> for ProgressJson<'a> {
    fn from(from: &'a proto::Progress) -> Self {
        Self { scope: &from.scope, name: &from.name, percent: from.percent, message: &from.message }
    }
}

#[derive(Serialize)]
struct StepJson<'a> {
    name: &'a str,
    input_preview: &'a str,
    scope: &'a str,
    status: &'a str,
    attempt: u32,
    started_at: Option<String>,
    ended_at: Option<String>,
    duration_ms: Option<u64>,
    output: Option<Box<RawValue>>,
    failure: Option<FailureJson<'a>>,
}

impl<'a> From<&'a proto::Step> for StepJson<'a> {
    fn from(from: &'a proto::Step) -> Self {
        let times = from.started_at.as_ref().zip(from.ended_at.as_ref());
        Self {
            name: &from.name,
            input_preview: &from.input_preview,
            scope: &from.scope,
            status: &from.status,
            attempt: from.attempt,
            started_at: from.started_at.as_ref().map(rfc3339),
            ended_at: from.ended_at.as_ref().map(rfc3339),
            duration_ms: times.map(|(start, end)| milliseconds_between(start, end)),
            output: from.output.as_deref().map(raw),
            failure: from.failure.as_ref().map(Into::into),
        }
    }
}

#[derive(Serialize)]
struct ComponentJson<'a> {
    name: &'a str,
    digest: &'a str,
    workflows: &'a [String],
    steps: &'a [String],
    capabilities: &'a [String],
    size: u64,
    uploaded_at: Option<String>,
    current: bool,
}

#[derive(Serialize)]
struct RemovedJson<'a> {
    name: &'a str,
    digests: &'a [String],
}

#[derive(Serialize)]
struct EventJson<'a> {
    position: u64,
    time: Option<String>,
    kind: &'a str,
    scope: &'a str,
}

#[derive(Serialize)]
struct LogJson<'a> {
    seq: i64,
    time: Option<String>,
    level: &'a str,
    scope: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<&'a str>,
    attempt: u32,
    text: &'a str,
}

#[derive(Serialize)]
struct ApprovalJson<'a> {
    approval_id: &'a str,
    execution_id: &'a str,
    kind: &'a str,
    title: &'a str,
    data: Box<RawValue>,
    schema: Option<Box<RawValue>>,
    requested_at: Option<String>,
    deadline: Option<String>,
    state: &'a str,
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
        assert_eq!(event(&shown), format!(r#"{head},"input":{{"b":9007199254740993,"a":"x\" y"}}}}"#));
        shown.fields = "{ }".into();
        assert_eq!(event(&shown), format!("{head}}}"));
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
        let shown = status(&proto::ExecutionStatus {
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
