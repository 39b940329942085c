//! Two engines on one PostgreSQL: whatever happens to one of them, each execution has one owner and one outcome.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::Connection;
use test_engine::{Cloud, Database, Engine, Signal, assert_one_writer, until};

use crate::assert_repeats_are_alike;

const LEASE: Duration = Duration::from_secs(3);

fn two_engines() -> (Engine, Engine) {
    let first = Engine::start_with(Database::Postgres, &[("LEASE", "3s")]);
    first.upload("test-guests");
    let second = Engine::beside(&first);
    (first, second)
}

/// Fencing (L11): the engine was stopped for three leases in the middle of its steps, others went on, and it does not
/// know.
#[test]
fn l11_an_engine_stopped_for_three_leases_writes_nothing_when_it_goes_on() {
    let cloud = Cloud::start();
    let (first, second) = two_engines();
    let paths = |number: u32| [format!("notes/a{number}"), format!("slow/1200/{number}"), format!("notes/b{number}")];
    let posts = |number| json!({"base_url": cloud.url(), "paths": paths(number)});
    let ids: Vec<String> = (0..12).map(|number| first.begin("posts", &posts(number))).collect();
    until("all are in their slow step", || (cloud.requests("POST", "/slow").len() == ids.len()).then_some(()));
    first.send(Signal::STOP);
    let stopped = Instant::now();
    for id in &ids {
        assert_eq!(second.wait_for_end(id)["output"], json!(3), "the other engine finishes what it takes over");
    }
    let before: Vec<Vec<Value>> = ids.iter().map(|id| second.history(id)).collect();
    until("three leases are over", || (stopped.elapsed() > 3 * LEASE).then_some(()));
    // It learns that its lease is over only after it has tried to write the answers that came meanwhile.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut meddler = runtime.block_on(sqlx::PgConnection::connect(first.database())).unwrap();
    let lock = "begin; lock table leases in access exclusive mode";
    runtime.block_on(sqlx::raw_sql(lock).execute(&mut meddler)).unwrap();
    first.send(Signal::CONT);
    let back = Instant::now();
    until("it has tried", || (back.elapsed() > Duration::from_millis(500)).then_some(()));
    runtime.block_on(sqlx::raw_sql("commit").execute(&mut meddler)).unwrap();
    until("its late batches are refused", || (first.metric("cerebelum_batches_refused_total") >= 1).then_some(()));
    // It takes a new lease and works again.
    assert_eq!(first.run("sequence", &json!({"steps": 3}))["output"], json!(3));
    for (id, before) in ids.iter().zip(before) {
        assert_one_writer(&before);
        assert_eq!(first.history(id), before, "nothing was written after the end");
        assert_eq!(first.status(id)["steps"].as_array().unwrap().len(), 3);
    }
    assert_repeats_are_alike(&cloud.ledger());
    let asked = |path: &str| cloud.requests("POST", path).len();
    assert_eq!((asked("/notes/a"), asked("/notes/b")), (ids.len(), ids.len()), "only what was under way is repeated");
    assert_eq!(asked("/slow"), 2 * ids.len());
}

/// The same around the moment at which the lease ends and the other engine takes over.
#[test]
fn engines_that_come_back_while_others_take_over_share_nothing() {
    let cloud = Cloud::start();
    let (first, second) = two_engines();
    let nap = json!({"base_url": cloud.url(), "sleep_ms": 150, "naps": 50});
    let paths: Vec<String> = (0..40).map(|number| format!("slow/200/{number}")).collect();
    let posts = json!({"base_url": cloud.url(), "paths": paths});
    let engines = [&first, &second];
    let ids: Vec<String> = (0..12)
        .map(|number| match number % 4 {
            0 | 1 => engines[number % 2].begin("naps", &nap),
            _ => engines[number % 2].begin("posts", &posts),
        })
        .collect();
    until("all are under way", || (cloud.ledger().len() >= ids.len()).then_some(()));
    // The other engine looks for leases that ran out every 750 ms.
    for (round, engine) in (0..6_u32).zip(engines.iter().cycle()) {
        engine.send(Signal::STOP);
        let (stopped, back) = (Instant::now(), LEASE - Duration::from_millis(200) + Duration::from_millis(170) * round);
        until("its lease is about to end", || (stopped.elapsed() >= back).then_some(()));
        engine.send(Signal::CONT);
    }
    for id in &ids {
        let done = until("it ends", || Some(second.status(id)).filter(|status| !status["ended_at"].is_null()));
        assert_eq!(done["status"], "completed", "{done:#}");
        assert_one_writer(&second.history(id));
        assert_eq!(first.history(id), second.history(id));
    }
    assert_repeats_are_alike(&cloud.ledger());
    let keys: HashSet<String> = cloud.ledger().iter().map(|request| request["idempotency_key"].to_string()).collect();
    assert_eq!(keys.len(), 6 * 50 + 6 * 40, "each effect has one key, however often it was repeated");
}

/// A waiting execution stays warm in memory as long as it has its claim, and no longer.
#[test]
fn l19_warm_guests_end_with_their_claims() {
    const SLEEPERS: u64 = 5;
    let settings = [("LEASE", "3s"), ("HIBERNATE_AFTER", "1h")];
    let first = Engine::start_with(Database::Postgres, &settings);
    first.upload("test-guests");
    let live = |engine: &Engine| engine.metric("cerebelum_guests");
    // A sleep of hours would leave memory at once, whatever `hibernate_after` says.
    let ids: Vec<String> = (0..SLEEPERS).map(|_| first.begin("sleeper", &json!(600_000))).collect();
    for id in &ids {
        first.wait_for(id, &["sleeping"]);
    }
    assert_eq!(live(&first), SLEEPERS, "they are warm");
    // A claim ends with its execution.
    first.ok(&["terminate", &ids[0]]);
    let _ = first.wait_for_end(&ids[0]);
    until("its guest is gone", || (live(&first) == SLEEPERS - 1).then_some(()));
    // All claims end with the lease.
    first.send(Signal::STOP);
    let stopped = Instant::now();
    until("the lease is over", || (stopped.elapsed() > 2 * LEASE).then_some(()));
    first.send(Signal::CONT);
    until("no guest outlives its claim", || (live(&first) == 0).then_some(()));
    for id in &ids[1..] {
        assert_eq!(first.status(id)["status"], "sleeping", "nothing was lost");
    }
}

/// With a short `hibernate_after` no guest stays warm, and a sleeping execution has neither a claim nor a guest.
#[test]
fn l19_who_hibernates_has_neither_claim_nor_guest() {
    let engine = Engine::start_with(Database::Sqlite, &[("HIBERNATE_AFTER", "10ms")]);
    engine.upload("test-guests");
    let ids: Vec<String> = (0..5).map(|_| engine.begin("sleeper", &json!(86_400_000))).collect();
    for id in &ids {
        engine.wait_for(id, &["sleeping"]);
    }
    until("all claims are given back", || (engine.metric("cerebelum_executions_in_memory") == 0).then_some(()));
    assert_eq!(engine.metric("cerebelum_guests"), 0);
}

/// A graceful stop: all claims are given back, so that no execution waits for a lease to run out.
#[test]
fn an_engine_told_to_stop_hands_over_and_no_lease_has_to_run_out() {
    let cloud = Cloud::start();
    // With leases this long, a wait for one would be noticed.
    const LONG_LEASE: Duration = Duration::from_secs(600);
    let mut first = Engine::start_with(Database::Postgres, &[("LEASE", "600s")]);
    first.upload("test-guests");
    let second = Engine::beside(&first);
    let nap = json!({"base_url": cloud.url(), "sleep_ms": 100, "naps": 30});
    let mut ids: Vec<String> = (0..8).map(|_| first.begin("naps", &nap)).collect();
    let slow = json!({"base_url": cloud.url(), "paths": ["slow/2000/x", "notes/x"]});
    ids.extend((0..4).map(|_| first.begin("posts", &slow)));
    until("all are under way", || (cloud.ledger().len() >= 8 * 4 + 4).then_some(()));
    first.put_away();
    let handed_over = Instant::now();
    let events = || -> Vec<(String, u64)> {
        let listed = second.json(&["list"]);
        let listed = listed.as_array().unwrap().iter();
        listed.map(|one| (one["execution_id"].to_string(), one["events"].as_u64().unwrap())).collect()
    };
    until("the other engine has all of them", || {
        (second.metric("cerebelum_executions_in_memory") >= ids.len() as u64).then_some(())
    });
    assert!(handed_over.elapsed() < LONG_LEASE / 2, "taken over after {:?}", handed_over.elapsed());
    let before = events();
    until("they go on", || (events().iter().filter(|one| !before.contains(one)).count() >= 8).then_some(()));
    for id in &ids {
        assert_eq!(second.wait_for_end(id)["status"], "completed");
        assert_one_writer(&second.history(id));
    }
    assert_repeats_are_alike(&cloud.ledger());
}

/// An execution id that is started twice is one execution.
#[test]
fn fifty_clients_with_one_id_start_one_execution() {
    let cloud = Cloud::start();
    let (first, second) = two_engines();
    let input = json!({"base_url": cloud.url(), "paths": ["notes/one", "slow/300/two"]}).to_string();
    let start = |engine: &Engine| {
        let said = engine.cli(&["start", "posts", "--id", "once", "--input", &input, "--json"]);
        assert_eq!(said.code, 0, "{said:?}");
        let summary: Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!(summary["execution_id"], "once", "all have the same answer, also when it has ended");
    };
    std::thread::scope(|scope| {
        [&first, &second].into_iter().cycle().take(50).for_each(|engine| _ = scope.spawn(|| start(engine)));
    });
    assert_eq!(second.wait_for_end("once")["output"], json!(2));
    start(&second);
    let history = first.history("once");
    assert_one_writer(&history);
    assert_eq!(history.iter().filter(|event| event["kind"] == "ExecutionStarted").count(), 1);
    assert_eq!(cloud.ledger().len(), 2, "one execution ran: {:#?}", cloud.ledger());
    let other = first.cli(&["start", "posts", "--id", "once", "--input", r#"{"base_url":"","paths":[]}"#]);
    assert_eq!((other.code, other.err.lines().count()), (5, 1), "{other:?}");
    let listed = until("it is listed", || second.json(&["list"]).as_array().cloned());
    assert_eq!(listed.len(), 1);
}
