//! Saved views of the list of executions: a person's own and a tenant's, across kills, on pages and elsewhere.

use serde_json::{Value, json};
use test_engine::{Database, Engine};

use super::{cookie, led_to, page, send, upload};
use crate::rest::{Told, curl};
use crate::tenants::token;

on_both_databases!(
    a_view_is_saved_and_opened_without_scripts_and_survives_a_kill,
    nobody_changes_what_others_see_without_the_right_to_run,
);

fn save(engine: &Engine, name: &str, fields: &[(&str, &str)]) -> Told {
    send(engine, "/views", &[], &[&[("name", name)], fields].concat())
}

fn a_view_is_saved_and_opened_without_scripts_and_survives_a_kill(database: Database) {
    let mut engine = Engine::start(database);
    upload(&engine);
    for (id, team) in [("a", "ops & <b>"), ("b", "dev")] {
        let team = format!("team={team}");
        engine.ok(&["start", "guests/sequence", "--input", "{\"steps\":0}", "--id", id, "--attr", &team, "--wait"]);
    }
    let list = "/executions?status=completed&attribute=team%3Ddev&columns=team";
    let shown = page(&engine, list).body;
    assert!(shown.contains("name=\"attribute\" value=\"team=dev\"") && !shown.contains("Saved views"), "{shown}");
    let fields = [("status", "completed"), ("attribute", "team=dev"), ("columns", "team")];
    let hostile = "<script>alert(1)</script>\"'/?#&%2F";
    // Names of headers and what they say are in small letters here.
    assert_eq!(led_to(&save(&engine, hostile, &fields)), list.to_lowercase());
    engine.kill_and_restart();
    let shown = page(&engine, list).body;
    let link = "href=\"/executions?status=completed&amp;attribute=team%3Ddev&amp;columns=team\" \
                title=\"completed, team=&quot;dev&quot;, shared\" aria-current=\"page\"";
    assert!(shown.contains(link) && !shown.contains("<script>alert"), "{shown}");
    assert!(shown.contains("/executions/b\"") && !shown.contains("/executions/a\""), "{shown}");
    assert!(!page(&engine, "/executions").body.contains("aria-current=\"page\">&lt;script"));
    // The same name again replaces it; what no page could ask for is shown, and leads nowhere.
    led_to(&save(&engine, hostile, &[("status", "failed")]));
    engine.ok(&["view", "save", "odd", "--attr", "team=ops & <b>", "--column", "team,n"]);
    let all: Value = engine.json(&["view", "list"]);
    let all = all.as_array().unwrap();
    assert_eq!(all.len(), 2, "{all:?}");
    assert_eq!((&all[0]["name"], &all[0]["filter"]), (&json!(hostile), &json!({"status": "failed"})));
    assert_eq!((&all[0]["shared"], &all[0]["saved_by"]), (&json!(true), &Value::Null));
    assert_eq!(
        (&all[1]["filter"]["attributes"]["team"], &all[1]["columns"]),
        (&json!("ops & <b>"), &json!(["team", "n"]))
    );
    let shown = page(&engine, "/executions").body;
    assert!(shown.contains(">odd (not for pages)</span>") && !shown.contains("ops & <b>"), "{shown}");
    assert!(engine.ok(&["view", "list"]).contains("for everybody"));
    let (long, wide) = ("x".repeat(101), "w".repeat(5_000));
    for (name, fields, status) in [
        ("", &[][..], 400),
        (&long, &[], 400),
        ("v", &[("attribute", "team")], 400),
        ("v", &[("attribute", "a=1 & a=2")], 400),
        ("v", &[("status", "fialed")], 400),
        ("v", &[("workflow", &wide)], 400),
    ] {
        let told = save(&engine, name, fields);
        assert!(told.status == status && told.body.contains("<h1>"), "{name} {fields:?}: {told:?}");
    }
    let foreign = ["-H", "origin: https://example.com", "-H", "sec-fetch-site: cross-site"];
    assert!(send(&engine, "/views", &foreign, &[("name", "foreign")]).status >= 400);
    let path = shown.split("action=\"/views/").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(led_to(&send(&engine, &format!("/views/{path}"), &[], &[("shared", "true")])), "/executions");
    assert_eq!(send(&engine, &format!("/views/{path}"), &[], &[("shared", "true")]).status, 404);
    engine.ok(&["view", "delete", "odd"]);
    assert!(engine.ok(&["view", "list"]).contains("no views"));
    let audit: Value = engine.json(&["audit", "--operation", "DeleteView"]);
    assert_eq!(audit.as_array().unwrap().len(), 2, "{audit}");
    // There are so many and no more, and the answer says what to do.
    for n in 0..100 {
        led_to(&save(&engine, &format!("v{n}"), &[]));
    }
    let full = engine.cli(&["view", "save", "v100"]);
    assert!(full.code == 5 && full.err.contains("delete one"), "{full:?}");
    engine.ok(&["view", "save", "v99", "--status", "parked"]);
}

fn nobody_changes_what_others_see_without_the_right_to_run(database: Database) {
    let mut engine = Engine::start(database);
    let admin = token(&engine, "", &["--role", "admin", "--name", "root"]);
    engine.ok(&["tenant", "create", "other", "--token", &admin]);
    let of = |role: &str, name: &str, tenant: &str| {
        token(&engine, &admin, &["--role", role, "--name", name, "--tenant", tenant])
    };
    let (ada, bob) = (of("viewer", "ada", "default"), of("approver", "bob", "default"));
    let (olga, strange) = (of("operator", "olga", "default"), of("admin", "ada", "other"));
    let post = |engine: &Engine, token: &str, name: &str, shared: bool| -> Told {
        let bearer = format!("authorization: Bearer {token}");
        let body = json!({"name": name, "shared": shared, "filter": {"status": "failed"}}).to_string();
        curl(engine, ("POST", "/v1/views"), &["-H", &bearer, "-H", "content-type: application/json"], body.as_bytes())
    };
    for (token, name, shared, status) in [
        (&ada, "mine", false, 200),
        (&ada, "ours", true, 403),
        (&bob, "mine", false, 200),
        (&bob, "ours", true, 403),
        (&olga, "ours", true, 200),
        (&olga, "olga's", false, 200),
        (&strange, "ours", true, 200),
    ] {
        let told = post(&engine, token, name, shared);
        assert_eq!(told.status, status, "{name}: {told:?}");
    }
    engine.kill_and_restart();
    let names = |token: &str| {
        let all = engine.json(&["view", "list", "--token", token]);
        let pair =
            |view: &Value| (view["name"].as_str().unwrap().to_owned(), view["saved_by"].as_str().unwrap().to_owned());
        all.as_array().unwrap().iter().map(pair).collect::<Vec<_>>()
    };
    let pairs = |all: &[(&str, &str)]| all.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>();
    assert_eq!(names(&ada), pairs(&[("ours", "olga"), ("mine", "ada")]));
    assert_eq!(names(&bob), pairs(&[("ours", "olga"), ("mine", "bob")]));
    assert_eq!(names(&olga), pairs(&[("ours", "olga"), ("olga's", "olga")]));
    assert_eq!(names(&strange), pairs(&[("ours", "ada")]), "a namesake in another tenant is somebody else");
    // Pages allow the same.
    let (as_ada, as_olga) = (cookie(&engine, &ada), cookie(&engine, &olga));
    let shown = curl(&engine, ("GET", "/executions"), &["-H", &as_ada], b"").body;
    assert!(
        shown.contains("title=\"failed, shared by olga\"") && shown.contains("title=\"failed, your own\""),
        "{shown}"
    );
    assert!(shown.contains("/views/mine/delete") && !shown.contains("/views/ours/delete"), "{shown}");
    assert!(!shown.contains("everybody in this tenant"), "{shown}");
    let delete = |cookie: &str, name: &str, shared| {
        send(&engine, &format!("/views/{name}/delete"), &["-H", cookie], &[("shared", shared)]).status
    };
    assert_eq!((delete(&as_ada, "ours", "true"), delete(&as_ada, "ours", "false")), (403, 404));
    let share = [("name", "x"), ("shared", "true")];
    assert_eq!(send(&engine, "/views", &["-H", &as_ada], &share).status, 403);
    assert_eq!((delete(&as_ada, "mine", "false"), delete(&as_olga, "ours", "true")), (303, 303));
    assert_eq!((names(&ada), names(&bob)), (Vec::new(), pairs(&[("mine", "bob")])));
    assert_eq!(names(&strange).len(), 1);
    let audit = engine.ok(&["audit", "--caller", "ada", "--token", &admin]);
    assert!(audit.contains("SaveView") && audit.contains("DeleteView") && !audit.contains("ours"), "{audit}");
}
