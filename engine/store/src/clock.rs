//! The database's time, without the jumps of the clock that it is read from (L8).
//!
//! It advances with the machine's boot-time clock, which cannot be set. It is compared with a reference: the wall clock
//! for a file, the server's clock for a server. The reference moves it no faster than NTP would discipline a clock, and
//! a jump of the reference is logged in one line.

use std::sync::{Arc, Mutex, MutexGuard};

use cerebelum_history::{Timestamp, planted};

/// The clocks of a machine. Tests set them.
pub trait Clocks: Send + Sync + 'static {
    /// Milliseconds since the machine was started, suspended time included.
    fn boot_ms(&self) -> u64;
    /// Milliseconds since 1970, by a clock that people and programs can set.
    fn wall_ms(&self) -> u64;
    /// The name of this start of the machine: values of [`Clocks::boot_ms`] are comparable only under the same name.
    fn boot_id(&self) -> String;
}

/// The clocks of the machine this process runs on.
#[derive(Debug, Clone, Copy, Default)]
pub struct MachineClocks;

impl Clocks for MachineClocks {
    fn boot_ms(&self) -> u64 {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let whole = u64::try_from(time.tv_sec).unwrap_or(0) * 1_000;
        whole + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000
    }

    fn wall_ms(&self) -> u64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn boot_id(&self) -> String {
        // Without a boot id, no two starts count as the same, and the wall clock decides.
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
    }
}

/// A difference up to this is followed at once: it comes from the measurement, or from a clock that is kept right.
const FOLLOWED_AT_ONCE_MS: i64 = 100;
/// A larger difference is reduced by this many millionths of the time that passes. That is as fast as NTP slews a
/// clock.
const SLEW_PER_MILLION: i64 = 500;
/// A difference beyond this is taken for a mistake, and is not followed.
const FOLLOWED_MS_MAX: i64 = 24 * 3_600_000;
/// If the wall clock says that the database was unused for longer than this, the wall clock is not believed.
const UNUSED_MS_MAX: u64 = 366 * 24 * 3_600_000;

/// The time as it was saved in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SavedTime {
    pub(crate) told_ms: u64,
    pub(crate) boot_ms: u64,
    pub(crate) boot_id: String,
}

/// The time of one database.
#[derive(Clone)]
pub(crate) struct SteadyClock {
    clocks: Arc<dyn Clocks>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// The time minus boot time.
    offset_ms: i64,
    /// The latest time that was returned: the clock never goes back.
    told_ms: u64,
    /// The boot time of the last comparison.
    compared_boot_ms: u64,
    /// The difference that was logged, or none while the clocks agree.
    logged_ms: Option<i64>,
}

impl SteadyClock {
    /// The clock of a file. It goes on from the saved time, as far as that is still meaningful.
    pub(crate) fn of_file(clocks: Arc<dyn Clocks>, kept: Option<&SavedTime>) -> Self {
        let (boot_ms, wall_ms) = (clocks.boot_ms(), clocks.wall_ms());
        let now_ms = match kept {
            None => wall_ms,
            // The machine has run since the time was saved, and knows how much time has passed.
            Some(kept) if kept.boot_id == clocks.boot_id() && !kept.boot_id.is_empty() && kept.boot_ms <= boot_ms => {
                kept.told_ms + (boot_ms - kept.boot_ms)
            }
            Some(kept) if wall_ms < kept.told_ms || wall_ms - kept.told_ms > UNUSED_MS_MAX => {
                tracing::warn!(
                    wall_clock_ms = wall_ms,
                    database_ms = kept.told_ms,
                    "the wall clock says that this database was used in the future, or not for a year: its time goes on \
                     from when it was used last"
                );
                kept.told_ms
            }
            Some(_) => wall_ms,
        };
        Self::at(clocks, now_ms)
    }

    /// A clock that starts at this time.
    pub(crate) fn at(clocks: Arc<dyn Clocks>, now_ms: u64) -> Self {
        let boot_ms = clocks.boot_ms();
        let state = State { offset_ms: minus(now_ms, boot_ms), compared_boot_ms: boot_ms, ..State::default() };
        Self { clocks, state: Arc::new(Mutex::new(state)) }
    }

    /// The current time. It is never earlier than a time that was returned before.
    pub(crate) fn now(&self) -> Timestamp {
        let boot_ms = self.clocks.boot_ms();
        let mut state = self.state();
        state.told_ms = state.told_ms.max(state.at(boot_ms));
        Timestamp(state.told_ms)
    }

    /// The time in the form in which it is saved.
    pub(crate) fn kept(&self) -> SavedTime {
        let (boot_ms, boot_id) = (self.clocks.boot_ms(), self.clocks.boot_id());
        SavedTime { told_ms: self.state().at(boot_ms), boot_ms, boot_id }
    }

    /// Compares the time with the wall clock.
    pub(crate) fn follow_wall(&self) {
        self.follow(self.clocks.wall_ms());
    }

    /// Compares the time with another clock that was read just now.
    pub(crate) fn follow(&self, other_ms: u64) {
        let boot_ms = self.clocks.boot_ms();
        let mut state = self.state();
        let difference = minus(other_ms, state.at(boot_ms));
        let passed = i64::try_from(boot_ms.saturating_sub(state.compared_boot_ms)).unwrap_or(i64::MAX);
        state.compared_boot_ms = boot_ms;
        let slew = passed.saturating_mul(SLEW_PER_MILLION) / 1_000_000;
        state.offset_ms += match difference.saturating_abs() {
            _ if planted("clock-jumps-followed") => difference,
            small if small <= FOLLOWED_AT_ONCE_MS => difference,
            large if large <= FOLLOWED_MS_MAX => difference.clamp(-slew, slew),
            _ => 0,
        };
        state.log(difference);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while reading a clock")
    }
}

impl State {
    fn at(&self, boot_ms: u64) -> u64 {
        boot_ms.saturating_add_signed(self.offset_ms)
    }

    /// Logs one line when a difference appears or jumps, and one when it is gone.
    fn log(&mut self, difference: i64) {
        let is_gone = difference.saturating_abs() <= FOLLOWED_AT_ONCE_MS;
        match self.logged_ms {
            None if is_gone => {}
            Some(_) if is_gone => {
                self.logged_ms = None;
                tracing::info!("the clock agrees with the database's time again");
            }
            Some(logged)
                if difference.abs_diff(logged) <= FOLLOWED_AT_ONCE_MS.unsigned_abs() + logged.unsigned_abs() / 10 => {}
            Some(_) | None => {
                self.logged_ms = Some(difference);
                tracing::warn!(
                    difference_ms = difference,
                    "the clock jumped: the database's time goes on as before, and follows it slowly, or not at all when \
                     the difference is more than a day; timers fire when their time has passed"
                );
            }
        }
    }
}

fn minus(this: u64, that: u64) -> i64 {
    i64::try_from(this).unwrap_or(i64::MAX).saturating_sub(i64::try_from(that).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    const HOUR: u64 = 3_600_000;
    const BEGAN: u64 = 1_700_000_000_000;

    #[derive(Default)]
    struct Set {
        boot: AtomicU64,
        wall: AtomicU64,
        boots: AtomicU64,
    }

    impl Clocks for Set {
        fn boot_ms(&self) -> u64 {
            self.boot.load(Ordering::Relaxed)
        }
        fn wall_ms(&self) -> u64 {
            self.wall.load(Ordering::Relaxed)
        }
        fn boot_id(&self) -> String {
            self.boots.load(Ordering::Relaxed).to_string()
        }
    }

    impl Set {
        fn new() -> Arc<Self> {
            let set = Self::default();
            set.boot.store(5_000, Ordering::Relaxed);
            set.wall.store(BEGAN, Ordering::Relaxed);
            Arc::new(set)
        }
        fn pass(&self, ms: u64) {
            self.boot.fetch_add(ms, Ordering::Relaxed);
            self.wall.fetch_add(ms, Ordering::Relaxed);
        }
        fn jump(&self, ms: i64) {
            let wall = self.wall_ms().saturating_add_signed(ms);
            self.wall.store(wall, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_jump_of_any_size_moves_the_time_by_less_than_a_thousandth_of_what_passes() {
        for jump in [101, 2_000, 120_000, -120_000, 3_600_000, -3_600_000, 3_155_760_000_000, -1_600_000_000_000] {
            let set = Set::new();
            let clock = SteadyClock::of_file(set.clone(), None);
            set.jump(jump);
            for _ in 0..1_000 {
                set.pass(3_000);
                clock.follow_wall();
            }
            let error = minus(clock.now().0, BEGAN + 3_000_000).abs();
            assert!(error <= 3_000, "{jump}: {error} ms in 50 minutes");
        }
    }

    #[test]
    fn a_small_difference_is_followed_and_a_larger_one_in_time() {
        let set = Set::new();
        let clock = SteadyClock::of_file(set.clone(), None);
        set.jump(80);
        clock.follow_wall();
        assert_eq!(clock.now().0, BEGAN + 80);
        set.jump(2_000);
        for _ in 0..2_000 {
            set.pass(3_000);
            clock.follow_wall();
        }
        assert!(minus(clock.now().0, set.wall_ms()).abs() <= FOLLOWED_AT_ONCE_MS);
    }

    #[test]
    fn the_time_never_goes_back() {
        let set = Set::new();
        let clock = SteadyClock::of_file(set.clone(), None);
        set.jump(-90);
        clock.now();
        clock.follow_wall();
        assert_eq!(clock.now().0, BEGAN);
    }

    #[test]
    fn a_restart_of_the_process_counts_what_has_passed_and_a_restart_of_the_machine_asks_the_wall_clock() {
        let set = Set::new();
        let kept = SteadyClock::of_file(set.clone(), None).kept();
        let later = |set: &Arc<Set>| SteadyClock::of_file(set.clone(), Some(&kept)).now().0;
        set.pass(60_000);
        for jump in [3_600_000, -7_200_000, 3_155_760_000_000] {
            set.jump(jump);
            assert_eq!(later(&set), BEGAN + 60_000, "the machine knows that a minute has passed");
        }
        set.boots.fetch_add(1, Ordering::Relaxed);
        for (wall, expected) in
            [(BEGAN + HOUR, BEGAN + HOUR), (BEGAN - HOUR, BEGAN), (BEGAN + 100 * 366 * 24 * HOUR, BEGAN)]
        {
            set.wall.store(wall, Ordering::Relaxed);
            assert_eq!(later(&set), expected);
        }
    }
}
