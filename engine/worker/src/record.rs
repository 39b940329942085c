//! Records the requests of guests, a bounded number at a time, so that no round takes long and no batch is huge.

use cerebelum_history::{Execution, Failure, kind};
use cerebelum_store::TenantId;

use crate::activation_error::ActivationError;
use crate::api::ApiError;
use crate::guests::{Guests, PendingRequests};
use crate::node::Node;
use crate::run_ahead::is_far_ahead;

/// How many requests of guests are recorded in one round, so that no round takes long.
const ROUND_REQUESTS_MAX: usize = 256;
/// How many events may wait for the next batch. Beyond that no more requests are recorded, so that no batch is huge.
const BATCH_EVENTS_MAX: usize = 128;

/// Whether there are requests to record and the batch for their events is not full.
pub(crate) fn may_record(guests: &Guests, execution: &Execution) -> bool {
    guests.any_pending() && !batch_is_full(execution)
}

/// Whether there are requests that cannot be recorded before the next batch is sent.
pub(crate) fn awaits_batch(guests: &Guests, execution: &Execution) -> bool {
    guests.any_pending() && batch_is_full(execution)
}

fn batch_is_full(execution: &Execution) -> bool {
    execution.untaken() >= BATCH_EVENTS_MAX || is_far_ahead(execution)
}

/// Records the requests of guests, one guest after the other, up to the limit of a round.
pub(crate) async fn record(
    node: &Node,
    (tenant, execution): (TenantId, &mut Execution),
    guests: &mut Guests,
) -> Result<(), ActivationError> {
    let mut left = ROUND_REQUESTS_MAX;
    while left > 0 && may_record(guests, execution) {
        let Some(mut pending) = guests.next_pending() else { break };
        while left > 0 && !is_far_ahead(execution) {
            let Some(request) = pending.requests.next() else { break };
            left -= 1;
            let target = match execution.needs_target(&pending.scope, &request) {
                Some((name, is_step)) => {
                    let from = execution.component(&pending.scope).clone();
                    let mut found = node.directory.target(tenant, &from, (name, is_step)).await?;
                    if found.is_ok()
                        && !is_step
                        && let Err(refusal) = admit_child(node, tenant).await
                    {
                        found = Err(refusal);
                    }
                    Some(found)
                }
                None => None,
            };
            execution.request(&pending.scope, request, target, node.clock.moment())?;
        }
        if !pending.requests.as_slice().is_empty() {
            guests.put_back(pending);
            continue;
        }
        left = left.saturating_sub(1);
        let PendingRequests { scope, guest, end, .. } = pending;
        match (end, guest) {
            (Some(result), _) => execution.ended(&scope, result, node.clock.moment())?,
            (None, Some(guest)) => {
                let repeats = (execution.calls_of(&scope), execution.waits_durably(&scope));
                guests.keep(scope.clone(), guest, repeats);
                execution.quiescent(&scope);
            }
            (None, None) => {}
        }
    }
    Ok(())
}

/// Refuses a child of a tenant that has as many open executions as it may.
async fn admit_child(node: &Node, tenant: TenantId) -> Result<(), Failure> {
    let usage = node.usages.of(tenant);
    match usage.admit_child((&*node.store, tenant), node.runtime.boot_ms()).await {
        Err(ApiError::Quota(why)) => Err(Failure::retryable(kind::QUOTA, why)),
        // While the database does not answer, nothing is counted, and nothing is stored either.
        _ => Ok(()),
    }
}
