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
/// the same number differs. Each file stands here but the newest one, which may change until the next one is added or it is
/// released.
const FROZEN: [(&str, usize, u32); 44] = [
    ("sqlite/0001_rows.sql", 6600, 0x52786a2c),
    ("sqlite/0002_places.sql", 324, 0x658f8b28),
    ("sqlite/0003_straight.sql", 301, 0x0e032a41),
    ("sqlite/0004_counted.sql", 863, 0xf2f91e30),
    ("sqlite/0005_crashes.sql", 352, 0x8e3126c2),
    ("sqlite/0006_removal.sql", 277, 0x476f897c),
    ("sqlite/0007_packs.sql", 648, 0xb6a6b5b1),
    ("sqlite/0008_identity.sql", 724, 0x29b9a1e1),
    ("sqlite/0009_quotas.sql", 252, 0x34165bbd),
    ("sqlite/0010_audit.sql", 524, 0x2ab6fe49),
    ("sqlite/0011_deletion.sql", 219, 0x493cd2bd),
    ("sqlite/0012_secrets.sql", 792, 0x518510ab),
    ("sqlite/0013_links.sql", 662, 0x31b767d4),
    ("sqlite/0014_bulk.sql", 1136, 0x83fc0012),
    ("sqlite/0015_grants.sql", 609, 0x7300b7e6),
    ("sqlite/0016_children.sql", 223, 0x0a3e94e6),
    ("sqlite/0017_stored_bytes.sql", 642, 0xe7a49ff7),
    ("sqlite/0018_waits_for.sql", 162, 0x2daa2c8e),
    ("sqlite/0019_views.sql", 420, 0x725b9b0e),
    ("sqlite/0020_of_tenant.sql", 219, 0xd355ed9c),
    ("sqlite/0021_remains.sql", 572, 0x807b0a7d),
    ("sqlite/0022_runs.sql", 1122, 0xebfce825),
    ("postgres/0001_rows.sql", 6503, 0x52620fb7),
    ("postgres/0002_places.sql", 323, 0x2ee758d8),
    ("postgres/0003_straight.sql", 943, 0xe60db7ae),
    ("postgres/0004_counted.sql", 571, 0x209dbbee),
    ("postgres/0005_crashes.sql", 352, 0x8e3126c2),
    ("postgres/0006_removal.sql", 276, 0x1adabe95),
    ("postgres/0007_packs.sql", 641, 0x7dcf519e),
    ("postgres/0008_identity.sql", 711, 0xf0a6eb46),
    ("postgres/0009_quotas.sql", 252, 0x34165bbd),
    ("postgres/0010_audit.sql", 500, 0x6bdcdeb7),
    ("postgres/0011_deletion.sql", 218, 0x92094d9d),
    ("postgres/0012_secrets.sql", 777, 0xd2d7989a),
    ("postgres/0013_links.sql", 650, 0x11d42ba9),
    ("postgres/0014_bulk.sql", 1114, 0x36692519),
    ("postgres/0015_grants.sql", 601, 0x477d15f3),
    ("postgres/0016_children.sql", 223, 0x0a3e94e6),
    ("postgres/0017_stored_bytes.sql", 618, 0x32df86bd),
    ("postgres/0018_waits_for.sql", 162, 0x2daa2c8e),
    ("postgres/0019_views.sql", 397, 0x9ed98e1f),
    ("postgres/0020_of_tenant.sql", 147, 0xbcd6cb0e),
    ("postgres/0021_remains.sql", 548, 0x8e90eb6c),
    ("postgres/0022_runs.sql", 1120, 0xe0ece15b),
];

/// The last file that took something away, before this was a rule. Nothing older was ever released.
const LAST_WITHOUT_RULE: &str = "0003";

/// The number of a file, the part of its name that both databases have in common.
fn number(name: &str) -> &str {
    name.split_once('/').and_then(|(_, file)| file.get(..4)).unwrap_or_else(|| panic!("{name} has no number"))
}

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
fn every_file_but_the_newest_is_frozen() {
    let files = files();
    let newest = files.keys().map(|name| number(name)).max().unwrap();
    for (name, text) in &files {
        let is_frozen = FROZEN.iter().any(|(frozen, ..)| frozen == name);
        let (bytes, checksum) = (text.len(), crc32fast::hash(text.as_bytes()));
        let line = format!("(\"{name}\", {bytes}, {checksum:#010x})");
        assert!(is_frozen || number(name) == newest, "a newer file follows {name}: add it to FROZEN as {line}");
    }
}

#[test]
fn both_databases_have_files_of_the_same_numbers() {
    let numbers = |database: &str| {
        let files = files().into_keys().filter(|name| name.starts_with(database));
        files.map(|name| number(&name).to_owned()).collect::<Vec<_>>()
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
        if number(&name) <= LAST_WITHOUT_RULE {
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
