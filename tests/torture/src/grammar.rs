//! Laws of every history, whatever the program: calls begin before they end, they end once, and nothing moves in a
//! scope that is over.

use std::collections::BTreeMap;

use cerebelum_history::{CallName, Event, EventData, Scope, Timestamp};

/// The state of a call at a point of the history.
struct Call {
    is_open: bool,
    /// The earliest time at which it may end.
    not_before: Timestamp,
    ended_at: usize,
}

/// The effect of an event on a call.
enum Part {
    Begins { lasts_ms: u64 },
    Retries,
    Ends,
    Stands,
}

/// The first law that this run of an execution breaks, if any.
pub(crate) fn broken_law(events: &[Event]) -> Option<String> {
    let mut calls: BTreeMap<CallName, Call> = BTreeMap::new();
    let mut ended: Option<&EventData> = None;
    let mut last = Timestamp(0);
    for (index, event) in events.iter().enumerate() {
        let say = |what: &str| Some(format!("position {}: {what}: {}", index + 1, Event::encode([event])));
        if event.at < last {
            return say("time goes back");
        }
        last = event.at;
        if (index == 0) != matches!(event.data, EventData::ExecutionStarted { .. }) {
            return say("a history begins with ExecutionStarted, once");
        }
        match (&event.data, ended) {
            (EventData::ExecutionReopened { ordinal }, Some(EventData::ExecutionFailed { .. })) => {
                reopen(&mut calls, *ordinal);
                ended = None;
            }
            (_, Some(_)) => return say("something happened after the end"),
            (data, None) if is_end(data) => ended = Some(data),
            (_, None) => {}
        }
        let Some((ordinal, part)) = part_of(&event.data) else { continue };
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
                if event.at < call.not_before && matches!(event.data, EventData::SleepCompleted { .. }) {
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

fn is_end(data: &EventData) -> bool {
    matches!(
        data,
        EventData::ExecutionCompleted { .. }
            | EventData::ExecutionFailed { .. }
            | EventData::ExecutionCancelled { .. }
            | EventData::ExecutionContinued { .. }
    )
}

/// Opens a call of the workflow again, and undoes everything that followed its outcome.
fn reopen(calls: &mut BTreeMap<CallName, Call>, ordinal: u32) {
    let name = CallName { scope: Scope::root(), ordinal };
    forget_inside(calls, &name.step_scope());
    let Some(ended_at) = calls.get(&name).map(|call| call.ended_at) else { return };
    calls.retain(|_, call| call.is_open || call.ended_at < ended_at);
}

fn forget_inside(calls: &mut BTreeMap<CallName, Call>, scope: &Scope) {
    calls.retain(|name, _| !name.scope.is_within(scope));
}

/// The call of an event, and the effect on it.
fn part_of(data: &EventData) -> Option<(u32, Part)> {
    let begins = Part::Begins { lasts_ms: 0 };
    Some(match data {
        EventData::StepStarted { ordinal, .. }
        | EventData::PollStarted { ordinal, .. }
        | EventData::ApprovalRequested { ordinal, .. }
        | EventData::SignalAwaited { ordinal, .. }
        | EventData::FetchStarted { ordinal, .. }
        | EventData::ChildStarted { ordinal, .. } => (*ordinal, begins),
        EventData::SleepStarted { ordinal, duration_ms } => (*ordinal, Part::Begins { lasts_ms: *duration_ms }),
        EventData::StepRetried { ordinal, .. } => (*ordinal, Part::Retries),
        EventData::StepCompleted { ordinal, .. }
        | EventData::StepFailed { ordinal, .. }
        | EventData::SleepCompleted { ordinal }
        | EventData::PollCompleted { ordinal, .. }
        | EventData::PollFailed { ordinal, .. }
        | EventData::ApprovalReceived { ordinal, .. }
        | EventData::ApprovalRejected { ordinal, .. }
        | EventData::ApprovalTimedOut { ordinal }
        | EventData::SignalReceived { ordinal, .. }
        | EventData::SignalTimedOut { ordinal }
        | EventData::FetchCompleted { ordinal, .. }
        | EventData::FetchFailed { ordinal, .. }
        | EventData::ChildAccepted { ordinal, .. }
        | EventData::ChildCompleted { ordinal, .. }
        | EventData::ChildFailed { ordinal, .. }
        | EventData::CallCancelled { ordinal, .. } => (*ordinal, Part::Ends),
        EventData::AttributeSet { ordinal, .. } | EventData::CallRefused { ordinal, .. } => (*ordinal, Part::Stands),
        EventData::ExecutionStarted { .. }
        | EventData::ExecutionCompleted { .. }
        | EventData::ExecutionFailed { .. }
        | EventData::ExecutionCancelled { .. }
        | EventData::ExecutionContinued { .. }
        | EventData::CancelRequested { .. }
        | EventData::ExecutionPaused
        | EventData::ExecutionResumed
        | EventData::ExecutionReopened { .. }
        | EventData::ExecutionParked { .. } => return None,
    })
}

/// Whether an event is unchanged: a finished step's values may be gone, but nothing else may change.
pub(crate) fn is_still(before: &Event, after: &Event) -> bool {
    before == after
        || (before.at, &before.scope) == (after.at, &after.scope) && before.data.clone().without_values() == after.data
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(options: Vec<(u64, &str, EventData)>) -> Vec<Event> {
        let event = |(at, scope, data)| Event { at: Timestamp(at), scope: Scope::from_text(scope), data };
        options.into_iter().map(event).collect()
    }

    fn started() -> (u64, &'static str, EventData) {
        let input = cerebelum_history::Json::null();
        (1, "", EventData::ExecutionStarted { workflow: "w".into(), input, rules: 1 })
    }

    #[test]
    fn each_broken_law_is_seen() {
        let sleep = |at, ordinal| (at, "", EventData::SleepStarted { ordinal, duration_ms: 10 });
        let slept = |at, ordinal| (at, "", EventData::SleepCompleted { ordinal });
        let lawful = history(vec![started(), sleep(2, 1), slept(12, 1)]);
        assert_eq!(broken_law(&lawful), None);
        let end = || (12, "", EventData::ExecutionCompleted { output: cerebelum_history::Json::null() });
        let cases = [
            (vec![started(), sleep(2, 1), slept(11, 1)], "too early"),
            (vec![started(), sleep(2, 1), sleep(2, 1)], "began twice"),
            (vec![started(), sleep(2, 1), slept(12, 1), slept(12, 1)], "not open"),
            (vec![started(), slept(12, 1)], "not open"),
            (vec![started(), sleep(2, 1), slept(1, 1)], "back"),
            (vec![started(), end(), sleep(13, 1)], "after the end"),
            (vec![started(), started()], "once"),
            (
                vec![started(), (3, "1", EventData::SleepStarted { ordinal: 1, duration_ms: 1 })],
                "scope that is not open",
            ),
        ];
        for (options, why) in cases {
            let said = broken_law(&history(options)).unwrap_or_default();
            assert!(said.contains(why), "`{said}` should speak of `{why}`");
        }
    }
}
