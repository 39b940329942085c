//! Filters of executions between the wire and the engine.

use cerebelum_history::{InvalidName, Json, Timestamp};
use cerebelum_worker::{ApiError, ExecutionFilter, ListRequest};

use crate::convert::{attributes, moment};
use crate::proto;
use crate::wording::moment_ms;

impl TryFrom<proto::ExecutionFilter> for ExecutionFilter {
    type Error = ApiError;

    fn try_from(from: proto::ExecutionFilter) -> Result<Self, ApiError> {
        let invalid = |why: &dyn std::fmt::Display| ApiError::Invalid(why.to_string());
        let at = |moment: prost_types::Timestamp| Timestamp(moment_ms(&moment));
        let parent = from.parent.map(|id| id.parse().map_err(|InvalidName(why)| ApiError::Invalid(why)));
        Ok(Self {
            status: from.status.map(|word| word.parse().map_err(|e| invalid(&e))).transpose()?,
            workflow: from.workflow,
            attributes: attributes(from.attributes)?.into_iter().collect(),
            parent: parent.transpose()?,
            id_prefix: from.id_prefix,
            waits_for: from.waits_for.map(|wait| wait.parse().map_err(|e| invalid(&e))).transpose()?,
            failure: from.failure,
            since: from.since.map(at),
            until: from.until.map(at),
        })
    }
}

impl From<ExecutionFilter> for proto::ExecutionFilter {
    fn from(from: ExecutionFilter) -> Self {
        let attributes = from.attributes.into_iter().map(|(name, value): (String, Json)| (name, value.to_string()));
        Self {
            status: from.status.map(|status| status.word().to_owned()),
            workflow: from.workflow,
            attributes: attributes.collect(),
            parent: from.parent.map(|parent| parent.to_string()),
            id_prefix: from.id_prefix,
            waits_for: from.waits_for.map(|wait| wait.to_string()),
            failure: from.failure,
            since: from.since.map(moment),
            until: from.until.map(moment),
        }
    }
}

impl TryFrom<proto::ListRequest> for ListRequest {
    type Error = ApiError;

    fn try_from(from: proto::ListRequest) -> Result<Self, ApiError> {
        let (cursor, limit) = (from.cursor.clone(), from.limit);
        Ok(Self { filter: proto::ExecutionFilter::from(from).try_into()?, cursor, limit })
    }
}

impl From<proto::ListRequest> for proto::ExecutionFilter {
    fn from(from: proto::ListRequest) -> Self {
        let proto::ListRequest { status, workflow, attributes, parent, id_prefix, waits_for, failure, .. } = from;
        let (since, until) = (from.since, from.until);
        Self { status, workflow, attributes, parent, id_prefix, waits_for, failure, since, until }
    }
}

impl proto::ExecutionFilter {
    /// The request for the first page of what matches; all fields beside the filter are empty.
    #[must_use]
    pub fn list(self) -> proto::ListRequest {
        let Self { status, workflow, attributes, parent, id_prefix, waits_for, failure, since, until } = self;
        let (cursor, limit) = Default::default();
        proto::ListRequest {
            status,
            workflow,
            attributes,
            parent,
            id_prefix,
            waits_for,
            failure,
            since,
            until,
            cursor,
            limit,
        }
    }
}
