//! A running guest. In each turn it gets one outcome, moves until it is quiescent, and returns what it asked for.
//!
//! Law L1 is implemented here. `Pending` alone does not mean quiescent: an epoch yield, a guest's own yield and the
//! event loop's housekeeping all return it while the guest can still move. All of them wake the waker that they were
//! given. So the waker is a flag of our own. If it was woken, the guest is polled again; if not, only a delivery can
//! move the guest.

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
use crate::{Account, GuestOwner, HostError, Moving, Program, trap};

/// A store and its permit. The store is dropped first, so that the memory is free when the permit is given back.
pub(crate) struct Instance {
    pub(crate) store: Store<State>,
    pub(crate) place: Arc<Permit>,
}

/// One guest, from its start to its end. Dropping it at any time hibernates it: nothing is recorded.
///
/// A `turn` that is dropped before it completes leaves the guest in an undefined state; drop the guest as well.
pub struct Guest {
    drive: GuestDriver<Returned>,
    place: Weak<Permit>,
    /// Dropped after the driver, which runs on what the program owns.
    _program: Program,
}

/// The result of an entry function.
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

    /// What the guest takes of the memory for guests, in bytes: linear memory, tables, contexts and stacks, whether touched or
    /// not.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.place.upgrade().map_or(0, |place| place.bytes())
    }

    /// Delivers the outcome of one call (nothing at first), lets the guest move until it is quiescent or has ended, and
    /// returns what it asked for. During a long computation it yields to other tasks of the runtime.
    ///
    /// A delivery for a call that the guest has dropped changes nothing.
    ///
    /// # Errors
    /// The engine's own faults; the guest is then unusable.
    pub async fn turn(&mut self, delivery: Option<Delivery>) -> Result<Turn, HostError> {
        self.drive.cpu.refill();
        self.take_turn(delivery).await
    }

    /// Like [`turn`](Self::turn), for a turn that an earlier guest took and that was recorded. It may take several
    /// times as long, so that a slower machine gets the same result.
    ///
    /// # Errors
    /// As for [`turn`](Self::turn).
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
                // The rest of the output is flushed first: it may hold a panic's message.
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
    // The store is dropped next, and with it the open calls. The guest did not ask to drop them.
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
    /// It waited for the ledger and was displaced by a guest of a workflow that uses less memory.
    Displaced,
}

/// The check that a guest passes before it moves. It waits for the ledger of host memory and keeps its permit, unless
/// it is displaced by a guest of a workflow that uses less memory.
pub(crate) struct MoveGate {
    pub(crate) account: Arc<Account>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) owner: GuestOwner,
}

impl MoveGate {
    /// Waits until the guest may move; none if it was displaced.
    async fn pass(&self) -> Option<Moving> {
        tokio::select! {
            biased;
            moving = self.account.moving() => Some(moving),
            () = self.admission.displaced(&self.owner) => None,
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

    /// Moves the guest until it is quiescent, ended or displaced.
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
                    // Dropped before the yield: an activation that waits for the database does not drive its guests. A
                    // guest that kept its turn meanwhile would keep all others from moving.
                    drop(moving);
                    tokio::task::yield_now().await;
                    // Other executions may have used up the ledger meanwhile.
                    let Some(again) = self.gate.pass().await else { return Progress::Displaced };
                    moving = again;
                    self.cpu.resume();
                }
                Poll::Pending => {}
            }
        }
    }

    /// Drops the guest's future. Its open calls are no longer wanted.
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

/// The private waker: a flag.
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
            owner: GuestOwner::default(),
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
