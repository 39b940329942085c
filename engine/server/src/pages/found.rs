//! What a reader looks for among many events or lines.

use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};
use tonic::Status;

/// How long one request looks.
const LOOKED_MAX: Duration = Duration::from_secs(1);

/// What was found, in order.
pub(super) struct Found<T> {
    pub(super) items: Vec<T>,
    /// The last one that was looked at.
    pub(super) last: Option<T>,
    /// Whether there is nothing more to look at.
    pub(super) is_all: bool,
}

/// Looks for at most so many that fit.
pub(super) async fn found<T: Clone>(
    mut from: impl Stream<Item = Result<T, Status>> + Unpin,
    most: u64,
    fits: impl Fn(&T) -> bool,
) -> Result<Found<T>, Status> {
    let began = Instant::now();
    let mut found = Found { items: Vec::new(), last: None, is_all: false };
    while (found.items.len() as u64) < most && began.elapsed() < LOOKED_MAX {
        let Some(item) = from.next().await.transpose()? else {
            found.is_all = true;
            break;
        };
        if fits(&item) {
            found.items.push(item.clone());
        }
        found.last = Some(item);
    }
    Ok(found)
}
