//! Rows that the engine did not write: their execution is parked with the right words, and the others go on. After the
//! repair it goes on as well.

use cerebelum_server::proto::engine_client::EngineClient;
use cerebelum_server::proto::{StartRequest, start_many_response};
use serde_json::{Value, json};
use test_engine::{Cloud, Database, Engine, until};

use crate::sql;

on_both_databases!(
    what_cannot_be_read_is_parked_alone_and_goes_on_after_the_repair,
    a_component_that_is_gone_is_missed,
    a_head_that_cannot_be_read_is_in_nobody_elses_way,
    whatever_is_damaged_is_parked_in_time_and_can_be_ended_and_removed,
    l03_the_seed_of_an_execution_is_shown_nowhere
);

/// The SQL condition for the rows of an execution.
pub(crate) fn of(id: &str) -> String {
    format!("execution_no = (select execution_no from executions where id = '{id}')")
}

/// The chunks of a history: first and last position, and the events.
fn chunks(engine: &Engine, id: &str) -> Vec<(u64, u64, String)> {
    let rows = sql(
        engine,
        &format!(
            "select cast(first_position as text), cast(last_position as text), events from history where {}
            order by first_position",
            of(id)
        ),
    );
    rows.into_iter().map(|row| (row[0].parse().unwrap(), row[1].parse().unwrap(), row[2].clone())).collect()
}

/// The chunk in the middle of a history that contains the end of a step.
fn middle_chunk(engine: &Engine, id: &str) -> (u64, u64, String) {
    let chunks = chunks(engine, id);
    let inner = &chunks[1..chunks.len() - 1];
    inner.iter().find(|(.., events)| events.contains("StepCompleted")).expect("a step ended there").clone()
}

/// Writes other events into the first matching chunk, with a correct checksum.
pub(crate) fn rewrite(engine: &Engine, id: &str, which: impl Fn(&str) -> bool, change: impl Fn(&str) -> String) {
    let chunks = chunks(engine, id);
    let chunk = chunks.iter().find(|(.., events)| which(events)).expect("there is such a chunk");
    write_chunk(engine, id, chunk, &change(&chunk.2));
}

fn write_chunk(engine: &Engine, id: &str, (first, last, events): &(u64, u64, String), changed: &str) {
    assert_ne!(changed, events);
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&1_u32.to_le_bytes());
    hasher.update(&first.to_le_bytes());
    hasher.update(&last.to_le_bytes());
    hasher.update(changed.as_bytes());
    let (checksum, changed) = (hasher.finalize().cast_signed(), changed.replace('\'', "''"));
    let place = format!("{} and first_position = {first}", of(id));
    sql(engine, &format!("update history set events = '{changed}', checksum = {checksum} where {place}"));
}

fn rewrite_middle(engine: &Engine, id: &str, change: impl Fn(&str) -> String) {
    let chunk = middle_chunk(engine, id);
    write_chunk(engine, id, &chunk, &change(&chunk.2));
}

/// A way to break an execution, and the words with which it is parked.
struct Broken {
    id: &'static str,
    table: &'static str,
    words: &'static [&'static str],
    how: fn(&Engine, &str),
}

const BROKEN: [Broken; 5] = [
    Broken {
        id: "flipped",
        table: "history",
        words: &["corrupt-history", "checksum"],
        how: |engine, id| {
            let (first, ..) = middle_chunk(engine, id);
            let place = format!("{} and first_position = {first}", of(id));
            let flipped = "substr(events, 1, 20) || '~' || substr(events, 22)";
            sql(engine, &format!("update history set events = {flipped} where {place}"));
        },
    },
    Broken {
        id: "torn",
        table: "history",
        words: &["corrupt-history", "is missing"],
        how: |engine, id| {
            let (first, ..) = middle_chunk(engine, id);
            sql(engine, &format!("delete from history where {} and first_position = {first}", of(id)));
        },
    },
    Broken {
        id: "thinned",
        table: "history",
        words: &["corrupt-history", "events where"],
        how: |engine, id| {
            rewrite_middle(engine, id, |events| {
                let mut events: Vec<Value> = serde_json::from_str(events).unwrap();
                events.pop();
                serde_json::to_string(&events).unwrap()
            });
        },
    },
    Broken {
        id: "newer",
        table: "history",
        words: &["corrupt-history", "newer engine", "StepTeleported"],
        how: |engine, id| rewrite_middle(engine, id, |events| events.replacen("StepCompleted", "StepTeleported", 1)),
    },
    Broken {
        id: "scrawled",
        table: "calls",
        words: &["corrupt-history", "open call"],
        how: |engine, id| drop(sql(engine, &format!("update calls set state = '[' where {}", of(id)))),
    },
];

fn what_cannot_be_read_is_parked_alone_and_goes_on_after_the_repair(database: Database) {
    // Each outcome has a chunk of its own, and nothing stays in memory, so the rows are read again.
    let engine = Engine::start_with(database, &[("RUN_AHEAD_EVENTS_MAX", "0"), ("HIBERNATE_AFTER", "10ms")]);
    engine.upload("test-guests");
    let ids = || BROKEN.iter().map(|broken| broken.id).chain(["whole"]);
    for id in ids() {
        engine.ok(&["start", "sequence_then_signal", "--input", r#"{"steps":6,"signal":"go"}"#, "--id", id]);
    }
    for id in ids() {
        engine.wait_for(id, &["waiting"]);
    }
    until("all are out of memory", || (engine.metric("cerebelum_executions_in_memory") == 0).then_some(()));
    for Broken { id, table, how, .. } in &BROKEN {
        sql(&engine, &format!("create table saved_{id} as select * from {table} where {}", of(id)));
        how(&engine, id);
    }
    for id in ids() {
        engine.ok(&["signal", id, "go"]);
    }
    assert_eq!(engine.wait_for_end("whole")["output"], json!(6), "the others go on");
    for Broken { id, words, .. } in &BROKEN {
        assert_parked(&engine, id, words);
    }
    assert_eq!(engine.run("sequence", &json!({"steps": 2}))["output"], json!(2));
    until("all are counted", || (engine.metric("cerebelum_parked_total") == BROKEN.len() as u64).then_some(()));
    // Not repaired yet: the execution is parked again, and the attempt loses nothing.
    engine.ok(&["resume", BROKEN[0].id]);
    until("it is parked again", || (engine.metric("cerebelum_parked_total") > BROKEN.len() as u64).then_some(()));
    for Broken { id, table, words, .. } in &BROKEN {
        assert_parked(&engine, id, words);
        sql(&engine, &format!("delete from {table} where {}", of(id)));
        sql(&engine, &format!("insert into {table} select * from saved_{id}"));
        engine.ok(&["resume", id]);
        let done = engine.wait_for_end(id);
        assert_eq!((&done["status"], &done["output"]), (&json!("completed"), &json!(6)), "{done:#}");
        test_engine::assert_one_writer(&engine.history(id));
    }
}

fn assert_parked(engine: &Engine, id: &str, words: &[&str]) {
    let parked = engine.wait_for(id, &["parked"]);
    let said = format!("{}: {}", parked["failure"]["kind"], parked["failure"]["message"]);
    assert!(words.iter().all(|word| said.contains(word)), "{id} says {said}");
    assert!(!said.contains('\n'), "{said}");
    let listed = engine.json(&["list", "--status", "parked"]);
    assert!(listed.as_array().unwrap().iter().any(|one| one["execution_id"] == id), "{listed:#}");
    // An unreadable history is not shown as an empty one, and asking again would not help.
    let history = engine.cli(&["history", id]);
    assert!(words[0] != "corrupt-history" || words[1] == "open call" || history.code == 4, "{history:?}");
    assert!(!history.err.contains("try again in a moment"), "{history:?}");
}

fn a_component_that_is_gone_is_missed(database: Database) {
    let cloud = Cloud::start();
    let mut engine = Engine::start_with(database, &[("HIBERNATE_AFTER", "10ms")]);
    engine.upload("test-guests");
    engine.upload("approval");
    let release = json!({"base_url": cloud.url(), "version": "1.2", "timeout_ms": 60_000});
    let id = engine.begin("approval", &release);
    engine.wait_for(&id, &["waiting-for-approval"]);
    let digest = engine.status(&id)["digest"].as_str().unwrap().to_owned();
    engine.kill();
    engine.forget_artifacts();
    engine.restart();
    for table in ["component_packs", "components", "names"] {
        assert!(
            !sql(&engine, &format!("delete from {table} where digest = '{digest}' returning digest")).is_empty(),
            "{digest} was in {table}"
        );
    }
    engine.ok(&["approve", &id, "--data", r#"{"percent":25}"#]);
    assert_parked(&engine, &id, &["component-missing", "upload"]);
    assert_eq!(engine.run("sequence", &json!({"steps": 2}))["output"], json!(2), "the others go on");
    engine.upload("approval");
    engine.ok(&["resume", &id]);
    let done = engine.wait_for_end(&id);
    assert_eq!(done["output"]["outcome"], "published", "{done:#}");
    assert_eq!(cloud.requests("POST", "/releases").len(), 1);
}

/// An upload is answered before its machine code is on disk. A stop waits for that; a kill costs another compilation.
#[test]
fn what_was_compiled_outlives_a_stop() {
    let mut engine = Engine::start(Database::Sqlite);
    engine.kill();
    engine.forget_artifacts();
    engine.restart();
    engine.upload("python-hello");
    let status = engine.terminate();
    assert!(status.success() && engine.has_artifact("python-hello"), "{status}: {}", engine.log());
    engine.restart();
    engine.upload("test-guests");
    engine.kill();
    engine.forget_artifacts();
    engine.restart();
    assert_eq!(engine.run("sequence", &json!({"steps": 2}))["output"], json!(2));
    until("it is kept now", || engine.has_artifact("test-guests").then_some(()));
}

/// Starts in one call are looked up together, and each has an answer of its own.
fn a_head_that_cannot_be_read_is_in_nobody_elses_way(database: Database) {
    use start_many_response::result::Result::{Refused, Started};
    let engine = Engine::start(database);
    engine.upload("test-guests");
    let start = |id: &str| StartRequest {
        workflow: "sleeper".to_owned(),
        input: "86400000".to_owned(),
        execution_id: Some(id.to_owned()),
        ..StartRequest::default()
    };
    let ask = |requests: Vec<StartRequest>| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut client = EngineClient::connect(engine.url().to_owned()).await.unwrap();
            let answers = client.start_many(futures::stream::iter(requests)).await.unwrap().into_inner().results;
            answers.into_iter().map(|answer| answer.result.unwrap()).collect::<Vec<_>>()
        })
    };
    assert!(matches!(&ask(vec![start("bad")])[..], [Started(_)]));
    let none = if engine.database().starts_with("sqlite:") { "x'00'" } else { "'\\x00'::bytea" };
    let _ = sql(&engine, &format!("update executions set seed = {none} where id = 'bad'"));
    let answers = ask(vec![start("good"), start("bad"), start("better")]);
    assert!(matches!(&answers[..], [Started(_), Refused(_), Started(_)]), "{answers:?}");
}

/// Ways to damage a waiting execution that no request touches: it is parked all the same, lists and timers of the
/// others go on, and it can be removed.
fn whatever_is_damaged_is_parked_in_time_and_can_be_ended_and_removed(database: Database) {
    let engine = Engine::start_with(database, &[("HIBERNATE_AFTER", "10ms")]);
    engine.upload("test-guests");
    let none = if engine.database().starts_with("sqlite:") { "x'00'" } else { "'\\x00'::bytea" };
    let damages = [
        ("waits-a", "sequence_then_signal", "delete from calls where"),
        ("waits-b", "sequence_then_signal", "update executions set position = 0 where"),
        ("waits-c", "sequence_then_signal", "update calls set call = 'no call' where"),
        ("waits-d", "sequence_then_signal", &format!("update executions set seed = {none} where")),
        ("sleeps-a", "sleeper", "delete from calls where"),
        ("sleeps-b", "sleeper", "update executions set program_no = 4711 where"),
        ("sleeps-c", "sleeper", "update executions set facts = '[' where"),
    ];
    for (id, workflow, _) in &damages {
        let input = if *workflow == "sleeper" { "86400000" } else { r#"{"steps":2,"signal":"go"}"# };
        engine.ok(&["start", workflow, "--input", input, "--id", id]);
    }
    for (id, workflow, _) in &damages {
        engine.wait_for(id, &[if *workflow == "sleeper" { "sleeping" } else { "waiting" }]);
    }
    until("all are out of memory", || (engine.metric("cerebelum_executions_in_memory") == 0).then_some(()));
    for (id, _, words) in &damages {
        let _ = sql(&engine, &format!("{words} {}", of(id)));
    }
    assert_eq!(engine.run("sleeper", &json!(100))["status"], "completed", "timers of the others fire");
    assert!(engine.json(&["list"]).as_array().unwrap().len() > damages.len());
    for (id, ..) in &damages {
        let parked = engine.wait_for(id, &["parked"]);
        assert_eq!(parked["failure"]["kind"], "corrupt-history", "{parked:#}");
    }
    for (id, ..) in &damages {
        engine.ok(&["terminate", id]);
        assert_eq!(engine.wait_for_end(id)["status"], "cancelled", "{id}");
        engine.ok(&["delete", id]);
        assert_eq!(engine.cli(&["status", id]).code, 3, "{id} is gone");
    }
    assert_eq!(engine.run("sequence", &json!({"steps": 2}))["output"], json!(2));
}

/// A reader of the seed could derive the keys of all future requests.
fn l03_the_seed_of_an_execution_is_shown_nowhere(database: Database) {
    let cloud = Cloud::start();
    let mut engine = Engine::start(database);
    engine.upload("test-guests");
    engine.kill();
    engine.restart_with(&[("RUST_LOG", "trace")]);
    let id = engine.begin("posts", &json!({"base_url": cloud.url(), "paths": ["notes/a", "notes/b"]}));
    assert_eq!(engine.wait_for_end(&id)["output"], json!(2));
    let is_sqlite = engine.database().starts_with("sqlite:");
    let hex = if is_sqlite { "hex(seed)" } else { "encode(seed, 'hex')" };
    let seed = sql(&engine, &format!("select {hex} from executions where id = '{id}'")).remove(0).remove(0);
    let hex = seed.to_lowercase();
    assert_eq!(hex.len(), 64);
    let bytes = (0..8).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap().to_string());
    let listed = bytes.collect::<Vec<_>>().join(",");
    let shown = [
        engine.log(),
        engine.ok(&["list", "--json"]),
        engine.ok(&["status", &id, "--json"]),
        engine.ok(&["history", &id, "--json"]),
        engine.ok(&["logs", &id, "--json"]),
        test_engine::http_get(&format!("{}/metrics", engine.url())),
        json!(cloud.ledger()).to_string(),
    ];
    assert!(shown[0].contains("TRACE"), "the log is as loud as can be");
    for text in shown {
        let text = text.to_lowercase().replace(' ', "");
        let told = text.contains(&hex[..16]) || text.contains(&listed);
        assert!(!told, "the seed {hex} is shown");
    }
}
