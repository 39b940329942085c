//! Pages in a real browser: Chromium, driven over WebDriver.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use test_engine::{Database, Engine, component};

/// How long a page may take to show what is waited for.
const SHOWN_WITHIN: Duration = Duration::from_secs(30);

on_both_databases!(a_page_follows_its_execution_across_a_kill);

/// A driver, and the browser that it drives. The few commands of WebDriver that are used here need no library: the known
/// ones bring two dozen crates, and other features for those that the engine uses.
struct Browser {
    driver: Child,
    /// The address of the session.
    session: String,
}

impl Browser {
    fn open(width: u32) -> Self {
        let driver = Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()).spawn();
        let mut driver = driver.unwrap_or_else(|e| panic!("chromedriver: {e}; `make setup` installs it"));
        let mut said = BufReader::new(driver.stdout.take().unwrap()).lines().map_while(Result::ok);
        let port = said.find_map(|line| line.split_once("successfully on port ").map(|(_, port)| port.to_owned()));
        let url = format!("http://127.0.0.1:{}", port.expect("the driver says its port").trim_end_matches('.'));
        let mut browser = Self { driver, session: url };
        let mut arguments =
            vec!["--headless", "--disable-gpu", "--disable-background-networking", "--disable-component-update"];
        // Chromium's own sandbox refuses root.
        if rustix::process::getuid().is_root() {
            arguments.push("--no-sandbox");
        }
        let metrics = json!({"width": width, "height": 900, "pixelRatio": 1.0});
        let wanted = json!({
            "goog:chromeOptions": {"args": arguments, "mobileEmulation": {"deviceMetrics": metrics}},
            "goog:loggingPrefs": {"browser": "ALL"},
        });
        let session = browser.tell("/session", &json!({"capabilities": {"alwaysMatch": wanted}}));
        browser.session = format!("{}/session/{}", browser.session, session["sessionId"].as_str().unwrap());
        browser
    }

    /// A command of WebDriver, and its result.
    fn tell(&self, path: &str, what: &Value) -> Value {
        let url = format!("{}{path}", self.session);
        let body = what.to_string();
        let asked = ["-sS", "--max-time", "60", "-H", "content-type: application/json", "-d", &body, &url];
        let told = Command::new("curl").args(asked).output().unwrap();
        let told: Value = serde_json::from_slice(&told.stdout).unwrap_or_else(|e| panic!("{path}: {e}: {told:?}"));
        assert!(told["value"]["error"].is_null(), "{path} {body}: {told}");
        told["value"].clone()
    }

    fn go(&self, url: &str) {
        self.tell("/url", &json!({"url": url}));
    }

    fn page(&self, engine: &Engine, path: &str) {
        self.go(&format!("{}{path}", engine.url()));
    }

    /// The result of a script.
    fn run(&self, script: &str, arguments: &[&str]) -> Value {
        self.tell("/execute/sync", &json!({"script": script, "args": arguments}))
    }

    fn text(&self, css: &str) -> String {
        // Between two pages there is none.
        let found = self.run("return document.querySelector(arguments[0])?.textContent ?? ''", &[css]);
        found.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an element has this text.
    fn sees(&self, css: &str, text: &str) {
        let began = Instant::now();
        while !self.text(css).contains(text) {
            if began.elapsed() > SHOWN_WITHIN {
                panic!("`{text}` is not in {css}: {}", self.run("return document.documentElement.outerHTML", &[]));
            }
        }
    }

    fn element(&self, css: &str) -> String {
        let found = self.tell("/element", &json!({"using": "css selector", "value": css}));
        let id = found.as_object().and_then(|found| found.values().next()?.as_str());
        format!("/element/{}", id.unwrap())
    }

    fn click(&self, css: &str) {
        self.tell(&format!("{}/click", self.element(css)), &json!({}));
    }

    fn types(&self, css: &str, keys: &str) {
        self.tell(&format!("{}/value", self.element(css)), &json!({"text": keys}));
    }

    /// What the browser complained about: broken policies, failed scripts.
    fn complaints(&self) -> Vec<String> {
        let told = self.tell("/se/log", &json!({"type": "browser"}));
        told.as_array().unwrap().iter().map(ToString::to_string).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends its browser when the session ends.
        let _ = Command::new("curl").args(["-s", "--max-time", "20", "-X", "DELETE", &self.session]).output();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

fn engine_with_guests(database: Database) -> Engine {
    let engine = Engine::start(database);
    engine.ok(&["upload", &component("test-guests"), "--name", "guests"]);
    engine
}

fn a_page_follows_its_execution_across_a_kill(database: Database) {
    let mut engine = engine_with_guests(database);
    let address = engine.url().replace("http://", "");
    let browser = Browser::open(1_280);
    browser.page(&engine, "/start/guests/asking");
    let script = "document.querySelector('#raw').open = true; \
                  document.querySelector('#raw textarea').value = '{\"title\": \"Go?\"}'; \
                  document.querySelector('#raw input[name=id]').value = 'q'; \
                  document.querySelector('#raw button').click()";
    browser.run(script, &[]);
    browser.sees(".why", "It waits for a person: “Go?”");
    browser.sees("#live", "Live");
    engine.kill();
    browser.sees("#live", "Reconnecting");
    engine.restart_with(&[("CEREBELUM_LISTEN", &address)]);
    browser.sees("#live", "Live");
    browser.run("window.isSame = true", &[]);
    engine.ok(&["approve", "q"]);
    browser.sees(".why", "It completed");
    browser.sees("#live", "Ended");
    let same = browser.run("return window.isSame === true", &[]);
    assert_eq!(same, true, "the page was not loaded again");
    let lost = |complaint: &String| complaint.contains("ERR_");
    let complaints: Vec<_> = browser.complaints().into_iter().filter(|told| !lost(told)).collect();
    assert_eq!(complaints, [""; 0], "but for the connection that was lost");
}

#[test]
fn a_person_answers_with_the_form() {
    let engine = engine_with_guests(Database::Sqlite);
    let input = json!({"title": "Go?"}).to_string();
    engine.ok(&["start", "guests/asking", "--input", &input, "--id", "q"]);
    let browser = Browser::open(1_280);
    browser.page(&engine, "/approvals");
    browser.sees("#list", "Go?");
    browser.click("#list form[action$=approve] button");
    browser.sees("#list", "No question is open");
    browser.page(&engine, "/executions/q");
    browser.sees(".why", "It completed");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn a_link_is_answered_without_a_token_and_what_is_chosen_stays_chosen() {
    let engine = engine_with_guests(Database::Sqlite);
    for id in ["q", "r"] {
        engine.ok(&["start", "guests/asking", "--input", &json!({"title": id}).to_string(), "--id", id]);
    }
    let browser = Browser::open(360);
    let made: Value = serde_json::from_str(&engine.ok(&["approvals", "link", "q", "--for", "bob", "--json"])).unwrap();
    browser.go(made["url"].as_str().unwrap());
    browser.sees("h1", "q");
    browser.click("button[value=approve]");
    browser.sees(".lead", "has been used");
    assert_eq!(engine.wait_for_end("q")["status"], "completed");
    // A reader has begun to answer when another question comes.
    browser.page(&engine, "/approvals");
    browser.types("#list textarea", "{\"n\": 7}");
    browser.run("document.activeElement.blur()", &[]);
    engine.ok(&["start", "guests/asking", "--input", &json!({"title": "later"}).to_string(), "--id", "later"]);
    browser.sees("#live", "Not updated while you fill in a form");
    assert_eq!(browser.run("return document.querySelector('#list textarea').value", &[]), "{\"n\": 7}");
    browser.click("#list form[action$=approve] button");
    browser.sees("#list", "later");
    assert_eq!(engine.wait_for_end("r")["status"], "completed");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn a_link_from_elsewhere_leads_to_the_page_and_its_reader_is_known() {
    let engine = engine_with_guests(Database::Sqlite);
    let admin = crate::tenants::token(&engine, "", &["--role", "admin", "--name", "ada"]);
    let browser = Browser::open(1_280);
    let elsewhere = format!("data:text/html,<a href='{}/executions'>there</a>", engine.url());
    browser.go(&elsewhere);
    browser.click("a");
    browser.sees("h1", "Log in");
    browser.types("#token", &admin);
    browser.click("button.main");
    browser.sees("h1", "Executions");
    browser.go(&elsewhere);
    browser.click("a");
    browser.sees("h1", "Executions");
    browser.sees(".caller", "ada · admin of default");
    let cookies = browser.run("return document.cookie", &[]);
    assert_eq!(cookies, "", "scripts do not see the token");
    browser.click(".caller button");
    browser.sees("h1", "Log in");
}

#[test]
fn no_page_is_wider_than_a_phone_and_keys_lead_on() {
    let engine = engine_with_guests(Database::Sqlite);
    let title = "A question that is long ".repeat(20) + &"w".repeat(300);
    engine.ok(&["start", "guests/asking", "--input", &json!({"title": title}).to_string(), "--id", &"i".repeat(128)]);
    engine.ok(&["start", "guests/sequence", "--input", "{\"steps\":5}", "--id", "steps", "--wait"]);
    let long = format!("/executions/{}", "i".repeat(128));
    let browser = Browser::open(360);
    for path in [
        "/",
        "/executions",
        "/approvals",
        "/components",
        "/start/guests/asking",
        "/login",
        &long,
        &format!("{long}/history"),
        "/executions/steps",
        "/executions/steps/timeline",
        "/executions/steps/graph",
        "/executions/steps/tree",
        &format!("{long}/graph"),
        &format!("{long}/tree"),
        "/executions/steps/history",
        "/executions/steps/logs",
        "/executions/steps/events/1",
        "/executions/none",
    ] {
        browser.page(&engine, path);
        let width = browser.run("return document.documentElement.scrollWidth", &[]);
        assert!(width.as_u64().unwrap() <= 360, "{path} is {width} wide");
        let headings = browser.run("return document.querySelectorAll('h1').length", &[]);
        assert_eq!(headings, 1, "{path}");
    }
    browser.page(&engine, "/");
    browser.types("body", "ge");
    browser.sees("h1", "Executions");
    browser.types("body", "j");
    let focused = browser.run("return document.activeElement.textContent", &[]);
    assert_eq!(focused, "steps");
}
