//! The pages: every link and anchor has a target, every path and test in them exists, every page is linked, and every
//! cited law is in `docs/laws.md`.

use std::collections::{BTreeMap, BTreeSet};

use crate::complain;
use crate::sources::{read, root, tracked};

/// A page in Markdown.
struct Page {
    path: String,
    text: String,
}

/// All pages.
fn pages() -> Vec<Page> {
    let paths = tracked().into_iter().filter(|path| path.ends_with(".md"));
    paths.map(|path| Page { text: read(&path), path }).collect()
}

impl Page {
    /// The lines outside of fenced blocks, numbered from 1.
    fn prose(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut is_fenced = false;
        (1..).zip(self.text.lines()).filter(move |(_, line)| {
            let is_fence = line.trim_start().starts_with("```");
            is_fenced ^= is_fence;
            !is_fence && !is_fenced
        })
    }

    /// The anchors of its headings.
    fn anchors(&self) -> BTreeSet<String> {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let mut anchors = BTreeSet::new();
        for (_, line) in self.prose() {
            let text = line.trim_start_matches('#');
            if text.len() == line.len() || !text.starts_with(' ') {
                continue;
            }
            let anchor = anchor(text.trim());
            let before = seen.entry(anchor.clone()).or_default();
            anchors.insert(if *before == 0 { anchor } else { format!("{anchor}-{before}") });
            *before += 1;
        }
        anchors
    }

    /// The targets of its links within the repository, each with its line.
    fn links(&self) -> Vec<(usize, String)> {
        let mut links = Vec::new();
        for (number, line) in self.prose() {
            let text: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
            for rest in text.split("](").skip(1) {
                let target = rest.split([')', ' ']).next().unwrap_or_default();
                if !target.contains("://") && !target.starts_with("mailto:") {
                    links.push((number, target.to_owned()));
                }
            }
        }
        links
    }

    /// The texts in back quotes, each with its line.
    fn quoted(&self) -> impl Iterator<Item = (usize, &str)> {
        self.prose().flat_map(|(number, line)| line.split('`').skip(1).step_by(2).map(move |name| (number, name)))
    }

    /// The path of a target, relative to this page.
    fn resolve(&self, target: &str) -> String {
        let mut folders: Vec<&str> = self.path.split('/').collect();
        folders.pop();
        for part in target.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(folders.pop()),
                part => folders.push(part),
            }
        }
        folders.join("/")
    }
}

/// The anchor of a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let mut text = String::new();
    let mut rest = heading;
    // Only the words of a link count.
    while let Some((before, after)) = rest.split_once("](") {
        text.push_str(&before.replacen('[', "", 1));
        rest = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    text.push_str(rest);
    let kept = text.to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The broken links of these pages; `exists` knows the files and folders.
fn broken_links(pages: &[Page], exists: impl Fn(&str) -> bool) -> Vec<String> {
    let anchors: BTreeMap<&str, BTreeSet<String>> =
        pages.iter().map(|page| (page.path.as_str(), page.anchors())).collect();
    let mut problems = Vec::new();
    for page in pages {
        for (number, link) in page.links() {
            let (target, wanted) = link.split_once('#').map_or((link.as_str(), None), |(t, a)| (t, Some(a)));
            let path = if target.is_empty() { page.path.clone() } else { page.resolve(target) };
            let place = format!("{}, line {number}", page.path);
            if !exists(&path) {
                problems.push(format!("{place} links to `{link}`, which does not exist"));
            } else if let Some(wanted) = wanted
                && anchors.get(path.as_str()).is_none_or(|anchors| !anchors.contains(wanted))
            {
                problems.push(format!("{place} links to `{link}`, and `{path}` has no such heading"));
            }
        }
    }
    problems
}

/// The paths of the repository that these pages name in back quotes and that do not exist.
fn missing_paths(pages: &[Page], exists: impl Fn(&str) -> bool) -> Vec<String> {
    const ROOMS: [&str; 6] = ["engine/", "tests/", "docs/", "guest-sdk/", "wit/", "examples/"];
    let mut problems = Vec::new();
    for page in pages {
        let paths = page.quoted().filter(|(_, name)| ROOMS.iter().any(|room| name.starts_with(room)));
        // Commands, patterns and placeholders are not paths.
        for (number, path) in paths.filter(|(_, name)| !name.contains([' ', '*', '<', '{', '…', ':', '(', '=', ',']))
        {
            let is_made_up = path.split('/').any(|part| part.len() > 1 && part.chars().all(char::is_uppercase));
            if !is_made_up && !exists(path.trim_end_matches('/')) {
                problems.push(format!("{}, line {number} names `{path}`, which does not exist", page.path));
            }
        }
    }
    problems
}

/// The pages under `docs/` that no other page links to, not even by linking to their folder.
fn orphans(pages: &[Page]) -> Vec<String> {
    let mut linked = BTreeSet::new();
    for page in pages {
        let targets = page.links().into_iter().map(|(_, link)| link);
        let targets = targets.filter_map(|link| Some(page.resolve(link.split('#').next()?)));
        linked.extend(targets.filter(|target| *target != page.path));
    }
    let is_linked = |path: &str| {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        linked.contains(path) || folder != "docs" && linked.contains(folder)
    };
    let lost = pages.iter().map(|page| &page.path).filter(|path| path.starts_with("docs/") && !is_linked(path));
    lost.map(|path| format!("no other page links to {path}")).collect()
}

/// The numbers after this letter that a text cites, each with its line: `L8` for a law, `I2` for an invariant.
fn cited(letter: char, text: &str) -> Vec<(usize, u32)> {
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        let cited = |word: &str| word.strip_prefix(letter).filter(|digits| digits.len() <= 2)?.parse().ok();
        found.extend(words.filter_map(cited).map(|cited| (number, cited)));
    }
    found
}

/// The numbers of the laws that have a chapter, in order.
fn chapters(laws: &Page) -> Vec<u32> {
    let headings = laws.prose().filter_map(|(_, line)| line.strip_prefix("## L")?.split(':').next());
    headings.filter_map(|number| number.parse().ok()).collect()
}

/// The tests that hold the laws, according to the page: their line, their file and their name.
fn holders(laws: &Page) -> Vec<(usize, String, String)> {
    let mut holders = Vec::new();
    for (number, line) in laws.prose().filter(|(_, line)| line.starts_with("Held by: ")) {
        let mut file = "";
        for name in line.split('`').skip(1).step_by(2) {
            match name.contains('/') {
                true => file = name,
                false => holders.push((number, file.to_owned(), name.to_owned())),
            }
        }
    }
    holders
}

fn laws() -> Page {
    let path = "docs/laws.md".to_owned();
    Page { text: read(&path), path }
}

/// The fenced blocks of a page in this language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let fenced = page.split("\n```").skip(1).step_by(2);
    fenced.filter_map(|block| Some(block.strip_prefix(language)?.strip_prefix('\n')?.to_owned())).collect()
}

#[test]
fn the_program_of_the_readme_is_an_example_that_is_built() {
    const EXAMPLE: &str = "examples/trial/src/lib.rs";
    let (shown, built) = (blocks(&read("README.md"), "rust"), read(EXAMPLE));
    assert_eq!(shown.len(), 1, "the README shows one program in Rust");
    assert!(built.contains(&shown[0]), "README.md shows something else than {EXAMPLE}");
}

#[test]
fn links_lead_somewhere() {
    complain(&broken_links(&pages(), |path| root().join(path).exists()));
}

#[test]
fn paths_that_pages_name_exist() {
    complain(&missing_paths(&pages(), |path| root().join(path).exists()));
}

#[test]
fn every_page_is_linked() {
    complain(&orphans(&pages()));
}

/// Texts that may cite laws and invariants, without this file, which contains wrong ones on purpose.
fn citing() -> impl Iterator<Item = (String, String)> {
    const KINDS: [&str; 9] = [".rs", ".py", ".sql", ".wit", ".proto", ".md", ".toml", "/run", "/build"];
    let paths = tracked().into_iter().filter(|path| KINDS.iter().any(|kind| path.ends_with(kind)));
    paths
        .filter(|path| path != "tests/suites/tidy/pages.rs")
        .map(|path| (read(&path), path))
        .map(|(text, path)| (path, text))
}

#[test]
fn laws_and_invariants_that_are_cited_stand_on_their_pages() {
    const INVARIANTS: &str = "docs/reliability.md";
    let laws = chapters(&laws());
    assert!((1..).zip(&laws).all(|(expected, law)| expected == *law), "docs/laws.md has its laws in order: {laws:?}");
    let page = read(INVARIANTS);
    let rows = page.lines().filter_map(|line| line.strip_prefix("| I")?.split(' ').next()?.parse().ok());
    let invariants: Vec<u32> = rows.collect();
    let mut problems = Vec::new();
    for (path, text) in citing() {
        for (letter, known, page) in [('L', &laws, "docs/laws.md"), ('I', &invariants, INVARIANTS)] {
            // `I32` and `I64` are types of WebAssembly.
            let is_meant = |cited: u32| letter == 'L' || cited < 32;
            let lost = cited(letter, &text).into_iter().filter(|(_, cited)| is_meant(*cited) && !known.contains(cited));
            for (number, cited) in lost {
                problems.push(format!("{path}, line {number} cites {letter}{cited}, which {page} does not have"));
            }
        }
    }
    complain(&problems);
}

#[test]
fn nothing_is_cited_that_stands_nowhere() {
    // Numbers and words of papers that are not part of this project.
    let problems = citing().flat_map(|(path, text)| {
        let lines = strays(&text).into_iter();
        lines.map(move |number| format!("{path}, line {number} cites a paper that is not here")).collect::<Vec<_>>()
    });
    complain(&problems.collect::<Vec<_>>());
}

/// The lines that mention a predecessor, or behaviours and promises by their number.
fn strays(text: &str) -> Vec<usize> {
    let is_stray = |line: &str| {
        let line = line.to_lowercase();
        let numbered = ["behaviour ", "behaviours ", "promise ", "promises "];
        let has_number =
            |word: &str| line.split(word).skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        line.contains("predecessor") || numbered.into_iter().any(has_number)
    };
    (1..).zip(text.lines()).filter(|(_, line)| is_stray(line)).map(|(number, _)| number).collect()
}

#[test]
fn tests_that_hold_laws_exist() {
    let laws = laws();
    let (holders, chapters) = (holders(&laws), chapters(&laws));
    let said = laws.prose().filter(|(_, line)| line.starts_with("Held by: ")).count();
    assert_eq!(said, chapters.len(), "each law says once by which tests it is held");
    let mut problems = Vec::new();
    for (number, file, test) in holders {
        let names_it = |text: String| text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == test);
        if !std::fs::read_to_string(root().join(&file)).is_ok_and(names_it) {
            problems.push(format!("docs/laws.md, line {number} names the test `{test}`, which `{file}` does not have"));
        }
    }
    complain(&problems);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(path: &str, text: &str) -> Page {
        Page { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_link_or_an_anchor_that_leads_nowhere_is_found() {
        let pages = [
            page(
                "docs/a.md",
                "# A `b`\n[here](#a-b) [there](../c.md#twice-1) [out](https://x.org/#y)\n```\n[no](x.md)\n```\n",
            ),
            page("c.md", "# Twice\n## Twice\n[gone](docs/gone.md) [a](docs/a.md#gone) `[code](gone)`\n"),
        ];
        let problems = broken_links(&pages, |path| ["docs/a.md", "c.md"].contains(&path));
        assert_eq!(
            problems,
            [
                "c.md, line 3 links to `docs/gone.md`, which does not exist",
                "c.md, line 3 links to `docs/a.md#gone`, and `docs/a.md` has no such heading",
            ]
        );
    }

    #[test]
    fn headings_make_anchors_as_github_makes_them() {
        for (heading, expected) in [
            ("L21: No divergence is silent", "l21-no-divergence-is-silent"),
            ("`cerebelum components remove`", "cerebelum-components-remove"),
            ("Many at once, races", "many-at-once-races"),
            ("What [a link](x.md) says", "what-a-link-says"),
        ] {
            assert_eq!(anchor(heading), expected);
        }
    }

    #[test]
    fn a_path_that_is_named_and_is_not_there_is_found() {
        let text = "`engine/gone.rs` `engine/here/` `tests/*.rs` `examples/build rust` `docs/NAME.md` `elsewhere/x`\n";
        let problems = missing_paths(&[page("a.md", text)], |path| path == "engine/here");
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert_eq!(problems[0], "a.md, line 1 names `engine/gone.rs`, which does not exist");
        let made_up = missing_paths(&[page("a.md", "`examples/NAME`\n")], |_| false);
        assert!(made_up.is_empty(), "{made_up:?}");
    }

    #[test]
    fn a_page_that_nothing_links_to_is_found() {
        let pages = [
            page("README.md", "[a](docs/a.md) [why](docs/decisions)\n"),
            page("docs/a.md", "[itself](a.md)\n"),
            page("docs/b.md", "[itself](b.md#b)\n"),
            page("docs/decisions/001-x.md", "\n"),
        ];
        assert_eq!(orphans(&pages), ["no other page links to docs/b.md"]);
    }

    #[test]
    fn blocks_are_taken_by_their_language() {
        let page = "a\n```rust\nfn f() {}\n```\nb\n```sh\nls\n```\n```rust\nfn g() {}\n```\n";
        assert_eq!(blocks(page, "rust"), ["fn f() {}", "fn g() {}"]);
    }

    #[test]
    fn laws_are_told_from_other_words() {
        assert_eq!(cited('L', "// as (L8) and L22 say\nLINE L100 XL3 L4x I1\nl05_test L9:"), [(1, 8), (1, 22), (3, 9)]);
        assert_eq!(cited('I', "(I1) I77: L2 IO"), [(1, 1), (1, 77)]);
        assert_eq!(strays("its behaviour is 1\nsee behaviour 21\nthe Predecessor\nkeeps promises 2, 3\n"), [2, 3, 4]);
        let laws =
            page("docs/laws.md", "## L1: One\nHeld by: `a/b.rs` (`x`, `y`), `c/d.rs` (`z`).\n## L2: Two\n## Lists\n");
        assert_eq!(chapters(&laws), [1, 2]);
        let held = holders(&laws).into_iter().map(|(_, file, test)| format!("{file} {test}"));
        assert_eq!(held.collect::<Vec<_>>(), ["a/b.rs x", "a/b.rs y", "c/d.rs z"]);
    }
}
