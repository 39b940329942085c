//! What a reader looks for: executions by what they wait for, why they failed, their ids and starts; events and lines by
//! their words; and the version of a component that is made current again.

use serde_json::{Value, json};
use test_engine::{Database, Engine, component, until};

use super::{led_to, page, send, upload};
use crate::rest::curl;

on_both_databases!(
    executions_are_found_by_their_wait_failure_id_and_start,
    events_and_lines_are_found_by_their_words,
    an_earlier_version_is_made_current_again,
);

fn executions_are_found_by_their_wait_failure_id_and_start(database: Database) {
    let mut engine = Engine::start(database);
    upload(&engine);
    let start = |id: &str, workflow: &str, input: Value| {
        let (workflow, input) = (format!("guests/{workflow}"), input.to_string());
        engine.ok(&["start", &workflow, "--input", &input, "--id", id]);
    };
    start("order-1", "listening", json!({"names": ["paid"]}));
    start("order-2", "listening", json!({"names": ["sent"]}));
    start("nap", "sleeper", json!(7_200_000));
    start("bad", "asking", json!({"title": "Go?", "timeout_ms": 86_400_000}));
    until("it asks", || engine.cli(&["reject", "bad", "--reason", "no"]).code.eq(&0).then_some(()));
    assert_eq!(engine.wait_for_end("bad")["status"], "failed");
    let ids = |said: &Value| -> Vec<String> {
        let mut ids: Vec<_> =
            said.as_array().unwrap().iter().map(|one| one["execution_id"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        ids
    };
    until("all wait", || {
        let waiting = engine.json(&["list", "--waits-for", "signal"]);
        (ids(&waiting).len() == 2 && ids(&engine.json(&["list", "--waits-for", "sleep"])) == ["nap"]).then_some(())
    });
    engine.kill_and_restart();
    for (flags, query, found) in [
        (&["--waits-for", "signal"][..], "waits_for=signal", &["order-1", "order-2"][..]),
        (&["--waits-for", "signal:paid"], "waits_for=signal%3Apaid", &["order-1"]),
        (&["--failure", "rejected"], "failure=rejected", &["bad"]),
        (&["--id-prefix", "order-"], "id_prefix=order-", &["order-1", "order-2"]),
        (&["--since", "1h", "--id-prefix", "n"], "since=1h&id_prefix=n", &["nap"]),
        (&["--until", "1h"], "until=1h", &[]),
    ] {
        assert_eq!(ids(&engine.json(&[&["list"], flags].concat())), found, "{flags:?}");
        let told = curl(&engine, ("GET", &format!("/v1/executions?{query}")), &[], b"");
        assert_eq!(ids(&told.json()["executions"]), found, "{query}: {told:?}");
        let told = curl(&engine, ("GET", &format!("/v1/count?{query}")), &[], b"");
        assert_eq!(told.json()["executions"], json!(found.len()), "{query}: {told:?}");
        let shown = page(&engine, &format!("/executions?{query}")).body;
        let is_shown = |id: &str| shown.contains(&format!("href=\"/executions/{id}\""));
        for id in ["order-1", "order-2", "nap", "bad"] {
            assert_eq!(is_shown(id), found.contains(&id), "{id} for {query}: {shown}");
        }
        assert!(shown.contains("<details class=\"more\" open>"), "{shown}");
    }
    let mistyped = curl(&engine, ("GET", "/executions?waits_for=godot"), &[], b"");
    assert!(mistyped.status == 400 && mistyped.body.contains("a wait is one of approval, retry,"), "{mistyped:?}");
    let mistyped = curl(&engine, ("GET", "/v1/executions?since=yesterday"), &[], b"");
    assert!(mistyped.status == 400 && mistyped.body.contains("is no moment: write 2h"), "{mistyped:?}");
    let refused = engine.cli(&["bulk", "cancel", "--id-prefix", ""]);
    assert!(refused.code == 2 && refused.err.contains("the filter's id is empty"), "{refused:?}");
    let refused = engine.cli(&["bulk", "cancel", "--all", "--waits-for", "signal"]);
    assert!(refused.code == 2 && refused.err.contains("cannot be used with"), "{refused:?}");
    // A view keeps the filter, and a bulk job acts on what it finds.
    let filter = ["--waits-for", "signal", "--since", "2026-01-01T00:00:00Z"];
    engine.ok(&[&["view", "save", "Hearing", "--shared"], &filter[..]].concat());
    let link = "href=\"/executions?waits_for=signal&amp;since=2026-01-01T00%3A00%3A00.000Z\"";
    let shown = page(&engine, "/executions").body;
    assert!(shown.contains(link), "{shown}");
    let job = engine.ok(&["bulk", "cancel", "--waits-for", "signal:sent"]);
    engine.kill_and_restart();
    until("the job has ended", || (engine.json(&["bulk", "show", job.trim()])["state"] == "done").then_some(()));
    assert_eq!(engine.wait_for_end("order-2")["status"], "cancelled");
    assert_eq!(ids(&engine.json(&["list", "--waits-for", "signal"])), ["order-1"]);
}

fn events_and_lines_are_found_by_their_words(database: Database) {
    let engine = Engine::start(database);
    upload(&engine);
    engine.ok(&["start", "guests/sequence", "--input", r#"{"steps":300}"#, "--id", "long"]);
    assert_eq!(engine.wait_for_end("long")["status"], "completed");
    let shown = page(&engine, "/executions/long/history?kind=executioncomp").body;
    assert!(shown.contains("ExecutionCompleted") && !shown.contains("ExecutionStarted"), "{shown}");
    let shown = page(&engine, "/executions/long/history?kind=StepCompleted").body;
    assert_eq!(shown.matches("<td>StepCompleted</td>").count(), 200, "a window");
    let further = shown.split("rel=\"next\" href=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let rest = page(&engine, &further.replace("&amp;", "&")).body;
    assert_eq!(rest.matches("<td>StepCompleted</td>").count(), 100, "the rest: {further}");
    assert!(!rest.contains("rel=\"next\""), "{rest}");
    let none = page(&engine, "/executions/long/history?text=%3Cnothing%3E").body;
    assert!(none.contains("No event fits.") && none.contains("value=\"&lt;nothing&gt;\""), "{none}");
    engine.ok(&["start", "guests/telling", "--input", "1", "--id", "talks"]);
    assert_eq!(engine.wait_for_end("talks")["status"], "completed");
    let of = |query: &str| page(&engine, &format!("/executions/talks/logs{query}")).body;
    let told = |shown: &str| ["first line", "second line"].map(|line| shown.contains(&format!(">{line}</td>")));
    assert_eq!(told(&of("")), [true, true]);
    assert_eq!(told(&of("?text=first+l")), [true, false]);
    assert_eq!(told(&of("?level=info&text=line")), [true, true]);
    let wrong = curl(&engine, ("GET", "/executions/talks/logs?level=INFO"), &[], b"");
    assert!(wrong.status == 400 && wrong.body.contains("a level is one of debug, info,"), "{wrong:?}");
    assert!(of("?level=error").contains("No line fits."));
    assert!(of("?text=never+said").contains("No line fits."));
    assert!(of("?scope=s9").contains("No line fits."));
}

fn an_earlier_version_is_made_current_again(database: Database) {
    let mut engine = Engine::start(database);
    engine.ok(&["upload", &component("hello"), "--name", "shop"]);
    let first = engine.json(&["components"])[0]["digest"].as_str().unwrap().to_owned();
    engine.ok(&["upload", &component("test-guests"), "--name", "shop", "--accept"]);
    let shown = page(&engine, "/components").body;
    assert!(shown.contains("1 other version") && shown.contains("Make current"), "{shown}");
    assert_eq!(led_to(&send(&engine, "/components/shop/accept", &[], &[("digest", &first)])), "/components");
    engine.kill_and_restart();
    let greeted = engine.ok(&["start", "shop/hello", "--input", r#"{"name":"Ada"}"#, "--wait"]);
    assert!(greeted.contains("Hello, Ada!"), "{greeted}");
    let current = engine.json(&["components"]);
    assert_eq!(current[0]["digest"], json!(first), "{current}");
}
