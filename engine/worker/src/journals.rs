//! Each guest's part of the stored history. An index of chunks lets many guests share one read of the history.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use cerebelum_history::{CallName, Event, Position, Scope, planted};
use cerebelum_store::{Chunk, HistoryPart};

use crate::activation::Activation;
use crate::activation_error::ActivationError;
use crate::engine_error::EngineError;
use crate::restore;

/// How many positions are read at once while a history is indexed, so that the rest of the engine moves in between.
const WINDOW_EVENTS: u64 = 2_000;

/// The first and last positions of chunks.
type Places = BTreeMap<Position, Position>;

/// An index of the stored chunks that hold events of each step. It reaches back as far as needed, and new chunks are
/// added.
pub(crate) struct ChunkIndex {
    /// Everything from this position on is indexed. A chunk begins here.
    from: Position,
    of: HashMap<Scope, Listed>,
}

/// The chunks of one scope.
#[derive(Default)]
struct Listed {
    /// Chunks that hold any event of the scope.
    events: Places,
    /// Chunks that hold a value that is dropped when the scope ends (L12).
    values: Places,
}

impl ChunkIndex {
    /// An index of the chunks that are written from this position on.
    pub(crate) fn new(from: Position) -> Self {
        Self { from, of: HashMap::new() }
    }

    /// Indexes the events of a newly written chunk, and removes the scopes that they end.
    pub(crate) fn add(&mut self, place: (Position, Position), events: &[Event]) {
        for event in events {
            self.list(place, event);
            if !self.of.is_empty()
                && let Some(ordinal) = event.data.ended_step()
            {
                self.of.remove(&CallName { scope: event.scope.clone(), ordinal }.step_scope());
            }
        }
    }

    fn list(&mut self, (first, last): (Position, Position), event: &Event) {
        if event.scope.is_root() {
            return;
        }
        let listed = self.of.entry(event.scope.clone()).or_default();
        listed.events.insert(first, last);
        if event.data.has_value() {
            listed.values.insert(first, last);
        }
    }

    fn events_of(&self, scope: &Scope, from: Position) -> impl Iterator<Item = Position> {
        ending_behind(self.of.get(scope).map(|listed| &listed.events), from)
    }

    fn values_of(&self, scope: &Scope, from: Position) -> impl Iterator<Item = Position> {
        ending_behind(self.of.get(scope).map(|listed| &listed.values), from)
    }
}

/// The chunks that end at or after a position.
fn ending_behind(places: Option<&Places>, from: Position) -> impl Iterator<Item = Position> {
    let first = move |places: &Places| places.range(..=from).next_back().map_or(from, |(first, _)| *first);
    let places = places.into_iter().flat_map(move |places| places.range(first(places)..));
    places.filter(move |(_, last)| **last >= from).map(|(first, _)| *first)
}

/// Stored events by scope, with their positions.
pub(crate) type Journals = HashMap<Scope, Vec<(Position, Event)>>;

impl Activation {
    /// The stored events from which these scopes start, each from its position on: a step's own events, and all events
    /// for the workflow's scope.
    pub(crate) async fn journals(&mut self, wanted: &[(Scope, Position)]) -> Result<Journals, ActivationError> {
        let mut journals = Journals::new();
        let to = self.execution.saved();
        let mut steps: HashMap<&Scope, Position> = HashMap::new();
        for (scope, from) in wanted {
            if scope.is_root() || planted("open-steps-read-all") {
                let events = self.events(*from, to).await?;
                journals.insert(scope.clone(), (from.0..).map(Position).zip(events).collect());
            } else if *from <= to {
                steps.insert(scope, *from);
            }
        }
        let Some(first) = steps.values().min().copied() else { return Ok(journals) };
        let mut keep = |position: Position, event: &Event| {
            if position <= to && steps.get(&event.scope).is_some_and(|from| *from <= position) {
                journals.entry(event.scope.clone()).or_default().push((position, event.clone()));
            }
        };
        let listed = self.list_from(first, &mut keep).await?;
        let mut places = BTreeSet::new();
        for (scope, from) in &steps {
            // Earlier chunks were read just now.
            places.extend(self.chunk_index.events_of(scope, (*from).max(listed)));
        }
        places.retain(|first| *first <= to);
        for chunk in self.chunks(places).await? {
            let events = restore::decode(&chunk)?;
            (chunk.first.0..).map(Position).zip(&events).for_each(|(position, event)| keep(position, event));
        }
        Ok(journals)
    }

    /// Extends the index back to this position. It includes steps that have just ended, because their values are still
    /// to be dropped. `read` is called with every event that is read for this. Returns the position up to which that
    /// was, so that no event is read twice.
    async fn list_from(
        &mut self,
        first: Position,
        read: &mut (impl FnMut(Position, &Event) + Send),
    ) -> Result<Position, ActivationError> {
        let listed = self.chunk_index.from;
        let (mut next, mut begins) = (first, listed);
        while next < listed {
            let to = Position((next.0 + WINDOW_EVENTS - 1).min(listed.0 - 1));
            let chunks = self.node.store.history(&self.key, self.head.run, HistoryPart::Between(next, to)).await?;
            for chunk in &chunks {
                let events = restore::decode(chunk)?;
                self.node.metrics.events_read.inc_by(events.len() as u64);
                for (position, event) in (chunk.first.0..).map(Position).zip(&events) {
                    read(position, event);
                    self.chunk_index.list((chunk.first, chunk.last), event);
                }
                begins = begins.min(chunk.first);
                next = chunk.last.next();
            }
            if chunks.is_empty() {
                return Err(ActivationError::Engine(EngineError::Passing(
                    "a part of the history could not be read".to_owned(),
                )));
            }
        }
        self.chunk_index.from = begins;
        Ok(listed)
    }

    /// The stored chunks that begin at these positions.
    async fn chunks(&mut self, places: BTreeSet<Position>) -> Result<Vec<Chunk>, ActivationError> {
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let part = HistoryPart::At(places.into_iter().collect());
        let chunks = self.node.store.history(&self.key, self.head.run, part).await?;
        let events: u64 = chunks.iter().map(|chunk| chunk.last.0 + 1 - chunk.first.0).sum();
        self.node.metrics.events_read.inc_by(events);
        Ok(chunks)
    }

    /// The stored chunks that hold values of finished scopes, with those values removed (L12).
    pub(crate) async fn without_values(
        &mut self,
        scopes: &[(Scope, Position, Position)],
    ) -> Result<Vec<Chunk>, ActivationError> {
        let stored = self.stored;
        let scopes = || scopes.iter().filter(move |(_, from, to)| *from <= (*to).min(stored));
        let Some(first) = scopes().map(|(_, from, _)| *from).min() else { return Ok(Vec::new()) };
        let mut ended: HashMap<&Scope, (Position, Position)> = HashMap::new();
        for (scope, from, to) in scopes() {
            let range = ended.entry(scope).or_insert((*from, *to));
            *range = (range.0.min(*from), range.1.max(*to));
        }
        self.list_from(first, &mut |_, _| ()).await?;
        let mut places: BTreeSet<Position> = BTreeSet::new();
        for (scope, from, _) in scopes() {
            places.extend(self.chunk_index.values_of(scope, *from).filter(|first| *first <= stored));
        }
        let mut rewritten = Vec::new();
        for chunk in self.chunks(places).await? {
            let mut events = restore::decode(&chunk)?;
            for (position, event) in (chunk.first.0..).map(Position).zip(&mut events) {
                if ended.get(&event.scope).is_some_and(|(from, to)| (*from..=*to).contains(&position)) {
                    event.data = event.data.clone().without_values();
                }
            }
            rewritten.push(Chunk { events: Event::encode(&events), ..chunk });
        }
        Ok(rewritten)
    }
}
