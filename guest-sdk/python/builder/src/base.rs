//! The base of all Python components: the interpreter with the SDK, frozen once for each version of the SDK.
//!
//! componentize-py takes a quarter of a minute to make it, mostly to compile the interpreter. Freezing a program begins
//! from the base, with machine code that is kept, and takes a second.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::freeze::{self, Failed, Job, Mount};
use crate::tools::{Tools, VERSION};
use crate::{BuildError, Kit, Outcome, SOURCES};

/// The module that the base begins with.
const ENTRY: &str = "cerebelum_entry";
const ENTRY_TEXT: &str = "\"\"\"The entry of a component; made by `cerebelum build`.\"\"\"\n\n\
     from cerebelum import _freeze\n\
     from cerebelum._component import Guest, WitWorld  # noqa: F401\n\n\
     _freeze.prepare(\"/python\", \"/0/python\")\n";
/// The contents of a base's folder.
const COMPONENT: &str = "base.wasm";
const ARTIFACT: &str = "base.cwasm";
const ENTRY_FOLDER: &str = "entry";
/// A copy of the standard library, made with the base.
const LIBRARY: &str = "entry/python";
/// The folder of compiled modules.
const CODE: &str = "code";
/// The mount points of a build. Those of the base have to be where componentize-py mounts them.
const LIBRARY_MOUNT: &str = "/python";
const SDK_MOUNT: &str = "/1";
const PROGRAM_MOUNT: &str = "/2";
const PACKAGES_MOUNT: &str = "/3";
const CODE_MOUNT: &str = "/code";

/// A base in the cache.
pub(crate) struct Base {
    component: Vec<u8>,
    folder: PathBuf,
    sdk: PathBuf,
}

/// The parts from which a base makes a component.
pub(crate) struct Sources<'a> {
    /// The module to import.
    pub(crate) module: &'a str,
    /// The author's files.
    pub(crate) program: &'a Path,
    /// The packages that these depend on.
    pub(crate) packages: Option<&'a Path>,
    /// The seed of the build's random numbers.
    pub(crate) seed: &'a str,
}

impl Base {
    /// Where the author's files are mounted while a component is built.
    pub(crate) const PROGRAM: &str = PROGRAM_MOUNT;

    /// Makes a component.
    pub(crate) fn freeze(&self, sources: &Sources<'_>) -> Result<Vec<u8>, Failed> {
        let library = self.folder.join(LIBRARY);
        let mut roots = vec![(library.as_path(), LIBRARY_MOUNT), (&self.sdk, SDK_MOUNT)];
        roots.extend(sources.packages.map(|packages| (packages, PACKAGES_MOUNT)));
        let code = roots.iter().map(|(folder, mount)| self.compiled(folder, mount)).collect::<Result<Vec<_>, _>>()?;
        roots.insert(2, (sources.program, PROGRAM_MOUNT));
        let path: Vec<&str> = roots.iter().map(|(_, mount)| *mount).collect();
        // At run time there are no files. So all modules but those of the standard library are kept, because functions
        // may import them.
        let order = json!({ "module": sources.module, "path": path, "roots": path[1..], "code": code });
        let compiled = self.folder.join(CODE);
        let mut mounts = vec![Mount::read(&compiled, CODE_MOUNT)];
        mounts.extend(roots.iter().map(|(folder, mount)| Mount::read(folder, mount)));
        self.run(&mounts, &order, sources.seed)
    }

    /// Compiles a folder of modules, unless that is done, and returns where a program finds the code.
    fn compiled(&self, folder: &Path, mount: &str) -> Result<String, Failed> {
        let name = match mount {
            PACKAGES_MOUNT => folder.file_name().unwrap_or_default().to_string_lossy(),
            mount => mount.trim_start_matches('/').into(),
        };
        let (code, file) = (self.folder.join(CODE), format!("{CODE_MOUNT}/{name}"));
        let is_there = || code.join(&*name).is_file();
        if is_there() {
            return Ok(file);
        }
        let _alone = lock(&self.folder).map_err(|e| Failed::Build(format!("cannot lock the cache: {e}")))?;
        if !is_there() {
            let mounts = [Mount::write(&code, CODE_MOUNT), Mount::read(folder, mount)];
            match self.run(&mounts, &json!({ "folder": mount, "file": file }), "") {
                Err(Failed::Left(0, _)) => {}
                Err(failed) => return Err(failed),
                Ok(_) => return Err(Failed::Build("it went on after compiling".to_owned())),
            }
        }
        Ok(file)
    }

    fn run(&self, mounts: &[Mount<'_>], order: &Value, seed: &str) -> Result<Vec<u8>, Failed> {
        let base = freeze::Base { component: &self.component, artifact: &self.folder.join(ARTIFACT) };
        freeze::freeze(&base, &Job { mounts, order: &order.to_string(), seed: seed.as_bytes() })
    }
}

/// Finds the base for this kit, or makes it and says so on stderr.
pub(crate) fn find(tools: &Tools, kit: Kit<'_>) -> Outcome<Base> {
    let cache = kit.cache;
    let kit_name = kit.sdk.file_name().unwrap_or_default().to_string_lossy();
    let folder = cache.join(format!("python-base-{VERSION}-{kit_name}"));
    let failed = |e: io::Error| BuildError::Failed(format!("cannot write to {}: {e}", cache.display()));
    let _alone = lock(&folder).map_err(failed)?;
    if !folder.join(COMPONENT).is_file() {
        kit.note("preparing the interpreter of Python components, once for this version of the SDK");
        let scratch = tempfile::Builder::new().prefix("preparing-").tempdir_in(cache).map_err(failed)?;
        make(tools, kit, scratch.path())?;
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(failed)?;
        }
        fs::rename(scratch.path(), &folder).map_err(failed)?;
    }
    let component = fs::read(folder.join(COMPONENT)).map_err(failed)?;
    Ok(Base { component, folder, sdk: kit.sdk.join(SOURCES) })
}

/// Waits until no other process works in the folder of a base, and then keeps others waiting.
fn lock(folder: &Path) -> io::Result<File> {
    let lock = File::create(folder.with_file_name("python-base.lock"))?;
    lock.lock()?;
    Ok(lock)
}

/// Makes the base in a folder.
fn make(tools: &Tools, kit: Kit<'_>, folder: &Path) -> Outcome {
    let entry = folder.join(ENTRY_FOLDER);
    // componentize-py adds the packages of the environment in which it is: this environment has none.
    let environment = folder.join("environment");
    let failed = |e: io::Error| BuildError::Failed(format!("cannot write to {}: {e}", folder.display()));
    fs::create_dir_all(environment.join("lib/site-packages")).map_err(failed)?;
    fs::create_dir_all(&entry).and_then(|()| fs::create_dir_all(folder.join(CODE))).map_err(failed)?;
    fs::write(entry.join(format!("{ENTRY}.py")), ENTRY_TEXT).map_err(failed)?;
    let mut command = Command::new(&tools.componentize);
    command.arg("--quiet").arg("--wit-path").arg(kit.sdk.join("wit")).args(["--world", "component", "componentize"]);
    for sources in [&entry, &kit.sdk.join(SOURCES)] {
        command.arg("--python-path").arg(sources);
    }
    command.arg(ENTRY).arg("--output").arg(folder.join(COMPONENT));
    command.env("VIRTUAL_ENV", &environment).env("RUST_BACKTRACE", "0");
    let done = command
        .stdin(Stdio::null())
        .output()
        .map_err(|e| BuildError::Failed(format!("cannot run {}: {e}", tools.componentize.display())))?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        let line = format!("componentize-py {VERSION} cannot prepare the interpreter: {}", said.trim());
        return Err(BuildError::Failed(line));
    }
    Ok(())
}
