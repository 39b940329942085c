//! An execution as a person sees it: what it is, what it does, its steps as a tree, what it waits on.

use std::collections::{HashMap, HashSet};

use cerebelum_server::json::compact;
use cerebelum_server::proto;

use super::line::{Line, Style};
use super::pretty::pretty;
use super::when::{Now, ago, moment_ms};
use crate::durations::roughly;

/// How many columns a progress bar takes.
const BAR_COLUMNS: usize = 20;
/// Longer values are laid out over several lines.
const VALUE_COLUMNS_MAX: usize = 100;
const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

/// How an execution is looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Looks {
    /// The moment it is looked at.
    pub(crate) now: Now,
    /// Which picture of a live view this is; none when it is the only one.
    pub(crate) picture: Option<usize>,
    /// Whether to show input, attributes and whole values.
    pub(crate) in_full: bool,
}

/// An execution as lines.
pub(crate) fn execution(status: &proto::ExecutionStatus, looks: Looks) -> Vec<Line> {
    let summary = status.summary.clone().unwrap_or_default();
    let mut lines = vec![heading(&summary, looks)];
    lines.push(subheading(&summary, looks));
    if looks.in_full {
        lines.extend(facts(status, &summary));
    }
    Tree::new(status, looks).scope("", 1, &mut lines);
    if let Some(output) = &status.output {
        lines.extend(value("output", output));
    }
    if let Some(failure) = &status.failure {
        lines.push(Line::new(Style::Dim, "  failure     ").and(Style::Bad, &failure_line(failure)));
        if let Some(details) = failure.details.as_deref().filter(|_| looks.in_full) {
            lines.extend(value("details", details));
        }
    }
    lines
}

/// Why it failed, in one line.
pub(crate) fn failure_line(failure: &proto::Failure) -> String {
    format!("{}: {}", failure.kind, failure.message)
}

fn heading(summary: &proto::Summary, looks: Looks) -> Line {
    let icon = icon(&summary.status, looks);
    let style = Style::of_status(&summary.status);
    Line::new(style, &format!("{icon} "))
        .and(Style::Bold, &summary.execution_id)
        .and(Style::Plain, &format!("  {}  ", summary.workflow))
        .and(style, &summary.status)
}

fn subheading(summary: &proto::Summary, looks: Looks) -> Line {
    let started = summary.started_at.as_ref();
    let took =
        started.zip(summary.ended_at.as_ref()).map(|(start, end)| moment_ms(end).saturating_sub(moment_ms(start)));
    let when = match took {
        Some(ms) => format!("  took {}, ended {}", roughly(ms), ago(summary.ended_at.as_ref(), looks.now)),
        None => format!("  started {}", ago(started, looks.now)),
    };
    let run = if summary.run > 1 { format!(" · run {}", summary.run) } else { String::new() };
    let events = if summary.events == 1 { "event" } else { "events" };
    Line::new(Style::Dim, &format!("{when} · {} {events}{run}", summary.events))
}

fn facts(status: &proto::ExecutionStatus, summary: &proto::Summary) -> Vec<Line> {
    let fact = |name: &str, text: &str| Line::new(Style::Dim, &format!("  {name:<12}")).and(Style::Plain, text);
    let mut lines = vec![fact("component", &summary.digest)];
    if let Some(parent) = &summary.parent {
        lines.push(fact("parent", parent));
    }
    if !matches!(compact(&summary.attributes).as_str(), "" | "{}") {
        lines.extend(value("attributes", &summary.attributes));
    }
    lines.extend(value("input", &status.input));
    lines
}

/// A named value: on one line where it fits, else laid out below its name.
fn value(name: &str, json: &str) -> Vec<Line> {
    let short = compact(json);
    let name = Line::new(Style::Dim, &format!("  {name:<12}"));
    if short.chars().count() <= VALUE_COLUMNS_MAX {
        return vec![name.and(Style::Plain, &short)];
    }
    let below = pretty(json).into_iter().map(|line| Line::new(Style::Plain, &format!("    {line}")));
    std::iter::once(name).chain(below).collect()
}

fn icon(status: &str, looks: Looks) -> &'static str {
    match status {
        "completed" => "✓",
        "failed" => "✗",
        "cancelled" => "⊘",
        "running" => looks.picture.map_or("●", |picture| SPINNER[picture % SPINNER.len()]),
        "paused" => "‖",
        "parked" => "!",
        "waiting-for-approval" => "?",
        _ => "◌",
    }
}

/// Steps below the scope that called them, and what each scope waits on.
struct Tree<'a> {
    execution_id: &'a str,
    looks: Looks,
    /// By the scope they are shown under.
    steps: HashMap<&'a str, Vec<&'a proto::Step>>,
    waits: HashMap<&'a str, Vec<&'a proto::WaitingOn>>,
    /// By the scope they are of.
    progress: HashMap<&'a str, &'a proto::Progress>,
}

impl<'a> Tree<'a> {
    fn new(status: &'a proto::ExecutionStatus, looks: Looks) -> Self {
        let shown: HashSet<&str> = status.steps.iter().map(|step| step.scope.as_str()).collect();
        let mut steps: HashMap<_, Vec<_>> = HashMap::new();
        for step in status.steps.iter().filter(|step| !step.scope.is_empty()) {
            steps.entry(shown_scope(above(&step.scope), &shown)).or_default().push(step);
        }
        let mut waits: HashMap<_, Vec<_>> = HashMap::new();
        // That a scope waits for a step is said by the step's own line.
        for wait in status.waiting_on.iter().filter(|wait| wait.kind != "step") {
            waits.entry(shown_scope(&wait.scope, &shown)).or_default().push(wait);
        }
        let execution_id = status.summary.as_ref().map_or("", |summary| summary.execution_id.as_str());
        let progress = status.progress.iter().map(|progress| (progress.scope.as_str(), progress)).collect();
        Self { execution_id, looks, steps, waits, progress }
    }

    fn scope(&self, scope: &str, depth: usize, lines: &mut Vec<Line>) {
        let progress = self.progress.get(scope).filter(|_| scope.is_empty());
        lines.extend(progress.map(|progress| indented(depth).join(&bar(progress))));
        for step in self.steps.get(scope).into_iter().flatten() {
            lines.push(self.step(step, depth));
            self.scope(&step.scope, depth + 1, lines);
        }
        let waits = self.waits.get(scope).into_iter().flatten();
        lines.extend(waits.map(|wait| indented(depth).join(&self.wait(wait))));
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
            line = line.and(Style::Needy, &format!("  attempt {}", step.attempt));
        }
        let progress = self.progress.get(step.scope.as_str());
        if let Some(progress) = progress.filter(|_| step.ended_at.is_none()) {
            line = line.and(Style::Plain, "  ").join(&bar(progress));
        }
        match &step.failure {
            Some(failure) => line.and(Style::Bad, &format!("  {}", failure_line(failure))),
            None => line,
        }
    }

    fn step_took(&self, step: &proto::Step) -> String {
        let Some(start) = step.started_at.as_ref().map(moment_ms) else { return String::new() };
        let end = step.ended_at.as_ref().map_or(self.looks.now.0, moment_ms);
        roughly(end.saturating_sub(start))
    }

    fn wait(&self, wait: &proto::WaitingOn) -> Line {
        let style = if wait.kind == "approval" { Style::Needy } else { Style::Plain };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::testing::{deployment, shown};

    const NOW: Looks = Looks { now: Now(1_700_000_010_000), picture: None, in_full: false };

    #[test]
    fn a_running_execution_is_a_tree_with_bars_and_waits() {
        let expected = "\
● e1  shop/deploy  running
  started 10s ago · 9 events
  ✓ create                            1.5s
  ● configure                         6.0s  ████████░░░░░░░░░░░░  43%  copying\\nfiles
    ✗ connect                        800ms  attempt 2  failure: no route
    ◌ retry connect · 2 so far · 3.0s left
  ◌ poll wait_for_ip · 3 so far · last \"new\" · since 1.0s ago
  ? approval Go\\u{1b}[31m live? · since 500ms ago · cerebelum approve e1";
        let expected: Vec<_> = expected.lines().collect();
        assert_eq!(shown(&execution(&deployment(), NOW)), expected);
    }

    #[test]
    fn a_completed_execution_in_full_shows_what_went_in_and_what_came_out() {
        let mut status = deployment();
        let summary = status.summary.as_mut().unwrap();
        summary.status = "completed".into();
        summary.ended_at = Some(Now(1_700_000_009_000).timestamp());
        summary.attributes = r#"{ "team" : "infra" }"#.into();
        summary.run = 2;
        status.steps.truncate(1);
        status.waiting_on.clear();
        status.progress.clear();
        status.output = Some(format!("[\"{}\"]", "x".repeat(120)));
        let expected = format!(
            "\
✓ e1  shop/deploy  completed
  took 9.0s, ended 1.0s ago · 9 events · run 2
  component   d1
  attributes  {{\"team\":\"infra\"}}
  input       {{\"n\":9007199254740993}}
  ✓ create                            1.5s
  output{:6}
    [
      \"{}\"
    ]",
            "",
            "x".repeat(120)
        );
        assert_eq!(shown(&execution(&status, Looks { in_full: true, ..NOW })), expected.lines().collect::<Vec<_>>());
    }
}
