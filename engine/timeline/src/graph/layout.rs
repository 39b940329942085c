//! Where the boxes of a graph stand, and the lines between them, in units that know no screen.

use std::collections::{BTreeMap, BTreeSet};

use super::{CallBox, RuleOutcome};

/// The width of a box.
pub const BOX_WIDTH: u32 = 24;
/// The room between neighbours in a row.
const GAP: u32 = 3;
/// The width of a line that goes through a row.
const THROUGH_WIDTH: u32 = 2;
/// The lines that go through one row. Further ones are left out.
const THROUGH_MAX: usize = 24;

/// A row, from 0 at the top, and the middle of what stands there, from the left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// The row.
    pub row: usize,
    /// The middle.
    pub middle: u32,
}

/// A box where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedBox {
    /// The box.
    pub shown: CallBox,
    /// The place.
    pub place: Point,
}

/// Lines between two rows that meet: from everything in `from` to everything in `to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// The lower one of the two rows.
    pub row: usize,
    /// The middles in the row above.
    pub from: Vec<u32>,
    /// The middles in the lower row, and whether a box stands there; else the line goes on.
    pub to: Vec<(u32, bool)>,
    /// Joins of the same rows that would cross have different levels, from 0. None if the line is straight.
    pub level: Option<usize>,
}

/// Rows that came several times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeat {
    /// The first of the rows.
    pub from: usize,
    /// The last of the rows.
    pub to: usize,
    /// How often they came.
    pub times: u64,
    /// Repeats of the same rows have different tracks beside them, from 0.
    pub track: usize,
}

/// A graph with places: a row for the start, the rows of the boxes, and one for the end if there is one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drawing {
    /// The boxes, row by row.
    pub boxes: Vec<PlacedBox>,
    /// The lines that go through a row.
    pub throughs: Vec<Point>,
    /// The lines between rows.
    pub joins: Vec<Join>,
    /// The rows that came several times.
    pub repeats: Vec<Repeat>,
    /// Where the start stands.
    pub start: Point,
    /// Where the end stands.
    pub end: Option<Point>,
    /// The width of the widest row.
    pub width: u32,
    /// The number of rows.
    pub rows: usize,
    /// The first row that is planned only, if there is a plan.
    pub planned_from: Option<usize>,
    /// The rules that may still count, with the steps that have them.
    pub rules: Vec<(String, Vec<RuleOutcome>)>,
    /// The planned steps that have no box.
    pub hidden_steps: u64,
}

/// A row of boxes, and its number within it.
pub(super) type Number = (usize, usize);
/// A box, and the boxes above it from which a line leads to it.
pub(super) type Made = (CallBox, BTreeSet<Number>);

/// What stands in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Item {
    Start,
    Box(Number),
    /// The line from a box that goes on downwards.
    Through(Number),
    End,
}

impl Item {
    fn width(self) -> u32 {
        match self {
            Self::Through(_) => THROUGH_WIDTH,
            Self::Start | Self::Box(_) | Self::End => BOX_WIDTH,
        }
    }
}

/// The items of a row, and the items of the row above from which lines lead to each of them.
type Items = BTreeMap<Item, BTreeSet<Item>>;
/// The middle of each item of a row.
type Middles = BTreeMap<Item, u32>;

/// Places the boxes. Lines lead from the start to what has nothing above it, and to the end from `last`.
pub(super) fn placed(rows: Vec<Vec<Made>>, last: Option<Vec<Number>>, repeats: Vec<Repeat>) -> Drawing {
    let items = in_rows(&rows, last);
    let width = items.iter().map(|row| width(row.keys())).max().unwrap_or_default();
    let repeats = in_tracks(repeats, &rows);
    let mut drawing = Drawing { repeats, width, rows: items.len(), ..Drawing::default() };
    let mut shown: BTreeMap<Number, CallBox> = BTreeMap::new();
    for (row, made) in rows.into_iter().enumerate() {
        shown.extend(made.into_iter().enumerate().map(|(number, (of, _))| ((row, number), of)));
    }
    let mut above = Middles::new();
    for (row, items) in items.iter().enumerate() {
        let middles = middles(items, &above, width);
        for (item, middle) in &middles {
            let place = Point { row, middle: *middle };
            match item {
                Item::Start => drawing.start = place,
                Item::End => drawing.end = Some(place),
                Item::Through(_) => drawing.throughs.push(place),
                Item::Box(number) => {
                    drawing.boxes.extend(shown.remove(number).map(|shown| PlacedBox { shown, place }));
                }
            }
        }
        drawing.joins.extend(joins(row, items, &above, &middles));
        above = middles;
    }
    drawing.boxes.sort_by_key(|placed| placed.place);
    drawing
}

/// The boxes with the start above and the end below them, and the lines that go through rows.
fn in_rows(rows: &[Vec<Made>], last: Option<Vec<Number>>) -> Vec<Items> {
    let mut items = vec![Items::new(); rows.len() + 1];
    items[0].insert(Item::Start, BTreeSet::new());
    let mut targets: Vec<(usize, Item, Vec<Number>)> = Vec::new();
    for (row, made) in rows.iter().enumerate() {
        let boxes = made.iter().enumerate();
        targets.extend(
            boxes.map(|(number, (_, above))| (row + 1, Item::Box((row, number)), above.iter().copied().collect())),
        );
    }
    if let Some(above) = last {
        items.push(Items::new());
        targets.push((rows.len() + 1, Item::End, above));
    }
    for (row, item, above) in targets {
        items[row].entry(item).or_default();
        for from in above {
            lead(&mut items, from, (row, item));
        }
        if items[row][&item].is_empty() && row == 1 {
            items[row].insert(item, BTreeSet::from([Item::Start]));
        }
    }
    items
}

/// Leads a line from a box down to an item, through the rows between them, unless too many lines go through one of them.
fn lead(items: &mut [Items], from: Number, (row, item): (usize, Item)) {
    let through = Item::Through(from);
    let first = from.0 + 2;
    let is_full = |items: &Items| {
        let throughs = items.keys().filter(|item| matches!(item, Item::Through(_))).count();
        throughs >= THROUGH_MAX && !items.contains_key(&through)
    };
    if items.get(first..row).is_none_or(|between| between.iter().any(is_full)) {
        return;
    }
    let mut above = Item::Box(from);
    for between in &mut items[first..row] {
        between.entry(through).or_default().insert(above);
        above = through;
    }
    items[row].entry(item).or_default().insert(above);
}

fn width<'a>(items: impl Iterator<Item = &'a Item>) -> u32 {
    items.map(|item| item.width() + GAP).sum::<u32>().saturating_sub(GAP)
}

/// Where the items of a row stand: as near below what leads to them as the others let them.
fn middles(items: &Items, above: &Middles, width_max: u32) -> Middles {
    let mut wanted: Vec<(u32, Item)> = items
        .iter()
        .map(|(item, from)| {
            let from: Vec<u32> = from.iter().filter_map(|from| above.get(from).copied()).collect();
            let sum: u32 = from.iter().sum();
            (u32::try_from(from.len()).ok().and_then(|count| sum.checked_div(count)).unwrap_or(width_max / 2), *item)
        })
        .collect();
    wanted.sort();
    let width = width(items.keys());
    let count = u32::try_from(wanted.len()).unwrap_or(1).max(1);
    let middle = wanted.iter().map(|(wanted, _)| wanted).sum::<u32>() / count;
    let mut left = middle.saturating_sub(width / 2).min(width_max - width);
    let mut middles = Middles::new();
    for (_, item) in wanted {
        middles.insert(item, left + item.width() / 2);
        left += item.width() + GAP;
    }
    middles
}

/// The lines that lead to the items of a row, those from the same items together.
fn joins(row: usize, items: &Items, above: &Middles, middles: &Middles) -> Vec<Join> {
    let mut together: BTreeMap<&BTreeSet<Item>, Vec<(u32, bool)>> = BTreeMap::new();
    for (item, from) in items.iter().filter(|(_, from)| !from.is_empty()) {
        let is_box = !matches!(item, Item::Through(_));
        together.entry(from).or_default().push((middles[item], is_box));
    }
    let mut joins: Vec<Join> = Vec::new();
    for (from, mut to) in together {
        to.sort();
        let mut from: Vec<u32> = from.iter().filter_map(|from| above.get(from).copied()).collect();
        from.sort();
        joins.push(Join { row, from, to, level: None });
    }
    joins.sort_by_key(|join| join.from.iter().copied().chain(join.to.iter().map(|(to, _)| *to)).min());
    // How far the lines of each level reach.
    let mut reach: Vec<u32> = Vec::new();
    for join in &mut joins {
        let ends = || join.from.iter().copied().chain(join.to.iter().map(|(to, _)| *to));
        let (left, right) = (ends().min().unwrap_or_default(), ends().max().unwrap_or_default());
        if left == right {
            continue;
        }
        let free = reach.iter().position(|reach| *reach < left);
        let level = free.unwrap_or(reach.len());
        reach.resize(reach.len().max(level + 1), 0);
        reach[level] = right;
        join.level = Some(level);
    }
    joins
}

/// The repeats of more than one box, in rows of the drawing, with tracks beside it: inner ones are nearer.
fn in_tracks(repeats: Vec<Repeat>, rows: &[Vec<Made>]) -> Vec<Repeat> {
    let mut repeats: Vec<Repeat> = repeats
        .into_iter()
        .filter(|one| one.from < one.to || rows.get(one.from).is_some_and(|row| row.len() > 1))
        .collect();
    repeats.sort_by_key(|one| (one.to - one.from, one.from));
    let mut placed: Vec<Repeat> = Vec::new();
    for one in repeats {
        // The start is the first row of the drawing.
        let (from, to) = (one.from + 1, one.to + 1);
        let beside = placed.iter().filter(|other| other.from <= to && from <= other.to);
        let track = beside.map(|other| other.track + 1).max().unwrap_or_default();
        placed.push(Repeat { from, to, track, ..one });
    }
    placed
}
