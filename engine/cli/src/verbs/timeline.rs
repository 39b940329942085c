//! Draws the calls of an execution as bars over time.

use cerebelum_history::{Event, Scope, Timestamp};
use cerebelum_server::wording::{Axis, Now, moment_ms};
use cerebelum_server::{json, proto};
use cerebelum_timeline::{Lane, Timeline};
use serde_json::{Value, json};

use super::ApiCommand;
use crate::args;
use crate::client::Api;
use crate::exit::Outcome;
use crate::out::size;
use crate::render::{Line, Style, timeline};

impl ApiCommand {
    /// Prints an execution's timeline.
    pub(crate) async fn timeline(&self, args: args::Timeline) -> Outcome {
        let mut client = self.client().await?;
        let status = client.status(&args.id).await?;
        let summary = status.summary.unwrap_or_default();
        let run = args.run.unwrap_or(summary.run);
        let request = proto::HistoryRequest { execution_id: args.id, run: Some(run), ..Default::default() };
        let mut events = client.ask(Api::history, request).await?;
        let (mut calls, mut unknown) = (Timeline::default(), 0_u64);
        while let Some(event) = events.message().await.map_err(|e| client.stop(&e))? {
            match stored(&event) {
                Some(event) => calls.add(&event),
                None => unknown += 1,
            }
        }
        let Some((from, last)) = calls.span() else { return self.out.say("it has not begun") };
        let is_open = summary.ended_at.is_none() && run == summary.run;
        let until = if is_open { Timestamp(Now::measured().0).max(last) } else { last };
        let hidden = calls.hidden_calls();
        let lanes = calls.into_lanes(until);
        if self.global.json {
            return self.out.array(&lanes.iter().map(lane).collect::<Vec<_>>());
        }
        let axis = Axis::new((from, until), &lanes, args.even);
        let mut lines = timeline(&lanes, &axis, size().columns);
        let mut note = |count: u64, what: &str| {
            if count > 0 {
                lines.push(Line::new(Style::Dim, &format!("{count} {what}")));
            }
        };
        note(hidden, "calls of further names are in the history");
        note(unknown, "events are of a newer engine, and are not shown");
        self.out.show(&lines)
    }
}

fn stored(event: &proto::Event) -> Option<Event> {
    let at = Timestamp(moment_ms(event.time.as_ref()?));
    Event::from_shown(at, &Scope::from_text(&event.scope), &event.kind, serde_json::from_str(&event.fields).ok()?)
}

/// A lane for a program.
fn lane(lane: &Lane) -> String {
    let time = |at: Timestamp| json::rfc3339(&Now(at.0).timestamp());
    let bars: Vec<Value> = lane
        .bars
        .iter()
        .map(|bar| {
            json!({
                "from": time(bar.from),
                "until": time(bar.until),
                "end": bar.end.word(),
                "position": bar.position,
                "count": bar.count,
            })
        })
        .collect();
    let Lane { kind, name, depth, calls, failed, .. } = lane;
    json!({"kind": kind, "name": name, "depth": depth, "calls": calls, "failed": failed, "bars": bars}).to_string()
}
