//! Bulk jobs: one operation on every execution that matches a filter.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::body::Json;
use super::filter::{FilterParameters, WishedFilter};
use super::problem::Problems;
use super::query::{Parameters, Path};
use super::{Problem, Shared, asked, json};
use crate::access::Access;
use crate::json::bulk::{BulkDetailJson, BulkJobJson, BulkJobsJson, CountJson};
use crate::proto;
use crate::proto::engine_server::Engine as _;

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
pub(super) async fn count(
    State(service): State<Shared>,
    access: Access,
    mut query: Parameters,
) -> Result<Response, Problem> {
    let filter = query.take_filter()?;
    let up_to = query.take("up_to")?;
    query.end()?;
    let request = proto::CountRequest { filter: Some(filter), up_to };
    let counted = service.count(asked(access, request)).await?.into_inner();
    Ok(json(crate::json::of(&counted)))
}

/// Creates a bulk job, which engines carry out in the background.
#[utoipa::path(post, path = "/v1/bulk", operation_id = "StartBulk", tag = "bulk", request_body = StartBulk,
    responses((status = 200, body = BulkJobJson), Problems))]
pub(super) async fn start(
    State(service): State<Shared>,
    access: Access,
    query: Parameters,
    Json(wish): Json<StartBulk>,
) -> Result<Response, Problem> {
    query.end()?;
    let signal = wish.signal.map(|WishedSignal { name, data }| {
        let data = data.map(|data| data.get().to_owned()).unwrap_or_default();
        proto::BulkSignal { name, data }
    });
    let request = proto::StartBulkRequest {
        bulk_id: wish.id,
        operation: wish.operation,
        filter: Some(wish.filter.into()),
        at_most: wish.at_most,
        signal,
        force: wish.force,
    };
    let job = service.start_bulk(asked(access, request)).await?.into_inner();
    Ok(json(crate::json::of(&job)))
}

/// The bulk jobs of the tenant, the newest first: those that have not ended, and the last 100 that have.
#[utoipa::path(get, path = "/v1/bulk", operation_id = "BulkJobs", tag = "bulk",
    responses((status = 200, body = BulkJobsJson), Problems))]
pub(super) async fn list(
    State(service): State<Shared>,
    access: Access,
    query: Parameters,
) -> Result<Response, Problem> {
    query.end()?;
    let all = service.bulk_jobs(asked(access, proto::BulkJobsRequest {})).await?.into_inner();
    Ok(json(crate::json::of(&all)))
}

/// A bulk job, and the executions on which it could not carry out its operation.
#[utoipa::path(get, path = "/v1/bulk/{id}", operation_id = "ShowBulk", tag = "bulk", params(("id" = String, Path)),
    responses((status = 200, body = BulkDetailJson), Problems))]
pub(super) async fn show(
    State(service): State<Shared>,
    access: Access,
    Path(bulk_id): Path<String>,
    query: Parameters,
) -> Result<Response, Problem> {
    query.end()?;
    let detail = service.show_bulk(asked(access, proto::ShowBulkRequest { bulk_id })).await?.into_inner();
    Ok(json(crate::json::of(&detail)))
}

/// Stops a bulk job. What it has done stays done.
#[utoipa::path(post, path = "/v1/bulk/{id}/stop", operation_id = "StopBulk", tag = "bulk", params(("id" = String, Path)),
    responses((status = 200, body = BulkJobJson), Problems))]
pub(super) async fn stop(
    State(service): State<Shared>,
    access: Access,
    Path(bulk_id): Path<String>,
    query: Parameters,
) -> Result<Response, Problem> {
    query.end()?;
    let job = service.stop_bulk(asked(access, proto::StopBulkRequest { bulk_id })).await?.into_inner();
    Ok(json(crate::json::of(&job)))
}
