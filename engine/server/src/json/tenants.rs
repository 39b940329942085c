//! The JSON of tenants and of what belongs to them: tokens, quotas, secrets, and what clients did.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::rfc3339;
use crate::proto;

/// A tenant.
#[derive(Serialize, ToSchema)]
#[schema(as = Tenant)]
pub(crate) struct TenantJson<'a> {
    pub(super) name: &'a str,
    pub(super) created_at: Option<String>,
    pub(super) suspended_at: Option<String>,
    /// Since when it is being deleted.
    pub(super) deleted_at: Option<String>,
}

/// A token. The secret is there in the answer that creates it, and never again.
#[derive(Serialize, ToSchema)]
#[schema(as = Token)]
pub(crate) struct TokenJson<'a> {
    pub(super) id: &'a str,
    /// The whole token, of a new one.
    #[serde(rename = "token", skip_serializing_if = "Option::is_none")]
    pub(super) secret: Option<&'a str>,
    pub(super) tenant: &'a str,
    pub(super) role: &'a str,
    pub(super) name: &'a str,
    pub(super) created_at: Option<String>,
    pub(super) expires_at: Option<String>,
    pub(super) revoked_at: Option<String>,
    pub(super) last_used_at: Option<String>,
}

impl<'a> From<&'a proto::Tenant> for TenantJson<'a> {
    fn from(from: &'a proto::Tenant) -> Self {
        Self {
            name: &from.name,
            created_at: from.created_at.as_ref().map(rfc3339),
            suspended_at: from.suspended_at.as_ref().map(rfc3339),
            deleted_at: from.deleted_at.as_ref().map(rfc3339),
        }
    }
}

impl<'a> From<&'a proto::Token> for TokenJson<'a> {
    fn from(from: &'a proto::Token) -> Self {
        Self {
            id: &from.id,
            secret: None,
            tenant: &from.tenant,
            role: &from.role,
            name: &from.name,
            created_at: from.created_at.as_ref().map(rfc3339),
            expires_at: from.expires_at.as_ref().map(rfc3339),
            revoked_at: from.revoked_at.as_ref().map(rfc3339),
            last_used_at: from.last_used_at.as_ref().map(rfc3339),
        }
    }
}

/// The caller of this request.
#[derive(Serialize, ToSchema)]
#[schema(as = Caller)]
pub(crate) struct CallerJson<'a> {
    pub(super) tenant: &'a str,
    pub(super) role: &'a str,
    pub(super) name: Option<&'a str>,
    pub(super) token_id: Option<&'a str>,
}

/// A secret without its value.
#[derive(Serialize, ToSchema)]
#[schema(as = Secret)]
pub(crate) struct SecretJson<'a> {
    pub(super) name: &'a str,
    /// The hosts to which it may go.
    pub(super) hosts: &'a [String],
    pub(super) created_at: Option<String>,
    pub(super) changed_at: Option<String>,
    /// Whether this engine has the key to open it.
    pub(super) is_open: bool,
}

impl<'a> From<&'a proto::Secret> for SecretJson<'a> {
    fn from(from: &'a proto::Secret) -> Self {
        Self {
            name: &from.name,
            hosts: &from.hosts,
            created_at: from.created_at.as_ref().map(rfc3339),
            changed_at: from.changed_at.as_ref().map(rfc3339),
            is_open: from.is_open,
        }
    }
}

/// Secrets of a tenant.
#[derive(Serialize, ToSchema)]
#[schema(as = Secrets)]
pub(crate) struct SecretsJson<'a> {
    pub(super) secrets: Vec<SecretJson<'a>>,
}

/// How many secrets were sealed anew.
#[derive(Serialize, ToSchema)]
#[schema(as = Rotated)]
pub(crate) struct RotatedJson {
    pub(super) secrets: u64,
}

/// What a client did.
#[derive(Serialize, ToSchema)]
#[schema(as = Act)]
pub(crate) struct ActJson<'a> {
    pub(super) at: Option<String>,
    /// The name of the token's owner; null if the engine had no tokens.
    pub(super) caller: Option<&'a str>,
    pub(super) token_id: Option<&'a str>,
    pub(super) address: Option<&'a str>,
    /// The operation of this interface.
    pub(super) operation: &'a str,
    /// What it was done to: the id of an execution, question or token, or the name of a component or tenant.
    pub(super) object: &'a str,
    pub(super) outcome: &'a str,
}

impl<'a> From<&'a proto::Act> for ActJson<'a> {
    fn from(from: &'a proto::Act) -> Self {
        Self {
            at: from.at.as_ref().map(rfc3339),
            caller: from.caller.as_deref(),
            token_id: from.token_id.as_deref(),
            address: from.address.as_deref(),
            operation: &from.operation,
            object: &from.object,
            outcome: &from.outcome,
        }
    }
}

/// A page of what clients did, the newest first.
#[derive(Serialize, ToSchema)]
#[schema(as = Audit)]
pub(crate) struct AuditJson<'a> {
    pub(super) acts: Vec<ActJson<'a>>,
    /// Where the next page begins. With a filter, a page may be short and not be the last one.
    pub(super) next: Option<&'a str>,
}

/// Tokens of a tenant.
#[derive(Serialize, ToSchema)]
#[schema(as = Tokens)]
pub(crate) struct TokensJson<'a> {
    pub(super) tokens: Vec<TokenJson<'a>>,
}

/// All tenants.
#[derive(Serialize, ToSchema)]
#[schema(as = Tenants)]
pub(crate) struct TenantsJson<'a> {
    pub(super) tenants: Vec<TenantJson<'a>>,
}

/// A tenant with its quotas, by name.
#[derive(Serialize, ToSchema)]
#[schema(as = TenantDetail)]
pub(crate) struct TenantDetailJson<'a> {
    #[serde(flatten)]
    pub(super) tenant: TenantJson<'a>,
    #[schema(value_type = HashMap<String, QuotaJson>)]
    pub(super) quotas: BTreeMap<&'a str, QuotaJson>,
    /// The hosts that requests of its steps may reach; null for what the engine's configuration says.
    pub(super) hosts: Option<&'a [String]>,
}

/// A quota: how much a tenant may have, and how much of that it has.
#[derive(Serialize, ToSchema)]
#[schema(as = Quota)]
pub(crate) struct QuotaJson {
    pub(super) max: u64,
    /// Whether it was set for this tenant.
    pub(super) is_set: bool,
    /// Nothing for a rate.
    pub(super) used: Option<u64>,
}

impl From<&proto::Quota> for QuotaJson {
    fn from(from: &proto::Quota) -> Self {
        Self { max: from.max, is_set: from.is_set, used: from.used }
    }
}

/// The engines that share the database, by name.
#[derive(Serialize, ToSchema)]
#[schema(as = Nodes)]
pub(crate) struct NodesJson<'a> {
    pub(super) nodes: Vec<NodeJson<'a>>,
}

/// An engine with a lease on the database.
#[derive(Serialize, ToSchema)]
#[schema(as = Node)]
pub(crate) struct NodeJson<'a> {
    pub(super) name: &'a str,
    pub(super) incarnation: i64,
    /// 0 if the lease is over and other engines have yet to notice.
    pub(super) lease_left_ms: u64,
    /// How many executions it has claimed.
    pub(super) executions: u64,
    /// Whether it is the engine that answers.
    pub(super) is_this: bool,
}

impl<'a> From<&'a proto::Node> for NodeJson<'a> {
    fn from(from: &'a proto::Node) -> Self {
        Self {
            name: &from.name,
            incarnation: from.incarnation,
            lease_left_ms: from.lease_left_ms,
            executions: from.executions,
            is_this: from.is_this,
        }
    }
}
