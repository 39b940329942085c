//! Which executions a list, a saved view or a bulk job is about, and the form in which that is stored.

use std::collections::BTreeMap;

use cerebelum_history::{ExecutionId, Json, Status, Timestamp, WaitFilter};
use cerebelum_store::Filter;
use serde::{Deserialize, Serialize};

/// The executions that a list, a saved view or a bulk job is about. An empty filter matches all.
///
/// An engine that does not know a part of a filter leaves a job to those that do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecutionFilter {
    /// The status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// `component/workflow`, or the bare name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// Names and JSON scalars.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, Json>,
    /// Only children of the execution with this id, whether or not it still exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ExecutionId>,
    /// The beginning of the id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_prefix: Option<String>,
    /// What lists say they wait for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<WaitFilter>,
    /// The kind of the failure; with the status parked, of the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Only those that were started at this moment or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Only those that were started before this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl ExecutionFilter {
    /// The filter of a page of the list.
    pub(crate) fn for_store(&self, cursor: Option<String>, limit: u32) -> Filter {
        let Self { status, workflow, attributes, parent, id_prefix, waits_for, failure, since, until } = self.clone();
        let attributes = attributes.into_iter().map(|(name, value)| (name, value.to_string())).collect();
        Filter { status, workflow, attributes, parent, id_prefix, waits_for, failure, since, until, cursor, limit }
    }

    /// The form in which a filter is stored. The first engines leave out what they do not know and would act on all
    /// executions: a filter that has more than they know stands in brackets, which they cannot read.
    pub(crate) fn stored(&self) -> String {
        let Self { status, workflow, attributes, .. } = self.clone();
        match *self == (Self { status, workflow, attributes, ..Self::default() }) {
            true => Json::of(self).to_string(),
            false => Json::of(&[self]).to_string(),
        }
    }

    pub(crate) fn read(stored: &str) -> Result<Self, serde_json::Error> {
        match stored.starts_with('[') {
            false => serde_json::from_str(stored),
            true => serde_json::from_str(stored).map(|[filter]: [Self; 1]| filter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_with_a_part_that_an_engine_does_not_know_is_not_read_without_it() {
        let parent = "o-1".parse().ok();
        let filter = ExecutionFilter { status: Some(Status::Failed), parent, ..ExecutionFilter::default() };
        let stored = filter.stored();
        assert_eq!(stored, r#"[{"status":"failed","parent":"o-1"}]"#);
        assert_eq!(ExecutionFilter::read(&stored).unwrap(), filter);
        // Engines from before there was a parent read the filter like this.
        assert!(serde_json::from_str::<ExecutionFilter>(&stored).is_err());
        let since = ExecutionFilter { since: Some(Timestamp(7)), ..ExecutionFilter::default() };
        assert_eq!(since.stored(), r#"[{"since":7}]"#);
        let without = ExecutionFilter { parent: None, ..filter };
        assert_eq!(without.stored(), r#"{"status":"failed"}"#);
        assert_eq!(ExecutionFilter::read(&without.stored()).unwrap(), without);
        assert!(ExecutionFilter::read(r#"{"status":"failed","moon":1}"#).is_err());
        assert!(ExecutionFilter::read(r#"[{"status":"failed"},{}]"#).is_err());
    }
}
