//! Executions that may crash the engine (L18). A mark per thread in a small file outlives the process and shows which
//! executions ran when the engine died. Suspects run in isolation from then on.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::future::poll_fn;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::task::Poll;
use std::time::{Duration, Instant};

use cerebelum_history::planted;
use cerebelum_store::Claimed;
use memmap2::MmapMut;
use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};
use tokio::sync::RwLock;

use crate::clock::wall_ms;

/// Bytes per thread: the length of the execution's key as text, whether it ran alone, and the key.
const SLOT_BYTES: usize = 256;
const SLOTS: usize = 256;
/// From this many crashes on, an execution runs alone.
const CRASHES_BEFORE_ALONE: u32 = 2;
/// After this many nodes with the execution died and never came back to their data folder, it is parked. At the last
/// two crashes it was the only suspect that the node had claimed.
const CRASHES_ELSEWHERE_MAX: u32 = 4;
/// How long a crash counts: an execution that ran at a crash last month is not a suspect today.
const CRASH_COUNTS_MS: u64 = 10 * 60_000;
/// A suspect that has computed alone for this long is cleared until the next crash. The trial doubles with each further
/// crash.
const TRIAL: Duration = Duration::from_secs(1);
const TRIAL_MAX: Duration = Duration::from_secs(60);

/// How an execution must be run, depending on the crashes of engines that ran it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// Next to others.
    Shared,
    /// Alone, to find out whether it causes the crashes.
    Exclusive,
    /// Not at all: an engine died while it ran alone.
    Quarantined,
}

#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
struct Record {
    #[serde(alias = "deaths")]
    crashes: u32,
    died_alone: bool,
    /// Milliseconds since 1970 by this machine's wall clock.
    #[serde(default)]
    last_crash_ms: u64,
    /// How long it has computed alone since the last crash.
    #[serde(skip)]
    alone: Duration,
}

impl Record {
    fn counts(&self, now_ms: u64) -> bool {
        self.died_alone || now_ms.abs_diff(self.last_crash_ms) < CRASH_COUNTS_MS
    }

    fn isolation(&self) -> Isolation {
        let doublings = self.crashes.saturating_sub(CRASHES_BEFORE_ALONE).min(16);
        let trial = TRIAL.saturating_mul(1 << doublings).min(TRIAL_MAX);
        match () {
            () if self.died_alone => Isolation::Quarantined,
            () if self.crashes >= CRASHES_BEFORE_ALONE && self.alone < trial => Isolation::Exclusive,
            () => Isolation::Shared,
        }
    }
}

/// The marks of this process, and the records of earlier ones.
pub(crate) struct CrashLog {
    marks: Mutex<MmapMut>,
    records: Mutex<BTreeMap<String, Record>>,
    path: PathBuf,
}

impl CrashLog {
    /// Reads the marks of the previous process and starts with empty ones.
    ///
    /// # Errors
    /// One line for a person, when the files in the data folder cannot be used.
    #[expect(unsafe_code, reason = "mapping a file is unsafe because others may change it; the data folder is locked")]
    pub(crate) fn open(data: &Path) -> Result<Self, String> {
        let cannot = |e: std::io::Error| format!("cannot use the data folder {}: {e}", data.display());
        let path = data.join("crashes.json");
        let stored = std::fs::read(&path).unwrap_or_default();
        let mut records: BTreeMap<String, Record> = serde_json::from_slice(&stored).unwrap_or_default();
        let now_ms = wall_ms();
        records.retain(|_, record| record.counts(now_ms));
        let marks = data.join("running");
        let file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&marks).map_err(cannot)?;
        let mut slots = Vec::new();
        (&file).take((SLOT_BYTES * SLOTS) as u64).read_to_end(&mut slots).map_err(cannot)?;
        for (id, alone) in slots.chunks(SLOT_BYTES).filter_map(read_slot) {
            let record = records.entry(id).or_default();
            record.crashes += 1;
            record.died_alone |= alone;
            record.last_crash_ms = now_ms;
        }
        save(&path, &records);
        // Written, not only mapped: on a full disk, a write into the map would kill the process.
        file.write_all_at(&[0; SLOT_BYTES * SLOTS], 0).map_err(cannot)?;
        // SAFETY: the folder's lock keeps other engines away from the file, and nothing else writes to it.
        let map = unsafe { MmapMut::map_mut(&file) }.map_err(cannot)?;
        Ok(Self { marks: Mutex::new(map), records: Mutex::new(records), path })
    }

    /// How this execution must be run.
    pub(crate) fn isolation(&self, id: &str) -> Isolation {
        self.records.lock().get(id).map_or(Isolation::Shared, Record::isolation)
    }

    /// Why an execution must not be run, if so.
    pub(crate) fn why_park(&self, claimed: &Claimed) -> Option<String> {
        let why = match () {
            () if self.isolation(&claimed.head.key.to_string()) == Isolation::Quarantined => {
                "the engine died while this execution ran alone".to_owned()
            }
            () if claimed.crashes >= CRASHES_ELSEWHERE_MAX && !planted("crashes-elsewhere-forgotten") => {
                format!("{} engines that had it in memory died and never came back", claimed.crashes)
            }
            () => return None,
        };
        Some(format!("engine-crash: {why}"))
    }

    /// Forgets an execution's crashes: it ended, or an operator resumed it.
    pub(crate) fn forgive(&self, id: &str) {
        let known = self.records.lock().remove(id).is_some();
        if known {
            save(&self.path, &self.records.lock());
        }
    }

    /// Records that a suspect has computed alone for this long without a crash.
    fn count_alone(&self, id: &str, computed: Duration) {
        if let Some(record) = self.records.lock().get_mut(id) {
            record.alone += computed;
        }
    }

    fn mark(&self, slot: usize, id: &str, alone: bool) {
        let mut marks = self.marks.lock();
        let slot = &mut marks[slot * SLOT_BYTES..(slot + 1) * SLOT_BYTES];
        slot[1] = u8::from(alone);
        slot[2..2 + id.len()].copy_from_slice(id.as_bytes());
        slot[0] = u8::try_from(id.len()).unwrap_or(0);
    }

    fn clear(&self, slot: usize) {
        if planted("bystanders-blamed") {
            return;
        }
        self.marks.lock()[slot * SLOT_BYTES] = 0;
    }
}

fn read_slot(slot: &[u8]) -> Option<(String, bool)> {
    let length = usize::from(*slot.first()?);
    let id = std::str::from_utf8(slot.get(2..2 + length)?).ok()?;
    (length > 0).then(|| (id.to_owned(), slot[1] == 1))
}

/// Writes the records atomically, so that the old ones survive a full disk.
fn save(path: &Path, records: &BTreeMap<String, Record>) {
    let text = serde_json::to_vec(records).expect("records have a JSON form");
    let draft = path.with_extension("draft");
    if let Err(error) = std::fs::write(&draft, text).and_then(|()| std::fs::rename(&draft, path)) {
        tracing::warn!(%error, "cannot remember which executions ran when the engine died");
    }
}

/// Lets guests run next to each other, and suspects alone.
///
/// Access lasts while a guest is on its thread, which is 10 ms at most, and is taken anew each time. A guest that waits
/// for anything does not hold it, and a suspect that computes for long takes turns with all others.
#[derive(Debug, Default)]
pub(crate) struct IsolationGate(RwLock<()>);

impl IsolationGate {
    /// Runs one turn of a guest. Its execution is marked while a thread runs it.
    pub(crate) async fn run<T>(&self, log: &Arc<CrashLog>, id: Arc<str>, turn: impl Future<Output = T>) -> T {
        let mut turn = pin!(turn);
        loop {
            let alone = log.isolation(&id) == Isolation::Exclusive;
            let polled = if alone {
                let _access = self.0.write().await;
                let began = Instant::now();
                let polled = poll_fn(|context| Poll::Ready(marked(log, (&id, true), || turn.as_mut().poll(context))));
                let polled = polled.await;
                log.count_alone(&id, began.elapsed());
                polled
            } else {
                let _access = self.0.read().await;
                poll_fn(|context| Poll::Ready(marked(log, (&id, false), || turn.as_mut().poll(context)))).await
            };
            match polled {
                Poll::Ready(done) => return done,
                // The guest's own waker wakes this task.
                Poll::Pending => woken().await,
            }
        }
    }

    /// With the planted bug, a guest that waits for admission holds the access that others need.
    pub(crate) async fn held_while_waiting(&self) -> Option<tokio::sync::RwLockReadGuard<'_, ()>> {
        if planted("place-awaited-with-access") { Some(self.0.read().await) } else { None }
    }
}

/// Returns when the task is woken.
async fn woken() {
    let mut is_asleep = false;
    poll_fn(|_| if std::mem::replace(&mut is_asleep, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

/// Runs `run` with the execution marked as the one on this thread.
fn marked<T>(log: &CrashLog, (id, alone): (&str, bool), run: impl FnOnce() -> T) -> T {
    thread_local!(static SLOT: Slot = Slot::take());
    let Some(slot) = SLOT.with(|slot| slot.0) else { return run() };
    log.mark(slot, id, alone);
    let _cleared = Cleared { log, slot };
    crate::fail::point("guest-running");
    run()
}

/// Clears the mark when the guest leaves its thread, also after a panic.
struct Cleared<'b> {
    log: &'b CrashLog,
    slot: usize,
}

impl Drop for Cleared<'_> {
    fn drop(&mut self) {
        self.log.clear(self.slot);
    }
}

/// A thread's slot for its mark; none while all are taken. No two running threads share a slot.
struct Slot(Option<usize>);

impl Slot {
    fn take() -> Self {
        Self(Self::free().pop())
    }

    fn free() -> MutexGuard<'static, Vec<usize>> {
        static FREE: LazyLock<Mutex<Vec<usize>>> = LazyLock::new(|| Mutex::new((0..SLOTS).rev().collect()));
        FREE.lock()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        Self::free().extend(self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::future::{pending, ready};

    use futures::FutureExt;

    use super::*;

    fn folder() -> PathBuf {
        let data = std::env::temp_dir().join(format!("cerebelum-crashes-{:016x}", rand::random::<u64>()));
        std::fs::create_dir_all(&data).unwrap();
        data
    }

    /// The log of an engine that died this many times while the execution ran next to others.
    fn died(times: u32, id: &str) -> (PathBuf, Arc<CrashLog>) {
        let data = folder();
        for _ in 0..times {
            CrashLog::open(&data).unwrap().mark(0, id, false);
        }
        let log = Arc::new(CrashLog::open(&data).unwrap());
        (data, log)
    }

    #[test]
    fn l18_only_who_ran_is_blamed_and_only_who_ran_alone_is_parked() {
        let data = folder();
        let (guilty, bystander): (Arc<str>, Arc<str>) = ("guilty".into(), "bystander".into());
        let mut isolations = Vec::new();
        for alone in [false, false, true] {
            let log = CrashLog::open(&data).unwrap();
            isolations.push(log.isolation(&guilty));
            log.mark(1, &bystander, false);
            log.clear(1);
            log.mark(0, &guilty, alone);
        }
        let log = CrashLog::open(&data).unwrap();
        assert_eq!(isolations, [Isolation::Shared, Isolation::Shared, Isolation::Exclusive]);
        assert_eq!((log.isolation(&guilty), log.isolation(&bystander)), (Isolation::Quarantined, Isolation::Shared));
        log.forgive(&guilty);
        assert_eq!(CrashLog::open(&data).unwrap().isolation(&guilty), Isolation::Shared);
        std::fs::remove_dir_all(&data).unwrap();
    }

    #[test]
    fn l18_a_crash_is_forgotten_after_a_while() {
        let id: Arc<str> = "e".into();
        let (data, log) = died(2, &id);
        assert_eq!(log.isolation(&id), Isolation::Exclusive);
        log.records.lock().get_mut("e").unwrap().last_crash_ms -= CRASH_COUNTS_MS;
        save(&log.path, &log.records.lock());
        assert_eq!(CrashLog::open(&data).unwrap().isolation(&id), Isolation::Shared);
        std::fs::remove_dir_all(&data).unwrap();
    }

    #[test]
    fn l18_a_suspect_that_computed_alone_for_long_enough_runs_beside_others_again() {
        let id: Arc<str> = "e".into();
        for (crashes, trial) in [(2, TRIAL), (3, TRIAL * 2), (20, TRIAL_MAX)] {
            let (data, log) = died(crashes, &id);
            log.count_alone(&id, trial - Duration::from_millis(1));
            assert_eq!(log.isolation(&id), Isolation::Exclusive, "after {crashes} crashes");
            log.count_alone(&id, Duration::from_millis(1));
            assert_eq!(log.isolation(&id), Isolation::Shared, "after {crashes} crashes");
            std::fs::remove_dir_all(&data).unwrap();
        }
    }

    #[tokio::test]
    async fn l22_a_turn_that_waits_keeps_nobody_out() {
        let (suspect, other): (Arc<str>, Arc<str>) = ("suspect".into(), "other".into());
        let (data, log) = died(2, &suspect);
        let gate = IsolationGate::default();
        for (waiting, moving) in [(&suspect, &other), (&other, &suspect), (&suspect, &suspect)] {
            let mut waits = pin!(gate.run(&log, waiting.clone(), pending::<()>()));
            assert!(futures::poll!(waits.as_mut()).is_pending());
            assert_eq!(gate.run(&log, moving.clone(), ready(7)).now_or_never(), Some(7));
        }
        std::fs::remove_dir_all(&data).unwrap();
    }

    #[tokio::test]
    async fn l22_a_guest_that_waits_for_a_place_keeps_no_suspect_out() {
        let suspect: Arc<str> = "suspect".into();
        let (data, log) = died(2, &suspect);
        let gate = IsolationGate::default();
        let _waits = gate.held_while_waiting().await;
        assert_eq!(gate.run(&log, suspect, ready(7)).now_or_never(), Some(7));
        std::fs::remove_dir_all(&data).unwrap();
    }

    #[test]
    fn l18_no_two_threads_that_live_share_a_place() {
        let taken: Vec<Slot> = (0..=SLOTS).map(|_| Slot::take()).collect();
        let places: Vec<usize> = taken.iter().filter_map(|slot| slot.0).collect();
        assert_eq!(BTreeSet::from_iter(&places).len(), places.len());
        assert!(places.len() <= SLOTS && taken[SLOTS].0.is_none(), "there are no more");
        drop(taken);
        assert!(Slot::take().0.is_some(), "threads that ended gave theirs back");
    }
}
