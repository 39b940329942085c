//! Every example runs on the engine, and the outside world's ledger agrees with its history.

use serde_json::json;
use test_engine::{Cloud, Database, Engine, until};

use crate::assert_each_once;

on_both_databases!(hello, droplet_deployment, reminders, approval, certificate, ci_build, fan_out);

fn hello(database: Database) {
    let engine = Engine::start(database);
    engine.upload("hello");
    assert_eq!(engine.run("hello", &json!({"name": "Ada"}))["output"], json!({"text": "Hello, Ada!"}));
}

/// A deployment, with a kill in its durable sleep.
fn droplet_deployment(database: Database) {
    let cloud = Cloud::start();
    let mut engine = Engine::start(database);
    engine.upload("droplet-deployment");
    let order = json!({"base_url": cloud.url(), "name": "web-1", "poll_ms": 30, "ssh_delay_ms": 30, "sleep_ms": 800});
    let id = engine.begin("droplet_deployment", &order);
    until("it settles", || (engine.count(&id, "SleepStarted") == 1).then_some(()));
    engine.kill_and_restart();
    let done = engine.wait_for_end(&id);
    assert_eq!(done["output"], json!({"id": 1, "ip": "203.0.113.1", "banner": "SSH-2.0-OpenSSH_9.9"}), "{done:#}");
    assert_eq!(done["progress"][0]["percent"], json!(100));
    let asked = |method, path| cloud.requests(method, path).len();
    assert_eq!((asked("POST", "/droplets"), asked("GET", "/droplets/1"), asked("POST", "/ssh")), (2, 4, 3));
    assert_eq!(asked("POST", "/droplets/1/configure"), 1);
    assert_eq!(
        cloud.ledger().len(),
        engine_requests(&engine, &id) + 4,
        "the poll's four checks are not in the history"
    );
}

/// The number of requests in a history.
fn engine_requests(engine: &Engine, id: &str) -> usize {
    engine.count(id, "FetchStarted")
}

/// Exactly two mails, even when the engine is killed in between.
fn reminders(database: Database) {
    let cloud = Cloud::start();
    let mut engine = Engine::start(database);
    engine.upload("reminders");
    let id = engine.begin("reminders", &json!({"base_url": cloud.url(), "email": "ada@example.com", "sleep_ms": 900}));
    until("the first mail is out", || (engine.count(&id, "SleepStarted") == 1).then_some(()));
    engine.kill_and_restart();
    assert_eq!(engine.wait_for_end(&id)["output"], json!({"welcome": 1, "reminder": 2}));
    assert_eq!(cloud.requests("POST", "/mails").len(), 2);
    assert_each_once(&cloud.ledger());
}

fn approval(database: Database) {
    let cloud = Cloud::start();
    let mut engine = Engine::start(database);
    engine.upload("approval");
    let release = |timeout_ms: u64| json!({"base_url": cloud.url(), "version": "1.2", "timeout_ms": timeout_ms});
    let id = engine.begin("approval", &release(60_000));
    engine.wait_for(&id, &["waiting-for-approval"]);
    engine.kill_and_restart();
    let refused = engine.cli(&["approve", &id, "--data", r#"{"percent":"all"}"#]);
    assert_eq!(refused.code, 2, "the answer must fit its schema: {refused:?}");
    engine.ok(&["approve", &id, "--data", r#"{"percent":25}"#]);
    let done = engine.wait_for_end(&id);
    assert_eq!((&done["output"]["outcome"], &done["output"]["percent"]), (&json!("published"), &json!(25)), "{done:#}");
    assert_eq!(engine.run("approval", &release(50))["output"]["outcome"], "expired");
    assert_eq!(cloud.requests("POST", "/releases").len(), 1);
}

fn certificate(database: Database) {
    let cloud = Cloud::start();
    let engine = Engine::start(database);
    engine.upload("certificate");
    let order = |timeout_ms: u64| json!({"base_url": cloud.url(), "domain": "example.com", "poll_ms": 30, "timeout_ms": timeout_ms});
    assert_eq!(engine.run("certificate", &order(60_000))["output"], json!(1));
    assert_eq!(cloud.requests("POST", "/certificates/1/install").len(), 1);
    let failed = engine.run("certificate", &order(40));
    assert_eq!(failed["failure"]["kind"], "poll-timeout", "{failed:#}");
    assert!(failed["failure"]["message"].as_str().unwrap().ends_with("(timeout: 40ms)"), "{failed:#}");
}

/// Ends on success or failure of the build.
fn ci_build(database: Database) {
    let engine = Engine::start(database);
    engine.upload("ci-build");
    let cloud = Cloud::start();
    let order = |commit: &str| json!({"base_url": cloud.url(), "commit": commit, "poll_ms": 30});
    assert_eq!(engine.run("ci_build", &order("c0ffee"))["output"], json!(1));
    let failed = engine.run("ci_build", &order("broken"));
    assert_eq!(failed["failure"]["message"], "2 of 7 tests failed", "{failed:#}");
    assert_eq!(cloud.requests("POST", "/deployments").len(), 1);
}

fn fan_out(database: Database) {
    let cloud = Cloud::start();
    let engine = Engine::start(database);
    engine.upload("fan-out");
    let done = engine.run("fan_out", &json!({"base_url": cloud.url(), "parts": 20}));
    assert_eq!(done["output"], json!((1..=20).collect::<Vec<u32>>()));
    assert_each_once(&cloud.ledger());
    let race = json!({"base_url": cloud.url(), "first_ms": 60_000, "second_ms": 20});
    assert_eq!(engine.run("race", &race)["output"], "second");
    assert!(cloud.requests("GET", "/mirrors/first").is_empty());
}
