//! JSON Schemas that come with guests: what is accepted, and values checked against them with bounded work.
//!
//! A schema of 3 kB can ask for 2^40 checks of one value. So a schema is limited when it arrives ([`Schema::parse`]),
//! by figures that follow from its text alone, and checking a value is limited while it goes on ([`Validator::check`]):
//! every subschema counts what it costs, and the check ends when the sum is more than it may be ([`Effort`]).

mod accept;
mod effort;
mod pattern;

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::Value;

pub use effort::Effort;

use crate::host_calls::cut;
use crate::limits::schema::MISMATCH_BYTES_MAX;

/// A schema within its limits.
#[derive(Debug, Clone)]
pub struct Schema(Value);

/// What checks values against a schema.
pub struct Validator(jsonschema::Validator);

/// Why a value was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mismatch {
    /// It does not satisfy the schema; the line says where and why.
    Value(String),
    /// The check took more than it may.
    TooMuchWork,
}

impl Schema {
    /// Reads a schema. Takes some milliseconds at most.
    ///
    /// # Errors
    /// One line that names the limit which the schema breaks.
    pub fn parse(text: &str) -> Result<Self, String> {
        accept::accept(text).map(Self)
    }

    /// What checks values by it. None when it is within the limits, but not valid as a schema: then it checks
    /// nothing, since a mistake of its author must not keep anybody from starting. Not for an async thread.
    #[must_use]
    pub fn compile(&self) -> Option<Validator> {
        let built = jsonschema::options()
            .with_pattern_options(pattern::options())
            // Formats are annotations, as the current draft has it: they would check text in ways that nobody bounds.
            .should_validate_formats(false)
            .with_keyword(effort::KEYWORD, |_, weight, _| Ok(effort::keyword(weight, true)))
            .with_keyword(effort::NEVER, |_, weight, _| Ok(effort::keyword(weight, false)))
            .build(&self.0);
        built.inspect_err(|error| tracing::debug!(%error, "a schema that checks nothing")).ok().map(Validator)
    }
}

impl Validator {
    /// Checks a value.
    ///
    /// # Errors
    /// `Value` when it does not satisfy the schema; `TooMuchWork` when that could not be found out within `effort`.
    pub fn check(&self, value: &Value, effort: Effort) -> Result<(), Mismatch> {
        let is_valid = limited(effort, || self.0.is_valid(value)).ok_or(Mismatch::TooMuchWork)?;
        if is_valid {
            return Ok(());
        }
        // The library collects what is wrong in every branch before it says anything: a little must do.
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

/// What comes of this; none when it took too much effort.
fn limited<T>(effort: Effort, work: impl FnOnce() -> T) -> Option<T> {
    let _armed = effort.arm();
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => Some(done),
        Err(cause) if effort::is_exhaustion(&*cause) => None,
        Err(mistake) => std::panic::resume_unwind(mistake),
    }
}
