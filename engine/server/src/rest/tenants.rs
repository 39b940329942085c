//! Who calls, tokens and tenants.

use std::collections::BTreeMap;

use serde::Deserialize;
use utoipa::ToSchema;

use super::ask::{Answer, Ask};
use super::body::Json;
use super::problem::Problems;
use super::query::Path;
use crate::client::Verbs;
use crate::json::tenants::{
    AuditJson, CallerJson, NodesJson, TenantDetailJson, TenantJson, TenantsJson, TokenJson, TokensJson,
};
use crate::proto;
use crate::span::Span;

/// A token to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewToken {
    /// The caller's own tenant if it is left out.
    tenant: Option<String>,
    #[schema(example = "operator")]
    role: String,
    /// Stands beside what the token's holder does.
    name: String,
    /// The token ends after this time; never if it is left out.
    #[schema(value_type = Option<String>, example = "90d")]
    expires: Option<Span>,
}

/// A tenant to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewTenant {
    name: String,
}

/// The caller of this request.
#[utoipa::path(get, path = "/v1/caller", operation_id = "WhoAmI", tag = "tenants",
    responses((status = 200, body = CallerJson), Problems))]
pub(super) async fn who_am_i(ask: Ask) -> Answer {
    ask.show(Verbs::who_am_i, proto::WhoAmIRequest {}).await
}

/// Makes a token. Its secret is in this answer and nowhere else.
#[utoipa::path(post, path = "/v1/tokens", operation_id = "CreateToken", tag = "tenants", request_body = NewToken,
    responses((status = 200, body = TokenJson), Problems))]
pub(super) async fn create_token(ask: Ask, Json(wish): Json<NewToken>) -> Answer {
    let NewToken { tenant, role, name, expires } = wish;
    let request = proto::CreateTokenRequest { tenant, role, name, expires_in_ms: expires.map(|span| span.ms) };
    ask.show(Verbs::create_token, request).await
}

/// The tokens of a tenant, without their secrets.
#[utoipa::path(get, path = "/v1/tokens", operation_id = "Tokens", tag = "tenants",
    params(("tenant" = Option<String>, Query, description = "The caller's own if it is left out")),
    responses((status = 200, body = TokensJson), Problems))]
pub(super) async fn tokens(mut ask: Ask) -> Answer {
    let tenant = ask.query.take("tenant")?;
    ask.show(Verbs::tokens, proto::TokensRequest { tenant }).await
}

/// Revokes a token.
#[utoipa::path(delete, path = "/v1/tokens/{id}", operation_id = "RevokeToken", tag = "tenants",
    params(("id" = String, Path), ("tenant" = Option<String>, Query, description = "The caller's own if it is left out")),
    responses((status = 204, description = "It is revoked"), Problems))]
pub(super) async fn revoke_token(mut ask: Ask, Path(id): Path<String>) -> Answer {
    let tenant = ask.query.take("tenant")?;
    ask.done(Verbs::revoke_token, proto::RevokeTokenRequest { id, tenant }).await
}

/// Makes a tenant.
#[utoipa::path(post, path = "/v1/tenants", operation_id = "CreateTenant", tag = "tenants", request_body = NewTenant,
    responses((status = 200, body = TenantJson), Problems))]
pub(super) async fn create(ask: Ask, Json(NewTenant { name }): Json<NewTenant>) -> Answer {
    ask.show(Verbs::create_tenant, proto::CreateTenantRequest { name }).await
}

/// All tenants.
#[utoipa::path(get, path = "/v1/tenants", operation_id = "Tenants", tag = "tenants",
    responses((status = 200, body = TenantsJson), Problems))]
pub(super) async fn list(ask: Ask) -> Answer {
    ask.show(Verbs::tenants, proto::TenantsRequest {}).await
}

/// A tenant with its quotas, and what it uses of them.
#[utoipa::path(get, path = "/v1/tenants/{name}", operation_id = "ShowTenant", tag = "tenants",
    params(("name" = String, Path)), responses((status = 200, body = TenantDetailJson), Problems))]
pub(super) async fn show(ask: Ask, Path(name): Path<String>) -> Answer {
    ask.show(Verbs::show_tenant, proto::ShowTenantRequest { name }).await
}

/// Deletes a suspended tenant with all that it has: executions, components, tokens and audit. It is listed until nothing is
/// left of it.
#[utoipa::path(delete, path = "/v1/tenants/{name}", operation_id = "DeleteTenant", tag = "tenants",
    params(("name" = String, Path)), responses((status = 200, body = TenantJson), Problems))]
pub(super) async fn delete(ask: Ask, Path(name): Path<String>) -> Answer {
    ask.show(Verbs::delete_tenant, proto::DeleteTenantRequest { name }).await
}

/// Sets quotas of a tenant, such as `{"open-executions": 1000}`; `null` returns to the default.
#[utoipa::path(post, path = "/v1/tenants/{name}/quotas", operation_id = "SetQuotas", tag = "tenants",
    params(("name" = String, Path)), request_body = HashMap<String, Option<u64>>,
    responses((status = 200, body = TenantDetailJson), Problems))]
pub(super) async fn set_quotas(
    ask: Ask,
    Path(name): Path<String>,
    Json(changes): Json<BTreeMap<String, Option<u64>>>,
) -> Answer {
    let changes = changes.into_iter().map(|(name, max)| proto::set_quotas_request::Change { name, max }).collect();
    ask.show(Verbs::set_quotas, proto::SetQuotasRequest { name, changes }).await
}

/// Sets the hosts that requests of a tenant's steps may reach, such as `["api.example.com"]`; `null` returns to what the
/// engine's configuration says.
#[utoipa::path(post, path = "/v1/tenants/{name}/hosts", operation_id = "SetHosts", tag = "tenants",
    params(("name" = String, Path)), request_body = Option<Vec<String>>,
    responses((status = 200, body = TenantDetailJson), Problems))]
pub(super) async fn set_hosts(ask: Ask, Path(name): Path<String>, Json(hosts): Json<Option<Vec<String>>>) -> Answer {
    let hosts = hosts.map(|hosts| proto::Hosts { hosts });
    ask.show(Verbs::set_hosts, proto::SetHostsRequest { name, hosts }).await
}

/// Suspends a tenant: its tokens are refused. Its executions go on.
#[utoipa::path(post, path = "/v1/tenants/{name}/suspend", operation_id = "SuspendTenant", tag = "tenants",
    params(("name" = String, Path), ("lift" = Option<bool>, Query, description = "Ends the suspension instead")),
    responses((status = 200, body = TenantJson), Problems))]
pub(super) async fn suspend(mut ask: Ask, Path(name): Path<String>) -> Answer {
    let lift = ask.query.take("lift")?.unwrap_or_default();
    ask.show(Verbs::suspend_tenant, proto::SuspendTenantRequest { name, lift }).await
}

/// What was done in a tenant, and by whom; the newest first.
#[utoipa::path(get, path = "/v1/audit", operation_id = "Audit", tag = "tenants",
    params(("tenant" = Option<String>, Query, description = "The caller's own if it is left out"),
        ("operation" = Option<String>, Query, description = "Only this operation, such as `Start`"),
        ("caller" = Option<String>, Query, description = "Only acts of the caller with this name"),
        ("object" = Option<String>, Query, description = "Only what was done to this object"),
        ("last" = Option<String>, Query, description = "Only acts of this last time, such as `7d`"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, description = "1,000 at most")),
    responses((status = 200, body = AuditJson), Problems))]
pub(super) async fn audit(mut ask: Ask) -> Answer {
    let request = proto::AuditRequest {
        tenant: ask.query.take("tenant")?,
        operation: ask.query.take("operation")?,
        caller: ask.query.take("caller")?,
        object: ask.query.take("object")?,
        last_ms: ask.query.take::<Span>("last")?.map(|last| last.ms),
        cursor: ask.query.take("cursor")?,
        limit: ask.query.take("limit")?.unwrap_or_default(),
    };
    ask.show(Verbs::audit, request).await
}

/// The engines that share the database, by name.
#[utoipa::path(get, path = "/v1/nodes", operation_id = "Nodes", tag = "server",
    responses((status = 200, body = NodesJson), Problems))]
pub(super) async fn nodes(ask: Ask) -> Answer {
    ask.show(Verbs::nodes, proto::NodesRequest {}).await
}
