//! JSON Schemas that come with guests: hostile ones are refused by name, or checked while all other clients are served.

use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use test_engine::{Database, Engine, Pace, Scratch, component, scratch};

on_both_databases!(
    hostile_schemas_are_refused_when_they_are_uploaded,
    a_schema_that_takes_long_stops_nobody,
    whatever_schema_comes_with_a_component_holds_up_nobody,
    whatever_schema_a_question_has_holds_up_nobody,
);

/// The test guest with another schema in the space for it.
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

/// A chain of definitions, each of which refers to the next through `link`.
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
    let run = || assert_eq!(engine.run("test-guests/sequence", &json!({"steps": 2}))["output"], json!(2));
    let mut others = Pace::of(run);
    std::thread::scope(|scope| {
        let input = deep(45).to_string();
        for _ in 0..8 {
            let (engine, input) = (&engine, input.clone());
            scope.spawn(move || {
                let said = engine.cli(&["start", "slow/fitting", "--input", &input]);
                assert!(said.code == 5 && said.err.contains("takes more work than is allowed"), "{said:?}");
            });
        }
        (0..5).for_each(|_| others.again(run));
    });
    others.assert_kept();
    engine.put_away();
}

/// Schemas that are made to be expensive, each in its own way, from harmless to absurd.
fn schemas() -> impl Strategy<Value = Value> {
    fn wrapped(levels: usize, wrap: impl Fn(Value) -> Value) -> Value {
        (0..levels).fold(json!({"type": "string"}), |inside, _| wrap(inside))
    }
    let keyword = prop::sample::select(vec!["allOf", "anyOf", "oneOf"]);
    prop_oneof![
        (1..60_usize, keyword).prop_map(|(links, both)| chain(links, |next| json!({both: [next, next]}))),
        (1..2_500_usize).prop_map(|links| chain(links, |next| next)),
        (1..60_usize).prop_map(|links| chain(links, |next| json!({"items": {"anyOf": [next, next]}}))),
        (1..200_usize).prop_map(|levels| wrapped(levels, |inside| json!({"items": inside}))),
        (1..40_usize).prop_map(|levels| wrapped(levels, |inside| json!({"not": {"allOf": [inside, {}]}}))),
        (1..6_u32, 1..1_000_u32).prop_map(|(levels, times)| {
            let pattern = (0..levels).fold("a".to_owned(), |inside, _| format!("({inside}{{1,{times}}})"));
            json!({"pattern": pattern, "items": {"pattern": pattern}})
        }),
        (1..8_usize).prop_map(|levels| {
            let pattern = format!("^{}$", (0..levels).fold("a".to_owned(), |inside, _| format!("({inside}+)+")));
            json!({"pattern": pattern, "items": {"pattern": pattern}})
        }),
        prop::sample::select(vec!["^(?=(a+))a*b$", "(a*)*\\1b", "(?<!a)b", "(x+x+)+y"])
            .prop_map(|pattern| json!({"pattern": pattern, "items": {"pattern": pattern}})),
        (1..12_000_usize).prop_map(|count| json!({"items": {"enum": (0..count).collect::<Vec<_>>()}})),
        (1..2_500_usize).prop_map(|count| {
            let one = |number| json!({"contains": {"const": number}, "uniqueItems": true});
            json!({"allOf": (0..count).map(one).collect::<Vec<_>>()})
        }),
        (1..20_usize).prop_map(|count| {
            let one = |number| json!({"items": {"$ref": "#"}, "minItems": number});
            json!({"anyOf": (0..count).map(one).collect::<Vec<_>>()})
        }),
    ]
}

/// Values that make these schemas as expensive as possible.
fn values() -> impl Strategy<Value = Value> {
    prop_oneof![
        (1..100_usize).prop_map(deep),
        (1..14_usize).prop_map(|levels| (0..levels).fold(json!(1), |inside, _| json!([inside, inside]))),
        (1..50_000_usize).prop_map(|length| json!(format!("{}!", "a".repeat(length)))),
        (1..2_000_usize).prop_map(|count| json!(vec![format!("{}!", "a".repeat(30)); count])),
        (1..30_000_usize).prop_map(|count| json!((0..count).collect::<Vec<_>>())),
    ]
}

/// Samples of a strategy, the same in each run.
fn drawn<T>(count: usize, strategy: impl Strategy<Value = T>) -> Vec<T> {
    let mut runner = TestRunner::deterministic();
    (0..count).map(|_| strategy.new_tree(&mut runner).expect("something is drawn").current()).collect()
}

/// Does some work while another client runs workflow after workflow, and then stops the engine. No call waits for long.
fn beside_others(mut engine: Engine, work: impl FnOnce(&Engine)) {
    let run = || assert_eq!(engine.run("test-guests/sequence", &json!({"steps": 2}))["output"], json!(2));
    let mut others = Pace::of(run);
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                others.again(run);
            }
        });
        work(&engine);
        is_done.store(true, Ordering::Relaxed);
    });
    others.assert_kept();
    engine.put_away();
    assert!(!engine.log().contains("panicked"), "{}", engine.log());
}

/// Checks that a command is answered with one of these exit codes, and that a refusal has one line.
fn answered(engine: &Engine, arguments: &[&str], codes: &[i32]) -> i32 {
    let said = engine.cli(arguments);
    let errors = said.err.lines().filter(|line| line.starts_with("error: ")).count();
    assert!(codes.contains(&said.code) && errors == usize::from(said.code != 0), "{:.2000}", format!("{said:?}"));
    said.code
}

fn written(folder: &Scratch, value: &Value) -> String {
    let file = folder.0.join("value.json");
    std::fs::write(&file, value.to_string()).unwrap();
    format!("@{}", file.display())
}

fn whatever_schema_comes_with_a_component_holds_up_nobody(database: Database) {
    let engine = Engine::start(database);
    engine.upload("test-guests");
    beside_others(engine, |engine| {
        let folder = scratch();
        let mut accepted = 0;
        for (number, (schema, values)) in drawn(12, (schemas(), prop::collection::vec(values(), 3))).iter().enumerate()
        {
            let (file, name) = (with_schema(&folder, schema), format!("drawn-{number}"));
            if answered(engine, &["upload", &file, "--name", &name], &[0, 5]) == 0 {
                accepted += 1;
                for value in values {
                    let value = written(&folder, value);
                    answered(engine, &["start", &format!("{name}/fitting"), "--input", &value], &[0, 2, 5]);
                }
            }
        }
        assert!((2..11).contains(&accepted), "{accepted} are accepted");
    });
}

/// A question's schema is made at run time: if it is refused, the call that asks fails.
fn whatever_schema_a_question_has_holds_up_nobody(database: Database) {
    let engine = Engine::start(database);
    engine.upload("test-guests");
    beside_others(engine, |engine| {
        let folder = scratch();
        let mut asked = 0;
        for (schema, values) in drawn(60, (schemas(), prop::collection::vec(values(), 2))) {
            let id = engine.begin("test-guests/asking_by_schema", &schema);
            let status = engine.wait_for(&id, &["waiting-for-approval", "completed", "failed"]);
            if status["status"] == "waiting-for-approval" {
                asked += 1;
                let answers = values.iter().map(|value| written(&folder, value));
                let _ = answers
                    .into_iter()
                    .find(|value| answered(engine, &["approve", &id, "--data", value], &[0, 2, 5]) == 0);
                let _ = engine.cli(&["terminate", &id]);
            } else {
                let kind = [&status["output"]["kind"], &status["failure"]["kind"]];
                assert!(kind.iter().any(|kind| kind.is_string()), "{status:#}");
            }
        }
        assert!((10..55).contains(&asked), "{asked} are asked");
    });
}
