//! Guests that only wait: which of them go first when their memory is wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cerebelum_history::planted;
use tokio::sync::Notify;

/// How urgently a guest is asked to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// Unless its execution is just working: a workflow wants to begin, or the memory is somebody else's by now.
    Polite = 1,
    /// In any case: a step finds no place, and whoever holds one may be waiting for it.
    Urgent,
}

/// The waiting guests of a node, in the order in which they began to wait.
pub(crate) struct Warm {
    bytes_max: u64,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// Guests that ever began to wait; each is known by its number.
    latest: u64,
    guests: BTreeMap<u64, Waiter>,
    /// Those that nobody has asked to go, and those that may stay because they were asked politely: an urgent request
    /// finds both.
    unasked: BTreeSet<u64>,
    asked_politely: BTreeSet<u64>,
    /// Memory of the guests that nobody has asked to go.
    bytes: u64,
}

struct Waiter {
    bytes: u64,
    asked: Arc<AtomicU8>,
    activation: Arc<Notify>,
}

impl Warm {
    pub(crate) fn new(bytes_max: u64) -> Arc<Self> {
        Arc::new(Self { bytes_max, waiting: Mutex::default() })
    }

    /// A guest with this much memory waits from now on. While all of them have more than they may have, the one that
    /// waits longest is asked to go; its activation hears that somebody was.
    pub(crate) fn enter(self: &Arc<Self>, bytes: u64, activation: &Arc<Notify>) -> Stay {
        let asked = Arc::new(AtomicU8::new(0));
        let mut waiting = self.waiting();
        waiting.latest += 1;
        waiting.bytes += bytes;
        let number = waiting.latest;
        let guest = Waiter { bytes, asked: Arc::clone(&asked), activation: Arc::clone(activation) };
        waiting.guests.insert(number, guest);
        waiting.unasked.insert(number);
        while waiting.bytes > self.bytes_max && waiting.ask(Request::Polite) {}
        Stay { warm: Arc::clone(self), number, asked }
    }

    /// Somebody finds no place: so many guests are asked to go, or all there are.
    pub(crate) fn make_room(&self, guests: u32, request: Request) {
        let mut waiting = self.waiting();
        for _ in 0..guests {
            if !waiting.ask(request) {
                return;
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Asks the guest that waits longest to go, of those that were not asked as urgently; says whether there was one.
    fn ask(&mut self, request: Request) -> bool {
        let polite = self.asked_politely.first().filter(|_| request == Request::Urgent);
        let Some(number) = self.unasked.first().into_iter().chain(polite).min().copied() else { return false };
        let guest = &self.guests[&number];
        if self.unasked.remove(&number) {
            self.bytes -= guest.bytes;
        }
        match request {
            Request::Polite if !planted("polite-request-hides") => self.asked_politely.insert(number),
            Request::Polite | Request::Urgent => self.asked_politely.remove(&number),
        };
        guest.asked.store(request as u8, Ordering::Relaxed);
        guest.activation.notify_one();
        true
    }

    fn leave(&mut self, number: u64) {
        let Some(guest) = self.guests.remove(&number) else { return };
        if self.unasked.remove(&number) {
            self.bytes -= guest.bytes;
        }
        self.asked_politely.remove(&number);
    }
}

/// Held with a guest for as long as it only waits.
pub(crate) struct Stay {
    warm: Arc<Warm>,
    number: u64,
    asked: Arc<AtomicU8>,
}

impl Stay {
    /// Whether it was asked at least as urgently as this.
    pub(crate) fn is_asked_to_go(&self, request: Request) -> bool {
        self.asked.load(Ordering::Relaxed) >= request as u8
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.warm.waiting().leave(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guests of these sizes wait one after the other, one of them leaves, then room is made. Names those that are
    /// asked to go, by number.
    fn check((bytes_max, sizes): (u64, &[u64]), leaves: Option<usize>, wanted: u32, expected: &[u64]) {
        let warm = Warm::new(bytes_max);
        let activation = Arc::default();
        let mut stays: Vec<Stay> = sizes.iter().map(|bytes| warm.enter(*bytes, &activation)).collect();
        if let Some(at) = leaves {
            stays.remove(at);
        }
        warm.make_room(wanted, Request::Urgent);
        let asked: Vec<u64> =
            stays.iter().filter(|stay| stay.is_asked_to_go(Request::Polite)).map(|stay| stay.number).collect();
        assert_eq!(asked, expected);
        drop(stays);
        let waiting = warm.waiting();
        assert_eq!(
            (waiting.bytes, waiting.guests.len() + waiting.unasked.len()),
            (0, 0),
            "what is gone is not counted"
        );
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

    #[test]
    fn l22_who_was_asked_politely_and_stayed_is_asked_again_when_it_is_urgent() {
        let warm = Warm::new(1_000);
        let activation = Arc::default();
        let stays = [warm.enter(40, &activation), warm.enter(40, &activation)];
        let urgently = || stays.iter().filter(|stay| stay.is_asked_to_go(Request::Urgent)).count();
        warm.make_room(5, Request::Polite);
        assert_eq!(urgently(), 0);
        warm.make_room(1, Request::Urgent);
        assert_eq!(urgently(), 1);
        warm.make_room(5, Request::Urgent);
        assert_eq!(urgently(), 2);
    }

    #[tokio::test]
    async fn an_activation_hears_that_one_of_its_guests_is_asked() {
        let warm = Warm::new(100);
        let (first, second) = (Arc::default(), Arc::default());
        let _stays = [warm.enter(60, &first), warm.enter(60, &second)];
        first.notified().await;
        assert!(futures::poll!(std::pin::pin!(second.notified())).is_pending());
    }
}
