//! Grants: a version that asks for more runs once a person has accepted it, across kills; and what its
//! requests send and receive is counted and noted.

use std::time::Duration;

use serde_json::{Value, json};
use test_engine::{Cloud, Database, Engine, component, until, within};

use crate::rest::curl;
use crate::sql;
use crate::tenants::token;

on_both_databases!(
    a_version_that_asks_for_more_waits_until_it_is_accepted,
    the_first_version_of_a_developer_waits_and_that_of_an_admin_does_not,
    what_runs_while_another_version_is_accepted_goes_on,
    an_execution_has_what_its_component_was_granted,
    requests_are_held_back_when_the_bytes_of_a_minute_are_used_up,
    each_request_of_a_step_has_a_line_without_what_it_says,
);

/// An engine with the tokens of its admin and of a developer.
fn with_developer(database: Database) -> (Engine, String, String) {
    let engine = Engine::start(database);
    let admin = token(&engine, "", &["--role", "admin", "--name", "ada"]);
    let developer = token(&engine, &admin, &["--role", "developer", "--name", "eve"]);
    (engine, admin, developer)
}

/// Uploads one of the components under the name `shop`, and returns what the engine says of it.
fn upload(engine: &Engine, token: &str, crate_name: &str) -> Value {
    let said = engine.ok(&["upload", &component(crate_name), "--name", "shop", "--json", "--token", token]);
    serde_json::from_str(&said).unwrap()
}

fn versions(engine: &Engine, token: &str) -> Vec<Value> {
    serde_json::from_str(&engine.ok(&["components", "--json", "--token", token])).unwrap()
}

fn a_version_that_asks_for_more_waits_until_it_is_accepted(database: Database) {
    let (mut engine, admin, developer) = with_developer(database);
    let hello = upload(&engine, &developer, "hello");
    assert_eq!((&hello["current"], &hello["proposed"]), (&json!(true), &json!(false)), "it asks for nothing");
    let more = upload(&engine, &developer, "test-guests");
    assert_eq!((&more["current"], &more["proposed"]), (&json!(false), &json!(true)), "{more}");
    let new = json!(["http:127.0.0.1", "http:localhost", "secret:TEST_TOKEN"]);
    assert_eq!(more["not_granted"], new);
    engine.kill_and_restart();
    // An admin's upload is proposed just the same.
    assert_eq!(upload(&engine, &admin, "test-guests")["proposed"], json!(true));
    let greet = ["start", "shop/hello", "--input", r#"{"name":"Ada"}"#, "--wait", "--token", &developer];
    assert!(engine.ok(&greet).contains("Hello, Ada!"), "the version before is used");
    let sleep = ["start", "shop/sleeper", "--input", "1", "--wait", "--token", &developer];
    let said = engine.cli(&sleep);
    assert!(said.code == 3 && said.err.contains("no workflow `sleeper`"), "{said:?}");
    let diff = engine.ok(&["components", "diff", "shop", "--token", &developer]);
    assert!(diff.contains("+ asks for http:127.0.0.1 (not granted)") && diff.contains("- step greet"), "{diff}");
    // Who may not, and what names no version.
    let digest = more["digest"].as_str().unwrap();
    let accept = |token: &str, version: &str| engine.cli(&["components", "accept", version, "--token", token]);
    let version = format!("shop@{}", &digest[..12]);
    let refused = accept(&developer, &version);
    assert!(refused.code == 5 && refused.err.contains("role admin"), "{refused:?}");
    for (wrong, code) in
        [("shop@0123456789ab", 3), (&format!("shop@{}", &digest[..4]), 2), ("shop", 2), ("bar@0123456789ab", 3)]
    {
        assert_eq!(accept(&admin, wrong).code, code, "{wrong}");
    }
    assert_eq!(accept(&admin, &version).code, 0);
    engine.kill_and_restart();
    assert_eq!(engine.cli(&sleep).code, 0);
    let (now, before) = (&versions(&engine, &admin)[0], &versions(&engine, &admin)[1]);
    assert_eq!((&now["digest"], &now["current"], &now["not_granted"]), (&more["digest"], &json!(true), &json!([])));
    assert_eq!((&before["digest"], &before["proposed"]), (&hello["digest"], &json!(false)));
    // A version that asks for no more than was granted needs no admin.
    for name in ["hello", "fan-out", "test-guests"] {
        assert_eq!(upload(&engine, &developer, name)["current"], json!(true), "{name}");
    }
    let acts: Vec<Value> =
        serde_json::from_str(&engine.ok(&["audit", "--object", "shop", "--json", "--token", &admin])).unwrap();
    let told = |operation: &str, caller: &str| {
        let found = acts.iter().rev().find(|act| {
            act["operation"] == operation
                && act["caller"] == caller
                && act["outcome"].as_str().unwrap().starts_with(digest)
        });
        found.unwrap()["outcome"].as_str().unwrap().strip_prefix(digest).unwrap().to_owned()
    };
    let new = "+http:127.0.0.1 +http:localhost +secret:TEST_TOKEN";
    assert_eq!(told("Upload", "eve"), format!(" proposed {new}"));
    assert_eq!(told("AcceptComponent", "ada"), format!(" {new}"));
    assert_eq!(acts.iter().filter(|act| act["operation"] == "AcceptComponent").count(), 1);
}

fn the_first_version_of_a_developer_waits_and_that_of_an_admin_does_not(database: Database) {
    let (engine, admin, developer) = with_developer(database);
    engine.ok(&["tenant", "create", "acme", "--token", &admin]);
    let acme = token(&engine, &admin, &["--role", "admin", "--name", "bob", "--tenant", "acme"]);
    let said = engine.ok(&["upload", &component("test-guests"), "--name", "shop", "--token", &developer]);
    assert!(said.contains("proposed") && said.contains("cerebelum components accept shop@"), "{said}");
    let said = engine.cli(&["start", "shop/sleeper", "--input", "1", "--token", &developer]);
    assert!(said.code == 3 && said.err.contains("waits to be accepted"), "{said:?}");
    let said = engine.cli(&["start", "sleeper", "--input", "1", "--token", &developer]);
    assert!(said.code == 3 && said.err.contains("an admin accepts `shop`"), "{said:?}");
    let digest = versions(&engine, &admin)[0]["digest"].as_str().unwrap().to_owned();
    // Of another tenant there is nothing to accept, and what it grants counts for itself alone.
    let path = format!("/v1/components/shop/accept?digest={digest}");
    let accept = |token: &str| curl(&engine, ("POST", &path), &["-H", &format!("authorization: Bearer {token}")], b"");
    assert_eq!(accept(&acme).problem().0, 404);
    assert_eq!(upload(&engine, &acme, "test-guests")["current"], json!(true), "an admin's first version");
    assert_eq!(versions(&engine, &admin)[0]["proposed"], json!(true));
    assert_eq!(accept(&developer).problem().0, 403);
    // On the page, an admin has a button.
    let cookie = |token: &str| format!("cookie: cerebelum_token_{}={token}", engine.url().rsplit(':').next().unwrap());
    let page = |token: &str| curl(&engine, ("GET", "/components"), &["-H", &cookie(token)], b"").body;
    let form = "action=\"/components/shop/accept\"";
    assert!(page(&admin).contains(form) && page(&admin).contains("secret:TEST_TOKEN"));
    assert!(page(&developer).contains("Proposed version") && !page(&developer).contains(form));
    let sent = curl(
        &engine,
        ("POST", "/components/shop/accept"),
        &["-H", &cookie(&admin), "-H", "content-type: application/x-www-form-urlencoded"],
        format!("digest={digest}").as_bytes(),
    );
    assert_eq!(sent.status, 303, "{sent:?}");
    assert!(!page(&admin).contains(form));
    assert_eq!(accept(&admin).status, 200, "once more changes nothing");
    engine.ok(&["start", "shop/sleeper", "--input", "1", "--wait", "--token", &developer]);
    // The next component of this name begins anew.
    engine.ok(&["components", "remove", "shop", "--token", &developer]);
    assert_eq!(upload(&engine, &developer, "test-guests")["proposed"], json!(true));
    let said = engine.ok(&["upload", &component("test-guests"), "--name", "shop", "--accept", "--token", &admin]);
    assert!(!said.contains("proposed"), "{said}");
}

fn what_runs_while_another_version_is_accepted_goes_on(database: Database) {
    let cloud = Cloud::start();
    let mut engine = Engine::start(database);
    let fields = |answer: &Value| (answer["current"].clone(), answer["proposed"].clone());
    assert_eq!(
        fields(&upload(&engine, "", "test-guests")),
        (json!(true), json!(false)),
        "an open engine needs no admin"
    );
    let input = json!({"base_url": cloud.url(), "paths": ["notes/a", "slow/1500/b", "notes/c"]}).to_string();
    engine.ok(&["start", "shop/posts", "--id", "p", "--input", &input]);
    until("it is in the slow step", || (!cloud.requests("POST", "/slow").is_empty()).then_some(()));
    let trial = upload(&engine, "", "trial");
    assert_eq!(fields(&trial), (json!(false), json!(true)));
    engine.ok(&["components", "accept", &format!("shop@{}", trial["digest"].as_str().unwrap())]);
    engine.kill_and_restart();
    assert!(engine.ok(&["result", "p", "--wait"]).contains('3'));
    assert_eq!(cloud.requests("POST", "/notes").len(), 2);
    assert_eq!(versions(&engine, "")[0]["digest"], trial["digest"]);
}

/// An engine of the version before, beside this one, makes versions current that no admin accepted.
fn an_execution_has_what_its_component_was_granted(database: Database) {
    let cloud = Cloud::start();
    let mut engine = Engine::start(database);
    let digest = upload(&engine, "", "test-guests")["digest"].as_str().unwrap().to_owned();
    let input = json!({"base_url": cloud.url(), "paths": ["notes/a"]}).to_string();
    let post = |engine: &Engine| -> Value {
        let said = engine.cli(&["start", "shop/posts", "--input", &input, "--wait", "--json"]);
        serde_json::from_str(&said.out).unwrap()
    };
    assert_eq!(post(&engine)["status"], "completed");
    sql(&engine, r#"update grants set capabilities = '["http:localhost"]' where name = 'shop'"#);
    engine.kill_and_restart();
    let refused = post(&engine);
    assert_eq!(refused["failure"]["kind"], "not-granted", "{refused:#}");
    assert!(refused["failure"]["message"].as_str().unwrap().contains("cerebelum components accept"), "{refused:#}");
    assert_eq!(versions(&engine, "")[0]["not_granted"], json!(["http:127.0.0.1", "secret:TEST_TOKEN"]));
    engine.ok(&["components", "accept", &format!("shop@{digest}")]);
    assert_eq!(post(&engine)["status"], "completed", "an engine that knows the grants reads them again");
    // Names that were there before there were grants have what they ask for.
    sql(&engine, "delete from grants");
    engine.kill_and_restart();
    assert_eq!((&versions(&engine, "")[0]["not_granted"], &post(&engine)["status"]), (&json!([]), &json!("completed")));
    assert_eq!(cloud.requests("POST", "/notes/a").len(), 3);
}

fn requests_are_held_back_when_the_bytes_of_a_minute_are_used_up(database: Database) {
    let cloud = Cloud::start();
    let (engine, admin, _) = with_developer(database);
    engine.ok(&["tenant", "create", "acme", "--token", &admin]);
    let acme = token(&engine, &admin, &["--role", "admin", "--name", "bob", "--tenant", "acme"]);
    let host = cloud.url().trim_start_matches("http://").to_owned();
    engine.ok(&["tenant", "set-hosts", "acme", &host, "--token", &admin]);
    for token in [&admin, &acme] {
        upload(&engine, token, "test-guests");
    }
    let input = json!({"base_url": cloud.url(), "paths": ["notes/a"]}).to_string();
    let post = |token: &str| -> Value {
        let said = engine.cli(&["start", "shop/posts", "--input", &input, "--wait", "--json", "--token", token]);
        serde_json::from_str(&said.out).unwrap()
    };
    let quota = |max: &str| {
        let quota = format!("egress-bytes-per-minute={max}");
        engine.ok(&["tenant", "set-quota", "acme", &quota, "--token", &admin]);
    };
    assert_eq!(post(&acme)["status"], "completed");
    quota("1");
    let refused = within(Duration::from_secs(20), "the quota is there", || {
        Some(post(&acme)).filter(|end| end["status"] == "failed")
    });
    // The step has tried five times: its code can catch this failure like any other.
    assert_eq!(refused["failure"]["kind"], "quota", "{refused:#}");
    assert!(refused["failure"]["message"].as_str().unwrap().contains("egress-bytes-per-minute"), "{refused:#}");
    assert_eq!(post(&admin)["status"], "completed", "another tenant is not concerned");
    quota("default");
    within(Duration::from_secs(20), "it is raised", || Some(post(&acme)).filter(|end| end["status"] == "completed"));
}

fn each_request_of_a_step_has_a_line_without_what_it_says(database: Database) {
    let cloud = Cloud::start();
    let engine = Engine::start_with(database, &[("SECRET_TEST_TOKEN", "s3cret-7f")]);
    upload(&engine, "", "test-guests");
    let host = cloud.url().trim_start_matches("http://").to_owned();
    let input = json!({"base_url": cloud.url(), "path": "notes/quiet-words"}).to_string();
    engine.ok(&["start", "shop/secrets", "--id", "seen", "--input", &input, "--wait"]);
    let elsewhere = json!({"base_url": "http://10.1.2.3", "path": "notes/quiet-words"}).to_string();
    assert_eq!(engine.cli(&["start", "shop/secrets", "--id", "unseen", "--input", &elsewhere, "--wait"]).code, 1);
    let lines = |id: &str| -> Vec<String> {
        let of_it = format!("execution={id} ");
        engine
            .log()
            .lines()
            .filter(|line| line.contains("cerebelum::requests") && line.contains(&of_it))
            .map(str::to_owned)
            .collect()
    };
    until("both are written", || (lines("seen").len() + lines("unseen").len() == 2).then_some(()));
    let (seen, unseen) = (lines("seen").remove(0), lines("unseen").remove(0));
    for part in
        ["tenant=1", "method=\"POST\"", &format!("to=\"{host}\""), "status=\"200\"", "sent=", "received=", "ms="]
    {
        assert!(seen.contains(part), "{part} in {seen}");
    }
    assert!(unseen.contains("to=\"10.1.2.3:80\"") && unseen.contains("status=\"not-granted\""), "{unseen}");
    assert!(!engine.log().contains("quiet-words") && !engine.log().contains("s3cret-7f"));
}
