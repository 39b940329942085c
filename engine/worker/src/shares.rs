//! Shares the runtime's threads fairly among tenants. A task that is woken waits here and not in the runtime's queue. Few
//! are let through at once, and the next one is of the tenant whose tasks took the least time: a tenant with thousands of
//! ready tasks delays another by a few polls. More are let through while a tenant is alone, yet not so many that the
//! next tenant has to wait for long. A task that has, or queues for, a connection to the database takes no turn: others wait
//! for it. And a task whose thread waits for the database gives its turn back.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use cerebelum_history::planted;
use cerebelum_store::{CallingTask, TenantId, poll_calling_task};
use futures::task::AtomicWaker;
use parking_lot::Mutex;

/// How long a tenant counts as active after it had something to do.
const ACTIVE: Duration = Duration::from_secs(1);
/// The time that a tenant without tasks saves up. It lets a tenant that does little go before one that does much.
const CREDIT: Duration = Duration::from_millis(20);
/// How many times as many tasks take turns at once while one tenant is alone.
const ALONE_FACTOR: usize = 16;

/// The turns of all tenants.
pub(crate) struct FairShares {
    turns: Mutex<Turns>,
    /// Whether several tenants are active.
    several: AtomicBool,
    /// The most tasks that are polled, or about to be polled, at once while several tenants are active.
    at_once: usize,
}

#[derive(Default)]
struct Turns {
    taken: usize,
    /// When tenants that are no longer active were last forgotten.
    forgot: Option<Instant>,
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

/// What a task may do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// It waits for something.
    Idle,
    /// It was woken and waits for its turn.
    Waiting,
    /// It may be polled, for a turn that has to be given back, or for none.
    Next(Grant),
    /// It is polled, and was or was not woken since.
    Polled {
        woken: bool,
    },
    Gone,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Grant {
    Turn,
    /// Others wait for what it has.
    Free,
}

/// A task's place in the queue, and the waker that the task gives to what it waits for.
struct Ticket {
    shares: Arc<FairShares>,
    tenant: TenantId,
    state: Mutex<State>,
    task: AtomicWaker,
    /// The number of calls of the store in which the task is.
    calls: AtomicUsize,
    /// Whether the task is polled and still has the turn for it.
    has_turn: AtomicBool,
}

impl Ticket {
    /// Asks for a turn. Returns the state in which the task is now.
    fn ask(self: &Arc<Self>, state: &mut State) -> State {
        *state = self.shares.ask(self).map_or(State::Waiting, State::Next);
        *state
    }

    /// Gives the turn of a task that is polled back, unless it was done before.
    fn give_back(&self) {
        if self.has_turn.swap(false, Ordering::AcqRel) {
            self.shares.give_back();
        }
    }
}

impl CallingTask for Ticket {
    fn call_begins(&self) {
        self.calls.fetch_add(1, Ordering::AcqRel);
    }

    fn call_ends(&self) {
        self.calls.fetch_sub(1, Ordering::AcqRel);
    }

    /// Others go on meanwhile: the operating system shares the cores with a thread that the database keeps.
    fn blocks(&self) {
        if !planted("turn-kept-while-blocked") {
            self.give_back();
        }
    }
}

impl Wake for Ticket {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut state = self.state.lock();
        match *state {
            State::Idle => {
                if let State::Next(_) = self.ask(&mut state) {
                    drop(state);
                    self.task.wake();
                }
            }
            State::Polled { .. } => *state = State::Polled { woken: true },
            State::Waiting | State::Next(_) | State::Gone => {}
        }
    }
}

impl FairShares {
    /// As many tasks of all tenants take turns at once as there are cores.
    pub(crate) fn new() -> Arc<Self> {
        let at_once = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Arc::new(Self { turns: Mutex::default(), several: AtomicBool::new(false), at_once })
    }

    /// Whether several tenants are active.
    pub(crate) fn are_several(&self) -> bool {
        self.several.load(Ordering::Relaxed)
    }

    /// Runs a task of this tenant in fair turns. The task must not poll another fair one: with the last turn taken by the
    /// outer one, the inner one would wait for it forever.
    pub(crate) fn fair<F: Future>(self: &Arc<Self>, tenant: TenantId, task: F) -> Fair<F> {
        let (shares, state) = (Arc::clone(self), Mutex::new(State::Idle));
        let (calls, has_turn) = Default::default();
        let ticket = Arc::new(Ticket { shares, tenant, state, task: AtomicWaker::new(), calls, has_turn });
        Fair { waker: Waker::from(Arc::clone(&ticket)), ticket, task: Box::pin(task) }
    }

    /// Lets a task through, or puts it in the queue. Called with the lock on its state.
    fn ask(&self, ticket: &Arc<Ticket>) -> Option<Grant> {
        if ticket.calls.load(Ordering::Acquire) > 0 && !planted("connections-wait-for-turns") {
            return Some(Grant::Free);
        }
        let (now, tenant) = (Instant::now(), ticket.tenant);
        let mut turns = self.turns.lock();
        turns.share(tenant, now).last = now;
        turns.forget_inactive(now);
        self.several.store(turns.tenants.len() > 1, Ordering::Relaxed);
        if turns.taken < self.limit(&turns) {
            turns.taken += 1;
            return Some(Grant::Turn);
        }
        let least = turns.level.saturating_sub(CREDIT);
        let share = turns.share(tenant, now);
        if share.waiting.is_empty() {
            share.used = share.used.max(least);
        }
        share.waiting.push_back(Arc::clone(ticket));
        None
    }

    /// Adds the time that a poll took.
    fn add(&self, tenant: TenantId, took: Duration) {
        if let Some(share) = self.turns.lock().tenants.get_mut(&tenant) {
            share.used += took;
        }
    }

    /// Gives a turn back and lets the next tasks through.
    fn give_back(&self) {
        let mut turns = self.turns.lock();
        turns.taken -= 1;
        while turns.taken < self.limit(&turns)
            && let Some(next) = turns.next()
        {
            turns.taken += 1;
            drop(turns);
            // The lock on a task's state is never awaited with the lock on the turns.
            let mut state = next.state.lock();
            let waits = *state == State::Waiting;
            if waits {
                *state = State::Next(Grant::Turn);
            }
            drop(state);
            if waits {
                next.task.wake();
            }
            turns = self.turns.lock();
            turns.taken -= usize::from(!waits);
        }
    }

    /// The most turns at once.
    fn limit(&self, turns: &Turns) -> usize {
        if turns.tenants.len() > 1 { self.at_once } else { self.at_once * ALONE_FACTOR }
    }
}

impl Turns {
    fn share(&mut self, tenant: TenantId, now: Instant) -> &mut Share {
        let used = self.level.saturating_sub(CREDIT);
        self.tenants.entry(tenant).or_insert_with(|| Share { used, last: now, waiting: VecDeque::new() })
    }

    /// Forgets tenants that are no longer active, unless it was done a moment ago: there may be many.
    fn forget_inactive(&mut self, now: Instant) {
        if self.forgot.is_none_or(|forgot| now - forgot >= ACTIVE / 10) {
            self.forgot = Some(now);
            self.tenants.retain(|_, share| now - share.last < ACTIVE || !share.waiting.is_empty());
        }
    }

    /// The task that is next: the first one of the tenant that used the least time.
    fn next(&mut self) -> Option<Arc<Ticket>> {
        let waiting = self.tenants.values_mut().filter(|share| !share.waiting.is_empty());
        let share = waiting.min_by_key(|share| share.used)?;
        self.level = share.used;
        share.waiting.pop_front()
    }
}

/// A task that is polled in fair turns.
pub(crate) struct Fair<F> {
    waker: Waker,
    ticket: Arc<Ticket>,
    task: Pin<Box<F>>,
}

impl<F: Future> Future for Fair<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Self { waker, ticket, task } = &mut *self;
        ticket.task.register(context.waker());
        let grant = {
            let mut state = ticket.state.lock();
            let now = if *state == State::Idle { ticket.ask(&mut state) } else { *state };
            let State::Next(grant) = now else { return Poll::Pending };
            *state = State::Polled { woken: false };
            grant
        };
        ticket.has_turn.store(grant == Grant::Turn, Ordering::Release);
        let turn = PollGuard { ticket, since: (grant == Grant::Turn).then(Instant::now) };
        let polled = poll_calling_task(ticket.clone(), || task.as_mut().poll(&mut Context::from_waker(waker)));
        drop(turn);
        let mut state = ticket.state.lock();
        let is_woken = *state == State::Polled { woken: true };
        *state = if polled.is_ready() { State::Gone } else { State::Idle };
        if polled.is_pending() && is_woken && ticket.ask(&mut state) != State::Waiting {
            drop(state);
            ticket.task.wake();
        }
        polled
    }
}

/// A poll. Its turn is given back at its end, even when the task panics.
struct PollGuard<'t> {
    ticket: &'t Ticket,
    since: Option<Instant>,
}

impl Drop for PollGuard<'_> {
    fn drop(&mut self) {
        if let Some(since) = self.since {
            self.ticket.shares.add(self.ticket.tenant, since.elapsed());
            self.ticket.give_back();
        }
    }
}

impl<F> Drop for Fair<F> {
    fn drop(&mut self) {
        let before = std::mem::replace(&mut *self.ticket.state.lock(), State::Gone);
        if before == State::Next(Grant::Turn) {
            self.ticket.shares.give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const LOUD: TenantId = TenantId(1);
    const QUIET: TenantId = TenantId(2);

    fn shares(at_once: usize) -> Arc<FairShares> {
        Arc::new(FairShares { at_once, ..Arc::into_inner(FairShares::new()).expect("a new one has one owner") })
    }

    /// A task that yields so many times, and counts its polls.
    async fn busy(polls: Arc<AtomicUsize>, count: usize) {
        for _ in 0..count {
            polls.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(1));
            wake_at_once().await;
        }
    }

    /// Yields. Tokio's own yield wakes a task only after some sixty others.
    async fn wake_at_once() {
        let mut is_woken = false;
        let yielded = |context: &mut Context<'_>| {
            if std::mem::replace(&mut is_woken, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        };
        std::future::poll_fn(yielded).await;
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
        let (counted, own) = (loud.clone(), quiet.clone());
        // In a task, since a runtime with one thread seldom polls the future that it blocks on.
        let quiet_task = tokio::spawn(shares.fair(QUIET, async move {
            busy(own.clone(), 1).await;
            let before = counted.load(Ordering::Relaxed);
            busy(own, 10).await;
            counted.load(Ordering::Relaxed) - before
        }));
        let meanwhile = quiet_task.await.unwrap();
        assert_eq!(quiet.load(Ordering::Relaxed), 11);
        assert!(meanwhile <= 30, "{meanwhile} polls of the other tenant during ten");
    }

    #[tokio::test]
    async fn a_task_with_a_connection_waits_for_no_turn() {
        let (shares, answer) = (shares(1), Arc::new(tokio::sync::Notify::new()));
        shares.fair(QUIET, async {}).await;
        let asking = |answer: Arc<tokio::sync::Notify>| {
            Box::pin(shares.fair(LOUD, async move {
                let _call = cerebelum_store::StoreCall::begin();
                answer.notified().await;
            }))
        };
        let mut task = asking(answer.clone());
        assert!((&mut task).now_or_never().is_none());
        // From now on another task has the only turn.
        shares.turns.lock().taken = 1;
        answer.notify_waiters();
        assert!(task.now_or_never().is_some(), "it gives its connection back");
        assert!(asking(answer).now_or_never().is_none(), "a task without one waits");
    }

    /// As on SQLite, where a list of a client runs within the poll that begins it.
    #[tokio::test]
    async fn a_task_whose_thread_waits_for_the_database_keeps_no_turn() {
        let shares = shares(1);
        shares.fair(QUIET, async {}).await;
        let others = shares.clone();
        let served = shares.fair(LOUD, async move {
            let turns = others.turns.lock().taken;
            let _call = cerebelum_store::StoreCall::begin();
            cerebelum_store::tell_blocks();
            (turns, others.fair(QUIET, async {}).now_or_never().is_some())
        });
        assert_eq!(served.await, (1, true));
        assert_eq!(shares.turns.lock().taken, 0, "the turn was given back once");
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
        assert_eq!(shares.turns.lock().taken, 0);
        assert!(shares.fair(QUIET, async {}).now_or_never().is_some(), "the turn is free");
    }

    /// A task that wakes while another one is polled has its turn.
    #[tokio::test]
    async fn a_tenant_that_is_alone_takes_many_turns() {
        let shares = shares(1);
        let polled = AtomicUsize::new(0);
        let nested = |depth: usize| {
            let counted = async { _ = polled.fetch_add(1, Ordering::Relaxed) };
            (0..depth).fold(shares.fair(LOUD, counted.boxed()), |inner, _| {
                shares.fair(LOUD, async { _ = inner.now_or_never() }.boxed())
            })
        };
        nested(ALONE_FACTOR - 1).await;
        assert_eq!(polled.load(Ordering::Relaxed), 1);
        let _one_too_many = nested(ALONE_FACTOR).now_or_never();
        assert_eq!(polled.load(Ordering::Relaxed), 1);
        shares.fair(QUIET, async {}).await;
        let _as_of_several = nested(1).now_or_never();
        assert_eq!((polled.load(Ordering::Relaxed), shares.turns.lock().taken), (1, 0));
    }
}
