//! JSON Schemas that come with guests: hostile ones are refused by name, or checked while everybody else is served.

use std::time::{Duration, Instant};

use cerebelum_tests::{Database, Engine, Scratch, component, scratch};
use serde_json::{Value, json};

on_both_databases!(hostile_schemas_are_refused_when_they_are_uploaded, a_schema_that_takes_long_stops_nobody,);

/// The test guest with another schema in its room.
fn with_schema(folder: &Scratch, schema: &Value) -> String {
    const BEGINS: &[u8] = br#"{"$comment":"room for a schema"}"#;
    const ROOM: usize = 256 << 10;
    let mut bytes = std::fs::read(component("test-guests")).unwrap();
    let at = bytes.windows(BEGINS.len()).position(|bytes| bytes == BEGINS).expect("there is room");
    let mut text = schema.to_string().into_bytes();
    text.resize(ROOM, b' ');
    bytes[at..at + ROOM].copy_from_slice(&text);
    let file = folder.0.join("with-schema.wasm");
    std::fs::write(&file, bytes).unwrap();
    file.display().to_string()
}

/// Each definition refers to the next by this.
fn chain(links: usize, link: impl Fn(Value) -> Value) -> Value {
    let mut defs = serde_json::Map::new();
    for number in 0..links {
        defs.insert(format!("d{number}"), link(json!({"$ref": format!("#/$defs/d{}", number + 1)})));
    }
    defs.insert(format!("d{links}"), json!({"type": "string"}));
    json!({"allOf": [{"$ref": "#/$defs/d0"}], "$defs": defs})
}

/// Small, within all limits of schemas, and 2^40 checks for the value of [`deep`].
fn long_taking() -> Value {
    chain(40, |next| json!({"items": {"anyOf": [next, next]}}))
}

fn deep(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inside, _| json!([inside]))
}

fn hostile() -> Vec<(Value, &'static str)> {
    vec![
        (chain(40, |next| json!({"allOf": [next, next]})), "expands to more than 10000"),
        (chain(1_500, |next| next), "in a chain"),
        (json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}), "refers to itself"),
        (json!({"pattern": "((a{1,100}){1,100}){1,100}"}), "more than 4000 states"),
        (json!({"pattern": "^(?=a)"}), "look-around"),
        (json!({"$ref": "http://127.0.0.1:9/x"}), "only places in the schema itself"),
        (json!({"description": "x".repeat(140_000)}), "131072 are accepted"),
    ]
}

fn hostile_schemas_are_refused_when_they_are_uploaded(database: Database) {
    let engine = Engine::start(database);
    let folder = scratch();
    engine.ok(&["upload", &with_schema(&folder, &json!({"type": "string"})), "--name", "fine"]);
    for (schema, line) in hostile() {
        let said = engine.cli(&["upload", &with_schema(&folder, &schema), "--name", "fine"]);
        let errors = said.err.lines().filter(|line| line.starts_with("error: ")).count();
        assert_eq!((said.code, errors), (5, 1), "{said:?}");
        assert!(said.err.contains("workflow `fitting`: its input schema is not accepted"), "{said:?}");
        assert!(said.err.contains(line), "{said:?}");
    }
    assert_eq!(engine.run("fine/fitting", &json!("text"))["status"], "completed");
    let said = engine.cli(&["start", "fine/fitting", "--input", "1"]);
    assert!(said.code == 2 && said.err.contains("1 is not of type \"string\""), "{said:?}");
}

fn a_schema_that_takes_long_stops_nobody(database: Database) {
    let mut engine = Engine::start(database);
    let folder = scratch();
    engine.upload("test-guests");
    engine.ok(&["upload", &with_schema(&folder, &long_taking()), "--name", "slow"]);
    let _ = engine.run("test-guests/sequence", &json!({"steps": 1}));
    let began = Instant::now();
    std::thread::scope(|scope| {
        let input = deep(45).to_string();
        for _ in 0..8 {
            let (engine, input) = (&engine, input.clone());
            scope.spawn(move || {
                let said = engine.cli(&["start", "slow/fitting", "--input", &input]);
                assert!(said.code == 5 && said.err.contains("takes more work than is allowed"), "{said:?}");
            });
        }
        for _ in 0..5 {
            let began = Instant::now();
            assert_eq!(engine.run("test-guests/sequence", &json!({"steps": 2}))["output"], json!(2));
            assert!(began.elapsed() < Duration::from_secs(5), "others are served");
        }
    });
    assert!(began.elapsed() < Duration::from_secs(20), "each is refused in time");
    let (end, took) = engine.terminate();
    assert!(end.success() && took < Duration::from_secs(10), "{end} after {took:?}");
}
