//! JSON Schemas of inputs and answers.

use cerebelum_history::Json;
use jsonschema::Validator;

/// What checks values by this schema. A schema that is none checks nothing: its author's mistake must not keep anybody
/// from starting.
pub(crate) fn validator(schema: &str) -> Option<Validator> {
    jsonschema::validator_for(&serde_json::from_str(schema).ok()?).ok()
}

/// Whether a value satisfies a schema; the first thing that does not, in one line.
pub(crate) fn check(validator: &Validator, value: &Json) -> Result<(), String> {
    // A number beyond every machine number is valid JSON that no schema can be asked about.
    let Ok(value) = serde_json::from_str::<serde_json::Value>(value.as_str()) else { return Ok(()) };
    validator.validate(&value).map_err(|error| {
        let place = error.instance_path().to_string();
        if place.is_empty() { error.to_string() } else { format!("at {place}: {error}") }
    })
}
