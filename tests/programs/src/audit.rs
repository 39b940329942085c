//! What must hold of every history.

use std::collections::BTreeMap;

use cerebelum_history::{Event, Fact, Scope};

/// Nothing is recorded twice, nothing is told twice, nothing stays open, and finished steps hold no values.
///
/// # Panics
/// When that is not so.
pub fn audit(history: &[Event]) {
    let mut calls: BTreeMap<Scope, BTreeMap<u32, bool>> = BTreeMap::new();
    for (event, position) in history.iter().zip(1..) {
        let (scope, fact) = (&event.scope, &event.fact);
        let Some(ordinal) = fact.ordinal() else { continue };
        let call = cerebelum_history::CallName { scope: scope.clone(), ordinal };
        let begins_anew = |calls: &mut BTreeMap<Scope, BTreeMap<u32, bool>>| {
            calls.retain(|inner, _| !inner.is_within(&call.step_scope()));
        };
        if let Some(parent) = scope.call() {
            assert!(calls[&parent.scope][&parent.ordinal], "{position}: {fact:?} in `{scope}`, which has ended");
            assert_eq!(*fact, fact.clone().without_values(), "{position}: a finished step holds a value");
        }
        let known = calls.entry(scope.clone()).or_default();
        match fact {
            Fact::ExecutionReopened { .. } => drop(calls.remove(&Scope::root())),
            Fact::StepRetried { .. } => {
                assert_eq!(known.get(&ordinal), Some(&true), "{position}: {fact:?} of a call that is not open");
                begins_anew(&mut calls);
            }
            Fact::AttributeSet { .. } | Fact::CallRefused { .. } => {}
            _ if is_issue(fact) => {
                assert_eq!(known.insert(ordinal, true), None, "{position}: {fact:?} is recorded twice");
                begins_anew(&mut calls);
            }
            _ => {
                // What was reopened may be told of again, and is issued again when it was open.
                let was_open = known.insert(ordinal, false);
                assert_eq!(was_open, Some(true), "{position}: {fact:?} ends a call that is not open");
            }
        }
    }
    let open: Vec<_> = calls.iter().flat_map(|(scope, calls)| calls.iter().map(move |call| (scope, call))).collect();
    assert!(open.iter().all(|(_, (_, is_open))| !**is_open), "calls are open after the end: {open:?}");
}

fn is_issue(fact: &Fact) -> bool {
    matches!(
        fact,
        Fact::StepStarted { .. }
            | Fact::SleepStarted { .. }
            | Fact::PollStarted { .. }
            | Fact::ApprovalRequested { .. }
            | Fact::SignalAwaited { .. }
            | Fact::FetchStarted { .. }
            | Fact::ChildStarted { .. }
    )
}
