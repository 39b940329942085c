//! Claims executions that can move, as far as there is room in memory, and frees those of silent nodes.

use std::sync::Arc;
use std::time::Duration;

use cerebelum_history::Position;
use cerebelum_store::{ClaimFilter, Incarnation, Size, TenantId};

use crate::metrics::WAKE_START;
use crate::scheduler::Scheduler;

/// The most executions claimed in one transaction.
const CLAIM_MAX: u32 = 256;

impl Scheduler {
    /// Claims executions that can move, forever.
    pub(crate) async fn keep_claiming(self: Arc<Self>) {
        let (mut waiting, mut order) = (None, ClaimOrder { by_tenant: false, after: TenantId::DEFAULT });
        loop {
            let _ = waiting.get_or_insert_with(|| self.node.liveness.waits("what is due for being claimed"));
            self.node.wake.reset();
            // The next due time is read before claiming. An execution that becomes due between the two steps is then
            // claimed, or the loop runs again at once. In the other order it would be missed until the backstop.
            if let Ok(Some(due)) = self.node.store.next_due().await {
                self.node.wake.expect(due);
            }
            let (full, places) = self.claimable();
            let limit = CLAIM_MAX.min(u32::try_from(places).unwrap_or(CLAIM_MAX));
            let claimed = match (self.node.lease.incarnation().filter(|_| limit > 0), self.size()) {
                (Some(incarnation), Some(size)) => {
                    let filter = order.filter((limit, size), full);
                    self.claim(incarnation, filter, limit).await
                }
                _ => None,
            };
            if claimed.is_some() {
                waiting = None;
            }
            if claimed.is_some_and(|claimed| order.next(claimed)) {
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

    /// Claims executions and loads them. None when the store failed.
    async fn claim(self: &Arc<Self>, incarnation: Incarnation, filter: ClaimFilter, limit: u32) -> Option<ClaimResult> {
        let claimed = match self.node.store.claim(incarnation, filter).await {
            Ok(claimed) => claimed,
            Err(error) => {
                self.warnings.line(&*self.node.runtime, |more| tracing::warn!(%error, more, "cannot claim"));
                self.node.lease.lose_if_unknown(&error);
                return None;
            }
        };
        // Other executions may have been left out because these are large.
        let is_all = claimed.len() < limit as usize && !claimed.iter().any(|claimed| claimed.leaves_others);
        let result = ClaimResult { is_all, last: claimed.last().map(|claimed| claimed.head.key.tenant) };
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
        Some(result)
    }
}

/// The result of a claim.
#[derive(Clone, Copy)]
struct ClaimResult {
    /// Whether there was nothing more to claim with this filter.
    is_all: bool,
    /// The tenant of the last execution.
    last: Option<TenantId>,
}

/// Whose executions are claimed next. When more are due than fit, claims of what is overdue longest alternate with claims
/// in turn by tenant: a tenant that begins any number of executions keeps those of others waiting for one claim at most.
struct ClaimOrder {
    by_tenant: bool,
    after: TenantId,
}

impl ClaimOrder {
    fn filter(&mut self, (limit, size): (u32, Size), without: Vec<TenantId>) -> ClaimFilter {
        self.by_tenant |= !without.is_empty();
        match self.by_tenant {
            true => ClaimFilter::InTurn { limit, size, without, after: self.after },
            false => ClaimFilter::Next { limit, size },
        }
    }

    /// Notes the result of a claim. Returns whether another one may find more.
    fn next(&mut self, claimed: ClaimResult) -> bool {
        let was_by_tenant = std::mem::take(&mut self.by_tenant);
        self.after = claimed.last.filter(|_| was_by_tenant).unwrap_or(self.after);
        self.by_tenant = !was_by_tenant && !claimed.is_all;
        // Of a tenant that has much, there may be more than its share.
        if was_by_tenant { claimed.last.is_some() } else { !claimed.is_all }
    }
}
