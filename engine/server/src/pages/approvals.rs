//! Questions that wait for a person, and the forms that answer them.

use cerebelum_worker::{Action, Caller};
use maud::{Markup, html};
use serde::Deserialize;

use super::form::{self, Held};
use super::layout::{self, Frame, Live, may};
use super::parts::{cut, escaped, execution_path, moment, text, value_up_to};
use super::read::{Form, Path, Query};
use super::{Client, Shown, Verbs};
use crate::proto;
use crate::wording::Now;

/// The questions of a page.
const QUESTIONS: u32 = 50;
/// The letters of a title in the list of titles.
const TITLE_LETTERS_MAX: usize = 40;
/// Of the data of a question, so much is shown. A page has many questions.
const DATA_BYTES_MAX: usize = 16 << 10;

/// Where a list goes on.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    cursor: String,
}

pub(super) async fn show(client: Client, Query(wanted): Query<Wanted>) -> Shown {
    let cursor = Some(wanted.cursor).filter(|cursor| !cursor.is_empty());
    let is_first = cursor.is_none();
    let request = proto::ApprovalsRequest { cursor, limit: QUESTIONS, ..Default::default() };
    let page = client.ask(Verbs::approvals, request).await?;
    let now = Now::measured();
    let body = html! {
        h1 { "Approvals" }
        section #list data-live {
            @if page.approvals.is_empty() { p.lead { "No question is open." } }
            @let groups = by_title(&page.approvals);
            @if groups.len() > 1 && groups.len() < page.approvals.len() {
                nav.paging aria-label="Questions of this page by title" {
                    @for group in &groups {
                        a href={ "#q-" (group[0].approval_id) } { (text(&cut(&group[0].title, TITLE_LETTERS_MAX))) " × " (group.len()) }
                    }
                }
            }
            @for approval in groups.into_iter().flatten() { (question(approval, client.caller(), "/approvals", now)) }
            nav.paging aria-label="Pages of the list" {
                @if !is_first { a href="/approvals" { "Newest" } }
                @if let Some(next) = &page.next { a rel="next" href={ "/approvals?cursor=" (escaped(next)) } { "Older" } }
            }
        }
        @if may(client.caller(), Action::Audit) {
            p.note {
                "Answered before: " a href="/audit?operation=Approve" { "approved" } ", "
                a href="/audit?operation=Reject" { "rejected" } "."
            }
        }
    };
    let live = if is_first { Live::Often } else { Live::No };
    Ok(layout::page(&Frame::new("Approvals", client.caller(), "Approvals").live(live), &body))
}

/// Questions of one title together, in the order in which the titles come first.
fn by_title(approvals: &[proto::Approval]) -> Vec<Vec<&proto::Approval>> {
    let mut groups: Vec<Vec<&proto::Approval>> = Vec::new();
    for approval in approvals {
        match groups.iter_mut().find(|group| group[0].title == approval.title) {
            Some(group) => group.push(approval),
            None => groups.push(vec![approval]),
        }
    }
    groups
}

/// An open question, with the forms that answer it if the reader may.
pub(super) fn question(approval: &proto::Approval, caller: &Caller, back: &str, now: Now) -> Markup {
    let path = format!("/approvals/{}", escaped(&approval.approval_id));
    let id = &approval.approval_id;
    html! {
        article.card.question id={ "q-" (id) } aria-labelledby={ "t-" (id) } {
            h2 id={ "t-" (id) } { (text(&approval.title)) }
            p.note {
                @if approval.kind != "manual" { (text(&approval.kind)) " · " }
                "asked " (moment(approval.requested_at.as_ref(), now)) " by "
                a href=(execution_path(&approval.execution_id)) { (text(&approval.execution_id)) }
                @if let Some(deadline) = &approval.deadline { " · stands until " (moment(Some(deadline), now)) }
            }
            @if !matches!(approval.data.as_str(), "" | "null" | "{}") { (value_up_to(&approval.data, DATA_BYTES_MAX, asked_by(approval).as_deref())) }
            @if !approval.approvers.is_empty() { p.note { "For " (text(&approval.approvers.join(", "))) } }
            @if may(caller, Action::Decide) && is_approver(approval, caller) {
                form.stack method="post" action={ (path) "/approve" } {
                    // Most questions want yes or no and no more.
                    @if approval.schema.is_some() { (answer(approval)) } @else {
                        details.more id={ "m-" (id) } { summary { "Add data or a comment" } div.stack { (answer(approval)) } }
                    }
                    @if caller.name.is_none() { (name_field(id, "y")) }
                    input type="hidden" name="back" value=(back);
                    button.main { "Approve" }
                }
                details {
                    summary { "Reject" }
                    form.stack method="post" action={ (path) "/reject" } {
                        label for={ "r-" (id) } { "Reason" }
                        input id={ "r-" (id) } name="reason" required;
                        @if caller.name.is_none() { (name_field(id, "n")) }
                        input type="hidden" name="back" value=(back);
                        button.danger { "Reject" }
                    }
                }
            }
        }
    }
}

/// The fields of a yes.
fn answer(approval: &proto::Approval) -> Markup {
    let id = &approval.approval_id;
    html! {
        (form::fields("Answer", approval.schema.as_deref(), Held::default(), id))
        label for={ "c-" (id) } { "Comment" span.note { " optional" } }
        input id={ "c-" (id) } name="comment";
    }
}

/// Whether the reader is one of the approvers that the question names, if it names any.
fn is_approver(approval: &proto::Approval, caller: &Caller) -> bool {
    let (name, role) = (caller.name.as_deref(), format!("role:{}", caller.role));
    let is = |of: &String| Some(of.as_str()) == name || *of == role;
    name.is_none() || approval.approvers.is_empty() || approval.approvers.iter().any(is)
}

/// On an engine without tokens a person says who they are.
fn name_field(id: &str, which: &str) -> Markup {
    html! {
        label for={ "b-" (which) (id) } { "Your name" }
        input id={ "b-" (which) (id) } name="by" autocomplete="name";
    }
}

/// The page with all fields of the event with which a question was asked: its id ends with the position, after `r2-` in
/// the second run.
fn asked_by(approval: &proto::Approval) -> Option<String> {
    let place = approval.approval_id.strip_prefix(&approval.execution_id)?.strip_prefix('@')?;
    let of_run = place.strip_prefix('r').and_then(|place| place.split_once('-'));
    let (run, position) = of_run.unwrap_or(("1", place));
    let (run, position): (u32, u64) = (run.parse().ok()?, position.parse().ok()?);
    Some(format!("{}/value/{position}?run={run}", execution_path(&approval.execution_id)))
}

/// The fields of an answer, as a browser sends them.
pub(super) type Fields = Form<Vec<(String, String)>>;

/// The page to go back to: only one of those that have such forms.
fn back(fields: &[(String, String)]) -> &str {
    let path = form::sent(fields, "back");
    let is_plain = path.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\?#".contains(&byte));
    let is_page = path == "/approvals" || path.starts_with("/executions/") && is_plain;
    if is_page { path } else { "/approvals" }
}

pub(super) async fn approve(client: Client, Path(id): Path<String>, Form(fields): Fields) -> Shown {
    let comment = Some(form::sent(&fields, "comment")).filter(|comment| !comment.is_empty()).map(str::to_owned);
    let data = form::json(&fields).map_err(tonic::Status::invalid_argument)?.unwrap_or_default();
    let request = proto::ApproveRequest { id, data, comment, by: form::sent(&fields, "by").to_owned() };
    client.change(Verbs::approve, request, back(&fields)).await
}

pub(super) async fn reject(client: Client, Path(id): Path<String>, Form(fields): Fields) -> Shown {
    let request = proto::RejectRequest {
        id,
        reason: form::sent(&fields, "reason").to_owned(),
        by: form::sent(&fields, "by").to_owned(),
    };
    client.change(Verbs::reject, request, back(&fields)).await
}
