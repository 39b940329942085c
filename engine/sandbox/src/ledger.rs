//! The ledger of host memory: it counts the bytes that an engine holds for guests and clients besides linear memory,
//! and decides which executions go on when the bound is exceeded.
//!
//! It has two lanes, one for executions that hold little and one for executions that hold much. Each lane has its own
//! sum and bound. An execution changes lanes with the amount it holds, so executions that fill one lane never block the
//! other. The ledger is checked before an execution moves and updated while it moves. The requests of one guest in one
//! turn are bounded, so a sum exceeds its bound by no more than the requests of the executions that move at the same
//! time. Above the bound of a lane, one of its executions at a time goes on, so that there is always one that can
//! shrink.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// An execution that has not moved for this long lets another one go on above the bound: it may be waiting for
/// something that the other one holds.
const OVERDRAFT_TAKEN_AFTER: Duration = Duration::from_millis(200);
/// This time doubles with each further bound that is held, so often at most: what the executions come to hold one after the
/// other would grow without end if they only had to stand still for a moment.
const DOUBLINGS_MAX: u32 = 6;
/// A smaller bound counts as this many bytes there.
const BOUND_BYTES_MIN: u64 = 1 << 20;

/// An execution that holds no more than this many bytes is small.
pub const SMALL_BYTES: u64 = 256 << 10;
/// The small executions' share of the ledger's bound is 1/`SMALL_SHARE`.
const SMALL_SHARE: u64 = 4;
/// A small execution holds at most 1/`ONE_SHARE` of the bound.
const ONE_SHARE: u64 = 256;

/// The bytes that an engine holds.
#[derive(Debug)]
pub struct Ledger {
    small: Lane,
    large: Lane,
    small_bytes: u64,
    freed: Notify,
}

/// One lane: the executions that hold little, or those that hold much.
#[derive(Debug)]
struct Lane {
    held: AtomicU64,
    bytes_max: u64,
    overdraft: Mutex<Option<Overdraft>>,
}

/// The one execution of a lane that goes on above the bound.
#[derive(Debug)]
struct Overdraft {
    account: Weak<Account>,
    /// How many of its guests are moving now.
    moving: u32,
    moved: Instant,
}

impl Overdraft {
    fn is_of(&self, account: &Arc<Account>) -> bool {
        std::ptr::eq(self.account.as_ptr(), Arc::as_ptr(account))
    }

    /// Whether another execution may take it after this one has stood still for so long.
    fn is_free(&self, patience: Duration) -> bool {
        self.account.strong_count() == 0 || self.moving == 0 && self.moved.elapsed() >= patience
    }
}

impl Lane {
    fn new(bytes_max: u64) -> Self {
        Self { held: AtomicU64::new(0), bytes_max, overdraft: Mutex::new(None) }
    }

    fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    fn has_room(&self) -> bool {
        self.held() <= self.bytes_max
    }

    /// How long an execution stands still before another one goes on above the bound.
    fn patience(&self) -> Duration {
        let further = self.held() / self.bytes_max.max(BOUND_BYTES_MIN);
        OVERDRAFT_TAKEN_AFTER * (1 << further.saturating_sub(1).min(DOUBLINGS_MAX.into()))
    }

    /// Subtracts bytes. Returns whether the sum dropped from above the bound to at most the bound.
    fn sub(&self, bytes: u64) -> bool {
        let before = self.held.fetch_sub(bytes, Ordering::Relaxed);
        before > self.bytes_max && before - bytes <= self.bytes_max
    }
}

impl Ledger {
    /// Creates an empty ledger with this bound, a quarter of which is for executions that hold little.
    #[must_use]
    pub fn new(bytes_max: u64) -> Arc<Self> {
        Arc::new(Self {
            small: Lane::new(bytes_max / SMALL_SHARE),
            large: Lane::new(bytes_max - bytes_max / SMALL_SHARE),
            small_bytes: SMALL_BYTES.min(bytes_max / ONE_SHARE),
            freed: Notify::new(),
        })
    }

    /// The bound, in bytes.
    #[must_use]
    pub fn bytes_max(&self) -> u64 {
        self.small.bytes_max + self.large.bytes_max
    }

    /// The bytes that are held and their bound, for executions that hold little and for those that hold much.
    #[must_use]
    pub fn by_size(&self) -> [(u64, u64); 2] {
        [&self.small, &self.large].map(|lane| (lane.held(), lane.bytes_max))
    }

    /// Whether there is room for an execution of any size.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.large.has_room() && self.small.has_room()
    }

    /// Whether there is room for an execution that holds this many bytes.
    #[must_use]
    pub fn has_room_for(&self, bytes: u64) -> bool {
        self.lane(bytes).has_room()
    }

    /// The account of one execution.
    #[must_use]
    pub fn account(self: &Arc<Self>) -> Arc<Account> {
        self.account_of("")
    }

    /// The same, of this tenant: see [`GuestOwner`].
    #[must_use]
    pub fn account_of(self: &Arc<Self>, tenant: &str) -> Arc<Account> {
        Arc::new(Account { ledger: Arc::clone(self), bytes: Mutex::new(0), tenant: tenant.into() })
    }

    /// Returns when a lane has room again, or when an execution lets another one go on.
    pub async fn freed(&self) {
        self.freed.notified().await;
    }

    fn lane(&self, bytes: u64) -> &Lane {
        if bytes <= self.small_bytes { &self.small } else { &self.large }
    }
}

/// The bytes that one execution holds.
#[derive(Debug)]
pub struct Account {
    ledger: Arc<Ledger>,
    bytes: Mutex<u64>,
    tenant: Arc<str>,
}

/// Whose a guest is. Tenants share memory and slots fairly, and so do the workflows of each tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct GuestOwner {
    /// The tenant.
    pub tenant: Arc<str>,
    /// The workflow of its execution. Two tenants may have workflows with equal names.
    pub workflow: Arc<str>,
}

impl Account {
    /// The owner of this execution's guests.
    #[must_use]
    pub fn owner_of(&self, workflow: &str) -> GuestOwner {
        GuestOwner { tenant: self.tenant.clone(), workflow: workflow.into() }
    }

    /// Holds this many bytes until the returned value is dropped.
    #[must_use]
    pub fn hold(self: &Arc<Self>, bytes: u64) -> Held {
        let mut held = Held { account: Arc::clone(self), bytes: 0 };
        held.set(bytes);
        held
    }

    /// Whether executions in the same lane need not wait for each other.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.ledger.has_room_for(*self.bytes.lock())
    }

    /// Whether the execution may go on and hold `more` additional bytes: there is room, or it is the one execution that
    /// goes on above the bound. The caller keeps the returned value while the execution moves.
    pub fn may_move(self: &Arc<Self>, more: u64) -> Option<Moving> {
        let bytes = self.bytes.lock().saturating_add(more);
        let lane = self.ledger.lane(bytes);
        if lane.has_room() {
            return Some(Moving { account: Arc::clone(self), above: None });
        }
        let mut overdraft = lane.overdraft.lock();
        match &mut *overdraft {
            Some(now) if now.is_of(self) => now.moving += 1,
            Some(now) if !now.is_free(lane.patience()) => return None,
            now => *now = Some(Overdraft { account: Arc::downgrade(self), moving: 1, moved: Instant::now() }),
        }
        Some(Moving { account: Arc::clone(self), above: Some(bytes) })
    }

    /// Waits until the execution may go on.
    pub async fn moving(self: &Arc<Self>) -> Moving {
        loop {
            if let Some(moving) = self.may_move(0) {
                return moving;
            }
            // No notification is sent when the execution that has the overdraft stands still for too long.
            let _ = tokio::time::timeout(OVERDRAFT_TAKEN_AFTER, self.ledger.freed()).await;
        }
    }

    /// Whether a moving execution has come to hold so much that it must wait for others.
    pub(crate) fn has_outgrown(self: &Arc<Self>) -> bool {
        let lane = self.ledger.lane(*self.bytes.lock());
        !lane.has_room() && !lane.overdraft.lock().as_ref().is_some_and(|now| now.is_of(self))
    }

    /// The execution needs nothing more for now. The next one may go on above the bound.
    pub fn rest(self: &Arc<Self>) {
        for lane in [&self.ledger.small, &self.ledger.large] {
            if lane.has_room() {
                continue;
            }
            let mut overdraft = lane.overdraft.lock();
            if overdraft.as_ref().is_some_and(|now| now.is_of(self) && now.moving == 0) {
                *overdraft = None;
                drop(overdraft);
                self.ledger.freed.notify_waiters();
            }
        }
    }

    fn change(&self, by: impl FnOnce(u64) -> u64) {
        let mut bytes = self.bytes.lock();
        let (before, after) = (*bytes, by(*bytes));
        *bytes = after;
        self.ledger.lane(after).held.fetch_add(after, Ordering::Relaxed);
        if self.ledger.lane(before).sub(before) {
            self.ledger.freed.notify_waiters();
        }
    }
}

/// A guard that is kept while an execution moves.
#[derive(Debug)]
pub struct Moving {
    account: Arc<Account>,
    /// The bytes that the execution held when it began to move above the bound. They determine its lane.
    above: Option<u64>,
}

impl Drop for Moving {
    fn drop(&mut self) {
        let Some(bytes) = self.above else { return };
        let mut overdraft = self.account.ledger.lane(bytes).overdraft.lock();
        if let Some(now) = overdraft.as_mut().filter(|now| now.is_of(&self.account)) {
            now.moving = now.moving.saturating_sub(1);
            now.moved = Instant::now();
        }
    }
}

/// Bytes that an execution holds.
#[derive(Debug)]
pub struct Held {
    account: Arc<Account>,
    bytes: u64,
}

impl Held {
    /// The account of the execution that holds them.
    #[must_use]
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Sets the number of bytes.
    pub fn set(&mut self, bytes: u64) {
        if bytes != self.bytes {
            self.account.change(|all| all - self.bytes + bytes);
            self.bytes = bytes;
        }
    }

    /// Adds bytes.
    pub fn grow(&mut self, bytes: u64) {
        self.set(self.bytes.saturating_add(bytes));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_execution_that_waits_goes_on_when_there_is_room_again() {
        let ledger = Ledger::new(100);
        let (a, b) = (ledger.account(), ledger.account());
        let mut held = a.hold(70);
        assert!(ledger.has_room());
        held.grow(20);
        assert!(!ledger.has_room());
        let first = a.may_move(0).expect("one goes on without room");
        let waits = {
            let _held = b.hold(1);
            assert!(b.may_move(0).is_none());
            let b = Arc::clone(&b);
            tokio::spawn(async move { drop(b.hold(1).account().moving().await) })
        };
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        held.set(0);
        waits.await.unwrap();
        drop((first, held));
        assert_eq!(ledger.by_size().map(|(held, _)| held), [0, 0]);
    }

    #[tokio::test]
    async fn one_execution_goes_on_without_room_until_it_rests_or_stands_still() {
        let ledger = Ledger::new(0);
        let (a, b) = (ledger.account(), ledger.account());
        let _held = (a.hold(1), b.hold(1));
        let moves = [a.may_move(0), a.may_move(0)];
        assert!(moves.iter().all(Option::is_some), "with all its guests");
        assert!(b.may_move(0).is_none());
        a.rest();
        assert!(b.may_move(0).is_none(), "it moves still");
        drop(moves);
        assert!(b.may_move(0).is_none(), "it goes on in a moment");
        a.rest();
        let moves = b.may_move(0);
        assert!(moves.is_some() && a.may_move(0).is_none());
        drop(moves);
        // `b` neither moves nor rests now: it may be waiting for something that `a` holds.
        drop(a.moving().await);
    }

    #[test]
    fn the_more_is_held_the_longer_an_execution_stands_still_before_another_one_goes_on() {
        let ledger = Ledger::new(4 << 20);
        let account = ledger.account();
        let patience = |mib: u64| {
            let _held = account.hold(mib << 20);
            ledger.large.patience().as_millis()
        };
        // The large ones have 3 MiB.
        assert_eq!([1, 3, 5, 6, 9, 21, 3_000].map(patience), [200, 200, 200, 400, 800, 12_800, 12_800]);
    }

    #[test]
    fn those_that_hold_much_never_stand_in_the_way_of_those_that_hold_little() {
        let ledger = Ledger::new(256 << 10);
        let large: Vec<Arc<Account>> = (0..3).map(|_| ledger.account()).collect();
        let mut held: Vec<Held> = large.iter().map(|account| account.hold(200 << 10)).collect();
        let _moves = large[0].may_move(0).expect("one of the large ones goes on");
        assert!(large[1].may_move(0).is_none());
        let small = ledger.account();
        let mut little = small.hold(1 << 10);
        assert!(small.has_room() && small.may_move(0).is_some_and(|moving| moving.above.is_none()));
        assert!(small.may_move(1 << 10).is_none(), "it would no longer be small");
        little.grow(1);
        assert!(small.may_move(0).is_none(), "it no longer is");
        little.set(0);
        held.clear();
        assert!(large[1].may_move(0).is_some_and(|moving| moving.above.is_none()));
        assert_eq!((ledger.small.held(), ledger.large.held()), (0, 0));
    }
}
