//! Guests that compute for long do so on threads of their own, with a lower priority: requests, timers and the turns of
//! other guests never wait for them.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use cerebelum_history::planted;
use cerebelum_sandbox::thread_cpu;
use cerebelum_store::TenantId;
use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime as Threads};
use tokio::sync::oneshot;

use crate::env::Runtime;
use crate::shares::FairShares;

/// A poll that takes this long of a core's time is a long one. Guests yield every 10 ms.
const LONG: Duration = Duration::from_millis(5);
/// How much of each second the guests of a tenant may compute in long polls beside others. Beyond it, those that nothing is
/// known of begin among the computing ones: many that arrive together would each take a tick.
const BESIDE_OTHERS: Duration = Duration::from_millis(50);

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
        Self { runtime, shares: FairShares::new(), others, beside: BesideOthers::default() }
    }

    /// The beginning of a turn of a guest of this tenant, of whose turns so far this is known.
    pub(crate) fn begin(self: &Arc<Self>, tenant: TenantId, lengths: &Arc<TurnLengths>) -> Begin {
        Begin { computing: self.clone(), tenant, lengths: lengths.clone(), moves: Arc::default() }
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
        let (since, took) = &mut *self.0.lock();
        if since.is_none_or(|since| now - since >= Duration::from_secs(1)) {
            (*since, *took) = (Some(now), BTreeMap::new());
        }
        took.get(&tenant).copied().unwrap_or_default()
    }

    fn add(&self, tenant: TenantId, took: Duration) {
        let (_, tenants) = &mut *self.0.lock();
        *tenants.entry(tenant).or_default() += took;
    }
}

/// What is known of how long the turns of an execution's guests compute.
#[derive(Default)]
pub(crate) struct TurnLengths {
    is_known: AtomicBool,
    /// Whether the last turn computed for long.
    is_long: AtomicBool,
}

impl TurnLengths {
    fn learn(&self, is_long: bool) {
        self.is_long.store(is_long, Ordering::Relaxed);
        self.is_known.store(true, Ordering::Relaxed);
    }
}

/// The beginning of a guest's turn.
#[derive(Clone)]
pub(crate) struct Begin {
    computing: Arc<Computing>,
    tenant: TenantId,
    lengths: Arc<TurnLengths>,
    /// Whether the turn goes on among the computing ones.
    moves: Arc<AtomicBool>,
}

impl Begin {
    /// Awaited in the turn before the guest computes. One that nothing is known of does not compute beside others once its
    /// tenant has delayed them enough. It has its place by then: nobody waits for a place behind it.
    pub(crate) async fn give_way(&self) {
        if !self.lengths.is_known.load(Ordering::Relaxed) && self.computing.took_enough(self.tenant) {
            self.moves.store(true, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    }

    /// Runs a guest's turn: on the task that polls it, and among the computing ones after a long poll. What is known is kept
    /// from one turn to the next: whoever computed for long begins its next turn there.
    pub(crate) fn turn<F: Future<Output: Send> + Send + 'static>(self, turn: F) -> Turn<F> {
        let is_long = self.lengths.is_long.load(Ordering::Relaxed);
        let mut turn = Turn { begin: self, place: Place::Here(Box::pin(turn)) };
        if is_long {
            turn.go();
        }
        turn
    }
}

/// A guest's turn, wherever it runs. None when the threads for computing are gone.
pub(crate) struct Turn<F: Future> {
    begin: Begin,
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
        let Begin { computing, tenant, lengths, .. } = self.begin.clone();
        let runtime = computing.runtime.clone();
        let measured = Measured { runtime: runtime.clone(), longest: Duration::ZERO, task: turn };
        let task = async move {
            let (output, longest) = measured.await;
            lengths.learn(longest >= LONG);
            // An activation that is gone does not need it.
            let _ = done.send(output);
        };
        runtime.spawn_computing(Box::pin(computing.shares.fair(tenant, task)));
    }
}

impl<F: Future<Output: Send> + Send + 'static> Future for Turn<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let began = self.begin.computing.runtime.poll_clock().map(|since| (since, thread_cpu()));
        if let Place::Here(turn) = &mut self.place {
            let polled = turn.as_mut().poll(context);
            // One that took long may have waited for the core.
            let took =
                began.filter(|(since, _)| since.elapsed() >= LONG).map_or(Duration::ZERO, |(_, cpu)| cpu_since(cpu));
            let is_long = took >= LONG;
            if is_long {
                self.begin.computing.beside.add(self.begin.tenant, took);
            }
            let moves = is_long && !planted("computing-beside-others");
            match polled {
                Poll::Ready(output) => {
                    if !is_long {
                        self.begin.lengths.learn(false);
                    }
                    return Poll::Ready(Some(output));
                }
                Poll::Pending if moves || self.begin.moves.swap(false, Ordering::Relaxed) => self.go(),
                Poll::Pending => return Poll::Pending,
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
        Arc::new(Computing::new(Arc::new(ThisRuntime), FairShares::new()))
    }

    /// The names of the threads of a turn.
    async fn turn(computing: &Arc<Computing>, tenant: i32, lengths: &Arc<TurnLengths>, ms: u64) -> Vec<String> {
        let begin = computing.begin(TenantId(tenant), lengths);
        let begins = begin.clone();
        let turn = async move {
            begins.give_way().await;
            compute(ms).await
        };
        begin.turn(turn).await.unwrap()
    }

    #[tokio::test]
    async fn who_computes_for_long_does_so_elsewhere_until_it_no_longer_does() {
        let (computing, lengths) = (computing(), Arc::default());
        let run = async |ms| {
            let threads = turn(&computing, 1, &lengths, ms).await;
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
        let (computing, short) = (computing(), Arc::default());
        let all_at_once = async || {
            let turns = (0..10).map(|_| async { turn(&computing, 1, &Arc::default(), 10).await[0] != "computing" });
            futures::future::join_all(turns).await.into_iter().filter(|is_beside| *is_beside).count()
        };
        turn(&computing, 1, &short, 0).await;
        assert_eq!(all_at_once().await, 10, "it delays nobody");
        for tenant in [1, 2] {
            computing.others.fair(TenantId(tenant), async {}).await;
        }
        // This second does not end, however slow the machine is.
        *computing.beside.0.lock() = (Some(Instant::now() + Duration::from_hours(1)), BTreeMap::new());
        assert_eq!(all_at_once().await, 5);
        let first =
            async |tenant, lengths: &Arc<TurnLengths>| turn(&computing, tenant, lengths, 0).await.swap_remove(0);
        assert_ne!(first(1, &short).await, "computing", "it is known to be short");
        assert_eq!(first(1, &Arc::default()).await, "computing");
        assert_ne!(first(2, &Arc::default()).await, "computing", "the other tenant is served as ever");
    }

    /// A busy machine makes every guest slow, and low priority would make those wait that compute for a moment only.
    #[tokio::test]
    async fn who_only_waits_for_a_core_stays() {
        let (computing, lengths) = (computing(), Arc::default());
        let slow = async {
            for _ in 0..3 {
                std::thread::sleep(LONG * 2);
                tokio::task::yield_now().await;
            }
            std::thread::current().name().map(str::to_owned)
        };
        let thread = computing.begin(TenantId(1), &lengths).turn(slow).await.unwrap();
        assert_ne!(thread.as_deref(), Some("computing"));
    }
}
