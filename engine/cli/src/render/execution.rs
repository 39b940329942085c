//! An execution as a person sees it: its name and state, its steps as a tree, and the calls that it waits for.

use std::time::Duration;

use cerebelum_history::{Status, UnknownStatus};
use cerebelum_server::json::compact;
use cerebelum_server::wording::{self, Now, ago, failure_line, moment_ms, pretty, roughly, why, without_traceback};
use cerebelum_server::{Span, proto};

use super::line::{Line, Style};
use super::steps::tree;

/// The number of steps of one name that are shown when there are too many; a flag can raise it.
pub(crate) const STEPS_SHOWN: usize = 5;
/// Longer values are formatted over several lines.
const VALUE_COLUMNS_MAX: usize = 100;
const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

/// How an execution is rendered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RenderOptions {
    /// The moment of the view.
    pub(crate) now: Now,
    /// The number of this frame in a live view; none for a single frame.
    pub(crate) picture: Option<usize>,
    /// Whether to show input, attributes and whole values.
    pub(crate) in_full: bool,
    /// The number of steps of one name that are shown when there are too many.
    pub(crate) steps_max: usize,
    /// How long the engine has not been reachable.
    pub(crate) away: Option<Duration>,
}

impl RenderOptions {
    /// The options of a single frame.
    pub(crate) fn at(now: Now) -> Self {
        Self { now, picture: None, in_full: false, steps_max: STEPS_SHOWN, away: None }
    }
}

/// An execution as lines.
pub(crate) fn execution(status: &proto::ExecutionStatus, looks: RenderOptions) -> Vec<Line> {
    let summary = status.summary.clone().unwrap_or_default();
    let mut lines = vec![heading(&summary, looks)];
    lines.push(subheading(status, &summary, looks));
    if is_held_up(&summary) {
        lines.push(Line::new(Style::Plain, &format!("  {}", why(status, looks.now))));
    }
    if let Some(away) = looks.away {
        let since = roughly(Span::of(away).ms);
        lines.push(Line::new(Style::Bad, &format!("  engine not reachable since {since}, trying again")));
    }
    if looks.in_full {
        lines.extend(facts(status, &summary));
    }
    if status.earlier_events > 0 {
        let earlier =
            format!("  … {} earlier events: cerebelum history {}", status.earlier_events, summary.execution_id);
        lines.push(Line::new(Style::Dim, &earlier));
    }
    lines.extend(tree(status, looks));
    if let Some(output) = &status.output {
        lines.extend(value("output", output));
    }
    if let Some(failure) = &status.failure {
        lines.push(Line::new(Style::Dim, "  failure     ").and(Style::Bad, &failure_line(failure)));
        if looks.in_full {
            lines.extend(details(failure));
        }
    }
    lines
}

/// Whether the execution is open and computes nothing. A failure has a line of its own.
fn is_held_up(summary: &proto::Summary) -> bool {
    use Status::{Paused, Sleeping, Waiting, WaitingForApproval};
    matches!(summary.status.parse(), Ok(Paused | Sleeping | Waiting | WaitingForApproval))
}

/// The details of a failure, with a traceback as text.
fn details(failure: &proto::Failure) -> Vec<Line> {
    let Some(json) = failure.details.as_deref() else { return Vec::new() };
    let Some((rest, traceback)) = without_traceback(json) else { return value("details", json) };
    // The type is in the line above.
    let is_said = serde_json::from_str::<std::collections::BTreeMap<String, serde_json::Value>>(&rest)
        .is_ok_and(|members| members.keys().all(|name| name == "type"));
    let mut lines = if is_said { Vec::new() } else { value("details", &rest) };
    lines.push(Line::new(Style::Dim, "  traceback"));
    lines.extend(traceback_lines(&traceback));
    lines
}

/// The lines of a traceback, indented.
pub(crate) fn traceback_lines(traceback: &str) -> Vec<Line> {
    let lines = wording::traceback_lines(traceback).into_iter();
    lines.map(|line| Line::new(Style::Plain, &format!("    {line}"))).collect()
}

fn heading(summary: &proto::Summary, looks: RenderOptions) -> Line {
    let icon = icon(&summary.status, looks);
    let style = Style::of_status(&summary.status);
    Line::new(style, &format!("{icon} "))
        .and(Style::Bold, &summary.execution_id)
        .and(Style::Plain, &format!("  {}  ", summary.workflow))
        .and(style, &summary.status)
}

fn subheading(status: &proto::ExecutionStatus, summary: &proto::Summary, looks: RenderOptions) -> Line {
    let begins = status.waiting_on.iter().find(|wait| wait.kind == "delay").and_then(|wait| wait.until.as_ref());
    let begins = begins.map(moment_ms).filter(|begins_ms| *begins_ms > looks.now.0);
    let started = summary.started_at.as_ref();
    let took =
        started.zip(summary.ended_at.as_ref()).map(|(start, end)| moment_ms(end).saturating_sub(moment_ms(start)));
    let when = match took {
        Some(ms) => format!("  took {}, ended {}", roughly(ms), ago(summary.ended_at.as_ref(), looks.now)),
        None => match begins {
            Some(begins_ms) => format!("  begins in {}", roughly(begins_ms - looks.now.0)),
            None => format!("  started {}", ago(started, looks.now)),
        },
    };
    let mut run = if summary.run > 1 { format!(" · run {}", summary.run) } else { String::new() };
    if let Some(first) = summary.runs_from {
        run.push_str(&format!(", kept from run {first} on"));
    }
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

/// A named value: on one line if it fits, else formatted below its name.
fn value(name: &str, json: &str) -> Vec<Line> {
    let short = compact(json);
    let name = Line::new(Style::Dim, &format!("  {name:<12}"));
    if short.chars().count() <= VALUE_COLUMNS_MAX {
        return vec![name.and(Style::Plain, &short)];
    }
    let below = pretty(json).into_iter().map(|line| Line::new(Style::Plain, &format!("    {line}")));
    std::iter::once(name).chain(below).collect()
}

pub(super) fn icon(status: &str, looks: RenderOptions) -> &'static str {
    match status.parse() {
        Ok(Status::Completed) => "✓",
        Ok(Status::Failed) => "✗",
        Ok(Status::Cancelled) => "⊘",
        Ok(Status::Running) => looks.picture.map_or("●", |picture| SPINNER[picture % SPINNER.len()]),
        Ok(Status::Paused) => "‖",
        Ok(Status::Parked) => "!",
        Ok(Status::WaitingForApproval) => "?",
        Ok(Status::Sleeping | Status::Waiting) | Err(UnknownStatus) => "◌",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::testing::{deployment, shown};

    const NOW: RenderOptions = RenderOptions {
        now: Now(1_700_000_010_000),
        picture: None,
        in_full: false,
        steps_max: STEPS_SHOWN,
        away: None,
    };

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
    fn an_engine_that_is_away_is_said_and_a_start_that_is_delayed() {
        let mut status = deployment();
        let away = RenderOptions { away: Some(Duration::from_secs(19)), ..NOW };
        assert_eq!(shown(&execution(&status, away))[2], "  engine not reachable since 19s, trying again");
        let until = Some(Now(1_700_000_013_000).timestamp());
        status.waiting_on = vec![proto::WaitingOn { kind: "delay".into(), until, ..Default::default() }];
        status.steps.clear();
        status.progress.clear();
        assert_eq!(shown(&execution(&status, NOW))[1..], ["  begins in 3.0s · 9 events"]);
    }

    #[test]
    fn an_exception_in_full_shows_its_type_and_its_traceback_as_text() {
        let mut status = deployment();
        let traceback = "Traceback (most recent call last):\n  File \"/2/app.py\", line 3, in f\nKeyError: 'b'\n";
        let details = |more: serde_json::Value| {
            let mut details = serde_json::json!({"type": "KeyError", "traceback": traceback});
            details.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
            Some(details.to_string())
        };
        let failed =
            |details| proto::Failure { kind: "exception".into(), message: "'b'".into(), details, retryable: false };
        let last = |status: &proto::ExecutionStatus, number: usize| {
            let lines = shown(&execution(status, RenderOptions { in_full: true, ..NOW }));
            lines[lines.len() - number..].to_vec()
        };
        let as_text = [
            "  traceback",
            "    Traceback (most recent call last):",
            "      File \"app.py\", line 3, in f",
            "    KeyError: 'b'",
        ];
        status.failure = Some(failed(details(serde_json::json!({}))));
        assert_eq!(last(&status, 5)[0], "  failure     KeyError: 'b'");
        assert_eq!(last(&status, 4), as_text);
        status.failure = Some(failed(details(serde_json::json!({"step": "pay"}))));
        assert_eq!(last(&status, 5)[0], "  details     {\"step\":\"pay\",\"type\":\"KeyError\"}");
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
        assert_eq!(
            shown(&execution(&status, RenderOptions { in_full: true, ..NOW })),
            expected.lines().collect::<Vec<_>>()
        );
    }
}
