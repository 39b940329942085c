//! A history as a graph, for people: the calls of the workflow as boxes, row below row, each below those that had ended
//! before it began.
//!
//! Calls that were open at the same time stand beside each other. Calls of one kind and name in one row are one box, and
//! rows that come again and again are shown once, with how often they came. What is planned stands below.

mod drawn;
mod layout;
mod plan;
mod planned;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::timeline::{BarEnd, Edge, edge};
use cerebelum_history::{CallName, End, Event, EventData, Timestamp};

pub use layout::{BOX_WIDTH, Drawing, Join, PlacedBox, Point, Repeat};
pub use plan::{PLAN_DEPTH_MAX, PLAN_ENTRIES_MAX, Plan, RuleOutcome, Steps, Then, When};
use planned::Progress;

/// The boxes of a graph. Calls that would need further boxes are counted only.
const BOXES_MAX: usize = 200;
/// The named boxes of a row. Calls of further names share a box for each kind.
const ROW_BOXES_MAX: usize = 12;
/// The most rows that are recognized when they come again together.
const REPEAT_ROWS_MAX: usize = 12;

/// What became of the calls of a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BoxState {
    /// All of them returned.
    Done,
    /// One of them failed, and none is open.
    Failed,
    /// One of them was closed without an outcome, none failed and none is open.
    Cancelled,
    /// A step is under way.
    Running,
    /// A call is open and waits: for time, a person, a signal, a child or the next attempt.
    Waiting,
    /// The step has not begun; the plan has it.
    Planned,
    /// The same, if the condition of a branch above is true, or is false.
    PlannedIf(bool),
}

impl BoxState {
    /// Whether it is the state of a step that has not begun.
    #[must_use]
    pub const fn is_planned(self) -> bool {
        matches!(self, Self::Planned | Self::PlannedIf(_))
    }

    /// The state in one word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Running => "running",
            Self::Waiting => "waits",
            Self::Planned => "planned",
            Self::PlannedIf(true) => "if true",
            Self::PlannedIf(false) => "if false",
        }
    }
}

/// The calls of one kind and name in one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallBox {
    /// `step`, `sleep`, `poll`, `approval`, `signal`, `child`.
    pub kind: &'static str,
    /// The name of the step, poll, question, signal or child; empty for sleeps. None for a box of many names.
    pub name: Option<String>,
    /// How many calls there were.
    pub calls: u64,
    /// How many of them failed.
    pub failed: u64,
    /// How many of them were closed without an outcome.
    pub cancelled: u64,
    /// How many of them are open.
    pub open: u64,
    /// How many attempts failed and were followed by another one.
    pub retries: u64,
    /// The calls that were made inside these, by kind.
    pub within: BTreeMap<&'static str, u64>,
    /// What became of them.
    pub state: BoxState,
    /// What the oldest open one waits for, if it waits: the kind of a call inside it, `retry`, or its own kind.
    pub waits_for: Option<&'static str>,
    /// When the first of them began.
    pub from: Timestamp,
    /// When the last of them ended; now if one is open.
    pub until: Timestamp,
    /// The position of the event with which a call began, from 1: the oldest that is open, else the first that failed,
    /// else the first.
    pub position: u64,
}

/// The graph of one run of an execution.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    rows: Vec<Row>,
    /// The boxes of the last row, by kind and name.
    places: HashMap<(&'static str, Option<String>), usize>,
    /// The boxes of all calls of the workflow.
    calls: HashMap<u32, usize>,
    open: BTreeMap<u32, OpenCall>,
    /// The open calls within these that wait, and their kinds.
    waits: BTreeMap<CallName, &'static str>,
    /// The boxes of which a call has ended, and after which nothing has begun and ended; with the position of that end.
    ended: BTreeMap<usize, u64>,
    /// The newest beginning of a call that has ended.
    newest_begin: u64,
    /// The lowest row of a call that has ended, counted without folding; 0 if none has.
    ended_layer: u64,
    /// The row that calls join now, counted without folding, from 1.
    layer: u64,
    boxes: usize,
    first: Timestamp,
    last: Timestamp,
    position: u64,
    end: Option<BoxState>,
    is_continued: bool,
    hidden_calls: u64,
    /// How far the run is in its plan, if it has one and no cancel was asked for.
    progress: Option<Progress>,
}

/// A box while it is made.
#[derive(Debug, Clone)]
struct Node {
    shown: CallBox,
    above: BTreeSet<usize>,
    /// The position up to which `above` has what had ended.
    joined: u64,
    failed_at: Option<u64>,
    /// The box that has taken this one in.
    merged: Option<usize>,
}

#[derive(Debug, Clone, Default)]
struct Row {
    nodes: Vec<usize>,
    /// How often the last so many rows up to this one came, if they came more than once.
    repeats: BTreeMap<usize, u64>,
}

#[derive(Debug, Clone)]
struct OpenCall {
    node: usize,
    layer: u64,
    position: u64,
    /// When its newest attempt begins.
    attempt_from: Timestamp,
}

impl Graph {
    /// The graph of a run that has a plan.
    #[must_use]
    pub fn of(plan: Plan) -> Self {
        Self { progress: Some(Progress::new(plan)), ..Self::default() }
    }

    /// Takes the next event in.
    pub fn add(&mut self, event: &Event) {
        self.position += 1;
        if self.position == 1 {
            self.first = event.at;
        }
        self.last = event.at;
        match (&event.data, event.data.end()) {
            (EventData::ExecutionReopened { ordinal }, _) => self.reopen(*ordinal, event.at),
            (EventData::CancelRequested { .. }, _) => self.progress = None,
            (_, Some(end)) => self.finish(&end),
            _ => {}
        }
        let Some((ordinal, edge)) = edge(&event.data) else { return };
        if !event.scope.is_root() {
            return self.follow_within(&CallName { scope: event.scope.clone(), ordinal }, &edge);
        }
        match edge {
            Edge::Begins(kind, name) => {
                let node = self.begin(ordinal, kind, name, event.at);
                self.hidden_calls += u64::from(node.is_none());
                if let Some(progress) = self.progress.as_mut().filter(|_| kind == "step") {
                    progress.begin(name, (self.position, ordinal), node);
                }
            }
            Edge::Retries(delay_ms) => {
                let Some(open) = self.open.get_mut(&ordinal) else { return };
                open.attempt_from = Timestamp(event.at.0.saturating_add(delay_ms));
                let node = open.node;
                self.node(node).shown.retries += 1;
            }
            Edge::Ends(end) => {
                if let Some(progress) = &mut self.progress {
                    progress.end(ordinal, end);
                }
                self.close(ordinal, end, event.at);
            }
        }
    }

    fn finish(&mut self, end: &End) {
        self.is_continued = matches!(end, End::Continued(_));
        self.end = Some(match end {
            End::Completed(_) | End::Continued(_) => BoxState::Done,
            End::Failed(_) => BoxState::Failed,
            End::Cancelled(_) => BoxState::Cancelled,
        });
    }

    /// What a call inside a step or poll says about it.
    fn follow_within(&mut self, call: &CallName, edge: &Edge<'_>) {
        match edge {
            Edge::Begins(kind, _) => {
                let Some(open) = outermost(call).and_then(|ordinal| self.open.get(&ordinal)) else { return };
                let node = open.node;
                *self.node(node).shown.within.entry(kind).or_default() += 1;
                if !matches!(*kind, "step" | "fetch") {
                    self.waits.insert(call.clone(), kind);
                }
            }
            Edge::Retries(_) => {}
            Edge::Ends(_) => {
                self.waits.remove(call);
            }
        }
    }

    /// A call begins; yields its box, unless there are too many.
    fn begin(&mut self, ordinal: u32, kind: &'static str, name: &str, at: Timestamp) -> Option<usize> {
        if self.rows.is_empty() || self.ended_layer + 1 > self.layer {
            self.fold();
            if self.boxes >= BOXES_MAX {
                return None;
            }
            self.layer = self.ended_layer + 1;
            self.rows.push(Row::default());
            self.places.clear();
        }
        let node = self.node_of(kind, name, at)?;
        let (position, above) = (self.position, &self.ended);
        let here = &mut self.nodes[node];
        here.shown.calls += 1;
        here.shown.open += 1;
        // As long as nothing ends, nothing new is above.
        if above.values().any(|ended| *ended >= here.joined) {
            here.above.extend(above.keys());
            here.joined = position;
        }
        self.calls.insert(ordinal, node);
        let open = OpenCall { node, layer: self.layer, position, attempt_from: at };
        self.open.insert(ordinal, open);
        Some(node)
    }

    /// The box of a call in the last row; none if there are too many boxes.
    fn node_of(&mut self, kind: &'static str, name: &str, at: Timestamp) -> Option<usize> {
        let named = (kind, Some(name.to_owned()));
        if let Some(node) = self.places.get(&named) {
            return Some(*node);
        }
        let row = self.rows.last_mut()?;
        let place = if row.nodes.len() < ROW_BOXES_MAX { named } else { (kind, None) };
        if let Some(node) = self.places.get(&place) {
            return Some(*node);
        }
        if self.boxes >= BOXES_MAX {
            return None;
        }
        let shown = CallBox::new(place.clone(), at, self.position);
        let node = Node { shown, above: BTreeSet::new(), joined: 0, failed_at: None, merged: None };
        self.nodes.push(node);
        self.boxes += 1;
        row.nodes.push(self.nodes.len() - 1);
        self.places.insert(place, self.nodes.len() - 1);
        Some(self.nodes.len() - 1)
    }

    fn close(&mut self, ordinal: u32, end: BarEnd, at: Timestamp) {
        let Some(call) = self.open.remove(&ordinal) else { return };
        let here = self.node(call.node);
        here.shown.open -= 1;
        here.shown.until = at;
        match end {
            BarEnd::Failed => {
                here.shown.failed += 1;
                here.failed_at.get_or_insert(call.position);
            }
            BarEnd::Cancelled => here.shown.cancelled += 1,
            BarEnd::Completed | BarEnd::Open => {}
        }
        if call.position > self.newest_begin {
            self.newest_begin = call.position;
            self.ended.retain(|_, ended| *ended > call.position);
        }
        self.ended.insert(call.node, self.position);
        self.ended_layer = self.ended_layer.max(call.layer);
    }

    /// A failed call is open again.
    fn reopen(&mut self, ordinal: u32, at: Timestamp) {
        (self.end, self.is_continued) = (None, false);
        if let Some(progress) = &mut self.progress {
            progress.reopen(ordinal);
        }
        let Some(node) = self.calls.get(&ordinal).copied() else { return };
        let open = OpenCall { node, layer: self.layer, position: self.position, attempt_from: at };
        if self.open.insert(ordinal, open).is_none() {
            let here = self.node(node);
            here.shown.open += 1;
            here.shown.failed = here.shown.failed.saturating_sub(1);
            if here.shown.failed == 0 {
                here.failed_at = None;
            }
        }
    }

    /// The box that has a call, which may have been taken in by another one.
    fn node(&mut self, node: usize) -> &mut Node {
        let node = self.merged(node);
        &mut self.nodes[node]
    }

    fn merged(&self, mut node: usize) -> usize {
        while let Some(into) = self.nodes[node].merged {
            node = into;
        }
        node
    }

    /// Folds the last rows into those above them, if they are the same once more.
    fn fold(&mut self) {
        let rows = self.rows.len();
        let is_repeat = |length: &usize| (rows - length..rows).all(|row| self.is_again(row, row - length));
        let Some(length) = (1..=REPEAT_ROWS_MAX.min(rows / 2)).find(is_repeat) else { return };
        let again = self.rows.split_off(rows - length);
        for (row, into) in again.into_iter().zip(rows - 2 * length..) {
            for node in row.nodes {
                if let Some(into) = self.counterpart(node, into) {
                    self.merge(node, into);
                }
            }
            // What came more than once in only one of the two rows came once in the other.
            let whole = (into + 1 == rows - length).then_some(length);
            let kept = &mut self.rows[into].repeats;
            let lengths: BTreeSet<usize> = kept.keys().chain(row.repeats.keys()).copied().chain(whole).collect();
            for length in lengths {
                *kept.entry(length).or_insert(1) += row.repeats.get(&length).unwrap_or(&1);
            }
        }
    }

    /// Whether a row is an earlier one once more, but for calls of the earlier one that are open all the while.
    fn is_again(&self, row: usize, earlier: usize) -> bool {
        let is_there = |node: &usize, row| self.counterpart(*node, row).is_some();
        let is_past = |node: &usize| self.nodes[*node].shown.open == 0;
        self.rows[row].nodes.iter().all(|node| is_there(node, earlier))
            && self.rows[earlier].nodes.iter().filter(|node| is_past(node)).all(|node| is_there(node, row))
    }

    /// The box of the same kind and name in another row.
    fn counterpart(&self, node: usize, row: usize) -> Option<usize> {
        let place = self.nodes[node].shown.place();
        self.rows[row].nodes.iter().copied().find(|other| self.nodes[*other].shown.place() == place)
    }

    fn merge(&mut self, node: usize, into: usize) {
        let gone = &mut self.nodes[node];
        gone.merged = Some(into);
        let above = std::mem::take(&mut gone.above);
        let (failed_at, within) = (gone.failed_at, std::mem::take(&mut gone.shown.within));
        let shown = gone.shown.clone();
        gone.shown.name = None;
        let kept = &mut self.nodes[into];
        kept.above.extend(above);
        kept.failed_at = kept.failed_at.or(failed_at);
        let all = &mut kept.shown;
        all.calls += shown.calls;
        all.failed += shown.failed;
        all.cancelled += shown.cancelled;
        all.open += shown.open;
        all.retries += shown.retries;
        all.until = all.until.max(shown.until);
        within.into_iter().for_each(|(kind, calls)| *all.within.entry(kind).or_default() += calls);
        self.boxes -= 1;
    }

    /// The calls that have no box, because too many came before them.
    #[must_use]
    pub fn hidden_calls(&self) -> u64 {
        self.hidden_calls
    }

    /// When the first and the last event were.
    #[must_use]
    pub fn span(&self) -> (Timestamp, Timestamp) {
        (self.first, self.last)
    }

    /// How the run ended, if it has, and whether the execution goes on as a new run.
    #[must_use]
    pub fn end(&self) -> Option<(BoxState, bool)> {
        self.end.map(|end| (end, self.is_continued))
    }
}

/// The ordinal of the workflow's call inside which a call was made.
fn outermost(call: &CallName) -> Option<u32> {
    call.scope.as_str().split(['.', '#']).next().and_then(|ordinal| ordinal.parse().ok())
}

impl CallBox {
    fn new((kind, name): (&'static str, Option<String>), at: Timestamp, position: u64) -> Self {
        Self {
            kind,
            name,
            calls: 0,
            failed: 0,
            cancelled: 0,
            open: 0,
            retries: 0,
            within: BTreeMap::new(),
            state: BoxState::Done,
            waits_for: None,
            from: at,
            until: at,
            position,
        }
    }

    fn place(&self) -> (&'static str, Option<&str>) {
        (self.kind, self.name.as_deref())
    }
}

#[cfg(test)]
mod tests;
