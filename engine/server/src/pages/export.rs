//! All executions that match, as a file: written as they are read, and no faster than the reader takes them.

use axum::Extension;
use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};

use super::executions::of_columns;
use super::read::Query;
use super::wanted::Wanted;
use super::{Client, Shown};
use crate::json::{self, rfc3339};
use crate::proto;
use crate::rest::NDJSON;
use crate::wording::{WaitsFor, failure_line};

/// What every row of a table begins with.
const HEAD: [&str; 11] =
    ["status", "id", "workflow", "started", "ended", "run", "events", "parent", "waits_for", "until", "failure"];

pub(super) async fn csv(client: Client, Query(wanted): Query<Wanted>) -> Shown {
    let columns: Vec<String> = wanted.columns().into_iter().map(str::to_owned).collect();
    let attributes = if columns.is_empty() { vec!["attributes"] } else { wanted.columns() };
    let head = line(HEAD.into_iter().chain(attributes));
    let file = [(header::CONTENT_TYPE, "text/csv; charset=utf-8"), named("attachment; filename=\"executions.csv\"")];
    let rows = move |execution: &proto::Summary| row(execution, &columns);
    Ok((file, matching(client, &wanted, (head, rows)).await?).into_response())
}

pub(super) async fn ndjson(client: Client, Query(wanted): Query<Wanted>) -> Shown {
    let file = [(header::CONTENT_TYPE, NDJSON), named("attachment; filename=\"executions.ndjson\"")];
    let lines = |execution: &proto::Summary| json::of(execution) + "\n";
    Ok((file, matching(client, &wanted, (String::new(), lines)).await?).into_response())
}

const fn named(file: &'static str) -> (header::HeaderName, &'static str) {
    (header::CONTENT_DISPOSITION, file)
}

/// A head, and a text for each execution, or for the one whose id is given. A refusal before the first one is a page; a later one cuts the file off, so that
/// it is not taken for a whole one.
async fn matching(
    client: Client,
    wanted: &Wanted,
    (head, write): (String, impl Fn(&proto::Summary) -> String + Send + 'static),
) -> Result<Response, tonic::Status> {
    if let Some(id) = wanted.id() {
        let execution = client.summary(id).await?;
        return Ok((head + &write(&execution)).into_response());
    }
    let mut found = client.service.list_all(client.access, wanted.request()?);
    let first = found.next().await.transpose()?;
    let leaving = found.leaving();
    let rows = stream::iter(first.map(Ok)).chain(found).map(move |found| found.map(|execution| write(&execution)));
    Ok((Extension(leaving), Body::from_stream(stream::iter([Ok(head)]).chain(rows))).into_response())
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
