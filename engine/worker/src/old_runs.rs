//! Removes the old runs of chains: of an execution that continues as new, only the last ones are kept.

use std::sync::Arc;
use std::time::Duration;

use cerebelum_store::StoreError;

use crate::node::Node;
use crate::retention::{PURGE_INTERVAL, Pace};

/// How many chains are looked up at once.
const CHAINS_MAX: u32 = 200;
/// How often the log says that runs cannot be removed.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// Removes runs before the last `keep_runs` ones of each chain, forever. What one removal deletes is bounded, so chains
/// take turns. What was begun is carried out even if all runs are kept now.
pub(crate) async fn keep_removing(node: Arc<Node>) {
    let mut pace = Pace::default();
    let mut warned_ms = None;
    loop {
        let round = round(&node, &mut pace).await.unwrap_or_else(|error| Round { failure: Some(error), deleted: 0 });
        let now_ms = node.runtime.boot_ms();
        let is_told = warned_ms.is_some_and(|at| Duration::from_millis(now_ms - at) < WARN_INTERVAL);
        if let Some(error) = round.failure.filter(|_| !is_told) {
            tracing::warn!(%error, "cannot remove old runs of an execution: they stay, and are tried again");
            warned_ms = Some(now_ms);
        }
        if round.deleted == 0 {
            node.runtime.sleep(PURGE_INTERVAL).await;
        }
    }
}

/// What became of a turn of all chains.
#[derive(Default)]
struct Round {
    /// The rows that were deleted.
    deleted: u64,
    /// The last failure. It keeps no other chain.
    failure: Option<StoreError>,
}

/// Gives each chain that is too long its turn.
async fn round(node: &Node, pace: &mut Pace) -> Result<Round, StoreError> {
    let keep = node.config.keep_runs.unwrap_or(u32::MAX);
    let (mut after, mut round) = (0, Round::default());
    loop {
        let overdue = node.store.overdue_runs(keep, after, CHAINS_MAX).await?;
        let Some(last) = overdue.last() else { return Ok(round) };
        after = *last;
        for place in overdue {
            match pace.delete(node, |_| node.store.remove_runs(place, keep)).await {
                Ok((deleted, _)) => round.deleted += deleted,
                Err(error) => round.failure = Some(error),
            }
        }
    }
}
