//! What a node stands on: a store, programs, the web, and the machine. The simulation puts models of them in their
//! place, so that a run can be repeated from its seed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cerebelum_history::{Delivery, Digest, Failure, GuestInput, HttpRequest, HttpResponse, Turn};
use cerebelum_sandbox::{Account, HostError, InspectError, Inspected, LoadError, Manifest, Sandbox};
use cerebelum_store::Store;
use futures::FutureExt;
use futures::future::{AbortHandle, Abortable, BoxFuture, Either, select};
use tokio::sync::oneshot;

pub use crate::fetch::Room;

/// Everything a node reaches for outside of itself.
#[derive(Clone)]
pub struct Env {
    /// Where histories are kept.
    pub store: Arc<dyn Store>,
    /// What runs guests.
    pub programs: Arc<dyn ComponentLoader>,
    /// What answers the requests of steps.
    pub web: Arc<dyn HttpClient>,
    /// What counts time, draws chance and runs tasks.
    pub runtime: Arc<dyn Runtime>,
}

/// What a component declares it wants of the outside world.
#[derive(Debug, Clone, Default)]
pub struct Grants {
    /// Hosts, as declared.
    pub hosts: Vec<String>,
    /// Names of secrets.
    pub secrets: Vec<String>,
}

/// An answer to come.
pub type Fetching<'a> = BoxFuture<'a, Result<HttpResponse, Failure>>;

/// Makes components ready to run.
pub trait ComponentLoader: Send + Sync {
    /// Checks an uploaded component and asks it what it is.
    fn inspect(&self, bytes: Bytes) -> BoxFuture<'_, Result<Inspected, InspectError>>;
    /// Makes a component ready; its bytes are asked for only when they are needed.
    fn load<'a>(
        &'a self,
        digest: &'a Digest,
        bytes: BoxFuture<'a, Result<Vec<u8>, String>>,
    ) -> BoxFuture<'a, Result<Arc<dyn Program>, LoadError<String>>>;
    /// Lets go of what nobody has used since the last call and what takes much memory; it is loaded again on demand.
    fn rest(&self);
    /// Removes the compiled form of a component from memory and disk; guests that run it go on.
    fn forget(&self, digest: &Digest);
    /// Removes the compiled forms of components that are not among these and were compiled longer ago than that.
    fn forget_others(&self, known: &BTreeSet<Digest>, age: Duration);
    /// Waits until what was compiled so far is kept for the next process.
    fn kept(&self) -> BoxFuture<'_, ()>;
    /// Guests that live now.
    fn live(&self) -> usize;
    /// Guests started so far.
    fn started(&self) -> u64;
}

/// A component that is ready to run.
pub trait Program: Send + Sync {
    /// What it says about itself.
    fn manifest(&self) -> &Manifest;
    /// Makes a guest, waiting while there is no place for it. What it asks for in a turn is held on its execution's account.
    fn start(&self, begin: GuestInput, account: Arc<Account>) -> BoxFuture<'_, Result<Box<dyn Guest>, HostError>>;
    /// How many steps have ever found places, of those that stand in one line with the steps of this component.
    fn steps_admitted(&self) -> u64;
}

/// One guest, from its start to its end; dropping it at any moment is hibernation.
pub trait Guest: Send {
    /// Tells it one outcome (nothing at first) and lets it move until it is quiescent or has ended; longer if that `repeats`.
    fn turn(&mut self, delivery: Option<Delivery>, repeats: bool) -> BoxFuture<'_, Result<Turn, HostError>>;
    /// Its memory, in bytes.
    fn memory_bytes(&self) -> u64;
}

/// Answers HTTP requests.
pub trait HttpClient: Send + Sync {
    /// Sends a request with this default `Idempotency-Key`, as far as grants allow. `room` counts the answer's memory first.
    fn fetch<'a>(&'a self, request: HttpRequest, key: &'a str, grants: &'a Grants, room: &'a mut Room) -> Fetching<'a>;
}

/// What counts time, draws chance and runs tasks.
pub trait Runtime: Send + Sync {
    /// Milliseconds since it was started, suspended time included; wall clocks do not move it.
    fn boot_ms(&self) -> u64;
    /// Bits of chance.
    fn chance(&self) -> u64;
    /// Comes back after that long.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
    /// Runs a task.
    fn spawn(&self, task: BoxFuture<'static, ()>);
}

impl dyn Runtime + '_ {
    /// What comes of this, unless it takes longer than that.
    pub(crate) async fn within<T>(&self, limit: Duration, doing: impl Future<Output = T>) -> Option<T> {
        match select(std::pin::pin!(doing), self.sleep(limit)).await {
            Either::Left((done, _)) => Some(done),
            Either::Right(((), _)) => None,
        }
    }

    /// Runs a task that can be ended from outside.
    pub(crate) fn run(&self, task: impl Future<Output = ()> + Send + 'static) -> Running {
        let (abort, registration) = AbortHandle::new_pair();
        let (done, over) = oneshot::channel();
        let task = Abortable::new(task, registration);
        self.spawn(Box::pin(async move {
            // Whoever wanted to know may be gone, and whether it was ended does not matter.
            let _ = task.await;
            let _ = done.send(());
        }));
        Running { abort, over }
    }
}

/// A task that can be ended from outside.
pub(crate) struct Running {
    abort: AbortHandle,
    over: oneshot::Receiver<()>,
}

impl Running {
    /// Ends it; comes back when nothing of it moves any more.
    pub(crate) async fn end(self) {
        self.abort.abort();
        // An error says that its machine has dropped it, which is an end as well.
        let _ = self.over.await;
    }
}

/// The machine this process runs on.
pub(crate) struct ThisRuntime;

impl Runtime for ThisRuntime {
    fn boot_ms(&self) -> u64 {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let whole = u64::try_from(time.tv_sec).unwrap_or(0) * 1_000;
        whole + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000
    }

    fn chance(&self) -> u64 {
        rand::random()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(duration).boxed()
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }
}

impl ComponentLoader for Sandbox {
    fn inspect(&self, bytes: Bytes) -> BoxFuture<'_, Result<Inspected, InspectError>> {
        Self::inspect(self, bytes).boxed()
    }

    fn load<'a>(
        &'a self,
        digest: &'a Digest,
        bytes: BoxFuture<'a, Result<Vec<u8>, String>>,
    ) -> BoxFuture<'a, Result<Arc<dyn Program>, LoadError<String>>> {
        async move { Ok(Arc::new(Self::load(self, digest, bytes).await?) as Arc<dyn Program>) }.boxed()
    }

    fn rest(&self) {
        Self::rest(self);
    }

    fn forget(&self, digest: &Digest) {
        Self::forget(self, digest);
    }

    fn forget_others(&self, known: &BTreeSet<Digest>, age: Duration) {
        Self::forget_others(self, known, age);
    }

    fn kept(&self) -> BoxFuture<'_, ()> {
        Self::kept(self).boxed()
    }

    fn live(&self) -> usize {
        Self::live(self)
    }

    fn started(&self) -> u64 {
        Self::started(self)
    }
}

impl Program for cerebelum_sandbox::Program {
    fn manifest(&self) -> &Manifest {
        Self::manifest(self)
    }

    fn start(&self, begin: GuestInput, account: Arc<Account>) -> BoxFuture<'_, Result<Box<dyn Guest>, HostError>> {
        async move { Ok(Box::new(Self::start(self, begin, account).await?) as Box<dyn Guest>) }.boxed()
    }

    fn steps_admitted(&self) -> u64 {
        Self::steps_admitted(self)
    }
}

impl Guest for cerebelum_sandbox::Guest {
    fn turn(&mut self, delivery: Option<Delivery>, repeats: bool) -> BoxFuture<'_, Result<Turn, HostError>> {
        if repeats { self.turn_again(delivery).boxed() } else { Self::turn(self, delivery).boxed() }
    }

    fn memory_bytes(&self) -> u64 {
        Self::memory_bytes(self)
    }
}
