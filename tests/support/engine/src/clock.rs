//! A wall clock that a test moves under a running process, like an operator who sets a machine's clock.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Scratch, scratch};

/// The wall clock of the processes that are started with its variables.
#[derive(Debug)]
pub struct WallClock {
    folder: Scratch,
    moved_ms: std::fs::File,
}

impl WallClock {
    /// A clock that is right.
    ///
    /// # Panics
    /// When its library cannot be compiled; the compiler that links Rust programs also compiles C.
    #[must_use]
    pub fn new() -> Self {
        let folder = scratch();
        compile("clock.c", &folder.0.join("clock.so"));
        let moved_ms = std::fs::File::create(folder.0.join("moved-ms")).expect("a file can be made");
        let clock = Self { folder, moved_ms };
        clock.move_to(0);
        clock
    }

    /// The variables with which a process sees this clock.
    #[must_use]
    pub fn variables(&self) -> [(&'static str, String); 2] {
        let path = |name: &str| -> PathBuf { self.folder.0.join(name) };
        [
            ("LD_PRELOAD", path("clock.so").display().to_string()),
            ("CEREBELUM_TEST_CLOCK", path("moved-ms").display().to_string()),
        ]
    }

    /// Makes the clock wrong by this many milliseconds from now on.
    ///
    /// # Panics
    /// When its file cannot be written.
    pub fn move_to(&self, ms: i64) {
        self.moved_ms.write_all_at(&ms.to_ne_bytes(), 0).expect("the clock's file can be written");
    }
}

impl Default for WallClock {
    fn default() -> Self {
        Self::new()
    }
}

/// Compiles a library that is loaded before everything else, from a source beside this one.
pub(crate) fn compile(source: &str, library: &Path) {
    let source = crate::root().join("tests/support/engine/src").join(source);
    let compiled = Command::new("cc").args(["-O2", "-shared", "-fPIC", "-o"]).arg(library).arg(source).status();
    assert!(compiled.expect("there is a C compiler").success(), "a library for tests compiles");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_sees_the_clock_that_it_is_given() {
        let clock = WallClock::new();
        let seconds = || -> i64 {
            let said = Command::new("date").arg("+%s").envs(clock.variables()).output().expect("there is `date`");
            String::from_utf8_lossy(&said.stdout).trim().parse().expect("a number of seconds")
        };
        let before = seconds();
        for moved in [3_600_000, -3_600_000, 1_500, -1_500] {
            clock.move_to(moved);
            let off = seconds() - before - moved / 1_000;
            assert!((-1..=30).contains(&off), "moved by {moved} ms and off by {off} s");
        }
    }
}
