//! What clients did.

use cerebelum_history::Timestamp;
use cerebelum_store::{Act, AuditFilter, AuditPage, AuditRow, AuditStore, StoreFuture, TenantId};

use crate::{MemoryStore, Tables};

/// An act with its tenant and its number, by which the store in memory counts acts.
pub(crate) type StoredAct = (TenantId, u64, AuditRow);

impl Tables {
    /// Stores what a client did.
    pub(crate) fn note(&mut self, act: Option<&Act>) {
        let Some(act) = act else { return };
        let row = AuditRow {
            at: self.now,
            actor: (*act.actor).clone(),
            operation: act.operation.to_owned(),
            object: act.object.clone(),
            outcome: act.outcome.clone(),
        };
        let number = self.acts.last().map_or(0, |(_, number, _)| number + 1);
        self.acts.push((act.tenant, number, row));
    }

    fn acts(&self, tenant: TenantId, filter: &AuditFilter) -> AuditPage {
        let before = filter.cursor.as_ref().map_or(u64::MAX, |cursor| cursor.parse().expect("its own cursor"));
        let mut found = self.acts.iter().rev().filter(|(of, number, act)| {
            *of == tenant && *number < before && filter.takes(act) && filter.since.is_none_or(|since| act.at >= since)
        });
        let page: Vec<&StoredAct> = found.by_ref().take(filter.limit.clamp(1, 1_000) as usize).collect();
        let cursor = found.next().and(page.last()).map(|(_, number, _)| number.to_string());
        AuditPage { acts: page.into_iter().map(|(_, _, act)| act.clone()).collect(), cursor }
    }

    fn delete_acts(&mut self, tenant: TenantId, before: Timestamp, limit: u32) -> u64 {
        let mut left = u64::from(limit);
        self.acts.retain(|(of, _, act)| {
            let is_old = *of == tenant && act.at < before && left > 0;
            left -= u64::from(is_old);
            !is_old
        });
        u64::from(limit) - left
    }
}

impl AuditStore for MemoryStore {
    fn acts(&self, tenant: TenantId, filter: AuditFilter) -> StoreFuture<'_, AuditPage> {
        self.transact(|tables| tables.acts(tenant, &filter))
    }

    fn delete_acts(&self, tenant: TenantId, before: Timestamp, limit: u32) -> StoreFuture<'_, u64> {
        self.transact(|tables| tables.delete_acts(tenant, before, limit))
    }
}
