//! `keep_ended`: executions that have ended are deleted after their time, completely, and nothing else is deleted.

use cerebelum_server::proto::StartRequest;
use cerebelum_server::proto::engine_client::EngineClient;
use serde_json::json;
use test_engine::{Database, Engine, until};

use crate::sql;

on_both_databases!(what_has_ended_goes_and_nothing_else, a_kill_while_deleting_leaves_no_halves);

/// The number of rows of executions.
fn count_of(engine: &Engine, condition: &str) -> u64 {
    let count = sql(engine, &format!("select cast(count(*) as text) from executions where {condition}"));
    count[0][0].parse().unwrap()
}

/// Starts this many executions of three steps, called `ended-0`, `ended-1` …, and waits until they have ended.
fn end_many(engine: &Engine, count: usize) {
    let request = |number| StartRequest {
        workflow: "sequence".to_owned(),
        input: json!({"steps": 3}).to_string(),
        execution_id: Some(format!("ended-{number}")),
        ..StartRequest::default()
    };
    let requests: Vec<_> = (0..count).map(request).collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut client = EngineClient::connect(engine.url().to_owned()).await.unwrap();
        client.start_many(futures::stream::iter(requests)).await.unwrap();
    });
    until("all have ended", || (count_of(engine, "state = 1") == count as u64).then_some(()));
}

fn what_has_ended_goes_and_nothing_else(database: Database) {
    let mut engine = Engine::start(database);
    engine.upload("test-guests");
    let asleep = engine.begin("sleeper", &json!(600_000));
    end_many(&engine, 300);
    let first = engine.status("ended-7")["started_at"].clone();
    engine.kill();
    engine.restart_with(&[("CEREBELUM_KEEP_ENDED", "3s")]);
    until("they are deleted", || (engine.metric("cerebelum_executions_deleted_total") == 300).then_some(()));
    assert_eq!(engine.cli(&["status", "ended-7"]).code, 3, "it is forgotten");
    assert_eq!(engine.status(&asleep)["status"], "sleeping");
    let again = engine.json(&["start", "sequence", "--id", "ended-7", "--input", r#"{"steps":3}"#, "--wait"]);
    assert!(again["started_at"].as_str() > first.as_str(), "its id is free: {first} {again}");
    until("that one goes as well", || (engine.metric("cerebelum_executions_deleted_total") == 301).then_some(()));
    assert_eq!(sql(&engine, "select id from executions"), [[asleep]]);
}

fn a_kill_while_deleting_leaves_no_halves(database: Database) {
    let mut engine = Engine::start(database);
    engine.upload("test-guests");
    end_many(&engine, 3_000);
    engine.kill();
    let mut left = 3_000;
    while left > 0 {
        engine.restart_with(&[("CEREBELUM_KEEP_ENDED", "1s")]);
        // A commit that was under way at the kill may have taken the last ones.
        let are_some_gone =
            || engine.metric("cerebelum_executions_deleted_total") > 0 || count_of(&engine, "1 = 1") == 0;
        until("some are deleted", || are_some_gone().then_some(()));
        engine.kill();
        let orphans = "select id from executions where execution_no not in (select execution_no from history)
            union all select cast(execution_no as text) from history where execution_no not in
                (select execution_no from executions union all select execution_no from remains)
            union all select id from executions where execution_no in (select execution_no from remains)";
        assert_eq!(sql(&engine, orphans), [[""; 0]; 0], "an execution goes with its history, or that is written down");
        let now = count_of(&engine, "1 = 1");
        assert!(now < left, "{now} of {left} are left");
        left = now;
    }
    engine.restart_with(&[("CEREBELUM_KEEP_ENDED", "1s")]);
    let left_behind = "select cast(count(*) as text) from (
        select execution_no from history union all select execution_no from remains) rows_left";
    until("what they left behind is deleted", || (sql(&engine, left_behind) == [["0"]]).then_some(()));
}
