//! Bulk jobs: one operation on every execution that matches a filter.

use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::ask::{Answer, Ask};
use super::body::{Json, written};
use super::filter::{FilterParameters, WishedFilter};
use super::problem::Problems;
use super::query::Path;
use crate::client::Verbs;
use crate::json::bulk::{BulkDetailJson, BulkJobJson, BulkJobsJson, CountJson};
use crate::proto;

/// A wish for a bulk job.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StartBulk {
    /// `cancel`, `terminate`, `pause`, `resume`, `signal` or `delete`.
    #[schema(example = "cancel")]
    operation: String,
    /// The executions. Those that are started after the job are left alone.
    filter: WishedFilter,
    /// The most executions that are meant. When more than 100 match, it is needed: it confirms that.
    at_most: Option<u64>,
    /// The id of the job, made by the engine if it is left out. A wish with an id can be repeated safely.
    id: Option<String>,
    /// The signal, if the operation is `signal`.
    signal: Option<WishedSignal>,
    /// For `resume`: reopens failed executions even though their code went on after the failure.
    #[serde(default)]
    force: bool,
}

/// A signal to many executions.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct WishedSignal {
    name: String,
    /// `null` if it is left out. At most 16 KiB.
    #[schema(value_type = Option<serde_json::Value>)]
    data: Option<Box<RawValue>>,
}

/// How many executions match, up to a million.
#[utoipa::path(get, path = "/v1/count", operation_id = "Count", tag = "executions",
    params(FilterParameters,
        ("up_to" = Option<u64>, Query, description = "Counting stops here; at 1,000,000 if it is left out or larger")),
    responses((status = 200, body = CountJson), Problems))]
pub(super) async fn count(mut ask: Ask) -> Answer {
    let filter = ask.query.take_filter()?;
    let up_to = ask.query.take("up_to")?;
    let request = proto::CountRequest { filter: Some(filter), up_to };
    ask.show(Verbs::count, request).await
}

/// Creates a bulk job, which engines carry out in the background.
#[utoipa::path(post, path = "/v1/bulk", operation_id = "StartBulk", tag = "bulk", request_body = StartBulk,
    responses((status = 200, body = BulkJobJson), Problems))]
pub(super) async fn start(ask: Ask, Json(wish): Json<StartBulk>) -> Answer {
    let signal = wish.signal.map(|WishedSignal { name, data }| proto::BulkSignal { name, data: written(data) });
    let request = proto::StartBulkRequest {
        bulk_id: wish.id,
        operation: wish.operation,
        filter: Some(wish.filter.into()),
        at_most: wish.at_most,
        signal,
        force: wish.force,
    };
    ask.show(Verbs::start_bulk, request).await
}

/// The bulk jobs of the tenant, the newest first: those that have not ended, and the last 100 that have.
#[utoipa::path(get, path = "/v1/bulk", operation_id = "BulkJobs", tag = "bulk",
    responses((status = 200, body = BulkJobsJson), Problems))]
pub(super) async fn list(ask: Ask) -> Answer {
    ask.show(Verbs::bulk_jobs, proto::BulkJobsRequest {}).await
}

/// A bulk job, and the executions on which it could not carry out its operation.
#[utoipa::path(get, path = "/v1/bulk/{id}", operation_id = "ShowBulk", tag = "bulk", params(("id" = String, Path)),
    responses((status = 200, body = BulkDetailJson), Problems))]
pub(super) async fn show(ask: Ask, Path(bulk_id): Path<String>) -> Answer {
    ask.show(Verbs::show_bulk, proto::ShowBulkRequest { bulk_id }).await
}

/// Stops a bulk job. What it has done stays done.
#[utoipa::path(post, path = "/v1/bulk/{id}/stop", operation_id = "StopBulk", tag = "bulk", params(("id" = String, Path)),
    responses((status = 200, body = BulkJobJson), Problems))]
pub(super) async fn stop(ask: Ask, Path(bulk_id): Path<String>) -> Answer {
    ask.show(Verbs::stop_bulk, proto::StopBulkRequest { bulk_id }).await
}
