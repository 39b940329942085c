//! Retries of operations that are safe to repeat, while the database is away.

use std::time::{Duration, Instant};

use crate::db_error::{DbError, ErrorClass, error_class};
use crate::error::StoreError;

/// The longest time for retries: longer than a reconnection to the database, and shorter than half a lease.
const RETRIES_MAX: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(320);

/// The longest time for retries of an operation that its caller repeats.
const BRIEF_RETRIES_MAX: Duration = Duration::from_millis(500);

/// The pauses between the attempts of one operation, and the time at which it gives up.
pub(crate) struct Backoff {
    began: Instant,
    patience: Duration,
    pause: Duration,
    unknown: bool,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), patience: RETRIES_MAX, pause: FIRST_PAUSE, unknown: false }
    }

    /// The same for an operation that its caller repeats. It gives up soon, unless the answer to a COMMIT was lost: only
    /// the operation itself can find out what became of it.
    pub(crate) fn brief() -> Self {
        Self { patience: BRIEF_RETRIES_MAX, ..Self::new() }
    }

    /// Waits before the next attempt.
    ///
    /// # Errors
    /// The given error, if another attempt cannot help or the time is up. Once the answer to a COMMIT was lost, the
    /// outcome stays unknown.
    pub(crate) async fn wait(&mut self, fault: DbError) -> Result<(), DbError> {
        let passing = match &fault {
            DbError::Store(StoreError::Unknown(_)) => {
                (self.unknown, self.patience) = (true, RETRIES_MAX);
                true
            }
            DbError::Store(_) => false,
            DbError::Database(error) => error_class(error) == ErrorClass::Transient,
        };
        if !passing || self.began.elapsed() + self.pause > self.patience {
            return Err(match StoreError::from(fault) {
                StoreError::Unavailable(cause) if self.unknown => StoreError::Unknown(cause).into(),
                other => other.into(),
            });
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Ok(())
    }
}
