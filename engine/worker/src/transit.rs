//! Bounds on data in transit in host memory: from clients into the engine, and from the engine to the database.
//!
//! A batch is no longer in transit when the database has answered, whether or not its activation has taken the answer.
//! Data in transit waits only for the database, so every wait here ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::api::ApiError;

/// Each direction may take 1/`SHARE` of the ledger's bound.
const SHARE: u64 = 4;
/// The least that each direction may take, in bytes, so that the largest batch goes through.
const DIRECTION_BYTES_MIN: u64 = 16 << 20;
/// The fixed size that a batch or a request counts in addition to its values, in bytes.
const FLAT_BYTES: u64 = 1 << 10;
/// About how many copies of a value in transit are in memory: as received, as an event, as text, and in a statement.
const COPIES: u64 = 4;

/// The largest size that counts as small, in bytes. Small data does not wait for large data.
const SMALL_BYTES: u64 = 64 << 10;

/// A lane with a limited number of bytes; first come, first served.
struct ByteLane {
    free: Arc<Semaphore>,
    kib_max: u32,
    /// Bytes of the requests that wait. As many bytes may wait as may be in transit.
    waiting: AtomicU64,
}

/// One direction, with a lane for small data and one for large data, so that small data never waits for large data.
struct Direction {
    small: ByteLane,
    large: ByteLane,
}

/// A permit for data in transit, until it is dropped.
pub(crate) type TransitPermit = Option<OwnedSemaphorePermit>;

impl ByteLane {
    fn new(bytes_max: u64) -> Self {
        let kib_max = u32::try_from(bytes_max >> 10).unwrap_or(u32::MAX).min(u32::MAX >> 3);
        Self { free: Arc::new(Semaphore::new(kib_max as usize)), kib_max, waiting: AtomicU64::new(0) }
    }

    /// Data that is larger than the whole lane takes all of it.
    async fn enter(&self, bytes: u64) -> TransitPermit {
        let kib = u32::try_from(bytes.saturating_mul(COPIES).saturating_add(FLAT_BYTES) >> 10).unwrap_or(u32::MAX);
        self.free.clone().acquire_many_owned(kib.min(self.kib_max)).await.ok()
    }
}

impl Direction {
    fn new(ledger_bytes_max: u64) -> Self {
        let bytes_max = (ledger_bytes_max / SHARE).max(DIRECTION_BYTES_MIN);
        Self { small: ByteLane::new(bytes_max / SHARE), large: ByteLane::new(bytes_max) }
    }

    fn lane(&self, bytes: u64) -> &ByteLane {
        if bytes <= SMALL_BYTES { &self.small } else { &self.large }
    }
}

/// Both directions of a node.
pub(crate) struct Transit {
    writes: Direction,
    requests: Direction,
}

impl Transit {
    pub(crate) fn new(ledger_bytes_max: u64) -> Self {
        Self { writes: Direction::new(ledger_bytes_max), requests: Direction::new(ledger_bytes_max) }
    }

    /// Waits until this many bytes may be sent to the database.
    pub(crate) async fn to_write(&self, bytes: u64) -> TransitPermit {
        self.writes.lane(bytes).enter(bytes).await
    }

    /// Waits until a client's request with this many bytes may be processed.
    ///
    /// # Errors
    /// When too many bytes wait already.
    pub(crate) async fn for_request(&self, bytes: usize) -> Result<TransitPermit, ApiError> {
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

/// Counted while a request waits, also if the client disconnects.
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
        let transit = Transit::new(0);
        let mut under_way = Vec::new();
        while let Some(entered) = transit.for_request(1 << 20).now_or_never() {
            under_way.push(entered.unwrap());
        }
        assert_eq!(under_way.len(), 3, "four copies of each fit into 16 MiB three times");
        let mut waiting: Vec<_> = (0..15).map(|_| Box::pin(transit.for_request(1 << 20))).collect();
        for waits in &mut waiting {
            assert!(waits.now_or_never().is_none());
        }
        assert!(matches!(transit.for_request(1 << 20).now_or_never(), Some(Err(ApiError::Unavailable(_)))));
        assert!(
            matches!(transit.for_request(1 << 10).now_or_never(), Some(Ok(_))),
            "what is small is not refused for them"
        );
        under_way.pop();
        assert!(matches!((&mut waiting[0]).now_or_never(), Some(Ok(_))));
        drop(waiting);
        assert_eq!(transit.requests.large.waiting.load(Ordering::Relaxed), 0, "a request that is gone waits no longer");
    }

    #[tokio::test]
    async fn what_is_larger_than_its_lane_goes_alone() {
        let transit = Transit::new(0);
        let alone = transit.to_write(1 << 30).now_or_never();
        assert!(alone.is_some() && transit.to_write(1 << 20).now_or_never().is_none());
        assert!(transit.to_write(1).now_or_never().is_some(), "what is small does not wait for it");
        drop(alone);
        assert!(transit.to_write(1 << 20).now_or_never().is_some());
    }
}
