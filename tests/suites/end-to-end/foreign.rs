//! What one tenant gets by naming the objects of another: nothing, in every role, over every interface.
//!
//! The requests are made of the same lists that the interfaces and their pages in the documentation are made of: the
//! OpenAPI document, the descriptors of gRPC and the table of pages. A parameter, a field or an operation of which this
//! test knows nothing fails it.

mod calls;
mod forms;
mod objects;
mod operations;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use test_engine::{Database, Engine, component};

use crate::rest::{Told, curl};
use crate::tenants::token;
use objects::{MARKER, Objects, WORKFLOW};

on_both_databases!(
    no_role_of_another_tenant_gets_or_changes_anything_over_rest,
    no_role_of_another_tenant_gets_or_changes_anything_on_pages,
    no_role_of_another_tenant_gets_or_changes_anything_over_grpc,
    objects_of_the_same_name_are_objects_of_ones_own,
);

const ROLES: [&str; 5] = ["admin", "developer", "operator", "approver", "viewer"];

/// The operations that are about the caller's own things if they name no object, so that another tenant's people have
/// an answer too. All others are refused.
const OF_ONES_OWN: [&str; 17] = [
    "Approvals",
    "Audit",
    "BulkJobs",
    "Components",
    "Count",
    "CreateToken",
    "List",
    "RotateSecretsKey",
    "SaveView",
    "Secrets",
    "SetSecret",
    "StartBulk",
    "StartMany",
    "Tokens",
    "Upload",
    "Views",
    "WhoAmI",
];

/// A request as a person of another tenant sends it.
struct Case {
    /// The method of the service.
    operation: String,
    /// How it is shown when it fails.
    sent: String,
    /// Whether it may be answered with things of the caller's own.
    is_answered: bool,
    /// Whether it may be refused for what it says: a cursor that leads nowhere, a job that finds nothing.
    is_pointless: bool,
}

/// How a request ended.
struct Outcome {
    is_refused: bool,
    /// A refusal that is due: forbidden, or not found.
    is_proper: bool,
    /// All that was said, with the head or the details of a status.
    said: String,
}

/// The tokens of the people of `other`, by role.
fn people(objects: &Objects) -> Vec<(&'static str, String)> {
    let Objects { engine, admin, .. } = objects;
    let of = ["--role", "admin", "--name", "bob", "--tenant", "other"];
    let bob = token(engine, admin, &of);
    ROLES.map(|role| (role, token(engine, &bob, &["--role", role, "--name", &format!("their-{role}")]))).into()
}

/// Checks how a request of another tenant's person ended.
fn check(objects: &Objects, role: &str, case: &Case, outcome: &Outcome) {
    let Case { operation, sent, .. } = case;
    let Outcome { said, .. } = outcome;
    let what = format!("{role} of another tenant: {operation}: {sent}\n{said}");
    assert!(outcome.is_refused || case.is_answered, "it is answered: {what}");
    assert!(!outcome.is_refused || outcome.is_proper || case.is_pointless, "it is refused for another reason: {what}");
    assert!(!said.contains(MARKER), "it shows the content of an object: {what}");
    for name in objects.names().into_iter().filter(|name| !sent.contains(name)) {
        assert!(!said.contains(name), "it shows `{name}`: {what}");
    }
    if outcome.is_refused {
        // A form that comes back with its fields has some to choose from.
        let said = said.replace("<select ", "");
        let folder = objects.engine.database().trim_start_matches("sqlite:").to_owned();
        let temporary = std::env::temp_dir().display().to_string();
        for word in ["select ", "insert ", "panicked", "/tmp", "sqlx", "postgres://", &temporary, &folder] {
            assert!(!said.contains(word), "it says `{word}`: {what}");
        }
    }
}

/// Sends every case as each person of `other`, and checks that nothing of `default` was shown or changed.
fn attack<C>(objects: &Objects, cases: &[C], of: impl Fn(&C) -> &Case, send: impl Fn(&C, &str) -> Outcome) {
    let before = objects.seen();
    let people = people(objects);
    for (role, token) in &people {
        for case in cases {
            check(objects, role, of(case), &send(case, token));
        }
    }
    assert_unchanged(objects, before);
}

fn assert_unchanged(objects: &Objects, before: Vec<(&str, Value)>) {
    for ((what, before), (_, after)) in before.into_iter().zip(objects.seen()) {
        assert_eq!(before, after, "{what}");
    }
    assert!(!objects.engine.log().contains("panicked"), "{}", objects.engine.log());
}

/// Asserts that these are all operations of the service.
fn assert_all<'a>(operations: impl Iterator<Item = &'a str>) {
    let asked: BTreeSet<&str> = operations.collect();
    let all: BTreeSet<&str> = cerebelum_server::ACTIONS.iter().map(|(name, _)| *name).collect();
    assert_eq!(asked, all);
}

/// The same requests, sent by an admin of `default`, show the objects: what is refused above is there.
fn assert_shown<'a>(objects: &Objects, answers: impl Iterator<Item = (&'a str, Told)>, unseen: &[&str]) {
    let mut all = String::new();
    for (sent, told) in answers {
        assert!(matches!(told.status, 200 | 204 | 303), "{sent}: {told:?}");
        all += &told.body;
    }
    assert!(all.matches(MARKER).count() > 20, "the word is in few answers: {all}");
    for name in objects.names().into_iter().filter(|name| !unseen.contains(name)) {
        assert!(all.contains(name), "`{name}` is in no answer");
    }
}

/// Sends a request over HTTP.
fn over_http(engine: &Engine, (method, path): (&str, &str), headers: &[String], body: &[u8]) -> Outcome {
    let more: Vec<&str> = headers.iter().flat_map(|header| ["-H", header.as_str()]).collect();
    let told = curl(engine, (method, path), &more, body);
    let is_refused = told.status >= 400;
    assert!(told.status < 500, "{method} {path}: {told:?}");
    Outcome {
        is_refused,
        is_proper: matches!(told.status, 403 | 404),
        said: format!("{} {}\n{}", told.status, told.head, told.body),
    }
}

fn no_role_of_another_tenant_gets_or_changes_anything_over_rest(database: Database) {
    let objects = Objects::new(database);
    let cases = operations::all(&objects);
    assert_all(cases.iter().map(|operation| operation.case.operation.as_str()));
    attack(&objects, &cases, |operation| &operation.case, |operation, token| operation.send(&objects.engine, token));
    let reads = cases.iter().filter(|operation| operation.ends());
    let answers = reads.map(|read| (read.case.sent.as_str(), read.told(&objects.engine, &objects.admin)));
    assert_shown(&objects, answers, &[]);
}

fn no_role_of_another_tenant_gets_or_changes_anything_on_pages(database: Database) {
    let objects = Objects::new(database);
    let cases = forms::all(&objects);
    attack(&objects, &cases, |form| &form.case, |form, token| form.send(&objects.engine, token));
    let reads = cases.iter().filter(|form| form.ends());
    let answers = reads.map(|read| (read.case.sent.as_str(), read.told(&objects.engine, &objects.admin)));
    // Pages have no list of links, and show of a digest how it begins.
    assert_shown(&objects, answers, &[&objects.link, &objects.proposed.1, &objects.digest]);
}

fn no_role_of_another_tenant_gets_or_changes_anything_over_grpc(database: Database) {
    let objects = Objects::new(database);
    let cases = calls::all(&objects);
    assert_all(cases.iter().map(|call| call.case.operation.as_str()));
    let grpc = calls::Grpc::to(&objects.engine);
    attack(&objects, &cases, |call| &call.case, |call, token| grpc.send(call, token));
    let mut all = String::new();
    for call in cases.iter().filter(|call| call.ends()) {
        let outcome = grpc.send(call, &objects.admin);
        assert!(!outcome.is_refused, "{}: {}", call.case.sent, outcome.said);
        all += &outcome.said;
    }
    assert!(all.matches(MARKER).count() > 20, "the word is in few answers: {all}");
}

/// Another tenant makes objects under the names of all that there is, and works with them.
fn objects_of_the_same_name_are_objects_of_ones_own(database: Database) {
    let objects = Objects::new(database);
    let Objects { engine, admin, open, ended, .. } = &objects;
    let before = objects.seen();
    let bob = token(engine, admin, &["--role", "admin", "--name", "bob", "--tenant", "other"]);
    let bearer = format!("authorization: Bearer {bob}");
    let send = |(method, path): (&str, &str), body: Value| {
        let headers = [bearer.clone(), "content-type: application/json".to_owned()];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let outcome = over_http(engine, (method, path), &headers, body.as_bytes());
        assert!(!outcome.is_refused && !outcome.said.contains(MARKER), "{method} {path}: {}", outcome.said);
        outcome.said
    };
    for (name, file) in [("ours-shop", "test-guests"), ("ours-draft", "trial")] {
        engine.ok(&["upload", &component(file), "--name", name, "--accept", "--token", &bob]);
    }
    let wish = |id: &str| json!({"workflow": WORKFLOW, "input": ["theirs"], "id": id});
    for id in [open, ended] {
        send(("POST", "/v1/executions"), wish(id));
    }
    // The form that starts one like another reads that of its own tenant.
    let cookie = crate::pages::cookie(engine, &bob);
    let like = format!("/start/{WORKFLOW}?like={open}");
    let form = over_http(engine, ("GET", &like), &[cookie], b"");
    assert!(form.said.contains("theirs") && !form.said.contains(MARKER), "{}", form.said);
    let filter = json!({"workflow": WORKFLOW});
    send(("POST", "/v1/views"), json!({"name": objects.view, "shared": true, "filter": filter}));
    send(("POST", "/v1/secrets"), json!({"name": objects.secret, "value": "theirs", "hosts": ["theirs.example.com"]}));
    send(("POST", &format!("/v1/executions/{open}/signals/unread")), json!("theirs"));
    test_engine::until("their question is answered", || {
        let path = format!("/v1/approvals/{open}/reject");
        (curl(engine, ("POST", &path), &["-H", &bearer], b"").status == 200).then_some(())
    });
    send(("POST", &format!("/v1/executions/{ended}/terminate")), Value::Null);
    for id in [open, ended] {
        let path = format!("/v1/executions/{id}/result?wait=1m");
        assert!(!send(("GET", &path), Value::Null).contains("\"ended_at\":null"), "it has ended");
    }
    // A job on all that there is touches all that they have.
    send(("POST", "/v1/bulk"), json!({"operation": "delete", "filter": {}, "id": objects.job}));
    let job = format!("/v1/bulk/{}", objects.job);
    test_engine::until("the job is done", || {
        send(("GET", &job), Value::Null).contains("\"state\":\"done\"").then_some(())
    });
    assert!(send(("GET", "/v1/executions"), Value::Null).contains("\"executions\":[]"));
    send(("POST", "/v1/secrets/rotate-key"), Value::Null);
    send(("DELETE", &format!("/v1/secrets/{}", objects.secret)), Value::Null);
    send(("DELETE", &format!("/v1/views/{}?shared=true", objects.view)), Value::Null);
    for name in ["ours-shop", "ours-draft"] {
        send(("DELETE", &format!("/v1/components/{name}")), Value::Null);
    }
    assert_unchanged(&objects, before);
}
