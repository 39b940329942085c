//! The attempts to run an execution that meets errors of the engine: the pauses between them, and when a person has to
//! look at the execution.

use std::time::Duration;

use cerebelum_history::Position;
use cerebelum_store::Claimed;
use tokio::sync::Notify;

use crate::activation_error::ActivationError;
use crate::node::Node;

/// The shortest pause before an execution is tried again.
pub(crate) const PAUSE_MIN: Duration = Duration::from_millis(200);
/// The longest pause. Each pause is twice as long as the one before.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// An error that may be the execution's own fault parks it after this many attempts without progress, …
const ATTEMPTS_MAX: u32 = 5;
/// … but only after this many lease durations, so that a fault of the whole database parks no execution.
const LEASES: u32 = 3;

/// The failed attempts to run one execution since its last progress.
#[derive(Default)]
pub(crate) struct Attempts {
    count: u32,
    /// The position of its history at the first of them.
    position: Option<Position>,
    /// The latest error that may be the execution's own fault, and when these errors began.
    own: Option<OwnErrors>,
}

struct OwnErrors {
    cause: String,
    is_hopeless: bool,
    count: u32,
    since_ms: u64,
    /// What was written to the database by then.
    writes: Writes,
}

/// How much a node has written to the database.
struct Writes {
    /// Events of executions.
    events: u64,
    renewals: u64,
}

impl Writes {
    fn of(node: &Node) -> Self {
        Self { events: node.metrics.writes.events.get(), renewals: node.lease.renewals() }
    }

    /// Whether the database has taken what others wrote since then. A renewal of the lease shows that only if this is the
    /// one execution that has trouble: a database that takes no events may still take renewals.
    fn are_behind_others(&self, node: &Node) -> bool {
        let now = Self::of(node);
        now.events > self.events || now.renewals > self.renewals && node.appender.suspects() <= 1
    }
}

impl Attempts {
    /// Counts an attempt that failed.
    pub(crate) fn failed(&mut self, node: &Node, error: ActivationError) {
        self.count += 1;
        let is_hopeless = matches!(error, ActivationError::Forbidden(_));
        let cause = match error {
            ActivationError::ClaimLost | ActivationError::Conflict | ActivationError::Unavailable(_) => {
                self.own = None;
                return;
            }
            ActivationError::Parked(cause) | ActivationError::Forbidden(cause) => cause,
            ActivationError::Rejected(cause) => {
                format!("the database does not take what would be written: {cause}")
            }
            ActivationError::Panic(cause) => format!("the engine made a mistake: {cause}"),
        };
        let (since_ms, writes) = (node.clock.boot_ms(), Writes::of(node));
        let begins = || OwnErrors { cause: String::new(), is_hopeless: false, count: 0, since_ms, writes };
        let own = self.own.get_or_insert_with(begins);
        own.is_hopeless = is_hopeless;
        own.count += 1;
        own.cause = cause;
    }

    /// Why this execution has to be parked; none while another attempt is worthwhile.
    pub(crate) fn why_park(&mut self, node: &Node, claimed: &Claimed) -> Option<String> {
        let position = claimed.head.position;
        if self.position.replace(position).is_some_and(|before| before != position) {
            *self = Self { position: Some(position), ..Self::default() };
        }
        let own = self.own.as_ref()?;
        let has_lasted = Duration::from_millis(node.clock.boot_ms() - own.since_ms) >= node.config.lease * LEASES;
        let others_are_written = own.writes.are_behind_others(node);
        let is_tried_enough = own.count >= ATTEMPTS_MAX && has_lasted && others_are_written;
        (own.is_hopeless || is_tried_enough).then(|| format!("engine-error: {}", own.cause))
    }

    /// Waits before the next attempt. A message for the execution shortens the wait.
    pub(crate) async fn pause(&self, node: &Node, nudge: &Notify) {
        node.runtime.sleep(PAUSE_MIN).await;
        let pause = pause_after(self.count, node.clock.moment().chance);
        tokio::select! {
            biased;
            () = node.runtime.sleep(pause) => {}
            () = nudge.notified() => {}
        }
    }
}

/// The part of the pause after so many failed attempts that a message may shorten: it follows [`PAUSE_MIN`]. By chance,
/// a number from 0 to 1, executions that stopped together do not resume together.
fn pause_after(attempts: u32, chance: f64) -> Duration {
    let doubled = PAUSE_MIN.saturating_mul(1 << attempts.min(16)).min(PAUSE_MAX).saturating_sub(PAUSE_MIN);
    doubled.mul_f64(0.5 + chance / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_get_longer_up_to_a_limit_and_differ_by_chance() {
        let of = |chance| [1, 2, 3, 6, 60, u32::MAX].map(|attempts| pause_after(attempts, chance).as_millis());
        assert_eq!(of(1.0), [200, 600, 1_400, 9_800, 9_800, 9_800]);
        assert_eq!(of(0.0), [100, 300, 700, 4_900, 4_900, 4_900]);
        assert!(pause_after(4, 0.3) < pause_after(4, 0.4));
    }
}
