//! A tenant is deleted with all that it has, across kills, and others notice nothing.

use std::time::Duration;

use serde_json::{Value, json};
use test_engine::{Database, Engine, component, until, within};

use crate::rest::curl;
use crate::tenants::token;

on_both_databases!(a_deleted_tenant_is_gone_with_all_that_it_had, a_tenant_is_not_deleted_by_accident,);

fn start_many(engine: &Engine, token: &str, (count, workflow, input): (usize, &str, Value)) {
    let line = format!("{}\n", json!({"workflow": workflow, "input": input}));
    let bearer = format!("authorization: Bearer {token}");
    let headers = ["-H", bearer.as_str(), "-H", "content-type: application/x-ndjson"];
    let told = curl(engine, ("POST", "/v1/starts"), &headers, line.repeat(count).as_bytes());
    assert!(told.status == 200 && !told.body.contains("\"code\""), "{told:?}");
}

fn a_deleted_tenant_is_gone_with_all_that_it_had(database: Database) {
    let mut engine = Engine::start_with(database, &[("LEASE", "3s")]);
    let admin = token(&engine, "", &["--role", "admin", "--name", "ada"]);
    let ok = |engine: &Engine, line: &[&str]| engine.ok(&[line, &["--token", &admin]].concat());
    ok(&engine, &["tenant", "create", "acme"]);
    let acme = token(&engine, &admin, &["--role", "admin", "--name", "bob", "--tenant", "acme"]);
    for token in [&admin, &acme] {
        engine.ok(&["upload", &component("test-guests"), "--name", "guests", "--token", token]);
    }
    engine.ok(&["start", "guests/sleeper", "--id", "same", "--input", "86400000", "--token", &acme]);
    ok(&engine, &["start", "guests/sleeper", "--id", "same", "--input", "86400000"]);
    ok(&engine, &["start", "guests/sleeper", "--id", "bystander", "--input", "1000"]);
    start_many(&engine, &acme, (3_000, "guests/sequence", json!({"steps": 2})));
    start_many(&engine, &acme, (300, "guests/sleeper", json!(86_400_000)));
    start_many(&engine, &acme, (20, "guests/asking", json!({"title": "Go?"})));
    ok(&engine, &["tenant", "suspend", "acme"]);
    assert!(ok(&engine, &["tenant", "delete", "acme"]).contains("is being deleted"));
    // A second deletion changes nothing, and a deletion cannot be taken back.
    ok(&engine, &["tenant", "delete", "acme"]);
    let lifted = engine.cli(&["tenant", "suspend", "acme", "--lift", "--token", &admin]);
    assert!(lifted.code == 5 && lifted.err.contains("being deleted"), "{lifted:?}");
    assert_eq!(engine.cli(&["list", "--token", &acme]).code, 5);
    for _ in 0..4 {
        engine.kill_and_restart();
        until("it works", || (engine.cli(&["tenant", "list", "--token", &admin]).code == 0).then_some(()));
    }
    within(Duration::from_secs(60), "nothing is left of it", || {
        (!ok(&engine, &["tenant", "list"]).contains("acme")).then_some(())
    });
    let unknown = engine.cli(&["list", "--token", &acme]);
    assert!(unknown.code == 5 && unknown.err.contains("unknown"), "{unknown:?}");
    // The next tenant of that name gets nothing of the first one.
    ok(&engine, &["tenant", "create", "acme"]);
    let again = token(&engine, &admin, &["--role", "admin", "--name", "eve", "--tenant", "acme"]);
    for list in ["list", "components", "approvals"] {
        assert_eq!(engine.ok(&[list, "--json", "--token", &again]).trim(), "[]", "{list}");
    }
    let acts: Value = serde_json::from_str(&engine.ok(&["audit", "--json", "--token", &again])).unwrap();
    assert_eq!(acts.as_array().unwrap().len(), 1, "{acts}");
    let refused = engine.cli(&["start", "guests/sleeper", "--input", "1", "--token", &again]);
    assert_eq!(refused.code, 3, "{refused:?}");
    engine.ok(&["upload", &component("test-guests"), "--name", "guests", "--token", &again]);
    engine.ok(&["start", "guests/sleeper", "--id", "same", "--input", "1", "--token", &again]);
    engine.ok(&["result", "same", "--wait", "--token", &again]);
    // The others noticed nothing.
    assert!(ok(&engine, &["status", "same"]).contains("sleeping"));
    ok(&engine, &["result", "bystander", "--wait"]);
    let acts = ok(&engine, &["audit", "--operation", "DeleteTenant", "--json"]);
    let acts: Value = serde_json::from_str(&acts).unwrap();
    assert_eq!((acts.as_array().unwrap().len(), &acts[0]["object"]), (1, &json!("acme")), "{acts}");
}

fn a_tenant_is_not_deleted_by_accident(database: Database) {
    let engine = Engine::start(database);
    let admin = token(&engine, "", &["--role", "admin", "--name", "ada"]);
    engine.ok(&["tenant", "create", "acme", "--token", &admin]);
    let acme = token(&engine, &admin, &["--role", "admin", "--name", "bob", "--tenant", "acme"]);
    let delete = |name: &str, token: &str| {
        let said = engine.cli(&["tenant", "delete", name, "--token", token]);
        (said.code, said.err)
    };
    let (code, why) = delete("acme", &admin);
    assert!(code == 5 && why.contains("cerebelum tenant suspend acme"), "{why}");
    let (code, why) = delete("default", &admin);
    assert!(code == 5 && why.contains("cannot be deleted"), "{why}");
    assert_eq!(delete("absent", &admin).0, 3);
    assert_eq!(delete("acme", &acme).0, 5);
    let bearer = format!("authorization: Bearer {admin}");
    let told = curl(&engine, ("DELETE", "/v1/tenants/acme"), &["-H", &bearer], b"");
    assert_eq!(told.problem(), (409, "conflict".to_owned()));
    engine.ok(&["tenant", "suspend", "acme", "--token", &admin]);
    let told = curl(&engine, ("DELETE", "/v1/tenants/acme"), &["-H", &bearer], b"").json();
    assert!(told["deleted_at"].is_string(), "{told}");
    let refused =
        engine.cli(&["token", "create", "--role", "viewer", "--name", "x", "--tenant", "acme", "--token", &admin]);
    assert!(refused.code == 5 && refused.err.contains("being deleted"), "{refused:?}");
}
