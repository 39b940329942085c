//! Admission control for guests: instance slots and bytes of linear memory, for the whole node. A guest waits until it
//! gets a slot and its memory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::line::Line;

/// New guests are admitted up to this many sixteenths of the node's memory. Running guests grow into the rest.
const SHARE: u64 = 12;
/// Workflows get at most this many sixteenths, so that there is always room for their steps.
const WORKFLOWS_SHARE: u64 = 9;

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
    /// The workflow of its execution.
    pub(crate) workflow: String,
    /// Its initial memory.
    pub(crate) bytes: u64,
}

/// The memory and slots in use, and the guests that wait for some.
#[derive(Default)]
struct Occupancy {
    bytes: u64,
    /// The part of `bytes` that workflow guests use; steps use the rest.
    bytes_of_workflows: u64,
    /// The memory in use by the guests of each workflow, their steps included.
    bytes_by_workflow: HashMap<String, u64>,
    /// The slots in use, by kind.
    slots: [u32; 4],
    lines: [Line; 4],
    /// How many guests ever joined a line. Each gets the next number.
    joined: u64,
    /// The workflow of a guest that is next in its line but was not admitted.
    sought_by: Option<String>,
}

impl Occupancy {
    fn add(&mut self, kind: Kind, workflow: &str, bytes: u64) {
        self.bytes += bytes;
        self.bytes_of_workflows += if kind.is_workflow { bytes } else { 0 };
        match self.bytes_by_workflow.get_mut(workflow) {
            Some(of_workflow) => *of_workflow += bytes,
            None => drop(self.bytes_by_workflow.insert(workflow.to_owned(), bytes)),
        }
    }

    fn sub(&mut self, kind: Kind, workflow: &str, bytes: u64) {
        self.bytes -= bytes;
        self.bytes_of_workflows -= if kind.is_workflow { bytes } else { 0 };
        if let Some(of_workflow) = self.bytes_by_workflow.get_mut(workflow) {
            *of_workflow -= bytes;
            if *of_workflow == 0 {
                self.bytes_by_workflow.remove(workflow);
            }
        }
    }

    fn bytes_of(&self, workflow: &str) -> u64 {
        self.bytes_by_workflow.get(workflow).copied().unwrap_or(0)
    }

    fn has_slot(&self, slots: &Slots, kind: Kind) -> bool {
        let taken = |is_workflow: bool| self.slots[Kind { is_workflow, ..kind }.line()];
        let is_free = taken(true) + taken(false) < slots.all;
        is_free && (!kind.is_workflow || taken(true) < slots.workflows)
    }

    fn next(&self, line: usize) -> Option<(u64, &Arc<Notify>)> {
        self.lines[line].next(|workflow| self.bytes_of(workflow))
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
        let occupancy = self.occupancy();
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
            let mut occupancy = self.occupancy();
            occupancy.lines[applicant.kind.line()].is_empty() && self.take(&mut occupancy, slots, &applicant)
        };
        if !is_admitted {
            Ticket::new(self, slots, &applicant).wait().await;
        }
        self.live.fetch_add(1, Ordering::Relaxed);
        self.admitted[applicant.kind.line()].fetch_add(1, Ordering::Relaxed);
        let Applicant { kind, workflow, bytes } = applicant;
        Arc::new(Permit { admission: Arc::clone(self), kind, workflow, bytes: AtomicU64::new(bytes) })
    }

    /// Returns when a guest of this workflow that waits for the ledger has to make room for a guest of a workflow that
    /// uses less memory.
    pub(crate) async fn displaced(&self, workflow: &str) {
        loop {
            let sought = self.sought.notified();
            tokio::pin!(sought);
            sought.as_mut().enable();
            {
                let mut occupancy = self.occupancy();
                let bytes = occupancy.bytes_of(workflow);
                let by = occupancy.sought_by.as_ref().filter(|by| *by != workflow);
                if by.is_some_and(|by| occupancy.bytes_of(by) < bytes) {
                    occupancy.sought_by = None;
                    return;
                }
            }
            sought.await;
        }
    }

    /// Takes a slot and the initial memory for a guest, if both are free.
    fn take(&self, occupancy: &mut Occupancy, slots: &Slots, Applicant { kind, workflow, bytes }: &Applicant) -> bool {
        // A guest that is larger than the share could never run next to another one. It is admitted when it is alone.
        let share = |sixteenths: u64| (self.bytes_max / 16 * sixteenths).max(*bytes);
        let fits = occupancy.has_slot(slots, *kind)
            && occupancy.bytes.saturating_add(*bytes) <= share(SHARE)
            && (!kind.is_workflow || occupancy.bytes_of_workflows.saturating_add(*bytes) <= share(WORKFLOWS_SHARE));
        if fits {
            occupancy.add(*kind, workflow, *bytes);
            occupancy.slots[kind.line()] += 1;
        }
        fits
    }

    fn occupancy(&self) -> MutexGuard<'_, Occupancy> {
        self.occupancy.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut occupancy = admission.occupancy();
        occupancy.joined += 1;
        let number = occupancy.joined;
        let called = occupancy.lines[applicant.kind.line()].join(&applicant.workflow, number);
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
        let mut occupancy = self.admission.occupancy();
        let next = occupancy.next(self.applicant.kind.line());
        if next.is_none_or(|(number, _)| number != self.number) {
            return false;
        }
        let found = self.admission.take(&mut occupancy, self.slots, self.applicant);
        // Until this guest is admitted, guests of workflows with more memory are displaced, one after the other.
        occupancy.sought_by = Some(self.applicant.workflow.clone()).filter(|_| !found);
        drop(occupancy);
        if !found {
            self.admission.sought.notify_waiters();
        }
        found
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut occupancy = self.admission.occupancy();
        occupancy.lines[self.applicant.kind.line()].leave(&self.applicant.workflow, self.number);
        occupancy.sought_by.take_if(|by| *by == self.applicant.workflow);
        occupancy.call();
    }
}

/// A guest's admission: a slot and memory, given back when dropped.
pub(crate) struct Permit {
    admission: Arc<Admission>,
    kind: Kind,
    workflow: String,
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
        let mut occupancy = self.admission.occupancy();
        let covered = occupancy.bytes.saturating_add(bytes - have) <= self.admission.bytes_max;
        if covered {
            occupancy.add(self.kind, &self.workflow, bytes - have);
            self.bytes.store(bytes, Ordering::Relaxed);
        }
        covered
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.live.fetch_sub(1, Ordering::Relaxed);
        let mut occupancy = self.admission.occupancy();
        occupancy.sub(self.kind, &self.workflow, self.bytes.load(Ordering::Relaxed));
        occupancy.slots[self.kind.line()] -= 1;
        occupancy.call();
    }
}
