//! The statement that finds the executions of a list: which index leads to them, and which conditions follow.

use cerebelum_history::{LastFailure, Status, Timestamp, VALUE_BYTES_MAX, WaitKind, planted};

use super::END;
use crate::attributes::{indexed_name, indexed_value};
use crate::error::StoreError;
use crate::executions::{head_columns, heads};
use crate::model::TenantId;
use crate::requests::Filter;
use crate::sql::Value;

/// A filter with more attributes than this is a mistake.
const ATTRIBUTES_MAX: usize = 16;
/// The longest name of an attribute.
const NAME_BYTES_MAX: usize = 256;
/// The longest `component/workflow`.
const WORKFLOW_BYTES_MAX: usize = 512;
/// The longest beginning of an id, kind of a failure, and name of what is waited for.
const WORD_BYTES_MAX: usize = 512;

/// Refuses a filter that is longer than any value that it could match.
pub(super) fn check(filter: &Filter) -> Result<(), StoreError> {
    let too_long = |what: &str, max: usize| {
        Err(StoreError::Invalid(format!("the filter's {what} is too long: at most {max} bytes, shorten it")))
    };
    if filter.attributes.len() > ATTRIBUTES_MAX {
        let given = filter.attributes.len();
        return Err(StoreError::Invalid(format!(
            "a filter takes at most {ATTRIBUTES_MAX} attributes, this has {given}"
        )));
    }
    if filter.workflow.as_ref().is_some_and(|workflow| workflow.len() > WORKFLOW_BYTES_MAX) {
        return too_long("workflow", WORKFLOW_BYTES_MAX);
    }
    for (what, word) in [("id", &filter.id_prefix), ("failure", &filter.failure)] {
        if word.as_ref().is_some_and(String::is_empty) {
            return Err(StoreError::Invalid(format!("the filter's {what} is empty: leave it out, or say which")));
        }
    }
    let name = filter.waits_for.as_ref().and_then(|wait| wait.name.as_ref());
    for (what, word) in [("id", &filter.id_prefix), ("failure", &filter.failure), ("wait", &name.cloned())] {
        if word.as_ref().is_some_and(|word| word.len() > WORD_BYTES_MAX) {
            return too_long(what, WORD_BYTES_MAX);
        }
    }
    for (name, value) in &filter.attributes {
        if name.len() > NAME_BYTES_MAX {
            return too_long("attribute name", NAME_BYTES_MAX);
        }
        if value.len() > VALUE_BYTES_MAX {
            return too_long("attribute value", VALUE_BYTES_MAX);
        }
    }
    Ok(())
}

/// Whether an index serves the filter, or every execution matches it.
pub(super) fn is_indexed(filter: &Filter) -> bool {
    let by_status = filter.status.is_some_and(is_rare);
    let everything = filter.status.is_none() && filter.workflow.is_none();
    filter.parent.is_some() || !filter.attributes.is_empty() || (by_status || everything) && !is_narrow(filter)
}

/// The status that all executions have which match, if there is one.
fn only_status(filter: &Filter) -> Option<Status> {
    let of_wait =
        || filter.waits_for.as_ref().filter(|wait| wait.kind == WaitKind::Approval).map(|_| Status::WaitingForApproval);
    let of_failure = || filter.failure.as_ref().map(|_| Status::Failed);
    filter.status.or_else(of_failure).or_else(of_wait)
}

/// Whether the index `executions_by_status` has the executions of this status.
fn is_rare(status: Status) -> bool {
    !matches!(status, Status::Running | Status::Completed)
}

/// Whether the filter asks for what no index has.
pub(super) fn is_narrow(filter: &Filter) -> bool {
    let Filter { id_prefix, waits_for, failure, since, until, .. } = filter;
    id_prefix.is_some() || waits_for.is_some() || failure.is_some() || since.is_some() || until.is_some()
}

/// The conditions for what no index has; an argument that is null finds everything. They are one text whatever is asked for:
/// a connection keeps only so many statements prepared.
fn narrow<'f>(filter: &'f Filter, values: &mut Vec<Value<'f>>) -> String {
    let mut number = |value: Value<'f>| {
        values.push(value);
        format!("${}", values.len())
    };
    let since = number(filter.since.unwrap_or(Timestamp(0)).into());
    let until = number(filter.until.map_or(i64::MAX.into(), Value::from));
    let mut text = |value: Option<String>| format!("cast({} as text)", number(value.into()));
    let id = text(filter.id_prefix.clone());
    let wait = text(filter.waits_for.as_ref().map(|wait| format!(",{}", wait.stored())));
    let failed = text(filter.failure.as_ref().map(|kind| format!(",{}", LastFailure::stored(kind))));
    let parked = text(filter.failure.as_ref().map(|kind| format!("{kind}: ")));
    let at = text(Some(r#"{"at":"#.to_owned()));
    let begins = |column: &str, with: &str| format!("substr({column}, 1, length({with})) = {with}");
    // What stands there for another position was written by an engine that did not derive it.
    let stored = |what: &str| begins("e.waits_for", &format!("({at} || cast(e.position as text) || {what})"));
    format!(
        " and e.started_at >= {since} and e.started_at < {until}
        and ({id} is null or {})
        and ({wait} is null or e.state = 0 and e.parked is null and e.paused = 0 and {})
        and ({failed} is null
            or case when e.parked is null then e.status = 'failed' and {} else {} end)",
        begins("e.id", &id),
        stored(&wait),
        stored(&failed),
        begins("e.parked", &parked),
    )
}

/// The statement for a filter, put together from constant parts, and its arguments. It finds executions from the number
/// `from` down to above the floor.
pub(super) fn statement<'f>(
    tenant: TenantId,
    filter: &'f Filter,
    (from, floor): (i64, i64),
    count: usize,
) -> (String, Vec<Value<'f>>) {
    // Damage can give a row the lowest number that there is.
    let lowest = if floor == END { floor } else { floor + 1 };
    let mut values: Vec<Value<'f>> = vec![tenant.into(), count.into(), from.into(), lowest.into()];
    let mut text = String::from(concat!("select ", head_columns!(), " from "));
    let (status, mut attributes) = (only_status(filter), filter.attributes.iter());
    // The parent leads to the executions, or else the first attribute: their indexes have the numbers in order.
    let order = match filter.parent.as_ref().map_or_else(|| Err(attributes.next()), Ok) {
        Ok(parent) => {
            values.push(parent.as_str().into());
            text.push_str(concat!(heads!(), " where e.tenant_id = $1 and e.parent_id = $5"));
            "e.execution_no"
        }
        Err(Some((name, value))) => {
            values.extend([indexed_name(name).into(), indexed_value(value).into()]);
            text.push_str(concat!("attributes f {sqlite: cross} join ", heads!()));
            // The programs are joined last.
            text = text.replace(
                "executions e left join",
                "executions e on e.tenant_id = f.tenant_id and e.execution_no = f.execution_no left join",
            );
            text.push_str(" where f.tenant_id = $1 and f.name = $5 and f.value = $6");
            "f.execution_no"
        }
        Err(None) => {
            text.push_str(heads!());
            text.push_str(" where e.tenant_id = $1");
            "e.execution_no"
        }
    };
    if planted("no-tenant-filter") {
        text.push_str(" or true");
    }
    text.push_str(&format!(" and {order} <= $3 and {order} >= $4"));
    if let Some(status) = status {
        values.push(status.word().into());
        text.push_str(&format!(" and e.status = ${}", values.len()));
        if is_rare(status) && filter.parent.is_none() {
            // This is the condition of the index, word for word.
            text.push_str(" and e.status not in ('running', 'completed')");
        }
    }
    if let Some(workflow) = &filter.workflow {
        values.push(workflow.as_str().into());
        values.push(format!("%/{}", literally(workflow)).into());
        let (exact, suffix) = (values.len() - 1, values.len());
        text.push_str(&format!(" and (p.workflow = ${exact} or p.workflow like ${suffix} escape '\\')"));
    }
    if is_narrow(filter) {
        text.push_str(&narrow(filter, &mut values));
    }
    for (name, value) in attributes {
        values.extend([indexed_name(name).into(), indexed_value(value).into()]);
        let (name, value) = (values.len() - 1, values.len());
        text.push_str(&format!(
            " and exists (select 1 from attributes a where a.tenant_id = $1
                and a.execution_no = {order} and a.name = ${name} and a.value = ${value})"
        ));
    }
    text.push_str(&format!(" order by {order} desc limit $2"));
    (text, values)
}

/// Escapes a text so that `like` matches it literally.
fn literally(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}
