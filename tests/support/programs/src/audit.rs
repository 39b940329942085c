//! Properties that must hold of every history.

use std::collections::BTreeMap;

use cerebelum_history::{Event, EventData, Scope};

/// Checks that nothing is recorded or told twice, that nothing stays open, and that finished steps hold no values.
///
/// # Panics
/// If the history lacks one of these properties.
pub fn audit(history: &[Event]) {
    let mut calls: BTreeMap<Scope, BTreeMap<u32, bool>> = BTreeMap::new();
    for (event, position) in history.iter().zip(1..) {
        let (scope, data) = (&event.scope, &event.data);
        let Some(ordinal) = data.ordinal() else { continue };
        let call = cerebelum_history::CallName { scope: scope.clone(), ordinal };
        let begins_anew = |calls: &mut BTreeMap<Scope, BTreeMap<u32, bool>>| {
            calls.retain(|inner, _| !inner.is_within(&call.step_scope()));
        };
        if let Some(parent) = scope.call() {
            assert!(calls[&parent.scope][&parent.ordinal], "{position}: {data:?} in `{scope}`, which has ended");
            assert_eq!(*data, data.clone().without_values(), "{position}: a finished step holds a value");
        }
        let known = calls.entry(scope.clone()).or_default();
        match data {
            EventData::ExecutionReopened { .. } => drop(calls.remove(&Scope::root())),
            EventData::StepRetried { .. } => {
                assert_eq!(known.get(&ordinal), Some(&true), "{position}: {data:?} of a call that is not open");
                begins_anew(&mut calls);
            }
            EventData::AttributeSet { .. } | EventData::CallRefused { .. } => {}
            _ if is_issue(data) => {
                assert_eq!(known.insert(ordinal, true), None, "{position}: {data:?} is recorded twice");
                begins_anew(&mut calls);
            }
            _ => {
                // The outcome of a reopened call may be told again, and the call is issued again if it was open.
                let was_open = known.insert(ordinal, false);
                assert_eq!(was_open, Some(true), "{position}: {data:?} ends a call that is not open");
            }
        }
    }
    let open: Vec<_> = calls.iter().flat_map(|(scope, calls)| calls.iter().map(move |call| (scope, call))).collect();
    assert!(open.iter().all(|(_, (_, is_open))| !**is_open), "calls are open after the end: {open:?}");
}

fn is_issue(data: &EventData) -> bool {
    matches!(
        data,
        EventData::StepStarted { .. }
            | EventData::SleepStarted { .. }
            | EventData::PollStarted { .. }
            | EventData::ApprovalRequested { .. }
            | EventData::SignalAwaited { .. }
            | EventData::FetchStarted { .. }
            | EventData::ChildStarted { .. }
    )
}
