//! Parents and children of executions: as a page, as a filter, and as what a bulk job acts on.

use serde_json::{Value, json};
use test_engine::{Database, Engine, until};

use super::{page, upload};
use crate::rest::curl;

on_both_databases!(a_family_is_found_from_each_of_its_members, a_bulk_job_acts_on_the_children_of_one_execution);

fn tree(engine: &Engine, of: &str) -> String {
    page(engine, &format!("/executions/{of}/tree")).body
}

fn children(engine: &Engine, of: &str) -> Vec<String> {
    let all = engine.json(&["list", "--parent", of, "--all"]);
    all.as_array().unwrap().iter().map(|one| one["execution_id"].as_str().unwrap().to_owned()).collect()
}

fn start_family(engine: &Engine, id: &str, number: u32) {
    let input = json!({"children": number, "awaited": false}).to_string();
    engine.ok(&["start", "guests/family", "--id", id, "--input", &input, "--wait"]);
    until("all children have ended", || {
        let counted = curl(engine, ("GET", &format!("/v1/count?parent={id}&status=completed")), &[], b"");
        (serde_json::from_str::<Value>(&counted.body).unwrap()["executions"] == number).then_some(())
    });
}

fn a_family_is_found_from_each_of_its_members(database: Database) {
    let mut engine = Engine::start(database);
    upload(&engine);
    start_family(&engine, "many", 120);
    engine.kill_and_restart();
    let first = tree(&engine, "many");
    assert!(first.contains("120 children: ") && first.contains(">120 completed</a>"), "{first}");
    assert_eq!(first.matches("class=\"depth-1\"").count(), 100, "{first}");
    let next = first.split("rel=\"next\" href=\"").nth(1).unwrap().split('"').next().unwrap();
    let second = page(&engine, next).body;
    assert_eq!(second.matches("class=\"depth-1\"").count(), 20, "{second}");
    assert!(second.contains(">Newest</a>") && !second.contains("rel=\"next\""), "{second}");
    assert!(page(&engine, "/executions/many/tree?status=failed").body.contains("No child matches"));
    let child = &children(&engine, "many")[0];
    let below = tree(&engine, child);
    assert!(
        below.contains("href=\"/executions/many\"") && below.contains("It has started no other execution"),
        "{below}"
    );
    assert!(below.contains("href=\"/executions/many/tree\">120 children</a>"), "{below}");
    // Level below level: the page of each leads to all above it.
    engine.ok(&["start", "guests/descend", "--id", "top", "--input", "8", "--wait"]);
    let mut lowest = "top".to_owned();
    while let Some(child) = children(&engine, &lowest).first() {
        lowest.clone_from(child);
    }
    let shown = tree(&engine, &lowest);
    assert_eq!(shown.matches(">1 child</a>").count(), 8, "{shown}");
    assert!(shown.contains("href=\"/executions/top\"") && shown.contains("class=\"depth-6\""), "{shown}");
    // A child that failed is counted where it belongs.
    engine.ok(&["start", "guests/gated_child", "--id", "g", "--input", "\"http://127.0.0.1:1\""]);
    assert_eq!(engine.wait_for_end("g")["status"], "failed");
    let failed = tree(&engine, "g");
    assert!(failed.contains("1 child: ") && failed.contains("?status=failed\">1 failed</a>"), "{failed}");
    assert!(tree(&engine, "gate-keeper").contains("<span class=\"wrong\">1 failed</span>"));
    // What has been deleted is named, and does not hide its children.
    engine.ok(&["delete", "many"]);
    let orphan = tree(&engine, child);
    assert!(orphan.contains(">many</th>") && orphan.contains(">deleted</td>"), "{orphan}");
    assert_eq!(curl(&engine, ("GET", "/executions/many/tree"), &[], b"").status, 404);
    assert_eq!(children(&engine, "many").len(), 120);
    engine.ok(&["delete", child]);
    assert_eq!(children(&engine, "many").len(), 119);
}

fn a_bulk_job_acts_on_the_children_of_one_execution(database: Database) {
    let engine = Engine::start(database);
    upload(&engine);
    start_family(&engine, "a", 30);
    start_family(&engine, "b", 3);
    let rest = |path: &str| {
        let told = curl(&engine, ("GET", path), &[], b"");
        (told.status, serde_json::from_str::<Value>(&told.body).unwrap())
    };
    assert_eq!(rest("/v1/executions?parent=b").1["executions"].as_array().unwrap().len(), 3);
    assert_eq!(rest("/v1/count?parent=a").1["executions"], 30);
    assert_eq!(rest("/v1/executions?parent=a&status=failed").1["executions"], json!([]));
    for path in ["/v1/executions?parent=a%20b", "/v1/count?parent=%3Cb%3E"] {
        let (status, told) = rest(path);
        assert!(status == 400 && told.to_string().contains("no execution id"), "{path}: {told}");
    }
    let list = page(&engine, "/executions?parent=a").body;
    assert!(list.contains("name=\"parent\" value=\"a\"") && list.contains("/bulk-form?parent=a"), "{list}");
    let form = page(&engine, "/bulk-form?parent=a").body;
    assert!(form.contains("30 executions match") && form.contains("child of a"), "{form}");
    assert!(form.contains("name=\"parent\" value=\"a\""), "{form}");
    engine.ok(&["bulk", "delete", "--parent", "a", "--id", "j"]);
    let job = until("it is done", || {
        let job = engine.json(&["bulk", "show", "j"]);
        (job["state"] == "done").then_some(job)
    });
    assert_eq!((&job["done"], &job["filter"]), (&json!(30), &json!({"parent": "a"})), "{job}");
    assert_eq!((children(&engine, "a").len(), children(&engine, "b").len()), (0, 3));
    assert_eq!(engine.status("a")["status"], "completed", "only the children were meant");
    assert!(engine.ok(&["bulk", "list"]).contains("child of a"));
}
