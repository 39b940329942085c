//! Questions to people, and the answers.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::ask::{Answer, Ask};
use super::body::{Json, written};
use super::problem::Problems;
use super::query::Path;
use crate::Span;
use crate::client::Verbs;
use crate::json::links::{CreatedLinkJson, LinksJson};
use crate::json::shapes::{ApprovalsJson, DecidedJson};
use crate::proto;

/// An approval.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Approve {
    /// What the workflow gets; it has to fit the question's schema. `{}` if it is left out.
    #[schema(value_type = Option<serde_json::Value>)]
    #[serde(default, deserialize_with = "present")]
    data: Option<Box<RawValue>>,
    comment: Option<String>,
    /// Who answers. With a token, the token's name counts instead.
    by: Option<String>,
}

/// A rejection.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Reject {
    reason: Option<String>,
    /// Who answers. With a token, the token's name counts instead.
    by: Option<String>,
}

/// A link to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewLink {
    /// The person who answers with it. If the question has named approvers and the caller is not an admin, it is one of them.
    #[schema(example = "ada@example.com")]
    name: String,
    /// The decisions that it allows, `approve` or `reject`; both if it is left out.
    #[serde(default)]
    only: Vec<String>,
    /// The link ends after this time, at most 30 days; after 3 days if it is left out.
    #[schema(value_type = Option<String>, example = "3d")]
    expires: Option<Span>,
}

/// A value that is there, also if it is `null`.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(from).map(Some)
}

/// Open questions, oldest first.
#[utoipa::path(get, path = "/v1/approvals", operation_id = "Approvals", tag = "approvals",
    params(("execution" = Option<String>, Query, description = "Only the questions of this execution"),
        ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query, description = "`next` of the page before")),
    responses((status = 200, body = ApprovalsJson), Problems))]
pub(super) async fn list(mut ask: Ask) -> Answer {
    let request = proto::ApprovalsRequest {
        execution_id: ask.query.take("execution")?,
        cursor: ask.query.take("cursor")?,
        limit: ask.query.take("limit")?.unwrap_or_default(),
    };
    ask.show(Verbs::approvals, request).await
}

/// Answers a question with yes.
#[utoipa::path(post, path = "/v1/approvals/{id}/approve", operation_id = "Approve", tag = "approvals",
    params(("id" = String, Path, description = "The question, or the execution if it asks only one")), request_body = Option<Approve>,
    responses((status = 200, body = DecidedJson), Problems))]
pub(super) async fn approve(ask: Ask, Path(id): Path<String>, Json(answer): Json<Option<Approve>>) -> Answer {
    let Approve { data, comment, by } = answer.unwrap_or_default();
    let request = proto::ApproveRequest { id, data: written(data), comment, by: by.unwrap_or_default() };
    ask.show(Verbs::approve, request).await
}

/// Answers a question with no.
#[utoipa::path(post, path = "/v1/approvals/{id}/reject", operation_id = "Reject", tag = "approvals",
    params(("id" = String, Path, description = "The question, or the execution if it asks only one")), request_body = Option<Reject>,
    responses((status = 200, body = DecidedJson), Problems))]
pub(super) async fn reject(ask: Ask, Path(id): Path<String>, Json(answer): Json<Option<Reject>>) -> Answer {
    let Reject { reason, by } = answer.unwrap_or_default();
    let request = proto::RejectRequest { id, reason: reason.unwrap_or_default(), by: by.unwrap_or_default() };
    ask.show(Verbs::reject, request).await
}

/// Makes a link with which one person answers a question once, without a token.
#[utoipa::path(post, path = "/v1/approvals/{id}/links", operation_id = "CreateApprovalLink", tag = "approvals",
    params(("id" = String, Path, description = "The question, or the execution if it asks only one")), request_body = NewLink,
    responses((status = 200, body = CreatedLinkJson), Problems))]
pub(super) async fn create_link(ask: Ask, Path(id): Path<String>, Json(wish): Json<NewLink>) -> Answer {
    let NewLink { name, only, expires } = wish;
    let request = proto::CreateApprovalLinkRequest { id, name, only, expires_in_ms: expires.map(|span| span.ms) };
    ask.show(Verbs::create_approval_link, request).await
}

/// The links of a question, without their secrets.
#[utoipa::path(get, path = "/v1/approvals/{id}/links", operation_id = "ApprovalLinks", tag = "approvals",
    params(("id" = String, Path, description = "The question, or the execution if it asks only one")),
    responses((status = 200, body = LinksJson), Problems))]
pub(super) async fn links(ask: Ask, Path(id): Path<String>) -> Answer {
    ask.show(Verbs::approval_links, proto::ApprovalLinksRequest { id }).await
}

/// Revokes a link.
#[utoipa::path(delete, path = "/v1/approvals/{id}/links/{link}", operation_id = "RevokeApprovalLink", tag = "approvals",
    params(("id" = String, Path, description = "The question, or the execution if it asks only one"), ("link" = String, Path)),
    responses((status = 204, description = "It is revoked"), Problems))]
pub(super) async fn revoke_link(ask: Ask, Path((id, link_id)): Path<(String, String)>) -> Answer {
    ask.done(Verbs::revoke_approval_link, proto::RevokeApprovalLinkRequest { id, link_id }).await
}
