//! The events of an execution, in windows, and one event in full.

use futures::StreamExt;
use maud::{Markup, html};
use serde::Deserialize;

use super::as_of;
use super::execution::heading;
use super::found::{Found, found};
use super::layout::{self, Frame, Live};
use super::parts::Column::{Number, Text};
use super::parts::{exact, execution_path, preview, query, text, value};
use super::read::{Path, Query};
use super::{Client, Shown, Verbs, parts};
use crate::json::milliseconds_between;
use crate::proto;
use crate::wording::roughly;

/// The events of a window.
const EVENTS: u64 = 200;
/// The end of the kinds of events that are failures.
const FAILED: &str = "Failed";

/// Which window, and of which run.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    after: Option<u64>,
    run: Option<u32>,
    /// The position that a reader typed.
    to: String,
    /// A part of the kinds that are looked for, such as `Failed`.
    kind: String,
    /// The scope that is looked for.
    scope: String,
    /// A text that is looked for in the fields.
    text: String,
}

impl Wanted {
    fn is_filtered(&self) -> bool {
        [&self.kind, &self.scope, &self.text].iter().any(|part| !part.trim().is_empty())
    }

    fn fits(&self, event: &proto::Event) -> bool {
        let (kind, scope, text) = (self.kind.trim(), self.scope.trim(), self.text.trim());
        (kind.is_empty() || event.kind.to_lowercase().contains(&kind.to_lowercase()))
            && (scope.is_empty() || event.scope == scope)
            && (text.is_empty() || event.fields.contains(text))
    }

    /// The query of the window after this position.
    fn query(&self, run: u32, after: u64) -> String {
        format!("{}&after={after}", self.of_run(run))
    }

    /// The query of the same search in a run.
    fn of_run(&self, run: u32) -> String {
        query(&[("run", &run.to_string()), ("kind", &self.kind), ("scope", &self.scope), ("text", &self.text)])
    }
}

pub(super) async fn show(client: Client, Path(id): Path<String>, Query(wanted): Query<Wanted>) -> Shown {
    let summary = client.summary(&id).await?;
    let run = wanted.run.unwrap_or(summary.run);
    let is_current = run == summary.run;
    let newest = summary.events.saturating_sub(EVENTS);
    let typed: Option<u64> = match wanted.to.trim() {
        "" => None,
        to => Some(to.parse().map_err(|_| tonic::Status::invalid_argument("a position is a whole number"))?),
    };
    let is_filtered = wanted.is_filtered();
    let typed = typed.map(|position| position.saturating_sub(if is_filtered { 1 } else { EVENTS / 2 }));
    let after = typed.or(wanted.after).unwrap_or(if is_current && !is_filtered { newest } else { 0 });
    let request = proto::HistoryRequest { execution_id: id.clone(), run: Some(run), after, follow: false };
    let answers = client.ask(Verbs::history, request).await?;
    let cut = |event: proto::Event| (proto::Event { fields: preview(&event.fields), ..event }, false);
    let found = found(answers, EVENTS, |event| wanted.fits(event), cut).await?;
    let path = execution_path(&id);
    let body = html! {
        (heading(&summary, "history"))
        (runs_by(&summary, run, |run| format!("{path}/history?{}", wanted.of_run(run))))
        (form(&wanted, &path, (!is_current).then_some(run)))
        p.note { "All events of this run: " a href={ (path) "/history.ndjson?run=" (run) } { "as lines of JSON" } }
        section #events data-live {
            (table(&found.items, &path, run, if is_filtered { "No event fits." } else { "No event is here." }))
            @match is_filtered {
                true => (further(&wanted, &path, run, &found)),
                false => (paging(&path, run, after, (&found, is_current.then_some(newest)))),
            }
        }
    };
    let is_newest = is_current && after == newest && summary.ended_at.is_none() && !is_filtered;
    let live = if is_newest { Live::Changes(format!("{path}/changes")) } else { Live::No };
    Ok(layout::page(&Frame::new(format!("{id}: history"), client.caller(), "Executions").live(live), &body))
}

/// Where a reader says which events are looked for.
fn form(wanted: &Wanted, path: &str, run: Option<u32>) -> Markup {
    html! {
        form.filters method="get" action={ (path) "/history" } {
            @if let Some(run) = run { input type="hidden" name="run" value=(run); }
            div { label for="to" { "Position" } input #to name="to" inputmode="numeric" data-search; }
            div { label for="kind" { "Event" } input #kind name="kind" value=(wanted.kind) placeholder="Failed"; }
            div { label for="scope" { "Scope" } input #scope name="scope" value=(wanted.scope); }
            div { label for="text" { "Text in the fields" } input #text name="text" value=(wanted.text); }
            button { "Show" }
            @if wanted.is_filtered() {
                a href={ (path) "/history" @if let Some(run) = run { "?run=" (run) } } { "Show all" }
            }
        }
    }
}

/// The way to further events that are looked for.
fn further(wanted: &Wanted, path: &str, run: u32, found: &Found<proto::Event>) -> Markup {
    let last = found.last.as_ref().map_or(0, |event| event.position);
    html! {
        @if !found.is_all {
            nav.paging aria-label="Windows of the history" {
                span.note { "Looked at up to event " (last) "." }
                a rel="next" href={ (path) "/history?" (wanted.query(run, last)) } data-failure[wanted.kind == FAILED] { "Later" }
            }
        }
    }
}

/// The way to the other runs of an execution, on a page with this path.
pub(super) fn runs(path: &str, summary: &proto::Summary, run: u32) -> Markup {
    runs_by(summary, run, |run| format!("{path}?run={run}"))
}

fn runs_by(summary: &proto::Summary, run: u32, page: impl Fn(u32) -> String) -> Markup {
    let first = summary.runs_from.unwrap_or(1);
    html! {
        @if summary.run > 1 {
            p.note {
                "Run " (run) " of " (summary.run) ". "
                @if run > first { a href=(page(run - 1)) { "Earlier run" } " " }
                @if run < summary.run { a href=(page(run + 1)) { "Later run" } }
                @if first > 1 { " Runs before " (first) " are no longer kept." }
            }
        }
    }
}

fn paging(path: &str, run: u32, after: u64, (shown, newest): (&Found<proto::Event>, Option<u64>)) -> Markup {
    let at = |after: u64| format!("{path}/history?run={run}&after={after}");
    html! {
        nav.paging aria-label="Windows of the history" {
            @if after > 0 {
                a href=(at(0)) { "Beginning" }
                a rel="prev" href=(at(after.saturating_sub(EVENTS))) { "Earlier" }
            }
            @if let Some(last) = shown.last.as_ref().filter(|_| !shown.is_all) {
                a rel="next" href=(at(last.position)) { "Later" }
                a data-failure href={ (at(last.position)) "&kind=" (FAILED) } { "Next failure" }
            }
            @if let Some(newest) = newest.filter(|newest| *newest > after) { a href=(at(newest)) { "Newest" } }
        }
    }
}

/// The events as rows, or what is said if there are none.
fn table(events: &[proto::Event], path: &str, run: u32, none: &str) -> Markup {
    let before = std::iter::once(None).chain(events.iter().map(Some));
    let columns = [Text("#"), Text("Time"), Number("Later by"), Text("Event"), Text("Scope"), Text("Fields")];
    let rows = html! { @for (event, before) in events.iter().zip(before) { (row(event, before, path, run)) } };
    html! {
        @if events.is_empty() { p.lead { (none) } } @else { (parts::table("Events", Some("events"), &columns, &rows)) }
    }
}

fn row(event: &proto::Event, before: Option<&proto::Event>, path: &str, run: u32) -> Markup {
    let later = before.and_then(|before| before.time.as_ref()).zip(event.time.as_ref());
    let later = later.map(|(from, to)| milliseconds_between(from, to)).filter(|ms| *ms > 0);
    html! {
        tr id={ "p" (event.position) } class=[event.kind.ends_with(FAILED).then_some("failed")] {
            th scope="row" { a href={ (path) "/events/" (event.position) "?run=" (run) } { (event.position) } }
            td { (exact(event.time.as_ref())) }
            td.number { @if let Some(ms) = later { "+" (roughly(ms)) } }
            td { (text(&event.kind)) }
            td { (text(&event.scope)) }
            td { code { (text(&event.fields)) } }
        }
    }
}

/// An event of a run, or else of the current one, and whether it is the last.
pub(super) async fn event_at(
    client: &Client,
    id: &str,
    (run, position): (Option<u32>, u64),
) -> Result<(proto::Event, bool), tonic::Status> {
    let after = position.saturating_sub(1);
    let request = proto::HistoryRequest { execution_id: id.to_owned(), run, after, follow: false };
    let mut answers = client.ask(Verbs::history, request).await?;
    let event = answers.next().await.transpose()?.filter(|event| event.position == position);
    let event = event.ok_or_else(|| tonic::Status::not_found(format!("the history has no event {position}")))?;
    Ok((event, answers.next().await.is_none()))
}

pub(super) async fn event(
    client: Client,
    Path((id, position)): Path<(String, u64)>,
    Query(wanted): Query<Wanted>,
) -> Shown {
    let (event, is_last) = event_at(&client, &id, (wanted.run, position)).await?;
    let path = execution_path(&id);
    let run = wanted.run.map_or(String::new(), |run| format!("&run={run}"));
    let at = |to: u64| format!("{path}/events/{to}?{}", run.trim_start_matches('&'));
    let alone = format!("{path}/value/{position}{}", run.replace('&', "?"));
    let body = html! {
        nav.crumbs aria-label="Breadcrumbs" {
            a href="/executions" { "Executions" } " / " a href=(path) { (text(&id)) } " / "
            a href={ (path) "/history?to=" (position) (run) "#p" (position) } { "History" } " / "
        }
        h1 { "Event " (position) ": " (text(&event.kind)) }
        dl.facts {
            div { dt { "Time" } dd { (exact(event.time.as_ref())) } }
            @if !event.scope.is_empty() { div { dt { "Scope" } dd { (text(&event.scope)) } } }
        }
        (value(&event.fields, Some(&alone)))
        nav.paging aria-label="Events beside this one" {
            @if position > 1 { a rel="prev" href=(at(position - 1)) { "Event " (position - 1) } }
            a href=(as_of::path(&id, position, wanted.run)) { "The execution after this event" }
            @if !is_last { a rel="next" href=(at(position + 1)) { "Event " (position + 1) } }
        }
    };
    Ok(layout::page(&Frame::new(format!("{id}: event {position}"), client.caller(), "Executions"), &body))
}
