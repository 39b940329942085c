//! What is planned, below what happened: the steps of a plan that the run has not called yet.
//!
//! The newest call of a step of the timeline says how far a run is; what stands behind that step is still to come. Going
//! back is a newer call of an earlier step, so what is behind that one is to come again.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::layout::{Made, Number};
use super::plan::{Entry, Line, Plan, RuleOutcome, Then, When, names, targets};
use super::{BOXES_MAX, BarEnd, BoxState, CallBox, ROW_BOXES_MAX};
use cerebelum_history::Timestamp;

/// What follows the boxes that are already drawn leads down from these.
type Tail = BTreeSet<Number>;

/// The plan of a run, and how far the run is.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    plan: Plan,
    /// The newest call of each step of the plan, if there was one.
    latest: HashMap<String, Option<LatestCall>>,
    /// The steps of the open calls.
    open: HashMap<u32, String>,
}

#[derive(Debug, Clone, Copy)]
struct LatestCall {
    position: u64,
    ordinal: u32,
    /// Its box, unless there were too many.
    node: Option<usize>,
    end: BarEnd,
}

impl Progress {
    pub(super) fn new(plan: Plan) -> Self {
        let latest = plan.lines().flat_map(|line| names(line)).map(|name| (name.to_owned(), None)).collect();
        Self { plan, latest, open: HashMap::new() }
    }

    /// A step begins.
    pub(super) fn begin(&mut self, name: &str, (position, ordinal): (u64, u32), node: Option<usize>) {
        if let Some(latest) = self.latest.get_mut(name) {
            *latest = Some(LatestCall { position, ordinal, node, end: BarEnd::Open });
            self.open.insert(ordinal, name.to_owned());
        }
    }

    /// A call of the workflow ends.
    pub(super) fn end(&mut self, ordinal: u32, end: BarEnd) {
        let Some(name) = self.open.remove(&ordinal) else { return };
        let latest = self.latest.get_mut(&name).and_then(Option::as_mut);
        if let Some(latest) = latest.filter(|latest| latest.ordinal == ordinal) {
            latest.end = end;
        }
    }

    /// A call that had failed is open again.
    pub(super) fn reopen(&mut self, ordinal: u32) {
        for (name, latest) in &mut self.latest {
            if let Some(latest) = latest.as_mut().filter(|latest| latest.ordinal == ordinal) {
                latest.end = BarEnd::Open;
                self.open.insert(ordinal, name.clone());
            }
        }
    }

    /// Adds rows with what is planned. The planned part begins below `happened.leaves`.
    pub(super) fn drawn<'r>(&'r self, happened: &Happened<'r>, rows: &'r mut Vec<Vec<Made>>) -> Planned {
        let (mut sources, mut sides) = (HashMap::<_, BTreeSet<_>>::new(), HashSet::new());
        for (source, ways) in &self.plan.rules {
            for (when, steps) in targets(ways) {
                for name in names(steps) {
                    sources.entry(name).or_default().insert(source.as_str());
                    if matches!(when, When::Condition(_)) {
                        sides.insert(name);
                    }
                }
            }
        }
        let from = rows.len();
        let mut drawer = Drawer {
            progress: self,
            happened,
            rows,
            sources,
            sides,
            to_come: HashSet::new(),
            followed: HashSet::new(),
            unfolded: HashSet::new(),
            boxes: 0,
            made: Planned { from, ..Planned::default() },
        };
        let context = Context { is_timeline: true, is_alone: true, since: 0, state: BoxState::Planned };
        let Rest { tail, .. } = drawer.rest(&self.plan.line, context, happened.leaves.clone());
        let mut planned = drawer.made;
        planned.last = tail.into_iter().collect();
        planned
    }
}

/// What of a graph the planned part is joined to.
pub(super) struct Happened<'g> {
    /// The boxes below which there is nothing.
    pub(super) leaves: Tail,
    /// Those of them that are no steps of the plan.
    pub(super) others: Tail,
    pub(super) place_of: &'g dyn Fn(usize) -> Option<Number>,
}

/// The planned part of a drawing.
#[derive(Debug, Default)]
pub(super) struct Planned {
    /// The first of its rows.
    pub(super) from: usize,
    /// What leads to the end.
    pub(super) last: Vec<Number>,
    /// The rules that may still count, with their steps.
    pub(super) rules: Vec<(String, Vec<RuleOutcome>)>,
    /// The steps that have no box, because too many are planned.
    pub(super) hidden: u64,
}

/// Where a line stands.
#[derive(Clone, Copy)]
struct Context {
    /// Whether it is (part of) the timeline, and not the target of a rule.
    is_timeline: bool,
    /// Whether nothing else of the plan runs beside it.
    is_alone: bool,
    /// Calls up to this position do not count.
    since: u64,
    state: BoxState,
}

struct Drawer<'p> {
    progress: &'p Progress,
    happened: &'p Happened<'p>,
    rows: &'p mut Vec<Vec<Made>>,
    /// The steps to which rules lead, with the steps that have these rules.
    sources: HashMap<&'p str, BTreeSet<&'p str>>,
    /// Those of them that are sides of a branch.
    sides: HashSet<&'p str>,
    /// The steps behind those that say how far the run is.
    to_come: HashSet<&'p str>,
    /// The steps whose rules have been followed to where they led; each is once, or the work might grow without end.
    followed: HashSet<&'p str>,
    /// The steps whose rules are drawn or listed; each is once as well.
    unfolded: HashSet<&'p str>,
    boxes: usize,
    made: Planned,
}

/// What is left of something that has begun.
struct Rest {
    tail: Tail,
    /// Whether a step has failed in it and no rule is about that: nothing runs behind it.
    fails: bool,
}

impl<'p> Drawer<'p> {
    /// Draws what is left of a line.
    fn rest(&mut self, line: &'p Line, context: Context, mut tail: Tail) -> Rest {
        let mut left = line.as_slice();
        let mut since = context.since;
        if let Some((position, at)) = self.how_far(line, context) {
            (left, since) = (&line[at + 1..], position);
            self.to_come.extend(names(left));
            let entry = self.under_way(&line[at], context, tail);
            if entry.fails {
                return entry;
            }
            tail = entry.tail;
        }
        for entry in left {
            tail = self.planned(entry, Context { since, ..context }, tail);
        }
        Rest { tail, fails: false }
    }

    /// The place in a line of the newest call, and the position of that call.
    fn how_far(&self, line: &'p Line, context: Context) -> Option<(u64, usize)> {
        line.iter().enumerate().filter_map(|(at, entry)| Some((self.reached(entry, context)?, at))).max()
    }

    /// The position of the newest call in an entry that says how far the line is. A step to which a rule leads may have
    /// been called ahead of its place.
    fn reached(&self, entry: &'p Entry, context: Context) -> Option<u64> {
        let names = names(std::slice::from_ref(entry)).into_iter();
        let names = names.filter(|name| !context.is_timeline || !self.sources.contains_key(name));
        names.filter_map(|name| self.latest(name, context.since)).map(|latest| latest.position).max()
    }

    fn latest(&self, name: &str, since: u64) -> Option<LatestCall> {
        self.progress.latest.get(name).copied().flatten().filter(|latest| latest.position > since)
    }

    /// Draws what is left of an entry that has begun.
    fn under_way(&mut self, entry: &'p Entry, context: Context, before: Tail) -> Rest {
        match entry {
            Entry::Step(name) => self.step_under_way(name, context, before),
            Entry::Group(lines) => self.group_under_way(lines, context, before),
        }
    }

    fn group_under_way(&mut self, lines: &'p [Line], context: Context, before: Tail) -> Rest {
        let within = Context { is_alone: false, ..context };
        let (mut ends, mut fails) = (Vec::new(), false);
        for line in lines {
            let end = self.rest(line, within, before.clone());
            fails |= end.fails;
            // Of some lines nothing has begun, and nothing is left.
            if end.tail != before || self.how_far(line, within).is_some() {
                ends.push(end.tail);
            }
        }
        let mut tail = joined(ends, before);
        if context.is_alone {
            tail.extend(&self.happened.others);
        }
        Rest { tail, fails }
    }

    fn step_under_way(&mut self, name: &'p str, context: Context, before: Tail) -> Rest {
        let Some(latest) = self.latest(name, context.since) else { return Rest { tail: before, fails: false } };
        let here = latest.node.and_then(self.happened.place_of).map(|number| Tail::from([number]));
        let tail = if context.is_alone { self.happened.leaves.clone() } else { here.unwrap_or(before) };
        if latest.end == BarEnd::Open {
            return Rest { tail: self.branch(name, context, tail), fails: false };
        }
        let goes_on = |way: &RuleOutcome| way.when.may_follow(latest.end) && way.then != Then::Fail;
        let fails = latest.end == BarEnd::Failed && !self.ways(name).iter().any(goes_on);
        let mut rest = Rest { tail, fails };
        if self.followed.insert(name) {
            let target = Context { is_timeline: false, since: latest.position, ..context };
            for line in self.taken(name, latest).into_iter().flatten() {
                let Rest { tail, fails } = self.rest(line, target, rest.tail);
                rest = Rest { tail, fails: rest.fails || fails };
            }
        }
        rest
    }

    /// Where the rules of a call that has ended have led, as far as the calls since then tell: first what follows its
    /// outcome, then the side of its branch.
    fn taken(&self, name: &str, latest: LatestCall) -> [Option<&'p Line>; 2] {
        [false, true].map(|is_side| {
            let lines = targets(self.ways(name))
                .filter(|(when, _)| matches!(when, When::Condition(_)) == is_side && when.may_follow(latest.end));
            let called = |line: &[Entry]| {
                let called = names(line).into_iter().filter(|name| self.latest(name, latest.position).is_some());
                called.collect::<HashSet<_>>().len()
            };
            let lines: Vec<_> = lines.map(|(_, line)| (called(line), line)).collect();
            let (most, line) = lines.iter().copied().max_by_key(|(called, _)| *called)?;
            // Lines that begin alike cannot be told apart yet.
            (most > 0 && lines.iter().filter(|(called, _)| *called == most).count() == 1).then_some(line)
        })
    }

    /// Whether a rule runs a step ahead of its place in the timeline, where it does not run again then.
    fn is_moved(&self, name: &str) -> bool {
        let sources = self.sources.get(name).into_iter().flatten();
        sources.filter(|source| !self.to_come.contains(*source)).any(|source| {
            let Some(latest) = self.latest(source, 0).filter(|latest| latest.end != BarEnd::Open) else { return false };
            self.latest(name, latest.position).is_some()
                || self.taken(source, latest).into_iter().flatten().any(|line| names(line).contains(&name))
        })
    }

    /// Draws an entry that has not begun.
    fn planned(&mut self, entry: &'p Entry, context: Context, tail: Tail) -> Tail {
        match entry {
            Entry::Step(name) => {
                // A branch alone decides about its sides.
                if context.is_timeline && (self.sides.contains(name.as_str()) || self.is_moved(name)) {
                    return tail;
                }
                let tail = self.add(name, context.state, tail);
                self.branch(name, context, tail)
            }
            Entry::Group(lines) => {
                let ends: Vec<Tail> = lines.iter().map(|line| self.all(line, context, tail.clone())).collect();
                joined(ends.into_iter().filter(|end| *end != tail).collect(), tail)
            }
        }
    }

    fn all(&mut self, line: &'p Line, context: Context, tail: Tail) -> Tail {
        line.iter().fold(tail, |tail, entry| self.planned(entry, context, tail))
    }

    /// Draws both sides of a step's branch beside each other, and lists the step's rules.
    fn branch(&mut self, name: &'p str, context: Context, tail: Tail) -> Tail {
        let ways = self.ways(name);
        if ways.is_empty() || !self.unfolded.insert(name) {
            return tail;
        }
        self.made.rules.push((name.to_owned(), ways.to_vec()));
        let mut ends = Tail::new();
        for is_true in [true, false] {
            let side = ways.iter().find(|way| way.when == When::Condition(is_true)).map(|way| &way.then);
            match side {
                Some(Then::Steps(steps)) => {
                    let context = Context { is_timeline: false, state: BoxState::PlannedIf(is_true), ..context };
                    ends.extend(self.all(&steps.0, context, tail.clone()));
                }
                None => ends.extend(&tail),
                Some(Then::Retry(_) | Then::BackTo(_) | Then::SkipTo(_) | Then::Fail | Then::End) => {}
            }
        }
        if ends.is_empty() { tail } else { ends }
    }

    fn ways(&self, name: &str) -> &'p [RuleOutcome] {
        self.progress.plan.rules.get(name).map_or(&[], Vec::as_slice)
    }

    /// Adds a box below these, in the first row that is free of them.
    fn add(&mut self, name: &str, state: BoxState, above: Tail) -> Tail {
        if self.boxes >= BOXES_MAX {
            self.made.hidden += 1;
            return above;
        }
        let row = above.iter().map(|(row, _)| row + 1).max().unwrap_or_default().max(self.made.from);
        if row == self.rows.len() {
            self.rows.push(Vec::new());
        }
        let boxes = &mut self.rows[row];
        if boxes.len() < ROW_BOXES_MAX {
            self.boxes += 1;
            boxes.push((CallBox::planned(Some(name.to_owned()), state), above));
        } else if let Some((last, over)) = boxes.get_mut(ROW_BOXES_MAX) {
            last.calls += 1;
            over.extend(above);
        } else {
            self.boxes += 1;
            boxes.push((CallBox::planned(None, BoxState::Planned), above));
        }
        Tail::from([(row, boxes.len() - 1)])
    }
}

impl When {
    /// Whether it may be so after a call with this end.
    fn may_follow(&self, end: BarEnd) -> bool {
        match self {
            Self::Returned | Self::Condition(_) => end == BarEnd::Completed,
            Self::Failed => end == BarEnd::Failed,
            Self::Ended | Self::Is(_) => true,
        }
    }
}

/// Where the lines of a group end together.
fn joined(ends: Vec<Tail>, before: Tail) -> Tail {
    if ends.is_empty() { before } else { ends.into_iter().flatten().collect() }
}

impl CallBox {
    fn planned(name: Option<String>, state: BoxState) -> Self {
        Self { calls: 1, state, ..Self::new(("step", name), Timestamp::default(), 0) }
    }
}
