//! Quotas: each is reached, named in the refusal, raised, and costs no other tenant anything.

use std::time::Duration;

use serde_json::{Value, json};
use test_engine::{Database, Engine, Said, component, until, within};

use crate::rest::curl;
use crate::tenants::token;

on_both_databases!(
    a_tenant_has_as_much_open_as_it_may,
    rates_hold_for_one_tenant_and_come_back_with_time,
    components_are_counted_by_number_and_bytes,
    what_a_tenant_stores_has_an_end,
);

/// An engine with a tenant `acme`, the token of the engine's admin, and that of the admin of `acme`.
fn with_acme(database: Database) -> (Engine, String, String) {
    let engine = Engine::start(database);
    let admin = token(&engine, "", &["--role", "admin", "--name", "ada"]);
    engine.ok(&["tenant", "create", "acme", "--token", &admin]);
    let acme = token(&engine, &admin, &["--role", "admin", "--name", "bob", "--tenant", "acme"]);
    for token in [&admin, &acme] {
        engine.ok(&["upload", &component("test-guests"), "--name", "guests", "--token", token]);
    }
    (engine, admin, acme)
}

fn set(engine: &Engine, admin: &str, quota: &str) {
    engine.ok(&["tenant", "set-quota", "acme", quota, "--token", admin]);
}

fn quotas(engine: &Engine, admin: &str) -> Value {
    let shown = engine.ok(&["tenant", "show", "acme", "--json", "--token", admin]);
    serde_json::from_str::<Value>(&shown).unwrap()["quotas"].take()
}

fn start(engine: &Engine, token: &str, id: &str) -> Said {
    engine.cli(&["start", "guests/sleeper", "--id", id, "--input", "86400000", "--token", token])
}

fn is_refused(said: &Said, quota: &str) {
    assert!(said.code == 5 && said.err.contains(&format!("quota {quota}:")), "{said:?}");
    assert_eq!(said.err.trim().lines().count(), 1, "{said:?}");
}

fn a_tenant_has_as_much_open_as_it_may(database: Database) {
    let (mut engine, admin, acme) = with_acme(database);
    set(&engine, &admin, "open-executions=3");
    for id in ["a", "b", "c"] {
        assert_eq!(start(&engine, &acme, id).code, 0, "{id}");
    }
    is_refused(&start(&engine, &acme, "d"), "open-executions");
    // What is there can be started again, and others are not concerned.
    assert_eq!(start(&engine, &acme, "a").code, 0);
    assert_eq!(start(&engine, &admin, "d").code, 0);
    // An engine that comes back counts what is there.
    engine.kill_and_restart();
    is_refused(&start(&engine, &acme, "d"), "open-executions");
    let bearer = format!("authorization: Bearer {acme}");
    let body = json!({"workflow": "guests/sleeper", "input": 86_400_000}).to_string();
    let headers = ["-H", &bearer, "-H", "content-type: application/json"];
    let told = curl(&engine, ("POST", "/v1/executions"), &headers, body.as_bytes());
    assert_eq!(told.problem(), (429, "quota".to_owned()));
    assert!(told.head.contains("retry-after:"), "{told:?}");
    // Many at once do not slip through together.
    engine.ok(&["terminate", "a", "--token", &acme]);
    let lines = format!("{body}\n").repeat(50);
    let headers = ["-H", &bearer, "-H", "content-type: application/x-ndjson"];
    let started = within(Duration::from_secs(10), "the end has made room", || {
        let told = curl(&engine, ("POST", "/v1/starts"), &headers, lines.as_bytes());
        let started = told.body.lines().filter(|line| line.contains("execution_id")).count();
        assert_eq!(started + told.body.matches("quota open-executions").count(), 50, "{told:?}");
        (started > 0).then_some(started)
    });
    assert_eq!(started, 1);
    let shown = quotas(&engine, &admin);
    assert_eq!(shown["open-executions"], json!({"max": 3, "is_set": true, "used": 3}));
    assert_eq!(shown["starts-per-second"]["used"], Value::Null);
    set(&engine, &admin, "open-executions=default");
    assert_eq!(start(&engine, &acme, "d").code, 0);
    assert_eq!(quotas(&engine, &admin)["open-executions"]["is_set"], false);
}

fn rates_hold_for_one_tenant_and_come_back_with_time(database: Database) {
    let (engine, admin, acme) = with_acme(database);
    set(&engine, &admin, "starts-per-second=1");
    let began = (0..).map(|n| start(&engine, &acme, &format!("s{n}"))).take(60).collect::<Vec<_>>();
    let refused = began.iter().filter(|said| said.code != 0).collect::<Vec<_>>();
    assert!(began[..10].iter().all(|said| said.code == 0) && !refused.is_empty(), "{began:?}");
    refused.iter().for_each(|said| is_refused(said, "starts-per-second"));
    assert_eq!(start(&engine, &admin, "other").code, 0);
    until("a start comes back", || (start(&engine, &acme, "late").code == 0).then_some(()));
    set(&engine, &admin, "calls-per-second=1");
    let list = |token: &str| engine.cli(&["list", "--token", token]);
    let asked = (0..40).map(|_| list(&acme)).collect::<Vec<_>>();
    let refused = asked.iter().find(|said| said.code != 0).expect("a call is refused");
    is_refused(refused, "calls-per-second");
    assert_eq!(list(&admin).code, 0);
    until("a call comes back", || (list(&acme).code == 0).then_some(()));
}

fn components_are_counted_by_number_and_bytes(database: Database) {
    let (engine, admin, acme) = with_acme(database);
    let upload = |name: &str| engine.cli(&["upload", &component("hello"), "--name", name, "--token", &acme]);
    set(&engine, &admin, "components=2");
    assert_eq!(upload("one").code, 0);
    is_refused(&upload("two"), "components");
    assert_eq!(upload("one").code, 0, "what is there can be uploaded again");
    engine.ok(&["components", "remove", "one", "--token", &acme]);
    let used = quotas(&engine, &admin)["component-bytes"]["used"].as_u64().unwrap();
    set(&engine, &admin, &format!("component-bytes={}", used + 1_000));
    is_refused(&upload("two"), "component-bytes");
    for (wrong, code, part) in
        [("components", 2, "QUOTA=NUMBER"), ("components=-1", 2, "QUOTA=NUMBER"), ("coffee=3", 2, "open-executions")]
    {
        let said = engine.cli(&["tenant", "set-quota", "acme", wrong, "--token", &admin]);
        assert!(said.code == code && said.err.contains(part), "{said:?}");
    }
    let said = engine.cli(&["tenant", "set-quota", "absent", "components=3", "--token", &admin]);
    assert_eq!(said.code, 3, "{said:?}");
    // Changes at once are all kept, and an admin can always mend a quota that is too small.
    std::thread::scope(|scope| {
        for quota in ["components=7", "component-bytes=8", "open-executions=9", "starts-per-second=10"] {
            let (engine, admin) = (&engine, &admin);
            scope.spawn(move || set(engine, admin, quota));
        }
    });
    let now = quotas(&engine, &admin);
    let kept =
        ["components", "component-bytes", "open-executions", "starts-per-second"].map(|name| now[name]["max"].clone());
    assert_eq!(kept, [7, 8, 9, 10]);
    engine.ok(&["tenant", "set-quota", "default", "calls-per-second=0", "--token", &admin]);
    is_refused(&engine.cli(&["list", "--token", &admin]), "calls-per-second");
    engine.ok(&["tenant", "set-quota", "default", "calls-per-second=default", "--token", &admin]);
    assert_eq!(engine.cli(&["list", "--token", &admin]).code, 0);
    let said = engine.cli(&["tenant", "show", "acme", "--token", &acme]);
    assert_eq!(said.code, 5, "{said:?}");
}

fn what_a_tenant_stores_has_an_end(database: Database) {
    let (mut engine, admin, acme) = with_acme(database);
    let used = |engine: &Engine| quotas(engine, &admin)["stored-bytes"]["used"].as_u64().unwrap();
    let input = json!({"sleep_ms": 1, "padding": "x".repeat(20_000)}).to_string();
    let run = |engine: &Engine, id: &str| {
        engine.cli(&["start", "guests/padded_sleeper", "--id", id, "--input", &input, "--token", &acme])
    };
    assert_eq!(start(&engine, &acme, "waits").code, 0);
    assert_eq!(run(&engine, "first").code, 0);
    until("it is counted", || (used(&engine) > 20_000).then_some(()));
    set(&engine, &admin, &format!("stored-bytes={}", used(&engine) - 1));
    is_refused(&run(&engine, "second"), "stored-bytes");
    is_refused(&engine.cli(&["signal", "waits", "go", "--token", &acme]), "stored-bytes");
    assert_eq!(start(&engine, &admin, "of-others").code, 0);
    // What the tenant has is counted in the database: an engine that was killed knows it.
    let before = used(&engine);
    engine.kill_and_restart();
    until("it is refused again", || (run(&engine, "second").code == 5).then_some(()));
    assert_eq!(used(&engine), before);
    // Far beyond the quota, what would go on by itself is parked, and goes on where it was.
    set(&engine, &admin, "stored-bytes=default");
    let question = json!({"title": "Go?"}).to_string();
    engine.ok(&["start", "guests/asking", "--id", "asks", "--input", &question, "--token", &acme]);
    set(&engine, &admin, "stored-bytes=1000");
    engine.ok(&["approve", "asks", "--token", &acme]);
    let status = |engine: &Engine| -> Value {
        serde_json::from_str(&engine.ok(&["status", "asks", "--json", "--token", &acme])).unwrap()
    };
    let parked = until("it is parked", || Some(status(&engine)).filter(|status| status["status"] == "parked"));
    assert_eq!(parked["failure"]["kind"], "stored-bytes", "{parked}");
    // Deletion gives back, and so does a larger quota.
    engine.ok(&["delete", "first", "--token", &acme]);
    until("it is given back", || (used(&engine) < 20_000).then_some(()));
    set(&engine, &admin, "stored-bytes=100000");
    engine.ok(&["resume", "asks", "--token", &acme]);
    until("it goes on", || (status(&engine)["status"] == "completed").then_some(()));
    assert_eq!(run(&engine, "second").code, 0);
}
