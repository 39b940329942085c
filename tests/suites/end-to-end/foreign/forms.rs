//! The pages of the documentation's table, with the names of real objects in every part of their addresses.

use test_engine::Engine;

use super::{Case, OF_ONES_OWN, Objects, Outcome, WORKFLOW, over_http};
use crate::pages::{cookie, pages};
use crate::rest::{Told, curl};

/// A page, or a form that is sent.
pub(super) struct Form {
    pub(super) case: Case,
    method: String,
    path: String,
    fields: String,
    /// Whether it goes on for as long as its execution does.
    follows: bool,
    /// Its own tenant has nothing there either.
    is_missing: bool,
}

impl Form {
    pub(super) fn send(&self, engine: &Engine, token: &str) -> Outcome {
        let headers = [cookie(engine, token), "content-type: application/x-www-form-urlencoded".to_owned()];
        over_http(engine, (&self.method, &self.path), &headers, self.fields.as_bytes())
    }

    /// Whether it changes nothing and is answered to the end.
    pub(super) fn ends(&self) -> bool {
        self.method == "GET" && !self.follows && !self.is_missing
    }

    pub(super) fn told(&self, engine: &Engine, token: &str) -> Told {
        curl(engine, (&self.method, &self.path), &["-H", &cookie(engine, token)], b"")
    }
}

/// Every page with every object that its address can name.
pub(super) fn all(objects: &Objects) -> Vec<Form> {
    let mut found = Vec::new();
    for (method, template, operation) in pages() {
        // This one leads to an address that the reader knows already, and asks for nothing.
        let leads_on = template == "/executions/{id}/at";
        let is_answered = leads_on || OF_ONES_OWN.contains(&operation.as_str()) && !template.contains('{');
        let sent = if method == "POST" { fields(objects, &template) } else { vec![vec![]] };
        for path in paths(objects, &template) {
            for fields in &sent {
                let mut text = url::form_urlencoded::Serializer::new(String::new());
                let fields = text.extend_pairs(fields).finish();
                let case = Case {
                    operation: operation.clone(),
                    sent: format!("{method} {path} {fields}"),
                    is_answered,
                    // Where nothing matches there is nothing to do.
                    is_pointless: path.contains("cursor=") || operation == "StartBulk",
                };
                let follows = template.ends_with("/changes") && path.contains(&objects.open);
                // Neither execution has completed, and one has not ended.
                let is_missing = template.ends_with("/value/output")
                    || template.ends_with("/value/failure") && path.contains(&objects.open);
                found.push(Form { case, method: method.clone(), path: path.clone(), fields, follows, is_missing });
            }
        }
    }
    found
}

/// An address with the objects of which it can speak, and with each query that its page takes.
fn paths(objects: &Objects, template: &str) -> Vec<String> {
    let Objects { open, ended, approval, job, token, view, component, proposed, secret, cursors, .. } = objects;
    let ids: &[&str] = match template.split('/').nth(1).unwrap() {
        "executions" => &[open, ended],
        "approvals" => &[approval, open],
        "bulk" => &[job],
        "tokens" => &[token],
        "views" => &[view],
        "components" => &[component, &proposed.0],
        "secrets" => &[secret],
        "tenants" => &["default"],
        _ => &[],
    };
    let (of, workflow) = WORKFLOW.split_once('/').unwrap();
    let parts =
        [("{id}", ids), ("{name}", ids), ("{position}", &["1"]), ("{component}", &[of]), ("{workflow}", &[workflow])];
    let mut found = vec![template.to_owned()];
    for (part, values) in parts {
        if found[0].contains(part) {
            found = found.iter().flat_map(|path| values.iter().map(|value| path.replace(part, value))).collect();
        }
    }
    assert!(!found.is_empty() && found.iter().all(|path| !path.contains('{')), "{template} has an unknown part");
    let filters = || {
        let filters =
            [("parent", open.as_str()), ("id_prefix", "ours"), ("status", "failed"), ("waits_for", "approval")];
        filters.map(|(name, value)| format!("{name}={value}")).to_vec()
    };
    let queries: Vec<String> = match template {
        "/executions" => [filters(), vec![format!("id={open}"), format!("cursor={}", cursors.executions)]].concat(),
        "/executions.csv" | "/executions.ndjson" | "/bulk-form" => filters(),
        "/approvals" => vec![format!("cursor={}", cursors.approvals)],
        "/audit" => vec![format!("object={open}"), "caller=ada".into(), format!("cursor={}", cursors.audit)],
        "/executions/{id}/history" => vec!["to=1".into(), "after=0".into(), "kind=Step".into(), "run=1".into()],
        "/executions/{id}/at" => return found.iter().map(|path| format!("{path}?to=1")).collect(),
        "/executions/{id}/logs" => vec!["level=info".into(), "after=0".into()],
        "/executions/{id}/timeline" => vec!["run=1".into(), "even=true".into()],
        "/executions/{id}/graph" => vec!["run=1".into()],
        "/executions/{id}/tree" => vec!["status=failed".into()],
        "/start/{component}/{workflow}" => vec![format!("like={open}")],
        _ => vec![],
    };
    let further: Vec<String> =
        found.iter().flat_map(|path| queries.iter().map(move |query| format!("{path}?{query}"))).collect();
    [found, further].concat()
}

/// What a form says. What it makes has a name of its own: names of theirs have a test of their own.
fn fields<'a>(objects: &'a Objects, template: &str) -> Vec<Vec<(&'static str, &'a str)>> {
    let one: Vec<(&'static str, &'a str)> = match template {
        "/views" => vec![("name", "theirs"), ("status", "failed")],
        "/views/{name}/delete" => return vec![vec![("shared", "true")], vec![("shared", "false")]],
        "/executions/{id}/signal" => vec![("name", "unread"), ("data", "1")],
        "/executions/{id}/cancel"
        | "/executions/{id}/terminate"
        | "/executions/{id}/pause"
        | "/executions/{id}/resume"
        | "/executions/{id}/delete"
        | "/bulk/{id}/stop"
        | "/secrets/{name}/delete"
        | "/tokens/{id}/revoke" => vec![],
        "/bulk" => vec![("id", "theirs"), ("operation", "terminate"), ("at_most", "9"), ("status", "failed")],
        "/approvals/{id}/approve" => vec![("json", "{}"), ("comment", "theirs")],
        "/approvals/{id}/reject" => vec![("reason", "theirs")],
        "/components/{name}/accept" => vec![("digest", &objects.proposed.1)],
        "/secrets" => vec![("name", "THEIRS"), ("value", "x"), ("hosts", "a.example")],
        "/tenants" => vec![("name", "theirs")],
        "/tenants/{name}/suspend" => vec![("lift", "false")],
        "/tenants/{name}/delete" => vec![("name", "default")],
        "/tenants/{name}/quotas" => vec![("quota", "components"), ("max", "1")],
        "/tenants/{name}/hosts" => vec![("rule", "these"), ("hosts", "127.0.0.1")],
        "/tokens" => vec![("name", "theirs"), ("role", "viewer"), ("expires", "")],
        "/start/{component}/{workflow}" => {
            let further = [("json", "[\"theirs\"]"), ("delay", ""), ("attributes", "")];
            further.into_iter().chain([("id", objects.open.as_str())]).collect()
        }
        other => panic!("of the form {other} this test knows nothing"),
    };
    vec![one]
}
