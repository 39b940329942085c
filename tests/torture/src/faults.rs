//! The faults besides kills: a wall clock that jumps, a disk that is full, a log that cannot be written.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::PipeReader;
use std::process::Stdio;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use test_engine::{Disk, WallClock};
use test_programs::DeterministicRng;

/// The largest jump of a clock, in either direction.
const JUMP_MS_MAX: u64 = 10 * 60_000;
/// The most space on a disk that is almost full, in bytes.
const ROOM_MAX: u64 = 256 << 10;
/// The database's time follows a clock that jumped by one in this many milliseconds.
const SLEW_ONE_IN: u64 = 2_000;

/// A fault besides kills.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// The engine's wall clock is set forward and back by minutes.
    Clock,
    /// The disk under the engine's data folder and its SQLite file is full for a while, again and again.
    Disk,
    /// The engine's log goes to a place where it cannot be written.
    Log,
}

impl Mode {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Clock, Self::Disk, Self::Log];

    const fn name(self) -> &'static str {
        match self {
            Self::Clock => "clock",
            Self::Disk => "disk",
            Self::Log => "log",
        }
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let named = Self::ALL.iter().find(|mode| mode.name() == word);
        named.copied().ok_or_else(|| format!("MODE is clock, disk or log, not {word}"))
    }
}

/// Deals out faults. A seed fixes the fault of each life of the engine, but not the moment at which it strikes.
#[derive(Debug)]
pub(crate) struct Faults {
    modes: Vec<Mode>,
    chance: DeterministicRng,
    clock: Arc<WallClock>,
    disk: Arc<Disk>,
    /// The end of a pipe that is not read.
    unread: Option<PipeReader>,
    lives: BTreeMap<Mode, u64>,
    strokes: BTreeMap<Mode, Arc<AtomicU64>>,
    /// How often the engine has ended by itself, with a reason, for lack of space.
    pub(crate) gave_up: u64,
}

impl Faults {
    pub(crate) fn new(modes: &[Mode], seed: u64, disk: Arc<Disk>) -> Self {
        Self {
            modes: modes.to_vec(),
            chance: DeterministicRng::of(seed, u64::MAX - 2),
            clock: Arc::new(WallClock::new()),
            disk,
            unread: None,
            lives: BTreeMap::new(),
            strokes: Mode::ALL.iter().map(|mode| (*mode, Arc::default())).collect(),
            gave_up: 0,
        }
    }

    /// The fault of the next life of the engine; every other life has none.
    pub(crate) fn next(&mut self) -> Option<Mode> {
        if self.modes.is_empty() || self.chance.index(2) == 0 {
            return None;
        }
        Some(self.modes[self.chance.index(self.modes.len())])
    }

    /// All faults of a run.
    pub(crate) fn modes(&self) -> Vec<Mode> {
        self.modes.clone()
    }

    /// The variables of a process whose clock can be moved. Without that fault they are not set, so that one life in
    /// two has the machine's own clock, which is another jump.
    pub(crate) fn variables(&self, mode: Option<Mode>) -> Vec<(&'static str, String)> {
        if mode == Some(Mode::Clock) { self.clock.variables().into() } else { Vec::new() }
    }

    /// The log of this life, if it has to be one that cannot be written.
    pub(crate) fn log(&mut self, mode: Option<Mode>) -> Option<Stdio> {
        if mode != Some(Mode::Log) {
            return None;
        }
        self.count(Mode::Log);
        if self.chance.index(3) == 0 {
            return Some(File::options().write(true).open("/dev/full").expect("there is a full device").into());
        }
        let (reader, writer) = std::io::pipe().expect("a pipe can be made");
        // A pipe that is not read fills up; a pipe whose reader is gone fails at once.
        self.unread = (self.chance.index(2) == 0).then_some(reader);
        Some(writer.into())
    }

    /// Some lives begin on a full disk, which has space again after a while; until then an engine may wait for it.
    pub(crate) fn before_launch(&mut self, mode: Option<Mode>) -> Option<Infliction> {
        let begins_full = mode == Some(Mode::Disk) && self.chance.index(3) == 0;
        begins_full.then(|| {
            self.disk.fill(self.chance.between(0, ROOM_MAX));
            let (disk, after) = (self.disk.clone(), self.chance.millis(100, 1_500));
            Infliction::of(move |_| {
                std::thread::park_timeout(after);
                disk.free();
            })
        })
    }

    /// Gives the space on the disk back.
    pub(crate) fn stop(&self) {
        self.disk.free();
    }

    /// Lets this happen until the returned value is dropped.
    pub(crate) fn inflict(&mut self, mode: Mode) -> Infliction {
        if mode != Mode::Log {
            self.count(mode);
        }
        let stroke = Stroke { clock: self.clock.clone(), disk: self.disk.clone() };
        let (chance, strokes) = (DeterministicRng::of(self.chance.bits(), 0), self.strokes[&mode].clone());
        Infliction::of(move |goes_on| stroke.go_on(mode, chance, (goes_on, &strokes)))
    }

    /// How far the database's time may be from the outside world's after this time, besides the error of measurement.
    pub(crate) fn drift_ms(&self, elapsed: Duration) -> u64 {
        let passed = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        if self.modes.contains(&Mode::Clock) { passed / SLEW_ONE_IN } else { 0 }
    }

    fn count(&mut self, mode: Mode) {
        *self.lives.entry(mode).or_default() += 1;
    }

    /// The faults of the run, in words.
    pub(crate) fn summary(&self) -> String {
        let lives = |mode| self.lives.get(&mode).copied().unwrap_or_default();
        let strokes = |mode| self.strokes[&mode].load(Ordering::Relaxed);
        format!(
            "the clock jumped {} times in {} lives; the disk was full {} times ({}) in {} lives, {} of which the engine ended with the reason; {} lives had a log that cannot be written",
            strokes(Mode::Clock),
            lives(Mode::Clock),
            strokes(Mode::Disk),
            self.disk.way(),
            lives(Mode::Disk),
            self.gave_up,
            lives(Mode::Log),
        )
    }
}

/// A fault that lasts until this is dropped.
#[derive(Debug)]
pub(crate) struct Infliction {
    goes_on: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Infliction {
    fn of(what: impl FnOnce(&AtomicBool) + Send + 'static) -> Self {
        let goes_on = Arc::new(AtomicBool::new(true));
        let thread = std::thread::spawn({
            let goes_on = goes_on.clone();
            move || what(&goes_on)
        });
        Self { goes_on, thread: Some(thread) }
    }
}

impl Drop for Infliction {
    fn drop(&mut self) {
        self.goes_on.store(false, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            thread.join().expect("a fault can be inflicted");
        }
    }
}

struct Stroke {
    clock: Arc<WallClock>,
    disk: Arc<Disk>,
}

impl Stroke {
    fn go_on(&self, mode: Mode, mut chance: DeterministicRng, (goes_on, strokes): (&AtomicBool, &AtomicU64)) {
        while goes_on.load(Ordering::Relaxed) && mode != Mode::Log {
            strokes.fetch_add(1, Ordering::Relaxed);
            match mode {
                Mode::Clock => {
                    let ms = i64::try_from(chance.between(0, 2 * JUMP_MS_MAX)).unwrap_or_default();
                    self.clock.move_to(ms - JUMP_MS_MAX as i64);
                    std::thread::park_timeout(chance.millis(20, 400));
                }
                Mode::Disk => {
                    let room = [0, chance.between(0, ROOM_MAX)][chance.index(2)];
                    self.disk.fill(room);
                    std::thread::park_timeout(chance.millis(20, 800));
                    self.disk.free();
                    std::thread::park_timeout(chance.millis(100, 600));
                }
                Mode::Log => {}
            }
        }
    }
}
