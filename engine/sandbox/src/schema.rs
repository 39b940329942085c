//! JSON Schemas that come with guests: which ones are accepted, and checking values against them with bounded work.
//!
//! A schema of 3 kB can require 2^40 checks of one value. So a schema is limited when it arrives ([`Schema::parse`]),
//! by numbers that depend on its text alone. Checking a value is limited while it runs ([`Validator::check`]): every
//! subschema counts its cost, and the check ends when the sum exceeds the limit ([`Effort`]).

mod accept;
mod effort;
mod pattern;

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::Value;

pub use effort::Effort;

use crate::host_calls::cut;
use crate::limits::schema::MISMATCH_BYTES_MAX;

/// The keywords that refuse nothing, the one with the weight of a subschema included.
const ANNOTATIONS: [&str; 11] = [
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "definitions",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    effort::KEYWORD,
];

/// A schema that is within the limits.
#[derive(Debug, Clone)]
pub struct Schema(Value);

/// Checks values against a schema.
pub struct Validator(jsonschema::Validator);

/// Why a value was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mismatch {
    /// It does not satisfy the schema; the line says where and why.
    Value(String),
    /// The check exceeded its limit.
    TooMuchWork,
}

impl Schema {
    /// Parses a schema. Takes some milliseconds at most.
    ///
    /// # Errors
    /// One line that names the limit that the schema exceeds.
    pub fn parse(text: &str) -> Result<Self, String> {
        accept::accept(text).map(Self)
    }

    /// Compiles the schema. Returns none when it is within the limits but not valid as a schema: values are not checked
    /// then, because an author's mistake must not prevent executions from starting. Must not run on an async thread.
    #[must_use]
    pub fn compile(&self) -> Option<Validator> {
        let built = jsonschema::options()
            .with_pattern_options(pattern::options())
            // Formats are annotations, as in the current draft: checking them would be work without a bound.
            .should_validate_formats(false)
            .with_keyword(effort::KEYWORD, |_, weight, _| Ok(effort::keyword(weight, true)))
            .with_keyword(effort::NEVER, |_, weight, _| Ok(effort::keyword(weight, false)))
            .build(&self.0);
        built.inspect_err(|error| tracing::debug!(%error, "a schema that checks nothing")).ok().map(Validator)
    }

    /// Whether every value satisfies it, even one that no schema can check.
    #[must_use]
    pub fn refuses_nothing(&self) -> bool {
        match &self.0 {
            Value::Object(members) => members.keys().all(|name| ANNOTATIONS.contains(&name.as_str())),
            other => *other == Value::Bool(true),
        }
    }
}

impl Validator {
    /// Checks a value.
    ///
    /// # Errors
    /// `Value` when it does not satisfy the schema; `TooMuchWork` when the check exceeds `effort`.
    pub fn check(&self, value: &Value, effort: Effort) -> Result<(), Mismatch> {
        let is_valid = limited(effort, || self.0.is_valid(value)).ok_or(Mismatch::TooMuchWork)?;
        if is_valid {
            return Ok(());
        }
        // The library collects the errors of every branch before it reports any, so the explanation has a small limit
        // of its own.
        let explained = limited(effort.of_explanation(), || self.0.validate(value).err().map(|error| explain(&error)));
        let line = explained.flatten().unwrap_or_else(|| "it does not satisfy the schema".to_owned());
        Err(Mismatch::Value(line))
    }
}

fn explain(error: &jsonschema::ValidationError<'_>) -> String {
    let (place, told) = (error.instance_path().to_string(), error.to_string());
    let line = if place.is_empty() { told } else { format!("at {}: {told}", cut(&place, MISMATCH_BYTES_MAX / 2)) };
    match cut(&line, MISMATCH_BYTES_MAX) {
        whole if whole.len() == line.len() => line,
        beginning => format!("{beginning}…"),
    }
}

/// Runs `work` and returns its result; none when it exceeded the effort.
fn limited<T>(effort: Effort, work: impl FnOnce() -> T) -> Option<T> {
    let _armed = effort.arm();
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => Some(done),
        Err(cause) if effort::is_exhaustion(&*cause) => None,
        Err(mistake) => std::panic::resume_unwind(mistake),
    }
}
