//! Takes into memory whatever can move, as far as there is room.

use std::sync::Arc;
use std::time::Duration;

use cerebelum_store::{Incarnation, Size};

use crate::node::Node;

/// The most executions claimed in one transaction.
const CLAIM_MAX: u32 = 256;

impl Node {
    /// Claims whatever can move, for ever.
    pub(crate) async fn keep_claiming(self: Arc<Self>) {
        let mut waiting = None;
        loop {
            let _ = waiting.get_or_insert_with(|| self.liveness.waits("what is due for being claimed"));
            self.wake.reset();
            // Asked for before claiming: what becomes due between the two is claimed, or looked at again at once. The other
            // way round it would be neither claimed nor still to come, and wait for the backstop.
            if let Ok(Some(due)) = self.store.next_due().await {
                self.wake.expect(due);
            }
            let room = self.config.activations_max.saturating_sub(self.in_memory());
            let limit = CLAIM_MAX.min(u32::try_from(room).unwrap_or(CLAIM_MAX));
            let claimed = match (self.lease.incarnation().filter(|_| limit > 0), self.room()) {
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
                // What is large was left out.
                () = self.ledger.freed(), if !self.ledger.has_room() => {}
            }
        }
    }

    /// Comes back when something is due or announced, at the latest after the backstop.
    async fn until_due(&self) {
        let began = self.runtime.boot_ms();
        loop {
            let waited = Duration::from_millis(self.runtime.boot_ms() - began);
            let wait = self.clock.until(self.wake.next()).min(self.config.backstop.saturating_sub(waited));
            if wait.is_zero() {
                return;
            }
            tokio::select! {
                biased;
                () = self.runtime.sleep(wait) => {}
                () = self.wake.moved() => {}
            }
        }
    }

    /// How many it claimed; none when the store did not say.
    async fn claim(self: &Arc<Self>, incarnation: Incarnation, limit: u32, size: Size) -> Option<u32> {
        let claimed = match self.store.claim(incarnation, limit, size).await {
            Ok(claimed) => claimed,
            Err(error) => {
                tracing::warn!(%error, "cannot claim");
                self.lease.lose_if_unknown(&error);
                return None;
            }
        };
        // Others may have been left out because these are large.
        let is_all = claimed.len() < limit as usize && !claimed.iter().any(|claimed| claimed.leaves_others);
        let count = if is_all { u32::try_from(claimed.len()).unwrap_or(u32::MAX) } else { limit };
        self.metrics.claim_sizes.observe(claimed.len() as u64);
        let now = self.clock.now();
        for claimed in claimed {
            if let Some(due) = claimed.head.due.filter(|due| *due <= now) {
                self.metrics.timer_lateness_ms.observe(now.since(due));
            }
            self.activate(incarnation, claimed);
        }
        Some(count)
    }
}
