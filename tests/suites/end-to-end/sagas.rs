//! Work that must not be repeated or cut short: compensations before a resume, clean-up after a cancel, children after
//! a restore of a backup.

use std::collections::BTreeSet;

use serde_json::json;
use sqlx::{AssertSqlSafe, Connection};
use test_engine::{Cloud, Database, Engine, until};

on_both_databases!(
    a_saga_that_has_compensated_is_not_resumed_unless_somebody_insists,
    clean_up_takes_as_long_as_it_needs_and_survives_a_kill,
    clean_up_ends_when_its_workflow_limits_it,
    children_have_the_same_keys_after_a_restore,
);

fn a_saga_that_has_compensated_is_not_resumed_unless_somebody_insists(database: Database) {
    for (workflow, later) in [("saga", "`post`"), ("saga_in_a_step", "`post`"), ("saga_of_requests", "/notes/refund")] {
        let cloud = Cloud::start();
        let mut engine = Engine::start(database);
        engine.upload("test-guests");
        let id = engine.begin(workflow, &json!(cloud.url()));
        assert_eq!(engine.wait_for_end(&id)["failure"]["kind"], "http-status");
        cloud.put("/switch/one/on");
        let before = cloud.ledger().len();
        for _ in 0..2 {
            let refused = engine.cli(&["resume", &id]);
            assert_eq!((refused.code, refused.err.lines().count()), (5, 1), "{refused:?}");
            assert!(refused.err.contains(later) && refused.err.contains("--force"), "{refused:?}");
            assert_eq!(engine.status(&id)["status"], "failed");
            engine.kill_and_restart();
        }
        assert_eq!(cloud.ledger().len(), before, "nothing went out");
        engine.ok(&["resume", &id, "--force"]);
        assert_eq!(engine.wait_for(&id, &["completed"])["output"], "shipped");
    }
}

fn clean_up_takes_as_long_as_it_needs_and_survives_a_kill(database: Database) {
    let cloud = Cloud::start();
    let mut engine = Engine::start_with(database, &[("HIBERNATE_AFTER", "10ms")]);
    engine.upload("test-guests");
    let id = engine.begin("cleaning_up_patiently", &json!(cloud.url()));
    engine.wait_for(&id, &["sleeping"]);
    engine.ok(&["cancel", &id]);
    engine.wait_for(&id, &["waiting"]);
    let requested = engine.history(&id).into_iter().find(|event| event["kind"] == "CancelRequested").unwrap();
    assert!(requested.to_string().find("until").is_none(), "no limit is recorded: {requested:#}");
    assert_eq!(engine.status(&id)["waiting_on"][0]["kind"], "signal");
    engine.kill_and_restart();
    engine.ok(&["signal", &id, "go on", "--data", "1"]);
    assert_eq!(engine.wait_for_end(&id)["status"], "cancelled");
    assert_eq!(cloud.requests("POST", "/notes/clean-up").len(), 1);
}

fn clean_up_ends_when_its_workflow_limits_it(database: Database) {
    let cloud = Cloud::start();
    let mut engine = Engine::start_with(database, &[("HIBERNATE_AFTER", "10ms")]);
    engine.upload("test-guests");
    let id = engine.begin("cleaning_up_in_time", &json!(cloud.url()));
    engine.wait_for(&id, &["sleeping"]);
    engine.ok(&["cancel", &id]);
    engine.kill_and_restart();
    let ended = engine.wait_for_end(&id);
    assert_eq!(ended["status"], "cancelled");
    assert!(ended["failure"]["message"].as_str().unwrap().contains("grace period"), "{ended:#}");
    assert!(cloud.ledger().is_empty());
}

/// The ledger's paths with their keys.
fn keys(cloud: &Cloud) -> BTreeSet<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let ledger = cloud.ledger();
    ledger.iter().map(|request| (text(&request["path"]), text(&request["idempotency_key"]))).collect()
}

fn children_have_the_same_keys_after_a_restore(database: Database) {
    let cloud = Cloud::start();
    let mut engine = Engine::start(database);
    engine.upload("test-guests");
    let id = engine.begin("delegating", &json!(cloud.url()));
    engine.wait_for(&id, &["waiting"]);
    engine.kill();
    let restored = backup(engine.database());
    engine.restart();
    let goes_on = |engine: &Engine| {
        engine.ok(&["signal", &id, "go on", "--data", "1"]);
        assert_eq!(engine.wait_for_end(&id)["output"], 4);
    };
    goes_on(&engine);
    until("the child that was only started has posted", || (cloud.ledger().len() == 6).then_some(()));
    let first = keys(&cloud);
    assert_eq!(first.len(), 6);
    engine.kill();
    let other = Engine::start_at(&restored, &[]);
    goes_on(&other);
    until("everything was posted once more", || (cloud.ledger().len() == 12).then_some(()));
    assert_eq!(keys(&cloud), first, "each request has the key that it had before");
}

/// A copy of the database of an engine that does not run.
fn backup(address: &str) -> String {
    if let Some(path) = address.strip_prefix("sqlite:") {
        for suffix in ["", "-wal", "-shm"] {
            if std::fs::exists(format!("{path}{suffix}")).unwrap() {
                std::fs::copy(format!("{path}{suffix}"), format!("{path}.copy{suffix}")).unwrap();
            }
        }
        return format!("{address}.copy");
    }
    let (place, options) = address.split_once('?').map_or((address, String::new()), |(a, b)| (a, format!("?{b}")));
    let (server, name) = place.rsplit_once('/').unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = sqlx::PgConnection::connect(&format!("{server}/postgres{options}")).await.unwrap();
        // The server may take a moment to notice that the engine is gone.
        let end = format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'");
        let copy = format!("create database {name}_copy template {name}");
        for attempt in 1.. {
            sqlx::query(AssertSqlSafe(end.clone())).execute(&mut connection).await.unwrap();
            match sqlx::query(AssertSqlSafe(copy.clone())).execute(&mut connection).await {
                Ok(_) => break,
                Err(error) => assert!(attempt < 50, "no copy of the database: {error}"),
            }
        }
    });
    format!("{place}_copy{options}")
}
