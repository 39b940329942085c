//! A tenant with one object of every kind, each with a word in it that stands nowhere else.

use serde_json::{Value, json};
use test_engine::{Database, Engine, Scratch, component, scratch, until};

use crate::rest::{Told, curl};
use crate::tenants::token;

/// Stands in inputs, questions, logs, attributes, progress, failures, signals, filters, secrets and names of people.
pub(crate) const MARKER: &str = "quince-7f3a91";
/// The workflow of the executions, which says its input wherever a guest can say something.
pub(crate) const WORKFLOW: &str = "ours-shop/everywhere";

/// An engine with two tenants: `default` has one object of every kind, `other` has people of every role.
pub(crate) struct Objects {
    pub(crate) engine: Engine,
    /// An admin of `default`.
    pub(crate) admin: String,
    /// Open, and asks one question.
    pub(crate) open: String,
    /// Failed, after its question was rejected.
    pub(crate) ended: String,
    pub(crate) approval: String,
    pub(crate) link: String,
    pub(crate) job: String,
    pub(crate) view: String,
    /// The current version of a component, and a proposed one of another name with its digest.
    pub(crate) component: String,
    pub(crate) proposed: (String, String),
    pub(crate) secret: String,
    /// The public part of a token.
    pub(crate) token: String,
    /// Where the second page of a list of executions begins, of a list of questions, and of the audit.
    pub(crate) cursors: Cursors,
    pub(crate) digest: String,
    _keys: Scratch,
}

/// Cursors of lists of `default`.
pub(crate) struct Cursors {
    pub(crate) executions: String,
    pub(crate) approvals: String,
    pub(crate) audit: String,
}

/// Asks as the holder of a token, with a body of JSON.
fn ask(engine: &Engine, token: &str, (method, path): (&str, &str), body: &Value) -> Value {
    let bearer = format!("authorization: Bearer {token}");
    let more = ["-H", &bearer, "-H", "content-type: application/json"];
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let told: Told = curl(engine, (method, path), &more, body.as_bytes());
    assert!(matches!(told.status, 200 | 204), "{method} {path}: {told:?}");
    if told.body.is_empty() { Value::Null } else { told.json() }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

impl Objects {
    pub(crate) fn new(database: Database) -> Self {
        let keys = scratch();
        let file = keys.0.join("keys");
        std::fs::write(&file, "7".repeat(64)).unwrap();
        let engine = Engine::start_with(database, &[("SECRETS_KEY", file.to_str().unwrap())]);
        // What this admin does to `other` is in the audit of `other`, with this name.
        let admin = token(&engine, "", &["--role", "admin", "--name", "ada"]);
        engine.ok(&["tenant", "create", "other", "--token", &admin]);
        let ask = |method: &str, path: &str, body: Value| ask(&engine, &admin, (method, path), &body);
        let (digest, proposed) = upload(&engine, &admin);
        for id in ["ours-open", "ours-ended"] {
            let attributes = json!({"team": MARKER});
            let start = json!({"workflow": WORKFLOW, "input": [MARKER], "id": id, "attributes": attributes});
            ask("POST", "/v1/executions", start);
        }
        let questions = until("both ask", || {
            let asked = ask("GET", "/v1/approvals", Value::Null)["approvals"].as_array().unwrap().clone();
            (asked.len() == 2).then_some(asked)
        });
        let question = questions.iter().find(|question| question["execution_id"] == "ours-open").unwrap();
        let approval = text(&question["approval_id"]);
        let links = format!("/v1/approvals/{approval}/links");
        let link = ask("POST", &links, json!({"name": format!("person-{MARKER}"), "only": ["reject"]}));
        let approvals = text(&ask("GET", "/v1/approvals?limit=1", Value::Null)["next"]);
        ask("POST", "/v1/approvals/ours-ended/reject", json!({"reason": MARKER}));
        until("it has failed", || {
            (ask("GET", "/v1/executions/ours-ended", Value::Null)["status"] == "failed").then_some(())
        });
        ask("POST", "/v1/executions/ours-open/signals/unread", json!(MARKER));
        // It finds one that has ended, which cannot be cancelled.
        let filter = json!({"attributes": {"team": MARKER}, "status": "failed"});
        ask("POST", "/v1/bulk", json!({"operation": "cancel", "filter": filter, "id": "ours-job"}));
        until("the job is done", || (ask("GET", "/v1/bulk/ours-job", Value::Null)["state"] == "done").then_some(()));
        ask("POST", "/v1/views", json!({"name": "ours-view", "shared": true, "filter": filter, "columns": [MARKER]}));
        ask("POST", "/v1/secrets", json!({"name": "OURS_KEY", "value": MARKER, "hosts": ["ours.example.com"]}));
        ask("POST", "/v1/tenants/default/quotas", json!({"components": 77}));
        let holder = ask("POST", "/v1/tokens", json!({"role": "viewer", "name": format!("holder-{MARKER}")}));
        let next = |path: &str| text(&ask("GET", path, Value::Null)["next"]);
        let cursors =
            Cursors { executions: next("/v1/executions?limit=1"), approvals, audit: next("/v1/audit?limit=1") };
        Self {
            open: "ours-open".to_owned(),
            ended: "ours-ended".to_owned(),
            approval,
            link: text(&link["link_id"]),
            job: "ours-job".to_owned(),
            view: "ours-view".to_owned(),
            component: "ours-shop".to_owned(),
            proposed: ("ours-draft".to_owned(), proposed),
            secret: "OURS_KEY".to_owned(),
            token: text(&holder["id"]),
            cursors,
            digest,
            engine,
            admin,
            _keys: keys,
        }
    }

    /// Whatever names an object of `default`: no answer to another tenant says it unasked.
    pub(crate) fn names(&self) -> Vec<&str> {
        let (proposed, digest) = &self.proposed;
        let ids = [&self.open, &self.ended, &self.approval, &self.link, &self.job, &self.view, &self.token];
        let others = [&self.component, &self.secret, proposed, digest, &self.digest];
        ids.into_iter().chain(others).map(String::as_str).chain(["ours.example.com"]).collect()
    }

    /// All that a client could have changed in `default`, as its admin sees it.
    pub(crate) fn seen(&self) -> Vec<(&'static str, Value)> {
        let (question, links) = (format!("/v1/approvals?execution={}", self.open), "/v1/approvals/ours-open/links");
        let job = format!("/v1/bulk/{}", self.job);
        let get = |path: &str| {
            let mut seen = ask(&self.engine, &self.admin, ("GET", path), &Value::Null);
            // What engines count meanwhile, and the minute in which this admin asks.
            let tokens = seen["tokens"].as_array_mut().into_iter().flatten();
            tokens.for_each(|token| token["last_used_at"] = Value::Null);
            let quotas = seen["quotas"].as_array_mut().into_iter().flatten();
            quotas.for_each(|quota| quota["used"] = Value::Null);
            seen
        };
        let history = |id: &str| {
            let lines = self.engine.ok(&["history", id, "--json", "--token", &self.admin]);
            json!(lines.lines().collect::<Vec<_>>())
        };
        vec![
            ("executions", get("/v1/executions")),
            ("the open one", get("/v1/executions/ours-open")),
            ("the ended one", get("/v1/executions/ours-ended")),
            ("history of the open one", history(&self.open)),
            ("history of the ended one", history(&self.ended)),
            ("questions", get(&question)),
            ("links", get(links)),
            ("jobs", get("/v1/bulk")),
            ("the job", get(&job)),
            ("views", get("/v1/views")),
            ("components", get("/v1/components")),
            ("secrets", get("/v1/secrets")),
            ("tokens", get("/v1/tokens")),
            ("tenants", get("/v1/tenants")),
            ("quotas and hosts", get("/v1/tenants/default")),
            ("audit", get("/v1/audit")),
        ]
    }
}

/// Uploads a component as an admin, and another one as a developer, which is proposed. Returns their digests.
fn upload(engine: &Engine, admin: &str) -> (String, String) {
    let developer = token(engine, admin, &["--role", "developer", "--name", &format!("developer-{MARKER}")]);
    let digest = |(name, file): (&str, &str), token: &str, is_proposed: bool| {
        let said = engine.ok(&["upload", &component(file), "--name", name, "--json", "--token", token]);
        let said: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["proposed"], is_proposed, "{said}");
        text(&said["digest"])
    };
    (digest(("ours-shop", "test-guests"), admin, false), digest(("ours-draft", "trial"), &developer, true))
}
