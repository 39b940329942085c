//! The dependencies of a program: pure-Python packages, fetched once for each list of them.

use std::fs;
use std::path::{Path, PathBuf};

use cerebelum_history::Digest;
use serde::Deserialize;

use crate::check::{ask, ours};
use crate::tools::Tools;
use crate::{BuildError, Kit, Outcome, PythonProgram, shown};

/// The number of digest digits that identify a list.
const DIGEST_DIGITS: usize = 16;
/// How deep lists may include lists.
const DEPTH_MAX: usize = 8;

/// The list of a program's dependencies.
struct List {
    /// The file that contains the list.
    file: PathBuf,
    /// One requirement per line, as pip reads them.
    lines: Vec<String>,
}

#[derive(Deserialize)]
struct InstallReport {
    errors: Vec<String>,
    warnings: Vec<String>,
}

/// Fetches the packages of the program's list, unless they are there, and returns the folder; none without a list.
pub(crate) fn fetch(program: &PythonProgram, tools: &Tools, kit: Kit<'_>) -> Outcome<Option<PathBuf>> {
    let Some(list) = find(&program.places())?.filter(|list| !list.lines.is_empty()) else { return Ok(None) };
    let text = list.lines.join("\n");
    let digest = Digest::of(text.as_bytes());
    let cache = kit.cache;
    let folder = cache.join(format!("python-packages-{}", &digest.as_str()[..DIGEST_DIGITS]));
    if folder.is_dir() {
        return Ok(Some(folder));
    }
    let failed = |e: std::io::Error| BuildError::Failed(format!("cannot write to {}: {e}", cache.display()));
    let scratch = tempfile::Builder::new().prefix("fetching-").tempdir_in(cache).map_err(failed)?;
    let (requirements, target) = (scratch.path().join("requirements.txt"), scratch.path().join("packages"));
    fs::write(&requirements, text).and_then(|()| fs::create_dir(&target)).map_err(failed)?;
    kit.note(&format!("fetching the packages of {}, once", shown(&list.file)));
    let mut command = ours(tools, kit, "_dependencies", &[]);
    // Paths in the list are relative to its own folder.
    command.arg(&requirements).arg(&target).current_dir(list.file.parent().unwrap_or(&program.folder));
    let answer: InstallReport = ask(&mut command)?;
    let file = shown(&list.file);
    answer.warnings.iter().for_each(|warning| kit.note(&format!("warning: {file}: {warning}")));
    answer.errors.iter().for_each(|error| kit.note(&format!("{file}: {error}")));
    if !answer.errors.is_empty() {
        return Err(BuildError::Failed(format!("what {file} names cannot be had; see above")));
    }
    match fs::rename(&target, &folder) {
        // Another build was faster.
        Err(_) if folder.is_dir() => {}
        done => done.map_err(failed)?,
    }
    Ok(Some(folder))
}

/// The first existing list, `requirements.txt` before `pyproject.toml`.
fn find(places: &[PathBuf]) -> Outcome<Option<List>> {
    for place in places {
        let file = place.join("requirements.txt");
        if file.is_file() {
            let lines = requirements(&file, DEPTH_MAX)?;
            return Ok(Some(List { file, lines }));
        }
        let file = place.join("pyproject.toml");
        if let Ok(text) = fs::read_to_string(&file)
            && let Some(lines) = declared(&text, &file)?
        {
            return Ok(Some(List { file, lines }));
        }
    }
    Ok(None)
}

/// The requirements of a file, with those of the files that it includes.
fn requirements(file: &Path, depth: usize) -> Outcome<Vec<String>> {
    let bad = |why: String| BuildError::Usage(format!("cannot read {}: {why}", shown(file)));
    let text = fs::read_to_string(file).map_err(|e| bad(e.to_string()))?;
    let mut lines = Vec::new();
    for line in text.replace("\\\n", "").lines() {
        let line = line.split(" #").next().unwrap_or_default().trim();
        let included = ["-r ", "--requirement "].iter().find_map(|flag| line.strip_prefix(flag));
        if let Some(included) = included {
            let depth = depth.checked_sub(1).ok_or_else(|| bad("it includes itself".to_owned()))?;
            lines.extend(requirements(&file.with_file_name(included.trim()), depth)?);
        } else if !line.is_empty() && !line.starts_with('#') && !is_ours(line) {
            lines.push(line.to_owned());
        }
    }
    Ok(lines)
}

/// The `dependencies` of `[project]`.
fn declared(text: &str, file: &Path) -> Outcome<Option<Vec<String>>> {
    let shown = shown(file);
    let table: toml::Table =
        text.parse().map_err(|e: toml::de::Error| BuildError::Usage(format!("{shown}: {}", e.message())))?;
    let Some(list) = table.get("project").and_then(|project| project.get("dependencies")) else { return Ok(None) };
    let lines = list.as_array().into_iter().flatten().filter_map(toml::Value::as_str);
    Ok(Some(lines.filter(|line| !is_ours(line)).map(str::to_owned).collect()))
}

/// Whether a requirement is the SDK, which comes with the kit.
fn is_ours(line: &str) -> bool {
    let name = line.split(|c: char| !c.is_ascii_alphanumeric() && !"._-".contains(c)).next();
    name.is_some_and(|name| name.eq_ignore_ascii_case("cerebelum"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_read_from_either_file_without_ourselves() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let lines = || find(&[folder.path().to_owned()]).unwrap().map(|list| list.lines);
        assert_eq!(lines(), None);
        write("pyproject.toml", "[tool.pytest]\n");
        assert_eq!(lines(), None);
        write(
            "pyproject.toml",
            "[project]\nname = \"x\"\ndependencies = [\"cerebelum[client]>=0.1\", \"httpx>=0.27\"]\n",
        );
        assert_eq!(lines().unwrap(), ["httpx>=0.27"]);
        write("more.txt", "idna # names\n");
        write("requirements.txt", "# what we need\ncerebelum\n\nattrs>=23,\\\n<25\n-r more.txt\ncerebelum-tools\n");
        assert_eq!(lines().unwrap(), ["attrs>=23,<25", "idna", "cerebelum-tools"]);
        write("more.txt", "-r requirements.txt\n");
        let why = find(&[folder.path().to_owned()]).err().unwrap();
        assert!(why.to_string().contains("includes itself"), "{why}");
    }
}
