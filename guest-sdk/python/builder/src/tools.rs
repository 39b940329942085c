//! componentize-py and its Python: named by the user, in the project's own environment, or in one in the cache.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{BuildError, Kit, Outcome, PythonProgram};

/// The version that the SDK is written for; the SDK uses internals of its event loop.
pub(crate) const VERSION: &str = "0.25.1";
/// The variable with the program to use instead of ours.
const VARIABLE: &str = "CEREBELUM_COMPONENTIZE";
/// The oldest pip that can report what it would install.
const PIP: &str = "pip>=23.1";
/// Fails on a Python that is too old for the SDK.
const OLDEST: &str = "import sys; sys.exit(sys.version_info < (3, 10))";

/// The programs that a build runs.
#[derive(Debug)]
pub(crate) struct Tools {
    /// componentize-py.
    pub(crate) componentize: PathBuf,
    /// A Python of 3.10 or newer, with pip.
    pub(crate) python: PathBuf,
}

/// Finds the tools, or puts them into the cache and says so on stderr.
pub(crate) fn find(program: &PythonProgram, kit: Kit<'_>) -> Outcome<Tools> {
    if let Some(given) = std::env::var_os(VARIABLE).filter(|given| !given.is_empty()) {
        let componentize = PathBuf::from(given);
        if !componentize.is_file() {
            let line = format!("{VARIABLE} names {}, which is no file", componentize.display());
            return Err(BuildError::Usage(line));
        }
        let python = componentize.with_file_name("python3");
        let python = if python.is_file() { python } else { PathBuf::from("python3") };
        return Ok(Tools { componentize, python });
    }
    match program.places().iter().find_map(|place| Tools::of_environment(&place.join(".venv"))) {
        Some(tools) => Ok(tools),
        None => kept(kit),
    }
}

impl Tools {
    fn in_folder(environment: &Path) -> Self {
        let at = |name: &str| environment.join("bin").join(name);
        Self { componentize: at("componentize-py"), python: at("python3") }
    }

    /// The tools of a virtual environment that has all of them, in the right version.
    fn of_environment(environment: &Path) -> Option<Self> {
        let tools = Self::in_folder(environment);
        let libraries = fs::read_dir(environment.join("lib")).into_iter().flatten().flatten();
        let has = |packages: &Path| {
            packages.join(format!("componentize_py-{VERSION}.dist-info")).is_dir() && packages.join("pip").is_dir()
        };
        let has = libraries.into_iter().any(|library| has(&library.path().join("site-packages")));
        // A link to a Python that was removed meanwhile is not a file.
        (has && tools.componentize.is_file() && tools.python.is_file()).then_some(tools)
    }
}

/// The environment in the cache; created when it is missing.
fn kept(kit: Kit<'_>) -> Outcome<Tools> {
    let cache = kit.cache;
    let environment = cache.join(format!("python-tools-{VERSION}"));
    let ready = environment.join("ready");
    let failed = |e: std::io::Error| BuildError::Failed(format!("cannot write to {}: {e}", environment.display()));
    fs::create_dir_all(cache).map_err(failed)?;
    let lock = File::create(cache.join("python-tools.lock")).map_err(failed)?;
    lock.lock().map_err(failed)?;
    if ready.is_file()
        && let Some(tools) = Tools::of_environment(&environment)
    {
        return Ok(tools);
    }
    kit.note(&format!("installing componentize-py {VERSION} into {}, once", environment.display()));
    if environment.exists() {
        fs::remove_dir_all(&environment).map_err(failed)?;
    }
    make(&environment)?;
    File::create(&ready).map_err(failed)?;
    Ok(Tools::in_folder(&environment))
}

fn make(environment: &Path) -> Outcome {
    let stop = |line: String| BuildError::Failed(line);
    let is_new = Command::new("python3").args(["-c", OLDEST]).stdin(Stdio::null()).status().map_err(|e| {
        stop(format!("cannot run python3: {e}; building Python needs Python 3.10 or newer, install it first"))
    })?;
    if !is_new.success() {
        return Err(stop("python3 is older than 3.10; install a newer one, or put it first in PATH".to_owned()));
    }
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv"]).arg(environment);
    quietly(&mut venv).map_err(|why| {
        stop(format!("python3 cannot make a virtual environment ({why}); on Debian: apt-get install python3-venv"))
    })?;
    let mut pip = Command::new(environment.join("bin/python3"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]);
    pip.args([&format!("componentize-py=={VERSION}"), PIP]);
    quietly(&mut pip).map_err(|why| {
        stop(format!(
            "cannot install componentize-py ({why}); is there a network? Or name one that is installed with {VARIABLE}"
        ))
    })
}

/// Runs a command without showing its output.
///
/// # Errors
/// The last line of its output.
fn quietly(command: &mut Command) -> Result<(), String> {
    let done = command.stdin(Stdio::null()).output().map_err(|e| e.to_string())?;
    if done.status.success() {
        return Ok(());
    }
    let said = [done.stdout, done.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let last = said.lines().map(str::trim).rfind(|line| !line.is_empty());
    Err(last.unwrap_or("without a word").trim_start_matches("ERROR: ").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_is_taken_only_when_it_has_everything_in_the_right_version() {
        let folder = tempfile::tempdir().unwrap();
        let lay = |path: String| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        };
        let has = || Tools::of_environment(folder.path()).is_some();
        lay("bin/python3".to_owned());
        lay("bin/componentize-py".to_owned());
        lay("lib/python3.12/site-packages/componentize_py-0.24.0.dist-info/METADATA".to_owned());
        lay("lib/python3.12/site-packages/pip/__init__.py".to_owned());
        assert!(!has());
        lay(format!("lib/python3.12/site-packages/componentize_py-{VERSION}.dist-info/METADATA"));
        assert!(has());
        fs::remove_file(folder.path().join("bin/python3")).unwrap();
        std::os::unix::fs::symlink("/nowhere/python3", folder.path().join("bin/python3")).unwrap();
        assert!(!has());
    }
}
