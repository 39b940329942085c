//! The log lines of an execution, a page at a time.

use axum::extract::State;
use futures::StreamExt;
use maud::{Markup, html};
use serde::Deserialize;

use super::execution::heading;
use super::layout::{self, Frame, Live};
use super::parts::{exact, execution_path, text};
use super::read::{Path, Query};
use super::{Shown, Site};
use crate::access::Access;
use crate::proto;
use crate::proto::engine_server::Engine as _;
use crate::rest::asked;

/// The lines of a page.
const LINES: usize = 500;

/// Where the page begins.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    after: i64,
}

pub(super) async fn show(
    State(site): State<Site>,
    access: Access,
    Path(id): Path<String>,
    Query(Wanted { after }): Query<Wanted>,
) -> Shown {
    let summary = site.summary(&access, &id).await?;
    let request = proto::LogsRequest { execution_id: id.clone(), after, follow: false };
    let mut answers = site.service.logs(asked(access.clone(), request)).await?.into_inner().take(LINES);
    let mut lines = Vec::new();
    while let Some(line) = answers.next().await.transpose()? {
        lines.push(line);
    }
    let (path, last) = (execution_path(&id), lines.last().map(|line| line.seq));
    let body = html! {
        (heading(&summary, "logs"))
        section #lines data-live {
            @if lines.is_empty() { p.lead { (if after == 0 { "It has written no log line." } else { "No later line has been written." }) } }
            @else { (table(&lines)) }
            nav.paging aria-label="Pages of the log" {
                @if after != 0 { a href={ (path) "/logs" } { "Beginning" } }
                @if let Some(last) = last.filter(|_| lines.len() == LINES) { a rel="next" href={ (path) "/logs?after=" (last) } { "Later" } }
            }
        }
    };
    let is_open = summary.ended_at.is_none() && lines.len() < LINES;
    let live = if is_open { Live::Changes(format!("{path}/changes")) } else { Live::No };
    Ok(layout::page(&Frame::new(format!("{id}: logs"), &access.caller, "Executions").live(live), &body))
}

fn table(lines: &[proto::LogLine]) -> Markup {
    html! {
        div.wide tabindex="0" role="region" aria-label="Log lines" {
            table.log {
                thead { tr { th scope="col" { "Time" } th scope="col" { "Level" } th scope="col" { "Scope" } th scope="col" { "Text" } } }
                tbody {
                    @for line in lines {
                        tr {
                            td { (exact(line.time.as_ref())) }
                            td class={ "level-" (line.level) } { (text(&line.level)) }
                            td { (text(&line.scope)) @if line.attempt > 1 { span.note { " attempt " (line.attempt) } } }
                            td.text { (text(&line.text)) }
                        }
                    }
                }
            }
        }
    }
}
