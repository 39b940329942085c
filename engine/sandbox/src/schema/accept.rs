//! Accepts or rejects schemas. Limits are the size of the text, the number of subschemas it expands to, and the cost of
//! a single subschema.

use std::collections::HashMap;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::effort::{KEYWORD, NEVER, Weight};
use super::pattern;
use crate::host_calls::cut;
use crate::limits::schema::{BYTES_MAX, CHAIN_MAX, EXPANDED_MAX, STATES_MAX, SUBSCHEMAS_MAX};

/// How a keyword holds its subschemas.
enum Holds {
    One,
    /// A subschema, or an array of them.
    Some,
    Array,
    Map,
}

/// Keywords whose subschemas apply to the same value as the schema itself.
const IN_PLACE: [(&str, Holds); 9] = [
    ("allOf", Holds::Array),
    ("anyOf", Holds::Array),
    ("oneOf", Holds::Array),
    ("not", Holds::One),
    ("if", Holds::One),
    ("then", Holds::One),
    ("else", Holds::One),
    ("dependentSchemas", Holds::Map),
    ("dependencies", Holds::Map),
];
/// Keywords whose subschemas apply to parts of the value, or only where a reference leads to them.
const ELSEWHERE: [(&str, Holds); 13] = [
    ("properties", Holds::Map),
    ("patternProperties", Holds::Map),
    ("additionalProperties", Holds::One),
    ("unevaluatedProperties", Holds::One),
    ("propertyNames", Holds::One),
    ("items", Holds::Some),
    ("prefixItems", Holds::Array),
    ("additionalItems", Holds::One),
    ("unevaluatedItems", Holds::One),
    ("contains", Holds::One),
    ("contentSchema", Holds::One),
    ("$defs", Holds::Map),
    ("definitions", Holds::Map),
];
/// The known drafts. Another meta-schema could give keywords another meaning.
const DRAFTS: [&str; 5] = ["draft-04/", "draft-06/", "draft-07/", "draft/2019-09/", "draft/2020-12/"];

/// Parses a schema and adds to each subschema the keyword that carries its cost. The error is one line that names the
/// limit.
pub(super) fn accept(text: &str) -> Result<Value, String> {
    if text.len() > BYTES_MAX {
        return Err(format!("it has {} bytes where at most {BYTES_MAX} are accepted", text.len()));
    }
    let mut schema: Value = serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"))?;
    let graph = Graph::of(&schema)?;
    graph.examine(&schema)?;
    let weights = graph.nodes.into_iter().map(|node| node.weight).collect::<Vec<_>>();
    load(&mut schema, &mut weights.into_iter());
    Ok(schema)
}

/// The subschemas of a schema, in the order in which [`subschemas`] finds them.
#[derive(Default)]
struct Graph<'s> {
    nodes: Vec<Node<'s>>,
    /// The index of each node, by the address of its value.
    numbers: HashMap<*const Value, usize>,
    states: u64,
}

#[derive(Default)]
struct Node<'s> {
    weight: Weight,
    reference: Option<&'s str>,
    /// The subschemas that apply to the same value.
    in_place: Vec<usize>,
}

impl<'s> Graph<'s> {
    fn of(root: &'s Value) -> Result<Self, String> {
        let mut graph = Self::default();
        graph.add(root)?;
        Ok(graph)
    }

    /// Adds a subschema and all subschemas inside it. The recursion is bounded by the depth limit of the JSON parser.
    fn add(&mut self, schema: &'s Value) -> Result<usize, String> {
        let number = self.nodes.len();
        if number == SUBSCHEMAS_MAX {
            return Err(format!("it has more than {SUBSCHEMAS_MAX} subschemas"));
        }
        self.nodes.push(Node::default());
        self.numbers.insert(std::ptr::from_ref(schema), number);
        let Value::Object(keywords) = schema else { return Ok(number) };
        expect_known(keywords, number == 0)?;
        let states = self.states(keywords)?;
        let reference = keywords.get("$ref").and_then(Value::as_str);
        let mut in_place = Vec::new();
        for (keyword, holds, is_in_place) in holders() {
            for inside in keywords.get(keyword).into_iter().flat_map(|value| subschemas(value, holds)) {
                let inside = self.add(inside)?;
                if is_in_place {
                    in_place.push(inside);
                }
            }
        }
        self.nodes[number] = Node { weight: Weight { entries: entries(keywords), states }, reference, in_place };
        Ok(number)
    }

    /// The number of states of a subschema's patterns. Building stops when the limit is exceeded.
    fn states(&mut self, keywords: &Map<String, Value>) -> Result<u64, String> {
        let before = self.states;
        let names = keywords.get("patternProperties").and_then(Value::as_object);
        let patterns = keywords.get("pattern").and_then(Value::as_str).into_iter();
        for pattern in patterns.chain(names.into_iter().flat_map(|names| names.keys().map(String::as_str))) {
            self.states += pattern::states(pattern)?;
            if self.states > STATES_MAX {
                return Err(format!("its patterns have more than {STATES_MAX} states in all"));
            }
        }
        Ok(self.states - before)
    }

    /// Follows the references. A reference must not leave the schema, form an endless cycle or expand beyond the limit.
    fn examine(&self, root: &Value) -> Result<(), String> {
        let mut found = vec![Visit::New; self.nodes.len()];
        for number in 0..self.nodes.len() {
            self.expand(number, root, (&mut found, 0))?;
        }
        Ok(())
    }

    /// Returns how many subschemas one value meets here, each counted as often as it is met, and the length of the
    /// longest chain.
    fn expand(
        &self,
        number: usize,
        root: &Value,
        (found, depth): (&mut Vec<Visit>, u64),
    ) -> Result<(u64, u64), String> {
        match found[number] {
            Visit::Done(expanded, chain) => return Ok((expanded, chain)),
            Visit::Open => return Err("it refers to itself without going into the value".to_owned()),
            Visit::New if depth > CHAIN_MAX => return Err(too_long()),
            Visit::New => found[number] = Visit::Open,
        }
        let node = &self.nodes[number];
        let target = node.reference.map(|reference| self.target(reference, root)).transpose()?;
        let (mut expanded, mut chain) = (1_u64, 0);
        for next in node.in_place.iter().copied().chain(target) {
            let (more, further) = self.expand(next, root, (found, depth + 1))?;
            (expanded, chain) = (expanded.saturating_add(more), further.max(chain));
        }
        if expanded > EXPANDED_MAX {
            return Err(format!("it expands to more than {EXPANDED_MAX} subschemas for one value"));
        }
        if chain >= CHAIN_MAX {
            return Err(too_long());
        }
        found[number] = Visit::Done(expanded, chain + 1);
        Ok((expanded, chain + 1))
    }

    fn target(&self, reference: &str, root: &Value) -> Result<usize, String> {
        let shown = cut(reference, 60).escape_debug();
        let pointer = reference.strip_prefix('#').filter(|pointer| pointer.is_empty() || pointer.starts_with('/'));
        let pointer = pointer.ok_or_else(|| {
            format!("its `$ref` to `{shown}` is not accepted: only places in the schema itself, such as `#/$defs/name`")
        })?;
        let pointer = percent_decode_str(pointer).decode_utf8_lossy();
        // By the time the schema is compiled, `load` has added other subschemas at these paths.
        if pointer.split('/').any(|name| ALTERNATIVES.contains(&name) || WRAPPED.contains(&name)) {
            return Err(format!("its `$ref` to `{shown}` is not accepted: move what it refers to into `$defs`"));
        }
        let target = root.pointer(&pointer).and_then(|target| self.numbers.get(&std::ptr::from_ref(target)));
        target.copied().ok_or_else(|| format!("its `$ref` to `{shown}` leads to no subschema"))
    }
}

#[derive(Clone, Copy)]
enum Visit {
    New,
    Open,
    Done(u64, u64),
}

/// Keywords with several subschemas, in the order in which the library evaluates them. It may continue with the next
/// subschema after one that does not match.
const ALTERNATIVES: [&str; 3] = ["allOf", "anyOf", "oneOf"];
/// Keywords with one subschema. Here, too, the library may continue after a mismatch.
const WRAPPED: [&str; 3] = ["not", "if", "contains"];

fn too_long() -> String {
    format!("more than {CHAIN_MAX} of its subschemas and `$ref`s apply to one value in a chain")
}

/// Rejects keywords that would change the meaning of other keywords.
fn expect_known(keywords: &Map<String, Value>, is_root: bool) -> Result<(), String> {
    for keyword in ["$dynamicRef", "$recursiveRef", KEYWORD, NEVER] {
        if keywords.contains_key(keyword) {
            return Err(format!("`{keyword}` is not accepted: use `$ref`"));
        }
    }
    for keyword in ["$id", "id", "$schema"] {
        let is_text = keywords.get(keyword).is_some_and(Value::is_string);
        if is_text && !is_root {
            return Err(format!("`{keyword}` is accepted at its root only"));
        }
    }
    match keywords.get("$schema").and_then(Value::as_str) {
        Some(draft) if !DRAFTS.iter().any(|known| draft.contains(&format!("//json-schema.org/{known}schema"))) => {
            Err(format!("`$schema` is `{}`, which is not known", cut(draft, 60).escape_debug()))
        }
        _ => Ok(()),
    }
}

fn holders() -> impl Iterator<Item = (&'static str, &'static Holds, bool)> {
    let in_place = IN_PLACE.iter().map(|(keyword, holds)| (*keyword, holds, true));
    in_place.chain(ELSEWHERE.iter().map(|(keyword, holds)| (*keyword, holds, false)))
}

/// The subschemas in a keyword's value.
fn subschemas<'s>(value: &'s Value, holds: &Holds) -> Vec<&'s Value> {
    let is_schema = |value: &&Value| value.is_object() || value.is_boolean();
    match (holds, value) {
        (Holds::Array | Holds::Some, Value::Array(all)) => all.iter().filter(is_schema).collect(),
        (Holds::Map, Value::Object(all)) => all.values().filter(is_schema).collect(),
        (Holds::One | Holds::Some, one) if is_schema(&one) => vec![one],
        _ => Vec::new(),
    }
}

/// The mutable form of [`subschemas`].
fn subschemas_mut<'s>(value: &'s mut Value, holds: &Holds) -> Vec<&'s mut Value> {
    let is_schema = |value: &&mut Value| value.is_object() || value.is_boolean();
    match (holds, value) {
        (Holds::Array | Holds::Some, Value::Array(all)) => all.iter_mut().filter(is_schema).collect(),
        (Holds::Map, Value::Object(all)) => all.values_mut().filter(is_schema).collect(),
        (Holds::One | Holds::Some, one) if one.is_object() || one.is_boolean() => vec![one],
        _ => Vec::new(),
    }
}

/// The number of entries in the keywords. Each entry is checked once where the schema applies.
fn entries(keywords: &Map<String, Value>) -> u64 {
    let of = |(keyword, value): (&String, &Value)| match (keyword.as_str(), value) {
        // The value is compared with each entry in full.
        ("enum" | "const", value) => value.to_string().len() as u64 / 8,
        (_, Value::Array(all)) => all.len() as u64,
        (_, Value::Object(all)) => all.len() as u64,
        _ => 1,
    };
    keywords.iter().map(of).sum()
}

/// Adds its weight to each subschema. Weights come in the order in which [`Graph::add`] found the subschemas.
fn load(schema: &mut Value, weights: &mut impl Iterator<Item = Weight>) {
    let weight = weights.next().expect("every subschema has a weight");
    let Value::Object(keywords) = schema else { return };
    // It is not part of JSON Schema. The accompanying `oneOf` expresses the same for the library.
    keywords.remove("discriminator");
    for (keyword, holds, _) in holders() {
        for inside in keywords.get_mut(keyword).into_iter().flat_map(|value| subschemas_mut(value, holds)) {
            load(inside, weights);
        }
    }
    // The library evaluates our keyword last and never reaches it when another one does not match. Where it continues
    // nevertheless, with the next of several subschemas or with the other branch of an `if`, the effort has to be
    // counted before.
    for keyword in ALTERNATIVES {
        if let Some(Value::Array(all)) = keywords.get_mut(keyword) {
            let fits = if keyword == "allOf" { KEYWORD } else { NEVER };
            all.insert(0, Value::Object(Map::from_iter([(fits.to_owned(), weight.to_value())])));
        }
    }
    for keyword in WRAPPED {
        if let Some(inside) = keywords.get_mut(keyword).filter(|inside| inside.is_object()) {
            let first = Value::Object(Map::from_iter([(KEYWORD.to_owned(), weight.to_value())]));
            let both = Value::Array(vec![first, inside.take()]);
            *inside = Value::Object(Map::from_iter([("allOf".to_owned(), both)]));
        }
    }
    keywords.insert(KEYWORD.to_owned(), weight.to_value());
}
