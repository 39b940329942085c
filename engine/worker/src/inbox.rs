//! The inbox of one activation: each stored message is received once.

use std::collections::BTreeSet;
use std::sync::Arc;

use cerebelum_history::{Execution, Message, Position};
use cerebelum_store::{ExecutionKey, InboxCursor, InboxRow};
use futures::FutureExt;
use tokio::sync::Notify;

use crate::activation_error::ActivationError;
use crate::clock::Clock;
use crate::node::Node;
use crate::stored_history::StoredHistory;

/// The messages that an activation has received.
pub(crate) struct Inbox {
    received: BTreeSet<i64>,
    /// Notified when a message may have been stored. A nudge carries nothing (L10): messages are read from the store.
    nudge: Arc<Notify>,
}

impl Inbox {
    pub(crate) fn new(nudge: Arc<Notify>) -> Self {
        Self { received: BTreeSet::new(), nudge }
    }

    /// The number of the newest message received.
    pub(crate) fn newest(&self) -> InboxCursor {
        InboxCursor(self.received.last().copied().unwrap_or(0))
    }

    /// Returns when a message may have been stored.
    pub(crate) async fn nudged(&self) {
        self.nudge.notified().await;
    }

    /// Receives the stored messages that were not received yet.
    pub(crate) async fn read(
        &mut self,
        node: &Node,
        key: &ExecutionKey,
        execution: &mut Execution,
    ) -> Result<(), ActivationError> {
        // A nudge from before this read is for messages that it finds.
        let _ = self.nudge.notified().now_or_never();
        let rows = node.store.unseen(key).await?;
        self.receive(node, rows, execution)
    }

    /// Receives these messages, unless they were received before.
    pub(crate) fn receive(
        &mut self,
        node: &Node,
        rows: Vec<InboxRow>,
        execution: &mut Execution,
    ) -> Result<(), ActivationError> {
        let mut messages = Vec::new();
        for row in rows {
            if self.received.insert(row.seq) {
                let message: Message = serde_json::from_str(&row.message).map_err(|e| {
                    ActivationError::Parked(format!("corrupt-history: a message that cannot be read: {e}"))
                })?;
                messages.push((row, message));
            }
        }
        if messages.iter().any(|(_, message)| message.reopens()) {
            execution.expect_reopening();
        }
        for (row, message) in messages {
            execution.receive(row.seq, row.seen, message, node.clock.moment());
        }
        Ok(())
    }
}

/// After an operator has resumed a failed execution, opens the call that failed again.
pub(crate) async fn reopen_if_asked(
    execution: &mut Execution,
    history: &StoredHistory,
    clock: &Clock,
) -> Result<(), ActivationError> {
    if !execution.is_reopening() {
        return Ok(());
    }
    let events = history.events(Position(1), execution.saved()).await?;
    execution.reopen_if_asked(&events, clock.moment()).map_err(ActivationError::Parked)
}
