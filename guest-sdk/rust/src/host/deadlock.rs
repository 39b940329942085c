//! Detects a guest that waits for nothing, and makes that a failure of its own kind instead of a trap.

use std::cell::Cell;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as Poller, Poll, Wake, Waker};

use crate::error::{Error, Result};

/// How often durable calls may be polled in vain before the guest has to return to its caller. A guest that awaits its
/// calls never comes near it; an executor of its own, such as `block_on`, would otherwise compute until the CPU limit.
const POLLS_IN_VAIN_MAX: usize = 1_000_000;

thread_local! {
    /// Durable calls under way. A component instance runs one workflow or step, so there is one count.
    static OPEN: Cell<usize> = const { Cell::new(0) };
    /// Polls in vain since the guest was last polled or one of its calls completed.
    static IN_VAIN: Cell<usize> = const { Cell::new(0) };
}

/// Waits for a durable call, and counts it as open meanwhile.
///
/// # Panics
/// When the guest keeps polling its calls instead of returning to its caller.
pub(super) async fn open<T>(call: impl Future<Output = T>) -> T {
    struct Counted;
    impl Drop for Counted {
        fn drop(&mut self) {
            OPEN.set(OPEN.get() - 1);
        }
    }
    OPEN.set(OPEN.get() + 1);
    let _counted = Counted;
    let mut call = pin!(call);
    std::future::poll_fn(|poller| {
        let polled = call.as_mut().poll(poller);
        IN_VAIN.set(if polled.is_pending() { IN_VAIN.get() + 1 } else { 0 });
        assert!(
            IN_VAIN.get() <= POLLS_IN_VAIN_MAX,
            "a durable call cannot complete while the guest keeps polling it: `.await` it instead of handing it to an \
             executor such as `futures::executor::block_on` or a tokio runtime"
        );
        polled
    })
    .await
}

/// Runs a guest to its end, or until it is pending without an open call and without a wake: it could never move again.
pub(super) async fn keep(guest: impl Future<Output = Result<String>>) -> Result<String> {
    let mut guest = pin!(guest);
    let noticed = Arc::new(Noticed { woken: AtomicBool::new(false), task: Mutex::new(None) });
    let waker = Waker::from(noticed.clone());
    std::future::poll_fn(move |poller| poll(guest.as_mut(), poller, (&noticed, &waker))).await
}

fn poll(
    guest: Pin<&mut impl Future<Output = Result<String>>>,
    poller: &mut Poller<'_>,
    (noticed, waker): (&Noticed, &Waker),
) -> Poll<Result<String>> {
    let mut task = noticed.task.lock().unwrap_or_else(PoisonError::into_inner);
    if !task.as_ref().is_some_and(|task| task.will_wake(poller.waker())) {
        *task = Some(poller.waker().clone());
    }
    drop(task);
    IN_VAIN.set(0);
    noticed.woken.store(false, Ordering::Relaxed);
    match guest.poll(&mut Poller::from_waker(waker)) {
        Poll::Pending if OPEN.get() == 0 && !noticed.woken.load(Ordering::Relaxed) => {
            let why = "the guest waits, but for no call that is open: nothing can wake it";
            Poll::Ready(Err(Error::new("deadlock", why).permanent()))
        }
        polled => polled,
    }
}

/// Passes every wake on, and remembers that there was one.
struct Noticed {
    woken: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Wake for Noticed {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Relaxed);
        if let Some(task) = &*self.task.lock().unwrap_or_else(PoisonError::into_inner) {
            task.wake_by_ref();
        }
    }
}
