//! The ledger of host memory: what an engine holds for guests and clients besides linear memory, in bytes, and who goes
//! on when that is too much.
//!
//! It has two lanes: executions that hold little, and executions that hold much, each with a sum and a bound of its own.
//! An execution changes its lane with what it holds, so that those that fill one lane never stand in the way of the
//! other. The ledger is looked at before an execution moves and written while it does: what one guest asks for in one turn
//! is bounded, so that a sum passes its bound by no more than what those that move at the same moment may ask for.
//! Above the bound of a lane one execution of it at a time goes on, so that there is always one that can become smaller.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// An execution that has not moved for so long lets another one go on above the bound: what it waits for may be held by
/// that one.
const TURN_TAKEN_AFTER: Duration = Duration::from_millis(200);

/// An execution that holds no more than this many bytes is small.
pub const SMALL_BYTES: u64 = 256 << 10;
/// Which share of the ledger's bound is for small executions.
const SMALL_SHARE: u64 = 4;
/// No execution that is small may hold more than this share of the bound.
const ONE_SHARE: u64 = 256;

/// What an engine holds.
#[derive(Debug)]
pub struct Ledger {
    small: Lane,
    large: Lane,
    small_bytes: u64,
    freed: Notify,
}

/// The executions that hold little, or those that hold much.
#[derive(Debug)]
struct Lane {
    held: AtomicU64,
    bytes_max: u64,
    turn: Mutex<Option<Turn>>,
}

/// The one execution of a lane that goes on above the bound.
#[derive(Debug)]
struct Turn {
    account: Weak<Account>,
    /// How many of its guests move at the moment.
    moving: u32,
    moved: Instant,
}

impl Turn {
    fn is_of(&self, account: &Arc<Account>) -> bool {
        std::ptr::eq(self.account.as_ptr(), Arc::as_ptr(account))
    }

    /// Whether another execution may have it.
    fn is_free(&self) -> bool {
        self.account.strong_count() == 0 || self.moving == 0 && self.moved.elapsed() >= TURN_TAKEN_AFTER
    }
}

impl Lane {
    fn new(bytes_max: u64) -> Self {
        Self { held: AtomicU64::new(0), bytes_max, turn: Mutex::new(None) }
    }

    fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    fn has_room(&self) -> bool {
        self.held() <= self.bytes_max
    }

    fn turn(&self) -> MutexGuard<'_, Option<Turn>> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether less than the bound is held again.
    fn sub(&self, bytes: u64) -> bool {
        let before = self.held.fetch_sub(bytes, Ordering::Relaxed);
        before > self.bytes_max && before - bytes <= self.bytes_max
    }
}

impl Ledger {
    /// An empty one with this bound, a quarter of which is for executions that hold little.
    #[must_use]
    pub fn new(bytes_max: u64) -> Arc<Self> {
        Arc::new(Self {
            small: Lane::new(bytes_max / SMALL_SHARE),
            large: Lane::new(bytes_max - bytes_max / SMALL_SHARE),
            small_bytes: SMALL_BYTES.min(bytes_max / ONE_SHARE),
            freed: Notify::new(),
        })
    }

    /// The bound.
    #[must_use]
    pub fn bytes_max(&self) -> u64 {
        self.small.bytes_max + self.large.bytes_max
    }

    /// What is held.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.small.held() + self.large.held()
    }

    /// Whether an execution of any size may come.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.large.has_room() && self.small.has_room()
    }

    /// Whether an execution may come that holds so many bytes.
    #[must_use]
    pub fn has_room_for(&self, bytes: u64) -> bool {
        self.lane(bytes).has_room()
    }

    /// The account of one execution.
    #[must_use]
    pub fn account(self: &Arc<Self>) -> Arc<Account> {
        Arc::new(Account { ledger: Arc::clone(self), bytes: Mutex::new(0) })
    }

    /// Comes back when a lane has room again, or an execution let another one go on.
    pub async fn freed(&self) {
        self.freed.notified().await;
    }

    fn lane(&self, bytes: u64) -> &Lane {
        if bytes <= self.small_bytes { &self.small } else { &self.large }
    }
}

/// What one execution holds.
#[derive(Debug)]
pub struct Account {
    ledger: Arc<Ledger>,
    bytes: Mutex<u64>,
}

impl Account {
    fn bytes(&self) -> MutexGuard<'_, u64> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds so many bytes, until what is returned is dropped.
    #[must_use]
    pub fn hold(self: &Arc<Self>, bytes: u64) -> Held {
        let mut held = Held { account: Arc::clone(self), bytes: 0 };
        held.set(bytes);
        held
    }

    /// Whether executions like this one need not wait for each other.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.ledger.has_room_for(*self.bytes())
    }

    /// Whether the execution may go on and hold so many bytes more: there is room, or it is the one that goes on without.
    /// What is returned is kept while it does.
    pub fn may_move(self: &Arc<Self>, more: u64) -> Option<Moving> {
        let bytes = self.bytes().saturating_add(more);
        let lane = self.ledger.lane(bytes);
        if lane.has_room() {
            return Some(Moving { account: Arc::clone(self), above: None });
        }
        let mut turn = lane.turn();
        match &mut *turn {
            Some(now) if now.is_of(self) => now.moving += 1,
            Some(now) if !now.is_free() => return None,
            now => *now = Some(Turn { account: Arc::downgrade(self), moving: 1, moved: Instant::now() }),
        }
        Some(Moving { account: Arc::clone(self), above: Some(bytes) })
    }

    /// Waits until the execution may go on.
    pub async fn moving(self: &Arc<Self>) -> Moving {
        loop {
            if let Some(moving) = self.may_move(0) {
                return moving;
            }
            // No notification says that the execution whose turn it is has stood still for too long.
            let _ = tokio::time::timeout(TURN_TAKEN_AFTER, self.ledger.freed()).await;
        }
    }

    /// Whether the execution, which moves, has come to hold so much that others have to go first.
    pub(crate) fn has_outgrown(self: &Arc<Self>) -> bool {
        let lane = self.ledger.lane(*self.bytes());
        !lane.has_room() && !lane.turn().as_ref().is_some_and(|now| now.is_of(self))
    }

    /// The execution wants nothing more for now: the next one goes on above the bound.
    pub fn rest(self: &Arc<Self>) {
        for lane in [&self.ledger.small, &self.ledger.large] {
            if lane.has_room() {
                continue;
            }
            let mut turn = lane.turn();
            if turn.as_ref().is_some_and(|now| now.is_of(self) && now.moving == 0) {
                *turn = None;
                drop(turn);
                self.ledger.freed.notify_waiters();
            }
        }
    }

    fn change(&self, by: impl FnOnce(u64) -> u64) {
        let mut bytes = self.bytes();
        let (before, after) = (*bytes, by(*bytes));
        *bytes = after;
        self.ledger.lane(after).held.fetch_add(after, Ordering::Relaxed);
        if self.ledger.lane(before).sub(before) {
            self.ledger.freed.notify_waiters();
        }
    }
}

/// Kept while an execution moves.
#[derive(Debug)]
pub struct Moving {
    account: Arc<Account>,
    /// What it held when it began to move above the bound: that says in which lane.
    above: Option<u64>,
}

impl Drop for Moving {
    fn drop(&mut self) {
        let Some(bytes) = self.above else { return };
        let mut turn = self.account.ledger.lane(bytes).turn();
        if let Some(now) = turn.as_mut().filter(|now| now.is_of(&self.account)) {
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
    /// How many.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whose they are.
    #[must_use]
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// It is so many now.
    pub fn set(&mut self, bytes: u64) {
        if bytes != self.bytes {
            self.account.change(|all| all - self.bytes + bytes);
            self.bytes = bytes;
        }
    }

    /// So many more.
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
        assert_eq!(ledger.held(), 0);
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
        // It neither moves nor rests: what it waits for may be held by the other one.
        drop(a.moving().await);
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
