//! Idempotency keys and random seeds (L3): functions of the recorded seed and of names. No name has a position in it but
//! the id of a child that a step awaits.

use std::fmt;

use crate::{CallName, ExecutionId, Scope};

/// The secret from which all keys and random numbers of an execution derive. It is never shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seed(pub [u8; 32]);

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed(…)")
    }
}

impl Seed {
    /// The default `Idempotency-Key` of a call. It is the same for every retry and rerun, and differs for every run and
    /// every round of a poll.
    #[must_use]
    pub fn call_key(&self, run: u32, call: &CallName) -> String {
        self.key(&format!("call {run} {} {}", call.scope, call.ordinal))
    }

    /// The key of a whole scope, `ctx.idempotency_key`.
    #[must_use]
    pub fn scope_key(&self, run: u32, scope: &Scope) -> String {
        self.key(&format!("scope {run} {scope}"))
    }

    /// The seed of a scope's random numbers. It differs for every attempt.
    #[must_use]
    pub fn random(&self, run: u32, scope: &Scope, attempt: u32) -> [u8; 32] {
        *blake3::keyed_hash(&self.0, format!("random {run} {scope} {attempt}").as_bytes()).as_bytes()
    }

    /// The seed of the execution that this call starts. It too is a function of names, so that a child that is started
    /// again (by an engine on a restored backup, say) gives its effects the same keys. The child's id is one of the
    /// names: a retried step starts another child, and the requests of that child are different requests.
    #[must_use]
    pub fn child(&self, run: u32, call: &CallName, id: &ExecutionId) -> Self {
        let names = format!("child {run} {} {} {id}", call.scope, call.ordinal);
        Self(*blake3::keyed_hash(&self.0, names.as_bytes()).as_bytes())
    }

    /// The id of a trace of a run. A run has several when it waits for long or does much.
    #[must_use]
    pub fn trace_id(&self, run: u32, segment: u32) -> [u8; 16] {
        self.first_bytes(&format!("trace {run} {segment}"))
    }

    /// The id of a run's span with this name.
    #[must_use]
    pub fn span_id(&self, run: u32, name: fmt::Arguments<'_>) -> [u8; 8] {
        self.first_bytes(&format!("span {run} {name}"))
    }

    fn first_bytes<const BYTES: usize>(&self, of: &str) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes.copy_from_slice(&blake3::keyed_hash(&self.0, of.as_bytes()).as_bytes()[..BYTES]);
        bytes
    }

    fn key(&self, of: &str) -> String {
        blake3::keyed_hash(&self.0, of.as_bytes()).to_hex()[..32].to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l03_keys_differ_by_run_round_scope_and_ordinal_and_by_nothing_else() {
        let seed = Seed([7; 32]);
        let key = |run, scope: &str, ordinal| seed.call_key(run, &CallName { scope: Scope::from_text(scope), ordinal });
        let keys = [key(1, "", 1), key(2, "", 1), key(1, "1", 1), key(1, "", 2), key(1, "1#1", 1), key(1, "1#2", 1)];
        let distinct: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
        assert_eq!(key(1, "3.1", 2), key(1, "3.1", 2));
        assert_eq!(keys[0].len(), 32);
        let ids = [
            (seed.trace_id(1, 0), seed.span_id(1, format_args!("end 0"))),
            (seed.trace_id(1, 1), seed.span_id(1, format_args!("end 1"))),
            (seed.trace_id(2, 0), seed.span_id(2, format_args!("end 0"))),
            (Seed([8; 32]).trace_id(1, 0), Seed([8; 32]).span_id(1, format_args!("end 0"))),
        ];
        let traces: std::collections::HashSet<_> = ids.iter().map(|(trace, _)| trace).collect();
        let spans: std::collections::HashSet<_> = ids.iter().map(|(_, span)| span).collect();
        assert_eq!((traces.len(), spans.len(), seed.trace_id(1, 0)), (ids.len(), ids.len(), ids[0].0));
        let (id, other): (ExecutionId, ExecutionId) = ("e".parse().unwrap(), "f".parse().unwrap());
        let call = |scope: &str, ordinal| CallName { scope: Scope::from_text(scope), ordinal };
        let child = |run, scope: &str, ordinal| seed.child(run, &call(scope, ordinal), &id).0;
        let children = [
            child(1, "", 1),
            child(2, "", 1),
            child(1, "1", 1),
            child(1, "", 2),
            child(1, "1#1", 1),
            child(1, "1#2", 1),
            seed.child(1, &call("", 1), &other).0,
        ];
        let distinct: std::collections::HashSet<_> = children.iter().chain([&seed.0]).collect();
        assert_eq!((distinct.len(), child(1, "3.1", 2)), (children.len() + 1, child(1, "3.1", 2)));
    }
}
