//! The engine's own trouble with an execution: how often it is tried again, and when a person has to look.

use std::fmt::{Display, Formatter, Result as FmtResult};
use std::time::Duration;

use cerebelum_history::Position;
use cerebelum_store::Claimed;
use tokio::sync::mpsc;

use crate::node::Node;

/// The least pause before an execution is tried again.
pub(crate) const PAUSE_MIN: Duration = Duration::from_millis(200);
/// The longest; each pause is twice as long as the one before.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// What can be this execution's own fault parks it after so many attempts without progress, …
const ATTEMPTS_MAX: u32 = 5;
/// … and not before so many leases have passed, so that trouble of the whole database parks nobody.
const LEASES: u32 = 3;

/// Why an activation could not go on; nothing of it is the guest's failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EngineError {
    /// Something the engine needs is not there just now.
    Passing(String),
    /// The database does not take what would be written, not even by itself.
    Rejected(String),
    /// The tables' own rules forbid what would be written: another attempt would end in the same way.
    Forbidden(String),
    /// A mistake of the engine.
    Panic(String),
}

impl Display for EngineError {
    fn fmt(&self, f: &mut Formatter<'_>) -> FmtResult {
        let (Self::Passing(cause) | Self::Rejected(cause) | Self::Forbidden(cause) | Self::Panic(cause)) = self;
        f.write_str(cause)
    }
}

/// The troubles of one execution since it last made progress.
#[derive(Default)]
pub(crate) struct EngineErrors {
    count: u32,
    /// Where its history stood at the first of them.
    position: Option<Position>,
    /// The last one that may be the execution's own fault, and how it began.
    own: Option<Own>,
}

struct Own {
    why: String,
    is_hopeless: bool,
    attempts: u32,
    since_ms: u64,
    /// How often the database had taken something by then.
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

    /// Why this execution has to be parked; none while it is worth another attempt.
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

    /// Waits before the next attempt; a message for the execution shortens the wait.
    pub(crate) async fn pause(&self, node: &Node, nudges: &mut mpsc::UnboundedReceiver<()>) {
        node.runtime.sleep(PAUSE_MIN).await;
        let doubled = PAUSE_MIN.saturating_mul(1 << self.count.min(16)).min(PAUSE_MAX).saturating_sub(PAUSE_MIN);
        // Those that stopped together do not come back together.
        let pause = doubled.mul_f64(0.5 + node.clock.moment().chance / 2.0);
        tokio::select! {
            biased;
            () = node.runtime.sleep(pause) => {}
            Some(()) = nudges.recv() => {}
        }
    }
}

/// How often the database has taken something of this node.
fn taken(node: &Node) -> u64 {
    node.metrics.commits.get() + node.lease.renewals()
}
