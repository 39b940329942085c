//! Guest projects: the kit that they are built with, the template of a new one, and builds.

mod cargo;
mod component;
mod foreign;
mod python;
mod sdk_bundle;
mod template;

use std::fs;
use std::path::{Path, PathBuf};

use cerebelum_python_builder::PythonProgram;
pub(crate) use cerebelum_python_builder::is_foreign;

use crate::exit::{CliError, Outcome};
pub(crate) use template::scaffold;

/// A built component.
pub(crate) struct Built {
    /// The name of the package, file or folder.
    pub(crate) name: String,
    /// The component.
    pub(crate) bytes: Vec<u8>,
    /// The project's folder.
    pub(crate) folder: PathBuf,
}

/// Builds the project at `path`: a crate (its folder or `Cargo.toml`) or a Python program (its file or folder). Its
/// problems, and the output of cargo, go to stderr.
pub(crate) fn build(path: &Path) -> Outcome<Built> {
    match find(path)? {
        Project::Crate(folder) => cargo::build(&folder),
        Project::Python(program) => python::build(&program),
    }
}

/// What can be built.
pub(crate) enum Project {
    /// The folder of a crate.
    Crate(PathBuf),
    /// A Python program.
    Python(PythonProgram),
}

/// Finds the project at a path, without building it.
pub(crate) fn find(path: &Path) -> Outcome<Project> {
    let shown = path.display();
    let whole = fs::canonicalize(path).map_err(|e| {
        CliError::usage(format!(
            "cannot build {shown}: {e}; name the folder of a crate, or a Python file or its folder"
        ))
    })?;
    if let Some(folder) = cargo::crate_folder(&whole) {
        return Ok(Project::Crate(folder));
    }
    match PythonProgram::find(&whole)? {
        Some(program) => Ok(Project::Python(program)),
        None => Err(CliError::usage(format!(
            "cannot build {shown}: there is neither a Cargo.toml nor Python; name the folder of a crate or a Python \
             file, or begin one with `cerebelum new`"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_built_is_refused_with_a_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let why = |path: PathBuf| build(&path).err().unwrap().line;
        assert!(why(at("nowhere")).contains("name the folder of a crate"));
        assert!(why(folder.path().to_owned()).contains("cerebelum new"));
        fs::write(at("notes.txt"), "").unwrap();
        assert!(why(at("notes.txt")).contains("neither a Cargo.toml nor Python"));
        fs::write(at("flow.py"), "").unwrap();
        assert!(why(folder.path().to_owned()).contains("flow.py"));
        fs::write(at("Cargo.toml"), "[workspace]\nmembers = []\n").unwrap();
        assert!(why(at("Cargo.toml")).contains("is a workspace"));
        fs::write(at("Cargo.toml"), "[package\n").unwrap();
        assert!(!why(folder.path().to_owned()).contains('\n'));
    }
}
