//! Ended executions are kept for a while, then deleted, a few at a time.

use std::sync::Arc;
use std::time::Duration;

use cerebelum_store::{Filter, TenantId};

use crate::node::Node;

/// Deletes what ended longer ago than `keep_ended`, for ever.
pub(crate) async fn keep_deleting(node: Arc<Node>) {
    let Some(keep) = node.config.keep_ended else { return };
    loop {
        for status in ["completed", "failed", "cancelled"] {
            if let Err(error) = delete_old(&node, status, keep).await {
                tracing::warn!(%error, "cannot delete ended executions");
            }
        }
        node.machine.sleep(Duration::from_secs(60).min(keep)).await;
    }
}

async fn delete_old(node: &Node, status: &str, keep: Duration) -> Result<(), cerebelum_store::StoreError> {
    let keep_ms = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
    let mut cursor = None;
    loop {
        let filter = Filter { status: Some(status.to_owned()), cursor, limit: 100, ..Filter::default() };
        let page = node.store.list(TenantId::DEFAULT, filter).await?;
        let now = node.clock.now();
        for head in page.executions {
            if head.ended_at.is_some_and(|ended| now.since(ended) > keep_ms) {
                node.store.delete(&head.key).await?;
            }
        }
        cursor = page.cursor;
        if cursor.is_none() {
            return Ok(());
        }
    }
}
