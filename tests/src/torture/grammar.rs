//! What every history must be, whatever the program: calls begin before they end, end once, and nothing moves in a scope
//! that is over.

use std::collections::BTreeMap;

use cerebelum_history::{CallName, Event, Fact, Scope, Timestamp};

/// A call, as far as the history has come.
struct Call {
    is_open: bool,
    /// When it may end at the earliest.
    not_before: Timestamp,
    ended_at: usize,
}

/// What an event does to a call.
enum Part {
    Begins { lasts_ms: u64 },
    Retries,
    Ends,
    Stands,
}

/// The first law that this run of an execution breaks, if any.
pub(crate) fn broken_law(events: &[Event]) -> Option<String> {
    let mut calls: BTreeMap<CallName, Call> = BTreeMap::new();
    let mut ended: Option<&Fact> = None;
    let mut last = Timestamp(0);
    for (index, event) in events.iter().enumerate() {
        let say = |what: &str| Some(format!("position {}: {what}: {}", index + 1, Event::encode([event])));
        if event.at < last {
            return say("time goes back");
        }
        last = event.at;
        if (index == 0) != matches!(event.fact, Fact::ExecutionStarted { .. }) {
            return say("a history begins with ExecutionStarted, once");
        }
        match (&event.fact, ended) {
            (Fact::ExecutionReopened { ordinal }, Some(Fact::ExecutionFailed { .. })) => {
                reopen(&mut calls, *ordinal);
                ended = None;
            }
            (_, Some(_)) => return say("something happened after the end"),
            (fact, None) if is_end(fact) => ended = Some(fact),
            (_, None) => {}
        }
        let Some((ordinal, part)) = part_of(&event.fact) else { continue };
        if event.scope.call().is_some_and(|outer| calls.get(&outer).is_none_or(|outer| !outer.is_open)) {
            return say("something happened in a scope that is not open");
        }
        let name = CallName { scope: event.scope.clone(), ordinal };
        let known = calls.get_mut(&name).filter(|call| call.is_open || !matches!(part, Part::Stands));
        match (part, known) {
            (Part::Begins { lasts_ms }, None) => {
                calls.insert(name, Call { is_open: true, not_before: event.at.plus(lasts_ms), ended_at: 0 });
            }
            (Part::Begins { .. }, Some(_)) => return say("a call began twice"),
            (Part::Ends, Some(call)) if call.is_open => {
                if event.at < call.not_before && matches!(event.fact, Fact::SleepCompleted { .. }) {
                    return say("a sleep ended too early");
                }
                (call.is_open, call.ended_at) = (false, index);
            }
            (Part::Retries, Some(call)) if call.is_open => forget_inside(&mut calls, &name.step_scope()),
            (Part::Ends | Part::Retries, _) => return say("an outcome of a call that is not open"),
            (Part::Stands, _) => {}
        }
    }
    None
}

fn is_end(fact: &Fact) -> bool {
    matches!(
        fact,
        Fact::ExecutionCompleted { .. }
            | Fact::ExecutionFailed { .. }
            | Fact::ExecutionCancelled { .. }
            | Fact::ExecutionContinued { .. }
    )
}

/// A call of the workflow will begin anew, and what followed its outcome did not happen.
fn reopen(calls: &mut BTreeMap<CallName, Call>, ordinal: u32) {
    let name = CallName { scope: Scope::root(), ordinal };
    forget_inside(calls, &name.step_scope());
    let Some(ended_at) = calls.get(&name).map(|call| call.ended_at) else { return };
    calls.retain(|_, call| call.is_open || call.ended_at < ended_at);
}

fn forget_inside(calls: &mut BTreeMap<CallName, Call>, scope: &Scope) {
    calls.retain(|name, _| !name.scope.is_within(scope));
}

/// Which call an event is about, and what it does to it.
fn part_of(fact: &Fact) -> Option<(u32, Part)> {
    let begins = Part::Begins { lasts_ms: 0 };
    Some(match fact {
        Fact::StepStarted { ordinal, .. }
        | Fact::PollStarted { ordinal, .. }
        | Fact::ApprovalRequested { ordinal, .. }
        | Fact::SignalAwaited { ordinal, .. }
        | Fact::FetchStarted { ordinal, .. }
        | Fact::ChildStarted { ordinal, .. } => (*ordinal, begins),
        Fact::SleepStarted { ordinal, duration_ms } => (*ordinal, Part::Begins { lasts_ms: *duration_ms }),
        Fact::StepRetried { ordinal, .. } => (*ordinal, Part::Retries),
        Fact::StepCompleted { ordinal, .. }
        | Fact::StepFailed { ordinal, .. }
        | Fact::SleepCompleted { ordinal }
        | Fact::PollCompleted { ordinal, .. }
        | Fact::PollFailed { ordinal, .. }
        | Fact::ApprovalReceived { ordinal, .. }
        | Fact::ApprovalRejected { ordinal, .. }
        | Fact::ApprovalTimedOut { ordinal }
        | Fact::SignalReceived { ordinal, .. }
        | Fact::SignalTimedOut { ordinal }
        | Fact::FetchCompleted { ordinal, .. }
        | Fact::FetchFailed { ordinal, .. }
        | Fact::ChildAccepted { ordinal, .. }
        | Fact::ChildCompleted { ordinal, .. }
        | Fact::ChildFailed { ordinal, .. }
        | Fact::CallCancelled { ordinal, .. } => (*ordinal, Part::Ends),
        Fact::AttributeSet { ordinal, .. } | Fact::CallRefused { ordinal, .. } => (*ordinal, Part::Stands),
        Fact::ExecutionStarted { .. }
        | Fact::ExecutionCompleted { .. }
        | Fact::ExecutionFailed { .. }
        | Fact::ExecutionCancelled { .. }
        | Fact::ExecutionContinued { .. }
        | Fact::CancelRequested { .. }
        | Fact::ExecutionPaused
        | Fact::ExecutionResumed
        | Fact::ExecutionReopened { .. }
        | Fact::ExecutionParked { .. } => return None,
    })
}

/// Whether an event is still what it was: a finished step's values may be gone, nothing else may change.
pub(crate) fn is_still(before: &Event, after: &Event) -> bool {
    before == after
        || (before.at, &before.scope) == (after.at, &after.scope) && before.fact.clone().without_values() == after.fact
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(facts: Vec<(u64, &str, Fact)>) -> Vec<Event> {
        let event = |(at, scope, fact)| Event { at: Timestamp(at), scope: Scope::from_text(scope), fact };
        facts.into_iter().map(event).collect()
    }

    fn started() -> (u64, &'static str, Fact) {
        let input = cerebelum_history::Json::null();
        (1, "", Fact::ExecutionStarted { workflow: "w".into(), input, rules: 1 })
    }

    #[test]
    fn each_broken_law_is_seen() {
        let sleep = |at, ordinal| (at, "", Fact::SleepStarted { ordinal, duration_ms: 10 });
        let slept = |at, ordinal| (at, "", Fact::SleepCompleted { ordinal });
        let lawful = history(vec![started(), sleep(2, 1), slept(12, 1)]);
        assert_eq!(broken_law(&lawful), None);
        let end = || (12, "", Fact::ExecutionCompleted { output: cerebelum_history::Json::null() });
        let cases = [
            (vec![started(), sleep(2, 1), slept(11, 1)], "too early"),
            (vec![started(), sleep(2, 1), sleep(2, 1)], "began twice"),
            (vec![started(), sleep(2, 1), slept(12, 1), slept(12, 1)], "not open"),
            (vec![started(), slept(12, 1)], "not open"),
            (vec![started(), sleep(2, 1), slept(1, 1)], "back"),
            (vec![started(), end(), sleep(13, 1)], "after the end"),
            (vec![started(), started()], "once"),
            (vec![started(), (3, "1", Fact::SleepStarted { ordinal: 1, duration_ms: 1 })], "scope that is not open"),
        ];
        for (facts, why) in cases {
            let said = broken_law(&history(facts)).unwrap_or_default();
            assert!(said.contains(why), "`{said}` should speak of `{why}`");
        }
    }
}
