//! Regular expressions in schemas. Only patterns whose matching time is linear in the text are accepted.

use jsonschema::PatternOptions;
use regex_automata::nfa::thompson::NFA;

use crate::host_calls::cut;
use crate::limits::schema::{PATTERN_BYTES_MAX, PATTERN_STATES_MAX};

/// Memory limit of one compiled pattern, in bytes. A pattern with few states needs less.
const PATTERN_MEMORY_BYTES: usize = 4 << 20;

/// Options for the regex engine that does not backtrack.
pub(super) fn options() -> PatternOptions<jsonschema::Regex> {
    PatternOptions::regex().size_limit(PATTERN_MEMORY_BYTES).dfa_size_limit(PATTERN_MEMORY_BYTES)
}

/// The number of states of a pattern. The error is one line about it.
pub(super) fn states(pattern: &str) -> Result<u64, String> {
    let refused = |why: &str| format!("its pattern `{}` {why}", cut(pattern, 60).escape_debug());
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(refused(&format!("has {} bytes where at most {PATTERN_BYTES_MAX} are accepted", pattern.len())));
    }
    let too_many = || {
        refused(&format!(
            "has more than {PATTERN_STATES_MAX} states: repeat fewer times, or say it with `minLength` and `maxLength`"
        ))
    };
    let translated = jsonschema_regex::to_rust_regex(pattern);
    let translated = translated.map_err(|()| refused("is not a regular expression"))?;
    // Memory grows with the number of states. Without this limit `(.{1000}){1000}` would be built before its states are
    // counted.
    let limited = NFA::config().nfa_size_limit(Some(PATTERN_MEMORY_BYTES / 8));
    match NFA::compiler().configure(limited).build(&translated) {
        Ok(nfa) if nfa.states().len() as u64 > PATTERN_STATES_MAX => Err(too_many()),
        Ok(nfa) => Ok(nfa.states().len() as u64),
        Err(error) if error.size_limit().is_some() => Err(too_many()),
        Err(_) => Err(refused("is not accepted: look-around and back-references take time without bound")),
    }
}
