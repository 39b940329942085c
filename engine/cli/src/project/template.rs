//! The template of a new project: one workflow, two steps, a test.

use std::fs;
use std::path::Path;

use super::sdk_bundle::{LOCK, link_kit};
use crate::args::Language;
use crate::exit::{CliError, Code, Outcome};

/// The placeholder for the project's name.
const PLACEHOLDER: &str = "PROJECT_NAME";
/// The files of a project: paths and texts.
type Files = &'static [(&'static str, &'static str)];
const RUST: Files = &[
    ("Cargo.toml", include_str!("template/rust/manifest.toml")),
    ("src/lib.rs", include_str!("template/rust/lib.rs.txt")),
    ("input.json", include_str!("template/input.json")),
    ("README.md", include_str!("template/rust/README.md")),
    (".gitignore", "/target\n/.cerebelum\n*.wasm\n"),
    ("Cargo.lock", LOCK),
];
const PYTHON: Files = &[
    ("app.py", include_str!("template/python/app.py")),
    ("test_app.py", include_str!("template/python/test_app.py")),
    ("requirements.txt", include_str!("template/python/requirements.txt")),
    ("pyproject.toml", include_str!("template/python/pyproject.toml")),
    ("input.json", include_str!("template/input.json")),
    ("README.md", include_str!("template/python/README.md")),
    (".gitignore", "__pycache__/\n/.cerebelum\n/.venv\n*.wasm\n"),
];
const NAME_LETTERS_MAX: usize = 64;
/// Words that cannot be the name of a crate: Rust's own, its libraries' and ours.
const TAKEN: &str = "abstract alloc as async await become box break cerebelum const continue core crate do dyn else enum \
    extern false final fn for gen if impl in let loop macro match mod move mut override priv proc_macro pub ref return \
    self serde static std struct super test trait true try type typeof unsafe unsized use virtual where while yield";

/// Creates a project in `folder`, which must not exist yet; its last part is the project's name.
pub(crate) fn scaffold(folder: &Path, language: Language) -> Outcome {
    let shown = folder.display();
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    check_name(name)?;
    let files = match language {
        Language::Rust => {
            check_crate_name(name)?;
            RUST
        }
        Language::Python => PYTHON,
    };
    if folder.exists() {
        return Err(CliError::new(Code::Refused, format!("{shown} is there already; choose another name")));
    }
    let failed = |e: std::io::Error| CliError::failed(format!("cannot write {shown}: {e}"));
    for (path, text) in files {
        let place = folder.join(path);
        fs::create_dir_all(place.parent().unwrap_or(folder)).map_err(failed)?;
        fs::write(place, text.replace(PLACEHOLDER, name)).map_err(failed)?;
    }
    link_kit(folder)
}

fn check_name(name: &str) -> Outcome {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let is_name = name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(allowed);
    if !is_name || name.len() > NAME_LETTERS_MAX {
        return Err(CliError::usage(format!(
            "`{name}` is no name for a project: begin with a letter, then a-z 0-9 - _"
        )));
    }
    Ok(())
}

fn check_crate_name(name: &str) -> Outcome {
    match TAKEN.split_whitespace().any(|taken| taken == name.replace('-', "_")) {
        true => Err(CliError::usage(format!("`{name}` means something else in Rust; choose another name"))),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cannot_be_crates_are_refused() {
        for name in ["", "Hello", "1st", "a b", "../x y", "fn", "std", "cerebelum", "é", "-a"] {
            let why = check_name(name).and_then(|()| check_crate_name(name)).unwrap_err();
            assert_eq!(why.code, Some(Code::Usage), "{name}");
        }
        for name in ["hello", "droplet-deployment", "a_1"] {
            check_name(name).and_then(|()| check_crate_name(name)).unwrap();
        }
    }

    #[test]
    fn what_is_there_already_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("mine");
        fs::create_dir(&place).unwrap();
        for language in [Language::Rust, Language::Python] {
            assert_eq!(scaffold(&place, language).unwrap_err().code, Some(Code::Refused));
        }
        assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
    }
}
