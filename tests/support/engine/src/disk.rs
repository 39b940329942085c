//! A disk that a test fills: writes to it fail for lack of space, until there is space again.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::clock::compile;
use crate::{Scratch, scratch};

/// The size of a file system of its own.
const BYTES: u64 = 4 << 30;
/// The number of attempts to make the file system smaller while a process writes to it.
const ATTEMPTS_MAX: usize = 20;

/// A folder on a disk that can be full.
///
/// It is a file system of its own if this process may mount one (as root outside of most containers); there, writing to
/// a hole of a mapped file kills. Otherwise a library makes the process's writes fail.
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
        if !is_mounted {
            std::fs::write(beside.0.join("is-full"), [0]).expect("a file can be made in a new folder");
            compile("disk.c", &beside.0.join("disk.so"));
        }
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

    /// What makes writes fail when it is full, in words.
    #[must_use]
    pub const fn way(&self) -> &'static str {
        if self.is_mounted { "a file system of its own" } else { "a library" }
    }

    /// The command that starts a program whose writes can be made to fail.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if !self.is_mounted {
            command.env("LD_PRELOAD", self.beside.0.join("disk.so"));
            command.env("CEREBELUM_TEST_DISK", self.beside.0.join("is-full"));
        }
        command
    }

    /// Leaves space for this many more bytes. Without a file system of its own there is none.
    ///
    /// # Panics
    /// When the file system cannot be made smaller.
    pub fn fill(&self, room: u64) {
        if !self.is_mounted {
            return self.say_whether_full(true);
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
    pub fn free(&self) {
        match self.is_mounted {
            true => assert!(self.resize(BYTES), "the disk can be freed"),
            false => self.say_whether_full(false),
        }
    }

    fn say_whether_full(&self, is_full: bool) {
        // In place: processes have it mapped.
        let file = std::fs::File::options().write(true).open(self.beside.0.join("is-full"));
        let written = file.and_then(|file| file.write_all_at(&[u8::from(is_full)], 0));
        written.expect("a file on another disk can be written");
    }

    fn resize(&self, bytes: u64) -> bool {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,size={bytes}")]).arg(&self.folder);
        mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }
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
