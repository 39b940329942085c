//! Attributes as rows, so that lists can be filtered by them.

use std::collections::{BTreeMap, BTreeSet};

use cerebelum_history::Digest;
use serde_json::value::RawValue;

use crate::model::TenantId;
use crate::sql::{Rows, Statement};

/// Inserts attributes of executions that have none.
pub(crate) static INSERT: Statement = Statement::new(
    "insert into attributes (tenant_id, execution_no, name, value)
    select r.tenant_id, r.execution_no, r.name, r.value
    from {rows tenant_id:int execution_no:int name:text value:text}
    where true
    on conflict do nothing",
);

/// Removes single attributes. It takes the rows of [`INSERT`].
pub(crate) static REMOVE: Statement = Statement::new(
    "delete from attributes
    where (tenant_id, name, value, execution_no) in (
        select r.tenant_id, r.name, r.value, r.execution_no
        from {rows tenant_id:int execution_no:int name:text value:text})",
);

/// Longer names and values are stored as their digest, because an index has no room for them.
const INDEXED_BYTES_MAX: usize = 200;

/// Adds a row for each member of a JSON object.
pub(crate) fn add_rows(rows: &mut Rows<'_>, tenant: TenantId, no: i64, object: &str) {
    if object == "{}" {
        return;
    }
    // A text that is not an object has no members to filter by. Its writer is responsible for that.
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(object).unwrap_or_default();
    for (name, value) in members {
        rows.push([tenant.into(), no.into(), indexed_name(&name).into(), indexed_value(value.get()).into()]);
    }
}

/// Adds rows for the differences between two JSON objects: removed members to `gone`, new ones to `rows`.
pub(crate) fn add_changes(
    (gone, rows): (&mut Rows<'_>, &mut Rows<'_>),
    (tenant, no): (TenantId, i64),
    (before, after): (&str, &str),
) {
    let members = |object: &str| -> BTreeSet<(String, String)> {
        let members: BTreeMap<String, &RawValue> = serde_json::from_str(object).unwrap_or_default();
        members.iter().map(|(name, value)| (indexed_name(name), indexed_value(value.get()))).collect()
    };
    let (before, after) = (members(before), members(after));
    let row = |(name, value): &(String, String)| [tenant.into(), no.into(), name.clone().into(), value.clone().into()];
    before.difference(&after).for_each(|member| gone.push(row(member)));
    after.difference(&before).for_each(|member| rows.push(row(member)));
}

/// The indexed form of a name.
pub(crate) fn indexed_name(name: &str) -> String {
    indexed(serde_json::to_string(name).expect("a text has a JSON form"))
}

/// The indexed form of a JSON scalar: texts in one spelling, other values as they were written.
pub(crate) fn indexed_value(value: &str) -> String {
    let value = value.trim();
    indexed(match serde_json::from_str::<String>(value) {
        Ok(text) => serde_json::to_string(&text).expect("a text has a JSON form"),
        Err(_) => value.to_owned(),
    })
}

fn indexed(text: String) -> String {
    if text.len() > INDEXED_BYTES_MAX { Digest::of(text.as_bytes()).to_string() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_however_it_is_spelled_and_a_number_by_its_digits() {
        assert_eq!(indexed_value(r#""\u0041""#), indexed_value(r#" "A""#));
        assert_ne!(indexed_value("9007199254740993"), indexed_value("9007199254740992"));
        assert_eq!(indexed_value(&format!("{:?}", "x".repeat(5000))).len(), 64);
    }
}
