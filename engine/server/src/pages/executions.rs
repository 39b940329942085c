//! The list of executions, with its filters.

use std::collections::{BTreeMap, HashMap};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use cerebelum_history::Status;
use cerebelum_worker::{Action, Caller};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::layout::{self, Frame, Live, may};
use super::parts::{cut, execution_path, filled, moment, query, status, text};
use super::read::Query;
use super::{Shown, Site, views};
use crate::access::Access;
use crate::json::{json_or_text, milliseconds_between};
use crate::proto;
use crate::proto::engine_server::Engine as _;
use crate::rest::asked;
use crate::wording::{Now, WaitsFor, failure_line, roughly};

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
        let attributes = attributes(&self.attribute)?;
        let (status, workflow, parent) = (filled(&self.status), filled(&self.workflow), filled(&self.parent));
        Ok(proto::ExecutionFilter { status, workflow, attributes, parent })
    }

    /// The list that a view shows; none if it cannot be written into the fields of the page.
    pub(super) fn of(view: &proto::View) -> Option<Self> {
        let filter = view.filter.clone().unwrap_or_default();
        let wanted = Self {
            status: filter.status.clone().unwrap_or_default(),
            workflow: filter.workflow.clone().unwrap_or_default(),
            attribute: written(&filter.attributes),
            columns: view.columns.join(", "),
            parent: filter.parent.clone().unwrap_or_default(),
            ..Self::default()
        };
        let is_same = wanted.filter().is_ok_and(|read| read == filter) && wanted.columns() == view.columns;
        is_same.then_some(wanted)
    }

    /// The one execution that is looked for by its id, whatever else is filled in.
    pub(super) fn id(&self) -> Option<&str> {
        Some(self.id.trim()).filter(|id| !id.is_empty())
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

/// The attributes of `name=value & name=value`.
pub(super) fn attributes(text: &str) -> Result<HashMap<String, String>, tonic::Status> {
    let mut attributes = HashMap::new();
    for wanted in filled(text).iter().flat_map(|all| all.split(" & ")) {
        let (name, value) = attribute(wanted)?;
        if attributes.contains_key(&name) {
            let why = format!("the attribute `{name}` is there twice, and an execution has one value of it");
            return Err(tonic::Status::invalid_argument(why));
        }
        attributes.insert(name, value);
    }
    Ok(attributes)
}

/// `name=value`, whose value is JSON or a text.
fn attribute(wanted: &str) -> Result<(String, String), tonic::Status> {
    let missing = || tonic::Status::invalid_argument("an attribute is written as name=value, several as a=1 & b=2");
    let (name, value) = wanted.trim().split_once('=').ok_or_else(missing)?;
    Ok((name.to_owned(), json_or_text(value)))
}

/// Attributes as a person would write them.
pub(super) fn written(attributes: &HashMap<String, String>) -> String {
    let one = |(name, value): (&String, &String)| {
        let text = serde_json::from_str::<String>(value).ok().filter(|text| json_or_text(text) == *value);
        format!("{name}={}", text.as_deref().unwrap_or(value))
    };
    let mut all: Vec<String> = attributes.iter().map(one).collect();
    all.sort();
    all.join(" & ")
}

pub(super) async fn show(State(site): State<Site>, access: Access, Query(wanted): Query<Wanted>) -> Shown {
    if let Some(id) = wanted.id() {
        return Ok(Redirect::to(&execution_path(id)).into_response());
    }
    let found = match wanted.request() {
        Ok(request) => site.listed(access.clone(), request).await,
        Err(refused) => Err(refused),
    };
    let page = match found {
        Err(refused) if refused.code() == tonic::Code::InvalidArgument => {
            return Ok(mistyped(&wanted, &refused, &access.caller));
        }
        found => found?,
    };
    let views = site.service.views(asked(access.clone(), proto::ViewsRequest {})).await?.into_inner().views;
    let now = Now::measured();
    let body = html! {
        h1 { "Executions" }
        (views::links(&views, &wanted))
        (filters(&wanted))
        (views::forms(&views, &wanted, &access.caller))
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

/// The filter as it was typed, with why it finds nothing.
fn mistyped(wanted: &Wanted, refused: &tonic::Status, caller: &Caller) -> axum::response::Response {
    let body = html! {
        h1 { "Executions" }
        p.wrong role="alert" { (text(refused.message())) }
        (filters(wanted))
    };
    let page = layout::page(&Frame::new("Executions", caller, "Executions"), &body);
    (StatusCode::BAD_REQUEST, page).into_response()
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
                    th scope="col" { "Why" }
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
            td { (why(execution, now)) }
            td { (moment(execution.started_at.as_ref(), now)) }
            td.number { @if let Some((from, to)) = took { (roughly(milliseconds_between(from, to))) } }
            @if columns.is_empty() {
                td { (pairs(&execution.attributes)) }
            } @else {
                @for value in of_columns(&execution.attributes, columns) { td { (cut(&value, CELL_LETTERS_MAX)) } }
            }
        }
    }
}

/// What it waits for, or why it does not go on.
fn why(execution: &proto::Summary, now: Now) -> Markup {
    if let Some(failure) = &execution.failure {
        return html! { span.wrong { (text(&failure_line(failure))) } };
    }
    let Some(WaitsFor { what, joint, others }) = WaitsFor::of(execution) else { return Markup::default() };
    let until = execution.waits_for.as_ref().and_then(|wait| wait.until.as_ref());
    html! {
        (text(&what))
        @if until.is_some() { (joint) (moment(until, now)) }
        (others)
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

/// The attributes of an execution, as a person would write them; and how many of them cannot be written so.
pub(super) fn written_of(execution: &proto::Summary) -> (String, usize) {
    let given = values(&execution.attributes).into_iter().map(|(name, value)| (name, value.get().to_owned()));
    let is_same = |one: &HashMap<_, _>| attributes(&written(one)).is_ok_and(|read| read == *one);
    let (good, others): (Vec<_>, Vec<_>) =
        given.partition(|(name, value)| is_same(&HashMap::from([(name.clone(), value.clone())])));
    (written(&good.into_iter().collect()), others.len())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_leads_to_its_list_if_a_person_could_have_written_it() {
        let view = |attributes: &[(&str, &str)], columns: &[&str]| {
            let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let filter = proto::ExecutionFilter { status: Some("failed".into()), attributes, ..Default::default() };
            let columns = columns.iter().map(|name| (*name).to_owned()).collect();
            proto::View { filter: Some(filter), columns, ..Default::default() }
        };
        let shown = view(&[("team", "\"a=b c\""), ("n", "7"), ("s", "\"7\"")], &["team", "n"]);
        let wanted = Wanted::of(&shown).unwrap();
        assert_eq!(wanted.attribute, "n=7 & s=\"7\" & team=a=b c");
        assert_eq!(wanted.filter().unwrap(), shown.filter.unwrap());
        assert_eq!(
            wanted.query(None),
            "status=failed&attribute=n%3D7%20%26%20s%3D%227%22%20%26%20team%3Da%3Db%20c&columns=team%2C%20n"
        );
        for (attributes, columns) in [
            (&[("a", "\"x & y\"")][..], &[][..]),
            (&[("a=b", "1")], &[]),
            (&[("a", "\" \"")], &[]),
            (&[], &["a, b"]),
            (&[], &[" a"]),
        ] {
            assert!(Wanted::of(&view(attributes, columns)).is_none(), "{attributes:?} {columns:?}");
        }
    }
}
