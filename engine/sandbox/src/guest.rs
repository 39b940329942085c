//! One guest that runs: it is told one thing, moves until it is quiescent, and says what it asked for meanwhile.
//!
//! Law L1 lives here. `Pending` alone is not quiescence: an epoch yield, a guest's own yield and the event loop's
//! housekeeping all return it while the guest can still move, and all of them wake the waker they were given. So
//! the waker is our own, a flag: woken means poll again, not woken means that only a delivery can move the guest.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};

use cerebelum_history::{Delivery, Entry, Json, Turn, planted};
use wasmtime::Store;

use crate::admission::{Admission, Permit};
use crate::bindings::{ComponentPre, types};
use crate::cpu::Cpu;
use crate::host_calls::HostCalls;
use crate::state::State;
use crate::{Account, HostError, Moving, Program, trap};

/// A store and its place among the living; the store goes first, so that a place given back is truly free.
pub(crate) struct Instance {
    pub(crate) store: Store<State>,
    pub(crate) place: Arc<Permit>,
}

/// One guest, from its start to its end. Dropping it at any moment is hibernation: nothing is recorded.
///
/// A `turn` that is dropped half-way leaves the guest in the middle of it: drop the guest as well.
pub struct Guest {
    drive: GuestDriver<Returned>,
    place: Weak<Permit>,
    /// Outlives the drive: what it runs on is the program's.
    _program: Program,
}

/// What an entry function gives back.
type Returned = Result<String, types::Failure>;

impl Guest {
    pub(crate) fn new(
        (program, instance): (Program, Instance),
        pre: ComponentPre<State>,
        work: (Entry, Json),
        with: (Arc<Cpu>, MoveGate),
    ) -> Self {
        let calls = Arc::clone(&instance.store.data().calls);
        let place = Arc::downgrade(&instance.place);
        Self { drive: GuestDriver::new(calls, with, run(instance, pre, work)), place, _program: program }
    }

    /// What it takes of the node's memory, in bytes: its linear memory, whether it has touched all of it or not.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.place.upgrade().map_or(0, |place| place.bytes())
    }

    /// Tells the guest the outcome of one call (nothing at first), lets it move until it is quiescent or has ended,
    /// and returns what it asked for. While it computes for long, other tasks of the runtime get their share.
    ///
    /// A delivery for a call that the guest has dropped changes nothing.
    ///
    /// # Errors
    /// The engine's own trouble; the guest is then of no further use.
    pub async fn turn(&mut self, delivery: Option<Delivery>) -> Result<Turn, HostError> {
        self.drive.cpu.refill();
        self.take_turn(delivery).await
    }

    /// The same for a turn that an earlier guest has done and that was recorded: it may take several times as long, so that
    /// a slower machine comes to the same end.
    ///
    /// # Errors
    /// As above.
    pub async fn turn_again(&mut self, delivery: Option<Delivery>) -> Result<Turn, HostError> {
        self.drive.cpu.refill_for_repeat();
        self.take_turn(delivery).await
    }

    async fn take_turn(&mut self, delivery: Option<Delivery>) -> Result<Turn, HostError> {
        if self.drive.run.is_none() {
            return Err(HostError::Ended);
        }
        let calls = Arc::clone(&self.drive.calls);
        calls.begin_turn();
        if let Some(delivery) = delivery {
            calls.deliver(delivery)?;
        }
        let end = match self.drive.advance().await {
            Progress::Displaced => {
                self.drive.stop();
                return Err(HostError::Displaced);
            }
            Progress::Quiescent if calls.has_open_call() => None,
            Progress::Quiescent => {
                self.drive.stop();
                Some(Err(trap::deadlock(&calls)))
            }
            Progress::Ended(returned) => {
                // First the rest of its output: a panic's message may stand there.
                calls.flush_lines();
                Some(trap::of(returned, &calls)?)
            }
        };
        Ok(Turn { requests: calls.take_requests(), end })
    }
}

async fn run(mut instance: Instance, pre: ComponentPre<State>, work: (Entry, Json)) -> wasmtime::Result<Returned> {
    let calls = Arc::clone(&instance.store.data().calls);
    let returned = enter(&mut instance.store, pre, work, &calls).await;
    // The store is dropped next, and with it the calls that are still open: no wish of the guest.
    calls.close();
    returned
}

async fn enter(
    store: &mut Store<State>,
    pre: ComponentPre<State>,
    (entry, input): (Entry, Json),
    calls: &HostCalls,
) -> wasmtime::Result<Returned> {
    let instance = pre.instantiate_async(&mut *store).await?;
    calls.open_for_calls();
    let input = input.as_str().to_owned();
    let call = async |accessor: &wasmtime::component::Accessor<State>| {
        let guest = instance.cerebelum_guest_guest();
        match entry {
            Entry::Workflow(name) => guest.call_workflow(accessor, name, input).await,
            Entry::Step(name) => guest.call_step(accessor, name, input).await,
        }
    };
    store.run_concurrent(call).await?
}

/// How far a guest moved.
pub(crate) enum Progress<T> {
    /// Only a delivery can move it further.
    Quiescent,
    /// Its function returned, or it was stopped.
    Ended(wasmtime::Result<T>),
    /// It waited for the ledger, and a guest of a workflow that has less memory needs its place.
    Displaced,
}

/// What a guest passes before it moves: the ledger of host memory, for which it waits in its place unless a guest of a
/// workflow that has less memory needs that.
pub(crate) struct MoveGate {
    pub(crate) account: Arc<Account>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) workflow: String,
}

impl MoveGate {
    /// Waits until the guest may move; none when it has to go.
    async fn pass(&self) -> Option<Moving> {
        tokio::select! {
            biased;
            moving = self.account.moving() => Some(moving),
            () = self.admission.displaced(&self.workflow) => None,
        }
    }
}

/// Polls one guest's future until it is quiescent.
pub(crate) struct GuestDriver<T> {
    run: Option<Pin<Box<dyn Future<Output = wasmtime::Result<T>> + Send>>>,
    calls: Arc<HostCalls>,
    cpu: Arc<Cpu>,
    gate: MoveGate,
    woken: Arc<Woken>,
    waker: Waker,
}

impl<T> GuestDriver<T> {
    pub(crate) fn new(
        calls: Arc<HostCalls>,
        (cpu, gate): (Arc<Cpu>, MoveGate),
        run: impl Future<Output = wasmtime::Result<T>> + Send + 'static,
    ) -> Self {
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        Self { run: Some(Box::pin(run)), calls, cpu, gate, waker: Waker::from(Arc::clone(&woken)), woken }
    }

    /// Moves the guest as far as it can go by itself.
    pub(crate) async fn advance(&mut self) -> Progress<T> {
        let Some(mut moving) = self.gate.pass().await else { return Progress::Displaced };
        loop {
            let run = self.run.as_mut().expect("nobody advances a guest that has ended");
            self.woken.0.store(false, Ordering::Relaxed);
            let polled = run.as_mut().poll(&mut Context::from_waker(&self.waker));
            match polled {
                Poll::Ready(returned) => {
                    self.stop();
                    return Progress::Ended(returned);
                }
                Poll::Pending if !self.woken.0.load(Ordering::Relaxed) || planted("pending-is-quiescent") => {
                    return Progress::Quiescent;
                }
                Poll::Pending if self.cpu.take_gave_way() => {
                    // Given back before it waits: an activation that waits for the database does not drive its guests, and a
                    // guest that keeps the turn meanwhile would keep all others from moving.
                    drop(moving);
                    tokio::task::yield_now().await;
                    // What others have asked for meanwhile may be more than there is room for.
                    let Some(again) = self.gate.pass().await else { return Progress::Displaced };
                    moving = again;
                    self.cpu.resume();
                }
                Poll::Pending => {}
            }
        }
    }

    /// Lets the guest go; what it still waits for is no longer wanted by anybody.
    pub(crate) fn stop(&mut self) {
        self.calls.close();
        self.run = None;
    }
}

impl<T> Drop for GuestDriver<T> {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The private waker.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cerebelum_history::{Call, Outcome, Request, Timestamp};

    use super::*;
    use crate::Ledger;

    fn sleeper(calls: &Arc<HostCalls>) -> GuestDriver<()> {
        let on = Arc::clone(calls);
        let run = async move {
            on.open_for_calls();
            let mut first = on.issue(Call::Sleep { duration_ms: 1 }).expect("a first call is possible");
            let second = on.issue(Call::Sleep { duration_ms: 2 }).expect("a second call is possible");
            first.outcome().await;
            drop(second);
            let mut third = on.issue(Call::Sleep { duration_ms: 3 }).expect("a third call is possible");
            third.outcome().await;
            Ok(())
        };
        let gate = MoveGate {
            account: Ledger::new(1 << 20).account(),
            admission: Admission::new(1 << 20),
            workflow: String::new(),
        };
        GuestDriver::new(Arc::clone(calls), (Cpu::new(Duration::from_secs(1)), gate), run)
    }

    #[tokio::test]
    async fn a_dropped_call_is_a_request_and_a_hibernated_one_is_none() {
        let calls = HostCalls::new(0, &Ledger::new(1 << 20).account());
        let mut drive = sleeper(&calls);
        assert!(matches!(drive.advance().await, Progress::Quiescent));
        assert_eq!(calls.take_requests().len(), 2);
        let delivery = Delivery { ordinal: 1, outcome: Outcome::Slept, clock: Timestamp(1) };
        calls.deliver(delivery).expect("call 1 is a sleep and open");
        assert!(matches!(drive.advance().await, Progress::Quiescent));
        let requests = calls.take_requests();
        assert!(matches!(requests[..], [Request::Drop(2), Request::Call(3, _)]), "{requests:?}");
        drop(drive);
        assert_eq!(calls.take_requests(), [], "hibernation is no wish of the guest");
    }
}
