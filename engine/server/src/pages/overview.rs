//! The first page: what needs a person, what failed, and what is going on.

use cerebelum_history::Status;
use cerebelum_worker::Action;
use maud::{Markup, html};

use super::execution::capital;
use super::executions::table;
use super::layout::{self, Frame, Live, may};
use super::parts::{execution_path, moment, text};
use super::{Client, Shown, Verbs, nodes};
use crate::wording::{COUNTED, Now, counted, counting, moment_ms};
use crate::{Moment, Span, proto};

/// The rows of each list.
const ROWS: u32 = 8;
/// Counting ends with this number of recent failures. So many are read at once.
const FAILED_MAX: usize = 300;
const FAILED_AT_ONCE: u32 = 100;
/// How long a failure is recent.
const RECENT: Moment = Moment::Ago(Span { ms: 86_400_000 });

pub(super) async fn show(client: Client) -> Shown {
    let newest = |status: Option<Status>| {
        let status = status.map(|status| status.word().to_owned());
        client.ask(Verbs::list, proto::ListRequest { status, limit: ROWS, ..Default::default() })
    };
    let request = proto::ApprovalsRequest { limit: ROWS, ..Default::default() };
    let approvals = client.ask(Verbs::approvals, request).await?;
    let parked = newest(Some(Status::Parked)).await?;
    let failed = newest(Some(Status::Failed)).await?;
    let recent = newest(None).await?;
    let numbers = numbers(&client).await?;
    let lately = failed_lately(&client, &failed).await?;
    let nodes = match may(client.caller(), Action::Metrics) {
        true => client.ask(Verbs::nodes, proto::NodesRequest {}).await?.nodes,
        false => Vec::new(),
    };
    let now = Now::measured();
    let is_empty = recent.executions.is_empty();
    let body = html! {
        h1 { "Overview" }
        @if is_empty { (first_steps()) } @else {
            (facts(&numbers, &lately, &approvals))
            (people(&approvals, &parked, now))
            (listed("failed", "Failed lately", &failed, now))
            (listed("recent", "Newest executions", &recent, now))
            @if may(client.caller(), Action::Run) {
                p { a href="/components" { "Start an execution" } " from a component's page." }
            }
            section #nodes data-live {
                @if !nodes.is_empty() {
                    h2 { "Engines" }
                    (nodes::listed(&nodes))
                }
            }
        }
    };
    let live = Frame::new("Overview", client.caller(), "Overview").live(Live::Often);
    Ok(layout::page(&live, &body))
}

/// How many executions have each of the statuses that an overview counts.
async fn numbers(client: &Client) -> Result<Vec<(Status, proto::CountResponse)>, tonic::Status> {
    let mut numbers = Vec::new();
    for status in COUNTED {
        numbers.push((status, client.ask(Verbs::count, counting(status)).await?));
    }
    Ok(numbers)
}

/// The number of executions that were started lately and have failed. No index leads to starts, so the newest failures are
/// read until one of them is older.
async fn failed_lately(client: &Client, newest: &proto::ListResponse) -> Result<proto::CountResponse, tonic::Status> {
    let since = moment_ms(&RECENT.timestamp());
    let recent = |of: &[proto::Summary]| {
        of.iter().take_while(|one| one.started_at.as_ref().is_some_and(|at| moment_ms(at) >= since)).count()
    };
    let (mut looked_at, mut found) = (newest.executions.len(), recent(&newest.executions));
    let mut next = newest.next.clone();
    while found == looked_at && found < FAILED_MAX {
        let Some(cursor) = next.take() else { break };
        let request = proto::ListRequest {
            status: Some(Status::Failed.word().to_owned()),
            limit: FAILED_AT_ONCE,
            cursor: Some(cursor),
            ..Default::default()
        };
        let page = client.ask(Verbs::list, request).await?;
        looked_at += page.executions.len();
        found += recent(&page.executions);
        next = page.next;
    }
    Ok(proto::CountResponse { executions: found as u64, is_exact: found < looked_at || next.is_none() })
}

fn facts(
    numbers: &[(Status, proto::CountResponse)],
    lately: &proto::CountResponse,
    approvals: &proto::ApprovalsResponse,
) -> Markup {
    html! {
        section #facts data-live {
            dl.facts.numbers {
                @for (status, count) in numbers {
                    div {
                        dt { (capital(status.word())) }
                        dd { a href={ "/executions?status=" (status.word()) } { (counted(count)) } }
                    }
                }
                div {
                    dt { "Started in 24h and failed" }
                    dd { a href="/executions?status=failed&since=24h" { (counted(lately)) } }
                }
                div {
                    dt { "Open questions" }
                    dd { a href="/approvals" { @if approvals.next.is_some() { "more than " } (approvals.approvals.len()) } }
                }
            }
        }
    }
}

fn people(approvals: &proto::ApprovalsResponse, parked: &proto::ListResponse, now: Now) -> Markup {
    html! {
        section #people data-live {
            h2 { "Needs a person" }
            @if approvals.approvals.is_empty() && parked.executions.is_empty() {
                p.note { "No question is open, and no execution is parked." }
            }
            @if !approvals.approvals.is_empty() {
                ul.questions {
                    @for approval in &approvals.approvals {
                        li {
                            a href=(execution_path(&approval.execution_id)) { (text(&approval.title)) }
                            span.note { " asked " (moment(approval.requested_at.as_ref(), now)) " by " (text(&approval.execution_id)) }
                        }
                    }
                }
                @if approvals.next.is_some() { p { a href="/approvals" { "All open questions" } } }
            }
            @if !parked.executions.is_empty() {
                h3 { "Parked: a person must look" }
                (table("Parked", &parked.executions, &[], now))
            }
        }
    }
}

fn listed(status: &str, heading: &str, page: &proto::ListResponse, now: Now) -> Markup {
    let all = match status {
        "failed" => "/executions?status=failed",
        _ => "/executions",
    };
    html! {
        section id=(status) data-live {
            @if !page.executions.is_empty() {
                h2 { (heading) }
                (table(heading, &page.executions, &[], now))
                @if page.next.is_some() { p { a href=(all) { "Show more" } } }
            }
        }
    }
}

/// The commands that make a component and upload it.
pub(super) const FIRST_COMMANDS: &str =
    "cerebelum new visits\ncd visits\ncerebelum build .\ncerebelum upload visits.wasm";

/// What a newcomer sees: how the first execution comes here.
fn first_steps() -> Markup {
    html! {
        section #recent data-live {
            p.lead { "No execution has been started yet. These commands make a project, build it and start its workflow:" }
            pre.value.command tabindex="0" {
                (FIRST_COMMANDS) "\ncerebelum start visits/visit --input @input.json"
            }
        }
    }
}
