//! A disk that a test fills: writes to it fail for lack of space, until there is space again.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Resource, Rlimit};

use crate::{Scratch, scratch};

/// The size of a file system of its own.
const BYTES: u64 = 4 << 30;
/// The number of attempts to make the file system smaller while a process writes to it.
const ATTEMPTS_MAX: usize = 20;

/// A folder on a disk that can be full.
///
/// It is a file system of its own if this process may mount one (as root outside of most containers): then writes fail
/// with ENOSPC, and writing to a hole of a mapped file kills. Otherwise the process is forbidden to write to files:
/// writes fail with EFBIG.
#[derive(Debug)]
pub struct Disk {
    /// A folder for files that must not be on the full disk.
    beside: Scratch,
    folder: PathBuf,
    is_mounted: bool,
}

impl Disk {
    /// A disk with free space.
    ///
    /// # Panics
    /// When no folder can be made.
    #[must_use]
    pub fn new() -> Self {
        let beside = scratch();
        let folder = beside.0.join("disk");
        std::fs::create_dir(&folder).expect("a folder can be made in a new one");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={BYTES}"), "tmpfs"]).arg(&folder);
        let is_mounted = mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        Self { beside, folder, is_mounted }
    }

    /// The folder on this disk.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A folder on another disk, which is removed with this one.
    #[must_use]
    pub fn beside(&self) -> &Path {
        &self.beside.0
    }

    /// The error of writes when it is full.
    #[must_use]
    pub const fn way(&self) -> &'static str {
        if self.is_mounted { "ENOSPC" } else { "EFBIG" }
    }

    /// The command that starts a program whose writes can be made to fail.
    pub(crate) fn command(&self, program: &Path) -> Command {
        if self.is_mounted {
            return Command::new(program);
        }
        // A process that writes beyond its limit is killed unless it ignores that signal from its start.
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]).arg(program);
        command
    }

    /// Leaves space for this many more bytes. Without a file system of its own there is none, and only this process
    /// notices.
    ///
    /// # Panics
    /// When the file system cannot be made smaller.
    pub fn fill(&self, pid: Option<u32>, room: u64) {
        if !self.is_mounted {
            return limit(pid, Some(0));
        }
        // Meanwhile a process writes to it, and it cannot become smaller than its content.
        let is_done = (0..ATTEMPTS_MAX).any(|_| {
            let stat = rustix::fs::statvfs(&self.folder).expect("a mounted file system says what is on it");
            self.resize((stat.f_blocks - stat.f_bfree) * stat.f_frsize + room)
        });
        assert!(is_done, "the disk can be filled");
    }

    /// Gives the space back.
    ///
    /// # Panics
    /// When the file system cannot be made larger.
    pub fn free(&self, pid: Option<u32>) {
        match self.is_mounted {
            true => assert!(self.resize(BYTES), "the disk can be freed"),
            false => limit(pid, None),
        }
    }

    fn resize(&self, bytes: u64) -> bool {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,size={bytes}")]).arg(&self.folder);
        mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }
}

/// Limits the size of the files that this process writes.
fn limit(pid: Option<u32>, bytes: Option<u64>) {
    let Some(pid) = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw) else { return };
    let maximum = rustix::process::getrlimit(Resource::Fsize).maximum;
    // A process that has ended writes nothing.
    let _ = rustix::process::prlimit(Some(pid), Resource::Fsize, Rlimit { current: bytes.or(maximum), maximum });
}

impl Default for Disk {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.is_mounted {
            // Also when a test fails: the file system takes memory.
            let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
        }
    }
}
