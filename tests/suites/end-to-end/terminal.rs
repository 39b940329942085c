//! The command line as a person sees it.

use serde_json::json;
use test_engine::{Database, Engine, until};

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

/// On a terminal `watch` redraws in place.
#[test]
fn watch_draws_live_on_a_terminal() {
    let engine = Engine::start(Database::Sqlite);
    engine.upload("test-guests");
    let id = engine.begin("telling", &json!(400));
    let command = format!("{} --url {} watch {id}", test_engine::program("cerebelum").display(), engine.url());
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
fn a_timeline_folds_what_is_idle_and_puts_calls_of_a_step_below_it() {
    let (cloud, engine) = (test_engine::Cloud::start(), Engine::start(Database::Sqlite));
    engine.upload("test-guests");
    let id = engine.begin("naps", &json!({"base_url": cloud.url(), "sleep_ms": 1_500, "naps": 2}));
    let _ = engine.wait_for_end(&id);
    let drawn = engine.ok(&["timeline", &id]);
    let lines: Vec<&str> = drawn.lines().collect();
    assert!(lines[0].starts_with("CALL") && lines[0].contains("1.5s"), "{drawn}");
    assert!(lines[1].starts_with("post ") && lines[2].starts_with("  fetch 127.0.0.1"), "{drawn}");
    assert!(lines[3].starts_with("sleep ") && lines[3].contains('─') && lines.len() == 4, "{drawn}");
    assert!(engine.ok(&["timeline", &id, "--even"]).lines().all(|line| !line.contains('┊')));
    let lanes = engine.json(&["timeline", &id]);
    assert_eq!((&lanes[0]["name"], &lanes[0]["calls"], &lanes[1]["depth"]), (&json!("post"), &json!(2), &json!(1)));
    assert_eq!(lanes[2]["bars"][0]["end"], "completed", "{lanes}");
}

/// What needs a person stands at the top; on a terminal the view stays, elsewhere it is printed once.
#[test]
fn top_shows_what_needs_a_person_and_what_is_new() {
    let mut engine = Engine::start(Database::Sqlite);
    assert!(engine.ok(&["top"]).contains("no execution has been started yet"));
    engine.upload("test-guests");
    engine.ok(&["start", "test-guests/asking", "--id", "q", "--input", &json!({"title": "Go\u{1b}[2J?"}).to_string()]);
    engine.ok(&["start", "test-guests/sleeper", "--id", "s", "--input", "86400000"]);
    let shown = until("both wait", || {
        let shown = engine.ok(&["top", "--once"]);
        (shown.contains("sleeping 1") && shown.contains("open questions 1")).then_some(shown)
    });
    assert!(
        shown.contains("NEEDS A PERSON") && shown.contains("Go\\u{1b}[2J?") && !shown.contains('\u{1b}'),
        "{shown}"
    );
    let told = engine.json(&["top"]);
    assert_eq!(told["counts"]["sleeping"], json!({"executions": 1, "is_exact": true}));
    assert_eq!((told["approvals"].as_array().unwrap().len(), told["newest"].as_array().unwrap().len()), (1, 2));
    let command = format!("{} --url {} top", test_engine::program("cerebelum").display(), engine.url());
    let (drawn, mut watching) = on_a_terminal(&command);
    let is_drawn = |words: &str| String::from_utf8_lossy(&std::fs::read(&drawn.0).unwrap()).contains(words);
    until("it is drawn", || is_drawn("NEEDS A PERSON").then_some(()));
    engine.kill();
    until("it says that the engine is away", || is_drawn("does not answer since").then_some(()));
    watching.kill().unwrap();
    watching.wait().unwrap();
}

#[test]
fn a_manual_page_of_each_verb_is_written() {
    let folder = test_engine::scratch();
    let into = folder.0.join("man1");
    let said = std::process::Command::new(test_engine::program("cerebelum")).arg("man").arg(&into).output().unwrap();
    assert!(said.status.success(), "{said:?}");
    for (page, words) in
        [("cerebelum.1", "Exit codes"), ("cerebelum-start.1", "workflow"), ("cerebelum-bulk-cancel.1", "dry")]
    {
        let text = std::fs::read_to_string(into.join(page)).unwrap_or_else(|why| panic!("{page}: {why}"));
        assert!(text.contains(words), "{page}");
    }
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

/// While the engine is away, `watch` says so instead of showing an old state as the current one; it goes on afterwards.
#[test]
fn watch_says_that_the_engine_is_away_and_goes_on_when_it_is_back() {
    let mut engine = Engine::start(Database::Sqlite);
    engine.upload("test-guests");
    let port = engine.url().rsplit_once(':').unwrap().1.to_owned();
    let id = engine.begin("sleeper", &json!(86_400_000));
    let command = format!("{} --url {} watch {id}", test_engine::program("cerebelum").display(), engine.url());
    let (drawn, mut watching) = on_a_terminal(&command);
    let (lines, mut piped) = on_pipes(&command);
    let shows = |what: &str, file: &std::path::Path| std::fs::read_to_string(file).unwrap().contains(what);
    until("both watch it sleep", || (shows("sleeping", &drawn.0) && shows("sleeping", &lines.0)).then_some(()));
    engine.kill();
    until("both say that the engine is away", || {
        (shows("engine not reachable since 1.", &drawn.0) && shows("engine not reachable, trying", &lines.0))
            .then_some(())
    });
    engine.restart_with(&[("CEREBELUM_LISTEN", &format!("127.0.0.1:{port}"))]);
    engine.ok(&["terminate", &id]);
    until("both have ended", || Some((watching.try_wait().unwrap()?, piped.try_wait().unwrap()?)));
    let told = std::fs::read_to_string(&lines.0).unwrap();
    assert!(told.contains("engine reached again") && told.contains("cancelled"), "{told}");
    assert_eq!(told.matches("not reachable").count(), 1, "{told}");
    assert!(shows("cancelled", &drawn.0));
}

type Written = (std::path::PathBuf, test_engine::Scratch);

/// Runs a command on a terminal of its own; its output goes into the file.
fn on_a_terminal(command: &str) -> (Written, std::process::Child) {
    let folder = test_engine::scratch();
    let file = folder.0.join("drawn");
    let mut script = std::process::Command::new("script");
    script.args(["-qefc", command]).arg(&file).env("TERM", "xterm-256color");
    script.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
    std::fs::write(&file, "").unwrap();
    let running = script.spawn().unwrap();
    ((file, folder), running)
}

/// Runs a command on pipes; its output goes into the file.
fn on_pipes(command: &str) -> (Written, std::process::Child) {
    let folder = test_engine::scratch();
    let file = folder.0.join("printed");
    let to = std::fs::File::create(&file).unwrap();
    let mut shell = std::process::Command::new("bash");
    shell.args(["-c", command]).stdin(std::process::Stdio::null()).stdout(to.try_clone().unwrap()).stderr(to);
    let running = shell.spawn().unwrap();
    ((file, folder), running)
}

#[test]
fn a_list_is_bounded_says_how_to_go_on_and_knows_a_typo_from_nothing() {
    let engine = Engine::start(Database::Sqlite);
    let said = engine.cli(&["list", "--workflow", "sequence"]);
    assert!(said.code == 3 && said.err.contains("no components yet"), "{said:?}");
    engine.upload("test-guests");
    let ids: Vec<String> = (0..120).map(|number| format!("e{number:03}")).collect();
    for id in &ids {
        engine.ok(&["start", "sequence", "--input", r#"{"steps":0}"#, "--id", id]);
    }
    let listed = |arguments: &[&str]| -> (Vec<String>, String) {
        let said = engine.cli(&[&["list", "--json"], arguments].concat());
        assert_eq!(said.code, 0, "{said:?}");
        let found: Vec<serde_json::Value> = serde_json::from_str(&said.out).unwrap();
        (found.iter().map(|one| one["execution_id"].as_str().unwrap().to_owned()).collect(), said.err)
    };
    let newest: Vec<String> = ids.iter().rev().cloned().collect();
    let (first, err) = listed(&[]);
    assert_eq!(first, newest[..100]);
    let next: serde_json::Value = serde_json::from_str(&err).unwrap();
    assert_eq!(listed(&["--cursor", next["next"].as_str().unwrap()]), (newest[100..].to_vec(), String::new()));
    assert_eq!(listed(&["--all"]), (newest.clone(), String::new()));
    assert_eq!(listed(&["--limit", "120"]).0, newest);
    assert!(engine.cli(&["list", "--limit", "3"]).err.contains("there are more: --cursor "));
    // Times: of the executions started before the 50th, the newest three, and the cursor goes on after them.
    let started = |id: &str| engine.status(id)["started_at"].as_str().unwrap().to_owned();
    let fiftieth = started(&ids[50]);
    let before: Vec<String> = newest.iter().filter(|id| started(id) < fiftieth).cloned().collect();
    let (some, err) = listed(&["--until", &fiftieth, "--limit", "3"]);
    assert_eq!(some, before[..3]);
    let next: serde_json::Value = serde_json::from_str(&err).unwrap();
    assert_eq!(listed(&["--cursor", next["next"].as_str().unwrap(), "--limit", "4"]).0, before[3..7]);
    let since: Vec<String> = newest.iter().filter(|id| started(id) >= fiftieth).cloned().collect();
    assert_eq!(listed(&["--since", &fiftieth, "--all"]).0, since);
    assert_eq!(listed(&["--until", "1d"]).0, Vec::<String>::new());
    // A misspelt name is not the same as a workflow without executions.
    for (filter, told) in
        [("sequense", "there is no workflow `sequense`"), ("test-guests", "is a component, not a workflow")]
    {
        let said = engine.cli(&["list", "--workflow", filter]);
        assert!(said.code == 3 && said.out.is_empty() && said.err.contains(told), "{said:?}");
    }
    let said = engine.cli(&["list", "--workflow", "sleeper"]);
    assert_eq!((said.code, said.out.as_str()), (0, "no executions\n"), "{said:?}");
}

#[test]
fn a_verb_takes_several_executions_and_a_refusal_spares_none_of_the_others() {
    let engine = Engine::start(Database::Sqlite);
    engine.upload("test-guests");
    let start = |id: &str| drop(engine.ok(&["start", "sleeper", "--input", "86400000", "--id", id]));
    ["a", "b", "c"].into_iter().for_each(start);
    let said = engine.cli(&["terminate", "a", "nobody", "b", "no-one", "--json"]);
    assert_eq!(said.code, 3, "{said:?}");
    assert_eq!(said.out, "{\"execution_id\":\"a\"}\n{\"execution_id\":\"b\"}\n");
    let errors: Vec<serde_json::Value> = said.err.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(errors.len(), 2, "{said:?}");
    for (error, name) in errors.iter().zip(["nobody", "no-one"]) {
        assert_eq!(error["error"]["code"], 3);
        assert!(error["error"]["message"].as_str().unwrap().contains(name), "{said:?}");
    }
    engine.wait_for("a", &["cancelled"]);
    engine.wait_for("b", &["cancelled"]);
    // The exit code is that of the first refusal: `c` still runs, which is a conflict; `nobody` is not found.
    assert_eq!(engine.cli(&["delete", "a", "c", "nobody", "b"]).code, 5);
    assert_eq!(engine.status("c")["status"], "sleeping");
    for gone in ["a", "b"] {
        assert_eq!(engine.cli(&["status", gone]).code, 3);
    }
}

#[test]
fn many_steps_of_one_name_are_folded_and_each_shows_its_input() {
    let engine = Engine::start(Database::Sqlite);
    engine.upload("fan-out");
    let cloud = test_engine::Cloud::start();
    let done = engine.run("fan_out", &json!({"base_url": cloud.url(), "parts": 40}));
    let id = done["execution_id"].as_str().unwrap();
    let shown = engine.ok(&["status", id]);
    let lines = shown.lines().count();
    assert!(shown.contains("×40: 40 completed") && shown.contains("35 more, see `cerebelum status --all`"), "{shown}");
    assert_eq!(engine.ok(&["status", id, "--all"]).lines().count(), lines + 40 - 7, "{shown}");
    assert_eq!(engine.ok(&["status", id, "--limit", "0"]).lines().count(), lines - 5, "{shown}");
    for step in done["steps"].as_array().unwrap() {
        let preview = step["input_preview"].as_str().unwrap();
        assert!(preview.contains(&cloud.url()[..10]) && preview.chars().count() <= 81, "{step:#}");
    }
    let previews: std::collections::HashSet<_> =
        done["steps"].as_array().unwrap().iter().map(|step| step["input_preview"].as_str()).collect();
    assert!(previews.len() >= 40, "calls can be told apart: {previews:?}");
}

#[test]
fn log_lines_name_their_step() {
    let engine = Engine::start(Database::Sqlite);
    engine.upload("hello");
    let id = engine.run("hello", &json!({"name": "Ada"}))["execution_id"].as_str().unwrap().to_owned();
    let step = engine.status(&id)["steps"][0]["name"].as_str().unwrap().to_owned();
    let lines = engine.ok(&["logs", &id]);
    assert!(lines.lines().count() > 0 && lines.contains(&step), "{lines}");
    for line in engine.ok(&["logs", &id, "--json"]).lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["scope"] == "" || line["step"] == json!(step), "{line}");
    }
}
