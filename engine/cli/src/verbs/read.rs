//! Reads components, events and log lines.

use std::collections::HashMap;

use cerebelum_server::{json, proto};

use super::ApiCommand;
use crate::args::{History, Logs};
use crate::client::{Api, Client};
use crate::exit::Outcome;
use crate::out::note;
use crate::render::{Line, Now, Style, Table, ago, plain, traceback_lines, without_traceback};

/// The number of digest digits that are shown to a person.
const DIGEST_DIGITS: usize = 12;

impl ApiCommand {
    /// Lists components.
    pub(crate) async fn components(&self) -> Outcome {
        let components = self.client().await?.components().await?;
        let now = Now::measured();
        let row = |component: &proto::Component| {
            [
                Line::bold(&component.name),
                short(&component.digest).into(),
                place(component),
                ago(component.uploaded_at.as_ref(), now).into(),
                size(component.size).into(),
                component.workflows.join(" ").into(),
                component.steps.join(" ").into(),
                component.capabilities.join(" ").into(),
            ]
        };
        let columns = ["COMPONENT", "DIGEST", "VERSION", "UPLOADED", "SIZE", "WORKFLOWS", "STEPS", "ASKS FOR"];
        let table = Table::new(columns, components.iter().map(row));
        let none = "no components; hand one in with `cerebelum upload FILE`";
        self.list(components.iter().map(json::of), &table, none)
    }

    /// Prints events.
    pub(crate) async fn history(&self, args: History) -> Outcome {
        let mut client = self.client().await?;
        let History { id: execution_id, run, after, follow } = args;
        let request = proto::HistoryRequest { execution_id, run, after, follow };
        let mut events = client.ask(Api::history, request).await?;
        while let Some(event) = events.message().await.map_err(|e| client.stop(&e))? {
            match self.global.json {
                true => self.out.say(&json::of(&event))?,
                false => self.out.show(&event_lines(&event))?,
            }
        }
        Ok(())
    }

    /// Prints log lines.
    pub(crate) async fn logs(&self, args: Logs) -> Outcome {
        let mut client = self.client().await?;
        let request = proto::LogsRequest { execution_id: args.id.clone(), after: 0, follow: args.follow };
        let mut lines = client.ask(Api::logs, request).await?;
        if let Some(first) = client.status(&args.id).await?.summary.and_then(|summary| summary.runs_from) {
            note(&format!("log lines of runs before {first} are no longer kept (keep_runs)"));
        }
        let mut names = Names { client: client.clone(), execution_id: args.id, known: HashMap::new() };
        while let Some(line) = lines.message().await.map_err(|e| client.stop(&e))? {
            let name = names.of(&line.scope).await?;
            match self.global.json {
                true => self.out.say(&json::log_line(&line, name))?,
                // A log line is not cut at the terminal's width: the reader may look for its end.
                false => self.out.say(&log_line(&line, name).render(None, self.out.colours))?,
            }
        }
        Ok(())
    }
}

/// The names of steps by scope.
struct Names {
    client: Client,
    execution_id: String,
    known: HashMap<String, Option<String>>,
}

impl Names {
    /// The name of a scope's step; none for the workflow's own scope, or for a step of an earlier run.
    async fn of(&mut self, scope: &str) -> Outcome<Option<&str>> {
        if !scope.is_empty() && !self.known.contains_key(scope) {
            let steps = self.client.status(&self.execution_id).await?.steps;
            self.known.extend(steps.into_iter().map(|step| (step.scope, Some(step.name))));
            // A check of a poll has the poll's scope and its round, as in `4#7`.
            let poll = scope.rsplit_once('#').and_then(|(poll, _)| self.known.get(poll).cloned()).flatten();
            self.known.entry(scope.to_owned()).or_insert(poll);
        }
        Ok(self.known.get(scope).and_then(Option::as_deref))
    }
}

/// An event, and below it the traceback that it contains.
fn event_lines(event: &proto::Event) -> Vec<Line> {
    let Some((fields, traceback)) = without_traceback(&event.fields) else { return vec![event_line(event)] };
    let line = event_line(&proto::Event { fields, ..event.clone() });
    std::iter::once(line).chain(traceback_lines(&traceback)).collect()
}

fn event_line(event: &proto::Event) -> Line {
    let style = match event.kind.as_str() {
        kind if kind.ends_with("Failed") || kind.ends_with("Parked") || kind.ends_with("TimedOut") => Style::Bad,
        kind if kind.ends_with("Cancelled") || kind.ends_with("Rejected") => Style::ActionNeeded,
        kind if kind.ends_with("Completed") => Style::Good,
        _ => Style::Plain,
    };
    Line::new(Style::Dim, &format!("{:>5}  {}  ", event.position, time_of(event.time.as_ref())))
        .and(Style::Dim, &format!("{:<8} ", event.scope))
        .and(style, &format!("{:<20}", event.kind))
        .and(Style::Dim, &format!(" {}", json::compact(&event.fields)))
}

fn log_line(line: &proto::LogLine, step: Option<&str>) -> Line {
    let style = match line.level.as_str() {
        "error" => Style::Bad,
        "warn" => Style::ActionNeeded,
        "debug" => Style::Dim,
        _ => Style::Plain,
    };
    Line::new(Style::Dim, &format!("{}  ", time_of(line.time.as_ref())))
        .and(style, &format!("{:<5} ", line.level))
        .and(Style::Dim, &format!("{:<6} {:<16} ", line.scope, step.unwrap_or_default()))
        .and(Style::Plain, &line.text)
}

fn time_of(at: Option<&prost_types::Timestamp>) -> String {
    at.map(json::rfc3339).unwrap_or_default()
}

/// The beginning of a digest.
pub(super) fn short(digest: &str) -> &str {
    digest.get(..DIGEST_DIGITS).unwrap_or(digest)
}

/// A size in bytes, in short form.
pub(crate) fn size(bytes: u64) -> String {
    let tenths = |unit: u64| format!("{}.{}", bytes / unit, bytes % unit * 10 / unit);
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{} KiB", bytes / 1_024),
        _ => format!("{} MiB", tenths(1_048_576)),
    }
}

/// A component in lines for a person.
pub(super) fn component_lines(component: &proto::Component) -> Vec<String> {
    let mut lines = vec![format!("{} {} ({})", component.name, component.digest, size(component.size))];
    for (what, names) in
        [("workflows", &component.workflows), ("steps", &component.steps), ("asks for", &component.capabilities)]
    {
        if !names.is_empty() {
            lines.push(plain(&format!("  {what:<10} {}", names.join(", "))));
        }
    }
    if component.proposed {
        let (new, digest) = (component.not_granted.join(", "), short(&component.digest));
        lines.push(plain(&format!("  proposed   {new} was not granted: an admin accepts it")));
        lines.push(format!("             cerebelum components accept {}@{digest}", component.name));
    } else if !component.not_granted.is_empty() {
        lines.push(plain(&format!("  not granted {}", component.not_granted.join(", "))));
    }
    lines
}

/// What a version is among those of its name.
fn place(component: &proto::Component) -> Line {
    match (component.current, component.proposed) {
        (true, _) => Line::new(Style::Good, "current"),
        (false, true) => Line::new(Style::ActionNeeded, "proposed"),
        (false, false) => Line::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_and_log_lines_are_aligned_and_harmless() {
        let time = Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 });
        let event = proto::Event {
            position: 3,
            time,
            kind: "StepCompleted".into(),
            scope: "1".into(),
            fields: "{ \"a\": 1 }".into(),
        };
        let expected = r#"    3  2023-11-14T22:13:20.000Z  1        StepCompleted        {"a":1}"#;
        assert_eq!(event_line(&event).render(None, false), expected);
        let line = proto::LogLine {
            seq: 1,
            time,
            level: "warn".into(),
            scope: "2.1".into(),
            attempt: 1,
            text: "a\x1b[2Jb\nc".into(),
        };
        let expected = r"2023-11-14T22:13:20.000Z  warn  2.1    welcome          a\u{1b}[2Jb\nc";
        assert_eq!(log_line(&line, Some("welcome")).render(None, false), expected);
    }

    #[test]
    fn an_event_with_a_traceback_shows_it_as_text_below() {
        let fields = r#"{"ordinal":1,"failure":{"kind":"exception","message":"'b'","details":{"type":"KeyError","traceback":"Traceback (most recent call last):\n  File \"/2/app.py\", line 3, in f\nKeyError: 'b'\n"}}}"#;
        let event =
            proto::Event { position: 4, kind: "StepFailed".into(), fields: fields.into(), ..Default::default() };
        let lines: Vec<_> = event_lines(&event).iter().map(|line| line.render(None, false)).collect();
        assert!(lines[0].contains("KeyError") && !lines[0].contains("Traceback"), "{lines:?}");
        let below = ["Traceback (most recent call last):", "  File \"app.py\", line 3, in f", "KeyError: 'b'"];
        assert_eq!(lines[1..], below.map(|line| format!("    {line}")));
    }

    #[test]
    fn sizes_are_rounded_for_people() {
        let cases = [(0, "0 B"), (1_023, "1023 B"), (102_400, "100 KiB"), (20_447_232, "19.5 MiB")];
        for (bytes, shown) in cases {
            assert_eq!(size(bytes), shown);
        }
    }
}
