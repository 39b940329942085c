//! The JSON of bulk jobs.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::line;
use super::members::{FromWire, ToJson, shape};
use crate::proto;

/// How many executions match a filter.
#[derive(Serialize, ToSchema)]
#[schema(as = Count)]
pub(crate) struct CountJson {
    /// At most what was asked for.
    executions: u64,
    /// Whether there are no more than that.
    is_exact: bool,
}

shape! { proto::CountResponse as CountJson: executions, is_exact }

/// A bulk job.
#[derive(Serialize, ToSchema)]
#[schema(as = BulkJob)]
pub(crate) struct BulkJobJson<'a> {
    bulk_id: &'a str,
    operation: &'a str,
    filter: FilterJson<'a>,
    /// The signal, if the operation is `signal`.
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<SignalJson<'a>>,
    /// `running`, `done` or `stopped`.
    state: &'a str,
    /// How many executions matched when it was asked for.
    matched: u64,
    at_most: u64,
    done: u64,
    refused: u64,
    /// Null if the engine had no tokens.
    created_by: Option<&'a str>,
    created_at: Option<String>,
    ended_at: Option<String>,
}

/// The executions that a bulk job is about.
#[derive(Default, Serialize, ToSchema)]
#[schema(as = ExecutionFilter)]
pub(crate) struct FilterJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workflow: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = std::collections::HashMap<String, serde_json::Value>)]
    attributes: BTreeMap<&'a str, Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id_prefix: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waits_for: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
}

/// A signal to many executions.
#[derive(Serialize, ToSchema)]
#[schema(as = BulkSignal)]
pub(crate) struct SignalJson<'a> {
    name: &'a str,
    #[schema(value_type = serde_json::Value)]
    data: Box<RawValue>,
}

shape! { proto::BulkSignal as SignalJson<'a>: name, data }

/// The bulk jobs of a tenant, the newest first.
#[derive(Serialize, ToSchema)]
#[schema(as = BulkJobs)]
pub(crate) struct BulkJobsJson<'a> {
    jobs: Vec<BulkJobJson<'a>>,
}

shape! { proto::BulkJobsResponse as BulkJobsJson<'a>: jobs }

/// A bulk job with what it could not do.
#[derive(Serialize, ToSchema)]
#[schema(as = BulkJobDetail)]
pub(crate) struct BulkDetailJson<'a> {
    #[serde(flatten)]
    job: BulkJobJson<'a>,
    /// The first 1,000 executions on which it could not carry out its operation.
    refusals: Vec<BulkRefusalJson<'a>>,
}

/// An execution on which a bulk job could not carry out its operation.
#[derive(Serialize, ToSchema)]
#[schema(as = BulkRefusal)]
pub(crate) struct BulkRefusalJson<'a> {
    execution_id: &'a str,
    reason: &'a str,
}

shape! {
    proto::BulkJob as BulkJobJson<'a>:
    bulk_id, operation, filter, signal, state, matched, at_most, done, refused, created_by, created_at, ended_at
}

shape! {
    proto::ExecutionFilter as FilterJson<'a>:
    status, workflow, attributes, parent, id_prefix, waits_for, failure, since, until
}

impl<'a> FromWire<'a, Option<proto::ExecutionFilter>> for FilterJson<'a> {
    fn from_wire(wire: &'a Option<proto::ExecutionFilter>) -> Self {
        wire.as_ref().map_or_else(Self::default, Self::from_wire)
    }
}

impl ToJson for proto::BulkJobDetail {
    fn to_json(&self) -> String {
        let job = self.job.clone().unwrap_or_default();
        line(&BulkDetailJson { job: BulkJobJson::from_wire(&job), refusals: FromWire::from_wire(&self.refusals) })
    }
}

shape! { proto::BulkRefusal as BulkRefusalJson<'a>: execution_id, reason }
