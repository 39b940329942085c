//! How far executions may run ahead of the log (L6), in events, bytes and time. At the limit their guests wait for the
//! log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cerebelum_history::Execution;

/// Bytes of one execution that may wait for the log.
const EXECUTION_BYTES_MAX: u64 = 1 << 20;
/// Bytes of all executions of a node that may wait for the log.
const NODE_BYTES_MAX: u64 = 64 << 20;
/// How long a batch may be in flight, in milliseconds, before the guests of its execution wait for it.
const LATE_MS: u64 = 50;

/// Whether so many bytes of an execution wait for the log that it records no further requests: while a batch is written,
/// the batches of all other executions wait.
pub(crate) fn is_far_ahead(execution: &Execution) -> bool {
    execution.unsaved_bytes() > EXECUTION_BYTES_MAX && !execution.is_durable()
}

/// The bytes of one execution that are not durable, counted together with those of the whole node.
pub(crate) struct RunAheadLimit {
    bytes: u64,
    node: Arc<AtomicU64>,
}

impl RunAheadLimit {
    pub(crate) fn new(node: Arc<AtomicU64>) -> Self {
        Self { bytes: 0, node }
    }

    fn count(&mut self, bytes: u64) {
        self.node.fetch_add(bytes, Ordering::Relaxed);
        self.node.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = bytes;
    }

    /// Whether so much waits for the log that no further guest of the execution may start.
    pub(crate) fn is_full(&mut self, execution: &Execution) -> bool {
        self.count(execution.unsaved_bytes());
        let is_much = self.bytes > EXECUTION_BYTES_MAX || self.node.load(Ordering::Relaxed) > NODE_BYTES_MAX;
        is_much && !execution.is_durable()
    }

    /// Whether the execution's guests have to wait for the log. `sent_ms` is the time since its batch was sent.
    pub(crate) fn is_exceeded(&mut self, execution: &Execution, events_max: usize, sent_ms: Option<u64>) -> bool {
        self.count(execution.unsaved_bytes());
        if execution.is_durable() {
            return false;
        }
        events_max == 0
            || execution.unsaved() > events_max
            || self.bytes > EXECUTION_BYTES_MAX
            || self.node.load(Ordering::Relaxed) > NODE_BYTES_MAX
            || sent_ms.is_some_and(|ms| ms > LATE_MS)
    }
}

impl Drop for RunAheadLimit {
    fn drop(&mut self) {
        self.count(0);
    }
}

#[cfg(test)]
mod tests {
    use cerebelum_history::{Digest, ExecutionOptions, Identity, Json, Position, Seed, Timestamp};

    use super::*;

    /// An execution that has written nothing yet.
    fn execution(input_bytes: usize) -> Execution {
        let identity = Identity {
            id: "e".parse().unwrap(),
            workflow: "c/w".to_owned(),
            digest: Digest::of(b"c"),
            seed: Seed([0; 32]),
            run: 1,
        };
        Execution::start(identity, Json::of(&"x".repeat(input_bytes)), ExecutionOptions::default(), Timestamp(1))
    }

    #[test]
    fn l06_guests_wait_for_the_log_at_each_bound() {
        let node = Arc::new(AtomicU64::new(0));
        let mut ahead = RunAheadLimit::new(node.clone());
        let (mut small, mut large) = (execution(10), execution(1 << 20));
        assert!(!ahead.is_exceeded(&small, 1_000, Some(LATE_MS)));
        assert!(ahead.is_exceeded(&small, 1_000, Some(LATE_MS + 1)), "its batch takes too long");
        assert!(ahead.is_exceeded(&small, 0, None), "strict");
        assert!(ahead.is_exceeded(&large, 1_000, None), "too many bytes of its own");
        assert!(is_far_ahead(&large) && !is_far_ahead(&small));
        node.fetch_add(NODE_BYTES_MAX, Ordering::Relaxed);
        assert!(ahead.is_exceeded(&small, 1_000, None), "too many bytes of all");
        for execution in [&mut small, &mut large] {
            let lsn = execution.take_changes().lsn;
            execution.acknowledge(lsn, Position(1));
            assert!(!ahead.is_exceeded(execution, 0, Some(LATE_MS + 1)), "everything is durable");
            assert!(!is_far_ahead(execution), "everything is durable");
        }
        drop(ahead);
        assert_eq!(node.load(Ordering::Relaxed), NODE_BYTES_MAX, "what is over is not counted");
    }
}
