//! Uploads of one tenant take turns, so that neither their bytes nor their compilations keep other tenants waiting.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use cerebelum_store::TenantId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many components one tenant may upload at once. While one is compiled, the next one is received.
const UPLOADS_AT_ONCE: usize = 2;

/// The turns of all tenants that upload something now.
#[derive(Default)]
pub(crate) struct UploadTurns {
    tenants: Mutex<HashMap<TenantId, Weak<Semaphore>>>,
}

/// Permission to upload one component. The next one begins when it is dropped.
pub struct UploadTurn {
    _permit: OwnedSemaphorePermit,
}

impl UploadTurns {
    /// Waits until this tenant has few uploads under way. The bytes of an upload that waits stay with the client.
    pub(crate) async fn next(&self, tenant: TenantId) -> UploadTurn {
        let turns = self.of(tenant);
        UploadTurn { _permit: turns.acquire_owned().await.expect("nobody closes the semaphore") }
    }

    fn of(&self, tenant: TenantId) -> Arc<Semaphore> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        tenants.retain(|_, turns| turns.strong_count() > 0);
        tenants.get(&tenant).and_then(Weak::upgrade).unwrap_or_else(|| {
            let turns = Arc::new(Semaphore::new(UPLOADS_AT_ONCE));
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
    async fn the_uploads_of_one_tenant_wait_for_each_other_and_for_no_one_else() {
        let turns = UploadTurns::default();
        let mut own = Vec::new();
        for _ in 0..UPLOADS_AT_ONCE {
            own.push(turns.next(TenantId(1)).await);
        }
        assert!(turns.next(TenantId(1)).now_or_never().is_none());
        assert!(turns.next(TenantId(2)).now_or_never().is_some());
        own.pop();
        assert!(turns.next(TenantId(1)).now_or_never().is_some());
    }
}
