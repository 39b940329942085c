//! Counts the cost of checking a value while the check runs.
//!
//! Every subschema of an accepted schema carries a keyword of ours. The library calls it wherever the subschema
//! applies. The keyword adds up the cost and ends the check by unwinding when the sum exceeds the limit. The library
//! offers no other way to end a check from inside.

use std::any::Any;
use std::cell::Cell;
use std::time::Duration;

use jsonschema::{Keyword, ValidationError};
use serde_json::Value;

use crate::cpu::thread_cpu;
use crate::limits::schema::{
    CHECK_CPU_MAX, CHECK_STACK_BYTES, EXPLAIN_UNITS_MAX, INLINE_STACK_BYTES, INLINE_UNITS_MAX, LOOK_UNITS,
    PATTERN_WORK_MAX,
};

/// The keyword that subschemas carry. Uploaded schemas must not contain it.
pub(super) const KEYWORD: &str = "cerebelum:effort";

/// The same keyword as the first of several alternatives. It matches no value.
pub(super) const NEVER: &str = "cerebelum:effort-of-alternatives";

/// The limits of a check.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// The total number of units; with `cpu_max`, the number of units until the next check of the CPU time.
    units: u64,
    /// The limit for the CPU time of the thread, if units alone do not end the check.
    cpu_max: Option<Duration>,
    stack_bytes: usize,
}

impl Effort {
    /// So small that it may be spent on an async thread.
    pub const SMALL: Self = Self { units: INLINE_UNITS_MAX, cpu_max: None, stack_bytes: INLINE_STACK_BYTES };
    /// The full effort, for a thread with a stack of [`Effort::THREAD_STACK_BYTES`].
    pub const FULL: Self = Self { units: LOOK_UNITS, cpu_max: Some(CHECK_CPU_MAX), stack_bytes: CHECK_STACK_BYTES };
    /// The stack of a thread that compiles schemas and runs checks with full effort, in bytes.
    pub const THREAD_STACK_BYTES: usize = CHECK_STACK_BYTES + (8 << 20);

    /// The limits for explaining a mismatch.
    pub(super) fn of_explanation(self) -> Self {
        // Without a limit for CPU time, the remaining effort is its units.
        let units = if self.cpu_max.is_some() { EXPLAIN_UNITS_MAX } else { self.units };
        Self { units, cpu_max: None, ..self }
    }

    /// Limits the checks on this thread until the guard is dropped.
    pub(super) fn arm(self) -> Armed {
        let until = self.cpu_max.map(|max| thread_cpu() + max);
        let budget = Budget { left: self.units, until, stack_floor: here().saturating_sub(self.stack_bytes) };
        Armed(BUDGET.replace(budget))
    }
}

/// Limits the thread's effort while it exists.
pub(super) struct Armed(Budget);

impl Drop for Armed {
    fn drop(&mut self) {
        BUDGET.set(self.0);
    }
}

#[derive(Clone, Copy)]
pub(super) struct Budget {
    left: u64,
    until: Option<Duration>,
    stack_floor: usize,
}

thread_local! {
    static BUDGET: Cell<Budget> = const { Cell::new(Budget { left: 0, until: None, stack_floor: 0 }) };
}

struct Exhausted;

/// Whether a check was ended by this limit.
pub(super) fn is_exhaustion(cause: &(dyn Any + Send)) -> bool {
    cause.is::<Exhausted>()
}

fn give_up() -> ! {
    // Unlike a panic, this writes nothing to stderr.
    std::panic::resume_unwind(Box::new(Exhausted))
}

fn spend(units: u64) {
    let mut budget = BUDGET.get();
    if here() < budget.stack_floor {
        give_up();
    }
    budget.left = match budget.left.checked_sub(units) {
        Some(left) => left,
        None => match budget.until {
            Some(until) if thread_cpu() < until => LOOK_UNITS,
            _ => give_up(),
        },
    };
    BUDGET.set(budget);
}

/// The current stack address. The stack grows downwards.
#[inline(never)]
fn here() -> usize {
    let place = 0_u8;
    std::ptr::from_ref(std::hint::black_box(&place)).addr()
}

/// The cost of one subschema wherever it applies: a constant, and a factor for text.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Weight {
    /// The number of entries of its keywords.
    pub(super) entries: u64,
    /// The number of states of its patterns.
    pub(super) states: u64,
}

impl Weight {
    /// The keyword's value.
    pub(super) fn to_value(self) -> Value {
        Value::from(vec![self.entries, self.states])
    }

    fn of(value: &Value) -> Self {
        let figure = |index: usize| value.get(index).and_then(Value::as_u64).unwrap_or(0);
        Self { entries: figure(0), states: figure(1) }
    }

    fn text(self, bytes: usize) -> u64 {
        let work = (bytes as u64).saturating_mul(self.states);
        if work > PATTERN_WORK_MAX {
            give_up();
        }
        (bytes as u64 + work) / 64
    }
}

impl<'i> Keyword<'i> for Weight {
    fn validate(&self, value: &'i Value) -> Result<(), ValidationError<'i>> {
        Keyword::is_valid(self, value);
        Ok(())
    }

    fn is_valid(&self, value: &'i Value) -> bool {
        let of_value = match value {
            Value::String(text) => self.text(text.len()),
            Value::Array(items) => items.len() as u64 / 8,
            Value::Object(members) if self.states > 0 => members.keys().map(|name| 1 + self.text(name.len())).sum(),
            Value::Object(members) => members.len() as u64,
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        };
        spend(1 + self.entries + of_value);
        true
    }
}

/// The keyword that matches no value.
struct Never(Weight);

impl<'i> Keyword<'i> for Never {
    fn validate(&self, value: &'i Value) -> Result<(), ValidationError<'i>> {
        Keyword::is_valid(&self.0, value);
        Err(ValidationError::custom("it is no alternative"))
    }

    fn is_valid(&self, value: &'i Value) -> bool {
        Keyword::is_valid(&self.0, value);
        false
    }
}

/// Creates a keyword that counts the effort and matches every value or none.
pub(super) fn keyword(weight: &Value, fits: bool) -> Box<dyn for<'i> Keyword<'i>> {
    let weight = Weight::of(weight);
    if fits { Box::new(weight) } else { Box::new(Never(weight)) }
}
