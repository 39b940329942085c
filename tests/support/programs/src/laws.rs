//! Laws of every history, whatever the program: calls begin before they end, they end once, and nothing moves in a
//! scope that is over.

use std::collections::BTreeMap;

use cerebelum_history::{CallName, Cause, Event, EventData, Scope, Timestamp};

/// The state of a call at a point of the history.
struct Call {
    /// The earliest time at which it may end.
    not_before: Timestamp,
    ended: Option<Ended>,
}

/// How a call ended, and the index of the event that says so.
struct Ended {
    at: usize,
    /// Why it was cancelled; none if it ended by itself.
    cancelled: Option<Cause>,
}

/// The calls of a history up to a point.
#[derive(Default)]
struct Calls {
    known: BTreeMap<CallName, Call>,
    /// Where calls of the workflow began: the event's index, and the ordinal.
    begun: Vec<(usize, u32)>,
}

/// The effect of an event on a call.
enum Part {
    Begins { lasts_ms: u64 },
    Retries,
    Ends { cancelled: Option<Cause> },
    Stands,
}

/// The first law that this run of an execution breaks, if any.
#[must_use]
pub fn broken_law(events: &[Event]) -> Option<String> {
    follow(events).err()
}

/// The first law that the history of an execution breaks which is over, if any: besides the others, nothing is open and
/// finished steps hold no values.
#[must_use]
pub fn broken_law_at_the_end(events: &[Event]) -> Option<String> {
    let calls = match follow(events) {
        Ok(calls) => calls,
        Err(broken) => return Some(broken),
    };
    if let Some((name, _)) = calls.known.iter().find(|(_, call)| call.ended.is_none()) {
        return Some(format!("call {name} is open after the end"));
    }
    let holds_a_value =
        |event: &&Event| event.scope.call().is_some() && event.data != event.data.clone().without_values();
    events.iter().find(holds_a_value).map(|event| format!("a finished step holds a value: {}", Event::encode([event])))
}

/// Goes through a history, event by event.
///
/// # Errors
/// The first law that it breaks.
fn follow(events: &[Event]) -> Result<Calls, String> {
    let mut calls = Calls::default();
    let mut ended: Option<&EventData> = None;
    let mut last = Timestamp(0);
    for (index, event) in events.iter().enumerate() {
        let say = |what: &str| Err(format!("position {}: {what}: {}", index + 1, Event::encode([event])));
        if event.at < last {
            return say("time goes back");
        }
        last = event.at;
        if (index == 0) != matches!(event.data, EventData::ExecutionStarted { .. }) {
            return say("a history begins with ExecutionStarted, once");
        }
        match (&event.data, ended) {
            (EventData::ExecutionReopened { ordinal }, Some(EventData::ExecutionFailed { .. })) => {
                calls.reopen(*ordinal);
                ended = None;
            }
            (_, Some(_)) => return say("something happened after the end"),
            (data, None) if data.end().is_some() => ended = Some(data),
            (_, None) => {}
        }
        let Some((ordinal, part)) = part_of(&event.data) else { continue };
        if event.scope.call().is_some_and(|outer| calls.known.get(&outer).is_none_or(|outer| outer.ended.is_some())) {
            return say("something happened in a scope that is not open");
        }
        let name = CallName { scope: event.scope.clone(), ordinal };
        match (part, calls.known.get_mut(&name)) {
            (Part::Begins { lasts_ms }, None) => calls.begin(name, event.at.plus(lasts_ms), index),
            (Part::Begins { .. }, Some(_)) => return say("a call began twice"),
            (Part::Ends { cancelled }, Some(call)) if call.ended.is_none() => {
                if event.at < call.not_before && matches!(event.data, EventData::SleepCompleted { .. }) {
                    return say("a sleep ended too early");
                }
                call.ended = Some(Ended { at: index, cancelled });
            }
            (Part::Retries, Some(call)) if call.ended.is_none() => calls.forget_inside(&name.step_scope()),
            (Part::Ends { .. } | Part::Retries, _) => return say("an outcome of a call that is not open"),
            (Part::Stands, _) => {}
        }
    }
    Ok(calls)
}

impl Calls {
    fn begin(&mut self, name: CallName, not_before: Timestamp, index: usize) {
        if name.scope.is_root() {
            self.begun.push((index, name.ordinal));
        }
        // The next beginning of a step does not include the events before the execution failed.
        self.forget_inside(&name.step_scope());
        self.known.insert(name, Call { not_before, ended: None });
    }

    /// Opens a call of the workflow again (0: none). What followed its outcome is undone, except that calls which had
    /// begun before and ended by themselves keep their outcomes. Calls that were cut off begin anew.
    fn reopen(&mut self, ordinal: u32) {
        let name = CallName { scope: Scope::root(), ordinal };
        let told = self.known.get(&name).and_then(|call| call.ended.as_ref()).map_or(usize::MAX, |ended| ended.at);
        let before = self.begun.iter().filter(|(index, _)| *index < told);
        let asked = before.map(|(_, ordinal)| *ordinal).max().unwrap_or_default();
        self.begun.retain(|(_, ordinal)| *ordinal <= asked);
        self.known.retain(|name, call| {
            let stays = match &call.ended {
                Some(Ended { at, cancelled: None }) => *at != told && name.ordinal <= asked,
                Some(Ended { at, cancelled: Some(cause) }) => *at < told && *cause != Cause::ScopeEnded,
                None => false,
            };
            stays || !name.scope.is_root()
        });
    }

    fn forget_inside(&mut self, scope: &Scope) {
        self.known.retain(|name, _| !name.scope.is_within(scope));
    }
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
        | EventData::ChildFailed { ordinal, .. } => (*ordinal, Part::Ends { cancelled: None }),
        EventData::CallCancelled { ordinal, cause } => (*ordinal, Part::Ends { cancelled: Some(*cause) }),
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
#[must_use]
pub fn is_still(before: &Event, after: &Event) -> bool {
    before == after
        || (before.at, &before.scope) == (after.at, &after.scope) && before.data.clone().without_values() == after.data
}

/// Checks the history of an execution that is over.
///
/// # Panics
/// If it breaks a law.
pub fn audit(history: &[Event]) {
    assert_eq!(broken_law_at_the_end(history), None, "{history:#?}");
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
        assert_eq!((broken_law(&lawful), broken_law_at_the_end(&lawful)), (None, None));
        let open = broken_law_at_the_end(&lawful[..2]).unwrap();
        assert!(open.contains("is open after the end"), "{open}");
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

    #[test]
    fn what_a_reopening_undoes_begins_anew_and_what_it_keeps_does_not() {
        let sleep = |at, ordinal| (at, "", EventData::SleepStarted { ordinal, duration_ms: 1 });
        let slept = |at, ordinal| (at, "", EventData::SleepCompleted { ordinal });
        let failure = || cerebelum_history::Failure::new("x", "x");
        let fetch = |at, ordinal| (at, "", EventData::SignalAwaited { ordinal, name: "s".into(), timeout_ms: None });
        let told = |at, ordinal| (at, "", EventData::SignalTimedOut { ordinal });
        let cut = |at, ordinal| (at, "", EventData::CallCancelled { ordinal, cause: Cause::ScopeEnded });
        let failed = |at| (at, "", EventData::ExecutionFailed { failure: failure() });
        let reopened = |at, ordinal| (at, "", EventData::ExecutionReopened { ordinal });
        let before =
            || vec![started(), fetch(2, 1), sleep(2, 2), sleep(2, 3), told(4, 1), slept(4, 2), cut(5, 3), failed(5)];
        let then = |more: Vec<(u64, &'static str, EventData)>| broken_law(&history([before(), more].concat()));
        assert_eq!(then(vec![reopened(6, 1), fetch(7, 1), sleep(7, 3), told(8, 1)]), None);
        assert!(then(vec![reopened(6, 1), sleep(7, 2)]).is_some_and(|why| why.contains("began twice")));
        assert!(then(vec![reopened(6, 0), fetch(7, 1)]).is_some_and(|why| why.contains("began twice")));
        assert_eq!(then(vec![reopened(6, 0), sleep(7, 3), slept(8, 3)]), None);
    }
}
