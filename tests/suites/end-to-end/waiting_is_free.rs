//! A wait costs nothing but its own turns: the workflow's guest is not started to look at a clock (L13).

use serde_json::{Value, json};
use test_engine::{Database, Engine, until};

use crate::sql;

on_both_databases!(
    l13_a_thousand_rounds_of_a_poll_start_the_workflow_s_guest_once,
    guests_that_only_wait_have_so_much_memory_and_no_more,
    a_wait_of_an_hour_leaves_memory_at_once_and_one_of_a_millisecond_less_does_not,
);

/// The checks of a poll are guests as well. All started guests are counted, so the rest are those of the workflow.
fn l13_a_thousand_rounds_of_a_poll_start_the_workflow_s_guest_once(database: Database) {
    const STEPS: u64 = 5_000;
    const ROUNDS: u64 = 1_000;
    let engine = Engine::start_with(database, &[("HIBERNATE_AFTER", "1ms")]);
    engine.upload("test-guests");
    let metric = |name: &str| engine.metric(&format!("cerebelum_{name}"));
    let started = metric("guests_started_total");
    let at = json!({"base_url": "", "ready_at": 1, "every_ms": 12, "attempts": ROUNDS, "steps_before": STEPS});
    let id = engine.begin("polling_in_vain", &at);
    let done = engine.json(&["result", &id, "--wait"]);
    let ended = engine.status(&id);
    assert_eq!(ended["failure"]["kind"], "poll-exhausted", "{done:#}");
    let events = ended["events"].as_u64().unwrap();
    assert_eq!(events, 1 + 2 * STEPS + 2 + 1, "a poll adds two events, however many rounds it has");
    assert!(metric("activations_total") > ROUNDS / 10, "it leaves memory between the rounds");
    // One guest at the beginning, which goes through all steps, and one that gets the outcome of the poll.
    assert_eq!(metric("guests_started_total") - started, STEPS + ROUNDS + 2);
    assert_eq!(metric("replays_total"), 1, "its 10,000 events are read once, at the end of the poll");
}

/// Beyond `warm_bytes_max` the guests that have waited longest leave memory. This has no other effect: they are rerun
/// when there is something to deliver.
fn guests_that_only_wait_have_so_much_memory_and_no_more(database: Database) {
    const WAITING: usize = 12;
    // A guest has between 2 and 3 MiB, its stacks included.
    let settings = [("HIBERNATE_AFTER", "1h"), ("WARM_BYTES_MAX", "12582912")];
    let engine = Engine::start_with(database, &settings);
    engine.upload("test-guests");
    let ids: Vec<String> = (0..WAITING).map(|_| engine.begin("listening", &json!({"names": ["go"]}))).collect();
    for id in &ids {
        engine.wait_for(id, &["waiting"]);
    }
    let live = until("some have gone", || {
        let live = engine.metric("cerebelum_guests");
        (live <= 6).then_some(live)
    });
    assert!(live >= 3, "only as many as have too much: {live}");
    assert_eq!(engine.metric("cerebelum_executions_in_memory"), WAITING as u64, "their executions stay");
    assert_eq!(engine.metric("cerebelum_replays_total"), 0);
    for id in &ids {
        engine.ok(&["signal", id, "go", "--data", "1"]);
    }
    for id in &ids {
        assert_eq!(engine.wait_for_end(id)["output"], json!([1]), "{id}");
    }
    assert!(engine.metric("cerebelum_replays_total") >= WAITING as u64 - live);
}

/// E9: the boundary applies to the requested duration, not to the time that is left when the engine looks, for every
/// kind of wait.
fn a_wait_of_an_hour_leaves_memory_at_once_and_one_of_a_millisecond_less_does_not(database: Database) {
    const HOUR_MS: u64 = 3_600_000;
    const OF_EACH: usize = 5;
    let engine = Engine::start_with(database, &[("HIBERNATE_AFTER", "24h")]);
    engine.upload("test-guests");
    // The end of a poll's round is not an event: its wait is measured from the last event, some milliseconds before.
    type Input = fn(u64) -> Value;
    let waits: [(&str, u64, Input); 4] = [
        ("sleeper", 1, |ms| json!(ms)),
        ("polling_in_vain", 1_000, |ms| json!({"base_url": "", "ready_at": 1, "every_ms": ms, "attempts": 9})),
        ("asking", 1, |ms| json!({"title": "Go on?", "timeout_ms": ms})),
        ("listening", 1, |ms| json!({"names": ["go"], "timeout_ms": ms})),
    ];
    let (mut short, mut long) = (Vec::new(), Vec::new());
    for (workflow, less, input) in waits {
        for ms in [HOUR_MS - less, HOUR_MS, HOUR_MS + 1] {
            for number in 0..OF_EACH {
                let id = format!("{workflow}-{ms}-{number}");
                engine.ok(&["start", workflow, "--input", &input(ms).to_string(), "--id", &id]);
                if ms < HOUR_MS { short.push(id) } else { long.push(id) }
            }
        }
    }
    for id in short.iter().chain(&long) {
        engine.wait_for(id, &["sleeping", "polling", "waiting-for-approval", "waiting"]);
    }
    let in_memory = || {
        let rows = sql(&engine, "select id from executions where owner is not null order by id");
        rows.into_iter().map(|mut row| row.remove(0)).collect::<Vec<_>>()
    };
    short.sort();
    until("what waits for an hour has left", || (in_memory().len() <= short.len()).then_some(()));
    assert_eq!(in_memory(), short, "what waits for less is still there, and nothing else");
}
