//! An execution's family: its parents up to the first one, and its children.

use std::collections::HashMap;

use cerebelum_history::CHILD_DEPTH_MAX;
use cerebelum_worker::{Action, ChildCounts};
use maud::{Markup, html};
use serde::Deserialize;
use tonic::Code;

use super::execution::heading;
use super::layout::{self, Frame, Live, may};
use super::parts::Column::{Number, Text};
use super::parts::{execution_path, filled, moment, query, status, table, text};
use super::read::{Path, Query};
use super::{Client, Shown, Verbs};
use crate::convert::refusal;
use crate::json::milliseconds_between;
use crate::proto;
use crate::wording::{Now, roughly};

/// The children of a page.
const CHILDREN: u32 = 100;
/// The children of the execution that are counted by status, the newest first.
const COUNTED_MAX: u32 = 10_000;
/// The children that are counted of each other execution of a page.
const COUNTED_OF_EACH_MAX: u32 = 1_000;

/// Which children.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    status: String,
    cursor: String,
}

/// What is above an execution, the first one first.
#[derive(Default)]
struct Ancestors {
    known: Vec<proto::Summary>,
    /// The parent of the first known one, if it has been deleted.
    deleted: Option<String>,
}

pub(super) async fn show(client: Client, Path(id): Path<String>, Query(wanted): Query<Wanted>) -> Shown {
    let summary = client.summary(&id).await?;
    let ancestors = ancestors(&client, &summary).await?;
    let request = proto::ListRequest {
        status: filled(&wanted.status),
        cursor: filled(&wanted.cursor),
        parent: Some(id.clone()),
        limit: CHILDREN,
        ..Default::default()
    };
    let page = client.ask(Verbs::list, request).await?;
    let engine = client.engine();
    let counts = engine.children_by_status(&[&id], COUNTED_MAX).await.map_err(refusal)?.pop().unwrap_or_default();
    let shown = || ancestors.known.iter().chain(&page.executions);
    let ids: Vec<&str> = shown().map(|one| one.execution_id.as_str()).collect();
    let of_each = engine.children_by_status(&ids, COUNTED_OF_EACH_MAX).await.map_err(refusal)?;
    let mut children: HashMap<&str, &ChildCounts> = ids.into_iter().zip(&of_each).collect();
    children.insert(&id, &counts);
    let table = Table { children, now: Now::measured() };
    let is_open = summary.ended_at.is_none() || page.executions.iter().any(|one| one.ended_at.is_none());
    let body = html! {
        (heading(&summary, "tree"))
        section #tree data-live {
            (branch(&id, &counts, &wanted, may(client.caller(), Action::Run)))
            (table.shown(&ancestors, &summary, &page.executions))
            @if page.executions.is_empty() && counts.total() > 0 { p.note { "No child matches." } }
            nav.paging aria-label="Pages of the children" {
                @if !wanted.cursor.is_empty() { a href={ (path(&id)) (after(&wanted.status, "")) } { "Newest" } }
                @if let Some(next) = &page.next { a rel="next" href={ (path(&id)) (after(&wanted.status, next)) } { "More" } }
            }
        }
    };
    let live = if is_open && wanted.cursor.is_empty() { Live::Often } else { Live::No };
    Ok(layout::page(&Frame::new(format!("{id}: tree"), client.caller(), "Executions").live(live), &body))
}

fn path(id: &str) -> String {
    format!("{}/tree", execution_path(id))
}

fn after(status: &str, cursor: &str) -> String {
    let query = query(&[("status", status), ("cursor", cursor)]);
    if query.is_empty() { query } else { format!("?{query}") }
}

async fn ancestors(client: &Client, of: &proto::Summary) -> Result<Ancestors, tonic::Status> {
    let (mut above, mut next) = (Ancestors::default(), of.parent.clone());
    for _ in 0..CHILD_DEPTH_MAX {
        let Some(id) = next else { break };
        match client.summary(&id).await {
            Ok(parent) => {
                next = parent.parent.clone();
                above.known.push(parent);
            }
            Err(why) if why.code() == Code::NotFound => {
                above.deleted = Some(id);
                break;
            }
            Err(why) => return Err(why),
        }
    }
    above.known.reverse();
    Ok(above)
}

/// The children by status, each number a filter.
fn branch(id: &str, counts: &ChildCounts, wanted: &Wanted, may_act: bool) -> Markup {
    html! {
        @if counts.total() == 0 { p.lead { "It has started no other execution." } } @else {
            p.lead {
                @if counts.is_exact { (children(counts)) ": " } @else { "More than " (children(counts)) ". Of the newest: " }
                @for (number, (of, count)) in counts.by_status.iter().enumerate() {
                    @if number > 0 { ", " }
                    a href={ (path(id)) (after(of.word(), "")) } aria-current=[(wanted.status == of.word()).then_some("true")] { (count) " " (of.word()) }
                }
            }
            p.note {
                @if !wanted.status.is_empty() {
                    "Only those that are " (text(&wanted.status)) ". " a href=(path(id)) { "Show all children" } " · "
                }
                a href={ "/executions?" (query(&[("parent", id), ("status", &wanted.status)])) } { "As a list" }
                @if may_act {
                    " · " a href={ "/bulk-form?" (query(&[("parent", id), ("status", &wanted.status)])) } { "Act on these children" }
                }
            }
        }
    }
}

fn children(counts: &ChildCounts) -> String {
    match counts.total() {
        1 => "1 child".to_owned(),
        many => format!("{many} children"),
    }
}

/// The rows of a family.
struct Table<'a> {
    children: HashMap<&'a str, &'a ChildCounts>,
    now: Now,
}

impl Table<'_> {
    fn shown(&self, above: &Ancestors, own: &proto::Summary, below: &[proto::Summary]) -> Markup {
        let first = usize::from(above.deleted.is_some());
        let depth = first + above.known.len();
        let columns =
            [Text("Execution"), Text("Status"), Text("Workflow"), Text("Children"), Text("Started"), Number("Took")];
        let rows = html! {
            @if let Some(deleted) = &above.deleted {
                tr { th scope="row" { (text(deleted)) } td.note colspan="5" { "deleted" } }
            }
            @for (number, one) in above.known.iter().enumerate() { (self.row(one, first + number, false)) }
            (self.row(own, depth, true))
            @for one in below { (self.row(one, depth + 1, false)) }
        };
        table("Family", Some("tree"), &columns, &rows)
    }

    fn row(&self, one: &proto::Summary, depth: usize, is_own: bool) -> Markup {
        let took = one.started_at.as_ref().zip(one.ended_at.as_ref());
        let counts = self.children.get(one.execution_id.as_str());
        html! {
            tr.own[is_own] {
                th scope="row" class={ "depth-" (depth.min(6)) } {
                    a href=(execution_path(&one.execution_id)) aria-current=[is_own.then_some("true")] { (text(&one.execution_id)) }
                }
                td { (status(&one.status)) }
                td { (text(&one.workflow)) }
                td {
                    @if let Some(counts) = counts.filter(|counts| counts.total() > 0) {
                        a href=(path(&one.execution_id)) { (children(counts)) @if !counts.is_exact { " or more" } }
                        @if counts.failed() > 0 { " · " span.wrong { (counts.failed()) " failed" } }
                    } @else { "–" }
                }
                td { (moment(one.started_at.as_ref(), self.now)) }
                td.number { @if let Some((from, to)) = took { (roughly(milliseconds_between(from, to))) } @else { "–" } }
            }
        }
    }
}
