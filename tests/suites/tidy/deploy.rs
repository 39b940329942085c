//! The folder `deploy`: what its files name exists, and each alert has a test in which it fires.

use std::collections::BTreeSet;

use crate::complain;
use crate::sources::{all, read, rooms, root, tracked};

const DOCKERFILE: &str = "deploy/Dockerfile";
const UNIT: &str = "deploy/cerebelum.service";
const GUIDE: &str = "docs/deploying.md";
const ALERTS: &str = "deploy/prometheus/alerts.yml";
const FIRED: &str = "tests/suites/end-to-end/metrics/alerts.rs";

/// The instructions of the Dockerfile, each on one line, without comments.
fn instructions() -> Vec<String> {
    let lines: Vec<String> =
        read(DOCKERFILE).lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
    let joined = lines.join("\n").replace("\\\n", " ");
    joined.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
}

/// The rest of the instructions that begin with this word.
fn all_of(word: &str) -> Vec<String> {
    let begins = format!("{word} ");
    instructions().iter().filter_map(|line| Some(line.strip_prefix(&begins)?.to_owned())).collect()
}

/// What stands behind this key in a file of `key = "value"` or `Key=value` lines.
fn value(file: &str, key: &str) -> String {
    let text = read(file);
    let found = text.lines().find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix('='));
    found.unwrap_or_else(|| panic!("{file} has no `{key}`")).trim().trim_matches('"').to_owned()
}

/// The word that follows this one.
fn after<'a>(line: &'a str, word: &str) -> Option<&'a str> {
    line.split_whitespace().skip_while(|other| *other != word).nth(1)
}

#[test]
fn the_image_is_built_with_the_rust_of_the_workspace_on_one_debian() {
    let wanted = value("Cargo.toml", "rust-version");
    let bases = all_of("FROM");
    let (build, run) = (&bases[0], &bases[1]);
    let debian = build.strip_prefix(&format!("rust:{wanted}-")).and_then(|rest| rest.split(' ').next());
    let debian = debian.unwrap_or_else(|| panic!("{DOCKERFILE} builds from `{build}`, the workspace wants {wanted}"));
    assert!(run.starts_with(&format!("debian:{debian}")), "`{run}` has another C library than `{build}`");
    let setup = read("tests/scripts/setup");
    assert!(setup.contains(&format!("Rust {wanted} or newer")), "tests/scripts/setup names another Rust");
}

#[test]
fn what_the_image_copies_and_runs_exists() {
    let mut problems = Vec::new();
    let builds = all_of("RUN");
    for copy in all_of("COPY") {
        let words: Vec<&str> = copy.split_whitespace().collect();
        match words[..] {
            [stage, made, _] if stage.starts_with("--from=") => {
                let is_made = builds.iter().any(|build| after(build, "-o") == Some(made));
                problems.extend((!is_made).then(|| format!("no step of the build makes `{made}`")));
            }
            [of_the_tree, _] if root().join(of_the_tree).exists() => {}
            _ => problems.push(format!("`COPY {copy}` copies what is not there")),
        }
    }
    let build = builds.iter().find(|run| run.contains("cargo build")).expect("a step builds the engine");
    let package = after(build, "-p").expect("the package is named");
    let manifest = read("engine/cli/Cargo.toml");
    if !manifest.contains(&format!("name = \"{package}\"")) {
        problems.push(format!("engine/cli is not the package `{package}`"));
    }
    let binary = build.split_whitespace().find_map(|word| word.strip_prefix("target/release/")).unwrap_or_default();
    if !manifest.contains(&format!("[[bin]]\nname = \"{binary}\"")) {
        problems.push(format!("`{package}` has no program `{binary}`"));
    }
    let started = all_of("ENTRYPOINT").concat();
    let installed = all_of("COPY").iter().any(|copy| copy.ends_with(&format!(" /usr/local/bin/{binary}")));
    if !installed || started != format!("[\"{binary}\"]") {
        problems.push(format!("the image starts {started}, which is not the program that it was given"));
    }
    complain(&problems);
}

#[test]
fn what_is_left_out_of_the_image_is_not_needed_to_build_it() {
    let mut problems = Vec::new();
    let ignored = read("deploy/Dockerfile.dockerignore");
    let ignored = ignored.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    for folder in ignored.filter(|path| !path.contains('*')) {
        let is_in_it = |path: &str| path == folder || path.starts_with(&format!("{folder}/"));
        problems.extend(rooms().iter().filter(|room| is_in_it(room)).map(|room| format!("`{room}` is left out")));
        let of_it = format!("/{folder}/");
        let reads = |code: &str| code.lines().any(|line| line.contains("include_") && line.contains(&of_it));
        let engine = all().iter().filter(|source| source.path.starts_with("engine/") && reads(&source.code()));
        problems.extend(engine.map(|source| format!("{} includes a file of `{folder}`", source.path)));
    }
    complain(&problems);
}

#[test]
fn what_the_unit_runs_and_reads_is_installed_by_the_guide() {
    let guide = read(GUIDE);
    let start = value(UNIT, "ExecStart");
    let (program, verb) = start.split_once(' ').expect("a program with a verb");
    let (folder, binary) = program.rsplit_once('/').expect("an absolute path");
    let (_, settings) =
        value(UNIT, "LoadCredential").split_once(':').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let state = value(UNIT, "StateDirectory");
    let home = format!("--home-dir /var/lib/{state} ");
    for needed in [
        format!("install -m 0755 target/release/{binary} {folder}/"),
        format!("/dev/null {settings}"),
        format!("{home}--shell /usr/sbin/nologin {}", value(UNIT, "User")),
    ] {
        assert!(guide.contains(&needed), "{GUIDE} does not say `{needed}`, which {UNIT} needs");
    }
    let data = format!("Environment=CEREBELUM_DATA=/var/lib/{state}");
    assert!(read(UNIT).lines().any(|line| line == data), "{UNIT} keeps data elsewhere than in its state directory");
    assert!(read("docs/cli.md").contains(&format!("`{binary} {verb}`")), "there is no `{binary} {verb}`");
}

#[test]
fn what_the_guide_names_in_this_folder_exists() {
    let named = |text: &str| -> BTreeSet<String> {
        let is_path = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
        let words = text.split(|c| !is_path(c)).map(|word| word.trim_start_matches("../").trim_end_matches('.'));
        words.filter(|word| word.starts_with("deploy/")).map(str::to_owned).collect()
    };
    let mut all = BTreeSet::new();
    for page in [GUIDE, "docs/observability.md", "docs/operating.md", "ARCHITECTURE.md", "README.md"] {
        all.extend(named(&read(page)));
    }
    let missing: Vec<String> = all.iter().filter(|path| !root().join(path).exists()).cloned().collect();
    assert!(all.len() >= 3 && missing.is_empty(), "pages name {all:?}, of which {missing:?} do not exist");
    let unnamed: Vec<String> = tracked()
        .into_iter()
        .filter(|path| path.starts_with("deploy/") && !path.ends_with(".dockerignore") && !all.contains(path))
        .collect();
    assert!(unnamed.is_empty(), "no page says what {unnamed:?} are for");
}

#[test]
fn each_alert_fires_in_a_test_and_tests_know_no_other() {
    let alerts = read(ALERTS);
    let rules: BTreeSet<&str> =
        alerts.split("- alert: ").skip(1).filter_map(|rule| rule.lines().next()).map(str::trim).collect();
    let tests = read(FIRED);
    let fired: BTreeSet<&str> = tests
        .split('"')
        .skip(1)
        .step_by(2)
        .filter(|word| word.starts_with("Cerebelum") && !word.contains(' '))
        .collect();
    assert!(rules.len() >= 10 && tests.contains("assert_fires("), "the alerts can be read: {rules:?}");
    let quiet: Vec<_> = rules.difference(&fired).collect();
    let unknown: Vec<_> = fired.difference(&rules).collect();
    assert!(quiet.is_empty() && unknown.is_empty(), "without a test: {quiet:?}; without a rule: {unknown:?}");
}
