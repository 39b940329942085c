//! Values alone: on a page of their own and as files, whole and harmless; histories and log lines as files.

use serde_json::{Value, json};
use test_engine::{Database, Engine, until};

use super::{led_to, page, send, upload};
use crate::rest::{Told, curl};

on_both_databases!(
    a_value_has_a_page_and_a_file_up_to_its_limit,
    a_history_and_the_log_lines_are_files,
    a_start_has_a_deadline,
    the_overview_counts_what_failed_lately_and_names_the_engines,
);

/// The most that a value has.
const VALUE_BYTES_MAX: usize = 1 << 20;
const DEPTH_MAX: usize = 128;

fn get(engine: &Engine, path: &str) -> Told {
    curl(engine, ("GET", path), &[], b"")
}

/// A file with this name.
fn file(engine: &Engine, path: &str, name: &str) -> Told {
    let told = get(engine, path);
    let named = format!("content-disposition: attachment; filename=\"{name}\"\r\n");
    assert!(told.status == 200 && told.head.contains(&named), "{path}: {}", told.head);
    assert!(told.head.contains("x-content-type-options: nosniff") && told.head.contains("no-store"), "{}", told.head);
    told
}

fn start(engine: &Engine, workflow: &str, id: &str, input: &str) {
    let start = format!(r#"{{"workflow": "guests/{workflow}", "id": "{id}", "input": {input}}}"#);
    let typed = ["-H", "content-type: application/json"];
    let told = curl(engine, ("POST", "/v1/executions"), &typed, start.as_bytes());
    assert_eq!(told.status, 200, "{}", told.body);
}

/// A list of hostile texts that has so many bytes, and the number of the texts.
fn hostile(bytes: usize) -> (String, usize) {
    let item = |number: usize| format!("\"<script>alert({number:06})</script>\u{202e} =\\\"http\"");
    let number = (bytes - 2) / (item(0).len() + 1);
    let items: Vec<String> = (0..number).map(item).collect();
    let text = format!("[{}]", items.join(","));
    let left = bytes - text.len();
    (text.replacen("[\"", &format!("[\"{}", "x".repeat(left)), 1), number)
}

fn a_value_has_a_page_and_a_file_up_to_its_limit(database: Database) {
    let engine = Engine::start(database);
    upload(&engine);
    let (large, number) = hostile(VALUE_BYTES_MAX);
    // The fields of an event have one limit together.
    let (less, fewer) = hostile(VALUE_BYTES_MAX - 1_000);
    assert_eq!(large.len(), VALUE_BYTES_MAX);
    for (id, input) in [("a:big", &large), ("less", &less)] {
        start(&engine, "echo", id, input);
        assert_eq!(engine.wait_for_end(id)["status"], "completed");
    }
    let shown = page(&engine, "/executions/a%3Abig").body;
    assert!(shown.contains("more bytes are not shown. <a href=\"/executions/a%3Abig/value/input\">"), "it leads there");
    let event = page(&engine, "/executions/less/events/1").body;
    assert!(event.contains("<a href=\"/executions/less/value/1\">"), "so does an event");
    for (path, file_name, (input, number), field) in [
        ("a%3Abig/value/input", "a_big-input.json", (&large, number), None),
        ("a%3Abig/value/output", "a_big-output.json", (&large, number), None),
        ("less/value/1", "less-1.json", (&less, fewer), Some("input")),
    ] {
        let (path, name) = (format!("/executions/{path}"), path);
        let whole = page(&engine, &path).body;
        assert_eq!(whole.matches("&lt;script&gt;alert(").count(), number, "{name} is whole");
        assert!(!whole.contains("<script>alert") && !whole.contains('\u{202e}'), "{name} stays text");
        assert!(whole.contains("\\u{202e} =\\&quot;http&quot;") && whole.contains("<code>"), "{name}");
        let raw = file(&engine, &format!("{path}?raw=1"), file_name);
        assert!(raw.head.contains("content-type: application/json"), "{}", raw.head);
        let raw = raw.body;
        let read: Value = serde_json::from_str(&raw).unwrap();
        let expected: Value = serde_json::from_str(input).unwrap();
        assert!(field.map_or(&read, |field| &read[field]) == &expected, "{name} is what was written");
        assert!(field.is_some() || raw == *input, "{name} has the bytes that were written");
    }
    // Laid out, it would have more than a hundred megabytes.
    let deep = format!("{}{}1{}", "[".repeat(DEPTH_MAX), "1,".repeat(100_000), "]".repeat(DEPTH_MAX));
    start(&engine, "echo", "deep", &deep);
    // The parser of this test gives up before that depth.
    until("it has ended", || page(&engine, "/executions/deep").body.contains("It completed").then_some(()));
    let whole = page(&engine, "/executions/deep/value/output").body;
    assert!(whole.contains("as they were written") && whole.contains(&deep), "a deep value is whole");
    // What there is not, and what cannot be read.
    for (path, status) in [
        ("deep/value/failure", 404),
        ("deep/value/4711", 404),
        ("none/value/input", 404),
        ("deep/value/1?run=2", 404),
        ("deep/value/x", 400),
        ("deep/value/input?raw=x", 400),
        ("deep/value/input?run=1", 400),
    ] {
        let told = get(&engine, &format!("/executions/{path}"));
        assert!(told.status == status && told.body.contains("<h1>"), "{path}: {told:?}");
    }
    start(&engine, "hostile", "failed", "\"panic\"");
    let failure = engine.wait_for_end("failed")["failure"].clone();
    assert!(page(&engine, "/executions/failed/value/failure").body.contains("&quot;kind&quot;: &quot;trap&quot;"));
    let raw = file(&engine, "/executions/failed/value/failure?raw=1", "failed-failure.json");
    assert_eq!(raw.json(), failure);
}

fn a_history_and_the_log_lines_are_files(database: Database) {
    let mut engine = Engine::start(database);
    upload(&engine);
    start(&engine, "telling", "told", "1");
    assert_eq!(engine.wait_for_end("told")["status"], "completed");
    // More than one page of events, and more than one piece of an answer.
    start(&engine, "load", "long", r#"{"what": "outputs-in-turn", "count": 400, "bytes": 20000}"#);
    start(&engine, "load", "chain", r#"{"what": "chain", "count": 2}"#);
    for id in ["long", "chain"] {
        assert_eq!(engine.wait_for_end(id)["status"], "completed", "{id}");
    }
    engine.kill_and_restart();
    let lines = |told: &Told| -> Vec<Value> {
        assert!(told.head.contains("content-type: application/x-ndjson"), "{}", told.head);
        assert!(!told.head.contains("content-length"), "it is written while it is read: {}", told.head);
        told.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    for id in ["told", "long"] {
        let name = format!("{id}-run-1-history.ndjson");
        let told = file(&engine, &format!("/executions/{id}/history.ndjson"), &name);
        assert!(lines(&told) == engine.history(id), "{id} is whole");
        let shown = page(&engine, &format!("/executions/{id}/history")).body;
        assert!(shown.contains(&format!("/executions/{id}/history.ndjson?run=1\"")), "{shown}");
    }
    let first = file(&engine, "/executions/chain/history.ndjson?run=1", "chain-run-1-history.ndjson");
    let first = lines(&first);
    assert_eq!(first.last().unwrap()["kind"], "ExecutionContinued", "{first:?}");
    let logs = file(&engine, "/executions/told/logs.ndjson", "told-logs.ndjson");
    let of_rest = get(&engine, "/v1/executions/told/logs");
    assert!(lines(&logs).len() == 2 && logs.body == of_rest.body, "{logs:?} {of_rest:?}");
    assert!(page(&engine, "/executions/told/logs").body.contains("/executions/told/logs.ndjson\""));
    assert_eq!(file(&engine, "/executions/long/logs.ndjson", "long-logs.ndjson").body, "");
    for (path, status) in [
        ("none/history.ndjson", 404),
        ("none/logs.ndjson", 404),
        ("chain/history.ndjson?run=9", 404),
        ("chain/history.ndjson?runs=1", 400),
    ] {
        let told = get(&engine, &format!("/executions/{path}"));
        assert!(told.status == status && told.body.contains("<h1>"), "{path}: {told:?}");
    }
}

fn a_start_has_a_deadline(database: Database) {
    let mut engine = Engine::start(database);
    upload(&engine);
    let form = page(&engine, "/start/guests/sleeper").body;
    assert!(form.contains("name=\"deadline\""), "{form}");
    let wish = |id: &str, deadline: &str, more: &[(&str, &str)]| {
        let fields = [("json", "86400000"), ("id", id), ("delay", ""), ("deadline", deadline)];
        send(&engine, "/start/guests/sleeper", &[], &[&fields, more].concat())
    };
    let refused = wish("s", "soon", &[]);
    assert!(refused.status == 422 && refused.body.contains("`soon` is not a duration"), "{refused:?}");
    assert!(refused.body.contains("name=\"deadline\" value=\"soon\""), "what was typed stays: {refused:?}");
    let shown = wish("s", "2d", &[("as", "commands")]).body;
    assert!(shown.contains("--deadline=2d") && shown.contains("&quot;deadline&quot;: &quot;2d&quot;"), "{shown}");
    assert_eq!(engine.json(&["list"]), json!([]), "nothing has been started");
    assert_eq!(led_to(&wish("s", " 300ms ", &[])), "/executions/s");
    led_to(&wish("unbounded", "", &[]));
    engine.kill_and_restart();
    assert_eq!(engine.wait_for_end("s")["failure"]["kind"], "deadline");
    assert_eq!(engine.status("unbounded")["ended_at"], Value::Null);
}

fn the_overview_counts_what_failed_lately_and_names_the_engines(database: Database) {
    let engine = Engine::start(database);
    upload(&engine);
    start(&engine, "sequence", "fine", r#"{"steps": 1}"#);
    assert_eq!(engine.wait_for_end("fine")["status"], "completed");
    let number = |shown: &str| {
        let (_, rest) = shown.split_once("Started in 24h and failed</dt>").unwrap_or_else(|| panic!("{shown}"));
        let link = "<dd><a href=\"/executions?status=failed&amp;since=24h\">";
        rest.trim_start().strip_prefix(link).unwrap().split_once('<').unwrap().0.to_owned()
    };
    assert_eq!(number(&page(&engine, "/").body), "0");
    // More than the overview lists.
    for failed in 0..11 {
        let id = format!("f{failed}");
        start(&engine, "hostile", &id, "\"fetch-in-workflow\"");
        assert_eq!(engine.wait_for_end(&id)["status"], "failed");
    }
    let shown = page(&engine, "/").body;
    assert_eq!(number(&shown), "11");
    let list = page(&engine, "/executions?status=failed&since=24h").body;
    assert!(list.contains("/executions/f0\"") && list.contains("/executions/f10\""), "{list}");
    // The one that failed first began two days ago.
    let two_days = 2 * 86_400_000_i64;
    let earlier = format!("update executions set started_at = started_at - {two_days} where id in ('f0', 'f1')");
    crate::sql(&engine, &earlier);
    assert_eq!(number(&page(&engine, "/").body), "9");
    let engines = engine.json(&["nodes"]);
    let name = engines[0]["name"].as_str().unwrap();
    assert!(shown.contains(">Engines</h2>") && shown.contains(name), "{name}: {shown}");
    // Those who may not see nodes do not see them here.
    let admin = crate::tenants::token(&engine, "", &["--role", "admin", "--name", "ada"]);
    engine.ok(&["tenant", "create", "other", "--token", &admin]);
    let token = crate::tenants::token(&engine, &admin, &["--role", "admin", "--name", "eve", "--tenant", "other"]);
    let wasm = test_engine::component("test-guests");
    engine.ok(&["upload", &wasm, "--name", "guests", "--token", &token]);
    engine.ok(&["start", "guests/sleeper", "--input", "86400000", "--id", "naps", "--token", &token]);
    let of_other = curl(&engine, ("GET", "/"), &["-H", &super::cookie(&engine, &token)], b"");
    assert!(of_other.body.contains("/executions/naps\"") && !of_other.body.contains(name), "{of_other:?}");
}
