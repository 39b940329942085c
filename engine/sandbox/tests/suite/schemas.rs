//! JSON Schemas that are designed to be expensive. Each is rejected with a line that names a limit, or costs little.

use std::time::Duration;

use cerebelum_sandbox::schema::{Effort, Mismatch, Schema};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

/// The most that parsing, compiling, checking and explaining a mismatch may take together, in CPU time. The check alone
/// ends after 50 ms; explaining the mismatch of a large value takes most.
const CPU_MAX: Duration = Duration::from_secs(1);

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
}

/// The result of a schema and a value.
#[derive(Debug)]
enum Became {
    Refused(String),
    Invalid,
    Checked(Result<(), Mismatch>),
}

fn run(schema: &str, value: &Value) -> Became {
    let schema = match Schema::parse(schema) {
        Err(line) => return Became::Refused(line),
        Ok(schema) => schema,
    };
    let Some(validator) = schema.compile() else { return Became::Invalid };
    Became::Checked(match validator.check(value, Effort::SMALL) {
        Err(Mismatch::TooMuchWork) => validator.check(value, Effort::FULL),
        judged => judged,
    })
}

/// Runs the check on a thread like the engine's and measures its cost.
fn cost(schema: &Value, value: &Value) -> (Became, Duration) {
    let (schema, value) = (schema.to_string(), value.clone());
    let thread = std::thread::Builder::new().stack_size(Effort::THREAD_STACK_BYTES);
    let thread = thread.spawn(move || {
        let began = cpu_time();
        (run(&schema, &value), cpu_time() - began)
    });
    thread.unwrap().join().expect("no schema breaks a thread")
}

/// Builds a chain of references: `#/$defs/d0` refers to `#/$defs/d1` through `link`, and so on; the last one is `last`.
fn chain(links: usize, link: impl Fn(Value) -> Value, last: Value) -> Value {
    let mut defs = serde_json::Map::new();
    for number in 0..links {
        defs.insert(format!("d{number}"), link(json!({"$ref": format!("#/$defs/d{}", number + 1)})));
    }
    defs.insert(format!("d{links}"), last);
    json!({"$ref": "#/$defs/d0", "$defs": defs})
}

fn nested(levels: usize, wrap: impl Fn(Value) -> Value, inmost: Value) -> Value {
    (0..levels).fold(inmost, |inside, _| wrap(inside))
}

/// Schemas that are expensive in each known way.
fn hostile_schemas() -> Vec<(&'static str, Value)> {
    let string = || json!({"type": "string"});
    let formats = ["email", "idn-email", "hostname", "idn-hostname", "uri-template", "iri", "uuid", "duration"];
    let formats = formats.map(|format| json!({"format": format})).to_vec();
    let mut schemas = Vec::new();
    for keyword in ["allOf", "anyOf", "oneOf"] {
        schemas.push(("doubled", chain(40, |next| json!({keyword: [next, next]}), json!({"type": "object"}))));
        schemas.push(("doubled-after-items", chain(40, |next| json!({"items": {keyword: [next, next]}}), string())));
        let recursive =
            json!({keyword: [{"items": {"$ref": "#"}}, {"items": {"$ref": "#"}}, {"items": {"$ref": "#"}}]});
        schemas.push(("recursive", recursive));
    }
    schemas.extend([
        ("if-then-else", chain(40, |next| json!({"if": next, "then": next, "else": next}), string())),
        ("not", chain(40, |next| json!({"not": next, "allOf": [{"not": next}]}), string())),
        ("dependent", chain(40, |next| json!({"dependentSchemas": {"a": next, "b": next}}), string())),
        ("dependencies", chain(40, |next| json!({"dependencies": {"a": next, "b": next}}), string())),
        ("both-properties", chain(40, |next| json!({"properties": {"a": next}, "patternProperties": {"a": next}, "additionalProperties": next}), string())),
        ("contains", chain(40, |next| json!({"contains": next, "items": next, "unevaluatedItems": next}), string())),
        ("unevaluated", nested(60, |inside| json!({"allOf": [inside], "unevaluatedProperties": {"type": "string"}}), json!({"properties": {"a": true}}))),
        ("unevaluated-any", nested(20, |inside| json!({"anyOf": [inside, inside], "unevaluatedProperties": false, "unevaluatedItems": false}), json!({"properties": {"a": true}}))),
        ("unevaluated-recursive", json!({"anyOf": [{"properties": {"a": {"$ref": "#"}}}, {"properties": {"a": {"$ref": "#"}}}], "unevaluatedProperties": false, "items": {"$ref": "#"}, "unevaluatedItems": false})),
        ("long-chain", chain(5_000, |next| next, string())),
        ("long-chain-allowed", chain(60, |next| next, string())),
        ("long-chain-all", chain(1_900, |next| json!({"allOf": [next]}), string())),
        ("circle", json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}})),
        ("circle-of-old", json!({"$schema": "http://json-schema.org/draft-07/schema#", "allOf": [{"$ref": "#"}]})),
        ("itself", json!({"$ref": "#"})),
        ("dynamic", json!({"$dynamicAnchor": "a", "anyOf": [{"$dynamicRef": "#a"}, {"$dynamicRef": "#a"}]})),
        ("recursive-ref", json!({"$schema": "https://json-schema.org/draft/2019-09/schema", "$recursiveAnchor": true, "anyOf": [{"$recursiveRef": "#"}]})),
        ("remote", json!({"$ref": "http://127.0.0.1:1/schema.json"})),
        ("remote-file", json!({"$ref": "file:///etc/passwd"})),
        ("meta", json!({"$ref": "https://json-schema.org/draft/2020-12/schema"})),
        ("other-meta", json!({"$schema": "http://127.0.0.1:1/schema.json"})),
        ("embedded", json!({"$defs": {"a": {"$id": "http://x.example/", "$ref": "#"}}, "$ref": "#/$defs/a"})),
        ("backtracking", json!({"items": {"pattern": "^(a+)+$"}, "pattern": "^(a+)+$", "additionalProperties": {"pattern": "(x+x+)+y"}})),
        ("look-around", json!({"pattern": "^(?=(a+))\\1b$"})),
        ("repeated", json!({"pattern": "((a{1,100}){1,100}){1,100}"})),
        ("repeated-often", json!({"pattern": "(.{1,1000}){1,1000}"})),
        ("many-states", json!({"pattern": "(a|b)*a(a|b){900}", "items": {"pattern": "(a|b)*a(a|b){900}"}})),
        ("many-patterns", json!({"patternProperties": (0..900).map(|n| (format!("[ab]*a[ab]{{{n}}}"), json!({}))).collect::<serde_json::Map<_, _>>()})),
        ("unique", json!({"uniqueItems": true, "items": {"uniqueItems": true, "items": {"uniqueItems": true}}})),
        ("unique-often", json!({"allOf": (0..1_000).map(|_| json!({"uniqueItems": true})).collect::<Vec<_>>()})),
        ("enum", json!({"items": {"enum": (0..15_000).collect::<Vec<_>>()}, "additionalProperties": {"enum": vec!["a".repeat(60_000); 2]}})),
        ("enum-of-objects", json!({"items": {"enum": (0..2_000).map(|n| json!({"a": {"b": [n]}})).collect::<Vec<_>>()}})),
        ("required", json!({"items": {"required": (0..10_000).map(|n| n.to_string()).collect::<Vec<_>>()}})),
        ("wide", json!({"allOf": (0..1_900).map(|n| json!({"minProperties": n, "items": {"$ref": "#"}})).collect::<Vec<_>>()})),
        ("contains-all", json!({"allOf": (0..900).map(|_| json!({"contains": {"const": "no"}})).collect::<Vec<_>>()})),
        ("names", json!({"propertyNames": {"anyOf": (0..1_900).map(|_| json!({"pattern": "b$"})).collect::<Vec<_>>()}})),
        ("multiple", json!({"items": {"multipleOf": 1e-300}, "multipleOf": 1e-308})),
        ("large-numbers", json!({"items": {"maximum": 1e308, "multipleOf": 0.000_000_1}})),
        ("formats", json!({"items": {"format": "regex"}, "format": "regex", "$schema": "http://json-schema.org/draft-07/schema#"})),
("formats-of-now", json!({"anyOf": formats})),
        ("content", json!({"$schema": "http://json-schema.org/draft-07/schema#", "contentEncoding": "base64", "contentMediaType": "application/json", "items": {"contentMediaType": "application/json"}})),
        ("long", json!({"description": "x".repeat(200_000)})),
        ("many", json!({"properties": (0..5_000).map(|n| (n.to_string(), json!({}))).collect::<serde_json::Map<_, _>>()})),
        ("deep", nested(100, |inside| json!({"items": inside}), string())),
        ("discriminator", json!({"discriminator": {"propertyName": "a", "mapping": {"x": "http://127.0.0.1:1/"}}, "oneOf": [{"type": "object"}]})),
        ("own-keyword", json!({"cerebelum:effort": [0, 0], "allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {}}})),
        ("mismatches", json!({"anyOf": (0..30).map(|n| json!({"items": {"type": "string", "minLength": n}, "additionalProperties": {"const": n}})).collect::<Vec<_>>()})),
    ]);
    schemas
}

/// Values that make such schemas as expensive as possible, each up to the limits of values.
fn large_values() -> Vec<(&'static str, Value)> {
    vec![
        ("empty", json!({})),
        ("numbers", json!((0..150_000).collect::<Vec<_>>())),
        ("same", json!(vec![0; 400_000])),
        ("lists", json!(vec![json!([]); 300_000])),
        ("long-text", json!("a".repeat(1 << 20))),
        ("long-texts", json!(vec!["ab".repeat(5_000); 100])),
        ("texts", json!(vec!["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!"; 30_000])),
        ("deep-list", nested(126, |inside| json!([inside]), json!(1))),
        ("bushy-list", nested(16, |inside| json!([inside, inside]), json!(1))),
        ("deep-object", nested(126, |inside| json!({"a": inside, "b": 1}), json!(1))),
        ("bushy-object", nested(14, |inside| json!({"a": inside, "b": inside}), json!(1))),
        ("names", json!((0..60_000).map(|n| (format!("ab{n}"), json!(n))).collect::<serde_json::Map<_, _>>())),
        ("objects", json!(vec![json!({"a": {"b": [1]}}); 30_000])),
    ]
}

#[test]
fn a_schema_is_refused_or_costs_little_whatever_the_value() {
    let mut worst = (Duration::ZERO, String::new());
    for (name, schema) in hostile_schemas() {
        for (of, value) in large_values() {
            let (became, took) = cost(&schema, &value);
            let is_refused = matches!(became, Became::Refused(_));
            if took > worst.0 {
                worst = (took, format!("{name} × {of}"));
            }
            assert!(took < CPU_MAX, "{name} × {of} took {took:?}: {became:?}");
            if let Became::Refused(line) | Became::Checked(Err(Mismatch::Value(line))) = &became {
                assert!(line.len() < 1_500 && !line.contains('\n'), "{name} × {of}: {line}");
            }
            if is_refused {
                // The schema is rejected regardless of the value.
                break;
            }
        }
    }
    println!("the worst took {:?}: {}", worst.0, worst.1);
}

#[test]
fn each_limit_of_a_schema_has_a_line_of_its_own() {
    let schemas = hostile_schemas();
    for (name, line) in [
        ("doubled", "expands to more than 10000"),
        ("long-chain-all", "more than 2000 subschemas"),
        ("long-chain", "131072 are accepted"),
        ("circle", "refers to itself"),
        ("circle-of-old", "refers to itself"),
        ("itself", "refers to itself"),
        ("dynamic", "`$dynamicRef` is not accepted"),
        ("recursive-ref", "`$recursiveRef` is not accepted"),
        ("remote", "only places in the schema itself"),
        ("remote-file", "only places in the schema itself"),
        ("other-meta", "which is not known"),
        ("embedded", "`$id` is accepted at its root only"),
        ("look-around", "look-around and back-references"),
        ("repeated", "more than 4000 states"),
        ("repeated-often", "more than 4000 states"),
        ("many-patterns", "more than 20000 states in all"),
        ("long", "131072 are accepted"),
        ("many", "more than 2000 subschemas"),
        ("own-keyword", "is not accepted"),
    ] {
        let (_, schema) = schemas.iter().find(|(known, _)| *known == name).unwrap();
        let refused = Schema::parse(&schema.to_string()).expect_err(name);
        assert!(refused.contains(line), "{name}: {refused}");
    }
}

fn check(schema: &Value, value: &Value, expected: Result<(), &str>) {
    match (cost(schema, value).0, expected) {
        (Became::Checked(Ok(())), Ok(())) => {}
        (Became::Checked(Err(Mismatch::Value(line))), Err(part)) if line.contains(part) => {}
        (became, _) => panic!("{schema} on {value}: {became:?} instead of {expected:?}"),
    }
}

#[test]
fn what_people_write_is_accepted_and_checked() {
    let tree = json!({"type": "object", "properties": {"name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#"}}}, "required": ["name"]});
    let leaf = nested(40, |inside| json!({"name": "n", "children": [inside]}), json!({"name": "leaf"}));
    check(&tree, &leaf, Ok(()));
    let bad = nested(40, |inside| json!({"name": "n", "children": [inside]}), json!({"name": 1}));
    check(&tree, &bad, Err("1 is not of type \"string\""));
    // As pydantic writes them: a union with a discriminator, `$defs`, a pattern.
    let pydantic = json!({
        "$defs": {
            "Cat": {"properties": {"kind": {"const": "cat", "type": "string"}, "lives": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": null}}, "required": ["kind"], "type": "object"},
            "Dog<int>": {"properties": {"kind": {"const": "dog", "type": "string"}, "tag": {"pattern": "^[A-Z]{2}\\d{1,6}$", "type": "string"}}, "required": ["kind", "tag"], "type": "object"},
        },
        "properties": {"pets": {"items": {
            "discriminator": {"mapping": {"cat": "#/$defs/Cat", "dog": "#/$defs/Dog<int>"}, "propertyName": "kind"},
            "oneOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog%3Cint%3E"}],
        }, "type": "array"}},
        "required": ["pets"], "type": "object",
    });
    check(&pydantic, &json!({"pets": [{"kind": "cat"}, {"kind": "dog", "tag": "AB12"}]}), Ok(()));
    check(&pydantic, &json!({"pets": [{"kind": "dog", "tag": "no"}]}), Err("at /pets/0"));
    check(&pydantic, &json!({}), Err("\"pets\" is a required property"));
    // As large as values may be.
    let rows = json!({"type": "array", "items": {"type": "object", "properties": {"id": {"type": "integer"}, "name": {"type": "string", "maxLength": 40}, "tags": {"type": "array", "items": {"enum": ["a", "b", "c"]}}}, "required": ["id", "name"], "additionalProperties": false}});
    let row = |id: usize| json!({"id": id, "name": format!("the row with number {id}"), "tags": ["a", "b"]});
    check(&rows, &json!((0..14_000).map(row).collect::<Vec<_>>()), Ok(()));
    check(
        &json!({"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"a": {"type": "integer"}}, "items": [{"$ref": "#/definitions/a"}]}),
        &json!(["x"]),
        Err("at /0"),
    );
    check(&json!(true), &json!(1), Ok(()));
    check(&json!(false), &json!(1), Err("False schema does not allow"));
}
