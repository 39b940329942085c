//! Translates the end of a guest into the engine's terms: its result, its failure, or the reason it was stopped.

use std::collections::HashSet;
use std::fmt;

use cerebelum_history::{Failure, InvalidJson, Json, kind};
use wasmtime::{FrameInfo, PoolConcurrencyLimitError, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::bindings::types;
use crate::host_calls::{HostCalls, cut};
use crate::limits::{BACKTRACE_FRAMES_MAX, HANDLES_MAX, HOSTCALL_BYTES_MAX, TEXT_BYTES_MAX};
use crate::{HostError, convert};

/// An exit that the host decided on. It travels as the error of a host function.
#[derive(Debug)]
pub(crate) enum GuestExit {
    /// The guest broke a rule or a limit.
    Failed(Failure),
    /// The engine cannot continue with the guest.
    HostError(HostError),
}

impl fmt::Display for GuestExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(failure) => failure.fmt(f),
            Self::HostError(trouble) => trouble.fmt(f),
        }
    }
}

impl std::error::Error for GuestExit {}

/// The guest's result, or the reason it has none.
pub(crate) fn of(
    returned: wasmtime::Result<Result<String, types::Failure>>,
    calls: &HostCalls,
) -> Result<Result<Json, Failure>, HostError> {
    match returned {
        Ok(Ok(text)) => Ok(Json::parse(text).map_err(|error| match error {
            InvalidJson::TooLarge(_) => Failure::new(kind::OUTPUT_TOO_LARGE, format!("the output: {error}")),
            InvalidJson::Malformed(_) | InvalidJson::TooDeep => {
                Failure::new(kind::INVALID_OUTPUT, format!("the output: {error}"))
            }
        })),
        Ok(Err(failure)) => Ok(Err(convert::from_failure(failure))),
        Err(error) => stopped(&error, calls).map(Err),
    }
}

/// Why a guest was stopped. Limits are not retryable: the same input would reach the same limit again, at full cost.
/// Other traps are retryable, because a fetched response may have been the cause.
pub(crate) fn stopped(error: &wasmtime::Error, calls: &HostCalls) -> Result<Failure, HostError> {
    match error.downcast_ref::<GuestExit>() {
        Some(GuestExit::HostError(trouble)) => return Err(trouble.clone()),
        Some(GuestExit::Failed(failure)) => return Ok(failure.clone()),
        None => {}
    }
    if let Some(limit) = error.downcast_ref::<PoolConcurrencyLimitError>() {
        return Err(HostError::NoRoom(limit.to_string()));
    }
    let stderr_tail = calls.stderr_tail();
    let failure = describe(error, calls, &stderr_tail);
    let told = without_advice(&stderr_tail);
    let details = (!told.is_empty()).then(|| Json::of(&serde_json::json!({ "stderr": told })));
    Ok(Failure { details, ..failure })
}

fn describe(error: &wasmtime::Error, calls: &HostCalls, stderr_tail: &str) -> Failure {
    if calls.memory_was_refused() {
        let message = with_reason("the guest needs more memory than it may have", stderr_tail);
        return Failure::new(kind::MEMORY_LIMIT, message);
    }
    if let Some(I32Exit(status)) = error.downcast_ref() {
        return Failure::retryable(
            kind::TRAP,
            with_reason(&format!("the guest exited with status {status}"), stderr_tail),
        );
    }
    let Some(trap) = error.downcast_ref::<Trap>() else {
        return describe_error(&error.root_cause().to_string(), stderr_tail);
    };
    match trap {
        Trap::StackOverflow => Failure::new(kind::STACK_OVERFLOW, "the guest's calls nest too deeply for its stack"),
        Trap::MemoryOutOfBounds if ends_a_recursion(error) => {
            Failure::new(kind::STACK_OVERFLOW, "the guest's calls nest too deeply for the stack in its memory")
        }
        Trap::AsyncDeadlock => deadlock(calls),
        trap => {
            // The panic message explains the trap; the `unreachable` instruction that ends a panic does not.
            let message = panic_of(stderr_tail)
                .unwrap_or_else(|| with_reason(trap.to_string().trim_start_matches("wasm trap: "), stderr_tail));
            Failure::retryable(kind::TRAP, message)
        }
    }
}

/// Whether an out-of-bounds memory access ended a recursion. Compilers keep variables whose address is taken on a
/// second stack. It is at the very beginning of a guest's memory and grows downwards; below zero the access ends in
/// this trap and not in [`Trap::StackOverflow`]. The trap does not report the address, but a long backtrace with few
/// distinct functions indicates a recursion.
fn ends_a_recursion(error: &wasmtime::Error) -> bool {
    const FUNCTIONS_MAX: usize = 8;
    let Some(trace) = error.downcast_ref::<WasmBacktrace>() else { return false };
    let functions: HashSet<u32> = trace.frames().iter().map(FrameInfo::func_index).collect();
    trace.frames().len() >= BACKTRACE_FRAMES_MAX && functions.len() <= FUNCTIONS_MAX
}

fn describe_error(cause: &str, stderr_tail: &str) -> Failure {
    // This error can only be recognized by its text; a test pins the text.
    if cause.starts_with("too much data is being copied") {
        let message = format!("the guest handed over more than {HOSTCALL_BYTES_MAX} bytes at once");
        return Failure::new(kind::OUTPUT_TOO_LARGE, message);
    }
    // The same: what wasmtime says when a store, or the table of resources, has no room for a further one.
    if cause.ends_with("store handle limit exceeded") || cause.contains("resource table has no free keys") {
        let message = format!("the guest holds more than {HANDLES_MAX} handles beside those of its open calls");
        return Failure::new(kind::MEMORY_LIMIT, with_reason(&message, stderr_tail));
    }
    Failure::retryable(kind::TRAP, with_reason(cause, stderr_tail))
}

/// The failure of a guest that waits without an open call.
pub(crate) fn deadlock(calls: &HostCalls) -> Failure {
    match calls.refusal() {
        Some(refusal) => Failure::new(&refusal.kind, refusal.message),
        None => Failure::new(kind::DEADLOCK, "the guest waits, but for no call that is open: nothing can wake it"),
    }
}

/// Adds the last message that the guest wrote to stderr.
fn with_reason(what: &str, stderr_tail: &str) -> String {
    let says_something = |line: &&str| !line.trim().is_empty() && !line.starts_with("note: ");
    let last_line = || stderr_tail.lines().rev().find(says_something).map(one_line);
    match panic_of(stderr_tail).or_else(last_line) {
        Some(reason) => format!("{}: {reason}", one_line(what)),
        None => one_line(what),
    }
}

/// The location and message of a Rust panic on standard error.
fn panic_of(stderr_tail: &str) -> Option<String> {
    let mut lines = stderr_tail.lines().skip_while(|line| !line.contains(" panicked at "));
    let (_, place) = lines.next()?.split_once(" panicked at ")?;
    let message: Vec<&str> = lines.take_while(|line| !line.starts_with("note: ")).collect();
    Some(one_line(&format!("panicked at {place} {}", message.join(" "))))
}

/// Removes the advice of Rust's runtime from stderr: a component has no environment in which to set `RUST_BACKTRACE`.
fn without_advice(stderr_tail: &str) -> String {
    let is_advice = |line: &&str| line.starts_with("note: run with `RUST_BACKTRACE");
    stderr_tail.split_inclusive('\n').filter(|line| !is_advice(line)).collect()
}

fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    cut(&line, TEXT_BYTES_MAX).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_one_line() {
        let stderr =
            "\nthread 'main' (1) panicked at src/lib.rs:7:9:\nno such\nserver\nnote: run with `RUST_BACKTRACE=1`\n";
        assert_eq!(panic_of(stderr).as_deref(), Some("panicked at src/lib.rs:7:9: no such server"));
        assert_eq!(without_advice(stderr), stderr.replace("note: run with `RUST_BACKTRACE=1`\n", ""));
        assert_eq!(without_advice("note: a\nb"), "note: a\nb");
        assert_eq!(panic_of("a\nValueError: b\n"), None);
        assert_eq!(with_reason("it  stopped", "a\nValueError: b\n"), "it stopped: ValueError: b");
        assert_eq!(with_reason("it stopped", ""), "it stopped");
    }
}
