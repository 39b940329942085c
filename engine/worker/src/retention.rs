//! Ended executions are kept for a while, then deleted, a few at a time.

use std::sync::Arc;
use std::time::Duration;

use cerebelum_history::Timestamp;

use crate::node::Node;

/// How many go in one transaction: what runs meanwhile waits for no more than that.
const BATCH: u32 = 200;
/// After each of them nothing is deleted for so many times as long as it took: deleting has a quarter of the database at
/// most. That is enough for all that one engine can end.
const REST: u32 = 3;
/// The shortest pause.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// The longest pause, when nothing is left to be deleted.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Deletes what ended longer ago than `keep_ended`, for ever.
pub(crate) async fn keep_deleting(node: Arc<Node>) {
    let Some(keep) = node.config.keep_ended else { return };
    let keep_ms = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
    loop {
        let began_ms = node.clock.boot_ms();
        let before = Timestamp(node.clock.now().0.saturating_sub(keep_ms));
        let deleted = node.store.delete_ended(before, BATCH).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot delete ended executions");
            0
        });
        node.metrics.deleted.add(deleted);
        let took = Duration::from_millis(node.clock.boot_ms() - began_ms);
        let pause = if deleted < u64::from(BATCH) { PAUSE_MAX.min(keep) } else { (took * REST).max(PAUSE_MIN) };
        node.machine.sleep(pause).await;
    }
}
