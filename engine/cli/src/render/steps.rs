//! The steps of an execution as a tree, with the waits of each scope; many steps of one name are folded.

use std::collections::{HashMap, HashSet};

use cerebelum_history::Status;
use cerebelum_server::json::compact;
use cerebelum_server::proto;

use super::execution::{RenderOptions, icon};
use super::failure::failure_line;
use super::line::{Line, Style};
use super::when::{ago, moment_ms};
use crate::durations::roughly;

/// The width of a progress bar, in columns.
const BAR_COLUMNS: usize = 20;
/// More steps of one name than this below one scope are folded.
const FOLDED_FROM: usize = 10;
/// Every status of a step, in the order in which a person wants to see such steps.
const RANKED: [Status; 5] = [Status::Failed, Status::Waiting, Status::Running, Status::Cancelled, Status::Completed];

/// Steps below the scope that called them, and the waits of each scope.
pub(super) struct Tree<'a> {
    execution_id: &'a str,
    looks: RenderOptions,
    /// By the scope under which they are shown.
    steps: HashMap<&'a str, Vec<&'a proto::Step>>,
    waits: HashMap<&'a str, Vec<&'a proto::WaitingOn>>,
    /// By the scope that reported it.
    progress: HashMap<&'a str, &'a proto::Progress>,
}

impl<'a> Tree<'a> {
    /// The tree of an execution.
    pub(super) fn new(status: &'a proto::ExecutionStatus, looks: RenderOptions) -> Self {
        let shown: HashSet<&str> = status.steps.iter().map(|step| step.scope.as_str()).collect();
        let mut steps: HashMap<_, Vec<_>> = HashMap::new();
        for step in status.steps.iter().filter(|step| !step.scope.is_empty()) {
            steps.entry(shown_scope(above(&step.scope), &shown)).or_default().push(step);
        }
        let mut waits: HashMap<_, Vec<_>> = HashMap::new();
        // A wait for a step is shown by the step's own line, and a delayed start at the top.
        for wait in status.waiting_on.iter().filter(|wait| !matches!(wait.kind.as_str(), "step" | "delay")) {
            waits.entry(shown_scope(&wait.scope, &shown)).or_default().push(wait);
        }
        let execution_id = status.summary.as_ref().map_or("", |summary| summary.execution_id.as_str());
        let progress = status.progress.iter().map(|progress| (progress.scope.as_str(), progress)).collect();
        Self { execution_id, looks, steps, waits, progress }
    }

    /// The lines below a scope.
    pub(super) fn scope(&self, scope: &str, depth: usize, lines: &mut Vec<Line>) {
        let progress = self.progress.get(scope).filter(|_| scope.is_empty());
        lines.extend(progress.map(|progress| indented(depth).join(&bar(progress))));
        for group in groups(self.steps.get(scope).map_or(&[][..], Vec::as_slice)) {
            if group.len() <= FOLDED_FROM || self.looks.steps_max >= group.len() {
                group.into_iter().for_each(|step| self.with_inner(step, depth, lines));
                continue;
            }
            lines.push(indented(depth).join(&folded(&group)));
            let hidden = group.len() - self.looks.steps_max;
            worth_a_look(group, self.looks.steps_max)
                .into_iter()
                .for_each(|step| self.with_inner(step, depth + 1, lines));
            if hidden > 0 {
                lines.push(
                    indented(depth + 1).and(Style::Dim, &format!("… {hidden} more, see `cerebelum status --all`")),
                );
            }
        }
        let waits = self.waits.get(scope).into_iter().flatten();
        lines.extend(waits.map(|wait| indented(depth).join(&self.wait(wait))));
    }

    fn with_inner(&self, step: &proto::Step, depth: usize, lines: &mut Vec<Line>) {
        lines.push(self.step(step, depth));
        self.scope(&step.scope, depth + 1, lines);
    }

    fn step(&self, step: &proto::Step, depth: usize) -> Line {
        let style = Style::of_status(&step.status);
        let name = if matches!(style, Style::Dim) { Style::Dim } else { Style::Plain };
        let width = 32_usize.saturating_sub(depth * 2);
        let mut line = indented(depth)
            .and(style, icon(&step.status, self.looks))
            .and(name, &format!(" {:<width$} ", step.name))
            .and(Style::Dim, &format!("{:>7}", self.step_took(step)));
        if step.attempt > 1 {
            line = line.and(Style::ActionNeeded, &format!("  attempt {}", step.attempt));
        }
        let progress = self.progress.get(step.scope.as_str());
        if let Some(progress) = progress.filter(|_| step.ended_at.is_none()) {
            line = line.and(Style::Plain, "  ").join(&bar(progress));
        }
        if let Some(failure) = &step.failure {
            line = line.and(Style::Bad, &format!("  {}", failure_line(failure)));
        }
        match step.input_preview.as_str() {
            "" | "null" => line,
            input => line.and(Style::Dim, &format!("  {input}")),
        }
    }

    fn step_took(&self, step: &proto::Step) -> String {
        let Some(start) = step.started_at.as_ref().map(moment_ms) else { return String::new() };
        let end = step.ended_at.as_ref().map_or(self.looks.now.0, moment_ms);
        roughly(end.saturating_sub(start))
    }

    fn wait(&self, wait: &proto::WaitingOn) -> Line {
        let style = if wait.kind == "approval" { Style::ActionNeeded } else { Style::Plain };
        let icon = if wait.kind == "approval" { "?" } else { "◌" };
        let mut line = Line::new(style, &format!("{icon} {}", wait.kind));
        if !wait.name.is_empty() {
            line = line.and(style, &format!(" {}", wait.name));
        }
        let mut notes = Vec::new();
        notes.extend(wait.attempts.map(|attempts| format!("{attempts} so far")));
        notes.extend(wait.last.as_ref().map(|last| format!("last {}", compact(last))));
        match wait.until.as_ref().map(moment_ms) {
            Some(until) => notes.push(format!("{} left", roughly(until.saturating_sub(self.looks.now.0)))),
            None => notes.push(format!("since {}", ago(wait.since.as_ref(), self.looks.now))),
        }
        if wait.kind == "approval" {
            notes.push(format!("cerebelum approve {}", self.execution_id));
        }
        line.and(Style::Dim, &format!(" · {}", notes.join(" · ")))
    }
}

/// The scope that contains this one.
fn above(scope: &str) -> &str {
    scope.rsplit_once('.').map_or("", |(above, _)| above)
}

/// The nearest scope that has a line of its own: this one or one above it.
fn shown_scope<'a>(scope: &'a str, shown: &HashSet<&str>) -> &'a str {
    match scope.is_empty() || shown.contains(scope) {
        true => scope,
        false => shown_scope(above(scope), shown),
    }
}

fn indented(depth: usize) -> Line {
    Line::new(Style::Plain, &"  ".repeat(depth))
}

fn bar(progress: &proto::Progress) -> Line {
    let percent = progress.percent.min(100);
    let full = usize::try_from(percent).unwrap_or(100) * BAR_COLUMNS / 100;
    Line::new(Style::Busy, &"█".repeat(full))
        .and(Style::Dim, &"░".repeat(BAR_COLUMNS - full))
        .and(Style::Plain, &format!(" {percent:>3}%  {}", progress.message))
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

/// `process ×500: 480 completed, 20 running`.
fn folded(group: &[&proto::Step]) -> Line {
    let name = group.first().map_or("", |step| step.name.as_str());
    let mut line = Line::new(Style::Plain, &format!("{name} ×{}: ", group.len()));
    let number = |word: &str| group.iter().filter(|step| step.status == word).count();
    let words = RANKED.iter().rev().map(|status| status.word());
    let counted = words.map(|word| (word, number(word))).filter(|(_, number)| *number > 0);
    for (place, (word, number)) in counted.enumerate() {
        let comma = if place == 0 { "" } else { ", " };
        line = line.and(Style::Plain, comma).and(Style::of_status(word), &format!("{number} {word}"));
    }
    line
}

/// The most interesting steps of a group: failed ones before open ones before completed ones, of each sort the latest.
/// They are shown in the order of their start.
fn worth_a_look(mut group: Vec<&proto::Step>, number: usize) -> Vec<&proto::Step> {
    let rank = |step: &proto::Step| RANKED.iter().position(|status| step.status == status.word());
    let started = |step: &proto::Step| step.started_at.as_ref().map(moment_ms);
    group.sort_by_key(|step| (rank(step), std::cmp::Reverse(started(step))));
    group.truncate(number);
    group.sort_by_key(|step| started(step));
    group
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::Now;
    use crate::render::testing::{START_MS, shown};

    /// 500 calls of one step between two others: the first 480 have completed, one has failed.
    fn crowd() -> proto::ExecutionStatus {
        let step = |name: &str, number: u64, status: &str| proto::Step {
            name: name.into(),
            scope: number.to_string(),
            status: status.into(),
            attempt: 1,
            started_at: Some(Now(START_MS + number).timestamp()),
            ended_at: (status != "running").then(|| Now(START_MS + number + 12).timestamp()),
            input_preview: format!("{{\"part\":{number}}}"),
            ..Default::default()
        };
        let status = |number| match number {
            7 => "failed",
            1..=480 => "completed",
            _ => "running",
        };
        let mut steps = vec![step("prepare", 0, "completed")];
        steps.extend((1..=500).map(|number| step("process", number, status(number))));
        steps.push(step("conclude", 501, "running"));
        proto::ExecutionStatus { steps, ..Default::default() }
    }

    fn lines(status: &proto::ExecutionStatus, steps_max: usize) -> Vec<String> {
        let looks = RenderOptions { steps_max, ..RenderOptions::at(Now(START_MS + 1_000)) };
        let mut lines = Vec::new();
        Tree::new(status, looks).scope("", 1, &mut lines);
        shown(&lines)
    }

    #[test]
    fn hundreds_of_calls_of_one_step_are_one_line_and_those_worth_a_look() {
        let expected = "  ✓ prepare                           12ms  {\"part\":0}
  process ×500: 479 completed, 20 running, 1 failed
    ✗ process                         12ms  {\"part\":7}
    ● process                        501ms  {\"part\":499}
    ● process                        500ms  {\"part\":500}
    … 497 more, see `cerebelum status --all`
  ● conclude                         499ms  {\"part\":501}";
        assert_eq!(lines(&crowd(), 3), expected.lines().collect::<Vec<_>>());
        assert_eq!(lines(&crowd(), usize::MAX).len(), 502);
        assert_eq!(lines(&crowd(), 0).len(), 4);
    }

    #[test]
    fn a_few_calls_of_one_step_stay_where_they_are() {
        let mut status = crowd();
        status.steps.truncate(10);
        status.steps.push(proto::Step { name: "process".into(), scope: "900".into(), ..Default::default() });
        let names: Vec<_> =
            lines(&status, 1).iter().filter_map(|line| line.split_whitespace().nth(1).map(str::to_owned)).collect();
        assert_eq!(names.len(), 11);
        assert_eq!((names[0].as_str(), names[10].as_str()), ("prepare", "process"));
    }
}
