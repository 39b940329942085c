//! Takes the requests of guests, a bounded number at a time, so that no round takes long and no batch is huge.

use cerebelum_history::{Request, Scope};

use crate::activation::Activation;
use crate::activation_error::ActivationError;
use crate::guests::{PendingRequests, Stopped, TurnEnd};

/// How many requests of guests are taken in one round, so that no round takes long.
const ROUND_REQUESTS_MAX: usize = 256;
/// How many events may wait for the next batch. Beyond that no more requests are taken, so that no batch is huge.
const BATCH_EVENTS_MAX: usize = 128;

impl Activation {
    /// Queues the requests of a guest that stopped, and its result if it has ended.
    pub(crate) fn take_turn(&mut self, stopped: Stopped) -> Result<(), ActivationError> {
        let (guest, turn) = match stopped.outcome? {
            TurnEnd::Complete(guest, turn) => (guest, turn),
            TurnEnd::Displaced => {
                self.give_way(vec![stopped.scope]);
                return Ok(());
            }
        };
        self.node.metrics.turns.inc();
        let requests = turn.requests.into_iter();
        self.guests.ask(PendingRequests { scope: stopped.scope, guest, requests, end: turn.end, _held: stopped.held });
        Ok(())
    }

    /// Whether there are requests to take and the batch for their events is not full.
    pub(crate) fn may_take_requests(&self) -> bool {
        self.guests.any_asking() && self.execution.untaken() < BATCH_EVENTS_MAX
    }

    /// Whether there are requests that cannot be taken before the next batch is sent.
    pub(crate) fn requests_await_batch(&self) -> bool {
        self.guests.any_asking() && self.execution.untaken() >= BATCH_EVENTS_MAX
    }

    /// Takes the requests of guests, one guest after the other, up to the limit of a round.
    pub(crate) async fn take_requests(&mut self) -> Result<(), ActivationError> {
        let mut left = ROUND_REQUESTS_MAX;
        while left > 0 && self.may_take_requests() {
            let Some(mut asking) = self.guests.asking() else { break };
            for request in asking.requests.by_ref().take(left) {
                left -= 1;
                self.take_request(&asking.scope, request).await?;
            }
            if !asking.requests.as_slice().is_empty() {
                self.guests.ask_on(asking);
                continue;
            }
            left = left.saturating_sub(1);
            let PendingRequests { scope, guest, end, .. } = asking;
            match (end, guest) {
                (Some(result), _) => self.execution.ended(&scope, result, self.node.clock.moment())?,
                (None, Some(guest)) => {
                    let repeats = (self.execution.calls_of(&scope), self.execution.waits_durably(&scope));
                    self.guests.keep((scope.clone(), &self.head.workflow), guest, repeats);
                    self.execution.quiescent(&scope);
                }
                (None, None) => {}
            }
        }
        self.weigh();
        Ok(())
    }

    async fn take_request(&mut self, scope: &Scope, request: Request) -> Result<(), ActivationError> {
        let mut target = None;
        if let Some(named) = self.execution.needs_target(scope, &request) {
            let from = self.execution.component(scope).clone();
            target = Some(self.node.directory.target(self.key.tenant, &from, named).await?);
        }
        self.execution.request(scope, request, target, self.node.clock.moment())?;
        Ok(())
    }
}
