//! The steps of an execution as a tree, with the waits of each scope; many steps of one name are folded.

use std::collections::{HashMap, HashSet};

use cerebelum_history::Status;

use super::moment_ms;
use crate::proto;

/// More steps of one name than this below one scope are folded.
const FOLDED_FROM: usize = 10;
/// Every status of a step, in the order in which a person wants to see such steps.
const RANKED: [Status; 5] = [Status::Failed, Status::Waiting, Status::Running, Status::Cancelled, Status::Completed];

/// A row of the tree, and how deep it is; the outermost rows have depth 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Row<'a> {
    /// How deep it is.
    pub depth: usize,
    /// What it shows.
    pub what: What<'a>,
}

/// What a row shows.
#[derive(Debug, Clone, PartialEq)]
pub enum What<'a> {
    /// A step, and the progress that it reported.
    Step(&'a proto::Step, Option<&'a proto::Progress>),
    /// Many steps of one name.
    Folded {
        /// The name.
        name: &'a str,
        /// How many of them have each status.
        numbers: Vec<(Status, usize)>,
    },
    /// So many of the folded steps are not shown.
    Hidden(usize),
    /// A call that the scope waits for.
    Wait(&'a proto::WaitingOn),
    /// The progress that the workflow itself reported.
    Progress(&'a proto::Progress),
}

/// The rows of an execution. Of many steps of one name, `steps_max` are shown.
#[must_use]
pub fn step_rows(status: &proto::ExecutionStatus, steps_max: usize) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    Tree::new(status, steps_max).scope("", 0, &mut rows);
    rows
}

/// Steps below the scope that called them, and the waits of each scope.
struct Tree<'a> {
    steps_max: usize,
    /// By the scope under which they are shown.
    steps: HashMap<&'a str, Vec<&'a proto::Step>>,
    waits: HashMap<&'a str, Vec<&'a proto::WaitingOn>>,
    /// By the scope that reported it.
    progress: HashMap<&'a str, &'a proto::Progress>,
}

impl<'a> Tree<'a> {
    fn new(status: &'a proto::ExecutionStatus, steps_max: usize) -> Self {
        let shown: HashSet<&str> = status.steps.iter().map(|step| step.scope.as_str()).collect();
        let mut steps: HashMap<_, Vec<_>> = HashMap::new();
        for step in status.steps.iter().filter(|step| !step.scope.is_empty()) {
            steps.entry(shown_scope(above(&step.scope), &shown)).or_default().push(step);
        }
        let mut waits: HashMap<_, Vec<_>> = HashMap::new();
        // A wait for a step is shown by the step's own row, and a delayed start at the top.
        for wait in status.waiting_on.iter().filter(|wait| !matches!(wait.kind.as_str(), "step" | "delay")) {
            waits.entry(shown_scope(&wait.scope, &shown)).or_default().push(wait);
        }
        let progress = status.progress.iter().map(|progress| (progress.scope.as_str(), progress)).collect();
        Self { steps_max, steps, waits, progress }
    }

    /// The rows below a scope.
    fn scope(&self, scope: &str, depth: usize, rows: &mut Vec<Row<'a>>) {
        let mut add = |depth, what| rows.push(Row { depth, what });
        if let Some(progress) = self.progress.get(scope).filter(|_| scope.is_empty()) {
            add(depth, What::Progress(progress));
        }
        for group in groups(self.steps.get(scope).map_or(&[][..], Vec::as_slice)) {
            if group.len() <= FOLDED_FROM || self.steps_max >= group.len() {
                group.into_iter().for_each(|step| self.step(step, depth, rows));
                continue;
            }
            let hidden = group.len() - self.steps_max;
            rows.push(Row { depth, what: folded(&group) });
            worth_a_look(group, self.steps_max).into_iter().for_each(|step| self.step(step, depth + 1, rows));
            if hidden > 0 {
                rows.push(Row { depth: depth + 1, what: What::Hidden(hidden) });
            }
        }
        let waits = self.waits.get(scope).into_iter().flatten();
        rows.extend(waits.map(|wait| Row { depth, what: What::Wait(wait) }));
    }

    fn step(&self, step: &'a proto::Step, depth: usize, rows: &mut Vec<Row<'a>>) {
        let progress = self.progress.get(step.scope.as_str()).copied().filter(|_| step.ended_at.is_none());
        rows.push(Row { depth, what: What::Step(step, progress) });
        self.scope(&step.scope, depth + 1, rows);
    }
}

/// The scope that contains this one.
fn above(scope: &str) -> &str {
    scope.rsplit_once('.').map_or("", |(above, _)| above)
}

/// The nearest scope that has a row of its own: this one or one above it.
fn shown_scope<'a>(scope: &'a str, shown: &HashSet<&str>) -> &'a str {
    match scope.is_empty() || shown.contains(scope) {
        true => scope,
        false => shown_scope(above(scope), shown),
    }
}

/// The steps of each name together, in the order of the first one of each.
fn groups<'a>(steps: &[&'a proto::Step]) -> Vec<Vec<&'a proto::Step>> {
    let (mut groups, mut places): (Vec<Vec<_>>, HashMap<&str, usize>) = (Vec::new(), HashMap::new());
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    for step in steps {
        *numbers.entry(&step.name).or_default() += 1;
    }
    for step in steps {
        // A few calls of one step stay where they are: the order shows when they happened.
        let is_few = numbers[step.name.as_str()] <= FOLDED_FROM;
        match places.get(step.name.as_str()).filter(|_| !is_few) {
            Some(place) => groups[*place].push(*step),
            None => {
                places.insert(&step.name, groups.len());
                groups.push(vec![*step]);
            }
        }
    }
    groups
}

fn folded<'a>(group: &[&'a proto::Step]) -> What<'a> {
    let name = group.first().map_or("", |step| step.name.as_str());
    let number = |status: Status| group.iter().filter(|step| step.status == status.word()).count();
    let numbers = RANKED.iter().rev().map(|status| (*status, number(*status)));
    What::Folded { name, numbers: numbers.filter(|(_, number)| *number > 0).collect() }
}

/// The most interesting steps of a group: failed ones before open ones before completed ones, of each sort the latest.
/// They are shown in the order of their start.
fn worth_a_look(group: Vec<&proto::Step>, number: usize) -> Vec<&proto::Step> {
    let rank = |step: &proto::Step| RANKED.iter().position(|status| step.status == status.word());
    // Many may have started in one millisecond.
    let when = |(at, step): &(usize, &proto::Step)| (step.started_at.as_ref().map(moment_ms), *at);
    let mut group: Vec<_> = group.into_iter().enumerate().collect();
    group.sort_by_key(|step| (rank(step.1), std::cmp::Reverse(when(step))));
    group.truncate(number);
    group.sort_by_key(when);
    group.into_iter().map(|(_, step)| step).collect()
}
