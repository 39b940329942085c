//! The list of executions, with its filters.

use axum::extract::State;
use axum::response::{IntoResponse, Redirect};
use cerebelum_history::Status;
use cerebelum_worker::Action;
use maud::{Markup, html};
use serde::Deserialize;

use super::layout::{self, Frame, Live, may};
use super::parts::{execution_path, filled, moment, preview, query, status, text};
use super::read::Query;
use super::{Shown, Site};
use crate::access::Access;
use crate::json::milliseconds_between;
use crate::proto;
use crate::wording::{Now, roughly};

/// The rows of a page.
const ROWS: u32 = 50;
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
    /// `name=value`.
    attribute: String,
    parent: String,
    id: String,
    cursor: String,
}

impl Wanted {
    /// The executions that are looked for.
    pub(super) fn filter(&self) -> Result<proto::ExecutionFilter, tonic::Status> {
        if !self.attribute.trim().is_empty() && !self.attribute.contains('=') {
            return Err(tonic::Status::invalid_argument("an attribute is looked for as name=value"));
        }
        let attribute = self.attribute.trim().split_once('=').map(|(name, value)| {
            let is_json = serde_json::from_str::<serde::de::IgnoredAny>(value).is_ok();
            let value = if is_json { value.to_owned() } else { serde_json::Value::from(value).to_string() };
            (name.to_owned(), value)
        });
        Ok(proto::ExecutionFilter {
            status: filled(&self.status),
            workflow: filled(&self.workflow),
            attributes: attribute.into_iter().collect(),
            parent: filled(&self.parent),
        })
    }

    fn request(&self) -> Result<proto::ListRequest, tonic::Status> {
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
            ("cursor", cursor.unwrap_or_default()),
        ])
    }

    fn is_filtered(&self) -> bool {
        !self.query(None).is_empty()
    }
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
                @if may(&access.caller, Action::Run) {
                    p.note {
                        a href={ "/bulk-form?" (wanted.query(None)) } { "Act on all that match" } " · " a href="/bulk" { "Bulk jobs" }
                    }
                }
                (table(&page.executions, now))
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
                    input #attribute name="attribute" value=(wanted.attribute) placeholder="name=value";
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

/// Executions as rows.
pub(super) fn table(executions: &[proto::Summary], now: Now) -> Markup {
    html! {
        div.wide tabindex="0" role="region" aria-label="Executions" {
            table {
                thead { tr {
                    th scope="col" { "Status" } th scope="col" { "Id" } th scope="col" { "Workflow" }
                    th scope="col" { "Started" } th.number scope="col" { "Took" } th scope="col" { "Attributes" }
                } }
                tbody {
                    @for execution in executions { (row(execution, now)) }
                }
            }
        }
    }
}

fn row(execution: &proto::Summary, now: Now) -> Markup {
    let took = execution.started_at.as_ref().zip(execution.ended_at.as_ref());
    html! {
        tr {
            td { (status(&execution.status)) }
            th scope="row" { a href=(execution_path(&execution.execution_id)) { (text(&execution.execution_id)) } }
            td { (text(&execution.workflow)) }
            td { (moment(execution.started_at.as_ref(), now)) }
            td.number { @if let Some((from, to)) = took { (roughly(milliseconds_between(from, to))) } @else { "–" } }
            td { @if execution.attributes != "{}" { code { (preview(&execution.attributes)) } } }
        }
    }
}
