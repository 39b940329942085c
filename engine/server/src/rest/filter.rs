//! Which executions a request is about: as members of its body, or as parameters behind the `?`.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::Problem;
use super::body::each_once;
use super::query::Parameters;
use crate::{Moment, proto};

/// The executions that are meant. An empty filter matches all.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WishedFilter {
    #[schema(example = "sleeping")]
    status: Option<String>,
    /// `component/workflow`, or the bare name, which stands for the workflow in every component that has it.
    #[schema(example = "shop/order")]
    workflow: Option<String>,
    /// Names and JSON scalars.
    #[schema(value_type = Option<HashMap<String, serde_json::Value>>)]
    #[serde(default, deserialize_with = "each_once")]
    attributes: HashMap<String, Box<RawValue>>,
    /// Only children of the execution with this id.
    parent: Option<String>,
    /// Only executions whose id begins like this.
    id_prefix: Option<String>,
    /// Only executions that wait for this first: `approval`, `retry`, `signal`, `poll`, `child`, `delay` or `sleep`, or one of
    /// them with a name.
    #[schema(example = "signal:paid")]
    waits_for: Option<String>,
    /// Only executions that failed with this kind of failure; with the status `parked`, those that are parked for it.
    #[schema(example = "http-status")]
    failure: Option<String>,
    /// Only executions that were started at this moment or later: RFC 3339, or so long ago.
    #[schema(value_type = Option<String>, example = "1d")]
    since: Option<Moment>,
    /// Only executions that were started before this moment.
    #[schema(value_type = Option<String>, example = "2026-11-22T18:00:00Z")]
    until: Option<Moment>,
}

/// The same as parameters of a request; [`Parameters::take_filter`] takes them.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is only described")]
pub(super) struct FilterParameters {
    /// For example `running`, `waiting`, `failed`.
    status: Option<String>,
    /// `component/workflow`, or the bare name.
    workflow: Option<String>,
    /// Only executions with this attribute: a JSON scalar, or a text.
    #[param(rename = "attr.NAME")]
    attribute: Option<String>,
    /// Only children of the execution with this id.
    parent: Option<String>,
    /// Only executions whose id begins like this.
    id_prefix: Option<String>,
    /// Only executions that wait for this first: `approval`, `retry`, `signal`, `poll`, `child`, `delay` or `sleep`, or one of
    /// them with a name, as `signal:paid`.
    waits_for: Option<String>,
    /// Only executions that failed with this kind of failure; with the status `parked`, those that are parked for it.
    failure: Option<String>,
    /// Only executions that were started at this moment or later: RFC 3339, or so long ago, as `1d`.
    since: Option<String>,
    /// Only executions that were started before this moment.
    until: Option<String>,
}

impl From<WishedFilter> for proto::ExecutionFilter {
    fn from(from: WishedFilter) -> Self {
        let attributes = from.attributes.into_iter();
        let attributes = attributes.map(|(name, value)| (name, value.get().to_owned())).collect();
        Self {
            status: from.status,
            workflow: from.workflow,
            attributes,
            parent: from.parent,
            id_prefix: from.id_prefix,
            waits_for: from.waits_for,
            failure: from.failure,
            since: from.since.map(Moment::timestamp),
            until: from.until.map(Moment::timestamp),
        }
    }
}

impl Parameters {
    /// Takes all parameters that say which executions are meant.
    pub(crate) fn take_filter(&mut self) -> Result<proto::ExecutionFilter, Problem> {
        Ok(proto::ExecutionFilter {
            status: self.take("status")?,
            workflow: self.take("workflow")?,
            attributes: self.take_attributes()?,
            parent: self.take("parent")?,
            id_prefix: self.take("id_prefix")?,
            waits_for: self.take("waits_for")?,
            failure: self.take("failure")?,
            since: self.take("since")?.map(Moment::timestamp),
            until: self.take("until")?.map(Moment::timestamp),
        })
    }
}
