//! Every page in every state, as readers with other eyes, hands and screens get it.

use std::process::Command;

use serde_json::{Value, json};
use test_engine::root;
use test_pages::{Browser, Gallery, Scheme, TAB, Who};

/// What axe-core checks: WCAG 2.0 to 2.2, A and AA, and what its authors hold for good.
const RULES: [&str; 6] = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
/// The rules among them that look at colours: the others find the same in the dark as in the light.
const RULES_OF_COLOURS: [&str; 2] = ["color-contrast", "link-in-text-block"];
const DESKTOP: u32 = 1_280;
const PHONE: u32 = 360;
/// The width at which a page of 1280 pixels is when its reader has enlarged it four times.
const ENLARGED: u32 = 320;

/// Shows each page of both galleries to its reader.
fn on_every_page(browser: &Browser, mut look: impl FnMut(&Browser, &str)) {
    for gallery in [Gallery::full(), Gallery::empty()] {
        for who in [Who::Stranger, Who::Admin, Who::Viewer] {
            gallery.log_in(browser, who);
            for (name, path, _) in gallery.pages.iter().filter(|(.., of)| *of == who) {
                browser.page(&gallery.engine, path);
                assert_eq!(browser.run("return location.pathname + location.search", &[]), *path, "{name}");
                look(browser, name);
            }
        }
    }
}

#[test]
fn every_page_of_the_documentation_is_looked_at() {
    let gallery = Gallery::full();
    let segments =
        |path: &str| -> Vec<String> { path.split('?').next().unwrap().split('/').map(str::to_owned).collect() };
    let is = |path: &str, template: &str| {
        let (path, template) = (segments(path), segments(template));
        path.len() == template.len() && path.iter().zip(&template).all(|(is, of)| is == of || of.starts_with('{'))
    };
    // No pages: files, a stream, and the way to another page.
    let files =
        ["/executions.csv", "/executions.ndjson", "/executions/{id}/history.ndjson", "/executions/{id}/logs.ndjson"];
    let others = ["/executions/{id}/changes", "/executions/{id}/at"];
    for (method, template, _) in crate::pages::pages() {
        if method == "GET" && !files.iter().chain(&others).any(|of| *of == template) {
            assert!(gallery.pages.iter().any(|(_, path, _)| is(path, &template)), "{template} is not in the gallery");
        }
    }
}

#[test]
fn axe_finds_nothing_on_any_page_light_or_dark_wide_or_narrow() {
    let axe = std::fs::read_to_string(root().join("target/tools/axe.min.js"));
    let axe = axe.unwrap_or_else(|error| panic!("target/tools/axe.min.js: {error}; `make setup` lays it there"));
    let browser = Browser::open(DESKTOP);
    browser.cdp("Page.addScriptToEvaluateOnNewDocument", &json!({"source": axe}));
    let script = "const [runOnly, done] = arguments; \
                  axe.run(document, {runOnly, resultTypes: ['violations']}).then((found) => \
                  done([found.passes.length, found.violations.flatMap((one) => one.nodes.map((node) => \
                  [one.id, node.html.slice(0, 200), node.failureSummary].join(': ')))]), (error) => done(String(error)))";
    let (mut found, mut looks) = (Vec::new(), 0);
    on_every_page(&browser, |browser, name| {
        for (scheme, width) in Scheme::ALL.into_iter().flat_map(|scheme| [(scheme, DESKTOP), (scheme, PHONE)]) {
            browser.prefer(scheme);
            browser.resize(width);
            let rules = match scheme {
                Scheme::Light => json!({"type": "tag", "values": RULES}),
                Scheme::Dark => json!({"type": "rule", "values": RULES_OF_COLOURS}),
            };
            let said = browser.tell("/execute/async", &json!({"script": script, "args": [rules]}));
            assert!(said[0].as_u64().unwrap_or_else(|| panic!("{name}: {said}")) > 0, "{name}: {said}");
            let here = |of: &Value| format!("{name}, {}, {width}: {}", scheme.word(), of.as_str().unwrap());
            found.extend(said[1].as_array().unwrap().iter().map(here));
            looks += 1;
        }
    });
    assert!(found.is_empty(), "{} violations: {}", found.len(), found.join("\n\n"));
    // A page that is an answer such as 404 is told as a resource that could not be loaded; and Chromium would like a name
    // beside the token of the login.
    let is_known = |told: &String| told.contains("Failed to load resource") || told.contains("username fields");
    let complaints: Vec<_> = browser.complaints().into_iter().filter(|told| !is_known(told)).collect();
    assert_eq!(complaints, [""; 0]);
    assert!(looks > 300, "{looks} looks");
}

#[test]
fn what_has_the_focus_is_seen_on_every_page() {
    let browser = Browser::open(DESKTOP);
    let (mut wrong, mut number) = (Vec::new(), 0);
    on_every_page(&browser, |browser, name| {
        // After a key, the focus that a script gives is shown as well.
        browser.press(TAB);
        for scheme in Scheme::ALL {
            browser.prefer(scheme);
            let said = browser.run(include_str!("focus.js"), &[]);
            number += said[0].as_u64().unwrap_or_else(|| panic!("{name}: {said}"));
            let here = |of: &Value| format!("{name}, {}: {}", scheme.word(), of.as_str().unwrap());
            wrong.extend(said[1].as_array().unwrap().iter().map(here));
        }
    });
    assert!(wrong.is_empty(), "{} are not seen: {}", wrong.len(), wrong.join("\n"));
    assert!(number > 1_000, "{number}");
}

#[test]
fn only_tables_scroll_sideways() {
    let browser = Browser::open(ENLARGED);
    let mut wide = Vec::new();
    on_every_page(&browser, |browser, name| {
        for width in [ENLARGED, PHONE] {
            browser.resize(width);
            let script = "const all = [...document.querySelectorAll('main *, header *, footer *')]; \
                          const bounds = (of) => of.getBoundingClientRect(); \
                          const out = all.filter((one) => !one.closest('.wide, pre.value, .skip') && bounds(one).right > innerWidth + 1); \
                          return [document.documentElement.scrollWidth, out.map((one) => one.outerHTML.slice(0, 80)).slice(0, 3).join()]";
            let said = browser.run(script, &[]);
            if said[0].as_u64().unwrap() > u64::from(width) || said[1] != "" {
                wide.push(format!("{name} at {width}: {said}"));
            }
        }
    });
    assert!(wide.is_empty(), "{}", wide.join("\n"));
}

#[test]
fn scripts_and_styles_are_small() {
    let gallery = Gallery::empty();
    let browser = Browser::open(DESKTOP);
    browser.page(&gallery.engine, "/executions");
    let script = "return performance.getEntriesByType('resource').map((one) => one.name)";
    let loaded = browser.run(script, &[]);
    let size = |end: &str| {
        let all = loaded.as_array().unwrap().iter().filter_map(Value::as_str).filter(|url| url.ends_with(end));
        let packed = |url: &str| {
            let words = ["-c", "curl -sS --fail \"$0\" | gzip -9 | wc -c", url];
            let said = Command::new("sh").args(words).output().unwrap();
            String::from_utf8(said.stdout).unwrap().trim().parse::<u64>().unwrap()
        };
        all.map(packed).sum::<u64>()
    };
    let (scripts, styles) = (size(".js"), size(".css"));
    assert!(scripts > 1_000 && styles > 1_000, "{loaded}");
    assert!(scripts <= 10 << 10 && styles <= 10 << 10, "{scripts} bytes of scripts, {styles} of styles");
    let elsewhere =
        loaded.as_array().unwrap().iter().find(|url| !url.as_str().unwrap().starts_with(gallery.engine.url()));
    assert_eq!(elsewhere, None, "nothing comes from elsewhere");
}

#[test]
fn every_page_can_be_read_with_scripts_switched_off() {
    let (scripts, plain) = (Browser::open(DESKTOP), Browser::open(DESKTOP));
    let script = "const main = document.querySelector('main').cloneNode(true); \
                  for (const of of main.querySelectorAll('time, section[aria-label=Keys], button.copy')) of.remove(); \
                  const forms = [...document.forms].filter((form) => !form.querySelector('button')); \
                  return [document.querySelectorAll('h1').length, main.textContent.replace(/\\d[\\d.]*\\s?[a-z]*/g, '').length, forms.length].join()";
    let gallery = Gallery::full();
    for who in [Who::Stranger, Who::Admin, Who::Viewer] {
        plain.cdp("Emulation.setScriptExecutionDisabled", &json!({"value": false}));
        for browser in [&scripts, &plain] {
            gallery.log_in(browser, who);
        }
        plain.cdp("Emulation.setScriptExecutionDisabled", &json!({"value": true}));
        for (name, path, _) in gallery.pages.iter().filter(|(.., of)| *of == who) {
            let read = |browser: &Browser| {
                browser.page(&gallery.engine, path);
                browser.run(script, &[])
            };
            let (with, without) = (read(&scripts), read(&plain));
            let says = plain.text("#live");
            assert!(says.is_empty() || says.starts_with("Reload the page"), "scripts are off: {says}");
            let numbers: Vec<u64> =
                without.as_str().unwrap().split(',').map(|number| number.parse().unwrap()).collect();
            assert!(numbers[0] == 1 && numbers[1] > 30 && numbers[2] == 0, "{name}: {without}");
            if !["overview", "audit", "nodes", "execution-charge-retrying"].iter().any(|of| name.contains(of)) {
                assert_eq!(with, without, "{name} says the same without scripts");
            }
        }
    }
}
