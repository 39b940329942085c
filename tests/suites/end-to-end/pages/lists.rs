//! Lists of executions: chosen columns, several attributes, and all that match as a file.

use serde_json::{Value, json};
use test_engine::{Database, Engine, until};

use super::{page, upload};
use crate::rest::{Told, curl};

on_both_databases!(
    all_that_match_are_a_file_beyond_the_page,
    a_list_says_what_each_execution_waits_for_or_why_it_failed,
);

/// More than one reading of a list of all.
const EXECUTIONS: usize = 1_100;

fn file(engine: &Engine, path: &str) -> Told {
    let told = curl(engine, ("GET", path), &[], b"");
    assert!(told.status == 200 && told.head.contains("content-disposition: attachment; filename="), "{told:?}");
    told
}

fn all_that_match_are_a_file_beyond_the_page(database: Database) {
    let mut engine = Engine::start(database);
    upload(&engine);
    let starts: String = (0..EXECUTIONS)
        .map(|n| {
            let team = if n % 2 == 0 { "ops, eu" } else { "=1+1" };
            let attributes = json!({"team": team, "n": n});
            json!({"workflow": "guests/sequence", "id": format!("e{n}"), "input": {"steps": 0}, "attributes": attributes})
                .to_string()
                + "\n"
        })
        .collect();
    let started =
        curl(&engine, ("POST", "/v1/starts"), &["-H", "content-type: application/x-ndjson"], starts.as_bytes());
    assert_eq!((started.status, started.body.lines().count()), (200, EXECUTIONS), "{started:?}");
    engine.kill_and_restart();
    let rows = file(&engine, "/executions.csv?columns=team,n,none").body;
    let ids: std::collections::BTreeSet<_> = rows.lines().skip(1).map(|row| row.split("\",\"").nth(1)).collect();
    assert_eq!((rows.lines().count(), ids.len()), (EXECUTIONS + 1, EXECUTIONS));
    assert!(rows.starts_with(
        "\"status\",\"id\",\"workflow\",\"started\",\"ended\",\"run\",\"events\",\"parent\",\"waits_for\",\"until\",\"failure\",\"team\",\"n\",\"none\"\r\n"
    ));
    assert!(rows.contains(",\"ops, eu\",\"8\",\"\"\r\n") && rows.contains(",\"'=1+1\",\"9\",\"\"\r\n"), "{rows}");
    let lines = file(&engine, "/executions.ndjson?attribute=team%3D%3D1%2B1%20%26%20n%3D9").body;
    let found: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(found.len(), 1, "{lines}");
    assert_eq!((&found[0]["execution_id"], &found[0]["attributes"]["n"]), (&json!("e9"), &json!(9)));
    let shown = page(&engine, "/executions?attribute=team%3Dops%2C+eu+%26+n%3D8&columns=n%2C+team").body;
    assert!(shown.contains("<th scope=\"col\">team</th>") && shown.contains("<td>ops, eu</td>"), "{shown}");
    assert!(!shown.contains("/executions/e6\"") && shown.contains("executions.csv?attribute=team%3Dops"), "{shown}");
    let wrong = curl(&engine, ("GET", "/executions.csv?attribute=team%3Dops%20%26%20n"), &[], b"");
    assert!(wrong.status == 400 && wrong.body.contains("several as a=1 &amp; b=2"), "{wrong:?}");
    let one = file(&engine, "/executions.csv?id=e7&columns=n&status=failed").body;
    assert!(one.lines().count() == 2 && one.contains("\"e7\"") && one.ends_with(",\"7\"\r\n"), "{one}");
    assert_eq!(file(&engine, "/executions.ndjson?id=e7").body.lines().count(), 1);
    for (path, status, why) in [
        ("/executions.csv?id=none", 404, "none"),
        ("/bulk-form?id=e7", 400, "open the execution `e7` to act on it alone"),
        ("/executions?attribute=n%3D1+%26+n%3D2", 400, "the attribute `n` is there twice"),
        ("/executions?status=failed&status=completed", 400, "the field `status` is in the query twice"),
        ("/executions.csv?stat=failed", 400, "this page has no field `stat`: it takes `status`, "),
        ("/executions/e7/history?after=x", 400, "the field `after` of the query cannot be `x`"),
    ] {
        let told = curl(&engine, ("GET", path), &[], b"");
        assert!(told.status == status && told.body.contains(why), "{path}: {told:?}");
    }
}

fn a_list_says_what_each_execution_waits_for_or_why_it_failed(database: Database) {
    let mut engine = Engine::start(database);
    upload(&engine);
    let start = |id: &str, workflow: &str, input: Value, more: &[&str]| {
        let (workflow, input) = (format!("guests/{workflow}"), input.to_string());
        engine.ok(&[&["start", &workflow, "--input", &input, "--id", id], more].concat());
    };
    start("asks", "asking", json!({"title": "Go <b>?", "timeout_ms": 86_400_000}), &[]);
    start("hears", "listening", json!({"names": ["paid"]}), &[]);
    start("naps", "sleeper", json!(7_200_000), &[]);
    start("later", "sequence", json!({"steps": 1}), &["--delay", "3d"]);
    start("done", "sequence", json!({"steps": 1}), &[]);
    assert_eq!(engine.wait_for_end("done")["status"], "completed");
    let listed = |engine: &Engine| {
        let listed = engine.json(&["list"]);
        let all = listed.as_array().unwrap().iter();
        let wait = |one: &Value| (one["execution_id"].as_str().unwrap().to_owned(), one["waits_for"].clone());
        all.map(wait).collect::<std::collections::BTreeMap<_, _>>()
    };
    let all_wait = |engine: &Engine| {
        until("all wait", || {
            let all = listed(engine);
            all.iter().all(|(id, wait)| id == "done" || !wait.is_null()).then_some(all)
        })
    };
    all_wait(&engine);
    engine.kill_and_restart();
    let all = all_wait(&engine);
    for (id, kind, name) in
        [("asks", "approval", "Go <b>?"), ("hears", "signal", "paid"), ("naps", "sleep", ""), ("later", "delay", "")]
    {
        assert_eq!((&all[id]["kind"], &all[id]["name"]), (&json!(kind), &json!(name)), "{all:?}");
        assert_eq!(all[id]["until"].is_null(), id == "hears", "{all:?}");
    }
    assert_eq!(all["done"], Value::Null, "{all:?}");
    let of_page = engine.json(&["status", "asks"])["waiting_on"][0].clone();
    assert_eq!(all["asks"]["until"], of_page["until"], "the list and the page name one moment");
    let shown = page(&engine, "/executions").body;
    for words in ["approval “Go &lt;b&gt;?”, ends <time", "signal `paid`", "sleep, ends <time", "its start <time"] {
        assert!(shown.contains(words), "{words} in {shown}");
    }
    let told = engine.ok(&["list"]);
    assert!(told.contains("WHY") && told.contains("approval “Go <b>?”, ends in 23h"), "{told}");
    let rows = file(&engine, "/executions.csv?columns=x").body;
    assert!(rows.contains("\"approval “Go <b>?”\",\"20"), "{rows}");
    engine.ok(&["pause", "hears"]);
    until("what is held waits for nobody", || listed(&engine)["hears"].is_null().then_some(()));
    engine.ok(&["resume", "hears"]);
    until("it waits again", || (!listed(&engine)["hears"].is_null()).then_some(()));
    engine.ok(&["signal", "hears", "paid", "--data", "7"]);
    assert_eq!(engine.wait_for_end("hears")["status"], "completed");
    assert!(listed(&engine)["hears"].is_null());
    let reason = "n".repeat(1_000);
    engine.ok(&["reject", "asks", "--reason", &reason]);
    let whole = engine.wait_for_end("asks")["failure"]["message"].as_str().unwrap().to_owned();
    assert!(whole.contains(&reason), "{whole}");
    engine.kill_and_restart();
    let failed = &engine.json(&["list", "--status", "failed"])[0];
    let short = failed["failure"]["message"].as_str().unwrap();
    assert!(failed["failure"]["kind"] == "rejected" && short.ends_with("nn…") && short.len() < 210, "{failed}");
    let said = format!("rejected: {}", &short[..20]);
    for told in [
        page(&engine, "/executions?status=failed").body,
        page(&engine, "/").body,
        engine.ok(&["list"]),
        file(&engine, "/executions.csv?columns=x").body,
    ] {
        assert!(told.contains(&said), "{told}");
    }
}
