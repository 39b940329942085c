//! Cancel, terminate, pause, resume, reopen, continue-as-new, children, limits: how executions end, and how they go on.

#![expect(clippy::unwrap_used, reason = "this is all test; what cannot be unwrapped fails it")]

mod scene;

use cerebelum_history::{
    Action, ApprovalEdge, Call, ChildResult, End, ExecutionOptions, Failure, Message, Outcome, Receipt, Request,
    StepOptions, Timestamp, failed_call, kind,
};
use scene::{
    START, Scene, approval, broken, child, fetch, json, name, poll, retry, scope, signal, sleep, step, step_with,
};

fn cancel() -> Message {
    Message::Cancel { at: Timestamp(START) }
}

#[test]
fn l16_after_a_cancel_each_open_call_says_so_once_in_issue_order_and_later_calls_work() {
    let mut scene = Scene::new();
    scene.call("", sleep(500));
    scene.call("", step("s"));
    scene.begin("2");
    scene.call("2", sleep(500));
    scene.call("", poll("check", 5, 5, None));
    scene.call("", approval("?", None));
    scene.call("", Call::RunWorkflow(child("w")));
    scene.save();
    scene.say(cancel());
    assert_eq!(scene.ex.take_actions(), [Action::Stop(scope("2"))]);
    let told: Vec<String> = (1..=5).map(|ordinal| format!("{ordinal} failed cancelled")).collect();
    assert_eq!(scene.hears(""), told);
    let changes = scene.save();
    assert!(matches!(changes.approvals.as_slice(), [ApprovalEdge::Withdrawn(_)]));
    assert_eq!(changes.orphans.len(), 1);
    scene.say(cancel());
    scene.call("", step("clean-up"));
    scene.begin("6");
    scene.ends("6", Ok("1"));
    assert_eq!(scene.hears(""), ["6 value 1"], "a second request changes nothing");
    scene.ends("", Err(Failure::new(kind::CANCELLED, "the execution was cancelled")));
    assert!(matches!(scene.ex.end(), Some(End::Cancelled(_))));
}

#[test]
fn clean_up_that_completes_completes_and_one_that_fails_otherwise_fails() {
    for (result, expected) in [(Ok("1"), "completed"), (Err(broken("no")), "failed")] {
        let mut scene = Scene::new();
        scene.call("", sleep(500));
        scene.say(cancel());
        scene.ends("", result);
        let end = match scene.ex.end() {
            Some(End::Completed(_)) => "completed",
            Some(End::Failed(_)) => "failed",
            other => panic!("{other:?}"),
        };
        assert_eq!(end, expected);
    }
}

#[test]
fn terminate_does_not_ask() {
    let mut scene = Scene::new();
    scene.call("", step("s"));
    scene.begin("1");
    scene.call("1", sleep(5));
    scene.say(Message::Terminate);
    assert!(matches!(scene.ex.end(), Some(End::Cancelled(_))));
    assert_eq!(scene.ex.take_actions(), [Action::Stop(scope("1")), Action::Stop(scope(""))]);
    assert_eq!((scene.ex.wanted(), scene.ex.due(), scene.ex.open().len()), (vec![], None, 0));
    let expected = ["1: CallCancelled 1", "CallCancelled 1", "ExecutionCancelled"];
    assert_eq!(scene.history(4), expected);
    // Nothing can move the execution any more.
    scene.ex.timed_out(&scope(""), broken("late"), scene.moment());
    scene.ends("", Ok("1"));
    scene.at(99_999);
    assert_eq!(scene.say(Message::Terminate).1, Receipt::Consumed);
    assert_eq!(scene.history(7), Vec::<String>::new());
}

#[test]
fn l16_in_a_pause_running_attempts_finish_and_nothing_is_told_or_begins() {
    let mut scene = Scene::new();
    scene.call("", step("s"));
    scene.call("", sleep(100));
    scene.begin("1");
    scene.save();
    scene.say(Message::Pause);
    scene.call("1", fetch("http://a/"));
    scene.call("1", step("inner"));
    assert_eq!((scene.ex.take_actions(), scene.ex.wanted()), (vec![], vec![]));
    scene.ends("1", Ok("5"));
    scene.at(5_000);
    assert_eq!((scene.hears(""), scene.ex.due()), (vec![], None));
    scene.signal("go", "1");
    scene.save();
    scene.reload(true);
    assert_eq!(scene.ex.wanted(), []);
    scene.say(Message::Resume);
    scene.at(5_000);
    scene.begin("");
    scene.call("", step("s"));
    scene.call("", sleep(100));
    assert_eq!(scene.hears(""), ["1 value 5", "2 slept"]);
}

#[test]
fn deadlines_stand_in_a_pause_and_a_cancel_ends_it() {
    let mut scene =
        Scene::with(ExecutionOptions { deadline: Some(Timestamp(START + 50)), ..ExecutionOptions::default() });
    scene.begin("");
    scene.call("", sleep(10));
    scene.say(Message::Pause);
    assert_eq!(scene.ex.due(), Some(Timestamp(START + 50)));
    scene.at(50);
    let Some(End::Failed(failure)) = scene.ex.end() else { panic!("the deadline passed") };
    assert_eq!(failure.kind, kind::DEADLINE);
    assert_eq!(scene.ex.take_actions(), [Action::Stop(scope(""))], "what is to stop stops in a pause as well");

    let mut scene = Scene::new();
    scene.call("", sleep(10));
    scene.say(Message::Pause);
    scene.say(cancel());
    assert!(!scene.ex.is_paused());
    assert_eq!(scene.hears(""), ["1 failed cancelled"]);
}

#[test]
fn a_request_that_was_not_sent_before_a_pause_is_sent_after_it_unless_it_was_dropped() {
    let mut scene = Scene::new();
    scene.call("", fetch("http://a/"));
    scene.call("", fetch("http://b/"));
    scene.say(Message::Pause);
    assert_eq!(scene.ex.take_actions(), []);
    scene.drops("", 1);
    scene.say(Message::Resume);
    let [Action::Fetch { call, .. }] = &scene.ex.take_actions()[..] else { panic!("one request") };
    assert_eq!(*call, name("2"));
}

/// Fails the scene's workflow with this failure, and then reopens the failed call. Returns that call.
fn fail_and_reopen(scene: &mut Scene, failure: Failure) -> Option<u32> {
    scene.ends("", Err(failure));
    scene.save();
    let ordinal = failed_call(&scene.stored);
    scene.reload(true);
    assert_eq!(scene.ex.wanted(), [], "what has ended wants nothing");
    scene.say(Message::Reopen);
    assert!(scene.ex.is_reopening());
    scene.ex.reopen(ordinal?, scene.moment());
    assert!(!scene.ex.is_reopening());
    ordinal
}

#[test]
fn a_failed_step_runs_again_with_a_fresh_budget_and_so_often_as_somebody_asks() {
    let mut scene = Scene::new();
    let (before, pay) = (step("before"), step_with("pay", retry(2, 10, 1.0, 0.0)));
    scene.call("", before.clone());
    scene.begin("1");
    scene.ends("1", Ok("1"));
    assert_eq!(scene.hears(""), ["1 value 1"]);
    scene.call("", pay.clone());
    for time in 1..=3 {
        for attempt in 1..=2 {
            assert_eq!(scene.begin("2").attempt, attempt);
            scene.ends("2", Err(broken("no money")));
            scene.save();
            scene.at(time * 1_000 + u64::from(attempt) * 10);
        }
        assert_eq!(scene.hears(""), ["2 failed failure"]);
        assert_eq!(fail_and_reopen(&mut scene, broken("no money")), Some(2));
        // The engine may die before the step goes on; the workflow then repeats its recorded calls.
        scene.save();
        scene.reload(true);
        scene.begin("");
        scene.call("", before.clone());
        assert_eq!(scene.hears(""), ["1 value 1"]);
        assert_eq!(scene.ex.wanted(), [], "the step that completed does not run again");
        scene.call("", pay.clone());
    }
    scene.begin("2");
    scene.ends("2", Ok("2"));
    for _ in 0..2 {
        assert_eq!(scene.hears("").last().map(String::as_str), Some("2 value 2"));
        scene.save();
        scene.reload(false);
        scene.begin("");
        scene.call("", before.clone());
        scene.call("", pay.clone());
    }
}

#[test]
fn siblings_of_a_failed_call_keep_what_they_came_to_and_run_again_when_they_were_cut_off() {
    let mut scene = Scene::new();
    let calls = [step("fails"), step("completed-before"), step("completed-after"), step("cut-off"), sleep(9_000)];
    for call in &calls {
        scene.call("", call.clone());
    }
    for (of, result) in [("2", Ok("2")), ("1", Err(Failure::new(kind::FAILURE, "no"))), ("3", Ok("3"))] {
        scene.begin(of);
        scene.ends(of, result);
    }
    scene.begin("4");
    assert_eq!(scene.hears(""), ["2 value 2", "1 failed failure", "3 value 3"]);
    assert_eq!(fail_and_reopen(&mut scene, Failure::new(kind::FAILURE, "no")), Some(1));
    for _ in 0..2 {
        scene.begin("");
        for call in &calls {
            scene.call("", call.clone());
        }
        assert_eq!(scene.hears(""), ["2 value 2", "3 value 3"]);
        assert_eq!(scene.ex.wanted(), [scope("1"), scope("4")]);
        scene.save();
        scene.reload(false);
    }
    scene.begin("1");
    scene.ends("1", Ok("1"));
    scene.begin("");
    for call in &calls {
        scene.call("", call.clone());
    }
    assert_eq!(scene.hears(""), ["2 value 2", "3 value 3", "1 value 1"]);
}

#[test]
fn of_two_calls_that_failed_the_one_whose_failure_ended_it_is_opened_and_then_the_other() {
    let mut scene = Scene::new();
    let no = |of: &str| Failure::new(kind::FAILURE, format!("no {of}"));
    let again = |scene: &mut Scene| {
        scene.begin("");
        scene.call("", step("a"));
        scene.call("", step("b"));
    };
    scene.call("", step("a"));
    scene.call("", step("b"));
    for of in ["1", "2"] {
        scene.begin(of);
        scene.ends(of, Err(no(of)));
    }
    assert_eq!(scene.hears(""), ["1 failed failure", "2 failed failure"]);
    assert_eq!(fail_and_reopen(&mut scene, no("1")), Some(1));
    again(&mut scene);
    assert_eq!(scene.hears(""), ["2 failed failure"]);
    scene.begin("1");
    scene.ends("1", Ok("1"));
    assert_eq!(scene.hears(""), ["1 value 1"]);
    assert_eq!(fail_and_reopen(&mut scene, no("2")), Some(2));
    again(&mut scene);
    assert_eq!((scene.hears(""), scene.ex.wanted()), (vec!["1 value 1".to_owned()], vec![scope("2")]));
}

#[test]
fn a_tolerated_failure_like_the_one_that_ended_it_does_not_stand_before_that_for_ever() {
    let mut scene = Scene::new();
    let no = || Failure::new(kind::FAILURE, "no");
    let begin = |scene: &mut Scene| {
        scene.call("", step("needed"));
        scene.call("", step("tolerated"));
    };
    begin(&mut scene);
    for of in ["1", "2"] {
        scene.begin(of);
        scene.ends(of, Err(no()));
    }
    scene.hears("");
    assert_eq!(fail_and_reopen(&mut scene, no()), Some(2));
    scene.begin("");
    begin(&mut scene);
    scene.begin("2");
    scene.ends("2", Err(no()));
    scene.hears("");
    assert_eq!(fail_and_reopen(&mut scene, no()), Some(1));
}

#[test]
fn what_the_workflow_did_about_the_failure_is_not_replayed() {
    let mut scene = Scene::new();
    scene.call("", step("pay"));
    scene.begin("1");
    scene.ends("1", Err(Failure::new(kind::FAILURE, "no")));
    assert_eq!(scene.hears(""), ["1 failed failure"]);
    scene.call("", step("apologise"));
    scene.ask("", Request::SetAttribute(3, "state".to_owned(), json("\"sorry\""))).unwrap();
    scene.begin("2");
    scene.ends("2", Ok("1"));
    assert_eq!(scene.hears(""), ["2 value 1"]);
    assert_eq!(fail_and_reopen(&mut scene, Failure::new(kind::FAILURE, "no")), Some(1));
    scene.begin("");
    scene.call("", step("pay"));
    scene.begin("1");
    scene.ends("1", Ok("1"));
    assert_eq!(scene.hears(""), ["1 value 1"]);
    scene.call("", sleep(10));
    scene.save();
    scene.reload(false);
    scene.begin("");
    scene.call("", step("pay"));
    assert_eq!(scene.hears_next(""), "1 value 1");
    scene.call("", sleep(10));
    assert_eq!(scene.hears(""), Vec::<String>::new());
}

#[test]
fn only_what_has_failed_can_be_reopened_and_a_passed_deadline_no_longer_counts() {
    let mut scene = Scene::new();
    scene.call("", step("s"));
    scene.begin("1");
    scene.ends("1", Err(Failure::new(kind::FAILURE, "tolerated")));
    assert_eq!((scene.hears("").len(), failed_call(&scene.stored)), (1, None), "it goes on");
    scene.ends("", Ok("1"));
    scene.save();
    assert_eq!(failed_call(&scene.stored), None, "it has completed");

    let mut scene = Scene::new();
    assert_eq!(fail_and_reopen(&mut scene, broken("by itself")), None);

    let mut scene =
        Scene::with(ExecutionOptions { deadline: Some(Timestamp(START + 50)), ..ExecutionOptions::default() });
    scene.begin("");
    scene.call("", sleep(80));
    scene.at(50);
    scene.save();
    assert_eq!(failed_call(&scene.stored), Some(0));
    scene.reload(true);
    scene.ex.reopen(0, scene.moment());
    scene.begin("");
    scene.call("", sleep(80));
    scene.save();
    assert_eq!(scene.ex.due(), Some(Timestamp(START + 130)), "the sleep that was cut off begins anew");
}

#[test]
fn children_are_accepted_completed_or_refused() {
    let mut scene = Scene::new();
    scene.call("", Call::StartWorkflow(child("w")));
    scene.call("", Call::RunWorkflow(child("w")));
    scene.call(
        "",
        Call::RunWorkflow(cerebelum_history::WorkflowCall { id: Some("mine".parse().unwrap()), ..child("w") }),
    );
    let ids: Vec<String> =
        scene.save().children.iter().map(|child| format!("{} {}", child.identity.id, child.parent.awaited)).collect();
    assert_eq!(ids, ["order-7.1 false", "order-7.2 true", "mine true"]);
    let taken = Failure::new(kind::CONFLICT, "taken");
    let results = [
        (1, "1", ChildResult::Accepted("order-7.1".parse().unwrap())),
        (2, "2", ChildResult::Completed(json("\"of another run\""))),
        (1, "2", ChildResult::Completed(json("5"))),
        (1, "2", ChildResult::Completed(json("6"))),
        (1, "3", ChildResult::Failed(taken)),
    ]
    .into_iter();
    for (run, call, result) in results {
        let ids = [("1", "order-7.1"), ("2", "order-7.2"), ("3", "mine")];
        let id = |of: &str| ids.iter().find(|(call, _)| *call == of).unwrap().1.parse().unwrap();
        let stranger = ChildResult::Completed(json("\"of an earlier attempt's child\""));
        scene.say(Message::Child {
            run,
            call: name(call),
            id: "order-7.0".parse().unwrap(),
            result: stranger,
            cause: None,
        });
        scene.say(Message::Child { run, call: name(call), id: id(call), result, cause: None });
    }
    assert_eq!(scene.hears(""), ["1 started order-7.1", "2 value 5", "3 failed conflict"]);
}

#[test]
fn l15_awaited_children_end_with_their_scope_and_started_ones_do_not() {
    let mut scene = Scene::new();
    scene.call("", Call::StartWorkflow(child("w")));
    scene.call("", Call::RunWorkflow(child("w")));
    scene.save();
    scene.ends("", Ok("1"));
    assert_eq!(scene.save().orphans, ["order-7.2".parse().unwrap()]);
}

#[test]
fn an_awaited_child_of_a_retried_step_is_another_one_and_a_started_one_is_the_same() {
    let mut scene = Scene::new();
    scene.call("", step_with("s", retry(3, 0, 1.0, 0.0)));
    let mut ids = Vec::new();
    for _ in 0..2 {
        scene.begin("1");
        scene.call("1", Call::RunWorkflow(child("w")));
        scene.call("1", Call::StartWorkflow(child("w")));
        ids.push(scene.save().children.iter().map(|child| child.identity.id.clone()).collect::<Vec<_>>());
        scene.ends("1", Err(broken("no")));
        scene.save();
        scene.later(10);
    }
    assert_ne!(ids[0][0], ids[1][0]);
    assert_eq!(ids[0][1], ids[1][1]);
}

#[test]
fn continue_as_new_ends_the_run_and_what_it_awaits() {
    let mut scene = Scene::new();
    scene.signal("unread", "1");
    scene.call("", sleep(5));
    scene.call("", Call::ContinueAsNew { input: json("7") });
    assert_eq!(scene.ex.end(), Some(&End::Continued(json("7"))));
    assert_eq!(scene.save().consumed, Vec::<i64>::new(), "signals that nobody has read stay for the next run");
    assert_eq!(scene.history(3), ["CallCancelled 1", "ExecutionContinued"]);
}

#[test]
fn a_history_and_the_open_calls_have_limits() {
    let mut scene = Scene::new();
    for _ in 0..cerebelum_history::OPEN_CALLS_MAX {
        scene.call("", signal("s", None));
    }
    assert_eq!(scene.ex.end(), None);
    scene.call("", signal("s", None));
    assert_eq!(scene.ex.end(), None);
    assert!(matches!(&scene.told("")[0].outcome, Outcome::Failed(failure) if failure.kind == kind::CALL_LIMIT));

    let mut scene = Scene::new();
    for ordinal in 1..=49_999 {
        scene.ask("", Request::SetAttribute(ordinal, "n".to_owned(), json(&ordinal.to_string()))).unwrap();
    }
    assert_eq!((scene.ex.position().0, scene.ex.end()), (cerebelum_history::HISTORY_EVENTS_MAX, None));
    scene.ask("", Request::Call(50_000, sleep(1))).unwrap();
    let Some(End::Failed(failure)) = scene.ex.end() else { panic!("too long") };
    assert_eq!(failure.kind, kind::HISTORY_LIMIT);
}

#[test]
fn a_full_history_can_still_continue_as_new_and_a_check_cannot_evade_the_limit() {
    let mut scene = Scene::new();
    for ordinal in 1..=49_999 {
        scene.ask("", Request::SetAttribute(ordinal, "n".to_owned(), json("1"))).unwrap();
    }
    scene.ask("", Request::Call(50_000, Call::ContinueAsNew { input: json("7") })).unwrap();
    assert_eq!(scene.ex.end(), Some(&End::Continued(json("7"))));

    let mut scene = Scene::new();
    scene.call("", poll("check", 1, 1, None));
    scene.begin("1#1");
    for ordinal in 1..=50_001 {
        scene.ask("1#1", Request::SetAttribute(ordinal, "n".to_owned(), json("1"))).unwrap();
    }
    assert!(matches!(scene.ex.end(), Some(End::Failed(failure)) if failure.kind == kind::HISTORY_LIMIT));
}

#[test]
fn a_delayed_start_begins_at_its_time_and_can_be_cancelled_before() {
    let options = ExecutionOptions { starts_at: Some(Timestamp(START + 500)), ..ExecutionOptions::default() };
    let mut scene = Scene::with(options.clone());
    scene.reload(false);
    assert_eq!((scene.ex.wanted(), scene.ex.due()), (vec![], options.starts_at));
    scene.at(500);
    scene.save();
    assert_eq!(scene.begin("").clock.0, START, "its clock shows when it was started");
    assert_eq!(scene.ex.options().starts_at, None);

    let mut scene = Scene::with(options);
    scene.say(cancel());
    assert!(matches!(scene.ex.end(), Some(End::Cancelled(_))));
}

#[test]
fn a_deadline_of_a_step_is_no_deadline_of_the_execution() {
    let mut scene = Scene::new();
    scene.call("", step_with("s", StepOptions { deadline_ms: Some(10), ..StepOptions::default() }));
    scene.begin("1");
    scene.at(10);
    let Outcome::Failed(failure) = scene.told("").remove(0).outcome else { panic!("the step's deadline passed") };
    assert_eq!(fail_and_reopen(&mut scene, failure), Some(1));
    scene.begin("");
    scene.call("", step_with("s", StepOptions { deadline_ms: Some(10), ..StepOptions::default() }));
    assert_eq!(scene.ex.due(), Some(Timestamp(START + 20)));
}
