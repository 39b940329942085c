//! The start of an execution: its row and first event, the look-up of an existing one, and executions that are stored
//! before they run.

use std::collections::BTreeMap;
use std::sync::Arc;

use cerebelum_history::{Digest, Event, Execution, ExecutionId, ExecutionOptions, Json, Position, Seed, Timestamp};
use cerebelum_store::{
    Chunk, ExecutionKey, ExecutionRow, Existing, NewExecution, Parent, StartOutcome, State, Store, StoreError, TenantId,
};

use crate::env::Runtime;
use crate::lease::LeaseKeeper;
use crate::metrics::Metrics;
use crate::restore::identity;
use crate::wake::Wake;

/// An execution to start.
pub(crate) struct StartCommand {
    pub(crate) tenant: TenantId,
    pub(crate) id: ExecutionId,
    /// `component/workflow`.
    pub(crate) workflow: String,
    pub(crate) digest: Digest,
    pub(crate) input: Json,
    pub(crate) attributes: BTreeMap<String, Json>,
    pub(crate) options: ExecutionOptions,
    pub(crate) parent: Option<Parent>,
    /// The root of its keys and random numbers.
    pub(crate) seed: Seed,
}

/// A unique seed for an execution that a client starts.
pub(crate) fn fresh_seed(runtime: &dyn Runtime) -> Seed {
    let mut seed = [0; 32];
    seed.chunks_mut(8).for_each(|bits| bits.copy_from_slice(&runtime.chance().to_le_bytes()));
    Seed(seed)
}

impl StartCommand {
    /// The new execution and its row.
    pub(crate) fn begin(&self, at: Timestamp) -> (ExecutionRow, Execution) {
        let is_delayed = self.options.starts_at.is_some();
        let mut row = ExecutionRow {
            key: ExecutionKey { tenant: self.tenant, id: self.id.clone() },
            workflow: self.workflow.clone(),
            digest: self.digest.clone(),
            seed: self.seed,
            run: 1,
            state: State::Open,
            paused: false,
            parked: None,
            // A delayed start has no work before its time.
            settled: is_delayed,
            position: Position(1),
            stamp: at,
            due: None,
            status: if is_delayed { "waiting" } else { "running" }.to_owned(),
            attributes: text_of(&self.attributes),
            options: text_of(&self.options),
            parent: self.parent.clone(),
            started_at: at,
            ended_at: None,
            open_calls: Some(0),
        };
        let execution = Execution::start(identity(&row), self.input.clone(), self.options.clone(), at);
        row.due = execution.due();
        (row, execution.with_attributes(self.attributes.clone()))
    }

    /// The rows of the new execution.
    pub(crate) fn rows(&self, at: Timestamp) -> NewExecution {
        let (head, mut execution) = self.begin(at);
        let first = chunk(Position(1), &execution.take_changes().events);
        NewExecution { head, first: first.expect("an execution begins with an event") }
    }
}

/// Encodes events as a chunk that begins at `first`; none when there are no events.
pub(crate) fn chunk(first: Position, events: &[Event]) -> Option<Chunk> {
    let count = u64::try_from(events.len()).ok().filter(|count| *count > 0)?;
    Some(Chunk { first, last: Position(first.0 + count - 1), events: Event::encode(events) })
}

/// How many events one chunk holds, and about how many bytes: a whole chunk is read and rewritten for one event.
const CHUNK_EVENTS_MAX: usize = 64;
const CHUNK_BYTES_MAX: u64 = 64 << 10;

/// Splits events into pieces of one chunk each, with the first and last position of each piece. The first piece begins
/// at `first`.
pub(crate) fn pieces(first: Position, events: &[Event]) -> Vec<((Position, Position), &[Event])> {
    let (mut pieces, mut next, mut rest) = (Vec::new(), first, events);
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |event: &&Event| {
            bytes += event.data.weight();
            bytes <= CHUNK_BYTES_MAX
        };
        let count = rest.iter().take(CHUNK_EVENTS_MAX).take_while(fits).count().max(1);
        let (piece, behind) = rest.split_at(count);
        let last = Position(next.0 + count as u64 - 1);
        pieces.push(((next, last), piece));
        (next, rest) = (last.next(), behind);
    }
    pieces
}

/// The JSON text of a small value; empty for an empty object.
pub(crate) fn text_of(value: &impl serde::Serialize) -> String {
    let text = Json::of(value).to_string();
    if text == "{}" { String::new() } else { text }
}

/// Looks up a group in one statement, or one by one if a row is damaged, so that damage affects no other execution.
pub(crate) async fn look_up(
    store: Arc<dyn Store>,
    keys: Vec<ExecutionKey>,
) -> Vec<Result<Option<Existing>, StoreError>> {
    match store.find_existing(keys.clone()).await {
        Ok(begun) => begun.into_iter().map(Ok).collect(),
        Err(StoreError::Corrupt(_)) if keys.len() > 1 => {
            let mut answers = Vec::with_capacity(keys.len());
            for key in keys {
                answers.push(store.find_existing(vec![key]).await.map(|mut begun| begun.pop().flatten()));
            }
            answers
        }
        Err(error) => vec![Err(error); keys.len()],
    }
}

/// Stores a group of new executions that no node has claimed yet.
pub(crate) async fn start_all(
    (store, lease): (Arc<dyn Store>, Arc<LeaseKeeper>),
    (metrics, wake): (Arc<Metrics>, Arc<Wake>),
    new: Vec<NewExecution>,
) -> Vec<Result<StartOutcome, StoreError>> {
    let started = store.start(new.clone()).await;
    crate::fail::point("start-sent");
    match started {
        Ok(started) => {
            for (new, _) in new.into_iter().zip(&started).filter(|(_, started)| **started == StartOutcome::New) {
                metrics.started.add(1);
                wake.expect(new.head.due.unwrap_or(Timestamp(0)));
            }
            started.into_iter().map(Ok).collect()
        }
        // The database rejects one of them; the others are started one by one.
        Err(StoreError::Rejected(_)) if new.len() > 1 => {
            let mut answers = Vec::with_capacity(new.len());
            for new in new {
                answers.extend(
                    Box::pin(start_all((store.clone(), lease.clone()), (metrics.clone(), wake.clone()), vec![new]))
                        .await,
                );
            }
            answers
        }
        Err(error) => {
            lease.lose_if_unknown(&error);
            vec![Err(error); new.len()]
        }
    }
}
