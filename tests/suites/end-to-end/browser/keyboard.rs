//! A reader without a mouse: everything is done with keys, and what has the focus is seen and keeps it.

use serde_json::json;
use test_engine::Database;
use test_pages::{Browser, ENTER, TAB};

use super::{asks, engine_with_guests};

/// More than any page has.
const TABS_MAX: usize = 400;
const DAY_MS: &str = "86400000";

/// Presses Tab until an element has the focus. Whatever has it meanwhile is seen.
fn tab_to(browser: &Browser, css: &str) {
    for _ in 0..TABS_MAX {
        browser.press(TAB);
        let script = "const at = document.activeElement; \
                      return [at.matches(arguments[0]), at === document.body || at.matches(':focus-visible')]";
        let said = browser.run(script, &[css]);
        assert_eq!(said[1], true, "what has the focus is shown, on the way to {css}");
        if said[0] == true {
            return;
        }
    }
    panic!("Tab does not lead to {css}: {}", browser.text("main"));
}

fn enter(browser: &Browser, css: &str) {
    tab_to(browser, css);
    browser.press(ENTER);
}

#[test]
fn a_person_starts_approves_signals_and_cancels_with_keys_only() {
    let engine = engine_with_guests(Database::Sqlite);
    let browser = Browser::open(1_280);
    browser.page(&engine, "/components");
    enter(&browser, "a[href$='/start/guests/asking']");
    browser.sees("h1", "Start asking");
    tab_to(&browser, "form.card input[name='text:title']");
    browser.press("Go?");
    tab_to(&browser, "form.card input[name=id]");
    browser.press("q");
    browser.press(ENTER);
    browser.sees(".why", "It waits for a person: “Go?”");
    enter(&browser, "#questions form[action$=approve] button");
    browser.sees(".why", "It completed");

    let input = json!({"names": ["go"]}).to_string();
    engine.ok(&["start", "guests/listening", "--input", &input, "--id", "s"]);
    browser.page(&engine, "/executions/s");
    enter(&browser, "#signal summary");
    tab_to(&browser, "#signal-name");
    browser.press("go");
    tab_to(&browser, "#signal-data");
    browser.press("{\"n\": 7}");
    enter(&browser, "#signal button");
    browser.sees(".why", "It completed");

    engine.ok(&["start", "guests/sleeper", "--input", DAY_MS, "--id", "c"]);
    browser.page(&engine, "/executions/c");
    enter(&browser, "form[action$=cancel] button");
    browser.sees(".why", "It was cancelled");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn a_person_cancels_many_and_finds_what_failed_with_keys_only() {
    let engine = engine_with_guests(Database::Sqlite);
    for id in ["a", "b", "c"] {
        engine.ok(&["start", "guests/sleeper", "--input", DAY_MS, "--id", id, "--attr", "team=ops"]);
    }
    let input = json!({"base_url": "http://127.0.0.1:1", "paths": ["notes/a"]}).to_string();
    engine.ok(&["start", "guests/posts", "--input", &input, "--id", "failed"]);
    assert_eq!(engine.wait_for_end("failed")["status"], "failed");
    let browser = Browser::open(1_280);
    browser.page(&engine, "/executions");
    tab_to(&browser, "#attribute");
    browser.press("team=ops");
    browser.press(ENTER);
    browser.sees("#list", "act on them");
    enter(&browser, "a[href^='/bulk-form?attribute=']");
    browser.sees("h1", "Act on all that match");
    tab_to(&browser, "#operation");
    browser.press("c");
    enter(&browser, "button.danger");
    browser.sees("#state strong", "done");
    for id in ["a", "b", "c"] {
        assert_eq!(engine.wait_for_end(id)["status"], "cancelled");
    }
    // From the list to the event of the call that failed.
    browser.page(&engine, "/executions?status=failed");
    enter(&browser, "tbody th a");
    browser.sees("h1", "failed");
    enter(&browser, "nav.tabs a[href$='/graph']");
    browser.sees("#graph", "failed");
    enter(&browser, "#graph svg a.bad");
    browser.sees("h1", "StepStarted");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn a_key_goes_from_failure_to_failure() {
    let engine = engine_with_guests(Database::Sqlite);
    let input = json!({"base_url": "http://127.0.0.1:1", "paths": ["notes/a"]}).to_string();
    engine.ok(&["start", "guests/posts", "--input", &input, "--id", "failed"]);
    assert_eq!(engine.wait_for_end("failed")["status"], "failed");
    engine.ok(&["start", "guests/sequence", "--input", r#"{"steps": 120}"#, "--id", "long", "--wait"]);
    let browser = Browser::open(1_280);
    browser.page(&engine, "/executions/failed/history");
    let history = engine.history("failed");
    let failed = history.iter().filter(|event| event["kind"].as_str().unwrap().ends_with("Failed"));
    let failed: Vec<String> = failed.map(|event| event["position"].to_string()).collect();
    assert!(failed.len() > 1, "{history:?}");
    for position in failed {
        browser.press("f");
        assert_eq!(browser.run("return document.activeElement.textContent", &[]), position.as_str());
    }
    // After the last failure of the window it searches the events that follow.
    browser.page(&engine, "/executions/long/history?after=0");
    browser.press("f");
    browser.sees("#events", "No event fits");
    assert_eq!(browser.run("return document.querySelector('#kind').value", &[]), "Failed");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn a_command_is_copied_with_a_button() {
    let engine = engine_with_guests(Database::Sqlite);
    asks(&engine, "q");
    let browser = Browser::open(1_280);
    let origin = json!({"origin": engine.url(), "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]});
    browser.cdp("Browser.grantPermissions", &origin);
    browser.page(&engine, "/executions/q");
    browser.click("#commands summary");
    browser.click("#commands button.copy");
    browser.sees("#commands button.copy", "Copied");
    let script = "const done = arguments[0]; navigator.clipboard.readText().then(done, (error) => done(String(error)))";
    let copied = browser.tell("/execute/async", &json!({"script": script, "args": []}));
    assert_eq!(copied, "cerebelum watch -- q");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn letters_are_keys_until_a_person_switches_them_off() {
    let engine = engine_with_guests(Database::Sqlite);
    let browser = Browser::open(1_280);
    browser.page(&engine, "/components");
    browser.press("?");
    browser.sees("section[aria-label=Keys]", "g e");
    browser.press("ga");
    browser.sees("h1", "Approvals");
    browser.click("header button.link:last-child");
    browser.sees("section[aria-label=Keys] button", "Switch these keys off");
    browser.press(ENTER);
    browser.sees("section[aria-label=Keys] button", "Switch these keys on");
    browser.page(&engine, "/components");
    browser.press("?ga");
    assert_eq!(browser.text("h1"), "Components");
    assert_eq!(browser.run("return document.querySelector('section[aria-label=Keys]').hidden", &[]), true);
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn the_focus_stays_where_it_is_and_is_never_caught() {
    let engine = engine_with_guests(Database::Sqlite);
    asks(&engine, "first");
    let browser = Browser::open(1_280);
    browser.page(&engine, "/executions");
    tab_to(&browser, "a[href='/executions/first']");
    for (id, waits) in [("second", "1 new"), ("third", "2 new")] {
        asks(&engine, id);
        browser.sees("#list .new", waits);
        let said = browser.run(
            "const at = document.activeElement; return [at.getAttribute('href'), at.matches(':focus-visible')]",
            &[],
        );
        assert_eq!(said, json!(["/executions/first", true]), "after {id} has come");
    }
    // A key brings the new rows, and the focus stays.
    browser.press("n");
    browser.sees("#list tbody", "third");
    let said = browser.run("return document.activeElement.getAttribute('href')", &[]);
    assert_eq!(said, "/executions/first");
    asks(&engine, "later");
    browser.sees("#list .new", "1 new");
    browser.run("document.querySelector('#list .new button').focus()", &[]);
    browser.press(ENTER);
    browser.sees("#list tbody", "later");
    let said = browser.run("return document.activeElement.getAttribute('href')", &[]);
    assert_eq!(said, "/executions/later", "from the button the focus goes to the newest row");
    // On a phone the table is wider than the page.
    let phone = Browser::open(360);
    phone.page(&engine, "/executions?columns=team,region,customer,amount");
    tab_to(&phone, ".wide");
    phone.run("document.activeElement.scrollLeft = 40", &[]);
    asks(&engine, "fourth");
    phone.sees("#list", "fourth");
    let said = phone.run("const at = document.activeElement; return [at.className, at.scrollLeft]", &[]);
    assert_eq!(said, json!(["wide", 40]));
    // What follows the skip link is in the content.
    browser.page(&engine, "/approvals");
    enter(&browser, "a.skip");
    browser.press(TAB);
    let said = browser.run("return document.activeElement.closest('main') !== null", &[]);
    assert_eq!(said, true, "{}", browser.run("return document.activeElement.outerHTML", &[]));
    // Tab leads through everything, and out again.
    for path in ["/approvals", "/executions/first", "/start/guests/asking", "/executions/first/graph"] {
        browser.page(&engine, path);
        browser.run("window.seen = new Set()", &[]);
        let all = "return [...document.querySelectorAll(\"a[href], button, input:not([type=hidden]), select, textarea, \
                   summary, [tabindex='0']\")].filter((one) => one.checkVisibility()).length";
        let all = browser.run(all, &[]).as_u64().unwrap();
        let seen = (0..TABS_MAX).find_map(|_| {
            browser.press(TAB);
            let script = "const at = document.activeElement; const before = seen.size; seen.add(at); \
                          return at === document.body || seen.size === before ? seen.size - seen.has(document.body) : 0";
            browser.run(script, &[]).as_u64().filter(|seen| *seen > 0)
        });
        assert_eq!(seen, Some(all), "{path}");
    }
}
