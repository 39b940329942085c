//! The calls of executions as boxes and arrows.

use serde_json::json;
use test_engine::{Cloud, Database, Engine, until};

use super::{page, upload};
use crate::rest::curl;

on_both_databases!(
    a_graph_shows_calls_as_they_happened_and_what_they_wait_for,
    a_graph_goes_on_with_what_a_timeline_plans,
);

fn graph(engine: &Engine, id: &str) -> String {
    page(engine, &format!("/executions/{id}/graph")).body
}

fn a_graph_shows_calls_as_they_happened_and_what_they_wait_for(database: Database) {
    let mut engine = Engine::start(database);
    upload(&engine);
    let names = ["<b>bold</b>\u{202e}", "\"'&<svg onload=x>", "<b>bold</b>\u{202e}"];
    engine.ok(&["start", "guests/listening", "--id", "l", "--input", &json!({"names": names}).to_string()]);
    until("it waits", || graph(&engine, "l").contains("◌ waits").then_some(()));
    engine.kill_and_restart();
    let waiting = graph(&engine, "l");
    assert!(waiting.contains("signal</text>") && waiting.contains("class=\"held\""), "{waiting}");
    assert!(waiting.contains("&lt;b&gt;bold&lt;/b&gt;\\u{202e}") && !waiting.contains("<b>"), "{waiting}");
    assert!(waiting.contains(">start</text>") && !waiting.contains(">completed</text>"), "{waiting}");
    assert!(waiting.contains("href=\"/executions/l/events/2?run=1\""), "{waiting}");
    assert!(page(&engine, "/executions/l/events/2?run=1").body.contains("SignalAwaited"));
    for name in names {
        engine.ok(&["signal", "l", name, "--data", "1"]);
    }
    assert_eq!(engine.wait_for_end("l")["status"], "completed");
    let ended = graph(&engine, "l");
    assert!(ended.contains(">completed</text>") && !ended.contains("<svg onload"), "{ended}");
    assert_eq!(ended.matches("class=\"box").count(), 2 + 3, "{ended}");
    assert_eq!(ended.matches("class=\"head\"").count(), 4, "one arrow to each box and one to the end: {ended}");
    assert!(ended.contains("The same as text") && ended.contains("The end: completed."), "{ended}");
    // Calls of one name are one box, beside each other or one after the other.
    for (id, workflow) in [("s", "guests/sequence"), ("p", "guests/parallel")] {
        engine.ok(&["start", workflow, "--id", id, "--input", "{\"steps\":300}", "--wait"]);
        let shown = graph(&engine, id);
        assert!(shown.contains("step × 300</text>") && shown.contains("Step increment, 300 calls, done"), "{shown}");
        assert_eq!(shown.matches("class=\"box").count(), 3, "{shown}");
    }
    // A run that goes on as another one, and the one after it.
    engine.ok(&["start", "guests/countdown", "--id", "c", "--input", "1", "--wait"]);
    let first = page(&engine, "/executions/c/graph?run=1").body;
    assert!(first.contains("Later run") && first.contains(">goes on as a new run</text>"), "{first}");
    assert_eq!(curl(&engine, ("GET", "/executions/c/graph?run=9"), &[], b"").status, 404);
    // An execution that has made no call.
    engine.ok(&["start", "guests/sequence", "--id", "none", "--input", "{\"steps\":0}", "--wait"]);
    assert!(graph(&engine, "none").contains("It has made no call"));
    // A child that fails.
    engine.ok(&["start", "guests/gated_child", "--id", "g", "--input", "\"http://127.0.0.1:1\""]);
    assert_eq!(engine.wait_for_end("g")["status"], "failed");
    let failed = graph(&engine, "g");
    assert!(
        failed.contains("child</text>") && failed.contains("✗ failed") && failed.contains(">failed</text>"),
        "{failed}"
    );
    let inside = graph(&engine, "gate-keeper");
    assert!(inside.contains("Step post") && inside.contains("inside: fetch"), "{inside}");
}

/// Asserts that a page has all of these, and none of those.
fn assert_shows(shown: &str, all: &[&str], none: &[&str]) {
    for text in all {
        assert!(shown.contains(text), "{text} is missing: {shown}");
    }
    for text in none {
        assert!(!shown.contains(text), "{text} is there: {shown}");
    }
}

/// A timeline in Python before its start, while a person thinks, in its last sleep and after its end, over kills.
fn a_graph_goes_on_with_what_a_timeline_plans(database: Database) {
    let cloud = Cloud::start();
    let mut engine = Engine::start(database);
    engine.upload("python-onboarding");
    let form = page(&engine, "/start/python-onboarding/onboarding").body;
    let rule = "If <code>order_laptop</code> answers <code>&quot;out of stock&quot;</code>: <code>lend_laptop</code>.";
    let side = "If the condition after <code>reserve_desk</code> is false: <code>print_badge</code>.";
    let again = "answers <code>&quot;back soon&quot;</code>: it runs again, at most 3 times.";
    assert_shows(
        &form,
        &["Step report, planned", "Step print_badge, if false", rule, side, again],
        &["href=\"/events"],
    );
    assert_eq!(form.matches("class=\"box").count(), 12 + 2 + 2, "steps, sides, start and end: {form}");
    let person = |first_day_ms: u64| json!({"base_url": cloud.url(), "name": "Ada", "first_day_ms": first_day_ms});
    let id = engine.begin("onboarding", &person(5_000));
    engine.wait_for(&id, &["waiting-for-approval"]);
    engine.kill_and_restart();
    let waiting = graph(&engine, &id);
    let done = ["Step check_contract, done", "Step print_badge, done", "Step grant_code, done"];
    assert_shows(&waiting, &done, &["send_headset", "Step assign_mentor, planned", "goes on as", ">completed<"]);
    let planned = ["Step send_welcome, planned", "Step schedule_training, planned", "Step report, planned"];
    assert_shows(&waiting, &planned, &["href=\"/executions/none"]);
    assert_shows(&waiting, &["Step approve_access, waits: approval", "on to <code>wait_for_first_day</code>"], &[rule]);
    assert_eq!(waiting.matches("class=\"ahead\"").count(), 4 + 1, "four steps and the end: {waiting}");
    engine.ok(&["approve", &id]);
    engine.wait_for(&id, &["sleeping"]);
    let sleeping = graph(&engine, &id);
    assert_shows(
        &sleeping,
        &["Step wait_for_first_day, waits: sleep", "Step report, planned"],
        &["send_welcome, planned"],
    );
    engine.kill_and_restart();
    assert_eq!(engine.wait_for_end(&id)["status"], "completed");
    assert_shows(
        &graph(&engine, &id),
        &["Step report, done", ">completed</text>"],
        &["planned", "class=\"ahead", "rules may"],
    );
    // A rule skips what is planned, and a cancel ends it.
    let id = engine.begin("onboarding", &person(600_000));
    engine.wait_for(&id, &["waiting-for-approval"]);
    engine.ok(&["reject", &id]);
    engine.wait_for(&id, &["sleeping"]);
    assert_shows(&graph(&engine, &id), &["Step report, planned"], &["send_welcome", "schedule_training"]);
    engine.ok(&["cancel", &id]);
    assert_eq!(engine.wait_for_end(&id)["status"], "cancelled");
    assert_shows(&graph(&engine, &id), &["The end: cancelled."], &["planned"]);
    // Plain code has no plan.
    upload(&engine);
    assert_shows(&page(&engine, "/start/guests/sequence").body, &["Input as JSON"], &["id=\"plan\""]);
}
