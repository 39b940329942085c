//! The tidiness of the tree as tests: arrows between crates, sizes, the one door for effects, the map.

mod deploy;
mod laws;
mod limits;
mod metrics;
mod pages;
mod python;
mod sources;

use std::collections::BTreeMap;

use sources::{Source, all, read, root};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

fn complain(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn crates_depend_only_along_the_arrows() {
    let may: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("engine/history", &[][..]),
        ("engine/delta", &[]),
        ("engine/timeline", &["cerebelum-history"]),
        ("engine/store", &["cerebelum-history", "cerebelum-delta"]),
        ("engine/sandbox", &["cerebelum-history", "cerebelum-delta"]),
        ("engine/worker", &["cerebelum-history", "cerebelum-timeline", "cerebelum-store", "cerebelum-sandbox"]),
        ("engine/server", &["cerebelum-history", "cerebelum-timeline", "cerebelum-worker"]),
        (
            "engine/cli",
            &[
                "cerebelum-history",
                "cerebelum-timeline",
                "cerebelum-worker",
                "cerebelum-server",
                "cerebelum-python-builder",
            ],
        ),
        ("guest-sdk/python/builder", &["cerebelum-history"]),
        ("guest-sdk/rust", &["cerebelum-history", "cerebelum-macros"]),
        ("guest-sdk/rust/macros", &[]),
    ]);
    let mut problems = Vec::new();
    for (room, allowed) in &may {
        for line in dependencies(&format!("{room}/Cargo.toml")) {
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            if name.starts_with("cerebelum") && !allowed.contains(&name) {
                problems.push(format!("{room} must not depend on {name}"));
            }
        }
    }
    complain(&problems);
}

#[test]
fn history_is_pure() {
    let allowed = ["serde", "serde_json", "thiserror", "blake3", "hex"];
    let names = dependencies("engine/history/Cargo.toml");
    let names = names.iter().filter_map(|line| line.split(['.', ' ']).next());
    let mut problems: Vec<String> =
        names.filter(|name| !allowed.contains(name)).map(|name| format!("history depends on {name}")).collect();
    let impure = ["std::time::SystemTime", "Instant::now", "std::fs", "std::net", "std::thread", "async ", "rand::"];
    for source in all().iter().filter(|source| {
        source.path.starts_with("engine/history/src") || source.path.starts_with("engine/timeline/src")
    }) {
        for word in impure.iter().filter(|word| source.code().contains(**word)) {
            problems.push(format!("{} mentions `{word}`: time, chance and IO are parameters", source.path));
        }
    }
    complain(&problems);
}

/// The lines of `[dependencies]` and `[target.….dependencies]`, not of `[dev-dependencies]`.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut inside = false;
    let mut lines = Vec::new();
    for line in read(manifest).lines() {
        if line.starts_with('[') {
            inside = line == "[dependencies]" || line.starts_with("[target.") && line.ends_with(".dependencies]");
        } else if inside && !line.trim().is_empty() && !line.starts_with('#') {
            lines.push(line.to_owned());
        }
    }
    lines
}

#[test]
fn files_and_functions_fit() {
    let mut problems = Vec::new();
    for source in all() {
        if source.lines() > FILE_LINES_MAX {
            problems.push(format!("{} has {} lines, at most {FILE_LINES_MAX}", source.path, source.lines()));
        }
        for (name, lines) in source.functions() {
            if lines > FUNCTION_LINES_MAX {
                problems.push(format!("{}: `{name}` has {lines} lines, at most {FUNCTION_LINES_MAX}", source.path));
            }
        }
    }
    complain(&problems);
}

#[test]
fn each_file_says_what_it_owns() {
    let silent = |source: &Source| !source.text.trim_start().starts_with("//!");
    let problems: Vec<String> = all()
        .iter()
        .filter(|source| silent(source))
        .map(|source| format!("{} does not begin with `//!`", source.path))
        .collect();
    complain(&problems);
}

#[test]
fn no_word_of_a_glossary_synonym_and_no_loose_end() {
    let words =
        ["todo!(", "unimplemented!(", "dbg!(", "Manager", "Util", "mod util", "mod helpers", "mod common", "Handler {"];
    // The names of a library are not ours to choose.
    let theirs = "deadpool::managed::Manager";
    let mut problems = Vec::new();
    for source in all().iter().filter(|source| !source.path.starts_with("tests/suites/tidy")) {
        let code = source.code().replace(theirs, "");
        for word in words.iter().filter(|word| code.contains(**word)) {
            problems.push(format!("{} says `{word}`", source.path));
        }
    }
    complain(&problems);
}

#[test]
fn tests_do_not_sleep() {
    // One place may sleep: the loop that asks until a condition holds.
    let mut problems = Vec::new();
    for source in all()
        .iter()
        .filter(|source| source.path.contains("/tests/") || source.path.starts_with("tests/suites/end-to-end"))
    {
        if source.code().contains("thread::sleep(") && !source.path.contains("guest") {
            problems.push(format!("{} sleeps: ask with `until` instead", source.path));
        }
    }
    complain(&problems);
}

#[test]
fn what_is_left_out_of_the_test_run_has_no_tests() {
    let mut problems = Vec::new();
    for manifest in sources::tracked().iter().filter(|path| path.ends_with("Cargo.toml")) {
        let sources = manifest.replace("Cargo.toml", "src/");
        let own = || all().iter().filter(|source| source.path.starts_with(&sources));
        let is_example = |line: &str| ["/// ```", "//! ```"].contains(&line.trim());
        let (text, unit_tests) = (read(manifest), own().flat_map(Source::tests).count());
        if text.contains("[lib]\ntest = false") && unit_tests > 0 {
            problems.push(format!("{manifest} leaves out {unit_tests} unit tests"));
        }
        let examples = own().flat_map(|source| source.text.lines()).filter(|line| is_example(line)).count() / 2;
        if text.contains("doctest = false") && examples > 0 {
            problems.push(format!("{manifest} leaves out {examples} examples in comments"));
        }
    }
    complain(&problems);
}

#[test]
fn the_map_names_every_room_and_nothing_else() {
    let map = read("ARCHITECTURE.md");
    let mut problems = Vec::new();
    for room in sources::rooms() {
        if !map.contains(&format!("`{room}`")) {
            problems.push(format!("ARCHITECTURE.md does not name `{room}`"));
        }
    }
    // Every `path` in back quotes that looks like one exists; every `name()` is a function somewhere.
    let code: String = all().iter().map(Source::code).collect();
    for name in map.split('`').skip(1).step_by(2) {
        let is_path = name.contains('/') && !name.contains([' ', ':', '*', '<', '{']) && !name.starts_with('/');
        if is_path && !root().join(name.trim_end_matches('/')).exists() {
            problems.push(format!("ARCHITECTURE.md names `{name}`, which does not exist"));
        }
        if let Some(function) = name.strip_suffix("()") {
            let function = function.rsplit("::").next().unwrap_or(function);
            if !code.contains(&format!("fn {function}")) {
                problems.push(format!("ARCHITECTURE.md names `{name}`, which is no function"));
            }
        }
    }
    complain(&problems);
}

#[test]
fn the_project_stands_alone() {
    let foreign = [concat!("../", "shared"), concat!("/work", "/"), concat!("farm", "-")];
    let mut problems = Vec::new();
    for path in sources::tracked() {
        let text = std::fs::read_to_string(root().join(&path)).unwrap_or_default();
        for word in foreign.iter().filter(|word| text.contains(**word)) {
            problems.push(format!("{path} mentions `{word}`"));
        }
    }
    complain(&problems);
}

#[test]
fn the_door_to_the_house_is_tidy() {
    let entries: Vec<String> = sources::tracked()
        .iter()
        .filter_map(|path| path.split('/').next())
        .map(str::to_owned)
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect();
    let seen: Vec<&String> = entries.iter().filter(|name| !name.starts_with('.')).collect();
    assert!(seen.len() <= 15, "too much at the root: {seen:?}");
    let map = read("ARCHITECTURE.md");
    let unnamed: Vec<_> = seen.iter().filter(|name| !map.contains(name.as_str())).collect();
    assert!(unnamed.is_empty(), "ARCHITECTURE.md does not name {unnamed:?}");
}
