//! The JSON that programs read: one shape for every message, each on one line, with guests' values as they were
//! written.

pub(crate) mod bulk;
pub(crate) mod links;
pub(crate) mod shapes;
pub(crate) mod tenants;
pub(crate) mod views;

use prost_types::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::proto;
use bulk::{BulkDetailJson, BulkJobJson, BulkJobsJson, CountJson};
use links::{CreatedLinkJson, LinkJson, LinksJson};
use shapes::{
    ApprovalJson, ApprovalsJson, ComponentJson, ComponentsJson, DecidedJson, EventJson, ExecutionsJson, LogJson,
    RemovedJson, ResultJson, StatusJson, SummaryJson,
};
use tenants::{
    ActJson, AuditJson, CallerJson, NodeJson, NodesJson, QuotaJson, RotatedJson, SecretJson, SecretsJson,
    TenantDetailJson, TenantJson, TenantsJson, TokenJson, TokensJson,
};
pub use views::{view, views};

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
        // The whole failure is beside it.
        summary: SummaryJson { failure: None, ..SummaryJson::from(&summary) },
        input: raw(&status.input),
        output: status.output.as_deref().map(raw),
        failure: status.failure.as_ref().map(Into::into),
        waiting_on: status.waiting_on.iter().map(Into::into).collect(),
        progress: status.progress.iter().map(Into::into).collect(),
        steps: status.steps.iter().map(Into::into).collect(),
        earlier_events: Some(status.earlier_events).filter(|events| *events > 0),
        trace_ids: &status.trace_ids,
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
    line(&ComponentJson::from(component))
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
    line(&ApprovalJson::from(approval))
}

/// A tenant.
#[must_use]
pub fn tenant(tenant: &proto::Tenant) -> String {
    line(&TenantJson::from(tenant))
}

/// A tenant with its quotas.
#[must_use]
pub fn tenant_detail(detail: &proto::TenantDetail) -> String {
    let tenant = detail.tenant.clone().unwrap_or_default();
    line(&TenantDetailJson {
        tenant: TenantJson::from(&tenant),
        quotas: detail.quotas.iter().map(|quota| (quota.name.as_str(), QuotaJson::from(quota))).collect(),
        hosts: detail.hosts.as_ref().map(|hosts| hosts.hosts.as_slice()),
    })
}

/// A token without its secret.
#[must_use]
pub fn token(token: &proto::Token) -> String {
    line(&TokenJson::from(token))
}

/// A new token, with its secret.
#[must_use]
pub fn created_token(created: &proto::CreatedToken) -> String {
    let token = created.token.clone().unwrap_or_default();
    line(&TokenJson { secret: Some(&created.secret), ..TokenJson::from(&token) })
}

/// A page of executions.
#[must_use]
pub fn executions(page: &proto::ListResponse) -> String {
    line(&ExecutionsJson { executions: page.executions.iter().map(Into::into).collect(), next: page.next.as_deref() })
}

/// A page of questions to people.
#[must_use]
pub fn approvals(page: &proto::ApprovalsResponse) -> String {
    line(&ApprovalsJson { approvals: page.approvals.iter().map(Into::into).collect(), next: page.next.as_deref() })
}

/// What a person wrote for a scalar: JSON as it is, anything else as a text.
pub(crate) fn json_or_text(written: &str) -> String {
    let is_json = serde_json::from_str::<serde::de::IgnoredAny>(written).is_ok();
    if is_json { written.to_owned() } else { serde_json::Value::from(written).to_string() }
}

/// A link, without its secret.
#[must_use]
pub fn link(link: &proto::ApprovalLink) -> String {
    line(&LinkJson::from(link))
}

/// A new link, with its secret, and its address if that is known.
#[must_use]
pub fn created_link(created: &proto::CreatedApprovalLink) -> String {
    let link = created.link.clone().unwrap_or_default();
    let proto::CreatedApprovalLink { path, token, url, .. } = created;
    line(&CreatedLinkJson { link: LinkJson::from(&link), path, token, url: url.as_deref() })
}

/// The links of a question.
#[must_use]
pub fn links(all: &proto::ApprovalLinksResponse) -> String {
    line(&LinksJson { links: all.links.iter().map(Into::into).collect() })
}

/// Components.
#[must_use]
pub fn components(all: &proto::ComponentsResponse) -> String {
    line(&ComponentsJson { components: all.components.iter().map(Into::into).collect() })
}

/// A secret without its value.
#[must_use]
pub fn secret(secret: &proto::Secret) -> String {
    line(&SecretJson::from(secret))
}

/// Secrets without their values.
#[must_use]
pub fn secrets(all: &proto::SecretsResponse) -> String {
    line(&SecretsJson { secrets: all.secrets.iter().map(Into::into).collect() })
}

/// How many secrets were sealed anew.
#[must_use]
pub fn rotated(rotated: proto::RotateSecretsKeyResponse) -> String {
    line(&RotatedJson { secrets: rotated.secrets })
}

/// What a client did.
#[must_use]
pub fn act(act: &proto::Act) -> String {
    line(&ActJson::from(act))
}

/// A page of what clients did.
#[must_use]
pub fn audit(page: &proto::AuditResponse) -> String {
    line(&AuditJson { acts: page.acts.iter().map(Into::into).collect(), next: page.next.as_deref() })
}

/// How many executions match a filter.
#[must_use]
pub fn count(count: proto::CountResponse) -> String {
    line(&CountJson { executions: count.executions, is_exact: count.is_exact })
}

/// A bulk job.
#[must_use]
pub fn bulk_job(job: &proto::BulkJob) -> String {
    line(&BulkJobJson::from(job))
}

/// Bulk jobs.
#[must_use]
pub fn bulk_jobs(all: &proto::BulkJobsResponse) -> String {
    line(&BulkJobsJson { jobs: all.jobs.iter().map(Into::into).collect() })
}

/// A bulk job with what it could not do.
#[must_use]
pub fn bulk_detail(detail: &proto::BulkJobDetail) -> String {
    let job = detail.job.clone().unwrap_or_default();
    line(&BulkDetailJson { job: BulkJobJson::from(&job), refusals: detail.refusals.iter().map(Into::into).collect() })
}

/// An engine with a lease on the database.
#[must_use]
pub fn node(node: &proto::Node) -> String {
    line(&NodeJson::from(node))
}

/// The engines that share the database.
#[must_use]
pub fn nodes(all: &proto::NodesResponse) -> String {
    line(&NodesJson { nodes: all.nodes.iter().map(Into::into).collect() })
}

/// Tokens without their secrets.
#[must_use]
pub fn tokens(all: &proto::TokensResponse) -> String {
    line(&TokensJson { tokens: all.tokens.iter().map(Into::into).collect() })
}

/// Tenants.
#[must_use]
pub fn tenants(all: &proto::TenantsResponse) -> String {
    line(&TenantsJson { tenants: all.tenants.iter().map(Into::into).collect() })
}

/// The execution whose question was answered.
#[must_use]
pub fn decided(decided: &proto::DecideResponse) -> String {
    line(&DecidedJson { execution_id: &decided.execution_id })
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

/// A guest's JSON. The engine checked it when it came in. If it is not JSON after all, it is shown as a string.
fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned())
        .or_else(|_| serde_json::value::to_raw_value(text))
        .expect("a text is a JSON string")
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
