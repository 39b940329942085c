//! Python for tests: programs that a test writes, as components; and programs that talk to an engine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use cerebelum_history::Digest;

use crate::{program, root};

/// The number of digest digits that tell programs apart.
const DIGEST_DIGITS: usize = 12;

/// The component of a program from the test: paths and texts, with an `app.py` among them. It is built once, and again
/// when the text or the `cerebelum` that builds it changes. (Components of `examples` and `tests/support/guests` are
/// built by `examples/build`; get them with [`component`](crate::component).)
///
/// # Panics
/// When the build fails, with its output.
#[must_use]
pub fn python_component(name: &str, files: &[(&str, &str)]) -> String {
    static BUILDING: Mutex<()> = Mutex::new(());
    let builder = program("cerebelum");
    let about = fs::metadata(&builder).expect("it was just found");
    let built_ns =
        about.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map(|age| age.as_nanos());
    let digest = Digest::of(format!("{built_ns:?} {} {files:?}", about.len()).as_bytes());
    let folder = root().join("target/components/of-tests");
    let wasm = folder.join(format!("{name}-{}.wasm", &digest.as_str()[..DIGEST_DIGITS]));
    // One at a time: the second of two tests that need the same program finds it built.
    let _alone = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    if !wasm.is_file() {
        forget_older(&folder, name);
        let sources = folder.join(name);
        for (path, text) in files {
            let path = sources.join(path);
            fs::create_dir_all(path.parent().expect("it is inside the folder")).expect("a folder can be made there");
            fs::write(path, text).expect("a file can be written there");
        }
        build(&sources, &wasm);
    }
    wasm.display().to_string()
}

/// The sources of packages that are installed for the tests' own Python, as files of a program.
///
/// # Panics
/// When one of them is missing.
#[must_use]
pub fn python_packages(names: &[&str]) -> Vec<(String, String)> {
    let libraries = environment().with_file_name("lib").read_dir().expect("there are libraries");
    let library = libraries.flatten().next().expect("there is one version of Python").path().join("site-packages");
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> = names.iter().map(|name| library.join(name)).collect();
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().expect("the package is installed").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "py") {
                let name = path.strip_prefix(&library).expect("it was found there").display().to_string();
                files.push((name, fs::read_to_string(&path).expect("it is a text")));
            }
        }
    }
    files.sort();
    files
}

fn forget_older(folder: &Path, name: &str) {
    // The folder may not exist.
    let _ = fs::remove_dir_all(folder.join(name));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        let rest = file.strip_prefix(name).and_then(|rest| rest.strip_prefix('-')).unwrap_or_default();
        if rest.len() == DIGEST_DIGITS + ".wasm".len() && rest.ends_with(".wasm") {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// `cerebelum build` of the program in a folder.
///
/// # Panics
/// When the command line cannot be run.
#[must_use]
pub fn python_build(sources: &Path, wasm: &Path) -> Output {
    let mut build = Command::new(program("cerebelum"));
    build.arg("build").arg(sources.join("app.py")).arg("-o").arg(wasm);
    build.env("CEREBELUM_COMPONENTIZE", environment().join("componentize-py"));
    build.env("XDG_CACHE_HOME", root().join("target/cache")).output().expect("the command line can be run")
}

fn build(sources: &Path, wasm: &Path) {
    // Under another name until it is complete.
    let beside = wasm.with_extension(format!("new-{}", std::process::id()));
    let done = python_build(sources, &beside);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    fs::rename(&beside, wasm).expect("a file can be renamed beside itself");
}

/// A command that runs the tests' own Python, with the SDK and its client.
///
/// # Panics
/// When that Python is missing.
#[must_use]
pub fn python() -> Command {
    let mut command = Command::new(environment().join("python"));
    command.env("PYTHONPATH", root().join("guest-sdk/python/src")).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// The programs of the tests' own Python.
fn environment() -> PathBuf {
    let folder = root().join("target/python/bin");
    assert!(folder.is_dir(), "{} is missing: run `make setup` first", folder.display());
    folder
}
