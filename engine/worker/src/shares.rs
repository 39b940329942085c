//! Shares the runtime's threads fairly among tenants. While several tenants have something to do, few of their tasks are
//! polled at once, and the next one is of the tenant whose tasks took the least time: a tenant with thousands of ready
//! tasks delays another by a few polls. A tenant that is alone takes no turns.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use cerebelum_store::TenantId;

/// How long a tenant counts as active after it had something to do.
const ACTIVE: Duration = Duration::from_secs(1);
/// The time that a tenant without tasks saves up. It lets a tenant that does little go before one that does much.
const CREDIT: Duration = Duration::from_millis(20);
/// The number that no tenant has: several tenants are active.
const SEVERAL: i32 = i32::MIN;

/// The turns of all tenants.
pub(crate) struct FairShares {
    /// The only active tenant.
    sole: AtomicI32,
    turns: Mutex<Turns>,
    /// The most tasks that are polled, or about to be polled, at once.
    at_once: usize,
}

#[derive(Default)]
struct Turns {
    taken: usize,
    /// The time that the tenant had used which had the last turn.
    level: Duration,
    tenants: BTreeMap<TenantId, Share>,
}

/// The share of one tenant.
struct Share {
    /// The time that its tasks took so far. A tenant without tasks does not fall far behind the others.
    used: Duration,
    last: Instant,
    waiting: VecDeque<Arc<Ticket>>,
}

/// A task that waits for its turn.
struct Ticket(Mutex<State>);

enum State {
    Waiting(Waker),
    /// The turn is the task's, from now to the end of its next poll.
    Next,
    Gone,
}

impl Ticket {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FairShares {
    /// `per_core` tasks of all tenants take turns at once for each core.
    pub(crate) fn new(per_core: usize) -> Arc<Self> {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Arc::new(Self { sole: AtomicI32::new(SEVERAL), turns: Mutex::default(), at_once: cores * per_core })
    }

    /// Runs a task of this tenant in fair turns.
    pub(crate) fn fair<F: Future>(self: &Arc<Self>, tenant: TenantId, task: F) -> Fair<F> {
        Fair { shares: Arc::clone(self), tenant, ticket: None, task: Box::pin(task) }
    }

    /// Takes a turn, and returns since when; nothing to give back while the tenant is alone. A ticket while others have all
    /// turns.
    fn take(&self, tenant: TenantId, waker: &Waker) -> Result<Option<Instant>, Arc<Ticket>> {
        let sole = self.sole.load(Ordering::Relaxed);
        if sole == tenant.0 {
            return Ok(None);
        }
        let now = Instant::now();
        let mut turns = self.turns();
        if sole != SEVERAL {
            // A tenant that is alone does not say when it is active.
            turns.share(TenantId(sole), now).last = now;
        }
        turns.share(tenant, now).last = now;
        turns.tenants.retain(|_, share| now - share.last < ACTIVE || !share.waiting.is_empty());
        let is_alone = turns.tenants.len() == 1;
        self.sole.store(if is_alone { tenant.0 } else { SEVERAL }, Ordering::Relaxed);
        if is_alone {
            return Ok(None);
        }
        if turns.taken < self.at_once {
            turns.taken += 1;
            return Ok(Some(now));
        }
        let ticket = Arc::new(Ticket(Mutex::new(State::Waiting(waker.clone()))));
        let least = turns.level.saturating_sub(CREDIT);
        let share = turns.share(tenant, now);
        if share.waiting.is_empty() {
            share.used = share.used.max(least);
        }
        share.waiting.push_back(Arc::clone(&ticket));
        Err(ticket)
    }

    /// Gives a turn back, after a poll that took this time, and passes it on.
    fn give_back(&self, tenant: TenantId, took: Duration) {
        let mut turns = self.turns();
        if let Some(share) = turns.tenants.get_mut(&tenant) {
            share.used += took;
        }
        let next = turns.next();
        turns.taken -= usize::from(next.is_none());
        drop(turns);
        if let Some(waker) = next {
            waker.wake();
        }
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turns {
    fn share(&mut self, tenant: TenantId, now: Instant) -> &mut Share {
        let used = self.level.saturating_sub(CREDIT);
        self.tenants.entry(tenant).or_insert_with(|| Share { used, last: now, waiting: VecDeque::new() })
    }

    /// Gives the turn to the task that is next: the first one of the tenant that used the least time.
    fn next(&mut self) -> Option<Waker> {
        loop {
            let waiting = self.tenants.values_mut().filter(|share| !share.waiting.is_empty());
            let share = waiting.min_by_key(|share| share.used)?;
            self.level = share.used;
            let ticket = share.waiting.pop_front()?;
            let mut state = ticket.state();
            if let State::Waiting(waker) = std::mem::replace(&mut *state, State::Next) {
                return Some(waker);
            }
            *state = State::Gone;
        }
    }
}

/// The right to one poll, since a moment; nothing is given back if there is none.
struct Turn<'s>(&'s FairShares, TenantId, Option<Instant>);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(since) = self.2 {
            self.0.give_back(self.1, since.elapsed());
        }
    }
}

/// A task that is polled in fair turns.
pub(crate) struct Fair<F> {
    shares: Arc<FairShares>,
    tenant: TenantId,
    ticket: Option<Arc<Ticket>>,
    task: Pin<Box<F>>,
}

impl<F> Fair<F> {
    /// The beginning of this task's turn, as [`FairShares::take`] returns it; none while it has to wait.
    fn turn(&mut self, waker: &Waker) -> Option<Option<Instant>> {
        let Some(ticket) = &self.ticket else {
            let taken = self.shares.take(self.tenant, waker);
            return taken.map_err(|ticket| self.ticket = Some(ticket)).ok();
        };
        if let State::Waiting(kept) = &mut *ticket.state() {
            kept.clone_from(waker);
            return None;
        }
        self.ticket = None;
        Some(Some(Instant::now()))
    }
}

impl<F: Future> Future for Fair<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Some(since) = self.turn(context.waker()) else { return Poll::Pending };
        let Self { shares, tenant, task, .. } = &mut *self;
        let _turn = Turn(shares, *tenant, since);
        task.as_mut().poll(context)
    }
}

impl<F> Drop for Fair<F> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket.take() else { return };
        let before = std::mem::replace(&mut *ticket.state(), State::Gone);
        if matches!(before, State::Next) {
            self.shares.give_back(self.tenant, Duration::ZERO);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures::FutureExt;

    use super::*;

    const LOUD: TenantId = TenantId(1);
    const QUIET: TenantId = TenantId(2);

    fn shares(at_once: usize) -> Arc<FairShares> {
        Arc::new(FairShares { at_once, ..Arc::into_inner(FairShares::new(1)).expect("nobody else has it") })
    }

    /// A task that yields so many times, and counts its polls.
    async fn busy(polls: Arc<AtomicUsize>, count: usize) {
        for _ in 0..count {
            polls.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(1));
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_tenant_with_one_task_does_not_wait_for_all_tasks_of_another() {
        let shares = shares(1);
        let (loud, quiet) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        // From now on several tenants are active.
        shares.fair(QUIET, async {}).await;
        for _ in 0..100 {
            tokio::spawn(shares.fair(LOUD, busy(loud.clone(), 100)));
        }
        tokio::task::yield_now().await;
        let before = loud.load(Ordering::Relaxed);
        shares.fair(QUIET, busy(quiet, 10)).await;
        let meanwhile = loud.load(Ordering::Relaxed) - before;
        assert!(meanwhile <= 30, "{meanwhile} polls of the other tenant during ten");
    }

    #[tokio::test]
    async fn a_task_that_is_dropped_passes_its_turn_on() {
        let shares = shares(1);
        shares.fair(QUIET, async {}).await;
        let polls = Arc::<AtomicUsize>::default();
        let mut tasks: Vec<_> = (0..4).map(|_| tokio::spawn(shares.fair(LOUD, busy(polls.clone(), 50)))).collect();
        tokio::task::yield_now().await;
        for task in tasks.drain(..3) {
            task.abort();
        }
        tasks.remove(0).await.unwrap();
        assert_eq!(shares.turns().taken, 0);
        assert!(shares.fair(QUIET, async {}).now_or_never().is_some(), "the turn is free");
    }

    #[tokio::test]
    async fn a_tenant_that_is_alone_takes_no_turns() {
        let shares = shares(1);
        let task = shares.fair(LOUD, std::future::pending::<()>());
        let mut tasks = [task, shares.fair(LOUD, std::future::pending())];
        for task in &mut tasks {
            assert!(task.now_or_never().is_none() && shares.turns().taken == 0);
        }
    }
}
