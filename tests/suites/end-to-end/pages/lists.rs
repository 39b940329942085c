//! Lists of executions: chosen columns, several attributes, and all that match as a file.

use serde_json::{Value, json};
use test_engine::{Database, Engine};

use super::{page, upload};
use crate::rest::{Told, curl};

on_both_databases!(all_that_match_are_a_file_beyond_the_page);

/// More than one reading of a list of all.
const EXECUTIONS: usize = 1_100;

fn file(engine: &Engine, path: &str) -> Told {
    let told = curl(engine, ("GET", path), &[], b"");
    assert!(told.status == 200 && told.head.contains("content-disposition: attachment; filename="), "{told:?}");
    told
}

fn all_that_match_are_a_file_beyond_the_page(database: Database) {
    let mut engine = Engine::start(database);
    upload(&engine);
    let starts: String = (0..EXECUTIONS)
        .map(|n| {
            let team = if n % 2 == 0 { "ops, eu" } else { "=1+1" };
            let attributes = json!({"team": team, "n": n});
            json!({"workflow": "guests/sequence", "id": format!("e{n}"), "input": {"steps": 0}, "attributes": attributes})
                .to_string()
                + "\n"
        })
        .collect();
    let started =
        curl(&engine, ("POST", "/v1/starts"), &["-H", "content-type: application/x-ndjson"], starts.as_bytes());
    assert_eq!((started.status, started.body.lines().count()), (200, EXECUTIONS), "{started:?}");
    engine.kill_and_restart();
    let rows = file(&engine, "/executions.csv?columns=team,n,none").body;
    let ids: std::collections::BTreeSet<_> = rows.lines().skip(1).map(|row| row.split("\",\"").nth(1)).collect();
    assert_eq!((rows.lines().count(), ids.len()), (EXECUTIONS + 1, EXECUTIONS));
    assert!(rows.starts_with(
        "\"status\",\"id\",\"workflow\",\"started\",\"ended\",\"run\",\"events\",\"parent\",\"team\",\"n\",\"none\"\r\n"
    ));
    assert!(rows.contains(",\"ops, eu\",\"8\",\"\"\r\n") && rows.contains(",\"'=1+1\",\"9\",\"\"\r\n"), "{rows}");
    let lines = file(&engine, "/executions.ndjson?attribute=team%3D%3D1%2B1%20%26%20n%3D9").body;
    let found: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(found.len(), 1, "{lines}");
    assert_eq!((&found[0]["execution_id"], &found[0]["attributes"]["n"]), (&json!("e9"), &json!(9)));
    let shown = page(&engine, "/executions?attribute=team%3Dops%2C+eu+%26+n%3D8&columns=n%2C+team").body;
    assert!(shown.contains("<th scope=\"col\">team</th>") && shown.contains("<td>ops, eu</td>"), "{shown}");
    assert!(!shown.contains("/executions/e6\"") && shown.contains("executions.csv?attribute=team%3Dops"), "{shown}");
    let wrong = curl(&engine, ("GET", "/executions.csv?attribute=team%3Dops%20%26%20n"), &[], b"");
    assert!(wrong.status == 400 && wrong.body.contains("several as a=1 &amp; b=2"), "{wrong:?}");
}
