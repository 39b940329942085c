//! Components: upload, list, accept, remove.

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;

use super::body::{needs_type, pieces};
use super::problem::Problems;
use super::query::{Parameters, Path};
use super::{Problem, Shared, asked, json};
use crate::access::Access;
use crate::json::shapes::{ComponentJson, ComponentsJson, RemovedJson};
use crate::proto;
use crate::proto::engine_server::Engine as _;

/// Uploads a component. It becomes the current version of its name, or is proposed if it asks for more than its name was
/// granted.
#[utoipa::path(post, path = "/v1/components", operation_id = "Upload", tag = "components",
    params(("name" = String, Query, description = "Its name: 1 to 64 of A-Z a-z 0-9 . _ -")),
    request_body(content = [u8], content_type = "application/wasm"),
    responses((status = 200, body = ComponentJson), Problems))]
pub(super) async fn upload(
    State(service): State<Shared>,
    access: Access,
    mut query: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let name = query.take("name")?.ok_or_else(|| Problem::invalid("say `?name=` and the name of the component"))?;
    query.end()?;
    needs_type(&headers, &["application/wasm", "application/octet-stream"])?;
    let kept = service.upload_pieces(&access, (Some(name), ""), pieces(body)).await?;
    Ok(json(crate::json::of(&kept)))
}

/// All components, by name, the current version of each first.
#[utoipa::path(get, path = "/v1/components", operation_id = "Components", tag = "components",
    responses((status = 200, body = ComponentsJson), Problems))]
pub(super) async fn list(
    State(service): State<Shared>,
    access: Access,
    query: Parameters,
) -> Result<Response, Problem> {
    query.end()?;
    let all = service.components(asked(access, proto::ComponentsRequest {})).await?.into_inner();
    Ok(json(crate::json::of(&all)))
}

/// Grants a version all that it asks for, and makes it the current one of its name.
#[utoipa::path(post, path = "/v1/components/{name}/accept", operation_id = "AcceptComponent", tag = "components",
    params(("name" = String, Path),
        ("digest" = String, Query, description = "The version's digest, or at least its first 12 digits")),
    responses((status = 200, body = ComponentJson), Problems))]
pub(super) async fn accept(
    State(service): State<Shared>,
    access: Access,
    Path(name): Path<String>,
    query: Parameters,
) -> Result<Response, Problem> {
    let digest = query.only("digest")?;
    let digest = digest.ok_or_else(|| Problem::invalid("say `?digest=` and which version you accept"))?;
    let request = proto::AcceptComponentRequest { name, digest };
    let accepted = service.accept_component(asked(access, request)).await?.into_inner();
    Ok(json(crate::json::of(&accepted)))
}

/// Removes versions of a component that no execution needs.
#[utoipa::path(delete, path = "/v1/components/{name}", operation_id = "RemoveComponent", tag = "components",
    params(("name" = String, Path), ("digest" = Option<String>, Query, description = "Only the version whose digest begins so")),
    responses((status = 200, body = RemovedJson), Problems))]
pub(super) async fn remove(
    State(service): State<Shared>,
    access: Access,
    Path(name): Path<String>,
    query: Parameters,
) -> Result<Response, Problem> {
    let digest = query.only("digest")?;
    let request = proto::RemoveComponentRequest { name: name.clone(), digest };
    let removed = service.remove_component(asked(access, request)).await?.into_inner();
    Ok(json(crate::json::removed(&name, &removed.digests)))
}
