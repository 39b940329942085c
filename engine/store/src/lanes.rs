//! Lanes to the connections for reads of executions: there are some that reads do not take, for what has to be written,
//! and one that the reads of no single tenant take, so that another tenant finds it free.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::model::TenantId;

/// The lanes of all tenants.
#[derive(Debug)]
pub(crate) struct Lanes {
    /// For the reads of all tenants together.
    all: Arc<Semaphore>,
    /// The reads of one tenant's executions that are under way at once.
    tenant_max: usize,
    /// A lane is remembered as long as a read is in it, or waits for it.
    tenants: Mutex<HashMap<TenantId, Weak<Semaphore>>>,
}

impl Lanes {
    /// Lanes to so many connections.
    pub(crate) fn to(connections: usize) -> Self {
        let all = Arc::new(Semaphore::new(connections));
        Self { all, tenant_max: connections.saturating_sub(1).max(1), tenants: Mutex::default() }
    }

    /// Waits for a place in the tenant's lane and for one among all. Both last until they are dropped.
    pub(crate) async fn enter(&self, tenant: TenantId) -> [OwnedSemaphorePermit; 2] {
        let of_tenant = self.of(tenant).acquire_owned().await.expect("a lane is never closed");
        let of_all = self.all.clone().acquire_owned().await.expect("the lanes are never closed");
        [of_tenant, of_all]
    }

    fn of(&self, tenant: TenantId) -> Arc<Semaphore> {
        let mut lanes = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get(&tenant).and_then(Weak::upgrade) {
            return lane;
        }
        lanes.retain(|_, lane| lane.strong_count() > 0);
        let lane = Arc::new(Semaphore::new(self.tenant_max));
        lanes.insert(tenant, Arc::downgrade(&lane));
        lane
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_full_lane_is_the_tenants_own_and_an_empty_one_is_forgotten() {
        let lanes = Lanes::to(4);
        let mut places = Vec::new();
        for _ in 0..3 {
            places.push(lanes.enter(TenantId(1)).await);
        }
        assert!(lanes.enter(TenantId(1)).now_or_never().is_none());
        assert!(lanes.enter(TenantId(2)).now_or_never().is_some());
        places.pop();
        assert!(lanes.enter(TenantId(1)).now_or_never().is_some());
        places.clear();
        drop(lanes.enter(TenantId(3)).await);
        assert_eq!(lanes.tenants.lock().unwrap().len(), 1);
    }
}
