//! Guests that compute for long do so on threads of their own, with a lower priority: requests, timers and the turns of
//! other guests never wait for them.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use cerebelum_history::planted;
use cerebelum_store::TenantId;
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::{Builder, Runtime as Threads};
use tokio::sync::oneshot;

use crate::env::Runtime;
use crate::shares::FairShares;

/// A poll that takes this long of a core's time is a long one. Guests yield every 10 ms.
const LONG: Duration = Duration::from_millis(5);
/// How much of each second the guests of a tenant may compute in long polls beside others. Beyond it, those that nothing is
/// known of begin among the computing ones: many that arrive together would each take a tick.
const BESIDE_OTHERS: Duration = Duration::from_millis(50);
/// How many tasks of all tenants compute at once for each core.
const COMPUTING_PER_CORE: usize = 1;

/// The threads for computing, of all engines of this process; none when no thread can be started.
pub(crate) fn threads() -> Option<&'static Threads> {
    static THREADS: OnceLock<Option<Threads>> = OnceLock::new();
    let start = || {
        let mut threads = Builder::new_multi_thread();
        threads.thread_name("computing").on_thread_start(cerebelum_sandbox::compute_in_background);
        threads.enable_all().build().ok()
    };
    THREADS.get_or_init(start).as_ref()
}

/// Where the guests of an engine compute.
pub(crate) struct Computing {
    runtime: Arc<dyn Runtime>,
    shares: Arc<FairShares>,
    /// The turns of those that do not compute for long.
    others: Arc<FairShares>,
    beside: BesideOthers,
}

impl Computing {
    pub(crate) fn new(runtime: Arc<dyn Runtime>, others: Arc<FairShares>) -> Self {
        Self { runtime, shares: FairShares::new(COMPUTING_PER_CORE), others, beside: BesideOthers::default() }
    }

    /// Runs a guest's turn: on the task that polls it, and among the computing ones after a long poll. `is_long` is kept
    /// from one turn to the next: whoever computed for long begins its next turn there.
    pub(crate) fn turn<F: Future<Output: Send> + Send + 'static>(
        self: &Arc<Self>,
        (tenant, is_long): (TenantId, &Arc<AtomicBool>),
        turn: F,
    ) -> Turn<F> {
        let mut turn =
            Turn { computing: self.clone(), tenant, is_long: is_long.clone(), place: Place::Here(Box::pin(turn)) };
        if is_long.load(Ordering::Relaxed) || self.took_enough(tenant) {
            turn.go();
        }
        turn
    }

    /// Whether guests of this tenant have delayed other tenants for long enough in this second.
    fn took_enough(&self, tenant: TenantId) -> bool {
        let now = self.runtime.poll_clock().filter(|_| self.others.are_several());
        now.is_some_and(|now| self.beside.took(tenant, now) >= BESIDE_OTHERS)
    }
}

/// How long the guests of each tenant computed in long polls beside others, in the present second.
#[derive(Default)]
struct BesideOthers(Mutex<(Option<Instant>, BTreeMap<TenantId, Duration>)>);

impl BesideOthers {
    fn took(&self, tenant: TenantId, now: Instant) -> Duration {
        let (since, took) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if since.is_none_or(|since| now - since >= Duration::from_secs(1)) {
            (*since, *took) = (Some(now), BTreeMap::new());
        }
        took.get(&tenant).copied().unwrap_or_default()
    }

    fn add(&self, tenant: TenantId, took: Duration) {
        let (_, tenants) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *tenants.entry(tenant).or_default() += took;
    }
}

/// A guest's turn, wherever it runs. None when the threads for computing are gone.
pub(crate) struct Turn<F: Future> {
    computing: Arc<Computing>,
    tenant: TenantId,
    is_long: Arc<AtomicBool>,
    place: Place<F>,
}

enum Place<F: Future> {
    Here(Pin<Box<F>>),
    There(oneshot::Receiver<F::Output>),
}

impl<F: Future<Output: Send> + Send + 'static> Turn<F> {
    /// Goes on among the computing tasks.
    fn go(&mut self) {
        let (done, output) = oneshot::channel();
        let Place::Here(turn) = std::mem::replace(&mut self.place, Place::There(output)) else { return };
        let runtime = self.computing.runtime.clone();
        let measured = Measured { runtime: runtime.clone(), longest: Duration::ZERO, task: turn };
        let is_long = self.is_long.clone();
        let task = async move {
            let (output, longest) = measured.await;
            is_long.store(longest >= LONG, Ordering::Relaxed);
            // An activation that is gone does not need it.
            let _ = done.send(output);
        };
        runtime.spawn_computing(Box::pin(self.computing.shares.fair(self.tenant, task)));
    }
}

impl<F: Future<Output: Send> + Send + 'static> Future for Turn<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let began = self.computing.runtime.poll_clock().map(|since| (since, thread_cpu()));
        if let Place::Here(turn) = &mut self.place {
            let polled = turn.as_mut().poll(context);
            // One that took long may have waited for the core.
            let took =
                began.filter(|(since, _)| since.elapsed() >= LONG).map_or(Duration::ZERO, |(_, cpu)| cpu_since(cpu));
            if took >= LONG {
                self.computing.beside.add(self.tenant, took);
            }
            match polled {
                Poll::Ready(output) => return Poll::Ready(Some(output)),
                Poll::Pending if took < LONG || planted("computing-beside-others") => return Poll::Pending,
                Poll::Pending => self.go(),
            }
        }
        let Place::There(output) = &mut self.place else { unreachable!("it went there above") };
        Pin::new(output).poll(context).map(Result::ok)
    }
}

/// Measures how long the polls of a task take together. Its output comes with that time.
pub(crate) struct Polled<'a, F> {
    runtime: &'a dyn Runtime,
    took: Duration,
    task: F,
}

impl<'a, F> Polled<'a, F> {
    pub(crate) fn new(runtime: &'a dyn Runtime, task: F) -> Self {
        Self { runtime, took: Duration::ZERO, task }
    }
}

impl<F: Future + Unpin> Future for Polled<'_, F> {
    type Output = (F::Output, Duration);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let since = self.runtime.poll_clock();
        let polled = Pin::new(&mut self.task).poll(context);
        self.took += since.map_or(Duration::ZERO, |since| since.elapsed());
        polled.map(|output| (output, self.took))
    }
}

/// The time that this thread has computed.
fn thread_cpu() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}

fn cpu_since(before: Duration) -> Duration {
    thread_cpu().saturating_sub(before)
}

/// Measures the longest poll of a task, in time of a core.
struct Measured<F> {
    runtime: Arc<dyn Runtime>,
    longest: Duration,
    task: Pin<Box<F>>,
}

impl<F: Future> Future for Measured<F> {
    type Output = (F::Output, Duration);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let before = self.runtime.poll_clock().map(|_| thread_cpu());
        let polled = self.task.as_mut().poll(context);
        self.longest = self.longest.max(before.map_or(Duration::ZERO, cpu_since));
        polled.map(|output| (output, self.longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::ThisRuntime;

    /// Computes for some milliseconds between yields; returns the names of the threads.
    async fn compute(ms: u64) -> Vec<String> {
        let mut threads = Vec::new();
        for _ in 0..2 {
            threads.push(std::thread::current().name().unwrap_or_default().to_owned());
            let before = thread_cpu();
            while cpu_since(before) < Duration::from_millis(ms) {
                std::hint::spin_loop();
            }
            tokio::task::yield_now().await;
        }
        threads
    }

    fn computing() -> Arc<Computing> {
        Arc::new(Computing::new(Arc::new(ThisRuntime), FairShares::new(1)))
    }

    #[tokio::test]
    async fn who_computes_for_long_does_so_elsewhere_until_it_no_longer_does() {
        let (computing, is_long) = (computing(), Arc::default());
        let run = async |ms| {
            let threads = computing.turn((TenantId(1), &is_long), compute(ms)).await.unwrap();
            threads.iter().map(|name| name == "computing").collect::<Vec<_>>()
        };
        assert_eq!(run(0).await, [false, false]);
        assert_eq!(run(20).await, [false, true]);
        assert_eq!(run(20).await, [true, true]);
        assert_eq!(run(0).await, [true, true], "it is not known yet that it became short");
        assert_eq!(run(0).await, [false, false]);
    }

    /// A tenant starts many that compute for long, each of which has to be met once.
    #[tokio::test]
    async fn many_that_are_not_known_yet_begin_elsewhere_while_other_tenants_are_there() {
        let computing = computing();
        let begins_beside_others = async || {
            let (computing, mut beside) = (computing.clone(), 0);
            for _ in 0..10 {
                let is_long = Arc::default();
                let threads = computing.turn((TenantId(1), &is_long), compute(10)).await.unwrap();
                beside += usize::from(threads[0] != "computing");
            }
            beside
        };
        assert_eq!(begins_beside_others().await, 10, "it delays nobody");
        for tenant in [1, 2] {
            computing.others.fair(TenantId(tenant), async {}).await;
        }
        // This second does not end, however slow the machine is.
        *computing.beside.0.lock().unwrap() = (Some(Instant::now() + Duration::from_hours(1)), BTreeMap::new());
        assert_eq!(begins_beside_others().await, 5);
        let (is_long, other) = (Arc::default(), TenantId(2));
        let threads = computing.turn((other, &is_long), compute(0)).await.unwrap();
        assert_ne!(threads[0], "computing", "the other tenant is served as ever");
    }

    /// A busy machine makes every guest slow, and low priority would make those wait that compute for a moment only.
    #[tokio::test]
    async fn who_only_waits_for_a_core_stays() {
        let (computing, is_long) = (computing(), Arc::default());
        let slow = async {
            for _ in 0..3 {
                std::thread::sleep(LONG * 2);
                tokio::task::yield_now().await;
            }
            std::thread::current().name().map(str::to_owned)
        };
        let thread = computing.turn((TenantId(1), &is_long), slow).await.unwrap();
        assert_ne!(thread.as_deref(), Some("computing"));
    }
}
