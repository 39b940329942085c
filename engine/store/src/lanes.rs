//! Lanes to the connections for reads: each tenant has fewer reads of executions under way than there are connections, so
//! that another one finds a connection free, however many executions of the first are to be read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::model::TenantId;

/// The reads of one tenant's executions that are under way at once.
const TENANT_READS_MAX: usize = 3;

/// The lanes of all tenants.
#[derive(Debug, Default)]
pub(crate) struct Lanes(Mutex<HashMap<TenantId, Weak<Semaphore>>>);

/// A place in a lane, until this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    /// The lane is remembered as long as anybody is in it.
    _lane: Arc<Semaphore>,
}

impl Lanes {
    /// Waits for a place in the tenant's lane.
    pub(crate) async fn enter(&self, tenant: TenantId) -> Place {
        let lane = self.of(tenant);
        let permit = lane.clone().acquire_owned().await.expect("nobody closes a lane");
        Place { _permit: permit, _lane: lane }
    }

    fn of(&self, tenant: TenantId) -> Arc<Semaphore> {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get(&tenant).and_then(Weak::upgrade) {
            return lane;
        }
        lanes.retain(|_, lane| lane.strong_count() > 0);
        let lane = Arc::new(Semaphore::new(TENANT_READS_MAX));
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
        let lanes = Lanes::default();
        let mut places = Vec::new();
        for _ in 0..TENANT_READS_MAX {
            places.push(lanes.enter(TenantId(1)).await);
        }
        assert!(lanes.enter(TenantId(1)).now_or_never().is_none());
        assert!(lanes.enter(TenantId(2)).now_or_never().is_some());
        places.pop();
        assert!(lanes.enter(TenantId(1)).now_or_never().is_some());
        places.clear();
        drop(lanes.enter(TenantId(3)).await);
        assert_eq!(lanes.0.lock().unwrap().len(), 1);
    }
}
