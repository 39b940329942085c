//! Admission control for guests: instance slots and bytes of linear memory, for the whole node. A guest waits until it
//! gets a slot and its memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::ledger::GuestOwner;
use crate::line::Line;

/// New guests are admitted up to this many sixteenths of the node's memory. Running guests grow into the rest.
const GUESTS_SHARE: u64 = 12;
/// Workflows get at most this many sixteenths, so that there is always room for their steps.
const WORKFLOWS_SHARE: u64 = 9;
/// Where there are several tenants, one that has this part of the slots or of the memory leaves as much free: a tenant that
/// has less finds room at once, however long the lines of others are.
const RESERVED: u32 = 16;

/// How many guests of one size may run.
pub(crate) struct Slots {
    all: u32,
    /// The most slots that workflows may take. Workflows wait for their steps: if they could take all slots, none would
    /// be left for the steps and they would wait for each other.
    workflows: u32,
}

impl Slots {
    pub(crate) fn new(count: u32) -> Self {
        Self { all: count, workflows: count - count / 4 }
    }
}

/// The kinds of guests. Each kind has its own line.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    /// Whether it takes a slot for large guests.
    pub(crate) is_large: bool,
    /// Whether it is a workflow; otherwise it is a step.
    pub(crate) is_workflow: bool,
}

impl Kind {
    fn line(self) -> usize {
        usize::from(self.is_workflow) + 2 * usize::from(self.is_large)
    }
}

/// A guest that asks for admission.
pub(crate) struct Applicant {
    pub(crate) kind: Kind,
    /// Whose it is.
    pub(crate) owner: GuestOwner,
    /// Its initial memory.
    pub(crate) bytes: u64,
}

/// The memory and slots in use, and the guests that wait for some.
#[derive(Default)]
struct Occupancy {
    bytes: u64,
    /// The part of `bytes` that workflow guests use; steps use the rest.
    bytes_of_workflows: u64,
    /// What the guests of each tenant use that had any so far.
    tenants: HashMap<Arc<str>, TenantUse>,
    /// The memory in use by the guests of each workflow, their steps included.
    bytes_by_workflow: HashMap<GuestOwner, u64>,
    /// The slots in use, by kind.
    slots: [u32; 4],
    lines: [Line; 4],
    /// How many guests ever joined a line. Each gets the next number.
    joined: u64,
    /// Whose guest is next in its line but was not admitted.
    sought_by: Option<GuestOwner>,
}

/// The memory and the slots, by kind, that one tenant's guests use.
#[derive(Default)]
struct TenantUse {
    bytes: u64,
    slots: [u32; 4],
}

impl Occupancy {
    fn add(&mut self, kind: Kind, owner: &GuestOwner, bytes: u64) {
        self.bytes += bytes;
        self.bytes_of_workflows += if kind.is_workflow { bytes } else { 0 };
        self.tenant(owner).bytes += bytes;
        match self.bytes_by_workflow.get_mut(owner) {
            Some(of_workflow) => *of_workflow += bytes,
            None => drop(self.bytes_by_workflow.insert(owner.clone(), bytes)),
        }
    }

    fn sub(&mut self, kind: Kind, owner: &GuestOwner, bytes: u64) {
        self.bytes -= bytes;
        self.bytes_of_workflows -= if kind.is_workflow { bytes } else { 0 };
        self.tenant(owner).bytes -= bytes;
        if let Some(of_workflow) = self.bytes_by_workflow.get_mut(owner) {
            *of_workflow -= bytes;
            if *of_workflow == 0 {
                self.bytes_by_workflow.remove(owner);
            }
        }
    }

    fn take_slot(&mut self, kind: Kind, owner: &GuestOwner) {
        self.slots[kind.line()] += 1;
        self.tenant(owner).slots[kind.line()] += 1;
    }

    fn free_slot(&mut self, kind: Kind, owner: &GuestOwner) {
        self.slots[kind.line()] -= 1;
        self.tenant(owner).slots[kind.line()] -= 1;
    }

    fn tenant(&mut self, owner: &GuestOwner) -> &mut TenantUse {
        self.tenants.entry(owner.tenant.clone()).or_default()
    }

    /// The memory of the owner's tenant and of its workflow.
    fn bytes_of(&self, owner: &GuestOwner) -> (u64, u64) {
        let of_tenant = self.tenants.get(&owner.tenant).map_or(0, |tenant| tenant.bytes);
        (of_tenant, self.bytes_by_workflow.get(owner).copied().unwrap_or(0))
    }

    /// How much of `all` a tenant that has `has` of it leaves to others.
    fn reserved(&self, all: u64, has: u64) -> u64 {
        let part = all / u64::from(RESERVED);
        if self.tenants.len() > 1 && has >= part { part } else { 0 }
    }

    fn has_slot(&self, slots: &Slots, kind: Kind, owner: &GuestOwner) -> bool {
        let own = self.tenants.get(&owner.tenant).map(|tenant| tenant.slots).unwrap_or_default();
        let of = |slots: [u32; 4], is_workflow: bool| u64::from(slots[Kind { is_workflow, ..kind }.line()]);
        let both = |slots| of(slots, true) + of(slots, false);
        let is_free = |all: u32, (taken, own)| taken + self.reserved(all.into(), own) < u64::from(all);
        is_free(slots.all, (both(self.slots), both(own)))
            && (!kind.is_workflow || is_free(slots.workflows, (of(self.slots, true), of(own, true))))
    }

    fn next(&self, line: usize) -> Option<(u64, &Arc<Notify>)> {
        self.lines[line].next(|owner| self.bytes_of(owner))
    }

    /// Wakes the guest that is next in each line: it may be admitted now.
    fn call(&self) {
        for (_, called) in (0..self.lines.len()).filter_map(|line| self.next(line)) {
            called.notify_one();
        }
    }
}

/// Counts the running guests of a node and the memory that they use.
pub(crate) struct Admission {
    occupancy: Mutex<Occupancy>,
    bytes_max: u64,
    /// Notified when [`Occupancy::sought_by`] has changed.
    sought: Notify,
    live: AtomicUsize,
    started: AtomicU64,
    /// Guests admitted so far, by kind.
    admitted: [AtomicU64; 4],
}

impl Admission {
    pub(crate) fn new(bytes_max: u64) -> Arc<Self> {
        Arc::new(Self {
            occupancy: Mutex::default(),
            bytes_max,
            sought: Notify::new(),
            live: AtomicUsize::new(0),
            started: AtomicU64::new(0),
            admitted: Default::default(),
        })
    }

    pub(crate) fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    pub(crate) fn started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }

    /// How many guests of this kind were ever admitted.
    pub(crate) fn admitted(&self, kind: Kind) -> u64 {
        self.admitted[kind.line()].load(Ordering::Relaxed)
    }

    /// The slots that small and large guests have taken, and the memory of all guests.
    pub(crate) fn taken(&self) -> ([u64; 2], u64) {
        let occupancy = self.occupancy.lock();
        let of = |is_large| {
            let taken = |is_workflow| occupancy.slots[Kind { is_large, is_workflow }.line()];
            u64::from(taken(true) + taken(false))
        };
        ([of(false), of(true)], occupancy.bytes)
    }

    pub(crate) fn count_start(&self) {
        self.started.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits for a slot and for memory.
    pub(crate) async fn admit(self: &Arc<Self>, slots: &Slots, applicant: Applicant) -> Arc<Permit> {
        let is_admitted = {
            let mut occupancy = self.occupancy.lock();
            occupancy.lines[applicant.kind.line()].is_empty() && self.take(&mut occupancy, slots, &applicant)
        };
        if !is_admitted {
            Ticket::new(self, slots, &applicant).wait().await;
        }
        self.live.fetch_add(1, Ordering::Relaxed);
        self.admitted[applicant.kind.line()].fetch_add(1, Ordering::Relaxed);
        let Applicant { kind, owner, bytes } = applicant;
        Arc::new(Permit { admission: Arc::clone(self), kind, owner, bytes: AtomicU64::new(bytes) })
    }

    /// Returns when a guest of this owner that waits for the ledger has to make room for a guest of a tenant or workflow
    /// that uses less memory.
    pub(crate) async fn displaced(&self, owner: &GuestOwner) {
        loop {
            let sought = self.sought.notified();
            tokio::pin!(sought);
            sought.as_mut().enable();
            {
                let mut occupancy = self.occupancy.lock();
                let bytes = occupancy.bytes_of(owner);
                let by = occupancy.sought_by.as_ref().filter(|by| *by != owner);
                if by.is_some_and(|by| occupancy.bytes_of(by) < bytes) {
                    occupancy.sought_by = None;
                    return;
                }
            }
            sought.await;
        }
    }

    /// Takes a slot and the initial memory for a guest, if both are free.
    fn take(&self, occupancy: &mut Occupancy, slots: &Slots, Applicant { kind, owner, bytes }: &Applicant) -> bool {
        // A guest that is larger than the share could never run next to another one. It is admitted when it is alone.
        let reserved = occupancy.reserved(self.bytes_max, occupancy.bytes_of(owner).0);
        let of_memory = |sixteenths: u64| (self.bytes_max / 16 * sixteenths - reserved).max(*bytes);
        let fits = occupancy.has_slot(slots, *kind, owner)
            && occupancy.bytes.saturating_add(*bytes) <= of_memory(GUESTS_SHARE)
            && (!kind.is_workflow || occupancy.bytes_of_workflows.saturating_add(*bytes) <= of_memory(WORKFLOWS_SHARE));
        if fits {
            occupancy.add(*kind, owner, *bytes);
            occupancy.take_slot(*kind, owner);
        }
        fits
    }
}

/// A guest's place in its line. Dropping it leaves the line.
struct Ticket<'a> {
    admission: &'a Admission,
    slots: &'a Slots,
    applicant: &'a Applicant,
    number: u64,
    called: Arc<Notify>,
}

impl<'a> Ticket<'a> {
    fn new(admission: &'a Admission, slots: &'a Slots, applicant: &'a Applicant) -> Self {
        let mut occupancy = admission.occupancy.lock();
        occupancy.joined += 1;
        let number = occupancy.joined;
        let called = occupancy.lines[applicant.kind.line()].join(&applicant.owner, number);
        drop(occupancy);
        Self { admission, slots, applicant, number, called }
    }

    /// Waits until the guest is next and admitted.
    async fn wait(self) {
        while !self.find() {
            self.called.notified().await;
        }
    }

    fn find(&self) -> bool {
        let mut occupancy = self.admission.occupancy.lock();
        let next = occupancy.next(self.applicant.kind.line());
        if next.is_none_or(|(number, _)| number != self.number) {
            return false;
        }
        let found = self.admission.take(&mut occupancy, self.slots, self.applicant);
        // Until this guest is admitted, guests of tenants and workflows with more memory are displaced, one after the other.
        occupancy.sought_by = Some(self.applicant.owner.clone()).filter(|_| !found);
        drop(occupancy);
        if !found {
            self.admission.sought.notify_waiters();
        }
        found
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut occupancy = self.admission.occupancy.lock();
        occupancy.lines[self.applicant.kind.line()].leave(&self.applicant.owner, self.number);
        occupancy.sought_by.take_if(|by| *by == self.applicant.owner);
        occupancy.call();
    }
}

/// A guest's admission: a slot and memory, given back when dropped.
pub(crate) struct Permit {
    admission: Arc<Admission>,
    kind: Kind,
    owner: GuestOwner,
    bytes: AtomicU64,
}

impl Permit {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Raises the admitted memory to this size if the node has enough. It never shrinks.
    pub(crate) fn cover(&self, bytes: u64) -> bool {
        let have = self.bytes.load(Ordering::Relaxed);
        if bytes <= have {
            return true;
        }
        let mut occupancy = self.admission.occupancy.lock();
        let covered = occupancy.bytes.saturating_add(bytes - have) <= self.admission.bytes_max;
        if covered {
            occupancy.add(self.kind, &self.owner, bytes - have);
            self.bytes.store(bytes, Ordering::Relaxed);
        }
        covered
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.live.fetch_sub(1, Ordering::Relaxed);
        let mut occupancy = self.admission.occupancy.lock();
        occupancy.sub(self.kind, &self.owner, self.bytes.load(Ordering::Relaxed));
        occupancy.free_slot(self.kind, &self.owner);
        occupancy.call();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const STEP: Kind = Kind { is_large: false, is_workflow: false };
    const WORKFLOW: Kind = Kind { is_large: false, is_workflow: true };

    /// The permits of as many guests of a tenant as are admitted at once.
    fn admitted(
        admission: &Arc<Admission>,
        slots: &Slots,
        (tenant, kind, bytes): (&str, Kind, u64),
    ) -> Vec<Arc<Permit>> {
        let owner = GuestOwner { tenant: tenant.into(), workflow: "w".into() };
        let applicant = || Applicant { kind, owner: owner.clone(), bytes };
        std::iter::from_fn(|| admission.admit(slots, applicant()).now_or_never()).collect()
    }

    #[test]
    fn a_tenant_leaves_slots_and_memory_to_others() {
        let (slots, admission) = (Slots::new(64), Admission::new(1_600));
        let of = |tenant, kind, bytes| admitted(&admission, &slots, (tenant, kind, bytes));
        assert_eq!(of("loud", WORKFLOW, 0).len(), 48, "it is alone");
        let (workflows, steps) = (of("loud", WORKFLOW, 0), of("loud", STEP, 0));
        assert_eq!((workflows.len(), steps.len()), (48, 16));
        assert_eq!(of("quiet", STEP, 0).len(), 0, "of which there was none before");
        drop((workflows, steps));
        drop(of("quiet", STEP, 0));
        let loud = (of("loud", WORKFLOW, 0), of("loud", STEP, 0));
        assert_eq!((loud.0.len(), loud.1.len()), (45, 15));
        let quiet = (of("quiet", WORKFLOW, 0), of("quiet", STEP, 0));
        assert_eq!((quiet.0.len(), quiet.1.len()), (3, 1));
        drop((loud, quiet));
        assert_eq!(of("loud", WORKFLOW, 100).len(), 8);
        let loud = of("loud", STEP, 100);
        assert_eq!((loud.len(), of("quiet", STEP, 100).len()), (11, 1));
    }
}
