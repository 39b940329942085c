//! The command line as a person meets it.

use cerebelum_tests::{Database, Engine};
use serde_json::json;

#[test]
fn watch_prints_plain_lines_when_piped() {
    let engine = Engine::start(Database::Sqlite);
    engine.upload("test-guests");
    let id = engine.begin("telling", &json!(100));
    let watched = engine.cli(&["watch", &id]);
    assert_eq!(watched.code, 0, "{watched:?}");
    assert!(watched.out.lines().count() >= 2 && !watched.out.contains('\u{1b}'), "{watched:?}");
    assert!(watched.out.contains("completed"), "{watched:?}");
}

/// On a terminal it redraws in place.
#[test]
fn watch_draws_live_on_a_terminal() {
    let engine = Engine::start(Database::Sqlite);
    engine.upload("test-guests");
    let id = engine.begin("telling", &json!(400));
    let command = format!("{} --url {} watch {id}", cerebelum_tests::program("cerebelum").display(), engine.url());
    // `script` gives the command a terminal of its own.
    let mut watching = std::process::Command::new("script")
        .args(["-qefc", &command, "/dev/null"])
        .env("TERM", "xterm-256color")
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut drawn = String::new();
    std::io::Read::read_to_string(watching.stdout.as_mut().unwrap(), &mut drawn).unwrap();
    assert!(watching.wait().unwrap().success(), "{drawn}");
    assert!(drawn.contains('\u{1b}'), "it redraws in place: {drawn:?}");
    assert!(drawn.contains("almost") && drawn.contains("completed"), "{drawn:?}");
}

#[test]
fn status_json_has_the_fields_of_the_contract() {
    let engine = Engine::start(Database::Sqlite);
    engine.upload("test-guests");
    let done = engine.run("sequence", &json!({"steps": 2}));
    for field in [
        "execution_id",
        "workflow",
        "component",
        "status",
        "input",
        "output",
        "failure",
        "waiting_on",
        "progress",
        "steps",
        "attributes",
        "started_at",
        "ended_at",
        "events",
    ] {
        assert!(done.get(field).is_some(), "`{field}` is missing in {done:#}");
    }
    for field in ["name", "status", "attempt", "started_at", "ended_at", "duration_ms", "output", "failure"] {
        assert!(done["steps"][0].get(field).is_some(), "`{field}` is missing in {done:#}");
    }
    let event = &engine.history(done["execution_id"].as_str().unwrap())[0];
    for field in ["position", "time", "kind", "scope"] {
        assert!(event.get(field).is_some(), "`{field}` is missing in {event:#}");
    }
}
