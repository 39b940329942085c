//! Removal of components: on request, and of old versions after a while; never of one that an execution may still need.

use std::time::Duration;

use cerebelum_history::Digest;
use serde_json::json;
use test_engine::{Database, Engine, component, within};

use crate::sql;

on_both_databases!(
    a_component_is_removed_with_its_bytes_and_its_artifact,
    a_component_that_is_needed_is_not_removed,
    old_versions_go_after_a_while,
);

/// The shortest possible lease, since a removed component keeps its bytes for two leases.
const LEASE: (&str, &str) = ("LEASE", "3s");

/// The longest time of a removal on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

fn digest_of(name: &str) -> String {
    Digest::of(&std::fs::read(component(name)).unwrap()).to_string()
}

/// The number of a component's rows: itself, its names, and its bytes, unless these are there only for other components
/// that are stored as differences from them.
fn rows_of(engine: &Engine, digest: &str) -> Vec<String> {
    let bytes = "component_packs p left join component_packs d on d.base = p.digest and p.digest not in (
        select c.digest from components c) where d.digest is null and p.digest";
    let count = |rows: &str| {
        let count = format!("select cast(count(*) as text) from {rows} = '{digest}'");
        sql(engine, &count)[0][0].clone()
    };
    ["components where digest", "names where digest", bytes].into_iter().map(count).collect()
}

/// An engine that shares no compiled components with the engines of other tests.
fn alone(database: Database, settings: &[(&str, &str)]) -> Engine {
    let mut engine = Engine::start_with(database, settings);
    engine.kill();
    engine.forget_artifacts();
    engine.restart();
    engine
}

fn a_component_is_removed_with_its_bytes_and_its_artifact(database: Database) {
    let mut engine = alone(database, &[LEASE]);
    engine.upload("hello");
    engine.ok(&["upload", &component("fan-out"), "--name", "shop"]);
    engine.ok(&["upload", &component("test-guests"), "--name", "shop", "--accept"]);
    within(PATIENCE, "they are compiled", || {
        ["hello", "fan-out", "test-guests"].iter().all(|name| engine.has_artifact(name)).then_some(())
    });
    let (old, now) = (digest_of("fan-out"), digest_of("test-guests"));
    let done = engine.json(&["start", "shop/sequence", "--id", "done", "--input", r#"{"steps":2}"#, "--wait"]);
    assert_eq!(done["output"], json!(2), "{done:#}");
    assert_eq!(
        engine.ok(&["components", "remove", "shop", "--digest", &old[..8]]),
        format!("removed shop {}\n", &old[..12])
    );
    assert_eq!(
        engine.run("shop/sequence", &json!({"steps": 2}))["output"],
        json!(2),
        "the other version is still there"
    );
    assert_eq!(engine.json(&["components", "remove", "shop"]), json!({"name": "shop", "digests": [now]}));
    // No request from now on finds it, neither on this engine nor after a crash.
    assert_eq!(engine.cli(&["start", "shop/sequence", "--input", r#"{"steps":2}"#]).code, 3);
    engine.kill_and_restart();
    let gone = engine.cli(&["components", "remove", "shop"]);
    assert_eq!(gone.code, 3, "{gone:?}");
    within(PATIENCE, "its rows are gone", || {
        [&old, &now].iter().all(|gone| rows_of(&engine, gone) == ["0"; 3]).then_some(())
    });
    within(PATIENCE, "its artifacts are gone", || {
        (!engine.has_artifact("fan-out") && !engine.has_artifact("test-guests")).then_some(())
    });
    // An execution that has ended is shown without it, and the other component is as it was.
    assert_eq!(engine.status("done")["output"], json!(2));
    assert_eq!(rows_of(&engine, &digest_of("hello")), ["1"; 3]);
    assert_eq!(engine.run("hello", &json!({"name": "x"}))["output"], json!({"text": "Hello, x!"}));
    // The name is free, and so are the bytes.
    engine.ok(&["upload", &component("test-guests"), "--name", "shop", "--accept"]);
    assert_eq!(engine.run("shop/sequence", &json!({"steps": 3}))["output"], json!(3));
}

fn a_component_that_is_needed_is_not_removed(database: Database) {
    let engine = alone(database, &[LEASE]);
    engine.upload("test-guests");
    let id = engine.begin("sleeper", &json!(600_000));
    engine.wait_for(&id, &["sleeping"]);
    let refused = engine.cli(&["components", "remove", "test-guests"]);
    assert_eq!(refused.code, 5, "{refused:?}");
    assert!(refused.err.contains(&id) && refused.err.contains("terminate"), "{}", refused.err);
    assert_eq!(engine.cli(&["components", "remove", "no-such"]).code, 3);
    assert_eq!(engine.cli(&["components", "remove", "test-guests", "--digest", "0000000000"]).code, 3);
    engine.ok(&["terminate", &id]);
    engine.wait_for(&id, &["cancelled"]);
    engine.ok(&["components", "remove", "test-guests"]);
    within(PATIENCE, "its rows are gone", || (rows_of(&engine, &digest_of("test-guests")) == ["0"; 3]).then_some(()));
    assert_eq!(engine.status(&id)["status"], "cancelled");
}

fn old_versions_go_after_a_while(database: Database) {
    let mut engine = alone(database, &[LEASE, ("KEEP_COMPONENTS", "1s")]);
    let (oldest, old, now) = (digest_of("fan-out"), digest_of("test-guests"), digest_of("hello"));
    engine.ok(&["upload", &component("fan-out"), "--name", "shop"]);
    engine.ok(&["upload", &component("test-guests"), "--name", "shop", "--accept"]);
    let id = engine.begin("shop/sleeper", &json!(600_000));
    engine.ok(&["upload", &component("hello"), "--name", "shop"]);
    engine.kill_and_restart();
    within(PATIENCE, "the oldest version is gone", || (rows_of(&engine, &oldest) == ["0"; 3]).then_some(()));
    assert_eq!(rows_of(&engine, &old), ["1"; 3], "an execution needs it");
    assert_eq!(rows_of(&engine, &now), ["1"; 3], "it is the current one");
    engine.ok(&["terminate", &id]);
    within(PATIENCE, "so is the old version", || (rows_of(&engine, &old) == ["0"; 3]).then_some(()));
    assert_eq!(engine.run("shop/hello", &json!({"name": "x"}))["output"], json!({"text": "Hello, x!"}));
}
