//! Host-driven polls: their rounds and waits, how they end, and how little of them is in the history.

#![expect(clippy::unwrap_used, reason = "this is all test; what cannot be unwrapped fails it")]

mod scene;

use cerebelum_history::{CallPhase, Failure, HttpResponse, Outcome, Scope, kind};
use scene::{Scene, approval, broken, fetch, json, name, poll, retry, scope, sleep, step};

const NOT_YET: &str = r#"{"not_yet": "soon"}"#;

/// One case of `wit/polls.json`.
#[derive(serde::Deserialize)]
struct Case {
    name: String,
    interval_ms: u64,
    max_attempts: u32,
    timeout_ms: Option<u64>,
    check_ms: u64,
    true_after_ms: u64,
    checks: u32,
    ends_at_ms: u64,
    failure: Option<String>,
    message: Option<String>,
}

#[test]
fn a_poll_that_the_engine_drives_follows_the_table() {
    #[derive(serde::Deserialize)]
    struct Table {
        cases: Vec<Case>,
    }
    let table: Table = serde_json::from_str(include_str!("../../../wit/polls.json")).unwrap();
    for case in table.cases {
        let mut scene = Scene::new();
        scene.call("", poll("check", case.interval_ms, case.max_attempts, case.timeout_ms));
        let mut checks = 0;
        while scene.ex.wanted().contains(&name("1").round_scope(checks + 1)) {
            checks += 1;
            let check = name("1").round_scope(checks);
            scene.begin(check.as_str());
            scene.later(case.check_ms);
            let is_true = scene.now - scene::START >= case.true_after_ms;
            scene.ends(check.as_str(), Ok(if is_true { r#"{"ready": 1}"# } else { NOT_YET }));
            if let Some(due) = scene.ex.due() {
                scene.at(due.0 - scene::START);
            }
        }
        let failure = match scene.told("").pop().unwrap().outcome {
            Outcome::Failed(failure) => Some((failure.kind, failure.message)),
            _ => None,
        };
        let expected = (case.failure.zip(case.message), case.checks, case.ends_at_ms);
        assert_eq!((failure, checks, scene.now - scene::START), expected, "{}", case.name);
    }
}

#[test]
fn the_first_check_runs_at_once_and_the_interval_from_the_end_of_one_to_the_next() {
    let mut scene = Scene::new();
    scene.call("", poll("check", 5_000, 30, None));
    assert_eq!(scene.ex.wanted(), [scope("1#1")]);
    assert_eq!(scene.begin("1#1").clock.0, scene::START);
    scene.at(700);
    scene.ends("1#1", Ok(NOT_YET));
    assert_eq!(scene.ex.wanted(), []);
    scene.at(5_699);
    assert_eq!(scene.ex.wanted(), []);
    scene.at(5_700);
    assert_eq!(scene.begin("1#2").clock.0, scene::START + 5_700);
    scene.ends("1#2", Ok(r#"{"ready": {"ip": "10.0.0.1"}}"#));
    assert_eq!(scene.hears(""), [r#"1 value {"ip": "10.0.0.1"}"#]);
}

#[test]
fn l13_a_thousand_rounds_are_two_events_and_need_the_workflow_once() {
    let mut scene = Scene::new();
    for _ in 0..100 {
        let ordinal = scene.call("", step("before"));
        scene.begin(&ordinal.to_string());
        scene.ends(&ordinal.to_string(), Ok("1"));
        scene.told("");
    }
    let ordinal = scene.call("", poll("check", 10, 2_000, None));
    scene.save();
    let check = |round| name(&ordinal.to_string()).round_scope(round);
    let before = scene.stored.len();
    for round in 1..=1_000 {
        // The engine dies between any two rounds, and no other guest is needed.
        scene.save();
        if round > 1 {
            scene.reload(true);
        }
        scene.at(10 * u64::from(round - 1));
        assert_eq!(scene.ex.wanted(), [check(round)]);
        scene.begin(check(round).as_str());
        let answer = if round < 1_000 { format!(r#"{{"not_yet": {round}}}"#) } else { r#"{"ready": 7}"#.to_owned() };
        scene.ends(check(round).as_str(), Ok(&answer));
        if round < 1_000 {
            let CallPhase::Poll(open) = &scene.ex.open()[&name("101")].phase else { panic!("a poll") };
            assert_eq!((open.round, open.last.clone()), (round + 1, Some(json(&round.to_string()))));
        }
    }
    assert_eq!(scene.ex.wanted(), [Scope::root()]);
    assert_eq!(scene.history(before + 1), ["PollCompleted 101"]);
}

#[test]
fn a_check_that_fails_is_tried_again_and_then_fails_the_poll() {
    let mut scene = Scene::new();
    scene.target =
        Ok(cerebelum_history::Target { options: retry(3, 50, 1.0, 0.0), ..cerebelum_history::Target::default() });
    scene.call("", poll("check", 10, 99, None));
    for attempt in 1..=3 {
        let begin = scene.begin("1#1");
        assert_eq!(begin.attempt, attempt);
        scene.call("1#1", sleep(1));
        scene.ends("1#1", Err(broken("no connection")));
        scene.save();
        scene.reload(true);
        scene.at(50 * u64::from(attempt));
    }
    scene.begin("");
    scene.call("", poll("check", 10, 99, None));
    assert_eq!(scene.failure(""), broken("no connection"));
    assert_eq!(scene.history(2), ["PollStarted 1", "PollFailed 1"]);
}

#[test]
fn a_check_that_answers_something_else_fails_the_poll() {
    for answer in ["7", r#"{"ready": 1, "not_yet": 2}"#, "{}", r#"{"done": 1}"#] {
        let mut scene = Scene::new();
        scene.call("", poll("check", 10, 99, None));
        scene.begin("1#1");
        scene.ends("1#1", Ok(answer));
        let failure = scene.failure("");
        assert_eq!(failure.kind, kind::INVALID_OUTPUT);
        assert!(failure.message.contains(answer) && failure.message.contains("`check`"), "{failure}");
    }
}

#[test]
fn a_round_has_a_journal_of_its_own_that_survives_a_crash_and_is_gone_with_it() {
    let mut scene = Scene::new();
    scene.call("", poll("check", 10, 99, None));
    for round in 1..=2 {
        let check = format!("1#{round}");
        scene.begin(&check);
        scene.call(&check, fetch("http://a/"));
        let response = HttpResponse { status: 200, headers: Vec::new(), body: Vec::new() };
        scene.ex.fetched(&name(&format!("{check}.1")), Ok(response), scene.moment());
        assert_eq!(scene.hears(&check), ["1 responded 200"]);
        scene.call(&check, sleep(1_000));
        scene.save();
        scene.reload(true);
        scene.at(scene.now - scene::START + 1_000);
        assert_eq!(scene.ex.wanted(), [scope(&check)]);
        scene.begin(&check);
        scene.call(&check, fetch("http://a/"));
        scene.call(&check, sleep(1_000));
        assert_eq!(scene.ex.take_actions(), []);
        assert_eq!(scene.hears(&check), ["1 responded 200", "2 slept"]);
        scene.ends(&check, Ok(NOT_YET));
        let CallPhase::Poll(open) = &scene.ex.open()[&name("1")].phase else { panic!("a poll") };
        assert_eq!(open.journal, []);
        scene.at(scene.now - scene::START + 10);
    }
    assert_eq!(scene.history(2), ["PollStarted 1"]);
}

#[test]
fn polls_inside_rounds_and_steps_inside_those_end_where_they_belong() {
    let mut scene = Scene::new();
    scene.call("", step("outer"));
    scene.begin("1");
    scene.call("1", poll("check", 10, 9, None));
    scene.begin("1.1#1");
    scene.call("1.1#1", poll("inner", 10, 9, None));
    scene.begin("1.1#1.1#1");
    scene.ends("1.1#1.1#1", Ok(NOT_YET));
    scene.save();
    scene.reload(true);
    scene.at(10);
    scene.begin("1.1#1.1#2");
    scene.call("1.1#1.1#2", step("deep"));
    scene.begin("1.1#1.1#2.1");
    scene.call("1.1#1.1#2.1", sleep(5));
    scene.save();
    scene.reload(true);
    scene.at(15);
    scene.begin("1.1#1.1#2.1");
    scene.call("1.1#1.1#2.1", sleep(5));
    assert_eq!(scene.hears("1.1#1.1#2.1"), ["1 slept"]);
    scene.ends("1.1#1.1#2.1", Ok("1"));
    scene.begin("1.1#1.1#2");
    scene.call("1.1#1.1#2", step("deep"));
    assert_eq!(scene.hears("1.1#1.1#2"), ["1 value 1"]);
    scene.ends("1.1#1.1#2", Ok(r#"{"ready": 2}"#));
    scene.begin("1.1#1");
    scene.call("1.1#1", poll("inner", 10, 9, None));
    assert_eq!(scene.hears("1.1#1"), ["1 value 2"]);
    scene.ends("1.1#1", Ok(r#"{"ready": 3}"#));
    scene.begin("1");
    scene.call("1", poll("check", 10, 9, None));
    assert_eq!(scene.hears("1"), ["1 value 3"]);
    scene.ends("1", Ok("4"));
    assert_eq!(scene.history(2), ["StepStarted 1", "1: PollStarted 1", "1: PollCompleted 1", "StepCompleted 1"]);
}

#[test]
fn the_clock_never_goes_back_behind_what_a_round_has_seen() {
    let mut scene = Scene::new();
    scene.call("", poll("check", 10, 9, None));
    scene.begin("1#1");
    scene.at(500);
    scene.call("1#1", sleep(10));
    scene.save();
    // The last event of the history is older than that of the round, and the node's clock is wrong for a while.
    scene.reload(true);
    assert_eq!(scene.ex.stamp().0, scene::START + 500);
    scene.now = scene::START + 100;
    scene.begin_again_at("1#1", 510);
    assert_eq!(scene.told("1#1")[0].clock.0, scene::START + 510);
    scene.now = scene::START + 100;
    scene.ends("1#1", Ok(r#"{"ready": 1}"#));
    scene.save();
    assert!(scene.stored.last().unwrap().at.0 >= scene::START + 510);
}

#[test]
fn a_late_word_about_a_round_that_is_over_changes_nothing() {
    let mut scene = Scene::new();
    scene.call("", poll("check", 10, 9, None));
    scene.begin("1#1");
    scene.ends("1#1", Ok(NOT_YET));
    let slow = Failure::new(kind::TIMEOUT, "too slow");
    scene.ex.timed_out(&scope("1#1"), slow.clone(), scene.moment());
    scene.at(10);
    scene.begin("1#2");
    scene.ex.timed_out(&scope("1#1"), slow.clone(), scene.moment());
    assert_eq!(scene.hears(""), Vec::<String>::new());
    scene.ex.timed_out(&scope("1#2"), slow, scene.moment());
    assert_eq!(scene.hears(""), ["1 failed timeout"]);
}

#[test]
fn questions_of_two_attempts_of_a_round_are_two_questions() {
    let mut scene = Scene::new();
    scene.target =
        Ok(cerebelum_history::Target { options: retry(2, 0, 1.0, 0.0), ..cerebelum_history::Target::default() });
    scene.call("", poll("check", 10, 9, None));
    let mut ids = std::collections::HashSet::new();
    for _ in 0..2 {
        scene.begin("1#1");
        scene.call("1#1", approval("may I?", None));
        let changes = scene.save();
        let Some(cerebelum_history::ApprovalEdge::Opened { id, .. }) = changes.approvals.last() else {
            panic!("asked")
        };
        ids.insert(id.clone());
        scene.ends("1#1", Err(Failure::retryable(kind::FAILURE, "no")));
        scene.later(10);
    }
    assert_eq!(ids.len(), 2, "{ids:?}");
}
