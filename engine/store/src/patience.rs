//! How long something that is safe to repeat is repeated while the database is away.

use std::time::{Duration, Instant};

use crate::StoreError;
use crate::fault::{Fault, Severity, severity};

/// Longer than a restart of the database's connection, shorter than half a lease.
const PATIENCE: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(320);

/// Counts down while something is tried again.
pub(crate) struct Patience {
    until: Instant,
    pause: Duration,
    unknown: bool,
}

impl Patience {
    pub(crate) fn new() -> Self {
        Self { until: Instant::now() + PATIENCE, pause: FIRST_PAUSE, unknown: false }
    }

    /// Waits a little before the next attempt.
    ///
    /// # Errors
    /// With the fault, when trying again cannot help or the time is up. Once a COMMIT's answer was lost, it stays unknown.
    pub(crate) async fn endure(&mut self, fault: Fault) -> Result<(), Fault> {
        let passing = match &fault {
            Fault::Told(StoreError::Unknown(_)) => {
                self.unknown = true;
                true
            }
            Fault::Told(_) => false,
            Fault::Database(error) => severity(error) == Severity::Passing,
        };
        if !passing || Instant::now() + self.pause > self.until {
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
