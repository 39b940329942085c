//! Values, children, runs: values arrive as they were sent.

use serde_json::json;
use test_engine::{Cloud, Database, Engine, until};

on_both_databases!(
    values_arrive_as_they_were_written,
    children_report_to_their_parent,
    a_child_s_id_that_is_taken_is_a_conflict,
    a_child_that_has_ended_tells_its_end_to_a_call_that_is_made_again,
    a_workflow_continues_as_new_under_the_same_id,
    steps_call_steps_over_a_kill,
    a_second_start_with_the_same_id_is_the_same_execution,
    starts_can_be_delayed_and_bounded,
    l12_values_inside_a_finished_step_are_dropped,
    secrets_leave_and_stand_nowhere,
);

/// Integers above 2^53, nested nulls, key order, escapes.
fn values_arrive_as_they_were_written(database: Database) {
    let mut engine = Engine::start(database);
    engine.upload("test-guests");
    let written = r#"{"z":9007199254740993,"a":[null,[null,{}]],"b":"\u0000é\ud83d\ude00","c":-0.0,"d":1e400,"e":18446744073709551616}"#;
    engine.ok(&["start", "echo", "--input", written, "--id", "echo-1", "--wait"]);
    engine.kill_and_restart();
    let output = engine.ok(&["result", "echo-1"]);
    assert_eq!(output.trim(), written);
    let deep = format!("{}{}", "[".repeat(128), "]".repeat(128));
    let shown = engine.ok(&["start", "echo", "--input", &deep, "--id", "echo-2", "--wait", "--json"]);
    assert!(shown.matches('[').count() > 128, "{shown}");
}

fn children_report_to_their_parent(database: Database) {
    let mut engine = Engine::start(database);
    engine.upload("test-guests");
    assert_eq!(engine.run("family", &json!({"children": 5, "awaited": true}))["output"], json!(15));
    let id = engine.begin("family", &json!({"children": 2, "awaited": false}));
    assert_eq!(engine.wait_for_end(&id)["output"], json!(2));
    engine.kill_and_restart();
    for child in 1..=2 {
        let child = engine.wait_for_end(&format!("{id}.{child}"));
        assert_eq!(child["status"], "completed");
    }
}

fn a_child_s_id_that_is_taken_is_a_conflict(database: Database) {
    let engine = Engine::start(database);
    engine.upload("test-guests");
    engine.ok(&["start", "sleeper", "--input", "86400000", "--id", "taken"]);
    let failed = engine.run("family", &json!({"children": 1, "awaited": false, "id": "taken"}));
    assert_eq!(failed["failure"]["kind"], "conflict", "{failed:#}");
}

/// A child with an id of its own ends once. A call that is made again hears how it ended, whenever that was.
fn a_child_that_has_ended_tells_its_end_to_a_call_that_is_made_again(database: Database) {
    let cloud = Cloud::start();
    let mut engine = Engine::start(database);
    engine.upload("test-guests");
    let retried = engine.run("running_again", &json!("once"));
    assert_eq!(retried["output"], json!(3), "{retried:#}");
    assert_eq!(retried["steps"][0]["attempt"], json!(2));
    assert_eq!(engine.count("once", "ExecutionStarted"), 1);

    let id = engine.begin("gated_child", &json!(cloud.url()));
    assert_eq!(engine.wait_for_end(&id)["status"], "failed");
    cloud.put("/switch/one/on");
    engine.ok(&["resume", "gate-keeper"]);
    engine.wait_for("gate-keeper", &["completed"]);
    engine.ok(&["resume", &id]);
    engine.kill_and_restart();
    assert_eq!(engine.wait_for(&id, &["completed"])["output"], "through");
}

fn a_workflow_continues_as_new_under_the_same_id(database: Database) {
    let engine = Engine::start(database);
    engine.upload("test-guests");
    let id = engine.begin("countdown", &json!(4));
    let done = engine.wait_for_end(&id);
    assert_eq!(done["output"], json!(5), "the fifth run ends it: {done:#}");
    let second = engine.ok(&["history", &id, "--run", "2", "--json"]);
    assert!(second.lines().last().unwrap().contains("ExecutionContinued"), "{second}");
    assert_eq!(engine.cli(&["history", &id, "--run", "9"]).code, 3);
}

fn steps_call_steps_over_a_kill(database: Database) {
    let mut engine = Engine::start(database);
    engine.upload("test-guests");
    let id = engine.begin("nested", &json!(1));
    until("it sleeps inside the outer step", || (engine.count(&id, "SleepStarted") == 1).then_some(()));
    engine.kill_and_restart();
    assert_eq!(engine.wait_for_end(&id)["output"], json!(6));
    assert_eq!(engine.count(&id, "StepStarted"), 4);
}

/// The same id with an equal input answers with the existing execution; another input is a conflict.
fn a_second_start_with_the_same_id_is_the_same_execution(database: Database) {
    let engine = Engine::start(database);
    engine.upload("test-guests");
    let start = |input: &str| engine.cli(&["start", "echo", "--id", "once", "--input", input]);
    assert_eq!(start(r#"{"a":1,"b":2}"#).code, 0);
    assert_eq!(start(r#"{ "b": 2, "a": 1 }"#).code, 0);
    let refused = start(r#"{"a":1,"b":3}"#);
    assert_eq!((refused.code, refused.err.lines().count()), (5, 1), "{refused:?}");
    let _ = engine.wait_for_end("once");
    assert_eq!(start(r#"{"a":1,"b":2}"#).code, 0);
    assert_eq!(engine.count("once", "ExecutionStarted"), 1);
    let at_once: Vec<i32> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..20)
            .map(|_| scope.spawn(|| engine.cli(&["start", "echo", "--id", "twenty", "--input", "1"]).code))
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    assert!(at_once.iter().all(|code| *code == 0), "{at_once:?}");
    assert_eq!(engine.wait_for_end("twenty")["output"], json!(1));
}

fn starts_can_be_delayed_and_bounded(database: Database) {
    let mut engine = Engine::start(database);
    engine.upload("test-guests");
    engine.ok(&["start", "sequence", "--input", r#"{"steps":1}"#, "--id", "later", "--delay", "1s"]);
    let later = engine.status("later");
    assert_eq!((&later["status"], &later["waiting_on"][0]["kind"]), (&json!("waiting"), &json!("delay")), "{later:#}");
    engine.ok(&["start", "sequence", "--input", r#"{"steps":1}"#, "--id", "tomorrow", "--delay", "1d"]);
    let shown = engine.ok(&["status", "tomorrow"]);
    assert!(shown.contains("  begins in 23h 59m") && !shown.contains("started"), "{shown}");
    engine.kill_and_restart();
    assert_eq!(engine.wait_for_end("later")["status"], "completed");
    engine.ok(&["start", "sleeper", "--input", "86400000", "--id", "bounded", "--deadline", "300ms"]);
    assert_eq!(engine.wait_for_end("bounded")["failure"]["kind"], "deadline");
}

/// L12: the values in a finished step's journal are gone, its events are there.
fn l12_values_inside_a_finished_step_are_dropped(database: Database) {
    let engine = Engine::start(database);
    engine.upload("test-guests");
    let done = engine.run("nested", &json!(1));
    let id = done["execution_id"].as_str().unwrap();
    let events = engine.history(id);
    let inner = events.iter().filter(|event| event["kind"] == "StepCompleted" && event["scope"] == "1");
    let inner: Vec<_> = inner.collect();
    assert_eq!(inner.len(), 3, "{events:#?}");
    for event in inner {
        assert!(event.get("output").is_none() && event["not_kept"] == json!(["output"]), "{event:#}");
    }
    let outer = events.iter().find(|event| event["kind"] == "StepCompleted" && event["scope"] == "").unwrap();
    assert_eq!(outer["output"], json!(6));
}

fn secrets_leave_and_stand_nowhere(database: Database) {
    let cloud = test_engine::Cloud::start();
    let engine = Engine::start_with(database, &[("SECRET_TEST_TOKEN", "s3cret-s3cret")]);
    engine.upload("test-guests");
    let done = engine.run("secrets", &json!({"base_url": cloud.url(), "path": "notes/guarded"}));
    assert_eq!(done["output"], json!(200), "{done:#}");
    assert_eq!(cloud.ledger()[0]["headers"]["authorization"], "Bearer s3cret-s3cret");
    let id = done["execution_id"].as_str().unwrap();
    for shown in [done.to_string(), engine.ok(&["history", id, "--json"]), engine.ok(&["logs", id]), engine.log()] {
        assert!(!shown.contains("s3cret-s3cret"), "{shown}");
    }
}
