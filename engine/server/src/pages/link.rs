//! The page behind an approval link: one question, for one person, without a token and without navigation.
//!
//! Looking changes nothing, because programs open links as well: only the form decides, and only once.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Redirect, Response};
use cerebelum_worker::{Decision, LinkState, LinkView};
use maud::{Markup, html};
use tonic::Status;

use super::form::{self, Held};
use super::layout::{self, Frame};
use super::parts::{exact, moment, text, value};
use super::read::{Form, Path};
use super::{Shown, Site};
use crate::access::address;
use crate::convert::{self, refusal};
use crate::places::Connection;
use crate::wording::Now;

pub(super) async fn show(State(site): State<Site>, Path(token): Path<String>) -> Shown {
    let link = site.service.engine.approval_by_link(&token).await.map_err(refusal)?;
    Ok(page(&link, &token, None, &[]))
}

fn page(link: &LinkView, token: &str, refused: Option<&str>, typed: &[(String, String)]) -> Response {
    let (now, asked_at) = (Now::measured(), convert::moment(link.question.requested_at));
    let body = html! {
        article.card.question.link {
            h1 { (text(&link.question.title)) }
            p.note { "For " strong { (text(&link.name)) } " · asked " (moment(Some(&asked_at), now)) }
            @if let Some(refused) = refused { p.wrong role="alert" { (text(refused)) } }
            @match link.state {
                LinkState::Open => (answer(link, token, now, typed)),
                LinkState::Used => p.lead { "This link has been used: the question is answered. Thank you." },
                LinkState::Expired => p.lead { "The time of this link is over. The person who sent it can make another one." },
                LinkState::Decided(word) => p.lead { (ended(word)) },
            }
        }
    };
    // The address is a secret. The policy of all pages keeps it from others; a stricter one would take the origin from
    // the form, which is then refused.
    layout::page(&Frame::bare("A question"), &body)
}

fn ended(word: &str) -> &'static str {
    match word {
        "approved" => "The question has been answered with yes, by another way than this link.",
        "rejected" => "The question has been answered with no, by another way than this link.",
        "timed-out" => "The question was not answered in time.",
        _ => "The question is no longer asked.",
    }
}

fn answer(link: &LinkView, token: &str, now: Now, typed: &[(String, String)]) -> Markup {
    let (data, schema) = (link.question.data.as_str(), link.question.schema.as_ref().map(|schema| schema.as_str()));
    let may = |decision: &str| link.decisions.contains(&decision);
    let until = link.question.deadline.map_or(link.expires_at, |deadline| deadline.min(link.expires_at));
    let until = convert::moment(until);
    html! {
        @if !matches!(data, "" | "null" | "{}") { (value(data, None)) }
        @if may("approve") {
            form.stack method="post" action={ "/a/" (token) } {
                (form::fields("Answer", schema, Held { json: None, typed }, "a"))
                label for="comment" { "Comment" span.note { " optional" } }
                input #comment name="comment";
                button.main name="decision" value="approve" { "Approve" }
            }
        }
        @if may("reject") {
            details open[!may("approve")] {
                summary { "Reject" }
                form.stack method="post" action={ "/a/" (token) } {
                    label for="reason" { "Reason" }
                    input #reason name="reason" required;
                    button.danger name="decision" value="reject" { "Reject" }
                }
            }
        }
        p.note { "The link answers once, until " (exact(Some(&until))) ", " (moment(Some(&until), now)) "." }
    }
}

pub(super) async fn decide(
    State(site): State<Site>,
    Path(token): Path<String>,
    Extension(connection): Extension<Arc<Connection>>,
    headers: HeaderMap,
    Form(fields): Form<Vec<(String, String)>>,
) -> Shown {
    let engine = &site.service.engine;
    let address = address(&headers, connection.peer, site.origins);
    let refused = match decision(&fields) {
        Ok(decision) => match engine.decide_by_link(&token, decision, Some(address)).await.map_err(refusal) {
            Ok(_) => return Ok(Redirect::to(&format!("/a/{token}")).into_response()),
            Err(refused) => refused,
        },
        Err(why) => Status::invalid_argument(why),
    };
    // Where the link still shows something, it shows why this was refused.
    let link = engine.approval_by_link(&token).await.map_err(refusal)?;
    let page = page(&link, &token, Some(refused.message()), &fields);
    Ok((crate::rest::Problem::from(refused.clone()).status(), page).into_response())
}

fn decision(fields: &[(String, String)]) -> Result<Decision, String> {
    match form::sent(fields, "decision") {
        "approve" => {
            let data = form::json(fields)?.unwrap_or_else(|| "{}".to_owned());
            let comment = Some(form::sent(fields, "comment")).filter(|comment| !comment.is_empty());
            Ok(Decision::Approve { data, comment: comment.map(str::to_owned) })
        }
        "reject" => Ok(Decision::Reject { reason: form::sent(fields, "reason").to_owned() }),
        _ => Err("the form says neither yes nor no".to_owned()),
    }
}
