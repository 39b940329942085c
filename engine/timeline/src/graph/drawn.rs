//! What of a graph is drawn: its boxes as they are at one time, and below them what is planned.

use std::collections::{BTreeSet, HashMap};

use super::planned::Happened;
use super::{BoxState, Drawing, Graph, OpenCall, Repeat, layout, outermost};
use cerebelum_history::Timestamp;

impl Graph {
    /// The boxes with their places, with open calls as they are at a time that is not before the last event.
    #[must_use]
    pub fn draw(mut self, now: Timestamp) -> Drawing {
        self.fold();
        let (progress, open) = (self.progress.take().filter(|_| self.end.is_none()), self.open.clone());
        self.show_open(now);
        let number: HashMap<usize, layout::Number> = (self.rows.iter().enumerate())
            .flat_map(|(row, made)| made.nodes.iter().enumerate().map(move |(place, node)| (*node, (row, place))))
            .collect();
        let place_of = |node: &usize| number.get(&self.merged(*node)).copied();
        let mut rows = Vec::new();
        for (row, made) in self.rows.iter().enumerate() {
            // What comes from a later repeat is not above.
            let above = |node: &usize| -> BTreeSet<layout::Number> {
                let above = self.nodes[*node].above.iter().filter_map(place_of);
                above.filter(|(of, _)| *of < row).collect()
            };
            rows.push(made.nodes.iter().map(|node| (self.nodes[*node].shown.clone(), above(node))).collect());
        }
        let repeats = self.rows.iter().enumerate().flat_map(|(row, made)| {
            made.repeats.iter().map(move |(length, times)| Repeat {
                from: row + 1 - length,
                to: row,
                times: *times,
                track: 0,
            })
        });
        let repeats = repeats.collect();
        let Some(progress) = progress else {
            let last = self.end.map(|_| self.ended.keys().filter_map(place_of).collect());
            return layout::placed(rows, last, repeats);
        };
        let covered: BTreeSet<layout::Number> = rows.iter().flatten().flat_map(|(_, above)| above).copied().collect();
        let is_covered = |node: &usize| place_of(node).is_none_or(|place| covered.contains(&place));
        let open_nodes: BTreeSet<usize> = open.values().map(|open| self.merged(open.node)).collect();
        let ended = self.ended.keys().filter(|node| !is_covered(node)).map(|node| self.merged(*node));
        let leaves: BTreeSet<usize> = ended.chain(open_nodes).collect();
        let is_other = |node: &&usize| self.nodes[**node].shown.kind != "step";
        let happened = Happened {
            leaves: leaves.iter().filter_map(place_of).collect(),
            others: leaves.iter().filter(is_other).filter_map(place_of).collect(),
            place_of: &|node| place_of(&node),
        };
        let planned = progress.drawn(&happened, &mut rows);
        let drawing = layout::placed(rows, Some(planned.last), repeats);
        // The start is the first row of the drawing.
        let planned_from = Some(planned.from + 1);
        Drawing { planned_from, rules: planned.rules, hidden_steps: planned.hidden, ..drawing }
    }

    /// Says of each box what its open calls do.
    fn show_open(&mut self, now: Timestamp) {
        for node in &mut self.nodes {
            node.shown.position = node.failed_at.unwrap_or(node.shown.position);
            node.shown.state = match () {
                () if node.shown.failed > 0 => BoxState::Failed,
                () if node.shown.cancelled > 0 => BoxState::Cancelled,
                () => BoxState::Done,
            };
        }
        let (is_over, mut waits) = (self.end.is_some(), HashMap::new());
        for (call, kind) in &self.waits {
            // A person is what a reader has to know of first.
            if *kind == "approval" || !waits.contains_key(&outermost(call)) {
                waits.insert(outermost(call), *kind);
            }
        }
        let mut open: Vec<(u32, OpenCall)> = std::mem::take(&mut self.open).into_iter().collect();
        open.sort_by_key(|(_, open)| std::cmp::Reverse(open.position));
        for (ordinal, open) in open {
            let node = self.node(open.node);
            let shown = &mut node.shown;
            if is_over {
                (shown.open, shown.cancelled) = (0, shown.cancelled + shown.open);
                shown.state = if shown.failed > 0 { BoxState::Failed } else { BoxState::Cancelled };
                continue;
            }
            let waits_for = match (shown.kind, open.attempt_from <= now) {
                ("step", true) => waits.get(&Some(ordinal)).copied(),
                ("step", false) => Some("retry"),
                (kind, _) => Some(kind),
            };
            shown.state = match shown.state {
                BoxState::Running => BoxState::Running,
                _ if waits_for.is_none() => BoxState::Running,
                _ => BoxState::Waiting,
            };
            shown.waits_for = waits_for;
            (shown.until, shown.position) = (now, open.position);
        }
    }
}
