//! The shapes of the JSON that the engine answers with, as programs read them. The OpenAPI document is made from these.

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::members::{FromWire, ToJson, shape};
use super::{compact, line, milliseconds_between};
use crate::proto;

/// An execution: its status, its steps, and what it waits for.
#[derive(Serialize, ToSchema)]
#[schema(as = Execution)]
pub(crate) struct StatusJson<'a> {
    #[serde(flatten)]
    pub(super) summary: SummaryJson<'a>,
    #[schema(value_type = serde_json::Value)]
    pub(super) input: Box<RawValue>,
    #[schema(value_type = serde_json::Value)]
    pub(super) output: Option<Box<RawValue>>,
    pub(super) failure: Option<FailureJson<'a>>,
    pub(super) waiting_on: Vec<WaitingOnJson<'a>>,
    pub(super) progress: Vec<ProgressJson<'a>>,
    pub(super) steps: Vec<StepJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) earlier_events: Option<u64>,
    /// The ids of the last traces of its present run, the oldest first.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub(super) trace_ids: &'a [String],
    /// The names of signals that it has not read.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub(super) unread_signals: &'a [String],
}

/// An execution as lists show it.
#[derive(Serialize, ToSchema)]
#[schema(as = Summary)]
pub(crate) struct SummaryJson<'a> {
    pub(super) execution_id: &'a str,
    pub(super) workflow: &'a str,
    pub(super) component: &'a str,
    pub(super) digest: &'a str,
    pub(super) status: &'a str,
    #[schema(value_type = serde_json::Value)]
    pub(super) attributes: Box<RawValue>,
    pub(super) started_at: Option<String>,
    pub(super) ended_at: Option<String>,
    pub(super) run: u32,
    pub(super) events: u64,
    pub(super) parent: Option<&'a str>,
    /// What it waits for: of several calls, the one that matters most to a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) waits_for: Option<WaitingOnJson<'a>>,
    /// How many other calls it waits for, without the steps and requests that are under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) other_waits: Option<u32>,
    /// Why it failed or is parked, in short.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) failure: Option<FailureJson<'a>>,
    /// The first run whose history and log lines are kept, if earlier ones were removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) runs_from: Option<u32>,
}

impl<'a> FromWire<'a, proto::Summary> for SummaryJson<'a> {
    fn from_wire(wire: &'a proto::Summary) -> Self {
        Self {
            execution_id: &wire.execution_id,
            workflow: &wire.workflow,
            component: wire.workflow.split_once('/').map_or("", |(component, _)| component),
            digest: &wire.digest,
            status: &wire.status,
            attributes: match wire.attributes.is_empty() {
                true => RawValue::from_string("{}".to_owned()).expect("an empty object is JSON"),
                false => FromWire::from_wire(&wire.attributes),
            },
            started_at: FromWire::from_wire(&wire.started_at),
            ended_at: FromWire::from_wire(&wire.ended_at),
            run: wire.run,
            events: wire.events,
            parent: wire.parent.as_deref(),
            waits_for: FromWire::from_wire(&wire.waits_for),
            other_waits: wire.waits_for.as_ref().map(|_| wire.other_waits),
            failure: FromWire::from_wire(&wire.failure),
            runs_from: wire.runs_from,
        }
    }
}

impl ToJson for proto::Summary {
    fn to_json(&self) -> String {
        line(&SummaryJson::from_wire(self))
    }
}

impl ToJson for proto::ExecutionStatus {
    fn to_json(&self) -> String {
        let summary = self.summary.clone().unwrap_or_default();
        line(&StatusJson {
            // The whole failure is beside it.
            summary: SummaryJson { failure: None, ..SummaryJson::from_wire(&summary) },
            input: FromWire::from_wire(&self.input),
            output: FromWire::from_wire(&self.output),
            failure: FromWire::from_wire(&self.failure),
            waiting_on: FromWire::from_wire(&self.waiting_on),
            progress: FromWire::from_wire(&self.progress),
            steps: FromWire::from_wire(&self.steps),
            earlier_events: Some(self.earlier_events).filter(|events| *events > 0),
            trace_ids: &self.trace_ids,
            unread_signals: &self.unread_signals,
        })
    }
}

/// How an execution ended, or its status if it has not ended.
#[derive(Serialize, ToSchema)]
#[schema(as = Result)]
pub(crate) struct ResultJson<'a> {
    pub(super) execution_id: &'a str,
    pub(super) status: &'a str,
    #[schema(value_type = serde_json::Value)]
    pub(super) output: Option<Box<RawValue>>,
    pub(super) failure: Option<FailureJson<'a>>,
}

/// Why something failed.
#[derive(Serialize, ToSchema)]
#[schema(as = Failure)]
pub(crate) struct FailureJson<'a> {
    pub(super) kind: &'a str,
    pub(super) message: &'a str,
    #[schema(value_type = serde_json::Value)]
    pub(super) details: Option<Box<RawValue>>,
    pub(super) retryable: bool,
}

shape! { proto::Failure as FailureJson<'a>: kind, message, details, retryable }

/// A call that an execution waits for.
#[derive(Serialize, ToSchema)]
#[schema(as = WaitingOn)]
pub(crate) struct WaitingOnJson<'a> {
    pub(super) kind: &'a str,
    pub(super) name: &'a str,
    pub(super) scope: &'a str,
    pub(super) since: Option<String>,
    pub(super) until: Option<String>,
    pub(super) attempts: Option<u32>,
    #[schema(value_type = serde_json::Value)]
    pub(super) last: Option<Box<RawValue>>,
}

shape! { proto::WaitingOn as WaitingOnJson<'a>: kind, name, scope, since, until, attempts, last }

/// The latest progress of a step or workflow.
#[derive(Serialize, ToSchema)]
#[schema(as = Progress)]
pub(crate) struct ProgressJson<'a> {
    pub(super) scope: &'a str,
    pub(super) name: &'a str,
    pub(super) percent: u32,
    pub(super) message: &'a str,
}

shape! { proto::Progress as ProgressJson<'a>: scope, name, percent, message }

/// One call of a step.
#[derive(Serialize, ToSchema)]
#[schema(as = Step)]
pub(crate) struct StepJson<'a> {
    pub(super) name: &'a str,
    pub(super) input_preview: &'a str,
    pub(super) scope: &'a str,
    pub(super) status: &'a str,
    pub(super) attempt: u32,
    pub(super) started_at: Option<String>,
    pub(super) ended_at: Option<String>,
    pub(super) duration_ms: Option<u64>,
    #[schema(value_type = serde_json::Value)]
    pub(super) output: Option<Box<RawValue>>,
    pub(super) failure: Option<FailureJson<'a>>,
}

impl<'a> FromWire<'a, proto::Step> for StepJson<'a> {
    fn from_wire(wire: &'a proto::Step) -> Self {
        let times = wire.started_at.as_ref().zip(wire.ended_at.as_ref());
        Self {
            name: &wire.name,
            input_preview: &wire.input_preview,
            scope: &wire.scope,
            status: &wire.status,
            attempt: wire.attempt,
            started_at: FromWire::from_wire(&wire.started_at),
            ended_at: FromWire::from_wire(&wire.ended_at),
            duration_ms: times.map(|(start, end)| milliseconds_between(start, end)),
            output: FromWire::from_wire(&wire.output),
            failure: FromWire::from_wire(&wire.failure),
        }
    }
}

/// A version of a component.
#[derive(Serialize, ToSchema)]
#[schema(as = Component)]
pub(crate) struct ComponentJson<'a> {
    pub(super) name: &'a str,
    pub(super) digest: &'a str,
    pub(super) workflows: &'a [String],
    pub(super) steps: &'a [String],
    pub(super) capabilities: &'a [String],
    pub(super) size: u64,
    pub(super) uploaded_at: Option<String>,
    pub(super) current: bool,
    /// Whether it waits to be accepted.
    pub(super) proposed: bool,
    /// What it asks for and its name was not granted.
    pub(super) not_granted: &'a [String],
}

shape! {
    proto::Component as ComponentJson<'a>:
    name, digest, workflows, steps, capabilities, size, uploaded_at, current, proposed, not_granted
}

/// Versions of a component that were removed.
#[derive(Serialize, ToSchema)]
#[schema(as = Removed)]
pub(crate) struct RemovedJson<'a> {
    pub(super) name: &'a str,
    pub(super) digests: &'a [String],
}

/// An event of a history; its kind decides what further members it has.
#[derive(Serialize, ToSchema)]
#[schema(as = Event)]
pub(crate) struct EventJson<'a> {
    pub(super) position: u64,
    pub(super) time: Option<String>,
    pub(super) kind: &'a str,
    pub(super) scope: &'a str,
}

/// An event: its head, then the members of its `fields`.
impl ToJson for proto::Event {
    fn to_json(&self) -> String {
        let head = line(&EventJson {
            position: self.position,
            time: FromWire::from_wire(&self.time),
            kind: &self.kind,
            scope: &self.scope,
        });
        let fields = compact(&self.fields);
        match fields.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(members) if !members.is_empty() => format!("{},{members}}}", head.trim_end_matches('}')),
            _ => head,
        }
    }
}

/// A line of a log.
#[derive(Serialize, ToSchema)]
#[schema(as = LogLine)]
pub(crate) struct LogJson<'a> {
    pub(super) seq: i64,
    pub(super) time: Option<String>,
    pub(super) level: &'a str,
    pub(super) scope: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) step: Option<&'a str>,
    pub(super) attempt: u32,
    pub(super) text: &'a str,
}

shape! { proto::LogLine as LogJson<'a>: seq, time, level, scope, attempt, text; step: None }

/// A question to a person.
#[derive(Serialize, ToSchema)]
#[schema(as = Approval)]
pub(crate) struct ApprovalJson<'a> {
    pub(super) approval_id: &'a str,
    pub(super) execution_id: &'a str,
    pub(super) kind: &'a str,
    pub(super) title: &'a str,
    #[schema(value_type = serde_json::Value)]
    pub(super) data: Box<RawValue>,
    #[schema(value_type = serde_json::Value)]
    pub(super) schema: Option<Box<RawValue>>,
    pub(super) requested_at: Option<String>,
    pub(super) deadline: Option<String>,
    pub(super) state: &'a str,
    /// Names, and roles as `role:ROLE`, of those who may answer; empty if every caller with that right may.
    pub(super) approvers: &'a [String],
}

shape! {
    proto::Approval as ApprovalJson<'a>:
    approval_id, execution_id, kind, title, data, schema, requested_at, deadline, state, approvers
}

/// Components, by name, the current version of each first.
#[derive(Serialize, ToSchema)]
#[schema(as = Components)]
pub(crate) struct ComponentsJson<'a> {
    pub(super) components: Vec<ComponentJson<'a>>,
}

shape! { proto::ComponentsResponse as ComponentsJson<'a>: components }

/// A page of executions, and the cursor of the next page if there is one.
#[derive(Serialize, ToSchema)]
#[schema(as = Executions)]
pub(crate) struct ExecutionsJson<'a> {
    pub(super) executions: Vec<SummaryJson<'a>>,
    pub(super) next: Option<&'a str>,
}

shape! { proto::ListResponse as ExecutionsJson<'a>: executions, next }

/// A page of questions, and the cursor of the next page if there is one.
#[derive(Serialize, ToSchema)]
#[schema(as = Approvals)]
pub(crate) struct ApprovalsJson<'a> {
    pub(super) approvals: Vec<ApprovalJson<'a>>,
    pub(super) next: Option<&'a str>,
}

shape! { proto::ApprovalsResponse as ApprovalsJson<'a>: approvals, next }

/// The execution whose question was answered.
#[derive(Serialize, ToSchema)]
#[schema(as = Decided)]
pub(crate) struct DecidedJson<'a> {
    pub(super) execution_id: &'a str,
}

shape! { proto::DecideResponse as DecidedJson<'a>: execution_id }
