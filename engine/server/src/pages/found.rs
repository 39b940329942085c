//! What a reader looks for among many events or lines.

use std::time::Duration;

use futures::StreamExt;
use tokio::time::{Instant, timeout_at};
use tonic::Status;

use crate::answers::AnswerBytes;
use crate::streams::Answers;

/// How long one request looks.
const LOOKED_MAX: Duration = Duration::from_secs(1);

/// What was found, in order.
pub(super) struct Found<T> {
    pub(super) items: Vec<T>,
    /// The last one that was looked at; none if there was nothing to look at.
    pub(super) last: Option<T>,
    /// Whether there is nothing more to look at.
    pub(super) is_all: bool,
    _shares: Vec<AnswerBytes>,
}

/// Looks for at most so many that fit. `kept` makes of each one what is kept of it, and says whether that still takes the
/// memory that the whole one took.
pub(super) async fn found<T: Clone>(
    mut from: Answers<T>,
    most: u64,
    fits: impl Fn(&T) -> bool,
    kept: impl Fn(T) -> (T, bool),
) -> Result<Found<T>, Status> {
    let (leaving, until) = (from.leaving(), Instant::now() + LOOKED_MAX);
    let mut found = Found { items: Vec::new(), last: None, is_all: false, _shares: Vec::new() };
    while (found.items.len() as u64) < most {
        // A database that is slow has its own time limits: nothing is said to be missing before it has answered.
        let next = match found.last {
            None => from.next().await,
            Some(_) => match timeout_at(until, from.next()).await {
                Ok(next) => next,
                Err(_) => break,
            },
        };
        let Some(item) = next.transpose()? else {
            found.is_all = true;
            break;
        };
        // Others wait for the memory of what is only looked at.
        let (does_fit, mut shares) = (fits(&item), leaving.take());
        let (item, is_whole) = kept(item);
        if does_fit {
            found.items.push(item.clone());
            if is_whole {
                found._shares.append(&mut shares);
            }
        }
        found.last = Some(item);
    }
    Ok(found)
}
