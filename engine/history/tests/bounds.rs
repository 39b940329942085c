//! The limits on what a guest may request. Each limit is reached, and a rerun is refused the same requests.

#![allow(clippy::unwrap_used, reason = "tests: a value that is not there is a failure")]

mod scene;

use cerebelum_history::{
    APPROVAL_BYTES_MAX, ATTRIBUTES_MAX, Approval, CHILD_DEPTH_MAX, Call, End, ExecutionOptions, Failure,
    HISTORY_BYTES_MAX, Json, LAST_CHECK_BYTES_MAX, Level, Message, OPEN_CALL_BYTES_MAX, OPEN_CHILDREN_MAX, Outcome,
    POLL_INTERVAL_MS_MIN, PollPolicy, RETRY_DELAY_MS_MIN, RUN_LOG_BYTES_MAX, Request, STEP_DEPTH_MAX, StepCall,
    StepOptions, Timestamp, kind,
};
use scene::*;

const MIB: usize = 1 << 20;

fn large(bytes: usize) -> Json {
    Json::of(&"x".repeat(bytes - 2))
}

fn large_step(bytes: usize) -> Call {
    Call::Step(StepCall { step: "s".to_owned(), input: large(bytes) }, StepOptions::default())
}

fn large_poll(bytes: usize) -> Call {
    let policy = PollPolicy { interval_ms: 0, max_attempts: 5, timeout_ms: None };
    Call::Poll(StepCall { step: "s".to_owned(), input: large(bytes) }, policy)
}

fn large_fetch(bytes: usize) -> Call {
    let Call::Fetch(request) = fetch("http://a/") else { unreachable!("this is a fetch") };
    Call::Fetch(cerebelum_history::HttpRequest { body: vec![b'x'; bytes], ..request })
}

fn end(scene: &mut Scene, of: &str, result: Result<Json, Failure>) {
    scene.ex.ended(&scope(of), result, scene.moment()).unwrap();
}

fn is_refused(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Failed(failure) if failure.kind == kind::CALL_LIMIT)
}

/// Makes this call `made` times at once. The first `taken` calls are accepted, the others fail with a limit, and a
/// rerun from the history has the same result.
fn check_calls(options: ExecutionOptions, call: &Call, (made, taken): (usize, usize)) {
    let mut scene = Scene::with(options);
    scene.begin("");
    (0..made).for_each(|_| {
        scene.call("", call.clone());
    });
    assert_eq!((scene.ex.open().len(), scene.ex.end()), (taken, None), "{call:.40?}");
    let told = scene.told("");
    assert_eq!(told.len(), made - taken);
    assert!(told.iter().all(|told| is_refused(&told.outcome)), "{told:.200?}");
    let history = scene.history(1).len();
    scene.save();
    scene.reload(false);
    scene.begin("");
    (0..made).for_each(|_| {
        scene.call("", call.clone());
    });
    assert_eq!((scene.history(1).len(), scene.ex.open().len()), (history, taken), "a rerun adds nothing");
    assert_eq!(scene.told("").len(), made - taken);
}

#[test]
fn open_calls_hold_so_many_bytes_of_arguments_and_no_more() {
    let fits = usize::try_from(OPEN_CALL_BYTES_MAX).unwrap() / MIB - 1;
    check_calls(ExecutionOptions::default(), &large_step(MIB), (60, fits));
    check_calls(ExecutionOptions::default(), &large_poll(MIB), (60, fits));
    check_calls(ExecutionOptions::default(), &large_fetch(MIB), (60, fits));
    check_calls(ExecutionOptions::default(), &large_step(MIB / 64), (2_000, 1_016));
}

#[test]
fn questions_children_and_depth_are_bounded() {
    let Call::Approval(request) = approval("t", None) else { unreachable!("this is a question") };
    let asked = |bytes| Call::Approval(cerebelum_history::ApprovalRequest { data: large(bytes), ..request.clone() });
    check_calls(ExecutionOptions::default(), &asked(APPROVAL_BYTES_MAX / 2), (3, 3));
    check_calls(ExecutionOptions::default(), &asked(APPROVAL_BYTES_MAX), (3, 0));
    let many = (OPEN_CHILDREN_MAX + 5, OPEN_CHILDREN_MAX);
    check_calls(ExecutionOptions::default(), &Call::RunWorkflow(child("w")), many);
    check_calls(ExecutionOptions::default(), &Call::StartWorkflow(child("w")), (many.0, many.0));
    let at = |depth| ExecutionOptions { depth, ..ExecutionOptions::default() };
    check_calls(at(CHILD_DEPTH_MAX - 1), &Call::RunWorkflow(child("w")), (2, 2));
    check_calls(at(CHILD_DEPTH_MAX), &Call::RunWorkflow(child("w")), (2, 0));
    check_calls(at(CHILD_DEPTH_MAX), &Call::StartWorkflow(child("w")), (2, 0));
}

#[test]
fn steps_nest_so_deep_and_no_deeper() {
    for call in [step("s"), poll("s", 10, 1, None)] {
        let mut scene = Scene::new();
        let mut inside = String::new();
        for _ in 0..STEP_DEPTH_MAX {
            scene.call(&inside, step("s"));
            inside = if inside.is_empty() { "1".to_owned() } else { format!("{inside}.1") };
            scene.begin(&inside);
        }
        scene.call(&inside, call);
        assert!(is_refused(&scene.told(&inside)[0].outcome));
    }
}

#[test]
fn a_refused_call_is_not_what_was_asked_for_when_the_rerun_asks_for_another() {
    let mut scene = Scene::new();
    (0..17).for_each(|_| {
        scene.call("", large_step(MIB));
    });
    scene.save();
    scene.reload(false);
    scene.begin("");
    (0..15).for_each(|_| {
        scene.call("", large_step(MIB));
    });
    assert!(scene.ask("", Request::Call(16, large_step(MIB - 1))).is_err(), "other arguments than were refused");
}

#[test]
fn what_a_call_held_is_free_again_when_it_has_ended() {
    let mut scene = Scene::new();
    let empty = scene.ex.held_bytes();
    for round in 0..40 {
        let name = scene.call("", large_step(MIB));
        assert!(scene.ex.held_bytes() > empty + MIB as u64);
        scene.begin(&name.to_string());
        end(&mut scene, &name.to_string(), Ok(json("1")));
        assert_eq!(scene.told("").len(), 1, "round {round}");
        scene.save();
    }
    assert_eq!(scene.ex.held_bytes(), empty);
}

#[test]
fn attributes_are_bounded_in_number_and_by_name() {
    let set = |scene: &mut Scene, ordinal, name: &str| {
        scene.ask("", Request::SetAttribute(ordinal, name.to_owned(), json("1"))).unwrap();
        scene.ex.end().cloned()
    };
    let mut scene = Scene::new();
    for ordinal in 1..=u32::try_from(ATTRIBUTES_MAX).unwrap() {
        assert_eq!(set(&mut scene, ordinal, &format!("n{ordinal}")), None);
    }
    let limit = |end| matches!(end, Some(End::Failed(failure)) if failure.kind == kind::ATTRIBUTE_LIMIT);
    assert!(limit(set(&mut scene, 65, "one-more")));
    assert!(limit(set(&mut Scene::new(), 1, "two words")));
}

#[test]
fn a_history_holds_so_many_bytes_and_what_steps_drop_does_not_count() {
    let mut scene = Scene::new();
    let outputs = usize::try_from(HISTORY_BYTES_MAX).unwrap() / MIB;
    for _ in 0..outputs {
        let name = scene.call("", step("s"));
        scene.begin(&name.to_string());
        end(&mut scene, &name.to_string(), Ok(large(MIB)));
        scene.told("");
        scene.save();
    }
    scene.at(0);
    let Some(End::Failed(failure)) = scene.ex.end() else { panic!("{} bytes", scene.ex.history_bytes()) };
    assert_eq!(failure.kind, kind::HISTORY_LIMIT);
    let known = scene.ex.history_bytes();
    scene.reload(false);
    assert!(scene.ex.history_bytes() > known - MIB as u64, "it is known after a restart");

    let mut scene = Scene::new();
    for _ in 0..outputs / 4 + 8 {
        let outer = scene.call("", step("outer")).to_string();
        scene.begin(&outer);
        for _ in 0..4 {
            let inner = format!("{outer}.{}", scene.call(&outer, step("s")));
            scene.begin(&inner);
            end(&mut scene, &inner, Ok(large(MIB)));
            scene.told(&outer);
        }
        end(&mut scene, &outer, Ok(json("1")));
        scene.told("");
        scene.save();
        scene.at(0);
        assert_eq!(scene.ex.end(), None);
    }
}

#[test]
fn waits_before_retries_and_checks_have_a_floor() {
    let mut scene = Scene::new();
    scene.call("", step_with("s", retry(3, 0, 1.0, 0.0)));
    scene.begin("1");
    end(&mut scene, "1", Err(broken("no")));
    assert_eq!(scene.ex.due(), Some(Timestamp(START + RETRY_DELAY_MS_MIN)));

    let mut scene = Scene::new();
    scene.call("", large_poll(100));
    scene.begin("1#1");
    end(&mut scene, "1#1", Ok(Json::of(&serde_json::json!({ "not_yet": "x".repeat(LAST_CHECK_BYTES_MAX) }))));
    assert_eq!(scene.ex.due(), Some(Timestamp(START + POLL_INTERVAL_MS_MIN)));
    scene.save();
    assert!(scene.open[&name("1")].len() < 1_000, "what is only shown is kept short");
}

#[test]
fn an_endless_retry_ends_with_the_history() {
    let mut scene = Scene::new();
    scene.call("", step_with("s", retry(u32::MAX, 0, 1.0, 0.0)));
    let mut now = 0;
    while scene.ex.end().is_none() {
        scene.begin("1");
        end(&mut scene, "1", Err(Failure { details: Some(large(32 << 10)), ..broken("no") }));
        scene.save();
        now += RETRY_DELAY_MS_MIN;
        assert!(now < 1_000_000, "it goes on and on");
        scene.at(now);
    }
    assert!(matches!(scene.ex.end(), Some(End::Failed(failure)) if failure.kind == kind::HISTORY_LIMIT));
}

#[test]
fn a_run_logs_so_much_and_says_so() {
    let mut scene = Scene::new();
    let mut kept = Vec::new();
    for _ in 0..RUN_LOG_BYTES_MAX / MIB as u64 + 10 {
        scene.ask("", Request::Log(Level::Info, "x".repeat(MIB))).unwrap();
        assert!(scene.ex.unsaved_bytes() <= 2 * MIB as u64);
        kept.extend(scene.save().logs);
        assert!(scene.ex.unsaved_bytes() < 1_000);
        scene.reload(false);
        scene.begin("");
    }
    assert_eq!(kept.len() as u64, RUN_LOG_BYTES_MAX / MIB as u64);
    assert!(kept.last().unwrap().text.contains("dropped"));
}

#[test]
fn signals_and_answers_weigh_until_they_are_read() {
    let mut scene = Scene::new();
    let empty = scene.ex.held_bytes();
    for _ in 0..3 {
        scene.say(Message::Signal { name: "s".to_owned(), data: large(MIB), cause: None });
    }
    scene.save();
    assert!(scene.ex.held_bytes() > empty + 3 * MIB as u64);
    for _ in 0..3 {
        scene.call("", signal("s", None));
        scene.save();
        assert_eq!(scene.told("").len(), 1);
        scene.save();
    }
    assert_eq!(scene.ex.held_bytes(), empty);
    let asked = scene.call("", approval("t", None));
    scene.save();
    let approval = Approval { data: large(MIB), by: "ann".to_owned(), comment: None };
    let id = "order-7@8".to_owned();
    scene.say(Message::Approved { call: name(&asked.to_string()), id, approval, cause: None });
    assert!(scene.ex.held_bytes() > empty + MIB as u64);
    scene.told("");
    scene.save();
    assert_eq!(scene.ex.held_bytes(), empty);
}
