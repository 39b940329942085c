//! The engine's own faults with an execution: how often it is tried again, and when it is parked for a person.

use std::fmt::{Display, Formatter, Result as FmtResult};
use std::time::Duration;

use cerebelum_history::Position;
use cerebelum_store::Claimed;
use tokio::sync::mpsc;

use crate::node::Node;

/// The shortest pause before an execution is tried again.
pub(crate) const PAUSE_MIN: Duration = Duration::from_millis(200);
/// The longest pause. Each pause is twice as long as the one before.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// An error that may be the execution's own fault parks it after this many attempts without progress, …
const ATTEMPTS_MAX: u32 = 5;
/// … but only after this many lease durations, so that a fault of the whole database parks no execution.
const LEASES: u32 = 3;

/// Why an activation could not go on. None of these is the guest's failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EngineError {
    /// A resource that the engine needs is temporarily unavailable.
    Passing(String),
    /// The database rejects the batch, even by itself.
    Rejected(String),
    /// The constraints of the tables forbid the batch: another attempt would have the same result.
    Forbidden(String),
    /// A bug in the engine.
    Panic(String),
}

impl Display for EngineError {
    fn fmt(&self, f: &mut Formatter<'_>) -> FmtResult {
        let (Self::Passing(cause) | Self::Rejected(cause) | Self::Forbidden(cause) | Self::Panic(cause)) = self;
        f.write_str(cause)
    }
}

/// The errors of one execution since its last progress.
#[derive(Default)]
pub(crate) struct EngineErrors {
    count: u32,
    /// The position of its history at the first of these errors.
    position: Option<Position>,
    /// The latest error that may be the execution's own fault, and when these errors began.
    own: Option<Own>,
}

struct Own {
    why: String,
    is_hopeless: bool,
    attempts: u32,
    since_ms: u64,
    /// The number of successful writes to the database when these errors began.
    taken: u64,
}

impl EngineErrors {
    pub(crate) fn one_more(&mut self, node: &Node, trouble: EngineError) {
        self.count += 1;
        let is_hopeless = matches!(trouble, EngineError::Forbidden(_));
        let why = match trouble {
            EngineError::Passing(_) => {
                self.own = None;
                return;
            }
            EngineError::Forbidden(cause) => cause,
            EngineError::Rejected(cause) => format!("the database does not take what would be written: {cause}"),
            EngineError::Panic(cause) => format!("the engine made a mistake: {cause}"),
        };
        let (since_ms, taken) = (node.clock.boot_ms(), taken(node));
        let begins = || Own { why: String::new(), is_hopeless: false, attempts: 0, since_ms, taken };
        let own = self.own.get_or_insert_with(begins);
        own.is_hopeless = is_hopeless;
        own.attempts += 1;
        own.why = why;
    }

    /// Why this execution has to be parked; none while another attempt is worthwhile.
    pub(crate) fn why_park(&mut self, node: &Node, claimed: &Claimed) -> Option<String> {
        let position = claimed.head.position;
        if self.position.replace(position).is_some_and(|before| before != position) {
            *self = Self { position: Some(position), ..Self::default() };
        }
        let own = self.own.as_ref()?;
        let has_lasted = Duration::from_millis(node.clock.boot_ms() - own.since_ms) >= node.config.lease * LEASES;
        let others_are_taken = taken(node) > own.taken;
        let is_tried_enough = own.attempts >= ATTEMPTS_MAX && has_lasted && others_are_taken;
        (own.is_hopeless || is_tried_enough).then(|| format!("engine-error: {}", own.why))
    }

    /// Waits before the next attempt. A message for the execution shortens the wait.
    pub(crate) async fn pause(&self, node: &Node, nudges: &mut mpsc::UnboundedReceiver<()>) {
        node.runtime.sleep(PAUSE_MIN).await;
        let doubled = PAUSE_MIN.saturating_mul(1 << self.count.min(16)).min(PAUSE_MAX).saturating_sub(PAUSE_MIN);
        // Executions that stopped together do not resume together.
        let pause = doubled.mul_f64(0.5 + node.clock.moment().chance / 2.0);
        tokio::select! {
            biased;
            () = node.runtime.sleep(pause) => {}
            Some(()) = nudges.recv() => {}
        }
    }
}

/// The number of successful writes of this node to the database.
fn taken(node: &Node) -> u64 {
    node.metrics.commits.get() + node.lease.renewals()
}
