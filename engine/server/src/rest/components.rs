//! Components: upload, list, show, accept, remove.

use axum::body::Body;
use axum::http::HeaderMap;

use super::ask::{Answer, Ask, in_json};
use super::body::{needs_type, pieces};
use super::problem::{Problem, Problems};
use super::query::Path;
use crate::client::Verbs;
use crate::json;
use crate::json::shapes::{ComponentJson, ComponentsJson, RemovedJson};
use crate::proto;

/// Uploads a component. It becomes the current version of its name, or is proposed if it asks for more than its name was
/// granted.
#[utoipa::path(post, path = "/v1/components", operation_id = "Upload", tag = "components",
    params(("name" = String, Query, description = "Its name: 1 to 64 of A-Z a-z 0-9 . _ -")),
    request_body(content = [u8], content_type = "application/wasm"),
    responses((status = 200, body = ComponentJson), Problems))]
pub(super) async fn upload(mut ask: Ask, headers: HeaderMap, body: Body) -> Answer {
    let name = ask.query.take("name")?.ok_or_else(|| Problem::invalid("say `?name=` and the name of the component"))?;
    let client = ask.end()?;
    needs_type(&headers, &["application/wasm", "application/octet-stream"])?;
    let kept = client.service.upload_pieces(&client.access, (Some(name), ""), pieces(body)).await?;
    Ok(in_json(json::of(&kept)))
}

/// All components, by name, the current version of each first.
#[utoipa::path(get, path = "/v1/components", operation_id = "Components", tag = "components",
    responses((status = 200, body = ComponentsJson), Problems))]
pub(super) async fn list(ask: Ask) -> Answer {
    ask.show(Verbs::components, proto::ComponentsRequest {}).await
}

/// The versions of one component, the current one first.
#[utoipa::path(get, path = "/v1/components/{name}", operation_id = "ShowComponent", tag = "components",
    params(("name" = String, Path)), responses((status = 200, body = ComponentsJson), Problems))]
pub(super) async fn show(ask: Ask, Path(name): Path<String>) -> Answer {
    ask.show(Verbs::show_component, proto::ShowComponentRequest { name }).await
}

/// Grants a version all that it asks for, and makes it the current one of its name.
#[utoipa::path(post, path = "/v1/components/{name}/accept", operation_id = "AcceptComponent", tag = "components",
    params(("name" = String, Path),
        ("digest" = String, Query, description = "The version's digest, or at least its first 12 digits")),
    responses((status = 200, body = ComponentJson), Problems))]
pub(super) async fn accept(mut ask: Ask, Path(name): Path<String>) -> Answer {
    let digest = ask.query.take("digest")?;
    // If another parameter is there, its name may be misspelt.
    ask.end()?;
    let digest = digest.ok_or_else(|| Problem::invalid("say `?digest=` and which version you accept"))?;
    let request = proto::AcceptComponentRequest { name, digest };
    ask.show(Verbs::accept_component, request).await
}

/// Removes versions of a component that no execution needs.
#[utoipa::path(delete, path = "/v1/components/{name}", operation_id = "RemoveComponent", tag = "components",
    params(("name" = String, Path), ("digest" = Option<String>, Query, description = "Only the version whose digest begins so")),
    responses((status = 200, body = RemovedJson), Problems))]
pub(super) async fn remove(mut ask: Ask, Path(name): Path<String>) -> Answer {
    let digest = ask.query.take("digest")?;
    let request = proto::RemoveComponentRequest { name: name.clone(), digest };
    let removed = ask.end()?.ask(Verbs::remove_component, request).await?;
    Ok(in_json(json::removed(&name, &removed.digests)))
}
