//! Pages, as a browser without scripts gets them: read, acted on, and kept from others.

mod crawls;
mod filters;
mod graphs;
mod lists;
mod parts;
mod trees;
mod values;
mod views;

use serde_json::json;
use test_engine::{Database, Engine, component, root, until};

use crate::rest::{Told, curl};

on_both_databases!(
    a_person_starts_answers_and_reads_without_scripts,
    each_role_may_on_pages_what_it_may_elsewhere,
    one_tenant_never_sees_another,
    a_person_acts_on_all_that_match_once_the_number_is_confirmed,
    a_person_steps_through_what_an_execution_was,
    an_admin_manages_tenants_and_secrets,
    a_link_answers_once_without_a_token,
);

const FORM: &[&str] = &["-H", "content-type: application/x-www-form-urlencoded"];

fn page(engine: &Engine, path: &str) -> Told {
    let told = curl(engine, ("GET", path), &[], b"");
    assert_eq!(told.status, 200, "{path}: {told:?}");
    for header in ["content-type: text/html; charset=utf-8", "cache-control: no-store", "default-src 'none'"] {
        assert!(told.head.contains(header), "{header} of {path}: {told:?}");
    }
    for never in ["style=\"", "onclick", "javascript:", "=\"http"] {
        assert!(!told.body.contains(never), "{never} in {path}: {told:?}");
    }
    told
}

fn send(engine: &Engine, path: &str, more: &[&str], fields: &[(&str, &str)]) -> Told {
    let body: String = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let headers = [FORM, more].concat();
    curl(engine, ("POST", path), &headers, body.as_bytes())
}

/// Where a form led to.
fn led_to(told: &Told) -> String {
    assert_eq!(told.status, 303, "{told:?}");
    let location = told.head.lines().find_map(|line| line.strip_prefix("location: "));
    location.unwrap_or_else(|| panic!("{told:?}")).to_owned()
}

/// The header with which a browser sends a token.
pub(crate) fn cookie(engine: &Engine, token: &str) -> String {
    format!("cookie: cerebelum_token_{}={token}", engine.url().rsplit(':').next().unwrap())
}

fn upload(engine: &Engine) {
    engine.ok(&["upload", &component("test-guests"), "--name", "guests"]);
}

fn a_person_starts_answers_and_reads_without_scripts(database: Database) {
    let mut engine = Engine::start(database);
    assert!(page(&engine, "/").body.contains("cerebelum new"), "a newcomer sees the first commands");
    upload(&engine);
    assert!(page(&engine, "/components").body.contains("/start/guests/asking"));
    assert!(page(&engine, "/start/guests/asking").body.contains("name=\""));
    let input = json!({"title": "May <b>I</b>?\u{202e}"}).to_string();
    let start = [("json", input.as_str()), ("id", "q.1"), ("delay", ""), ("attributes", "team=ops & n=7")];
    assert_eq!(led_to(&send(&engine, "/start/guests/asking", &[], &start)), "/executions/q.1");
    engine.kill_and_restart();
    assert_eq!(led_to(&send(&engine, "/start/guests/asking", &[], &start)), "/executions/q.1", "it starts once");
    let shown = until("it asks", || {
        let shown = page(&engine, "/executions/q.1").body;
        shown.contains("It waits for a person").then_some(shown)
    });
    assert!(shown.contains("May &lt;b&gt;I&lt;/b&gt;?\\u{202e}") && !shown.contains("<b>I"), "{shown}");
    assert!(shown.contains("Terminate now") && engine.status("q.1")["attributes"]["n"] == 7, "{shown}");
    assert!(page(&engine, "/approvals").body.contains("May &lt;b&gt;I"));
    assert!(page(&engine, "/").body.contains("/executions/q.1"));
    assert_eq!(
        led_to(&send(&engine, "/executions/q.1/signal", &[], &[("name", "s"), ("data", "7")])),
        "/executions/q.1"
    );
    assert_eq!(led_to(&send(&engine, "/executions/q.1/pause", &[], &[])), "/executions/q.1");
    until("it is paused", || page(&engine, "/executions/q.1").body.contains("It is paused").then_some(()));
    led_to(&send(&engine, "/executions/q.1/resume", &[], &[]));
    engine.kill_and_restart();
    let answer = [("json", "{\"n\":1}"), ("by", "ada"), ("comment", "fine"), ("back", "/executions/q.1")];
    let approved = until("it takes answers", || {
        let told = send(&engine, "/approvals/q.1/approve", &[], &answer);
        (told.status == 303).then_some(told)
    });
    assert_eq!(led_to(&approved), "/executions/q.1");
    assert_eq!(engine.wait_for_end("q.1")["status"], "completed");
    let again = send(&engine, "/approvals/q.1/approve", &[], &answer);
    assert!(again.status >= 400 && again.status < 500 && again.body.contains("<h1>"), "{again:?}");
    assert!(page(&engine, "/executions/q.1").body.contains("It completed"));
    let history = page(&engine, "/executions/q.1/history").body;
    assert!(history.contains("ApprovalReceived") && history.contains("id=\"p1\""), "{history}");
    assert!(page(&engine, "/executions/q.1/events/1").body.contains("ExecutionStarted"));
    assert!(page(&engine, "/executions/q.1/timeline").body.contains("<rect"));
    page(&engine, "/executions/q.1/logs");
    let like = page(&engine, "/start/guests/asking?like=q.1").body;
    assert!(like.contains("May &lt;b&gt;I") && like.contains("value=\"n=7 &amp; team=ops\""), "{like}");
    a_refusal_keeps_the_form_and_the_navigation(&engine);
    assert!(page(&engine, "/executions?status=completed&workflow=guests/asking").body.contains("q.1"));
    assert!(page(&engine, "/executions?status=failed").body.contains("No execution matches"));
    assert_eq!(led_to(&curl(&engine, ("GET", "/executions?id=q.1"), &[], b"")), "/executions/q.1");
    let hostile = [("json", "{}"), ("back", "/executions/a\r\nset-cookie: x=y")];
    let told = send(&engine, "/approvals/q.1/approve", &[], &hostile);
    assert!(told.status < 500 && !told.head.contains("x=y"), "{told:?}");
    for path in [
        "/executions/q.1/history?after=18446744073709551615",
        "/executions/q.1/history?to=",
        "/executions/q.1/timeline?run=1",
    ] {
        page(&engine, path);
    }
    for path in [
        "/executions/q.1/history?to=x",
        "/executions/q.1/history?after=-1",
        "/executions/%FF",
        "/executions/q.1/timeline?run=9",
    ] {
        let told = curl(&engine, ("GET", path), &[], b"");
        assert!(matches!(told.status, 400 | 404) && told.body.contains("<h1>"), "{path}: {told:?}");
    }
    assert_eq!(led_to(&send(&engine, "/executions/q.1/delete", &[], &[])), "/executions");
    assert_eq!(curl(&engine, ("GET", "/executions/q.1"), &[], b"").status, 404);
}

fn a_refusal_keeps_the_form_and_the_navigation(engine: &Engine) {
    let mistyped = curl(engine, ("GET", "/executions?attribute=xx"), &[], b"");
    assert!(mistyped.status == 400 && mistyped.body.contains("value=\"xx\""), "{mistyped:?}");
    let unknown = curl(engine, ("GET", "/executions/none"), &[], b"");
    assert!(unknown.status == 404 && unknown.body.contains("aria-label=\"Main\""), "{unknown:?}");
    assert_eq!(curl(engine, ("GET", "/executions/none/changes"), &[], b"").status, 404);
    let nowhere = curl(engine, ("GET", "/nowhere"), &["-H", "accept: text/html"], b"");
    assert!(nowhere.status == 404 && nowhere.body.contains("<h1>Not found</h1>"), "{nowhere:?}");
}

/// Method, path and the method of the service of each page, as the documentation has them.
pub(crate) fn pages() -> Vec<(String, String, String)> {
    let text = std::fs::read_to_string(root().join("docs/pages.md")).unwrap();
    let rows = text.lines().filter(|line| line.contains("| `GET /") || line.contains("| `POST /"));
    let cell = |cell: &str| cell.trim().trim_matches('`').to_owned();
    let all: Vec<_> = rows
        .map(|row| {
            let cells: Vec<&str> = row.split('|').collect();
            let (method, path) = cell(cells[2]).split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
            (method, path, cell(cells[3]))
        })
        .collect();
    assert!(all.len() >= 20, "{all:?}");
    all
}

fn each_role_may_on_pages_what_it_may_elsewhere(database: Database) {
    let engine = Engine::start(database);
    let admin = crate::tenants::token(&engine, "", &["--role", "admin", "--name", "ada"]);
    engine.ok(&["tenant", "create", "other", "--token", &admin]);
    let table = crate::tenants::table_of_roles();
    let filled = |path: &str| {
        path.replace("{id}", "none").replace("{position}", "1").replace("{component}", "c").replace("{workflow}", "w")
    };
    for tenant in ["default", "other"] {
        for (number, role) in ["admin", "developer", "operator", "approver", "viewer"].into_iter().enumerate() {
            let token = ["--role", role, "--name", role, "--tenant", tenant];
            let cookie = cookie(&engine, &crate::tenants::token(&engine, &admin, &token));
            for (method, path, of) in pages() {
                let (_, _, may) = table.iter().find(|(_, method, _)| *method == of).unwrap();
                let told = curl(&engine, (&method, &filled(&path)), &["-H", &cookie], b"");
                let expected = may[number] == "yes" || may[number] == "in default" && tenant == "default";
                assert_eq!(
                    !matches!(told.status, 401 | 403),
                    expected,
                    "{role} of {tenant}: {method} {path}: {told:?}"
                );
                assert!(told.status < 500, "{method} {path}: {told:?}");
            }
        }
    }
    for (method, path, _) in pages() {
        let told = curl(&engine, (&method, &filled(&path)), &[], b"");
        match method.as_str() {
            "GET" => assert!(led_to(&told).starts_with("/login?to=%2f"), "{told:?}"),
            _ => assert_eq!(told.status, 401, "{told:?}"),
        }
        // The cookie belongs to pages: programs send a header.
        let bearer = format!("authorization: Bearer {admin}");
        let told = curl(&engine, (&method, &filled(&path)), &["-H", &bearer], b"");
        assert!(matches!(told.status, 303 | 401), "{told:?}");
    }
    let cookie = cookie(&engine, &admin);
    assert_eq!(curl(&engine, ("GET", "/v1/executions"), &["-H", &cookie], b"").status, 401);
}

fn a_person_acts_on_all_that_match_once_the_number_is_confirmed(database: Database) {
    let engine = Engine::start(database);
    upload(&engine);
    let wish = json!({"workflow": "guests/sleeper", "input": 86_400_000, "attributes": {"team": "<i>ops"}});
    let typed = ["-H", "content-type: application/x-ndjson"];
    let told = curl(&engine, ("POST", "/v1/starts"), &typed, format!("{wish}\n").repeat(101).as_bytes());
    assert_eq!(told.status, 200, "{told:?}");
    let query = "attribute=team%3D%3Ci%3Eops";
    let list = page(&engine, &format!("/executions?{query}")).body;
    assert!(list.contains("/bulk-form?attribute=team%3D%3Ci%3Eops"), "{list}");
    assert!(page(&engine, "/bulk").body.contains("There is no bulk job"));
    let form = page(&engine, &format!("/bulk-form?{query}")).body;
    assert!(form.contains("101 executions match") && form.contains("Type 101 to confirm"), "{form}");
    assert!(form.contains("team=&quot;&lt;i&gt;ops&quot;") && !form.contains("<i>ops"), "{form}");
    let id = form.split("name=\"id\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let wish = |at_most| {
        let fields = [("id", id), ("attribute", "team=<i>ops"), ("operation", "cancel"), ("at_most", at_most)];
        send(&engine, "/bulk", &[], &fields)
    };
    assert_eq!(wish("100").status, 409);
    for wrong in ["many", ""] {
        assert_eq!(wish(wrong).status, 400);
    }
    let job = led_to(&wish("101"));
    assert_eq!((job.as_str(), led_to(&wish("101"))), (format!("/bulk/{id}").as_str(), job.clone()), "it begins once");
    let shown = until("it is done", || {
        let shown = page(&engine, &job).body;
        shown.contains("<strong>done</strong>").then_some(shown)
    });
    assert!(shown.contains("<dd>101</dd>") && !shown.contains(">Stop<"), "{shown}");
    assert!(page(&engine, "/bulk").body.contains(id));
    assert_eq!(send(&engine, &format!("{job}/stop"), &[], &[]).status, 409);
    let misspelt = curl(&engine, ("GET", "/bulk-form?attribute=team"), &[], b"");
    assert_eq!(misspelt.status, 400, "a filter that cannot be read does not match all: {misspelt:?}");
}

fn a_person_steps_through_what_an_execution_was(database: Database) {
    let mut engine = Engine::start(database);
    upload(&engine);
    engine.ok(&["start", "guests/asking", "--id", "q", "--input", &json!({"title": "Go <b>on</b>?"}).to_string()]);
    until("it asks", || page(&engine, "/executions/q").body.contains("It waits for a person").then_some(()));
    engine.kill_and_restart();
    engine.ok(&["pause", "q"]);
    engine.wait_for("q", &["paused"]);
    engine.ok(&["resume", "q"]);
    engine.ok(&["approve", "q"]);
    let events = engine.wait_for_end("q")["events"].as_u64().unwrap();
    let at = |position: u64| page(&engine, &format!("/executions/q/at/{position}")).body;
    assert!(at(1).contains("After event 1: under way") && at(1).contains("No call was open"), "{}", at(1));
    let history = engine.history("q");
    let position =
        |kind: &str| history.iter().find(|event| event["kind"] == kind).unwrap()["position"].as_u64().unwrap();
    let asked = at(position("ApprovalRequested"));
    assert!(asked.contains("<td>approval</td>") && asked.contains("Go &lt;b&gt;on&lt;/b&gt;?"), "{asked}");
    assert!(at(position("ExecutionPaused")).contains(": paused"));
    assert!(at(position("ExecutionResumed")).contains(": under way"));
    let answered = at(position("ApprovalReceived"));
    assert!(answered.contains("<dt>Calls that had returned</dt><dd>1</dd>") && answered.contains("No call was open"));
    assert!(at(events).contains(&format!("After event {events}: completed")));
    assert!(!at(events).contains("rel=\"next\""));
    assert_eq!(led_to(&curl(&engine, ("GET", "/executions/q/at?to=2"), &[], b"")), "/executions/q/at/2");
    for (path, status) in [("at/0", 404), (&*format!("at/{}", events + 1), 404), ("at?to=x", 400), ("at/x", 400)] {
        assert_eq!(curl(&engine, ("GET", &format!("/executions/q/{path}")), &[], b"").status, status, "{path}");
    }
}

fn an_admin_manages_tenants_and_secrets(database: Database) {
    let folder = test_engine::scratch();
    let keys = folder.0.join("keys");
    std::fs::write(&keys, "1".repeat(64)).unwrap();
    let engine = Engine::start_with(database, &[("SECRETS_KEY", keys.to_str().unwrap())]);
    assert_eq!(led_to(&send(&engine, "/tenants", &[], &[("name", "acme")])), "/tenants/acme");
    assert_eq!(send(&engine, "/tenants", &[], &[("name", "A b")]).status, 400);
    let quota = |max| send(&engine, "/tenants/acme/quotas", &[], &[("quota", "components"), ("max", max)]);
    assert_eq!(led_to(&quota("7")), "/tenants/acme");
    assert!(page(&engine, "/tenants/acme").body.contains("<td class=\"number\">7</td>"));
    assert_eq!(quota("many").status, 400);
    led_to(&quota(""));
    assert!(!page(&engine, "/tenants/acme").body.contains("<td class=\"number\">7</td>"));
    let hosts = |rule, hosts| send(&engine, "/tenants/acme/hosts", &[], &[("rule", rule), ("hosts", hosts)]);
    assert!(page(&engine, "/tenants/acme").body.contains("what the engine's configuration says</dd>"));
    assert_eq!(led_to(&hosts("these", "api.example.com\r\n10.0.0.7:8080, b.example.com")), "/tenants/acme");
    let shown = page(&engine, "/tenants/acme").body;
    assert!(shown.contains("<dd>api.example.com, 10.0.0.7:8080, b.example.com</dd>"), "{shown}");
    assert!(shown.contains("<option value=\"these\" selected>") && shown.contains("api.example.com\n10.0"), "{shown}");
    for (rule, wrong) in [("these", "a b<i>c"), ("those", "")] {
        let told = hosts(rule, wrong);
        assert!(told.status >= 400 && told.status < 500 && !told.body.contains("<i>"), "{told:?}");
    }
    assert_eq!(led_to(&hosts("these", "")), "/tenants/acme");
    assert!(page(&engine, "/tenants/acme").body.contains("<dd>none</dd>"));
    assert_eq!(led_to(&hosts("default", "left.example.com")), "/tenants/acme");
    assert!(page(&engine, "/tenants/acme").body.contains("what the engine's configuration says</dd>"));
    assert!(engine.ok(&["audit", "--operation", "SetHosts"]).contains("acme"));
    // Only what is suspended can be deleted, and only when its name is typed.
    let delete = |name| send(&engine, "/tenants/acme/delete", &[], &[("name", name)]);
    assert_eq!(delete("acme").status, 409);
    assert_eq!(led_to(&send(&engine, "/tenants/acme/suspend", &[], &[("lift", "false")])), "/tenants/acme");
    assert!(page(&engine, "/tenants").body.contains("suspended"));
    assert_eq!(delete("acne").status, 409);
    led_to(&send(&engine, "/tenants/acme/suspend", &[], &[("lift", "true")]));
    assert!(page(&engine, "/tenants/acme").body.contains("active"));
    led_to(&send(&engine, "/tenants/acme/suspend", &[], &[("lift", "false")]));
    assert_eq!(led_to(&delete("acme")), "/tenants");
    assert!(page(&engine, "/tenants/acme").body.contains("being deleted"));
    let secret = [("name", "STRIPE_KEY"), ("value", "hush-7f3a-hush"), ("hosts", "api.stripe.com\r\npay.example")];
    assert_eq!(led_to(&send(&engine, "/secrets", &[], &secret)), "/secrets");
    let shown = page(&engine, "/secrets").body;
    assert!(shown.contains("STRIPE_KEY") && shown.contains("api.stripe.com, pay.example"), "{shown}");
    assert!(!shown.contains("hush"), "a value is never shown: {shown}");
    assert_eq!(send(&engine, "/secrets", &[], &[("name", "A"), ("value", "b"), ("hosts", " ")]).status, 400);
    led_to(&send(&engine, "/secrets/STRIPE_KEY/delete", &[], &[]));
    assert!(page(&engine, "/secrets").body.contains("There is no secret"));
}

fn one_tenant_never_sees_another(database: Database) {
    let engine = Engine::start(database);
    let admin = crate::tenants::token(&engine, "", &["--role", "admin", "--name", "ada"]);
    engine.ok(&["tenant", "create", "other", "--token", &admin]);
    let token = crate::tenants::token(&engine, &admin, &["--role", "admin", "--name", "eve", "--tenant", "other"]);
    let wasm = component("test-guests");
    engine.ok(&["upload", &wasm, "--name", "guests", "--token", &admin]);
    let input = json!({"title": "Ours?"}).to_string();
    engine.ok(&["start", "guests/asking", "--input", &input, "--id", "ours", "--token", &admin]);
    let login = send(&engine, "/login", &[], &[("token", &token), ("to", "/executions/ours")]);
    assert_eq!(led_to(&login), "/executions/ours");
    assert!(login.head.contains("httponly; samesite=strict"), "{login:?}");
    let wrong = send(&engine, "/login", &[], &[("token", "cb_000000000000_00"), ("to", "//evil.example")]);
    assert!(wrong.status == 401 && !wrong.body.contains("evil"), "{wrong:?}");
    let cookie = cookie(&engine, &token);
    for path in ["/", "/executions", "/approvals", "/components"] {
        let told = curl(&engine, ("GET", path), &["-H", &cookie], b"");
        assert!(told.status == 200 && !told.body.contains("ours") && !told.body.contains("Ours?"), "{path}: {told:?}");
    }
    let pages = ["", "/history", "/timeline", "/graph", "/tree", "/logs", "/events/1"];
    let alone = ["/value/input", "/value/input?raw=1", "/value/output", "/value/failure", "/value/1", "/value/1?raw=1"];
    for path in pages.iter().chain(&alone).chain(&["/history.ndjson", "/logs.ndjson"]) {
        let told = curl(&engine, ("GET", &format!("/executions/ours{path}")), &["-H", &cookie], b"");
        assert_eq!(told.status, 404, "{path}: {told:?}");
    }
    for verb in ["cancel", "terminate", "pause", "resume", "delete"] {
        let told = send(&engine, &format!("/executions/ours/{verb}"), &["-H", &cookie], &[]);
        assert_eq!(told.status, 404, "{verb}: {told:?}");
    }
    let told = send(&engine, "/approvals/ours/approve", &["-H", &cookie], &[("json", "{}")]);
    assert_eq!(told.status, 404, "{told:?}");
    let out = send(&engine, "/logout", &["-H", &cookie], &[]);
    assert!(led_to(&out) == "/login" && out.head.contains("=; path=/;") && out.head.contains("max-age=0"), "{out:?}");
}

fn a_link_answers_once_without_a_token(database: Database) {
    let mut engine = Engine::start(database);
    let admin = crate::tenants::token(&engine, "", &["--role", "admin", "--name", "ada"]);
    engine.ok(&["upload", &component("test-guests"), "--name", "guests", "--token", &admin]);
    let input = json!({"title": "May <i>I</i>?", "timeout_ms": 3_600_000}).to_string();
    let link = |engine: &Engine, id: &str| {
        engine.ok(&["start", "guests/asking", "--input", &input, "--id", id, "--token", &admin]);
        let made = until("it asks", || {
            let said = engine.cli(&["approvals", "link", id, "--for", "bob", "--json", "--token", &admin]);
            (said.code == 0).then_some(said.out)
        });
        let made: serde_json::Value = serde_json::from_str(&made).unwrap();
        let url = made["url"].as_str().unwrap().to_owned();
        url[url.find("/a/").unwrap()..].to_owned()
    };
    let (yes, no) = (link(&engine, "yes"), link(&engine, "no"));
    for _ in 0..3 {
        let told = page(&engine, &yes);
        assert!(told.head.contains("referrer-policy: same-origin"), "{told:?}");
        assert!(told.body.contains("May &lt;i&gt;I") && told.body.contains("bob"), "{told:?}");
        assert!(told.body.contains(">in 5"), "the question ends before the link: {told:?}");
        assert!(!told.body.contains("/executions") && !told.body.contains("<nav"), "it leads nowhere else: {told:?}");
    }
    let neither = send(&engine, &yes, &[], &[("json", "1")]);
    assert!(neither.status == 400 && neither.body.contains("neither yes nor no"), "{neither:?}");
    engine.kill_and_restart();
    assert_eq!(led_to(&send(&engine, &yes, &[], &[("decision", "approve"), ("json", "{}")])), yes.to_ascii_lowercase());
    assert_eq!(
        led_to(&send(&engine, &no, &[], &[("decision", "reject"), ("reason", "not now")])),
        no.to_ascii_lowercase()
    );
    assert!(page(&engine, &yes).body.contains("has been used"));
    let again = send(&engine, &yes, &[], &[("decision", "reject"), ("reason", "late")]);
    assert!(again.status == 409 && again.body.contains("has been used"), "{again:?}");
    for (id, status) in [("yes", "completed"), ("no", "failed")] {
        until("it ends", || {
            let now = engine.ok(&["status", id, "--json", "--token", &admin]);
            (serde_json::from_str::<serde_json::Value>(&now).unwrap()["status"] == status).then_some(())
        });
    }
    let unknown = curl(&engine, ("GET", &format!("/a/{}", "A".repeat(43))), &[], b"");
    assert_eq!(unknown.status, 404, "{unknown:?}");
    for header in ["origin: http://evil.example", "sec-fetch-site: cross-site"] {
        assert_eq!(send(&engine, &no, &["-H", header], &[("decision", "approve")]).status, 403);
    }
}

#[test]
fn pages_of_others_reach_nothing_and_their_links_ask_again() {
    let engine = Engine::start(Database::Sqlite);
    upload(&engine);
    let fields = [("json", "1"), ("id", "evil"), ("delay", "")];
    for headers in [
        &["-H", "origin: http://evil.example"][..],
        &["-H", "sec-fetch-site: cross-site"],
        &["-H", "sec-fetch-site: cross-site", "-H", "sec-fetch-mode: navigate", "-H", "sec-fetch-dest: document"],
        &["-H", "host: evil.example"],
    ] {
        let told = send(&engine, "/start/guests/sleeper", headers, &fields);
        assert!(matches!(told.status, 403 | 421), "{headers:?}: {told:?}");
    }
    let link = ["-H", "sec-fetch-site: cross-site", "-H", "sec-fetch-mode: navigate", "-H", "sec-fetch-dest: document"];
    let told = curl(&engine, ("GET", "/executions"), &link, b"");
    assert!(told.status == 200 && told.body.contains("http-equiv=\"refresh\""), "{told:?}");
    assert!(!told.body.contains("Executions"), "nothing is shown in answer to the request of another page: {told:?}");
    for dest in ["iframe", "image", "empty"] {
        let framed = format!("sec-fetch-dest: {dest}");
        let told = curl(
            &engine,
            ("GET", "/executions"),
            &["-H", "sec-fetch-site: cross-site", "-H", "sec-fetch-mode: navigate", "-H", &framed],
            b"",
        );
        assert_eq!(told.status, 403, "{told:?}");
    }
    assert_eq!(engine.json(&["list"]), json!([]));
}

#[test]
fn values_are_shown_and_started_again_digit_for_digit() {
    let engine = Engine::start(Database::Sqlite);
    upload(&engine);
    let input = r#"{"title":"n","more":[9223372036854775807,1.50e300,0.2345678901234568,"=1+1"]}"#;
    led_to(&send(&engine, "/start/guests/asking", &[], &[("json", input), ("id", "digits")]));
    let shown = page(&engine, "/executions/digits").body;
    let again = page(&engine, "/start/guests/asking?like=digits").body;
    for digits in ["9223372036854775807", "1.50e300", "0.2345678901234568"] {
        assert!(shown.contains(digits) && again.contains(digits), "{digits}: {shown} {again}");
    }
    // What no schema can check is refused where there is one.
    let beyond =
        send(&engine, "/start/guests/asking", &[], &[("json", &input.replace("1.50e300", "1e400")), ("id", "beyond")]);
    assert!(beyond.status == 422 && beyond.body.contains("no schema can check"), "{beyond:?}");
    let wrong = send(&engine, "/start/guests/asking", &[], &[("json", "{\"title\": "), ("id", "wrong")]);
    assert!(wrong.status == 422 && wrong.body.contains("is not JSON") && wrong.body.contains("wrong"), "{wrong:?}");
    let odd = send(&engine, "/start/guests/asking", &[], &[("json", input), ("id", "a b")]);
    assert!(odd.status == 422 && odd.body.contains("execution id"), "{odd:?}");
}
