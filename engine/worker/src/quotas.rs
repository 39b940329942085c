//! Quotas: what a tenant may have at once or do in a second, by name, and what it uses.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use cerebelum_history::planted;
use cerebelum_store::{Component, Store, TenantId};
use parking_lot::Mutex;

use crate::api::ApiError;
use crate::storage::FullTenants;

/// How many seconds' worth of a rate may be used at once.
const BURST_SECONDS: u64 = 10;
/// How long a count of open executions is believed. Starts are added to it, ends and starts of other engines are not.
const COUNT_TRUST_MS: u64 = 60_000;
/// How long starts are refused without a new count after a count has found too many.
const REFUSAL_TRUST_MS: u64 = 100;

/// A quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quota {
    /// Requests of clients in a second.
    CallsPerSecond,
    /// Executions that clients start in a second.
    StartsPerSecond,
    /// Executions that have not ended.
    OpenExecutions,
    /// Versions of components.
    Components,
    /// The bytes of these.
    ComponentBytes,
    /// The bytes that executions have stored.
    StoredBytes,
    /// Bytes that requests of steps send and receive in a minute.
    EgressBytesPerMinute,
}

impl Quota {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::CallsPerSecond,
        Self::StartsPerSecond,
        Self::OpenExecutions,
        Self::Components,
        Self::ComponentBytes,
        Self::StoredBytes,
        Self::EgressBytesPerMinute,
    ];

    /// Its name on the wire and for people, and what a tenant has for which none was set.
    const fn name_and_default(self) -> (&'static str, u64) {
        match self {
            Self::CallsPerSecond => ("calls-per-second", 20_000),
            Self::StartsPerSecond => ("starts-per-second", 10_000),
            Self::OpenExecutions => ("open-executions", 1_000_000),
            Self::Components => ("components", 2_000),
            Self::ComponentBytes => ("component-bytes", 8 << 30),
            Self::StoredBytes => ("stored-bytes", 64 << 30),
            Self::EgressBytesPerMinute => ("egress-bytes-per-minute", 4 << 30),
        }
    }

    /// Its name on the wire and for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.name_and_default().0
    }

    /// The quota of this name.
    pub(crate) fn named(name: &str) -> Result<Self, ApiError> {
        Self::ALL.into_iter().find(|quota| quota.name() == name).ok_or_else(|| {
            let all = Self::ALL.map(Self::name).join(", ");
            ApiError::Invalid(format!("`{}` is not a quota: there are {all}", name.escape_debug()))
        })
    }

    pub(crate) fn exceeded(self, max: u64) -> ApiError {
        let name = self.name();
        let how = match self {
            Self::CallsPerSecond | Self::StartsPerSecond => "ask more slowly",
            Self::EgressBytesPerMinute => "wait a minute",
            Self::OpenExecutions => "wait until some have ended",
            Self::StoredBytes => "delete executions that have ended (`cerebelum bulk delete`)",
            Self::Components | Self::ComponentBytes => "remove some (`cerebelum components remove`)",
        };
        ApiError::Quota(format!(
            "quota {name}: the tenant may have {max}; {how}, or let an admin of `default` raise it (`cerebelum tenant set-quota`)"
        ))
    }
}

/// The quotas that were set for a tenant; for all others the defaults hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Quotas(BTreeMap<Quota, u64>);

impl Quotas {
    /// Reads them as they are stored. Names that this engine does not know are for engines that do.
    pub(crate) fn parse(text: &str) -> Self {
        let stored: BTreeMap<String, u64> = serde_json::from_str(text).unwrap_or_default();
        Self(stored.into_iter().filter_map(|(name, max)| Some((Quota::named(&name).ok()?, max))).collect())
    }

    pub(crate) fn max(&self, quota: Quota) -> u64 {
        self.0.get(&quota).copied().unwrap_or(quota.name_and_default().1)
    }

    pub(crate) fn is_set(&self, quota: Quota) -> bool {
        self.0.contains_key(&quota)
    }
}

/// Tokens that come back with time.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    /// Thousandths of what is gone.
    used_milli: u64,
    at_ms: u64,
}

impl Bucket {
    /// Takes one, if there is one.
    pub(crate) fn take(&mut self, per_second: u64, now_ms: u64) -> bool {
        // So many thousandths come back in a millisecond.
        let back = now_ms.saturating_sub(self.at_ms).saturating_mul(per_second);
        // The rate may have been lowered since.
        let all = per_second.saturating_mul(BURST_SECONDS * 1_000);
        self.used_milli = self.used_milli.min(all).saturating_sub(back);
        self.at_ms = self.at_ms.max(now_ms);
        let fits = self.used_milli + 1_000 <= all;
        if fits {
            self.used_milli += 1_000;
        }
        fits
    }
}

/// How many executions are open, as far as this engine knows.
#[derive(Debug, Default)]
struct OpenCount {
    /// None before the first count.
    counted_ms: Option<u64>,
    /// At the count, and started since.
    open: u64,
    /// Starts that were admitted and are not stored yet.
    under_way: u64,
    refused_until_ms: u64,
}

/// What a tenant uses of what it may.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    quotas: Mutex<Quotas>,
    calls: Mutex<Bucket>,
    starts: Mutex<Bucket>,
    open: Mutex<OpenCount>,
    /// One counts at a time; the others wait for the result.
    counting: tokio::sync::Mutex<()>,
    /// One component is stored at a time, so that two do not exceed a quota together.
    pub(crate) storing: tokio::sync::Mutex<()>,
}

/// A start that was admitted and is not stored yet.
pub(crate) struct AdmittedStart(Arc<Usage>);

impl Drop for AdmittedStart {
    fn drop(&mut self) {
        self.0.open.lock().under_way -= 1;
    }
}

impl Usage {
    fn max(&self, quota: Quota) -> u64 {
        self.quotas.lock().max(quota)
    }

    /// Counts a request of a client.
    pub(crate) fn count_call(&self, now_ms: u64) -> Result<(), ApiError> {
        let max = self.max(Quota::CallsPerSecond);
        self.calls.lock().take(max, now_ms).then_some(()).ok_or_else(|| Quota::CallsPerSecond.exceeded(max))
    }

    /// Counts a start of a client, if the tenant may start one more.
    pub(crate) async fn admit_start(
        self: Arc<Self>,
        (store, tenant): (&dyn Store, TenantId),
        now_ms: u64,
    ) -> Result<AdmittedStart, ApiError> {
        let max = self.max(Quota::StartsPerSecond);
        if !self.starts.lock().take(max, now_ms) {
            return Err(Quota::StartsPerSecond.exceeded(max));
        }
        self.find_room((store, tenant), now_ms).await?;
        let mut open = self.open.lock();
        open.open += 1;
        open.under_way += 1;
        drop(open);
        Ok(AdmittedStart(self))
    }

    /// Counts an execution that another one starts, if the tenant may have one more open.
    pub(crate) async fn admit_child(&self, store: (&dyn Store, TenantId), now_ms: u64) -> Result<(), ApiError> {
        self.find_room(store, now_ms).await?;
        self.open.lock().open += 1;
        Ok(())
    }

    /// Finds out whether the tenant may have one more execution open.
    async fn find_room(&self, (store, tenant): (&dyn Store, TenantId), now_ms: u64) -> Result<(), ApiError> {
        let max = self.max(Quota::OpenExecutions);
        if planted("open-not-counted") || self.has_room(max, now_ms)? {
            return Ok(());
        }
        let _one = self.counting.lock().await;
        if self.has_room(max, now_ms)? {
            return Ok(());
        }
        let under_way = self.open.lock().under_way;
        let counted = store.count_open(tenant, max).await?;
        let mut open = self.open.lock();
        (open.counted_ms, open.open) = (Some(now_ms), counted + under_way);
        if open.open >= max {
            open.refused_until_ms = now_ms + REFUSAL_TRUST_MS;
            return Err(Quota::OpenExecutions.exceeded(max));
        }
        Ok(())
    }

    /// Whether there is room by the last count; a new count decides if not.
    fn has_room(&self, max: u64, now_ms: u64) -> Result<bool, ApiError> {
        let open = self.open.lock();
        if now_ms < open.refused_until_ms {
            return Err(Quota::OpenExecutions.exceeded(max));
        }
        Ok(open.open < max && open.counted_ms.is_some_and(|at| now_ms < at + COUNT_TRUST_MS))
    }

    /// Checks that the tenant may have a component of this size besides those that it has.
    pub(crate) fn admit_component(&self, others: &[Component], bytes: u64) -> Result<(), ApiError> {
        let (versions, held) = (others.len() as u64, others.iter().map(|component| component.size).sum::<u64>());
        for (quota, would_be) in [(Quota::Components, versions + 1), (Quota::ComponentBytes, held + bytes)] {
            let max = self.max(quota);
            if would_be > max {
                return Err(quota.exceeded(max));
            }
        }
        Ok(())
    }
}

/// The usage of all tenants that this engine has met.
#[derive(Debug, Default)]
pub(crate) struct Usages {
    of: Mutex<HashMap<TenantId, Arc<Usage>>>,
    /// The tenants that have stored as much as they may.
    pub(crate) full: FullTenants,
}

impl Usages {
    pub(crate) fn of(&self, tenant: TenantId) -> Arc<Usage> {
        self.of.lock().entry(tenant).or_default().clone()
    }

    /// Notes the quotas of a tenant as they were just read. A lower one holds at once.
    pub(crate) fn note(&self, tenant: TenantId, quotas: Quotas) {
        let usage = self.of(tenant);
        let mut known = usage.quotas.lock();
        if *known != quotas {
            *known = quotas;
            let mut open = usage.open.lock();
            (open.counted_ms, open.refused_until_ms) = (None, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_lets_ten_seconds_worth_through_at_once_and_then_as_much_as_comes_back() {
        let mut bucket = Bucket::default();
        let taken = |bucket: &mut Bucket, now_ms| (0..1_000).filter(|_| bucket.take(5, now_ms)).count();
        assert_eq!(taken(&mut bucket, 1_000_000), 50);
        assert_eq!(taken(&mut bucket, 1_000_100), 0);
        assert_eq!(taken(&mut bucket, 1_000_200), 1);
        assert_eq!(taken(&mut bucket, 1_002_200), 10);
        assert_eq!(taken(&mut bucket, 9_000_000), 50);
        assert_eq!(taken(&mut bucket, 9_000_000), 0);
        assert!(!bucket.take(1, 9_000_500) && bucket.take(1, 9_001_000), "a lower rate has no older debt");
        let mut none = Bucket::default();
        assert_eq!((0..1_000).filter(|_| none.take(0, 1_000_000)).count(), 0);
    }

    #[test]
    fn quotas_that_were_not_set_or_that_are_unknown_have_their_defaults() {
        let quotas = Quotas::parse(r#"{"components": 3, "of-a-later-engine": 4}"#);
        assert_eq!(quotas.max(Quota::Components), 3);
        assert_eq!(quotas.max(Quota::OpenExecutions), 1_000_000);
        assert_eq!(Quotas::parse("damaged"), Quotas::default());
    }
}
