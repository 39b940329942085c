//! Limits the memory of one guest, summed over all its linear memories, and reserves its growth and that of its tables on
//! the node.

use std::sync::Arc;

use wasmtime::ResourceLimiter;

use crate::HostError;
use crate::admission::Permit;
use crate::host_calls::HostCalls;
use crate::limits::structure;
use crate::trap::GuestExit;

/// The memory limit of one guest.
pub(crate) struct MemoryLimit {
    calls: Arc<HostCalls>,
    place: Arc<Permit>,
    /// What it takes besides memory and tables.
    fixed: u64,
    tables: u64,
    used: usize,
    latest: usize,
    max: usize,
}

impl MemoryLimit {
    pub(crate) fn new(calls: &Arc<HostCalls>, place: &Arc<Permit>, fixed: u64, bytes_max: usize) -> Self {
        let (calls, place) = (Arc::clone(calls), Arc::clone(place));
        Self { calls, place, fixed, tables: 0, used: 0, latest: 0, max: bytes_max }
    }

    /// Reserves what the guest takes with this much memory and these tables.
    fn reserve(&self, memory: usize, tables: u64) -> wasmtime::Result<()> {
        match self.place.cover(self.fixed.saturating_add(tables).saturating_add(memory as u64)) {
            true => Ok(()),
            // The guest must not see this failure: a rerun might not meet it and would run differently.
            false => Err(GuestExit::HostError(HostError::MemoryUsedUp).into()),
        }
    }
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        self.latest = desired.saturating_sub(current);
        let used = self.used.saturating_add(self.latest);
        if used > self.max {
            self.latest = 0;
            self.calls.refuse_memory();
            return Ok(false);
        }
        self.reserve(used, self.tables)?;
        self.used = used;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        // Refused here or by the memory's own maximum: the counted growth did not happen.
        self.used -= std::mem::take(&mut self.latest);
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired as u64 > structure::TABLE_ELEMENTS_MAX {
            self.calls.refuse_memory();
            return Ok(false);
        }
        let tables = self.tables + desired.saturating_sub(current) as u64 * structure::TABLE_ELEMENT_BYTES;
        self.reserve(self.used, tables)?;
        self.tables = tables;
        Ok(true)
    }

    fn instances(&self) -> usize {
        structure::CORE_INSTANCES_MAX as usize
    }

    fn tables(&self) -> usize {
        structure::TABLES_MAX as usize
    }

    fn memories(&self) -> usize {
        structure::MEMORIES_MAX as usize
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::Ledger;
    use crate::admission::{Admission, Applicant, Kind, Slots};
    use crate::ledger::GuestOwner;

    #[test]
    fn memory_and_tables_and_what_a_guest_always_takes_are_reserved_together() {
        let admission = Admission::new(16 << 20);
        let kind = Kind { is_large: false, is_workflow: false };
        let applicant = Applicant { kind, owner: GuestOwner::default(), bytes: 1 << 20 };
        let place = admission.admit(&Slots::new(2), applicant).now_or_never().unwrap();
        let calls = HostCalls::new(0, &Ledger::new(0).account());
        let mut limit = MemoryLimit::new(&calls, &place, 1 << 20, 12 << 20);
        assert!(limit.memory_growing(0, 10 << 20, None).unwrap());
        assert_eq!(place.bytes(), 11 << 20);
        assert!(limit.table_growing(0, 20_000, None).unwrap());
        assert_eq!(place.bytes(), (11 << 20) + 160_000);
        assert!(!limit.table_growing(20_000, 20_001, None).unwrap(), "no table has more");
        assert!(!limit.memory_growing(10 << 20, 13 << 20, None).unwrap(), "no guest has more");
        let many = (0..40).map(|_| limit.table_growing(0, 20_000, None)).filter(Result::is_ok).count();
        assert_eq!(many, 31, "the node has no more");
        assert_eq!(place.bytes(), (11 << 20) + 32 * 160_000);
    }
}
