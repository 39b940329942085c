//! Builds an execution in memory from its rows.

use std::collections::BTreeMap;

use cerebelum_history::{CallName, Event, Execution, ExecutionOptions, Identity, Json, OpenCall, Position, Snapshot};
use cerebelum_store::{CallRow, Chunk, Claimed, ExecutionKey, ExecutionRow, HistoryPart, Store, StoreError};

/// The stored execution, or why it cannot be read.
pub(crate) fn execution(claimed: &Claimed) -> Result<Execution, String> {
    let row = &claimed.head;
    let stored = Snapshot {
        position: row.position,
        stamp: row.stamp,
        paused: row.paused,
        settled: row.settled,
        options: options(row)?,
        attributes: attributes(row)?,
        open: open_calls(&claimed.calls)?.into_iter().collect(),
    };
    Ok(Execution::restore(identity(row), stored))
}

/// The constant properties of an execution.
pub(crate) fn identity(row: &ExecutionRow) -> Identity {
    Identity {
        id: row.key.id.clone(),
        workflow: row.workflow.clone(),
        digest: row.digest.clone(),
        seed: row.seed,
        run: row.run,
    }
}

/// The options stored with an execution.
pub(crate) fn options(row: &ExecutionRow) -> Result<ExecutionOptions, String> {
    if row.options.is_empty() {
        return Ok(ExecutionOptions::default());
    }
    serde_json::from_str(&row.options).map_err(|e| format!("corrupt-history: facts that cannot be read: {e}"))
}

/// The attributes by name.
fn attributes(row: &ExecutionRow) -> Result<BTreeMap<String, Json>, String> {
    if row.attributes.is_empty() {
        return Ok(BTreeMap::new());
    }
    serde_json::from_str(&row.attributes).map_err(|e| format!("corrupt-history: attributes that cannot be read: {e}"))
}

/// Open calls by name.
pub(crate) fn open_calls(rows: &[CallRow]) -> Result<BTreeMap<CallName, OpenCall>, String> {
    let decode = |row: &CallRow| {
        let call = OpenCall::decode(&row.state);
        call.map(|call| (row.name.clone(), call))
            .map_err(|e| format!("corrupt-history: open call {} cannot be read: {e}", row.name))
    };
    rows.iter().map(decode).collect()
}

/// The events at these positions.
pub(crate) async fn events(
    store: &dyn Store,
    key: &ExecutionKey,
    run: u32,
    (from, to): (Position, Position),
) -> Result<Vec<Event>, StoreError> {
    let chunks = store.history(key, run, HistoryPart::Between(from, to)).await?;
    let events = events_of(&chunks)?;
    // The chunk of the first wanted event may begin with earlier events, and the last chunk may end with later ones.
    let begins = chunks.first().map_or(from.0, |chunk| chunk.first.0);
    let skip = usize::try_from(from.0 - begins.min(from.0)).unwrap_or(usize::MAX);
    let count = usize::try_from(to.0 + 1 - from.0).unwrap_or(usize::MAX);
    Ok(events.into_iter().skip(skip).take(count).collect())
}

/// The events of stored chunks.
pub(crate) fn events_of(chunks: &[Chunk]) -> Result<Vec<Event>, StoreError> {
    let mut events = Vec::new();
    for chunk in chunks {
        let before = events.len() as u64;
        events.extend(decode(chunk)?);
        let counted = events.len() as u64 - before;
        if counted != chunk.last.0 + 1 - chunk.first.0 {
            return Err(StoreError::Corrupt(format!(
                "{counted} events where {}..{} should be",
                chunk.first.0, chunk.last.0
            )));
        }
    }
    Ok(events)
}

/// The events of one stored chunk.
pub(crate) fn decode(chunk: &Chunk) -> Result<Vec<Event>, StoreError> {
    let place = || format!("positions {}..{}", chunk.first.0, chunk.last.0);
    Event::decode(&chunk.events).map_err(|e| StoreError::Corrupt(format!("{}: {e}", place())))
}
