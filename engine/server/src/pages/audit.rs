//! The audit: what was done in the reader's tenant, by whom, from where.

use maud::{Markup, html};
use serde::Deserialize;

use super::layout::{self, Frame};
use super::parts::Column::Text;
use super::parts::{exact, execution_path, filled, query, text};
use super::read::Query;
use super::{Client, Shown, Verbs, parts};
use crate::proto;

/// The acts of a page.
const ACTS: u32 = 100;
/// The operations whose object is an execution.
const OF_EXECUTIONS: [&str; 7] = ["Start", "StartMany", "Signal", "Cancel", "Terminate", "Pause", "Resume"];

/// What a reader looks for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    operation: String,
    caller: String,
    object: String,
    cursor: String,
}

impl Wanted {
    fn query(&self, cursor: Option<&str>) -> String {
        query(&[
            ("operation", &self.operation),
            ("caller", &self.caller),
            ("object", &self.object),
            ("cursor", cursor.unwrap_or_default()),
        ])
    }
}

pub(super) async fn show(client: Client, Query(wanted): Query<Wanted>) -> Shown {
    let request = proto::AuditRequest {
        operation: filled(&wanted.operation),
        caller: filled(&wanted.caller),
        object: filled(&wanted.object),
        cursor: filled(&wanted.cursor),
        limit: ACTS,
        ..Default::default()
    };
    let page = client.ask(Verbs::audit, request).await?;
    let body = html! {
        h1 { "Audit" }
        search {
            form.filters method="get" action="/audit" {
                div { label for="operation" { "Operation" } input #operation name="operation" value=(wanted.operation) placeholder="Start"; }
                div { label for="caller" { "Caller" } input #caller name="caller" value=(wanted.caller); }
                div { label for="object" { "Object" } input #object name="object" value=(wanted.object) data-search; }
                button { "Show" }
            }
        }
        section #list {
            @if page.acts.is_empty() { p.lead { "No such act is on this page." } } @else { (table(&page.acts)) }
            nav.paging aria-label="Pages of the audit" {
                @if !wanted.cursor.is_empty() { a href={ "/audit?" (wanted.query(None)) } { "Newest" } }
                @if let Some(next) = &page.next { a rel="next" href={ "/audit?" (wanted.query(Some(next))) } { "Older" } }
            }
        }
    };
    Ok(layout::page(&Frame::new("Audit", client.caller(), "Audit"), &body))
}

fn table(acts: &[proto::Act]) -> Markup {
    let columns = ["Time", "Caller", "From", "Operation", "Object", "Outcome"].map(Text);
    parts::table("Acts", Some("acts"), &columns, &html! { @for act in acts { (row(act)) } })
}

fn row(act: &proto::Act) -> Markup {
    html! {
        tr {
            td { (exact(act.at.as_ref())) }
            td { (text(act.caller.as_deref().unwrap_or("–"))) @if let Some(token) = &act.token_id { " " code.note { (text(token)) } } }
            td { (text(act.address.as_deref().unwrap_or("–"))) }
            td { (text(&act.operation)) }
            th scope="row" {
                @match execution_of(act) {
                    Some(id) => { a href=(execution_path(id)) { (text(&act.object)) } },
                    None => { (text(&act.object)) },
                }
            }
            td { (text(&act.outcome)) }
        }
    }
}

/// The execution that an act was done to. The id of a question begins with its execution's and `@`.
fn execution_of(act: &proto::Act) -> Option<&str> {
    match act.operation.as_str() {
        "Approve" | "Reject" => act.object.split('@').next(),
        operation => OF_EXECUTIONS.contains(&operation).then_some(&*act.object),
    }
}
