//! What can move, moves (L22): no single execution, batch or log line keeps the engine from the others.

use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use sqlx::{Connection, Executor};
use test_engine::{Database, Engine, FAILPOINT, Pace, http_get, until, within};

use crate::sql;

on_both_databases!(
    l22_what_the_database_never_takes_is_parked_alone,
    l22_what_breaks_a_rule_of_the_database_is_parked_alone,
    l22_a_full_engine_takes_the_next_as_soon_as_one_leaves,
    l22_a_log_that_cannot_be_written_stops_nothing,
);

/// The SQL states with which a server refuses statements: too slow, too large, out of memory, not supported, an
/// internal error, an exception.
const STATES: [&str; 6] = ["57014", "54000", "53200", "0A000", "XX000", "P0001"];

/// Makes the database refuse a second chunk of executions whose id begins with `poison-`.
fn refuse(engine: &Engine, database: Database) {
    match database {
        Database::Sqlite => drop(sql(
            engine,
            "create trigger refuse before insert on history
            when new.first_position > 1
                and (select id from executions where execution_no = new.execution_no) like 'poison-%'
            begin select raise(abort, 'no'); end",
        )),
        Database::Postgres => {
            sql(
                engine,
                "create function refuse() returns trigger language plpgsql as $$
                declare
                    word text;
                begin
                    select e.id into word from executions e where e.execution_no = new.execution_no;
                    if new.first_position > 1 and word like 'poison-%' then
                        raise exception 'no' using errcode = substr(word, 8);
                    end if;
                    return new;
                end $$",
            );
            sql(engine, "create trigger refuse before insert on history for each row execute function refuse()");
        }
    }
}

/// Runs what others run, to its end.
fn go_on(engine: &Engine) {
    let sleeper = engine.begin("sleeper", &json!(50));
    assert_eq!(engine.run("sequence", &json!({"steps": 20}))["output"], json!(20));
    assert_eq!(engine.wait_for_end(&sleeper)["output"], json!("awake"));
}

fn l22_what_the_database_never_takes_is_parked_alone(database: Database) {
    let engine = Engine::start_with(database, &[("LEASE", "3s")]);
    engine.upload("test-guests");
    let mut others = Pace::of(|| go_on(&engine));
    refuse(&engine, database);
    let poisoned: Vec<String> = STATES.iter().map(|state| format!("poison-{state}")).collect();
    for id in &poisoned {
        engine.ok(&["start", "sleeper", "--input", "300", "--id", id]);
    }
    until("what cannot be written is parked, and others go on meanwhile", || {
        others.again(|| go_on(&engine));
        poisoned.iter().all(|id| engine.status(id)["status"] == "parked").then_some(())
    });
    others.assert_kept();
    for id in &poisoned {
        let parked = engine.status(id);
        assert_eq!(parked["failure"]["kind"], "engine-error", "{parked:#}");
    }
    assert_eq!(http_get(&format!("{}/healthz", engine.url())), "ready\n");
    sql(&engine, if database == Database::Sqlite { "drop trigger refuse" } else { "drop trigger refuse on history" });
    for id in &poisoned {
        engine.ok(&["resume", id]);
        assert_eq!(engine.wait_for_end(id)["output"], json!("awake"), "nothing was lost");
    }
}

/// The SQL states of what passes: transactions that were rolled back in favour of others, a lock that was not granted, too
/// many connections, a full disk, an error of the operating system.
const PASSING: [&str; 5] = ["40001", "55P03", "53300", "53100", "58030"];

const LEASE: Duration = Duration::from_secs(3);

/// A server that does not take the batches of some executions now takes those of others, and these once it can.
#[test]
fn l22_what_the_database_does_not_take_now_keeps_no_other_one_waiting() {
    let engine = Engine::start_with(Database::Postgres, &[("LEASE", "3s")]);
    engine.upload("test-guests");
    let mut others = Pace::of(|| go_on(&engine));
    refuse(&engine, Database::Postgres);
    let held: Vec<String> = PASSING.iter().map(|state| format!("poison-{state}")).collect();
    for id in &held {
        engine.ok(&["start", "sleeper", "--input", "300", "--id", id]);
    }
    // While the batches are looked for, others wait: for three leases at most, although there are five of them.
    let since = std::time::Instant::now();
    while since.elapsed() < Duration::from_secs(10) {
        let began = std::time::Instant::now();
        go_on(&engine);
        assert!(began.elapsed() < 3 * LEASE, "{:?}", began.elapsed());
    }
    while since.elapsed() < Duration::from_secs(20) {
        others.again(|| go_on(&engine));
    }
    others.assert_kept();
    assert_eq!(http_get(&format!("{}/healthz", engine.url())), "ready\n");
    for id in &held {
        let status = engine.status(id)["status"].clone();
        assert!(!["parked", "completed"].map(serde_json::Value::from).contains(&status), "{id}: {status}");
    }
    sql(&engine, "drop trigger refuse on history");
    for id in &held {
        assert_eq!(engine.wait_for_end(id)["output"], json!("awake"), "a person has nothing to do");
    }
}

/// The rule is broken by what batches share: the numbers of the workflows that they begin.
fn l22_what_breaks_a_rule_of_the_database_is_parked_alone(database: Database) {
    let engine = Engine::start_with(database, &[("LEASE", "3s")]);
    engine.upload("test-guests");
    let mut others = Pace::of(|| go_on(&engine));
    let (rule, end) = match database {
        Database::Sqlite => (
            "create trigger refuse before insert on programs when new.workflow like '%gated'
            begin select raise(abort, 'no'); end",
            "drop trigger refuse",
        ),
        Database::Postgres => (
            "alter table programs add constraint refuse check (workflow not like '%gated')",
            "alter table programs drop constraint refuse",
        ),
    };
    sql(&engine, rule);
    let id = engine.begin("gated_child", &json!("http://127.0.0.1:9"));
    until("what cannot be written is parked, and others go on meanwhile", || {
        others.again(|| go_on(&engine));
        (engine.status(&id)["status"] == "parked").then_some(())
    });
    others.assert_kept();
    assert_eq!(engine.status(&id)["failure"]["kind"], "engine-error");
    assert_eq!(http_get(&format!("{}/healthz", engine.url())), "ready\n");
    sql(&engine, end);
    engine.ok(&["resume", &id]);
    engine.wait_for(&id, &["waiting"]);
}

/// How many executions wait for the only place. Where the next one was found by the backstop, each waited for two seconds.
const WAITING: usize = 20;

fn l22_a_full_engine_takes_the_next_as_soon_as_one_leaves(database: Database) {
    let mut engine = Engine::start_with(database, &[("ACTIVATIONS_MAX", "1"), ("HIBERNATE_AFTER", "1h")]);
    engine.upload("test-guests");
    let holder = engine.begin("listening", &json!({"names": ["go"]}));
    engine.wait_for(&holder, &["waiting"]);
    let ids: Vec<String> = (0..WAITING).map(|_| engine.begin("sequence", &json!({"steps": 2}))).collect();
    engine.kill_and_restart();
    within(Duration::from_secs(WAITING as u64), "all have had their turn", || {
        ids.iter().all(|id| engine.status(id)["status"] == "completed").then_some(())
    });
}

/// Logs without a reader: a pipe whose other end is gone, a full disk, a full pipe.
fn l22_a_log_that_cannot_be_written_stops_nothing(database: Database) {
    let mut engine = Engine::start(database);
    engine.upload("test-guests");
    let (unread, full_pipe) = std::io::pipe().unwrap();
    let (gone, dead_pipe) = std::io::pipe().unwrap();
    drop(gone);
    let full_disk = File::options().write(true).open("/dev/full").unwrap();
    let places: [(&str, Stdio); 3] =
        [("dead pipe", dead_pipe.into()), ("full disk", full_disk.into()), ("full pipe", full_pipe.into())];
    // With a log that can be written.
    let mut stops = Pace::of(|| {
        assert!(engine.terminate().success());
        engine.restart();
    });
    for (place, log) in places {
        engine.terminate();
        assert!(engine.launch_logging_to(log, &[("RUST_LOG", "trace")]), "{place}");
        for _ in 0..5 {
            let sleeper = engine.begin("sleeper", &json!(50));
            assert_eq!(engine.run("sequence", &json!({"steps": 50}))["output"], json!(50), "{place}");
            assert_eq!(engine.wait_for_end(&sleeper)["output"], json!("awake"), "{place}");
        }
        stops.again(|| {
            assert!(engine.terminate().success(), "{place}");
            engine.restart();
        });
    }
    stops.assert_kept();
    drop(unread);
}

/// Found by kills with many Python executions: an execution that may run only alone waited for all others, and some of
/// these waited for places that the rest could not give up.
#[test]
fn l22_a_suspect_among_more_guests_than_places_keeps_nobody_waiting() {
    let mut engine = Engine::start(Database::Sqlite);
    engine.upload("test-python");
    let ids: Vec<String> = (0..130).map(|_| engine.begin("gathers", &json!({}))).collect();
    engine.kill();
    // The first execution to be picked up is on a thread when the engine dies, twice.
    for _ in 0..2 {
        if engine.launch(&[(FAILPOINT, "guest-running:1")]) {
            engine.wait_for_death();
        }
    }
    engine.restart();
    within(Duration::from_secs(120), "all have ended", || {
        let of = |id: &String| engine.status(id)["status"].as_str().unwrap().to_owned();
        let open: Vec<(&String, String)> =
            ids.iter().map(|id| (id, of(id))).filter(|(_, is)| is != "completed").collect();
        // An execution that was on a thread at the kill as well has died for the third time, alone: a person resumes
        // it.
        for (id, _) in open.iter().filter(|(_, is)| is == "parked") {
            engine.ok(&["resume", id]);
        }
        open.is_empty().then_some(())
    });
    assert_eq!(http_get(&format!("{}/healthz", engine.url())), "ready\n");
}

/// Found by kills with many Python executions: those without a place waited for the end of those that had one.
#[test]
fn l22_executions_that_are_never_idle_share_the_places() {
    let engine = Engine::start(Database::Sqlite);
    engine.upload("test-python");
    let ids: Vec<String> = (0..90).map(|_| engine.begin("busy", &json!(1_000_000))).collect();
    let moved = || engine.json(&["list", "--attr", "moved=true", "--limit", "200"]).as_array().unwrap().len();
    within(Duration::from_secs(90), "each has moved", || (moved() == ids.len()).then_some(()));
}

/// `healthz` says that nothing is written any more, although the lease is renewed all the time.
#[test]
fn l22_an_engine_whose_batches_wait_is_not_ready() {
    let engine = Engine::start_with(Database::Postgres, &[("LEASE", "3s")]);
    engine.upload("test-guests");
    let healthz = || http_get(&format!("{}/healthz", engine.url()));
    let sleeper = engine.begin("sleeper", &json!(300));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut holder = runtime.block_on(sqlx::PgConnection::connect(engine.database())).unwrap();
    runtime.block_on(holder.execute("begin; lock table history in access exclusive mode")).unwrap();
    let said = until("it is not ready", || Some(healthz()).filter(|said| said != "ready\n"));
    assert!(said.contains("a group for the database has waited for"), "{said}");
    runtime.block_on(holder.execute("commit")).unwrap();
    until("it is ready again", || (healthz() == "ready\n").then_some(()));
    assert_eq!(engine.wait_for_end(&sleeper)["output"], json!("awake"));
}
