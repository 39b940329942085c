//! The shapes of the JSON that the engine answers with, as programs read them. The OpenAPI document is made from these.

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{milliseconds_between, raw, rfc3339};
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
            waits_for: from.waits_for.as_ref().map(Into::into),
            other_waits: from.waits_for.as_ref().map(|_| from.other_waits),
            failure: from.failure.as_ref().map(Into::into),
            runs_from: from.runs_from,
        }
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

impl<'a> From<&'a proto::Failure> for FailureJson<'a> {
    fn from(from: &'a proto::Failure) -> Self {
        let details = from.details.as_deref().map(raw);
        Self { kind: &from.kind, message: &from.message, details, retryable: from.retryable }
    }
}

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

/// The latest progress of a step or workflow.
#[derive(Serialize, ToSchema)]
#[schema(as = Progress)]
pub(crate) struct ProgressJson<'a> {
    pub(super) scope: &'a str,
    pub(super) name: &'a str,
    pub(super) percent: u32,
    pub(super) message: &'a str,
}

impl<'a> From<&'a proto::Progress> for ProgressJson<'a> {
    fn from(from: &'a proto::Progress) -> Self {
        Self { scope: &from.scope, name: &from.name, percent: from.percent, message: &from.message }
    }
}

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

impl<'a> From<&'a proto::Component> for ComponentJson<'a> {
    fn from(from: &'a proto::Component) -> Self {
        Self {
            name: &from.name,
            digest: &from.digest,
            workflows: &from.workflows,
            steps: &from.steps,
            capabilities: &from.capabilities,
            size: from.size,
            uploaded_at: from.uploaded_at.as_ref().map(rfc3339),
            current: from.current,
            proposed: from.proposed,
            not_granted: &from.not_granted,
        }
    }
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

impl<'a> From<&'a proto::Approval> for ApprovalJson<'a> {
    fn from(from: &'a proto::Approval) -> Self {
        Self {
            approval_id: &from.approval_id,
            execution_id: &from.execution_id,
            kind: &from.kind,
            title: &from.title,
            data: raw(&from.data),
            schema: from.schema.as_deref().map(raw),
            requested_at: from.requested_at.as_ref().map(rfc3339),
            deadline: from.deadline.as_ref().map(rfc3339),
            state: &from.state,
            approvers: &from.approvers,
        }
    }
}

/// Components, by name, the current version of each first.
#[derive(Serialize, ToSchema)]
#[schema(as = Components)]
pub(crate) struct ComponentsJson<'a> {
    pub(super) components: Vec<ComponentJson<'a>>,
}

/// A page of executions, and the cursor of the next page if there is one.
#[derive(Serialize, ToSchema)]
#[schema(as = Executions)]
pub(crate) struct ExecutionsJson<'a> {
    pub(super) executions: Vec<SummaryJson<'a>>,
    pub(super) next: Option<&'a str>,
}

/// A page of questions, and the cursor of the next page if there is one.
#[derive(Serialize, ToSchema)]
#[schema(as = Approvals)]
pub(crate) struct ApprovalsJson<'a> {
    pub(super) approvals: Vec<ApprovalJson<'a>>,
    pub(super) next: Option<&'a str>,
}

/// The execution whose question was answered.
#[derive(Serialize, ToSchema)]
#[schema(as = Decided)]
pub(crate) struct DecidedJson<'a> {
    pub(super) execution_id: &'a str,
}
