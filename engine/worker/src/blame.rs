//! Who ran when the engine died (L18): a mark per thread in a small file that outlives the process.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::task::{Context, Poll};

use cerebelum_history::{ExecutionId, planted};
use memmap2::MmapMut;
use serde::{Deserialize, Serialize};

/// Bytes per thread: a length, whether it ran alone, and an execution id.
const SLOT_BYTES: usize = 256;
const SLOTS: usize = 256;
/// From this many deaths on an execution runs alone.
const DEATHS_BEFORE_ALONE: u32 = 2;

/// How an execution must be run, by what happened to engines that ran it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Beside others.
    Beside,
    /// Alone, to see whether it is the one.
    Alone,
    /// Not at all: an engine died while it ran alone.
    Park,
}

#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
struct Record {
    deaths: u32,
    died_alone: bool,
}

/// The marks of this process, and what those of earlier ones told.
pub(crate) struct Blame {
    marks: Mutex<MmapMut>,
    records: Mutex<BTreeMap<String, Record>>,
    path: PathBuf,
}

impl Blame {
    /// Reads what the process before left behind and begins anew.
    ///
    /// # Errors
    /// One line for a person, when the files in the data folder cannot be used.
    #[expect(unsafe_code, reason = "mapping a file is unsafe because others may change it; the data folder is locked")]
    pub(crate) fn open(data: &Path) -> Result<Self, String> {
        let cannot = |e: std::io::Error| format!("cannot use the data folder {}: {e}", data.display());
        let path = data.join("blame.json");
        let stored = std::fs::read(&path).unwrap_or_default();
        let mut records: BTreeMap<String, Record> = serde_json::from_slice(&stored).unwrap_or_default();
        let marks = data.join("running");
        let file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&marks).map_err(cannot)?;
        file.set_len((SLOT_BYTES * SLOTS) as u64).map_err(cannot)?;
        // SAFETY: the folder's lock keeps other engines away from the file, and nothing else writes to it.
        let mut map = unsafe { MmapMut::map_mut(&file) }.map_err(cannot)?;
        for slot in map.chunks_mut(SLOT_BYTES) {
            if let Some((id, alone)) = read_slot(slot) {
                let record = records.entry(id).or_default();
                record.deaths += 1;
                record.died_alone |= alone;
            }
            slot[0] = 0;
        }
        let blame = Self { marks: Mutex::new(map), records: Mutex::new(records), path };
        blame.save();
        Ok(blame)
    }

    /// How this execution must be run.
    pub(crate) fn verdict(&self, id: &ExecutionId) -> Verdict {
        let records = self.records.lock().expect("nobody panics while holding the records");
        match records.get(id.as_str()) {
            Some(record) if record.died_alone => Verdict::Park,
            Some(record) if record.deaths >= DEATHS_BEFORE_ALONE => Verdict::Alone,
            Some(_) | None => Verdict::Beside,
        }
    }

    /// Forgets an execution: it ended, or a person wants it tried again.
    pub(crate) fn forgive(&self, id: &ExecutionId) {
        let known = self.records.lock().expect("nobody panics while holding the records").remove(id.as_str()).is_some();
        if known {
            self.save();
        }
    }

    fn save(&self) {
        let records = self.records.lock().expect("nobody panics while holding the records");
        let text = serde_json::to_vec(&*records).expect("records have a JSON form");
        if let Err(error) = std::fs::write(&self.path, text) {
            tracing::warn!(%error, "cannot remember which executions ran when the engine died");
        }
    }

    fn mark(&self, slot: usize, id: &str, alone: bool) {
        let mut marks = self.marks.lock().expect("nobody panics while marking");
        let slot = &mut marks[slot * SLOT_BYTES..(slot + 1) * SLOT_BYTES];
        slot[1] = u8::from(alone);
        slot[2..2 + id.len()].copy_from_slice(id.as_bytes());
        slot[0] = u8::try_from(id.len()).unwrap_or(0);
    }

    fn clear(&self, slot: usize) {
        if planted("bystanders-blamed") {
            return;
        }
        self.marks.lock().expect("nobody panics while marking")[slot * SLOT_BYTES] = 0;
    }
}

fn read_slot(slot: &[u8]) -> Option<(String, bool)> {
    let length = usize::from(slot[0]);
    let id = std::str::from_utf8(slot.get(2..2 + length)?).ok()?;
    (length > 0).then(|| (id.to_owned(), slot[1] == 1))
}

/// Lets guests run beside each other, and suspects alone.
#[derive(Debug, Default)]
pub(crate) struct Solitude(tokio::sync::RwLock<()>);

impl Solitude {
    /// Runs one turn of a guest with its execution marked.
    pub(crate) async fn run<T>(&self, blame: &Arc<Blame>, id: ExecutionId, turn: impl Future<Output = T>) -> T {
        let alone = blame.verdict(&id) == Verdict::Alone;
        let marked = Marked { turn: Box::pin(turn), blame: blame.clone(), id, alone };
        if alone {
            let _alone = self.0.write().await;
            marked.await
        } else {
            let _beside = self.0.read().await;
            marked.await
        }
    }
}

/// A guest's turn with its execution marked while a thread runs it.
struct Marked<F> {
    turn: Pin<Box<F>>,
    blame: Arc<Blame>,
    id: ExecutionId,
    alone: bool,
}

impl<F: Future> Future for Marked<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        thread_local!(static SLOT: Slot = Slot::take());
        let Self { turn, blame, id, alone } = &mut *self;
        let Some(slot) = SLOT.with(|slot| slot.0) else { return turn.as_mut().poll(context) };
        blame.mark(slot, id.as_str(), *alone);
        let _cleared = Cleared { blame, slot };
        crate::fail::point("guest-running");
        turn.as_mut().poll(context)
    }
}

/// Clears a mark when the guest gives its thread back, also by a panic.
struct Cleared<'b> {
    blame: &'b Blame,
    slot: usize,
}

impl Drop for Cleared<'_> {
    fn drop(&mut self) {
        self.blame.clear(self.slot);
    }
}

/// A thread's place for its mark; none while all are taken. Threads come and go, no two that live share one.
struct Slot(Option<usize>);

impl Slot {
    fn take() -> Self {
        Self(Self::free().pop())
    }

    fn free() -> MutexGuard<'static, Vec<usize>> {
        static FREE: LazyLock<Mutex<Vec<usize>>> = LazyLock::new(|| Mutex::new((0..SLOTS).rev().collect()));
        FREE.lock().expect("nobody panics while taking a place")
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

    use super::*;

    #[test]
    fn l18_only_who_ran_is_blamed_and_only_who_ran_alone_is_parked() {
        let data = std::env::temp_dir().join(format!("cerebelum-blame-{:016x}", rand::random::<u64>()));
        std::fs::create_dir_all(&data).unwrap();
        let (guilty, bystander): (ExecutionId, ExecutionId) = ("guilty".parse().unwrap(), "bystander".parse().unwrap());
        let mut verdicts = Vec::new();
        for alone in [false, false, true] {
            let blame = Blame::open(&data).unwrap();
            verdicts.push(blame.verdict(&guilty));
            blame.mark(1, bystander.as_str(), false);
            blame.clear(1);
            blame.mark(0, guilty.as_str(), alone);
        }
        let blame = Blame::open(&data).unwrap();
        assert_eq!(verdicts, [Verdict::Beside, Verdict::Beside, Verdict::Alone]);
        assert_eq!((blame.verdict(&guilty), blame.verdict(&bystander)), (Verdict::Park, Verdict::Beside));
        blame.forgive(&guilty);
        assert_eq!(Blame::open(&data).unwrap().verdict(&guilty), Verdict::Beside);
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
