//! What the requests of one tenant share.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use cerebelum_store::TenantId;
use parking_lot::Mutex;

/// A value for each tenant, and one for all clients without a tenant. It is remembered as long as something has it.
#[derive(Debug)]
pub struct TenantMap<V>(Mutex<HashMap<Option<TenantId>, Weak<V>>>);

impl<V> Default for TenantMap<V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<V> TenantMap<V> {
    /// The value of a tenant, or a new one if nothing has it.
    pub fn of(&self, tenant: impl Into<Option<TenantId>>, new: impl FnOnce() -> V) -> Arc<V> {
        let mut tenants = self.0.lock();
        tenants.retain(|_, value| value.strong_count() > 0);
        let tenant = tenant.into();
        tenants.get(&tenant).and_then(Weak::upgrade).unwrap_or_else(|| {
            let value = Arc::new(new());
            tenants.insert(tenant, Arc::downgrade(&value));
            value
        })
    }
}
