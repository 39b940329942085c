//! One value of an execution on a page of its own, from its beginning to its end, or as a file.

use axum::response::IntoResponse;
use maud::{Markup, PreEscaped, Render, html};
use serde::Deserialize;
use tonic::Status;

use super::export::file;
use super::history::event_at;
use super::layout::{self, Frame};
use super::parts::{execution_path, text};
use super::read::{Path, Query};
use super::{Client, Shown, Verbs};
use crate::json;
use crate::proto;
use crate::wording::each_line;

/// The lines of a block. A browser lays out only the blocks on the screen.
const BLOCK_LINES: usize = 200;

/// How the value is wanted.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    /// `1` for a file with the value as it was written.
    raw: u8,
}

/// The same for a value of an event.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WantedOfEvent {
    raw: u8,
    run: Option<u32>,
}

/// A value, and where it is shown.
struct Value<'a> {
    /// The execution that has it.
    execution: &'a str,
    /// The heading of its page.
    heading: String,
    /// The path of its page, below that of the execution.
    path: String,
    /// The query of its page, without `raw`.
    query: String,
    json: String,
}

pub(super) async fn input(client: Client, Path(id): Path<String>, Query(wanted): Query<Wanted>) -> Shown {
    of_execution(client, &id, (wanted, "input"), |shown| Some(shown.input)).await
}

pub(super) async fn output(client: Client, Path(id): Path<String>, Query(wanted): Query<Wanted>) -> Shown {
    of_execution(client, &id, (wanted, "output"), |shown| shown.output).await
}

pub(super) async fn failure(client: Client, Path(id): Path<String>, Query(wanted): Query<Wanted>) -> Shown {
    of_execution(client, &id, (wanted, "failure"), |shown| shown.failure.as_ref().map(json::of)).await
}

async fn of_execution(
    client: Client,
    id: &str,
    (wanted, name): (Wanted, &str),
    of: impl FnOnce(proto::ExecutionStatus) -> Option<String>,
) -> Shown {
    let shown = client.ask(Verbs::status, proto::StatusRequest { execution_id: id.to_owned() }).await?;
    let json = of(shown).ok_or_else(|| Status::not_found(format!("the execution `{id}` has no {name}")))?;
    let heading = super::execution::capital(name);
    show(&client, wanted.raw, Value { execution: id, heading, path: name.to_owned(), query: String::new(), json }).await
}

/// The fields of an event.
pub(super) async fn of_event(
    client: Client,
    Path((id, position)): Path<(String, u64)>,
    Query(wanted): Query<WantedOfEvent>,
) -> Shown {
    let (event, _) = event_at(&client, &id, (wanted.run, position)).await?;
    let value = Value {
        execution: &id,
        heading: format!("Event {position}: {}", event.kind),
        path: position.to_string(),
        query: wanted.run.map_or(String::new(), |run| format!("run={run}")),
        json: event.fields,
    };
    show(&client, wanted.raw, value).await
}

async fn show(client: &Client, raw: u8, value: Value<'_>) -> Shown {
    let Value { execution, heading, path, query, json } = value;
    if raw != 0 {
        let file = file("application/json", &format!("{execution}-{path}.json"));
        return Ok((file, json).into_response());
    }
    // The page of a value of a megabyte has some megabytes, in more than one form.
    let _pages = client.service.pages(&client.access).await?;
    let home = execution_path(execution);
    let raw = if query.is_empty() { "raw=1".to_owned() } else { format!("{query}&raw=1") };
    let (lines, is_laid_out) = lines(&json);
    let body = html! {
        nav.crumbs aria-label="Breadcrumbs" {
            a href="/executions" { "Executions" } " / " a href=(home) { (text(execution)) } " / "
        }
        h1 { (text(&heading)) }
        p.note {
            (json.len()) " bytes"
            @if !is_laid_out { ", as they were written: laid out they would be too many" }
            ". " a href={ (home) "/value/" (path) "?" (raw) } { "Download the raw text" }
        }
        pre.value.whole tabindex="0" { (lines) }
    };
    Ok(layout::page(&Frame::new(format!("{execution}: {heading}"), client.caller(), "Executions"), &body))
}

/// All lines of a value, in blocks, and whether they are laid out.
fn lines(json: &str) -> (Markup, bool) {
    let (mut blocks, mut block) = (String::new(), Vec::new());
    let mut end = |block: &mut Vec<String>| {
        html! { code { @for (at, line) in block.drain(..).enumerate() { @if at > 0 { "\n" } (text(&line)) } } }
            .render_to(&mut blocks);
    };
    let is_laid_out = each_line(json, |line| {
        block.push(line.to_owned());
        if block.len() == BLOCK_LINES {
            end(&mut block);
        }
    });
    end(&mut block);
    (PreEscaped(blocks), is_laid_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_whole_and_hostile_text_stays_text() {
        let items: Vec<String> = (0..1_000).map(|n| format!("\"<script>{n}</script>\u{202e}\"")).collect();
        let (shown, is_laid_out) = lines(&format!("[{}]", items.join(",")));
        let shown = shown.into_string();
        assert!(is_laid_out && !shown.contains("<script") && !shown.contains('\u{202e}'), "{shown}");
        assert_eq!(shown.matches("&lt;script&gt;").count(), 1_000);
        assert_eq!(shown.matches("<code>").count(), 1_002_usize.div_ceil(BLOCK_LINES));
        let deep = format!("{}{}{}", "[".repeat(128), "1,".repeat(1 << 19), "]".repeat(128));
        let (shown, is_laid_out) = lines(&deep);
        assert!(!is_laid_out && shown.into_string().len() == deep.len() + "<code></code>".len());
    }
}
