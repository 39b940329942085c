//! PostgreSQL in trouble while executions are busy: guests wait, nothing fails, nothing happens twice, and no
//! acknowledgement is contradicted later.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::Connection;
use test_engine::{Cloud, Engine, Said, assert_one_writer, until, within};
use test_postgres::{Cluster, Cut, Shutdown, Wire};

use crate::assert_repeats_are_alike;

/// I8: sixty seconds after the faults stop everything has moved.
const RECOVERY: Duration = Duration::from_secs(60);

/// Executions of every kind, and the acknowledgements that their clients got.
struct Busy<'e> {
    engine: &'e Engine,
    cloud: Cloud,
    ids: Vec<(String, Value)>,
    asking: Vec<String>,
    listening: Vec<String>,
}

impl<'e> Busy<'e> {
    fn begin(engine: &'e Engine) -> Self {
        let cloud = Cloud::start();
        engine.upload("test-guests");
        let base = cloud.url().to_owned();
        let mut busy = Self { engine, cloud, ids: Vec::new(), asking: Vec::new(), listening: Vec::new() };
        for number in 0..3 {
            let paths = |kind: &str| -> Vec<String> { (0..6).map(|at| format!("{kind}/{number}-{at}")).collect() };
            let nap = json!({"base_url": base, "sleep_ms": 350, "naps": 5});
            let at = json!({"base_url": base, "ready_at": 8, "every_ms": 250, "attempts": 500});
            for (workflow, input, output) in [
                ("posts", json!({"base_url": base, "paths": paths("slow/200/s")}), json!(6)),
                ("posts_at_once", json!({"base_url": base, "paths": paths("slow/300/p")}), json!(6)),
                ("naps", nap.clone(), json!(5)),
                ("naps_in_a_step", nap, json!(6)),
                ("sequence", json!({"steps": 200}), json!(200)),
                ("polling", at, Value::Null),
                ("family", json!({"children": 3, "awaited": true}), json!(6)),
            ] {
                busy.ids.push((engine.begin(workflow, &input), output));
            }
            busy.asking.push(engine.begin("asking", &json!({"title": "Go?"})));
            busy.listening.push(engine.begin("listening", &json!({"names": ["a", "b"]})));
        }
        for id in &busy.asking {
            engine.wait_for(id, &["waiting-for-approval"]);
        }
        until("requests are under way", || (busy.cloud.ledger().len() >= 20).then_some(()));
        busy
    }

    /// Clients that repeat their requests until the trouble is over and each has its answer. Returns the number of
    /// refusals.
    fn ask_during(&self, is_over: &AtomicBool) -> usize {
        std::thread::scope(|scope| {
            let answering: Vec<_> = (0..self.asking.len()).map(|at| scope.spawn(move || self.answer(at))).collect();
            let starting = scope.spawn(|| self.keep_starting(is_over));
            let mut refused = starting.join().unwrap();
            refused += answering.into_iter().map(|client| client.join().unwrap()).sum::<usize>();
            refused
        })
    }

    /// Answers one question and sends two signals, each until it is acknowledged.
    fn answer(&self, at: usize) -> usize {
        let mut refused = 0;
        let (asking, listening) = (&self.asking[at], &self.listening[at]);
        let yes = format!(r#"{{"answer":{at}}}"#);
        let mut unavailable = |arguments: &[&str]| {
            let said = self.engine.cli(arguments);
            assert_polite(&said, arguments);
            refused += usize::from(said.code == 4);
            said.code == 4
        };
        let began = Instant::now();
        // Asked again after a lost answer, the engine may say that it has the approval.
        while unavailable(&["approve", asking, "--data", &yes]) && began.elapsed() < RECOVERY {}
        for name in ["a", "b"] {
            while unavailable(&["signal", listening, name, "--data", &at.to_string()]) && began.elapsed() < RECOVERY {}
        }
        refused
    }

    /// Starts executions, reads their status and lists them. An acknowledged execution is there from then on.
    fn keep_starting(&self, is_over: &AtomicBool) -> usize {
        let (mut refused, mut acknowledged) = (0, BTreeSet::new());
        let mut number = 0;
        while !is_over.load(Ordering::SeqCst) || acknowledged.is_empty() {
            number += 1;
            let id = format!("amid-{number}");
            let start = ["start", "sequence", "--input", r#"{"steps":2}"#, "--id", &id];
            for arguments in [&start[..], &["status", &id], &["list"], &["approvals"]] {
                let said = self.engine.cli(arguments);
                let is_unknown = said.code == 3 && !acknowledged.contains(&id);
                if !is_unknown {
                    assert_polite(&said, arguments);
                }
                refused += usize::from(said.code == 4);
                if arguments[0] == "start" && said.code == 0 {
                    acknowledged.insert(id.clone());
                }
            }
        }
        for id in acknowledged {
            let done = self.end_of(&id);
            assert_eq!(done["output"], json!(2), "{id} was acknowledged: {done:#}");
        }
        refused
    }

    /// The status at the end; the trouble may have ended only just now.
    fn end_of(&self, id: &str) -> Value {
        within(RECOVERY, &format!("{id} comes to its end"), || {
            let said = self.engine.cli(&["status", id, "--json"]);
            assert_polite(&said, &["status", id]);
            let status: Value = serde_json::from_str(&said.out).unwrap_or_default();
            ["completed", "failed", "cancelled"].iter().any(|end| status["status"] == *end).then_some(status)
        })
    }

    /// After the trouble, everything has come to its end as if nothing had happened.
    fn assert_whole(&self) {
        for (id, output) in &self.ids {
            let done = self.end_of(id);
            assert_eq!(done["status"], "completed", "{done:#}");
            assert!(output.is_null() || done["output"] == *output, "{done:#}");
            // The attempts of a poll's checks add up; all other steps have one attempt.
            let mut steps = done["steps"].as_array().unwrap().iter().filter(|step| step["name"] != "look");
            assert!(steps.all(|step| step["attempt"] == 1), "nothing failed: {done:#}");
        }
        for (at, id) in self.asking.iter().enumerate() {
            let done = self.end_of(id);
            let expected = format!(r#"{{"answer":{at}}} by"#);
            assert!(done["output"].as_str().is_some_and(|said| said.starts_with(&expected)), "{done:#}");
        }
        for (at, id) in self.listening.iter().enumerate() {
            assert_eq!(self.end_of(id)["output"], json!([at, at]));
        }
        let ids = self.ids.iter().map(|(id, _)| id);
        for id in ids.chain(&self.asking).chain(&self.listening) {
            assert_one_writer(&self.engine.history(id));
        }
        let ledger = self.cloud.ledger();
        assert_repeats_are_alike(&ledger);
        let keys: BTreeSet<String> = ledger.iter().map(|request| request["idempotency_key"].to_string()).collect();
        let fetches: usize = self.ids.iter().map(|(id, _)| self.engine.count(id, "FetchStarted")).sum();
        let checks = self.cloud.requests("GET", "/notes/looks");
        let checks: BTreeSet<String> = checks.iter().map(|one| one["idempotency_key"].to_string()).collect();
        assert_eq!(keys.len(), fetches + checks.len(), "each request that left stands in a history once");
        assert_eq!(self.engine.metric("cerebelum_parked_total"), 0);
    }
}

/// Asserts that the engine answered, or said in one line that it cannot answer now and what to do.
fn assert_polite(said: &Said, arguments: &[&str]) {
    // When a request is repeated after a lost answer, the engine may say that it has already happened.
    let happened = |verb, word| said.code == 5 && arguments[0] == verb && said.err.contains(word);
    let already = happened("approve", "approved") || happened("signal", "completed");
    assert!([0, 4].contains(&said.code) || already, "{arguments:?}: {said:?}");
    if said.code == 4 {
        assert_eq!(said.err.trim_end().lines().count(), 1, "{arguments:?}: {said:?}");
        assert!(said.err.contains("again"), "it says what to do: {arguments:?}: {said:?}");
        assert!(said.out.is_empty(), "{arguments:?}: {said:?}");
    }
}

/// Causes trouble for busy executions and their clients, and checks the result.
fn check(engine: &Engine, trouble: impl FnOnce() + Send) {
    let began = Instant::now();
    let busy = Busy::begin(engine);
    let begun = began.elapsed();
    let is_over = AtomicBool::new(false);
    let refused = std::thread::scope(|scope| {
        let clients = scope.spawn(|| busy.ask_during(&is_over));
        trouble();
        is_over.store(true, Ordering::SeqCst);
        clients.join().unwrap()
    });
    let asked = began.elapsed();
    busy.assert_whole();
    eprintln!(
        "{refused} calls were told to ask again; begun {begun:.1?}, over {asked:.1?}, whole {:.1?}",
        began.elapsed()
    );
}

/// Lets the trouble last.
fn for_a_while(time: Duration) {
    let began = Instant::now();
    within(time * 2, "the trouble has lasted", || (began.elapsed() >= time).then_some(()));
}

#[test]
fn a_restart_of_the_server_is_waited_for() {
    let cluster = Cluster::start();
    let engine = Engine::start_at(&cluster.url("postgres"), &[]);
    check(&engine, || cluster.restart(Shutdown::Fast));
}

/// The lease runs out meanwhile: all guests are stopped, and begin again under a new lease.
#[test]
fn a_crash_of_the_server_for_longer_than_a_lease_is_waited_for() {
    let cluster = Cluster::start();
    let engine = Engine::start_at(&cluster.url("postgres"), &[("LEASE", "3s")]);
    check(&engine, || {
        cluster.stop(Shutdown::Immediate);
        for_a_while(Duration::from_secs(6));
        cluster.start_again();
    });
}

#[test]
fn sessions_that_are_terminated_are_opened_again() {
    let engine = Engine::start(test_engine::Database::Postgres);
    check(&engine, || {
        for _ in 0..6 {
            terminate_all_sessions(engine.database());
            for_a_while(Duration::from_millis(400));
        }
    });
}

fn terminate_all_sessions(url: &str) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
        let terminated: Vec<bool> = sqlx::query_scalar(
            "select pg_terminate_backend(pid) from pg_stat_activity
            where datname = current_database() and pid <> pg_backend_pid()",
        )
        .fetch_all(&mut connection)
        .await
        .unwrap();
        assert!(!terminated.is_empty(), "there were sessions to terminate");
    });
}

#[test]
fn commits_whose_connections_are_cut_happen_once() {
    let wire = Wire::to(&test_postgres::database());
    let engine = Engine::start_at(wire.url(), &[]);
    check(&engine, || {
        for _ in 0..60 {
            wire.cut_next_commits([Cut::AfterCommit, Cut::BeforeCommit]);
            until("both are cut", || (wire.cuts_left() == 0).then_some(()));
        }
    });
}

#[test]
fn a_slow_database_is_waited_for() {
    let wire = Wire::to(&test_postgres::database());
    let engine = Engine::start_at(wire.url(), &[]);
    check(&engine, || {
        wire.delay_statements(Duration::from_secs(2));
        for_a_while(Duration::from_secs(9));
        wire.delay_statements(Duration::ZERO);
    });
}

/// The engine does not know that it holds these claims: the answer to the COMMIT was lost, and then the database was
/// away for longer than the engine retries, but shorter than the lease.
#[test]
fn what_was_claimed_by_a_commit_without_an_answer_is_found_again() {
    let wire = Wire::to(&test_postgres::database());
    let engine = Engine::start_at(wire.url(), &[("LEASE", "60s"), ("HIBERNATE_AFTER", "10ms")]);
    engine.upload("test-guests");
    // The component has a number from here on, so a start has only one COMMIT.
    let _ = engine.run("sequence", &json!({"steps": 2}));
    let sleeping = engine.begin("sleeper", &json!(2_500));
    until("it sleeps in the database", || (engine.metric("cerebelum_executions_in_memory") == 0).then_some(()));
    let away = || {
        until("the COMMIT is lost", || wire.is_down().then_some(()));
        for_a_while(Duration::from_secs(8));
        wire.put_back();
    };
    wire.cut_next_commit_and_stay_down(Cut::AfterCommit);
    away();
    until("the sleeper that was claimed wakes", || is_completed(&engine, &sleeping));
    until("nothing else is to be committed", || (engine.metric("cerebelum_executions_in_memory") == 0).then_some(()));
    wire.cut_next_commit_and_stay_down(Cut::AfterCommit);
    let started = std::thread::scope(|scope| {
        let client = scope.spawn(|| engine.cli(&["start", "sequence", "--input", r#"{"steps":2}"#, "--id", "started"]));
        away();
        client.join().unwrap()
    });
    assert_polite(&started, &["start"]);
    until("what was started runs", || is_completed(&engine, "started"));
}

/// Whether the execution has completed; an engine that cannot answer yet is asked again.
fn is_completed(engine: &Engine, id: &str) -> Option<()> {
    let said = engine.cli(&["status", id]);
    (said.code == 0 && said.out.contains("completed")).then_some(())
}

/// A client is gone before its start is durable: the execution exists or not, and if it exists, it runs.
#[test]
fn a_start_whose_client_hangs_up_is_run_all_the_same() {
    use cerebelum_server::proto::StartRequest;
    use cerebelum_server::proto::engine_client::EngineClient;
    let wire = Wire::to(&test_postgres::database());
    let engine = Engine::start_at(wire.url(), &[("LEASE", "60s")]);
    engine.upload("test-guests");
    let _ = engine.run("sequence", &json!({"steps": 1}));
    wire.delay_statements(Duration::from_millis(300));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut client = EngineClient::connect(engine.url().to_owned()).await.unwrap();
        for number in 0.. {
            let request = StartRequest {
                workflow: "sequence".to_owned(),
                input: r#"{"steps":2}"#.to_owned(),
                execution_id: Some(format!("left-{number}")),
                ..StartRequest::default()
            };
            // Hung up at the look-up of the workflow, which is two statements with that of the id, while it is written,
            // and at any point between, until one is patient enough.
            let patience = Duration::from_millis(200 + 90 * number);
            if tokio::time::timeout(patience, client.start(request)).await.is_ok() {
                break;
            }
        }
    });
    wire.delay_statements(Duration::ZERO);
    let ids = || engine.json(&["list"]).as_array().cloned().unwrap_or_default();
    let listed = until("the starts are written", || Some(ids()).filter(|listed| listed.len() >= 2));
    for one in listed {
        let id = one["execution_id"].as_str().unwrap();
        assert_eq!(engine.wait_for_end(id)["status"], "completed");
    }
}

/// The database is not there when the engine starts: that is not a refusal, and the engine says so in one line.
#[test]
fn an_engine_without_its_database_says_so_and_ends() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let data = test_engine::scratch();
    let serving = std::process::Command::new(test_engine::program("cerebelum"))
        .args(["serve", "--listen", "127.0.0.1:0", "--database", &format!("postgres://postgres@{free}/none"), "--data"])
        .arg(&data.0)
        .output()
        .unwrap();
    let said = String::from_utf8(serving.stderr).unwrap();
    let line = said.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
    assert_eq!((serving.status.code(), said.matches("error: ").count()), (Some(4), 1), "{said}");
    assert!(line.contains(&free.to_string()) && line.contains("--database"), "{said}");
}
