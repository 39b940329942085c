//! The calls of an execution as bars of characters.

use cerebelum_server::wording::{Axis, FOLD_WIDTH, roughly};
use cerebelum_timeline::{BarEnd, Lane};

use super::line::{Line, Style};
use super::table::Table;

/// The narrowest picture.
const PICTURE_MIN: usize = 24;
/// The widest name of a call.
const NAME_MAX: usize = 32;
/// A stretch that is folded.
const FOLD: char = '┊';

/// The lanes as a table, in a terminal of this width.
pub(crate) fn timeline(lanes: &[Lane], axis: &Axis, columns: usize) -> Vec<Line> {
    if lanes.is_empty() {
        return vec![Line::new(Style::Dim, "it has made no call yet")];
    }
    let names: Vec<Line> = lanes.iter().map(name).collect();
    let counts: Vec<Line> = lanes.iter().map(count).collect();
    let widest = |cells: &[Line], least: usize| cells.iter().map(Line::width).max().unwrap_or(0).max(least);
    let taken = widest(&names, 4) + widest(&counts, 5) + 4;
    let width = columns.saturating_sub(taken).max(PICTURE_MIN);
    let rows = lanes.iter().zip(names).zip(counts);
    let rows = rows.map(|((lane, name), count)| [name, count, bars(lane, axis, width)]);
    Table::new(["CALL", "CALLS", &scale(axis, width)], rows).lines()
}

fn name(lane: &Lane) -> Line {
    let kind = if lane.kind == "step" { String::new() } else { format!("{} ", lane.kind) };
    let name = Line::new(Style::Plain, &lane.name).render(Some(NAME_MAX), false);
    Line::new(Style::Plain, &"  ".repeat(lane.depth.min(6))).and(Style::Dim, &kind).and(Style::Plain, &name)
}

fn count(lane: &Lane) -> Line {
    let count = Line::new(Style::Plain, &lane.calls.to_string());
    if lane.failed == 0 { count } else { count.and(Style::Bad, &format!(" {} failed", lane.failed)) }
}

/// The lengths of the folded stretches, each where it is.
fn scale(axis: &Axis, width: usize) -> String {
    let mut scale = String::new();
    for fold in axis.folds() {
        let label = roughly(fold.ms);
        let middle = column(fold.x + f64::from(FOLD_WIDTH) / 2.0, width);
        let begins = middle.saturating_sub(label.chars().count() / 2);
        let taken = scale.chars().count();
        // A label without room is left out. Its stretch is drawn all the same.
        if taken == 0 || begins > taken {
            scale.push_str(&" ".repeat(begins - taken));
            scale.push_str(&label);
        }
    }
    scale
}

fn bars(lane: &Lane, axis: &Axis, width: usize) -> Line {
    let mut cells: Vec<(Style, char)> = vec![(Style::Plain, ' '); width];
    for fold in axis.folds() {
        let (from, until) = (column(fold.x, width), column(fold.x + f64::from(FOLD_WIDTH), width));
        cells[from.min(width - 1)..until.clamp(1, width)].fill((Style::Dim, FOLD));
    }
    for bar in &lane.bars {
        let (x, wide) = axis.place(bar.from, bar.until);
        let from = column(x, width).min(width - 1);
        let until = column(x + wide, width).clamp(from + 1, width);
        cells[from..until].fill(look(lane, bar.end));
    }
    let kept = cells.iter().rposition(|(_, c)| *c != ' ').map_or(0, |last| last + 1);
    let mut line = Line::default();
    for piece in cells[..kept].chunk_by(|a, b| a.0 == b.0) {
        line = line.and(piece[0].0, &piece.iter().map(|(_, c)| *c).collect::<String>());
    }
    line
}

/// Steps are thick, waits are thin, and what has not ended or has failed is told apart without colours as well.
fn look(lane: &Lane, end: BarEnd) -> (Style, char) {
    match (end, lane.kind) {
        (BarEnd::Failed, _) => (Style::Bad, 'x'),
        (BarEnd::Cancelled, _) => (Style::Dim, '-'),
        (BarEnd::Open, "step") => (Style::Busy, '▒'),
        (BarEnd::Open, _) => (Style::Busy, '┄'),
        (BarEnd::Completed, "step") => (Style::Good, '█'),
        (BarEnd::Completed, _) => (Style::Good, '─'),
    }
}

/// The column of a place in percent.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "places are within 0 and 100, and terminals have few columns"
)]
fn column(percent: f64, width: usize) -> usize {
    (percent * width as f64 / 100.0).round() as usize
}

#[cfg(test)]
mod tests {
    use cerebelum_history::Timestamp;
    use cerebelum_timeline::Bar;

    use super::super::testing::shown;
    use super::*;

    const MONTH: u64 = 30 * 86_400_000;

    fn lane(kind: &'static str, name: &str, bars: &[(u64, u64, BarEnd)]) -> Lane {
        let bar = |(from, until, end): &(u64, u64, BarEnd)| Bar {
            from: Timestamp(*from),
            until: Timestamp(*until),
            end: *end,
            position: 1,
            count: 1,
        };
        let failed = bars.iter().filter(|(.., end)| *end == BarEnd::Failed).count() as u64;
        let bars = bars.iter().map(bar).collect();
        Lane { kind, name: name.to_owned(), depth: 0, calls: 1, failed, bars }
    }

    #[test]
    fn a_month_of_sleep_takes_some_columns_and_the_seconds_around_it_the_rest() {
        let until = MONTH + 3_000;
        let lanes = [
            lane("step", "charge", &[(0, 1_000, BarEnd::Failed), (1_000, 2_000, BarEnd::Completed)]),
            lane("sleep", "", &[(2_000, MONTH + 2_000, BarEnd::Completed)]),
            lane("step", "ship", &[(MONTH + 2_000, until, BarEnd::Open)]),
        ];
        let axis = Axis::new((Timestamp(0), Timestamp(until)), &lanes, false);
        assert_eq!(
            shown(&timeline(&lanes, &axis, 72)),
            [
                "CALL    CALLS                                        30d",
                "charge  1 1 failed  xxxxxxxxxxxxxxxx█████████████████┊┊┊",
                "sleep   1                                            ───",
                "ship    1                                            ┊┊┊▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒",
            ]
        );
        assert!(timeline(&lanes, &axis, 10).iter().all(|line| line.width() < 60), "a narrow terminal cuts it");
    }

    #[test]
    fn an_execution_without_calls_says_so() {
        let axis = Axis::new((Timestamp(0), Timestamp(5)), &[], false);
        assert_eq!(shown(&timeline(&[], &axis, 80)), ["it has made no call yet"]);
    }
}
