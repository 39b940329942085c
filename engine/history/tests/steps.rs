//! Steps: attempts and the waits between them, timeouts, deadlines, and what remains of a step that has ended.

#![expect(clippy::unwrap_used, reason = "this is all test; what cannot be unwrapped fails it")]

mod scene;

use cerebelum_history::{
    Action, CallPhase, EventData, Failure, HttpResponse, Json, Position, Request, StepOptions, Target, kind,
};
use scene::{Scene, broken, child, fetch, json, name, poll, retry, scope, signal, sleep, step, step_with};

/// Fails one attempt after the other. Returns when each next attempt began, in milliseconds since the previous one
/// failed.
fn waits(options: StepOptions, chance: f64) -> (Vec<u64>, Failure) {
    let mut scene = Scene::new();
    scene.chance = chance;
    scene.call("", step_with("pay", options));
    let mut waits = Vec::new();
    for attempt in 1.. {
        assert_eq!(scene.begin("1").attempt, attempt);
        let failed_at = scene.now;
        scene.ends("1", Err(broken(&format!("no {attempt}"))));
        let Some(due) = scene.ex.due() else { break };
        waits.push(due.0 - failed_at);
        // One millisecond too early nothing happens, and the delay is not drawn again.
        scene.save();
        scene.at(due.0 - scene::START - 1);
        scene.reload(true);
        assert_eq!(scene.ex.wanted(), []);
        scene.chance = 1.0 - chance;
        scene.at(due.0 - scene::START);
        scene.chance = chance;
        assert_eq!(scene.ex.wanted(), [scope("1")]);
    }
    if !waits.is_empty() {
        scene.begin("");
        scene.call("", step("pay"));
    }
    (waits, scene.failure(""))
}

#[test]
fn a_step_is_tried_again_after_growing_waits_and_then_fails_with_its_last_failure() {
    let (between, failure) = waits(retry(5, 5_000, 2.0, 0.0), 0.5);
    assert_eq!((between, failure), (vec![5_000, 10_000, 20_000, 30_000], broken("no 5")));
    let (between, failure) = waits(retry(1, 5_000, 2.0, 0.0), 0.5);
    assert_eq!((between, failure), (vec![], broken("no 1")));
    let (between, _) = waits(StepOptions::default(), 0.5);
    assert_eq!(between, [1_000, 2_000], "the default");
}

#[test]
fn l14_jitter_is_drawn_once_and_recorded() {
    assert_eq!(waits(retry(3, 1_000, 1.0, 0.2), 0.0).0, [800, 800]);
    assert_eq!(waits(retry(3, 1_000, 1.0, 0.2), 1.0).0, [1_200, 1_200]);
    let mut scene = Scene::new();
    (scene.chance, _) = (0.0, scene.call("", step_with("pay", retry(2, 1_000, 1.0, 0.2))));
    scene.begin("1");
    scene.ends("1", Err(broken("no")));
    scene.save();
    let EventData::StepRetried { attempt: 1, delay_ms: 800, .. } = scene.stored.last().unwrap().data else {
        panic!("{:?}", scene.stored)
    };
}

#[test]
fn a_failure_that_cannot_be_mended_and_a_completed_step_are_not_tried_again() {
    for result in [Err(Failure::new(kind::FAILURE, "never")), Ok("5")] {
        let mut scene = Scene::new();
        scene.call("", step("pay"));
        scene.begin("1");
        scene.ends("1", result);
        assert_eq!((scene.ex.due(), scene.ex.wanted()), (None, vec![]));
        assert_eq!(scene.told("").len(), 1);
    }
}

#[test]
fn l03_a_retry_begins_anew_with_the_same_keys_and_other_random_numbers() {
    let mut scene = Scene::new();
    scene.call("", step_with("pay", retry(3, 10, 1.0, 0.0)));
    let first = scene.begin("1");
    scene.call("1", sleep(5));
    scene.call("1", fetch("http://a/"));
    scene.save();
    let Some(Action::Fetch { key, .. }) = scene.ex.take_actions().pop() else { panic!("a request") };
    scene.at(5);
    assert_eq!(scene.hears("1"), ["1 slept"]);
    scene.ends("1", Err(broken("no")));
    assert_eq!(scene.history(5), ["1: SleepCompleted 1", "1: CallCancelled 2", "StepRetried 1"]);
    scene.at(15);
    let second = scene.begin("1");
    assert_eq!((&first.idempotency_key, 2), (&second.idempotency_key, second.attempt));
    assert_eq!((first.clock.0, second.clock.0), (scene::START, scene::START + 15));
    assert_ne!(first.seed, second.seed);
    assert!(scene.told("1").is_empty(), "the sleep of the first attempt is not the second one's");
    scene.call("1", sleep(5));
    scene.call("1", fetch("http://a/"));
    let Some(Action::Fetch { key: again, .. }) = scene.ex.take_actions().pop() else { panic!("a request") };
    assert_eq!(key, again);
    assert_eq!(scene.history(8), ["1: SleepStarted 1", "1: FetchStarted 2"]);
}

#[test]
fn l14_a_crash_uses_up_no_attempt_and_repeats_no_answered_request() {
    let mut scene = Scene::new();
    scene.call("", step("pay"));
    scene.begin("1");
    scene.call("1", fetch("http://a/"));
    scene.ex.take_actions();
    let response = HttpResponse { status: 200, headers: Vec::new(), body: b"yes".to_vec() };
    scene.ex.fetched(&name("1.1"), Ok(response), scene.moment());
    assert_eq!(scene.hears("1"), ["1 responded 200"]);
    scene.call("1", sleep(86_400_000));
    scene.save();
    scene.reload(true);
    assert_eq!(scene.ex.wanted(), []);
    scene.at(86_400_000);
    assert_eq!(scene.ex.wanted(), [scope("1")], "the workflow's guest is not needed for a wake-up of its step");
    assert_eq!(scene.begin("1").attempt, 1);
    scene.call("1", fetch("http://a/"));
    assert_eq!(scene.ex.take_actions(), []);
    scene.call("1", sleep(86_400_000));
    assert_eq!(scene.hears("1"), ["1 responded 200", "2 slept"]);
}

#[test]
fn an_unanswered_request_is_sent_again_after_a_crash_with_the_same_key() {
    let mut scene = Scene::new();
    scene.call("", step("pay"));
    scene.begin("1");
    scene.call("1", fetch("http://a/"));
    scene.save();
    let sent = scene.ex.take_actions();
    scene.reload(false);
    scene.begin("1");
    scene.call("1", fetch("http://a/"));
    let again = scene.ex.take_actions();
    let key = |actions: &[Action]| match actions {
        [Action::Fetch { key, call, .. }] => (key.clone(), call.clone()),
        other => panic!("{other:?}"),
    };
    assert_eq!(key(&sent), key(&again));
}

#[test]
fn a_request_that_is_dropped_before_it_left_does_not_leave() {
    let mut scene = Scene::new();
    scene.call("", fetch("http://a/"));
    scene.drops("", 1);
    assert_eq!(scene.ex.take_actions(), []);
    assert_eq!(scene.history(2), ["FetchStarted 1", "CallCancelled 1"]);
}

#[test]
fn a_stretch_that_takes_too_long_is_an_attempt_that_failed() {
    let mut scene = Scene::new();
    let options = StepOptions { timeout_ms: Some(500), ..retry(2, 10, 1.0, 0.0) };
    scene.call("", step_with("pay", options));
    assert_eq!(scene.ex.active_ms_max(&scope("1")), Some(500));
    scene.begin("1");
    scene.call("1", sleep(1));
    let slow = Failure::retryable(kind::TIMEOUT, "too slow");
    scene.ex.timed_out(&scope("1"), slow.clone(), scene.moment());
    assert_eq!(scene.history(3), ["1: SleepStarted 1", "1: CallCancelled 1", "StepRetried 1"]);
    scene.at(10);
    scene.begin("1");
    scene.ex.timed_out(&scope("1"), slow.clone(), scene.moment());
    assert_eq!(scene.failure(""), slow);
    // A late timeout for a guest that is gone changes nothing.
    scene.ex.timed_out(&scope("1"), slow, scene.moment());
    assert_eq!(scene.history(6), ["StepFailed 1"]);
}

#[test]
fn a_deadline_bounds_the_whole_step_its_waits_and_retries_included() {
    let mut scene = Scene::new();
    let options = StepOptions { deadline_ms: Some(100), ..retry(9, 80, 1.0, 0.0) };
    scene.call("", step_with("pay", options));
    scene.begin("1");
    scene.call("1", signal("never", None));
    scene.at(50);
    scene.ends("1", Err(broken("no")));
    scene.at(99);
    assert_eq!(scene.ex.wanted(), []);
    scene.at(100);
    let failure = scene.failure("");
    assert_eq!((failure.kind.as_str(), failure.message.as_str()), (kind::DEADLINE, "the step's deadline passed"));
    assert_eq!(scene.history(6), ["StepFailed 1"]);
    assert_eq!((scene.ex.due(), scene.ex.open().len()), (None, 0));
}

#[test]
fn l15_a_deadline_stops_the_guest_and_everything_it_started() {
    let mut scene = Scene::new();
    scene.call("", step_with("pay", StepOptions { deadline_ms: Some(100), ..StepOptions::default() }));
    scene.begin("1");
    scene.call("1", step("inner"));
    scene.begin("1.1");
    scene.call("1.1", sleep(500));
    scene.call("1", poll("check", 5, 3, None));
    scene.begin("1.2#1");
    scene.at(100);
    let stops = [scope("1.1"), scope("1.2#1"), scope("1")].map(Action::Stop);
    assert_eq!(scene.ex.take_actions(), stops);
    let expected = ["1.1: CallCancelled 1", "1: CallCancelled 1", "1: CallCancelled 2", "StepFailed 1"];
    assert_eq!(scene.history(6), expected);
    scene.at(1_000);
    scene.ends("1.1", Ok("1"));
    assert_eq!(scene.history(10), Vec::<String>::new(), "a stopped step does nothing more");
}

#[test]
fn what_is_not_there_fails_the_call_at_once() {
    let mut scene = Scene::new();
    scene.target = Err(Failure::new(kind::NOT_FOUND, "no step `pay`"));
    scene.call("", step("pay"));
    scene.call("", poll("check", 5, 3, None));
    scene.call("", cerebelum_history::Call::RunWorkflow(child("w")));
    assert_eq!(scene.hears(""), ["1 failed not-found", "2 failed not-found", "3 failed not-found"]);
    assert_eq!(scene.ex.open().len(), 0);
}

#[test]
fn l17_a_step_is_pinned_to_the_component_it_was_first_resolved_to() {
    let mut scene = Scene::new();
    let other = cerebelum_history::Digest::of(b"other");
    scene.target = Ok(Target { component: Some(other.clone()), options: retry(2, 70, 1.0, 0.0), ..Target::default() });
    scene.call("", step("other/pay"));
    scene.begin("1");
    scene.target = Ok(Target::default());
    scene.call("1", step("inner"));
    assert_eq!([scope(""), scope("1"), scope("1.1")].map(|of| *scene.ex.component(&of) == other), [false, true, true]);
    scene.save();
    scene.reload(false);
    scene.begin("");
    let request = Request::Call(1, step("other/pay"));
    assert_eq!(scene.ex.needs_target(&scope(""), &request), None, "it is not looked up again");
    scene.ask("", request).unwrap();
    assert_eq!(*scene.ex.component(&scope("1")), other);
    scene.begin("1");
    scene.call("1", step("inner"));
    scene.ends("1", Err(broken("no")));
    assert_eq!(scene.ex.due().map(|due| due.0 - scene.now), Some(70), "what it declares for itself counts");
}

/// A step that is told two values, is saved after the first one or not, and then ends by `end`.
fn values_left(save_between: bool, end: impl FnOnce(&mut Scene)) -> (Vec<String>, Vec<(Position, Position)>) {
    let mut scene = Scene::new();
    scene.call("", step_with("pay", retry(1, 1, 1.0, 0.0)));
    scene.begin("1");
    scene.call("1", signal("a", None));
    scene.call("1", signal("b", None));
    scene.save();
    scene.signal("a", "\"first\"");
    assert_eq!(scene.hears("1"), [r#"1 value "first""#]);
    if save_between {
        scene.save();
    }
    scene.signal("b", "\"second\"");
    assert_eq!(scene.hears("1"), [r#"2 value "second""#]);
    end(&mut scene);
    let changes = scene.save();
    let data = scene.stored.iter().filter_map(|event| match &event.data {
        EventData::SignalReceived { data, .. } => Some(data.as_ref().map_or("dropped".to_owned(), Json::to_string)),
        _ => None,
    });
    (data.collect(), changes.valueless.into_iter().map(|(_, from, to)| (from, to)).collect())
}

#[test]
fn l12_when_a_step_ends_the_values_inside_are_dropped_and_the_events_stay() {
    let dropped = vec!["dropped".to_owned(), "dropped".to_owned()];
    for end in [Ok("1"), Err(broken("no"))] {
        // Positions: 1 is the start, 2 the step, 3 and 4 the waits, 5 the first signal.
        let stored = (dropped.clone(), vec![(Position(5), Position(5))]);
        assert_eq!(values_left(true, |scene| scene.ends("1", end.clone())), stored);
        let untaken = (dropped.clone(), vec![]);
        assert_eq!(values_left(false, |scene| scene.ends("1", end.clone())), untaken);
    }
    assert_eq!(values_left(true, |scene| scene.drops("", 1)).0, dropped, "cancelled");
    assert_eq!(values_left(true, |scene| scene.ends("", Ok("1"))).0, dropped, "ended with the workflow");
}

#[test]
fn values_of_every_attempt_and_of_every_nested_step_are_dropped() {
    let mut scene = Scene::new();
    scene.call("", step_with("outer", retry(2, 1, 1.0, 0.0)));
    for attempt in 1..=2 {
        scene.begin("1");
        scene.call("1", step("inner"));
        scene.begin("1.1");
        scene.call("1.1", fetch("http://a/"));
        let response = HttpResponse { status: 200, headers: Vec::new(), body: Vec::new() };
        scene.ex.fetched(&name("1.1.1"), Ok(response), scene.moment());
        assert_eq!(scene.hears("1.1"), ["1 responded 200"]);
        scene.save();
        scene.ends("1.1", Ok("5"));
        assert_eq!(scene.hears("1"), ["1 value 5"]);
        scene.save();
        scene.ends("1", if attempt == 1 { Err(broken("no")) } else { Ok("6") });
        scene.save();
        scene.at(10 * attempt);
    }
    scene.save();
    for event in &scene.stored {
        let is_inner = !event.scope.is_root();
        assert!(!is_inner || event.data == event.data.clone().without_values(), "{event:?}");
    }
    assert_eq!(scene.hears(""), ["1 value 6"]);
    let EventData::StepCompleted { output: Some(output), .. } = &scene.stored.last().unwrap().data else { panic!() };
    assert_eq!(*output, json("6"));
}

#[test]
fn while_a_step_is_open_its_values_stay() {
    let mut scene = Scene::new();
    scene.call("", step("outer"));
    scene.begin("1");
    scene.call("1", signal("a", None));
    scene.save();
    scene.signal("a", "5");
    assert_eq!(scene.hears("1"), ["1 value 5"]);
    scene.call("1", sleep(50));
    scene.save();
    scene.reload(true);
    scene.at(50);
    scene.begin("1");
    scene.call("1", signal("a", None));
    assert_eq!(scene.hears_next("1"), "1 value 5");
    let CallPhase::Step(open) = &scene.ex.open()[&name("1")].phase else { panic!("a step") };
    assert_eq!(open.values_after, Some(3));
}
