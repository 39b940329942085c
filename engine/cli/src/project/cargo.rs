//! Building a crate into a component with cargo.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::Built;
use super::component::check;
use super::sdk_bundle::{LINK, link_kit};
use crate::exit::{CliError, Outcome};

const TARGET: &str = "wasm32-wasip2";

/// A hint for a crate that is not a component.
const HINT: &str = "use the crate `cerebelum` and end src/lib.rs with `cerebelum::component!();`";

/// Builds the crate in `folder`. Cargo reports its progress on stderr.
pub(super) fn build(folder: &Path) -> Outcome<Built> {
    let manifest = folder.join("Cargo.toml");
    let text = fs::read_to_string(&manifest)
        .map_err(|e| CliError::usage(format!("cannot read {}: {e}", manifest.display())))?;
    let name = package_name(&text, &manifest)?;
    has_target(folder)?;
    if text.contains(LINK) {
        link_kit(folder)?;
    }
    super::foreign::check(&manifest, &name, TARGET)?;
    let wasm = run_cargo(&manifest)?;
    let bytes = fs::read(&wasm).map_err(|e| CliError::failed(format!("cannot read {}: {e}", wasm.display())))?;
    check(&bytes, HINT).map_err(|why| CliError::failed(format!("{name} was built but {why}")))?;
    Ok(Built { name, bytes, folder: folder.to_owned() })
}

/// The folder of the crate that an absolute path names by its folder or its `Cargo.toml`.
pub(super) fn crate_folder(whole: &Path) -> Option<PathBuf> {
    let folder = match whole.file_name().is_some_and(|name| name == "Cargo.toml") {
        true => whole.parent().unwrap_or(whole),
        false => whole,
    };
    folder.join("Cargo.toml").is_file().then(|| folder.to_owned())
}

fn package_name(text: &str, manifest: &Path) -> Outcome<String> {
    let shown = manifest.display();
    let table: toml::Table =
        text.parse().map_err(|e: toml::de::Error| CliError::usage(format!("{shown}: {}", e.message())))?;
    let package = table.get("package").and_then(|package| package.get("name")).and_then(toml::Value::as_str);
    package
        .map(str::to_owned)
        .ok_or_else(|| CliError::usage(format!("{shown} is a workspace; name the folder of one of its crates")))
}

fn has_target(folder: &Path) -> Outcome {
    let asked = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .current_dir(folder)
        .output()
        .map_err(|e| not_installed("rustc", &e))?;
    let libraries = PathBuf::from(String::from_utf8_lossy(&asked.stdout).trim());
    match asked.status.success() && libraries.is_dir() {
        true => Ok(()),
        false => Err(CliError::failed(format!("Rust cannot build for {TARGET} yet; run `rustup target add {TARGET}`"))),
    }
}

fn not_installed(program: &str, error: &std::io::Error) -> CliError {
    CliError::failed(format!("cannot run {program}: {error}; install Rust from https://rustup.rs"))
}

/// A line of cargo's messages; only those about a finished artifact have all of it.
#[derive(Deserialize)]
struct Message {
    reason: String,
    manifest_path: Option<PathBuf>,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

fn run_cargo(manifest: &Path) -> Outcome<PathBuf> {
    let mut cargo = Command::new("cargo")
        .args(["build", "--release", "--lib", "--target", TARGET, "--message-format", "json-render-diagnostics"])
        .arg("--manifest-path")
        .arg(manifest)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| not_installed("cargo", &e))?;
    let mut wasm = None;
    let messages = cargo.stdout.take().expect("stdout was asked to be a pipe");
    for line in BufReader::new(messages).lines().map_while(Result::ok) {
        let Ok(message) = serde_json::from_str::<Message>(&line) else { continue };
        let is_ours = message.manifest_path.is_some_and(|path| path == manifest);
        if message.reason == "compiler-artifact" && is_ours {
            let is_wasm = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "wasm");
            wasm = message.filenames.into_iter().find(is_wasm).or(wasm);
        }
    }
    let ended = cargo.wait().map_err(|e| not_installed("cargo", &e))?;
    if !ended.success() {
        return Err(CliError::failed("the crate does not build; cargo says why above"));
    }
    let hint = "the crate builds no component; add `crate-type = [\"cdylib\", \"rlib\"]` under [lib] in Cargo.toml";
    wasm.ok_or_else(|| CliError::failed(hint))
}
