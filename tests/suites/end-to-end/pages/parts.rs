//! Parts of a whole: a stretch of a timeline, questions of one title, a start as a command for a shell.

use std::process::Command;

use serde_json::{Value, json};
use test_engine::{Cloud, Database, Engine, program, until};

use super::{page, send, upload};
use crate::rest::curl;

on_both_databases!(
    a_part_of_a_timeline_is_finer_than_the_whole,
    questions_of_one_title_stand_together,
    a_start_is_shown_as_commands_that_start_it,
    a_search_in_a_history_goes_on_in_another_run,
);

fn a_part_of_a_timeline_is_finer_than_the_whole(database: Database) {
    let (engine, cloud) = (Engine::start(database), Cloud::start());
    upload(&engine);
    // The sleeps keep the calls apart, however fast the machine is.
    let input = json!({"base_url": cloud.url(), "sleep_ms": 5, "naps": 60}).to_string();
    engine.ok(&["start", "guests/naps", "--input", &input, "--id", "long"]);
    assert_eq!(engine.wait_for_end("long")["status"], "completed");
    let whole = page(&engine, "/executions/long/timeline").body;
    assert!(whole.contains("calls within") && !whole.contains("Whole timeline"), "{whole}");
    let (mut path, mut shown) = (String::new(), whole);
    // Each half of the picture holds about half of the calls.
    for turn in 0..20 {
        if !shown.contains("calls within") {
            break;
        }
        path = link(&shown, if turn % 2 == 0 { "First half" } else { "Middle" });
        shown = page(&engine, &path).body;
        assert!(shown.contains(">60<") || shown.contains(">60 "), "all calls are counted: {shown}");
    }
    assert!(!shown.contains("calls within") && shown.contains("class=\"bar good"), "{path}: {shown}");
    let even = page(&engine, &link(&shown, "Show time evenly")).body;
    assert!(even.contains("Fold what is idle") && even.contains("Whole timeline"), "the part stays: {even}");
    let back = page(&engine, &link(&shown, "Whole timeline")).body;
    assert!(back.contains("calls within"), "{back}");
    // A part before it began.
    let nothing = page(&engine, "/executions/long/timeline?until=2020-01-01T00:00:00Z").body;
    assert!(nothing.contains("No call was open then"), "{nothing}");
    let even = page(&engine, &link(&nothing, "Show time evenly")).body;
    assert!(even.contains("No call was open then"), "{even}");
    assert!(page(&engine, "/executions/long/timeline?from=2020-01-01T00:00:00Z").body.contains("calls within"));
    let (backwards, wrong) = ("from=1h&until=2h", "from=noon");
    for (query, says) in [(backwards, "ends after it begins"), (wrong, "is no moment: write 2h")] {
        let told = curl(&engine, ("GET", &format!("/executions/long/timeline?{query}")), &[], b"");
        assert!(told.status == 400 && told.body.contains(says), "{query}: {told:?}");
    }
}

/// The address behind a word.
fn link(shown: &str, word: &str) -> String {
    let before = shown.split_once(&format!(">{word}</a>")).unwrap_or_else(|| panic!("{word}: {shown}")).0;
    unescaped(before.rsplit_once("href=\"").unwrap().1.split_once('"').unwrap().0)
}

fn unescaped(html: &str) -> String {
    html.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

fn questions_of_one_title_stand_together(database: Database) {
    let engine = Engine::start(database);
    upload(&engine);
    for (id, title) in [("a", "Ship <it>?"), ("b", "Refund?"), ("c", "Ship <it>?")] {
        let input = json!({ "title": title }).to_string();
        engine.ok(&["start", "guests/asking", "--input", &input, "--id", id]);
        until("it asks", || page(&engine, "/approvals").body.contains(&format!("/executions/{id}\"")).then_some(()));
    }
    let shown = page(&engine, "/approvals").body;
    assert!(shown.contains("Ship &lt;it&gt;? × 2") && shown.contains("Refund? × 1"), "{shown}");
    let place = |id: &str| shown.find(&format!("id=\"q-{id}@2\"")).unwrap_or_else(|| panic!("{id}: {shown}"));
    assert!(place("c") < place("a") && place("a") < place("b"), "the newest first, and its like below it: {shown}");
    engine.ok(&["approve", "b"]);
    engine.ok(&["reject", "c@2", "--reason", "no"]);
    for (word, id) in [("approved", "b"), ("rejected", "c")] {
        let answers = page(&engine, &link(&shown, word)).body;
        assert!(answers.contains(&format!("<a href=\"/executions/{id}\">{id}@2</a>")), "{answers}");
    }
}

fn a_start_is_shown_as_commands_that_start_it(database: Database) {
    let engine = Engine::start(database);
    upload(&engine);
    let title = "it's $(touch here) `touch here` \"now\" \\ ? <b> \u{2764}\u{fe0f}";
    let input = json!({"title": title, "timeout_ms": 12_345_678_901_i64}).to_string();
    let fields = [("json", &*input), ("attributes", "team=o'ps\u{fe0f} & n=7"), ("as", "commands")];
    let told = send(&engine, "/start/guests/asking", &[], &fields);
    assert_eq!(told.status, 200, "{told:?}");
    assert!(told.body.contains("Nothing has been started") && !told.body.contains("<b>"), "{told:?}");
    assert_eq!(engine.json(&["list"]), json!([]), "nothing has been started");
    let commands: Vec<String> = told
        .body
        .split("<pre class=\"value command\" tabindex=\"0\">")
        .skip(1)
        .take(2)
        .map(|rest| unescaped(rest.split_once("</pre>").unwrap().0))
        .collect();
    assert!(commands[0].starts_with("cerebelum start ") && commands[1].starts_with("curl "), "{commands:?}");
    for command in &commands {
        let folder = program("cerebelum").parent().unwrap().to_owned();
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).env("CEREBELUM_URL", engine.url());
        shell.env("PATH", format!("{}:{}", folder.display(), std::env::var("PATH").unwrap()));
        let done = shell.output().unwrap();
        assert!(done.status.success(), "{command}: {done:?}");
    }
    let started = engine.json(&["list"]);
    let started: Vec<&Value> = started.as_array().unwrap().iter().collect();
    assert_eq!(started.len(), 2, "{started:?}");
    for one in started {
        let id = one["execution_id"].as_str().unwrap();
        let status = engine.json(&["status", id]);
        assert_eq!(status["input"]["title"], title, "{status}");
        assert_eq!(status["input"]["timeout_ms"].to_string(), "12345678901");
        assert_eq!((&one["attributes"]["team"], &one["attributes"]["n"]), (&json!("o'ps\u{fe0f}"), &json!(7)), "{one}");
        let shown = page(&engine, &format!("/executions/{id}")).body;
        assert!(shown.contains(&format!("cerebelum watch -- {id}")), "{shown}");
    }
    let field = told.body.split_once("name=\"json:timeout_ms\"").and_then(|(_, rest)| rest.split_once('>'));
    assert!(field.is_some_and(|(field, _)| field.contains("12345678901")), "what was typed stays: {told:?}");
    let long = json!({"title": "x".repeat(20_000)}).to_string();
    let told = send(&engine, "/start/guests/asking", &[], &[("json", &long), ("as", "commands")]);
    assert!(told.body.contains("--input=@input.json") && !told.body.contains("curl --fail"), "{told:?}");
    let told = send(&engine, "/start/guests/asking", &[], &[("json", "{\"title\": }"), ("as", "commands")]);
    assert!(told.status == 422 && told.body.contains("role=\"alert\""), "{told:?}");
}

fn a_search_in_a_history_goes_on_in_another_run(database: Database) {
    let engine = Engine::start(database);
    upload(&engine);
    engine.ok(&["start", "guests/load", "--input", r#"{"what": "chain", "count": 2}"#, "--id", "chain"]);
    assert_eq!(engine.wait_for_end("chain")["status"], "completed");
    let shown = page(&engine, "/executions/chain/history?kind=Started&text=%22a%22").body;
    let earlier = link(&shown, "Earlier run");
    assert!(earlier.contains("kind=Started") && earlier.contains("text=%22a%22"), "{earlier}");
    assert!(page(&engine, &earlier).body.contains("value=\"Started\""));
}
