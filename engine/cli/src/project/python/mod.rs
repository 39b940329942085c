//! Builds a Python program into a component: checks it in CPython, fetches its dependencies, freezes it.

mod base;
mod check;
mod component;
mod dependencies;
mod freeze;
mod program;
mod tools;

use std::fs;
use std::path::Path;

use super::sdk_bundle::{LINK, lay_kit, link_kit};
use super::{Built, shown};
use crate::exit::{CliError, Code, Outcome};
use crate::out::note;

pub(crate) use program::is_foreign;
pub(super) use program::{PythonProgram, find};

/// The folder of the Python package in the kit.
pub(super) const SOURCES: &str = "guest-sdk/python/src";
/// Files in which a project can name the link to the kit.
const SETTINGS: [&str; 3] = ["pyproject.toml", "pytest.ini", "setup.cfg"];

/// Builds a program. Its problems go to stderr, a line for each.
pub(super) fn build(program: &PythonProgram) -> Outcome<Built> {
    let sdk_bundle = lay_kit()?;
    link(program)?;
    let tools = tools::find(program)?;
    let scratch = tempfile::tempdir().map_err(|e| CliError::new(Code::Failed, format!("cannot make a folder: {e}")))?;
    let packages = dependencies::fetch(program, &tools, &sdk_bundle)?;
    let read = check::check(program, &tools, &sdk_bundle, packages.as_deref(), scratch.path())?;
    let staged = scratch.path().join("program");
    program.stage(&read, &staged)?;
    let parts = component::Parts { program, staged: &staged, packages: packages.as_deref() };
    let bytes = component::freeze(&parts, &base::find(&tools, &sdk_bundle)?)?;
    Ok(Built { name: program.name.clone(), bytes, folder: program.folder.clone() })
}

/// Links the kit's package into a project that names the link, for editors and tests.
fn link(program: &PythonProgram) -> Outcome {
    let folder = &program.folder;
    let names_link = |name: &str| fs::read_to_string(folder.join(name)).is_ok_and(|text| text.contains(LINK));
    if !SETTINGS.into_iter().any(names_link) {
        return Ok(());
    }
    link_kit(folder)?;
    let libraries = fs::read_dir(folder.join(".venv/lib")).into_iter().flatten().flatten();
    for library in libraries {
        let packages = library.path().join("site-packages");
        let note = packages.join("cerebelum-sdk.pth");
        let text = format!("{}\n", folder.join(LINK).join(SOURCES).display());
        let is_wanted = packages.is_dir() && !packages.join("cerebelum").exists();
        if is_wanted && fs::read_to_string(&note).ok().as_ref() != Some(&text) {
            fs::write(&note, text)
                .map_err(|e| CliError::new(Code::Failed, format!("cannot write {}: {e}", shown(&note))))?;
        }
    }
    Ok(())
}

/// Reports problems on stderr, each with its place.
fn tell(before: &str, problems: &[check::Problem]) {
    for problem in problems {
        let place = match (problem.file.as_str(), problem.line) {
            ("", _) => String::new(),
            (file, 0) => format!("{}: ", shown(Path::new(file))),
            (file, line) => format!("{}:{line}: ", shown(Path::new(file))),
        };
        note(&format!("{before}{place}{}", problem.text.trim_end().replace('\n', "\n    ")));
        for step in &problem.trace {
            note(&format!("    at {}", shown(Path::new(step))));
        }
    }
}

/// The error of the verb when the program has problems.
fn problems(program: &PythonProgram, number: usize) -> CliError {
    let words = if number == 1 { "a problem" } else { "problems" };
    CliError::new(Code::Failed, format!("{} has {words}; see above", shown(&program.entry)))
}
