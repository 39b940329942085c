//! Secrets of tenants.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use utoipa::ToSchema;

use super::body::Json;
use super::problem::Problems;
use super::query::{Parameters, Path};
use super::{Problem, Shared, asked, json};
use crate::access::Access;
use crate::json::tenants::{RotatedJson, SecretJson, SecretsJson};
use crate::proto;
use crate::proto::engine_server::Engine as _;

/// A secret to be set.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewSecret {
    /// The caller's own tenant if it is left out.
    tenant: Option<String>,
    #[schema(example = "STRIPE_KEY")]
    name: String,
    /// At most 16 KiB. No answer ever shows it.
    value: String,
    /// The hosts to which it may go: `host` or `host:port`.
    #[schema(example = json!(["api.stripe.com"]))]
    hosts: Vec<String>,
}

/// Sets a secret, which requests of steps may contain as `{{secret:NAME}}` if they go to one of its hosts.
#[utoipa::path(post, path = "/v1/secrets", operation_id = "SetSecret", tag = "secrets", request_body = NewSecret,
    responses((status = 200, body = SecretJson), Problems))]
pub(super) async fn set(
    State(service): State<Shared>,
    access: Access,
    query: Parameters,
    Json(wish): Json<NewSecret>,
) -> Result<Response, Problem> {
    query.end()?;
    let NewSecret { tenant, name, value, hosts } = wish;
    let request = proto::SetSecretRequest { tenant, name, value, hosts };
    let secret = service.set_secret(asked(access, request)).await?.into_inner();
    Ok(json(crate::json::of(&secret)))
}

/// The secrets of a tenant without their values, by name.
#[utoipa::path(get, path = "/v1/secrets", operation_id = "Secrets", tag = "secrets",
    params(("tenant" = Option<String>, Query, description = "The caller's own if it is left out")),
    responses((status = 200, body = SecretsJson), Problems))]
pub(super) async fn list(
    State(service): State<Shared>,
    access: Access,
    query: Parameters,
) -> Result<Response, Problem> {
    let tenant = query.only("tenant")?;
    let all = service.secrets(asked(access, proto::SecretsRequest { tenant })).await?.into_inner();
    Ok(json(crate::json::of(&all)))
}

/// Deletes a secret.
#[utoipa::path(delete, path = "/v1/secrets/{name}", operation_id = "DeleteSecret", tag = "secrets",
    params(("name" = String, Path),
        ("tenant" = Option<String>, Query, description = "The caller's own if it is left out")),
    responses((status = 204, description = "It is deleted"), Problems))]
pub(super) async fn delete(
    State(service): State<Shared>,
    access: Access,
    Path(name): Path<String>,
    query: Parameters,
) -> Result<StatusCode, Problem> {
    let tenant = query.only("tenant")?;
    service.delete_secret(asked(access, proto::DeleteSecretRequest { tenant, name })).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Seals all secrets of a tenant with a new key, and that with the first of the engine's keys.
#[utoipa::path(post, path = "/v1/secrets/rotate-key", operation_id = "RotateSecretsKey", tag = "secrets",
    params(("tenant" = Option<String>, Query, description = "The caller's own if it is left out")),
    responses((status = 200, body = RotatedJson), Problems))]
pub(super) async fn rotate_key(
    State(service): State<Shared>,
    access: Access,
    query: Parameters,
) -> Result<Response, Problem> {
    let tenant = query.only("tenant")?;
    let request = asked(access, proto::RotateSecretsKeyRequest { tenant });
    let rotated = service.rotate_secrets_key(request).await?.into_inner();
    Ok(json(crate::json::of(&rotated)))
}
