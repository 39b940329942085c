//! What there is in the fake cloud, and how it answers.

use std::collections::HashMap;
use std::sync::Mutex;

use serde_json::json;

use crate::Arguments;

/// Numbers given out, and how often each path was asked.
#[derive(Default)]
pub(crate) struct Things(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    last: HashMap<String, u64>,
    asked: HashMap<String, u64>,
    open: HashMap<String, bool>,
}

/// Status, JSON text, and how many milliseconds to take.
type Answer = (u16, String, u64);

impl Things {
    /// Answers one request.
    pub(crate) fn answer(&self, arguments: &Arguments, method: &str, path: &str) -> Answer {
        let mut counts = self.0.lock().expect("nobody panics while counting");
        let asked = counts.asked.entry(format!("{method} {path}")).or_default();
        *asked += 1;
        let asked = *asked;
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        match (method, parts.as_slice()) {
            ("POST", ["droplets"]) => made(counts.next("droplets"), &json!({"status": "new", "ip": null})),
            ("GET", ["droplets", id]) if asked > arguments.ready_after => found(id, &json!({"status": "active", "ip": format!("203.0.113.{id}")})),
            ("GET", ["droplets", id]) => found(id, &json!({"status": "new", "ip": null})),
            ("POST", ["ssh", _]) if asked <= arguments.ssh_refusals => (503, r#""connection refused""#.to_owned(), 0),
            ("POST", ["ssh", _]) => (200, "SSH-2.0-fake".to_owned(), 0),
            ("POST", ["certificates"]) => made(counts.next("certificates"), &json!({"status": "pending", "pem": null})),
            ("GET", ["certificates", id]) if asked > arguments.ready_after => found(id, &json!({"status": "issued", "pem": "-----BEGIN CERTIFICATE-----"})),
            ("GET", ["certificates", id]) => found(id, &json!({"status": "pending", "pem": null})),
            ("POST", ["builds"]) => made(counts.next("builds"), &json!({"status": "running", "error": null})),
            ("GET", ["builds", id]) if asked <= arguments.ready_after => found(id, &json!({"status": "running", "error": null})),
            ("GET", ["builds", id]) if arguments.builds_fail => found(id, &json!({"status": "failure", "error": "a test failed"})),
            ("GET", ["builds", id]) => found(id, &json!({"status": "success", "error": null})),
            ("POST", ["mails"]) => (201, counts.next("mails").to_string(), 0),
            // For tests: the first N requests fail; an answer that takes its time; one that waits for a gate to open.
            (_, ["flaky", times, ..]) if asked <= times.parse().unwrap_or(0) => (503, r#""not now""#.to_owned(), 0),
            (_, ["slow", ms, ..]) => (200, json!({"asked": asked}).to_string(), ms.parse().unwrap_or(0)),
            ("POST", ["gates", gate, "open"]) => {
                counts.open.insert((*gate).to_owned(), true);
                (204, String::new(), 0)
            }
            (_, ["gates", gate, ..]) if !counts.open.contains_key(*gate) => (503, r#""closed""#.to_owned(), 0),
            _ => (200, json!({"asked": asked}).to_string(), 0),
        }
    }
}

impl Counts {
    fn next(&mut self, kind: &str) -> u64 {
        let last = self.last.entry(kind.to_owned()).or_default();
        *last += 1;
        *last
    }
}

fn made(id: u64, rest: &serde_json::Value) -> Answer {
    (201, with_id(id, rest), 0)
}

fn found(id: &str, rest: &serde_json::Value) -> Answer {
    match id.parse() {
        Ok(id) => (200, with_id(id, rest), 0),
        Err(_) => (404, r#""there is no such thing""#.to_owned(), 0),
    }
}

fn with_id(id: u64, rest: &serde_json::Value) -> String {
    let mut thing = rest.clone();
    thing["id"] = json!(id);
    thing.to_string()
}
