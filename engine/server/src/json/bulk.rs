//! The JSON of bulk jobs.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{raw, rfc3339};
use crate::proto;

/// How many executions match a filter.
#[derive(Serialize, ToSchema)]
#[schema(as = Count)]
pub(crate) struct CountJson {
    /// At most what was asked for.
    pub(super) executions: u64,
    /// Whether there are no more than that.
    pub(super) is_exact: bool,
}

/// A bulk job.
#[derive(Serialize, ToSchema)]
#[schema(as = BulkJob)]
pub(crate) struct BulkJobJson<'a> {
    pub(super) bulk_id: &'a str,
    pub(super) operation: &'a str,
    pub(super) filter: FilterJson<'a>,
    /// The signal, if the operation is `signal`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) signal: Option<SignalJson<'a>>,
    /// `running`, `done` or `stopped`.
    pub(super) state: &'a str,
    /// How many executions matched when it was asked for.
    pub(super) matched: u64,
    pub(super) at_most: u64,
    pub(super) done: u64,
    pub(super) refused: u64,
    /// Null if the engine had no tokens.
    pub(super) created_by: Option<&'a str>,
    pub(super) created_at: Option<String>,
    pub(super) ended_at: Option<String>,
}

/// The executions that a bulk job is about.
#[derive(Default, Serialize, ToSchema)]
#[schema(as = ExecutionFilter)]
pub(crate) struct FilterJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) workflow: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = std::collections::HashMap<String, serde_json::Value>)]
    pub(super) attributes: BTreeMap<&'a str, Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) parent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id_prefix: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) waits_for: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) failure: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) until: Option<String>,
}

/// A signal to many executions.
#[derive(Serialize, ToSchema)]
#[schema(as = BulkSignal)]
pub(crate) struct SignalJson<'a> {
    pub(super) name: &'a str,
    #[schema(value_type = serde_json::Value)]
    pub(super) data: Box<RawValue>,
}

/// The bulk jobs of a tenant, the newest first.
#[derive(Serialize, ToSchema)]
#[schema(as = BulkJobs)]
pub(crate) struct BulkJobsJson<'a> {
    pub(super) jobs: Vec<BulkJobJson<'a>>,
}

/// A bulk job with what it could not do.
#[derive(Serialize, ToSchema)]
#[schema(as = BulkJobDetail)]
pub(crate) struct BulkDetailJson<'a> {
    #[serde(flatten)]
    pub(super) job: BulkJobJson<'a>,
    /// The first 1,000 executions on which it could not carry out its operation.
    pub(super) refusals: Vec<BulkRefusalJson<'a>>,
}

/// An execution on which a bulk job could not carry out its operation.
#[derive(Serialize, ToSchema)]
#[schema(as = BulkRefusal)]
pub(crate) struct BulkRefusalJson<'a> {
    pub(super) execution_id: &'a str,
    pub(super) reason: &'a str,
}

impl<'a> From<&'a proto::BulkJob> for BulkJobJson<'a> {
    fn from(from: &'a proto::BulkJob) -> Self {
        Self {
            bulk_id: &from.bulk_id,
            operation: &from.operation,
            filter: from.filter.as_ref().map_or_else(FilterJson::default, FilterJson::from),
            signal: from.signal.as_ref().map(|signal| SignalJson { name: &signal.name, data: raw(&signal.data) }),
            state: &from.state,
            matched: from.matched,
            at_most: from.at_most,
            done: from.done,
            refused: from.refused,
            created_by: from.created_by.as_deref(),
            created_at: from.created_at.as_ref().map(rfc3339),
            ended_at: from.ended_at.as_ref().map(rfc3339),
        }
    }
}

impl<'a> From<&'a proto::ExecutionFilter> for FilterJson<'a> {
    fn from(from: &'a proto::ExecutionFilter) -> Self {
        Self {
            status: from.status.as_deref(),
            workflow: from.workflow.as_deref(),
            attributes: from.attributes.iter().map(|(name, value)| (name.as_str(), raw(value))).collect(),
            parent: from.parent.as_deref(),
            id_prefix: from.id_prefix.as_deref(),
            waits_for: from.waits_for.as_deref(),
            failure: from.failure.as_deref(),
            since: from.since.as_ref().map(rfc3339),
            until: from.until.as_ref().map(rfc3339),
        }
    }
}

impl<'a> From<&'a proto::BulkRefusal> for BulkRefusalJson<'a> {
    fn from(from: &'a proto::BulkRefusal) -> Self {
        Self { execution_id: &from.execution_id, reason: &from.reason }
    }
}
