//! The approvers of a question: the people and roles that may answer it, if its author named any.
//!
//! The record with which a component asks cannot grow, because components that were compiled once keep running. So the
//! list stands in the JSON Schema of the answer, under a keyword of its own (decision 028).

use std::fmt;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::{APPROVER_BYTES_MAX, APPROVERS_MAX, Json};

/// The keyword, in the schema of the answer.
pub const APPROVERS_KEYWORD: &str = "x-cerebelum-approvers";
/// The roles that an entry `role:ROLE` may name.
pub const APPROVER_ROLES: [&str; 5] = ["admin", "developer", "operator", "approver", "viewer"];
/// What an entry for a role begins with.
const ROLE_PREFIX: &str = "role:";

/// The people and roles that may answer a question. An empty list lets every caller answer who may answer questions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Approvers(Vec<String>);

#[derive(Deserialize)]
struct Schema<'s> {
    #[serde(borrow, default, rename = "x-cerebelum-approvers", deserialize_with = "present")]
    approvers: Option<&'s RawValue>,
}

/// A value that is there, also if it is `null`.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

impl Approvers {
    /// Reads the list from the schema of the answer.
    ///
    /// # Errors
    /// One line that says what is wrong with the list.
    pub fn of(schema: Option<&Json>) -> Result<Self, String> {
        // A schema can be `true`, which has no keywords.
        let Some(text) = schema.map(Json::as_str).filter(|text| text.trim_start().starts_with('{')) else {
            return Ok(Self::default());
        };
        let wrong = || format!("`{APPROVERS_KEYWORD}` is not a list of texts");
        let schema: Schema<'_> = serde_json::from_str(text).map_err(|_| wrong())?;
        let Some(listed) = schema.approvers else { return Ok(Self::default()) };
        let listed: Vec<String> = serde_json::from_str(listed.get()).map_err(|_| wrong())?;
        if listed.is_empty() || listed.len() > APPROVERS_MAX {
            return Err(format!("a question has 1 to {APPROVERS_MAX} approvers, not {}", listed.len()));
        }
        listed.iter().try_for_each(|entry| check(entry))?;
        Ok(Self(listed))
    }

    /// Whether the list has no entry: the author named no approvers.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entries as they were written.
    #[must_use]
    pub fn entries(&self) -> &[String] {
        &self.0
    }

    /// Whether an entry is this name.
    #[must_use]
    pub fn has_name(&self, name: &str) -> bool {
        self.0.iter().any(|entry| entry == name && !entry.starts_with(ROLE_PREFIX))
    }

    /// Whether the caller with this name and role is one of them.
    #[must_use]
    pub fn allow(&self, name: &str, role: &str) -> bool {
        self.is_empty()
            || self.has_name(name)
            || self.0.iter().any(|entry| entry.strip_prefix(ROLE_PREFIX) == Some(role))
    }
}

impl fmt::Display for Approvers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

fn check(entry: &str) -> Result<(), String> {
    if entry.is_empty() || entry.len() > APPROVER_BYTES_MAX {
        return Err(format!("an approver has 1 to {APPROVER_BYTES_MAX} bytes, not {}", entry.len()));
    }
    if entry.chars().any(char::is_control) {
        return Err(format!("the approver `{}` has a control character", entry.escape_debug()));
    }
    match entry.strip_prefix(ROLE_PREFIX) {
        Some(role) if !APPROVER_ROLES.contains(&role) => {
            Err(format!("the approver `{entry}` names no role: use one of {}", APPROVER_ROLES.join(", ")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(schema: &str) -> Result<Approvers, String> {
        Approvers::of(Some(&Json::parse(schema).unwrap()))
    }

    fn list(entries: &[String]) -> Result<Approvers, String> {
        read(&serde_json::json!({"type": "object", APPROVERS_KEYWORD: entries}).to_string())
    }

    #[test]
    fn a_question_without_the_keyword_is_for_every_caller() {
        for schema in ["true", " {}", r#"{"type":"object","properties":{"x-cerebelum-approvers":{"type":"null"}}}"#] {
            let none = read(schema).unwrap();
            assert!(none.is_empty() && none.allow("eve", "viewer"), "{schema}");
        }
        assert!(Approvers::of(None).unwrap().is_empty());
    }

    #[test]
    fn a_name_is_compared_exactly_and_a_role_is_a_role() {
        let list = list(&["role:operator".to_owned(), "ada@example.com".to_owned()]).unwrap();
        assert!(list.allow("bob", "operator") && list.allow("ada@example.com", "approver"));
        for (name, role) in [("Ada@example.com", "admin"), ("role:operator", "admin"), ("operator", "approver")] {
            assert!(!list.allow(name, role), "{name} {role}");
        }
        assert!(list.has_name("ada@example.com") && !list.has_name("role:operator") && !list.has_name("operator"));
        assert_eq!(list.to_string(), "role:operator, ada@example.com");
    }

    #[test]
    fn a_malformed_list_is_refused_in_one_line() {
        let wrong = [
            ("null", "list of texts"),
            ("\"ada\"", "list of texts"),
            ("{}", "list of texts"),
            ("[1]", "list of texts"),
            ("[]", "1 to 32 approvers"),
            ("[\"\"]", "1 to 256 bytes"),
            ("[\"a\\nb\"]", "control character"),
            ("[\"role:\"]", "names no role"),
            ("[\"role:boss\"]", "admin, developer, operator, approver, viewer"),
        ];
        for (value, why) in wrong {
            let refused = read(&format!("{{\"x-cerebelum-approvers\": {value}}}")).unwrap_err();
            assert!(refused.contains(why) && !refused.contains('\n'), "{value}: {refused}");
        }
        assert!(list(&vec!["a".to_owned(); APPROVERS_MAX]).is_ok());
        assert!(list(&vec!["a".to_owned(); APPROVERS_MAX + 1]).is_err());
        assert!(
            list(&["a".repeat(APPROVER_BYTES_MAX)]).is_ok() && list(&["a".repeat(APPROVER_BYTES_MAX + 1)]).is_err()
        );
        let twice = r#"{"x-cerebelum-approvers": ["ada"], "x-cerebelum-approvers": ["eve"]}"#;
        assert!(read(twice).is_err(), "two lists are none");
    }
}
