//! An execution's calls as bars over time. Stretches in which nothing changes are folded, so that a month of sleep does
//! not hide the seconds around it.

use axum::extract::State;
use cerebelum_history::{Bar, BarEnd, Lane, Timestamp};
use maud::{Markup, html};
use serde::Deserialize;

use super::execution::{ShownRun, heading};
use super::history::runs;
use super::layout::{self, Frame};
use super::parts::{exact, execution_path, text};
use super::read::{Path, Query};
use super::{Shown, Site};
use crate::access::Access;
use crate::convert::{self, refusal};
use crate::json::rfc3339;
use crate::wording::{Axis, FOLD_WIDTH, plain, roughly};

/// Of which run, and whether the axis is even.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    run: Option<u32>,
    even: bool,
}

pub(super) async fn show(
    State(site): State<Site>,
    access: Access,
    Path(id): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Shown {
    let summary = site.summary(&access, &id).await?;
    let timeline = {
        let _pages = site.service.pages(&access).await?;
        site.service.engine.of(&access.caller).timeline(&id, wanted.run).await.map_err(refusal)?
    };
    let shown = ShownRun::new(&summary, wanted.run);
    let run = shown.number;
    let (from, last) = timeline.span().unwrap_or_default();
    let hidden = timeline.hidden_calls();
    let until = shown.until(last);
    let lanes = timeline.into_lanes(until);
    let path = execution_path(&id);
    let body = html! {
        (heading(&summary, "timeline"))
        (runs(&format!("{path}/timeline"), &summary, run))
        p.note {
            (exact(Some(&convert::moment(from)))) " to " (exact(Some(&convert::moment(until)))) ". "
            @if wanted.even { a href={ (path) "/timeline?run=" (run) } { "Fold what is idle" } }
            @else { a href={ (path) "/timeline?run=" (run) "&even=true" } { "Show time evenly" } }
        }
        section #lanes data-live {
            @if lanes.is_empty() { p.lead { "It has made no call yet." } } @else {
                (picture(&lanes, &Axis::new((from, until), &lanes, wanted.even), &path, run))
            }
            @if hidden > 0 { p.note { (hidden) " calls of further names are in the history." } }
        }
    };
    let frame = Frame::new(format!("{id}: timeline"), &access.caller, "Executions").live(shown.live(&id));
    Ok(layout::page(&frame, &body))
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
