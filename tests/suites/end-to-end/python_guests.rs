//! Python guests on an engine that dies: timelines, sleeps, polls, retries, answers, values and pins. The rules of a
//! timeline are pinned step by step in the SDK's own tests, and here once over kills.

use serde_json::{Value, json};
use test_engine::{Cloud, Database, Engine, component, until};

use crate::{assert_each_once, assert_repeats_are_alike};

on_both_databases!(
    every_rule_of_a_timeline_holds_over_kills,
    an_error_is_taken_over_or_fails_the_execution,
    a_condition_that_raises_fails_with_its_traceback,
    a_group_waits_for_all_of_its_branches_and_then_fails,
    a_kill_in_the_second_sleep_of_the_last_step_repeats_nothing,
    a_kill_in_the_middle_of_a_python_step_reruns_only_that_step,
    polls_and_retries_of_python_go_on_counting_after_kills,
    decorated_steps_sleep_and_poll_over_a_kill,
    a_person_s_answer_reaches_python_over_kills,
    python_sleeps_longer_than_twenty_four_days,
    values_of_python_arrive_as_they_were,
    a_python_component_uploaded_meanwhile_does_not_change_what_runs,
    a_failed_python_run_resumes_at_the_failed_step,
    progress_and_output_of_a_python_step_are_told_once,
    every_status_of_a_python_execution_is_shown,
);

const COMPONENT: &str = "test-python-timeline";

fn start(database: Database) -> (Engine, Cloud) {
    let engine = Engine::start(database);
    engine.upload(COMPONENT);
    (engine, Cloud::start())
}

/// The number of times that each of these was counted.
fn counts<const N: usize>(cloud: &Cloud, names: [&str; N]) -> [usize; N] {
    names.map(|name| cloud.requests("POST", &format!("/notes/{name}")).len())
}

fn wait_for_sleep(engine: &Engine, id: &str, number: usize) {
    until("the sleep has begun", || (engine.count(id, "SleepStarted") == number).then_some(()));
}

/// Retry, `back_to`, `skip_to` and a branch, with a kill in the sleep of every round.
fn every_rule_of_a_timeline_holds_over_kills(database: Database) {
    let (mut engine, cloud) = start(database);
    let plan = json!({"base_url": cloud.url(), "nap_ms": 700, "rounds": 3, "failures": 2});
    let id = engine.begin("routes", &plan);
    for round in 1..=3 {
        until("the nap of the round", || {
            (counts(&cloud, ["begin"]) == [round]
                && engine.status(&id)["waiting_on"][0]["scope"] != Value::Null
                && engine.status(&id)["status"] == "sleeping")
                .then_some(())
        });
        engine.kill_and_restart();
    }
    let done = engine.wait_for_end(&id);
    assert_eq!(done["output"], json!([5, null, "large 3"]), "{done:#}");
    let names = ["begin", "flaky", "judge", "passed_over", "small", "large", "report"];
    assert_eq!(counts(&cloud, names), [3, 5, 3, 0, 0, 1, 1]);
    assert_each_once(&cloud.ledger());
    let other = engine.run("routes", &json!({"base_url": format!("{}/of/other", cloud.url()), "nap_ms": 0}));
    assert_eq!(other["output"], json!([1, "small 1", null]), "{other:#}");
}

/// An error goes where a rule leads, completes the execution, or fails it; no step after it runs.
fn an_error_is_taken_over_or_fails_the_execution(database: Database) {
    let (mut engine, cloud) = start(database);
    let plan = |failures: u32| json!({"base_url": cloud.url(), "nap_ms": 700, "failures": failures});
    let id = engine.begin("detours", &plan(1));
    wait_for_sleep(&engine, &id, 1);
    engine.kill_and_restart();
    let done = engine.wait_for_end(&id);
    assert_eq!((&done["status"], &done["output"]), (&json!("completed"), &json!([null, null, null])), "{done:#}");
    assert_eq!(counts(&cloud, ["flaky", "detour", "report"]), [1, 1, 1]);
    let failed = engine.run("unruled", &plan(9));
    let failure = json!({"kind": "failure", "message": "refused", "details": {"error": "refused"}, "retryable": false});
    assert_eq!((&failed["status"], &failed["failure"]), (&json!("failed"), &failure), "{failed:#}");
    assert_eq!(counts(&cloud, ["report"]), [1], "nothing behind it runs");
    assert_eq!(failed["steps"].as_array().unwrap().len(), 1);
    assert_eq!(engine.run("detours", &plan(0))["output"], 3, "the third one is accepted and ends it");
}

/// The predicate's exception is the failure of the execution.
fn a_condition_that_raises_fails_with_its_traceback(database: Database) {
    let (engine, cloud) = start(database);
    let failed = engine.run("crossroads", &json!({"base_url": cloud.url()}));
    let failure = &failed["failure"];
    assert_eq!(
        (&failure["kind"], &failure["details"]["type"]),
        (&json!("exception"), &json!("TypeError")),
        "{failed:#}"
    );
    let traceback = failure["details"]["traceback"].as_str().unwrap();
    assert!(traceback.contains(r#"condition=lambda text: text["no such thing"]"#), "{traceback}");
    assert_eq!(counts(&cloud, ["begin", "detour", "report"]), [1, 0, 0]);
}

/// The other branch comes to its end although the engine died meanwhile.
fn a_group_waits_for_all_of_its_branches_and_then_fails(database: Database) {
    let (mut engine, cloud) = start(database);
    let id = engine.begin("partly", &json!({"base_url": cloud.url(), "nap_ms": 900}));
    until("one branch failed", || (engine.count(&id, "StepFailed") == 1).then_some(()));
    wait_for_sleep(&engine, &id, 1);
    assert_eq!(engine.status(&id)["status"], "sleeping");
    engine.kill_and_restart();
    let failed = engine.wait_for_end(&id);
    assert_eq!(failed["failure"]["message"], "broken at once", "{failed:#}");
    assert_eq!(failed["failure"]["details"]["type"], "ValueError");
    assert_eq!(counts(&cloud, ["late", "report"]), [1, 0]);
}

/// Locals survive, nothing is counted twice, and a step may end with a sleep.
fn a_kill_in_the_second_sleep_of_the_last_step_repeats_nothing(database: Database) {
    let cloud = Cloud::start();
    let mut engine = Engine::start_with(database, &[("HIBERNATE_AFTER", "10ms")]);
    engine.upload(COMPONENT);
    let id = engine.begin("ends_with_a_sleep", &json!({"base_url": cloud.url(), "nap_ms": 700, "rounds": 3}));
    for sleep in [2, 3] {
        wait_for_sleep(&engine, &id, sleep);
        engine.kill_and_restart();
    }
    let done = engine.wait_for_end(&id);
    assert_eq!((&done["status"], &done["output"]), (&json!("completed"), &json!([1, 2, 3])), "{done:#}");
    assert_eq!(counts(&cloud, ["begin", "nap"]), [1, 3]);
    assert_each_once(&cloud.ledger());
}

/// The step that was running is run again, the steps before it are not.
fn a_kill_in_the_middle_of_a_python_step_reruns_only_that_step(database: Database) {
    let (mut engine, cloud) = start(database);
    let paths = ["notes/1", "slow/800/2", "notes/3"];
    let id = engine.begin("posts", &json!({"base_url": cloud.url(), "paths": paths}));
    until("the slow request is under way", || (!cloud.requests("POST", "/slow").is_empty()).then_some(()));
    engine.kill_and_restart();
    let done = engine.wait_for_end(&id);
    assert_eq!(done["output"].as_array().unwrap().len(), 3, "{done:#}");
    let asked = |path: &str| cloud.requests("POST", path).len();
    assert_eq!((asked("/notes/1"), asked("/slow"), asked("/notes/3")), (1, 2, 1));
    assert_repeats_are_alike(&cloud.ledger());
    let slow = cloud.requests("POST", "/slow");
    assert_eq!(slow[0]["idempotency_key"], slow[1]["idempotency_key"]);
    let attempts: Vec<&Value> = done["steps"].as_array().unwrap().iter().map(|step| &step["attempt"]).collect();
    assert_eq!(attempts, [1, 1, 1], "a crash uses up no attempt");
}

/// Checks and attempts are neither repeated nor forgotten.
fn polls_and_retries_of_python_go_on_counting_after_kills(database: Database) {
    let (mut engine, cloud) = start(database);
    let id = engine.begin("counting", &json!({"base_url": cloud.url(), "nap_ms": 600}));
    // Four waits between five checks, three between four attempts.
    for sleeps in [2, 6] {
        wait_for_sleep(&engine, &id, sleeps);
        engine.kill_and_restart();
    }
    let done = engine.wait_for_end(&id);
    let (looks, tries) = ([1, 2, 3, 4, 5], [1, 2, 3, 4]);
    assert_eq!(done["output"], json!([5, looks, 4, tries]), "{done:#}");
    assert_eq!(counts(&cloud, ["look", "try"]), [5, 4]);
    assert_each_once(&cloud.ledger());
}

fn decorated_steps_sleep_and_poll_over_a_kill(database: Database) {
    let (mut engine, cloud) = start(database);
    let id = engine.begin("decorators", &json!({"base_url": cloud.url()}));
    wait_for_sleep(&engine, &id, 1);
    assert_eq!(counts(&cloud, ["decorated"]), [0], "the sleep comes before the body");
    engine.kill_and_restart();
    let done = engine.wait_for_end(&id);
    assert_eq!(done["output"], 3, "{done:#}");
    assert_eq!(counts(&cloud, ["decorated", "repeated"]), [1, 3]);
    assert_eq!(engine.count(&id, "SleepStarted"), 3);
}

/// An approval, a rejection and no answer, each across a kill; the time left is that of the question, and a late answer
/// is refused.
fn a_person_s_answer_reaches_python_over_kills(database: Database) {
    let (mut engine, _cloud) = start(database);
    let ids = ["yes", "no", "silence"].map(|answer| {
        let input = if answer == "silence" { json!(3_000) } else { Value::Null };
        let id = engine.begin("asks", &input);
        engine.wait_for(&id, &["waiting-for-approval"]);
        id
    });
    let until_before = engine.status(&ids[2])["waiting_on"][0]["until"].clone();
    assert!(until_before.is_string());
    engine.kill_and_restart();
    assert_eq!(engine.status(&ids[2])["waiting_on"][0]["until"], until_before);
    engine.ok(&["approve", &ids[0], "--data", r#"{"percent":10}"#, "--comment", "fine"]);
    engine.ok(&["reject", &ids[1], "--reason", "not today"]);
    assert_eq!(engine.wait_for_end(&ids[0])["output"], json!(["yes", {"percent": 10}, "fine"]));
    let no = engine.wait_for_end(&ids[1])["output"].clone();
    assert_eq!((&no[0], &no[1]), (&json!("no"), &json!("rejected")));
    assert!(no[2].as_str().unwrap().contains("not today"), "{no}");
    assert_eq!(engine.wait_for_end(&ids[2])["output"], json!(["silence", "approval-timeout"]));
    for id in &ids {
        let late = engine.cli(&["approve", id]);
        assert_eq!((late.code, late.err.lines().count()), (5, 1), "{late:?}");
    }
}

/// More milliseconds than 32 bits can hold.
fn python_sleeps_longer_than_twenty_four_days(database: Database) {
    let (mut engine, _cloud) = start(database);
    let id = engine.begin("sleeps", &json!(60_u64 * 86_400_000));
    let before = engine.wait_for(&id, &["sleeping"])["waiting_on"][0].clone();
    engine.kill_and_restart();
    assert_eq!(engine.status(&id)["waiting_on"][0], before);
    let (since, due) = (before["since"].as_str().unwrap(), before["until"].as_str().unwrap());
    assert_ne!(since[..7], due[..7], "sixty days are more than a month");
    assert_eq!(engine.history(&id)[1]["duration_ms"], json!(60_u64 * 86_400_000));
}

/// Integers above 2^53 and beyond 64 bits, nested nulls, names in their order, every character.
fn values_of_python_arrive_as_they_were(database: Database) {
    let (mut engine, _cloud) = start(database);
    let written =
        r#"{"z":9007199254740993,"a":[null,[null,{}]],"e":18446744073709551616,"b":"é😀\"\\","n":-1.5e-07,"":0}"#;
    engine.ok(&["start", "echoes", "--input", written, "--id", "echo"]);
    wait_for_sleep(&engine, "echo", 1);
    engine.kill_and_restart();
    let _ = engine.wait_for_end("echo");
    let output = engine.ok(&["result", "echo"]);
    let output = output.trim().replace(r"\u00e9", "é").replace(r"\ud83d\ude00", "😀");
    assert_eq!(output, format!("[{written},{written}]"));
}

/// A sleeping execution goes on with the component it began with.
fn a_python_component_uploaded_meanwhile_does_not_change_what_runs(database: Database) {
    let mut engine = Engine::start(database);
    engine.ok(&["upload", &component(COMPONENT), "--name", "app"]);
    let id = engine.begin("app/sleeps", &json!(1_500));
    engine.wait_for(&id, &["sleeping"]);
    let old = engine.status(&id)["digest"].clone();
    engine.ok(&["upload", &component("python-hello"), "--name", "app"]);
    engine.kill_and_restart();
    let done = engine.wait_for_end(&id);
    assert_eq!((&done["output"], &done["digest"]), (&json!("awake"), &old));
    let refused = engine.cli(&["start", "app/sleeps", "--input", "1"]);
    assert_eq!(refused.code, 3, "the new component has no such workflow: {refused:?}");
    assert_eq!(engine.run("app/hello", &json!("Ada"))["output"], "Hello, Ada!");
}

/// Finished steps are not run again.
fn a_failed_python_run_resumes_at_the_failed_step(database: Database) {
    let (mut engine, cloud) = start(database);
    let id = engine.begin("gated", &json!({"base_url": cloud.url()}));
    let failed = engine.wait_for_end(&id);
    assert_eq!(
        (&failed["status"], &failed["failure"]["kind"]),
        (&json!("failed"), &json!("http-status")),
        "{failed:#}"
    );
    engine.kill_and_restart();
    cloud.put("/switch/gate/on");
    engine.ok(&["resume", &id]);
    let done = engine.wait_for_end(&id);
    assert_eq!(done["status"], "completed", "{done:#}");
    assert_eq!(counts(&cloud, ["begin", "report"]), [1, 1]);
    assert_eq!(cloud.requests("POST", "/switch/gate").len(), 2);
}

/// Progress and output that a rerun repeats are not reported again.
fn progress_and_output_of_a_python_step_are_told_once(database: Database) {
    let cloud = Cloud::start();
    let mut engine = Engine::start_with(database, &[("HIBERNATE_AFTER", "10ms")]);
    engine.upload(COMPONENT);
    let id = engine.begin("tells", &json!({"base_url": cloud.url(), "nap_ms": 900}));
    wait_for_sleep(&engine, &id, 1);
    let first = engine.status(&id)["progress"].clone();
    assert_eq!((&first[0]["percent"], &first[0]["message"]), (&json!(10), &json!("before the sleep")));
    engine.kill_and_restart();
    let done = engine.wait_for_end(&id);
    assert_eq!((&done["output"], &done["progress"][0]["percent"]), (&json!(90), &json!(90)), "{done:#}");
    let logs = engine.ok(&["logs", &id]);
    assert_eq!(logs.matches("printed before the sleep").count(), 1, "{logs}");
}

/// Each status as `status` and `list` show it.
fn every_status_of_a_python_execution_is_shown(database: Database) {
    let (engine, cloud) = start(database);
    let nothing = json!({"base_url": cloud.url()});
    let slow = json!({"base_url": cloud.url(), "paths": ["slow/60000/1"]});
    let kept: Vec<(&str, String)> = [
        ("sleeping", "sleeps", json!(3_600_000)),
        ("waiting-for-approval", "asks", Value::Null),
        ("waiting", "hears", json!(["never"])),
        ("running", "posts", slow),
        ("completed", "echoes", json!(1)),
        ("failed", "gated", nothing),
    ]
    .into_iter()
    .map(|(status, workflow, input)| (status, engine.begin(workflow, &input)))
    .collect();
    for (status, id) in &kept {
        engine.wait_for(id, &[*status]);
        let listed = engine.ok(&["list", "--status", status]);
        assert!(listed.contains(id.as_str()), "{status}: {listed}");
    }
    let (_, sleeper) = &kept[0];
    engine.ok(&["pause", sleeper]);
    engine.wait_for(sleeper, &["paused"]);
    engine.ok(&["resume", sleeper]);
    engine.ok(&["cancel", sleeper]);
    engine.wait_for(sleeper, &["cancelled"]);
    let watched = engine.cli(&["watch", sleeper]);
    assert!(watched.code == 1 && watched.out.contains("cancelled"), "{watched:?}");
}
