//! Bad input gets one clear line and the right exit code, and nothing is lost.

use serde_json::json;
use test_engine::{Database, Engine, Said, component, scratch};

on_both_databases!(bad_input_gets_one_line_and_its_exit_code, bad_files_are_refused_by_name);

fn check(said: &Said, code: i32, word: &str) {
    assert_eq!(said.code, code, "{said:?}");
    assert_eq!(said.err.trim_end().lines().count(), 1, "one line: {said:?}");
    assert!(said.err.contains(word), "it should say `{word}`: {said:?}");
}

fn bad_input_gets_one_line_and_its_exit_code(database: Database) {
    let engine = Engine::start(database);
    engine.upload("test-guests");
    engine.ok(&["upload", &component("test-guests"), "--name", "twin"]);
    engine.ok(&["start", "twin/echo", "--id", "there", "--input", "1"]);
    let long = "x".repeat(200);
    for (arguments, code, word) in [
        (&["start", "test-guests/echo", "--input", "{"][..], 2, "JSON"),
        (&["start", "test-guests/echo", "--input", "@/no/such/file"], 2, "/no/such/file"),
        (&["start", "echo", "--input", "1"], 2, "ambiguous"),
        (&["start", "nothing", "--input", "1"], 3, "nothing"),
        (&["start", "test-guests/nothing", "--input", "1"], 3, "nothing"),
        (&["start", "nobody/echo", "--input", "1"], 3, "nobody"),
        (&["start", "test-guests/sequence", "--input", r#"{"steps":"many"}"#], 2, "steps"),
        (&["start", "test-guests/sequence", "--input", "{}"], 2, "steps"),
        (&["start", "test-guests/echo", "--input", "1", "--id", "no spaces"], 2, "execution id"),
        (&["start", "test-guests/echo", "--input", "1", "--id", &long], 2, "execution id"),
        (&["start", "test-guests/echo", "--input", "1", "--delay", "soon"], 2, "soon"),
        (&["start", "twin/echo", "--id", "there", "--input", "2"], 5, "there"),
        (&["status", "nobody"], 3, "nobody"),
        (&["history", "nobody"], 3, "nobody"),
        (&["logs", "nobody"], 3, "nobody"),
        (&["result", "nobody"], 3, "nobody"),
        (&["watch", "nobody"], 3, "nobody"),
        (&["approve", "nobody"], 3, "nobody"),
        (&["signal", "nobody", "x"], 3, "nobody"),
        (&["cancel", "nobody"], 3, "nobody"),
        (&["delete", "nobody"], 3, "nobody"),
    ] {
        check(&engine.cli(arguments), code, word);
    }
    let _ = engine.wait_for_end("there");
    check(&engine.cli(&["signal", "there", "x"]), 5, "completed");
    check(&engine.cli(&["cancel", "there"]), 5, "completed");
    check(&engine.cli(&["approve", "there"]), 5, "approval");
    assert_eq!(engine.cli(&["frobnicate"]).code, 2);
    assert_eq!(engine.ok(&["result", "there"]).trim(), "1", "nothing was lost");
    let too_long = json!("x".repeat((1 << 20) + 10)).to_string();
    let folder = scratch();
    let file = folder.0.join("input.json");
    std::fs::write(&file, too_long).unwrap();
    check(&engine.cli(&["start", "test-guests/echo", "--input", &format!("@{}", file.display())]), 2, "bytes");
}

fn bad_files_are_refused_by_name(database: Database) {
    let engine = Engine::start(database);
    let folder = scratch();
    let lay = |name: &str, bytes: &[u8]| {
        let path = folder.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let good = std::fs::read(component("hello")).unwrap();
    let empty_component: &[u8] = b"\0asm\x0d\0\x01\0";
    for (name, bytes, word) in [
        ("text.wasm", &b"hello"[..], "component"),
        ("empty.wasm", b"", "component"),
        ("core.wasm", b"\0asm\x01\0\0\0", "core"),
        ("truncated.wasm", &good[..good.len() / 2], ""),
        ("bare.wasm", empty_component, "guest"),
    ] {
        let said = engine.cli(&["upload", &lay(name, bytes)]);
        check(&said, 5, word);
    }
    check(&engine.cli(&["upload", "/no/such/file.wasm"]), 2, "/no/such/file.wasm");
    engine.upload("hello");
    assert_eq!(engine.run("hello", &json!({"name": "Ada"}))["status"], "completed");
    let unreachable = std::process::Command::new(test_engine::program("cerebelum"))
        .args(["--url", "http://127.0.0.1:1", "list"])
        .output()
        .unwrap();
    assert_eq!(unreachable.status.code(), Some(4));
    let line = String::from_utf8(unreachable.stderr).unwrap();
    assert!(line.lines().count() == 1 && line.contains("cerebelum serve"), "{line}");
}
