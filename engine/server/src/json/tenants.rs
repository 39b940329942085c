//! The JSON of tenants and of what belongs to them: tokens, quotas, secrets, and what clients did.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::line;
use super::members::{FromWire, ToJson, shape};
use crate::proto;

/// A tenant.
#[derive(Serialize, ToSchema)]
#[schema(as = Tenant)]
pub(crate) struct TenantJson<'a> {
    name: &'a str,
    /// By which the engine's log names it: an execution there is `NUMBER/ID`.
    number: i32,
    created_at: Option<String>,
    suspended_at: Option<String>,
    /// Since when it is being deleted.
    deleted_at: Option<String>,
}

/// A token. The secret is there in the answer that creates it, and never again.
#[derive(Serialize, ToSchema)]
#[schema(as = Token)]
pub(crate) struct TokenJson<'a> {
    id: &'a str,
    /// The whole token, of a new one.
    #[serde(rename = "token", skip_serializing_if = "Option::is_none")]
    secret: Option<&'a str>,
    tenant: &'a str,
    role: &'a str,
    name: &'a str,
    created_at: Option<String>,
    expires_at: Option<String>,
    revoked_at: Option<String>,
    last_used_at: Option<String>,
}

shape! { proto::Tenant as TenantJson<'a>: name, number, created_at, suspended_at, deleted_at }

shape! {
    proto::Token as TokenJson<'a>:
    id, tenant, role, name, created_at, expires_at, revoked_at, last_used_at; secret: None
}

/// The caller of this request.
#[derive(Serialize, ToSchema)]
#[schema(as = Caller)]
pub(crate) struct CallerJson<'a> {
    tenant: &'a str,
    role: &'a str,
    name: Option<&'a str>,
    token_id: Option<&'a str>,
}

shape! { proto::Caller as CallerJson<'a>: tenant, role, name, token_id }

/// A secret without its value.
#[derive(Serialize, ToSchema)]
#[schema(as = Secret)]
pub(crate) struct SecretJson<'a> {
    name: &'a str,
    /// The hosts to which it may go.
    hosts: &'a [String],
    created_at: Option<String>,
    changed_at: Option<String>,
    /// Whether this engine has the key to open it.
    is_open: bool,
}

shape! { proto::Secret as SecretJson<'a>: name, hosts, created_at, changed_at, is_open }

/// Secrets of a tenant.
#[derive(Serialize, ToSchema)]
#[schema(as = Secrets)]
pub(crate) struct SecretsJson<'a> {
    secrets: Vec<SecretJson<'a>>,
}

shape! { proto::SecretsResponse as SecretsJson<'a>: secrets }

/// How many secrets were sealed anew.
#[derive(Serialize, ToSchema)]
#[schema(as = Rotated)]
pub(crate) struct RotatedJson {
    secrets: u64,
}

shape! { proto::RotateSecretsKeyResponse as RotatedJson: secrets }

/// What a client did.
#[derive(Serialize, ToSchema)]
#[schema(as = Act)]
pub(crate) struct ActJson<'a> {
    at: Option<String>,
    /// The name of the token's owner; null if the engine had no tokens.
    caller: Option<&'a str>,
    token_id: Option<&'a str>,
    address: Option<&'a str>,
    /// The operation of this interface.
    operation: &'a str,
    /// What it was done to: the id of an execution, question or token, or the name of a component or tenant.
    object: &'a str,
    outcome: &'a str,
}

shape! { proto::Act as ActJson<'a>: at, caller, token_id, address, operation, object, outcome }

/// A page of what clients did, the newest first.
#[derive(Serialize, ToSchema)]
#[schema(as = Audit)]
pub(crate) struct AuditJson<'a> {
    acts: Vec<ActJson<'a>>,
    /// Where the next page begins. With a filter, a page may be short and not be the last one.
    next: Option<&'a str>,
}

shape! { proto::AuditResponse as AuditJson<'a>: acts, next }

/// Tokens of a tenant.
#[derive(Serialize, ToSchema)]
#[schema(as = Tokens)]
pub(crate) struct TokensJson<'a> {
    tokens: Vec<TokenJson<'a>>,
}

shape! { proto::TokensResponse as TokensJson<'a>: tokens }

/// All tenants.
#[derive(Serialize, ToSchema)]
#[schema(as = Tenants)]
pub(crate) struct TenantsJson<'a> {
    tenants: Vec<TenantJson<'a>>,
}

shape! { proto::TenantsResponse as TenantsJson<'a>: tenants }

/// A tenant with its quotas, by name.
#[derive(Serialize, ToSchema)]
#[schema(as = TenantDetail)]
pub(crate) struct TenantDetailJson<'a> {
    #[serde(flatten)]
    tenant: TenantJson<'a>,
    #[schema(value_type = HashMap<String, QuotaJson>)]
    quotas: BTreeMap<&'a str, QuotaJson>,
    /// The hosts that requests of its steps may reach; null for what the engine's configuration says.
    hosts: Option<&'a [String]>,
}

/// A quota: how much a tenant may have, and how much of that it has.
#[derive(Serialize, ToSchema)]
#[schema(as = Quota)]
pub(crate) struct QuotaJson {
    max: u64,
    /// Whether it was set for this tenant.
    is_set: bool,
    /// Nothing for a rate.
    used: Option<u64>,
}

impl ToJson for proto::CreatedToken {
    fn to_json(&self) -> String {
        let token = self.token.clone().unwrap_or_default();
        line(&TokenJson { secret: Some(&self.secret), ..TokenJson::from_wire(&token) })
    }
}

impl ToJson for proto::TenantDetail {
    fn to_json(&self) -> String {
        let tenant = self.tenant.clone().unwrap_or_default();
        line(&TenantDetailJson {
            tenant: TenantJson::from_wire(&tenant),
            quotas: self.quotas.iter().map(|quota| (quota.name.as_str(), QuotaJson::from_wire(quota))).collect(),
            hosts: self.hosts.as_ref().map(|hosts| hosts.hosts.as_slice()),
        })
    }
}

shape! { proto::Quota as QuotaJson: max, is_set, used }

/// The engines that share the database, by name.
#[derive(Serialize, ToSchema)]
#[schema(as = Nodes)]
pub(crate) struct NodesJson<'a> {
    nodes: Vec<NodeJson<'a>>,
}

shape! { proto::NodesResponse as NodesJson<'a>: nodes }

/// An engine with a lease on the database.
#[derive(Serialize, ToSchema)]
#[schema(as = Node)]
pub(crate) struct NodeJson<'a> {
    name: &'a str,
    incarnation: i64,
    /// 0 if the lease is over and other engines have yet to notice.
    lease_left_ms: u64,
    /// How many executions it has claimed.
    executions: u64,
    /// Whether it is the engine that answers.
    is_this: bool,
}

shape! { proto::Node as NodeJson<'a>: name, incarnation, lease_left_ms, executions, is_this }
