//! How an execution looks from outside, and how a rerun that diverges is reported.

#![expect(clippy::unwrap_used, reason = "this is all test; what cannot be unwrapped fails it")]

mod scene;

use cerebelum_history::{Level, Message, Request, Scope, Status, WaitKind, Waiting, steps, waiting_on};
use scene::{START, Scene, approval, broken, child, fetch, json, poll, retry, scope, signal, sleep, step, step_with};

fn line(waiting: &Waiting) -> String {
    let after = |at: cerebelum_history::Timestamp| at.0 - START;
    let until = waiting.until.map_or(String::new(), |until| format!(" until {}", after(until)));
    format!("{} {} {}{until}", waiting.kind, waiting.call, waiting.name)
}

/// The status and the waits.
fn look(scene: &Scene) -> (Status, Vec<String>) {
    let waits = waiting_on(scene.ex.open());
    let place =
        |wait: &&Waiting| (wait.kind, wait.until.map_or(u64::MAX, |until| until.0), wait.since, wait.call.clone());
    let held: Vec<&Waiting> =
        waits.iter().filter(|wait| !matches!(wait.kind, WaitKind::Step | WaitKind::Fetch | WaitKind::Start)).collect();
    let (first, kept) = (held.iter().copied().min_by_key(place), scene.ex.first_wait());
    let of_kept = kept.as_ref().map(|wait| (&*wait.kind, &*wait.name, wait.since, wait.until, wait.others as usize));
    let of_first = first.map(|wait| (wait.kind.word(), &*wait.name, wait.since, wait.until, held.len() - 1));
    assert_eq!(of_kept, of_first, "lists and the page name the same wait");
    (scene.ex.status(), waits.iter().map(line).collect())
}

fn check(play: impl FnOnce(&mut Scene), status: Status, waits: &[&str]) {
    let mut scene = Scene::new();
    play(&mut scene);
    assert_eq!(look(&scene), (status, waits.iter().map(|wait| (*wait).to_owned()).collect()));
}

#[test]
fn l20_each_wait_has_its_word_and_its_line() {
    check(|_| {}, Status::Running, &[]);
    check(
        |s| {
            s.call("", sleep(50));
        },
        Status::Sleeping,
        &["sleep 1  until 50"],
    );
    check(
        |s| {
            s.call("", approval("Go?", Some(9)));
        },
        Status::WaitingForApproval,
        &["approval 1 Go? until 9"],
    );
    check(
        |s| {
            s.call("", signal("go", None));
        },
        Status::Waiting,
        &["signal 1 go"],
    );
    check(
        |s| {
            s.call("", fetch("http://a/"));
        },
        Status::Running,
        &["fetch 1 http://a/"],
    );
    let (awaited, started) =
        (cerebelum_history::Call::RunWorkflow(child("w")), cerebelum_history::Call::StartWorkflow(child("w")));
    check(
        |s| {
            s.call("", awaited);
        },
        Status::Waiting,
        &["child 1 order-7.1"],
    );
    check(
        |s| {
            s.call("", started);
        },
        Status::Waiting,
        &["start 1 order-7.1"],
    );
    check(
        |s| {
            s.call("", step("pay"));
        },
        Status::Running,
        &["step 1 pay"],
    );
    check(
        |s| {
            s.call("", poll("ready?", 5, 9, None));
        },
        Status::Waiting,
        &["poll 1 ready?"],
    );
}

#[test]
fn retries_and_rounds_wait_until_their_next_time_and_count() {
    let mut scene = Scene::new();
    scene.call("", step_with("pay", retry(3, 40, 1.0, 0.0)));
    scene.call("", poll("ready?", 70, 9, None));
    scene.begin("1");
    scene.ends("1", Err(broken("no")));
    scene.begin("2#1");
    scene.ends("2#1", Ok(r#"{"not_yet": "50 %"}"#));
    assert_eq!(
        look(&scene),
        (Status::Waiting, vec!["retry 1 pay until 40".to_owned(), "poll 2 ready? until 70".to_owned()])
    );
    let waiting = waiting_on(scene.ex.open());
    assert_eq!(
        (waiting[0].attempts, waiting[1].attempts, waiting[1].last.clone()),
        (Some(1), Some(2), Some(json("\"50 %\"")))
    );
}

#[test]
fn l20_of_several_waits_the_most_specific_wins_and_a_step_that_waits_inside_shows_that_instead() {
    let mut scene = Scene::new();
    scene.call("", signal("go", None));
    scene.call("", step("outer"));
    scene.begin("2");
    scene.call("2", step("inner"));
    scene.begin("2.1");
    scene.call("2.1", sleep(50));
    assert_eq!(look(&scene), (Status::Sleeping, vec!["signal 1 go".to_owned(), "sleep 2.1.1  until 50".to_owned()]));
    scene.at(1);
    scene.call("", poll("ready?", 5, 9, None));
    scene.begin("3#1");
    scene.call("3#1", approval("Go?", None));
    let waits = ["signal 1 go", "sleep 2.1.1  until 50", "approval 3#1.1 Go?"];
    assert_eq!(look(&scene), (Status::WaitingForApproval, waits.map(str::to_owned).to_vec()));
}

#[test]
fn a_step_that_computes_counts_as_running_beside_a_sleep() {
    check(
        |scene| {
            scene.call("", sleep(50));
            scene.call("", step("busy"));
        },
        Status::Running,
        &["sleep 1  until 50", "step 2 busy"],
    );
}

#[test]
fn step_lines_tell_name_status_attempt_and_output() {
    let mut scene = Scene::new();
    for (ordinal, result) in [("1", Ok("5")), ("2", Err(broken("no"))), ("3", Err(broken("no")))] {
        let attempts = if ordinal == "2" { 1 } else { 2 };
        scene.call("", step_with("s", retry(attempts, 40, 1.0, 0.0)));
        scene.begin(ordinal);
        scene.ends(ordinal, result);
    }
    scene.call("", step("waits"));
    scene.begin("4");
    scene.call("4", sleep(5));
    scene.call("", step("runs"));
    scene.call("", step("dropped"));
    scene.drops("", 6);
    scene.call("", poll("ready?", 5, 9, None));
    scene.save();
    let lines = steps(&scene.stored, scene.ex.open());
    let lines: Vec<_> =
        lines.iter().map(|line| (line.call.to_string(), line.status, line.attempt, line.output.is_some())).collect();
    let expected = [
        ("1", Status::Completed, 1, true),
        ("2", Status::Failed, 1, false),
        ("3", Status::Waiting, 1, false),
        ("4", Status::Waiting, 1, false),
        ("5", Status::Running, 1, false),
        ("6", Status::Cancelled, 1, false),
        ("7", Status::Waiting, 1, false),
    ];
    assert_eq!(lines, expected.map(|(call, status, attempt, output)| (call.to_owned(), status, attempt, output)));
    // Calls that are open are listed even if the beginning of the history was not read.
    let end = steps(&scene.stored[scene.stored.len() - 1..], scene.ex.open());
    let end: Vec<_> = end.iter().map(|line| (line.call.to_string(), line.status)).collect();
    let expected = [("3", Status::Waiting), ("4", Status::Waiting), ("5", Status::Running), ("7", Status::Waiting)];
    assert_eq!(end, expected.map(|(call, status)| (call.to_owned(), status)));
}

/// A workflow that slept and then called a step, started over.
fn rerun() -> Scene {
    let mut scene = Scene::new();
    scene.call("", sleep(10));
    scene.call("", step("pay"));
    scene.save();
    scene.reload(false);
    scene.begin("");
    scene
}

#[test]
fn what_an_earlier_guest_has_done_is_repeated_and_what_follows_is_not() {
    let mut scene = Scene::new();
    assert!(!scene.ex.is_repeating(&Scope::root()));
    scene.call("", sleep(10));
    scene.save();
    scene.reload(false);
    scene.begin("");
    assert!(scene.ex.is_repeating(&Scope::root()));
    scene.call("", sleep(10));
    scene.at(20);
    assert_eq!(scene.told("").len(), 1);
    assert!(!scene.ex.is_repeating(&Scope::root()));
    scene.save();
    scene.reload(false);
    scene.begin("");
    scene.call("", sleep(10));
    assert_eq!(scene.told("").len(), 1);
    assert!(scene.ex.is_repeating(&Scope::root()), "it may have done something since it was told that");
}

#[test]
fn l02_a_changed_call_is_reported_with_both_sides() {
    let mut scene = rerun();
    let diverged = scene.ask("", Request::Call(1, sleep(11))).unwrap_err();
    assert_eq!(
        diverged.to_string(),
        "the rerun diverged from the history in scope `` at call 1:\n  \
         expected SleepStarted {\"ordinal\":1,\"duration_ms\":10}\n  \
         actual   call 1, Sleep { duration_ms: 11 }"
    );
    let mut scene = rerun();
    let diverged = scene.ask("", Request::SetAttribute(1, "a".to_owned(), json("1"))).unwrap_err();
    assert!(diverged.expected.starts_with("SleepStarted") && diverged.actual.starts_with("SetAttribute"), "{diverged}");
}

#[test]
fn a_missing_call_is_reported_with_what_the_guest_does_instead() {
    let mut scene = rerun();
    scene.call("", sleep(10));
    let diverged = scene.ex.next_delivery(&scope(""), scene.moment()).unwrap_err();
    assert_eq!((diverged.ordinal, diverged.actual.as_str()), (2, "the guest waits for something else"));
    assert!(diverged.expected.starts_with(r#"StepStarted {"ordinal":2,"call":{"step":"pay""#), "{diverged}");

    let mut scene = rerun();
    scene.call("", sleep(10));
    let diverged = scene.ex.ended(&scope(""), Ok(json("1")), scene.moment()).unwrap_err();
    assert_eq!((diverged.ordinal, diverged.actual.as_str()), (2, "the guest ended: Ok(1)"));
}

#[test]
fn an_extra_call_before_what_was_recorded_is_reported() {
    let mut scene = rerun();
    scene.call("", sleep(10));
    let diverged = scene.ask("", Request::Call(2, signal("go", None))).unwrap_err();
    assert!(diverged.actual.starts_with("call 2, Signal"), "{diverged}");
}

#[test]
fn a_drop_that_is_not_repeated_is_reported() {
    let mut scene = Scene::new();
    scene.call("", sleep(10));
    scene.call("", sleep(20));
    scene.drops("", 1);
    scene.save();
    scene.reload(false);
    scene.begin("");
    scene.call("", sleep(10));
    scene.call("", sleep(20));
    let diverged = scene.ex.next_delivery(&scope(""), scene.moment()).unwrap_err();
    assert_eq!((diverged.ordinal, diverged.expected.as_str()), (1, "this call to be dropped"));
}

#[test]
fn long_values_do_not_flood_the_report() {
    let mut scene = Scene::new();
    scene.call("", signal(&"x".repeat(5_000), None));
    scene.save();
    scene.reload(false);
    scene.begin("");
    let diverged = scene.ask("", Request::Call(1, signal(&"y".repeat(5_000), None))).unwrap_err();
    assert!(diverged.to_string().len() < 1_000);
}

#[test]
fn l07_what_a_rerun_says_again_is_not_said_again() {
    let mut scene = Scene::new();
    let log = |text: &str| Request::Log(Level::Info, text.to_owned());
    scene.ask("", log("one")).unwrap();
    scene.ask("", Request::Progress(10, "a".to_owned())).unwrap();
    scene.call("", sleep(10));
    scene.ask("", log("two")).unwrap();
    let changes = scene.save();
    assert_eq!(
        changes.logs.iter().map(|line| (line.number, line.text.as_str())).collect::<Vec<_>>(),
        [(1, "one"), (2, "two")]
    );
    scene.reload(false);
    scene.begin("");
    scene.ask("", log("one")).unwrap();
    scene.ask("", Request::Progress(10, "a".to_owned())).unwrap();
    scene.call("", sleep(10));
    // The store recognizes a line that was written before, because it has the same number.
    scene.ask("", log("two")).unwrap();
    let changes = scene.save();
    assert_eq!(changes.logs.iter().map(|line| line.number).collect::<Vec<_>>(), [2]);
    assert_eq!(changes.progress, []);
}

#[test]
fn of_progress_only_the_latest_of_each_scope_is_kept() {
    let mut scene = Scene::new();
    scene.call("", step("s"));
    scene.begin("1");
    for (of, percent) in [("", 10), ("1", 33), ("", 20), ("1", 250)] {
        scene.ask(of, Request::Progress(percent, "working".to_owned())).unwrap();
    }
    let progress: Vec<_> =
        scene.save().progress.into_iter().map(|(of, percent, _)| (of.to_string(), percent)).collect();
    assert_eq!(progress, [(String::new(), 20), ("1".to_owned(), 100)]);
}

#[test]
fn attributes_are_kept_and_repeated() {
    let mut scene = Scene::new();
    let set = |ordinal, value: &str| Request::SetAttribute(ordinal, "state".to_owned(), json(value));
    scene.ask("", set(1, "\"new\"")).unwrap();
    scene.ask("", set(2, "\"paid\"")).unwrap();
    scene.save();
    scene.reload(false);
    scene.begin("");
    scene.ask("", set(1, "\"new\"")).unwrap();
    assert_eq!(scene.ex.attributes()["state"], json("\"paid\""), "a rerun does not set it back");
    assert!(scene.ask("", set(2, "\"lost\"")).is_err());
    assert_eq!(scene.say(Message::Resume).1, cerebelum_history::Receipt::Consumed);
}
