//! The requests, reports and values of guests: many executions of each at once.

use serde_json::{Value, json};
use test_engine::{Database, Engine};

use crate::capped::Capped;

/// How an attack ends.
enum Ends {
    /// Each execution fails with one of these kinds.
    Failed(&'static [&'static str]),
    /// Each completes.
    Completed,
}
use Ends::{Completed, Failed};

const MIB: usize = 1 << 20;

/// Runs many executions of a load at once. The engine dies once meanwhile and comes back. Each ends as it should.
fn check(database: Database, (executions, load): (usize, Value), ends: &Ends) {
    let mut capped = Capped::start(database);
    let begin = |capped: &Capped, number: usize| {
        let id = format!("load-{number}");
        let said = capped.engine.json(&["start", "load", "--input", &load.to_string(), "--id", &id]);
        assert_eq!(said["execution_id"], json!(id), "{said}");
        id
    };
    let mut ids: Vec<String> = (0..executions / 2).map(|number| begin(&capped, number)).collect();
    capped.kill_and_restart();
    ids.extend((executions / 2..executions).map(|number| begin(&capped, number)));
    let began = std::time::Instant::now();
    let mut last = Vec::new();
    capped.serves_others_while(|engine| {
        assert!(began.elapsed().as_secs() < 300, "{load}: it goes on and on: {last:?}\n{}", engine.log());
        last = look(engine);
        !ids.iter().all(|id| last.iter().any(|(other, status, _)| other == id && ENDED.contains(&&**status)))
    });
    for (id, status, events) in look(&capped.engine).iter().filter(|(id, ..)| ids.contains(id)) {
        // Only the last event: histories are large.
        let after = (events - 1).to_string();
        let end = capped.engine.json(&["history", id, "--after", &after]);
        let kind = end["failure"]["kind"].as_str();
        let is_as_expected = match ends {
            Failed(kinds) => kind.is_some_and(|kind| kinds.contains(&kind)),
            Completed => status == "completed",
        };
        assert!(is_as_expected, "{load} ended as {status} with {kind:?}: {:.500}", end.to_string());
    }
    capped.end(&format!("{executions} executions of {load}"));
}

const ENDED: [&str; 3] = ["completed", "failed", "cancelled"];

/// Each execution's id, status and events.
fn look(engine: &Engine) -> Vec<(String, String, u64)> {
    let list = engine.json(&["list", "--workflow", "load"]);
    let text = |of: &Value, key: &str| of[key].as_str().unwrap_or_default().to_owned();
    let one = |of: &Value| (text(of, "execution_id"), text(of, "status"), of["events"].as_u64().unwrap_or(1));
    list.as_array().map(|all| all.iter().map(one).collect()).unwrap_or_default()
}

macro_rules! attacks {
    ($($name:ident: $executions:expr, $load:tt, $ends:expr;)+) => { $(
        mod $name {
            use super::*;
            #[test] fn sqlite() { check(Database::Sqlite, ($executions, json!($load)), &$ends); }
            #[test] fn postgres() { check(Database::Postgres, ($executions, json!($load)), &$ends); }
        }
    )+ };
}

attacks! {
    large_steps_at_once: 30, {"what": "steps", "count": 60, "bytes": (MIB / 2)}, Failed(&["call-limit"]);
    large_children_at_once: 20, {"what": "children", "count": 60, "bytes": (MIB / 2)}, Failed(&["call-limit"]);
    large_starts_at_once: 20, {"what": "starts", "count": 60, "bytes": (MIB / 2)}, Failed(&["call-limit"]);
    large_questions: 20, {"what": "questions", "count": 60, "bytes": (MIB / 2)}, Failed(&["call-limit"]);
    large_outputs_at_once: 20, {"what": "outputs", "count": 200, "bytes": (MIB - 2)}, Failed(&["history-limit", "memory-limit"]);
    large_outputs_in_turn: 10, {"what": "outputs-in-turn", "count": 200, "bytes": (MIB - 2)}, Failed(&["history-limit"]);
    polls_without_a_pause: 10, {"what": "polls", "count": 20, "bytes": (MIB / 2)}, Failed(&["poll-exhausted"]);
    many_tiny_calls: 20, {"what": "sleeps", "count": 20_000}, Failed(&["call-limit"]);
    large_attributes: 20, {"what": "attributes", "count": 60, "bytes": (MIB - 2)}, Failed(&["attribute-limit"]);
    many_attributes: 20, {"what": "attributes", "count": 1_000, "bytes": 10}, Failed(&["attribute-limit"]);
    a_long_attribute_name: 5, {"what": "attribute-name", "count": 1, "bytes": 65}, Failed(&["attribute-limit", "invalid-argument"]);
    shouting_without_end: 2, {"what": "shout", "count": 1, "bytes": 16_000}, Failed(&["history-limit"]);
    deep_steps: 20, {"what": "dig", "count": 100}, Failed(&["call-limit"]);
    handles_without_end: 40, {"what": "handles", "count": 95_000}, Failed(&["memory-limit"]);
    much_progress: 20, {"what": "report", "count": 2_000, "bytes": (MIB)}, Completed;
    a_long_kind: 20, {"what": "kind", "count": 1, "bytes": (MIB / 2)}, Failed(&["xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"]);
    a_long_chain: 10, {"what": "chain", "count": 120}, Completed;
}
