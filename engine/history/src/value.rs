//! JSON that is passed on as text, unmodified.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;

use crate::limits::{VALUE_BYTES_MAX, VALUE_DEPTH_MAX};

/// One JSON document as it was written: integers above 2^53, key order and `\u0000` survive.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Json(Arc<RawValue>);

/// Why a text is not accepted as a value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidJson {
    /// It is not a JSON document.
    #[error("not valid JSON: {0}")]
    Malformed(String),
    /// It is longer than [`VALUE_BYTES_MAX`].
    #[error(
        "{0} bytes of JSON where at most {VALUE_BYTES_MAX} are accepted: store large data elsewhere and pass a reference"
    )]
    TooLarge(usize),
    /// It nests deeper than [`VALUE_DEPTH_MAX`].
    #[error("JSON nested deeper than {VALUE_DEPTH_MAX} levels")]
    TooDeep,
}

impl Json {
    /// Checks a text and keeps it unchanged.
    ///
    /// # Errors
    /// If the text is not a JSON document, too large or nested too deeply.
    pub fn parse(text: impl Into<String>) -> Result<Self, InvalidJson> {
        let text = text.into();
        if text.len() > VALUE_BYTES_MAX {
            return Err(InvalidJson::TooLarge(text.len()));
        }
        if depth(&text) > VALUE_DEPTH_MAX {
            return Err(InvalidJson::TooDeep);
        }
        let raw = RawValue::from_string(text).map_err(|e| InvalidJson::Malformed(e.to_string()))?;
        Ok(Self(raw.into()))
    }

    /// The JSON form of a value of the program.
    ///
    /// # Panics
    /// If the value has no JSON form (a map with keys that are not text, say). That is a bug of the program.
    #[must_use]
    pub fn of(value: &impl Serialize) -> Self {
        Self(serde_json::value::to_raw_value(value).expect("the engine's own values have a JSON form").into())
    }

    /// The document `null`.
    #[must_use]
    pub fn null() -> Self {
        Self::of(&())
    }

    /// The text as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Whether two documents are equal apart from white space and key order.
    #[must_use]
    pub fn means_the_same(&self, other: &Self) -> bool {
        // Numbers are compared as they were written, so that 2^53 and 2^53 + 1 differ.
        self == other || canonical(self.as_str()) == canonical(other.as_str())
    }
}

/// The document without white space outside strings and with the members of each object sorted.
fn canonical(text: &str) -> Option<String> {
    let raw: &RawValue = serde_json::from_str(text).ok()?;
    let text = raw.get();
    Some(match text.as_bytes().first()? {
        b'{' => {
            let members: std::collections::BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
            let members: Option<Vec<String>> =
                members.iter().map(|(name, value)| Some(format!("{name:?}:{}", canonical(value.get())?))).collect();
            format!("{{{}}}", members?.join(","))
        }
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            let items: Option<Vec<String>> = items.iter().map(|item| canonical(item.get())).collect();
            format!("[{}]", items?.join(","))
        }
        b'"' => format!("{:?}", serde_json::from_str::<String>(text).ok()?),
        _ => text.to_owned(),
    })
}

fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Json {}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_survives_unmodified() {
        for text in [r#"{"b": 1, "a": 9007199254740993}"#, r#"[null, [null], "\u0000"]"#, "1e400", " 7 "] {
            assert_eq!(Json::parse(text).unwrap().as_str(), text.trim());
        }
    }

    #[test]
    fn bad_texts_are_refused_with_a_reason() {
        assert!(matches!(Json::parse("{"), Err(InvalidJson::Malformed(_))));
        assert!(matches!(Json::parse("1 2"), Err(InvalidJson::Malformed(_))));
        assert_eq!(Json::parse("[".repeat(129) + &"]".repeat(129)), Err(InvalidJson::TooDeep));
        assert!(Json::parse("[".repeat(128) + &"]".repeat(128)).is_ok());
        assert_eq!(Json::parse(format!("\"{}\"", "x".repeat(1 << 20))), Err(InvalidJson::TooLarge((1 << 20) + 2)));
    }

    #[test]
    fn meaning_ignores_space_and_key_order_but_no_digit() {
        let same = |a: &str, b: &str| Json::parse(a).unwrap().means_the_same(&Json::parse(b).unwrap());
        assert!(same(r#"{"a":1,"b":[1,2]}"#, r#"{ "b" : [1, 2], "a" : 1 }"#));
        assert!(same(r#""\u0041""#, r#""A""#));
        assert!(!same("9007199254740993", "9007199254740992"));
        assert!(!same("[1,2]", "[2,1]"));
        assert!(!same(r#"{"a":1}"#, r#"{"a":1,"b":null}"#));
    }
}
