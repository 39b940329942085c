//! The stored history of one execution: the part of each guest, read in chunks. An index of the chunks lets many guests
//! share one read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use cerebelum_history::{CallName, Event, Execution, Position, Scope, planted};
use cerebelum_sandbox::{Account, Held, Moving};
use cerebelum_store::{Chunk, ExecutionKey, HistoryPart};

use crate::activation_error::ActivationError;
use crate::encode::pieces;
use crate::node::Node;
use crate::restore;

/// A history of at least this many bytes is loaded only when the ledger has room for it.
const LONG_BYTES: u64 = 1 << 20;
/// About how many copies of a history are in memory while it is loaded.
const COPIES: u64 = 2;
/// How often an execution that waits for room checks whether it may go on.
const RECHECK: Duration = Duration::from_millis(100);
/// How many positions are read at once while a history is indexed, so that the rest of the engine moves in between.
const WINDOW_EVENTS: u64 = 2_000;

/// The first and last positions of chunks.
type ChunkRanges = BTreeMap<Position, Position>;

/// An index of the stored chunks that hold events of each step. It reaches back as far as needed, and new chunks are
/// added.
struct ChunkIndex {
    /// Everything from this position on is indexed. A chunk begins here.
    from: Position,
    of: HashMap<Scope, Listed>,
}

/// The chunks of one scope.
#[derive(Default)]
struct Listed {
    /// Chunks that hold any event of the scope.
    events: ChunkRanges,
    /// Chunks that hold a value that is dropped when the scope ends (L12).
    values: ChunkRanges,
}

impl ChunkIndex {
    /// An index of the chunks that are written from this position on.
    fn new(from: Position) -> Self {
        Self { from, of: HashMap::new() }
    }

    /// Indexes the events of a newly written chunk, and removes the scopes that they end.
    fn add(&mut self, place: (Position, Position), events: &[Event]) {
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
fn ending_behind(ranges: Option<&ChunkRanges>, from: Position) -> impl Iterator<Item = Position> {
    let first = move |ranges: &ChunkRanges| ranges.range(..=from).next_back().map_or(from, |(first, _)| *first);
    let ranges = ranges.into_iter().flat_map(move |ranges| ranges.range(first(ranges)..));
    ranges.filter(move |(_, last)| **last >= from).map(|(first, _)| *first)
}

/// Stored events by scope, with their positions.
pub(crate) type Journals = HashMap<Scope, Vec<(Position, Event)>>;

/// Memory for a long history while guests begin from it.
type LoadMemory = Option<(Held, Moving)>;

/// The stored history of an execution's current run.
pub(crate) struct StoredHistory {
    node: Arc<Node>,
    key: ExecutionKey,
    run: u32,
    index: ChunkIndex,
}

impl StoredHistory {
    /// The history of a run, of which this is the last stored position.
    pub(crate) fn new(node: Arc<Node>, (key, run): (ExecutionKey, u32), stored: Position) -> Self {
        Self { node, key, run, index: ChunkIndex::new(stored.next()) }
    }

    /// Encodes events as the chunks that are written from `first` on, and indexes them.
    pub(crate) fn append(&mut self, first: Position, events: &[Event]) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        for ((first, last), events) in pieces(first, events) {
            self.index.add((first, last), events);
            chunks.push(Chunk { first, last, events: Event::encode(events) });
        }
        chunks
    }

    /// Waits for room if a long history is to be read. The memory is held until the guests have begun.
    async fn memory_for(&self, bytes: u64, account: &Arc<Account>) -> LoadMemory {
        if bytes < LONG_BYTES {
            return None;
        }
        loop {
            if let Some(moving) = account.may_move(bytes * COPIES) {
                return Some((account.hold(bytes * COPIES), moving));
            }
            // The execution that has the turn may stand still because it needs something that this one holds.
            let _ = self.node.runtime.within(RECHECK, self.node.ledger.freed()).await;
        }
    }

    /// The events at these positions.
    pub(crate) async fn events(&self, from: Position, to: Position) -> Result<Vec<Event>, ActivationError> {
        if to < from {
            return Ok(Vec::new());
        }
        let events = restore::events(&*self.node.store, &self.key, self.run, (from, to)).await?;
        self.node.metrics.guests.events_read.inc_by(events.len() as u64);
        Ok(events)
    }

    /// The stored events from which these scopes start: a step's own events, and all events for the workflow's scope. They
    /// may take the memory of a long history as long as the second value lives.
    pub(crate) async fn journals(
        &mut self,
        execution: &Execution,
        scopes: &[Scope],
        account: &Arc<Account>,
    ) -> Result<(Journals, LoadMemory), ActivationError> {
        let from = |scope: &Scope| Some((scope.clone(), execution.journal_from(scope)?));
        let wanted: Vec<(Scope, Position)> = scopes.iter().filter_map(from).collect();
        let bytes = if scopes.iter().any(Scope::is_root) { execution.history_bytes() } else { 0 };
        let room = self.memory_for(bytes, account).await;
        Ok((self.read(&wanted, execution.saved()).await?, room))
    }

    /// Reads the events of these scopes, each from its position on and up to `to`.
    async fn read(&mut self, wanted: &[(Scope, Position)], to: Position) -> Result<Journals, ActivationError> {
        let mut journals = Journals::new();
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
        let mut ranges = BTreeSet::new();
        for (scope, from) in &steps {
            // Earlier chunks were read just now.
            ranges.extend(self.index.events_of(scope, (*from).max(listed)));
        }
        ranges.retain(|first| *first <= to);
        for chunk in self.chunks(ranges).await? {
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
        let listed = self.index.from;
        let (mut next, mut begins) = (first, listed);
        while next < listed {
            let to = Position((next.0 + WINDOW_EVENTS - 1).min(listed.0 - 1));
            let chunks = self.node.store.history(&self.key, self.run, HistoryPart::Between(next, to)).await?;
            for chunk in &chunks {
                let events = restore::decode(chunk)?;
                self.node.metrics.guests.events_read.inc_by(events.len() as u64);
                for (position, event) in (chunk.first.0..).map(Position).zip(&events) {
                    read(position, event);
                    self.index.list((chunk.first, chunk.last), event);
                }
                begins = begins.min(chunk.first);
                next = chunk.last.next();
            }
            if chunks.is_empty() {
                return Err(ActivationError::Unavailable("a part of the history could not be read".to_owned()));
            }
        }
        self.index.from = begins;
        Ok(listed)
    }

    /// The stored chunks that begin at these positions.
    async fn chunks(&self, ranges: BTreeSet<Position>) -> Result<Vec<Chunk>, ActivationError> {
        if ranges.is_empty() {
            return Ok(Vec::new());
        }
        let part = HistoryPart::At(ranges.into_iter().collect());
        let chunks = self.node.store.history(&self.key, self.run, part).await?;
        let events: u64 = chunks.iter().map(|chunk| chunk.last.0 + 1 - chunk.first.0).sum();
        self.node.metrics.guests.events_read.inc_by(events);
        Ok(chunks)
    }

    /// The chunks up to `stored` that hold values of finished scopes, with those values removed (L12).
    pub(crate) async fn redacted(
        &mut self,
        scopes: &[(Scope, Position, Position)],
        stored: Position,
    ) -> Result<Vec<Chunk>, ActivationError> {
        let scopes = || scopes.iter().filter(move |(_, from, to)| *from <= (*to).min(stored));
        let Some(first) = scopes().map(|(_, from, _)| *from).min() else { return Ok(Vec::new()) };
        let mut ended: HashMap<&Scope, (Position, Position)> = HashMap::new();
        for (scope, from, to) in scopes() {
            let range = ended.entry(scope).or_insert((*from, *to));
            *range = (range.0.min(*from), range.1.max(*to));
        }
        self.list_from(first, &mut |_, _| ()).await?;
        let mut ranges: BTreeSet<Position> = BTreeSet::new();
        for (scope, from, _) in scopes() {
            ranges.extend(self.index.values_of(scope, *from).filter(|first| *first <= stored));
        }
        let mut rewritten = Vec::new();
        for chunk in self.chunks(ranges).await? {
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
