//! Saved views of the list of executions.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use utoipa::ToSchema;

use super::body::Json;
use super::filter::WishedFilter;
use super::problem::Problems;
use super::query::{Parameters, Path};
use super::{Problem, Shared, asked, json};
use crate::access::Access;
use crate::json::views::{ViewJson, ViewsJson};
use crate::proto;
use crate::proto::engine_server::Engine as _;

/// A view to be saved.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewView {
    #[schema(example = "stuck in ops")]
    name: String,
    /// Whether the whole tenant sees it. That needs the right to run executions.
    #[serde(default)]
    shared: bool,
    /// All executions if it is left out.
    filter: Option<WishedFilter>,
    /// The attributes that have a column each.
    #[serde(default)]
    #[schema(example = json!(["team"]))]
    columns: Vec<String>,
}

/// Saves a view of the list of executions, in the place of one of the same name.
#[utoipa::path(post, path = "/v1/views", operation_id = "SaveView", tag = "views", request_body = NewView,
    responses((status = 200, body = ViewJson), Problems))]
pub(super) async fn save(
    State(service): State<Shared>,
    access: Access,
    query: Parameters,
    Json(wish): Json<NewView>,
) -> Result<Response, Problem> {
    query.end()?;
    let NewView { name, shared, filter, columns } = wish;
    let request = proto::SaveViewRequest { name, shared, filter: filter.map(Into::into), columns };
    let saved = service.save_view(asked(access, request)).await?.into_inner();
    Ok(json(crate::json::of(&saved)))
}

/// The views that the caller sees: those that are shared by name, then the caller's own.
#[utoipa::path(get, path = "/v1/views", operation_id = "Views", tag = "views",
    responses((status = 200, body = ViewsJson), Problems))]
pub(super) async fn list(
    State(service): State<Shared>,
    access: Access,
    query: Parameters,
) -> Result<Response, Problem> {
    query.end()?;
    let all = service.views(asked(access, proto::ViewsRequest {})).await?.into_inner();
    Ok(json(crate::json::of(&all)))
}

/// Deletes a view.
#[utoipa::path(delete, path = "/v1/views/{name}", operation_id = "DeleteView", tag = "views",
    params(("name" = String, Path),
        ("shared" = Option<bool>, Query, description = "The one that the whole tenant sees; otherwise the caller's own")),
    responses((status = 204, description = "It is deleted"), Problems))]
pub(super) async fn delete(
    State(service): State<Shared>,
    access: Access,
    Path(name): Path<String>,
    query: Parameters,
) -> Result<StatusCode, Problem> {
    let shared = query.only("shared")?.unwrap_or_default();
    service.delete_view(asked(access, proto::DeleteViewRequest { name, shared })).await?;
    Ok(StatusCode::NO_CONTENT)
}
