//! Saved views of the list of executions.

use serde::Deserialize;
use utoipa::ToSchema;

use super::ask::{Answer, Ask};
use super::body::Json;
use super::filter::WishedFilter;
use super::problem::Problems;
use super::query::Path;
use crate::client::Verbs;
use crate::json::views::{ViewJson, ViewsJson};
use crate::proto;

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
pub(super) async fn save(ask: Ask, Json(wish): Json<NewView>) -> Answer {
    let NewView { name, shared, filter, columns } = wish;
    let request = proto::SaveViewRequest { name, shared, filter: filter.map(Into::into), columns };
    ask.show(Verbs::save_view, request).await
}

/// The views that the caller sees: those that are shared by name, then the caller's own.
#[utoipa::path(get, path = "/v1/views", operation_id = "Views", tag = "views",
    responses((status = 200, body = ViewsJson), Problems))]
pub(super) async fn list(ask: Ask) -> Answer {
    ask.show(Verbs::views, proto::ViewsRequest {}).await
}

/// Deletes a view.
#[utoipa::path(delete, path = "/v1/views/{name}", operation_id = "DeleteView", tag = "views",
    params(("name" = String, Path),
        ("shared" = Option<bool>, Query, description = "The one that the whole tenant sees; otherwise the caller's own")),
    responses((status = 204, description = "It is deleted"), Problems))]
pub(super) async fn delete(mut ask: Ask, Path(name): Path<String>) -> Answer {
    let shared = ask.query.take("shared")?.unwrap_or_default();
    ask.done(Verbs::delete_view, proto::DeleteViewRequest { name, shared }).await
}
