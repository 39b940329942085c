//! Sweeps over unclaimed executions, so that none of them stands still unnoticed.

use std::sync::Arc;
use std::time::Duration;

use cerebelum_store::{ClaimFilter, Claimed, Size};

use crate::restore;
use crate::scheduler::Scheduler;

/// How many executions are checked together.
const PAGE: u32 = 256;
/// After each page the sweep pauses for this many times as long as the page took, so that it uses a tenth of the time
/// at most.
const PAUSE_FACTOR: u32 = 9;
/// The shortest pause.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// The pause between two rounds.
const BETWEEN: Duration = Duration::from_secs(10);

/// Sweeps over all executions, round after round, forever.
pub(crate) async fn keep_sweeping(scheduler: Arc<Scheduler>) {
    let node = scheduler.node.clone();
    let mut after = 0;
    loop {
        let began_ms = node.clock.boot_ms();
        let next = match node.store.sweep(after, PAGE).await {
            Ok(page) => {
                node.metrics.executions.parked_by_sweep(page.parked);
                wake(&scheduler, page.sound).await;
                page.next
            }
            Err(error) => {
                tracing::debug!(%error, "cannot sweep");
                None
            }
        };
        let took = Duration::from_millis(node.clock.boot_ms() - began_ms);
        let pause = (took * PAUSE_FACTOR).max(PAUSE_MIN);
        node.runtime.sleep(if next.is_some() { pause } else { pause.max(BETWEEN) }).await;
        after = next.unwrap_or(0);
    }
}

/// Activates executions whose rows are due at another time than their open calls say. The activation computes the due
/// time again, or parks the execution.
async fn wake(scheduler: &Arc<Scheduler>, sound: Vec<Claimed>) {
    let node = &scheduler.node;
    for claimed in sound.into_iter().filter(waits_for_the_wrong_thing) {
        let has_room = scheduler.size() == Some(Size::Any) && scheduler.has_place(claimed.head.key.tenant);
        let Some(incarnation) = node.lease.incarnation().filter(|_| has_room) else { continue };
        match node.store.claim(incarnation, ClaimFilter::One(claimed.head.key)).await {
            Ok(claimed) => {
                for claimed in claimed {
                    let id = &claimed.head.key;
                    tracing::warn!(execution = %id, "its row says that it waits for something else: looking");
                    scheduler.activate(incarnation, claimed);
                }
            }
            Err(error) => {
                node.lease.lose_if_unknown(&error);
                return;
            }
        }
    }
}

fn waits_for_the_wrong_thing(claimed: &Claimed) -> bool {
    let row = &claimed.head;
    if !row.settled || row.parked.is_some() {
        return false;
    }
    match restore::execution(claimed) {
        Ok(execution) => execution.due() != row.due,
        // The activation parks it.
        Err(_) => true,
    }
}
