//! The filter of the list of executions, as a reader fills it in.

use std::collections::HashMap;

use cerebelum_history::{Status, WaitKind};
use maud::{Markup, html};
use serde::Deserialize;

use super::parts::{filled, query};
use crate::json::{json_or_text, rfc3339};
use crate::{Moment, proto};

/// The rows of a page.
const ROWS: u32 = 100;
/// The most attributes with a column each.
const COLUMNS_MAX: usize = 16;
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
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    status: String,
    workflow: String,
    /// `name=value`, or several of them with ` & ` between them.
    attribute: String,
    /// The attributes that have a column each, with commas between them.
    columns: String,
    parent: String,
    id_prefix: String,
    /// `signal`, or `signal:paid`.
    waits_for: String,
    /// The kind of a failure.
    failure: String,
    /// A moment, or so long ago.
    since: String,
    until: String,
    id: String,
    pub(super) cursor: String,
}

impl Wanted {
    /// The executions that are looked for.
    pub(super) fn filter(&self) -> Result<proto::ExecutionFilter, tonic::Status> {
        Ok(proto::ExecutionFilter {
            status: filled(&self.status),
            workflow: filled(&self.workflow),
            attributes: attributes(&self.attribute)?,
            parent: filled(&self.parent),
            id_prefix: filled(&self.id_prefix),
            waits_for: filled(&self.waits_for),
            failure: filled(&self.failure),
            since: timestamp(&self.since)?,
            until: timestamp(&self.until)?,
        })
    }

    /// The list that a view shows; none if it cannot be written into the fields of the page.
    pub(super) fn of(view: &proto::View) -> Option<Self> {
        let filter = view.filter.clone().unwrap_or_default();
        let written = |field: &Option<String>| field.clone().unwrap_or_default();
        let moment = |field: &Option<_>| field.as_ref().map(rfc3339).unwrap_or_default();
        let wanted = Self {
            status: written(&filter.status),
            workflow: written(&filter.workflow),
            attribute: written_attributes(&filter.attributes),
            columns: view.columns.join(", "),
            parent: written(&filter.parent),
            id_prefix: written(&filter.id_prefix),
            waits_for: written(&filter.waits_for),
            failure: written(&filter.failure),
            since: moment(&filter.since),
            until: moment(&filter.until),
            ..Self::default()
        };
        let is_same = wanted.filter().is_ok_and(|read| read == filter) && wanted.columns() == view.columns;
        is_same.then_some(wanted)
    }

    /// The same list with moments in place of times before now, so that it stays the same however often it is sent.
    pub(super) fn at_moments(&self) -> Result<Self, tonic::Status> {
        let at = |text: &str| timestamp(text).map(|moment| moment.as_ref().map(rfc3339).unwrap_or_default());
        Ok(Self { since: at(&self.since)?, until: at(&self.until)?, ..self.clone() })
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
        Ok(proto::ListRequest { cursor: filled(&self.cursor), limit: ROWS, ..self.filter()?.list() })
    }

    /// The filter as fields of a form.
    pub(super) fn fields(&self) -> Vec<(&'static str, &str)> {
        let often = [
            ("status", &*self.status),
            ("workflow", &self.workflow),
            ("attribute", &self.attribute),
            ("parent", &self.parent),
        ];
        [often.as_slice(), &self.rare()].concat()
    }

    /// The parts that few ask for.
    fn rare(&self) -> [(&'static str, &str); 5] {
        [
            ("waits_for", &self.waits_for),
            ("failure", &self.failure),
            ("id_prefix", &self.id_prefix),
            ("since", &self.since),
            ("until", &self.until),
        ]
    }

    /// The query of the same list behind a cursor, or at its beginning.
    pub(super) fn query(&self, cursor: Option<&str>) -> String {
        let others = [("columns", self.columns.as_str()), ("cursor", cursor.unwrap_or_default())];
        query(&[self.fields(), others.to_vec()].concat())
    }

    pub(super) fn is_filtered(&self) -> bool {
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

/// A moment, unless nothing is filled in.
fn timestamp(text: &str) -> Result<Option<prost_types::Timestamp>, tonic::Status> {
    let moment: Option<Moment> =
        filled(text).map(|text| text.parse()).transpose().map_err(tonic::Status::invalid_argument)?;
    Ok(moment.map(Moment::timestamp))
}

/// Attributes as a person would write them.
pub(super) fn written_attributes(attributes: &HashMap<String, String>) -> String {
    let one = |(name, value): (&String, &String)| {
        let text = serde_json::from_str::<String>(value).ok().filter(|text| json_or_text(text) == *value);
        format!("{name}={}", text.as_deref().unwrap_or(value))
    };
    let mut all: Vec<String> = attributes.iter().map(one).collect();
    all.sort();
    all.join(" & ")
}

/// The form for a filter.
pub(super) fn form(wanted: &Wanted) -> Markup {
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
                (more(wanted))
                button { "Show" }
            }
        }
    }
}

/// The parts of a filter that few ask for.
fn more(wanted: &Wanted) -> Markup {
    let field = |(id, name, value, example): (&str, &str, &str, &str)| {
        html! {
            div {
                label for=(id) { (name) }
                input id=(id) name=(id) value=(value) placeholder=(example) list=[(id == "waits_for").then_some("waits")];
            }
        }
    };
    html! {
        details.more open[wanted.rare().iter().any(|(_, value)| !value.trim().is_empty())] {
            summary { "More" }
            div.fields {
                (field(("waits_for", "Waits for", &wanted.waits_for, "signal:paid")))
                (field(("failure", "Failure", &wanted.failure, "rejected")))
                (field(("since", "Started since", &wanted.since, "2h, or a moment")))
                (field(("until", "Started before", &wanted.until, "1d")))
                (field(("id_prefix", "Id begins with", &wanted.id_prefix, "order-")))
            }
            datalist #waits { @for wait in WaitKind::listed() { option value=(wait.word()) {} } }
        }
    }
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
