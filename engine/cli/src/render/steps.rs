//! The tree of an execution's steps and waits on a terminal.

use cerebelum_history::Status;
use cerebelum_server::json::compact;
use cerebelum_server::proto;
use cerebelum_server::wording::{Row, What, ago, failure_line, moment_ms, roughly, step_rows};

use super::execution::{RenderOptions, icon};
use super::line::{Line, Style};

/// The width of a progress bar, in columns.
const BAR_COLUMNS: usize = 20;

/// The lines of the tree.
pub(super) fn tree(status: &proto::ExecutionStatus, looks: RenderOptions) -> Vec<Line> {
    let execution_id = status.summary.as_ref().map_or("", |summary| summary.execution_id.as_str());
    let rows = step_rows(status, looks.steps_max);
    rows.iter().map(|row| Terminal { execution_id, looks }.line(row)).collect()
}

/// What the lines of a tree are made with.
struct Terminal<'a> {
    execution_id: &'a str,
    looks: RenderOptions,
}

impl Terminal<'_> {
    fn line(&self, row: &Row) -> Line {
        let depth = row.depth + 1;
        match &row.what {
            What::Step(step, progress) => self.step(step, *progress, depth),
            What::Folded { name, numbers } => indented(depth).join(&folded(name, numbers)),
            What::Hidden(number) => {
                indented(depth).and(Style::Dim, &format!("… {number} more, see `cerebelum status --all`"))
            }
            What::Wait(wait) => indented(depth).join(&self.wait(wait)),
            What::Progress(progress) => indented(depth).join(&bar(progress)),
        }
    }

    fn step(&self, step: &proto::Step, progress: Option<&proto::Progress>, depth: usize) -> Line {
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
        if let Some(progress) = progress {
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

/// `process ×500: 480 completed, 20 running`.
fn folded(name: &str, numbers: &[(Status, usize)]) -> Line {
    let total: usize = numbers.iter().map(|(_, number)| number).sum();
    let mut line = Line::new(Style::Plain, &format!("{name} ×{total}: "));
    for (place, (status, number)) in numbers.iter().enumerate() {
        let comma = if place == 0 { "" } else { ", " };
        let style = Style::of_status(status.word());
        line = line.and(Style::Plain, comma).and(style, &format!("{number} {}", status.word()));
    }
    line
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
        shown(&tree(status, looks))
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
