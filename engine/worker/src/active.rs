//! The executions in memory, and how many of their places each tenant may have.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};

use cerebelum_store::{ExecutionKey, TenantId};

/// A tenant may have so many times as many executions in memory as there are free places: three quarters of all if it is
/// alone, then three quarters of the rest. So there is a place for the next tenant, whatever the others do.
const TIMES_FREE: usize = 3;
/// When a tenant that had no more places has so many again, its executions are claimed again; of an engine with few places
/// an eighth of them.
const PLACES_AGAIN: usize = 256;

/// The executions in memory, each with what others know of it.
pub(crate) struct Active<S> {
    slots: BTreeMap<ExecutionKey, S>,
    tenants: HashMap<TenantId, usize>,
    max: usize,
}

impl<S> Active<S> {
    /// None, where there are `max` places.
    pub(crate) fn new(max: usize) -> Self {
        Self { slots: BTreeMap::new(), tenants: HashMap::new(), max }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn get(&self, key: &ExecutionKey) -> Option<&S> {
        self.slots.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: &ExecutionKey) -> Option<&mut S> {
        self.slots.get_mut(key)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &S> {
        self.slots.values()
    }

    /// Takes a place, even one beyond those that the tenant may have: what was claimed is there. False if the execution has
    /// one.
    pub(crate) fn insert(&mut self, key: ExecutionKey, slot: S) -> bool {
        let tenant = key.tenant;
        let Entry::Vacant(free) = self.slots.entry(key) else { return false };
        free.insert(slot);
        *self.tenants.entry(tenant).or_default() += 1;
        true
    }

    /// Gives a place back. Returns whether the tenant has enough of them again after it had too few.
    pub(crate) fn remove(&mut self, key: &ExecutionKey) -> bool {
        let (enough, before) = (PLACES_AGAIN.min(self.max / 8).max(1), self.places_of(key.tenant));
        if self.slots.remove(key).is_some()
            && let Some(count) = self.tenants.get_mut(&key.tenant)
        {
            *count -= 1;
            if *count == 0 {
                self.tenants.remove(&key.tenant);
            }
        }
        before < enough && self.places_of(key.tenant) >= enough
    }

    /// How many more places a tenant may have.
    pub(crate) fn places_of(&self, tenant: TenantId) -> usize {
        let own = self.tenants.get(&tenant).copied().unwrap_or_default();
        let free = self.max.saturating_sub(self.slots.len());
        // So many that afterwards it has at most `TIMES_FREE` times what is free then.
        let more = (TIMES_FREE * free).saturating_sub(own) / (TIMES_FREE + 1);
        // The first one has any place.
        more.max(usize::from(own == 0 && free > 0))
    }

    /// The tenants that may have no more places, and how many executions of any of the others may be claimed at once.
    pub(crate) fn claimable(&self) -> (Vec<TenantId>, usize) {
        // The next tenant has no execution in memory yet.
        let (mut full, mut places) = (Vec::new(), self.places_of(TenantId(0)));
        for tenant in self.tenants.keys() {
            match self.places_of(*tenant) {
                0 => full.push(*tenant),
                more => places = places.min(more),
            }
        }
        (full, places)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(tenant: i32, number: usize) -> ExecutionKey {
        ExecutionKey { tenant: TenantId(tenant), id: format!("e{number}").parse().unwrap() }
    }

    /// Fills the places that a tenant may have, and returns their number.
    fn fill(active: &mut Active<()>, tenant: i32) -> usize {
        let mut count = 0;
        while active.places_of(TenantId(tenant)) > 0 {
            assert!(active.insert(key(tenant, count), ()));
            count += 1;
        }
        count
    }

    #[test]
    fn however_many_tenants_fill_their_places_the_next_one_finds_some() {
        let mut active = Active::new(10_000);
        let counts: Vec<usize> = (1..=6).map(|tenant| fill(&mut active, tenant)).collect();
        assert_eq!(counts, [7_500, 1_875, 468, 117, 30, 7]);
        let (mut full, places) = active.claimable();
        full.sort_unstable();
        assert_eq!((full, places > 0), ((1..=6).map(TenantId).collect(), true));
    }

    #[test]
    fn an_engine_with_few_places_uses_them() {
        let alone = [1, 2, 3, 4, 8].map(|max| fill(&mut Active::new(max), 1));
        assert_eq!(alone, [1, 1, 2, 3, 6]);
        let mut active = Active::new(1);
        assert_eq!((fill(&mut active, 1), fill(&mut active, 2)), (1, 0));
        assert_eq!(active.claimable(), (vec![TenantId(1)], 0));
        assert!(active.remove(&key(1, 0)), "there is a place again");
    }

    #[test]
    fn a_tenant_is_claimed_for_again_when_it_has_places_for_many() {
        let mut active = Active::new(10_000);
        let count = fill(&mut active, 1);
        let again: Vec<usize> = (0..count).filter(|number| active.remove(&key(1, *number))).collect();
        assert_eq!(again, [PLACES_AGAIN - 1]);
        assert_eq!((active.len(), active.places_of(TenantId(1))), (0, 7_500));
    }
}
