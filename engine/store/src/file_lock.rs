//! One engine per database file: a lock on the file itself, and a check that the path still leads to that file.

use std::collections::BTreeSet;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::db_error::Error;
use crate::error::StoreError;

/// Only the engine's own user can read a database.
const MODE: u32 = 0o600;
/// The suffixes of the files that SQLite keeps beside a database.
const BESIDE: [&str; 2] = ["-wal", "-shm"];

/// The identity of a file, whatever its name is: device and inode.
type Inode = (u64, u64);

/// The files that this process has open. A file must not be opened and closed a second time, because that would release
/// SQLite's locks: POSIX locks belong to the process.
static OPEN: Mutex<BTreeSet<Inode>> = Mutex::new(BTreeSet::new());

/// A database file that only this engine uses.
#[derive(Debug)]
pub(crate) struct WatchedFile {
    path: PathBuf,
    inode: Inode,
    /// The files beside it, as they were when they were last seen. SQLite makes them with its first connection.
    beside: [Mutex<Option<Inode>>; 2],
    /// The locks are held while these files are open: the database file itself, under any name, and the lock file that
    /// earlier engines use.
    _locks: [File; 2],
}

impl WatchedFile {
    /// Opens and locks a file. It is created if it does not exist.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let unusable =
            |error: io::Error| StoreError::Unusable(format!("cannot open the database `{}`: {error}", path.display()));
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(unusable)?;
        }
        // Opening is serialized within the process, so that no file is opened twice.
        let mut open = open_files();
        if std::fs::metadata(path).is_ok_and(|found| open.contains(&inode(&found))) {
            return Err(in_use(path));
        }
        let named = lock(&beside(path, ".lock")).map_err(unusable)?.ok_or_else(|| in_use(path))?;
        let file = lock(path).map_err(unusable)?.ok_or_else(|| in_use(path))?;
        let found = file.metadata().map_err(unusable)?;
        if !found.is_file() {
            return Err(unusable(io::Error::other("it is not a regular file")));
        }
        for name in [path.to_owned()].into_iter().chain(BESIDE.map(|suffix| beside(path, suffix))) {
            restrict(&name);
        }
        let inode = inode(&found);
        open.insert(inode);
        Ok(Self { path: path.to_owned(), inode, beside: Default::default(), _locks: [named, file] })
    }

    /// The path under which the file was opened.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that the path still leads to the file that was opened, and that the files beside it are the ones that SQLite
    /// has open: what is written to a log that was deleted is lost with this process.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let gone = |path: &Path| Err(Error::FileGone(path.display().to_string()));
        if std::fs::metadata(&self.path).ok().map(|found| inode(&found)) != Some(self.inode) {
            return gone(&self.path);
        }
        for (suffix, seen) in BESIDE.iter().zip(&self.beside) {
            let path = beside(&self.path, suffix);
            let found = std::fs::metadata(&path).ok().map(|found| inode(&found));
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            // With its last connection SQLite itself removes these files.
            if *seen != found && seen.is_some_and(is_open) {
                return gone(&path);
            }
            *seen = found;
        }
        Ok(())
    }
}

impl Drop for WatchedFile {
    fn drop(&mut self) {
        open_files().remove(&self.inode);
    }
}

fn open_files() -> MutexGuard<'static, BTreeSet<Inode>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn inode(file: &Metadata) -> Inode {
    (file.dev(), file.ino())
}

/// Whether this process has a file open. The file may have another name by now, or none.
fn is_open(file: Inode) -> bool {
    let Ok(open) = std::fs::read_dir("/dev/fd") else { return false };
    open.filter_map(Result::ok).any(|open| std::fs::metadata(open.path()).is_ok_and(|found| inode(&found) == file))
}

fn in_use(path: &Path) -> StoreError {
    StoreError::Unusable(format!(
        "the database `{}` is in use by another engine: stop that one, or use another file",
        path.display()
    ))
}

/// Opens a file and locks it until the process ends. Returns `None` if another process has the lock.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(MODE).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

/// Removes permissions for other users that an earlier engine granted. SQLite gives the files beside a database the
/// same mode.
fn restrict(path: &Path) {
    let Ok(found) = std::fs::metadata(path) else { return };
    let mode = found.permissions().mode();
    if mode & 0o077 != 0
        && let Err(error) = std::fs::set_permissions(path, PermissionsExt::from_mode(mode & 0o700))
    {
        tracing::warn!(file = %path.display(), %error, "others may read the database, and this engine may not change that");
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
