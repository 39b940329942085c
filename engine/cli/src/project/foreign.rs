//! Crates that compile but can never work in a component: reported before the build, with a replacement.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::exit::{CliError, Outcome};
use crate::out::note;
use crate::render::plain;

/// The crates, with their replacements.
const LIST: &str = include_str!("foreign.toml");

#[derive(Deserialize)]
struct List {
    #[serde(rename = "crate")]
    crates: Vec<Foreign>,
}

/// A crate that cannot work.
#[derive(Deserialize)]
struct Foreign {
    name: String,
    /// The features with which it cannot work; when the list is empty, it never works.
    #[serde(default)]
    with: Vec<String>,
    why: String,
    instead: String,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
}

#[derive(Deserialize)]
struct Resolve {
    root: Option<String>,
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    #[serde(default)]
    features: Vec<String>,
    #[serde(default)]
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    kind: Option<String>,
}

/// Checks the dependencies of a crate for this target.
///
/// # Errors
/// When the crate depends on one that can never work. A dependency of a dependency may never be used, so it is only a
/// warning on stderr.
pub(super) fn check(manifest: &Path, name: &str, target: &str) -> Outcome {
    let mut cargo = Command::new("cargo");
    cargo.args(["metadata", "--format-version", "1", "--filter-platform", target, "--manifest-path"]).arg(manifest);
    // Cargo reports other problems of the crate when it builds.
    let Ok(asked) = cargo.stdin(Stdio::null()).stderr(Stdio::null()).output() else { return Ok(()) };
    let Ok(metadata) = serde_json::from_slice::<Metadata>(&asked.stdout) else { return Ok(()) };
    let (direct, brought) = judge(&metadata);
    for line in brought {
        note(&format!("warning: {}", plain(&line)));
    }
    match direct.is_empty() {
        true => Ok(()),
        false => Err(CliError::failed(format!("{name} cannot work as a component: {}", direct.join("; ")))),
    }
}

/// The problems of the crate's own dependencies, and those of indirect ones.
fn judge(metadata: &Metadata) -> (Vec<String>, Vec<String>) {
    let names: BTreeMap<&str, &str> =
        metadata.packages.iter().map(|package| (package.id.as_str(), package.name.as_str())).collect();
    let nodes: BTreeMap<&str, &Node> = metadata.resolve.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
    let (mut direct, mut brought) = (Vec::new(), Vec::new());
    let list: List = toml::from_str(LIST).expect("the list of foreign crates is written as it is read");
    let Some(root) = metadata.resolve.root.as_deref() else { return (direct, brought) };
    let (mut seen, mut left) = (BTreeSet::from([root]), vec![root]);
    while let Some(above) = left.pop() {
        for id in nodes.get(above).into_iter().flat_map(|node| used(node)) {
            if !seen.insert(id) {
                continue;
            }
            left.push(id);
            let name = names.get(id).copied().unwrap_or_default();
            let features = nodes.get(id).map_or(&[][..], |node| &node.features);
            let Some(foreign) = list.crates.iter().find(|foreign| foreign.name == name && foreign.is_met(features))
            else {
                continue;
            };
            let what = format!("`{name}`: {}; {}", foreign.why, foreign.instead);
            match above == root {
                true => direct.push(what),
                false => {
                    let by = names.get(above).copied().unwrap_or_default();
                    brought.push(format!("`{by}` brings {what} if what it does here ends in a trap"));
                }
            }
        }
    }
    (direct, brought)
}

/// The dependencies that become part of the component: not those of build scripts or tests.
fn used(node: &Node) -> impl Iterator<Item = &str> {
    let is_used = |one: &&Dependency| one.dep_kinds.iter().any(|kind| kind.kind.is_none());
    node.deps.iter().filter(is_used).map(|one| one.pkg.as_str())
}

impl Foreign {
    fn is_met(&self, features: &[String]) -> bool {
        self.with.is_empty() || features.iter().any(|feature| self.with.contains(feature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A crate `guest` and its dependency graph: for each crate its name, features, and dependencies as `kind:name`.
    fn metadata(crates: &[(&str, &[&str], &[&str])]) -> Metadata {
        let packages = crates.iter().map(|(name, ..)| Package { id: (*name).into(), name: (*name).into() }).collect();
        let dependency = |text: &&str| {
            let (kind, pkg) = text.split_once(':').unwrap();
            let kind = Kind { kind: (kind != "normal").then(|| kind.to_owned()) };
            Dependency { pkg: pkg.to_owned(), dep_kinds: vec![kind] }
        };
        let node = |(name, features, deps): &(&str, &[&str], &[&str])| Node {
            id: (*name).into(),
            features: features.iter().map(ToString::to_string).collect(),
            deps: deps.iter().map(dependency).collect(),
        };
        Metadata { packages, resolve: Resolve { root: Some("guest".into()), nodes: crates.iter().map(node).collect() } }
    }

    #[test]
    fn what_a_crate_itself_depends_on_is_refused_and_what_others_bring_is_a_warning() {
        let list: List = toml::from_str(LIST).unwrap();
        assert!(list.crates.len() >= 8);
        for Foreign { name, with, .. } in &list.crates {
            let (feature, dependency) = (with.first().map_or("default", String::as_str), format!("normal:{name}"));
            let foreign: (&str, &[&str], &[&str]) = (name, &[feature], &[]);
            let (direct, brought) = judge(&metadata(&[("guest", &[], &[&dependency]), foreign]));
            assert!(direct.len() == 1 && direct[0].starts_with(&format!("`{name}`: ")), "{direct:?}");
            assert!(brought.is_empty() && direct[0].contains("; use "), "{direct:?}");
            let (direct, brought) =
                judge(&metadata(&[("guest", &[], &["normal:api"]), ("api", &[], &[&dependency]), foreign]));
            assert!(direct.is_empty() && brought.len() == 1, "{direct:?} {brought:?}");
            assert!(brought[0].starts_with(&format!("`api` brings `{name}`")), "{brought:?}");
        }
    }

    #[test]
    fn tokio_is_refused_with_its_runtime_and_fine_without() {
        let refused = |features: &[&str]| {
            !judge(&metadata(&[("guest", &[], &["normal:tokio"]), ("tokio", features, &[])])).0.is_empty()
        };
        for features in [&["full"][..], &["rt", "sync"], &["time"], &["net", "default"]] {
            assert!(refused(features), "{features:?}");
        }
        for features in [&[][..], &["default"], &["sync", "macros"], &["io-util"]] {
            assert!(!refused(features), "{features:?}");
        }
    }

    #[test]
    fn what_only_tests_or_build_scripts_need_does_not_count() {
        let crates: &[(&str, &[&str], &[&str])] = &[
            ("guest", &[], &["dev:isahc", "build:ureq", "normal:fine"]),
            ("fine", &[], &["build:isahc", "normal:guest"]),
            ("isahc", &[], &[]),
            ("ureq", &[], &[]),
        ];
        assert_eq!(judge(&metadata(crates)), (vec![], vec![]));
    }
}
