//! Forms made from JSON Schemas, and the JSON that a browser sends with them.
//!
//! A field's name says how its value is written in JSON: `text:NAME` as a text, `json:NAME` as it is. A value that is no
//! object is one field, `text` or `json`. Digits stay as they were typed.

use std::collections::BTreeMap;

use maud::{Markup, html};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::parts::text;
use crate::wording::pretty;

/// The fields of a form that has more are one text of JSON.
const FIELDS_MAX: usize = 50;

/// A field as a form shows it.
enum Kind<'a> {
    Text,
    Number,
    Boolean,
    Choice(&'a [Value]),
    Json,
}

/// The fields for `what`, a value of this schema, filled with `held`. Their ids end with `id`.
pub(super) fn fields(what: &str, schema: Option<&str>, held: Option<&str>, id: &str) -> Markup {
    let schema: Value = schema.and_then(|schema| serde_json::from_str(schema).ok()).unwrap_or_default();
    let members: Option<BTreeMap<String, Box<RawValue>>> =
        held.map_or(Some(BTreeMap::new()), |held| serde_json::from_str(held).ok());
    match (properties(&schema), members) {
        (Some(properties), Some(members)) => html! {
            @for (name, of) in properties {
                (field(of, &format!(":{name}"), is_required(&schema, name), (members.get(name).map(|held| held.get()), id)))
            }
        },
        _ => {
            let (named, required) = (schema.get("title").is_some(), kind_is_known(&schema));
            let schema = if named { schema } else { with_title(schema, what) };
            field(&schema, "", required, (held, id))
        }
    }
}

/// Whether a value is one field of a known kind. Without a schema, no value is one as well.
fn kind_is_known(schema: &Value) -> bool {
    !matches!(kind(schema), Kind::Json)
}

fn with_title(schema: Value, title: &str) -> Value {
    let mut members = if let Value::Object(members) = schema { members } else { Map::new() };
    members.insert("title".to_owned(), title.into());
    Value::Object(members)
}

/// The properties of an object that can be shown one by one.
fn properties(schema: &Value) -> Option<&Map<String, Value>> {
    let properties = schema.get("properties")?.as_object()?;
    let is_open = schema.get("additionalProperties").is_some_and(Value::is_object);
    (!properties.is_empty() && properties.len() <= FIELDS_MAX && !is_open).then_some(properties)
}

fn is_required(schema: &Value, name: &str) -> bool {
    let required = schema.get("required").and_then(Value::as_array);
    required.is_some_and(|required| required.iter().any(|held| held == name))
}

fn field(schema: &Value, name: &str, required: bool, (held, id): (Option<&str>, &str)) -> Markup {
    let schema = without_null(schema);
    let kind = kind(schema);
    // A value of another type than the schema says is shown as it is.
    let kind = match (&kind, held.map(serde_json::from_str::<Value>)) {
        (Kind::Text, Some(Ok(Value::String(_)))) | (_, None) => kind,
        (Kind::Text, _) => Kind::Json,
        _ => kind,
    };
    let (title, described) = (label(schema, name), schema.get("description").and_then(Value::as_str));
    let sort = if matches!(kind, Kind::Text) { "text" } else { "json" };
    let (id, name) = (format!("f{name}-{id}"), format!("{sort}{name}"));
    let plain = held.and_then(|held| serde_json::from_str::<String>(held).ok());
    html! {
        label for=(id) { (text(&title)) @if !required { span.note { " optional" } } }
        @match kind {
            Kind::Text => input id=(id) name=(name) value=(plain.unwrap_or_default()) required[required];,
            Kind::Number => input id=(id) name=(name) value=(held.unwrap_or_default()) inputmode="decimal" required[required];,
            Kind::Boolean => select id=(id) name=(name) {
                @if !required { option value="" {} }
                @for word in ["true", "false"] { option value=(word) selected[held == Some(word)] { (word) } }
            },
            Kind::Choice(values) => select id=(id) name=(name) {
                @if !required { option value="" {} }
                @for value in values {
                    @let json = value.to_string();
                    option value=(json) selected[held == Some(json.as_str())] { (text(value.as_str().unwrap_or(&json))) }
                }
            },
            Kind::Json => textarea id=(id) name=(name) rows=(rows(held)) spellcheck="false" placeholder="JSON" required[required && name != "json"] {
                @if let Some(held) = held { (pretty(held).join("\n")) }
            },
        }
        @if let Some(described) = described { p.note { (text(described)) } }
    }
}

fn rows(held: Option<&str>) -> usize {
    held.map_or(3, |held| pretty(held).len().clamp(3, 20))
}

fn label(schema: &Value, name: &str) -> String {
    let name = name.trim_start_matches(':');
    match name {
        "" => schema.get("title").and_then(Value::as_str).unwrap_or_default().to_owned(),
        name => name.to_owned(),
    }
}

/// The schema of an optional value without the alternative `null`.
fn without_null(schema: &Value) -> &Value {
    let alternatives = schema.get("anyOf").and_then(Value::as_array);
    let others: Vec<_> = alternatives.into_iter().flatten().filter(|one| one["type"] != "null").collect();
    if let [only] = others[..] { only } else { schema }
}

fn kind(schema: &Value) -> Kind<'_> {
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return Kind::Choice(values);
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("string") => Kind::Text,
        Some("integer" | "number") => Kind::Number,
        Some("boolean") => Kind::Boolean,
        _ => Kind::Json,
    }
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
            return Err(format!(
                "{} is not JSON: {error}",
                name.map_or("the value".to_owned(), |name| format!("`{name}`"))
            ));
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

    fn sent(fields: &[(&str, &str)]) -> Result<Option<String>, String> {
        json(&fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>())
    }

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
        assert_eq!(sent(&all).unwrap().unwrap(), r#"{"name":"A \"b\"","n":9223372036854775807,"x":1e400}"#);
        assert_eq!(sent(&[("text", "")]).unwrap().unwrap(), r#""""#);
        assert_eq!(sent(&[("json", "[1, 2]")]).unwrap().unwrap(), "[1, 2]");
        assert_eq!(sent(&[("json", ""), ("by", "ada")]).unwrap(), None);
        assert!(sent(&[("json:n", "seven")]).unwrap_err().starts_with("`n` is not JSON"));
    }

    #[test]
    fn a_schema_becomes_fields_that_hold_the_values_of_before() {
        let schema = r#"{"type":"object","required":["email","size"],"properties":{
            "email":{"type":"string","description":"Where to"},
            "size":{"enum":["s","m"]},
            "count":{"anyOf":[{"type":"integer"},{"type":"null"}]},
            "parts":{"type":"array"}}}"#;
        let shown = fields("Input", Some(schema), Some(r#"{"email":"a@b","size":"m","count":9007199254740993}"#), "1")
            .into_string();
        for part in [
            r#"name="text:email" value="a@b" required"#,
            "Where to",
            r#"<option value="&quot;m&quot;" selected>m</option>"#,
            r#"name="json:count" value="9007199254740993""#,
            r#"<textarea id="f:parts-1" name="json:parts""#,
        ] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
        let shown = fields("Input", Some(r#"{"type":"string","title":"Email"}"#), None, "1").into_string();
        assert!(shown.contains(r#"name="text""#) && shown.contains("Email"), "{shown}");
        let shown = fields("Input", None, Some("[7]"), "1").into_string();
        assert!(shown.contains(r#"name="json""#) && shown.contains("[\n  7\n]"), "{shown}");
    }
}
