//! Secrets of tenants.

use serde::Deserialize;
use utoipa::ToSchema;

use super::ask::{Answer, Ask};
use super::body::Json;
use super::problem::Problems;
use super::query::Path;
use crate::client::Verbs;
use crate::json::tenants::{RotatedJson, SecretJson, SecretsJson};
use crate::proto;

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
pub(super) async fn set(ask: Ask, Json(wish): Json<NewSecret>) -> Answer {
    let NewSecret { tenant, name, value, hosts } = wish;
    let request = proto::SetSecretRequest { tenant, name, value, hosts };
    ask.show(Verbs::set_secret, request).await
}

/// The secrets of a tenant without their values, by name.
#[utoipa::path(get, path = "/v1/secrets", operation_id = "Secrets", tag = "secrets",
    params(("tenant" = Option<String>, Query, description = "The caller's own if it is left out")),
    responses((status = 200, body = SecretsJson), Problems))]
pub(super) async fn list(mut ask: Ask) -> Answer {
    let tenant = ask.query.take("tenant")?;
    ask.show(Verbs::secrets, proto::SecretsRequest { tenant }).await
}

/// Deletes a secret.
#[utoipa::path(delete, path = "/v1/secrets/{name}", operation_id = "DeleteSecret", tag = "secrets",
    params(("name" = String, Path),
        ("tenant" = Option<String>, Query, description = "The caller's own if it is left out")),
    responses((status = 204, description = "It is deleted"), Problems))]
pub(super) async fn delete(mut ask: Ask, Path(name): Path<String>) -> Answer {
    let tenant = ask.query.take("tenant")?;
    ask.done(Verbs::delete_secret, proto::DeleteSecretRequest { tenant, name }).await
}

/// Seals all secrets of a tenant with a new key, and that with the first of the engine's keys.
#[utoipa::path(post, path = "/v1/secrets/rotate-key", operation_id = "RotateSecretsKey", tag = "secrets",
    params(("tenant" = Option<String>, Query, description = "The caller's own if it is left out")),
    responses((status = 200, body = RotatedJson), Problems))]
pub(super) async fn rotate_key(mut ask: Ask) -> Answer {
    let tenant = ask.query.take("tenant")?;
    ask.show(Verbs::rotate_secrets_key, proto::RotateSecretsKeyRequest { tenant }).await
}
