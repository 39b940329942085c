//! Builds a Python program into a component: checks it in CPython, fetches its dependencies, freezes it.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests: a value that is not there is a failure"))]

mod base;
mod check;
mod component;
mod dependencies;
mod freeze;
mod program;
mod tools;

use std::path::Path;

pub use program::{PythonProgram, is_foreign};

/// The folder of the Python package in the SDK.
pub const SOURCES: &str = "guest-sdk/python/src";

/// What a build needs from its caller.
#[derive(Clone, Copy)]
pub struct Kit<'a> {
    /// The folder of the SDK, with the package in [`SOURCES`] and the contract in `wit`.
    pub sdk: &'a Path,
    /// The folder for everything that can be made anew. It exists.
    pub cache: &'a Path,
    /// Takes what an author is told during a build, line by line: progress, and problems with their places.
    pub note: &'a dyn Fn(&str),
}

/// Why a program cannot be built, in one line for its author.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The program was not named in a way that can be built, or a file or setting of it cannot be read.
    #[error("{0}")]
    Usage(String),
    /// The build failed. The problems of the program itself were noted before.
    #[error("{0}")]
    Failed(String),
}

type Outcome<T = ()> = Result<T, BuildError>;

impl PythonProgram {
    /// Builds the program into a component and returns its bytes.
    ///
    /// # Errors
    /// When the program has problems, and when a tool, the cache or a package is missing.
    pub fn build(&self, kit: Kit<'_>) -> Result<Vec<u8>, BuildError> {
        let tools = tools::find(self, kit)?;
        let scratch = tempfile::tempdir().map_err(|e| BuildError::Failed(format!("cannot make a folder: {e}")))?;
        let packages = dependencies::fetch(self, &tools, kit)?;
        let read = check::check(self, &tools, kit, packages.as_deref(), scratch.path())?;
        let staged = scratch.path().join("program");
        self.stage(&read, &staged)?;
        let parts = component::Parts { program: self, staged: &staged, packages: packages.as_deref() };
        component::freeze(&parts, &base::find(&tools, kit)?, kit)
    }
}

impl Kit<'_> {
    fn note(&self, line: &str) {
        (self.note)(line);
    }

    /// Notes problems, each with its place.
    fn tell(&self, before: &str, problems: &[check::Problem]) {
        for problem in problems {
            let place = match (problem.file.as_str(), problem.line) {
                ("", _) => String::new(),
                (file, 0) => format!("{}: ", shown(Path::new(file))),
                (file, line) => format!("{}:{line}: ", shown(Path::new(file))),
            };
            self.note(&format!("{before}{place}{}", problem.text.trim_end().replace('\n', "\n    ")));
            for step in &problem.trace {
                self.note(&format!("    at {}", shown(Path::new(step))));
            }
        }
    }
}

/// The error of a build whose program has problems.
fn problems(program: &PythonProgram, number: usize) -> BuildError {
    let words = if number == 1 { "a problem" } else { "problems" };
    BuildError::Failed(format!("{} has {words}; see above", shown(&program.entry)))
}

/// A path as the author would write it: relative to the current folder, if it is below that.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).display().to_string()
}
