//! Which failed executions can go on: those whose code did nothing in response to the failure.

#![expect(clippy::unwrap_used, reason = "this is all test; what cannot be unwrapped fails it")]

mod scene;

use cerebelum_history::{
    Call, CallPhase, ChildResult, EventData, ExecutionId, Failure, Message, ReopenMode, Reopening, Request, kind,
    reopening,
};
use proptest::prelude::*;
use scene::{Scene, approval, child, name, poll, retry, scope, signal, sleep, step, step_with};

/// A failure that is not retried.
fn no(message: &str) -> Failure {
    Failure::new(kind::FAILURE, message)
}

/// The number of kinds of calls that a workflow may make, plus an attribute that it sets.
const KINDS: u8 = 8;

fn issue(scene: &mut Scene, of: &str, kind: u8) -> u32 {
    match kind {
        0 => scene.call(of, step("s")),
        1 => scene.call(of, sleep(3_600_000)),
        2 => scene.call(of, Call::RunWorkflow(child("w"))),
        3 => scene.call(of, approval("ship?", None)),
        4 => scene.call(of, signal("go", None)),
        5 => scene.call(of, poll("check", 1_000, 3, None)),
        6 => scene.call(of, Call::StartWorkflow(child("w"))),
        _ => scene.sets(of, "state", "1"),
    }
}

fn child_of(scene: &Scene, call: &str) -> ExecutionId {
    match &scene.ex.open()[&name(call)].phase {
        CallPhase::Child { id, .. } => id.clone(),
        other => panic!("no child but {other:?}"),
    }
}

/// Fails an open call of the workflow, as calls of its kind fail.
fn fail(scene: &mut Scene, ordinal: u32, kind: u8) {
    let call = ordinal.to_string();
    // The end of a wait is told once the wait's start is durable.
    scene.save();
    match kind {
        2 => {
            let (id, result) = (child_of(scene, &call), ChildResult::Failed(no("the child")));
            scene.say(Message::Child { run: 1, call: name(&call), id, result, cause: None });
        }
        3 => {
            let CallPhase::Approval { id, .. } = scene.ex.open()[&name(&call)].phase.clone() else {
                panic!("a question")
            };
            let (by, reason) = ("grace".to_owned(), "no".to_owned());
            scene.say(Message::Rejected { call: name(&call), id, by, reason, cause: None });
        }
        _ => {
            scene.begin(&call);
            scene.ends(&call, Err(no("the step")));
        }
    }
}

fn complete(scene: &mut Scene, ordinal: u32) {
    scene.begin(&ordinal.to_string());
    scene.ends(&ordinal.to_string(), Ok("1"));
}

/// Ends the workflow with the failure that it was told.
fn end(scene: &mut Scene, failure: Failure) -> Reopening {
    scene.ends("", Err(failure));
    scene.save();
    reopening(&scene.stored)
}

#[test]
fn a_saga_that_has_compensated_is_not_reopened_unless_somebody_insists() {
    let mut scene = Scene::new();
    for (ordinal, call) in ["charge", "reserve"].into_iter().enumerate() {
        scene.call("", step(call));
        complete(&mut scene, u32::try_from(ordinal + 1).unwrap());
        scene.hears("");
    }
    scene.call("", step_with("ship", retry(1, 1, 1.0, 0.0)));
    fail(&mut scene, 3, 0);
    scene.hears("");
    for (ordinal, call) in [(4, "release"), (5, "refund")] {
        scene.call("", step(call));
        complete(&mut scene, ordinal);
        scene.hears("");
    }
    let found = end(&mut scene, no("the step"));
    let (failed, later) = ("`ship` (call 3)".to_owned(), "`release` (call 4)".to_owned());
    assert_eq!(found, Reopening::Unsafe { call: 3, failed, later });
    assert_eq!((found.call(ReopenMode::Checked), found.call(ReopenMode::Forced)), (None, Some(3)));
}

#[test]
fn every_kind_of_call_after_a_caught_failure_of_every_kind_counts_open_or_over() {
    for failing in [0, 2, 3] {
        for later in 0..KINDS {
            for wrapped in [false, true] {
                let mut scene = Scene::new();
                issue(&mut scene, "", failing);
                fail(&mut scene, 1, failing);
                let failure = scene.failure("");
                issue(&mut scene, "", later);
                let found = end(&mut scene, if wrapped { no("rolled back") } else { failure });
                assert!(matches!(found, Reopening::Unsafe { call: 1, .. }), "{failing}, then {later}: {found:?}");
            }
        }
    }
}

#[test]
fn log_lines_and_dropped_siblings_are_harmless() {
    let mut scene = Scene::new();
    scene.call("", step("s"));
    scene.call("", sleep(10));
    fail(&mut scene, 1, 0);
    let failure = scene.failure("");
    scene.drops("", 2);
    scene.ask("", Request::Log(cerebelum_history::Level::Info, "no luck".to_owned())).unwrap();
    assert_eq!(end(&mut scene, failure), Reopening::Safe(1));
}

#[test]
fn a_compensation_that_failed_itself_is_tried_again() {
    let mut scene = Scene::new();
    scene.call("", step("ship"));
    fail(&mut scene, 1, 0);
    scene.hears("");
    scene.call("", step("refund"));
    scene.begin("2");
    scene.ends("2", Err(no("the bank")));
    let failure = scene.failure("");
    assert_eq!(end(&mut scene, failure), Reopening::Safe(2));
}

#[test]
fn a_failure_that_the_workflow_tolerated_and_went_on_from_is_not_what_its_own_bug_reopens() {
    let mut scene = Scene::new();
    scene.call("", step("tolerated"));
    fail(&mut scene, 1, 0);
    scene.hears("");
    scene.call("", step("next"));
    complete(&mut scene, 2);
    scene.hears("");
    assert!(matches!(end(&mut scene, no("a bug")), Reopening::Unsafe { call: 1, .. }));
}

#[test]
fn of_equal_failures_a_safe_one_is_opened_however_often_it_was_before() {
    let mut scene = Scene::new();
    let begin = |scene: &mut Scene, told: bool| {
        scene.call("", step("tolerated"));
        if !told {
            fail(scene, 1, 0);
        }
        scene.hears_next("");
        scene.call("", step("needed"));
    };
    begin(&mut scene, false);
    for _ in 0..3 {
        fail(&mut scene, 2, 0);
        let failure = scene.failure("");
        assert_eq!(end(&mut scene, failure), Reopening::Safe(2));
        scene.reload(true);
        scene.say(Message::Reopen);
        scene.ex.reopen(2, scene.moment());
        scene.save();
        scene.begin("");
        begin(&mut scene, true);
    }
}

#[test]
fn a_sibling_that_was_opened_again_and_completed_does_not_run_once_more() {
    let mut scene = Scene::new();
    let begin = |scene: &mut Scene| {
        scene.call("", step("first"));
        scene.call("", step("second"));
    };
    begin(&mut scene);
    for of in ["1", "2"] {
        scene.begin(of);
        scene.ends(of, Err(no(of)));
    }
    scene.hears("");
    for (ended_by, completes) in [("2", true), ("1", false)] {
        assert_eq!(end(&mut scene, no(ended_by)), Reopening::Safe(ended_by.parse().unwrap()));
        scene.reload(true);
        scene.say(Message::Reopen);
        scene.ex.reopen(ended_by.parse().unwrap(), scene.moment());
        scene.begin("");
        begin(&mut scene);
        if completes {
            complete(&mut scene, 2);
            assert_eq!(scene.hears(""), ["1 failed failure", "2 value 1"]);
        }
    }
    assert_eq!((scene.ex.wanted(), scene.hears("")), (vec![scope("1")], vec!["2 value 1".to_owned()]));
}

/// Lets the wait of a call of the workflow end without an answer: all waits below are for an hour.
fn time_out(scene: &mut Scene) {
    scene.save();
    scene.later(3_600_000);
}

#[test]
fn a_timeout_that_the_workflow_takes_for_a_branch_does_not_stand_in_the_way_of_what_fails_later() {
    for wait in [signal("paid", Some(3_600_000)), approval("ok?", Some(3_600_000))] {
        for wrapped in [false, true] {
            let mut scene = Scene::new();
            let begin = |scene: &mut Scene| {
                scene.call("", wait.clone());
                time_out(scene);
                scene.hears("");
                scene.call("", step("remind"));
            };
            begin(&mut scene);
            complete(&mut scene, 2);
            scene.hears("");
            scene.call("", step("ship"));
            fail(&mut scene, 3, 0);
            let failure = scene.failure("");
            assert_eq!(end(&mut scene, if wrapped { no("wrapped") } else { failure }), Reopening::Safe(3), "{wait:?}");
            scene.reload(true);
            scene.say(Message::Reopen);
            scene.ex.reopen(3, scene.moment());
            scene.begin("");
            scene.call("", wait.clone());
            let told = scene.hears_next("");
            assert!(told.starts_with("1 failed") && told.ends_with("timeout"), "it has timed out for good: {told}");
        }
    }
}

#[test]
fn a_timeout_after_which_the_workflow_compensates_and_fails_is_not_reopened() {
    for wait in [signal("paid", Some(3_600_000)), approval("ok?", Some(3_600_000))] {
        for wrapped in [false, true] {
            let mut scene = Scene::new();
            scene.call("", wait.clone());
            time_out(&mut scene);
            let failure = scene.failure("");
            scene.call("", step("refund"));
            complete(&mut scene, 2);
            scene.hears("");
            let found = end(&mut scene, if wrapped { no("wrapped") } else { failure });
            assert!(matches!(found, Reopening::Unsafe { call: 1, .. }), "{wait:?}: {found:?}");
        }
        let mut scene = Scene::new();
        scene.call("", wait);
        time_out(&mut scene);
        let failure = scene.failure("");
        assert_eq!(end(&mut scene, failure), Reopening::Safe(1), "nothing was done about it");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// The number of calls that are open beside the failing one does not matter, nor do their outcomes. All that counts
    /// is whether a call was issued after the failure. When the execution goes on, no call that had completed runs
    /// again.
    #[test]
    fn what_was_issued_before_the_failure_is_harmless_and_what_was_issued_after_it_is_not(
        before in prop::collection::vec((0..KINDS, any::<bool>()), 0..6),
        failing in prop::sample::select(vec![0_u8, 2, 3]),
        beside in prop::collection::vec((0..KINDS, any::<bool>()), 0..6),
        after in prop::collection::vec(0..KINDS, 0..3),
    ) {
        let mut scene = Scene::new();
        let mut kinds = Vec::new();
        let mut finish = Vec::new();
        for (kind, completes) in &before {
            let ordinal = issue(&mut scene, "", *kind);
            kinds.push(*kind);
            if *kind == 0 && *completes {
                complete(&mut scene, ordinal);
                scene.hears("");
            }
        }
        let failed = issue(&mut scene, "", failing);
        kinds.push(failing);
        for (kind, completes) in &beside {
            let ordinal = issue(&mut scene, "", *kind);
            kinds.push(*kind);
            if *kind == 0 && *completes {
                finish.push(ordinal);
            }
        }
        fail(&mut scene, failed, failing);
        let failure = scene.failure("");
        for ordinal in &finish {
            complete(&mut scene, *ordinal);
            scene.hears("");
        }
        for kind in &after {
            issue(&mut scene, "", *kind);
        }
        let found = end(&mut scene, failure);
        prop_assert_eq!(found.call(ReopenMode::Forced), Some(failed));
        prop_assert_eq!(found.call(ReopenMode::Checked), after.is_empty().then_some(failed));

        if after.is_empty() {
            let completed = scene.stored.iter().filter(|event| event.data.kind() == "StepCompleted");
            let completed: Vec<String> = completed.map(|event| event.data.ordinal().unwrap().to_string()).collect();
            scene.reload(true);
            scene.say(Message::Reopen);
            scene.ex.reopen(failed, scene.moment());
            scene.begin("");
            for kind in kinds {
                issue(&mut scene, "", kind);
            }
            scene.hears("");
            for ordinal in completed {
                prop_assert!(!scene.ex.wanted().contains(&scope(&ordinal)), "step {} runs again", ordinal);
            }
        }
    }
}

#[test]
fn an_execution_that_must_not_go_on_stays_failed() {
    let mut scene = Scene::new();
    scene.call("", step("ship"));
    fail(&mut scene, 1, 0);
    let failure = scene.failure("");
    scene.call("", step("refund"));
    end(&mut scene, failure.clone());
    scene.reload(true);
    scene.say(Message::Reopen);
    assert_eq!(scene.ex.reopening(), Some(ReopenMode::Checked));
    scene.ex.stay_failed(failure.clone(), scene.moment());
    assert_eq!((scene.ex.is_reopening(), scene.ex.wanted()), (false, Vec::new()));
    scene.save();
    assert_eq!(scene.ex.end(), Some(&cerebelum_history::End::Failed(failure)));
    assert!(matches!(reopening(&scene.stored), Reopening::Unsafe { call: 1, .. }));
}

/// An execution that has failed because its step did, as it is loaded.
fn failed_by_a_step() -> Scene {
    let mut scene = Scene::new();
    scene.call("", step("ship"));
    fail(&mut scene, 1, 0);
    let failure = scene.failure("");
    end(&mut scene, failure);
    scene.reload(true);
    scene
}

/// A message that came after the request to reopen is recorded behind the reopening, and has its effect.
#[test]
fn a_cancel_that_follows_the_request_to_reopen_is_not_lost() {
    let failed = || {
        let mut scene = failed_by_a_step();
        scene.say(Message::Reopen);
        scene
    };
    let mut cancelled = failed();
    cancelled.say(Message::Cancel { at: cerebelum_history::Timestamp(scene::START) });
    cancelled.ex.reopen(1, cancelled.moment());
    cancelled.save();
    let last: Vec<&EventData> = cancelled.stored.iter().rev().take(2).map(|event| &event.data).collect();
    assert!(matches!(last[..], [EventData::CancelRequested { .. }, EventData::ExecutionReopened { .. }]), "{last:?}");
    assert!(cancelled.ex.options().is_cancelled(), "the reopened execution is");

    let mut terminated = failed();
    terminated.say(Message::Terminate);
    assert_eq!(terminated.ex.end(), None, "it is not reopened yet");
    terminated.ex.reopen(1, terminated.moment());
    assert!(matches!(terminated.ex.end(), Some(cerebelum_history::End::Cancelled(_))));
}

/// What an execution had not heard when it failed means as little as if it had heard it: one that has ended records
/// nothing.
#[test]
fn what_was_not_heard_before_a_failure_is_not_recorded_behind_it() {
    let at = cerebelum_history::Timestamp(scene::START);
    for (unheard, paused) in [
        (vec![Message::Cancel { at }], false),
        (vec![Message::Terminate], false),
        (vec![Message::Pause, Message::Cancel { at }], true),
        (vec![Message::Pause, Message::Resume], false),
    ] {
        let mut scene = failed_by_a_step();
        scene.ex.expect_reopening();
        let stored = scene.stored.len();
        for message in unheard {
            scene.say(message);
        }
        scene.say(Message::Reopen);
        scene.ex.reopen(1, scene.moment());
        scene.save();
        assert!(matches!(scene.stored[stored].data, EventData::ExecutionReopened { .. }), "{:?}", scene.stored);
        assert_eq!((scene.ex.is_paused(), scene.ex.options().is_cancelled(), scene.ex.end()), (paused, false, None));
        // What follows is heard.
        scene.say(Message::Cancel { at });
        assert!(scene.ex.options().is_cancelled());
    }
}
