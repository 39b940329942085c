//! Names of calls and of log lines: a repetition by a rerun has the same name, and what is done anew has a different
//! one.

#![expect(clippy::unwrap_used, reason = "this is all test; what cannot be unwrapped fails it")]

mod scene;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use cerebelum_history::{Failure, Level, Message, Request, Scope, failed_call};
use scene::{START, Scene, broken, poll, retry, signal, sleep, step, step_with};

/// The log lines as the store keeps them: the first line of each name.
#[derive(Default)]
struct Book(BTreeMap<(Scope, u32, u64, u32), String>);

impl Book {
    /// Takes the scene's lines. Returns those that are new.
    fn takes(&mut self, scene: &mut Scene) -> Vec<String> {
        let mut new = Vec::new();
        for line in scene.save().logs {
            if let Entry::Vacant(free) = self.0.entry((line.scope, line.attempt, line.place, line.number)) {
                new.push(free.insert(line.text).clone());
            }
        }
        new
    }
}

fn say(scene: &mut Scene, of: &str, text: &str) {
    scene.ask(of, Request::Log(Level::Info, text.to_owned())).unwrap();
}

/// Plays a step that calls a step and a poll. Each logs a line before a sleep and after it. Returns the new lines.
fn play_nested(scene: &mut Scene, book: &mut Book) -> Vec<String> {
    scene.begin("1");
    say(scene, "1", "outer");
    scene.call("1", step("inner"));
    scene.call("1", poll("check", 5, 1, None));
    for inner in ["1.1", "1.2#1"] {
        scene.begin(inner);
        say(scene, inner, "before");
        scene.call(inner, sleep(1));
    }
    let mut new = book.takes(scene);
    scene.at(scene.now - START + 1);
    for inner in ["1.1", "1.2#1"] {
        assert_eq!(scene.hears(inner), ["1 slept"]);
        say(scene, inner, "after");
    }
    new.extend(book.takes(scene));
    new
}

#[test]
fn l07_what_runs_inside_a_retried_step_says_its_lines_each_time_and_a_rerun_says_none() {
    let (mut scene, mut book) = (Scene::new(), Book::default());
    scene.call("", step_with("outer", retry(3, 0, 1.0, 0.0)));
    scene.save();
    for attempt in 1..=3 {
        let lines = play_nested(&mut scene, &mut book);
        assert_eq!(lines, ["outer", "before", "before", "after", "after"], "attempt {attempt}");
        scene.reload(false);
        assert_eq!(play_nested(&mut scene, &mut book), [""; 0], "attempt {attempt}, again after a crash");
        scene.ends("1", Err(broken("no")));
        scene.save();
        scene.later(10);
    }
}

#[test]
fn l07_rounds_and_attempts_of_a_check_say_their_lines_each_time() {
    let (mut scene, mut book) = (Scene::new(), Book::default());
    scene.target =
        Ok(cerebelum_history::Target { options: retry(2, 0, 1.0, 0.0), ..cerebelum_history::Target::default() });
    scene.call("", poll("check", 0, 9, None));
    for round in 1..=2 {
        let of = format!("1#{round}");
        for answer in [Err(broken("no")), Ok(r#"{"not_yet": 1}"#)] {
            scene.begin(&of);
            say(&mut scene, &of, "look");
            scene.call(&of, step("inner"));
            let inner = format!("{of}.1");
            scene.begin(&inner);
            say(&mut scene, &inner, "inner");
            assert_eq!(book.takes(&mut scene), ["look", "inner"], "round {round}, {answer:?}");
            scene.ends(&of, answer);
            scene.save();
            scene.later(10);
        }
    }
}

#[test]
fn l07_what_a_workflow_says_after_a_reopen_is_kept_and_what_it_said_before_is_not_repeated() {
    let (mut scene, mut book) = (Scene::new(), Book::default());
    let pay = step_with("pay", retry(1, 1, 1.0, 0.0));
    say(&mut scene, "", "begin");
    scene.call("", pay.clone());
    for time in 0..3 {
        say(&mut scene, "", "asked");
        scene.begin("1");
        say(&mut scene, "1", "paying");
        let result = if time == 2 { Ok("1") } else { Err(broken("no money")) };
        scene.ends("1", result);
        assert_eq!(scene.hears("").len(), 1);
        say(&mut scene, "", "told");
        let expected: &[&str] = if time == 0 { &["begin", "asked", "paying", "told"] } else { &["paying", "told"] };
        assert_eq!(book.takes(&mut scene), expected, "time {time}");
        if time < 2 {
            reopen(&mut scene, broken("no money"));
            scene.begin("");
            say(&mut scene, "", "begin");
            scene.call("", pay.clone());
        }
    }
}

#[test]
fn l07_what_a_workflow_says_to_an_outcome_that_it_hears_anew_after_a_reopen_is_kept() {
    let (mut scene, mut book) = (Scene::new(), Book::default());
    let issue = |scene: &mut Scene| {
        for name in ["pay", "ship", "tell"] {
            scene.call("", step_with(name, retry(1, 1, 1.0, 0.0)));
        }
    };
    issue(&mut scene);
    for time in 0..3 {
        if time == 0 {
            for of in ["1", "2", "3"] {
                scene.begin(of);
            }
        } else {
            scene.begin("1");
            for ordinal in 2..=3 {
                assert_eq!(scene.hears_next(""), format!("{ordinal} value {ordinal}"));
                say(&mut scene, "", &format!("{ordinal} without 1"));
            }
            // The third time repeats the lines of the second time.
            assert_eq!(book.takes(&mut scene).len(), if time == 1 { 2 } else { 0 }, "time {time}");
        }
        scene.ends("1", Err(broken("no money")));
        assert_eq!(scene.hears(""), ["1 failed failure"]);
        say(&mut scene, "", "1 failed");
        if time == 0 {
            for ordinal in 2..=3 {
                scene.ends(&ordinal.to_string(), Ok(&ordinal.to_string()));
                assert_eq!(scene.hears("").len(), 1);
                say(&mut scene, "", &format!("{ordinal} after 1"));
            }
        }
        assert_eq!(book.takes(&mut scene).len(), if time == 0 { 3 } else { 1 }, "time {time}");
        reopen(&mut scene, broken("no money"));
        scene.begin("");
        issue(&mut scene);
    }
}

fn reopen(scene: &mut Scene, failure: Failure) {
    scene.ends("", Err(failure));
    scene.save();
    let ordinal = failed_call(&scene.stored).unwrap();
    scene.reload(true);
    scene.say(Message::Reopen);
    scene.ex.reopen(ordinal, scene.moment());
    scene.save();
}

#[test]
fn l02_a_rerun_finds_its_calls_by_name_whatever_was_recorded_between_them() {
    let mut scene = Scene::new();
    let outer = |scene: &mut Scene| ["a", "b"].map(|name| scene.call("", step(name)));
    assert_eq!(outer(&mut scene), [1, 2]);
    scene.begin("1");
    scene.begin("2");
    for number in 1..=3 {
        for of in ["1", "2"] {
            scene.call(of, signal(&format!("{of}-{number}"), None));
        }
        scene.save();
        // The answers arrive in the opposite order.
        for of in ["2", "1"] {
            scene.signal(&format!("{of}-{number}"), &format!("{of}{number}"));
            assert_eq!(scene.hears(of), [format!("{number} value {of}{number}")]);
        }
        scene.save();
    }
    let history = scene.history(1);
    scene.reload(false);
    // The guests come back in the opposite order, one after the other, and learn nothing of what was recorded in
    // between.
    for of in ["2", "1"] {
        scene.begin(of);
        for number in 1..=3 {
            scene.call(of, signal(&format!("{of}-{number}"), None));
            assert_eq!(scene.hears_next(of), format!("{number} value {of}{number}"));
        }
    }
    scene.begin("");
    assert_eq!(outer(&mut scene), [1, 2]);
    assert_eq!(scene.history(1), history, "nothing was recorded twice");
}
