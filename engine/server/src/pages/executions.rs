//! The list of executions, with its filters.

use std::collections::{BTreeMap, HashMap};

use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use cerebelum_worker::{Action, Caller};
use maud::{Markup, html};
use serde_json::value::RawValue;

use super::layout::{self, Frame, Live, may};
use super::parts::Column::{Number, Text};
use super::parts::{cut, execution_path, moment, status, text};
use super::read::Query;
use super::wanted::{Wanted, attributes, form, written_attributes};
use super::{Client, Shown, Verbs, parts, views};
use crate::json::milliseconds_between;
use crate::proto;
use crate::wording::{Now, WaitsFor, failure_line, roughly};

/// The attributes that a row shows where they have one column together.
const PAIRS_SHOWN: usize = 6;
/// A longer value is cut in its column.
const CELL_LETTERS_MAX: usize = 60;
pub(super) async fn show(client: Client, Query(wanted): Query<Wanted>) -> Shown {
    if let Some(id) = wanted.id() {
        return Ok(Redirect::to(&execution_path(id)).into_response());
    }
    let found = match wanted.request() {
        Ok(request) => client.ask(Verbs::list, request).await,
        Err(refused) => Err(refused),
    };
    let page = match found {
        Err(refused) if refused.code() == tonic::Code::InvalidArgument => {
            return Ok(mistyped(&wanted, &refused, client.caller()));
        }
        found => found?,
    };
    let views = client.ask(Verbs::views, proto::ViewsRequest {}).await?.views;
    let now = Now::measured();
    let body = html! {
        h1 { "Executions" }
        (views::links(&views, &wanted))
        (form(&wanted))
        (views::forms(&views, &wanted, client.caller()))
        section #list data-live {
            @if page.executions.is_empty() {
                @if page.next.is_some() {
                    p.lead { "None of those that were looked at matches. Older ones have not been looked at yet." }
                } @else if wanted.is_filtered() {
                    p.lead { "No execution matches. " a href="/executions" { "Show all" } }
                } @else {
                    p.lead { "No execution has been started yet." }
                }
            } @else {
                (of_all(&wanted, client.caller()))
                (table("Executions", &page.executions, &wanted.columns(), now))
            }
            nav.paging aria-label="Pages of the list" {
                @if !wanted.cursor.is_empty() { a href={ "/executions?" (wanted.query(None)) } { "Newest" } }
                @if let Some(next) = &page.next { a rel="next" href={ "/executions?" (wanted.query(Some(next))) } { "Older" } }
            }
        }
    };
    let live = if wanted.cursor.is_empty() { Live::Often } else { Live::No };
    Ok(layout::page(&Frame::new("Executions", client.caller(), "Executions").live(live), &body))
}

/// The filter as it was typed, with why it finds nothing.
fn mistyped(wanted: &Wanted, refused: &tonic::Status, caller: &Caller) -> axum::response::Response {
    let body = html! {
        h1 { "Executions" }
        p.wrong role="alert" { (text(refused.message())) }
        (form(wanted))
    };
    let page = layout::page(&Frame::new("Executions", caller, "Executions"), &body);
    (StatusCode::BAD_REQUEST, page).into_response()
}

/// What can be done with all that match, also beyond the page.
fn of_all(wanted: &Wanted, caller: &Caller) -> Markup {
    let query = wanted.query(None);
    html! {
        p.note {
            "All that match: "
            @if may(caller, Action::Run) { a href={ "/bulk-form?" (query) } { "act on them" } " · " }
            a href={ "/executions.csv?" (query) } { "as CSV" } " · "
            a href={ "/executions.ndjson?" (query) } { "as lines of JSON" }
            @if may(caller, Action::Run) { " · " a href="/bulk" { "bulk jobs" } }
        }
    }
}

/// Executions as rows, under a name that no other table of the page has. Their attributes have one column together, or one
/// each of these.
pub(super) fn table(name: &str, executions: &[proto::Summary], columns: &[&str], now: Now) -> Markup {
    let style = if columns.is_empty() { "executions together" } else { "executions" };
    let attributes = if columns.is_empty() { &["Attributes"] } else { columns };
    let mut heads = Vec::from(["Status", "Id", "Workflow", "Why", "Started"].map(Text));
    heads.push(Number("Took"));
    heads.extend(attributes.iter().copied().map(Text));
    let rows = html! { @for execution in executions { (row(execution, columns, now)) } };
    parts::table(name, Some(style), &heads, &rows)
}

fn row(execution: &proto::Summary, columns: &[&str], now: Now) -> Markup {
    let took = execution.started_at.as_ref().zip(execution.ended_at.as_ref());
    html! {
        tr {
            td { (status(&execution.status)) }
            th scope="row" { a href=(execution_path(&execution.execution_id)) { (text(&execution.execution_id)) } }
            td { (text(&execution.workflow)) }
            td { (why(execution, now)) }
            td { (moment(execution.started_at.as_ref(), now)) }
            td.number { @if let Some((from, to)) = took { (roughly(milliseconds_between(from, to))) } }
            @if columns.is_empty() {
                td { (pairs(&execution.attributes)) }
            } @else {
                @for value in of_columns(&execution.attributes, columns) { td { (cut(&value, CELL_LETTERS_MAX)) } }
            }
        }
    }
}

/// What it waits for, or why it does not go on.
fn why(execution: &proto::Summary, now: Now) -> Markup {
    if let Some(failure) = &execution.failure {
        return html! { span.wrong { (text(&failure_line(failure))) } };
    }
    let Some(WaitsFor { what, joint, others }) = WaitsFor::of(execution) else { return Markup::default() };
    let until = execution.waits_for.as_ref().and_then(|wait| wait.until.as_ref());
    html! {
        (text(&what))
        @if until.is_some() { (joint) (moment(until, now)) }
        (others)
    }
}

/// Attributes as a filter is written: `name=value`.
fn pairs(attributes: &str) -> Markup {
    let all = values(attributes);
    let hidden = all.len().saturating_sub(PAIRS_SHOWN);
    html! {
        @for (name, value) in all.iter().take(PAIRS_SHOWN) {
            code.pair { (text(name)) "=" (cut(&plain_value(value), CELL_LETTERS_MAX)) } " "
        }
        @if hidden > 0 { span.note { "and " (hidden) " more" } }
    }
}

/// The attributes of an execution, as a person would write them; and how many of them cannot be written so.
pub(super) fn written_of(execution: &proto::Summary) -> (String, usize) {
    let given = values(&execution.attributes).into_iter().map(|(name, value)| (name, value.get().to_owned()));
    let is_same = |one: &HashMap<_, _>| attributes(&written_attributes(one)).is_ok_and(|read| read == *one);
    let (good, others): (Vec<_>, Vec<_>) =
        given.partition(|(name, value)| is_same(&HashMap::from([(name.clone(), value.clone())])));
    (written_attributes(&good.into_iter().collect()), others.len())
}

fn values(attributes: &str) -> BTreeMap<String, Box<RawValue>> {
    serde_json::from_str(attributes).unwrap_or_default()
}

/// A value; a text without its quotation marks.
fn plain_value(value: &RawValue) -> String {
    serde_json::from_str(value.get()).unwrap_or_else(|_| value.get().to_owned())
}

/// The values of these attributes, in order, and nothing for one that is not there.
pub(super) fn of_columns(attributes: &str, columns: &[&str]) -> Vec<String> {
    let values = values(attributes);
    columns.iter().map(|name| values.get(*name).map(|value| plain_value(value)).unwrap_or_default()).collect()
}
