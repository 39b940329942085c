//! The files of the schema: released files stay unchanged, and additions take nothing away (decision 015).

use std::collections::BTreeMap;

/// The files, by database and name.
fn files() -> BTreeMap<String, String> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
    let mut files = BTreeMap::new();
    for database in ["sqlite", "postgres"] {
        for entry in std::fs::read_dir(format!("{root}/{database}")).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{database}/{}", entry.file_name().display());
            files.insert(name, std::fs::read_to_string(entry.path()).unwrap());
        }
    }
    files
}

/// Files with which databases have been made, with their lengths and CRC-32. A database refuses an engine whose file of
/// the same number differs.
const FROZEN: [(&str, usize, u32); 6] = [
    ("sqlite/0001_rows.sql", 6600, 0x52786a2c),
    ("sqlite/0002_places.sql", 324, 0x658f8b28),
    ("sqlite/0003_straight.sql", 301, 0x0e032a41),
    ("postgres/0001_rows.sql", 6503, 0x52620fb7),
    ("postgres/0002_places.sql", 323, 0x2ee758d8),
    ("postgres/0003_straight.sql", 943, 0xe60db7ae),
];

#[test]
fn files_that_databases_were_made_with_do_not_change() {
    let files = files();
    for (name, bytes, checksum) in FROZEN {
        let text = files.get(name).unwrap_or_else(|| panic!("{name} is gone: put it back"));
        let found = (text.len(), crc32fast::hash(text.as_bytes()));
        assert_eq!(found, (bytes, checksum), "{name} was changed: undo that, and add a new file");
    }
}

#[test]
fn both_databases_have_files_of_the_same_numbers() {
    let numbers = |database: &str| {
        let of = files().into_keys().filter_map(|name| Some(name.strip_prefix(database)?.get(1..5)?.to_owned()));
        of.collect::<Vec<_>>()
    };
    assert_eq!(numbers("sqlite"), numbers("postgres"));
}

/// Statements that would break an engine of the previous version, which runs beside the new one for a while.
const TAKES_AWAY: [&str; 14] = [
    "drop ",
    "rename ",
    "truncate ",
    "delete from",
    "set not null",
    "add constraint",
    "add check",
    "alter column",
    "create trigger",
    "create rule",
    "create unique index",
    "unique (",
    "revoke ",
    "set schema",
];

#[test]
fn what_is_added_takes_nothing_away_from_the_version_before() {
    for (name, text) in files() {
        if FROZEN.iter().any(|(frozen, ..)| *frozen == name) {
            continue;
        }
        let code: String =
            text.lines().filter(|line| !line.trim_start().starts_with("--")).collect::<Vec<_>>().join("\n");
        // A statement about a table that is created in the same file does not concern an earlier engine.
        let statements = code.split(';').map(|statement| statement.trim().to_lowercase());
        for statement in statements.filter(|statement| !statement.starts_with("create table")) {
            for words in TAKES_AWAY {
                assert!(!statement.contains(words), "{name}: `{words}` in `{statement}` (see decision 015)");
            }
            let needs = statement.contains("add column") && statement.contains("not null");
            assert!(!needs || statement.contains("default"), "{name}: a column that the version before cannot fill");
        }
    }
}
