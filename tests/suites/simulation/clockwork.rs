//! An executor with a clock of its own: one thread, and a random choice among the tasks that can move.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use test_programs::DeterministicRng;

/// The owner of a task: a node (by number), or the world, which neither crashes nor stands still.
pub(crate) type Owner = Option<usize>;

/// The executor. Cheap to clone; all clones share one state.
#[derive(Clone)]
pub(crate) struct Clockwork(Arc<Mutex<Inner>>);

struct Inner {
    now_ms: u64,
    numbers: u64,
    tasks: BTreeMap<u64, Task>,
    ready: Arc<Mutex<Vec<u64>>>,
    timers: BTreeMap<(u64, u64), Waker>,
    standing_still: Vec<usize>,
    chance: DeterministicRng,
    /// All choices so far, folded into one number, which is equal for equal runs.
    trace: u64,
}

struct Task {
    owner: Owner,
    /// None while the task is polled.
    future: Option<BoxFuture<'static, ()>>,
}

struct TaskWaker {
    id: u64,
    ready: Arc<Mutex<Vec<u64>>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if !ready.contains(&self.id) {
            ready.push(self.id);
        }
    }
}

impl Clockwork {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            now_ms: 1_000_000,
            numbers: 0,
            tasks: BTreeMap::new(),
            ready: Arc::default(),
            timers: BTreeMap::new(),
            standing_still: Vec::new(),
            chance: DeterministicRng(seed),
            trace: 0,
        })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.inner().now_ms
    }

    /// A random number below this one, which must not be zero.
    pub(crate) fn below(&self, end: u64) -> u64 {
        self.inner().chance.below(end)
    }

    pub(crate) fn bits(&self) -> u64 {
        self.inner().chance.bits()
    }

    /// True this many times in a thousand.
    pub(crate) fn permille(&self, share: u64) -> bool {
        self.below(1_000) < share
    }

    /// Every choice so far as one number.
    pub(crate) fn trace(&self) -> u64 {
        self.inner().trace
    }

    pub(crate) fn spawn(&self, owner: Owner, future: impl Future<Output = ()> + Send + 'static) {
        let ready = {
            let mut inner = self.inner();
            inner.numbers += 1;
            let id = inner.numbers;
            inner.tasks.insert(id, Task { owner, future: Some(future.boxed()) });
            Arc::new(TaskWaker { id, ready: inner.ready.clone() })
        };
        ready.wake();
    }

    pub(crate) fn sleep(&self, duration: Duration) -> Sleep {
        let mut inner = self.inner();
        inner.numbers += 1;
        let length = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Sleep { clockwork: self.clone(), key: (inner.now_ms.saturating_add(length), inner.numbers) }
    }

    pub(crate) async fn sleep_ms(&self, ms: u64) {
        self.sleep(Duration::from_millis(ms)).await;
    }

    /// Stops polling a node's tasks for so long; time passes for them all the same.
    pub(crate) fn stand_still(&self, node: usize, ms: u64) {
        self.inner().standing_still.push(node);
        let clockwork = self.clone();
        self.spawn(None, async move {
            clockwork.sleep_ms(ms).await;
            clockwork.go_on(node);
        });
    }

    pub(crate) fn go_on(&self, node: usize) {
        self.inner().standing_still.retain(|still| *still != node);
    }

    /// Drops a node's tasks. Must not be called by one of them.
    pub(crate) fn crash(&self, node: usize) {
        let gone: Vec<Task> = {
            let mut inner = self.inner();
            let ids: Vec<u64> =
                inner.tasks.iter().filter(|(_, task)| task.owner == Some(node)).map(|(id, _)| *id).collect();
            ids.iter().filter_map(|id| inner.tasks.remove(id)).collect()
        };
        // A dropped task may wake others and remove its timers, so it must not be dropped under the lock.
        drop(gone);
    }

    /// Runs until this future is done, or nothing can move any more, or the time is up.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        limit_ms: u64,
        main: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let done = Arc::new(Mutex::new(None));
        let result = done.clone();
        self.spawn(None, async move {
            let value = main.await;
            *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        });
        let end = self.now_ms() + limit_ms;
        loop {
            if let Some(value) = done.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return Some(value);
            }
            if !self.poll_one() && !self.pass_time(end) {
                return None;
            }
        }
    }

    /// Polls one of the tasks that can move.
    fn poll_one(&self) -> bool {
        let (id, mut future, waker) = {
            let mut inner = self.inner();
            let ready = inner.ready.clone();
            let mut queue = ready.lock().unwrap_or_else(PoisonError::into_inner);
            queue.retain(|id| inner.tasks.contains_key(id));
            // Sorted, because the order in which they were woken is not always determined by the seed.
            let mut can_move: Vec<u64> = queue
                .iter()
                .copied()
                .filter(|id| inner.tasks[id].owner.is_none_or(|node| !inner.standing_still.contains(&node)))
                .collect();
            if can_move.is_empty() {
                return false;
            }
            can_move.sort_unstable();
            let index = inner.chance.index(can_move.len());
            let id = can_move[index];
            queue.retain(|queued| *queued != id);
            inner.trace = (inner.trace ^ (id << 20) ^ inner.now_ms).wrapping_mul(0x0100_0000_01b3);
            let future = inner.tasks.get_mut(&id).and_then(|task| task.future.take());
            (id, future.expect("nobody else polls"), Waker::from(Arc::new(TaskWaker { id, ready: ready.clone() })))
        };
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
        let finished = {
            let mut inner = self.inner();
            match (polled, inner.tasks.get_mut(&id)) {
                (Poll::Pending, Some(task)) => {
                    task.future = Some(future);
                    None
                }
                _ => {
                    inner.tasks.remove(&id);
                    Some(future)
                }
            }
        };
        drop(finished);
        true
    }

    /// Moves the clock to the next timer.
    fn pass_time(&self, end: u64) -> bool {
        let waker = {
            let mut inner = self.inner();
            match inner.timers.pop_first() {
                Some(((at, _), waker)) if at <= end => {
                    inner.now_ms = inner.now_ms.max(at);
                    waker
                }
                Some(_) | None => return false,
            }
        };
        waker.wake();
        true
    }
}

/// A future that is ready at its time.
pub(crate) struct Sleep {
    clockwork: Clockwork,
    key: (u64, u64),
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // Dropping a waker may drop more than itself: it is dropped when the lock is free again.
        let mut inner = self.clockwork.inner();
        let is_over = inner.now_ms >= self.key.0;
        let earlier = match is_over {
            true => inner.timers.remove(&self.key),
            false => inner.timers.insert(self.key, context.waker().clone()),
        };
        drop(inner);
        drop(earlier);
        if is_over { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        let timer = self.clockwork.inner().timers.remove(&self.key);
        drop(timer);
    }
}
