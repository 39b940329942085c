//! The list of executions, with its filters.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::{IntoResponse, Redirect};
use cerebelum_history::Status;
use cerebelum_worker::{Action, Caller};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::layout::{self, Frame, Live, may};
use super::parts::{cut, execution_path, filled, moment, query, status, text};
use super::read::Query;
use super::{Shown, Site};
use crate::access::Access;
use crate::json::{json_or_text, milliseconds_between};
use crate::proto;
use crate::wording::{Now, roughly};

/// The rows of a page.
const ROWS: u32 = 100;
/// The most attributes with a column each.
const COLUMNS_MAX: usize = 16;
/// The attributes that a row shows where they have one column together.
const PAIRS_SHOWN: usize = 6;
/// A longer value is cut in its column.
const CELL_LETTERS_MAX: usize = 60;
/// The statuses in the order in which a person looks for them.
const STATUSES: [Status; 9] = [
    Status::Running,
    Status::Waiting,
    Status::Sleeping,
    Status::WaitingForApproval,
    Status::Paused,
    Status::Parked,
    Status::Completed,
    Status::Failed,
    Status::Cancelled,
];

/// What a reader looks for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    status: String,
    workflow: String,
    /// `name=value`, or several of them with ` & ` between them.
    attribute: String,
    /// The attributes that have a column each, with commas between them.
    columns: String,
    parent: String,
    id: String,
    cursor: String,
}

impl Wanted {
    /// The executions that are looked for.
    pub(super) fn filter(&self) -> Result<proto::ExecutionFilter, tonic::Status> {
        let wanted = filled(&self.attribute);
        Ok(proto::ExecutionFilter {
            status: filled(&self.status),
            workflow: filled(&self.workflow),
            attributes: wanted.iter().flat_map(|all| all.split(" & ")).map(attribute).collect::<Result<_, _>>()?,
            parent: filled(&self.parent),
        })
    }

    /// The attributes that have a column each.
    pub(super) fn columns(&self) -> Vec<&str> {
        self.columns.split(',').map(str::trim).filter(|name| !name.is_empty()).take(COLUMNS_MAX).collect()
    }

    /// The list that is asked for, from the cursor on.
    pub(super) fn request(&self) -> Result<proto::ListRequest, tonic::Status> {
        let proto::ExecutionFilter { status, workflow, attributes, parent } = self.filter()?;
        let cursor = filled(&self.cursor);
        Ok(proto::ListRequest { status, workflow, attributes, parent, cursor, limit: ROWS })
    }

    /// The filter as fields of a form.
    pub(super) fn fields(&self) -> [(&'static str, &str); 4] {
        [
            ("status", &self.status),
            ("workflow", &self.workflow),
            ("attribute", &self.attribute),
            ("parent", &self.parent),
        ]
    }

    /// The query of the same list behind a cursor, or at its beginning.
    pub(super) fn query(&self, cursor: Option<&str>) -> String {
        query(&[
            ("status", &self.status),
            ("workflow", &self.workflow),
            ("attribute", &self.attribute),
            ("parent", &self.parent),
            ("columns", &self.columns),
            ("cursor", cursor.unwrap_or_default()),
        ])
    }

    fn is_filtered(&self) -> bool {
        self.fields().iter().any(|(_, value)| !value.trim().is_empty())
    }
}

/// `name=value`, whose value is JSON or a text.
fn attribute(wanted: &str) -> Result<(String, String), tonic::Status> {
    let missing = || tonic::Status::invalid_argument("an attribute is looked for as name=value, several as a=1 & b=2");
    let (name, value) = wanted.trim().split_once('=').ok_or_else(missing)?;
    Ok((name.to_owned(), json_or_text(value)))
}

pub(super) async fn show(State(site): State<Site>, access: Access, Query(wanted): Query<Wanted>) -> Shown {
    if !wanted.id.trim().is_empty() {
        return Ok(Redirect::to(&execution_path(wanted.id.trim())).into_response());
    }
    let page = site.listed(access.clone(), wanted.request()?).await?;
    let now = Now::measured();
    let body = html! {
        h1 { "Executions" }
        (filters(&wanted))
        section #list data-live {
            @if page.executions.is_empty() {
                @if wanted.is_filtered() {
                    p.lead { "No execution matches. " a href="/executions" { "Show all" } }
                } @else {
                    p.lead { "No execution has been started yet." }
                }
            } @else {
                (of_all(&wanted, &access.caller))
                (table("Executions", &page.executions, &wanted.columns(), now))
            }
            nav.paging aria-label="Pages of the list" {
                @if !wanted.cursor.is_empty() { a href={ "/executions?" (wanted.query(None)) } { "Newest" } }
                @if let Some(next) = &page.next { a rel="next" href={ "/executions?" (wanted.query(Some(next))) } { "Older" } }
            }
        }
    };
    let live = if wanted.cursor.is_empty() { Live::Often } else { Live::No };
    Ok(layout::page(&Frame::new("Executions", &access.caller, "Executions").live(live), &body))
}

/// What can be done with all that match, also beyond the page.
fn of_all(wanted: &Wanted, caller: &Caller) -> Markup {
    let query = wanted.query(None);
    html! {
        p.note {
            "All that match: "
            @if may(caller, Action::Run) { a href={ "/bulk-form?" (query) } { "act on them" } " · " }
            a href={ "/executions.csv?" (query) } { "as CSV" } " · "
            a href={ "/executions.ndjson?" (query) } { "as lines of JSON" }
            @if may(caller, Action::Run) { " · " a href="/bulk" { "bulk jobs" } }
        }
    }
}

fn filters(wanted: &Wanted) -> Markup {
    html! {
        search {
            form.filters method="get" action="/executions" {
                div {
                    label for="status" { "Status" }
                    select #status name="status" {
                        option value="" { "any" }
                        @for status in STATUSES {
                            option value=(status.word()) selected[wanted.status == status.word()] { (status.word()) }
                        }
                    }
                }
                div {
                    label for="workflow" { "Workflow" }
                    input #workflow name="workflow" value=(wanted.workflow) placeholder="component/workflow";
                }
                div {
                    label for="attribute" { "Attribute" }
                    input #attribute name="attribute" value=(wanted.attribute) placeholder="team=ops & n=7";
                }
                div {
                    label for="columns" { "Columns" }
                    input #columns name="columns" value=(wanted.columns) placeholder="attributes: team, region";
                }
                @if !wanted.parent.is_empty() {
                    div {
                        label for="parent" { "Child of" }
                        input #parent name="parent" value=(wanted.parent);
                    }
                }
                div {
                    label for="id" { "Id" }
                    input #id name="id" data-search placeholder="opens the execution";
                }
                button { "Show" }
            }
        }
    }
}

/// Executions as rows, under a name that no other table of the page has. Their attributes have one column together, or one
/// each of these.
pub(super) fn table(name: &str, executions: &[proto::Summary], columns: &[&str], now: Now) -> Markup {
    html! {
        div.wide tabindex="0" role="region" aria-label=(name) {
            table.executions.together[columns.is_empty()] {
                thead { tr {
                    th scope="col" { "Status" } th scope="col" { "Id" } th scope="col" { "Workflow" }
                    th scope="col" { "Started" } th.number scope="col" { "Took" }
                    @if columns.is_empty() { th scope="col" { "Attributes" } }
                    @for name in columns { th scope="col" { (text(name)) } }
                } }
                tbody {
                    @for execution in executions { (row(execution, columns, now)) }
                }
            }
        }
    }
}

fn row(execution: &proto::Summary, columns: &[&str], now: Now) -> Markup {
    let took = execution.started_at.as_ref().zip(execution.ended_at.as_ref());
    html! {
        tr {
            td { (status(&execution.status)) }
            th scope="row" { a href=(execution_path(&execution.execution_id)) { (text(&execution.execution_id)) } }
            td { (text(&execution.workflow)) }
            td { (moment(execution.started_at.as_ref(), now)) }
            td.number { @if let Some((from, to)) = took { (roughly(milliseconds_between(from, to))) } @else { "–" } }
            @if columns.is_empty() {
                td { (pairs(&execution.attributes)) }
            } @else {
                @for value in of_columns(&execution.attributes, columns) { td { (cut(&value, CELL_LETTERS_MAX)) } }
            }
        }
    }
}

/// Attributes as a filter is written: `name=value`.
fn pairs(attributes: &str) -> Markup {
    let all = values(attributes);
    let hidden = all.len().saturating_sub(PAIRS_SHOWN);
    html! {
        @for (name, value) in all.iter().take(PAIRS_SHOWN) {
            code.pair { (text(name)) "=" (cut(&plain_value(value), CELL_LETTERS_MAX)) } " "
        }
        @if hidden > 0 { span.note { "and " (hidden) " more" } }
    }
}

fn values(attributes: &str) -> BTreeMap<String, Box<RawValue>> {
    serde_json::from_str(attributes).unwrap_or_default()
}

/// A value; a text without its quotation marks.
fn plain_value(value: &RawValue) -> String {
    serde_json::from_str(value.get()).unwrap_or_else(|_| value.get().to_owned())
}

/// The values of these attributes, in order, and nothing for one that is not there.
pub(super) fn of_columns(attributes: &str, columns: &[&str]) -> Vec<String> {
    let values = values(attributes);
    columns.iter().map(|name| values.get(*name).map(|value| plain_value(value)).unwrap_or_default()).collect()
}
