//! Sleeps: the code after them runs, once, whatever happens meanwhile.

use serde_json::json;
use test_engine::{Cloud, Database, Engine, until};

use crate::assert_each_once;

on_both_databases!(
    code_after_a_sleep_inside_the_last_step_runs,
    a_kill_in_the_second_of_three_sleeps_repeats_nothing,
    a_kill_in_a_workflow_s_sleep_repeats_no_step,
    a_sleep_over_a_kill_ends_at_its_deadline_and_not_later,
    sleeps_of_more_than_twenty_four_days_are_accepted,
    a_blocking_sleep_of_the_standard_library_is_durable,
    a_rerun_sees_the_same_clock_and_the_same_chance,
);

/// Statements after a sleep run, also in the last step.
fn code_after_a_sleep_inside_the_last_step_runs(database: Database) {
    let (engine, cloud) = (Engine::start(database), Cloud::start());
    engine.upload("test-guests");
    let done = engine.run("naps_in_a_step", &json!({"base_url": cloud.url(), "sleep_ms": 50, "naps": 2}));
    assert_eq!((&done["status"], &done["output"]), (&json!("completed"), &json!(3)));
    let paths: Vec<_> = cloud.ledger().iter().map(|request| request["path"].clone()).collect();
    assert_eq!(paths, ["/notes/0", "/notes/1", "/notes/2"]);
}

/// The engine is killed in the second sleep, with the guest hibernated or not; locals survive, nothing is posted twice.
fn a_kill_in_the_second_of_three_sleeps_repeats_nothing(database: Database) {
    for hibernate_after in ["10ms", "1h"] {
        let cloud = Cloud::start();
        let mut engine = Engine::start_with(database, &[("HIBERNATE_AFTER", hibernate_after)]);
        engine.upload("test-guests");
        let id = engine.begin("naps_in_a_step", &json!({"base_url": cloud.url(), "sleep_ms": 700, "naps": 3}));
        until("the second sleep has begun", || (engine.count(&id, "SleepStarted") == 2).then_some(()));
        engine.kill_and_restart();
        let done = engine.wait_for_end(&id);
        assert_eq!((&done["status"], &done["output"]), (&json!("completed"), &json!(4)));
        assert_each_once(&cloud.ledger());
        assert_eq!(cloud.ledger().len(), 4);
    }
}

/// Steps before the sleep are not run again; steps after it are run.
fn a_kill_in_a_workflow_s_sleep_repeats_no_step(database: Database) {
    let cloud = Cloud::start();
    let mut engine = Engine::start(database);
    engine.upload("test-guests");
    let id = engine.begin("naps", &json!({"base_url": cloud.url(), "sleep_ms": 500, "naps": 3}));
    for sleep in 1..=3 {
        until("the next sleep has begun", || (engine.count(&id, "SleepStarted") == sleep).then_some(()));
        engine.kill_and_restart();
    }
    let done = engine.wait_for_end(&id);
    assert_eq!(done["output"], json!(3), "{done:#}");
    assert_each_once(&cloud.ledger());
    assert_eq!(done["steps"].as_array().unwrap().len(), 3);
}

/// A sleep ends at its wall-clock deadline, not at the deadline plus the time that the engine was down.
fn a_sleep_over_a_kill_ends_at_its_deadline_and_not_later(database: Database) {
    let mut engine = Engine::start(database);
    engine.upload("test-guests");
    let id = engine.begin("sleeper", &json!(1_500));
    until("it sleeps", || (engine.count(&id, "SleepStarted") == 1).then_some(()));
    engine.kill_and_restart();
    let _ = engine.wait_for_end(&id);
    let events = engine.history(&id);
    let millis = |kind: &str| {
        let event = events.iter().find(|event| event["kind"] == kind).expect("it happened");
        let time = event["time"].as_str().unwrap();
        // HH:MM:SS.mmm within one day is enough to subtract.
        let clock = &time[11..23];
        let part = |range: std::ops::Range<usize>| clock[range].parse::<i64>().unwrap();
        ((part(0..2) * 60 + part(3..5)) * 60 + part(6..8)) * 1_000 + part(9..12)
    };
    let slept = (millis("SleepCompleted") - millis("SleepStarted")).rem_euclid(86_400_000);
    assert!((1_500..2_500).contains(&slept), "it slept {slept} ms");
}

/// More milliseconds than 32 bits can hold.
fn sleeps_of_more_than_twenty_four_days_are_accepted(database: Database) {
    let mut engine = Engine::start(database);
    engine.upload("test-guests");
    let id = engine.begin("sleeper", &json!(60_u64 * 86_400_000));
    engine.wait_for(&id, &["sleeping"]);
    engine.kill_and_restart();
    let status = engine.status(&id);
    assert_eq!(status["status"], "sleeping");
    let (since, until) =
        (status["waiting_on"][0]["since"].as_str().unwrap(), status["waiting_on"][0]["until"].as_str().unwrap());
    assert_ne!(since[..7], until[..7], "sixty days are more than a month");
    let refused = engine.run("sleeper", &json!(400_u64 * 86_400_000));
    assert_eq!(refused["failure"]["kind"], "invalid-argument", "more than a year is refused: {refused:#}");
}

fn a_blocking_sleep_of_the_standard_library_is_durable(database: Database) {
    let mut engine = Engine::start(database);
    engine.upload("test-guests");
    let id = engine.begin("std_sleeper", &json!(600));
    until("it sleeps", || (engine.count(&id, "SleepStarted") == 1).then_some(()));
    engine.kill_and_restart();
    assert_eq!(engine.wait_for_end(&id)["output"], "awake");
    assert_eq!(engine.count(&id, "SleepStarted"), 1);
}

fn a_rerun_sees_the_same_clock_and_the_same_chance(database: Database) {
    let mut engine = Engine::start(database);
    engine.upload("test-guests");
    let id = engine.begin("observe", &json!(400));
    let line = until("it has said what it saw", || engine.ok(&["logs", &id]).lines().next().map(str::to_owned));
    engine.kill_and_restart();
    let done = engine.wait_for_end(&id);
    let first = &done["output"][0];
    let order: Vec<u64> = first["order"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
    assert!(line.contains(&format!("{order:?}")), "{line} against {order:?}");
    assert!(line.contains(&first["now_ms"].to_string()));
    assert_eq!(first["now_ms"], first["std_now_ms"], "the languages' own clock is the same clock");
    assert_ne!(done["output"][1]["now_ms"], first["now_ms"], "it moved with the sleep");
    assert_eq!(engine.ok(&["logs", &id]).lines().count(), 2, "a rerun repeats no line");
}
