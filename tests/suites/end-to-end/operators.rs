//! Approvals, signals, cancel, pause, resume, delete.

use std::collections::BTreeSet;

use cerebelum_server::proto::engine_client::EngineClient;
use cerebelum_server::proto::{ApprovalsRequest, ApprovalsResponse};
use serde_json::json;
use test_engine::{Cloud, Database, Engine, until};

use crate::assert_each_once;

on_both_databases!(
    an_approval_survives_a_kill_and_answers_once,
    an_approval_inside_a_step_goes_on_behind_it,
    a_rejection_and_a_timeout_are_told_apart,
    the_time_left_for_an_approval_survives_a_kill,
    signals_sent_early_are_queued_and_kept_in_order,
    cancelling_runs_clean_up_code,
    terminating_does_not_ask,
    a_pause_lets_nothing_move_until_it_is_resumed,
    a_failed_run_resumes_at_the_failed_step,
    l07_progress_attributes_and_logs_are_not_repeated_by_a_rerun,
    only_what_has_ended_is_deleted,
    l20_every_status_is_shown_by_status_and_list,
    open_questions_are_listed_page_by_page,
);

/// Approve after a kill; a second answer is refused.
fn an_approval_survives_a_kill_and_answers_once(database: Database) {
    let mut engine = Engine::start_with(database, &[("HIBERNATE_AFTER", "10ms")]);
    engine.upload("test-guests");
    let id = engine.begin("asking", &json!({"title": "Go live?"}));
    engine.wait_for(&id, &["waiting-for-approval"]);
    engine.kill_and_restart();
    let open = engine.ok(&["approvals"]);
    assert!(open.contains("Go live?") && open.contains(&id), "{open}");
    engine.ok(&["approve", &id, "--data", r#"{"yes":true}"#, "--comment", "fine"]);
    let late = engine.cli(&["reject", &id, "--reason", "no"]);
    assert_eq!((late.code, late.err.lines().count()), (5, 1), "{late:?}");
    assert!(late.err.contains("approved"), "{late:?}");
    let done = engine.wait_for_end(&id);
    assert!(done["output"].as_str().unwrap().starts_with(r#"{"yes":true} by"#), "{done:#}");
    assert_eq!(engine.cli(&["approve", &id]).code, 5);
}

/// However many questions are open, and however large they are, a page has an end, and the next page goes on there.
fn open_questions_are_listed_page_by_page(database: Database) {
    const QUESTIONS: usize = 50;
    let engine = Engine::start(database);
    engine.upload("test-guests");
    let id = engine.begin("load", &json!({"what": "questions", "count": QUESTIONS, "bytes": 200 << 10}));
    // Questions as large as these are stored a few at a time.
    until("every question", || (engine.status(&id)["waiting_on"].as_array()?.len() == QUESTIONS).then_some(()));
    let pages: Vec<ApprovalsResponse> = tokio::runtime::Runtime::new().unwrap().block_on(async {
        let client = EngineClient::connect(engine.url().to_owned()).await.unwrap();
        let mut client = client.max_decoding_message_size(16 << 20);
        let (mut request, mut pages) = (ApprovalsRequest::default(), Vec::new());
        loop {
            let page = client.approvals(request.clone()).await.unwrap().into_inner();
            request.cursor = page.next.clone();
            pages.push(page);
            if request.cursor.is_none() {
                return pages;
            }
        }
    });
    let bytes = |page: &ApprovalsResponse| page.approvals.iter().map(|approval| approval.data.len()).sum::<usize>();
    assert!(pages.len() > 1 && pages.iter().all(|page| bytes(page) < 9 << 20), "pages end at 8 MiB");
    let listed: BTreeSet<&str> =
        pages.iter().flat_map(|page| &page.approvals).map(|approval| approval.approval_id.as_str()).collect();
    assert_eq!((listed.len(), pages.iter().map(|page| page.approvals.len()).sum::<usize>()), (QUESTIONS, QUESTIONS));
    assert_eq!(engine.json(&["approvals"]).as_array().unwrap().len(), QUESTIONS);
    engine.ok(&["terminate", &id]);
}

fn an_approval_inside_a_step_goes_on_behind_it(database: Database) {
    let cloud = Cloud::start();
    let mut engine = Engine::start(database);
    engine.upload("test-guests");
    let id = engine.begin("asking_in_a_step", &json!({"base_url": cloud.url(), "path": ""}));
    engine.wait_for(&id, &["waiting-for-approval"]);
    engine.kill_and_restart();
    engine.ok(&["approve", &id]);
    assert_eq!(engine.wait_for_end(&id)["status"], "completed");
    let paths: Vec<_> = cloud.ledger().iter().map(|request| request["path"].clone()).collect();
    assert_eq!(paths, ["/notes/before", "/notes/after"]);
}

/// Distinct kinds, and a late answer gets a clear refusal.
fn a_rejection_and_a_timeout_are_told_apart(database: Database) {
    let engine = Engine::start(database);
    engine.upload("test-guests");
    let rejected = engine.begin("asking", &json!({"title": "May I?"}));
    engine.wait_for(&rejected, &["waiting-for-approval"]);
    engine.ok(&["reject", &rejected, "--reason", "not today"]);
    let failed = engine.wait_for_end(&rejected);
    assert_eq!(failed["failure"]["kind"], "rejected");
    assert!(failed["failure"]["message"].as_str().unwrap().contains("not today"));
    let late = engine.begin("asking", &json!({"title": "May I?", "timeout_ms": 50}));
    assert_eq!(engine.wait_for_end(&late)["failure"]["kind"], "approval-timeout");
    let said = engine.cli(&["approve", &late]);
    assert!(said.code == 5 && said.err.contains("timed-out"), "{said:?}");
}

/// The timeout counts from the persisted request.
fn the_time_left_for_an_approval_survives_a_kill(database: Database) {
    let mut engine = Engine::start(database);
    engine.upload("test-guests");
    let id = engine.begin("asking", &json!({"title": "Quick?", "timeout_ms": 2_000}));
    let before = engine.wait_for(&id, &["waiting-for-approval"])["waiting_on"][0]["until"].clone();
    engine.kill_and_restart();
    let after = engine.status(&id)["waiting_on"][0]["until"].clone();
    assert_eq!(before, after);
    assert_eq!(engine.wait_for_end(&id)["failure"]["kind"], "approval-timeout");
}

fn signals_sent_early_are_queued_and_kept_in_order(database: Database) {
    let mut engine = Engine::start_with(database, &[("HIBERNATE_AFTER", "10ms")]);
    engine.upload("test-guests");
    let id = engine.begin("listening", &json!({"names": ["a", "b", "a"]}));
    engine.wait_for(&id, &["waiting"]);
    for (name, data, is_asked_for) in [("b", "1", false), ("c", "2", false), ("a", "3", true), ("a", "4", true)] {
        let said = engine.cli(&["signal", &id, name, "--data", data]);
        let warns = said.err.contains("it waits for the signal `a` now");
        assert_eq!((said.code, warns), (0, !is_asked_for), "{said:?}");
        engine.kill_and_restart();
        if !is_asked_for {
            let unread = engine.status(&id)["unread_signals"].clone();
            assert_eq!(unread.as_array().and_then(|names| names.last()), Some(&json!(name)));
        }
    }
    assert_eq!(engine.wait_for_end(&id)["output"], json!([3, 1, 4]));
    let timed_out = engine.run("listening", &json!({"names": ["never"], "timeout_ms": 30}));
    assert_eq!(timed_out["failure"]["kind"], "timeout");
}

fn cancelling_runs_clean_up_code(database: Database) {
    let cloud = Cloud::start();
    let mut engine = Engine::start(database);
    engine.upload("test-guests");
    let id = engine.begin("cleaning_up", &json!(cloud.url()));
    engine.wait_for(&id, &["sleeping"]);
    engine.kill_and_restart();
    engine.ok(&["cancel", &id]);
    let done = engine.wait_for_end(&id);
    assert_eq!((&done["status"], &done["failure"]["kind"]), (&json!("cancelled"), &json!("cancelled")));
    assert_eq!(cloud.requests("POST", "/notes/clean-up").len(), 1);
    let result = engine.cli(&["result", &id]);
    assert_eq!(result.code, 1, "{result:?}");
}

fn terminating_does_not_ask(database: Database) {
    let cloud = Cloud::start();
    let engine = Engine::start(database);
    engine.upload("test-guests");
    let id = engine.begin("cleaning_up", &json!(cloud.url()));
    engine.wait_for(&id, &["sleeping"]);
    engine.ok(&["terminate", &id]);
    assert_eq!(engine.wait_for_end(&id)["status"], "cancelled");
    assert!(cloud.ledger().is_empty());
}

fn a_pause_lets_nothing_move_until_it_is_resumed(database: Database) {
    let cloud = Cloud::start();
    let mut engine = Engine::start(database);
    engine.upload("test-guests");
    let id = engine.begin("naps", &json!({"base_url": cloud.url(), "sleep_ms": 300, "naps": 3}));
    engine.wait_for(&id, &["sleeping"]);
    engine.ok(&["pause", &id]);
    engine.wait_for(&id, &["paused"]);
    engine.kill_and_restart();
    // Another execution with longer sleeps comes to its end meanwhile: time has passed.
    let other = engine.begin("sleeper", &json!(900));
    assert_eq!(engine.wait_for_end(&other)["status"], "completed");
    assert_eq!(engine.status(&id)["status"], "paused");
    let posted = cloud.ledger().len();
    engine.ok(&["resume", &id]);
    assert_eq!(engine.wait_for_end(&id)["output"], json!(3));
    assert!(posted <= 2);
    assert_each_once(&cloud.ledger());
}

/// Finished work stays done, and the failed step has a fresh budget.
fn a_failed_run_resumes_at_the_failed_step(database: Database) {
    let cloud = Cloud::start();
    let mut engine = Engine::start(database);
    engine.upload("test-guests");
    let id = engine.begin("gated", &json!(cloud.url()));
    let failed = engine.wait_for_end(&id);
    assert_eq!(
        (&failed["status"], &failed["failure"]["kind"]),
        (&json!("failed"), &json!("http-status")),
        "{failed:#}"
    );
    assert_eq!(engine.cli(&["result", &id]).code, 1);
    engine.kill_and_restart();
    engine.ok(&["resume", &id]);
    until("it failed again", || (engine.count(&id, "ExecutionFailed") == 2).then_some(()));
    assert_eq!(cloud.requests("POST", "/switch/one").len(), 4, "two attempts each time");
    cloud.put("/switch/one/on");
    engine.ok(&["resume", &id]);
    let done = engine.wait_for(&id, &["completed"]);
    assert_eq!(done["output"], "through");
    assert_eq!((cloud.requests("POST", "/notes/first").len(), cloud.requests("POST", "/notes/last").len()), (1, 1));
    let nothing = engine.cli(&["resume", &id]);
    assert_eq!(nothing.code, 5, "{nothing:?}");
}

/// Neither doubled nor lost.
fn l07_progress_attributes_and_logs_are_not_repeated_by_a_rerun(database: Database) {
    let mut engine = Engine::start(database);
    engine.upload("test-guests");
    let id = engine.begin("telling", &json!(500));
    until("it sleeps", || (engine.count(&id, "SleepStarted") == 1).then_some(()));
    assert_eq!(engine.status(&id)["progress"][0]["percent"], json!(10));
    assert_eq!(engine.status(&id)["attributes"]["stage"], "one");
    engine.kill_and_restart();
    let done = engine.wait_for_end(&id);
    let progress = done["progress"].as_array().unwrap();
    assert_eq!((progress.len(), &progress[0]["percent"]), (1, &json!(90)));
    let logs = engine.ok(&["logs", &id]);
    assert_eq!((logs.matches("first line").count(), logs.matches("second line").count()), (1, 1), "{logs}");
    let listed = engine.ok(&["list", "--attr", "stage=two"]);
    assert!(listed.contains(&id), "{listed}");
    assert!(!engine.ok(&["list", "--attr", "stage=one"]).contains(&id));
}

fn only_what_has_ended_is_deleted(database: Database) {
    let engine = Engine::start(database);
    engine.upload("test-guests");
    let id = engine.begin("sleeper", &json!(86_400_000));
    engine.wait_for(&id, &["sleeping"]);
    assert_eq!(engine.cli(&["delete", &id]).code, 5);
    engine.ok(&["terminate", &id]);
    let _ = engine.wait_for_end(&id);
    engine.ok(&["delete", &id]);
    assert_eq!(engine.cli(&["status", &id]).code, 3);
}

/// Each state is visible.
fn l20_every_status_is_shown_by_status_and_list(database: Database) {
    let cloud = Cloud::start();
    let engine = Engine::start(database);
    engine.upload("test-guests");
    let begun = [
        ("running", engine.begin("posts", &json!({"base_url": cloud.url(), "paths": ["slow/20000"]}))),
        ("sleeping", engine.begin("sleeper", &json!(86_400_000))),
        ("waiting-for-approval", engine.begin("asking", &json!({"title": "?"}))),
        ("waiting", engine.begin("listening", &json!({"names": ["x"]}))),
        ("completed", engine.begin("sequence", &json!({"steps": 1}))),
        ("failed", engine.begin("hostile", &json!("unknown"))),
    ];
    for (status, id) in &begun {
        let shown = engine.wait_for(id, &[status]);
        assert!(shown["workflow"].as_str().unwrap().starts_with("test-guests/"));
        let listed = engine.json(&["list", "--status", status]);
        let found = listed
            .as_array()
            .or_else(|| listed["executions"].as_array())
            .unwrap()
            .iter()
            .any(|one| one["execution_id"] == *id);
        assert!(found, "{status} is not listed: {listed:#}");
        let watched = matches!(*status, "completed" | "failed").then(|| engine.cli(&["watch", id]));
        if let Some(watched) = watched {
            assert!(watched.out.contains(status), "{watched:?}");
        }
    }
}
