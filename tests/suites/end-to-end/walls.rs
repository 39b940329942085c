//! Requests that leave the engine: the hosts they reach, their contents, the size of their answers, and how a stop
//! treats them.

use std::time::Duration;

use serde_json::{Value, json};
use test_engine::{Database, Engine, Server, until};

on_both_databases!(
    requests_beyond_the_limits_fail_by_name,
    a_guest_reaches_neither_its_engine_nor_the_database,
    a_port_that_is_not_named_stays_closed,
    a_secret_is_told_by_no_failure,
    at_most_twenty_requests_of_an_execution_are_outside,
    a_stop_waits_for_the_answers_under_way,
);

fn failure(engine: &Engine, asking: &Value) -> (String, String) {
    let ended = engine.run("asks", asking);
    let text = |name: &str| ended["failure"][name].as_str().unwrap_or_else(|| panic!("{asking}: {ended:#}")).to_owned();
    (text("kind"), text("message"))
}

fn requests_beyond_the_limits_fail_by_name(database: Database) {
    let engine = Engine::start(database);
    engine.upload("test-guests");
    let server = Server::start(1, Duration::ZERO);
    let url = server.url("/");
    let header = |name: &str, value: &str| json!([[name, value]]);
    for (asking, word) in [
        (json!({"method": "GET", "url": url, "headers": header("x", "y"), "repeat": 30_000}), "30000 headers"),
        (json!({"method": "GET", "url": url, "headers": header("x", "y"), "repeat": 129}), "129 headers"),
        (json!({"method": "GET", "url": url, "headers": header(&"x".repeat(300), "y")}), "name of a header"),
        (json!({"method": "GET", "url": url, "headers": header("x", &"y".repeat(20_000))}), "value of header"),
        (json!({"method": "GET", "url": format!("{url}{}", "x".repeat(9_000))}), "URL has"),
        (json!({"method": "X".repeat(99), "url": url}), "HTTP method"),
        (json!({"method": "CONNECT", "url": url}), "CONNECT"),
        (json!({"method": "POST", "url": url, "body_bytes": (3 << 20) + 1}), "body of a request"),
        (json!({"method": "GET", "url": "http://127.0.0.1:99999/"}), "port"),
        (json!({"method": "GET", "url": "http://"}), "URL"),
        (json!({"method": "GET", "url": url, "timeout_ms": u64::MAX >> 12}), "longer than a year"),
        (json!({"method": "GET", "url": url, "headers": header("host", "elsewhere")}), "must be the same"),
    ] {
        let (kind, message) = failure(&engine, &asking);
        assert!(kind == "invalid-argument" && message.contains(word), "{word}: {kind}: {message}");
    }
    assert!(server.requests().is_empty(), "none of them left");
    let dropped =
        json!([["connection", "close, x-keep"], ["transfer-encoding", "chunked"], ["te", "trailers"], ["x-keep", "1"]]);
    let fine = json!({"method": "GET", "url": url, "headers": dropped, "timeout_ms": 365 * 86_400_000_u64});
    let answered = engine.run("asks", &fine);
    assert_eq!(answered["output"], json!([200, 1]), "{answered:#}");
    let largest = json!({"method": "POST", "url": url, "body_bytes": 3 << 20});
    assert_eq!(engine.run("asks", &largest)["status"], "completed");
    let heard = server.requests()[0].to_ascii_lowercase();
    assert!(heard.contains("x-keep: 1"), "{heard}");
    for own in ["transfer-encoding", "te:", "connection"] {
        assert!(!heard.contains(own), "{own} in {heard}");
    }
}

fn a_guest_reaches_neither_its_engine_nor_the_database(database: Database) {
    let engine = Engine::start(database);
    engine.upload("test-guests");
    let port = |url: &str| url.rsplit(':').next().unwrap().split('/').next().unwrap().parse::<u16>().unwrap();
    let mut ports = vec![port(engine.url())];
    if let Some((_, place)) = engine.database().strip_prefix("postgres://").and_then(|rest| rest.rsplit_once('@')) {
        ports.push(port(place));
    }
    for port in ports {
        for host in ["127.0.0.1", "localhost"] {
            let (kind, message) =
                failure(&engine, &json!({"method": "GET", "url": format!("http://{host}:{port}/healthz")}));
            assert!(kind == "not-granted" && message.contains("never allowed"), "{host}:{port}: {kind}: {message}");
        }
    }
}

fn a_port_that_is_not_named_stays_closed(database: Database) {
    let (open, closed) = (Server::start(1, Duration::ZERO), Server::start(1, Duration::ZERO));
    let named = format!("*,localhost:{}", open.port());
    let mut engine = Engine::start(database);
    engine.kill();
    engine.allow(&named);
    engine.restart();
    engine.upload("test-guests");
    let at = |port: u16| json!({"method": "GET", "url": format!("http://localhost:{port}/")});
    assert_eq!(engine.run("asks", &at(open.port()))["status"], "completed");
    for port in [closed.port(), 80, 443] {
        let (kind, message) = failure(&engine, &at(port));
        assert!(kind == "not-granted", "{port}: {kind}: {message}");
    }
    assert!(closed.requests().is_empty());
}

fn a_secret_is_told_by_no_failure(database: Database) {
    let engine = Engine::start_with(database, &[("SECRET_TEST_TOKEN", "hush-7f3a")]);
    engine.upload("test-guests");
    let secret = "{{secret:TEST_TOKEN}}";
    for url in [
        format!("http://{secret}/"),
        format!("http://{secret}.127.0.0.1/"),
        format!("{secret}://127.0.0.1/"),
        format!("http://127.0.0.1:{secret}/"),
        format!("http://u:{secret}@127.0.0.1/"),
        format!("http://127.0.0.1/#{secret}"),
        format!("http://127.0.0.1:1/{secret}?{secret}"),
    ] {
        let id = engine.begin("asks", &json!({"method": "GET", "url": url}));
        let shown = format!("{:?}{:?}", engine.wait_for_end(&id), engine.history(&id));
        assert!(shown.contains("failed") && !shown.contains("hush"), "{url}: {shown}");
    }
    assert!(!engine.log().contains("hush"));
    let server = Server::start(1, Duration::ZERO);
    let url = server.url(&format!("/{secret}?key={secret}"));
    let headers = json!([["authorization", format!("Bearer {secret}")]]);
    assert_eq!(engine.run("asks", &json!({"method": "GET", "url": url, "headers": headers}))["status"], "completed");
    let heard = server.requests().remove(0);
    assert!(heard.starts_with("GET /hush-7f3a?key=hush-7f3a ") && heard.contains("Bearer hush-7f3a"), "{heard}");
}

fn at_most_twenty_requests_of_an_execution_are_outside(database: Database) {
    let engine = Engine::start(database);
    engine.upload("test-guests");
    let server = Server::start(10, Duration::from_millis(100));
    let ended = engine.run("asks_at_once", &json!({"url": server.url("/"), "times": 90}));
    assert_eq!(ended["output"], json!(900), "{ended:#}");
    assert_eq!((server.requests().len(), server.most_at_once()), (90, 20));
}

fn a_stop_waits_for_the_answers_under_way(database: Database) {
    let mut engine = Engine::start(database);
    engine.upload("test-guests");
    let server = Server::start(1, Duration::from_millis(700));
    let ids: Vec<String> =
        (0..15).map(|_| engine.begin("asks", &json!({"method": "POST", "url": server.url("/")}))).collect();
    until("all of them have been asked", || (server.requests().len() == ids.len()).then_some(()));
    engine.put_away();
    engine.restart();
    for id in &ids {
        assert_eq!(engine.wait_for_end(id)["output"], json!([200, 1]));
    }
    assert_eq!(server.requests().len(), ids.len(), "none was repeated");
}
