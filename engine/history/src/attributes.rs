//! Attributes of an execution: their names, their scalar values and their limits.

use std::collections::BTreeMap;

use crate::Json;
use crate::limits::{ATTRIBUTE_NAME_BYTES_MAX, ATTRIBUTES_BYTES_MAX, ATTRIBUTES_MAX};

/// Checks that an execution can have an attribute with this name and value.
///
/// # Errors
/// The reason, in one line.
pub fn check_attribute(name: &str, value: &Json) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._:/-".contains(c);
    if name.is_empty() || name.len() > ATTRIBUTE_NAME_BYTES_MAX || !name.chars().all(allowed) {
        let shown: String = name.chars().take(40).collect();
        return Err(format!(
            "`{}` is not an attribute name: use 1 to {ATTRIBUTE_NAME_BYTES_MAX} of A-Z a-z 0-9 . _ : / -",
            shown.escape_debug()
        ));
    }
    if value.as_str().trim_start().starts_with(['{', '[']) {
        return Err(format!("the attribute `{name}` is a text, number, boolean or null: objects and lists are not"));
    }
    Ok(())
}

/// Checks that an execution can have all of these attributes.
///
/// # Errors
/// The reason, in one line.
pub fn check_attributes(attributes: &BTreeMap<String, Json>) -> Result<(), String> {
    attributes.iter().try_for_each(|(name, value)| check_attribute(name, value))?;
    check_totals(attributes.len(), attributes_bytes(attributes))
}

/// Checks that an attribute fits among those that an execution already has.
pub(crate) fn check_room(
    (attributes, bytes): (&BTreeMap<String, Json>, usize),
    name: &str,
    value: &Json,
) -> Result<(), String> {
    check_attribute(name, value)?;
    let replaced = attributes.get(name).map(|old| name.len() + old.as_str().len());
    let count = attributes.len() + usize::from(replaced.is_none());
    check_totals(count, bytes + name.len() + value.as_str().len() - replaced.unwrap_or(0))
}

/// Total bytes of the names and values.
pub(crate) fn attributes_bytes(attributes: &BTreeMap<String, Json>) -> usize {
    attributes.iter().map(|(name, value)| name.len() + value.as_str().len()).sum()
}

fn check_totals(count: usize, bytes: usize) -> Result<(), String> {
    if count > ATTRIBUTES_MAX {
        return Err(format!(
            "an execution has at most {ATTRIBUTES_MAX} attributes: put what belongs together into one"
        ));
    }
    if bytes > ATTRIBUTES_BYTES_MAX {
        return Err(format!(
            "the attributes of an execution have at most {ATTRIBUTES_BYTES_MAX} bytes together, these have {bytes}: keep large data elsewhere"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(attributes: impl IntoIterator<Item = (String, Json)>, expected: &str) {
        let answer = check_attributes(&attributes.into_iter().collect());
        assert!(answer.clone().err().unwrap_or_default().contains(expected), "{answer:?} should say {expected}");
        assert_eq!(answer.is_ok(), expected.is_empty());
    }

    #[test]
    fn names_values_count_and_size_are_bounded() {
        let one = |name: &str, value: Json| [(name.to_owned(), value)];
        let many = |count: usize| (0..count).map(|n| (format!("name-{n}"), Json::of(&n)));
        check(one("customer.id/7_a:b-c", Json::of(&"Ada")), "");
        check(one("", Json::null()), "not an attribute name");
        check(one("two words", Json::null()), "not an attribute name");
        check(one("naïve", Json::null()), "not an attribute name");
        check(one(&"x".repeat(65), Json::null()), "not an attribute name");
        check(one("list", Json::of(&[1])), "text, number, boolean or null");
        check(one("object", Json::parse(r#" {"a":1}"#).unwrap()), "text, number, boolean or null");
        check(many(ATTRIBUTES_MAX), "");
        check(many(ATTRIBUTES_MAX + 1), "at most 64 attributes");
        check(one("large", Json::of(&"x".repeat(ATTRIBUTES_BYTES_MAX))), "bytes together");
    }

    #[test]
    fn an_attribute_that_replaces_another_counts_once() {
        let full: BTreeMap<String, Json> = (0..ATTRIBUTES_MAX).map(|n| (format!("n{n}"), Json::of(&n))).collect();
        let bytes = attributes_bytes(&full);
        assert_eq!(check_room((&full, bytes), "n0", &Json::of(&"new")), Ok(()));
        assert!(check_room((&full, bytes), "another", &Json::null()).is_err());
        let large = Json::of(&"x".repeat(ATTRIBUTES_BYTES_MAX - 10));
        let one = BTreeMap::from([("a".to_owned(), large.clone())]);
        assert_eq!(check_room((&one, attributes_bytes(&one)), "a", &large), Ok(()));
        assert!(check_room((&one, attributes_bytes(&one)), "b", &large).is_err());
    }
}
