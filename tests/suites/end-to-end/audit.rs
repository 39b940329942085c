//! The audit: each acknowledged act stands in it once, whatever kills the engine, and only admins of the tenant read it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use test_engine::{Database, Engine, component, until, within};

use crate::rest::curl;
use crate::tenants::token;

on_both_databases!(
    each_act_of_a_client_is_noted_with_who_and_where_from,
    starts_and_their_acts_survive_a_kill_together,
    admins_read_the_audit_of_their_tenant_only,
    old_acts_are_forgotten,
);

const QUESTION: &str = r#"{"title":"Go?","timeout_ms":60000}"#;

fn audit(engine: &Engine, token: &str, more: &[&str]) -> Vec<Value> {
    let said = engine.ok(&[&["audit", "--json", "--token", token][..], more].concat());
    serde_json::from_str(&said).unwrap()
}

fn each_act_of_a_client_is_noted_with_who_and_where_from(database: Database) {
    let mut engine = Engine::start(database);
    let admin = token(&engine, "", &["--role", "admin", "--name", "ada"]);
    let ok = |engine: &Engine, line: &[&str]| engine.ok(&[line, &["--token", &admin]].concat());
    ok(&engine, &["upload", &component("test-guests"), "--name", "guests"]);
    ok(&engine, &["start", "guests/sleeper", "--id", "s", "--input", "86400000"]);
    ok(&engine, &["start", "guests/sleeper", "--id", "s", "--input", "86400000"]);
    ok(&engine, &["start", "guests/asking", "--id", "q", "--input", QUESTION]);
    ok(&engine, &["pause", "s"]);
    until("it is paused", || ok(&engine, &["status", "s"]).contains("paused").then_some(()));
    ok(&engine, &["resume", "s"]);
    ok(&engine, &["cancel", "s"]);
    ok(&engine, &["signal", "q", "hello", "--data", "1"]);
    engine.kill_and_restart();
    until("a question is there", || (ok(&engine, &["approvals", "--json"]) != "[]").then_some(()));
    ok(&engine, &["approve", "q"]);
    until("it has ended", || (engine.cli(&["delete", "s", "--token", &admin]).code == 0).then_some(()));
    // What was refused was not done.
    assert_eq!(engine.cli(&["approve", "q", "--token", &admin]).code, 5);
    assert_eq!(engine.cli(&["cancel", "absent", "--token", &admin]).code, 3);
    ok(&engine, &["tenant", "create", "acme"]);
    ok(&engine, &["tenant", "set-quota", "acme", "components=7", "open-executions=default"]);
    ok(&engine, &["components", "remove", "guests"]);
    engine.kill_and_restart();
    let mut acts = audit(&engine, &admin, &[]);
    let first = acts.pop().unwrap();
    assert_eq!((&first["operation"], &first["caller"]), (&json!("CreateToken"), &Value::Null), "there was no name yet");
    let told: Vec<String> = acts
        .iter()
        .rev()
        .map(|act| {
            assert_eq!((&act["caller"], &act["address"]), (&json!("ada"), &json!("127.0.0.1")), "{act}");
            format!("{} {}", act["operation"].as_str().unwrap(), act["object"].as_str().unwrap())
        })
        .collect();
    let question = told.iter().find_map(|line| line.strip_prefix("Approve ")).expect("an answer").to_owned();
    let all = [
        "Upload guests",
        "Start s",
        "Start q",
        "Pause s",
        "Resume s",
        "Cancel s",
        "Signal q",
        &format!("Approve {question}"),
        "Delete s",
        "CreateTenant acme",
        "SetQuotas acme",
        "RemoveComponent guests",
    ];
    assert_eq!(told, all, "{acts:#?}");
    let outcome = |operation: &str| audit(&engine, &admin, &["--operation", operation])[0]["outcome"].clone();
    assert_eq!(outcome("Start"), "guests/asking");
    assert_eq!(outcome("SetQuotas"), "components=7 open-executions=default");
    assert_eq!(outcome("Approve"), "q");
    assert_eq!(audit(&engine, &admin, &["--object", "s", "--caller", "ada", "--since", "1h"]).len(), 5);
    assert_eq!(audit(&engine, &admin, &["--caller", "bob"]).len(), 0);
    let shown = ok(&engine, &["audit", "--limit", "2"]);
    assert!(shown.contains("RemoveComponent") && !shown.contains("CreateTenant"), "{shown}");
}

/// Clients start executions while the engine is killed again and again. Each acknowledged start has its act, and each act
/// its execution.
fn starts_and_their_acts_survive_a_kill_together(database: Database) {
    const ROUNDS: usize = 4;
    let mut engine = Engine::start(database);
    let admin = token(&engine, "", &["--role", "admin", "--name", "ada"]);
    engine.ok(&["upload", &component("test-guests"), "--name", "guests", "--token", &admin]);
    let bearer = format!("authorization: Bearer {admin}");
    let headers = ["-H", bearer.as_str(), "-H", "content-type: application/x-ndjson"];
    let mut acknowledged = BTreeSet::new();
    for _ in 0..ROUNDS {
        let told = curl(&engine, ("POST", "/v1/starts"), &headers, starts(200).as_bytes());
        assert_eq!(told.status, 200, "{told:?}");
        acknowledged.extend(told.body.lines().map(|line| {
            let started: Value = serde_json::from_str(line).unwrap();
            started["execution_id"].as_str().unwrap_or_else(|| panic!("{line}")).to_owned()
        }));
        let (url, bearer) = (format!("{}/v1/starts", engine.url()), bearer.clone());
        let interrupted = std::thread::spawn(move || start_without_answer(&url, &bearer));
        until("some of them are started", || {
            let newest = audit(&engine, &admin, &["--operation", "Start", "--limit", "1"]);
            (!acknowledged.contains(newest[0]["object"].as_str().unwrap())).then_some(())
        });
        engine.kill_and_restart();
        interrupted.join().unwrap();
    }
    let mut noted: BTreeMap<String, usize> = BTreeMap::new();
    for act in audit(&engine, &admin, &["--operation", "Start", "--all"]) {
        *noted.entry(act["object"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert!(noted.values().all(|times| *times == 1), "an act is there twice");
    assert!(acknowledged.iter().all(|id| noted.contains_key(id)), "an acknowledged start has no act");
    let said = engine.ok(&["list", "--all", "--json", "--token", &admin]);
    let there: Vec<Value> = serde_json::from_str(&said).unwrap();
    let mut there: Vec<&str> = there.iter().map(|one| one["execution_id"].as_str().unwrap()).collect();
    there.sort_unstable();
    assert_eq!(noted.keys().map(String::as_str).collect::<Vec<_>>(), there);
    assert!(there.len() > acknowledged.len(), "no kill came in the middle of starts");
}

fn starts(count: usize) -> String {
    format!("{}\n", json!({"workflow": "guests/sleeper", "input": 86_400_000})).repeat(count)
}

/// Sends many starts to an engine that is killed meanwhile.
fn start_without_answer(url: &str, bearer: &str) {
    let mut command = Command::new("curl");
    command.args(["-s", "--max-time", "60", "-H", bearer, "-H", "content-type: application/x-ndjson", url]);
    let mut child = command.args(["--data-binary", "@-"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    // The engine may be gone before all of it is sent.
    let _ = child.stdin.take().unwrap().write_all(starts(20_000).as_bytes());
    child.wait().unwrap();
}

fn admins_read_the_audit_of_their_tenant_only(database: Database) {
    let engine = Engine::start(database);
    let admin = token(&engine, "", &["--role", "admin", "--name", "ada"]);
    engine.ok(&["tenant", "create", "acme", "--token", &admin]);
    let acme = token(&engine, &admin, &["--role", "admin", "--name", "bob", "--tenant", "acme"]);
    let viewer = token(&engine, &acme, &["--role", "viewer", "--name", "eve"]);
    let refused = engine.cli(&["audit", "--token", &viewer]);
    assert!(refused.code == 5 && refused.err.contains("role admin"), "{refused:?}");
    let refused = engine.cli(&["audit", "--tenant", "default", "--token", &acme]);
    assert!(refused.code == 5 && refused.err.contains("tenant `default`"), "{refused:?}");
    until("both refusals are logged", || {
        assert_eq!(engine.cli(&["audit", "--tenant", "default", "--token", &acme]).code, 5);
        let log = engine.log();
        (log.contains("role viewer") && log.contains("concerns%20the%20whole")).then_some(())
    });
    // What an admin of `default` does to a tenant, the tenant's admin sees.
    let theirs = audit(&engine, &acme, &[]);
    let told: Vec<_> = theirs.iter().map(|act| (act["caller"].clone(), act["outcome"].clone())).collect();
    assert_eq!(told, [(json!("bob"), json!("viewer eve")), (json!("ada"), json!("admin bob"))]);
    assert_eq!(audit(&engine, &admin, &["--tenant", "acme"]), theirs);
    let own = audit(&engine, &admin, &[]);
    assert!(own.iter().all(|act| act["outcome"] != "viewer eve"), "{own:?}");
    let bearer = format!("authorization: Bearer {acme}");
    let told = curl(&engine, ("GET", "/v1/audit?operation=CreateToken&last=1h&limit=1"), &["-H", &bearer], b"").json();
    assert_eq!(told["acts"], json!([theirs[0]]));
    assert!(told["next"].is_string(), "{told}");
    let next = format!("/v1/audit?cursor={}", told["next"].as_str().unwrap());
    let told = curl(&engine, ("GET", &next), &["-H", &bearer], b"").json();
    assert_eq!(told, json!({"acts": [theirs[1]], "next": null}));
    let wrong = curl(&engine, ("GET", "/v1/audit?cursor=zz"), &["-H", &bearer], b"");
    assert_eq!(wrong.problem().0, 400);
}

fn old_acts_are_forgotten(database: Database) {
    let engine = Engine::start_with(database, &[("KEEP_AUDIT", "2s")]);
    engine.upload("test-guests");
    assert_eq!(engine.json(&["audit"])[0]["operation"], "Upload");
    within(Duration::from_secs(20), "it is forgotten", || {
        engine.ok(&["audit"]).contains("nothing was done").then_some(())
    });
}
