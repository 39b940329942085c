//! Engines that have every page in every state: one with everything, and one that has just been installed.

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection};
use test_engine::{Cloud, Database, Engine, Scratch, component, scratch, until};

use crate::Browser;

/// A reader of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// A reader without a token.
    Stranger,
    /// An admin, or the reader of an engine without tokens.
    Admin,
    /// A reader who may look only.
    Viewer,
}

/// An engine, and the pages that are worth a look.
#[derive(Debug)]
pub struct Gallery {
    /// The engine.
    pub engine: Engine,
    /// The name of each page, its path, and its reader.
    pub pages: Vec<(String, String, Who)>,
    admin: Option<String>,
    viewer: Option<String>,
    cloud: Option<Cloud>,
    _keys: Scratch,
}

/// A schema with every kind of field.
const SCHEMA: &str = r#"{"type": "object", "required": ["amount", "reason"], "properties": {
    "amount": {"type": "integer", "description": "In cents"}, "reason": {"type": "string"},
    "level": {"enum": ["low", "high"]}, "notify": {"type": "boolean"}, "lines": {"type": "array"}}}"#;
/// No server listens there.
const NOWHERE: &str = "http://127.0.0.1:1";
const MONTH_MS: u64 = 2_592_000_000;

impl Gallery {
    /// An engine without tokens on which nothing has happened.
    #[must_use]
    pub fn empty() -> Self {
        let engine = Engine::start(Database::Sqlite);
        let paths = [
            ("overview", "/"),
            ("executions", "/executions"),
            ("executions-no-match", "/executions?status=failed&attribute=team%3Dops&id_prefix=none"),
            ("approvals", "/approvals"),
            ("components", "/components"),
            ("audit", "/audit?operation=None"),
            ("secrets", "/secrets"),
            ("tokens", "/tokens"),
            ("tenants", "/tenants"),
            ("nodes", "/nodes"),
            ("bulk", "/bulk"),
            ("bulk-form", "/bulk-form"),
            ("error-no-execution", "/executions/none"),
            ("error-no-workflow", "/start/none/none"),
            ("error-not-understood", "/executions?attribute=team"),
            ("error-no-page", "/nowhere"),
        ];
        let pages = paths.map(|(name, path)| (format!("empty-{name}"), path.to_owned(), Who::Admin)).to_vec();
        Self { engine, pages, admin: None, viewer: None, cloud: None, _keys: scratch() }
    }

    /// An engine with executions in every state, questions, links, jobs, tenants, secrets and tokens.
    ///
    /// # Panics
    /// When something of it cannot be made.
    #[must_use]
    pub fn full() -> Self {
        let keys = scratch();
        let file = keys.0.join("keys");
        std::fs::write(&file, "1".repeat(64)).unwrap();
        let settings = [("SECRETS_KEY", file.to_str().unwrap()), ("HIBERNATE_AFTER", "10ms")];
        let engine = Engine::start_with(Database::Sqlite, &settings);
        let cloud = Some(Cloud::start());
        let mut gallery = Self { engine, pages: Vec::new(), admin: None, viewer: None, cloud, _keys: keys };
        gallery.ok(&["upload", &component("test-guests"), "--name", "guests"]);
        gallery.park("stuck");
        gallery.admin = Some(token(&gallery.engine, "", "ada", "admin"));
        gallery.fill();
        gallery
    }

    /// Logs a browser in as this reader.
    pub fn log_in(&self, browser: &Browser, who: Who) {
        browser.page(&self.engine, "/login");
        browser.tell("/cookie", &json!({"cookie": {"name": "none", "value": "none"}}));
        browser.cdp("Network.clearBrowserCookies", &json!({}));
        match (who, &self.admin, &self.viewer) {
            (Who::Admin, Some(token), _) | (Who::Viewer, _, Some(token)) => browser.log_in(&self.engine, token),
            _ => {}
        }
    }

    fn ok(&self, arguments: &[&str]) -> String {
        match &self.admin {
            Some(token) => self.engine.ok(&[arguments, &["--token", token]].concat()),
            None => self.engine.ok(arguments),
        }
    }

    fn start(&self, workflow: &str, id: &str, input: &Value, more: &[&str]) {
        let (workflow, input) = (format!("guests/{workflow}"), input.to_string());
        self.ok(&[&["start", &workflow, "--id", id, "--input", &input], more].concat());
    }

    fn wait_for(&self, id: &str, status: &str) {
        until(&format!("{id} is {status}"), || {
            let said: Value = serde_json::from_str(&self.ok(&["status", id, "--json"])).unwrap();
            (said["status"] == status).then_some(())
        });
    }

    fn show(&mut self, name: &str, path: &str, who: Who) {
        self.pages.push((name.to_owned(), path.to_owned(), who));
    }

    fn fill(&mut self) {
        let admin = self.admin.clone().unwrap();
        self.viewer = Some(token(&self.engine, &admin, "vic", "viewer"));
        let developer = token(&self.engine, &admin, "dora", "developer");
        self.ok(&["upload", &component("hello"), "--name", "deployments"]);
        // It asks for hosts and secrets, which only an admin grants.
        self.engine.ok(&["upload", &component("droplet-deployment"), "--name", "deployments", "--token", &developer]);
        self.executions();
        self.timelines();
        self.questions();
        self.administration();
        self.login_and_errors();
    }

    fn executions(&mut self) {
        let steps = |steps: u32| json!({"steps": steps});
        let of = |team: &'static str, region: &'static str| ["--attr", team, "--attr", region];
        self.start("sequence", "invoice-2026-1041", &steps(5), &of("team=billing", "region=eu-central"));
        self.start("parallel", "import-77", &steps(60), &of("team=data", "region=us-east"));
        self.start("nested", "nested", &json!(7), &[]);
        self.start("telling", "telling", &json!(20), &["--attr", "team=data"]);
        self.start("countdown", "countdown", &json!(3), &[]);
        self.start("family", "family", &json!({"children": 12, "awaited": true}), &[]);
        self.start("load", "loop", &json!({"what": "outputs-in-turn", "count": 260, "bytes": 20}), &[]);
        self.start("posts", "payout-failed", &json!({"base_url": NOWHERE, "paths": ["notes/a"]}), &[]);
        let retrying = json!({"base_url": NOWHERE, "failures": 9, "delay_ms": 3_600_000});
        self.start("retrying", "charge-retrying", &retrying, &of("team=billing", "region=eu-central"));
        self.start("sleeper", "reminder", &json!(MONTH_MS), &["--attr", "team=people"]);
        self.start("sequence_then_signal", "delivery", &json!({"steps": 4, "signal": "delivered"}), &[]);
        for id in ["paused", "cancelled"] {
            self.start("sleeper", id, &json!(MONTH_MS), &[]);
        }
        let long = format!("tenant-4711.order.{}", "0123456789abcdef".repeat(6));
        self.start("sleeper", &long, &json!(MONTH_MS), &["--attr", "team=a-team-with-a-very-long-name-indeed"]);
        self.ok(&["pause", "paused"]);
        self.ok(&["cancel", "cancelled"]);
        for id in ["invoice-2026-1041", "import-77", "nested", "telling", "countdown", "family", "loop"] {
            self.wait_for(id, "completed");
        }
        for (id, status) in
            [("payout-failed", "failed"), ("delivery", "waiting"), ("paused", "paused"), ("cancelled", "cancelled")]
        {
            self.wait_for(id, status);
        }
        self.show("overview", "/", Who::Admin);
        self.show("executions", "/executions", Who::Admin);
        self.show("executions-columns", "/executions?columns=team,region&attribute=team%3Dbilling", Who::Admin);
        for id in ["invoice-2026-1041", "charge-retrying", "payout-failed", "reminder", "delivery", "paused"] {
            self.of_execution(id, &["", "/timeline", "/graph"]);
        }
        self.of_execution(
            "invoice-2026-1041",
            &["/history", "/logs", "/tree", "/events/2", "/at/3", "/value/output", "/value/2"],
        );
        self.of_execution("import-77", &["/value/input", "/value/output"]);
        self.of_execution("payout-failed", &["/value/failure"]);
        self.of_execution("stuck", &["", "/history"]);
        self.of_execution("cancelled", &[""]);
        self.of_execution("import-77", &["", "/timeline", "/graph"]);
        self.of_execution("nested", &["", "/timeline", "/graph"]);
        self.of_execution("telling", &["", "/logs"]);
        self.of_execution("countdown", &["/history", "/history?kind=none"]);
        self.of_execution("family", &["", "/tree", "/graph"]);
        self.of_execution("loop", &["/history?to=200", "/graph"]);
        self.of_execution("charge-retrying", &["/at/4", "/logs"]);
        self.of_execution(&long, &["", "/timeline", "/tree", "/events/1"]);
    }

    /// A timeline with a plan, before its start and in its middle.
    fn timelines(&mut self) {
        self.ok(&["upload", &component("python-onboarding"), "--name", "people", "--accept"]);
        let url = self.cloud.as_ref().map(|cloud| cloud.url().to_owned());
        let person = json!({"base_url": url, "name": "Ada Lovelace"}).to_string();
        self.ok(&["start", "people/onboarding", "--id", "onboarding-ada", "--input", &person]);
        self.wait_for("onboarding-ada", "waiting-for-approval");
        self.of_execution("onboarding-ada", &["", "/graph"]);
        self.show("start-plan", "/start/people/onboarding", Who::Admin);
    }

    fn of_execution(&mut self, id: &str, pages: &[&str]) {
        for page in pages {
            let short = &id[..id.len().min(20)];
            let name = format!("execution-{short}{}", page.replace(['/', '?', '='], "-"));
            self.show(&name, &format!("/executions/{id}{page}"), Who::Admin);
        }
    }

    /// An execution that the engine cannot read.
    fn park(&self, id: &str) {
        self.start("listening", id, &json!({"names": ["go"]}), &[]);
        self.wait_for(id, "waiting");
        until("it is out of memory", || (self.engine.metric("cerebelum_executions_in_memory") == 0).then_some(()));
        let statement = format!("update executions set facts = '[' where id = '{id}'");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut connection = sqlx::SqliteConnection::connect(self.engine.database()).await.unwrap();
            sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
        });
        self.ok(&["signal", id, "go"]);
        self.wait_for(id, "parked");
    }

    fn questions(&mut self) {
        let title = |title: &str| json!({"title": title});
        for (id, question) in [
            ("approval-plain", "Refund 1,200 € to Ada Lovelace?"),
            ("link-open", "May the production database be restarted tonight?"),
            ("link-used", "Was this used?"),
            ("link-elsewhere", "Was this answered elsewhere?"),
        ] {
            self.start("asking", id, &title(question), &[]);
            self.wait_for(id, "waiting-for-approval");
        }
        self.start("asking_by_schema", "approval-form", &serde_json::from_str(SCHEMA).unwrap(), &[]);
        self.wait_for("approval-form", "waiting-for-approval");
        let open = self.link("link-open", &[]);
        let (used, elsewhere) = (self.link("link-used", &[]), self.link("link-elsewhere", &[]));
        let form = self.link("approval-form", &["--only", "reject"]);
        self.ok(&["approve", "link-elsewhere"]);
        let browser = Browser::open(360);
        browser.page(&self.engine, &used);
        browser.click("button[value=approve]");
        browser.sees(".lead", "has been used");
        self.show("approvals", "/approvals", Who::Admin);
        self.show("approvals-viewer", "/approvals", Who::Viewer);
        self.of_execution("approval-plain", &[""]);
        self.of_execution("approval-form", &["", "/graph"]);
        for (name, path) in [("open", open), ("used", used), ("elsewhere", elsewhere), ("reject-only", form)] {
            self.show(&format!("link-{name}"), &path, Who::Stranger);
        }
    }

    /// The path of a new approval link.
    fn link(&self, id: &str, more: &[&str]) -> String {
        let made = self.ok(&[&["approvals", "link", id, "--for", "Grace Hopper", "--json"], more].concat());
        let made: Value = serde_json::from_str(&made).unwrap();
        let url = made["url"].as_str().unwrap().to_owned();
        url[url.find("/a/").unwrap()..].to_owned()
    }

    fn administration(&mut self) {
        self.ok(&["tenant", "create", "acme"]);
        self.ok(&["tenant", "create", "old-customer"]);
        self.ok(&["tenant", "suspend", "old-customer"]);
        let browser = Browser::open(1_280);
        self.log_in(&browser, Who::Admin);
        for (name, hosts) in [("STRIPE_KEY", "api.stripe.com"), ("SMTP_PASSWORD", "mail.example.com smtp.example.org")]
        {
            browser.page(&self.engine, "/secrets");
            browser.click("summary");
            browser.types("#name", name);
            browser.types("#value", "hush");
            browser.types("#hosts", hosts);
            browser.click("button.main");
            browser.sees("table", name);
        }
        for number in 1..=3 {
            self.start("sleeper", &format!("batch-{number}"), &json!(MONTH_MS), &["--attr", "team=old"]);
        }
        self.ok(&["bulk", "cancel", "--attr", "team=old", "--at-most", "100", "--id", "tidy-up"]);
        self.ok(&["bulk", "pause", "--status", "completed", "--at-most", "100", "--id", "refused-by-all"]);
        for id in ["tidy-up", "refused-by-all"] {
            until("the job is done", || self.ok(&["bulk", "show", id, "--json"]).contains("\"done\"").then_some(()));
        }
        for (name, path) in [
            ("bulk", "/bulk"),
            ("bulk-job", "/bulk/tidy-up"),
            ("bulk-job-refused", "/bulk/refused-by-all"),
            ("bulk-form", "/bulk-form?attribute=team%3Dbilling"),
            ("components", "/components"),
            ("start", "/start/guests/asking"),
            ("start-like", "/start/guests/sequence?like=invoice-2026-1041"),
            ("audit", "/audit"),
            ("nodes", "/nodes"),
            ("secrets", "/secrets"),
            ("tokens", "/tokens"),
            ("tenants", "/tenants"),
            ("tenant", "/tenants/acme"),
            ("tenant-suspended", "/tenants/old-customer"),
        ] {
            self.show(name, path, Who::Admin);
        }
    }

    fn login_and_errors(&mut self) {
        self.show("login", "/login", Who::Stranger);
        self.show("error-no-link", "/a/cl_000000000000_00", Who::Stranger);
        self.show("error-not-allowed", "/tokens", Who::Viewer);
        self.show("viewer-overview", "/", Who::Viewer);
        self.show("viewer-execution", "/executions/delivery", Who::Viewer);
        self.show("error-no-execution", "/executions/none", Who::Admin);
        self.show("error-no-value", "/executions/delivery/value/output", Who::Admin);
        self.show("error-no-event", "/executions/delivery/events/4711", Who::Admin);
    }
}

/// A new token.
fn token(engine: &Engine, admin: &str, name: &str, role: &str) -> String {
    let mut line = vec!["token", "create", "--json", "--role", role, "--name", name];
    if !admin.is_empty() {
        line.extend(["--token", admin]);
    }
    let created: Value = serde_json::from_str(&engine.ok(&line)).unwrap();
    created["token"].as_str().unwrap().to_owned()
}
