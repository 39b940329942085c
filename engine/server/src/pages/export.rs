//! Files: all executions that match, a history, the log lines. They are written as they are read, and no faster than the
//! reader takes them.

use axum::Extension;
use axum::body::Body;
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use serde::Deserialize;
use tonic::Status;

use super::executions::of_columns;
use super::read::{Path, Query};
use super::wanted::Wanted;
use super::{Client, Shown, Verbs};
use crate::json::{self, ToJson, rfc3339};
use crate::proto;
use crate::rest::NDJSON;
use crate::streams::Answers;
use crate::wording::{WaitsFor, failure_line};

/// What every row of a table begins with.
const HEAD: [&str; 11] =
    ["status", "id", "workflow", "started", "ended", "run", "events", "parent", "waits_for", "until", "failure"];

pub(super) async fn csv(client: Client, Query(wanted): Query<Wanted>) -> Shown {
    let columns: Vec<String> = wanted.columns().into_iter().map(str::to_owned).collect();
    let attributes = if columns.is_empty() { vec!["attributes"] } else { wanted.columns() };
    let head = line(HEAD.into_iter().chain(attributes));
    let file = file("text/csv; charset=utf-8", "executions.csv");
    let rows = move |execution: &proto::Summary| row(execution, &columns);
    Ok((file, matching(client, &wanted, (head, rows)).await?).into_response())
}

pub(super) async fn ndjson(client: Client, Query(wanted): Query<Wanted>) -> Shown {
    let file = file(NDJSON, "executions.ndjson");
    Ok((file, matching(client, &wanted, (String::new(), json_line)).await?).into_response())
}

/// The run whose history is wanted.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct OfRun {
    run: Option<u32>,
}

/// All events of a run.
pub(super) async fn history(client: Client, Path(id): Path<String>, Query(wanted): Query<OfRun>) -> Shown {
    let summary = client.summary(&id).await?;
    let run = wanted.run.unwrap_or(summary.run);
    let request = proto::HistoryRequest { execution_id: id.clone(), run: Some(run), after: 0, follow: false };
    let events = client.ask(Verbs::history, request).await?;
    let file = file(NDJSON, &format!("{id}-run-{run}-history.ndjson"));
    Ok((file, written(events, (String::new(), json_line)).await?).into_response())
}

/// All log lines that are kept.
pub(super) async fn logs(client: Client, Path(id): Path<String>) -> Shown {
    client.summary(&id).await?;
    let request = proto::LogsRequest { execution_id: id.clone(), after: 0, follow: false };
    let lines = client.ask(Verbs::logs, request).await?;
    let file = file(NDJSON, &format!("{id}-logs.ndjson"));
    Ok((file, written(lines, (String::new(), json_line)).await?).into_response())
}

/// The headers of a file that a browser keeps under this name. Other signs than these would end the name in its header, or
/// are refused by some system.
pub(super) fn file(kind: &'static str, name: &str) -> [(HeaderName, String); 2] {
    let is_plain = |sign: char| sign.is_ascii_alphanumeric() || "._-".contains(sign);
    let name: String = name.chars().map(|sign| if is_plain(sign) { sign } else { '_' }).collect();
    let name = format!("attachment; filename=\"{name}\"");
    [(header::CONTENT_TYPE, kind.to_owned()), (header::CONTENT_DISPOSITION, name)]
}

fn json_line(of: &impl ToJson) -> String {
    json::of(of) + "\n"
}

/// A head, and a text for each execution, or for the one whose id is given.
async fn matching(
    client: Client,
    wanted: &Wanted,
    (head, write): (String, impl Fn(&proto::Summary) -> String + Send + 'static),
) -> Result<Response, Status> {
    if let Some(id) = wanted.id() {
        let execution = client.summary(id).await?;
        return Ok((head + &write(&execution)).into_response());
    }
    let found = client.service.list_all(client.access, wanted.request()?);
    written(found, (head, write)).await
}

/// A head, and a text for each answer. A refusal before the first one is a page; a later one cuts the file off, so that it
/// is not taken for a whole one.
async fn written<T: Send + 'static>(
    mut found: Answers<T>,
    (head, write): (String, impl Fn(&T) -> String + Send + 'static),
) -> Result<Response, Status> {
    let first = found.next().await.transpose()?;
    let leaving = found.leaving();
    let texts = stream::iter(first.map(Ok)).chain(found).map(move |found| found.map(|one| write(&one)));
    Ok((Extension(leaving), Body::from_stream(stream::iter([Ok(head)]).chain(texts))).into_response())
}

fn row(execution: &proto::Summary, columns: &[String]) -> String {
    let proto::Summary { status, execution_id, workflow, attributes, run, events, .. } = execution;
    let at = |at: &Option<_>| at.as_ref().map(rfc3339).unwrap_or_default();
    let (run, events) = (run.to_string(), events.to_string());
    let (started, ended) = (at(&execution.started_at), at(&execution.ended_at));
    let parent = execution.parent.as_deref().unwrap_or_default();
    let (waits, until) = (WaitsFor::of(execution), execution.waits_for.as_ref().and_then(|wait| wait.until.as_ref()));
    let waits = waits.map_or(String::new(), |WaitsFor { what, others, .. }| what + &others);
    let until = until.map(rfc3339).unwrap_or_default();
    let failure = execution.failure.as_ref().map(failure_line).unwrap_or_default();
    let head = [status, execution_id, workflow, &started, &ended, &run, &events, parent, &waits, &until, &failure];
    let names: Vec<&str> = columns.iter().map(String::as_str).collect();
    let values = if columns.is_empty() { vec![attributes.clone()] } else { of_columns(attributes, &names) };
    line(head.into_iter().chain(values.iter().map(String::as_str)))
}

/// A row of a CSV file (RFC 4180). A cell that a spreadsheet would take for a formula begins with an apostrophe.
fn line<'a>(cells: impl Iterator<Item = &'a str>) -> String {
    let cells = cells.map(|cell| {
        let is_formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']) && cell.parse::<f64>().is_err();
        format!("\"{}{}\"", if is_formula { "'" } else { "" }, cell.replace('"', "\"\""))
    });
    cells.collect::<Vec<_>>().join(",") + "\r\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_a_file_stays_in_its_header() {
        let [_, (_, shown)] = file(NDJSON, "a:b\"c\\d\r\ne/../ü-1.x_y.ndjson");
        assert_eq!(shown, "attachment; filename=\"a_b_c_d__e_..__-1.x_y.ndjson\"");
    }

    #[test]
    fn a_row_keeps_digits_and_holds_no_formula() {
        let execution = proto::Summary {
            status: "failed".to_owned(),
            execution_id: "a".to_owned(),
            workflow: "c/w".to_owned(),
            attributes: r#"{"n":0.2345678901234568,"t":"=cmd|' /C calc'!A0","q":"say \"no\",\nor","minus":-7}"#
                .to_owned(),
            run: 1,
            failure: Some(proto::Failure { kind: "trap".into(), message: "x \"y\"".into(), ..Default::default() }),
            ..Default::default()
        };
        let columns = ["t", "n", "none", "q", "minus"].map(str::to_owned);
        let expected = "\"failed\",\"a\",\"c/w\",\"\",\"\",\"1\",\"0\",\"\",\"\",\"\",\"trap: x \"\"y\"\"\",\
                        \"'=cmd|' /C calc'!A0\",\"0.2345678901234568\",\"\",\"say \"\"no\"\",\nor\",\"-7\"\r\n";
        assert_eq!(row(&execution, &columns), expected);
    }
}
