//! Claims executions that can move, as far as there is room in memory, and frees those of silent nodes.

use std::sync::Arc;
use std::time::Duration;

use cerebelum_history::Position;
use cerebelum_store::{ClaimFilter, Incarnation, Size};

use crate::metrics::WAKE_START;
use crate::scheduler::Scheduler;

/// The most executions claimed in one transaction.
const CLAIM_MAX: u32 = 256;

impl Scheduler {
    /// Claims executions that can move, forever.
    pub(crate) async fn keep_claiming(self: Arc<Self>) {
        let mut waiting = None;
        loop {
            let _ = waiting.get_or_insert_with(|| self.node.liveness.waits("what is due for being claimed"));
            self.node.wake.reset();
            // The next due time is read before claiming. An execution that becomes due between the two steps is then
            // claimed, or the loop runs again at once. In the other order it would be missed until the backstop.
            if let Ok(Some(due)) = self.node.store.next_due().await {
                self.node.wake.expect(due);
            }
            let room = self.node.config.activations_max.saturating_sub(self.in_memory());
            let limit = CLAIM_MAX.min(u32::try_from(room).unwrap_or(CLAIM_MAX));
            let claimed = match (self.node.lease.incarnation().filter(|_| limit > 0), self.room()) {
                (Some(incarnation), Some(size)) => self.claim(incarnation, limit, size).await,
                _ => None,
            };
            if claimed.is_some() {
                waiting = None;
            }
            if claimed == Some(limit) {
                continue;
            }
            tokio::select! {
                biased;
                () = self.until_due() => {}
                // Large executions were left out.
                () = self.node.ledger.freed(), if !self.node.ledger.has_room() => {}
            }
        }
    }

    /// Expires the leases of silent nodes, forever.
    pub(crate) async fn keep_expiring_leases(self: Arc<Self>) {
        loop {
            self.node.runtime.sleep(self.node.config.lease / 4).await;
            match self.node.store.expire_leases().await {
                Ok(0) => {}
                Ok(count) => {
                    self.node.metrics.writes.takeovers.inc_by(count);
                    tracing::info!(count, "leases of silent nodes ended");
                    self.node.wake.now();
                }
                Err(error) => tracing::debug!(%error, "cannot expire leases"),
            }
        }
    }

    /// Returns when an execution is due or announced, and at the latest after the backstop.
    async fn until_due(&self) {
        let began = self.node.runtime.boot_ms();
        loop {
            let waited = Duration::from_millis(self.node.runtime.boot_ms() - began);
            let wait =
                self.node.clock.until(self.node.wake.next()).min(self.node.config.backstop.saturating_sub(waited));
            if wait.is_zero() {
                return;
            }
            tokio::select! {
                biased;
                () = self.node.runtime.sleep(wait) => {}
                () = self.node.wake.moved() => {}
            }
        }
    }

    /// Returns how many executions were claimed; none when the store failed.
    async fn claim(self: &Arc<Self>, incarnation: Incarnation, limit: u32, size: Size) -> Option<u32> {
        let claimed = match self.node.store.claim(incarnation, ClaimFilter::Next { limit, size }).await {
            Ok(claimed) => claimed,
            Err(error) => {
                tracing::warn!(%error, "cannot claim");
                self.node.lease.lose_if_unknown(&error);
                return None;
            }
        };
        // Other executions may have been left out because these are large.
        let is_all = claimed.len() < limit as usize && !claimed.iter().any(|claimed| claimed.leaves_others);
        let count = if is_all { u32::try_from(claimed.len()).unwrap_or(u32::MAX) } else { limit };
        self.node.metrics.executions.claim_sizes.observe(claimed.len() as f64);
        let now = self.node.clock.now();
        for claimed in claimed {
            // Timers are measured where they fire.
            if claimed.head.position == Position(1) && claimed.head.due.is_none() {
                let waited_ms = now.since(claimed.head.started_at);
                self.node.metrics.executions.wake_delay.at(WAKE_START).observe(waited_ms as f64 / 1_000.0);
            }
            self.activate(incarnation, claimed);
        }
        Some(count)
    }
}
