//! The JSON of links with which people answer questions.

use serde::Serialize;
use utoipa::ToSchema;

use super::rfc3339;
use crate::proto;

/// A link with which one person answers a question, without its secret.
#[derive(Serialize, ToSchema)]
#[schema(as = ApprovalLink)]
pub(crate) struct LinkJson<'a> {
    pub(super) link_id: &'a str,
    pub(super) approval_id: &'a str,
    pub(super) name: &'a str,
    /// The decisions that it allows: `approve`, `reject`.
    pub(super) decisions: &'a [String],
    /// Null if the engine had no tokens.
    pub(super) created_by: Option<&'a str>,
    pub(super) created_at: Option<String>,
    pub(super) expires_at: Option<String>,
    pub(super) used_at: Option<String>,
    pub(super) revoked_at: Option<String>,
}

/// A new link. The secret is there in the answer that creates it, and never again.
#[derive(Serialize, ToSchema)]
#[schema(as = CreatedApprovalLink)]
pub(crate) struct CreatedLinkJson<'a> {
    #[serde(flatten)]
    pub(super) link: LinkJson<'a>,
    /// The path of its page, below the engine's address.
    pub(super) path: &'a str,
    /// The secret, which the path ends with.
    pub(super) token: &'a str,
    /// The address of its page, if the engine was told its own (`public_url`); the command line says it always.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) url: Option<&'a str>,
}

/// The links of a question, the newest first.
#[derive(Serialize, ToSchema)]
#[schema(as = ApprovalLinks)]
pub(crate) struct LinksJson<'a> {
    pub(super) links: Vec<LinkJson<'a>>,
}

impl<'a> From<&'a proto::ApprovalLink> for LinkJson<'a> {
    fn from(from: &'a proto::ApprovalLink) -> Self {
        Self {
            link_id: &from.link_id,
            approval_id: &from.approval_id,
            name: &from.name,
            decisions: &from.decisions,
            created_by: from.created_by.as_deref(),
            created_at: from.created_at.as_ref().map(rfc3339),
            expires_at: from.expires_at.as_ref().map(rfc3339),
            used_at: from.used_at.as_ref().map(rfc3339),
            revoked_at: from.revoked_at.as_ref().map(rfc3339),
        }
    }
}
