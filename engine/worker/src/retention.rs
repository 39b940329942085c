//! Deletes ended executions after a while, what deleted executions leave behind, and what belongs to deleted tenants, a few
//! rows at a time.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use cerebelum_store::{StoreError, StoreFuture};

use crate::node::Node;

/// The most executions deleted in one transaction. Other work waits no longer than for one such transaction.
const BATCH_MAX: u32 = 200;
/// After a transaction that took longer than this, the next one deletes half as many.
const SLOW: Duration = Duration::from_millis(100);
/// After each transaction the task pauses for this many times as long as it took, so that it uses a quarter of the time
/// at most.
const PAUSE_FACTOR: u32 = 3;
/// The shortest pause.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// When nothing is left to delete, the next check follows after `keep_ended`, within these bounds.
const RECHECK: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);

/// How often deleted tenants are looked for, what deleted executions have left behind, and old runs.
pub(crate) const PURGE_INTERVAL: Duration = Duration::from_secs(5);
/// How many lease durations a deleted tenant keeps its name. What a node began for it before is stored by then, or the node
/// has lost its lease.
const GRACE_LEASES: u32 = 2;

/// Deletes executions that ended longer ago than `keep_ended`, forever.
pub(crate) async fn keep_deleting(node: Arc<Node>) {
    let Some(keep) = node.config.keep_ended else { return };
    let mut pace = Pace::default();
    loop {
        let before = node.clock.ago(keep);
        let deleted = pace.delete(&node, |limit| node.store.delete_ended(before, limit)).await;
        let (deleted, is_all) = deleted.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot delete ended executions");
            (0, true)
        });
        node.metrics.executions.deleted.inc_by(deleted);
        if is_all {
            node.runtime.sleep(keep.clamp(*RECHECK.start(), *RECHECK.end())).await;
        }
    }
}

/// Deletes what deleted executions have left behind, forever: those that grew old, and those that clients deleted.
pub(crate) async fn keep_clearing(node: Arc<Node>) {
    let mut pace = Pace::default();
    loop {
        match pace.delete(&node, |limit| node.store.delete_remains(limit)).await {
            Ok((0, _)) => node.runtime.sleep(PURGE_INTERVAL).await,
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot look for what deleted executions have left behind");
                node.runtime.sleep(PURGE_INTERVAL).await;
            }
        }
    }
}

/// Deletes what belongs to tenants that were deleted, forever.
pub(crate) async fn keep_purging(node: Arc<Node>) {
    let mut pace = Pace::default();
    loop {
        if let Err(error) = purge(&node, &mut pace).await {
            tracing::warn!(%error, "cannot read which tenants are deleted");
        }
        node.runtime.sleep(PURGE_INTERVAL).await;
    }
}

async fn purge(node: &Node, pace: &mut Pace) -> Result<(), StoreError> {
    let deleted = node.store.tenants().await?.into_iter().filter(|tenant| tenant.deleted_at.is_some());
    for tenant in deleted {
        let before = node.clock.ago(node.config.lease.saturating_mul(GRACE_LEASES));
        loop {
            match pace.delete(node, |limit| node.store.purge_tenant(tenant.id, before, limit)).await {
                Ok((0, _)) => break,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, tenant = tenant.name, "cannot delete what belongs to a deleted tenant");
                    break;
                }
            }
        }
    }
    Ok(())
}

/// Deletes in small transactions with pauses between them, so that others are served meanwhile.
pub(crate) struct Pace {
    /// How much the next transaction deletes.
    batch: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { batch: BATCH_MAX }
    }
}

impl Pace {
    /// Deletes up to a number and pauses. Returns how many there were, and whether these were all.
    pub(crate) async fn delete<'a>(
        &mut self,
        node: &Node,
        doing: impl FnOnce(u32) -> StoreFuture<'a, u64>,
    ) -> Result<(u64, bool), StoreError> {
        let (began_ms, limit) = (node.clock.boot_ms(), self.batch);
        let deleted = doing(limit).await;
        let took = Duration::from_millis(node.clock.boot_ms() - began_ms);
        self.batch = if took > SLOW { (limit / 2).max(1) } else { (limit * 2).min(BATCH_MAX) };
        node.runtime.sleep((took * PAUSE_FACTOR).max(PAUSE_MIN)).await;
        deleted.map(|deleted| (deleted, deleted < u64::from(limit)))
    }
}
