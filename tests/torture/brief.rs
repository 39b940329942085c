//! A share of `make torture` for every test run: twenty kills on each database, always with the same seed.

use std::time::Duration;

use cerebelum_tests::Database;
use cerebelum_tests::torture::{Length, Options, run};

/// `SEED=` runs another one.
fn check(database: Database) {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20);
    let length = Length::Kills(20);
    let report = run(Options { database, seed, length, life_max: Duration::from_millis(1_200) });
    eprintln!("{report}");
    assert!(report.violations.is_empty(), "{report}");
    assert!(report.open_min() >= 50, "too few executions were under way: {report}");
    assert!(report.by_class().all(|(_, kills)| kills > 0), "no kill of a class: {report}");
}

#[test]
fn twenty_kills_break_no_law_on_sqlite() {
    check(Database::Sqlite);
}

#[test]
fn twenty_kills_break_no_law_on_postgres() {
    check(Database::Postgres);
}
