//! Code that no longer matches its history: the execution is parked with the place and both calls, it has no further
//! effects, and the others go on. It goes on when code and history match again. A rerun that makes all recorded calls
//! and further ones cannot be told from one that was cut off (L21 is held in part).

use serde_json::{Value, json};
use test_engine::{Cloud, Database, Engine, until};

use crate::corruption::{of, rewrite};
use crate::sql;

on_both_databases!(
    a_rerun_that_does_something_else_is_parked_with_both_sides,
    a_step_that_diverges_sends_nothing_and_ends_nothing_else,
);

/// The guest's input decides what it does, so another input stands for other code. The recording has three questions at
/// once.
struct Divergence {
    id: &'static str,
    /// The input that it has on the rerun.
    becomes: (&'static str, u64),
    /// Which of the questions is answered.
    answered: usize,
    ordinal: u32,
    expected: &'static str,
    actual: &'static str,
}

const DIVERGENCES: [Divergence; 4] = [
    Divergence {
        id: "something-else",
        becomes: ("sleeps", 3),
        answered: 1,
        ordinal: 1,
        expected: "ApprovalRequested",
        actual: "call 1, Sleep",
    },
    Divergence {
        id: "less",
        becomes: ("questions", 2),
        answered: 3,
        ordinal: 3,
        expected: "ApprovalRequested",
        actual: "the guest waits for something else",
    },
    Divergence {
        id: "less-and-ends",
        becomes: ("questions", 1),
        answered: 1,
        ordinal: 2,
        expected: "ApprovalRequested",
        actual: "the guest ended: Ok(1)",
    },
    Divergence {
        id: "ends-early",
        becomes: ("questions", 0),
        answered: 2,
        ordinal: 1,
        expected: "ApprovalRequested",
        actual: "the guest ended: Ok(0)",
    },
];

fn input(what: &str, count: u64) -> String {
    format!(r#""what":"{what}","count":{count}"#)
}

/// The open questions of an execution, by name: the execution and the number of their event.
fn questions(engine: &Engine, id: &str) -> Vec<String> {
    let listed = engine.json(&["approvals"]);
    let of_it = listed.as_array().unwrap().iter().filter(|approval| approval["execution_id"] == id);
    let mut ids: Vec<String> = of_it.map(|approval| approval["approval_id"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

fn all_are_out_of_memory(engine: &Engine) {
    until("all are out of memory", || (engine.metric("cerebelum_executions_in_memory") == 0).then_some(()));
}

fn a_rerun_that_does_something_else_is_parked_with_both_sides(database: Database) {
    let engine = Engine::start_with(database, &[("HIBERNATE_AFTER", "10ms")]);
    engine.upload("test-guests");
    let recorded = input("questions", 3);
    let ids = || DIVERGENCES.iter().map(|divergence| divergence.id);
    for id in ids().chain(["given-up"]) {
        engine.ok(&["start", "load", "--input", &format!("{{{recorded}}}"), "--id", id]);
        engine.wait_for(id, &["waiting-for-approval"]);
    }
    all_are_out_of_memory(&engine);
    let begins = |events: &str| events.contains("ExecutionStarted");
    for Divergence { id, becomes: (what, count), .. } in &DIVERGENCES {
        rewrite(&engine, id, begins, |events| events.replacen(&recorded, &input(what, *count), 1));
    }
    rewrite(&engine, "given-up", begins, |events| events.replacen(&recorded, &input("hold", 3), 1));
    let before: Vec<Vec<Value>> = ids().map(|id| engine.history(id)).collect();
    let answered = DIVERGENCES.iter().map(|divergence| (divergence.id, divergence.answered));
    for (id, number) in answered.chain([("given-up", 1)]) {
        engine.ok(&["approve", &questions(&engine, id)[number - 1]]);
    }
    for (divergence, before) in DIVERGENCES.iter().zip(&before) {
        let parked = engine.wait_for(divergence.id, &["parked"]);
        assert_says(&parked, divergence);
        let after = engine.history(divergence.id);
        assert_eq!(after[..before.len()], before[..], "what was recorded stays as it was");
        let kinds: Vec<&str> = after[before.len()..].iter().filter_map(|event| event["kind"].as_str()).collect();
        assert!(
            kinds.iter().all(|kind| ["ApprovalReceived", "ExecutionParked"].contains(kind)),
            "nothing extra: {kinds:?}"
        );
    }
    assert_eq!(engine.run("sequence", &json!({"steps": 2}))["output"], json!(2), "the others go on");
    // Resumed without a change, it is parked again, and is not rebuilt for ever.
    let parked = || engine.metric("cerebelum_parked_total");
    let (count, id) = (parked(), DIVERGENCES[0].id);
    engine.ok(&["resume", id]);
    until("it is parked again", || (parked() > count).then_some(()));
    assert_says(&engine.wait_for(id, &["parked"]), &DIVERGENCES[0]);
    all_are_out_of_memory(&engine);
    assert_eq!(parked(), count + 1, "once for each `resume`");
    engine.ok(&["terminate", "given-up"]);
    assert_eq!(engine.wait_for_end("given-up")["status"], "cancelled");
    for Divergence { id, becomes: (what, count), .. } in &DIVERGENCES {
        rewrite(&engine, id, begins, |events| events.replacen(&input(what, *count), &recorded, 1));
        engine.ok(&["resume", id]);
        for question in questions(&engine, id) {
            engine.ok(&["approve", &question]);
        }
        let done = engine.wait_for_end(id);
        assert_eq!((&done["status"], &done["output"]), (&json!("completed"), &json!(3)), "{done:#}");
        assert_eq!(engine.count(id, "ApprovalReceived"), 3, "each question was asked and answered once");
        test_engine::assert_one_writer(&engine.history(id));
    }
}

fn assert_says(parked: &Value, divergence: &Divergence) {
    assert_eq!(parked["failure"]["kind"], "diverged", "{parked:#}");
    let said = parked["failure"]["message"].as_str().unwrap();
    let Divergence { ordinal, expected, actual, .. } = divergence;
    for words in
        [&format!("in scope `` at call {ordinal}:"), &format!("expected {expected}"), &format!("actual   {actual}")]
    {
        assert!(said.contains(words), "no `{words}` in: {said}");
    }
}

/// The step's guest begins anew after a wait, and would send its request to another host than before.
fn a_step_that_diverges_sends_nothing_and_ends_nothing_else(database: Database) {
    let cloud = Cloud::start();
    let engine = Engine::start_with(database, &[("HIBERNATE_AFTER", "10ms")]);
    engine.upload("test-guests");
    let to = json!({"base_url": cloud.url(), "path": ""}).to_string();
    for id in ["other", "same"] {
        engine.ok(&["start", "asking_in_a_step", "--input", &to, "--id", id]);
        engine.wait_for(id, &["waiting-for-approval"]);
    }
    all_are_out_of_memory(&engine);
    let turn = |from: &str, to: &str| {
        let (from, to) = (format!(r#""base_url":"http://{from}:"#), format!(r#""base_url":"http://{to}:"#));
        rewrite(&engine, "other", |events| events.contains(&from), |events| events.replace(&from, &to));
        sql(&engine, &format!("update calls set state = replace(state, '{from}', '{to}') where {}", of("other")));
    };
    turn("127.0.0.1", "localhost");
    for id in ["other", "same"] {
        engine.ok(&["approve", id]);
    }
    let parked = engine.wait_for("other", &["parked"]);
    let said = parked["failure"]["message"].as_str().unwrap();
    assert_eq!(parked["failure"]["kind"], "diverged", "{parked:#}");
    assert!(
        said.contains("in scope `1` at call 1:") && said.contains("127.0.0.1") && said.contains("localhost"),
        "{said}"
    );
    assert_eq!(engine.wait_for_end("same")["status"], "completed", "the others go on");
    let asked = || cloud.ledger().into_iter().map(|request| request["path"].clone()).collect::<Vec<_>>();
    assert_eq!(asked(), ["/notes/before", "/notes/before", "/notes/after"], "nothing left of what diverged");
    turn("localhost", "127.0.0.1");
    engine.ok(&["resume", "other"]);
    assert_eq!(engine.wait_for_end("other")["status"], "completed");
    assert_eq!(asked()[3..], ["/notes/after"]);
}
