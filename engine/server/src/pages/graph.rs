//! An execution's calls as boxes and arrows, from top to bottom, as they happened, and below them what is planned.

mod plan;

use cerebelum_timeline::{BOX_WIDTH, BoxState, CallBox, Drawing, Graph, Join, PlacedBox, Repeat};
use maud::{Markup, html};
use serde::Deserialize;

use super::execution::{ShownRun, capital, heading};
use super::history::runs;
use super::layout::{self, Frame};
use super::parts::{cut, execution_path};
use super::read::{Path, Query};
use super::{Client, Shown};
use crate::convert::refusal;
use crate::wording::roughly;

pub(super) use plan::section as plan;

/// The pixels of a unit of the drawing.
const UNIT: u32 = 8;
/// The pixels around the drawing.
const MARGIN: u32 = 8;
/// The height of a box, and of the start and the end.
const BOX_HEIGHT: u32 = 64;
const END_HEIGHT: u32 = 28;
/// The room between two rows, and what each level of lines adds to it.
const GAP: u32 = 30;
const LEVEL: u32 = 8;
/// The room for the arrow of a repeat and the number beside it.
const TRACK: u32 = 80;
/// Longer names are cut in a box.
const NAME_LETTERS_MAX: usize = 23;
/// Longer names are cut in words.
const WORD_LETTERS_MAX: usize = 120;

/// Of which run.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    run: Option<u32>,
}

pub(super) async fn show(client: Client, Path(id): Path<String>, Query(wanted): Query<Wanted>) -> Shown {
    let summary = client.summary(&id).await?;
    let shown = ShownRun::new(&summary, wanted.run);
    let run = shown.number;
    let (hidden, end, drawing) = {
        let _pages = client.service.pages(&client.access).await?;
        let graph = client.engine().graph(&id, wanted.run).await.map_err(refusal)?;
        let (_, last) = graph.span();
        (graph.hidden_calls(), end_word(&graph), graph.draw(shown.until(last)))
    };
    let path = execution_path(&id);
    let sheet = Sheet::new(&drawing, Some(format!("{path}/events")), run);
    let body = html! {
        (heading(&summary, "graph"))
        (runs(&format!("{path}/graph"), &summary, run))
        p.note {
            "An arrow leads from a call to those that began after it had ended. What was open at the same time stands side by side. \
             Calls inside steps are in the " a href={ (path) "/timeline?run=" (run) } { "timeline" } "."
        }
        section #graph data-live {
            @if drawing.boxes.is_empty() { p.lead { "It has made no call yet." } } @else {
                (sheet.picture(&drawing, end.as_ref()))
                @if drawing.planned_from.is_some() {
                    p.note { "What is dashed is planned and has not begun. A rule of the workflow may still lead elsewhere." }
                }
                @if hidden > 0 {
                    p.note { "And " (hidden) " more calls, which are in the " a href={ (path) "/history?run=" (run) } { "history" } "." }
                }
                (plan::hidden(&drawing))
                (plan::rules(&drawing))
                (sheet.list(&drawing, end.as_ref()))
            }
        }
    };
    let frame = Frame::new(format!("{id}: graph"), client.caller(), "Executions").live(shown.live(&id));
    Ok(layout::page(&frame, &body))
}

fn end_word(graph: &Graph) -> Option<(BoxState, String)> {
    graph.end().map(|(state, is_continued)| {
        let word = match state {
            _ if is_continued => "goes on as a new run",
            BoxState::Failed => "failed",
            BoxState::Cancelled => "cancelled",
            BoxState::Done | BoxState::Running | BoxState::Waiting | BoxState::Planned | BoxState::PlannedIf(_) => {
                "completed"
            }
        };
        let word = match graph.hidden_calls() {
            0 => word.to_owned(),
            hidden => format!("… {hidden} more, {word}"),
        };
        (state, word)
    })
}

/// Where rows are on the page, and where boxes lead to.
struct Sheet {
    /// The first row that is planned only.
    planned_from: usize,
    /// The top and the bottom of each row.
    rows: Vec<(u32, u32)>,
    width: u32,
    height: u32,
    /// The path of the events; none of what has not begun at all.
    events: Option<String>,
    run: u32,
}

impl Sheet {
    fn new(drawing: &Drawing, events: Option<String>, run: u32) -> Self {
        let (mut rows, mut y) = (Vec::new(), MARGIN);
        for row in 0..drawing.rows {
            let levels = drawing.joins.iter().filter(|join| join.row == row).filter_map(|join| join.level);
            let levels = u32::try_from(levels.max().map_or(0, |level| level + 1)).unwrap_or_default();
            if row > 0 {
                y += GAP + levels * LEVEL;
            }
            let is_end = row == drawing.start.row || drawing.end.is_some_and(|end| end.row == row);
            let bottom = y + if is_end { END_HEIGHT } else { BOX_HEIGHT };
            rows.push((y, bottom));
            y = bottom;
        }
        let tracks = drawing.repeats.iter().map(|repeat| repeat.track + 1).max().unwrap_or_default();
        let tracks = u32::try_from(tracks).unwrap_or_default();
        let (width, height) = (drawing.width * UNIT + tracks * TRACK + 2 * MARGIN, y + MARGIN);
        let planned_from = drawing.planned_from.unwrap_or(usize::MAX);
        Self { planned_from, rows, width, height, events, run }
    }

    fn picture(&self, drawing: &Drawing, end: Option<&(BoxState, String)>) -> Markup {
        let half = BOX_WIDTH * UNIT / 2;
        let (region, group) = match self.events {
            Some(_) => ("Graph", "Calls from top to bottom"),
            None => ("Plan", "Steps from top to bottom"),
        };
        html! {
            div.wide.graph tabindex="0" role="region" aria-label=(region) {
                svg role="group" aria-label=(group) width=(self.width) height=(self.height) viewBox={ "0 0 " (self.width) " " (self.height) } {
                    g aria-hidden="true" {
                        @for place in &drawing.throughs {
                            @let (top, bottom) = self.rows[place.row];
                            path class=(self.line(place.row)) d={ "M" (x(place.middle)) " " (top) "V" (bottom) } {}
                        }
                        @for join in &drawing.joins { (self.join(join)) }
                        @for repeat in &drawing.repeats { (self.repeat(drawing, repeat)) }
                    }
                    g.calm { (self.pill(drawing.start.row, x(drawing.start.middle), half, "start")) }
                    @for placed in &drawing.boxes { (self.call(placed)) }
                    @if let Some(place) = drawing.end {
                        @let (state, word) = end.map_or((BoxState::Planned, "end"), |(state, word)| (*state, word));
                        g.(class(state)) { (self.pill(place.row, x(place.middle), half, word)) }
                    }
                }
            }
        }
    }

    fn pill(&self, row: usize, middle: u32, half: u32, word: &str) -> Markup {
        let (top, bottom) = self.rows[row];
        html! {
            rect.box.end x=(middle - half) y=(top) width=(2 * half) height=(bottom - top) rx=(END_HEIGHT / 2) {}
            text.word x=(middle) y=(top + 18) text-anchor="middle" { (word) }
        }
    }

    fn call(&self, placed: &PlacedBox) -> Markup {
        let shown = &placed.shown;
        html! {
            @if let Some(href) = self.href(shown) {
                a.(class(shown.state)) href=(href) aria-label=(words(shown)) { (self.inside(placed)) }
            } @else {
                g.(class(shown.state)) role="img" aria-label=(words(shown)) { (self.inside(placed)) }
            }
        }
    }

    fn inside(&self, PlacedBox { shown, place }: &PlacedBox) -> Markup {
        let (left, top) = (x(place.middle) - BOX_WIDTH * UNIT / 2, self.rows[place.row].0);
        let open = if shown.open > 0 { " open" } else { "" };
        html! {
            title { (words(shown)) }
            rect class={ "box" (open) } x=(left) y=(top) width=(BOX_WIDTH * UNIT) height=(BOX_HEIGHT) rx="8" {}
            rect.state x=(left) y=(top + 8) width="4" height=(BOX_HEIGHT - 16) {}
            // What is inside is cut off at the edge of the box.
            svg x=(left + 14) y=(top) width=(BOX_WIDTH * UNIT - 20) height=(BOX_HEIGHT) {
                text.soft x="0" y="18" { (kicker(shown)) }
                text.name x="0" y="36" { (cut(name(shown), NAME_LETTERS_MAX)) }
                text.word x="0" y="54" { (sign(shown)) " " (state(shown)) }
            }
        }
    }

    /// The class of the lines that lead to a row.
    fn line(&self, row: usize) -> &'static str {
        if row < self.planned_from { "line" } else { "line ahead" }
    }

    fn join(&self, join: &Join) -> Markup {
        let (above, below) = (self.rows[join.row - 1].1, self.rows[join.row].0);
        let level = u32::try_from(join.level.unwrap_or_default()).unwrap_or_default();
        let bus = above + 12 + level * LEVEL;
        let ends = || join.from.iter().copied().chain(join.to.iter().map(|(to, _)| *to));
        let (left, right) = (ends().min().unwrap_or_default(), ends().max().unwrap_or_default());
        let line = self.line(join.row);
        html! {
            @for from in &join.from { path class=(line) d={ "M" (x(*from)) " " (above) "V" (bus) } {} }
            @if left < right { path class=(line) d={ "M" (x(left)) " " (bus) "H" (x(right)) } {} }
            @for (to, is_box) in &join.to {
                path class=(line) d={ "M" (x(*to)) " " (bus) "V" (below) } {}
                @if *is_box { path.head d={ "M" (x(*to)) " " (below) "l-4 -7h8z" } {} }
            }
        }
    }

    /// The arrow back from the last row of a repeat to the first one.
    fn repeat(&self, drawing: &Drawing, repeat: &Repeat) -> Markup {
        let right = |row: usize| {
            let boxes = drawing.boxes.iter().filter(|placed| placed.place.row == row);
            x(boxes.map(|placed| placed.place.middle).max().unwrap_or_default()) + BOX_WIDTH * UNIT / 2
        };
        let middle = |row: usize| u32::midpoint(self.rows[row].0, self.rows[row].1);
        let track = MARGIN + drawing.width * UNIT + 16 + u32::try_from(repeat.track).unwrap_or_default() * TRACK;
        // Where both ends are in one row, they are apart.
        let (from, to) = (middle(repeat.to) + 8, middle(repeat.from) - 8);
        html! {
            path.line.back d={ "M" (right(repeat.to)) " " (from) "H" (track) "V" (to) "H" (right(repeat.from) + 6) } {}
            path.head d={ "M" (right(repeat.from)) " " (to) "l7 -4v8z" } {}
            text.soft x=(track + 6) y=(u32::midpoint(from, to) + 4) { "× " (repeat.times) }
        }
    }

    /// The graph in words, row by row.
    fn list(&self, drawing: &Drawing, end: Option<&(BoxState, String)>) -> Markup {
        let rows = drawing.boxes.chunk_by(|one, other| one.place.row == other.place.row);
        html! {
            details #graph-text {
                summary { "The same as text" }
                ol.graph-text {
                    @for row in rows {
                        li {
                            @for (number, placed) in row.iter().enumerate() {
                                @if number > 0 { span.note { "; beside it " } }
                                @match self.href(&placed.shown) {
                                    Some(href) => a href=(href) { (words(&placed.shown)) },
                                    None => (words(&placed.shown)),
                                }
                            }
                        }
                    }
                    @if let Some((_, word)) = end { li { "The end: " (word) "." } }
                }
                @for repeat in &drawing.repeats {
                    p.note { "Rows " (repeat.from) " to " (repeat.to) " came " (repeat.times) " times." }
                }
            }
        }
    }

    /// The event of a call, if the call has begun.
    fn href(&self, shown: &CallBox) -> Option<String> {
        let events = self.events.as_ref().filter(|_| !shown.state.is_planned())?;
        Some(format!("{events}/{}?run={}", shown.position, self.run))
    }
}

fn x(units: u32) -> u32 {
    MARGIN + units * UNIT
}

fn class(state: BoxState) -> &'static str {
    match state {
        BoxState::Done => "good",
        BoxState::Failed => "bad",
        BoxState::Cancelled => "over",
        BoxState::Running => "busy",
        BoxState::Waiting => "held",
        BoxState::Planned | BoxState::PlannedIf(_) => "ahead",
    }
}

fn sign(shown: &CallBox) -> &'static str {
    match shown.state {
        BoxState::Done => "✓",
        BoxState::Failed => "✗",
        BoxState::Cancelled => "⊘",
        BoxState::Running => "●",
        BoxState::Waiting if shown.waits_for == Some("approval") => "?",
        BoxState::Waiting => "◌",
        BoxState::Planned => "○",
        BoxState::PlannedIf(_) => "◇",
    }
}

/// What a box is called: sleeps have no name.
fn name(shown: &CallBox) -> &str {
    match shown.name.as_deref() {
        Some("") => shown.kind,
        Some(name) => name,
        None => "of other names",
    }
}

/// What is written above the name.
fn kicker(shown: &CallBox) -> String {
    let kind = if shown.name.as_deref() == Some("") { "" } else { shown.kind };
    match shown.calls {
        1 => kind.to_owned(),
        calls => format!("{kind} × {calls}").trim_start().to_owned(),
    }
}

fn state(shown: &CallBox) -> String {
    let took = roughly(shown.until.0.saturating_sub(shown.from.0));
    let word = shown.state.word();
    match () {
        () if shown.state.is_planned() => word.to_owned(),
        () if shown.calls > 1 && shown.state == BoxState::Failed => {
            format!("{} of {} failed", shown.failed, shown.calls)
        }
        () if shown.calls > 1 && shown.failed > 0 => format!("{word} · {} failed", shown.failed),
        () if shown.calls > 1 && shown.open > 0 => format!("{word} · {} open", shown.open),
        () if shown.open > 0 => match shown.waits_for.filter(|kind| *kind != shown.kind) {
            Some(kind) => format!("{word}: {kind} · {took}"),
            None => format!("{word} · {took}"),
        },
        () => format!("{word} · {took}"),
    }
}

/// A box in words.
fn words(shown: &CallBox) -> String {
    let named = match shown.name.as_deref() {
        Some("") => capital(shown.kind),
        _ => format!("{} {}", capital(shown.kind), cut(name(shown), WORD_LETTERS_MAX)),
    };
    let many = |count: u64, word: &str| (count > 0).then(|| format!(", {count} {word}"));
    let of = if shown.state.is_planned() { "steps" } else { "calls" };
    let calls = (shown.calls > 1).then(|| format!(", {} {of}", shown.calls));
    let within = shown.within.iter().map(|(kind, count)| match count {
        1 => (*kind).to_owned(),
        count => format!("{kind} × {count}"),
    });
    let within: Vec<String> = within.collect();
    let parts = [
        calls,
        Some(format!(", {}", state(shown).replace(" · ", ", "))),
        many(if shown.calls > 1 { shown.cancelled } else { 0 }, "cancelled"),
        many(shown.retries, if shown.retries == 1 { "attempt more" } else { "attempts more" }),
        (!within.is_empty()).then(|| format!(", inside: {}", within.join(", "))),
    ];
    named + &parts.into_iter().flatten().collect::<String>()
}
