//! The admission of guests: a guest that starts waits for a slot, and asks idle guests to leave.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cerebelum_history::{Entry, GuestInput, planted};
use cerebelum_sandbox::{Account, GuestOwner, HostError};
use tokio::sync::Notify;

use crate::env::{Guest, Program};
use crate::eviction::EvictionPriority;
use crate::node::Node;

/// A guest that was admitted.
pub(crate) struct Admitted {
    pub(crate) guest: Box<dyn Guest>,
    /// The time of its admission, by the machine's boot-time clock in milliseconds.
    pub(crate) since_ms: u64,
}

/// Counts the starting guests that wait for admission.
#[derive(Default)]
pub(crate) struct WaitingGuests {
    count: AtomicUsize,
    more: Notify,
}

impl WaitingGuests {
    /// How many guests wait.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Returns when one more guest waits.
    pub(crate) async fn one_more(&self) {
        self.more.notified().await;
    }
}

/// Counts a guest while it waits for admission.
struct Waits(Arc<WaitingGuests>);

impl Waits {
    fn new(waiting: &Arc<WaitingGuests>) -> Self {
        waiting.count.fetch_add(1, Ordering::Relaxed);
        waiting.more.notify_one();
        Self(waiting.clone())
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How long a start may wait for admission before other guests are asked to leave.
const WAIT_MIN: Duration = Duration::from_millis(20);

/// A guest that has waited long asks more rarely; otherwise thousands of them would ask all the time.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// A guest that has asked for more than this many evictions also asks, urgently, guests of workflows with more idle
/// memory.
const ASKED_MAX: u32 = 4;

/// A workflow that has waited this long for admission asks another execution of the same workflow to leave, if that
/// one's guest was admitted as long ago. Executions that are never idle share the slots in this way. A displaced guest
/// is rerun, so a shorter time would cost more reruns.
const SLICE_MS: u64 = 10_000;

/// How a guest that waits for admission asks idle guests to leave: twice as many each time, at growing intervals.
///
/// While other steps are admitted, a step asks none before it has waited for [`WAIT_MAX`], and then only guests
/// that have waited as long. Most of the others are workflows whose steps wait in the same line, and the cost of
/// rerunning them is at the expense of those steps.
struct EvictionBackoff {
    is_step: bool,
    wait: Duration,
    /// How long the guest has waited, without the current wait.
    waited: Duration,
    wanted: u32,
    /// How many steps had been admitted at the last check.
    admitted: u64,
    /// The number of the last guest that had become idle when this one started to wait.
    latest: u64,
}

impl EvictionBackoff {
    fn new(is_step: bool, admitted: u64, latest: u64) -> Self {
        // Some slots are reserved for steps: when none of them is free, the machine is more likely busy than stuck.
        let wait = if is_step { WAIT_MIN * 9 } else { Duration::ZERO };
        Self { is_step, wait, waited: Duration::ZERO, wanted: 1, admitted, latest }
    }

    fn request(&self) -> EvictionPriority {
        if self.is_step { EvictionPriority::Urgent } else { EvictionPriority::Polite }
    }

    /// Called when the guest has waited in vain; `admitted` is the number of steps admitted so far. Returns how many
    /// guests to ask, and the highest number of an idle guest to ask; none if no guest is to be asked.
    fn ask(&mut self, admitted: u64) -> (u32, Option<u64>) {
        let line_moves = self.is_step && std::mem::replace(&mut self.admitted, admitted) != admitted;
        let up_to = match line_moves {
            false => Some(u64::MAX),
            true => Some(self.latest).filter(|_| self.wait == WAIT_MAX),
        };
        let wanted = self.wanted;
        self.waited += self.wait;
        self.wanted = wanted.saturating_mul(2);
        self.wait = (self.wait * 2).clamp(WAIT_MIN, WAIT_MAX);
        (wanted, up_to)
    }

    /// Whether executions of the same workflow have to share their slots with this one.
    fn is_due(&self) -> bool {
        !self.is_step && self.waited >= Duration::from_millis(SLICE_MS)
    }
}

/// Starts a guest. When all slots are taken, idle guests are asked to leave. An execution that waits for a slot must
/// not keep a slot that it can do without; otherwise all executions could wait for each other.
pub(crate) async fn start(
    node: &Node,
    waiting: &Arc<WaitingGuests>,
    (program, account, owner): (Arc<dyn Program>, Arc<Account>, GuestOwner),
    begin: GuestInput,
) -> Result<Admitted, HostError> {
    let runtime = &node.runtime;
    let began = runtime.poll_clock();
    let admitted = |started: Result<_, _>| {
        began.inspect(|began| node.metrics.guests.start.observe(began.elapsed().as_secs_f64()));
        started.map(|guest| Admitted { guest, since_ms: runtime.boot_ms() })
    };
    let is_step = matches!(begin.entry, Entry::Step(_));
    let mut start = std::pin::pin!(program.start(begin, account));
    if let Some(started) = runtime.within(WAIT_MIN, &mut start).await {
        return admitted(started);
    }
    let _waits = Waits::new(waiting);
    let mut backoff = EvictionBackoff::new(is_step, program.admitted(false), node.idle_guests.latest());
    let mut timed = None;
    loop {
        if let Some(started) = runtime.within(backoff.wait, &mut start).await {
            return admitted(started);
        }
        // Timed anew whenever another guest of its line has got a place: this one waits for its turn then, perhaps behind
        // thousands of its own tenant.
        let so_far = program.admitted(!is_step);
        if timed.as_ref().is_none_or(|(before, _)| *before != so_far) {
            timed = Some((so_far, node.liveness.waits("a guest for a place")));
        }
        let (wanted, up_to) = backoff.ask(program.admitted(false));
        if let Some(up_to) = up_to {
            node.idle_guests.evict(wanted, backoff.request(), up_to);
        }
        if wanted > ASKED_MAX {
            node.idle_guests.evict_among_others(wanted, &owner);
        }
        if backoff.is_due() && !planted("places-not-shared") {
            node.idle_guests.evict_among_same(&owner, runtime.boot_ms().saturating_sub(SLICE_MS));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For the first six requests: how long the guest waits before it, how many guests it asks, and up to which number.
    fn asks(is_step: bool, line_moves: bool) -> Vec<(u128, u32, Option<u64>)> {
        let mut backoff = EvictionBackoff::new(is_step, 0, 7);
        let mut ask = |admitted| {
            let waited = backoff.wait.as_millis();
            let (wanted, up_to) = backoff.ask(admitted);
            (waited, wanted, up_to)
        };
        (1..=6).map(|number| ask(if line_moves { number } else { 0 })).collect()
    }

    #[test]
    fn a_step_whose_line_moves_asks_late_and_only_those_that_wait_as_long() {
        let all = Some(u64::MAX);
        let standing = [(180, 1), (360, 2), (720, 4), (1_000, 8), (1_000, 16), (1_000, 32)];
        assert_eq!(asks(true, false), standing.map(|(waited, wanted)| (waited, wanted, all)));
        let up_to = [None, None, None, Some(7), Some(7), Some(7)];
        let moving: Vec<_> =
            standing.iter().zip(up_to).map(|((waited, wanted), up_to)| (*waited, *wanted, up_to)).collect();
        assert_eq!(asks(true, true), moving);
        let workflow =
            [(0, 1), (20, 2), (40, 4), (80, 8), (160, 16), (320, 32)].map(|(waited, wanted)| (waited, wanted, all));
        assert_eq!((asks(false, false), asks(false, true)), (workflow.to_vec(), workflow.to_vec()));
    }
}
