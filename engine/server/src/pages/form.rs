//! Forms made from JSON Schemas, and the JSON that a browser sends with them.
//!
//! A field's name says how its value is written in JSON: `text:NAME` as a text, `json:NAME` as it is. A value that is not
//! an object is one field, `text` or `json`. Digits stay as they were typed.

mod members;

use maud::{Markup, html};
use serde_json::Value;

use super::parts::cut;
use crate::json::compact;
use crate::wording::{plain, pretty_or_plain};
use members::Members;

/// A schema with more properties is one field of JSON.
const FIELDS_MAX: usize = 50;
/// A schema with more values to choose from is a field of JSON.
const CHOICES_MAX: usize = 100;
/// Longer titles, descriptions and choices are cut.
const LETTERS_MAX: usize = 300;

/// What a form holds when it is shown.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Held<'a> {
    /// The value to begin with.
    pub(super) json: Option<&'a str>,
    /// What a reader had typed, and was refused.
    pub(super) typed: &'a [(String, String)],
}

/// A field as a form shows it.
enum Kind {
    Text,
    Number,
    Boolean,
    /// Texts of JSON.
    Choice(Vec<String>),
    Json,
}

/// A field: its name, and what its schema says.
struct Field<'a> {
    /// `:NAME`, or nothing for a value that is one field.
    name: String,
    title: String,
    schema: &'a str,
    is_required: bool,
}

/// The fields for `what`, a value of this schema. Their ids end with `id`.
pub(super) fn fields(what: &str, schema: Option<&str>, held: Held, id: &str) -> Markup {
    let all = fields_of(what, schema.unwrap_or("{}"));
    let members = held.json.map(Members::of);
    html! {
        @for field in &all {
            @let of_object = members.as_ref().and_then(|members| members.get(field.name.strip_prefix(':')?));
            @let json = if field.name.is_empty() { held.json } else { of_object };
            (shown(field, json, held.typed, id))
        }
    }
}

/// Whether the fields for this value, sent as they are shown, are the same value, letter for letter.
pub(super) fn reproduces(schema: Option<&str>, held: &str) -> bool {
    let members = Members::of(held);
    let mut sent = Vec::new();
    for field in fields_of("", schema.unwrap_or("{}")) {
        let json = if field.name.is_empty() { Some(held) } else { members.get(&field.name[1..]) };
        let (kind, filled) = filled(&field, json, &[]);
        let sort = if matches!(kind, Kind::Text) { "text" } else { "json" };
        sent.push((format!("{sort}{}", field.name), filled));
    }
    json(&sent).ok().flatten().is_some_and(|sent| compact(&sent) == compact(held))
}

/// Whether a value of this schema has fields of its own, and is not one field of JSON.
pub(super) fn has_fields(schema: Option<&str>) -> bool {
    let all = fields_of("", schema.unwrap_or("{}"));
    all.iter().any(|field| !field.name.is_empty() || !matches!(kind(field.schema), Kind::Json))
}

fn fields_of<'a>(what: &str, schema: &'a str) -> Vec<Field<'a>> {
    let members = Members::of(schema);
    let properties = Members::of(members.get("properties").unwrap_or("{}"));
    let is_open = members.get("additionalProperties").is_some_and(|more| more.starts_with('{'));
    if properties.is_empty() || properties.len() > FIELDS_MAX || is_open {
        let title = members.text("title").unwrap_or_else(|| what.to_owned());
        // Without a schema, no value is a value as well.
        let is_required = !matches!(kind(schema), Kind::Json);
        return vec![Field { name: String::new(), title, schema, is_required }];
    }
    let required: Vec<String> =
        members.get("required").and_then(|names| serde_json::from_str(names).ok()).unwrap_or_default();
    let field = |(name, schema): (&String, &'a str)| Field {
        name: format!(":{name}"),
        title: name.clone(),
        schema,
        is_required: required.contains(name),
    };
    properties.into_entries().iter().map(|(name, schema)| field((name, schema))).collect()
}

/// The kind in which a field is shown, and what stands in it.
fn filled(field: &Field, json: Option<&str>, typed: &[(String, String)]) -> (Kind, String) {
    let kind = kind(field.schema);
    let found = |sort: &str| typed.iter().find(|(name, _)| name.strip_prefix(sort) == Some(&field.name));
    if let Some((_, typed)) = found("text") {
        return (Kind::Text, typed.clone());
    }
    if let Some((_, typed)) = found("json") {
        let kind = if matches!(kind, Kind::Text) { Kind::Json } else { kind };
        return (kind, typed.clone());
    }
    let default = Members::of(field.schema).get("default").filter(|default| default.trim() != "null");
    let Some(json) = json.or(default.filter(|_| typed.is_empty())) else { return (kind, String::new()) };
    match kind {
        Kind::Text => match serde_json::from_str::<String>(json) {
            // A line of text holds no control characters, and an empty one is left out.
            Ok(plain) if !plain.is_empty() && !plain.contains(char::is_control) => (Kind::Text, plain),
            _ => (Kind::Json, pretty_or_plain(json).join("\n")),
        },
        Kind::Choice(choices) => {
            let value = |json: &str| serde_json::from_str::<Value>(json).ok();
            let same = choices.iter().find(|choice| *choice == json || value(choice) == value(json)).cloned();
            let held = same.unwrap_or_else(|| json.to_owned());
            (Kind::Choice(choices), held)
        }
        Kind::Json => (Kind::Json, pretty_or_plain(json).join("\n")),
        kind => (kind, json.to_owned()),
    }
}

fn shown(field: &Field, json: Option<&str>, typed: &[(String, String)], id: &str) -> Markup {
    let Field { title, is_required: required, .. } = field;
    let (kind, filled) = filled(field, json, typed);
    let sort = if matches!(kind, Kind::Text) { "text" } else { "json" };
    let (id, name) = (format!("f{}-{id}", field.name), format!("{sort}{}", field.name));
    let described = Members::of(field.schema).text("description");
    let optional = !required;
    html! {
        label for=(id) { (cut(title, LETTERS_MAX)) @if optional { span.note { " optional" } } }
        @match kind {
            Kind::Text => input id=(id) name=(name) value=(filled) required[*required];,
            Kind::Number => input id=(id) name=(name) value=(filled) inputmode="decimal" required[*required];,
            Kind::Boolean => (choice(&id, &name, &["true".to_owned(), "false".to_owned()], &filled, *required)),
            Kind::Choice(choices) => (choice(&id, &name, &choices, &filled, *required)),
            Kind::Json => textarea id=(id) name=(name) rows=(filled.lines().count().clamp(3, 20)) spellcheck="false"
                placeholder="JSON" required[*required] { (filled) },
        }
        @if let Some(described) = described { p.note { (cut(&described, LETTERS_MAX)) } }
    }
}

/// A choice begins with nothing: what a reader has not chosen is not sent.
fn choice(id: &str, name: &str, choices: &[String], held: &str, required: bool) -> Markup {
    let is_known = held.is_empty() || choices.iter().any(|choice| choice == held);
    let word = |json: &str| serde_json::from_str::<String>(json).unwrap_or_else(|_| json.to_owned());
    html! {
        select id=(id) name=(name) required[required] {
            option value="" {}
            @if !is_known { option value=(held) selected { (cut(&word(held), LETTERS_MAX)) } }
            @for json in choices { option value=(json) selected[json == held] { (cut(&word(json), LETTERS_MAX)) } }
        }
    }
}

fn kind(schema: &str) -> Kind {
    let members = Members::of(schema);
    if let Some(alternatives) = members.get("anyOf") {
        return match &members::items(alternatives).into_iter().filter(|one| !is_null(one)).collect::<Vec<_>>()[..] {
            [only] => kind(only),
            _ => Kind::Json,
        };
    }
    if let Some(values) = members.get("enum") {
        let choices = members::items(values);
        let is_short = choices.len() <= CHOICES_MAX && choices.iter().all(|choice| choice.len() <= LETTERS_MAX);
        return if is_short { Kind::Choice(choices) } else { Kind::Json };
    }
    let types = members.get("type").unwrap_or("null");
    let types = if types.starts_with('[') { members::items(types) } else { vec![types.to_owned()] };
    match &types.iter().map(String::as_str).filter(|one| *one != "\"null\"").collect::<Vec<_>>()[..] {
        ["\"string\""] => Kind::Text,
        ["\"integer\"" | "\"number\""] => Kind::Number,
        ["\"boolean\""] => Kind::Boolean,
        _ => Kind::Json,
    }
}

fn is_null(schema: &str) -> bool {
    Members::of(schema).get("type") == Some("\"null\"")
}

/// What a browser sent in a field, without space around it; nothing if there is no such field.
pub(super) fn sent<'a>(fields: &'a [(String, String)], name: &str) -> &'a str {
    fields.iter().find(|(held, _)| held == name).map_or("", |(_, value)| value.trim())
}

/// The JSON that a browser sent with such fields; none if all of them are empty.
pub(super) fn json(fields: &[(String, String)]) -> Result<Option<String>, String> {
    let mut members = Vec::new();
    for (field, value) in fields {
        let (sort, name) = match field.split_once(':') {
            Some((sort, name)) => (sort, Some(name)),
            None => (field.as_str(), None),
        };
        let json = match sort {
            "text" => Value::from(value.as_str()).to_string(),
            "json" if value.trim().is_empty() => continue,
            "json" => value.trim().to_owned(),
            _ => continue,
        };
        if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&json) {
            let what = name.map_or("the value".to_owned(), |name| format!("`{name}`"));
            return Err(format!("{} is not JSON: {error}", plain(&what)));
        }
        let Some(name) = name else { return Ok(Some(json)) };
        // An empty text is left out: an optional one that is not filled in is none.
        if sort == "json" || !value.is_empty() {
            members.push(format!("{}:{json}", Value::from(name)));
        }
    }
    Ok((!members.is_empty()).then(|| format!("{{{}}}", members.join(","))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json_of(fields: &[(&str, &str)]) -> Result<Option<String>, String> {
        json(&fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>())
    }

    fn form(schema: Option<&str>, json: Option<&str>) -> String {
        fields("Input", schema, Held { json, typed: &[] }, "1").into_string()
    }

    const SCHEMA: &str = r#"{"type":"object","required":["size","email"],"properties":{
        "size":{"enum":["s","größe",18446744073709551616]},
        "email":{"type":"string","description":"Where to"},
        "count":{"anyOf":[{"type":"integer"},{"type":"null"}]},
        "note":{"type":["string","null"],"default":"none"},
        "pay":{"type":"boolean"},
        "parts":{"type":"array"}}}"#;

    #[test]
    fn what_is_typed_becomes_json_digit_for_digit() {
        let all = [
            ("text:name", "A \"b\""),
            ("json:n", "9223372036854775807"),
            ("json:x", "1e400"),
            ("text:optional", ""),
            ("json:other", " "),
            ("comment", "no field"),
        ];
        assert_eq!(json_of(&all).unwrap().unwrap(), r#"{"name":"A \"b\"","n":9223372036854775807,"x":1e400}"#);
        assert_eq!(json_of(&[("text", "")]).unwrap().unwrap(), r#""""#);
        assert_eq!(json_of(&[("json", "[1, 2]")]).unwrap().unwrap(), "[1, 2]");
        assert_eq!(json_of(&[("json", ""), ("by", "ada")]).unwrap(), None);
        assert!(json_of(&[("json:n", "seven")]).unwrap_err().starts_with("`n` is not JSON"));
    }

    #[test]
    fn a_schema_becomes_fields_that_hold_the_values_of_before() {
        let shown = form(
            Some(SCHEMA),
            Some(r#"{"size":"gr\u00f6\u00dfe","email":"a@b","count":9007199254740993,"pay":false}"#),
        );
        for part in [
            r#"name="text:email" value="a@b" required"#,
            "Where to",
            r#"<option value="&quot;größe&quot;" selected>größe</option>"#,
            r#"<option value="18446744073709551616">"#,
            r#"name="json:count" value="9007199254740993""#,
            r#"name="text:note" value="none""#,
            r#"<option value="false" selected>"#,
            r#"<textarea id="f:parts-1" name="json:parts""#,
        ] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
        assert!(shown.find("size") < shown.find("email"), "the order is that of the schema");
        let shown = form(Some(r#"{"type":"string","title":"Email"}"#), None);
        assert!(shown.contains(r#"name="text""#) && shown.contains("Email"), "{shown}");
        let shown = form(None, Some("[7]"));
        assert!(shown.contains(r#"name="json""#) && shown.contains("[\n  7\n]") && shown.contains("Input"), "{shown}");
    }

    #[test]
    fn nothing_is_chosen_that_was_not_chosen() {
        let shown = form(Some(SCHEMA), None);
        assert!(!shown.contains("selected"), "{shown}");
        assert!(
            shown.contains(r#"<select id="f:size-1" name="json:size" required><option value=""></option>"#),
            "{shown}"
        );
    }

    #[test]
    fn a_value_is_shown_in_fields_only_if_they_reproduce_it() {
        for (held, is_same) in [
            (r#"{"size":"s","email":"a@b","note":"x","pay":true,"parts":[1,2]}"#, true),
            (r#"{"email":"a@b","size":"s","note":"x"}"#, false),
            (r#"{"size":"s","email":"two\nlines","note":"x"}"#, true),
            (r#"{"size":"gone","email":"a@b","note":"x"}"#, true),
            (r#"{"size":"s","email":"","note":"x"}"#, true),
            (r#"{"size":"s","email":"a@b","note":"x","more":1}"#, false),
            (r#"{"size":"s","email":"a\u0040b","note":"x"}"#, false),
            (r#"{"size":"s","email":"a@b"}"#, false),
        ] {
            assert_eq!(reproduces(Some(SCHEMA), held), is_same, "{held}");
        }
        assert!(reproduces(None, "1e400") && reproduces(Some(r#"{"type":"number"}"#), "1e400"));
    }

    #[test]
    fn what_was_typed_and_refused_stands_there_again() {
        let typed = [("json:count".to_owned(), "seven".to_owned()), ("text:email".to_owned(), "ada".to_owned())];
        let shown = fields("Input", Some(SCHEMA), Held { json: None, typed: &typed }, "1").into_string();
        assert!(shown.contains(r#"value="seven""#) && shown.contains(r#"value="ada""#), "{shown}");
    }

    #[test]
    fn a_schema_of_a_guest_makes_no_large_page() {
        let many = (0..60_000).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        let schema = format!(r#"{{"properties":{{"a":{{"enum":[{many}],"description":"{}"}}}}}}"#, "x".repeat(100_000));
        assert!(form(Some(&schema), None).len() < 2_000);
        let properties = (0..1_000).map(|n| format!(r#""p{n}":{{}}"#)).collect::<Vec<_>>().join(",");
        assert!(form(Some(&format!(r#"{{"properties":{{{properties}}}}}"#)), None).len() < 2_000);
    }
}
