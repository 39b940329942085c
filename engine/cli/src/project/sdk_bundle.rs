//! The kit: the sources of the guest SDK and the contract, carried inside this binary and written into a cache.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use cerebelum_history::Digest;

use crate::exit::{CliError, Outcome};

/// The files of the kit: paths and texts.
static FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/kit.rs"));
/// The versions of libraries that the kit was tested with, for a new project.
pub(super) static LOCK: &str = include_str!(concat!(env!("OUT_DIR"), "/kit-Cargo.lock"));
/// The link in a project that leads to the kit.
pub(super) const LINK: &str = ".cerebelum/sdk";
/// The number of digest digits that tell kits of one version apart.
const DIGEST_DIGITS: usize = 12;

/// Links `project` to the kit of this binary.
pub(super) fn link_kit(project: &Path) -> Outcome {
    let cache = lay_kit()?;
    let link = project.join(LINK);
    let failed = |e: io::Error| CliError::failed(format!("cannot link {}: {e}", link.display()));
    if fs::read_link(&link).is_ok_and(|there| there == cache) {
        return Ok(());
    }
    replace_link(&cache, &link).map_err(failed)?;
    // Cargo compares only times: output that it built from another kit must look older than this one.
    touch(&cache).map_err(failed)
}

/// Makes sure that the kit of this binary is in the cache, and returns its folder.
pub(super) fn lay_kit() -> Outcome<PathBuf> {
    let cache = cache_folder()?.join(folder_name());
    lay(&cache).map_err(|e| {
        CliError::failed(format!("cannot lay the SDK into {}: {e}; is the folder writable?", cache.display()))
    })?;
    Ok(cache)
}

/// The folder for everything that can be made anew.
pub(super) fn cache_folder() -> Outcome<PathBuf> {
    let from = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = from("XDG_CACHE_HOME").or_else(|| Some(from("HOME")?.join(".cache")));
    let base = base.ok_or_else(|| CliError::failed("no place for a cache: set HOME or XDG_CACHE_HOME"))?;
    Ok(base.join("cerebelum"))
}

fn folder_name() -> String {
    let mut all = String::new();
    for (path, text) in FILES {
        all.push_str(&format!("{path} {}\n{text}", text.len()));
    }
    let digest = Digest::of(all.as_bytes());
    format!("sdk-{}-{}", env!("CARGO_PKG_VERSION"), &digest.as_str()[..DIGEST_DIGITS])
}

/// Writes every file that is missing or differs, each one atomically.
fn lay(folder: &Path) -> io::Result<()> {
    for (path, text) in FILES {
        let place = folder.join(path);
        if fs::read_to_string(&place).is_ok_and(|there| there == *text) {
            continue;
        }
        fs::create_dir_all(place.parent().expect("a file of the kit is in the kit's folder"))?;
        let beside = place.with_extension(format!("new-{}", std::process::id()));
        fs::write(&beside, text)?;
        fs::rename(&beside, &place)?;
    }
    Ok(())
}

fn replace_link(cache: &Path, link: &Path) -> io::Result<()> {
    fs::create_dir_all(link.parent().expect("the link is in a folder of the project"))?;
    let beside = link.with_extension(format!("new-{}", std::process::id()));
    std::os::unix::fs::symlink(cache, &beside)?;
    fs::rename(&beside, link)
}

fn touch(folder: &Path) -> io::Result<()> {
    let now = SystemTime::now();
    FILES.iter().try_for_each(|(path, _)| File::options().append(true).open(folder.join(path))?.set_modified(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kit_is_laid_whole_and_mended_when_something_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        lay(folder.path()).unwrap();
        let wit = folder.path().join("wit/cerebelum.wit");
        assert!(fs::read_to_string(&wit).unwrap().contains("package cerebelum:guest@"));
        fs::remove_file(&wit).unwrap();
        fs::write(folder.path().join("Cargo.toml"), "half a fi").unwrap();
        lay(folder.path()).unwrap();
        for (path, text) in FILES {
            assert_eq!(fs::read_to_string(folder.path().join(path)).unwrap(), *text, "{path}");
        }
    }

    #[test]
    fn the_kit_has_its_crates_and_neither_tests_nor_our_lints() {
        let has = |path: &str| FILES.iter().any(|(name, _)| *name == path);
        for path in
            ["Cargo.toml", "guest-sdk/rust/Cargo.toml", "guest-sdk/rust/macros/src/lib.rs", "engine/history/src/lib.rs"]
        {
            assert!(has(path), "{path}");
        }
        assert!(FILES.iter().all(|(path, _)| !path.contains("target/") && !path.contains("/tests/")));
        for path in ["__init__.py", "py.typed", "_check.py", "timeline/__init__.py"] {
            assert!(has(&format!("guest-sdk/python/src/cerebelum/{path}")), "{path}");
        }
        assert!(FILES.iter().all(|(path, _)| !path.contains("__pycache__")));
        let manifest: toml::Table = FILES.iter().find(|(path, _)| *path == "Cargo.toml").unwrap().1.parse().unwrap();
        assert!(manifest["workspace"]["lints"]["rust"].as_table().unwrap().is_empty());
        assert!(manifest["workspace"]["dependencies"].get("cerebelum-store").is_none());
        assert!(!LOCK.contains("name = \"cerebelum-cli\"") && LOCK.contains("name = \"serde\""));
    }

    #[test]
    fn a_link_to_another_kit_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join(LINK);
        for sdk_bundle in ["a", "b"] {
            let cache = folder.path().join(sdk_bundle);
            fs::create_dir(&cache).unwrap();
            replace_link(&cache, &link).unwrap();
            assert_eq!(fs::read_link(&link).unwrap(), cache);
        }
    }
}
