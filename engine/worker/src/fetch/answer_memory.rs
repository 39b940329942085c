//! Memory for incoming answers, in bytes: limited per execution and per engine, and shared between tenants.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use cerebelum_sandbox::at_most_one_of;
use cerebelum_store::TenantId;
use parking_lot::Mutex;
use tokio::sync::{Mutex as Queue, Notify, OwnedSemaphorePermit, Semaphore};

/// How many bytes of answers an execution may have in memory, from their arrival until they are durable.
pub(crate) const EXECUTION_ANSWER_BYTES_MAX: usize = 32 << 20;
/// The limit for all executions of an engine together. One tenant may have as many of them as are still free: half if it
/// is alone, then half of the rest. In addition each tenant may always complete one answer.
pub(crate) const ENGINE_ANSWER_BYTES_MAX: usize = 128 << 20;
/// The beginning of an answer that is not counted: small answers arrive whatever the others hold. It is part of
/// [`OPEN_REQUEST_BYTES`].
const FREE_ANSWER_BYTES: usize = 16 << 10;
/// What a request takes from the moment it leaves until its answer is durable: the beginning of the answer, and the buffers
/// of its connection.
pub(crate) const OPEN_REQUEST_BYTES: usize = 32 << 10;
/// The same of all requests of an engine. One tenant may have as many of them as are still free.
const OPEN_REQUESTS_BYTES_MAX: usize = 256 << 20;
/// Where one of this many parts of the memory is less, they have that.
const OPEN_REQUESTS_PARTS: u64 = 32;

/// An engine's memory for answers.
#[derive(Debug, Clone)]
pub(crate) struct AnswerMemory(Arc<EngineMemory>);

#[derive(Debug)]
struct EngineMemory {
    bytes_max: usize,
    /// The bytes of all tenants.
    taken: Mutex<usize>,
    tenants: Mutex<HashMap<TenantId, Weak<TenantMemory>>>,
    /// Wakes the first waiting answer of each tenant.
    freed: Notify,
}

/// The part of an engine's memory that one tenant has.
#[derive(Debug)]
pub(crate) struct TenantMemory {
    engine: Arc<EngineMemory>,
    /// The bytes of this tenant. They change only while `engine.taken` is locked.
    taken: AtomicUsize,
    /// Its answers wait in line, so that a release wakes no more than one of them.
    line: Queue<()>,
    /// One answer at a time may exceed the limits. Answers can fill the memory together, each with a part of itself; this
    /// one is completed nevertheless and then frees memory.
    overdraft: Arc<Semaphore>,
}

impl AnswerMemory {
    /// Memory for requests that are outside.
    pub(crate) fn of_requests() -> Self {
        Self::new(at_most_one_of(OPEN_REQUESTS_PARTS, OPEN_REQUESTS_BYTES_MAX))
    }

    /// Creates memory for this many bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        let (taken, tenants, freed) = Default::default();
        Self(Arc::new(EngineMemory { bytes_max, taken, tenants, freed }))
    }

    /// The share of one execution of a tenant.
    pub(crate) fn share(&self, tenant: TenantId, bytes_max: usize) -> ExecutionMemory {
        ExecutionMemory { tenant: self.of(tenant), bytes: Arc::new(Semaphore::new(bytes_max)) }
    }

    /// The part of one tenant.
    pub(crate) fn of(&self, tenant: TenantId) -> Arc<TenantMemory> {
        let mut tenants = self.0.tenants.lock();
        tenants.retain(|_, memory| memory.strong_count() > 0);
        tenants.get(&tenant).and_then(Weak::upgrade).unwrap_or_else(|| {
            let (taken, line, overdraft) = (AtomicUsize::default(), Queue::default(), Arc::new(Semaphore::new(1)));
            let memory = Arc::new(TenantMemory { engine: self.0.clone(), taken, line, overdraft });
            tenants.insert(tenant, Arc::downgrade(&memory));
            memory
        })
    }
}

impl TenantMemory {
    /// Waits until this tenant may have this many bytes more, and takes them.
    pub(crate) async fn take(self: Arc<Self>, bytes: usize) -> Taken {
        let _first = self.line.lock().await;
        loop {
            // Registered before the look, so that a release in between is noticed.
            let mut freed = std::pin::pin!(self.engine.freed.notified());
            freed.as_mut().enable();
            if self.try_take(bytes) {
                return Taken { tenant: self.clone(), bytes };
            }
            freed.await;
        }
    }

    fn try_take(&self, bytes: usize) -> bool {
        let mut all = self.engine.taken.lock();
        let own = self.taken.load(Ordering::Relaxed) + bytes;
        let fits = own + *all + bytes <= self.engine.bytes_max;
        if fits {
            *all += bytes;
            self.taken.store(own, Ordering::Relaxed);
        }
        fits
    }
}

/// Bytes that a tenant has taken. They are given back when dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    tenant: Arc<TenantMemory>,
    bytes: usize,
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut all = self.tenant.engine.taken.lock();
        *all -= self.bytes;
        self.tenant.taken.fetch_sub(self.bytes, Ordering::Relaxed);
        drop(all);
        self.tenant.engine.freed.notify_waiters();
    }
}

/// The memory of one execution for answers, within that of its tenant.
#[derive(Debug, Clone)]
pub(crate) struct ExecutionMemory {
    tenant: Arc<TenantMemory>,
    bytes: Arc<Semaphore>,
}

impl ExecutionMemory {
    /// Memory for an answer that has not arrived yet.
    pub(crate) fn permit(&self) -> AnswerPermit {
        AnswerPermit { memory: self.clone(), counted: 0, held: Vec::new(), overdraft: None }
    }
}

/// The memory that one answer takes. It is given back when dropped.
#[derive(Debug)]
pub struct AnswerPermit {
    memory: ExecutionMemory,
    /// Its bytes without those that are free.
    counted: usize,
    held: Vec<(OwnedSemaphorePermit, Taken)>,
    overdraft: Option<OwnedSemaphorePermit>,
}

impl AnswerPermit {
    /// Waits until the answer may take this many bytes in all.
    pub async fn grow_to(&mut self, bytes: usize) {
        let counted = bytes.saturating_sub(FREE_ANSWER_BYTES);
        let more = counted.saturating_sub(self.counted);
        if more == 0 || self.overdraft.is_some() {
            return;
        }
        let ExecutionMemory { tenant, bytes } = self.memory.clone();
        let overdraft = tenant.overdraft.clone();
        let within = async {
            let own = bytes.acquire_many_owned(u32::try_from(more).unwrap_or(u32::MAX)).await;
            (own.expect("the semaphore is never closed"), tenant.take(more).await)
        };
        tokio::select! {
            biased;
            taken = within => {
                self.held.push(taken);
                self.counted = counted;
            }
            // The holder of the overdraft waits for no further memory, so it cannot be part of a deadlock.
            permit = overdraft.acquire_owned() => self.overdraft = Some(permit.expect("the semaphore is never closed")),
        }
    }
}

#[cfg(test)]
mod tests;
