//! One engine on one database file: the lock on the file itself, and a watch that it is still the file of this name.

use std::collections::BTreeSet;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::StoreError;
use crate::db_error::Error;

/// Nobody but the engine's own user reads a database.
const MODE: u32 = 0o600;
/// What SQLite keeps beside a database.
const BESIDE: [&str; 2] = ["-wal", "-shm"];

/// Which file it is, whatever it is called: device and inode.
type Inode = (u64, u64);

/// The files that this process has open. To open one a second time and close it again would take its locks away from
/// SQLite: those of POSIX belong to the process.
static OPEN: Mutex<BTreeSet<Inode>> = Mutex::new(BTreeSet::new());

/// A database file that this engine has to itself.
#[derive(Debug)]
pub(crate) struct WatchedFile {
    path: PathBuf,
    inode: Inode,
    /// Locked as long as they are open: the file itself, under whatever name, and the name that earlier engines lock.
    _locks: [File; 2],
}

impl WatchedFile {
    /// Takes a file, which is made when it is not there.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let unusable =
            |error: io::Error| StoreError::Unusable(format!("cannot open the database `{}`: {error}", path.display()));
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(unusable)?;
        }
        // Whoever opens at the same time in this process waits here, so that no file is opened twice.
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
        Ok(Self { path: path.to_owned(), inode, _locks: [named, file] })
    }

    /// Where it was when it was opened.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes sure that the file of this name is still the one that was opened.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match std::fs::metadata(&self.path) {
            Ok(found) if inode(&found) == self.inode => Ok(()),
            Ok(_) | Err(_) => Err(Error::FileGone(self.path.display().to_string())),
        }
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

fn in_use(path: &Path) -> StoreError {
    StoreError::Unusable(format!(
        "the database `{}` is in use by another engine: stop that one, or use another file",
        path.display()
    ))
}

/// Opens a file under a lock that the system gives back when the process ends. None: somebody else has it.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(MODE).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

/// Takes from others what an earlier engine let them read. SQLite gives what it makes beside a database its mode.
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
