//! A share of `make torture` for every test run, always with the same seed: twenty kills on each database, and some beside
//! each fault.

use std::time::Duration;

use test_engine::Database;
use test_torture::{Length, Mode, Options, Report, run};

/// Runs a number of kills and expects no violation. `SEED=` runs another seed.
fn check(database: Database, kills: usize, modes: &'static [Mode]) -> Report {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20);
    let length = Length::Kills(kills);
    let report = run(Options { database, seed, length, life_max: Duration::from_millis(1_200), modes });
    eprintln!("{report}");
    assert!(report.violations.is_empty(), "{report}");
    report
}

fn check_twenty(database: Database) {
    let report = check(database, 20, &[Mode::Log]);
    assert!(report.open_mean() >= 50, "too few executions were under way: {report}");
    assert!(report.by_class().all(|(_, kills)| kills > 0), "no kill of a class: {report}");
}

#[test]
fn twenty_kills_break_no_law_on_sqlite() {
    check_twenty(Database::Sqlite);
}

#[test]
fn twenty_kills_break_no_law_on_postgres() {
    check_twenty(Database::Postgres);
}

#[test]
fn a_clock_that_jumps_breaks_no_law_on_sqlite() {
    check(Database::Sqlite, 6, &[Mode::Clock]);
}

#[test]
fn a_clock_that_jumps_breaks_no_law_on_postgres() {
    check(Database::Postgres, 6, &[Mode::Clock]);
}

#[test]
fn a_full_disk_breaks_no_law_on_sqlite() {
    check(Database::Sqlite, 6, &[Mode::Disk]);
}

#[test]
fn a_full_disk_breaks_no_law_on_postgres() {
    check(Database::Postgres, 6, &[Mode::Disk]);
}
