//! Waits for time, people and signals: when they end, and which guests are told.

#![expect(clippy::unwrap_used, reason = "this is all test; what cannot be unwrapped fails it")]

mod scene;

use cerebelum_history::{Approval, ApprovalEdge, Message, Receipt, kind};
use scene::{Scene, approval, json, name, scope, signal, sleep, step};

fn yes(id: &str, data: &str) -> Message {
    let approval = Approval { data: json(data), by: "ann".to_owned(), comment: None };
    Message::Approved { call: name("1"), id: id.to_owned(), approval, cause: None }
}

fn no(id: &str) -> Message {
    Message::Rejected {
        call: name("1"),
        id: id.to_owned(),
        by: "ann".to_owned(),
        reason: "too dear".to_owned(),
        cause: None,
    }
}

/// A scene with one stored question. Returns the question's id as well.
fn asked(timeout_ms: Option<u64>) -> (Scene, String) {
    let mut scene = Scene::new();
    scene.call("", approval("Go live?", timeout_ms));
    match scene.save().approvals.as_slice() {
        [ApprovalEdge::Opened { id, .. }] => (scene, id.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn l08_a_sleep_ends_at_its_deadline_and_not_before() {
    let mut scene = Scene::new();
    scene.call("", sleep(86_400_000));
    scene.save();
    scene.at(86_399_999);
    assert_eq!(scene.hears(""), Vec::<String>::new());
    // The engine is down for three days.
    scene.reload(true);
    scene.at(4 * 86_400_000);
    scene.begin("");
    scene.call("", sleep(86_400_000));
    let told = scene.told("");
    assert_eq!(told[0].clock.0, scene::START + 4 * 86_400_000);
}

#[test]
fn l08_a_wait_is_not_over_before_its_start_is_durable() {
    for call in [sleep(0), approval("?", Some(0)), signal("s", Some(0))] {
        let mut scene = Scene::new();
        scene.call("", call.clone());
        scene.at(5);
        assert_eq!(scene.hears(""), Vec::<String>::new(), "{call:?}");
        // That also holds for a guest that has to start over meanwhile.
        scene.ex.forget(&scope(""));
        scene.begin("");
        scene.call("", call.clone());
        assert_eq!(scene.hears(""), Vec::<String>::new(), "{call:?}");
        scene.save();
        assert_eq!(scene.told("").len(), 1, "{call:?}");
    }
}

#[test]
fn l08_an_outcome_is_stamped_no_earlier_than_due_and_no_stamp_goes_back() {
    let mut scene = Scene::new();
    scene.at(1_000);
    scene.call("", sleep(100));
    // The node's clock is set back, and the timer is early by another node's clock.
    scene.now = scene::START + 10;
    scene.call("", sleep(5_000));
    scene.save();
    scene.at(1_100);
    assert_eq!(scene.told("")[0].clock.0, scene::START + 1_100);
    scene.now = scene::START;
    scene.call("", step("s"));
    scene.begin("3");
    scene.ends("3", Ok("1"));
    scene.save();
    assert!(scene.stored.windows(2).all(|pair| pair[0].at <= pair[1].at));
}

#[test]
fn a_sleep_of_a_year_and_one_without_end_do_not_overflow() {
    let mut scene = Scene::new();
    scene.call("", sleep(365 * 86_400_000));
    scene.call("", sleep(u64::MAX));
    scene.save();
    scene.at(365 * 86_400_000);
    assert_eq!(scene.hears(""), ["1 slept"]);
}

#[test]
fn an_approval_is_answered_rejected_or_timed_out() {
    let (mut scene, id) = asked(None);
    scene.say(yes(&id, "5"));
    assert_eq!(scene.hears(""), ["1 approved 5 by ann"]);

    let (mut scene, id) = asked(None);
    scene.say(no(&id));
    let failure = scene.failure("");
    assert_eq!((failure.kind.as_str(), failure.message.as_str()), (kind::REJECTED, "rejected by ann: too dear"));

    let (mut scene, id) = asked(Some(60_000));
    scene.reload(true);
    scene.at(60_000);
    assert_eq!(scene.save().approvals, [ApprovalEdge::TimedOut(id)]);
    scene.begin("");
    scene.call("", approval("Go live?", Some(60_000)));
    assert_eq!(scene.failure("").kind, kind::APPROVAL_TIMEOUT);
}

#[test]
fn an_answer_to_another_question_or_a_second_one_changes_nothing() {
    let (mut scene, id) = asked(None);
    assert_eq!(scene.say(yes("order-7@99", "5")).1, Receipt::Consumed);
    assert_eq!(scene.hears(""), Vec::<String>::new());
    scene.say(yes(&id, "5"));
    scene.say(no(&id));
    assert_eq!(scene.hears(""), ["1 approved 5 by ann"]);
    assert_eq!(scene.history(3), ["ApprovalReceived 1"]);
}

#[test]
fn l15_a_question_whose_race_is_lost_is_withdrawn() {
    let (mut scene, id) = asked(Some(60_000));
    scene.drops("", 1);
    assert_eq!(scene.save().approvals, [ApprovalEdge::Withdrawn(id.clone())]);
    scene.say(yes(&id, "5"));
    scene.at(60_000);
    assert_eq!(scene.hears(""), Vec::<String>::new());
    assert_eq!(scene.history(3), ["CallCancelled 1"]);
}

#[test]
fn an_answer_that_came_first_is_not_withdrawn_by_what_stands_before_it_in_the_inbox() {
    for first in [Message::Cancel { at: cerebelum_history::Timestamp(scene::START) }, Message::Terminate] {
        let (mut scene, id) = asked(None);
        scene.say(first.clone());
        scene.say(yes(&id, "5"));
        // The store would refuse each time to close a question that is answered.
        assert_eq!(scene.save().approvals, [], "{first:?}");
    }
}

#[test]
fn early_signals_wait_and_are_told_oldest_first() {
    let mut scene = Scene::new();
    let seqs = [scene.signal("go", "1"), scene.signal("other", "2"), scene.signal("go", "3")];
    assert_eq!(scene.save().seen, seqs);
    scene.call("", signal("go", None));
    scene.save();
    assert_eq!(scene.hears(""), ["1 value 1"]);
    assert_eq!(scene.save().consumed, [seqs[0]]);
    scene.call("", signal("go", None));
    scene.save();
    assert_eq!(scene.hears(""), ["2 value 3"]);
}

#[test]
fn an_early_signal_is_not_bound_before_the_wait_for_it_is_durable() {
    let mut scene = Scene::new();
    let seq = scene.signal("go", "1");
    scene.save();
    scene.call("", signal("go", None));
    assert_eq!((scene.hears(""), scene.ex.is_settled()), (vec![], false));
    assert_eq!(scene.save().consumed, Vec::<i64>::new());
    assert_eq!((scene.hears(""), scene.save().consumed), (vec!["1 value 1".to_owned()], vec![seq]));
    assert!(scene.ex.is_settled());
}

#[test]
fn events_that_are_stored_and_not_yet_acknowledged_are_replayed_once() {
    let mut scene = Scene::new();
    scene.call("", signal("go", None));
    let changes = scene.ex.take_changes();
    scene.stored.extend(changes.events);
    scene.ex.forget(&scope(""));
    scene.begin("");
    scene.call("", signal("go", None));
    assert_eq!(scene.hears(""), Vec::<String>::new(), "no second wait is expected");
}

#[test]
fn l09_a_signal_is_bound_to_the_oldest_wait_when_that_is_told() {
    let mut scene = Scene::new();
    scene.call("", step("s"));
    scene.begin("1");
    scene.call("1", signal("go", None));
    scene.at(1);
    scene.call("", signal("go", None));
    scene.save();
    scene.signal("go", "1");
    scene.signal("go", "2");
    assert_eq!(scene.hears(""), Vec::<String>::new(), "the step waits longer");
    assert_eq!(scene.hears("1"), ["1 value 1"]);
    assert_eq!(scene.hears(""), ["2 value 2"]);
}

#[test]
fn a_wait_that_is_dropped_consumes_nothing_and_the_next_one_is_woken() {
    let mut scene = Scene::new();
    scene.call("", step("s"));
    scene.call("", signal("go", None));
    scene.begin("1");
    scene.at(1);
    scene.call("1", signal("go", None));
    assert_eq!(scene.hears("1"), Vec::<String>::new());
    scene.ex.forget(&scope("1"));
    scene.save();
    assert_eq!(scene.ex.wanted(), []);
    scene.signal("go", "1");
    scene.drops("", 2);
    assert_eq!(scene.save().consumed, Vec::<i64>::new());
    assert_eq!(scene.ex.wanted(), [scope("1")]);
    scene.begin("1");
    scene.call("1", signal("go", None));
    assert_eq!(scene.hears("1"), ["1 value 1"]);
}

#[test]
fn every_scope_that_a_signal_is_there_for_is_woken() {
    let mut scene = Scene::new();
    for of in ["1", "2"] {
        scene.call("", step("s"));
        scene.begin(of);
        scene.call(of, signal("go", None));
    }
    scene.save();
    scene.reload(true);
    scene.signal("go", "1");
    scene.signal("go", "2");
    assert!(!scene.ex.is_settled());
    assert_eq!(scene.ex.wanted(), [scope("1"), scope("2")]);
    // The guest of the younger call is in memory first, and waits its turn.
    scene.begin("2");
    scene.call("2", signal("go", None));
    assert_eq!(scene.hears("2"), Vec::<String>::new());
    scene.begin("1");
    scene.call("1", signal("go", None));
    assert_eq!((scene.hears("1"), scene.hears("2")), (vec!["1 value 1".to_owned()], vec!["1 value 2".to_owned()]));
    assert!(scene.ex.is_settled());
}

#[test]
fn a_guest_that_is_forgotten_with_a_signal_for_it_is_wanted_again() {
    let mut scene = Scene::new();
    scene.call("", signal("go", None));
    scene.save();
    assert_eq!(scene.hears(""), Vec::<String>::new());
    scene.signal("go", "1");
    assert!(!scene.ex.is_settled());
    scene.ex.forget(&scope(""));
    assert_eq!(scene.ex.wanted(), [scope("")]);
}

#[test]
fn a_signal_that_came_in_time_is_told_although_the_engine_was_down_at_the_timeout() {
    let mut scene = Scene::new();
    scene.call("", signal("go", Some(1_000)));
    scene.call("", signal("go", Some(1_000)));
    scene.save();
    scene.reload(true);
    scene.signal("go", "1");
    scene.at(5_000);
    scene.begin("");
    scene.call("", signal("go", Some(1_000)));
    scene.call("", signal("go", Some(1_000)));
    let mut heard = scene.hears("");
    heard.sort();
    assert_eq!(heard, ["1 value 1", "2 failed timeout"]);
}

#[test]
fn outcomes_of_calls_that_the_guest_dropped_are_skipped_again_and_again() {
    let mut scene = Scene::new();
    scene.call("", sleep(10));
    scene.call("", sleep(10));
    scene.save();
    scene.at(10);
    // Both sleeps are over. The guest is told of the first one and drops the second, which is then never told.
    let first = scene.ex.next_delivery(&scope(""), scene.moment()).unwrap().unwrap();
    assert_eq!(first.ordinal, 1);
    scene.drops("", 2);
    scene.call("", sleep(10));
    assert_eq!(scene.hears(""), Vec::<String>::new());
    for _ in 0..2 {
        scene.save();
        scene.reload(false);
        scene.begin("");
        scene.call("", sleep(10));
        scene.call("", sleep(10));
        assert_eq!(scene.ex.next_delivery(&scope(""), scene.moment()).unwrap().unwrap().ordinal, 1);
        scene.drops("", 2);
        scene.call("", sleep(10));
        assert_eq!(scene.hears(""), Vec::<String>::new());
    }
    assert_eq!(scene.history(2).len(), 5, "nothing was recorded about the drop");
}

#[test]
fn a_guest_that_is_forgotten_before_it_could_move_is_wanted_again() {
    let mut scene = Scene::with(cerebelum_history::ExecutionOptions::default());
    scene.begin("");
    scene.ex.forget(&scope(""));
    assert_eq!(scene.ex.wanted(), [scope("")], "it has not asked for anything yet");
    scene.begin("");
    scene.call("", sleep(10));
    scene.save();
    assert_eq!(scene.hears(""), Vec::<String>::new());
    scene.ex.forget(&scope(""));
    assert_eq!(scene.ex.wanted(), [], "it is at rest");
    scene.at(10);
    scene.begin("");
    scene.call("", sleep(10));
    assert_eq!(scene.hears_next(""), "1 slept");
    scene.ex.forget(&scope(""));
    assert_eq!(scene.ex.wanted(), [scope("")], "it was told something and has not answered");
}
