//! Who calls, tokens and tenants.

use std::collections::BTreeMap;

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
use crate::json::tenants::{
    AuditJson, CallerJson, NodesJson, TenantDetailJson, TenantJson, TenantsJson, TokenJson, TokensJson,
};
use crate::proto;
use crate::proto::engine_server::Engine as _;
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
pub(super) async fn who_am_i(
    State(service): State<Shared>,
    access: Access,
    query: Parameters,
) -> Result<Response, Problem> {
    query.end()?;
    let caller = service.who_am_i(asked(access, proto::WhoAmIRequest {})).await?.into_inner();
    Ok(json(crate::json::of(&caller)))
}

/// Makes a token. Its secret is in this answer and nowhere else.
#[utoipa::path(post, path = "/v1/tokens", operation_id = "CreateToken", tag = "tenants", request_body = NewToken,
    responses((status = 200, body = TokenJson), Problems))]
pub(super) async fn create_token(
    State(service): State<Shared>,
    access: Access,
    query: Parameters,
    Json(wish): Json<NewToken>,
) -> Result<Response, Problem> {
    query.end()?;
    let NewToken { tenant, role, name, expires } = wish;
    let request = proto::CreateTokenRequest { tenant, role, name, expires_in_ms: expires.map(|span| span.ms) };
    let created = service.create_token(asked(access, request)).await?.into_inner();
    Ok(json(crate::json::of(&created)))
}

/// The tokens of a tenant, without their secrets.
#[utoipa::path(get, path = "/v1/tokens", operation_id = "Tokens", tag = "tenants",
    params(("tenant" = Option<String>, Query, description = "The caller's own if it is left out")),
    responses((status = 200, body = TokensJson), Problems))]
pub(super) async fn tokens(
    State(service): State<Shared>,
    access: Access,
    query: Parameters,
) -> Result<Response, Problem> {
    let tenant = query.only("tenant")?;
    let all = service.tokens(asked(access, proto::TokensRequest { tenant })).await?.into_inner();
    Ok(json(crate::json::of(&all)))
}

/// Revokes a token.
#[utoipa::path(delete, path = "/v1/tokens/{id}", operation_id = "RevokeToken", tag = "tenants",
    params(("id" = String, Path), ("tenant" = Option<String>, Query, description = "The caller's own if it is left out")),
    responses((status = 204, description = "It is revoked"), Problems))]
pub(super) async fn revoke_token(
    State(service): State<Shared>,
    access: Access,
    Path(id): Path<String>,
    query: Parameters,
) -> Result<StatusCode, Problem> {
    let tenant = query.only("tenant")?;
    service.revoke_token(asked(access, proto::RevokeTokenRequest { id, tenant })).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes a tenant.
#[utoipa::path(post, path = "/v1/tenants", operation_id = "CreateTenant", tag = "tenants", request_body = NewTenant,
    responses((status = 200, body = TenantJson), Problems))]
pub(super) async fn create(
    State(service): State<Shared>,
    access: Access,
    query: Parameters,
    Json(NewTenant { name }): Json<NewTenant>,
) -> Result<Response, Problem> {
    query.end()?;
    let tenant = service.create_tenant(asked(access, proto::CreateTenantRequest { name })).await?.into_inner();
    Ok(json(crate::json::of(&tenant)))
}

/// All tenants.
#[utoipa::path(get, path = "/v1/tenants", operation_id = "Tenants", tag = "tenants",
    responses((status = 200, body = TenantsJson), Problems))]
pub(super) async fn list(
    State(service): State<Shared>,
    access: Access,
    query: Parameters,
) -> Result<Response, Problem> {
    query.end()?;
    let all = service.tenants(asked(access, proto::TenantsRequest {})).await?.into_inner();
    Ok(json(crate::json::of(&all)))
}

/// A tenant with its quotas, and what it uses of them.
#[utoipa::path(get, path = "/v1/tenants/{name}", operation_id = "ShowTenant", tag = "tenants",
    params(("name" = String, Path)), responses((status = 200, body = TenantDetailJson), Problems))]
pub(super) async fn show(
    State(service): State<Shared>,
    access: Access,
    Path(name): Path<String>,
    query: Parameters,
) -> Result<Response, Problem> {
    query.end()?;
    let detail = service.show_tenant(asked(access, proto::ShowTenantRequest { name })).await?.into_inner();
    Ok(json(crate::json::of(&detail)))
}

/// Deletes a suspended tenant with all that it has: executions, components, tokens and audit. It is listed until nothing is
/// left of it.
#[utoipa::path(delete, path = "/v1/tenants/{name}", operation_id = "DeleteTenant", tag = "tenants",
    params(("name" = String, Path)), responses((status = 200, body = TenantJson), Problems))]
pub(super) async fn delete(
    State(service): State<Shared>,
    access: Access,
    Path(name): Path<String>,
    query: Parameters,
) -> Result<Response, Problem> {
    query.end()?;
    let tenant = service.delete_tenant(asked(access, proto::DeleteTenantRequest { name })).await?.into_inner();
    Ok(json(crate::json::of(&tenant)))
}

/// Sets quotas of a tenant, such as `{"open-executions": 1000}`; `null` returns to the default.
#[utoipa::path(post, path = "/v1/tenants/{name}/quotas", operation_id = "SetQuotas", tag = "tenants",
    params(("name" = String, Path)), request_body = HashMap<String, Option<u64>>,
    responses((status = 200, body = TenantDetailJson), Problems))]
pub(super) async fn set_quotas(
    State(service): State<Shared>,
    access: Access,
    Path(name): Path<String>,
    query: Parameters,
    Json(changes): Json<BTreeMap<String, Option<u64>>>,
) -> Result<Response, Problem> {
    query.end()?;
    let changes = changes.into_iter().map(|(name, max)| proto::set_quotas_request::Change { name, max }).collect();
    let detail = service.set_quotas(asked(access, proto::SetQuotasRequest { name, changes })).await?.into_inner();
    Ok(json(crate::json::of(&detail)))
}

/// Sets the hosts that requests of a tenant's steps may reach, such as `["api.example.com"]`; `null` returns to what the
/// engine's configuration says.
#[utoipa::path(post, path = "/v1/tenants/{name}/hosts", operation_id = "SetHosts", tag = "tenants",
    params(("name" = String, Path)), request_body = Option<Vec<String>>,
    responses((status = 200, body = TenantDetailJson), Problems))]
pub(super) async fn set_hosts(
    State(service): State<Shared>,
    access: Access,
    Path(name): Path<String>,
    query: Parameters,
    Json(hosts): Json<Option<Vec<String>>>,
) -> Result<Response, Problem> {
    query.end()?;
    let hosts = hosts.map(|hosts| proto::Hosts { hosts });
    let detail = service.set_hosts(asked(access, proto::SetHostsRequest { name, hosts })).await?.into_inner();
    Ok(json(crate::json::of(&detail)))
}

/// Suspends a tenant: its tokens are refused. Its executions go on.
#[utoipa::path(post, path = "/v1/tenants/{name}/suspend", operation_id = "SuspendTenant", tag = "tenants",
    params(("name" = String, Path), ("lift" = Option<bool>, Query, description = "Ends the suspension instead")),
    responses((status = 200, body = TenantJson), Problems))]
pub(super) async fn suspend(
    State(service): State<Shared>,
    access: Access,
    Path(name): Path<String>,
    query: Parameters,
) -> Result<Response, Problem> {
    let lift = query.only("lift")?.unwrap_or_default();
    let tenant = service.suspend_tenant(asked(access, proto::SuspendTenantRequest { name, lift })).await?.into_inner();
    Ok(json(crate::json::of(&tenant)))
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
pub(super) async fn audit(
    State(service): State<Shared>,
    access: Access,
    mut query: Parameters,
) -> Result<Response, Problem> {
    let request = proto::AuditRequest {
        tenant: query.take("tenant")?,
        operation: query.take("operation")?,
        caller: query.take("caller")?,
        object: query.take("object")?,
        last_ms: query.take::<Span>("last")?.map(|last| last.ms),
        cursor: query.take("cursor")?,
        limit: query.take("limit")?.unwrap_or_default(),
    };
    query.end()?;
    let page = service.audit(asked(access, request)).await?.into_inner();
    Ok(json(crate::json::of(&page)))
}

/// The engines that share the database, by name.
#[utoipa::path(get, path = "/v1/nodes", operation_id = "Nodes", tag = "server",
    responses((status = 200, body = NodesJson), Problems))]
pub(super) async fn nodes(
    State(service): State<Shared>,
    access: Access,
    query: Parameters,
) -> Result<Response, Problem> {
    query.end()?;
    let all = service.nodes(asked(access, proto::NodesRequest {})).await?.into_inner();
    Ok(json(crate::json::of(&all)))
}
