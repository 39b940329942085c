//! Each alert fires in the trouble that it is for, and does not before: the trouble is caused on a real engine, which is
//! scraped meanwhile, and `promtool` evaluates the shipped rules over these scrapes.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::{Connection, SqliteConnection};
use test_engine::{Database, Engine, Signal, until};
use test_postgres::Wire;

use super::scrapes::{Timeline, scrape};
use crate::sql;

on_both_databases!(
    an_execution_that_is_parked_raises_an_alarm,
    a_database_that_goes_away_raises_three_alarms,
    slow_commits_raise_an_alarm,
    what_no_engine_takes_raises_an_alarm,
    more_failures_than_yesterday_raise_an_alarm,
);

/// How often the trouble is scraped where its traces have to go on for ten minutes, and the minutes between two scrapes.
const ROUNDS: u32 = 5;
const MINUTES: u32 = 3;

/// A timeline of a quarter of an hour on which the engine does ordinary work.
fn calm(engine: &Engine) -> Timeline {
    let mut timeline = Timeline::default();
    for _ in 0..=ROUNDS {
        assert_eq!(engine.run("sequence", &json!({"steps": 3}))["output"], json!(3));
        assert_eq!(engine.run("sleeper", &json!(1))["output"], json!("awake"));
        timeline.add(MINUTES, scrape(engine));
    }
    timeline
}

fn wait(time: Duration) {
    let began = Instant::now();
    until("the time is over", || (began.elapsed() >= time).then_some(()));
}

fn an_execution_that_is_parked_raises_an_alarm(database: Database) {
    let engine = Engine::start_with(database, &[("HIBERNATE_AFTER", "1ms")]);
    engine.upload("test-guests");
    let mut timeline = calm(&engine);
    let before = timeline.end();
    let id = engine.begin("listening", &json!({"names": ["go"]}));
    until("it is out of memory", || (engine.metric("cerebelum_executions_in_memory") == 0).then_some(()));
    sql(&engine, &format!("update executions set facts = '[' where id = '{id}'"));
    engine.ok(&["signal", &id, "go"]);
    engine.wait_for(&id, &["parked"]);
    timeline.add(1, scrape(&engine));
    timeline.assert_fires("CerebelumParked", before, before + 7);
}

/// PostgreSQL behind a wire that is taken down, or a file that is moved away.
fn a_database_that_goes_away_raises_three_alarms(database: Database) {
    let settings = [("LEASE", "6s")];
    let wire = (database == Database::Postgres).then(|| Wire::to(&test_postgres::database()));
    let engine = match &wire {
        Some(wire) => Engine::start_at(wire.url(), &settings),
        None => Engine::start_with(database, &settings),
    };
    engine.upload("test-guests");
    let mut timeline = calm(&engine);
    let before = timeline.end();
    match &wire {
        Some(wire) => wire.take_down(),
        None => {
            let file = engine.database().trim_start_matches("sqlite:").to_owned();
            std::fs::rename(&file, format!("{file}.away")).unwrap();
        }
    }
    timeline.add(1, scrape(&engine));
    until("the engine knows that it has no lease", || {
        let is_ready = scrape(&engine).is_some_and(|now| now["cerebelum_ready"] > 0.5);
        (!is_ready).then_some(())
    });
    for _ in 0..ROUNDS {
        let errors = || engine.metric("cerebelum_database_errors_total");
        let so_far = errors();
        until("more operations have failed", || (errors() > so_far).then_some(()));
        timeline.add(MINUTES, scrape(&engine));
    }
    // The file of SQLite is still open, and can be read.
    let is_absent = timeline.last("cerebelum_executions").is_empty();
    assert_eq!(is_absent, database == Database::Postgres, "what the database does not tell is absent");
    for alert in ["CerebelumNotReady", "CerebelumLeaseShort", "CerebelumDatabaseErrors"] {
        timeline.assert_fires(alert, before, timeline.end());
    }
}

#[test]
fn an_engine_that_is_gone_raises_an_alarm() {
    let mut engine = Engine::start(Database::Sqlite);
    engine.upload("test-guests");
    let mut timeline = calm(&engine);
    let before = timeline.end();
    engine.kill();
    timeline.add(1, scrape(&engine));
    timeline.assert_fires("CerebelumNotReady", before, before + 4);
}

/// Statements that take a while to reach PostgreSQL, or another writer on the file of SQLite.
fn slow_commits_raise_an_alarm(database: Database) {
    const SLOW: Duration = Duration::from_millis(400);
    let wire = (database == Database::Postgres).then(|| Wire::to(&test_postgres::database()));
    let engine = match &wire {
        Some(wire) => Engine::start_at(wire.url(), &[]),
        None => Engine::start(database),
    };
    engine.upload("test-guests");
    let mut timeline = calm(&engine);
    let before = timeline.end();
    for _ in 0..ROUNDS {
        let run = || assert_eq!(engine.run("sequence", &json!({"steps": 3}))["output"], json!(3));
        match &wire {
            Some(wire) => {
                wire.delay_statements(SLOW);
                run();
                wire.delay_statements(Duration::ZERO);
            }
            None => std::thread::scope(|scope| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let mut other = runtime.block_on(SqliteConnection::connect(engine.database())).unwrap();
                runtime.block_on(sqlx::raw_sql("begin immediate").execute(&mut other)).unwrap();
                let running = scope.spawn(run);
                wait(SLOW);
                runtime.block_on(sqlx::raw_sql("rollback").execute(&mut other)).unwrap();
                running.join().unwrap();
            }),
        }
        timeline.add(MINUTES, scrape(&engine));
    }
    timeline.assert_fires("CerebelumCommitsSlow", before, timeline.end());
}

/// A machine that gives the engine no time, again and again: timers fire late.
#[test]
fn late_wake_ups_raise_an_alarm() {
    let engine = Engine::start_with(Database::Sqlite, &[("HIBERNATE_AT_ONCE", "1ms")]);
    engine.upload("test-guests");
    let mut timeline = calm(&engine);
    let before = timeline.end();
    for _ in 0..ROUNDS {
        let id = engine.begin("sleeper", &json!(200));
        engine.send(Signal::STOP);
        wait(Duration::from_millis(1_500));
        engine.send(Signal::CONT);
        assert_eq!(engine.wait_for_end(&id)["output"], json!("awake"));
        timeline.add(MINUTES, scrape(&engine));
    }
    timeline.assert_fires("CerebelumWakesLate", before, timeline.end());
}

/// An engine whose one place is taken. The age of what waits is moved in the database instead of being waited for.
fn what_no_engine_takes_raises_an_alarm(database: Database) {
    let engine = Engine::start_with(database, &[("ACTIVATIONS_MAX", "1"), ("HIBERNATE_AFTER", "1h")]);
    engine.upload("test-guests");
    let mut timeline = Timeline::default();
    timeline.add(1, scrape(&engine));
    let holder = engine.begin("listening", &json!({"names": ["go"]}));
    engine.wait_for(&holder, &["waiting"]);
    let id = engine.begin("sequence", &json!({"steps": 2}));
    timeline.add(1, scrape(&engine));
    let before = timeline.end();
    sql(&engine, &format!("update executions set stamp = stamp - 60000 where id = '{id}'"));
    timeline.add(1, scrape(&engine));
    let due = timeline.last("cerebelum_due_executions");
    assert_eq!(due.len(), 1, "{due:?}");
    assert!((due[0] - 1.0).abs() < 0.5, "one waits: {due:?}");
    timeline.assert_fires("CerebelumBacklog", before, before + 3);
}

/// Steps that compute until they are terminated have all the memory for guests, and others wait for it.
#[test]
fn guests_that_wait_for_a_place_raise_an_alarm() {
    let engine = Engine::start_with(Database::Sqlite, &[("MEMORY_BYTES_MAX", "12582912")]);
    engine.upload("test-guests");
    let mut timeline = calm(&engine);
    let before = timeline.end();
    let slow = || {
        let now = scrape(&engine).unwrap();
        let of = |series: &str| now[&format!("cerebelum_guest_start_seconds_{series}")];
        of("count") - of("bucket{le=\"1.0\"}")
    };
    for _ in 0..ROUNDS {
        let so_far = slow();
        let loops: Vec<String> = (0..8).map(|_| engine.begin("hostile_step", &json!("loop"))).collect();
        wait(Duration::from_millis(1_300));
        // Those that had a place go, others get it.
        for one in &loops {
            engine.ok(&["terminate", one]);
        }
        until("a guest has waited for more than a second", || (slow() > so_far).then_some(()));
        timeline.add(MINUTES, scrape(&engine));
    }
    timeline.assert_fires("CerebelumGuestsWait", before, timeline.end());
}

/// A guest that keeps everything it is told.
#[test]
fn guests_that_fill_their_memory_raise_an_alarm() {
    let settings = [("MEMORY_BYTES_MAX", "8388608"), ("HIBERNATE_AFTER", "1h")];
    let engine = Engine::start_with(Database::Sqlite, &settings);
    engine.upload("test-guests");
    let mut timeline = calm(&engine);
    let before = timeline.end();
    let id = engine.begin("listening", &json!({"names": vec!["more"; 200]}));
    let data = json!("x".repeat(100_000)).to_string();
    let used = || {
        let now = scrape(&engine).unwrap();
        now["cerebelum_guest_memory_bytes"] / now["cerebelum_guest_memory_limit_bytes"]
    };
    until("the memory is full", || {
        engine.ok(&["signal", &id, "more", "--data", &data]);
        (used() > 0.92).then_some(())
    });
    timeline.add(1, scrape(&engine));
    timeline.assert_fires("CerebelumGuestMemoryFull", before, before + 13);
}

/// An execution that is told much and reads none of it.
#[test]
fn executions_that_hold_much_raise_an_alarm() {
    let settings = [("HOST_BYTES_MAX", "8388608"), ("HIBERNATE_AFTER", "1h")];
    let engine = Engine::start_with(Database::Sqlite, &settings);
    engine.upload("test-guests");
    let mut timeline = calm(&engine);
    let before = timeline.end();
    let used = || {
        let now = scrape(&engine).unwrap();
        now["cerebelum_host_memory_bytes{size=\"large\"}"] / now["cerebelum_host_memory_limit_bytes{size=\"large\"}"]
    };
    let id = engine.begin("listening", &json!({"names": ["go"]}));
    let data = json!("x".repeat(100_000)).to_string();
    until("the memory is full", || {
        engine.ok(&["signal", &id, "another", "--data", &data]);
        (used() > 0.92).then_some(())
    });
    timeline.add(1, scrape(&engine));
    timeline.assert_fires("CerebelumHostMemoryFull", before, before + 13);
}

/// A day lies between the two hours only on the timeline.
fn more_failures_than_yesterday_raise_an_alarm(database: Database) {
    const DAY: u32 = 24 * 60;
    let engine = Engine::start(database);
    engine.upload("test-guests");
    let fail = |times: usize| {
        for _ in 0..times {
            assert_eq!(engine.run("hostile", &json!("unknown"))["status"], "failed");
        }
    };
    assert_eq!(engine.run("sequence", &json!({"steps": 1}))["output"], json!(1));
    fail(1);
    let mut timeline = Timeline::default();
    timeline.add(0, scrape(&engine));
    fail(4);
    timeline.add(30, scrape(&engine));
    // As many as yesterday in the same hour, twelve hours later: nothing to look at.
    fail(4);
    timeline.add(DAY / 2, scrape(&engine));
    let before = timeline.end() + 30;
    fail(20);
    timeline.add(DAY / 2, scrape(&engine));
    timeline.assert_fires("CerebelumFailuresRise", before, timeline.end() + 20);
}

#[test]
fn a_history_that_grows_long_raises_an_alarm() {
    let engine = Engine::start(Database::Sqlite);
    engine.upload("test-guests");
    let mut timeline = calm(&engine);
    let before = timeline.end();
    let steps = 20_100;
    assert_eq!(engine.run("sequence", &json!({"steps": steps}))["output"], json!(steps));
    timeline.add(1, scrape(&engine));
    timeline.assert_fires("CerebelumHistoryLong", before, before + 1);
}

/// A reader of the log that does not read.
#[test]
fn a_log_that_is_not_read_raises_an_alarm() {
    let mut engine = Engine::start(Database::Sqlite);
    engine.upload("test-guests");
    engine.kill();
    assert!(engine.launch_logging_to(Stdio::piped(), &[("RUST_LOG", "trace")]), "it starts");
    let mut timeline = Timeline::default();
    timeline.add(1, scrape(&engine));
    let before = timeline.end();
    until("lines are lost", || {
        assert_eq!(engine.run("sequence", &json!({"steps": 200}))["output"], json!(200));
        (engine.metric("cerebelum_log_lines_lost_total") > 0).then_some(())
    });
    timeline.add(1, scrape(&engine));
    timeline.assert_fires("CerebelumLogLinesLost", before, before + 1);
}

/// A collector that is away.
#[test]
fn spans_that_are_lost_raise_an_alarm() {
    let mut engine = Engine::start(Database::Sqlite);
    engine.upload("test-guests");
    engine.kill();
    // This port has no listener any more.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    engine.restart_with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{gone}"))]);
    let mut timeline = Timeline::default();
    timeline.add(1, scrape(&engine));
    let before = timeline.end();
    assert_eq!(engine.run("sequence", &json!({"steps": 3}))["output"], json!(3));
    until("spans are lost", || (engine.metric("cerebelum_spans_dropped_total") > 0).then_some(()));
    timeline.add(1, scrape(&engine));
    timeline.assert_fires("CerebelumSpansDropped", before, before + 1);
}
