//! Freezing a checked program into a component with componentize-py.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::check::Problem;
use super::tools::Tools;
use super::{Program, SOURCES, problems, tell};
use crate::exit::{Code, Outcome, Stop};
use crate::project::component::check;

/// The module that the component begins with.
const ENTRY: &str = "cerebelum_entry";
/// Where folders are mounted while a component is built: in the order of their `-p`.
const KIT: &str = "/1";
const PROGRAM: &str = "/2";
const PACKAGES: &str = "/3";
/// What makes a program a component, for one that is none.
const HINT: &str = "decorate async functions with @workflow and @step from cerebelum";

/// What a component is made of.
pub(super) struct Parts<'a> {
    /// The program.
    pub(super) program: &'a Program,
    /// Its files.
    pub(super) staged: &'a Path,
    /// The kit.
    pub(super) kit: &'a Path,
    /// The packages that it depends on.
    pub(super) packages: Option<&'a Path>,
}

/// Makes the component.
pub(super) fn freeze(parts: &Parts<'_>, tools: &Tools, scratch: &Path) -> Outcome<Vec<u8>> {
    let (entry, wasm) = (scratch.join("entry"), scratch.join("component.wasm"));
    // componentize-py adds the packages of the environment it stands in: here is one with none.
    let environment = scratch.join("environment");
    let failed = |e: std::io::Error| Stop::new(Code::Failed, format!("cannot write to {}: {e}", scratch.display()));
    fs::create_dir_all(environment.join("lib/site-packages")).map_err(failed)?;
    fs::create_dir_all(&entry).map_err(failed)?;
    fs::write(entry.join(format!("{ENTRY}.py")), entry_module(parts)).map_err(failed)?;
    let mut command = Command::new(&tools.componentize);
    command.arg("--quiet").arg("--wit-path").arg(parts.kit.join("wit")).args(["--world", "component", "componentize"]);
    let sources = parts.kit.join(SOURCES);
    for folder in [Some(entry.as_path()), Some(&sources), Some(parts.staged), parts.packages].into_iter().flatten() {
        command.arg("--python-path").arg(folder);
    }
    command.arg(ENTRY).arg("--output").arg(&wasm).env("VIRTUAL_ENV", &environment).env("RUST_BACKTRACE", "0");
    let done = command
        .stdin(Stdio::null())
        .output()
        .map_err(|e| Stop::new(Code::Failed, format!("cannot run {}: {e}", tools.componentize.display())))?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        tell("", &[problem(&said, parts)]);
        return Err(problems(parts.program, 1));
    }
    let bytes = fs::read(&wasm).map_err(|e| Stop::new(Code::Failed, format!("cannot read {}: {e}", wasm.display())))?;
    let name = &parts.program.name;
    check(&bytes, HINT).map_err(|why| Stop::new(Code::Failed, format!("{name} was built but {why}")))?;
    Ok(bytes)
}

/// The module that imports the program between the beginning and the end of the build.
fn entry_module(parts: &Parts<'_>) -> String {
    // At run time there are no files: what is imported inside functions is kept from all of these.
    let mounts = [Some(KIT), Some(PROGRAM), parts.packages.map(|_| PACKAGES)];
    let mounts = serde_json::to_string(&mounts.into_iter().flatten().collect::<Vec<_>>()).unwrap_or_default();
    let module = serde_json::to_string(&parts.program.module).unwrap_or_default();
    format!(
        "\"\"\"The entry of a component; made by `cerebelum build`.\"\"\"\n\n\
         import importlib\n\nfrom cerebelum import _component\n\n\
         importlib.import_module({module})\n\
         from cerebelum._component import Guest, WitWorld  # noqa: E402, F401\n\n\
         _component.finish({mounts})\n"
    )
}

/// What is wrong, out of everything that componentize-py says: the exception, at the author's innermost line.
fn problem(said: &str, parts: &Parts<'_>) -> Problem {
    let (_, told) = said.split_once("AssertionError: ").unwrap_or(("", said));
    let told = told.split("\n\nCaused by:").next().unwrap_or_default();
    // Of a chain of exceptions the last one ended the import.
    let Some((before, last)) = told.rsplit_once("Traceback (most recent call last):\n") else {
        let line = told.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("componentize-py failed");
        return Problem { text: format!("{line} (while the component was built)"), ..Problem::default() };
    };
    let is_inside = |line: &&str| line.starts_with([' ', '\t']) || line.is_empty();
    let text: Vec<&str> = last.lines().skip_while(is_inside).collect();
    let frames: Vec<(String, u32, String)> = last.lines().filter_map(|line| frame(line, parts)).collect();
    let Some((file, line, _)) = frames.last().cloned() else {
        // The end of an exception group, say, has no frames; the message has to do.
        let text = if text.is_empty() { before.to_owned() } else { text.join("\n") };
        return Problem { text: text.trim().to_owned(), ..Problem::default() };
    };
    let trace = frames.iter().map(|(file, line, name)| format!("{file}:{line}: {name}"));
    let trace = if frames.len() > 1 { trace.collect() } else { Vec::new() };
    let text = format!("{}; not in CPython, only inside a component", text.join("\n").trim_end());
    Problem { file, line, text, trace }
}

/// A frame of the author's: file, line, function.
fn frame(line: &str, parts: &Parts<'_>) -> Option<(String, u32, String)> {
    let rest = line.trim_start().strip_prefix("File \"")?.strip_prefix(PROGRAM)?.strip_prefix('/')?;
    let (path, rest) = rest.split_once("\", line ")?;
    let (number, name) = rest.split_once(", in ").unwrap_or((rest, "<module>"));
    let file = parts.program.root.join(path).display().to_string();
    Some((file, number.trim().parse().ok()?, name.to_owned()))
}
