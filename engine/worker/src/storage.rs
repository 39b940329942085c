//! Tenants that have stored as much as they may. Their clients start and signal nothing more; far beyond the quota, their
//! executions are parked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cerebelum_store::{StoreError, TenantId};
use parking_lot::RwLock;

use crate::activation_error::ActivationError;
use crate::api::ApiError;
use crate::node::Node;
use crate::quotas::{Quota, Quotas};

/// How often the bytes of tenants are read.
const INTERVAL: Duration = Duration::from_secs(2);
/// Executions may store a tenth more than the quota before they are parked: those under way can end.
const PARKED_BEYOND_TENTHS: u64 = 11;

/// A tenant that has stored as much as it may.
#[derive(Debug, Clone, Copy)]
struct Full {
    stored: u64,
    max: u64,
}

/// The tenants that have stored as much as they may, as this engine last saw it.
#[derive(Debug, Default)]
pub(crate) struct FullTenants(RwLock<BTreeMap<TenantId, Full>>);

impl FullTenants {
    fn of(&self, tenant: TenantId) -> Option<Full> {
        self.0.read().get(&tenant).copied()
    }

    /// Refuses a request with which a client of the tenant would store more.
    pub(crate) fn admit(&self, tenant: TenantId) -> Result<(), ApiError> {
        self.of(tenant).map_or(Ok(()), |full| Err(Quota::StoredBytes.exceeded(full.max)))
    }

    /// Parks an execution of a tenant that is far beyond its quota.
    pub(crate) fn check(&self, tenant: TenantId) -> Result<(), ActivationError> {
        match self.of(tenant) {
            Some(Full { stored, max }) if stored / PARKED_BEYOND_TENTHS >= max / 10 => {
                Err(ActivationError::Parked(format!(
                    "stored-bytes: the executions of the tenant have stored {stored} bytes, and {max} are its quota: \
                     delete some that have ended, or raise the quota; then resume"
                )))
            }
            _ => Ok(()),
        }
    }

    /// Notes what a tenant has stored and may store.
    pub(crate) fn note(&self, tenant: TenantId, stored: u64, max: u64) {
        let mut full = self.0.write();
        match stored >= max {
            true => drop(full.insert(tenant, Full { stored, max })),
            false => drop(full.remove(&tenant)),
        }
    }

    fn replace(&self, by: BTreeMap<TenantId, Full>) {
        *self.0.write() = by;
    }
}

/// Reads what tenants have stored, forever. While the database does not answer, what was read before holds.
pub(crate) async fn keep_measuring(node: Arc<Node>) {
    loop {
        match measure(&node).await {
            Ok(full) => node.usages.full.replace(full),
            Err(error) => tracing::debug!(%error, "cannot read what tenants have stored"),
        }
        node.runtime.sleep(INTERVAL).await;
    }
}

async fn measure(node: &Node) -> Result<BTreeMap<TenantId, Full>, StoreError> {
    let stored = node.store.stored_bytes().await?;
    let full = node.store.tenants().await?.into_iter().filter_map(|tenant| {
        let max = Quotas::parse(&tenant.quotas).max(Quota::StoredBytes);
        let stored = stored.get(&tenant.id).copied().unwrap_or(0);
        (stored >= max).then_some((tenant.id, Full { stored, max }))
    });
    Ok(full.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_refused_at_the_quota_and_executions_parked_a_tenth_later() {
        let (full, tenant) = (FullTenants::default(), TenantId(7));
        let states = |stored| {
            full.note(tenant, stored, 1_000);
            (full.admit(tenant).is_ok(), full.check(tenant).is_ok())
        };
        assert_eq!(states(999), (true, true));
        assert_eq!(states(1_000), (false, true));
        assert_eq!(states(1_099), (false, true));
        assert_eq!(states(1_100), (false, false));
        assert_eq!(states(999), (true, true));
        full.note(tenant, 0, 0);
        assert!(full.admit(tenant).is_err() && full.check(tenant).is_err(), "a quota of nothing");
    }
}
