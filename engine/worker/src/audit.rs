//! Looks at executions that nobody has claimed, so that none of them stands still in silence.

use std::sync::Arc;
use std::time::Duration;

use cerebelum_store::{Claimed, Size};

use crate::node::Node;
use crate::restore;

/// How many are looked at together.
const PAGE: u32 = 256;
/// After each page this engine does something else for so many times as long as it took: a tenth of its time at most.
const REST: u32 = 9;
/// The shortest pause.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// Between two rounds.
const BETWEEN: Duration = Duration::from_secs(10);

/// Audits all executions, round after round, for ever.
pub(crate) async fn keep_auditing(node: Arc<Node>) {
    let mut after = 0;
    loop {
        let began_ms = node.clock.boot_ms();
        let next = match node.store.audit(after, PAGE).await {
            Ok(page) => {
                node.metrics.parked.add(page.parked);
                wake(&node, page.sound).await;
                page.next
            }
            Err(error) => {
                tracing::debug!(%error, "cannot audit");
                None
            }
        };
        let took = Duration::from_millis(node.clock.boot_ms() - began_ms);
        let rest = (took * REST).max(PAUSE_MIN);
        node.runtime.sleep(if next.is_some() { rest } else { rest.max(BETWEEN) }).await;
        after = next.unwrap_or(0);
    }
}

/// Takes those into memory whose rows say that they wait for something else than their open calls do: there it is worked
/// out anew, or found to be impossible.
async fn wake(node: &Arc<Node>, sound: Vec<Claimed>) {
    for claimed in sound.into_iter().filter(waits_for_the_wrong_thing) {
        let Some(incarnation) = node.lease.incarnation().filter(|_| node.room() == Some(Size::Any)) else { return };
        match node.store.claim_one(incarnation, &claimed.head.key).await {
            Ok(Some(claimed)) => {
                tracing::warn!(execution = %claimed.head.key.id, "its row says that it waits for something else: looking");
                node.activate(incarnation, claimed);
            }
            Ok(None) => {}
            Err(error) => {
                node.lease.lose_if_unknown(&error);
                return;
            }
        }
    }
}

fn waits_for_the_wrong_thing(claimed: &Claimed) -> bool {
    let head = &claimed.head;
    if !head.settled || head.parked.is_some() {
        return false;
    }
    match restore::execution(claimed) {
        Ok(execution) => execution.due() != head.due,
        // It is parked when it is taken into memory.
        Err(_) => true,
    }
}
