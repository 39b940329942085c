//! The stored form of events and of what lists show. `restore` reads it back.

use cerebelum_history::{End, Event, Execution, Json, LastFailure, Position};
use cerebelum_store::Chunk;

/// What an execution waits for, or why it failed, as text.
pub(crate) fn waits_for(execution: &Execution) -> Option<String> {
    match execution.end() {
        Some(End::Failed(failure)) => {
            Some(text_of(&LastFailure { at: execution.position(), failure: failure.for_lists() }))
        }
        _ => execution.first_wait().map(|wait| text_of(&wait)),
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
