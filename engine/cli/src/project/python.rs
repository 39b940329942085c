//! Building a Python program into a component with the builder of the Python package.

use std::fs;

use cerebelum_python_builder::{BuildError, Kit, PythonProgram, SOURCES};

use super::Built;
use super::component::check;
use super::sdk_bundle::{LINK, cache_folder, lay_kit, link_kit};
use crate::exit::{CliError, Outcome};
use crate::out::note;

/// Files in which a project can name the link to the kit.
const SETTINGS: [&str; 3] = ["pyproject.toml", "pytest.ini", "setup.cfg"];
/// A hint for a program that is not a component.
const HINT: &str = "decorate async functions with @workflow and @step from cerebelum";

/// Builds a program. Its problems go to stderr, a line for each.
pub(super) fn build(program: &PythonProgram) -> Outcome<Built> {
    let sdk = lay_kit()?;
    link(program)?;
    let name = program.name().to_owned();
    let bytes = program.build(Kit { sdk: &sdk, cache: &cache_folder()?, note: &note })?;
    check(&bytes, HINT).map_err(|why| CliError::failed(format!("{name} was built but {why}")))?;
    Ok(Built { name, bytes, folder: program.folder().to_owned() })
}

/// Links the kit's package into a project that names the link, for editors and tests.
fn link(program: &PythonProgram) -> Outcome {
    let folder = program.folder();
    let names_link = |name: &str| fs::read_to_string(folder.join(name)).is_ok_and(|text| text.contains(LINK));
    if !SETTINGS.into_iter().any(names_link) {
        return Ok(());
    }
    link_kit(folder)?;
    let libraries = fs::read_dir(folder.join(".venv/lib")).into_iter().flatten().flatten();
    for library in libraries {
        let packages = library.path().join("site-packages");
        let path_file = packages.join("cerebelum-sdk.pth");
        let text = format!("{}\n", folder.join(LINK).join(SOURCES).display());
        let is_wanted = packages.is_dir() && !packages.join("cerebelum").exists();
        if is_wanted && fs::read_to_string(&path_file).ok().as_ref() != Some(&text) {
            fs::write(&path_file, text)
                .map_err(|e| CliError::failed(format!("cannot write {}: {e}", path_file.display())))?;
        }
    }
    Ok(())
}

impl From<BuildError> for CliError {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::Usage(line) => Self::usage(line),
            BuildError::Failed(line) => Self::failed(line),
        }
    }
}
