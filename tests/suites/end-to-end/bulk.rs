//! Bulk jobs: each execution is acted on once, whatever kills the engine, and only what was meant is touched.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use test_engine::{Database, Engine, component, until};

use crate::rest::curl;
use crate::tenants::token;

on_both_databases!(
    a_job_goes_on_after_kills_and_acts_once_on_each_execution,
    what_was_not_meant_is_refused,
    signals_resumes_and_deletions_reach_all_that_match,
    a_stopped_job_leaves_the_rest_alone,
    one_tenant_has_no_part_in_the_jobs_of_another,
);

#[test]
fn another_engine_goes_on_with_the_job_of_a_killed_one() {
    let mut one = Engine::start_with(Database::Postgres, &[("LEASE", "3s")]);
    upload(&one, "");
    start_many(&one, "", &sleepers("a", 500, &json!({})));
    all_sleep(&one, 500);
    let two = Engine::beside(&one);
    let nodes = two.json(&["nodes"]);
    let answers: Vec<bool> = nodes.as_array().unwrap().iter().map(|node| node["is_this"] == true).collect();
    assert!(answers.len() == 2 && answers.contains(&true) && answers.contains(&false), "{nodes}");
    one.ok(&["bulk", "cancel", "--all", "--at-most", "500", "--id", "j"]);
    let done = |engine: &Engine| engine.json(&["bulk", "show", "j"])["done"].as_u64().unwrap();
    until("it is under way", || (done(&one) > 0).then_some(()));
    one.kill();
    assert!(done(&two) < 500, "the kill must come in the middle");
    let job = ended(&two, "j");
    assert_eq!((&job["state"], &job["done"], &job["refused"]), (&json!("done"), &json!(500), &json!(0)), "{job}");
    until("all are cancelled", || (count(&two, "status=cancelled") == 500).then_some(()));
    let said = two.ok(&["audit", "--json", "--operation", "Cancel", "--all"]);
    assert_eq!(serde_json::from_str::<Vec<Value>>(&said).unwrap().len(), 500);
}

const DAY: &str = "86400000";

fn start_many(engine: &Engine, token: &str, wishes: &[Value]) {
    let bearer = format!("authorization: Bearer {token}");
    let mut headers = vec!["-H", "content-type: application/x-ndjson"];
    if !token.is_empty() {
        headers.extend(["-H", bearer.as_str()]);
    }
    let lines: String = wishes.iter().map(|wish| format!("{wish}\n")).collect();
    let told = curl(engine, ("POST", "/v1/starts"), &headers, lines.as_bytes());
    assert_eq!(told.body.matches("execution_id").count(), wishes.len(), "{told:?}");
}

fn sleepers(prefix: &str, count: usize, attributes: &Value) -> Vec<Value> {
    let sleeper = |n| json!({"workflow": "guests/sleeper", "input": 86_400_000, "id": format!("{prefix}{n}"), "attributes": attributes});
    (0..count).map(sleeper).collect()
}

fn upload(engine: &Engine, token: &str) {
    let line = ["upload", &component("test-guests"), "--name", "guests"];
    engine.ok(&with(token, &line));
}

fn with<'a>(token: &'a str, line: &[&'a str]) -> Vec<&'a str> {
    if token.is_empty() { line.to_vec() } else { [line, &["--token", token]].concat() }
}

/// How many executions have this status, and attributes if any are named.
fn count(engine: &Engine, query: &str) -> u64 {
    curl(engine, ("GET", &format!("/v1/count?{query}")), &[], b"").json()["executions"].as_u64().unwrap()
}

fn all_sleep(engine: &Engine, executions: u64) {
    until("they sleep", || (count(engine, "status=sleeping") == executions).then_some(()));
}

/// A job when it has ended.
fn ended(engine: &Engine, id: &str) -> Value {
    until("the job has ended", || {
        let job = engine.json(&["bulk", "show", id]);
        (job["state"] != "running").then_some(job)
    })
}

fn a_job_goes_on_after_kills_and_acts_once_on_each_execution(database: Database) {
    const MEANT: u64 = 600;
    let mut engine = Engine::start(database);
    upload(&engine, "");
    start_many(&engine, "", &sleepers("a", 600, &json!({"batch": 7})));
    start_many(&engine, "", &sleepers("b", 20, &json!({"batch": 8})));
    all_sleep(&engine, 620);
    let line = ["bulk", "cancel", "--attr", "batch=7", "--at-most", "600", "--id", "job-1"];
    assert_eq!(engine.ok(&line).trim(), "job-1");
    // What begins now is not meant.
    start_many(&engine, "", &sleepers("later", 20, &json!({"batch": 7})));
    let done = |engine: &Engine| engine.json(&["bulk", "show", "job-1"])["done"].as_u64().unwrap();
    for least in [1, 200, 400] {
        until("it is under way", || (done(&engine) >= least).then_some(()));
        assert!(done(&engine) < MEANT, "the kill must come in the middle");
        engine.kill_and_restart();
    }
    // The client did not hear of the first answer and asks again.
    engine.ok(&line);
    let job = ended(&engine, "job-1");
    assert_eq!((&job["state"], &job["done"], &job["refused"]), (&json!("done"), &json!(MEANT), &json!(0)), "{job}");
    until("all that were meant are cancelled", || (count(&engine, "status=cancelled") == MEANT).then_some(()));
    assert_eq!((count(&engine, "status=sleeping&attr.batch=8"), count(&engine, "status=sleeping")), (20, 40));
    let mut acts: BTreeMap<String, u64> = BTreeMap::new();
    let said = engine.ok(&["audit", "--json", "--operation", "Cancel", "--all"]);
    for act in serde_json::from_str::<Vec<Value>>(&said).unwrap() {
        assert_eq!(act["outcome"], "asked by bulk job job-1");
        *acts.entry(act["object"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert!(acts.values().all(|times| *times == 1) && acts.keys().all(|id| id.starts_with('a')), "{acts:?}");
    assert_eq!(acts.len() as u64, MEANT);
    assert_eq!(engine.json(&["audit", "--operation", "StartBulk"]).as_array().unwrap().len(), 1);
    // A message of the job is delivered once.
    assert_eq!(engine.count("a0", "CancelRequested"), 1);
}

fn what_was_not_meant_is_refused(database: Database) {
    let engine = Engine::start(database);
    upload(&engine, "");
    start_many(&engine, "", &sleepers("a", 101, &json!({"team": "ops"})));
    all_sleep(&engine, 101);
    assert_eq!(engine.ok(&["bulk", "cancel", "--attr", "team=ops", "--dry-run"]).trim(), "101 executions match");
    let refused = |line: &[&str], code: i32, words: &str| {
        let said = engine.cli(line);
        assert!(said.code == code && said.err.contains(words), "{line:?}: {said:?}");
    };
    refused(&["bulk", "cancel"], 2, "--all");
    refused(&["bulk", "cancel", "--all"], 5, "101 executions match");
    refused(&["bulk", "cancel", "--all", "--at-most", "100"], 5, "at most 100");
    refused(&["bulk", "cancel", "--attr", "team=ops", "--attr", "team=x"], 2, "twice");
    refused(&["bulk", "cancel", "--workflow", "guests/none"], 5, "no execution matches");
    refused(&["bulk", "show", "none"], 3, "no bulk job `none`");
    refused(&["bulk", "stop", "none"], 3, "no bulk job `none`");
    let wish = |body: Value| {
        let typed = ["-H", "content-type: application/json"];
        let told = curl(&engine, ("POST", "/v1/bulk"), &typed, body.to_string().as_bytes());
        (told.status, told.body)
    };
    for (body, words) in [
        (json!({"operation": "explode", "filter": {}}), "there is no operation `explode`"),
        (json!({"operation": "signal", "filter": {}}), "needs a signal"),
        (json!({"operation": "cancel", "filter": {}, "signal": {"name": "s"}}), "takes no signal"),
        (json!({"operation": "cancel", "filter": {}, "force": true}), "cannot be forced"),
        (json!({"operation": "cancel", "filter": {"status": "tired"}}), "a status is one of"),
        (json!({"operation": "cancel", "filter": {}, "id": "a b"}), "bulk job"),
        (json!({"operation": "cancel"}), "filter"),
        (json!({"operation": "unknown", "filter": {}}), "there is no operation"),
        (json!({"operation": "signal", "filter": {}, "signal": {"name": "s", "data": "x".repeat(17 << 10)}}), "16 KiB"),
    ] {
        let (status, told) = wish(body.clone());
        assert!(status == 400 && told.contains(words), "{body}: {status} {told}");
    }
    let twice = br#"{"operation": "cancel", "filter": {"attributes": {"n": 1, "n": 2}}}"#;
    let told = curl(&engine, ("POST", "/v1/bulk"), &["-H", "content-type: application/json"], twice);
    assert!(told.status == 400 && told.body.contains("`n` is there twice"), "{told:?}");
    assert_eq!(engine.json(&["bulk", "list"]), json!([]));
    assert_eq!(count(&engine, "status=sleeping"), 101);
    engine.ok(&["bulk", "pause", "--all", "--at-most", "101", "--id", "p"]);
    refused(&["bulk", "cancel", "--all", "--at-most", "101", "--id", "p"], 5, "does something else");
}

fn signals_resumes_and_deletions_reach_all_that_match(database: Database) {
    let engine = Engine::start(database);
    upload(&engine, "");
    start_many(&engine, "", &sleepers("a", 12, &json!({"n": 1})));
    all_sleep(&engine, 12);
    engine.ok(&["signal", "a3", "first"]);
    engine.ok(&["bulk", "pause", "--workflow", "sleeper", "--id", "pause"]);
    ended(&engine, "pause");
    until("all are paused", || (count(&engine, "status=paused") == 12).then_some(()));
    engine.ok(&["bulk", "signal", "news", "--data", "{\"a\":1}", "--attr", "n=1", "--id", "signal"]);
    assert_eq!(ended(&engine, "signal")["signal"], json!({"name": "news", "data": {"a": 1}}));
    // They have not ended: each of them is a refusal with its reason.
    engine.ok(&["bulk", "delete", "--all", "--id", "early"]);
    let job = ended(&engine, "early");
    assert_eq!((&job["done"], &job["refused"]), (&json!(0), &json!(12)), "{job}");
    let reasons = job["refusals"].as_array().unwrap();
    assert!(reasons.len() == 12 && reasons[0]["reason"].as_str().unwrap().contains("has not ended"), "{job}");
    let shown = engine.ok(&["bulk", "show", "early"]);
    assert!(shown.contains("0 done, 12 refused, 0 left") && shown.contains("`a11` has not ended"), "{shown}");
    engine.ok(&["bulk", "resume", "--status", "paused", "--id", "resume"]);
    ended(&engine, "resume");
    all_sleep(&engine, 12);
    engine.ok(&["bulk", "terminate", "--all", "--id", "end"]);
    until("all have ended", || (count(&engine, "status=cancelled") == 12).then_some(()));
    engine.ok(&["bulk", "delete", "--status", "cancelled", "--id", "delete"]);
    assert_eq!(ended(&engine, "delete")["done"], 12);
    assert_eq!(count(&engine, ""), 0);
    let listed = engine.ok(&["bulk", "list"]);
    assert!(listed.contains("signal news") && listed.contains("n=1") && listed.lines().count() == 7, "{listed}");
}

fn a_stopped_job_leaves_the_rest_alone(database: Database) {
    let engine = Engine::start(database);
    upload(&engine, "");
    start_many(&engine, "", &sleepers("a", 500, &json!({})));
    all_sleep(&engine, 500);
    engine.ok(&["bulk", "cancel", "--all", "--at-most", "500", "--id", "j"]);
    engine.ok(&["bulk", "stop", "j"]);
    let job = engine.json(&["bulk", "show", "j"]);
    assert_eq!(job["state"], "stopped", "{job}");
    let done = job["done"].as_u64().unwrap();
    assert!(done < 500, "{job}");
    until("what was asked has ended", || (count(&engine, "status=cancelled") == done).then_some(()));
    assert_eq!(count(&engine, "status=sleeping"), 500 - done);
    assert_eq!(engine.json(&["bulk", "show", "j"])["done"], done);
    let again = engine.cli(&["bulk", "stop", "j"]);
    assert!(again.code == 5 && again.err.contains("it is stopped"), "{again:?}");
}

fn one_tenant_has_no_part_in_the_jobs_of_another(database: Database) {
    let engine = Engine::start(database);
    let admin = token(&engine, "", &["--role", "admin", "--name", "ada"]);
    engine.ok(&with(&admin, &["tenant", "create", "acme"]));
    let acme = token(&engine, &admin, &["--role", "admin", "--name", "bob", "--tenant", "acme"]);
    let developer = token(&engine, &acme, &["--role", "developer", "--name", "eve"]);
    for owner in [&admin, &acme] {
        upload(&engine, owner);
        engine.ok(&with(owner, &["start", "guests/sleeper", "--id", "s", "--input", DAY]));
    }
    let sleeps = |owner: &str| engine.ok(&with(owner, &["status", "s"])).contains("sleeping");
    until("both sleep", || (sleeps(&admin) && sleeps(&acme)).then_some(()));
    engine.ok(&with(&developer, &["bulk", "cancel", "--all", "--id", "j"]));
    until("theirs is cancelled", || engine.ok(&with(&acme, &["status", "s"])).contains("cancelled").then_some(()));
    assert!(sleeps(&admin), "the other tenant's execution of the same name sleeps on");
    for line in [&["bulk", "show", "j"][..], &["bulk", "stop", "j"]] {
        let said = engine.cli(&with(&admin, line));
        assert!(said.code == 3, "{said:?}");
    }
    assert_eq!(engine.ok(&with(&admin, &["bulk", "list", "--json"])).trim(), "[]");
    // Deleting is for other roles, also in bulk.
    let refused = engine.cli(&with(&developer, &["bulk", "delete", "--all"]));
    assert!(refused.code == 5 && refused.err.contains("role"), "{refused:?}");
    let acts = engine.ok(&with(&acme, &["audit", "--json", "--operation", "Cancel"]));
    assert_eq!(serde_json::from_str::<Value>(&acts).unwrap()[0]["caller"], "eve");
}
