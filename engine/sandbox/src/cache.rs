//! Compiled artifacts on disk. An artifact is machine code, so it is loaded only when it is sealed with this
//! installation's key; anything else is compiled again.

use std::fs::{self, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use cerebelum_history::Digest;
use serde::{Deserialize, Serialize};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::{Manifest, SandboxError};

const KEY_FILE: &str = "artifact.key";
const FOLDER: &str = "artifacts";
/// Counts up when what an artifact or its seal consists of changes.
const FORMAT: u32 = 1;

/// The artifacts of one installation.
pub(crate) struct Cache {
    folder: PathBuf,
    key: [u8; 32],
}

/// What is known about an artifact without loading it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Label {
    pub(crate) manifest: Manifest,
    pub(crate) memory_bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct Seal {
    label: Label,
    engine: u64,
    mac: String,
}

impl Cache {
    pub(crate) fn open(data: &Path) -> Result<Self, SandboxError> {
        let open = || -> io::Result<Self> {
            let folder = data.join(FOLDER);
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
            Ok(Self { folder, key: installation_key(&data.join(KEY_FILE))? })
        };
        open().map_err(|cause| SandboxError::Folder { folder: data.display().to_string(), cause })
    }

    /// What an intact artifact of this component says about itself.
    pub(crate) fn label(&self, digest: &Digest) -> Option<Label> {
        Some(self.seal(digest)?.label)
    }

    /// The artifact, if it is intact and made for this engine.
    pub(crate) fn load(&self, engine: &Engine, digest: &Digest) -> Option<Component> {
        let seal = self.seal(digest)?;
        let artifact = fs::read(self.artifact_file(digest)).ok()?;
        let expected = blake3::Hash::from_hex(&seal.mac).ok()?;
        // Comparing hashes takes the same time wherever they differ.
        if seal.engine != fingerprint(engine) || expected != self.mac(digest, &seal, &artifact) {
            tracing::warn!(%digest, "the compiled artifact is damaged or of another engine: compiling again");
            return None;
        }
        #[expect(unsafe_code, reason = "the artifact is sealed with this installation's key: we wrote it ourselves")]
        let component = unsafe { Component::deserialize_file(engine, self.artifact_file(digest)) };
        component.inspect_err(|error| tracing::warn!(%digest, %error, "cannot load a compiled artifact")).ok()
    }

    /// Keeps an artifact. Trouble costs another compilation later, nothing else.
    pub(crate) fn store(&self, component: &Component, digest: &Digest, label: &Label) {
        let stored = component.serialize().map_err(|error| format!("{error:#}")).and_then(|artifact| {
            let mut seal = Seal { label: label.clone(), engine: fingerprint(component.engine()), mac: String::new() };
            seal.mac = self.mac(digest, &seal, &artifact).to_hex().to_string();
            let sealed = serde_json::to_vec(&seal).expect("a seal has a JSON form");
            let written = write_whole(&self.artifact_file(digest), &artifact);
            written.and_then(|()| write_whole(&self.seal_file(digest), &sealed)).map_err(|error| error.to_string())
        });
        if let Err(error) = stored {
            tracing::warn!(%digest, %error, "cannot keep a compiled artifact");
        }
    }

    /// Removes what is kept for this component.
    pub(crate) fn forget(&self, digest: &Digest) {
        for file in [self.seal_file(digest), self.artifact_file(digest)] {
            if let Err(error) = fs::remove_file(&file)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(file = %file.display(), %error, "cannot remove a compiled artifact");
            }
        }
    }

    fn seal(&self, digest: &Digest) -> Option<Seal> {
        serde_json::from_slice(&fs::read(self.seal_file(digest)).ok()?).ok()
    }

    fn mac(&self, digest: &Digest, seal: &Seal, artifact: &[u8]) -> blake3::Hash {
        let label = serde_json::to_vec(&seal.label).expect("a label has a JSON form");
        let mut mac = blake3::Hasher::new_keyed(&self.key);
        for part in [digest.as_str().as_bytes(), &seal.engine.to_le_bytes(), &label, artifact] {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        mac.finalize()
    }

    fn artifact_file(&self, digest: &Digest) -> PathBuf {
        self.folder.join(format!("{digest}.cwasm"))
    }

    fn seal_file(&self, digest: &Digest) -> PathBuf {
        self.folder.join(format!("{digest}.seal"))
    }
}

/// Wasmtime's version and everything that machine code depends on.
fn fingerprint(engine: &Engine) -> u64 {
    let mut hasher = DefaultHasher::new();
    FORMAT.hash(&mut hasher);
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.finish()
}

fn installation_key(file: &Path) -> io::Result<[u8; 32]> {
    if let Some(key) = read_key(file)? {
        return Ok(key);
    }
    let mut key = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut key)?;
    let draft = draft_of(file);
    write_new(&draft, &key)?;
    // A link, unlike a rename, does not replace the key of somebody who was faster.
    let linked = fs::hard_link(&draft, file);
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => read_key(file)?.ok_or_else(|| io::Error::other("the key file vanished")),
    }
}

fn read_key(file: &Path) -> io::Result<Option<[u8; 32]>> {
    match fs::read(file) {
        Ok(bytes) => match bytes.try_into() {
            Ok(key) => Ok(Some(key)),
            Err(_) => Err(io::Error::other(format!("{} is no key of 32 bytes: remove it", file.display()))),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Puts a file in place whole or not at all.
fn write_whole(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = draft_of(file);
    let written = write_new(&draft, bytes).and_then(|()| fs::rename(&draft, file));
    if written.is_err() {
        // What remains of a failed attempt is of no use to anybody.
        let _ = fs::remove_file(&draft);
    }
    written
}

fn write_new(file: &Path, bytes: &[u8]) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?.write_all(bytes)
}

fn draft_of(file: &Path) -> PathBuf {
    static DRAFTS: AtomicU64 = AtomicU64::new(0);
    let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
    file.with_extension(format!("{}-{number}.draft", std::process::id()))
}
