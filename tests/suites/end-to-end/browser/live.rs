//! Pages that stay up to date: across kills, where their stream does not get through, and in every time zone.

use serde_json::{Value, json};
use test_engine::{Database, until};
use test_pages::Browser;

use super::{asks, engine_with_guests};

on_both_databases!(a_page_follows_its_execution_across_a_kill, a_history_that_grows_is_shown_whole_across_a_kill,);

/// The tabs of a reader who looks at much.
const TABS: usize = 20;

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
    browser.sees("#live", "The engine does not answer");
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

/// The page is open from the first event to the last, and never loaded again.
fn a_history_that_grows_is_shown_whole_across_a_kill(database: Database) {
    let mut engine = engine_with_guests(database);
    let address = engine.url().replace("http://", "");
    let names = vec!["go"; 60];
    engine.ok(&["start", "guests/listening", "--input", &json!({"names": names}).to_string(), "--id", "grows"]);
    let browser = Browser::open(1_280);
    browser.page(&engine, "/executions/grows/history");
    browser.sees("#live", "Live");
    for number in 0..60 {
        if number == 30 {
            engine.kill();
            engine.restart_with(&[("CEREBELUM_LISTEN", &address)]);
        }
        engine.ok(&["signal", "grows", "go", "--data", "7"]);
    }
    assert_eq!(engine.wait_for_end("grows")["status"], "completed");
    browser.sees("#live", "Ended");
    let events = engine.json(&["status", "grows"])["events"].as_u64().unwrap();
    let script = "return [...document.querySelectorAll('.events tbody tr')].map((row) => Number(row.querySelector('th, td').textContent))";
    let wanted: Vec<u64> = (1..=events).collect();
    until("all events are there, once and in order", || {
        let shown = browser.run(script, &[]);
        let mut shown: Vec<u64> = shown.as_array()?.iter().filter_map(Value::as_u64).collect();
        shown.sort_unstable();
        (shown == wanted).then_some(())
    });
}

#[test]
fn an_overview_that_began_empty_shows_what_came() {
    let engine = engine_with_guests(Database::Sqlite);
    let browser = Browser::open(1_280);
    browser.page(&engine, "/");
    browser.sees("main", "No execution has been started yet");
    asks(&engine, "first");
    browser.sees("#people", "first");
    assert_eq!(browser.complaints(), [""; 0]);
}

/// A shown row stays in its place and is brought up to date there; new rows wait until the reader asks for them or leaves.
#[test]
fn a_list_does_not_move_under_the_pointer() {
    let engine = engine_with_guests(Database::Sqlite);
    asks(&engine, "first");
    let browser = Browser::open(1_280);
    for (page, list, others) in [("/executions", "#list", ["a", "b", "c"]), ("/", "#recent", ["d", "e", "f"])] {
        let row = |id: &str| format!("{list} tbody tr:has(a[href='/executions/{id}'])");
        let place = |id: &str| {
            browser.run("return document.querySelector(arguments[0])?.getBoundingClientRect().top", &[&row(id)])
        };
        browser.page(&engine, page);
        browser.sees(&format!("{list} tbody"), "first");
        browser.sees("#live", "Live");
        browser.point_at(&format!("{list} tbody a[href='/executions/first']"));
        browser.run("window.isSame = document.querySelector(arguments[0])", &[&row("first")]);
        let before = place("first");
        asks(&engine, others[0]);
        browser.sees(&format!("{list} .new"), "1 new");
        asks(&engine, others[1]);
        browser.sees(&format!("{list} .new"), "2 new");
        browser.sees("#live", "Live: new rows wait until you leave the list");
        engine.ok(&["pause", "first"]);
        browser.sees(&row("first"), "paused");
        engine.ok(&["resume", "first"]);
        browser.sees(&row("first"), "waiting-for-approval");
        assert_eq!((place("first"), place(others[0])), (before, Value::Null), "{page}: nothing has moved or come");
        let same = browser.run("return window.isSame === document.querySelector(arguments[0])", &[&row("first")]);
        assert_eq!(same, true, "{page}: the row is the same");
        browser.click(&format!("{list} .new button"));
        browser.sees(&row(others[0]), others[0]);
        browser.sees(&row(others[1]), others[1]);
        assert!(browser.text(&format!("{list} .new")).is_empty(), "{page}");
        // A row whose execution is deleted meanwhile turns grey, and goes once the reader has left.
        browser.point_at(&format!("{list} tbody a[href='/executions/{}']", others[1]));
        engine.ok(&["terminate", others[0]]);
        assert_eq!(engine.wait_for_end(others[0])["status"], "cancelled");
        engine.ok(&["delete", others[0]]);
        browser.sees(&format!("{list} tr.gone"), others[0]);
        asks(&engine, others[2]);
        browser.sees(&format!("{list} .new"), "1 new");
        browser.point_at("h1");
        browser.sees(&row(others[2]), others[2]);
        until("the deleted row has gone", || place(others[0]).is_null().then_some(()));
        browser.sees("#live", "Live");
    }
    assert_eq!(browser.complaints(), [""; 0]);
}

/// A proxy that keeps streams back, and one that refuses them.
#[test]
fn a_page_asks_where_its_stream_does_not_get_through() {
    let engine = engine_with_guests(Database::Sqlite);
    for (id, command, parameters) in [
        ("held", "Fetch.enable", json!({"patterns": [{"urlPattern": "*/changes"}]})),
        ("refused", "Network.setBlockedURLs", json!({"urls": ["*/changes"]})),
    ] {
        asks(&engine, id);
        let browser = Browser::open(1_280);
        browser.cdp("Network.enable", &json!({}));
        browser.cdp(command, &parameters);
        browser.page(&engine, &format!("/executions/{id}"));
        browser.sees("#live", "Changes are not announced here: asking every few seconds");
        engine.ok(&["approve", id]);
        browser.sees(".why", "It completed");
        browser.sees("#live", "Ended");
    }
}

/// A browser opens six connections to one host at most over HTTP/1.1: a tab that is not looked at has to have none.
#[test]
fn twenty_tabs_are_live_when_they_are_looked_at() {
    let engine = engine_with_guests(Database::Sqlite);
    let browser = Browser::open(1_280);
    let mut tabs = Vec::new();
    for number in 0..TABS {
        let id = format!("tab-{number}");
        asks(&engine, &id);
        let tab = browser.tell("/window/new", &json!({"type": "tab"}))["handle"].clone();
        browser.tell("/window", &json!({"handle": tab}));
        browser.page(&engine, &format!("/executions/{id}"));
        browser.sees("#live", "Live");
        tabs.push((id, tab));
    }
    for (id, tab) in &tabs {
        engine.ok(&["approve", id]);
        browser.tell("/window", &json!({"handle": tab}));
        browser.sees(".why", "It completed");
    }
}

/// The same moment in three zones, on both sides of a change of the clock; the page names the zone of each.
#[test]
fn every_moment_names_its_zone() {
    let engine = engine_with_guests(Database::Sqlite);
    engine.ok(&["start", "guests/telling", "--input", "1", "--id", "told", "--wait"]);
    let browser = Browser::open(1_280);
    // Noon of one day, and an hour that New York has twice: before the change and after it.
    let moments = ["2026-07-01T12:00:00.000Z", "2026-11-01T05:30:00.000Z", "2026-11-01T06:30:00.000Z"];
    for (zone, expected) in [
        ("UTC", ["2026-07-01 12:00:00.000 +00:00", "2026-11-01 05:30:00.000 +00:00", "2026-11-01 06:30:00.000 +00:00"]),
        (
            "Asia/Kolkata",
            ["2026-07-01 17:30:00.000 +05:30", "2026-11-01 11:00:00.000 +05:30", "2026-11-01 12:00:00.000 +05:30"],
        ),
        (
            "America/New_York",
            ["2026-07-01 08:00:00.000 -04:00", "2026-11-01 01:30:00.000 -04:00", "2026-11-01 01:30:00.000 -05:00"],
        ),
    ] {
        browser.cdp("Emulation.setTimezoneOverride", &json!({"timezoneId": zone}));
        for (name, zones) in [("UTC", vec!["UTC"]), ("local", expected.iter().map(|at| &at[24..]).collect())] {
            browser.page(&engine, "/executions");
            browser.run("localStorage.setItem('zone', arguments[0])", &[name]);
            for path in
                ["/executions", "/executions/told", "/executions/told/history", "/executions/told/logs", "/audit"]
            {
                browser.page(&engine, path);
                let script = "return [...document.querySelectorAll('time')].map((time) => [time.dateTime, time.title || time.textContent])";
                let shown = browser.run(script, &[]);
                let shown = shown.as_array().filter(|shown| !shown.is_empty());
                for moment in shown.unwrap_or_else(|| panic!("{path} has no moment")) {
                    let (at, words) = (moment[0].as_str().unwrap(), moment[1].as_str().unwrap());
                    let is_named = zones.iter().any(|zone| words.ends_with(&format!(" {zone}")));
                    assert!(at.ends_with('Z') && is_named, "{path} in {zone}: {moment}");
                }
            }
        }
        // What the page's own script makes of a moment.
        browser.page(&engine, "/executions/told");
        let script = "for (const at of arguments) { const time = document.createElement('time'); time.className = 'exact added'; \
                      time.dateTime = at; document.body.append(time); }";
        browser.run(script, &moments);
        for (number, wanted) in expected.iter().enumerate() {
            until(&format!("{wanted} is shown in {zone}"), || {
                let all = browser
                    .run("return [...document.querySelectorAll('time.added')].map((time) => time.textContent)", &[]);
                (all[number] == **wanted).then_some(())
            });
        }
    }
}
