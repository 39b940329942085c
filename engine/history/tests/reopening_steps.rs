//! Which steps may start over: those that did nothing that could have an effect after a call of their own had failed.

#![expect(clippy::unwrap_used, reason = "this is all test; what cannot be unwrapped fails it")]

mod scene;

use cerebelum_history::{
    Approval, Call, CallPhase, ChildResult, ExecutionOptions, Failure, HttpRequest, HttpResponse, Message, Reopening,
    Timestamp, kind, reopening,
};
use scene::{START, Scene, approval, child, json, name, retry, signal, sleep, step, step_with};

const HOUR_MS: u64 = 3_600_000;

/// A failure that is not retried.
fn no(message: &str) -> Failure {
    Failure::new(kind::FAILURE, message)
}

/// A step of the workflow that is played word by word.
///
/// - `POST/ship=503` sends a request that is answered with that status, or `none` (no connection), `cut` (the
///   connection broke) or `open` (no answer so far).
/// - `+a` calls the step `a`, which succeeds; `-a` one that fails; `?a` one that stays open. `(a` calls a step whose
///   calls follow, up to `)+` or `)-`.
/// - `ask=` and `wait=` wait for an approval and for a signal: `yes`, `no`, `late` (it times out) or `open`.
/// - `run=yes` and `run=no` run a child.
/// - `~` sleeps, `!` sets an attribute, `x` drops the last call, `|` ends the attempt and begins the next.
struct Play {
    scene: Scene,
    /// The scopes of the steps that are played, the innermost one last.
    scopes: Vec<String>,
    /// The last call.
    last: u32,
}

impl Play {
    fn new(mut scene: Scene) -> Self {
        scene.call("", step_with("outer", retry(9, 1, 1.0, 0.0)));
        scene.begin("1");
        Self { scene, scopes: vec!["1".to_owned()], last: 0 }
    }

    fn scope(&self) -> String {
        self.scopes.last().unwrap().clone()
    }

    fn call(&mut self, call: Call) -> String {
        self.last = self.scene.call(&self.scope(), call);
        // The end of a wait is told once the wait's start is durable.
        self.scene.save();
        format!("{}.{}", self.scope(), self.last)
    }

    fn say(&mut self, word: &str) {
        match word.split_at(1) {
            ("|", _) => {
                self.scene.ends("1", Err(scene::broken("again")));
                self.scene.later(1_000);
                self.scene.begin("1");
            }
            ("~", _) => drop(self.call(sleep(10))),
            ("!", _) => drop(self.scene.sets(&self.scope(), "state", "1")),
            ("x", _) => self.scene.drops(&self.scope(), self.last),
            ("(", called) => {
                let inner = self.call(step(called));
                self.scene.begin(&inner);
                self.scopes.push(inner);
            }
            (")", end) => {
                let inner = self.scopes.pop().unwrap();
                self.scene.ends(&inner, if end == "+" { Ok("1") } else { Err(no("inner")) });
            }
            ("?", called) => drop(self.call(step(called))),
            (end @ ("+" | "-"), called) => {
                let inner = self.call(step(called));
                self.scene.begin(&inner);
                self.scene.ends(&inner, if end == "+" { Ok("1") } else { Err(no("inner")) });
            }
            _ => self.say_call(word.rsplit_once('=').unwrap()),
        }
        self.scene.hears(&self.scope());
    }

    fn say_call(&mut self, (what, outcome): (&str, &str)) {
        match what {
            "ask" => {
                let call = name(&self.call(approval("ok?", Some(HOUR_MS))));
                let CallPhase::Approval { id, .. } = self.scene.ex.open()[&call].phase.clone() else { panic!() };
                let by = "grace".to_owned();
                match outcome {
                    "yes" => {
                        let approval = Approval { by, data: json("1"), comment: None };
                        self.scene.say(Message::Approved { call, id, approval, cause: None });
                    }
                    "no" => {
                        let reason = "because".to_owned();
                        self.scene.say(Message::Rejected { call, id, by, reason, cause: None });
                    }
                    _ => self.lets_pass(outcome),
                }
            }
            "wait" => {
                self.call(signal("go", Some(HOUR_MS)));
                match outcome {
                    "yes" => drop(self.scene.signal("go", "1")),
                    _ => self.lets_pass(outcome),
                }
            }
            "run" => {
                let call = name(&self.call(Call::RunWorkflow(child("w"))));
                let CallPhase::Child { id, .. } = self.scene.ex.open()[&call].phase.clone() else { panic!() };
                let result =
                    if outcome == "yes" { ChildResult::Completed(json("1")) } else { ChildResult::Failed(no("child")) };
                self.scene.say(Message::Child { run: 1, call, id, result, cause: None });
            }
            _ => self.fetch(what, outcome),
        }
    }

    fn lets_pass(&mut self, outcome: &str) {
        match outcome {
            "late" => self.scene.later(HOUR_MS),
            _ => assert_eq!(outcome, "open"),
        }
    }

    fn fetch(&mut self, what: &str, outcome: &str) {
        let (method, path) = what.split_once('/').unwrap();
        let (method, url) = (method.to_owned(), format!("https://shop/{path}"));
        let call = self.call(Call::Fetch(HttpRequest { method, url, headers: vec![], body: vec![], timeout_ms: None }));
        let result = match outcome {
            "open" => return,
            "none" => Err(Failure::retryable(kind::HTTP_CONNECT, "no connection")),
            "cut" => Err(Failure::retryable(kind::HTTP_PROTOCOL, "the connection broke")),
            status => Ok(HttpResponse { status: status.parse().unwrap(), headers: vec![], body: b"because".to_vec() }),
        };
        self.scene.ex.fetched(&name(&call), result, self.scene.moment());
    }

    fn says(mut self, script: &str) -> Self {
        script.split(' ').filter(|word| !word.is_empty()).for_each(|word| self.say(word));
        self
    }

    /// Lets the step fail, and the workflow with it.
    fn fails(mut self) -> Reopening {
        self.scene.ends("1", Err(no("outer")));
        let failure = self.scene.failure("");
        self.scene.ends("", Err(failure));
        self.found()
    }

    fn found(mut self) -> Reopening {
        self.scene.save();
        let found = reopening(&self.scene.stored);
        // Nothing else than what is stored decides.
        let stored = cerebelum_history::Event::decode(&cerebelum_history::Event::encode(&self.scene.stored)).unwrap();
        assert_eq!(reopening(&stored), found);
        found
    }
}

/// What reopening would do after the step has said this and failed.
fn play(script: &str) -> Reopening {
    Play::new(Scene::new()).says(script).fails()
}

fn check_safe(scripts: &[&str]) {
    for script in scripts {
        assert_eq!(play(script), Reopening::Safe(1), "{script}");
    }
}

fn check_unsafe(scripts: &[&str]) {
    for script in scripts {
        let found = play(script);
        assert!(matches!(found, Reopening::Unsafe { call: 1, .. }), "{script}: {found:?}");
    }
}

#[test]
fn a_step_that_compensated_within_itself_is_not_reopened_and_one_that_only_tried_again_is() {
    check_safe(&["", "+charge -ship", "-ship ~ -ship ~", "-ship ~ +ship +notify", "-a -b"]);
    check_unsafe(&["+charge -ship +refund", "-ship ~ +refund", "-ship ?refund", "-a +b | ~"]);
    check_unsafe(&["-a -ship +refund +a", "+charge run=no +refund", "+charge -ship !", "+charge -ship run=yes"]);
}

#[test]
fn a_status_that_says_failure_counts_like_a_failed_call() {
    check_unsafe(&[
        "POST/charge=200 POST/ship=503 POST/refund=200",
        "POST/charge=200 POST/ship=409 ~ POST/refund=200",
        "POST/charge=200 POST/ship=400 DELETE/charge=204",
        "POST/charge=200 GET/stock=500 POST/refund=200",
        "POST/charge=200 GET/address=404 POST/refund=200",
        "POST/charge=200 POST/ship=503 POST/refund=open",
        "POST/charge=200 POST/ship=503 +refund",
        "POST/charge=200 POST/ship=cut POST/refund=200",
        "POST/charge=200 POST/ship=503 POST/refund=200 | POST/charge=200 POST/ship=503",
        "POST/charge=200 POST/ship=503 POST/refund=200 POST/mail=500",
    ]);
    check_safe(&[
        "POST/charge=200 POST/ship=503",
        "POST/charge=200 POST/ship=503 ~ POST/ship=503 ~ POST/ship=503",
        "POST/charge=200 POST/ship=503 | POST/charge=200 POST/ship=503",
        "POST/charge=200 POST/ship=503 ~ POST/ship=200 POST/mail=200",
        "POST/charge=200 POST/ship=302 POST/notify=200",
        "POST/charge=399 POST/ship=200",
    ]);
}

#[test]
fn the_words_name_both_requests() {
    let failed = "the request POST https://shop/ship (call 1.2)".to_owned();
    let later = "the request POST https://shop/refund (call 1.3)".to_owned();
    let found = play("POST/charge=200 POST/ship=503 POST/refund=200");
    assert_eq!(found, Reopening::Unsafe { call: 1, failed, later });
}

#[test]
fn a_timeout_inside_a_step_counts_since_the_step_would_wait_again() {
    check_unsafe(&[
        "POST/charge=200 ask=late POST/refund=200",
        "POST/charge=200 ask=no POST/refund=200",
        "POST/charge=200 wait=late POST/refund=200",
        "POST/charge=200 wait=late +refund",
        // The timeout of an `asyncio.timeout` drops what it surrounds.
        "POST/charge=200 ask=open x POST/refund=200",
        "POST/charge=200 wait=open x POST/refund=200",
        "POST/charge=200 POST/ship=open x POST/refund=200",
        "POST/charge=200 ?ship x POST/refund=200",
        "POST/charge=200 wait=late POST/remind=200 POST/ship=500",
    ]);
    check_safe(&[
        "POST/charge=200 ask=late",
        "POST/charge=200 wait=late ~ wait=late",
        "POST/charge=200 wait=late ask=late",
        // The signal came after all: the code went the way on that it would have gone.
        "POST/charge=200 wait=late POST/remind=200 wait=yes POST/ship=500",
        "POST/charge=200 ask=yes POST/ship=500",
        "POST/charge=200 ~ x POST/ship=500",
        "POST/charge=200 POST/ship=open x",
    ]);
}

#[test]
fn creating_what_was_not_there_is_no_reaction_to_a_failure() {
    check_safe(&[
        "GET/things/7=404 PUT/things/7=201 POST/attach=500",
        "HEAD/things/7=404 PUT/things/7=201 POST/attach=500",
        "GET/things/7?full=1=404 POST/things=201 POST/attach=500",
        "GET/things/7/=410 POST/things/=201 POST/attach=500",
        "GET/things/7=404 POST/things=201 ~ POST/attach=500 | GET/things/7=200 POST/attach=500",
        "GET/things/7=404 POST/things=503 | GET/things/7=404 POST/things=503",
        "GET/a/1=404 POST/a=201 GET/b/1=404 POST/b=201 POST/attach=500",
        "GET/things/7=404 GET/things/7=404 ~ GET/things/7=200 POST/attach=200 POST/start=500",
    ]);
    check_unsafe(&[
        "GET/things/7=404 POST/orders=201 POST/attach=500",
        "GET/things/7=404 PUT/things/8=201",
        "GET/things/7=404 DELETE/things/7=200",
        "GET/things/7=404 PUT/things=201",
        "GET/things/7=503 PUT/things/7=201 POST/attach=500",
        "GET/things/7=503 GET/things/7=404 PUT/things/7=201 POST/attach=500",
        "POST/things/7=404 PUT/things/7=201 POST/attach=500",
        // The address of a server is above all of its own.
        "GET/stock=404 POST/=201",
        // The compensation itself is made only once, but it is one.
        "POST/charge=200 POST/ship=503 GET/refunds/7=404 POST/refunds=201",
    ]);
}

#[test]
fn a_later_call_counts_unless_it_is_known_to_have_done_nothing() {
    check_safe(&[
        "POST/ship=503 GET/ship=200",
        "POST/ship=503 HEAD/ship=200 OPTIONS/ship=200 ~ wait=yes",
        "POST/a=503 POST/b=400",
        "POST/a=503 POST/b=none",
        "POST/a=503 ask=no",
        "POST/a=503 ask=late",
        "POST/a=503 ask=open x",
        "POST/a=503 (b GET/x=200 POST/y=400 )-",
    ]);
    check_unsafe(&[
        "POST/a=503 POST/b=500",
        "POST/a=503 POST/b=cut",
        "POST/a=503 POST/b=open x",
        "POST/a=503 run=no",
        "POST/a=503 ask=yes",
        "POST/a=503 (b POST/x=200 POST/y=400 )-",
        "POST/a=503 (b (c POST/x=200 )+ )-",
    ]);
}

#[test]
fn what_a_nested_step_did_counts_for_the_step_that_would_repeat_it_however_it_ended() {
    check_unsafe(&[
        "(inner POST/charge=200 POST/ship=503 POST/refund=200 )-",
        "(inner POST/a=503 POST/b=200 )+ POST/c=500",
        "(inner (core POST/charge=200 POST/ship=503 POST/refund=200 )- )- ~ +other",
    ]);
    check_safe(&["(inner POST/a=503 )-", "(inner POST/a=503 POST/a=200 POST/b=200 )+ POST/c=500"]);
}

#[test]
fn a_step_that_caught_a_failure_within_itself_and_succeeded_is_harmless() {
    for script in ["-first +second", "GET/a=404 POST/b=201", "POST/a=503 POST/b=200", "wait=late POST/b=200"] {
        let mut play = Play::new(Scene::new()).says(script);
        play.scene.ends("1", Ok("1"));
        play.scene.hears("");
        play.scene.call("", step_with("ship", retry(1, 1, 1.0, 0.0)));
        play.scene.begin("2");
        play.scene.ends("2", Err(no("away")));
        let failure = play.scene.failure("");
        play.scene.ends("", Err(failure));
        assert_eq!(play.found(), Reopening::Safe(2), "{script}");
    }
}

/// A step that stood beside the failed one and was cut off starts over as well.
#[test]
fn a_step_that_was_cut_off_after_it_had_compensated_does_not_start_over() {
    for (script, is_safe) in [
        ("POST/charge=200 POST/ship=503 POST/refund=200", false),
        ("POST/charge=200 POST/ship=503", true),
        ("POST/charge=200 POST/ship=200 POST/notify=open", true),
    ] {
        for dropped in [false, true] {
            let mut play = Play::new(Scene::new()).says(script);
            play.scene.call("", step_with("beside", retry(1, 1, 1.0, 0.0)));
            play.scene.begin("2");
            play.scene.ends("2", Err(no("away")));
            let failure = play.scene.failure("");
            if dropped {
                play.scene.drops("", 1);
            }
            play.scene.ends("", Err(failure));
            match play.found() {
                Reopening::Safe(2) => assert!(is_safe, "{script}"),
                Reopening::Unsafe { call: 2, failed, .. } => assert!(!is_safe && failed.contains("ship"), "{failed}"),
                other => panic!("{script}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_passed_deadline_does_not_start_a_step_over_that_had_compensated() {
    for (script, is_safe) in
        [("POST/charge=200 POST/ship=503 POST/refund=200", false), ("POST/charge=200 POST/ship=503", true)]
    {
        let deadline = Some(Timestamp(START + 50));
        let mut scene = Scene::with(ExecutionOptions { deadline, ..ExecutionOptions::default() });
        scene.begin("");
        let mut play = Play::new(scene).says(script);
        play.scene.at(50);
        let found = play.found();
        assert_eq!(matches!(found, Reopening::Safe(0)), is_safe, "{found:?}");
        assert_eq!(matches!(found, Reopening::Unsafe { call: 0, .. }), !is_safe, "{found:?}");
    }
}

/// A step that ended under an earlier version has no statuses. It is judged as that version judged it.
#[test]
fn statuses_that_an_earlier_version_has_not_kept_are_taken_for_successes() {
    let mut play = Play::new(Scene::new()).says("POST/charge=200 POST/ship=503 POST/refund=200");
    play.scene.ends("1", Err(no("outer")));
    let failure = play.scene.failure("");
    play.scene.ends("", Err(failure));
    play.scene.save();
    let text = cerebelum_history::Event::encode(&play.scene.stored);
    assert!(text.contains(r#""response":null,"status":503"#), "{text}");
    let earlier = cerebelum_history::Event::decode(&text.replace(r#","status":503"#, "")).unwrap();
    assert_eq!(reopening(&earlier), Reopening::Safe(1));
}

#[test]
fn of_a_thousand_failures_each_is_cleared_by_its_own_success_and_of_more_none_is_trusted() {
    let script = |failures: usize| {
        let all = |status: u16| (0..failures).map(move |n| format!("GET/things/{n}={status}"));
        all(503).chain(all(200)).chain(["POST/mail=200".to_owned()]).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(play(&script(1_000)), Reopening::Safe(1));
    assert!(matches!(play(&script(1_001)), Reopening::Unsafe { call: 1, .. }));
}
