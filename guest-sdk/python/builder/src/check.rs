//! The check in CPython before a build: finds all problems of a program at once, in a fraction of a second.

use std::path::Path;
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::tools::Tools;
use crate::{BuildError, Kit, Outcome, PythonProgram, SOURCES, problems};

/// A problem of a program, and its place.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Problem {
    /// The file; empty when the problem is not in a file.
    #[serde(default)]
    pub(crate) file: String,
    /// The line; 0 when the problem is about the whole file.
    #[serde(default)]
    pub(crate) line: u32,
    /// The problem, and what to do about it.
    pub(crate) text: String,
    /// The traceback to that place.
    #[serde(default)]
    pub(crate) trace: Vec<String>,
}

#[derive(Deserialize)]
struct CheckReport {
    errors: Vec<Problem>,
    warnings: Vec<Problem>,
    read: Vec<String>,
}

/// Imports the program in CPython and reports its problems. Returns the names beside it that the program read.
pub(crate) fn check(
    program: &PythonProgram,
    tools: &Tools,
    kit: Kit<'_>,
    packages: Option<&Path>,
    scratch: &Path,
) -> Outcome<Vec<String>> {
    // `-S` leaves out the site packages of that Python: a component does not have them either.
    let mut check = ours(tools, kit, "_check", &["-S"]);
    check.arg(&program.module).arg(&program.root).args(packages);
    // Relative paths mean nothing in a component.
    check.current_dir(scratch);
    let answer: CheckReport = ask(&mut check)?;
    kit.tell("warning: ", &answer.warnings);
    kit.tell("", &answer.errors);
    match answer.errors.len() {
        0 => Ok(answer.read),
        number => Err(problems(program, number)),
    }
}

/// A command that runs a module of the kit in CPython, isolated from the caller's environment.
pub(crate) fn ours(tools: &Tools, kit: Kit<'_>, module: &str, flags: &[&str]) -> Command {
    let run = format!(
        "import sys; sys.path.append(sys.argv.pop(1)); from cerebelum.{module} import main; main(sys.argv[1:])"
    );
    let mut command = Command::new(&tools.python);
    command.args(["-I", "-B"]).args(flags).arg("-c").arg(run).arg(kit.sdk.join(SOURCES));
    command
}

/// Runs such a command and reads its answer.
pub(crate) fn ask<T: DeserializeOwned>(command: &mut Command) -> Outcome<T> {
    let shown = command.get_program().to_string_lossy().into_owned();
    let done = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().map_err(|e| {
        BuildError::Failed(format!("cannot run {shown}: {e}; building Python needs Python 3.10 or newer"))
    })?;
    serde_json::from_slice(&done.stdout)
        .map_err(|_| BuildError::Failed(format!("{shown} broke off ({}); is it Python 3.10 or newer?", done.status)))
}
