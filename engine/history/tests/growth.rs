//! The cost of an execution grows with what happens, not with what is open: four times as many open calls, signals or
//! messages cost about four times as much. Code that walks over all of them each time costs sixteen times as much.

#![allow(clippy::unwrap_used, reason = "tests: a value that is not there is a failure")]

mod scene;

use std::time::Duration;

use cerebelum_history::{Call, Execution, FirstWait, HttpResponse, Level, Outcome, Position, Request};
use rustix::time::{ClockId, clock_gettime};
use scene::{Scene, approval, fetch, name, scope, sleep, step};

/// Between four times and sixteen times as much, nearer to the latter, because caches are shared with other programs.
const TIMES_MAX: u32 = 9;

/// The CPU time of this thread, which other work on the machine does not count towards.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
}

/// The CPU time of the quickest of several runs.
fn quickest(run: impl Fn(usize), size: usize) -> Duration {
    let runs = (0..5).map(|_| {
        let began = cpu_time();
        run(size);
        cpu_time() - began
    });
    runs.min().unwrap()
}

/// Checks that four times the size does not cost much more than four times the time.
fn check(what: &str, size: usize, run: impl Fn(usize)) {
    let (small, large) = (quickest(&run, size), quickest(&run, size * 4));
    assert!(large < small * TIMES_MAX, "{what}: {size} took {small:?}, four times as many {large:?}");
}

fn response() -> HttpResponse {
    HttpResponse { status: 200, headers: Vec::new(), body: Vec::new() }
}

/// The queries that a driver makes in each of its rounds.
fn round(ex: &mut Execution) {
    let _ = (
        ex.is_settled(),
        ex.due(),
        ex.status(),
        ex.first_wait(),
        ex.first_wanted(8),
        ex.take_actions(),
        ex.take_withdrawn(),
    );
    let _ = (ex.holds_any_up(), ex.waits_durably(&scope("")), ex.next_to_tell().cloned());
}

/// A guest becomes quiescent and has no outcome coming.
fn rests(scene: &mut Scene, of: &str) {
    scene.ex.quiescent(&scope(of));
    assert!(scene.told(of).is_empty());
}

/// Steps that are all open at once, each with a request. They end one after the other.
fn fan_out(steps: usize) {
    let mut scene = Scene::new();
    let numbers: Vec<String> = (1..=steps).map(|number| number.to_string()).collect();
    for _ in &numbers {
        scene.call("", step("s"));
    }
    rests(&mut scene, "");
    for of in &numbers {
        let begin = scene.ex.begin(&scope(of), &[]).unwrap();
        assert_eq!(begin.attempt, 1);
        scene.call(of, fetch("https://example.com"));
        rests(&mut scene, of);
        round(&mut scene.ex);
    }
    let changes = scene.ex.take_changes();
    scene.ex.acknowledge(changes.lsn, scene.ex.position());
    for of in &numbers {
        let call = name(&format!("{of}.1"));
        scene.ex.fetched(&call, Ok(response()), scene.moment());
        assert_eq!(scene.ex.next_to_tell(), Some(&scope(of)));
        assert!(scene.ex.next_delivery(&scope(of), scene.moment()).unwrap().is_some());
        scene.ends(of, Ok("1"));
        round(&mut scene.ex);
        assert!(matches!(scene.told("")[0].outcome, Outcome::Value(_)));
        rests(&mut scene, "");
    }
    assert!(scene.ex.open().is_empty() && scene.ex.is_settled());
}

/// Signals of one name and of many names, all there before any is delivered. Half of the calls wait before the signals
/// arrive.
fn signals(count: usize) {
    let mut scene = Scene::new();
    let named = |number: usize| if number.is_multiple_of(2) { "same".to_owned() } else { format!("name-{number}") };
    for number in 0..count / 2 {
        scene.call("", Call::Signal { name: named(number), timeout_ms: Some(1_000) });
    }
    scene.save();
    for number in 0..count {
        scene.signal(&named(number), "1");
        round(&mut scene.ex);
    }
    for number in count / 2..count {
        scene.call("", Call::Signal { name: named(number), timeout_ms: None });
    }
    let changes = scene.ex.take_changes();
    scene.ex.acknowledge(changes.lsn, scene.ex.position());
    // The calls that are due already have their signals.
    scene.at(5_000);
    scene.ex.quiescent(&scope(""));
    for _ in 0..count {
        assert!(scene.ex.next_delivery(&scope(""), scene.moment()).unwrap().is_some());
        scene.ex.quiescent(&scope(""));
        round(&mut scene.ex);
    }
    assert!(scene.ex.is_settled());
}

/// A guest that makes calls and drops them again, reports progress, and logs.
fn dropped(calls: usize) {
    let mut scene = Scene::new();
    for number in 0..calls {
        scene.call("", sleep(10));
        scene.ask("", Request::Progress(u8::try_from(number % 100).unwrap(), "on".to_owned())).unwrap();
        scene.ask("", Request::Log(Level::Info, "on".to_owned())).unwrap();
    }
    scene.save();
    scene.at(20);
    for ordinal in 1..=u32::try_from(calls).unwrap() {
        scene.drops("", ordinal);
        round(&mut scene.ex);
    }
    scene.ex.quiescent(&scope(""));
    assert!(scene.told("").is_empty() && scene.ex.is_settled());
}

#[test]
fn open_calls_signals_and_drops_cost_what_they_are_each() {
    check("a fan-out", 400, fan_out);
    check("signals", 400, signals);
    check("drops", 400, dropped);
}

/// The status that is kept up to date always equals the one that is derived anew from all open calls.
#[test]
fn the_status_is_kept_in_step() {
    let mut scene = Scene::new();
    let check = |scene: &Scene| {
        let open = scene.ex.open().iter().map(|(name, call)| (name.clone(), call.clone()));
        let anew = scene.restored(open.collect(), false);
        let wait = |of: &Execution| of.first_wait().map(|wait| FirstWait { at: Position(0), ..wait });
        assert_eq!((scene.ex.status(), wait(&scene.ex)), (anew.status(), wait(&anew)));
    };
    check(&scene);
    for call in [step("s"), sleep(50), step("t"), scene::signal("go", None), approval("Go?", None)] {
        scene.call("", call);
        check(&scene);
    }
    scene.save();
    for of in ["1", "3"] {
        scene.begin(of);
        for call in [sleep(20), fetch("https://example.com")] {
            scene.call(of, call);
            check(&scene);
        }
    }
    scene.save();
    for (moment, ordinal) in [(20, 1), (50, 2)] {
        scene.at(moment);
        check(&scene);
        scene.ex.fetched(&name(&format!("{ordinal}.2")), Ok(response()), scene.moment());
        check(&scene);
    }
    scene.drops("", 5);
    check(&scene);
    scene.reload(true);
    check(&scene);
    assert!(!scene.ex.open().is_empty());
}
