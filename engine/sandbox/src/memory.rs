//! Limits the memory of one guest, summed over all its linear memories, and reserves its growth on the node.

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
    used: usize,
    latest: usize,
    max: usize,
}

impl MemoryLimit {
    pub(crate) fn new(calls: &Arc<HostCalls>, place: &Arc<Permit>, bytes_max: usize) -> Self {
        Self { calls: Arc::clone(calls), place: Arc::clone(place), used: 0, latest: 0, max: bytes_max }
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
        if !self.place.cover(used as u64) {
            // The guest must not see this failure: a rerun might not meet it and would run differently.
            return Err(GuestExit::HostError(HostError::MemoryUsedUp).into());
        }
        self.used = used;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        // Refused here or by the memory's own maximum: the counted growth did not happen.
        self.used -= std::mem::take(&mut self.latest);
        Ok(())
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let allowed = desired as u64 <= structure::TABLE_ELEMENTS_MAX;
        if !allowed {
            self.calls.refuse_memory();
        }
        Ok(allowed)
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
