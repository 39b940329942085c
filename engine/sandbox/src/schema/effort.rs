//! What checking a value costs, counted while it goes on.
//!
//! Every subschema of an accepted schema carries a keyword of ours. The library calls it wherever the subschema is
//! applied; it adds up the cost, and ends the check, by unwinding, when that is more than it may be: nothing else ends
//! a check from inside.

use std::any::Any;
use std::cell::Cell;
use std::time::Duration;

use jsonschema::{Keyword, ValidationError};
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;

use crate::limits::schema::{
    CHECK_CPU_MAX, CHECK_STACK_BYTES, EXPLAIN_UNITS_MAX, INLINE_STACK_BYTES, INLINE_UNITS_MAX, LOOK_UNITS,
    PATTERN_WORK_MAX,
};

/// The keyword that subschemas carry; no schema that arrives has it.
pub(super) const KEYWORD: &str = "cerebelum:effort";

/// The same, as the first of several alternatives: it fits no value.
pub(super) const NEVER: &str = "cerebelum:effort-of-alternatives";

/// What a check may take.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Units at once; with `cpu_max`, before the clock is looked at again.
    units: u64,
    /// The CPU time of the thread, when units alone do not end it.
    cpu_max: Option<Duration>,
    stack_bytes: usize,
}

impl Effort {
    /// So little that it may be spent on an async thread.
    pub const SMALL: Self = Self { units: INLINE_UNITS_MAX, cpu_max: None, stack_bytes: INLINE_STACK_BYTES };
    /// As much as there is, on a thread with a stack of [`Effort::THREAD_STACK_BYTES`].
    pub const FULL: Self = Self { units: LOOK_UNITS, cpu_max: Some(CHECK_CPU_MAX), stack_bytes: CHECK_STACK_BYTES };
    /// The stack of a thread that compiles schemas and checks values in full, in bytes.
    pub const THREAD_STACK_BYTES: usize = CHECK_STACK_BYTES + (8 << 20);

    /// What finding words for a mismatch may take.
    pub(super) fn of_explanation(self) -> Self {
        // Without a clock the units are all there is.
        let units = if self.cpu_max.is_some() { EXPLAIN_UNITS_MAX } else { self.units };
        Self { units, cpu_max: None, ..self }
    }

    /// Limits what this thread does until the guard is dropped.
    pub(super) fn arm(self) -> Armed {
        let until = self.cpu_max.map(|max| cpu_time() + max);
        let budget = Budget { left: self.units, until, stack_floor: here().saturating_sub(self.stack_bytes) };
        Armed(BUDGET.replace(budget))
    }
}

/// While it lives, the thread's effort is limited.
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

/// Whether this is why a check broke off.
pub(super) fn is_exhaustion(cause: &(dyn Any + Send)) -> bool {
    cause.is::<Exhausted>()
}

fn give_up() -> ! {
    // Unlike a panic this says nothing on stderr.
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
            Some(until) if cpu_time() < until => LOOK_UNITS,
            _ => give_up(),
        },
    };
    BUDGET.set(budget);
}

/// Where the stack is now; it grows downwards.
#[inline(never)]
fn here() -> usize {
    let place = 0_u8;
    std::ptr::from_ref(std::hint::black_box(&place)).addr()
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// What one subschema costs wherever it is applied: a constant, and for text a factor.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Weight {
    /// Entries of its keywords.
    pub(super) entries: u64,
    /// States of its patterns.
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

/// The keyword that fits no value.
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

/// Makes a keyword that counts the effort, and fits every value or none.
pub(super) fn keyword(weight: &Value, fits: bool) -> Box<dyn for<'i> Keyword<'i>> {
    let weight = Weight::of(weight);
    if fits { Box::new(weight) } else { Box::new(Never(weight)) }
}
