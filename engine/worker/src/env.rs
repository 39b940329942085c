//! The environment of a node: a store, a component loader, an HTTP client, and a runtime. The simulation replaces them
//! with models, so that a run can be repeated from its seed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cerebelum_history::{Delivery, Digest, Failure, GuestInput, HttpRequest, HttpResponse, Turn};
use cerebelum_sandbox::{
    Account, HostError, InspectError, Inspected, LoadError, Manifest, Sandbox, SandboxMetrics, SandboxUsage,
};
use cerebelum_store::Store;
use futures::FutureExt;
use futures::future::{AbortHandle, Abortable, BoxFuture, Either, select};
use tokio::sync::oneshot;

use crate::computing;
use crate::directory::NoProgram;
pub use crate::fetch::answer_memory::AnswerPermit;
use crate::grants::Grants;

/// Everything outside a node that it depends on.
#[derive(Clone)]
pub struct Env {
    /// Stores histories.
    pub store: Arc<dyn Store>,
    /// Loads and runs components.
    pub programs: Arc<dyn ComponentLoader>,
    /// Sends the requests of steps.
    pub web: Arc<dyn HttpClient>,
    /// Provides time, random numbers and tasks.
    pub runtime: Arc<dyn Runtime>,
}

/// Headers that the host adds to a request, unless the guest's request has them.
#[derive(Debug, Clone)]
pub struct HostHeaders {
    /// `Idempotency-Key`.
    pub key: String,
    /// `traceparent`, if the execution's spans are exported.
    pub traceparent: Option<String>,
    /// `tracestate`, which belongs to the `traceparent`.
    pub tracestate: Option<String>,
}

impl HostHeaders {
    /// The headers of a request that is part of no trace.
    #[must_use]
    pub fn of(key: impl Into<String>) -> Self {
        Self { key: key.into(), traceparent: None, tracestate: None }
    }
}

/// A future answer to an HTTP request.
pub type Fetching<'a> = BoxFuture<'a, Result<HttpResponse, Failure>>;

/// Prepares components for running.
pub trait ComponentLoader: Send + Sync {
    /// Inspects an uploaded component: checks it, compiles it and calls its `describe`.
    fn inspect(&self, bytes: Bytes) -> BoxFuture<'_, Result<Inspected, InspectError>>;
    /// Prepares a component. Its bytes are requested only when they are needed.
    fn load<'a>(
        &'a self,
        digest: &'a Digest,
        bytes: BoxFuture<'a, Result<Vec<u8>, NoProgram>>,
    ) -> BoxFuture<'a, Result<Arc<dyn Program>, LoadError<NoProgram>>>;
    /// Drops large programs that were not used since the last call. They are loaded again on demand.
    fn rest(&self);
    /// Removes the compiled form of a component from memory and disk. Guests that run it go on.
    fn forget(&self, digest: &Digest);
    /// Removes the compiled forms of components that are not in `known` and were compiled longer ago than `age`.
    fn forget_others(&self, known: &BTreeSet<Digest>, age: Duration);
    /// Waits until everything compiled so far is stored for the next process.
    fn kept(&self) -> BoxFuture<'_, ()>;
    /// The slots and the memory that guests have, and how many guests were started.
    fn usage(&self) -> SandboxUsage;
    /// What the loader measures of itself.
    fn metrics(&self) -> SandboxMetrics;
}

/// A component that is ready to run.
pub trait Program: Send + Sync {
    /// Its description of itself.
    fn manifest(&self) -> &Manifest;
    /// Creates a guest, waiting until there is a slot and memory for it. Its requests in a turn are held on its
    /// execution's account.
    fn start(&self, begin: GuestInput, account: Arc<Account>) -> BoxFuture<'_, Result<Box<dyn Guest>, HostError>>;
    /// How many workflows, or steps, were ever admitted from the line that this component's guests wait in.
    fn admitted(&self, is_workflow: bool) -> u64;
}

/// One guest, from its start to its end. Dropping it at any time hibernates it.
pub trait Guest: Send {
    /// Delivers one outcome (nothing at first) and lets the guest move until it is quiescent or has ended. A turn that
    /// `repeats` may take longer.
    fn turn(&mut self, delivery: Option<Delivery>, repeats: bool) -> BoxFuture<'_, Result<Turn, HostError>>;
    /// Its memory, in bytes.
    fn memory_bytes(&self) -> u64;
}

/// Sends HTTP requests.
pub trait HttpClient: Send + Sync {
    /// Waits until it is known what requests with these grants may reach and contain. This comes before the last look at the
    /// lease: [`HttpClient::fetch`] waits for no database any more.
    fn prepare<'a>(&'a self, _: &'a Grants) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }
    /// Whether that is known at this moment.
    fn is_prepared(&self, _: &Grants) -> bool {
        true
    }
    /// Sends a request with these headers of the host, as far as grants allow. `permit` counts the answer's memory before it
    /// is read.
    fn fetch<'a>(
        &'a self,
        request: HttpRequest,
        headers: &'a HostHeaders,
        grants: &'a Grants,
        permit: &'a mut AnswerPermit,
    ) -> Fetching<'a>;
}

/// Provides time, random numbers and tasks.
pub trait Runtime: Send + Sync {
    /// Milliseconds since the machine was booted, including suspended time. Changes of the wall clock do not move it.
    fn boot_ms(&self) -> u64;
    /// 64 random bits.
    fn chance(&self) -> u64;
    /// Returns after this duration.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
    /// Runs a task.
    fn spawn(&self, task: BoxFuture<'static, ()>);
    /// Runs a task that computes, with a lower priority where there is one.
    fn spawn_computing(&self, task: BoxFuture<'static, ()>) {
        self.spawn(task);
    }
    /// The time with which polls are measured; none where polls take no time.
    fn poll_clock(&self) -> Option<Instant> {
        None
    }
}

impl dyn Runtime + '_ {
    /// The result of `doing`, unless it takes longer than `limit`.
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
            // The receiver may be gone, and it does not matter whether the task was aborted.
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
    /// Ends the task and returns when none of it runs any more.
    pub(crate) async fn end(self) {
        self.abort.abort();
        // An error means that the runtime has dropped the task, which ends it as well.
        let _ = self.over.await;
    }
}

/// The runtime of this process: the machine's clock and tokio.
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

    fn spawn_computing(&self, task: BoxFuture<'static, ()>) {
        match computing::threads() {
            Some(threads) => drop(threads.spawn(task)),
            None => self.spawn(task),
        }
    }

    fn poll_clock(&self) -> Option<Instant> {
        Some(Instant::now())
    }
}

impl ComponentLoader for Sandbox {
    fn inspect(&self, bytes: Bytes) -> BoxFuture<'_, Result<Inspected, InspectError>> {
        Self::inspect(self, bytes).boxed()
    }

    fn load<'a>(
        &'a self,
        digest: &'a Digest,
        bytes: BoxFuture<'a, Result<Vec<u8>, NoProgram>>,
    ) -> BoxFuture<'a, Result<Arc<dyn Program>, LoadError<NoProgram>>> {
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

    fn usage(&self) -> SandboxUsage {
        Self::usage(self)
    }

    fn metrics(&self) -> SandboxMetrics {
        Self::metrics(self)
    }
}

impl Program for cerebelum_sandbox::Program {
    fn manifest(&self) -> &Manifest {
        Self::manifest(self)
    }

    fn start(&self, begin: GuestInput, account: Arc<Account>) -> BoxFuture<'_, Result<Box<dyn Guest>, HostError>> {
        async move { Ok(Box::new(Self::start(self, begin, account).await?) as Box<dyn Guest>) }.boxed()
    }

    fn admitted(&self, is_workflow: bool) -> u64 {
        Self::admitted(self, is_workflow)
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
