//! An execution as it was after an event: folded from the events up to it, for people who look back.

use std::collections::BTreeMap;

use crate::timeline::{BarEnd, Edge, edge};
use cerebelum_history::{CallName, Event, EventData, Json, Timestamp};

/// A call that was open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenThen {
    /// `step`, `sleep`, `poll`, `approval`, `signal`, `fetch`, `child`.
    pub kind: &'static str,
    /// The name of the step, poll, question, signal or child, or the host of a request; empty for sleeps.
    pub name: String,
    /// When it was made.
    pub since: Timestamp,
    /// The position of the event with which it began.
    pub position: u64,
    /// The attempt, from 1.
    pub attempt: u32,
}

/// What an execution was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StateThen {
    /// It went on.
    #[default]
    Open,
    /// It was paused.
    Paused,
    /// A person had to look at it.
    Parked,
    /// It returned.
    Completed,
    /// It failed.
    Failed,
    /// It was cancelled or terminated.
    Cancelled,
    /// It went on as a new run.
    Continued,
}

/// An execution after an event of one run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AsOf {
    /// The position of the event; 0 if there was none.
    pub position: u64,
    /// When the event was.
    pub at: Timestamp,
    /// What the execution was.
    pub state: StateThen,
    /// Its open calls.
    pub open: BTreeMap<CallName, OpenThen>,
    /// The number of calls that had returned.
    pub completed: u64,
    /// The number of calls that had failed.
    pub failed: u64,
    /// The number of calls that had been closed without an outcome.
    pub cancelled: u64,
    /// Its attributes, as far as this run has set them.
    pub attributes: BTreeMap<String, Json>,
}

impl AsOf {
    /// Takes the next event in.
    pub fn add(&mut self, event: &Event) {
        self.position += 1;
        self.at = event.at;
        if let Some((ordinal, edge)) = edge(&event.data) {
            self.follow(CallName { scope: event.scope.clone(), ordinal }, edge, event.at);
        }
        match &event.data {
            EventData::ExecutionPaused => self.state = StateThen::Paused,
            EventData::ExecutionResumed | EventData::ExecutionReopened { .. } => self.state = StateThen::Open,
            EventData::ExecutionParked { .. } => self.state = StateThen::Parked,
            EventData::ExecutionCompleted { .. } => self.state = StateThen::Completed,
            EventData::ExecutionFailed { .. } => self.state = StateThen::Failed,
            EventData::ExecutionCancelled { .. } => self.state = StateThen::Cancelled,
            EventData::ExecutionContinued { .. } => self.state = StateThen::Continued,
            EventData::AttributeSet { name, value, .. } => {
                self.attributes.insert(name.clone(), value.clone());
            }
            // What happens to a parked execution shows that it is not parked any more.
            _ if self.state == StateThen::Parked => self.state = StateThen::Open,
            _ => {}
        }
    }

    fn follow(&mut self, call: CallName, edge: Edge<'_>, at: Timestamp) {
        match edge {
            Edge::Begins(kind, name) => {
                let begun = OpenThen { kind, name: name.to_owned(), since: at, position: self.position, attempt: 1 };
                self.open.insert(call, begun);
            }
            Edge::Retries(_) => {
                if let Some(open) = self.open.get_mut(&call) {
                    open.attempt += 1;
                }
            }
            Edge::Ends(end) if self.open.remove(&call).is_some() => match end {
                BarEnd::Completed | BarEnd::Open => self.completed += 1,
                BarEnd::Failed => self.failed += 1,
                BarEnd::Cancelled => self.cancelled += 1,
            },
            Edge::Ends(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cerebelum_history::{Cause, Failure, Scope, StepCall};

    fn event(at: u64, scope: &Scope, data: EventData) -> Event {
        Event { at: Timestamp(at), scope: scope.clone(), data }
    }

    fn step(ordinal: u32, name: &str) -> EventData {
        EventData::StepStarted { ordinal, call: StepCall { step: name.into(), input: Json::null() }, component: None }
    }

    #[test]
    fn each_position_has_the_calls_that_were_open_then() {
        let root = Scope::root();
        let inner = CallName { scope: root.clone(), ordinal: 1 }.step_scope();
        let failure = Failure::new("http-status", "503");
        let events = [
            event(1, &root, step(1, "charge")),
            event(2, &inner, EventData::SleepStarted { ordinal: 1, duration_ms: 5 }),
            event(3, &root, EventData::StepRetried { ordinal: 1, attempt: 1, failure: failure.clone(), delay_ms: 9 }),
            event(4, &root, EventData::ExecutionPaused),
            event(5, &root, EventData::ExecutionResumed),
            event(6, &root, EventData::StepFailed { ordinal: 1, attempt: 2, failure }),
            event(6, &inner, EventData::CallCancelled { ordinal: 1, cause: Cause::ScopeEnded }),
        ];
        let after = |count: usize| {
            let mut then = AsOf::default();
            events[..count].iter().for_each(|event| then.add(event));
            then
        };
        let names = |then: &AsOf| then.open.values().map(|open| (open.kind, open.attempt)).collect::<Vec<_>>();
        assert_eq!(names(&after(2)), [("step", 1), ("sleep", 1)]);
        assert_eq!(names(&after(3)), [("step", 2), ("sleep", 1)]);
        assert_eq!((after(4).state, after(5).state), (StateThen::Paused, StateThen::Open));
        let end = after(7);
        assert_eq!((end.position, end.at, end.open.len()), (7, Timestamp(6), 0));
        assert_eq!((end.completed, end.failed, end.cancelled), (0, 1, 1));
    }
}
