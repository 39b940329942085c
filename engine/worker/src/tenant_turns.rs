//! Bounds what one tenant does at once, so that it waits for itself and others do not wait for it.

use std::sync::Arc;

use cerebelum_store::TenantId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::tenant_map::TenantMap;

/// How many components one tenant may upload at once. While one is compiled, the next one is received.
const UPLOADS_AT_ONCE: usize = 2;
/// How many writes of one tenant's clients (signals, answers, requests to end) are in the database at once.
const WRITES_AT_ONCE: usize = 2;
/// How many starts and signals of one tenant are processed at once while several tenants are active: all that is under way
/// shares the disk, the processor and the groups of batches.
const REQUESTS_AT_ONCE: usize = 4;
/// How many counts of executions one tenant has made at once.
const COUNTS_AT_ONCE: usize = 1;

/// The turns of what clients ask for.
pub(crate) struct ClientTurns {
    pub(crate) uploads: TenantTurns,
    /// Of writes that are not part of a batch.
    pub(crate) writes: TenantTurns,
    /// Of starts and signals, while several tenants are active.
    pub(crate) requests: TenantTurns,
    pub(crate) counts: TenantTurns,
    histories: TenantTurns,
    whole_history: Arc<Semaphore>,
}

impl ClientTurns {
    pub(crate) fn new() -> Self {
        Self {
            uploads: TenantTurns::new(UPLOADS_AT_ONCE),
            writes: TenantTurns::new(WRITES_AT_ONCE),
            requests: TenantTurns::new(REQUESTS_AT_ONCE),
            counts: TenantTurns::new(COUNTS_AT_ONCE),
            histories: TenantTurns::new(1),
            whole_history: Arc::new(Semaphore::new(1)),
        }
    }

    /// Waits until a whole history may be in memory: 64 MiB of text, and some times that as events. There is one at a time,
    /// and each tenant is in the line for it once.
    pub(crate) async fn whole_history(&self, tenant: TenantId) -> (TenantTurn, OwnedSemaphorePermit) {
        let turn = self.histories.next(tenant).await;
        (turn, self.whole_history.clone().acquire_owned().await.expect("the semaphore is never closed"))
    }
}

/// The turns of all tenants that do one kind of thing now.
pub(crate) struct TenantTurns {
    at_once: usize,
    tenants: TenantMap<Semaphore>,
}

/// Permission to do one thing. The next one of the tenant begins when it is dropped.
pub struct TenantTurn {
    _permit: OwnedSemaphorePermit,
}

impl TenantTurns {
    /// Each tenant may do so many things at once.
    pub(crate) fn new(at_once: usize) -> Self {
        Self { at_once, tenants: TenantMap::default() }
    }

    /// Waits until this tenant does less than it may.
    pub(crate) async fn next(&self, tenant: TenantId) -> TenantTurn {
        let turns = self.tenants.of(tenant, || Semaphore::new(self.at_once));
        TenantTurn { _permit: turns.acquire_owned().await.expect("the semaphore is never closed") }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn one_whole_history_is_in_memory_and_no_tenant_is_in_the_line_twice() {
        let turns = ClientTurns::new();
        let first = turns.whole_history(TenantId(1)).await;
        let mut again = Box::pin(turns.whole_history(TenantId(1)));
        let mut other = Box::pin(turns.whole_history(TenantId(2)));
        assert!((&mut again).now_or_never().is_none() && (&mut other).now_or_never().is_none());
        drop(first);
        let other = (&mut other).now_or_never().expect("it is the next one, although it asked later");
        assert!((&mut again).now_or_never().is_none());
        drop(other);
        assert!((&mut again).now_or_never().is_some());
    }

    #[tokio::test]
    async fn the_things_of_one_tenant_wait_for_each_other_and_for_no_one_else() {
        let turns = TenantTurns::new(2);
        let mut own = Vec::new();
        for _ in 0..2 {
            own.push(turns.next(TenantId(1)).await);
        }
        assert!(turns.next(TenantId(1)).now_or_never().is_none());
        assert!(turns.next(TenantId(2)).now_or_never().is_some());
        own.pop();
        assert!(turns.next(TenantId(1)).now_or_never().is_some());
    }
}
