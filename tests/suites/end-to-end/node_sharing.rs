//! Two engines on one PostgreSQL, and parallel steps of which one fails.

use serde_json::json;
use test_engine::{Cloud, Database, Engine, until};

use crate::{assert_each_once, assert_repeats_are_alike};

on_both_databases!(one_of_several_parallel_steps_fails);

/// The failure fails the execution, finished work stays done, and a resume repeats only the failed step.
fn one_of_several_parallel_steps_fails(database: Database) {
    let cloud = Cloud::start();
    let engine = Engine::start(database);
    engine.upload("test-guests");
    let paths = ["notes/a", "switch/s", "notes/b"];
    let id = engine.begin("posts_at_once", &json!({"base_url": cloud.url(), "paths": paths}));
    let failed = engine.wait_for_end(&id);
    assert_eq!(
        (&failed["status"], &failed["failure"]["kind"]),
        (&json!("failed"), &json!("http-status")),
        "{failed:#}"
    );
    cloud.put("/switch/s/on");
    engine.ok(&["resume", &id]);
    assert_eq!(engine.wait_for(&id, &["completed"])["output"], json!(3));
    assert_each_once(&cloud.requests("POST", "/notes"));
}

/// Each execution has one owner; when an engine dies, the other one goes on.
#[test]
fn two_engines_on_one_postgres_have_one_owner_for_each_execution() {
    let cloud = Cloud::start();
    let mut first = Engine::start_with(Database::Postgres, &[("LEASE", "3s")]);
    first.upload("test-guests");
    let second = Engine::beside(&first);
    let nap = json!({"base_url": cloud.url(), "sleep_ms": 400, "naps": 4});
    let ids: Vec<String> = (0..10).flat_map(|_| [first.begin("naps", &nap), second.begin("naps", &nap)]).collect();
    until("some have slept", || (cloud.ledger().len() >= 30).then_some(()));
    first.kill();
    for id in &ids {
        let done = until("the other engine takes over", || {
            let status = second.status(id);
            (status["status"] == "completed").then_some(status)
        });
        assert_eq!(done["output"], json!(4));
        let events = second.history(id);
        let positions: Vec<u64> = events.iter().map(|event| event["position"].as_u64().unwrap()).collect();
        assert_eq!(positions, (1..=events.len() as u64).collect::<Vec<_>>(), "one writer, no gap");
    }
    assert_repeats_are_alike(&cloud.ledger());
    let same_start =
        |engine: &Engine| engine.cli(&["start", "naps", "--input", &nap.to_string(), "--id", "shared"]).code;
    first.restart();
    assert_eq!((same_start(&first), same_start(&second)), (0, 0));
    assert_eq!(second.count("shared", "ExecutionStarted"), 1);
}
