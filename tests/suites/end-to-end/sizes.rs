//! The size of a further Python component: at most 2 MB, in the database and in the data folder together.

use std::path::Path;

use serde_json::json;
use test_engine::{Database, Engine, component, until};

use crate::sql;

on_both_databases!(a_further_python_component_costs_at_most_two_megabytes);

const BYTES_MAX: u64 = 2_000_000;

/// The size of a folder's files on disk, in bytes.
fn on_disk(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(about) if about.is_dir() => on_disk(&entry.path()),
        Ok(about) => about.blocks() * 512,
        // The file was removed meanwhile.
        Err(_) => 0,
    };
    std::fs::read_dir(folder).unwrap().flatten().map(of).sum()
}

/// The size of the database in bytes, without its log.
fn of_database(engine: &Engine) -> u64 {
    let size = match engine.database().starts_with("sqlite:") {
        true => "select cast(page_count * page_size as text) from pragma_page_count, pragma_page_size",
        false => "select pg_database_size(current_database())::text",
    };
    sql(engine, size)[0][0].parse().unwrap()
}

#[expect(clippy::print_stdout, reason = "the figures are worth reading")]
fn a_further_python_component_costs_at_most_two_megabytes(database: Database) {
    let mut engine = Engine::start(database);
    engine.kill();
    engine.forget_artifacts();
    engine.restart();
    let names = ["python-hello", "python-reminders", "python-waiting", "python-deployment"];
    let mut before = (of_database(&engine), on_disk(&engine.artifacts()));
    for (number, name) in names.into_iter().enumerate() {
        engine.upload(name);
        until("its machine code is on disk", || engine.has_artifact(name).then_some(()));
        let now = (of_database(&engine), on_disk(&engine.artifacts()));
        let (rows, files) = (now.0.saturating_sub(before.0), now.1.saturating_sub(before.1));
        let size = std::fs::metadata(component(name)).unwrap().len();
        println!("{database:?}: {name} of {size} bytes takes {rows} in the database, {files} compiled");
        assert!(number == 0 || rows + files <= BYTES_MAX, "{name}: {rows} and {files} bytes");
        before = now;
    }
    // They are unchanged, also for an engine that has none of them in memory.
    engine.kill_and_restart();
    for name in ["hello", "double"] {
        let done = engine.run(&format!("python-hello/{name}"), &json!("world"));
        assert_eq!(done["status"], "completed", "{done:#}");
    }
    assert!(!engine.log().contains("damaged"), "{}", engine.log());
}
