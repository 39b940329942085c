//! What the world answers, as a function of the ledger whose last entry is the request.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{Config, Entry};

/// An answer.
pub(crate) enum Answer {
    Json(u16, Value),
    Text(u16, String),
    Status(u16),
    Echo,
    Slow(u64),
}

pub(crate) fn answer(config: &Config, ledger: &[Arc<Entry>]) -> Answer {
    let Some(request) = ledger.last() else { return Answer::Status(500) };
    let parts: Vec<&str> = request.path.split('/').skip(1).collect();
    match (request.method.as_str(), parts.as_slice()) {
        ("POST", ["droplets"]) => Answer::Json(201, droplet(count(ledger), false)),
        ("GET", ["droplets", id]) => thing(config, ledger, ("droplets", id), droplet),
        ("POST", ["certificates"]) => Answer::Json(201, certificate(count(ledger), false)),
        ("GET", ["certificates", id]) => thing(config, ledger, ("certificates", id), certificate),
        ("POST", ["builds"]) => Answer::Json(201, json!({ "id": count(ledger), "status": "running", "error": null })),
        ("GET", ["builds", id]) => {
            let broken =
                |build: &Arc<Entry>| build.word_of("outcome") == Some("failure") || build.body.contains("broken");
            let fails = creation(ledger, "builds", id).is_some_and(broken);
            thing(config, ledger, ("builds", id), move |id, ended| build(id, ended, fails))
        }
        ("POST", ["databases"]) => Answer::Json(201, database(count(ledger), false)),
        ("GET", ["databases", id]) => thing(config, ledger, ("databases", id), database),
        ("GET", ["deployments", id]) => thing(config, ledger, ("deployments", id), deployment),
        ("POST", ["droplets", _, "configure"] | ["certificates", _, "install"] | ["databases", _, "migrate"]) => {
            Answer::Status(204)
        }
        ("POST", ["orders", article]) if article.starts_with("gone") => Answer::Text(409, "out of stock".to_owned()),
        ("POST", ["orders", article]) if article.starts_with("rare") && count(ledger) <= config.refuse => {
            Answer::Text(409, "back soon".to_owned())
        }
        ("POST", ["orders", _]) => Answer::Json(201, json!(count(ledger))),
        ("POST", ["ssh", _]) if count(ledger) <= request.number_of("refuse").unwrap_or(config.refuse) => {
            Answer::Text(503, "connection refused".to_owned())
        }
        ("POST", ["ssh", _]) => Answer::Text(200, "SSH-2.0-OpenSSH_9.9".to_owned()),
        ("POST", ["mails" | "releases" | "deployments" | "parts"]) => Answer::Json(201, json!(count(ledger))),
        ("GET", ["mirrors", name]) => Answer::Text(200, (*name).to_owned()),
        (_, ["flaky", _]) if same_path(ledger) <= request.number_of("fail").unwrap_or_default() => Answer::Status(503),
        (_, ["flaky", _]) => Answer::Json(200, json!(same_path(ledger))),
        ("PUT", ["switch", _, "on"]) => Answer::Status(204),
        (_, ["switch", name]) => {
            let on = format!("/switch/{name}/on");
            let is_on = ledger.iter().any(|entry| entry.method == "PUT" && entry.path == on);
            if is_on { Answer::Json(200, json!("on")) } else { Answer::Status(503) }
        }
        (_, ["notes", ..]) => Answer::Json(200, json!({ "asked": same_path(ledger) })),
        (_, ["echo", ..]) => Answer::Echo,
        (_, ["status", status]) => Answer::Status(status.parse().unwrap_or(400)),
        (_, ["slow", ms, ..]) => Answer::Slow(ms.parse().unwrap_or_default()),
        _ => Answer::Status(404),
    }
}

/// Something that is there and gets ready after a number of looks at it.
fn thing(
    config: &Config,
    ledger: &[Arc<Entry>],
    (kind, id): (&str, &str),
    show: impl Fn(u64, bool) -> Value,
) -> Answer {
    let (Some(request), Some(created)) = (ledger.last(), creation(ledger, kind, id)) else {
        return Answer::Status(404);
    };
    let wanted = request.number_of("ready_after").or(created.number_of("ready_after")).unwrap_or(config.ready_after);
    let number = id.parse().unwrap_or_default();
    Answer::Json(200, show(number, count(ledger) > wanted))
}

/// The request that created the thing of this number.
fn creation<'a>(ledger: &'a [Arc<Entry>], kind: &str, id: &str) -> Option<&'a Arc<Entry>> {
    let path = format!("/{kind}");
    let nth: usize = id.parse().ok()?;
    ledger.iter().filter(|entry| entry.method == "POST" && entry.path == path).nth(nth.checked_sub(1)?)
}

/// How many requests of the last one's method and path there were, itself included.
fn count(ledger: &[Arc<Entry>]) -> u64 {
    number(ledger, |entry, last| entry.method == last.method && entry.path == last.path)
}

/// How many requests of the last one's path there were, itself included.
fn same_path(ledger: &[Arc<Entry>]) -> u64 {
    number(ledger, |entry, last| entry.path == last.path)
}

fn number(ledger: &[Arc<Entry>], like: impl Fn(&Entry, &Entry) -> bool) -> u64 {
    let alike = ledger.last().map_or(0, |last| ledger.iter().filter(|entry| like(entry, last)).count());
    u64::try_from(alike).unwrap_or(u64::MAX)
}

fn droplet(id: u64, is_ready: bool) -> Value {
    let ip = is_ready.then(|| format!("203.0.113.{}", id % 256));
    json!({ "id": id, "status": if is_ready { "active" } else { "new" }, "ip": ip })
}

fn certificate(id: u64, is_ready: bool) -> Value {
    let pem = is_ready.then(|| format!("-----BEGIN CERTIFICATE-----\n{id}\n-----END CERTIFICATE-----\n"));
    json!({ "id": id, "status": if is_ready { "issued" } else { "pending" }, "pem": pem })
}

fn database(id: u64, is_ready: bool) -> Value {
    json!({ "id": id, "connectable": is_ready })
}

fn deployment(id: u64, is_ready: bool) -> Value {
    json!({ "id": id, "status": if is_ready { "healthy" } else { "starting" } })
}

fn build(id: u64, has_ended: bool, fails: bool) -> Value {
    let (status, error) = match (has_ended, fails) {
        (false, _) => ("running", None),
        (true, false) => ("success", None),
        (true, true) => ("failure", Some("2 of 7 tests failed")),
    };
    json!({ "id": id, "status": status, "error": error })
}
