//! Requests: those that the outside world saw, and those that it should have seen according to the histories.

use std::collections::BTreeMap;

use cerebelum_history::{CallName, CallPhase, Event, EventData, Timestamp};
use serde::Deserialize;
use serde_json::Value;

use super::rows::Stored;

/// How far the engine's clock, measured through a database, may be from the outside world's, which is the same
/// machine's.
const CLOCKS_APART_MS_MAX: u64 = 100;

/// A request in the outside world's ledger.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Seen {
    pub(crate) number: u64,
    pub(crate) time_ms: u64,
    #[serde(default)]
    pub(crate) world: String,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) body: String,
}

impl Seen {
    pub(crate) fn of(entry: Value) -> anyhow::Result<Self> {
        Ok(serde_json::from_value(entry)?)
    }

    /// The parts that a repeated request has to repeat.
    pub(crate) fn content(&self) -> (&str, &str, &str, &str, &str) {
        (&self.world, &self.method, &self.path, &self.query, &self.body)
    }
}

/// The record of one idempotency key in a history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// The call and its run.
    pub(crate) call: String,
    /// The time at which the request was first to leave, by the history.
    pub(crate) since: Timestamp,
    /// How often it was to leave: once, and once more for each retry of its step.
    pub(crate) begun: u64,
    /// The number of recorded answers.
    pub(crate) answered: u64,
    /// The number of recorded ends without an answer.
    pub(crate) failed: u64,
}

impl Tally {
    /// Whether a request may be under way.
    pub(crate) const fn is_open(&self) -> bool {
        self.begun > self.answered + self.failed
    }
}

/// How often a key was seen in one life of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sightings {
    pub(crate) count: u64,
    /// The time of the first one, by the outside world's clock.
    pub(crate) first_ms: u64,
}

/// The records of all keys in the stored history of an execution.
pub(crate) fn tallies(stored: &Stored) -> BTreeMap<String, Tally> {
    let mut tallies = BTreeMap::new();
    for (run, events) in &stored.runs {
        for event in events {
            note(&mut tallies, stored, (*run, event));
        }
        for name in events.iter().filter_map(poll) {
            note_poll(&mut tallies, stored, (*run, events, &name));
        }
    }
    tallies
}

fn poll(event: &Event) -> Option<CallName> {
    match event.data {
        EventData::PollStarted { ordinal, .. } => Some(CallName { scope: event.scope.clone(), ordinal }),
        _ => None,
    }
}

fn note(tallies: &mut BTreeMap<String, Tally>, stored: &Stored, (run, event): (u32, &Event)) {
    let (ordinal, begun, answered, failed) = match event.data {
        EventData::FetchStarted { ordinal, .. } => (ordinal, 1, 0, 0),
        EventData::FetchCompleted { ordinal, .. } => (ordinal, 0, 1, 0),
        EventData::FetchFailed { ordinal, .. } => (ordinal, 0, 0, 1),
        _ => return,
    };
    let name = CallName { scope: event.scope.clone(), ordinal };
    let call = format!("{} run {run} call {name}", stored.id);
    let new = || Tally { call, since: event.at, ..Tally::default() };
    let tally = tallies.entry(stored.seed.call_key(run, &name)).or_insert_with(new);
    tally.begun += begun;
    tally.answered += answered;
    tally.failed += failed;
}

/// A poll's rounds are not in the history: finished rounds made one request each, and the current one has a journal.
fn note_poll(tallies: &mut BTreeMap<String, Tally>, stored: &Stored, (run, events, name): (u32, &[Event], &CallName)) {
    let open = stored.calls.get(name).filter(|_| run == stored.run).map(|call| &call.phase);
    let rounds = match open {
        Some(CallPhase::Poll(open)) => {
            for event in &open.journal {
                note(tallies, stored, (run, event));
            }
            open.round - 1
        }
        _ => events.iter().find_map(|event| rounds_of(event, name)).unwrap_or_default(),
    };
    for round in 1..=rounds {
        let name = CallName { scope: name.round_scope(round), ordinal: 1 };
        let call = format!("{} run {run} call {name}", stored.id);
        // The time of a finished round's request is not kept, but it is not before the run began.
        let since = events.first().map_or(Timestamp(0), |event| event.at);
        let tally = Tally { call, since, begun: 1, answered: 1, failed: 0 };
        tallies.insert(stored.seed.call_key(run, &name), tally);
    }
}

fn rounds_of(event: &Event, name: &CallName) -> Option<u32> {
    match event.data {
        EventData::PollCompleted { ordinal, attempts, .. } | EventData::PollFailed { ordinal, attempts, .. }
            if ordinal == name.ordinal && event.scope == name.scope =>
        {
            Some(attempts)
        }
        _ => None,
    }
}

/// Compares one life of the engine: how often each key was seen in it with what the histories before and after say.
///
/// A request whose answer was recorded before is not sent again, and a request whose answer is recorded after was sent.
/// No request was sent whose cause is not durable, or before its time. The database's time may have drifted by
/// `drift_ms` from the outside world's.
pub(crate) fn broken_law(
    before: &BTreeMap<String, Tally>,
    after: &BTreeMap<String, Tally>,
    seen: &BTreeMap<String, Sightings>,
    drift_ms: u64,
) -> Option<String> {
    let nothing = Tally::default();
    if let Some(key) = seen.keys().find(|key| !after.contains_key(*key)) {
        return Some(format!("a request left whose cause is not durable: key {key}"));
    }
    for (key, now) in after {
        let (then, first_ms) = (before.get(key).unwrap_or(&nothing), seen.get(key).map(|seen| seen.first_ms));
        let seen = seen.get(key).map_or(0, |seen| seen.count);
        let most = now.begun.saturating_sub(then.answered + then.failed);
        let least = now.answered.saturating_sub(then.answered);
        if first_ms.is_some_and(|first_ms| first_ms + CLOCKS_APART_MS_MAX + drift_ms < now.since.0) {
            return Some(format!("{}: asked for at {first_ms:?} and not to leave before {}", now.call, now.since.0));
        }
        if seen > most {
            return Some(format!(
                "{}: asked for {seen} times in one life, at most {most} were to leave; recorded before: {then:?}, after: {now:?}",
                now.call
            ));
        }
        if seen < least {
            return Some(format!("{}: {least} answers were recorded in one life and {seen} requests seen", now.call));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(begun: u64, answered: u64) -> BTreeMap<String, Tally> {
        let call = "c".to_owned();
        [("k".to_owned(), Tally { call, since: Timestamp(5_000), begun, answered, failed: 0 })].into()
    }

    fn sightings(count: u64, first_ms: u64) -> BTreeMap<String, Sightings> {
        if count == 0 { BTreeMap::new() } else { [("k".to_owned(), Sightings { count, first_ms })].into() }
    }

    #[test]
    fn what_was_recorded_is_not_asked_for_again_and_what_is_recorded_was_asked_for() {
        let law = |before: (u64, u64), after: (u64, u64), seen: u64| {
            broken_law(&tally(before.0, before.1), &tally(after.0, after.1), &sightings(seen, 5_001), 0)
        };
        assert_eq!(law((1, 0), (1, 1), 1), None, "open, and answered in this life");
        assert_eq!(law((1, 0), (1, 0), 1), None, "sent and not recorded once more");
        assert_eq!(law((1, 1), (2, 2), 1), None, "a retry of the step");
        assert_eq!(law((0, 0), (1, 0), 0), None, "durable, and not sent yet");
        assert!(law((1, 1), (1, 1), 1).is_some(), "recorded, and asked for again");
        assert!(law((0, 0), (1, 1), 2).is_some(), "asked for twice without a kill between");
        assert!(law((0, 0), (1, 1), 0).is_some(), "an answer to nothing");
        let nothing = BTreeMap::new();
        assert!(broken_law(&nothing, &nothing, &sightings(1, 5_001), 0).is_some(), "nothing durable asked for it");
        let early = |drift_ms| broken_law(&tally(0, 0), &tally(1, 1), &sightings(1, 4_800), drift_ms);
        assert!(early(99).is_some_and(|why| why.contains("not to leave before")), "before its time");
        assert_eq!(early(100), None, "the clocks may be so far apart");
    }
}
