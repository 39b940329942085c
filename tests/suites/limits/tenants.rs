//! A tenant that does its worst, and another one that goes on as if it were alone.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use test_engine::{Engine, component, scratch, until};

on_both_databases!(a_tenant_that_computes_in_fifty_guests, a_tenant_with_polls_and_endless_chains);

mod a_tenant_that_starts_itself_again_and_again {
    #[test]
    fn sqlite() {
        super::start_itself(test_engine::Database::Sqlite);
    }
    #[test]
    fn postgres() {
        super::start_itself(test_engine::Database::Postgres);
    }
}

/// How often the quiet tenant runs a workflow before and during the attack.
const RUNS: usize = 21;
/// How many times as long a run may take in the middle. Where guests computed among all other tasks, it took 80 times as
/// long; where polls and chains of one tenant kept the connections to the database, 400 times.
const SLOWER_MAX: u32 = 5;
/// What a run may take in addition: the engines of two tests are attacked on one machine at once.
const NOISE: Duration = Duration::from_millis(100);
/// The longest of all runs, beside a tenant that has more executions than fit into memory. Where they had all places, a run did
/// not begin for minutes.
const LONGEST: Duration = Duration::from_secs(10);

/// Creates a tenant and a token of its admin, whose component is granted what it asks for.
fn tenant(engine: &Engine, admin: &str, name: &str) -> String {
    engine.ok(&["tenant", "create", name, "--token", admin]);
    let token = token(engine, &["--tenant", name, "--role", "admin", "--name", name, "--token", admin]);
    engine.ok(&["upload", &component("test-guests"), "--token", &token]);
    token
}

fn token(engine: &Engine, arguments: &[&str]) -> String {
    let said = engine.ok(&[&["token", "create", "--json"], arguments].concat());
    let created: Value = serde_json::from_str(&said).unwrap();
    created["token"].as_str().unwrap().to_owned()
}

/// How long a run of the quiet tenant takes, in the middle.
fn pace(engine: &Engine, token: &str) -> Duration {
    let run = || {
        let began = Instant::now();
        engine.ok(&["start", "sequence", "--input", r#"{"steps":2}"#, "--wait", "--token", token]);
        began.elapsed()
    };
    let mut took: Vec<Duration> = (0..RUNS).map(|_| run()).collect();
    took.sort();
    took[RUNS / 2]
}

/// Two tenants on one engine; the one attacks with its token.
fn check(database: test_engine::Database, attack: fn(&Engine, &str)) {
    let engine = Engine::start(database);
    let admin = token(&engine, &["--role", "admin", "--name", "admin"]);
    let (quiet, loud) = (tenant(&engine, &admin, "quiet"), tenant(&engine, &admin, "loud"));
    let usual = pace(&engine, &quiet);
    attack(&engine, &loud);
    let beside = pace(&engine, &quiet);
    eprintln!("{beside:?} beside the attack, {usual:?} before it");
    assert!(beside <= usual * SLOWER_MAX + NOISE, "{beside:?} beside the attack, {usual:?} before it");
}

fn a_tenant_that_computes_in_fifty_guests(engine: &Engine, token: &str) {
    for _ in 0..50 {
        engine.ok(&["start", "hostile_step", "--input", r#""loop""#, "--token", token]);
    }
}

fn a_tenant_with_polls_and_endless_chains(engine: &Engine, token: &str) {
    let start = |workflow: &str, input: Value| json!({ "workflow": workflow, "input": input }).to_string();
    let poll = json!({ "base_url": "", "ready_at": 1, "every_ms": 1, "attempts": 1_000_000_000 });
    let chain = json!({ "what": "chain", "count": 1_000_000_000 });
    let polls = std::iter::repeat_n(start("polling_in_vain", poll), 1_500);
    let starts: Vec<String> = polls.chain(std::iter::repeat_n(start("load", chain), 300)).collect();
    let folder = scratch();
    let file = folder.0.join("starts.ndjson");
    std::fs::write(&file, starts.join("\n")).unwrap();
    let (token, body) = (format!("authorization: Bearer {token}"), format!("@{}", file.display()));
    let (url, lines) = (format!("{}/v1/starts", engine.url()), "content-type: application/x-ndjson");
    let said = Command::new("curl").args(["-sSf", "-H", lines, "-H", &token, "--data-binary", &body, &url]).output();
    let said = said.unwrap();
    assert!(said.status.success(), "{said:?}");
}

/// Thousands of executions a second, each of which starts twenty. The engine dies among them. A low quota ends it.
fn start_itself(database: test_engine::Database) {
    let mut engine = Engine::start_with(database, &[("ACTIVATIONS_MAX", "400")]);
    let admin = token(&engine, &["--role", "admin", "--name", "admin"]);
    let (quiet, loud) = (tenant(&engine, &admin, "quiet"), tenant(&engine, &admin, "loud"));
    engine.ok(&["start", "load", "--input", r#"{"what":"selves","count":20}"#, "--token", &loud]);
    let open = |engine: &Engine| -> u64 {
        let shown: Value =
            serde_json::from_str(&engine.ok(&["tenant", "show", "loud", "--json", "--token", &admin])).unwrap();
        shown["quotas"]["open-executions"]["used"].as_u64().unwrap_or_else(|| panic!("{shown}"))
    };
    until("there are more than fit into memory", || (open(&engine) > 2_000).then_some(()));
    for dies in [true, false] {
        for _ in 0..5 {
            let began = Instant::now();
            engine.ok(&["start", "sequence", "--input", r#"{"steps":2}"#, "--wait", "--token", &quiet]);
            assert!(began.elapsed() < LONGEST, "{:?} with {} open", began.elapsed(), open(&engine));
        }
        if dies {
            engine.kill_and_restart();
        }
    }
    engine.ok(&["tenant", "set-quota", "loud", "open-executions=10", "--token", &admin]);
    until("it has come to its end", || (open(&engine) == 0).then_some(()));
}
