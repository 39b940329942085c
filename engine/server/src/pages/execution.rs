//! One execution: why it is where it is, what it waits for, its steps, its values, and what can be done.

use std::convert::Infallible;

use axum::Extension;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use cerebelum_history::{Status, Timestamp};
use cerebelum_worker::{Action, Caller};
use futures::StreamExt;
use maud::{Markup, html};

use super::approvals::question;
use super::commands;
use super::layout::{self, Frame, Live, may};
use super::parts::Column::{Number, Text};
use super::parts::{
    confirmed, escaped, exact, execution_path, moment, start_path, status, table, text, value, value_in_brief,
};
use super::read::Path;
use super::{Client, Shown, Site, Verbs};
use crate::json::milliseconds_between;
use crate::proto;
use crate::trace_url::TraceUrl;
use crate::wording::{
    Now, Row, What, failure_line, moment_ms, roughly, step_rows, traceback_lines, why, without_traceback,
};

/// Of many steps of one name, so many are shown.
const STEPS_SHOWN: usize = 10;
/// The rows of the table of steps.
const STEP_ROWS_MAX: usize = 500;
/// The open questions of an execution that its page shows.
const QUESTIONS_MAX: u32 = 20;

pub(super) async fn show(State(site): State<Site>, client: Client, Path(id): Path<String>) -> Shown {
    let request = proto::StatusRequest { execution_id: id.clone() };
    let shown = client.ask(Verbs::status, request).await?;
    let is_asking = shown.waiting_on.iter().any(|wait| wait.kind == "approval");
    let questions = if is_asking { questions(&client, &id).await? } else { Vec::new() };
    let (now, path) = (Now::measured(), execution_path(&id));
    let summary = shown.summary.clone().unwrap_or_default();
    let is_ended = summary.ended_at.is_some();
    let body = html! {
        (heading(&summary, "overview"))
        section #state data-live {
            p.lead.why { (status(&summary.status)) " " (text(&why(&shown, now))) }
            (facts(&summary, (&shown.trace_ids, site.trace_url.as_ref()), now))
        }
        section #questions data-live {
            @for approval in &questions { (question(approval, client.caller(), &path, now)) }
        }
        section #actions data-live { (actions(&shown, &summary, client.caller())) }
        (commands::to_show(&summary.execution_id, client.caller()))
        section #steps data-live { (steps(&shown, now)) }
        section #values data-live { (values(&shown, &summary)) }
    };
    let live = if is_ended { Live::No } else { Live::Changes(format!("{path}/changes")) };
    Ok(layout::page(&Frame::new(id, client.caller(), "Executions").live(live), &body))
}

async fn questions(client: &Client, id: &str) -> Result<Vec<proto::Approval>, tonic::Status> {
    let request =
        proto::ApprovalsRequest { execution_id: Some(id.to_owned()), limit: QUESTIONS_MAX, ..Default::default() };
    let page = client.ask(Verbs::approvals, request).await?;
    Ok(page.approvals.into_iter().filter(|approval| approval.state == "open").collect())
}

/// The run that a page is about.
pub(super) struct ShownRun {
    pub(super) number: u32,
    is_open: bool,
}

impl ShownRun {
    /// This run, or else the current one.
    pub(super) fn new(summary: &proto::Summary, wanted: Option<u32>) -> Self {
        let number = wanted.unwrap_or(summary.run);
        Self { number, is_open: summary.ended_at.is_none() && number == summary.run }
    }

    /// Until when it is shown: until now if it is open, else until its last event.
    pub(super) fn until(&self, last: Timestamp) -> Timestamp {
        if self.is_open { Timestamp(Now::measured().0).max(last) } else { last }
    }

    /// How its pages are kept up to date.
    pub(super) fn live(&self, id: &str) -> Live {
        if self.is_open { Live::Changes(format!("{}/changes", execution_path(id))) } else { Live::No }
    }
}

/// The heading of an execution's pages, and the way to the others.
pub(super) fn heading(summary: &proto::Summary, here: &str) -> Markup {
    let path = execution_path(&summary.execution_id);
    let pages = [
        ("overview", ""),
        ("timeline", "/timeline"),
        ("graph", "/graph"),
        ("history", "/history"),
        ("logs", "/logs"),
        ("tree", "/tree"),
    ];
    html! {
        nav.crumbs aria-label="Breadcrumbs" { a href="/executions" { "Executions" } " / " }
        h1.id { (text(&summary.execution_id)) }
        p.note {
            (text(&summary.workflow))
            @if summary.run > 1 { " · run " (summary.run) }
            @if let Some(parent) = &summary.parent { " · child of " a href=(execution_path(parent)) { (text(parent)) } }
        }
        nav.tabs aria-label="Pages of this execution" {
            @for (name, end) in pages {
                a href={ (path) (end) } aria-current=[(name == here).then_some("page")] { (capital(name)) }
            }
        }
    }
}

pub(super) fn capital(word: &str) -> String {
    word[..1].to_uppercase() + &word[1..]
}

fn facts(summary: &proto::Summary, (traces, at): (&[String], Option<&TraceUrl>), now: Now) -> Markup {
    let took = summary.started_at.as_ref().zip(summary.ended_at.as_ref());
    html! {
        dl.facts {
            div { dt { "Started" } dd { (moment(summary.started_at.as_ref(), now)) " " span.note { (exact(summary.started_at.as_ref())) } } }
            @if let Some((from, to)) = took {
                div { dt { "Took" } dd { (roughly(milliseconds_between(from, to))) } }
            }
            div { dt { "Events" } dd { (summary.events) } }
            div { dt { "Component" } dd { code title=(summary.digest) { (text(summary.digest.get(..12).unwrap_or_default())) } } }
            @if let Some(at) = at.filter(|_| !traces.is_empty()) {
                div {
                    dt { @if traces.len() == 1 { "Trace" } @else { "Traces, the newest last" } }
                    dd {
                        @for id in traces {
                            a.id href=(at.of(id)) rel="noreferrer" title=(id) { (id.get(..8).unwrap_or_default()) } " "
                        }
                    }
                }
            }
        }
    }
}

fn actions(shown: &proto::ExecutionStatus, summary: &proto::Summary, caller: &Caller) -> Markup {
    let path = execution_path(&summary.execution_id);
    let state = summary.status.parse::<Status>();
    let is_ended = summary.ended_at.is_some();
    let is_held = matches!(state, Ok(Status::Paused | Status::Parked));
    let button = |verb: &str, word: &str, class: &str, title: &str| {
        html! { form method="post" action={ (path) "/" (verb) } { button class=(class) title=(title) { (word) } } }
    };
    html! {
        div.actions role="group" aria-label="Actions" {
            @if may(caller, Action::Run) {
                @if is_held || state == Ok(Status::Failed) {
                    (button("resume", "Resume", "main", "Go on where it stopped"))
                } @else if !is_ended {
                    (button("pause", "Pause", "", "Running attempts finish, nothing new starts"))
                }
                @if !is_ended {
                    (button("cancel", "Cancel", "", "Its clean-up code runs"))
                    (confirmed(&format!("{path}/terminate"), "Terminate", "It ends at once, and nothing more of it runs."))
                }
                a.button href={ (start_path(&summary.workflow)) "?like=" (escaped(&summary.execution_id)) } { "Start one like this" }
            }
            @if is_ended && may(caller, Action::Delete) {
                (confirmed(&format!("{path}/delete"), "Delete", "Its history and its logs go as well."))
            }
        }
        @if !is_ended && may(caller, Action::Run) {
            details #signal {
                summary { "Send a signal" }
                form.stack method="post" action={ (path) "/signal" } {
                    label for="signal-name" { "Name" }
                    input #signal-name name="name" required value=[first_signal(shown)];
                    label for="signal-data" { "Data, JSON" }
                    textarea #signal-data name="data" rows="3" spellcheck="false" {}
                    button { "Send" }
                }
            }
        }
    }
}

/// The signal that it waits for, or the first of several.
fn first_signal(shown: &proto::ExecutionStatus) -> Option<&str> {
    shown.waiting_on.iter().find(|wait| wait.kind == "signal").map(|wait| wait.name.as_str())
}

fn steps(shown: &proto::ExecutionStatus, now: Now) -> Markup {
    let rows = step_rows(shown, STEPS_SHOWN);
    let (hidden, has_rows) = (rows.len().saturating_sub(STEP_ROWS_MAX), !rows.is_empty());
    let columns = [Text("Call"), Text("Status"), Number("Took"), Text("Details")];
    let rows = html! { @for row in rows.iter().take(STEP_ROWS_MAX) { (step_row(row, now)) } };
    html! {
        @if shown.earlier_events > 0 { p.note { (shown.earlier_events) " earlier events are in the history." } }
        @if has_rows {
            h2 { "Steps and waits" }
            (table("Steps and waits", Some("steps"), &columns, &rows))
            @if hidden > 0 { p.note { (hidden) " more rows are in the timeline." } }
        }
    }
}

fn step_row(row: &Row, now: Now) -> Markup {
    let depth = row.depth.min(6);
    let name = |of: &str| html! { th scope="row" class={ "depth-" (depth) } { (text(of)) } };
    html! {
        tr {
            @match &row.what {
                What::Step(step, progress) => {
                    (name(&step.name))
                    td { (status(&step.status)) @if step.attempt > 1 { span.note { " attempt " (step.attempt) } } }
                    td.number { (lasted(step.started_at.as_ref(), step.ended_at.as_ref(), now)) }
                    td {
                        @if let Some(progress) = progress { (bar(progress)) }
                        @if let Some(failure) = &step.failure { p.wrong { (text(&failure_line(failure))) } }
                        @match &step.output {
                            Some(output) if output != "null" => (value_in_brief(output)),
                            _ => @if !matches!(step.input_preview.as_str(), "" | "null") { code.note { (text(&step.input_preview)) } },
                        }
                    }
                },
                What::Folded { name: of, numbers } => {
                    (name(of))
                    td colspan="3" {
                        @for (state, number) in numbers { span.count { (number) " " (status(state.word())) } " " }
                    }
                },
                What::Hidden(number) => { td class={ "depth-" (depth) } colspan="4" { span.note { (number) " more" } } },
                What::Wait(wait) => {
                    th scope="row" class={ "depth-" (depth) } {
                        (wait.kind) " "
                        @if wait.kind == "child" { a href=(execution_path(&wait.name)) { (text(&wait.name)) } } @else { (text(&wait.name)) }
                    }
                    td { (status("waiting")) }
                    td.number { (lasted(wait.since.as_ref(), None, now)) }
                    td {
                        @if let Some(until) = &wait.until { "ends " (moment(Some(until), now)) " " }
                        @if let Some(attempts) = wait.attempts { span.note { (attempts) " so far " } }
                        @if let Some(last) = &wait.last { (value_in_brief(last)) }
                    }
                },
                What::Progress(progress) => { td colspan="4" { (bar(progress)) } },
            }
        }
    }
}

/// How long something lasted, or lasts until now.
fn lasted(from: Option<&prost_types::Timestamp>, to: Option<&prost_types::Timestamp>, now: Now) -> String {
    let Some(from) = from.map(moment_ms) else { return String::new() };
    roughly(to.map_or(now.0, moment_ms).saturating_sub(from))
}

fn bar(progress: &proto::Progress) -> Markup {
    html! {
        span.progress {
            progress max="100" value=(progress.percent) aria-label="Progress" { (progress.percent) "%" }
            " " (progress.percent) "% " (text(&progress.message))
        }
    }
}

fn values(shown: &proto::ExecutionStatus, summary: &proto::Summary) -> Markup {
    let path = |name: &str| format!("{}/value/{name}", execution_path(&summary.execution_id));
    html! {
        @if let Some(failure) = &shown.failure { (failed(failure, &path("failure"))) }
        @if let Some(output) = &shown.output { h2 { "Output" } (value(output, Some(&path("output")))) }
        h2 { "Input" }
        (value(&shown.input, Some(&path("input"))))
        @if !matches!(summary.attributes.as_str(), "" | "{}") { h2 { "Attributes" } (value(&summary.attributes, None)) }
    }
}

/// What else is known of a failure: the first sentence of the page says its kind and message.
fn failed(failure: &proto::Failure, whole: &str) -> Markup {
    let (details, traceback) = match failure.details.as_deref().map(|json| (json, without_traceback(json))) {
        Some((_, Some((rest, traceback)))) => (rest, traceback_lines(&traceback)),
        Some((json, None)) => (json.to_owned(), Vec::new()),
        None => return html! {},
    };
    html! {
        h2 { "Failure" }
        @if !traceback.is_empty() { pre.value tabindex="0" { @for line in &traceback { (text(line)) "\n" } } }
        @if !matches!(details.as_str(), "null" | "{}") { (value(&details, Some(whole))) }
    }
}

/// Tells a page of an execution whenever it has changed.
pub(super) async fn changes(client: Client, Path(execution_id): Path<String>) -> Shown {
    client.summary(&execution_id).await?;
    let answers = client.service.changes(client.access, execution_id);
    let leaving = answers.leaving();
    // A browser drops events without data.
    let events = answers.map(|answer| {
        let event = answer.map_or_else(
            |_| Event::default().event("broken").data("ask again"),
            |now| {
                let name = if now.ended_at.is_some() { "ended" } else { "changed" };
                Event::default().event(name).data(now.events.to_string())
            },
        );
        Ok::<_, Infallible>(event)
    });
    Ok((Extension(leaving), Sse::new(events).keep_alive(KeepAlive::default())).into_response())
}
