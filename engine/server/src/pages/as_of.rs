//! An execution as it was after one of its events: a reader steps through it as through a film.

use axum::response::{IntoResponse, Redirect};
use cerebelum_history::Position;
use cerebelum_timeline::{AsOf, StateThen};
use maud::{Markup, html};
use serde::Deserialize;

use super::execution::heading;
use super::layout::{self, Frame};
use super::parts::Column::{Number, Text};
use super::parts::{exact, execution_path, preview, table, text};
use super::read::{Path, Query};
use super::{Client, Shown};
use crate::convert::{moment, refusal};
use crate::proto;
use crate::wording::roughly;

/// The open calls that a page shows.
const OPEN_SHOWN: usize = 200;

/// Of which run, and where a reader wants to go.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    run: Option<u32>,
    to: String,
}

/// Goes to the position that a reader chose.
pub(super) async fn go(Path(id): Path<String>, Query(wanted): Query<Wanted>) -> Shown {
    let to: u64 =
        wanted.to.trim().parse().map_err(|_| tonic::Status::invalid_argument("a position is a whole number"))?;
    Ok(Redirect::to(&path(&id, to, wanted.run)).into_response())
}

/// The path of the page of an execution after an event.
pub(super) fn path(id: &str, position: u64, run: Option<u32>) -> String {
    format!("{}/at/{position}{}", execution_path(id), of_run(run))
}

/// The path of an event's page.
fn event_path(id: &str, position: u64, run: Option<u32>) -> String {
    format!("{}/events/{position}{}", execution_path(id), of_run(run))
}

/// The query that names a run, unless it is the current one.
fn of_run(run: Option<u32>) -> String {
    run.map_or(String::new(), |run| format!("?run={run}"))
}

pub(super) async fn show(
    client: Client,
    Path((id, position)): Path<(String, u64)>,
    Query(wanted): Query<Wanted>,
) -> Shown {
    let summary = client.summary(&id).await?;
    let then = {
        let _pages = client.service.pages(&client.access).await?;
        let engine = client.engine();
        engine.as_of(&id, wanted.run, Position(position)).await.map_err(refusal)?
    };
    if position == 0 || then.position < position {
        return Err(tonic::Status::not_found(format!("the history has no event {position}")).into());
    }
    let body = html! {
        (heading(&summary, "history"))
        h2 { "After event " (position) ": " (word(then.state)) }
        (steering(&summary, (position, then.state), wanted.run))
        (facts(&then, &id, wanted.run))
        (open_calls(&then, &id, wanted.run))
    };
    Ok(layout::page(&Frame::new(format!("{id}: after event {position}"), client.caller(), "Executions"), &body))
}

const fn word(state: StateThen) -> &'static str {
    match state {
        StateThen::Open => "under way",
        StateThen::Paused => "paused",
        StateThen::Parked => "parked",
        StateThen::Completed => "completed",
        StateThen::Failed => "failed",
        StateThen::Cancelled => "cancelled",
        StateThen::Continued => "continued as a new run",
    }
}

/// The way to other positions.
fn steering(summary: &proto::Summary, (position, state): (u64, StateThen), run: Option<u32>) -> Markup {
    let id = &summary.execution_id;
    let of_current = run.is_none_or(|run| run == summary.run);
    // An earlier run ends with the event that continues it.
    let is_last = if of_current { position >= summary.events } else { state == StateThen::Continued };
    html! {
        form.filters method="get" action={ (execution_path(id)) "/at" } {
            @if let Some(run) = run { input type="hidden" name="run" value=(run); }
            @if of_current {
                div {
                    label for="to" { "Event, 1 to " (summary.events) }
                    input #to name="to" type="range" min="1" max=(summary.events) value=(position);
                }
            } @else { div { label for="to" { "Event" } input #to name="to" inputmode="numeric" value=(position); } }
            button { "Go" }
        }
        nav.paging aria-label="Events beside this one" {
            @if position > 1 { a rel="prev" href=(path(id, position - 1, run)) { "After event " (position - 1) } }
            @if !is_last { a rel="next" href=(path(id, position + 1, run)) { "After event " (position + 1) } }
        }
    }
}

fn facts(then: &AsOf, id: &str, run: Option<u32>) -> Markup {
    html! {
        dl.facts {
            div { dt { "Time" } dd { (exact(Some(&moment(then.at)))) } }
            div { dt { "Event" } dd { a href=(event_path(id, then.position, run)) { (then.position) } } }
            div { dt { "Calls that had returned" } dd { (then.completed) } }
            div { dt { "That had failed" } dd { (then.failed) } }
            div { dt { "That were dropped" } dd { (then.cancelled) } }
            @for (name, value) in &then.attributes {
                div { dt { (text(name)) } dd { code { (preview(value.as_str())) } } }
            }
        }
    }
}

fn open_calls(then: &AsOf, id: &str, run: Option<u32>) -> Markup {
    let mut open: Vec<_> = then.open.iter().collect();
    open.sort_by_key(|(_, call)| call.position);
    let columns =
        [Text("Kind"), Text("Name"), Text("Scope"), Number("Attempt"), Text("Since event"), Number("Open for")];
    let rows = html! {
        @for (call, at) in open.iter().take(OPEN_SHOWN) {
            tr {
                td { (at.kind) }
                th scope="row" { (text(&at.name)) }
                td { (text(call.scope.as_str())) }
                td.number { (at.attempt) }
                td { a href=(event_path(id, at.position, run)) { (at.position) } }
                td.number { (roughly(then.at.0.saturating_sub(at.since.0))) }
            }
        }
    };
    html! {
        h2 { "What it waited for" }
        @if open.is_empty() { p.note { "No call was open." } } @else {
            (table("Open calls", None, &columns, &rows))
            @if open.len() > OPEN_SHOWN { p.note { (open.len() - OPEN_SHOWN) " more calls were open." } }
        }
    }
}
