//! The ledger of host memory: what an engine holds for guests and clients besides linear memory, in bytes; one sum, one
//! bound, and who goes on above it.
//!
//! The sum is looked at before a guest moves and updated while the guest moves: what one guest asks for in one turn is
//! bounded, so that the sum passes the bound by no more than what the guests that move at the same moment may ask for.
//! Above the bound one execution at a time goes on, so that there is always one that can become smaller.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cerebelum_history::ExecutionId;
use tokio::sync::Notify;

/// An execution that has not moved for so long lets another one go on above the bound: what it waits for may be held by
/// that one.
const TURN_TAKEN_AFTER: Duration = Duration::from_millis(200);

/// What an engine holds.
#[derive(Debug)]
pub struct Ledger {
    held: AtomicU64,
    bytes_max: u64,
    freed: Notify,
    turn: Mutex<Option<Turn>>,
}

/// The one execution that goes on above the bound.
#[derive(Debug)]
struct Turn {
    execution: ExecutionId,
    /// How many of its guests move at the moment.
    moving: u32,
    moved: Instant,
}

impl Ledger {
    /// An empty one with this bound.
    #[must_use]
    pub fn new(bytes_max: u64) -> Arc<Self> {
        Arc::new(Self { held: AtomicU64::new(0), bytes_max, freed: Notify::new(), turn: Mutex::new(None) })
    }

    /// The bound.
    #[must_use]
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// What is held.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Whether an execution that is not in memory may be taken into it.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.held() <= self.bytes_max
    }

    /// Holds so many bytes, until what is returned is dropped.
    #[must_use]
    pub fn hold(self: &Arc<Self>, bytes: u64) -> Held {
        let mut held = Held { ledger: Arc::clone(self), bytes: 0 };
        held.set(bytes);
        held
    }

    /// Comes back when less is held than before, or an execution let another one go on.
    pub async fn freed(&self) {
        self.freed.notified().await;
    }

    /// Whether an execution may go on: there is room, or it is the one that goes on without.
    /// What is returned is kept while it does.
    pub fn may_move(self: &Arc<Self>, execution: &ExecutionId) -> Option<Moving> {
        if self.has_room() {
            return Some(Moving { ledger: Arc::clone(self), execution: None });
        }
        let mut turn = self.turn();
        match &mut *turn {
            Some(now) if now.execution == *execution => now.moving += 1,
            Some(now) if now.moving > 0 || now.moved.elapsed() < TURN_TAKEN_AFTER => return None,
            now => *now = Some(Turn { execution: execution.clone(), moving: 1, moved: Instant::now() }),
        }
        Some(Moving { ledger: Arc::clone(self), execution: Some(execution.clone()) })
    }

    /// Waits until an execution may go on.
    pub async fn moving(self: &Arc<Self>, execution: &ExecutionId) -> Moving {
        loop {
            if let Some(moving) = self.may_move(execution) {
                return moving;
            }
            // No notification says that the execution whose turn it is has stood still for too long.
            let _ = tokio::time::timeout(TURN_TAKEN_AFTER, self.freed()).await;
        }
    }

    /// An execution wants nothing more for now: the next one goes on above the bound.
    pub fn rest(&self, execution: &ExecutionId) {
        if self.has_room() {
            return;
        }
        let mut turn = self.turn();
        if turn.as_ref().is_some_and(|now| now.execution == *execution && now.moving == 0) {
            *turn = None;
            drop(turn);
            self.freed.notify_waiters();
        }
    }

    fn turn(&self) -> MutexGuard<'_, Option<Turn>> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, bytes: u64) {
        self.held.fetch_add(bytes, Ordering::Relaxed);
    }

    fn sub(&self, bytes: u64) {
        let before = self.held.fetch_sub(bytes, Ordering::Relaxed);
        if before > self.bytes_max && before - bytes <= self.bytes_max {
            self.freed.notify_waiters();
        }
    }
}

/// Kept while an execution moves.
#[derive(Debug)]
pub struct Moving {
    ledger: Arc<Ledger>,
    /// Which, when it moves above the bound.
    execution: Option<ExecutionId>,
}

impl Drop for Moving {
    fn drop(&mut self) {
        let Some(execution) = &self.execution else { return };
        let mut turn = self.ledger.turn();
        if let Some(now) = turn.as_mut().filter(|now| now.execution == *execution) {
            now.moving = now.moving.saturating_sub(1);
            now.moved = Instant::now();
        }
    }
}

/// Bytes that are held, until this is dropped.
#[derive(Debug)]
pub struct Held {
    ledger: Arc<Ledger>,
    bytes: u64,
}

impl Held {
    /// How many.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// It is so many now.
    pub fn set(&mut self, bytes: u64) {
        if bytes >= self.bytes {
            self.ledger.add(bytes - self.bytes);
        } else {
            self.ledger.sub(self.bytes - bytes);
        }
        self.bytes = bytes;
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

    fn id(text: &str) -> ExecutionId {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn an_execution_that_waits_goes_on_when_there_is_room_again() {
        let ledger = Ledger::new(100);
        let mut held = ledger.hold(90);
        assert!(ledger.has_room());
        held.grow(20);
        assert!(!ledger.has_room());
        let first = ledger.may_move(&id("a")).expect("one goes on without room");
        assert!(ledger.may_move(&id("b")).is_none());
        let there = Arc::clone(&ledger);
        let waits = tokio::spawn(async move { drop(there.moving(&id("b")).await) });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        held.set(0);
        waits.await.unwrap();
        drop(first);
        drop(held);
        assert_eq!(ledger.held(), 0);
    }

    #[tokio::test]
    async fn one_execution_goes_on_without_room_until_it_rests_or_stands_still() {
        let ledger = Ledger::new(0);
        let _held = ledger.hold(1);
        let (a, b) = (id("a"), id("b"));
        let moves = [ledger.may_move(&a), ledger.may_move(&a)];
        assert!(moves.iter().all(Option::is_some), "with all its guests");
        assert!(ledger.may_move(&b).is_none());
        ledger.rest(&a);
        assert!(ledger.may_move(&b).is_none(), "it moves still");
        drop(moves);
        assert!(ledger.may_move(&b).is_none(), "it goes on in a moment");
        ledger.rest(&a);
        let moves = ledger.may_move(&b);
        assert!(moves.is_some() && ledger.may_move(&a).is_none());
        drop(moves);
        // It neither moves nor rests: what it waits for may be held by the other one.
        drop(ledger.moving(&a).await);
    }
}
