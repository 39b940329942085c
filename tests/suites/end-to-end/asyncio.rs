//! Plain asyncio in Python guests: each of its features gives the same result undisturbed and when the engine is killed
//! after every single commit.

use serde_json::{Value, json};
use test_engine::{Database, Engine, FAILPOINT, assert_one_writer, until};
use test_postgres::{Cut, Wire};

/// The component with the workflows of this file.
const COMPONENT: &str = "test-python";
/// Each outcome is durable before it is delivered, so that there is a kill between any two of them.
const STRICT: (&str, &str) = ("RUN_AHEAD_EVENTS_MAX", "0");

on_both_databases!(
    what_a_component_does_not_have_says_what_to_use_instead,
    odd_python_programs_end_with_a_line_that_says_what_is_wrong,
    a_python_guest_that_waits_for_nothing_fails_with_its_name,
    a_timeout_around_a_hundred_steps_is_one_timer,
    l16_a_cancelled_python_workflow_cleans_up,
    what_is_still_running_at_the_end_is_cancelled_and_cleans_up,
);

/// The expected output of each workflow.
fn expected() -> Vec<(&'static str, Value)> {
    vec![
        ("gathers", json!([[1, 20, 3, 5], 4, "StepError", "ValueError"])),
        ("waits", json!([["won"], "cleaned up", ["StepError"], [0, 1], [0, 1, 2]])),
        ("waits_for", json!(["in time", "too late", "afterwards"])),
        ("timeouts", json!(["out of time", 60, "the inner one"])),
        ("tasks", json!(["begin 1", "begin 2", 2, 1, "begin 3600000", "cancelled: enough", "still running", 20])),
        ("completions", json!(["quick", 40, "again", "out of time"])),
        ("sleeps", json!([0, 20, 40, 60, true])),
        ("queues", json!([0, 1, 2, 3])),
        ("locks", json!(["in 1", "out 1", "in 2", "out 2", "through", false])),
        ("groups", json!([1, 5, "sibling cancelled", ["Step 'fails' failed: no"]])),
        ("generators", json!([0, 1, "closed", "a", "b", "outer"])),
        ("chance", json!([true, true, true])),
        ("polls", json!([3, [[1, 0], [2, 1], [3, 2], [4, 3]]])),
        ("inside", json!([[1, 5, "out of time"], [1, 5, "out of time"]])),
    ]
}

#[test]
fn each_primitive_comes_to_the_same_after_a_kill_at_every_commit() {
    let mut engine = Engine::start_with(Database::Sqlite, &[STRICT]);
    engine.upload(COMPONENT);
    for (workflow, output) in expected() {
        let undisturbed = engine.run(&format!("{COMPONENT}/{workflow}"), &Value::Null);
        assert_eq!(undisturbed["output"], output, "{workflow}: {undisturbed:#}");
        engine.kill();
        let events = undisturbed["events"].as_u64().unwrap();
        let kills = run_killed(&mut engine, workflow, events);
        let ended = engine.wait_for_end(&id_of(workflow));
        assert_eq!(
            ended["output"],
            output,
            "{workflow}, killed {kills} times: {:#?}",
            engine.history(&id_of(workflow)).iter().map(ToString::to_string).collect::<Vec<_>>()
        );
        assert_eq!(engine.history(&id_of(workflow)).len() as u64, ended["events"].as_u64().unwrap());
        // Events that happen while guests move share a commit. That there are enough commits shows that the kills were
        // in the right places.
        assert!(kills * 3 >= events, "{workflow}: only {kills} kills for {events} events");
    }
}

fn id_of(workflow: &str) -> String {
    format!("killed-{workflow}")
}

/// Runs a workflow on an engine that dies after every commit, and counts its deaths. The last engine stays alive.
fn run_killed(engine: &mut Engine, workflow: &str, events: u64) -> u64 {
    let (id, name) = (id_of(workflow), format!("{COMPONENT}/{workflow}"));
    let mut kills = 0;
    loop {
        assert!(kills <= 2 * events + 10, "{workflow} does not come to an end:\n{}", engine.log());
        if !engine.launch(&[(FAILPOINT, "batch-sent:1")]) {
            kills += 1;
            continue;
        }
        // The same id again is the same execution: whether the engine lived to answer does not matter.
        let _ = engine.cli(&["start", &name, "--input", "null", "--id", &id]);
        let ended = until("the engine dies, or the execution ends", || {
            if engine.has_died() {
                return Some(false);
            }
            let status = engine.cli(&["status", &id, "--json"]);
            let status: Value = serde_json::from_str(&status.out).unwrap_or_default();
            if status["status"] == "parked" {
                // So many deaths in a row look like the execution's own fault (L18); a person resumes it.
                let _ = engine.cli(&["resume", &id]);
            }
            (status["status"] == "completed" || status["status"] == "failed").then_some(true)
        });
        if ended {
            if !engine.has_died() {
                engine.kill();
            }
            engine.restart();
            return kills;
        }
        kills += 1;
    }
}

/// Every execution has one owner, even when one of two engines is killed.
#[test]
fn two_engines_share_python_executions_and_one_outlives_the_other() {
    let mut first = Engine::start_with(Database::Postgres, &[("LEASE", "3s")]);
    first.upload(COMPONENT);
    let second = Engine::beside(&first);
    let inside = format!("{COMPONENT}/inside");
    let ids: Vec<String> = (0..8).map(|number| [&first, &second][number % 2].begin(&inside, &Value::Null)).collect();
    until("they are under way", || (first.history(&ids[0]).len() > 4).then_some(()));
    first.kill();
    for id in &ids {
        let ended = second.wait_for_end(id);
        assert_eq!(ended["output"], json!([[1, 5, "out of time"], [1, 5, "out of time"]]), "{ended:#}");
        assert_one_writer(&second.history(id));
    }
}

/// A commit whose answer is lost, and a commit that never arrived, change nothing for a Python guest.
#[test]
fn commits_whose_connections_are_cut_happen_once_for_python_guests() {
    let wire = Wire::to(&test_postgres::database());
    let engine = Engine::start_at(wire.url(), &[STRICT]);
    engine.upload(COMPONENT);
    let ids: Vec<String> = (0..4).map(|_| engine.begin(&format!("{COMPONENT}/inside"), &Value::Null)).collect();
    for cut in [Cut::AfterCommit, Cut::BeforeCommit, Cut::AfterCommit] {
        wire.cut_next_commits([cut]);
        until("it is cut", || (wire.cuts_left() == 0).then_some(()));
    }
    for id in &ids {
        let ended = engine.wait_for_end(id);
        assert_eq!(ended["output"], json!([[1, 5, "out of time"], [1, 5, "out of time"]]), "{ended:#}");
        assert_one_writer(&engine.history(id));
    }
}

fn what_a_component_does_not_have_says_what_to_use_instead(database: Database) {
    let engine = Engine::start(database);
    engine.upload(COMPONENT);
    let said = &engine.run(&format!("{COMPONENT}/refused"), &Value::Null)["output"];
    assert_eq!(said["to_thread"], 3, "{said:#}");
    for (thing, hint) in [
        ("thread", "asyncio.create_task"),
        ("socket", "cerebelum.http"),
        ("connection", "cerebelum.http"),
        ("process", "no processes"),
        ("subprocess", "no processes"),
        ("system", "no processes"),
    ] {
        assert!(said[thing].as_str().unwrap().contains(hint), "{thing}: {said:#}");
    }
}

fn odd_python_programs_end_with_a_line_that_says_what_is_wrong(database: Database) {
    let engine = Engine::start(database);
    engine.upload(COMPONENT);
    let said = &engine.run(&format!("{COMPONENT}/odds"), &Value::Null)["output"];
    for (what, line) in [
        ("mute", "exception: Mute, which cannot say what it is"),
        ("log", "survived"),
        ("body", "http-too-large: a request's body has at most"),
        ("cancelled", "exception: a task that it awaited was cancelled"),
        ("loop", "exception: a loop runs already"),
        ("lazy", "csv"),
        ("year", "invalid-argument"),
    ] {
        assert!(said[what].as_str().unwrap().starts_with(line), "{what}: {said:#}");
    }
}

fn a_python_guest_that_waits_for_nothing_fails_with_its_name(database: Database) {
    let engine = Engine::start(database);
    engine.upload(COMPONENT);
    let ended = engine.run(&format!("{COMPONENT}/stuck"), &Value::Null);
    assert_eq!(ended["failure"]["kind"], "deadlock", "{ended:#}");
}

/// A hundred steps, each within a timeout of its own and all within another one: 200 events for the steps, 2 for the
/// timer.
fn a_timeout_around_a_hundred_steps_is_one_timer(database: Database) {
    let engine = Engine::start(database);
    engine.upload(COMPONENT);
    let ended = engine.run(&format!("{COMPONENT}/hundred"), &Value::Null);
    assert_eq!(ended["output"], 100, "{ended:#}");
    assert_eq!(ended["events"], 204);
    assert_eq!(engine.count(ended["execution_id"].as_str().unwrap(), "SleepStarted"), 1);
}

fn l16_a_cancelled_python_workflow_cleans_up(database: Database) {
    let mut engine = Engine::start(database);
    engine.upload(COMPONENT);
    for (workflow, cleaned) in
        [("cancelled", vec!["cleaned up", "slept over it"]), ("cancelled_in_a_sleep", vec!["cleaned up"])]
    {
        let id = engine.begin(&format!("{COMPONENT}/{workflow}"), &Value::Null);
        let _ = engine.wait_for(&id, &["sleeping"]);
        engine.kill_and_restart();
        engine.ok(&["cancel", &id]);
        let ended = engine.wait_for_end(&id);
        assert_eq!(ended["status"], "cancelled", "{ended:#}");
        let outputs: Vec<&str> =
            ended["steps"].as_array().unwrap().iter().filter_map(|step| step["output"].as_str()).collect();
        assert_eq!(outputs, cleaned, "{workflow}");
    }
}

fn what_is_still_running_at_the_end_is_cancelled_and_cleans_up(database: Database) {
    let engine = Engine::start(database);
    engine.upload(COMPONENT);
    let ended = engine.run(&format!("{COMPONENT}/leftovers"), &Value::Null);
    assert_eq!(ended["output"], "done", "{ended:#}");
    let cleaned: Vec<&str> =
        ended["steps"].as_array().unwrap().iter().filter_map(|step| step["output"].as_str()).collect();
    assert_eq!(cleaned[..2], ["cleaned a", "cleaned b"]);
}
