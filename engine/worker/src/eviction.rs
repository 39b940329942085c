//! Idle guests: which of them are evicted first when their memory is needed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use cerebelum_history::{Scope, planted};
use cerebelum_sandbox::GuestOwner;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// How urgently a guest is asked to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EvictionPriority {
    /// Leave unless the execution is active: a workflow waits to start, or the idle guests have exceeded their memory.
    Polite = 1,
    /// Leave in any case: a step is not admitted, and the guest with the slot may be waiting for that step.
    Urgent,
}

/// The idle guests of a node. The guests that are cheapest to rerun come first, and of these the ones that have waited
/// longest.
pub(crate) struct IdleGuests {
    bytes_max: u64,
    state: Mutex<IdleState>,
}

/// A guest's rank: the cost of a rerun, and its number in the order in which guests became idle.
type Rank = (u32, u64);

#[derive(Default)]
struct IdleState {
    /// How many guests ever became idle. Each gets the next number.
    latest: u64,
    /// Guests that may stay.
    guests: BTreeMap<Rank, IdleEntry>,
    /// Guests that were asked politely. They may still be asked urgently.
    asked: BTreeMap<Rank, IdleEntry>,
    /// How many guests are idle, whether they were asked or not.
    idle: u64,
    /// Memory of the guests that may stay.
    bytes: u64,
    /// Memory of all idle guests, by workflow.
    by_workflow: HashMap<GuestOwner, u64>,
}

/// An idle guest.
#[derive(Clone)]
pub(crate) struct IdleEntry {
    pub(crate) scope: Scope,
    /// Whose it is.
    pub(crate) owner: GuestOwner,
    /// Its memory.
    pub(crate) bytes: u64,
    /// The number of calls that a rerun would repeat.
    pub(crate) calls: u32,
    /// The time of its admission, in milliseconds.
    pub(crate) since_ms: u64,
    /// Notified when the guest is asked to leave.
    pub(crate) pressure: Arc<Pressure>,
}

/// The eviction requests to the guests of one activation.
#[derive(Default)]
pub(crate) struct Pressure {
    requested: Notify,
    asked: Mutex<EvictionRequests>,
}

/// The guests of an activation that should leave.
#[derive(Default)]
struct EvictionRequests {
    politely: BTreeMap<Rank, Scope>,
    urgently: BTreeMap<Rank, Scope>,
}

impl Pressure {
    /// Returns when a guest was asked to leave.
    pub(crate) async fn notified(&self) {
        self.requested.notified().await;
    }

    /// The guests that were asked with at least this priority.
    pub(crate) fn asked(&self, priority: EvictionPriority) -> Vec<Scope> {
        let asked = self.asked.lock();
        let politely = asked.politely.values().filter(|_| priority == EvictionPriority::Polite);
        asked.urgently.values().chain(politely).cloned().collect()
    }
}

impl IdleGuests {
    pub(crate) fn new(bytes_max: u64) -> Arc<Self> {
        Arc::new(Self { bytes_max, state: Mutex::default() })
    }

    /// Registers a guest as idle. While the idle guests exceed their memory, the first one is asked to leave, and its
    /// activation is notified.
    pub(crate) fn enter(self: &Arc<Self>, entry: IdleEntry) -> IdleGuest {
        let mut state = self.state.lock();
        state.latest += 1;
        state.idle += 1;
        state.bytes += entry.bytes;
        *state.by_workflow.entry(entry.owner.clone()).or_default() += entry.bytes;
        let rank = (cost(entry.calls), state.latest);
        let idle = IdleGuest { idle_guests: Arc::clone(self), rank, entry: entry.clone() };
        state.guests.insert(rank, entry);
        while state.bytes > self.bytes_max && state.ask(EvictionPriority::Polite, u64::MAX) {}
        // The lock is released before a caller can drop the returned value.
        idle
    }

    /// How many guests are idle.
    pub(crate) fn count(&self) -> u64 {
        self.state.lock().idle
    }

    /// How many guests ever became idle. All that are idle now have this number or a lower one.
    pub(crate) fn latest(&self) -> u64 {
        self.state.lock().latest
    }

    /// A guest waits for admission: asks up to `guests` idle guests to leave, of those with the number `latest` or a
    /// lower one.
    pub(crate) fn evict(&self, guests: u32, priority: EvictionPriority, latest: u64) {
        let mut state = self.state.lock();
        for _ in 0..guests {
            if !state.ask(priority, latest) {
                return;
            }
        }
    }

    /// A guest of this workflow has waited long for admission: asks up to `guests` idle guests of workflows with more
    /// idle memory to leave, regardless of their executions' activity. Otherwise one workflow could fill all slots and
    /// keep them.
    pub(crate) fn evict_among_others(&self, guests: u32, owner: &GuestOwner) {
        let mut state = self.state.lock();
        for rank in state.of_others(owner, guests) {
            state.ask_one(rank, EvictionPriority::Urgent);
        }
    }

    /// A workflow has waited for admission for a time slice: asks the guest of its other executions that was admitted
    /// first to leave, regardless of that one's activity, if it was admitted at `since_ms` or before.
    pub(crate) fn evict_among_same(&self, owner: &GuestOwner, since_ms: u64) {
        let mut state = self.state.lock();
        if let Some(rank) = state.first_admitted(owner, since_ms) {
            state.ask_one(rank, EvictionPriority::Urgent);
        }
    }
}

/// How many idle guests are searched for one of another workflow.
const SEARCHED_MAX: usize = 256;

/// Reruns of up to this many calls cost about the same.
const CHEAP_CALLS: u32 = 64;

/// The cost of a rerun that repeats this many calls, on a logarithmic scale.
fn cost(calls: u32) -> u32 {
    (calls / CHEAP_CALLS).checked_ilog2().map_or(0, |log| log + 1)
}

impl IdleState {
    /// Asks the first guest to leave, of those that were not asked with this priority and have the number `latest` or a
    /// lower one. Returns whether there was one.
    fn ask(&mut self, priority: EvictionPriority, latest: u64) -> bool {
        let first = |list: &BTreeMap<Rank, IdleEntry>| {
            list.keys().take(SEARCHED_MAX).find(|(_, number)| *number <= latest).copied()
        };
        let polite = first(&self.asked).filter(|_| priority == EvictionPriority::Urgent);
        let first = first(&self.guests).into_iter().chain(polite).min();
        first.inspect(|rank| self.ask_one(*rank, priority)).is_some()
    }

    /// The first guests of workflows with more idle memory than this one, among the first [`SEARCHED_MAX`] of both
    /// lists.
    fn of_others(&self, owner: &GuestOwner, count: u32) -> Vec<Rank> {
        let has = |owner: &GuestOwner| self.by_workflow.get(owner).copied().unwrap_or(0);
        let least = has(owner);
        let of_others = self.searched().filter(|(_, guest)| has(&guest.owner) > least).map(|(rank, _)| *rank);
        let mut ranks: Vec<Rank> = of_others.collect();
        ranks.sort_unstable();
        ranks.truncate(usize::try_from(count).unwrap_or(usize::MAX));
        ranks
    }

    /// The workflow guest of this workflow that was admitted first, at `since_ms` or before, among the same.
    fn first_admitted(&self, owner: &GuestOwner, since_ms: u64) -> Option<Rank> {
        let is_due = |guest: &IdleEntry| guest.since_ms <= since_ms && guest.scope.is_root() && guest.owner == *owner;
        let due = self.searched().filter(|(_, guest)| is_due(guest));
        due.min_by_key(|(rank, guest)| (guest.since_ms, **rank)).map(|(rank, _)| *rank)
    }

    /// The first [`SEARCHED_MAX`] guests of both lists.
    fn searched(&self) -> impl Iterator<Item = (&Rank, &IdleEntry)> {
        self.guests.iter().take(SEARCHED_MAX).chain(self.asked.iter().take(SEARCHED_MAX))
    }

    /// Asks one of the guests in the lists.
    fn ask_one(&mut self, rank: Rank, priority: EvictionPriority) {
        let guest = match self.guests.remove(&rank) {
            Some(guest) => {
                self.bytes -= guest.bytes;
                guest
            }
            None => self.asked.remove(&rank).expect("it stands in one of the two lists"),
        };
        let mut asked = guest.pressure.asked.lock();
        match priority {
            EvictionPriority::Polite => asked.politely.insert(rank, guest.scope.clone()),
            EvictionPriority::Urgent => {
                asked.politely.remove(&rank);
                asked.urgently.insert(rank, guest.scope.clone())
            }
        };
        drop(asked);
        guest.pressure.requested.notify_one();
        if priority == EvictionPriority::Polite && !planted("polite-request-hides") {
            self.asked.insert(rank, guest);
        }
    }
}

/// Kept with a guest as long as it is idle.
pub(crate) struct IdleGuest {
    idle_guests: Arc<IdleGuests>,
    rank: Rank,
    entry: IdleEntry,
}

impl Drop for IdleGuest {
    fn drop(&mut self) {
        let mut state = self.idle_guests.state.lock();
        state.idle -= 1;
        if let Some(guest) = state.guests.remove(&self.rank) {
            state.bytes -= guest.bytes;
        }
        state.asked.remove(&self.rank);
        if let Some(has) = state.by_workflow.get_mut(&self.entry.owner) {
            *has -= self.entry.bytes;
            if *has == 0 {
                state.by_workflow.remove(&self.entry.owner);
            }
        }
        let mut asked = self.entry.pressure.asked.lock();
        asked.politely.remove(&self.rank);
        asked.urgently.remove(&self.rank);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(workflow: &str) -> GuestOwner {
        GuestOwner { tenant: "acme".into(), workflow: workflow.into() }
    }

    /// A guest with this memory and this number of calls.
    fn guest(scope: &str, workflow: &str, (bytes, calls): (u64, u32), pressure: &Arc<Pressure>) -> IdleEntry {
        let (scope, owner) = (Scope::from_text(scope), owner(workflow));
        IdleEntry { scope, owner, bytes, calls, since_ms: 0, pressure: Arc::clone(pressure) }
    }

    /// Guests of these sizes become idle one after the other, one of them leaves, then some are evicted. `expected` are
    /// the numbers of the guests that are asked to leave.
    fn check((bytes_max, sizes): (u64, &[u64]), leaves: Option<usize>, wanted: u32, expected: &[u64]) {
        let idle_guests = IdleGuests::new(bytes_max);
        let pressure: Arc<Pressure> = Arc::default();
        let mut entered: Vec<IdleGuest> =
            sizes.iter().map(|bytes| idle_guests.enter(guest("", "w", (*bytes, 0), &pressure))).collect();
        if let Some(at) = leaves {
            entered.remove(at);
        }
        idle_guests.evict(wanted, EvictionPriority::Urgent, u64::MAX);
        let asked: Vec<u64> = numbers(&pressure);
        assert_eq!(asked, expected);
        drop(entered);
        let state = idle_guests.state.lock();
        let left = state.guests.len() + state.asked.len() + numbers(&pressure).len();
        assert_eq!((state.bytes, left), (0, 0), "what is gone is not counted");
    }

    #[test]
    fn the_guest_with_most_to_repeat_goes_last() {
        let (idle_guests, pressure) = (IdleGuests::new(1_000), Arc::<Pressure>::default());
        let enter = |scope: &str, calls| idle_guests.enter(guest(scope, "w", (10, calls), &pressure));
        let _entered = [enter("", 10_000), enter("1", 500), enter("2", 3), enter("3", CHEAP_CALLS)];
        let mut gone = Vec::new();
        for _ in 0..4 {
            idle_guests.evict(1, EvictionPriority::Urgent, u64::MAX);
            gone.push(numbers(&pressure).len());
        }
        assert_eq!(gone, [1, 2, 3, 4]);
        let order: Vec<Scope> = pressure.asked(EvictionPriority::Urgent);
        assert_eq!(order, ["2", "3", "1", ""].map(Scope::from_text));
    }

    #[test]
    fn who_has_waited_for_less_long_is_left_alone() {
        let (idle_guests, pressure) = (IdleGuests::new(1_000), Arc::<Pressure>::default());
        let enter = |scope: &str, calls| idle_guests.enter(guest(scope, "w", (10, calls), &pressure));
        let _early = [enter("1", 10_000), enter("2", 0)];
        let since = idle_guests.latest();
        let _late = [enter("3", 0), enter("4", 0)];
        idle_guests.evict(9, EvictionPriority::Urgent, since);
        assert_eq!(pressure.asked(EvictionPriority::Urgent), ["2", "1"].map(Scope::from_text));
        idle_guests.evict(1, EvictionPriority::Urgent, idle_guests.latest());
        assert_eq!(numbers(&pressure), [1, 2, 3]);
    }

    #[test]
    fn l22_who_was_asked_politely_and_stayed_is_asked_again_when_it_is_urgent() {
        let (idle_guests, pressure) = (IdleGuests::new(1_000), Arc::<Pressure>::default());
        let _entered = [1, 2].map(|_| idle_guests.enter(guest("", "w", (40, 0), &pressure)));
        let urgently = || pressure.asked(EvictionPriority::Urgent).len();
        idle_guests.evict(5, EvictionPriority::Polite, u64::MAX);
        assert_eq!((urgently(), pressure.asked(EvictionPriority::Polite).len()), (0, 2));
        idle_guests.evict(1, EvictionPriority::Urgent, u64::MAX);
        assert_eq!(urgently(), 1);
        idle_guests.evict(5, EvictionPriority::Urgent, u64::MAX);
        assert_eq!((urgently(), pressure.asked(EvictionPriority::Polite).len()), (2, 2));
    }

    #[test]
    fn a_workflow_that_waits_for_long_finds_room_among_the_others() {
        let (idle_guests, pressure) = (IdleGuests::new(1_000), Arc::<Pressure>::default());
        let _entered = ["a", "b", "a"].map(|workflow| idle_guests.enter(guest("", workflow, (40, 0), &pressure)));
        idle_guests.evict(1, EvictionPriority::Polite, u64::MAX);
        idle_guests.evict_among_others(5, &owner("b"));
        assert_eq!(pressure.asked.lock().urgently.keys().map(|rank| rank.1).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn l22_executions_of_one_workflow_leave_in_the_order_of_their_admission() {
        let (idle_guests, pressure) = (IdleGuests::new(1_000), Arc::<Pressure>::default());
        let enter = |scope: &str, workflow: &str, since_ms| {
            idle_guests.enter(IdleEntry { since_ms, ..guest(scope, workflow, (10, 0), &pressure) })
        };
        let _entered = [enter("", "a", 30), enter("", "a", 20), enter("1", "a", 5), enter("", "b", 5)];
        let asked = |until| {
            idle_guests.evict_among_same(&owner("a"), until);
            numbers(&pressure)
        };
        assert!(asked(19).is_empty());
        assert_eq!(asked(40), [2]);
        assert_eq!(asked(29), [2]);
        assert_eq!(asked(40), [1, 2]);
        assert_eq!(asked(40), [1, 2], "neither a step nor another workflow");
    }

    /// The numbers of the guests that were asked.
    fn numbers(pressure: &Pressure) -> Vec<u64> {
        let asked = pressure.asked.lock();
        let mut numbers: Vec<u64> = asked.politely.keys().chain(asked.urgently.keys()).map(|rank| rank.1).collect();
        numbers.sort_unstable();
        numbers
    }

    #[test]
    fn whoever_waits_longest_goes_first_when_all_have_too_much() {
        check((100, &[40, 40]), None, 0, &[]);
        check((100, &[40, 40, 40]), None, 0, &[1]);
        check((100, &[10, 10, 100]), None, 0, &[1, 2]);
        check((100, &[101, 50]), None, 0, &[1]);
        check((0, &[0, 1]), None, 0, &[1, 2]);
    }

    #[test]
    fn just_enough_go_when_somebody_finds_no_place() {
        check((1_000, &[40, 40, 40]), None, 1, &[1]);
        check((1_000, &[40, 40, 40]), None, 2, &[1, 2]);
        check((1_000, &[40, 40]), None, 5, &[1, 2]);
    }

    #[test]
    fn whoever_moves_again_is_not_asked() {
        check((1_000, &[40, 40, 40]), Some(0), 1, &[2]);
        check((1_000, &[40]), Some(0), 1, &[]);
    }

    #[tokio::test]
    async fn an_activation_hears_that_one_of_its_guests_is_asked() {
        let idle_guests = IdleGuests::new(100);
        let (first, second): (Arc<Pressure>, Arc<Pressure>) = Default::default();
        let _entered = [&first, &second].map(|pressure| idle_guests.enter(guest("", "w", (60, 0), pressure)));
        first.notified().await;
        assert!(futures::poll!(std::pin::pin!(second.notified())).is_pending());
    }
}
