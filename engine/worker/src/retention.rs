//! Deletes ended executions after a while, a few at a time.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use cerebelum_history::Timestamp;

use crate::node::Node;

/// The most executions deleted in one transaction. Other work waits no longer than for one such transaction.
const BATCH_MAX: u32 = 200;
/// After a transaction that took longer than this, the next one deletes half as many: histories may be long.
const SLOW: Duration = Duration::from_millis(100);
/// After each transaction the task pauses for this many times as long as it took, so that it uses a quarter of the time
/// at most.
const PAUSE_FACTOR: u32 = 3;
/// The shortest pause.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// When nothing is left to delete, the next check follows after `keep_ended`, within these bounds.
const RECHECK: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);

/// Deletes executions that ended longer ago than `keep_ended`, forever.
pub(crate) async fn keep_deleting(node: Arc<Node>) {
    let Some(keep) = node.config.keep_ended else { return };
    let keep_ms = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
    let mut batch = BATCH_MAX;
    loop {
        let began_ms = node.clock.boot_ms();
        let before = Timestamp(node.clock.now().0.saturating_sub(keep_ms));
        let deleted = node.store.delete_ended(before, batch).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot delete ended executions");
            0
        });
        node.metrics.deleted.inc_by(deleted);
        let took = Duration::from_millis(node.clock.boot_ms() - began_ms);
        let pause = (took * PAUSE_FACTOR).max(PAUSE_MIN);
        let is_done = deleted < u64::from(batch);
        batch = if took > SLOW { (batch / 2).max(1) } else { (batch * 2).min(BATCH_MAX) };
        let recheck = keep.clamp(*RECHECK.start(), *RECHECK.end());
        node.runtime.sleep(if is_done { pause.max(recheck) } else { pause }).await;
    }
}
