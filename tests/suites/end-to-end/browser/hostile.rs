//! Texts that want to be more than texts, in every field that a guest or a client fills.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use test_engine::{Database, until};
use test_pages::Browser;

use super::engine_with_guests;
use crate::rest::curl;

/// What a text does if it is taken for a script, for markup, for a formula or for orders to a terminal.
const HARMS: [&str; 10] = [
    "<script>window.hacked = 1</script>",
    "<img src=x onerror=window.hacked=1>",
    "<svg onload=window.hacked=1>",
    "javascript:window.hacked=1",
    "<a href=\"javascript:window.hacked=1\" autofocus onfocus=window.hacked=1>a</a>",
    "\u{1b}[2J\u{1b}]8;;http://h/\u{7}\u{9b}31m",
    "\u{202e}gpj.exe\u{2066}\u{200b}\u{feff}",
    "cmd|' /C calc'!A0",
    "${7*7}{{7*7}}%3Cscript%3E&#60;script&#62;",
    "</textarea></title></style></svg><!-- ]]>",
];
/// What stands before and after it. The first ones make a formula of a cell.
const AROUND: [(&str, &str); 20] = [
    ("=", ""),
    ("+", ""),
    ("-", ""),
    ("@", ""),
    ("\t", ""),
    ("\r\n", "\r\n"),
    ("\"", "\""),
    ("'", "'"),
    ("`", "`"),
    ("\">", "<!--"),
    ("'>", "-->"),
    ("</script>", "<script>"),
    ("</td></tr></table></main>", "<main>"),
    ("\\", "\\"),
    ("\u{2028}", "\u{2029}"),
    ("Z\u{300}\u{301}\u{302}\u{303}\u{304}\u{305}\u{306}\u{307}", "\u{1f9e0}"),
    ("\u{5d0}\u{5d1} \u{639}\u{631} ", " \u{5d0}"),
    ("wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww", ""),
    ("%00%0a", "%0d"),
    ("&lt;", "&gt;"),
];

const JSON: [&str; 2] = ["-H", "content-type: application/json"];

/// A text in a path.
fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Signs that change what stands around them.
fn is_order(sign: char) -> bool {
    matches!(sign, '\0'..='\u{8}' | '\u{b}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[test]
fn two_hundred_hostile_texts_are_texts_in_every_field() {
    let engine = engine_with_guests(Database::Sqlite);
    let texts: Vec<String> = HARMS
        .iter()
        .flat_map(|harm| AROUND.iter().map(move |(before, after)| format!("{before}{harm}{after}")))
        .collect();
    assert_eq!(texts.iter().collect::<BTreeSet<_>>().len(), 200);
    let browser = Browser::open(360);
    let mut ids = Vec::new();
    for (number, some) in texts.chunks(20).enumerate() {
        let id = format!("h{number}");
        engine.ok(&["start", "guests/everywhere", "--input", &json!(some).to_string(), "--id", &id]);
        engine.wait_for(&id, &["waiting-for-approval"]);
        for name in &some[..5] {
            let data = json!({name.as_str(): name}).to_string();
            let path = format!("/v1/executions/{id}/signals/{}", percent(name));
            let sent = curl(&engine, ("POST", &path), &JSON, data.as_bytes());
            assert!(sent.status < 300, "{sent:?}");
        }
        let view = json!({"name": some[2], "filter": {"attributes": {"text-0": some[0]}}, "columns": ["text-0"], "shared": true});
        let saved = curl(&engine, ("POST", "/v1/views"), &JSON, view.to_string().as_bytes());
        assert_eq!(saved.status < 300, !some[2].chars().any(char::is_control), "{saved:?}");
        ids.push(id);
    }
    look(&engine, &browser, "/approvals");
    look(&engine, &browser, "/");
    for (id, some) in ids.iter().zip(texts.chunks(20)) {
        look(&engine, &browser, &format!("/executions/{id}"));
        let question = engine.json(&["approvals"]);
        let question = question.as_array().unwrap().iter().find(|one| one["execution_id"] == **id).unwrap();
        let approval = question["approval_id"].as_str().or(question["id"].as_str()).unwrap();
        let reason = format!("--reason={}", some[1].replace('\0', ""));
        engine.ok(&["reject", approval, &reason]);
        until("it has failed", || (engine.json(&["status", id])["status"] == "failed").then_some(()));
        let pages = ["", "/timeline", "/graph", "/history", "/logs", "/tree", "/events/4", "/at/30"];
        for page in pages.into_iter().chain(["/value/input", "/value/failure", "/value/4"]) {
            look(&engine, &browser, &format!("/executions/{id}{page}"));
        }
        for verb in ["status", "history", "logs", "timeline"] {
            let told = engine.ok(&[verb, id]);
            let orders: String = told.chars().filter(|sign| is_order(*sign)).collect();
            assert!(orders.is_empty(), "{verb} {id} prints {orders:?}: {told:?}");
        }
    }
    for path in [
        "/executions",
        "/executions?columns=text-0,text-7,text-19",
        "/audit",
        "/executions?attribute=text-0%3D%3Cscript%3E",
    ] {
        look(&engine, &browser, path);
    }
    let told = engine.ok(&["list"]) + &engine.ok(&["audit"]);
    assert!(!told.chars().any(is_order), "{told:?}");
    let columns: Vec<String> = (0..20).map(|number| format!("text-{number}")).collect();
    let csv = curl(&engine, ("GET", &format!("/executions.csv?columns={}", columns[..16].join(","))), &[], b"").body;
    for cell in csv.split("\",\"").map(|cell| cell.trim_start_matches('"')) {
        assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r']), "a formula: {cell:?}");
    }
}

/// Shows a page to a reader: nothing runs, nothing breaks, and it is as wide as the screen.
fn look(engine: &test_engine::Engine, browser: &Browser, path: &str) {
    browser.page(engine, path);
    let script = "return [window.hacked ?? null, document.documentElement.scrollWidth, document.querySelectorAll('h1').length, \
                  document.querySelectorAll('main').length, document.body.innerText, document.querySelectorAll('img:not(header img), script:not([src]), iframe').length]";
    let said = browser.run(script, &[]);
    assert_eq!(said[0], Value::Null, "a script of {path} ran");
    assert!(said[1].as_u64().unwrap() <= 360, "{path} is {} wide", said[1]);
    assert_eq!((&said[2], &said[3], &said[5]), (&json!(1), &json!(1), &json!(0)), "{path} is broken");
    let orders: String = said[4].as_str().unwrap().chars().filter(|sign| is_order(*sign)).collect();
    assert!(orders.is_empty(), "{path} shows {orders:?}");
    let complaints: Vec<_> =
        browser.complaints().into_iter().filter(|told| !told.contains("Failed to load resource")).collect();
    assert_eq!(complaints, [""; 0], "{path}");
}
