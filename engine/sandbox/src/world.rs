//! Checks a component's imports and exports against the contract.

use crate::structure::Structure;

/// The contract's package, and the major version that this engine supports.
const PACKAGE: &str = "cerebelum:guest";
const MAJOR: &str = "1";
/// The interface that every component exports.
const EXPORT: &str = "cerebelum:guest/guest";
/// The available WASI packages, most of them inert.
const WASI: [&str; 6] = ["wasi:io", "wasi:cli", "wasi:clocks", "wasi:random", "wasi:filesystem", "wasi:sockets"];

/// Checks names only, before anything is compiled. The linker checks types.
pub(crate) fn check(found: &Structure) -> Result<(), String> {
    for import in &found.imports {
        check_import(import)?;
    }
    let mut exports = found.exports.iter().map(|name| split(name));
    match exports.find(|(interface, _)| *interface == EXPORT) {
        Some((_, version)) => check_major(version, EXPORT),
        None => Err(format!(
            "the component does not export `{EXPORT}@{MAJOR}`: build it with a Cerebelum SDK (is `component!()` missing?)"
        )),
    }
}

fn check_import(name: &str) -> Result<(), String> {
    let (interface, version) = split(name);
    let package = interface.split('/').next().unwrap_or(interface);
    if package == PACKAGE {
        return check_major(version, interface);
    }
    if WASI.contains(&package) && version.starts_with("0.2.") {
        return Ok(());
    }
    let why = match package {
        "wasi:http" => "steps reach other machines with `cerebelum:guest/http`",
        _ if WASI.contains(&package) => "WASI 0.2 is",
        _ => "only `cerebelum:guest` and an inert WASI 0.2 are",
    };
    Err(format!("the component imports `{name}`, which is not offered here: {why}"))
}

fn check_major(version: &str, interface: &str) -> Result<(), String> {
    if version.split('.').next() == Some(MAJOR) {
        return Ok(());
    }
    Err(format!(
        "the component speaks `{interface}@{version}`, this engine speaks version {MAJOR}: rebuild it with an SDK of this engine"
    ))
}

fn split(name: &str) -> (&str, &str) {
    name.split_once('@').unwrap_or((name, ""))
}
