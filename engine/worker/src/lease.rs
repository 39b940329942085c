//! This node's lease (L11): its name, its current incarnation, and the notification when the lease ends.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cerebelum_history::planted;
use cerebelum_store::{Incarnation, Store, StoreError};
use tokio::sync::watch;

use crate::clock::{Clock, millis};
use crate::env::Runtime;
use crate::metrics::{LOST, Metrics, RENEWED, UNANSWERED};

/// An effect leaves only while the lease lasts at least this much longer.
const MARGIN_MS: u64 = 1_000;
/// Only the engine's own user may read its data folder.
const FOLDER_MODE: u32 = 0o700;
/// Losses of the lease to another engine within this time are told.
const COPIES_MS: u64 = 60_000;
/// The pause before the next attempt to get a lease that the database did not grant.
const BEGIN_RETRY: Duration = Duration::from_secs(1);

/// The current lease.
pub(crate) struct LeaseKeeper {
    clock: Arc<Clock>,
    until_boot_ms: AtomicU64,
    renewals: AtomicU64,
    metrics: Arc<Metrics>,
    current: watch::Sender<Option<Incarnation>>,
}

impl LeaseKeeper {
    pub(crate) fn new(clock: Arc<Clock>, metrics: Arc<Metrics>) -> Self {
        let (until_boot_ms, renewals) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { clock, until_boot_ms, renewals, metrics, current: watch::Sender::new(None) }
    }

    /// How long the lease lasts if it is not renewed, in milliseconds.
    pub(crate) fn remaining_ms(&self) -> u64 {
        self.until_boot_ms.load(Ordering::Acquire).saturating_sub(self.clock.boot_ms())
    }

    /// The incarnation, while there is a lease.
    pub(crate) fn incarnation(&self) -> Option<Incarnation> {
        self.current.borrow().filter(|_| self.clock.boot_ms() < self.until_boot_ms.load(Ordering::Acquire))
    }

    /// Whether this incarnation's lease is the current one, and not over.
    pub(crate) fn holds(&self, incarnation: Incarnation) -> bool {
        self.incarnation() == Some(incarnation)
    }

    /// How often the lease was renewed. Each renewal is a successful write to the database.
    pub(crate) fn renewals(&self) -> u64 {
        self.renewals.load(Ordering::Relaxed)
    }

    /// Whether this incarnation's lease lasts long enough for an effect to leave.
    pub(crate) fn has_margin(&self, incarnation: Incarnation) -> bool {
        let until = self.until_boot_ms.load(Ordering::Acquire);
        let has_margin = self.clock.boot_ms() + MARGIN_MS < until || planted("no-margin");
        has_margin && *self.current.borrow() == Some(incarnation)
    }

    /// Returns when this incarnation has ended.
    pub(crate) async fn ended(&self, incarnation: Incarnation) {
        let mut current = self.current.subscribe();
        // The sender lives as long as the node. If it is gone, the incarnation has ended as well.
        let _ = current.wait_for(|now| *now != Some(incarnation)).await;
    }

    /// Takes a lease and keeps it renewed; takes a new one after each loss. Never returns.
    pub(crate) async fn keep(&self, store: Arc<dyn Store>, node: String, length: Duration) {
        let (runtime, results) = (self.clock.runtime(), &self.metrics.writes.renewals);
        let (mut last, mut taken_over) = (None, (0, 0));
        loop {
            let held = *self.current.borrow();
            let Some(incarnation) = held else {
                if !self.begin(&*store, (&node, &mut last), length).await {
                    runtime.sleep(BEGIN_RETRY.min(length / 3)).await;
                }
                continue;
            };
            tokio::select! {
                biased;
                () = self.ended(incarnation) => continue,
                () = runtime.sleep(length / 3) => {}
            }
            let asked = self.clock.boot_ms();
            let renewed = runtime.within(length / 3, store.renew_lease(incarnation, length)).await;
            match renewed {
                // Parts of this node may have seen the lease expire and dropped their claims: an expired lease is never
                // renewed (L11).
                _ if !self.holds(incarnation) && !planted("expired-lease-renewed") => {
                    results.at(LOST).inc();
                    self.lose("the database did not renew it in time");
                }
                Some(Ok(Some(lease))) => {
                    self.renewals.fetch_add(1, Ordering::Relaxed);
                    results.at(RENEWED).inc();
                    self.clock.set(lease.now);
                    self.until_boot_ms.store(asked + millis(lease.remaining), Ordering::Release);
                }
                Some(Ok(None)) => {
                    results.at(LOST).inc();
                    self.lose("it was taken over");
                    taken_over = warn_of_copies(taken_over, (&node, asked));
                }
                // Further writes to this database would be lost.
                Some(Err(StoreError::Unusable(cause))) => {
                    results.at(LOST).inc();
                    self.lose(&cause);
                }
                Some(Err(_)) | None => {
                    results.at(UNANSWERED).inc();
                }
            }
        }
    }

    /// Takes a lease as the incarnation that follows all others of this node. An incarnation that this process does not
    /// know was begun by an earlier process, or by a request of this one whose answer was lost.
    async fn begin(&self, store: &dyn Store, (node, last): (&str, &mut Option<Incarnation>), length: Duration) -> bool {
        let asked = self.clock.boot_ms();
        match store.begin_lease(node, *last, length).await {
            Ok(Ok(lease)) => {
                *last = Some(lease.incarnation);
                self.clock.set(lease.now);
                self.until_boot_ms.store(asked + millis(lease.remaining), Ordering::Release);
                self.current.send_replace(Some(lease.incarnation));
                tracing::info!(node, incarnation = lease.incarnation.0, "lease begun");
                if lease.incarnation == Incarnation(1) {
                    // A wrong path, or a copy that was lost, looks the same as a first start.
                    tracing::warn!(
                        "this database is new: it has no executions, and only tokens made for it a moment ago"
                    );
                }
                true
            }
            Ok(Err(later)) => {
                *last = Some(later);
                true
            }
            Err(error) => {
                tracing::warn!(%error, "no lease: nothing runs until the database answers");
                false
            }
        }
    }

    /// Waits for the first lease.
    pub(crate) async fn first(&self) {
        let mut current = self.current.subscribe();
        let _ = current.wait_for(Option::is_some).await;
    }

    /// Ends the lease after a COMMIT without an answer. Claims that it may have committed are not run by any node while
    /// this lease lasts; a new lease frees them.
    pub(crate) fn lose_if_unknown(&self, error: &StoreError) {
        if matches!(error, StoreError::Unknown(_)) && !planted("unknown-claims-kept") {
            self.lose("it is not known what was committed");
        }
    }

    /// Ends the lease on this node: all work under it has to stop.
    pub(crate) fn lose(&self, why: &str) {
        tracing::info!(why, "the lease ends here: all activations are dropped");
        self.until_boot_ms.store(0, Ordering::Release);
        self.current.send_replace(None);
    }
}

/// Counts losses of the lease to another engine, with the time of the first one. Two within a minute are not the end of an
/// engine that was slow once.
fn warn_of_copies((losses, since_ms): (u32, u64), (node, now_ms): (&str, u64)) -> (u32, u64) {
    if losses == 0 || now_ms > since_ms + COPIES_MS {
        return (1, now_ms);
    }
    tracing::warn!(
        node,
        "the lease was taken over several times within a minute: either this machine is too slow for its lease, or another \
         engine runs on a copy of this data folder; each engine needs a folder of its own (--data)"
    );
    (losses + 1, since_ms)
}

/// How long a killed process may still hold its lock. An engine that starts right after it waits for that.
const UNLOCKED_AFTER: Duration = Duration::from_secs(2);
/// The pause between two attempts to take the lock.
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// The node's name, stored in `--data` under a lock. A restart on the same folder is the same node, and two processes
/// cannot be the same node at once.
pub(crate) struct NodeName {
    pub(crate) name: String,
    _lock: File,
}

impl NodeName {
    /// # Errors
    /// One line for a person, when the folder cannot be used or another engine uses it.
    pub(crate) fn claim(data: &Path, runtime: &dyn Runtime) -> Result<Self, String> {
        let cannot = |e: std::io::Error| format!("cannot use the data folder {}: {e}", data.display());
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(data).map_err(cannot)?;
        let path = data.join("node-id");
        // An earlier engine created this folder. Any other folder keeps the mode that its owner gave it.
        if path.exists() {
            let mode = std::fs::metadata(data).map_err(cannot)?.permissions().mode();
            let restricted = std::fs::set_permissions(data, PermissionsExt::from_mode(mode & FOLDER_MODE));
            restricted.unwrap_or_else(|error| tracing::warn!(%error, "others may read the data folder"));
        }
        let lock =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path).map_err(cannot)?;
        let began = Instant::now();
        while lock.try_lock().is_err() {
            if began.elapsed() > UNLOCKED_AFTER {
                let data = data.display();
                return Err(format!(
                    "another engine uses the data folder {data}: stop it, or give this one its own --data"
                ));
            }
            std::thread::sleep(LOCK_RETRY);
        }
        let stored = std::fs::read_to_string(&path).map_err(cannot)?;
        let mut name = stored.trim().to_owned();
        if name.is_empty() {
            name = format!("node-{:016x}", runtime.chance());
            std::fs::write(&path, &name).map_err(cannot)?;
        }
        Ok(Self { name, _lock: lock })
    }
}
