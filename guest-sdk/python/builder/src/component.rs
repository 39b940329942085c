//! Freezing a checked program into a component.

use std::fs;
use std::path::{Path, PathBuf};

use cerebelum_history::Digest;

use crate::base::{Base, Sources};
use crate::check::Problem;
use crate::freeze::Failed;
use crate::{BuildError, Kit, Outcome, PythonProgram, problems};

/// The parts of a component.
pub(crate) struct Parts<'a> {
    /// The program.
    pub(crate) program: &'a PythonProgram,
    /// Its files.
    pub(crate) staged: &'a Path,
    /// The packages that it depends on.
    pub(crate) packages: Option<&'a Path>,
}

/// Makes the component.
pub(crate) fn freeze(parts: &Parts<'_>, base: &Base, kit: Kit<'_>) -> Outcome<Vec<u8>> {
    let seed = seed(parts)?;
    let Parts { program, staged, packages } = parts;
    let sources = Sources { module: &program.module, program: staged, packages: *packages, seed: &seed };
    match base.freeze(&sources) {
        Ok(bytes) => Ok(bytes),
        Err(Failed::Left(_, said)) => {
            kit.tell("", &[problem(&said, parts)]);
            Err(problems(parts.program, 1))
        }
        Err(Failed::Build(why)) => Err(BuildError::Failed(format!("{} cannot be built: {why}", parts.program.name))),
    }
}

/// The seed of the build's random numbers, from all files of the program.
fn seed(parts: &Parts<'_>) -> Outcome<String> {
    let mut all = String::new();
    let mut folders = vec![parts.staged.to_owned()];
    let cannot = |e: std::io::Error| BuildError::Failed(format!("cannot read {}: {e}", parts.program.name));
    while let Some(folder) = folders.pop() {
        let mut paths: Vec<PathBuf> = fs::read_dir(&folder)
            .map_err(cannot)?
            .map(|entry| Ok(entry.map_err(cannot)?.path()))
            .collect::<Outcome<_>>()?;
        paths.sort();
        for path in paths {
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(parts.staged).unwrap_or(&path).display().to_string();
                all.push_str(&format!("{name:?} {}\n", Digest::of(&fs::read(&path).map_err(cannot)?)));
            }
        }
    }
    Ok(Digest::of(all.as_bytes()).to_string())
}

/// Finds the problem in the output of the program: the exception, at the author's innermost line.
fn problem(said: &str, parts: &Parts<'_>) -> Problem {
    // Of a chain of exceptions the last one ended the import.
    let Some((before, last)) = said.rsplit_once("Traceback (most recent call last):\n") else {
        let line = said.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it ended without a word");
        return Problem { text: format!("{line} (while the component was built)"), ..Problem::default() };
    };
    let is_inside = |line: &&str| line.starts_with([' ', '\t']) || line.is_empty();
    let text: Vec<&str> = last.lines().skip_while(is_inside).collect();
    let frames: Vec<(String, u32, String)> = last.lines().filter_map(|line| frame(line, parts)).collect();
    let Some((file, line, _)) = frames.last().cloned() else {
        // Some tracebacks have no frames, such as the end of an exception group; then the message has to do.
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
    let rest = line.trim_start().strip_prefix("File \"")?.strip_prefix(Base::PROGRAM)?.strip_prefix('/')?;
    let (path, rest) = rest.split_once("\", line ")?;
    let (number, name) = rest.split_once(", in ").unwrap_or((rest, "<module>"));
    let file = parts.program.root.join(path).display().to_string();
    Some((file, number.trim().parse().ok()?, name.to_owned()))
}
