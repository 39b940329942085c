//! Pages below a path, as behind a proxy: a crawler follows every link that it finds, and no link leads elsewhere.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};
use test_engine::{Database, Engine, until};

use super::{led_to, page, send, upload};
use crate::rest::curl;

on_both_databases!(below_a_path_no_link_leads_elsewhere_and_every_form_works);

const BELOW: &str = "/ops/cb";
const ADDRESS: [(&str, &str); 1] = [("PUBLIC_URL", "https://example.com/ops/cb/")];

/// The paths of this engine that a page points at.
fn points_at(page: &str) -> Vec<String> {
    let attributes = ["href", "action", "src", "data-changes"].map(|name| format!(" {name}=\""));
    let values = attributes.iter().flat_map(|start| page.split(start.as_str()).skip(1));
    let values = values.map(|rest| rest.split('"').next().unwrap().replace("&amp;", "&"));
    values.filter(|value| !value.starts_with(['#', '?'])).collect()
}

/// Asks for every page that a page leads to, this one first. Returns for each path the page that led there.
fn crawl(engine: &Engine, start: &str) -> BTreeMap<String, String> {
    let (mut found, mut next) = (BTreeMap::new(), VecDeque::from([start.to_owned()]));
    while let Some(path) = next.pop_front() {
        let path = path.split('#').next().unwrap().to_owned();
        let told = curl(engine, ("GET", &path), &["--max-time", "2"], b"");
        assert!(told.status < 400, "{path} of {:?}: {told:?}", found.get(&path));
        if told.status == 303 {
            assert!(led_to(&told).starts_with("/ops/cb/"), "{told:?}");
        }
        if !told.head.contains("content-type: text/html") {
            continue;
        }
        for to in points_at(&told.body) {
            assert!(to.starts_with("/ops/cb/") && !to.contains("/ops/cb/ops"), "{to} on {path}");
            // Forms are sent by the test; streams do not end.
            let is_page = !told.body.contains(&format!("action=\"{to}\"")) && !to.ends_with("/changes");
            if is_page && !found.contains_key(&to) && found.len() < 400 {
                found.insert(to.clone(), path.clone());
                next.push_back(to);
            }
        }
    }
    found
}

fn below_a_path_no_link_leads_elsewhere_and_every_form_works(database: Database) {
    let mut engine = Engine::start_with(database, &ADDRESS);
    upload(&engine);
    let at = |path: &str| format!("{BELOW}{path}");
    let input = json!({"title": "\" href=\"/evil\" <a href=\"/evil\">"}).to_string();
    let start = [("json", input.as_str()), ("id", "q"), ("delay", "")];
    assert_eq!(led_to(&send(&engine, &at("/start/guests/asking"), &[], &start)), at("/executions/q"));
    engine.ok(&["start", "guests/family", "--id", "many", "--input", r#"{"children":3,"awaited":true}"#, "--wait"]);
    engine.ok(&["start", "guests/load", "--id", "c", "--input", r#"{"what":"chain","count":2}"#, "--wait"]);
    engine.kill_and_restart();
    until("it asks", || page(&engine, &at("/executions/q")).body.contains("waits for a person").then_some(()));
    let found = crawl(&engine, &at("/"));
    for path in ["/executions/q/timeline", "/executions/many/tree", "/approvals", "/nodes", "/start/guests/asking"] {
        assert!(found.contains_key(&at(path)), "{path} of {found:?}");
    }
    assert!(found.len() > 60, "{found:?}");
    // The proxy may take the path away, and the port of the engine itself has none.
    assert!(page(&engine, "/executions/q").body.contains("href=\"/ops/cb/executions\""));
    let nowhere = curl(&engine, ("GET", "/ops/cbx"), &["-H", "accept: text/html"], b"");
    assert!(nowhere.status == 404 && nowhere.body.contains("href=\"/ops/cb/\""), "{nowhere:?}");
    assert_eq!(curl(&engine, ("GET", &at("/v1/executions/q")), &[], b"").status, 200);
    // A link for a person has the address that people know.
    let body = br#"{"name": "ada"}"#;
    let json = ["-H", "content-type: application/json"];
    let link = curl(&engine, ("POST", &at("/v1/approvals/q/links")), &json, body);
    let link: Value = serde_json::from_str(&link.body).unwrap_or_else(|_| panic!("{link:?}"));
    let url = link["url"].as_str().unwrap();
    let path = url.strip_prefix("https://example.com").unwrap();
    assert!(points_at(&page(&engine, path).body).contains(&path.to_owned()), "{url}");
    assert!(engine.ok(&["approvals", "link", "q", "--for", "eve"]).starts_with("https://example.com/ops/cb/a/"));
    assert_eq!(
        led_to(&send(&engine, path, &[], &[("decision", "approve"), ("json", "{}")])),
        path.to_ascii_lowercase()
    );
    assert_eq!(engine.wait_for_end("q")["status"], "completed");
    assert_eq!(led_to(&send(&engine, &at("/executions/q/delete"), &[], &[])), at("/executions"));
}
