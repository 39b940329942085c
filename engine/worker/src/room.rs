//! Bounds on what is on its way in host memory: from clients into the engine, and from the engine to the database.
//!
//! A batch leaves its way when the database has answered, whether or not its activation has taken the answer: what is on
//! its way waits for nothing but the database, so that all that wait here come to an end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::api::ApiError;

/// Each way may take this share of what the ledger may hold.
const SHARE: u64 = 4;
/// And this much in any case, in bytes: the largest batch goes through.
const WAY_BYTES_MIN: u64 = 16 << 20;
/// What a batch and a request count besides their values, in bytes.
const FLAT_BYTES: u64 = 1 << 10;
/// A value on its way stands in memory about so many times: as it came, as an event, as text, and in a statement.
const COPIES: u64 = 4;

/// What is no larger than this, in bytes, does not wait for what is.
const SMALL_BYTES: u64 = 64 << 10;

/// A way on which only so many bytes are at once; first come, first served.
struct ByteLane {
    free: Arc<Semaphore>,
    kib_max: u32,
    /// Bytes of requests that wait; as many may as are let in.
    waiting: AtomicU64,
}

/// A lane for what is small and one for what is large, so that the one never waits for the other.
struct Way {
    small: ByteLane,
    large: ByteLane,
}

/// Room on a way, until it is dropped.
pub(crate) type OnTheWay = Option<OwnedSemaphorePermit>;

impl ByteLane {
    fn new(bytes_max: u64) -> Self {
        let kib_max = u32::try_from(bytes_max >> 10).unwrap_or(u32::MAX).min(u32::MAX >> 3);
        Self { free: Arc::new(Semaphore::new(kib_max as usize)), kib_max, waiting: AtomicU64::new(0) }
    }

    /// What is larger than the whole lane goes alone.
    async fn enter(&self, bytes: u64) -> OnTheWay {
        let kib = u32::try_from(bytes.saturating_mul(COPIES).saturating_add(FLAT_BYTES) >> 10).unwrap_or(u32::MAX);
        self.free.clone().acquire_many_owned(kib.min(self.kib_max)).await.ok()
    }
}

impl Way {
    fn new(ledger_bytes_max: u64) -> Self {
        let bytes_max = (ledger_bytes_max / SHARE).max(WAY_BYTES_MIN);
        Self { small: ByteLane::new(bytes_max / SHARE), large: ByteLane::new(bytes_max) }
    }

    fn lane(&self, bytes: u64) -> &ByteLane {
        if bytes <= SMALL_BYTES { &self.small } else { &self.large }
    }
}

/// Both ways of a node.
pub(crate) struct Room {
    writes: Way,
    requests: Way,
}

impl Room {
    pub(crate) fn new(ledger_bytes_max: u64) -> Self {
        Self { writes: Way::new(ledger_bytes_max), requests: Way::new(ledger_bytes_max) }
    }

    /// Waits until so many bytes may be on their way to the database.
    pub(crate) async fn to_write(&self, bytes: u64) -> OnTheWay {
        self.writes.lane(bytes).enter(bytes).await
    }

    /// Waits until a request of a client with so many bytes may be worked on.
    ///
    /// # Errors
    /// When too many bytes wait already.
    pub(crate) async fn for_request(&self, bytes: usize) -> Result<OnTheWay, ApiError> {
        let lane = self.requests.lane(bytes as u64);
        let (bytes, waiting_max) = (bytes as u64 + FLAT_BYTES, u64::from(lane.kib_max) << 10);
        let waiting = QueuedBytes { waiting: &lane.waiting, bytes };
        if lane.waiting.fetch_add(bytes, Ordering::Relaxed) + bytes > waiting_max {
            return Err(ApiError::Unavailable(format!(
                "requests with {waiting_max} bytes wait already: try again, with fewer at once"
            )));
        }
        let entered = lane.enter(bytes).await;
        drop(waiting);
        Ok(entered)
    }
}

/// Counted while it waits, also when the client goes.
struct QueuedBytes<'r> {
    waiting: &'r AtomicU64,
    bytes: u64,
}

impl Drop for QueuedBytes<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn requests_wait_for_each_other_and_too_many_are_refused() {
        let room = Room::new(0);
        let mut under_way = Vec::new();
        while let Some(entered) = room.for_request(1 << 20).now_or_never() {
            under_way.push(entered.unwrap());
        }
        assert_eq!(under_way.len(), 3, "four copies of each fit into 16 MiB three times");
        let mut waiting: Vec<_> = (0..15).map(|_| Box::pin(room.for_request(1 << 20))).collect();
        for waits in &mut waiting {
            assert!(waits.now_or_never().is_none());
        }
        assert!(matches!(room.for_request(1 << 20).now_or_never(), Some(Err(ApiError::Unavailable(_)))));
        assert!(
            matches!(room.for_request(1 << 10).now_or_never(), Some(Ok(_))),
            "what is small is not refused for them"
        );
        under_way.pop();
        assert!(matches!((&mut waiting[0]).now_or_never(), Some(Ok(_))));
        drop(waiting);
        assert_eq!(room.requests.large.waiting.load(Ordering::Relaxed), 0, "a request that is gone waits no longer");
    }

    #[tokio::test]
    async fn what_is_larger_than_the_way_goes_alone() {
        let room = Room::new(0);
        let alone = room.to_write(1 << 30).now_or_never();
        assert!(alone.is_some() && room.to_write(1 << 20).now_or_never().is_none());
        assert!(room.to_write(1).now_or_never().is_some(), "what is small does not wait for it");
        drop(alone);
        assert!(room.to_write(1 << 20).now_or_never().is_some());
    }
}
