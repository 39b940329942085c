//! Ended executions are kept for a while, then deleted, a few at a time.

use std::sync::Arc;
use std::time::Duration;

use cerebelum_history::Timestamp;

use crate::node::Node;

/// How many go in one transaction: what runs meanwhile waits for no more than that.
const BATCH: u32 = 200;
/// The pause after each of them.
const PAUSE: Duration = Duration::from_millis(100);

/// Deletes what ended longer ago than `keep_ended`, for ever.
pub(crate) async fn keep_deleting(node: Arc<Node>) {
    let Some(keep) = node.config.keep_ended else { return };
    let keep_ms = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
    loop {
        let before = Timestamp(node.clock.now().0.saturating_sub(keep_ms));
        let deleted = node.store.delete_ended(before, BATCH).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot delete ended executions");
            0
        });
        let pause = if deleted < u64::from(BATCH) { Duration::from_secs(60).min(keep) } else { PAUSE };
        node.machine.sleep(pause).await;
    }
}
