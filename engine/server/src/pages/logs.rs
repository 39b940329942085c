//! The log lines of an execution, a page at a time.

use cerebelum_history::Level;
use maud::{Markup, html};
use serde::Deserialize;

use super::execution::heading;
use super::found::found;
use super::layout::{self, Frame, Live};
use super::parts::Column::Text;
use super::parts::{exact, execution_path, query, text};
use super::read::{Path, Query};
use super::{Client, Shown, Verbs, parts};
use crate::proto;

/// The lines of a page.
const LINES: u64 = 500;
/// The levels of lines, the least one first.
const LEVELS: [&str; 4] = [Level::Debug.as_str(), Level::Info.as_str(), Level::Warn.as_str(), Level::Error.as_str()];

/// Where the page begins, and which lines are looked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    after: i64,
    /// The least level.
    level: String,
    scope: String,
    text: String,
}

impl Wanted {
    fn is_filtered(&self) -> bool {
        [&self.level, &self.scope, &self.text].iter().any(|part| !part.trim().is_empty())
    }

    fn fits(&self, line: &proto::LogLine) -> bool {
        let (scope, text) = (self.scope.trim(), self.text.trim());
        rank(&line.level) >= rank(&self.level)
            && (scope.is_empty() || line.scope == scope)
            && (text.is_empty() || line.text.contains(text))
    }

    /// The query of the page after this line.
    fn query(&self, after: i64) -> String {
        let after = after.to_string();
        query(&[("after", &*after), ("level", &self.level), ("scope", &self.scope), ("text", &self.text)])
    }
}

/// The place of a level; whatever is none comes before all.
fn rank(level: &str) -> Option<usize> {
    LEVELS.iter().position(|known| *known == level)
}

pub(super) async fn show(client: Client, Path(id): Path<String>, Query(wanted): Query<Wanted>) -> Shown {
    let summary = client.summary(&id).await?;
    if !wanted.level.is_empty() && rank(&wanted.level).is_none() {
        let why = format!("a level is one of {}", LEVELS.join(", "));
        return Err(tonic::Status::invalid_argument(why).into());
    }
    let after = wanted.after;
    let request = proto::LogsRequest { execution_id: id.clone(), after, follow: false };
    let answers = client.ask(Verbs::logs, request).await?;
    let found = found(answers, LINES, |line| wanted.fits(line), |line| (line, true)).await?;
    let (path, last) = (execution_path(&id), found.last.as_ref().map(|line| line.seq));
    let body = html! {
        (heading(&summary, "logs"))
        (form(&wanted, &path))
        p.note { "All log lines: " a href={ (path) "/logs.ndjson" } { "as lines of JSON" } }
        @if let Some(first) = summary.runs_from { p.note { "Log lines of runs before " (first) " are no longer kept." } }
        section #lines data-live {
            @if !found.items.is_empty() { (table(&found.items)) } @else { p.lead { (none(&wanted, found.is_all)) } }
            nav.paging aria-label="Pages of the log" {
                @if after != 0 { a href={ (path) "/logs?" (wanted.query(0)) } { "Beginning" } }
                @if let Some(last) = last.filter(|_| !found.is_all) {
                    a rel="next" href={ (path) "/logs?" (wanted.query(last)) } { "Later" }
                }
            }
        }
    };
    let is_open = summary.ended_at.is_none() && found.is_all;
    let live = if is_open { Live::Changes(format!("{path}/changes")) } else { Live::No };
    Ok(layout::page(&Frame::new(format!("{id}: logs"), client.caller(), "Executions").live(live), &body))
}

/// Why there is no line on the page.
fn none(wanted: &Wanted, is_all: bool) -> &'static str {
    match (wanted.is_filtered(), is_all) {
        (true, true) => "No line fits.",
        (true, false) => "No line fits so far. Later ones have not been looked at yet.",
        (false, _) if wanted.after == 0 => "It has written no log line.",
        (false, _) => "No later line has been written.",
    }
}

/// Where a reader says which lines are looked for.
fn form(wanted: &Wanted, path: &str) -> Markup {
    html! {
        form.filters method="get" action={ (path) "/logs" } {
            div {
                label for="level" { "Level" }
                select #level name="level" {
                    option value="" { "any" }
                    @for level in LEVELS { option value=(level) selected[wanted.level == level] { (level) " and above" } }
                }
            }
            div { label for="scope" { "Scope" } input #scope name="scope" value=(wanted.scope); }
            div { label for="text" { "Text" } input #text name="text" value=(wanted.text) data-search; }
            button { "Show" }
            @if wanted.is_filtered() { a href={ (path) "/logs" } { "Show all" } }
        }
    }
}

fn table(lines: &[proto::LogLine]) -> Markup {
    let rows = html! {
        @for line in lines {
            tr {
                td { (exact(line.time.as_ref())) }
                td class={ "level-" (line.level) } { (text(&line.level)) }
                td { (text(&line.scope)) @if line.attempt > 1 { span.note { " attempt " (line.attempt) } } }
                td.text { (text(&line.text)) }
            }
        }
    };
    parts::table("Log lines", Some("log"), &["Time", "Level", "Scope", "Text"].map(Text), &rows)
}
