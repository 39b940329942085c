//! Compiled artifacts on disk. An artifact is machine code, so it is loaded only when it is signed with this
//! installation's key. Otherwise the component is compiled again.

mod difference;
mod eviction;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cerebelum_history::Digest;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;
use wasmtime::component::Component;
use wasmtime::{Engine, Module};

use crate::cache::difference::{Base, Unpacked};
use crate::structure::GuestSize;
use crate::{Manifest, SandboxError};

const KEY_FILE: &str = "artifact.key";
const FOLDER: &str = "artifacts";
/// Extension of the signature files.
const SEAL: &str = "seal";
/// Prefix of the names of shared modules.
const MODULE: &str = "module-";
/// Incremented when the format of an artifact or of its signature changes.
const FORMAT: u32 = 3;

/// The compiled artifacts of one installation.
pub(crate) struct Cache {
    folder: PathBuf,
    key: [u8; 32],
    unpacked: Unpacked,
}

/// Metadata of a component that is available without loading it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ArtifactMeta {
    pub(crate) manifest: Manifest,
    pub(crate) size: GuestSize,
    /// The shared modules that it is linked with. It cannot be loaded without them.
    pub(crate) modules: Vec<Digest>,
}

#[derive(Serialize, Deserialize)]
struct Signature {
    /// None for a shared module.
    label: Option<ArtifactMeta>,
    engine: u64,
    /// The artifact that this one is stored as a difference from; none when it is stored whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<Base>,
    mac: String,
}

impl Cache {
    pub(crate) fn open(data: &Path) -> Result<Self, SandboxError> {
        let open = || -> io::Result<Self> {
            let folder = data.join(FOLDER);
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
            let key = installation_key(&data.join(KEY_FILE))?;
            Ok(Self { folder, key, unpacked: Unpacked::default() })
        };
        open().map_err(|cause| SandboxError::Folder { folder: data.display().to_string(), cause })
    }

    /// The metadata of a component, if its signature file can be read.
    pub(crate) fn label(&self, digest: &Digest) -> Option<ArtifactMeta> {
        self.seal(&of_component(digest))?.label
    }

    /// The compiled component, if it is intact and made for this engine.
    pub(crate) fn load(&self, engine: &Engine, digest: &Digest) -> Option<Component> {
        let name = of_component(digest);
        let file = self.intact(engine, &name)?;
        self.touch(&name);
        let component = map_component(engine, &file);
        component.inspect_err(|error| tracing::warn!(name, %error, "cannot load a compiled artifact")).ok()
    }

    /// The compiled module, if it is intact and made for this engine.
    pub(crate) fn load_module(&self, engine: &Engine, digest: &Digest) -> Option<Module> {
        let name = of_module(digest);
        let file = self.intact(engine, &name)?;
        let module = map_module(engine, file);
        module.inspect_err(|error| tracing::warn!(name, %error, "cannot load a compiled artifact")).ok()
    }

    /// Stores a component. On failure it is compiled again later; nothing else is lost.
    pub(crate) fn store_component(&self, component: &Component, digest: &Digest, label: &ArtifactMeta) {
        self.store(&of_component(digest), component.engine(), component.serialize(), Some(label.clone()));
    }

    /// Stores a shared module. On failure it is compiled again later; nothing else is lost.
    pub(crate) fn store_module(&self, module: &Module, digest: &Digest) {
        self.store(&of_module(digest), module.engine(), module.serialize(), None);
    }

    /// Whether an artifact of this module is stored. It may be damaged.
    pub(crate) fn has_module(&self, digest: &Digest) -> bool {
        self.seal_file(&of_module(digest)).exists()
    }

    /// Removes the artifact of this component, and the modules that no other component needs.
    pub(crate) fn forget(&self, digest: &Digest) {
        let modules = self.label(digest).map(|label| label.modules).unwrap_or_default();
        self.remove_or_keep_as_base(&of_component(digest));
        if modules.is_empty() {
            return;
        }
        match self.needed_modules() {
            Ok(needed) => {
                modules.iter().filter(|module| !needed.contains(module)).for_each(|gone| self.remove(&of_module(gone)));
            }
            Err(error) => tracing::warn!(%error, "cannot see which compiled modules are still needed: keeping all"),
        }
    }

    /// The components whose artifacts are older than `age`.
    pub(crate) fn kept_before(&self, age: Duration) -> BTreeSet<Digest> {
        let is_old = |file: &Path| {
            let kept = fs::metadata(file).and_then(|about| about.modified()).ok();
            kept.and_then(|kept| kept.elapsed().ok()).is_some_and(|elapsed| elapsed > age)
        };
        self.components().filter(|digest| is_old(&self.seal_file(&of_component(digest)))).collect()
    }

    /// The components that have an artifact.
    fn components(&self) -> impl Iterator<Item = Digest> + '_ {
        self.names().filter(|name| !name.starts_with(MODULE)).map(|name| Digest::from_text(&name))
    }

    /// The modules that components refer to. A component that is being stored at this moment may need modules that are
    /// not listed yet; if they are removed, it is compiled again.
    fn needed_modules(&self) -> io::Result<BTreeSet<Digest>> {
        // An unreadable folder would look like one without signatures, and modules that are still needed would be
        // removed.
        fs::read_dir(&self.folder)?;
        Ok(self.seals().filter_map(|(_, seal)| seal.label).flat_map(|label| label.modules).collect())
    }

    /// All signatures, with the names of their artifacts.
    fn seals(&self) -> impl Iterator<Item = (String, Signature)> + '_ {
        self.names().filter_map(|name| Some((self.seal(&name)?, name))).map(|(seal, name)| (name, seal))
    }

    /// The names of all artifacts that have a signature.
    fn names(&self) -> impl Iterator<Item = String> + use<> {
        let files = fs::read_dir(&self.folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let seals = files.filter(|file| file.extension() == Some(OsStr::new(SEAL)));
        seals.filter_map(|file| Some(file.file_stem()?.to_str()?.to_owned()))
    }

    fn remove(&self, name: &str) {
        for file in [self.seal_file(name), self.base_file(name), self.whole_file(name), self.difference_file(name)] {
            self.complain(fs::remove_file(file));
        }
    }

    /// Reports a failed removal, unless the file did not exist.
    fn complain(&self, done: io::Result<()>) {
        if let Err(error) = done
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(folder = %self.folder.display(), %error, "cannot remove a compiled artifact");
        }
    }

    fn store(&self, name: &str, engine: &Engine, artifact: wasmtime::Result<Vec<u8>>, label: Option<ArtifactMeta>) {
        let kept = artifact.map_err(|error| format!("{error:#}")).and_then(|artifact| {
            let engine = fingerprint(engine);
            let difference = label.as_ref().and_then(|label| self.difference(name, (engine, label), &artifact));
            let (base, stored) = difference.map_or((None, artifact), |(base, packed)| (Some(base), packed));
            let mut seal = Signature { label, engine, base, mac: String::new() };
            seal.mac = self.mac(name, &seal, blake3::hash(&stored)).to_hex().to_string();
            let sealed = serde_json::to_vec(&seal).expect("a seal has a JSON form");
            let (file, other) = match seal.base {
                None => (self.whole_file(name), self.difference_file(name)),
                Some(_) => (self.difference_file(name), self.whole_file(name)),
            };
            // The signature is written last: an artifact without one does not count.
            write_whole(&file, &stored)
                .and_then(|()| write_whole(&self.seal_file(name), &sealed))
                .map_err(|error| error.to_string())?;
            [other, self.base_file(name)].into_iter().for_each(|stale| self.complain(fs::remove_file(stale)));
            Ok(())
        });
        if let Err(error) = kept {
            tracing::warn!(name, error, "cannot keep a compiled artifact");
        }
    }

    /// The open file of an artifact that matches its signature. The caller loads this very file, even if its name
    /// refers to another file by then.
    fn intact(&self, engine: &Engine, name: &str) -> Option<File> {
        let engine = fingerprint(engine);
        let (seal, file) = self.sealed(engine, name, self.seal(name)?)?;
        match &seal.base {
            None => Some(file),
            Some(base) => self.unpacked(engine, (base, &seal.mac), file),
        }
    }

    /// The file that a signature covers, open at its beginning: a whole artifact, or a difference.
    fn sealed(&self, engine: u64, name: &str, seal: Signature) -> Option<(Signature, File)> {
        let file = if seal.base.is_none() { self.whole_file(name) } else { self.difference_file(name) };
        let mut file = File::open(file).ok()?;
        let mut stored = Vec::new();
        file.read_to_end(&mut stored).ok()?;
        file.rewind().ok()?;
        let expected = blake3::Hash::from_hex(&seal.mac).ok()?;
        // Hashes are compared in constant time.
        if seal.engine != engine || expected != self.mac(name, &seal, blake3::hash(&stored)) {
            tracing::warn!(name, "the compiled artifact is damaged or of another engine: compiling again");
            return None;
        }
        Some((seal, file))
    }

    fn seal(&self, name: &str) -> Option<Signature> {
        self.seal_in(&self.seal_file(name))
    }

    fn seal_in(&self, file: &Path) -> Option<Signature> {
        serde_json::from_slice(&fs::read(file).ok()?).ok()
    }

    fn mac(&self, name: &str, seal: &Signature, stored: blake3::Hash) -> blake3::Hash {
        let label = serde_json::to_vec(&seal.label).expect("a label has a JSON form");
        // Not hashed when the artifact is stored whole, so that signatures made before differences existed remain
        // valid.
        let base = seal.base.as_ref().map(|base| serde_json::to_vec(base).expect("a base has a JSON form"));
        let mut mac = blake3::Hasher::new_keyed(&self.key);
        let parts = [name.as_bytes(), &seal.engine.to_le_bytes(), &label, stored.as_bytes()];
        for part in parts.into_iter().chain(base.as_deref()) {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        mac.finalize()
    }

    fn whole_file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.cwasm"))
    }

    fn difference_file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.delta"))
    }

    fn seal_file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.{SEAL}"))
    }
}

/// Maps a compiled component, which must come from our own compiler: from a sealed artifact or from a compile box.
pub(crate) fn map_component(engine: &Engine, file: &File) -> wasmtime::Result<Component> {
    #[expect(unsafe_code, reason = "callers pass what our own compiler wrote")]
    unsafe {
        Component::deserialize_file(engine, opened(file))
    }
}

/// Maps a compiled module, which must come from our own compiler: from a sealed artifact or from a compile box.
pub(crate) fn map_module(engine: &Engine, file: File) -> wasmtime::Result<Module> {
    #[expect(unsafe_code, reason = "callers pass what our own compiler wrote")]
    unsafe {
        Module::deserialize_open_file(engine, file)
    }
}

/// A path that refers to this open file and to no other.
fn opened(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// The name of a component's files. The signature covers the name, so that an artifact cannot be passed off as another
/// one, nor a module as a component.
fn of_component(digest: &Digest) -> String {
    digest.to_string()
}

fn of_module(digest: &Digest) -> String {
    format!("{MODULE}{digest}")
}

/// A hash of wasmtime's version and of everything else that the machine code depends on.
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
    // A key that another process created first stays.
    match draft(file, &key)?.persist_noclobber(file) {
        Err(failed) if failed.error.kind() != io::ErrorKind::AlreadyExists => Err(failed.error),
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

/// Writes a file atomically.
fn write_whole(file: &Path, bytes: &[u8]) -> io::Result<()> {
    draft(file, bytes)?.persist(file)?;
    Ok(())
}

/// A file with these bytes that is going to be `file`, and goes when it does not come to that. Only this user reads it.
fn draft(file: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let mut draft = NamedTempFile::new_in(file.parent().expect("a file is in a folder"))?;
    draft.write_all(bytes)?;
    Ok(draft)
}
