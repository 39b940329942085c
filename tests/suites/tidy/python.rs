//! The tidiness of the Python sources; ruff and mypy, which `tests/scripts/run` calls, check the rest.

use crate::sources::{Source, python};
use crate::{FILE_LINES_MAX, complain};

#[test]
fn python_files_fit_and_say_what_they_own() {
    let mut problems = Vec::new();
    for source in python() {
        if source.lines() > FILE_LINES_MAX {
            problems.push(format!("{} has {} lines, at most {FILE_LINES_MAX}", source.path, source.lines()));
        }
        let first = source.text.lines().find(|line| !line.starts_with("#!")).unwrap_or_default();
        if first.trim_matches('"').is_empty() || !first.starts_with("\"\"\"") {
            problems.push(format!("{} does not begin with a docstring that says what it owns", source.path));
        }
    }
    complain(&problems);
}

#[test]
fn python_files_have_no_word_of_a_glossary_synonym_and_no_loose_end() {
    let loose = ["TODO", "FIXME", "breakpoint(", "import pdb"];
    let mut problems = Vec::new();
    for source in python() {
        for word in loose.iter().filter(|word| source.text.contains(**word)) {
            problems.push(format!("{} says `{word}`", source.path));
        }
        let file = source.path.rsplit('/').next().unwrap_or_default().trim_start_matches('_');
        if ["util.py", "utils.py", "common.py", "helpers.py", "manager.py"].contains(&file) {
            problems.push(format!("{} is no name for a file of ours", source.path));
        }
        for name in classes(&source) {
            for word in ["Manager", "Util", "Helper", "Handler"].iter().filter(|word| name.contains(**word)) {
                problems.push(format!("{}: class `{name}` says `{word}`", source.path));
            }
        }
    }
    complain(&problems);
}

/// The names of the classes that a source defines.
fn classes(source: &Source) -> Vec<&str> {
    let defined = source.text.lines().filter_map(|line| line.trim_start().strip_prefix("class "));
    defined.filter_map(|rest| rest.split(['(', ':', '[']).next()).collect()
}
