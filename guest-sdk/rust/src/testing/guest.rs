//! A guest that runs natively: after one delivery it moves until it is quiescent, and then returns its new calls.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as Poller, Poll, Wake, Waker};

use cerebelum_history::{Delivery, Failure, GuestInput, Json, Turn, kind};
use futures::future::LocalBoxFuture;

use crate::context::Context;
use crate::error::Result;
use crate::host::native::{Host, HostCalls, failure_of};

/// The function that a guest runs: a body of the crate under test, or a test's replacement.
pub(super) type Body = Rc<dyn Fn(Context, String) -> LocalBoxFuture<'static, Result<String>>>;

/// One guest. Dropping it is hibernation: nothing is recorded.
pub(super) struct Guest {
    desk: Rc<HostCalls>,
    future: LocalBoxFuture<'static, Result<String>>,
    woken: Arc<Woken>,
}

impl Guest {
    pub(super) fn new(begin: GuestInput, body: &Body) -> Self {
        let input = begin.input.as_str().to_owned();
        let desk = HostCalls::new(begin);
        let future = body(Context { host: Host(desk.clone()) }, input);
        Self { desk, future, woken: Arc::new(Woken(AtomicBool::new(false))) }
    }

    /// The same contract as that of the sandbox's guest, law L1 included: a guest that was woken is polled again.
    pub(super) fn turn(&mut self, delivery: Option<Delivery>) -> Turn {
        if let Some(delivery) = delivery {
            self.desk.deliver(delivery);
        }
        let waker = Waker::from(self.woken.clone());
        let end = loop {
            self.woken.0.store(false, Ordering::Relaxed);
            let polled = catch_unwind(AssertUnwindSafe(|| self.future.as_mut().poll(&mut Poller::from_waker(&waker))));
            match polled {
                Ok(Poll::Ready(result)) => break Some(result.map_err(failure_of).and_then(output)),
                Ok(Poll::Pending) if self.woken.0.load(Ordering::Relaxed) => {}
                Ok(Poll::Pending) if self.desk.has_open_call() => break None,
                Ok(Poll::Pending) => {
                    let why = "the guest waits, but for no call that is open: nothing can wake it";
                    break Some(Err(Failure::new(kind::DEADLOCK, why)));
                }
                Err(panic) => break Some(Err(Failure::retryable(kind::TRAP, panic_message(&*panic)))),
            }
        };
        if end.is_some() {
            self.desk.close();
        }
        Turn { requests: self.desk.take_requests(), end }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.desk.close();
    }
}

fn output(text: String) -> std::result::Result<Json, Failure> {
    Json::parse(text).map_err(|error| {
        let kind = match error {
            cerebelum_history::InvalidJson::TooLarge(_) => kind::OUTPUT_TOO_LARGE,
            cerebelum_history::InvalidJson::Malformed(_) | cerebelum_history::InvalidJson::TooDeep => {
                kind::INVALID_OUTPUT
            }
        };
        Failure::new(kind, format!("the output: {error}"))
    })
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panicked: {}", text.unwrap_or("without a message"))
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}
