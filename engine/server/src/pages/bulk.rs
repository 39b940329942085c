//! Bulk jobs: the form that makes one, the list of them, and how far each of them is.

use axum::response::{IntoResponse, Redirect};
use cerebelum_worker::{Action, Caller};
use maud::{Markup, html};
use serde::Deserialize;

use super::layout::{self, Frame, Live, may};
use super::parts::Column::{Number, Text};
use super::parts::{escaped, execution_path, moment, text};
use super::read::{FormOf, Path, Query};
use super::wanted::Wanted;
use super::{Client, Shown, Verbs, parts};
use crate::proto;
use crate::wording::{Now, bulk_left, bulk_operation, counted as words, matching};

/// A reader confirms the number of executions when more than this many match.
const UNCONFIRMED_MAX: u64 = 100;
/// The refusals that a page shows.
const REFUSALS_SHOWN: usize = 100;

/// The form for the executions that a list shows.
pub(super) async fn form(client: Client, Query(wanted): Query<Wanted>) -> Shown {
    if let Some(id) = wanted.id() {
        let why = format!("a bulk job acts on all that a filter finds: open the execution `{id}` to act on it alone");
        return Err(tonic::Status::invalid_argument(why).into());
    }
    let wanted = wanted.at_moments()?;
    let filter = wanted.filter()?;
    let request = proto::CountRequest { filter: Some(filter.clone()), up_to: None };
    let counted = client.ask(Verbs::count, request).await?;
    let id = client.engine().fresh_bulk_id();
    let body = html! {
        nav.crumbs aria-label="Breadcrumbs" { a href={ "/executions?" (wanted.query(None)) } { "Executions" } " / " }
        h1 { "Act on all that match" }
        p.lead {
            (words(&counted)) " executions match: " code { (matching(&filter)) }
        }
        @if counted.executions == 0 && counted.is_exact {
            p { a href="/executions" { "To all executions" } }
        } @else if !counted.is_exact {
            p { "They could not all be counted: narrow the filter." }
        } @else if may(client.caller(), Action::Run) { (fields(&wanted, (&id, counted.executions), client.caller())) }
    };
    Ok(layout::page(&Frame::new("Act on many", client.caller(), "Executions"), &body))
}

fn fields(wanted: &Wanted, (id, count): (&str, u64), caller: &Caller) -> Markup {
    let operations = [
        ("cancel", "Cancel: their clean-up code runs"),
        ("pause", "Pause: nothing new begins"),
        ("resume", "Resume those that are paused, parked or failed"),
        ("terminate", "Terminate: nothing more of them runs"),
        ("signal", "Send a signal"),
    ];
    html! {
        form.stack method="post" action="/bulk" {
            input type="hidden" name="id" value=(id);
            @for (name, value) in wanted.fields() { input type="hidden" name=(name) value=(value); }
            label for="operation" { "What is done to each of them" }
            select #operation name="operation" required {
                option value="" { "" }
                @for (word, meaning) in operations { option value=(word) { (meaning) } }
                @if may(caller, Action::Delete) { option value="delete" { "Delete those that have ended" } }
            }
            details {
                summary { "The signal" }
                label for="signal" { "Name" }
                input #signal name="signal";
                label for="data" { "Data, JSON" }
                textarea #data name="data" rows="3" spellcheck="false" {}
            }
            @if count > UNCONFIRMED_MAX {
                label for="at-most" { "Type " (count) " to confirm that these are meant" }
                input #at-most name="at_most" inputmode="numeric" required autocomplete="off";
            } @else { input type="hidden" name="at_most" value=(count); }
            button.danger { "Act on " (count) }
            p.note { "Executions that are started after you have pressed the button are left alone. The job goes on whatever happens to this page." }
        }
    }
}

/// A job as a reader asks for it.
#[derive(Deserialize)]
pub(super) struct Wish {
    id: String,
    operation: String,
    #[serde(default)]
    signal: String,
    #[serde(default)]
    data: String,
    at_most: String,
}

pub(super) async fn start(client: Client, FormOf(wish, wanted): FormOf<Wish, Wanted>) -> Shown {
    let at_most = wish.at_most.replace([',', ' '], "").parse();
    let at_most =
        at_most.map_err(|_| tonic::Status::invalid_argument("the number that confirms a job has digits only"))?;
    let signal = proto::BulkSignal { name: wish.signal, data: wish.data.trim().to_owned() };
    let request = proto::StartBulkRequest {
        bulk_id: Some(wish.id),
        signal: (wish.operation == "signal").then_some(signal),
        operation: wish.operation,
        filter: Some(wanted.filter()?),
        at_most: Some(at_most),
        force: false,
    };
    let job = client.ask(Verbs::start_bulk, request).await?;
    Ok(Redirect::to(&path(&job.bulk_id)).into_response())
}

fn path(id: &str) -> String {
    format!("/bulk/{}", escaped(id))
}

pub(super) async fn list(client: Client) -> Shown {
    let all = client.ask(Verbs::bulk_jobs, proto::BulkJobsRequest {}).await?;
    let now = Now::measured();
    let body = html! {
        nav.crumbs aria-label="Breadcrumbs" { a href="/executions" { "Executions" } " / " }
        h1 { "Bulk jobs" }
        section #list data-live {
            @if all.jobs.is_empty() {
                p.lead { "There is no bulk job. The list of " a href="/executions" { "executions" } " leads to the form for one." }
            } @else { (table(&all.jobs, now)) }
        }
    };
    Ok(layout::page(&Frame::new("Bulk jobs", client.caller(), "Executions").live(Live::Often), &body))
}

fn table(jobs: &[proto::BulkJob], now: Now) -> Markup {
    let (job, numbers) = (["Job", "Operation", "Executions", "State"], ["Done", "Refused", "Left"]);
    let columns = [&job.map(Text)[..], &numbers.map(Number), &["By", "Created"].map(Text)].concat();
    let rows = html! {
        @for job in jobs {
            tr {
                th scope="row" { a href=(path(&job.bulk_id)) { (text(&job.bulk_id)) } }
                td { (bulk_operation(job)) }
                td { (which(job)) }
                td { (job.state) }
                td.number { (job.done) } td.number { (job.refused) } td.number { (bulk_left(job)) }
                td { (text(job.created_by())) }
                td { (moment(job.created_at.as_ref(), now)) }
            }
        }
    };
    parts::table("Bulk jobs", None, &columns, &rows)
}

fn which(job: &proto::BulkJob) -> String {
    job.filter.as_ref().map(matching).unwrap_or_default()
}

pub(super) async fn show(client: Client, Path(id): Path<String>) -> Shown {
    let request = proto::ShowBulkRequest { bulk_id: id };
    let detail = client.ask(Verbs::show_bulk, request).await?;
    let (job, now) = (detail.job.clone().unwrap_or_default(), Now::measured());
    let is_running = job.ended_at.is_none();
    let body = html! {
        nav.crumbs aria-label="Breadcrumbs" { a href="/bulk" { "Bulk jobs" } " / " }
        h1.id { (text(&job.bulk_id)) }
        section #state data-live {
            p.lead { (bulk_operation(&job)) " " code { (which(&job)) } ": " strong { (job.state) } }
            progress max=(job.matched) value=(job.done + job.refused) aria-label="How far the job is" {}
            dl.facts {
                div { dt { "Done" } dd { (job.done) } }
                div { dt { "Refused" } dd { (job.refused) } }
                div { dt { "Left" } dd { (bulk_left(&job)) } }
                div { dt { "Created" } dd { (moment(job.created_at.as_ref(), now)) @if let Some(by) = &job.created_by { " by " (text(by)) } } }
                @if !is_running { div { dt { "Ended" } dd { (moment(job.ended_at.as_ref(), now)) } } }
            }
        }
        section #actions data-live {
            @if is_running && may(client.caller(), Action::Run) {
                form method="post" action={ (path(&job.bulk_id)) "/stop" } {
                    button title="What it has done stays done" { "Stop" }
                }
            }
        }
        section #refusals data-live { (refusals(&detail, job.refused)) }
    };
    let live = if is_running { Live::Often } else { Live::No };
    Ok(layout::page(&Frame::new(job.bulk_id.clone(), client.caller(), "Executions").live(live), &body))
}

fn refusals(detail: &proto::BulkJobDetail, refused: u64) -> Markup {
    let shown = &detail.refusals[..detail.refusals.len().min(REFUSALS_SHOWN)];
    html! {
        @if !shown.is_empty() {
            h2 { "Refused" }
            ul {
                @for refusal in shown {
                    li { a href=(execution_path(&refusal.execution_id)) { (text(&refusal.execution_id)) } ": " (text(&refusal.reason)) }
                }
            }
            @if (shown.len() as u64) < refused {
                p.note { "The first " (shown.len()) " of " (refused) "; " code { "cerebelum bulk show" } " prints up to 1,000." }
            }
        }
    }
}

pub(super) async fn stop(client: Client, Path(id): Path<String>) -> Shown {
    client.change(Verbs::stop_bulk, proto::StopBulkRequest { bulk_id: id.clone() }, &path(&id)).await
}
