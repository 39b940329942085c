//! Packs the sources that a guest is built with into the binary, so that `cerebelum new` works without published
//! packages.

use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// The crates of the kit; each as it is in the repository, without its tests.
const CRATES: [&str; 3] = ["guest-sdk/rust", "guest-sdk/rust/macros", "engine/history"];
/// The Python package of the kit.
const PYTHON: &str = "guest-sdk/python/src/cerebelum";
/// Folders among sources that are not packed: what Python leaves, and tests.
const NOT_PACKED: [&str; 2] = ["__pycache__", "tests"];

fn main() -> Result<(), Box<dyn Error>> {
    let root = fs::canonicalize(PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../.."))?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let mut files = vec![root.join("wit/cerebelum.wit")];
    for name in CRATES {
        files.push(root.join(name).join("Cargo.toml"));
        collect(&root.join(name).join("src"), &mut files)?;
    }
    collect(&root.join(PYTHON), &mut files)?;
    files.sort();
    let manifest = out.join("kit-Cargo.toml");
    fs::write(&manifest, workspace_manifest(&fs::read_to_string(root.join("Cargo.toml"))?)?)?;
    let lock = out.join("kit-Cargo.lock");
    fs::write(&lock, lock_of_libraries(&fs::read_to_string(root.join("Cargo.lock"))?)?)?;

    let mut code = String::from("&[\n");
    writeln!(code, "(\"Cargo.toml\", include_str!({manifest:?})),")?;
    for file in &files {
        println!("cargo::rerun-if-changed={}", file.display());
        // All files are read now, at one time, and not later when the compiler would read them.
        let (name, mut text) = (file.strip_prefix(&root)?, fs::read_to_string(file)?);
        if name.ends_with("Cargo.toml") {
            text = without_tests(&text)?;
        }
        writeln!(code, "({name:?}, {text:?}),")?;
    }
    code.push(']');
    fs::write(out.join("kit.rs"), code)?;
    for name in ["Cargo.toml", "Cargo.lock", "wit"] {
        println!("cargo::rerun-if-changed={}", root.join(name).display());
    }
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    if NOT_PACKED.iter().any(|name| folder.ends_with(name)) {
        return Ok(());
    }
    println!("cargo::rerun-if-changed={}", folder.display());
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => collect(&path, files)?,
            false => files.push(path),
        }
    }
    Ok(())
}

/// The workspace of the kit: the keys that its crates inherit, and nothing else. Our lints are left out: a newer
/// compiler that knows more of them must not break our users' builds.
fn workspace_manifest(text: &str) -> Result<String, Box<dyn Error>> {
    let whole: toml::Table = text.parse()?;
    let workspace = whole.get("workspace").and_then(toml::Value::as_table).ok_or("a workspace at the root")?;
    let mut kit = toml::Table::new();
    for key in ["resolver", "package", "dependencies"] {
        kit.insert(key.into(), workspace.get(key).ok_or("the root says what crates inherit")?.clone());
    }
    let dependencies = kit.get_mut("dependencies").and_then(toml::Value::as_table_mut).ok_or("a table")?;
    dependencies.retain(|_, wanted| {
        let path = wanted.get("path").and_then(toml::Value::as_str);
        path.is_none_or(|path| CRATES.contains(&path))
    });
    kit.insert("members".into(), CRATES.to_vec().into());
    let mut lints = toml::Table::new();
    lints.insert("rust".into(), toml::Table::new().into());
    kit.insert("lints".into(), lints.into());
    let mut manifest = toml::Table::new();
    manifest.insert("workspace".into(), kit.into());
    Ok(toml::to_string(&manifest)?)
}

/// A crate's manifest without the parts that only its tests need, since tests are not packed.
fn without_tests(text: &str) -> Result<String, Box<dyn Error>> {
    let mut manifest: toml::Table = text.parse()?;
    manifest.remove("dev-dependencies");
    Ok(toml::to_string(&manifest)?)
}

/// The versions of libraries that the kit was tested with.
fn lock_of_libraries(text: &str) -> Result<String, Box<dyn Error>> {
    let mut lock: toml::Table = text.parse()?;
    if let Some(packages) = lock.get_mut("package").and_then(toml::Value::as_array_mut) {
        packages.retain(|package| package.get("source").is_some());
    }
    Ok(toml::to_string(&lock)?)
}
