//! The table of limits in the page for operators, compared with the constants.

use std::collections::BTreeMap;

use crate::complain;
use crate::sources::{all, read};

const PAGE: &str = "docs/operating.md";

/// A row of the table: what it says, and the constants that it names.
struct Row {
    text: String,
    names: Vec<String>,
}

fn rows() -> Vec<Row> {
    let page = read(PAGE);
    let section = page.split("\n## Limits\n").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap_or_default();
    let cells = section.lines().map(|line| line.split(" | ").map(str::to_owned).collect::<Vec<_>>());
    cells
        .filter(|cells| cells.len() == 3)
        .map(|cells| Row { text: format!("{} {}", cells[0], cells[1]), names: named(&cells[2]) })
        .collect()
}

/// The constants in a cell.
fn named(cell: &str) -> Vec<String> {
    let is_constant = |word: &&str| {
        let rest = |letter: char| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_';
        word.starts_with(|first: char| first.is_ascii_uppercase()) && word.chars().all(rest)
    };
    cell.split('`').skip(1).step_by(2).filter(is_constant).map(str::to_owned).collect()
}

/// A constant of the engine in one line, as it is written: its name and its value.
fn constant(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_start().trim_start_matches("pub(crate) ").trim_start_matches("pub(super) ");
    let (name, rest) = line.trim_start_matches("pub ").strip_prefix("const ")?.split_once(": ")?;
    Some((name, rest.split_once(" = ")?.1.split_once(';')?.0))
}

fn constants() -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in all().iter().filter(|source| source.path.starts_with("engine/")) {
        for (name, value) in source.text.lines().filter_map(constant) {
            found.entry(name.to_owned()).or_default().push(value.to_owned());
        }
    }
    found
}

/// The number that a value stands for, if it is one.
fn number(value: &str) -> Option<u64> {
    let plain = |text: &str| text.trim().replace('_', "").parse::<u64>().ok();
    match value.split_once(" << ") {
        Some((base, shift)) => Some(plain(base)? << plain(shift)?),
        None => value.split('*').map(plain).product(),
    }
}

/// The ways in which the page may write a value. None if it cannot be told.
fn spellings(name: &str, value: &str) -> Option<Vec<String>> {
    for (make, unit) in [("Duration::from_secs(", "s"), ("Duration::from_millis(", "ms")] {
        if let Some(count) = value.strip_prefix(make).and_then(|rest| number(rest.trim_end_matches(')'))) {
            return Some(vec![format!("{count} {unit}"), format!("{count} to")]);
        }
    }
    let number = number(value)?;
    let whole = |unit: u64| (number > 0 && number.is_multiple_of(unit)).then(|| number / unit);
    let with = |count: Option<u64>, unit: &str| count.map(|count| format!("{count} {unit}"));
    let mut ways = vec![with_commas(number), format!("{number} bytes")];
    if name.contains("_MS") {
        ways.push(format!("{number} ms"));
        ways.extend(with(whole(1_000), "s").into_iter().chain(whole(31_536_000_000).map(|_| "one year".to_owned())));
    } else if name.contains("_NS") {
        ways.extend(with(whole(1_000_000_000), "s"));
    } else {
        ways.extend(
            [(30, "GiB"), (20, "MiB"), (10, "KiB")].into_iter().filter_map(|(bits, unit)| with(whole(1 << bits), unit)),
        );
        ways.extend((number == 4).then(|| "a quarter".to_owned()));
    }
    Some(ways)
}

/// `50,000`.
fn with_commas(number: u64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
    groups.collect::<Vec<_>>().join(",")
}

/// Whether a text has this phrase, not as a part of a longer number or word.
fn says(text: &str, phrase: &str) -> bool {
    let ends = |letter: Option<char>| letter.is_none_or(|letter| !letter.is_alphanumeric());
    text.match_indices(phrase).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        ends(before) && before != Some(',') && ends(text[at + phrase.len()..].chars().next())
    })
}

#[test]
fn the_table_of_limits_says_what_the_constants_are() {
    let constants = constants();
    let mut problems = Vec::new();
    let rows = rows();
    assert!(rows.len() > 50, "{PAGE} has a table of limits");
    for Row { text, names } in &rows {
        for name in names {
            let Some(values) = constants.get(name) else {
                problems.push(format!("{PAGE} names `{name}`, but the engine has no such constant"));
                continue;
            };
            let mut ways = values.iter().map(|value| spellings(name, value));
            if !ways.any(|ways| ways.is_none_or(|ways| ways.iter().any(|way| says(text, way)))) {
                problems.push(format!("{PAGE} says `{text}` of `{name}`, which is {}", values.join(" or ")));
            }
        }
    }
    for (name, _) in
        read("engine/history/src/limits.rs").lines().filter(|line| line.starts_with("pub const")).filter_map(constant)
    {
        if !rows.iter().any(|row| row.names.iter().any(|known| known == name)) {
            problems.push(format!("{PAGE} says nothing of `{name}` in engine/history/src/limits.rs"));
        }
    }
    complain(&problems);
}

#[test]
fn values_are_read_as_the_page_writes_them() {
    let ways = |name, value| spellings(name, value).unwrap_or_default();
    assert!(ways("A_BYTES_MAX", "64 << 10").contains(&"64 KiB".to_owned()));
    assert!(ways("A_MAX", "50_000").contains(&"50,000".to_owned()));
    assert!(ways("A_MS_MAX", "365 * 24 * 3_600_000").contains(&"one year".to_owned()));
    assert!(ways("A", "Duration::from_millis(50)").contains(&"50 ms".to_owned()));
    assert!(says("64 MiB, then", "64 MiB") && !says("164 MiB", "64 MiB") && !says("1,000", "000"));
    assert_eq!(constant("pub(crate) const A: usize = 1 << 2; // why"), Some(("A", "1 << 2")));
}
