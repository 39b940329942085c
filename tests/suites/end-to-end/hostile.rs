//! Guests that misbehave get a named failure, and the engine goes on serving others.

use serde_json::json;
use test_engine::{Database, Engine};

on_both_databases!(misbehaviour_has_a_name_and_others_are_served, loops_are_cut_off_while_others_are_served);

fn misbehaviour_has_a_name_and_others_are_served(database: Database) {
    let engine = Engine::start(database);
    engine.upload("test-guests");
    let before = engine.resident_bytes();
    for (how, kind) in [
        ("memory", "memory-limit"),
        ("stack", "stack-overflow"),
        ("panic", "trap"),
        ("output", "memory-limit"),
        ("large-output", "output-too-large"),
        ("fetch-elsewhere", "not-granted"),
        ("wait-for-nothing", "deadlock"),
        ("unknown", "unknown"),
    ] {
        let failed = engine.run("hostile_step", &json!(how));
        let found = failed["failure"]["kind"].as_str().unwrap_or_default();
        let fits = found == kind || how == "output" && ["output-too-large", "trap"].contains(&found);
        assert!(fits, "{how} in a step gave {failed:#}");
        assert!(!failed["failure"]["message"].as_str().unwrap().contains('\n'), "one line: {failed:#}");
        assert_eq!(engine.run("sequence", &json!({"steps": 2}))["output"], json!(2));
    }
    for (how, kind) in [
        ("memory", "memory-limit"),
        ("stack", "stack-overflow"),
        ("panic", "trap"),
        ("fetch-in-workflow", "not-granted"),
    ] {
        let failed = engine.run("hostile", &json!(how));
        assert_eq!(failed["failure"]["kind"], kind, "{how} in a workflow gave {failed:#}");
    }
    let grown = engine.resident_bytes().saturating_sub(before);
    assert!(grown < 300 << 20, "the engine grew by {grown} bytes");
    assert_eq!(engine.metric("cerebelum_guests"), 0);
}

fn loops_are_cut_off_while_others_are_served(database: Database) {
    let engine = Engine::start(database);
    engine.upload("test-guests");
    let loops: Vec<String> = ["loop", "clock-loop"].iter().map(|how| engine.begin("hostile", &json!(how))).collect();
    for _ in 0..5 {
        assert_eq!(engine.run("sequence", &json!({"steps": 3}))["output"], json!(3), "others are served meanwhile");
    }
    for id in loops {
        assert_eq!(engine.wait_for_end(&id)["failure"]["kind"], "cpu-limit");
    }
}
