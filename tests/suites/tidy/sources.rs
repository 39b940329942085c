//! The sources of the tree, as the tidy tests read them.

use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

/// One Rust file of ours.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// All Rust files that git tracks or would track.
pub(crate) fn all() -> &'static [Source] {
    static ALL: LazyLock<Vec<Source>> = LazyLock::new(|| {
        let paths = tracked().into_iter().filter(|path| path.ends_with(".rs"));
        paths.map(|path| Source { text: read(&path), path }).collect()
    });
    &ALL
}

/// All Python files of ours, without those that a tool makes from the protocol.
pub(crate) fn python() -> Vec<Source> {
    let is_ours = |path: &String| path.ends_with(".py") && !path.contains("/_proto/");
    tracked().into_iter().filter(is_ours).map(|path| Source { text: read(&path), path }).collect()
}

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(3).expect("this crate is three folders deep in the workspace").to_owned()
}

/// A file of the tree.
pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The paths that git tracks, or would track if they were added.
pub(crate) fn tracked() -> Vec<String> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git lists the files");
    let text = String::from_utf8(listed.stdout).expect("our paths are UTF-8");
    text.lines().filter(|path| root().join(path).exists()).map(str::to_owned).collect()
}

/// The folders with a manifest, without the examples, which count as one, and without the templates of `new`.
pub(crate) fn rooms() -> Vec<String> {
    let folder =
        |path: &str| Some(path.strip_suffix("/Cargo.toml").or(path.strip_suffix("/pyproject.toml"))?.to_owned());
    let manifests = tracked().into_iter().filter_map(|path| folder(&path));
    let is_room = |room: &String| !room.starts_with("examples/") && !room.contains("/template/");
    manifests.filter(|room| is_room(room) || room == "examples/fake-cloud").collect()
}

impl Source {
    pub(crate) fn lines(&self) -> usize {
        self.text.lines().count()
    }

    /// The text without comment lines.
    pub(crate) fn code(&self) -> String {
        self.text.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect()
    }

    /// The names of its tests: functions with an attribute that makes them tests, or listed for a macro that does.
    pub(crate) fn tests(&self) -> Vec<String> {
        let mut names = Vec::new();
        let (mut is_test, mut is_list) = (false, false);
        for line in self.text.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
            let starts_list =
                ["on_both!(", "on_all!(", "on_both_databases!("].iter().any(|list| line.starts_with(list));
            if starts_list || is_list {
                let listed = line.split_once("!(").filter(|_| starts_list).map_or(line, |(_, rest)| rest);
                let words = listed.split([',', ';', ')', ' ']).filter(|word| !word.is_empty());
                names.extend(words.map(str::to_owned));
                is_list = !line.contains(");");
            } else if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                is_test = true;
            } else if let Some(name) = function_name(line) {
                names.extend(Some(name).filter(|_| is_test));
                is_test = false;
            }
        }
        names
    }

    /// The functions and their numbers of lines, by indentation, which rustfmt guarantees.
    pub(crate) fn functions(&self) -> Vec<(String, usize)> {
        let lines: Vec<&str> = self.text.lines().collect();
        let mut found = Vec::new();
        for (start, line) in lines.iter().enumerate() {
            let Some(name) = function_name(line) else { continue };
            let indent = &line[..line.len() - line.trim_start().len()];
            let end = lines[start..].iter().position(|line| *line == format!("{indent}}}"));
            if !line.ends_with('}')
                && let Some(length) = end
            {
                found.push((name, length + 1));
            }
        }
        found
    }
}

fn function_name(line: &str) -> Option<String> {
    let words = line.trim_start();
    let before = words.split("fn ").next()?;
    let is_definition = before
        .split_whitespace()
        .all(|word| matches!(word, "pub" | "async" | "const" | "unsafe") || word.starts_with("pub("));
    let rest = is_definition.then(|| words.strip_prefix(before)?.strip_prefix("fn "))??;
    Some(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
}
