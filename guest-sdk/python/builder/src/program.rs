//! Finds a Python program and the files that belong to it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::{BuildError, Outcome, shown};

/// Files that are the entry of a program when only its folder is named, the first one first.
const ENTRIES: [&str; 3] = ["app.py", "workflow.py", "main.py"];
/// Folders that never contain the author's program.
const NOT_SOURCE: [&str; 4] = ["__pycache__", "node_modules", "target", "site-packages"];
/// The largest file beside the entry that is copied although the check did not read it.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The number of files that a program may have.
const FILES_MAX: usize = 5_000;
/// The longest name of a component that an engine accepts.
const NAME_LETTERS_MAX: usize = 64;

/// A Python program.
#[derive(Debug, PartialEq, Eq)]
pub struct PythonProgram {
    /// The name of the component.
    pub(crate) name: String,
    /// The module to import, `package.module` inside a package.
    pub(crate) module: String,
    /// The module's file.
    pub(crate) entry: PathBuf,
    /// The folder from which modules are imported: the entry's, or the one around its outermost package.
    pub(crate) root: PathBuf,
    /// The folder of the entry.
    pub(crate) folder: PathBuf,
}

impl PythonProgram {
    /// The program that an absolute path names by its file or folder; none when there is no Python at all.
    ///
    /// # Errors
    /// When the path has Python and does not name one program.
    pub fn find(whole: &Path) -> Result<Option<Self>, BuildError> {
        find(whole)
    }

    /// The name of the component.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder of the program's entry.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

fn find(whole: &Path) -> Outcome<Option<PythonProgram>> {
    if whole.is_file() {
        return if is_python(whole) { PythonProgram::of_file(whole, None).map(Some) } else { Ok(None) };
    }
    let name = whole.file_name().map(|name| name.to_string_lossy().into_owned());
    let names = ENTRIES.into_iter().chain(["__init__.py"]);
    if let Some(entry) = names.map(|entry| whole.join(entry)).find(|entry| entry.is_file()) {
        return PythonProgram::of_file(&entry, name).map(Some);
    }
    let mut there: Vec<String> = entries(whole)
        .into_iter()
        .filter(|path| is_python(path) || is_package(path))
        .map(|path| format!("`cerebelum build {}`", shown(&path)))
        .collect();
    there.sort();
    match there.is_empty() {
        true => Ok(None),
        false => Err(BuildError::Usage(format!(
            "{} has no {} of its own; try {}",
            shown(whole),
            ENTRIES.join(", "),
            there.join(" or ")
        ))),
    }
}

impl PythonProgram {
    fn of_file(entry: &Path, name: Option<String>) -> Outcome<Self> {
        let folder = entry.parent().unwrap_or(entry).to_owned();
        let stem = entry.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if stem.contains('.') {
            return Err(BuildError::Usage(format!("{} cannot be imported: its name has a dot", shown(entry))));
        }
        let mut words = vec![stem.clone()];
        let mut root = folder.clone();
        // As for pytest and other tools, a folder with `__init__.py` is a package, imported from the folder around it.
        while root.join("__init__.py").is_file() {
            words.push(root.file_name().unwrap_or_default().to_string_lossy().into_owned());
            root = root.parent().unwrap_or(&root).to_owned();
        }
        if stem == "__init__" {
            words.remove(0);
        }
        words.reverse();
        let name = name.or_else(|| words.last().cloned()).unwrap_or(stem);
        Ok(Self { name: component_name(&name), module: words.join("."), entry: entry.to_owned(), root, folder })
    }

    /// Places where the program's list of dependencies or its `.venv` can be, the nearest first.
    pub(crate) fn places(&self) -> Vec<PathBuf> {
        let mut places = vec![self.folder.clone(), self.root.clone()];
        if self.root.file_name().is_some_and(|name| name == "src") {
            places.extend(self.root.parent().map(Path::to_owned));
        }
        places.dedup();
        places
    }

    /// Copies the files of the program: all of its package; or the files beside its entry, with the packages there and
    /// everything that was `read` while it was imported.
    pub(crate) fn stage(&self, read: &[String], to: &Path) -> Outcome {
        let mut copy = Copy { left: FILES_MAX };
        let staged = self.parts(read).into_iter().try_for_each(|part| {
            let place = to.join(part.file_name().unwrap_or_default());
            copy.tree(&part, &place)
        });
        staged.map_err(|e| {
            let what = format!("cannot take the files beside {}: {e}", shown(&self.entry));
            BuildError::Failed(format!("{what}; a folder of its own is best for a program"))
        })
    }

    fn parts(&self, read: &[String]) -> Vec<PathBuf> {
        let package = self.module.split_once('.').map(|(package, _)| package);
        let package = package.or_else(|| self.entry.ends_with("__init__.py").then_some(self.module.as_str()));
        let is_part = |path: &PathBuf| {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
            if read.iter().any(|read| read == name) || package == Some(name) {
                return true;
            }
            let is_small = || fs::metadata(path).is_ok_and(|about| about.is_file() && about.len() <= FILE_BYTES_MAX);
            package.is_none() && !is_foreign(path) && !is_test(name) && (is_package(path) || is_small())
        };
        entries(&self.root).into_iter().filter(is_part).collect()
    }
}

/// A copy of files and folders, with a limit.
struct Copy {
    left: usize,
}

impl Copy {
    fn tree(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        if from.is_dir() {
            let inside = entries(from).into_iter().filter(|path| !is_foreign(path));
            return inside.into_iter().try_for_each(|path| {
                let place = to.join(path.file_name().unwrap_or_default());
                self.tree(&path, &place)
            });
        }
        if !from.is_file() {
            return Ok(());
        }
        let more = format!("there are more than {FILES_MAX}");
        self.left = self.left.checked_sub(1).ok_or_else(|| io::Error::other(more))?;
        fs::create_dir_all(to.parent().unwrap_or(to))?;
        fs::copy(from, to).map(drop)
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn is_python(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "py") && path.is_file()
}

fn is_package(path: &Path) -> bool {
    path.join("__init__.py").is_file()
}

/// Whether a path cannot belong to a program: it is hidden, made by a tool, or a virtual environment.
#[must_use]
pub fn is_foreign(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with('.')
        || NOT_SOURCE.contains(&&*name)
        || name.ends_with(".wasm")
        || path.join("pyvenv.cfg").is_file()
}

fn is_test(name: &str) -> bool {
    name.starts_with("test_") || name.ends_with("_test.py") || ["conftest.py", "tests"].contains(&name)
}

/// A name that every engine accepts.
fn component_name(name: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    match name.chars().take(NAME_LETTERS_MAX).map(letter).collect::<String>() {
        empty if empty.is_empty() => "app".to_owned(),
        name => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        folder
    }

    #[test]
    fn a_program_is_found_by_its_file_its_folder_and_its_package() {
        let cases: [(&[&str], &str, &str, &str, &str); 7] = [
            (&["shop/app.py"], "shop", "shop", "app", "shop"),
            (&["shop/app.py", "shop/main.py"], "shop/app.py", "app", "app", "shop"),
            (&["shop/main.py"], "shop", "shop", "main", "shop"),
            (&["my shop/nightly-run.py"], "my shop/nightly-run.py", "nightly-run", "nightly-run", "my shop"),
            (&["shop/__init__.py"], "shop", "shop", "shop", ""),
            (&["shop/__init__.py", "shop/app.py"], "shop", "shop", "shop.app", ""),
            (&["src/a/__init__.py", "src/a/b/__init__.py", "src/a/b/c.py"], "src/a/b/c.py", "c", "a.b.c", "src"),
        ];
        for (files, path, name, module, root) in cases {
            let folder = tree(files);
            let found = find(&folder.path().join(path)).unwrap().unwrap();
            assert_eq!((found.name.as_str(), found.module.as_str()), (name, module), "{path}");
            assert_eq!(found.root, folder.path().join(root).components().collect::<PathBuf>(), "{path}");
        }
    }

    #[test]
    fn a_folder_without_an_entry_is_told_its_candidates() {
        let folder = tree(&["flow.py", "shop/__init__.py", "data/x.json"]);
        let why = find(folder.path()).unwrap_err();
        assert!(matches!(why, BuildError::Usage(_)) && why.to_string().contains("try `cerebelum build "), "{why}");
        let line = why.to_string();
        let commands = line.matches("`cerebelum build ").count();
        assert!(commands == 2 && line.contains("/flow.py` or ") && line.ends_with("/shop`"), "{why}");
        assert!(find(&tree(&["readme.md"]).path().join("readme.md")).unwrap().is_none());
        assert_eq!(find(tree(&["readme.md"]).path()).unwrap(), None);
    }

    #[test]
    fn what_belongs_to_a_program_is_staged_and_nothing_else() {
        let files =
            ["app.py", "other.py", "rates.json", "test_app.py", "kit/__init__.py", "kit/x/data.csv", "steps/a.py"];
        let foreign =
            [".env", ".venv/lib/x.py", "env/pyvenv.cfg", "env/x.py", "loose/y.py", "app.wasm", "kit/__pycache__/z"];
        let folder = tree(&[&files[..], &foreign[..]].concat());
        let program = find(&folder.path().join("app.py")).unwrap().unwrap();
        let to = tempfile::tempdir().unwrap();
        program.stage(&["app.py".to_owned(), "steps".to_owned()], to.path()).unwrap();
        for file in files {
            assert_eq!(to.path().join(file).exists(), file != "test_app.py", "{file}");
        }
        for file in foreign {
            assert!(!to.path().join(file).exists(), "{file}");
        }
    }

    #[test]
    fn of_a_package_only_the_package_is_staged() {
        let folder = tree(&["shop/__init__.py", "shop/app.py", "beside.py", "other/__init__.py"]);
        let program = find(&folder.path().join("shop")).unwrap().unwrap();
        let to = tempfile::tempdir().unwrap();
        program.stage(&[], to.path()).unwrap();
        assert!(to.path().join("shop/app.py").exists() && to.path().join("shop/__init__.py").exists());
        assert!(!to.path().join("beside.py").exists() && !to.path().join("other").exists());
    }

    #[test]
    fn a_name_is_one_that_an_engine_takes() {
        for (name, taken) in [("my shop", "my-shop"), ("a_b.c-1", "a_b.c-1"), ("", "app"), ("é", "-")] {
            assert_eq!(component_name(name), taken);
        }
    }
}
