//! Clocks that show the time of the last delivery. Waiting on them is a durable sleep.

use std::sync::Arc;
use std::time::Duration;

use cerebelum_history::Call;
use wasmtime::component::Resource;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::clocks::HostWallClock;
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock;
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};

use crate::host_calls::{HostCalls, PendingCall};
use crate::state::State;
use cerebelum_history::WAIT_MS_MAX;

const NS_PER_MS: u64 = 1_000_000;

/// The time of day, as of the last delivery.
pub(crate) struct WallClock(pub(crate) Arc<HostCalls>);

impl HostWallClock for WallClock {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.0.clock_ms())
    }
}

impl monotonic_clock::Host for State {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(self.calls.monotonic_ns())
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(NS_PER_MS)
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let deadline = Deadline { calls: Arc::clone(&self.calls), due_ns: when, sleep: None };
        let deadline = self.table.push(deadline)?;
        subscribe(&mut self.table, deadline)
    }

    fn subscribe_duration(&mut self, duration: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.subscribe_instant(self.calls.monotonic_ns().saturating_add(duration))
    }
}

/// A point in time that a guest waits for through WASI: `std::thread::sleep`, Python's `time.sleep`.
struct Deadline {
    calls: Arc<HostCalls>,
    due_ns: u64,
    /// Kept between polls, so that polling twice issues one sleep.
    sleep: Option<PendingCall>,
}

#[async_trait]
impl Pollable for Deadline {
    async fn ready(&mut self) {
        loop {
            if let Some(sleep) = &mut self.sleep {
                sleep.outcome().await;
                self.sleep = None;
            }
            let left_ns = self.due_ns.saturating_sub(self.calls.monotonic_ns());
            if left_ns == 0 {
                return;
            }
            let duration_ms = left_ns.div_ceil(NS_PER_MS).min(WAIT_MS_MAX);
            match self.calls.issue(Call::Sleep { duration_ms }) {
                Ok(sleep) => self.sleep = Some(sleep),
                Err(refusal) => {
                    // WASI offers no way to report a failure here. The wait never ends, and `HostCalls` keeps the
                    // reason.
                    self.calls.refuse_wait(refusal);
                    std::future::pending().await
                }
            }
        }
    }
}
