//! A history as lanes of bars, for people: one lane for all calls of one kind and name below one step.

use std::collections::HashMap;

use cerebelum_history::{CallName, Cause, Event, EventData, Scope, Timestamp};

/// The lanes of a timeline. Calls of further names are counted only.
const LANES_MAX: usize = 200;
/// The bars of a lane. When there are more, neighbours become one.
const LANE_BARS_MAX: usize = 40;

/// How a bar ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BarEnd {
    /// The call returned.
    Completed,
    /// The call was closed without an outcome.
    Cancelled,
    /// The call is open.
    Open,
    /// The attempt or the call failed.
    Failed,
}

impl BarEnd {
    /// The end in one word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Open => "open",
            Self::Failed => "failed",
        }
    }
}

/// A call or an attempt of it, or several that were too many to be told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bar {
    /// When it began.
    pub from: Timestamp,
    /// When it ended; now if it is open.
    pub until: Timestamp,
    /// How it ended; of several, the worst end.
    pub end: BarEnd,
    /// The position of the event with which it began, from 1.
    pub position: u64,
    /// How many bars this is.
    pub count: u64,
}

/// The calls of one kind and name below one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// `step`, `sleep`, `poll`, `approval`, `signal`, `fetch`, `child`.
    pub kind: &'static str,
    /// The name of the step, poll, question, signal or child, or the host of a request; empty for sleeps.
    pub name: String,
    /// How many steps are around it.
    pub depth: usize,
    /// How many calls there were.
    pub calls: u64,
    /// How many of them failed.
    pub failed: u64,
    /// What was when.
    pub bars: Vec<Bar>,
}

/// The lanes of one run of an execution, in the order in which a reader expects them: calls of a step below the step.
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    lanes: Vec<Lane>,
    /// By the lane of the step around them, kind and name.
    places: HashMap<(Option<usize>, &'static str, String), usize>,
    /// The lane around each lane.
    parents: Vec<Option<usize>>,
    open: HashMap<CallName, OpenBar>,
    /// The lanes of the steps and polls that are open.
    scopes: HashMap<Scope, usize>,
    first: Option<Timestamp>,
    last: Timestamp,
    position: u64,
    hidden_calls: u64,
    /// Bars that end before it or begin after it are left out.
    window: Option<(Timestamp, Timestamp)>,
}

#[derive(Debug, Clone)]
struct OpenBar {
    lane: usize,
    from: Timestamp,
    position: u64,
}

/// What an event says about its call.
pub(crate) enum Edge<'a> {
    Begins(&'static str, &'a str),
    /// The attempt failed, and the next one begins at this time.
    Retries(u64),
    Ends(BarEnd),
}

impl Timeline {
    /// A timeline of what was open at some time within a window. Its lanes count all calls of the run.
    #[must_use]
    pub fn within(window: (Timestamp, Timestamp)) -> Self {
        Self { window: Some(window), ..Self::default() }
    }

    /// Takes the next event in.
    pub fn add(&mut self, event: &Event) {
        self.position += 1;
        self.first.get_or_insert(event.at);
        self.last = event.at;
        let Some((ordinal, edge)) = edge(&event.data) else { return };
        let call = CallName { scope: event.scope.clone(), ordinal };
        match edge {
            Edge::Begins(kind, name) => self.begin(call, kind, name, event.at),
            Edge::Retries(delay_ms) => {
                let next = Timestamp(event.at.0.saturating_add(delay_ms));
                let Some(open) = self.open.get_mut(&call) else { return };
                let (lane, ended) = (open.lane, open.ended(event.at, BarEnd::Failed));
                (open.from, open.position) = (next, self.position);
                self.draw(lane, ended);
            }
            Edge::Ends(end) => {
                let Some(open) = self.open.remove(&call) else { return };
                self.scopes.remove(&call.step_scope());
                self.lanes[open.lane].failed += u64::from(end == BarEnd::Failed);
                // A call that ended while it waited for its next attempt has no bar for that one.
                if open.from <= event.at {
                    self.draw(open.lane, open.ended(event.at, end));
                }
            }
        }
    }

    fn draw(&mut self, lane: usize, bar: Bar) {
        if self.window.is_none_or(|(from, until)| bar.from <= until && bar.until >= from) {
            self.lanes[lane].add(bar);
        }
    }

    fn begin(&mut self, call: CallName, kind: &'static str, name: &str, at: Timestamp) {
        // A round of a poll is a scope of its own: `5#3` is the third round of the fifth call.
        let around = call.scope.as_str().rsplit_once('#').map_or(call.scope.as_str(), |(poll, _)| poll);
        let parent = self.scopes.get(&Scope::from_text(around)).copied();
        let place = (parent, kind, name.to_owned());
        let lane = match self.places.get(&place) {
            Some(lane) => *lane,
            None if self.lanes.len() >= LANES_MAX => {
                self.hidden_calls += 1;
                return;
            }
            None => {
                let depth = call.scope.depth();
                self.lanes.push(Lane { kind, name: name.to_owned(), depth, calls: 0, failed: 0, bars: Vec::new() });
                self.parents.push(parent);
                self.places.insert(place, self.lanes.len() - 1);
                self.lanes.len() - 1
            }
        };
        self.lanes[lane].calls += 1;
        if matches!(kind, "step" | "poll") {
            self.scopes.insert(call.step_scope(), lane);
        }
        self.open.insert(call, OpenBar { lane, from: at, position: self.position });
    }

    /// When the first and the last event were; none if there was no event.
    #[must_use]
    pub fn span(&self) -> Option<(Timestamp, Timestamp)> {
        Some((self.first?, self.last))
    }

    /// The calls that have no lane, because too many names came before theirs.
    #[must_use]
    pub fn hidden_calls(&self) -> u64 {
        self.hidden_calls
    }

    /// The lanes, with open calls as they are at a time that is not before the last event. An attempt that has not begun
    /// by then has no bar.
    #[must_use]
    pub fn into_lanes(mut self, now: Timestamp) -> Vec<Lane> {
        let mut open: Vec<OpenBar> = self.open.drain().map(|(_, open)| open).filter(|open| open.from <= now).collect();
        open.sort_by_key(|open| open.position);
        for bar in open {
            self.draw(bar.lane, bar.ended(now, BarEnd::Open));
        }
        let mut order = Vec::new();
        below(None, &self.parents, &mut order);
        let mut lanes: Vec<Option<Lane>> = self.lanes.into_iter().map(Some).collect();
        order.into_iter().filter_map(|lane| lanes[lane].take()).collect()
    }
}

/// The lanes below one lane, each followed by those below it.
fn below(parent: Option<usize>, parents: &[Option<usize>], order: &mut Vec<usize>) {
    for (lane, _) in parents.iter().enumerate().filter(|(_, of)| **of == parent) {
        order.push(lane);
        below(Some(lane), parents, order);
    }
}

impl OpenBar {
    fn ended(&self, until: Timestamp, end: BarEnd) -> Bar {
        Bar { from: self.from, until, end, position: self.position, count: 1 }
    }
}

impl Lane {
    fn add(&mut self, bar: Bar) {
        self.bars.push(bar);
        if self.bars.len() > LANE_BARS_MAX {
            self.bars.sort_by_key(|bar| bar.from);
            self.bars = self.bars.chunks(2).map(merged).collect();
        }
    }
}

fn merged(bars: &[Bar]) -> Bar {
    let mut all = bars[0].clone();
    for bar in &bars[1..] {
        all.until = all.until.max(bar.until);
        all.end = all.end.max(bar.end);
        all.count += bar.count;
    }
    all
}

pub(crate) fn edge(event: &EventData) -> Option<(u32, Edge<'_>)> {
    use EventData as E;
    let (begins, ends) = (Edge::Begins, |ordinal: &u32, end| Some((*ordinal, Edge::Ends(end))));
    match event {
        E::StepStarted { ordinal, call, .. } => Some((*ordinal, begins("step", &call.step))),
        E::StepRetried { ordinal, delay_ms, .. } => Some((*ordinal, Edge::Retries(*delay_ms))),
        E::SleepStarted { ordinal, .. } => Some((*ordinal, begins("sleep", ""))),
        E::PollStarted { ordinal, check, .. } => Some((*ordinal, begins("poll", &check.step))),
        E::ApprovalRequested { ordinal, request, .. } => Some((*ordinal, begins("approval", &request.title))),
        E::SignalAwaited { ordinal, name, .. } => Some((*ordinal, begins("signal", name))),
        E::FetchStarted { ordinal, url, .. } => Some((*ordinal, begins("fetch", host(url)))),
        E::ChildStarted { ordinal, call, .. } => Some((*ordinal, begins("child", &call.workflow))),
        E::StepCompleted { ordinal, .. }
        | E::SleepCompleted { ordinal }
        | E::PollCompleted { ordinal, .. }
        | E::ApprovalReceived { ordinal, .. }
        | E::SignalReceived { ordinal, .. }
        | E::FetchCompleted { ordinal, .. }
        | E::ChildCompleted { ordinal, .. } => ends(ordinal, BarEnd::Completed),
        E::StepFailed { ordinal, .. }
        | E::PollFailed { ordinal, .. }
        | E::ApprovalRejected { ordinal, .. }
        | E::ApprovalTimedOut { ordinal }
        | E::SignalTimedOut { ordinal }
        | E::FetchFailed { ordinal, .. }
        | E::ChildFailed { ordinal, .. } => ends(ordinal, BarEnd::Failed),
        E::CallCancelled { ordinal, cause } => match cause {
            Cause::Dropped | Cause::Requested | Cause::ScopeEnded => ends(ordinal, BarEnd::Cancelled),
        },
        E::ExecutionStarted { .. }
        | E::ExecutionCompleted { .. }
        | E::ExecutionFailed { .. }
        | E::ExecutionCancelled { .. }
        | E::ExecutionContinued { .. }
        | E::CancelRequested { .. }
        | E::ExecutionPaused
        | E::ExecutionResumed
        | E::ExecutionReopened { .. }
        | E::ExecutionParked { .. }
        | E::ChildAccepted { .. }
        | E::AttributeSet { .. }
        | E::CallRefused { .. } => None,
    }
}

/// The host of a URL.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cerebelum_history::{Failure, Json, StepCall};

    fn event(at: u64, scope: &str, data: EventData) -> Event {
        Event { at: Timestamp(at), scope: Scope::from_text(scope), data }
    }

    fn started(ordinal: u32, name: &str) -> EventData {
        let call = StepCall { step: name.into(), input: Json::null() };
        EventData::StepStarted { ordinal, call, component: None }
    }

    fn lanes(events: &[Event]) -> Vec<Lane> {
        let mut timeline = Timeline::default();
        events.iter().for_each(|event| timeline.add(event));
        let (_, last) = timeline.span().unwrap();
        timeline.into_lanes(last)
    }

    #[test]
    fn calls_of_a_step_are_below_it_and_attempts_are_bars() {
        let retried = EventData::StepRetried { ordinal: 1, attempt: 1, failure: Failure::new("f", "m"), delay_ms: 20 };
        let all = lanes(&[
            event(0, "", EventData::SleepStarted { ordinal: 0, duration_ms: 10 }),
            event(10, "", EventData::SleepCompleted { ordinal: 0 }),
            event(10, "", started(1, "pay")),
            event(12, "1", started(0, "charge")),
            event(15, "1", EventData::StepCompleted { ordinal: 0, output: None }),
            event(20, "", retried),
            event(45, "", EventData::StepCompleted { ordinal: 1, output: None }),
            event(50, "", started(2, "mail")),
            event(60, "", EventData::ExecutionPaused),
        ]);
        let shown: Vec<_> = all.iter().map(|lane| (lane.kind, lane.name.as_str(), lane.depth, lane.calls)).collect();
        assert_eq!(
            shown,
            [("sleep", "", 0, 1), ("step", "pay", 0, 1), ("step", "charge", 1, 1), ("step", "mail", 0, 1)]
        );
        let bars: Vec<_> = all[1].bars.iter().map(|bar| (bar.from.0, bar.until.0, bar.end, bar.position)).collect();
        assert_eq!(bars, [(10, 20, BarEnd::Failed, 3), (40, 45, BarEnd::Completed, 6)]);
        assert_eq!((all[3].bars[0].until.0, all[3].bars[0].end), (60, BarEnd::Open));
    }

    /// Neighbours in a lane are joined after the others are left out: that is what makes a part finer than the whole.
    #[test]
    fn within_a_window_only_what_was_open_then_has_a_bar() {
        let window = (Timestamp(200), Timestamp(230));
        let mut timeline = Timeline::within(window);
        timeline.add(&event(0, "", started(1_000, "whole")));
        for number in 0..100 {
            timeline.add(&event(u64::from(number) * 10, "", started(number, "step")));
            let completed = EventData::StepCompleted { ordinal: number, output: None };
            timeline.add(&event(u64::from(number) * 10 + 5, "", completed));
        }
        let lanes = timeline.into_lanes(Timestamp(2_000));
        let bars: Vec<_> = lanes[1].bars.iter().map(|bar| (bar.from.0, bar.count)).collect();
        assert_eq!(bars, [(200, 1), (210, 1), (220, 1), (230, 1)]);
        assert_eq!((lanes[1].calls, lanes[0].bars[0].end), (100, BarEnd::Open));
    }

    #[test]
    fn an_attempt_that_has_not_begun_has_no_bar() {
        let retried = |at| {
            event(
                at,
                "",
                EventData::StepRetried { ordinal: 1, attempt: 1, failure: Failure::new("f", "m"), delay_ms: 600 },
            )
        };
        let waiting = [event(0, "", started(1, "pay")), retried(10)];
        let ends = |lanes: Vec<Lane>| lanes[0].bars.iter().map(|bar| (bar.until.0, bar.end)).collect::<Vec<_>>();
        assert_eq!(ends(lanes(&waiting)), [(10, BarEnd::Failed)]);
        let mut cancelled = waiting.to_vec();
        cancelled.push(event(50, "", EventData::CallCancelled { ordinal: 1, cause: Cause::Requested }));
        assert_eq!(ends(lanes(&cancelled)), [(10, BarEnd::Failed)]);
        let mut timeline = Timeline::default();
        waiting.iter().for_each(|event| timeline.add(event));
        assert_eq!(ends(timeline.into_lanes(Timestamp(700))), [(10, BarEnd::Failed), (700, BarEnd::Open)]);
    }

    #[test]
    fn many_calls_of_one_name_are_few_bars_and_none_is_lost() {
        let mut events = Vec::new();
        for ordinal in 0..10_000 {
            events.push(event(u64::from(ordinal) * 10, "", started(ordinal, "part")));
            let end = match ordinal {
                7_000 => EventData::StepFailed { ordinal, failure: Failure::new("f", "m"), attempt: 1 },
                _ => EventData::StepCompleted { ordinal, output: None },
            };
            events.push(event(u64::from(ordinal) * 10 + 5, "", end));
        }
        let all = lanes(&events);
        assert_eq!((all.len(), all[0].calls, all[0].failed), (1, 10_000, 1));
        assert!(all[0].bars.len() <= LANE_BARS_MAX);
        assert_eq!(all[0].bars.iter().map(|bar| bar.count).sum::<u64>(), 10_000);
        assert_eq!(all[0].bars.iter().filter(|bar| bar.end == BarEnd::Failed).count(), 1);
    }

    #[test]
    fn too_many_names_are_counted_without_lanes() {
        let mut timeline = Timeline::default();
        for ordinal in 0..1_000 {
            timeline.add(&event(0, "", started(ordinal, &format!("s{ordinal}"))));
        }
        assert_eq!((timeline.hidden_calls(), timeline.into_lanes(Timestamp(0)).len()), (800, LANES_MAX));
    }
}
