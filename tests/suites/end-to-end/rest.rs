//! REST: every operation by `curl`, what is refused, and a generative client against the OpenAPI document.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use test_engine::{Database, Engine, component, root, until};

on_both_databases!(
    every_operation_does_what_its_method_does,
    a_browser_follows_an_execution_across_a_kill,
    many_starts_are_answered_one_by_one,
    each_role_may_the_same_as_over_grpc,
);

/// What `curl` was answered.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Told {
    /// The body.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The status and code of a problem; its type and shape are those of one.
    pub(crate) fn problem(&self) -> (u16, String) {
        assert!(self.head.contains("content-type: application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{self:?}");
        assert!(problem["detail"].as_str().is_some_and(|why| !why.is_empty()), "{self:?}");
        (self.status, problem["code"].as_str().unwrap().to_owned())
    }
}

/// Sends a request with `curl`: a method, a path with its query, further arguments, and a body from stdin.
pub(crate) fn curl(engine: &Engine, (method, path): (&str, &str), more: &[&str], body: &[u8]) -> Told {
    let mut command = Command::new("curl");
    command.args(["-sS", "-i", "--max-time", "60", "-X", method, &format!("{}{path}", engine.url())]).args(more);
    if !body.is_empty() {
        command.args(["--data-binary", "@-"]);
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let body = body.to_vec();
    // A refusal may come before the whole body was sent.
    let sending = std::thread::spawn(move || drop(stdin.write_all(&body)));
    let said = child.wait_with_output().unwrap();
    sending.join().unwrap();
    let text = String::from_utf8(said.stdout).unwrap();
    let mut rest = text.as_str();
    loop {
        let (head, body) = rest.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {:?}", said.stderr));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        if status != 100 {
            return Told { status, head: head.to_ascii_lowercase(), body: body.to_owned() };
        }
        rest = body;
    }
}

const JSON: &[&str] = &["-H", "content-type: application/json"];
const WASM: &[&str] = &["-H", "content-type: application/wasm"];
const NDJSON: &[&str] = &["-H", "content-type: application/x-ndjson"];

fn get(engine: &Engine, path: &str) -> Told {
    curl(engine, ("GET", path), &[], b"")
}

fn post(engine: &Engine, path: &str, body: &Value) -> Told {
    curl(engine, ("POST", path), JSON, body.to_string().as_bytes())
}

fn ok(told: Told) -> Value {
    assert_eq!(told.status, 200, "{told:?}");
    assert!(told.head.contains("content-type: application/json"), "{told:?}");
    told.json()
}

fn none(told: &Told) {
    assert_eq!((told.status, told.body.as_str()), (204, ""), "{told:?}");
}

fn lines(told: &Told) -> Vec<Value> {
    assert!(told.status == 200 && told.head.contains("content-type: application/x-ndjson"), "{told:?}");
    told.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn upload(engine: &Engine) -> Value {
    let bytes = std::fs::read(component("test-guests")).unwrap();
    ok(curl(engine, ("POST", "/v1/components?name=guests"), WASM, &bytes))
}

fn every_operation_does_what_its_method_does(database: Database) {
    let mut engine = Engine::start(database);
    let kept = upload(&engine);
    assert_eq!(kept, engine.json(&["components"])[0]);
    assert_eq!(ok(get(&engine, "/v1/components"))["components"], json!([kept]));
    assert_eq!(ok(get(&engine, "/v1/components/guests"))["components"], json!([kept]));
    assert_eq!(get(&engine, "/v1/components/guest").problem(), (404, "not-found".to_owned()));
    let start =
        json!({"workflow": "guests/asking", "input": {"title": "May I?"}, "id": "q", "attributes": {"team": "ops"}});
    for _ in 0..2 {
        assert_eq!(ok(post(&engine, "/v1/executions", &start))["execution_id"], "q");
        engine.kill_and_restart();
    }
    until("it asks", || {
        let asked = ok(get(&engine, "/v1/approvals?execution=q&limit=5"));
        (asked["approvals"][0]["title"] == "May I?").then_some(())
    });
    assert_eq!(ok(get(&engine, "/v1/executions/q/result"))["output"], Value::Null);
    none(&post(&engine, "/v1/executions/q/signals/hello", &json!(7)));
    none(&curl(&engine, ("POST", "/v1/executions/q/pause"), &[], b""));
    until("it is paused", || (ok(get(&engine, "/v1/executions/q"))["status"] == "paused").then_some(()));
    none(&curl(&engine, ("POST", "/v1/executions/q/resume"), &[], b""));
    let decided = post(&engine, "/v1/approvals/q/approve", &json!({"data": {"n": 1}, "by": "ada"}));
    assert_eq!(ok(decided)["execution_id"], "q");
    let ended = ok(get(&engine, "/v1/executions/q/result?wait=30s"));
    assert_eq!(ended["status"], "completed");
    assert!(ended["output"].as_str().unwrap().contains("by ada"), "{ended}");
    assert_eq!(ok(get(&engine, "/v1/executions/q")), engine.json(&["status", "q"]));
    let listed = ok(get(&engine, "/v1/executions?status=completed&attr.team=ops&workflow=guests/asking"));
    assert_eq!(listed["executions"][0]["execution_id"], "q");
    assert_eq!(ok(get(&engine, "/v1/executions?attr.team=dev"))["executions"], json!([]));
    for follow in ["", "&follow=true"] {
        let history = lines(&get(&engine, &format!("/v1/executions/q/history?after=0{follow}")));
        assert_eq!(history, engine.history("q"), "{follow}");
    }
    assert_eq!(lines(&get(&engine, "/v1/executions/q/logs?follow=true")), [Value::Null; 0]);
    assert_eq!(post(&engine, "/v1/approvals/q/reject", &json!({"reason": "no"})).problem().0, 409);
    let asleep = json!({"workflow": "guests/sleeper", "input": 86_400_000, "id": "s", "delay": "1ms"});
    let told = curl(&engine, ("POST", "/v1/executions?wait=1ms"), JSON, asleep.to_string().as_bytes());
    assert_eq!(ok(told)["input"], 86_400_000);
    assert_eq!(curl(&engine, ("DELETE", "/v1/executions/s"), &[], b"").problem(), (409, "conflict".to_owned()));
    none(&curl(&engine, ("POST", "/v1/executions/s/cancel"), &[], b""));
    assert_eq!(ok(get(&engine, "/v1/executions/s/result?wait=30s"))["status"], "cancelled");
    let third = json!({"workflow": "sleeper", "input": 86_400_000, "id": "t"});
    ok(post(&engine, "/v1/executions", &third));
    none(&curl(&engine, ("POST", "/v1/executions/t/terminate"), &[], b""));
    for id in ["q", "s", "t"] {
        none(&curl(&engine, ("DELETE", &format!("/v1/executions/{id}")), &[], b""));
        assert_eq!(get(&engine, &format!("/v1/executions/{id}/events")).problem(), (404, "not-found".to_owned()));
    }
    let removed = ok(curl(&engine, ("DELETE", "/v1/components/guests"), &[], b""));
    assert_eq!(removed["digests"], json!([kept["digest"]]));
}

fn a_browser_follows_an_execution_across_a_kill(database: Database) {
    let mut engine = Engine::start(database);
    upload(&engine);
    let start = json!({"workflow": "guests/asking", "input": {"title": "May I?"}, "id": "q"});
    ok(post(&engine, "/v1/executions", &start));
    let (mut seen, mut is_answered) = (Vec::new(), false);
    for round in 0..2 {
        let url = format!("{}/v1/executions/q/events", engine.url());
        let mut child = Command::new("curl").args(["-sSN", &url]).stdout(Stdio::piped()).spawn().unwrap();
        let mut read = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        while !seen.last().is_some_and(|now: &Value| now["status"] == ["waiting-for-approval", "completed"][round]) {
            let line = read.next().expect("the stream goes on until it has told the end");
            seen.extend(line.strip_prefix("data: ").map(|data| serde_json::from_str::<Value>(data).unwrap()));
            // The same state may be told again before the answer has moved the execution.
            let is_asked = line.is_empty() && seen.last().is_some_and(|now| now["status"] == "waiting-for-approval");
            if round == 1 && is_asked && !std::mem::replace(&mut is_answered, true) {
                engine.ok(&["approve", "q"]);
            }
        }
        if round == 0 {
            engine.kill_and_restart();
        }
        // It ends with its execution or with its engine.
        assert_eq!(read.by_ref().filter(|line| line.starts_with("data: ")).count(), 0);
        child.wait().unwrap();
    }
    let events = seen.iter().map(|now| now["events"].as_u64().unwrap()).collect::<Vec<_>>();
    assert!(events.is_sorted(), "{events:?}");
    let told = get(&engine, "/v1/executions/q/events");
    let id = told.body.lines().find_map(|line| line.strip_prefix("id: ")).unwrap();
    let again = curl(&engine, ("GET", "/v1/executions/q/events"), &["-H", &format!("last-event-id: {id}")], b"");
    none(&again);
}

fn many_starts_are_answered_one_by_one(database: Database) {
    let engine = Engine::start(database);
    upload(&engine);
    let mut sent = String::new();
    for n in 0..2_500 {
        sent += &json!({"workflow": "guests/sleeper", "input": 86_400_000, "id": format!("s{n}")}).to_string();
        sent += ["\n", "\r\n\n"][n % 2];
        if n == 7 {
            sent += "{\"workflow\": \"guests/sleeper\", \"inptu\": 1}\nnonsense\n{\"workflow\": \"nothing\"}\n";
        }
    }
    for _ in 0..2 {
        let answers = lines(&curl(&engine, ("POST", "/v1/starts"), NDJSON, sent.as_bytes()));
        let ids: Vec<_> = answers.iter().filter_map(|answer| answer["execution_id"].as_str()).collect();
        assert_eq!(ids, (0..2_500).map(|n| format!("s{n}")).collect::<Vec<_>>());
        let refused: Vec<_> = answers[8..11].iter().map(|answer| answer["code"].as_str().unwrap_or("")).collect();
        assert_eq!(refused, ["invalid", "invalid", "not-found"], "{:?}", &answers[8..11]);
        assert!(answers[8]["detail"].as_str().unwrap().contains("inptu"), "{}", answers[8]);
    }
    let long = format!("{{\"workflow\": \"{}\"}}\n", "x".repeat(5 << 20));
    let refused = curl(&engine, ("POST", "/v1/starts"), NDJSON, long.as_bytes());
    assert_eq!(refused.problem(), (413, "too-large".to_owned()));
    // What a refusal repeats of a start is cut.
    let odd = format!("{{\"{}\": 1}}\n", "x".repeat(1 << 20)).repeat(20);
    let answers = curl(&engine, ("POST", "/v1/starts"), NDJSON, odd.as_bytes());
    assert!(lines(&answers).len() == 20 && answers.body.len() < 60_000, "{}", answers.body.len());
}

/// The OpenAPI document, as the engine serves it.
pub(crate) fn document(engine: &Engine) -> Value {
    get(engine, "/v1/openapi.json").json()
}

/// The operations of the document, with something in place of each parameter of the path.
fn operations(document: &Value) -> Vec<(String, String, String)> {
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let path = path.replace("{id}", "nothing-here").replace("{name}", "nothing-here");
        for method in ["get", "post", "delete"] {
            if let Some(id) = item[method]["operationId"].as_str() {
                all.push((id.to_owned(), method.to_uppercase(), path.clone()));
            }
        }
    }
    all
}

fn each_role_may_the_same_as_over_grpc(database: Database) {
    let engine = Engine::start(database);
    let admin = crate::tenants::token(&engine, "", &["--role", "admin", "--name", "ada"]);
    engine.ok(&["tenant", "create", "other", "--token", &admin]);
    let all = operations(&document(&engine));
    let table = crate::tenants::table_of_roles();
    assert_eq!(all.len(), table.len());
    for tenant in ["default", "other"] {
        for (number, role) in ["admin", "developer", "operator", "approver", "viewer"].into_iter().enumerate() {
            let token = ["--role", role, "--name", role, "--tenant", tenant];
            let bearer = format!("authorization: Bearer {}", crate::tenants::token(&engine, &admin, &token));
            for (id, method, path) in &all {
                let (_, _, may) = table.iter().find(|(_, method, _)| method == id).unwrap();
                let told = curl(&engine, (method, path), &["-H", &bearer], b"");
                let expected = may[number] == "yes" || may[number] == "in default" && tenant == "default";
                let is_refused = matches!(told.status, 401 | 403);
                assert_eq!(!is_refused, expected, "{role} of {tenant} asks for {method} {path}: {told:?}");
                assert!(told.status < 500, "{method} {path}: {told:?}");
            }
        }
    }
    for (_, method, path) in &all {
        let told = curl(&engine, (method, path), &[], b"");
        assert_eq!(told.problem(), (401, "unauthenticated".to_owned()), "{method} {path}");
        assert!(told.head.contains("www-authenticate: bearer"), "{told:?}");
        if method == "GET" {
            let url = format!("{}{path}", engine.url());
            let head = Command::new("curl").args(["-sSI", &url]).output().unwrap();
            assert!(String::from_utf8_lossy(&head.stdout).contains(" 401 "), "HEAD {path}");
        }
    }
}

/// A method and a path, further arguments of `curl`, the body; the status and a part of the answer.
type Case<'a> = (&'a str, &'a str, &'a [&'a str], &'a [u8], u16, &'a str);

#[test]
fn what_cannot_be_meant_is_refused_in_one_line() {
    let engine = Engine::start(Database::Sqlite);
    upload(&engine);
    let start = br#"{"workflow": "guests/sleeper", "input": 1}"#;
    let at = "/v1/executions";
    let cases: [Case; 19] = [
        ("POST", at, JSON, b"{", 400, "the body cannot be read"),
        ("POST", at, JSON, br#"{"workflow": "guests/sleeper", "imput": 1}"#, 400, "imput"),
        ("POST", at, JSON, br#"{"workflow": "guests/sleeper", "delay": 5}"#, 400, "expected a string"),
        ("POST", at, JSON, br#"{"workflow": "guests/sleeper", "delay": "5 parsecs"}"#, 400, "write 500ms"),
        ("POST", at, JSON, br#"{"workflow": "guests/sleeper", "input": 1, "id": "a b"}"#, 400, "execution id"),
        ("POST", at, JSON, b"\xff\xfe", 400, "the body cannot be read"),
        ("POST", at, &[], start, 415, "application/json"),
        ("POST", at, &["-H", "content-type: text/plain"], start, 415, "application/json"),
        (
            "POST",
            at,
            &["-H", "content-type: application/json", "-H", "origin: http://evil.example"],
            start,
            403,
            "web pages",
        ),
        ("POST", "/v1/executions?wiat=1s", JSON, start, 400, "wiat"),
        ("GET", "/v1/executions?limit=1&limit=2", &[], b"", 400, "twice"),
        ("GET", "/v1/executions?status=odd", &[], b"", 400, "a status is one of"),
        ("GET", "/v1/executions?cursor=odd", &[], b"", 400, "cursor"),
        ("GET", "/v1/executions/a%00b", &[], b"", 400, "execution id"),
        ("GET", "/v1/executions/%ff", &[], b"", 400, "\"invalid\""),
        ("GET", "/v1/", &[], b"", 404, "no such path"),
        ("GET", at, &["-H", "host: evil.example"], b"", 421, "misdirected"),
        ("PATCH", at, &[], b"", 405, "no such method"),
        ("GET", "/v1/executionz", &[], b"", 404, "no such path"),
    ];
    for (method, path, more, body, status, part) in cases {
        let told = curl(&engine, (method, path), more, body);
        assert_eq!(told.status, status, "{method} {path}: {told:?}");
        assert!(told.body.contains(part) && told.body.trim_end().lines().count() == 1, "{method} {path}: {told:?}");
    }
    let large = format!("{{\"workflow\": \"{}\"}}", "x".repeat(5 << 20));
    let told = curl(&engine, ("POST", at), JSON, large.as_bytes());
    assert_eq!(told.problem(), (413, "too-large".to_owned()));
    let nothing = curl(&engine, ("POST", "/v1/components?name=x"), WASM, b"not wasm");
    assert_eq!(nothing.problem(), (409, "conflict".to_owned()));
    assert_eq!(engine.json(&["list"]), json!([]));
}

#[test]
fn a_generative_client_finds_no_answer_that_the_document_does_not_allow() {
    let engine = Engine::start(Database::Sqlite);
    upload(&engine);
    let start = json!({"workflow": "guests/asking", "input": {"title": "May I?"}, "id": "q"});
    ok(post(&engine, "/v1/executions", &start));
    let token = crate::tenants::token(&engine, "", &["--role", "admin", "--name", "ada"]);
    let folder = test_engine::scratch();
    let said = Command::new(root().join("target/python/bin/schemathesis"))
        .env("SCHEMATHESIS_HOOKS", "hooks")
        .env("PYTHONPATH", root().join("tests/suites/end-to-end/rest"))
        .args([
            "run",
            "--header",
            &format!("Authorization: Bearer {token}"),
            &format!("{}/v1/openapi.json", engine.url()),
            "--phases",
            "examples,coverage,fuzzing",
        ])
        .args(["--checks", "not_a_server_error,status_code_conformance,content_type_conformance"])
        .args(["--checks", "response_schema_conformance,response_headers_conformance,unsupported_method"])
        .args(["--max-examples", "40", "--seed", "1", "--suppress-health-check", "all", "--request-timeout", "20"])
        // A watched execution that has not ended is watched for ever.
        .args(["--exclude-operation-id", "Watch", "--no-color"])
        .current_dir(&folder.0)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success(), "{text}\n{}", String::from_utf8_lossy(&said.stderr));
    assert!(text.contains("Tested: 49") && text.contains("passed") && !text.contains("Errors:"), "{text}");
    engine.ok(&["list", "--token", &token]);
}
