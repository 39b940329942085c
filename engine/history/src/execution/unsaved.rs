//! Events that are not acknowledged as durable yet, by position and by scope.

use std::collections::{HashMap, VecDeque};

use crate::event::Event;
use crate::{Position, Scope};

/// The events after the last acknowledged position, oldest first. Their positions have no gaps.
#[derive(Debug, Default)]
pub(super) struct Unsaved {
    events: VecDeque<(Position, Event)>,
    /// The positions of each scope's events, in order.
    of: HashMap<Scope, VecDeque<Position>>,
    /// About how many bytes all these events take.
    bytes: u64,
}

impl Unsaved {
    /// Adds an event at the position after the last one.
    pub(super) fn push(&mut self, position: Position, event: Event) {
        self.bytes += event.data.weight();
        self.of.entry(event.scope.clone()).or_default().push_back(position);
        self.events.push_back((position, event));
    }

    /// Removes the events up to this position, which are durable now.
    pub(super) fn acknowledge(&mut self, position: Position) {
        while let Some((_, event)) = self.events.pop_front_if(|(at, _)| *at <= position) {
            self.bytes -= event.data.weight();
            if let Some(positions) = self.of.get_mut(&event.scope) {
                positions.pop_front();
                if positions.is_empty() {
                    self.of.remove(&event.scope);
                }
            }
        }
    }

    /// The oldest event.
    pub(super) fn first(&self) -> Option<&(Position, Event)> {
        self.events.front()
    }

    /// The number of events.
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// About how many bytes the events take.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The positions of a scope's events after `after`, in order.
    pub(super) fn positions_of(&self, scope: &Scope, after: Position) -> impl Iterator<Item = Position> {
        let positions = self.of.get(scope);
        let first = positions.map_or(0, |positions| positions.partition_point(|at| *at <= after));
        positions.into_iter().flat_map(move |positions| positions.range(first..).copied())
    }

    /// The events of a scope after `after`, in order.
    pub(super) fn events_of(&self, scope: &Scope, after: Position) -> impl Iterator<Item = (Position, &Event)> {
        let before = self.first().map_or(0, |(first, _)| first.0);
        self.positions_of(scope, after).filter_map(move |at| {
            let index = usize::try_from(at.0 - before).ok()?;
            self.events.get(index).map(|(at, event)| (*at, event))
        })
    }
}
