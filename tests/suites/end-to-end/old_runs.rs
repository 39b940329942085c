//! `keep_runs`: of a chain the last runs are kept, every reader is told so of the others, and what the chain stores stays
//! bounded.

use serde_json::json;
use test_engine::{Database, Engine, http_get, until};

use crate::sql;

on_both_databases!(
    a_chain_keeps_its_last_runs_and_says_so_of_the_others,
    a_kill_while_runs_are_removed_leaves_no_halves,
    what_a_chain_stores_is_bounded,
);

fn number(engine: &Engine, words: &str) -> u64 {
    sql(engine, words)[0][0].parse().unwrap()
}

/// Waits until no run before this one has a row, apart from the first chunk of the first run.
fn until_removed(engine: &Engine, from: u32) {
    let rows = format!(
        "select cast((select count(*) from history where run < {from}) + (select count(*) from logs where run < {from}) as text)"
    );
    until("the old runs are removed", || (number(engine, &rows) == 1).then_some(()));
}

fn a_chain_keeps_its_last_runs_and_says_so_of_the_others(database: Database) {
    let engine = Engine::start_with(database, &[("KEEP_RUNS", "3")]);
    engine.upload("test-guests");
    let start = ["start", "countdown", "--id", "chain", "--input", "11"];
    engine.ok(&start);
    assert_eq!(engine.wait_for_end("chain")["output"], json!(12));
    until("the last three runs are kept", || (engine.status("chain")["runs_from"] == json!(10)).then_some(()));
    until_removed(&engine, 10);
    let said = "run 4 of execution `chain` is no longer kept";
    for verb in ["history", "timeline"] {
        let answer = engine.cli(&[verb, "chain", "--run", "4"]);
        assert!(answer.code == 5 && answer.err.contains(said) && answer.err.contains("from run 10 on"), "{answer:?}");
        assert_eq!(answer.err.trim().lines().count(), 1, "{answer:?}");
    }
    for path in ["v1/executions/chain/history", "executions/chain/history", "executions/chain/graph"] {
        let answer = http_get(&format!("{}/{path}?run=4", engine.url()));
        assert!(answer.contains("is no longer kept"), "{path}: {answer}");
    }
    let then = http_get(&format!("{}/executions/chain/at/1?run=4", engine.url()));
    assert!(then.contains("is no longer kept"), "{then}");
    let page = http_get(&format!("{}/executions/chain/history?run=10", engine.url()));
    assert!(page.contains("Runs before 10 are no longer kept.") && !page.contains("Earlier run"), "{page}");
    for run in ["10", "11"] {
        let history = engine.ok(&["history", "chain", "--run", run, "--json"]);
        assert!(history.lines().last().unwrap().contains("ExecutionContinued"), "{history}");
    }
    assert!(engine.ok(&["status", "chain"]).contains("run 12, kept from run 10 on"));
    assert!(engine.cli(&["logs", "chain"]).err.contains("log lines of runs before 10 are no longer kept"));
    // A start that is repeated is the same one: its input is still known. Another one is refused.
    engine.ok(&start);
    assert_eq!(engine.cli(&["start", "countdown", "--id", "chain", "--input", "7"]).code, 5);
    engine.ok(&["delete", "chain"]);
    until("nothing is left", || (number(&engine, "select cast(count(*) as text) from history") == 0).then_some(()));
}

fn a_kill_while_runs_are_removed_leaves_no_halves(database: Database) {
    let mut engine = Engine::start_with(database, &[("KEEP_RUNS", "all")]);
    engine.upload("test-guests");
    let ids: Vec<String> = (0..3).map(|_| engine.begin("countdown", &json!(9))).collect();
    for id in &ids {
        assert_eq!(engine.wait_for_end(id)["output"], json!(10));
    }
    engine.kill();
    // Runs that go in many pieces.
    sql(
        &engine,
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000)
        insert into history (execution_no, tenant_id, run, first_position, last_position, checksum, events)
        select e.execution_no, e.tenant_id, 2 + i % 6, 100 + i, 100 + i, 0, 'x' from n, executions e",
    );
    let rows = "select cast(count(*) as text) from history where run < 9";
    let mut left = number(&engine, rows);
    assert!(left > 60_000, "{left}");
    let mut kills = 0;
    while left > 3 {
        engine.restart_with(&[("CEREBELUM_KEEP_RUNS", "2")]);
        until("some are deleted", || (number(&engine, rows) < left).then_some(()));
        engine.kill();
        kills += 1;
        let half = "select cast(count(*) as text) from executions e where e.runs_from is null and not exists (
            select 1 from history h where h.execution_no = e.execution_no and h.run = 2 and h.first_position = 1)";
        assert_eq!(number(&engine, half), 0, "no row goes before readers are told");
        let differ = "select cast((select sum(bytes) from tenant_bytes) - (select sum(bytes) from executions) as text)";
        assert_eq!(number(&engine, differ), 0, "bytes are given back with the rows");
        left = number(&engine, rows);
    }
    assert!(kills > 1, "one kill came after everything");
    engine.restart_with(&[("CEREBELUM_KEEP_RUNS", "2")]);
    until("all are done", || {
        (number(&engine, "select cast(count(*) as text) from executions where clearing = 1") == 0).then_some(())
    });
    for id in &ids {
        assert_eq!(engine.status(id)["runs_from"], json!(9));
        assert_eq!(engine.cli(&["history", id, "--run", "8"]).code, 5);
        assert_eq!(engine.cli(&["history", id, "--run", "9"]).code, 0);
    }
}

fn what_a_chain_stores_is_bounded(database: Database) {
    let engine = Engine::start_with(database, &[("KEEP_RUNS", "2")]);
    engine.upload("test-guests");
    let stored = |runs: u32| {
        let id = engine.begin("countdown", &json!(runs - 1));
        assert_eq!(engine.wait_for_end(&id)["output"], json!(runs));
        until_removed(&engine, runs - 1);
        let bytes = number(&engine, "select cast(sum(bytes) as text) from tenant_bytes");
        engine.ok(&["delete", &id]);
        until("nothing is left", || (number(&engine, "select cast(count(*) as text) from history") == 0).then_some(()));
        bytes
    };
    let (short, long) = (stored(4), stored(60));
    // How many events a chunk has depends on how busy the machine is.
    assert!(long < short * 2, "{short} bytes of four runs, {long} of sixty");
}
