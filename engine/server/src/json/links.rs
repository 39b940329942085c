//! The JSON of links with which people answer questions.

use serde::Serialize;
use utoipa::ToSchema;

use super::line;
use super::members::{FromWire, ToJson, shape};
use crate::proto;

/// A link with which one person answers a question, without its secret.
#[derive(Serialize, ToSchema)]
#[schema(as = ApprovalLink)]
pub(crate) struct LinkJson<'a> {
    link_id: &'a str,
    approval_id: &'a str,
    name: &'a str,
    /// The decisions that it allows: `approve`, `reject`.
    decisions: &'a [String],
    /// Null if the engine had no tokens.
    created_by: Option<&'a str>,
    created_at: Option<String>,
    expires_at: Option<String>,
    used_at: Option<String>,
    revoked_at: Option<String>,
}

/// A new link. The secret is there in the answer that creates it, and never again.
#[derive(Serialize, ToSchema)]
#[schema(as = CreatedApprovalLink)]
pub(crate) struct CreatedLinkJson<'a> {
    #[serde(flatten)]
    link: LinkJson<'a>,
    /// The path of its page, below the engine's address.
    path: &'a str,
    /// The secret, which the path ends with.
    token: &'a str,
    /// The address of its page, if the engine was told its own (`public_url`); the command line says it always.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
}

/// The links of a question, the newest first.
#[derive(Serialize, ToSchema)]
#[schema(as = ApprovalLinks)]
pub(crate) struct LinksJson<'a> {
    links: Vec<LinkJson<'a>>,
}

shape! { proto::ApprovalLinksResponse as LinksJson<'a>: links }

shape! {
    proto::ApprovalLink as LinkJson<'a>:
    link_id, approval_id, name, decisions, created_by, created_at, expires_at, used_at, revoked_at
}

impl ToJson for proto::CreatedApprovalLink {
    fn to_json(&self) -> String {
        let link = self.link.clone().unwrap_or_default();
        let Self { path, token, url, .. } = self;
        line(&CreatedLinkJson { link: LinkJson::from_wire(&link), path, token, url: url.as_deref() })
    }
}
