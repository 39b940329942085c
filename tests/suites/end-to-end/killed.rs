//! The engine killed in the middle of steps, polls and retries.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use test_engine::{Cloud, Database, Engine, FAILPOINT, until};

use crate::{assert_each_once, assert_repeats_are_alike};

on_both_databases!(
    a_kill_in_the_middle_of_a_step_reruns_only_that_step,
    l03_effects_of_parallel_steps_keep_their_keys_over_a_kill,
    an_effect_sent_and_not_recorded_is_repeated_with_the_same_key,
    a_host_driven_poll_goes_on_counting_after_a_kill,
    a_poll_in_place_goes_on_counting_after_a_kill,
    l14_retries_go_on_counting_after_a_kill,
    a_retry_in_place_goes_on_after_a_kill,
    many_kills_in_a_row_lose_nothing,
    no_variable_kills_the_product,
    l18_an_execution_that_kills_the_engine_is_parked,
    l18_an_execution_that_kills_one_container_after_the_other_is_parked,
    l17_a_component_uploaded_meanwhile_does_not_change_what_runs,
    a_loser_of_a_race_is_cancelled_and_stays_so,
);

fn post_paths(count: u32, kind: &str) -> Vec<String> {
    (0..count).map(|number| format!("{kind}/{number}")).collect()
}

/// The step that was running is run again, the steps before it are not.
fn a_kill_in_the_middle_of_a_step_reruns_only_that_step(database: Database) {
    let cloud = Cloud::start();
    let mut engine = Engine::start(database);
    engine.upload("test-guests");
    let paths = ["notes/1", "slow/800/2", "notes/3"];
    let id = engine.begin("posts", &json!({"base_url": cloud.url(), "paths": paths}));
    until("the slow request is under way", || (!cloud.requests("POST", "/slow").is_empty()).then_some(()));
    engine.kill_and_restart();
    let done = engine.wait_for_end(&id);
    assert_eq!(done["output"], json!(3), "{done:#}");
    let asked = |path: &str| cloud.requests("POST", path).len();
    assert_eq!((asked("/notes/1"), asked("/slow"), asked("/notes/3")), (1, 2, 1));
    assert_repeats_are_alike(&cloud.ledger());
    let attempts: Vec<&Value> = done["steps"].as_array().unwrap().iter().map(|step| &step["attempt"]).collect();
    assert_eq!(attempts, [1, 1, 1], "a crash uses up no attempt");
}

/// L3: keys are functions of names, so parallel steps keep their keys whatever the order.
fn l03_effects_of_parallel_steps_keep_their_keys_over_a_kill(database: Database) {
    let cloud = Cloud::start();
    let mut engine = Engine::start(database);
    engine.upload("test-guests");
    let id = engine.begin("posts_at_once", &json!({"base_url": cloud.url(), "paths": post_paths(8, "slow/700")}));
    until("all requests are under way", || (cloud.ledger().len() >= 8).then_some(()));
    engine.kill_and_restart();
    assert_eq!(engine.wait_for_end(&id)["output"], json!(8));
    let mut keys: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for request in cloud.ledger() {
        keys.entry(request["path"].to_string()).or_default().push(request["idempotency_key"].clone());
    }
    for (path, keys) in keys {
        assert!(keys.iter().all(|key| *key == keys[0]), "{path} was asked with several keys: {keys:?}");
    }
    assert_repeats_are_alike(&cloud.ledger());
}

fn an_effect_sent_and_not_recorded_is_repeated_with_the_same_key(database: Database) {
    let cloud = Cloud::start();
    let mut engine = Engine::start(database);
    engine.upload("test-guests");
    engine.kill();
    engine.restart_with(&[(FAILPOINT, "effect-sent:2")]);
    let id = engine.begin("posts", &json!({"base_url": cloud.url(), "paths": post_paths(3, "notes/p")}));
    engine.wait_for_death();
    engine.restart();
    assert_eq!(engine.wait_for_end(&id)["output"], json!(3));
    let paths: Vec<_> = cloud.ledger().iter().map(|request| request["path"].clone()).collect();
    assert_eq!(paths, ["/notes/p/0", "/notes/p/1", "/notes/p/1", "/notes/p/2"]);
    assert_repeats_are_alike(&cloud.ledger());
    assert_eq!(cloud.ledger()[1]["idempotency_key"], cloud.ledger()[2]["idempotency_key"]);
}

/// Finished checks are not repeated, and the count goes on.
fn a_host_driven_poll_goes_on_counting_after_a_kill(database: Database) {
    let cloud = Cloud::start();
    let mut engine = Engine::start(database);
    engine.upload("test-guests");
    let at = json!({"base_url": cloud.url(), "ready_at": 8, "every_ms": 300, "attempts": 30});
    let id = engine.begin("polling", &at);
    until("four checks are recorded", || {
        let waiting = &engine.status(&id)["waiting_on"][0];
        (waiting["kind"] == "poll" && waiting["until"].is_string() && waiting["attempts"].as_u64() >= Some(5))
            .then_some(())
    });
    engine.kill_and_restart();
    let done = engine.wait_for_end(&id);
    // A check may have been under way at the kill: it is repeated with its own key, and the cloud counts it twice.
    let repeated = 8 - done["output"].as_u64().unwrap().min(8);
    assert_eq!(repeated, 0);
    let requests = cloud.requests("GET", "/notes/looks");
    assert_eq!(requests.len(), 8, "eight answers were needed, and no more were asked for");
    assert_repeats_are_alike(&requests);
    assert!(engine.count(&id, "PollStarted") == 1 && engine.count(&id, "PollCompleted") == 1);
    assert_eq!(engine.history(&id).len(), 4, "a poll adds two events, however many rounds it has");
}

/// The poll in place, with a closure and a local that counts.
fn a_poll_in_place_goes_on_counting_after_a_kill(database: Database) {
    let cloud = Cloud::start();
    let mut engine = Engine::start(database);
    engine.upload("test-guests");
    let at = json!({"base_url": cloud.url(), "ready_at": 8, "every_ms": 300, "attempts": 30});
    let id = engine.begin("polling_in_place", &at);
    until("it waits after four checks", || {
        let (begun, over) = sleeps(&engine, &id);
        (begun >= 4 && begun == over + 1).then_some(())
    });
    engine.kill_and_restart();
    let done = engine.wait_for_end(&id);
    let checks = done["output"][1].as_u64().unwrap();
    let requests = cloud.requests("GET", "/notes/looks");
    assert_eq!(done["output"][0], json!(8));
    assert!(requests.len() == 8 && checks >= 7, "{checks} checks and {} requests", requests.len());
    assert_repeats_are_alike(&requests);
}

/// Finished attempts are not repeated.
fn l14_retries_go_on_counting_after_a_kill(database: Database) {
    let cloud = Cloud::start();
    let mut engine = Engine::start(database);
    engine.upload("test-guests");
    let id = engine.begin("retrying", &json!({"base_url": cloud.url(), "failures": 4, "delay_ms": 400}));
    until("two attempts failed", || (engine.count(&id, "StepRetried") == 2).then_some(()));
    engine.kill_and_restart();
    let done = engine.wait_for_end(&id);
    assert_eq!(done["output"], json!(200), "{done:#}");
    assert_eq!(done["steps"][0]["attempt"], json!(5));
    let requests = cloud.requests("POST", "/flaky");
    assert_eq!(requests.len(), 5);
    until("two of the four failed after the restart", || (engine.metric("cerebelum_retries_total") == 2).then_some(()));
    assert!(
        requests.iter().all(|request| request["idempotency_key"] == requests[0]["idempotency_key"]),
        "a retry repeats its key"
    );
}

fn a_retry_in_place_goes_on_after_a_kill(database: Database) {
    let cloud = Cloud::start();
    let mut engine = Engine::start(database);
    engine.upload("test-guests");
    let id = engine.begin("retrying_in_place", &json!({"base_url": cloud.url(), "failures": 4, "delay_ms": 300}));
    until("it waits after a few attempts", || {
        let (begun, over) = sleeps(&engine, &id);
        (begun >= 2 && begun == over + 1).then_some(())
    });
    engine.kill_and_restart();
    assert_eq!(engine.wait_for_end(&id)["output"], json!(5));
    assert_eq!(cloud.requests("POST", "/flaky").len(), 5);
    assert_each_once(&cloud.ledger());
}

/// Everything that was acknowledged is there after each of twenty kills, and every recorded step ran once.
fn many_kills_in_a_row_lose_nothing(database: Database) {
    let cloud = Cloud::start();
    let mut engine = Engine::start_with(database, &[("HIBERNATE_AFTER", "20ms")]);
    engine.upload("test-guests");
    let mut ids = Vec::new();
    for round in 0..10_u32 {
        for number in 0..3_u32 {
            let paths = post_paths(4, &format!("notes/r{round}/{number}"));
            ids.push((engine.begin("posts", &json!({"base_url": cloud.url(), "paths": paths})), 4));
            ids.push((engine.begin("naps_in_a_step", &json!({"base_url": cloud.url(), "sleep_ms": 50, "naps": 2})), 3));
        }
        engine.kill_and_restart();
    }
    for (id, output) in &ids {
        let done = engine.wait_for_end(id);
        assert_eq!((&done["status"], &done["output"]), (&json!("completed"), &json!(output)), "{done:#}");
        let events = engine.history(id);
        let positions: Vec<u64> = events.iter().map(|event| event["position"].as_u64().unwrap()).collect();
        assert_eq!(positions, (1..=events.len() as u64).collect::<Vec<_>>(), "a history has no gaps");
    }
    assert_repeats_are_alike(&cloud.ledger());
}

/// The variable that aims the tests' own engine means nothing to the one that ships.
fn no_variable_kills_the_product(database: Database) {
    let mut engine = Engine::start_with(database, &[("FAILPOINT", "guest-running")]);
    engine.upload("test-guests");
    let input = json!({"steps": 1});
    assert_eq!(engine.run("sequence", &input)["output"], json!(1));
    assert!(!engine.has_died());
    engine.kill();
    engine.restart_with(&[(FAILPOINT, "guest-running")]);
    let _ = engine.cli(&["start", "sequence", "--input", &input.to_string()]);
    engine.wait_for_death();
    assert!(engine.was_killed(), "the same aim kills the engine under test");
}

/// L18: an execution that ran when the engine died finally runs alone, and is parked when the engine dies again; others
/// are not blamed.
fn l18_an_execution_that_kills_the_engine_is_parked(database: Database) {
    let mut engine = Engine::start(database);
    engine.upload("test-guests");
    let bystander = engine.begin("sleeper", &json!(60_000));
    engine.wait_for(&bystander, &["sleeping"]);
    engine.kill();
    // The failpoint stands for a guest that takes the process with it: it dies whenever a guest runs.
    for _ in 0..2 {
        // The execution begins in memory: an engine that dies of it has stored nothing, and its client asks again.
        engine.restart_with(&[(FAILPOINT, "guest-running")]);
        let said = engine.cli(&["start", "sequence", "--input", r#"{"steps":1}"#, "--id", "poison", "--json"]);
        assert_eq!(said.code, 4, "{said:?}");
        engine.wait_for_death();
    }
    engine.restart();
    assert_eq!(engine.cli(&["status", "poison"]).code, 3, "nobody was told that it is there");
    engine.kill();
    // By now it is a suspect, so it is stored before it runs, alone.
    engine.restart_with(&[(FAILPOINT, "guest-running")]);
    let said = engine.cli(&["start", "sequence", "--input", r#"{"steps":1}"#, "--id", "poison", "--json"]);
    assert!([0, 4].contains(&said.code), "{said:?}");
    engine.wait_for_death();
    engine.restart();
    let parked = engine.wait_for("poison", &["parked"]);
    assert_eq!(parked["failure"]["kind"], "engine-crash", "{parked:#}");
    assert_eq!(engine.status(&bystander)["status"], "sleeping");
    engine.ok(&["resume", "poison"]);
    assert_eq!(engine.wait_for_end("poison")["output"], json!(1), "nothing was lost");
}

/// L18: the same when each engine begins with an empty data folder; an execution that only slept is not blamed.
fn l18_an_execution_that_kills_one_container_after_the_other_is_parked(database: Database) {
    let mut engine = Engine::start_with(database, &[("LEASE", "3s")]);
    engine.upload("test-guests");
    let bystander = engine.begin("sleeper", &json!(3_600_000));
    let poison = engine.begin("sleeper", &json!(8_000));
    for id in [&bystander, &poison] {
        engine.wait_for(id, &["sleeping"]);
    }
    engine.kill();
    for _ in 0..4 {
        engine.forget_node();
        // The engine dies as soon as it has taken over the claims of the one before, and a guest runs.
        engine.launch(&[(FAILPOINT, "guest-running")]);
        engine.wait_for_death();
    }
    engine.forget_node();
    engine.restart();
    let parked = engine.wait_for(&poison, &["parked"]);
    assert_eq!(parked["failure"]["kind"], "engine-crash", "{parked:#}");
    assert_eq!(engine.status(&bystander)["status"], "sleeping");
    engine.ok(&["resume", &poison]);
    assert_eq!(engine.wait_for_end(&poison)["output"], json!("awake"), "nothing was lost");
}

/// A sleeping execution goes on with the component it began with.
fn l17_a_component_uploaded_meanwhile_does_not_change_what_runs(database: Database) {
    let mut engine = Engine::start(database);
    engine.ok(&["upload", &test_engine::component("test-guests"), "--name", "app"]);
    let id = engine.begin("app/sleeper", &json!(1_500));
    engine.wait_for(&id, &["sleeping"]);
    let old = engine.status(&id)["component"].clone();
    engine.ok(&["upload", &test_engine::component("hello"), "--name", "app"]);
    engine.kill_and_restart();
    let done = engine.wait_for_end(&id);
    assert_eq!((&done["output"], &done["component"]), (&json!("awake"), &old));
    let refused = engine.cli(&["start", "app/sleeper", "--input", "1"]);
    assert_eq!(refused.code, 3, "the new component has no such workflow: {refused:?}");
    assert_eq!(engine.run("app/hello", &json!({"name": "Ada"}))["output"]["text"], "Hello, Ada!");
}

/// The loser of a race is cancelled, and its later effects never happen, even after a kill.
fn a_loser_of_a_race_is_cancelled_and_stays_so(database: Database) {
    let cloud = Cloud::start();
    let mut engine = Engine::start(database);
    engine.upload("test-guests");
    let id = engine.begin("race", &json!({"base_url": cloud.url(), "sleep_ms": 600, "naps": 1}));
    until("the loser is cancelled", || (engine.count(&id, "CallCancelled") >= 1).then_some(()));
    engine.kill_and_restart();
    let done = engine.wait_for_end(&id);
    assert_eq!(done["output"], "timeout", "{done:#}");
    let paths: Vec<_> = cloud.ledger().iter().map(|request| request["path"].clone()).collect();
    assert_eq!(paths, ["/notes/0"], "the loser never came to its second post");
    assert_eq!(done["steps"][0]["status"], "cancelled");
}

/// The number of sleeps that have begun, and of those that are over, from one reading.
fn sleeps(engine: &Engine, id: &str) -> (usize, usize) {
    let events = engine.history(id);
    let count = |kind: &str| events.iter().filter(|event| event["kind"] == kind).count();
    (count("SleepStarted"), count("SleepCompleted"))
}
