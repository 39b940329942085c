//! Values on their way in and out: typed where the author has a type, otherwise text as it was written.

use std::fmt;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::{Error, Result, kind};

/// A type that can be an input or an output: it converts to JSON and back, and has a schema.
///
/// Do not implement it by hand: put [`#[data]`](macro@crate::data) on a struct or an enum.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an input or an output",
    label = "does not go to JSON and back",
    note = "put `#[data]` on a struct or enum of your own; types of other crates need serde and schemars"
)]
pub trait Data: Sized + 'static {
    /// The JSON text of the value.
    ///
    /// # Errors
    /// When the value has no JSON form.
    fn to_json(&self) -> Result<String>;

    /// The value that a JSON text describes.
    ///
    /// # Errors
    /// When the text does not describe a value of this type.
    fn from_json(text: &str) -> Result<Self>;

    /// The JSON Schema of accepted texts.
    #[must_use]
    fn input_schema() -> String;

    /// The JSON Schema of produced texts.
    #[must_use]
    fn output_schema() -> String;
}

// Without supertraits, and with `do_not_recommend`: reasons in terms of other crates' traits would bury the advice.
#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + JsonSchema + 'static> Data for T {
    fn to_json(&self) -> Result<String> {
        encode(self)
    }

    fn from_json(text: &str) -> Result<Self> {
        decode(text)
    }

    fn input_schema() -> String {
        input_schema::<T>()
    }

    fn output_schema() -> String {
        schema::<T>(SchemaSettings::draft2020_12().for_serialize())
    }
}

/// One JSON document exactly as it was written: every digit, the order of keys, nested nulls.
///
/// Use it for values that are only passed on, and [`serde_json::Value`] for values that are inspected.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Json(Box<RawValue>);

impl Json {
    /// The JSON form of a value.
    ///
    /// # Errors
    /// When the value has no JSON form.
    pub fn of(value: &(impl Serialize + ?Sized)) -> Result<Self> {
        Ok(Self(RawValue::from_string(encode(value)?)?))
    }

    /// The value that this document describes.
    ///
    /// # Errors
    /// When the document does not describe a value of that type.
    pub fn to<T: DeserializeOwned>(&self) -> Result<T> {
        decode(self.as_str())
    }

    /// The document.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.get()
    }
}

impl std::str::FromStr for Json {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(Self(RawValue::from_string(text.to_owned())?))
    }
}

impl Default for Json {
    fn default() -> Self {
        Self(RawValue::NULL.to_owned())
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

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

impl JsonSchema for Json {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Json".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!(true)
    }
}

/// The JSON text of a value that leaves this guest.
pub(crate) fn encode(value: &(impl Serialize + ?Sized)) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|e| Error::new(kind::INVALID_OUTPUT, format!("a value has no JSON form: {e}")).permanent())
}

/// The value of a JSON text that came in.
pub(crate) fn decode<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| {
        let shown: String = text.chars().take(200).collect();
        let message = format!("`{shown}` is no {}: {e}", short_name(std::any::type_name::<T>()));
        Error::new(kind::SCHEMA_MISMATCH, message).permanent()
    })
}

/// `Vec<Order>` instead of `alloc::vec::Vec<shop::Order>`.
fn short_name(name: &str) -> String {
    let mut short = String::new();
    for part in name.split_inclusive(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')) {
        short.push_str(part.rsplit("::").next().unwrap_or(part));
    }
    short
}

/// The JSON Schema of the texts that are accepted as a value of this type.
pub(crate) fn input_schema<T: JsonSchema>() -> String {
    schema::<T>(SchemaSettings::draft2020_12().for_deserialize())
}

fn schema<T: JsonSchema>(settings: SchemaSettings) -> String {
    settings.into_generator().into_root_schema_for::<T>().as_value().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_passes_through_unmodified() {
        let text = r#"{"b":18446744073709551617,"a":[null,[null],"\u0000"]}"#;
        let json: Json = decode(text).unwrap();
        assert_eq!(encode(&json).unwrap(), text);
        assert_eq!(decode::<u64>("18446744073709551615").unwrap(), u64::MAX);
    }

    #[test]
    fn a_mismatch_names_the_type_and_shows_the_value() {
        let error = decode::<Vec<std::collections::BTreeMap<String, u8>>>("7").unwrap_err();
        assert!(error.message().starts_with("`7` is no Vec<BTreeMap<String, u8>>: "), "{error}");
        assert!(error.is(kind::SCHEMA_MISMATCH) && !error.is_retryable());
    }
}
