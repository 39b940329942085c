//! Executions that start each other: how a child begins, what its parent is told, and the run that follows a run.

use crate::limits::{RUN_PACE_MS, RUNS_UNPACED_MAX};
use crate::{
    CallName, ChildResult, End, Event, Execution, ExecutionId, ExecutionOptions, Failure, Identity, Json, Message,
    SpanContext, Timestamp, WorkflowCall, kind,
};

/// The call of another execution that started this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// The execution, which has the same tenant.
    pub id: ExecutionId,
    /// The parent's run.
    pub run: u32,
    /// The parent's call.
    pub call: CallName,
    /// Whether the call waits for the end.
    pub awaited: bool,
}

impl Parent {
    /// Whether both are the same call of the same run of an execution with the same id. The child is the same only if its
    /// seed is as well: an execution may have been deleted, and another one started under its id.
    #[must_use]
    pub fn is_same_call(&self, other: &Self) -> bool {
        (&self.id, self.run, &self.call) == (&other.id, other.run, &other.call)
    }

    /// What a child that ended tells a parent that waits for it, and the span of that end. A child that goes on as a new
    /// run has not ended.
    #[must_use]
    pub fn farewell(&self, child: &ExecutionId, end: &End, span: Option<SpanContext>) -> Option<Message> {
        let result = match end {
            End::Completed(output) => ChildResult::Completed(output.clone()),
            End::Failed(failure) | End::Cancelled(failure) => ChildResult::Failed(failure.clone()),
            End::Continued(_) => return None,
        };
        self.awaited.then(|| self.message(child, result, span))
    }

    /// What a child that ended before tells a call that is made again, by the next attempt of a step or after a
    /// reopening, if that call waits for it. `events` are the last events of the child's history as they are stored, if
    /// they can be read and told; without them the call fails, with the kind of a child that `was_cancelled` if it was.
    #[must_use]
    pub fn farewell_again(&self, child: &ExecutionId, events: Option<&str>, was_cancelled: bool) -> Option<Message> {
        let last = events.and_then(|events| Event::decode(events).ok()).and_then(|mut events| events.pop());
        let end = last.and_then(|event| event.data.end()).unwrap_or_else(|| {
            let kind = if was_cancelled { kind::CANCELLED } else { kind::CONFLICT };
            let why = format!("the execution `{child}` ended before, and its end cannot be told again");
            End::Failed(Failure::new(kind, why))
        });
        self.farewell(child, &end, None)
    }

    fn message(&self, child: &ExecutionId, result: ChildResult, cause: Option<SpanContext>) -> Message {
        Message::Child { run: self.run, call: self.call.clone(), id: child.clone(), result, cause }
    }
}

/// An execution that a call starts.
#[derive(Debug, Clone, PartialEq)]
pub struct ChildStart {
    /// The identity of the new execution.
    pub identity: Identity,
    /// Its options.
    pub options: ExecutionOptions,
    /// The call that starts it.
    pub parent: Parent,
    /// The workflow, as the call named it, and its input.
    pub workflow: WorkflowCall,
}

impl ChildStart {
    /// What the parent is told once the child exists, unless it waits for the child's end.
    #[must_use]
    pub fn accepted(&self) -> Option<Message> {
        let id = &self.identity.id;
        (!self.parent.awaited).then(|| self.parent.message(id, ChildResult::Accepted(id.clone()), None))
    }

    /// What the parent is told if the child's id belongs to an execution that another call started.
    #[must_use]
    pub fn refused(&self) -> Message {
        let id = &self.identity.id;
        let taken = format!("the execution id `{id}` is taken by another execution");
        self.parent.message(id, ChildResult::Failed(Failure::new(kind::CONFLICT, taken)), None)
    }
}

impl Execution {
    /// The run that follows this one after a continue-as-new with this input (L15). It keeps id, attributes, deadline
    /// and a cancel, and begins a new history. A long chain of runs that does nothing else is paced, so that it does not
    /// keep the engine busy.
    #[must_use]
    pub fn next_run(&self, input: Json, at: Timestamp) -> Self {
        let run = self.identity().run;
        let starts_at = (run >= RUNS_UNPACED_MAX).then(|| at.plus(RUN_PACE_MS));
        let options = ExecutionOptions { starts_at, ..self.options().of_next_run() };
        let identity = Identity { run: run + 1, ..self.identity().clone() };
        Self::start(identity, input, options, at).with_attributes(self.attributes().clone())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{Digest, EventData, Scope, Seed};

    fn run(number: u32) -> Execution {
        let identity = Identity {
            id: "a".parse().unwrap(),
            workflow: "c/w".to_owned(),
            digest: Digest::of(b"c"),
            seed: Seed([1; 32]),
            run: number,
        };
        let attributes = BTreeMap::from([("n".to_owned(), Json::of(&1))]);
        let options = ExecutionOptions { deadline: Some(Timestamp(900)), log_bytes: 7, ..ExecutionOptions::default() };
        Execution::start(identity, Json::null(), options, Timestamp(1)).with_attributes(attributes)
    }

    #[test]
    fn l15_the_next_run_keeps_what_belongs_to_the_execution_and_a_long_chain_is_paced() {
        for (number, starts_at) in [(RUNS_UNPACED_MAX - 1, None), (RUNS_UNPACED_MAX, Some(Timestamp(5 + RUN_PACE_MS)))]
        {
            let before = run(number);
            let next = before.next_run(Json::of(&2), Timestamp(5));
            assert_eq!(*next.identity(), Identity { run: number + 1, ..before.identity().clone() });
            assert_eq!(next.attributes(), before.attributes());
            assert_eq!((next.options().deadline, next.options().log_bytes), (Some(Timestamp(900)), 0));
            assert_eq!((next.options().starts_at, next.is_settled()), (starts_at, starts_at.is_some()));
            assert_eq!(next.due(), starts_at.or(Some(Timestamp(900))));
        }
    }

    #[test]
    fn only_a_parent_that_waits_hears_of_an_end_and_only_of_an_end() {
        let parent = |awaited| Parent { id: "p".parse().unwrap(), run: 3, call: "4".parse().unwrap(), awaited };
        let (child, failure) = ("a".parse().unwrap(), Failure::new(kind::CANCELLED, "no"));
        let said = |awaited, end: End| match parent(awaited).farewell(&child, &end, None) {
            Some(Message::Child { run: 3, result, .. }) => Some(result),
            _ => None,
        };
        assert_eq!(said(true, End::Completed(Json::null())), Some(ChildResult::Completed(Json::null())));
        assert_eq!(said(true, End::Cancelled(failure.clone())), Some(ChildResult::Failed(failure.clone())));
        assert_eq!(said(true, End::Continued(Json::null())), None);
        assert_eq!(said(false, End::Failed(failure)), None);
        assert!(parent(true).is_same_call(&parent(false)));
    }

    #[test]
    fn an_end_is_told_again_from_what_is_stored_of_it() {
        let parent = |awaited| Parent { id: "p".parse().unwrap(), run: 3, call: "4".parse().unwrap(), awaited };
        let (child, output) = ("a".parse().unwrap(), Json::of(&7));
        let data = EventData::ExecutionCompleted { output: output.clone() };
        let stored = Event::encode([&Event { at: Timestamp(1), scope: Scope::root(), data }]);
        let told = |events: &str| match parent(true).farewell_again(&child, Some(events), false) {
            Some(Message::Child { result, .. }) => result,
            other => panic!("{other:?}"),
        };
        assert_eq!(told(&stored), ChildResult::Completed(output));
        assert!(matches!(told("damaged"), ChildResult::Failed(Failure { kind, .. }) if kind == kind::CONFLICT));
        let buried = parent(true).farewell_again(&child, None, true);
        assert!(
            matches!(buried, Some(Message::Child { result: ChildResult::Failed(f), .. }) if f.kind == kind::CANCELLED)
        );
        assert_eq!(parent(false).farewell_again(&child, Some(&stored), false), None);
    }
}
