//! Bounds what one tenant does at once, so that it waits for itself and others do not wait for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use cerebelum_store::TenantId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The turns of all tenants that do one kind of thing now.
pub(crate) struct TenantTurns {
    at_once: usize,
    tenants: Mutex<HashMap<TenantId, Weak<Semaphore>>>,
}

/// Permission to do one thing. The next one of the tenant begins when it is dropped.
pub struct TenantTurn {
    _permit: OwnedSemaphorePermit,
}

impl TenantTurns {
    /// Each tenant may do so many things at once.
    pub(crate) fn new(at_once: usize) -> Self {
        Self { at_once, tenants: Mutex::default() }
    }

    /// Waits until this tenant does less than it may.
    pub(crate) async fn next(&self, tenant: TenantId) -> TenantTurn {
        let turns = self.of(tenant);
        TenantTurn { _permit: turns.acquire_owned().await.expect("nobody closes the semaphore") }
    }

    fn of(&self, tenant: TenantId) -> Arc<Semaphore> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        tenants.retain(|_, turns| turns.strong_count() > 0);
        tenants.get(&tenant).and_then(Weak::upgrade).unwrap_or_else(|| {
            let turns = Arc::new(Semaphore::new(self.at_once));
            tenants.insert(tenant, Arc::downgrade(&turns));
            turns
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

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
