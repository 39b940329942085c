//! An execution's calls as bars over time. Stretches in which nothing changes are folded, so that a month of sleep does
//! not hide the seconds around it.

use cerebelum_history::Timestamp;
use cerebelum_timeline::{Bar, BarEnd, Lane};
use maud::{Markup, html};
use serde::Deserialize;

use super::execution::{ShownRun, heading};
use super::history::runs;
use super::layout::{self, Frame, Live};
use super::parts::{exact, execution_path, filled, query, text};
use super::read::{Path, Query};
use super::{Client, Shown};
use crate::Moment;
use crate::convert::{self, refusal};
use crate::json::rfc3339;
use crate::wording::{Axis, FOLD_WIDTH, Now, plain, roughly};

/// Of which run and of which part of it, and whether the axis is even.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    run: Option<u32>,
    even: bool,
    /// A moment, or so long ago.
    from: String,
    until: String,
}

impl Wanted {
    /// The part, if only one is wanted.
    fn window(&self) -> Result<Option<(Timestamp, Timestamp)>, tonic::Status> {
        let now = Now::measured().0;
        let at = |typed: &str| {
            let moment = filled(typed).map(|typed| typed.parse::<Moment>()).transpose();
            moment.map_err(tonic::Status::invalid_argument).map(|at| at.map(|at| Timestamp(at.ms(now))))
        };
        let (from, until) = (at(&self.from)?, at(&self.until)?);
        let is_part = from.is_some() || until.is_some();
        let (from, until) = (from.unwrap_or_default(), until.unwrap_or(Timestamp(u64::MAX)));
        if from >= until {
            return Err(tonic::Status::invalid_argument("a part of a timeline ends after it begins"));
        }
        Ok(is_part.then_some((from, until)))
    }

    /// The page of a part.
    fn path(&self, path: &str, even: bool, (from, until): (&str, &str)) -> String {
        let (run, even) = (self.run.map(|run| run.to_string()), if even { "true" } else { "" });
        let query =
            query(&[("run", run.as_deref().unwrap_or_default()), ("even", even), ("from", from), ("until", until)]);
        format!("{path}/timeline?{query}")
    }
}

pub(super) async fn show(client: Client, Path(id): Path<String>, Query(wanted): Query<Wanted>) -> Shown {
    let summary = client.summary(&id).await?;
    let window = wanted.window()?;
    let timeline = {
        let _pages = client.service.pages(&client.access).await?;
        client.engine().timeline(&id, wanted.run, window).await.map_err(refusal)?
    };
    let shown = ShownRun::new(&summary, wanted.run);
    let run = shown.number;
    let (first, last) = timeline.span().unwrap_or_default();
    let hidden = timeline.hidden_calls();
    let end = shown.until(last).max(first);
    let (from, until) = window.map_or((first, end), |(from, until)| (from.clamp(first, end), until.clamp(first, end)));
    let (lanes, elsewhere): (Vec<_>, Vec<_>) =
        timeline.into_lanes(end).into_iter().partition(|lane| window.is_none() || !lane.bars.is_empty());
    let axis = Axis::new((from, until), &lanes, wanted.even);
    let path = execution_path(&id);
    let body = html! {
        (heading(&summary, "timeline"))
        (runs(&format!("{path}/timeline"), &summary, run))
        p.note {
            (exact(Some(&convert::moment(from)))) " to " (exact(Some(&convert::moment(until)))) ". "
            @let word = if wanted.even { "Fold what is idle" } else { "Show time evenly" };
            a href=(wanted.path(&path, !wanted.even, (&wanted.from, &wanted.until))) { (word) }
        }
        nav.paging aria-label="Parts of the timeline" {
            @for (word, (from, until)) in parts(&axis, (from, until)) {
                a href=(wanted.path(&path, wanted.even, (&stamp(from), &stamp(until)))) { (word) }
            }
            @if window.is_some() { a href=(wanted.path(&path, wanted.even, ("", ""))) { "Whole timeline" } }
        }
        section #lanes data-live {
            @if lanes.is_empty() {
                p.lead { @if window.is_some() { "No call was open then." } @else { "It has made no call yet." } }
            } @else { (picture(&lanes, &axis, &path, run)) }
            @if !elsewhere.is_empty() { p.note { (elsewhere.len()) " more names have calls at other times." } }
            @if hidden > 0 { p.note { (hidden) " calls of further names are in the history." } }
        }
    };
    // A part does not grow.
    let live = if window.is_some() { Live::No } else { shown.live(&id) };
    let frame = Frame::new(format!("{id}: timeline"), client.caller(), "Executions").live(live);
    Ok(layout::page(&frame, &body))
}

/// The halves of what is shown, by its picture and not by its time: a folded month is as wide as a few seconds.
fn parts(axis: &Axis, (from, until): (Timestamp, Timestamp)) -> Vec<(&'static str, (Timestamp, Timestamp))> {
    let [early, middle, late] = [25.0, 50.0, 75.0].map(|x| axis.moment(x));
    let halves = [("First half", (from, middle)), ("Middle", (early, late)), ("Second half", (middle, until))];
    halves.into_iter().filter(|(_, part)| part.0 < part.1 && *part != (from, until)).collect()
}

fn picture(lanes: &[Lane], axis: &Axis, path: &str, run: u32) -> Markup {
    html! {
        div.wide tabindex="0" role="region" aria-label="Timeline" {
            table.timeline {
                thead { tr {
                    th scope="col" { "Call" } th.number scope="col" { "Calls" } th scope="col" { span.unseen { "Time" } (scale(axis)) }
                } }
                tbody {
                    @for lane in lanes {
                        tr {
                            th scope="row" class={ "depth-" (lane.depth.min(6)) } {
                                @if lane.kind != "step" { span.note { (lane.kind) " " } }
                                (text(&lane.name))
                            }
                            td.number {
                                (lane.calls)
                                @if lane.failed > 0 { " · " span.wrong { (lane.failed) " failed" } }
                            }
                            td.bars { (bars(lane, axis, path, run)) }
                        }
                    }
                }
            }
        }
    }
}

/// The folded stretches above the bars, with their lengths.
fn scale(axis: &Axis) -> Markup {
    html! {
        svg aria-hidden="true" {
            @for fold in axis.folds() {
                rect.fold x=(percent(fold.x)) y="0" width=(percent(f64::from(FOLD_WIDTH))) height="20" {}
                text x=(percent(fold.x + f64::from(FOLD_WIDTH) / 2.0)) y="14" text-anchor="middle" { (roughly(fold.ms)) }
            }
        }
    }
}

fn bars(lane: &Lane, axis: &Axis, path: &str, run: u32) -> Markup {
    let wait = if lane.kind == "step" { "" } else { " wait" };
    html! {
        svg role="group" aria-label=(plain(&lane.name)) {
            @for fold in axis.folds() {
                rect.fold x=(percent(fold.x)) y="0" width=(percent(f64::from(FOLD_WIDTH))) height="20" {}
            }
            @for bar in &lane.bars {
                @let (x, width) = axis.place(bar.from, bar.until);
                a href={ (path) "/events/" (bar.position) "?run=" (run) } aria-label=(words(bar)) {
                    rect class={ "bar " (class(bar.end)) (wait) } x=(percent(x)) y="4" width=(percent(width)) height="12" rx="2" {
                        title { (words(bar)) }
                    }
                }
            }
        }
    }
}

fn percent(of: f64) -> String {
    format!("{of:.2}%")
}

fn class(end: BarEnd) -> &'static str {
    match end {
        BarEnd::Completed => "good",
        BarEnd::Cancelled => "over",
        BarEnd::Open => "busy",
        BarEnd::Failed => "bad",
    }
}

fn words(bar: &Bar) -> String {
    let end = bar.end.word();
    let took = roughly(bar.until.0.saturating_sub(bar.from.0));
    match bar.count {
        1 => format!("{end}, {took}, from {}", stamp(bar.from)),
        count => format!("{count} calls within {took}, from {}", stamp(bar.from)),
    }
}

fn stamp(at: Timestamp) -> String {
    rfc3339(&convert::moment(at))
}
