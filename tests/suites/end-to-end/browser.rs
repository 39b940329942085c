//! Pages in a real browser: they follow what happens, lead to each other, and are read with any eyes and hands.

mod accessible;
mod hostile;
mod keyboard;
mod live;

use serde_json::{Value, json};
use test_engine::{Database, Engine, component};
use test_pages::Browser;

fn engine_with_guests(database: Database) -> Engine {
    let engine = Engine::start(database);
    engine.ok(&["upload", &component("test-guests"), "--name", "guests"]);
    engine
}

/// Starts an execution that asks a person; it has the question's title as its id.
fn asks(engine: &Engine, id: &str) {
    engine.ok(&["start", "guests/asking", "--input", &json!({"title": id}).to_string(), "--id", id]);
    engine.wait_for(id, &["waiting-for-approval"]);
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
    asks(&engine, "q");
    asks(&engine, "r");
    let browser = Browser::open(360);
    let made: Value = serde_json::from_str(&engine.ok(&["approvals", "link", "q", "--for", "bob", "--json"])).unwrap();
    browser.go(made["url"].as_str().unwrap());
    browser.sees("h1", "q");
    browser.click("button[value=approve]");
    browser.sees(".lead", "has been used");
    assert_eq!(engine.wait_for_end("q")["status"], "completed");
    // A reader has begun to answer when another question comes.
    browser.page(&engine, "/approvals");
    browser.click("#list form summary");
    browser.types("#list textarea", "{\"n\": 7}");
    browser.run("document.activeElement.blur()", &[]);
    asks(&engine, "later");
    browser.sees("#live", "Not updated while you fill in or select something");
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
