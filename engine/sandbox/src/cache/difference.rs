//! Artifacts that are stored as a difference from another artifact.
//!
//! A Python component without its shared modules is 15 to 20 MB of memory image. Most of that belongs to the
//! interpreter and is the same in all components. Machine code is mapped from a file, so the difference is unpacked
//! into an unnamed file, which disappears with its last user.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::time::SystemTime;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{ArtifactMeta, Cache, Signature};

/// Smaller artifacts are stored whole.
const BYTES_MIN: usize = 256 << 10;
/// How many artifacts with the same modules a new one is compared with, newest first.
const BASES_MAX: usize = 2;
/// A difference is stored if it is at most 1/`SHARE` of the artifact's size.
const SHARE: usize = 8;
/// How many unpacked artifacts stay open for the next load. Each takes some 20 MB of disk or page cache.
const UNPACKED_MAX: usize = 8;
/// Extension of the signature of a forgotten component that other artifacts still differ from.
const BASE: &str = "base";

/// The artifact that a difference was made from, and the result of unpacking it.
#[derive(Serialize, Deserialize)]
pub(super) struct Base {
    /// The base artifact, which is stored whole.
    pub(super) name: String,
    /// The hash of the unpacked artifact, and its size in bytes.
    artifact: String,
    size: usize,
}

/// The most recently used unpacked artifacts.
#[derive(Default)]
pub(super) struct Unpacked(Mutex<VecDeque<(String, File)>>);

impl Unpacked {
    fn find(&self, mac: &str) -> Option<File> {
        let mut files = self.0.lock();
        let at = files.iter().position(|(kept, _)| kept == mac)?;
        let found = files.remove(at)?;
        let file = found.1.try_clone().ok();
        files.push_back(found);
        file
    }

    fn add(&self, mac: &str, file: &File) {
        let Ok(file) = file.try_clone() else { return };
        let mut files = self.0.lock();
        files.push_back((mac.to_owned(), file));
        if files.len() > UNPACKED_MAX {
            files.pop_front();
        }
    }

    fn forget(&self, mac: &str) {
        self.0.lock().retain(|(kept, _)| kept != mac);
    }
}

impl Cache {
    /// Packs an artifact as the difference from one that is stored whole and has the same modules, if that saves enough
    /// space.
    pub(super) fn difference(
        &self,
        name: &str,
        (engine, label): (u64, &ArtifactMeta),
        artifact: &[u8],
    ) -> Option<(Base, Vec<u8>)> {
        if artifact.len() < BYTES_MIN || label.modules.is_empty() || self.is_base(name) {
            return None;
        }
        let is_similar = |seal: &Signature| {
            let modules = seal.label.as_ref().map(|label| &label.modules);
            seal.engine == engine && seal.base.is_none() && modules == Some(&label.modules)
        };
        let others = self.seals().filter(|(other, seal)| other != name && is_similar(seal)).map(|(other, _)| other);
        let mut others: Vec<(SystemTime, String)> = others.map(|other| (self.kept_at(&other), other)).collect();
        others.sort_unstable_by(|a, b| b.cmp(a));
        others.into_iter().take(BASES_MAX).find_map(|(_, other)| {
            let (_, theirs) = self.sealed(engine, &other, self.seal(&other)?)?;
            let packed = cerebelum_delta::pack(artifact, Some(&read(theirs)?)).ok()?;
            let base =
                Base { name: other, artifact: blake3::hash(artifact).to_hex().to_string(), size: artifact.len() };
            (packed.len() <= artifact.len() / SHARE).then_some((base, packed))
        })
    }

    /// Unpacks the artifact of a difference whose own signature was checked.
    pub(super) fn unpacked(&self, engine: u64, (base, mac): (&Base, &str), difference: File) -> Option<File> {
        if let Some(file) = self.unpacked.find(mac) {
            return Some(file);
        }
        let theirs = self.seal(&base.name).or_else(|| self.seal_in(&self.base_file(&base.name)))?;
        let (_, theirs) = self.sealed(engine, &base.name, theirs)?;
        let artifact = cerebelum_delta::unpack(&read(difference)?, Some(&read(theirs)?), base.size).ok()?;
        if blake3::hash(&artifact).to_hex().as_str() != base.artifact {
            return None;
        }
        let file = self.without_name(&artifact);
        let file = file.inspect_err(|error| tracing::warn!(%error, "cannot unpack a compiled artifact")).ok()?;
        self.unpacked.add(mac, &file);
        Some(file)
    }

    /// Removes an artifact. If other artifacts differ from it, only its name is removed. Its own base is removed too,
    /// if that has no name any more and no other artifact differs from it.
    pub(super) fn remove_or_keep_as_base(&self, name: &str) {
        let seal = self.seal(name);
        match self.is_base(name) {
            true => self.complain(fs::rename(self.seal_file(name), self.base_file(name))),
            false => self.remove(name),
        }
        let Some(seal) = seal else { return };
        self.unpacked.forget(&seal.mac);
        if let Some(base) = seal.base
            && self.base_file(&base.name).exists()
            && !self.is_base(&base.name)
        {
            self.remove(&base.name);
        }
    }

    /// The signature of a forgotten component that other artifacts still differ from.
    pub(super) fn base_file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.{BASE}"))
    }

    fn is_base(&self, name: &str) -> bool {
        self.seals().any(|(_, seal)| seal.base.is_some_and(|base| base.name == name))
    }

    pub(super) fn kept_at(&self, name: &str) -> SystemTime {
        let about = fs::metadata(self.seal_file(name)).and_then(|about| about.modified());
        about.unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// Creates an unnamed file with these bytes. Only its descriptor refers to it.
    fn without_name(&self, bytes: &[u8]) -> io::Result<File> {
        let mut file = tempfile::tempfile_in(&self.folder)?;
        file.write_all(bytes)?;
        Ok(file)
    }
}

fn read(mut file: File) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).ok()?;
    Some(bytes)
}
