//! What wakes an activation: an answer, a guest, a message, a request of another guest, or time.

use std::time::Duration;

use cerebelum_history::{Execution, Scope};

use crate::appender::{Appended, CLAIM_LOST};
use crate::commit::ExecutionLog;
use crate::guests::{Guests, Stopped};
use crate::inbox::Inbox;
use crate::node::Node;
use crate::record::may_record;
use crate::requests::{FetchAnswer, Requests};

/// An event that an activation waits for.
pub(crate) enum Wakeup {
    /// Guests have made more requests than one round records.
    Requests,
    Stopped(Stopped),
    Fetched(FetchAnswer),
    Committed(Option<Appended>),
    Nudged,
    Due,
    TimedOut(Scope),
    /// Guests are asked to leave their slots.
    EvictionAsked,
    Idle,
}

/// The parts of an activation that can wake it.
pub(crate) struct Sources<'a> {
    pub(crate) node: &'a Node,
    pub(crate) execution: &'a Execution,
    pub(crate) log: &'a mut ExecutionLog,
    pub(crate) guests: &'a mut Guests,
    pub(crate) requests: &'a mut Requests,
    pub(crate) inbox: &'a Inbox,
}

impl Sources<'_> {
    /// The next event. An execution that has nothing to do is idle after the time `idle`.
    pub(crate) async fn next(self, idle: Option<Duration>) -> Wakeup {
        let alarm = self.next_alarm(idle);
        let Sources { node, execution, log, guests, requests, inbox } = self;
        let (incarnation, may_record) = (log.incarnation, may_record(guests, execution));
        let (eviction_asked, one_more_waits) = (guests.eviction_asked(), guests.one_more_waits());
        let alarm = async {
            let Some((left, wakeup)) = alarm else { return std::future::pending().await };
            node.runtime.sleep(left).await;
            wakeup
        };
        tokio::select! {
            biased;
            () = node.lease.ended(incarnation) => Wakeup::Committed(Some(Err(CLAIM_LOST))),
            answer = log.answer() => Wakeup::Committed(answer),
            () = std::future::ready(()), if may_record => Wakeup::Requests,
            Some(stopped) = guests.next_stopped() => Wakeup::Stopped(stopped),
            Some(answer) = requests.next() => Wakeup::Fetched(answer),
            () = inbox.nudged() => Wakeup::Nudged,
            () = eviction_asked => Wakeup::EvictionAsked,
            // Other guests may move meanwhile.
            () = one_more_waits => Wakeup::Due,
            wakeup = alarm => wakeup,
        }
    }

    /// The next event that time alone brings, and how soon.
    fn next_alarm(&self, idle: Option<Duration>) -> Option<(Duration, Wakeup)> {
        let due = self.execution.due().map(|due| (self.node.clock.until(due), Wakeup::Due));
        let overrun = self.guests.next_overrun().map(|(left, scope)| (left, Wakeup::TimedOut(scope)));
        let idle = idle.map(|idle| (idle, Wakeup::Idle));
        let held = self.log.hold_left(self.guests.any_running()).map(|left| (left, Wakeup::Due));
        [due, overrun, idle, held].into_iter().flatten().min_by_key(|(left, _)| *left)
    }
}
