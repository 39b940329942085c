//! The operations of the OpenAPI document, with the names of real objects in every parameter.

use serde_json::{Value, json};
use test_engine::Engine;

use super::{Case, OF_ONES_OWN, Objects, Outcome, WORKFLOW, over_http};
use crate::rest::{Told, curl};

/// A request over REST.
pub(super) struct Operation {
    pub(super) case: Case,
    method: String,
    path: String,
    /// The type and the text of the body.
    body: Option<(&'static str, String)>,
    /// Whether it goes on for as long as its execution does.
    follows: bool,
}

impl Operation {
    pub(super) fn send(&self, engine: &Engine, token: &str) -> Outcome {
        let mut headers = vec![format!("authorization: Bearer {token}")];
        headers.extend(self.body.iter().map(|(kind, _)| format!("content-type: {kind}")));
        let body = self.body.as_ref().map_or("", |(_, text)| text);
        let mut outcome = over_http(engine, (&self.method, &self.path), &headers, body.as_bytes());
        // Many starts are accepted or refused line by line.
        if self.case.operation == "StartMany" && !outcome.is_refused {
            assert!(!outcome.said.contains("execution_id"), "{}: {}", self.case.sent, outcome.said);
        }
        if self.case.operation == "Upload" {
            assert!(outcome.is_refused, "these bytes are not a component: {}", outcome.said);
            outcome.is_proper = true;
        }
        outcome
    }

    /// Whether it changes nothing and is answered to the end.
    pub(super) fn ends(&self) -> bool {
        self.method == "GET" && !self.follows
    }

    pub(super) fn told(&self, engine: &Engine, token: &str) -> Told {
        curl(engine, (&self.method, &self.path), &["-H", &format!("authorization: Bearer {token}")], b"")
    }
}

/// Every operation with every object that its path can name, and with each of its parameters.
pub(super) fn all(objects: &Objects) -> Vec<Operation> {
    let document = crate::rest::document(&objects.engine);
    let mut found = Vec::new();
    for (template, item) in document["paths"].as_object().unwrap() {
        for (method, described) in item.as_object().unwrap() {
            let Some(operation) = described["operationId"].as_str() else { continue };
            let has_bodies = !bodies(objects, operation).is_empty();
            assert_eq!(
                !described["requestBody"].is_null(),
                has_bodies,
                "of the body of {operation} this test knows nothing"
            );
            let queries = queries(objects, operation, described);
            for path in paths(objects, template) {
                for query in &queries {
                    let (sent, template) = (format!("{path}{query}"), template.as_str());
                    found.extend(with_bodies(objects, (operation, template), &method.to_uppercase(), &sent));
                }
            }
        }
    }
    found
}

fn with_bodies(objects: &Objects, (operation, template): (&str, &str), method: &str, path: &str) -> Vec<Operation> {
    let bodies = bodies(objects, operation);
    let bodies = if bodies.is_empty() { vec![None] } else { bodies.into_iter().map(Some).collect() };
    let one = |body: Option<(&'static str, String)>| {
        let text = body.as_ref().map_or("", |(_, text)| text);
        let names_tenant = path.contains("tenant=default") || text.contains("\"tenant\"");
        let is_answered = OF_ONES_OWN.contains(&operation) && !template.contains('{') && !names_tenant;
        let of_open = path.contains(&objects.open);
        let follows = of_open && (path.contains("follow=true") || path.contains("wait=") || operation == "Watch");
        Operation {
            case: Case {
                operation: operation.to_owned(),
                sent: format!("{method} {path} {text}"),
                is_answered,
                // Where nothing matches there is nothing to do.
                is_pointless: path.contains("cursor=") || operation == "StartBulk",
            },
            method: method.to_owned(),
            path: path.to_owned(),
            body,
            follows,
        }
    };
    bodies.into_iter().map(one).collect()
}

/// A path of the document with the objects of which it can speak.
fn paths(objects: &Objects, template: &str) -> Vec<String> {
    let Objects { open, ended, approval, link, job, token, view, component, proposed, secret, .. } = objects;
    let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>();
    let ids = match template.split('/').nth(2).unwrap() {
        "executions" => named(&[open, ended]),
        "approvals" => named(&[approval, open]),
        "bulk" => named(&[job]),
        "tokens" => named(&[token]),
        "views" => named(&[view]),
        "components" => named(&[component, &proposed.0]),
        "secrets" => named(&[secret]),
        "tenants" => named(&["default"]),
        _ => vec![],
    };
    let signal = named(&["/signals/unread"]);
    let parts = [("{id}", &ids), ("{link}", &named(&[link])), ("/signals/{name}", &signal), ("{name}", &ids)];
    let mut found = vec![template.to_owned()];
    for (part, values) in parts {
        if found[0].contains(part) {
            found = found.iter().flat_map(|path| values.iter().map(|value| path.replace(part, value))).collect();
        }
    }
    assert!(!found.is_empty() && found.iter().all(|path| !path.contains('{')), "{template} has an unknown part");
    found
}

/// The queries of an operation: what it needs, and each further parameter by itself.
fn queries(objects: &Objects, operation: &str, described: &Value) -> Vec<String> {
    let of_query = described["parameters"].as_array().into_iter().flatten().filter(|one| one["in"] == "query");
    let (mut needed, mut further) = (Vec::new(), vec![String::new()]);
    for parameter in of_query {
        let name = parameter["name"].as_str().unwrap();
        let written = match name {
            "attr.NAME" => "attr.team=default".to_owned(),
            _ => format!("{name}={}", value(objects, operation, name)),
        };
        match parameter["required"] == true {
            true => needed.push(written),
            false => further.push(written),
        }
    }
    let whole = |one: String| {
        let parts: Vec<String> = needed.iter().cloned().chain(Some(one).filter(|one| !one.is_empty())).collect();
        if parts.is_empty() { String::new() } else { format!("?{}", parts.join("&")) }
    };
    further.into_iter().map(whole).collect()
}

/// What a parameter of a query says: an object where it can name one.
fn value(objects: &Objects, operation: &str, name: &str) -> String {
    let Objects { open, component, proposed, cursors, .. } = objects;
    match (operation, name) {
        ("Upload", "name") => component.clone(),
        ("Approvals", "cursor") => cursors.approvals.clone(),
        ("Audit", "cursor") => cursors.audit.clone(),
        ("List", "cursor") => cursors.executions.clone(),
        ("Audit", "operation") => "Start".to_owned(),
        ("Audit", "caller") => "ada".to_owned(),
        (_, "execution" | "object" | "parent") => open.clone(),
        (_, "workflow") => WORKFLOW.to_owned(),
        (_, "id_prefix") => "ours".to_owned(),
        (_, "digest") => proposed.1.clone(),
        (_, "tenant") => "default".to_owned(),
        (_, "status") => "failed".to_owned(),
        (_, "waits_for") => "approval".to_owned(),
        (_, "failure") => "failure".to_owned(),
        (_, "since" | "last") => "1d".to_owned(),
        (_, "until") => "1ms".to_owned(),
        (_, "wait") => "30s".to_owned(),
        (_, "limit" | "up_to" | "run") => "1".to_owned(),
        (_, "after") => "0".to_owned(),
        (_, "follow" | "force" | "lift" | "shared") => "true".to_owned(),
        other => panic!("of the parameter {other:?} this test knows nothing"),
    }
}

/// The bodies of an operation. What it makes has a name of its own: names of theirs have a test of their own.
fn bodies(objects: &Objects, operation: &str) -> Vec<(&'static str, String)> {
    const JSON: &str = "application/json";
    let start = json!({"workflow": WORKFLOW, "input": ["theirs"], "id": objects.open});
    let (own, of_default) = (json!({"name": "THEIRS", "value": "x", "hosts": ["a.example"]}), json!("default"));
    let mut secret_of_default = own.clone();
    (secret_of_default["name"], secret_of_default["tenant"]) = (json!(objects.secret), of_default.clone());
    let person = json!({"role": "viewer", "name": "theirs"});
    let mut person_of_default = person.clone();
    person_of_default["tenant"] = of_default;
    let all: Vec<Value> = match operation {
        "Approve" => vec![json!({"data": {}, "comment": "theirs"})],
        "Reject" => vec![json!({"reason": "theirs"})],
        "CreateApprovalLink" => vec![json!({"name": "theirs"})],
        "Start" => vec![start],
        "StartMany" => return vec![("application/x-ndjson", format!("{start}\n{start}\n"))],
        "Upload" => return vec![("application/wasm", "not a component".to_owned())],
        "Signal" => vec![json!("theirs")],
        "StartBulk" => vec![json!({"operation": "terminate", "filter": {}})],
        "SaveView" => vec![json!({"name": "theirs"}), json!({"name": "theirs", "shared": true})],
        "SetSecret" => vec![own, secret_of_default],
        "CreateToken" => vec![person, person_of_default],
        "CreateTenant" => vec![json!({"name": "theirs"})],
        "SetQuotas" => vec![json!({"components": 1})],
        "SetHosts" => vec![json!(["127.0.0.1"])],
        _ => vec![],
    };
    all.into_iter().map(|body| (JSON, body.to_string())).collect()
}
