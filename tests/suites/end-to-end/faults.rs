//! A full disk and a wall clock that is set, under a running engine (torture adds kills to both).

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use test_engine::{Database, Disk, Engine, WATCHDOG, WallClock, http_get, until, within};

on_both_databases!(
    l22_a_full_disk_loses_nothing_and_ends_nothing,
    an_engine_that_begins_on_a_full_disk_works_or_says_why,
    l08_a_clock_that_is_set_neither_shortens_nor_lengthens_a_sleep,
);

fn on_a_disk(database: Database) -> (Arc<Disk>, Engine) {
    let disk = Arc::new(Disk::new());
    let mut engine = Engine::start_on(&disk, database, &[("LEASE", "3s"), ("HIBERNATE_AFTER", "100ms")]);
    // Compiled code has to be on this disk as well.
    engine.kill();
    engine.forget_artifacts();
    engine.restart();
    engine.upload("test-guests");
    (disk, engine)
}

/// The disk stays full for longer than a lease; the same process goes on when there is space.
fn l22_a_full_disk_loses_nothing_and_ends_nothing(database: Database) {
    let (disk, mut engine) = on_a_disk(database);
    let mut acknowledged: Vec<String> = (0..20).map(|number| engine.begin("sleeper", &json!(500 * number))).collect();
    let asking = engine.begin("asking", &json!({"title": "Go on?"}));
    engine.wait_for(&asking, &["waiting-for-approval"]);
    disk.fill(0);
    let began = Instant::now();
    let (mut is_approved, mut refusals) = (false, 0);
    while began.elapsed() < Duration::from_secs(8) {
        let started = engine.cli(&["start", "sleeper", "--input", "10", "--json"]);
        match started.code {
            0 => {
                let said: serde_json::Value = serde_json::from_str(&started.out).unwrap();
                acknowledged.push(said["execution_id"].as_str().unwrap().to_owned());
            }
            4 => {
                assert_eq!(started.err.lines().count(), 1, "{started:?}");
                refusals += 1;
            }
            _ => panic!("{started:?}\n{}", engine.log()),
        }
        is_approved |= !is_approved && engine.cli(&["approve", &asking]).code == 0;
        let uploaded = engine.cli(&["upload", &test_engine::component("fan-out"), "--name", "fan-out"]);
        assert!([0, 4].contains(&uploaded.code), "{uploaded:?}\n{}", engine.log());
    }
    assert!(database == Database::Postgres || refusals > 0, "the disk was full");
    assert!(!engine.has_died(), "{}", engine.log());
    let lines = engine.log().lines().count();
    assert!(lines < 500, "{lines} lines of log:\n{:.3000}", engine.log());
    disk.free();
    within(Duration::from_secs(60), "it is ready again", || {
        (http_get(&format!("{}/healthz", engine.url())) == "ready\n").then_some(())
    });
    if !is_approved {
        // The answer may have counted although its acknowledgement was lost.
        assert!([0, 5].contains(&engine.cli(&["approve", &asking]).code));
    }
    for id in acknowledged.iter().chain([&asking]) {
        assert_eq!(engine.wait_for_end(id)["status"], "completed");
        test_engine::assert_one_writer(&engine.history(id));
    }
    engine.upload("fan-out");
    assert_eq!(engine.run("sequence", &json!({"steps": 5}))["output"], json!(5));
    assert!(!engine.log().contains("panicked"), "{}", engine.log());
    let end = engine.terminate();
    assert!(end.success(), "{end}");
}

/// Starts an engine, for the first time or again on this data folder, with any amount of free space. It works, ends
/// with the reason, or says why it waits and works as soon as there is space.
fn an_engine_that_begins_on_a_full_disk_works_or_says_why(database: Database) {
    let (disk, mut engine) = on_a_disk(database);
    let id = engine.begin("sequence_then_signal", &json!({"steps": 2, "signal": "go"}));
    engine.wait_for(&id, &["waiting"]);
    engine.kill();
    for (is_new, room) in [false, true].into_iter().flat_map(|is_new| [0, 8, 16, 32, 64, 128].map(|kib| (is_new, kib)))
    {
        if is_new {
            engine.forget_node();
        }
        let before = engine.log().len();
        disk.fill(room << 10);
        let relief = std::thread::spawn(relieve(&disk, before));
        let is_ready = engine.launch(&[]);
        let had_to_wait = relief.join().unwrap();
        let (log, code) = (engine.log(), engine.exit_code());
        let said = &log[before..];
        assert!(!said.contains("panicked"), "{room} KiB: {said}");
        if !is_ready {
            assert!(code.is_some_and(|code| [1, 4, 5].contains(&code)), "{room} KiB: {code:?} {said}");
            let reasons = ["No space left", "disk I/O error", "disk is full"];
            assert!(reasons.iter().any(|reason| said.contains(reason)), "{room} KiB: {said}");
            engine.restart();
        }
        assert!(!had_to_wait || is_ready, "{room} KiB: it waited for room and did not take it: {said}");
        engine.kill();
    }
    engine.restart();
    engine.ok(&["signal", &id, "go"]);
    assert_eq!(engine.wait_for_end(&id)["output"], json!(2));
}

/// Frees space when the engine has said that it waits, or has started or ended without waiting. Returns whether it
/// waited.
fn relieve(disk: &Arc<Disk>, before: usize) -> impl FnOnce() -> bool + Send + 'static {
    let disk = disk.clone();
    move || {
        let log = disk.beside().join("engine.log");
        let waits = until("it begins, ends, or says why it waits", || {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            let said = &log[before..];
            match said.contains("nothing runs until the database answers") {
                true => Some(true),
                false => (said.contains("lease begun") || said.contains("error: ")).then_some(false),
            }
        });
        disk.free();
        waits
    }
}

/// The clock is set forward and back by hours, all the time while the execution sleeps.
fn l08_a_clock_that_is_set_neither_shortens_nor_lengthens_a_sleep(database: Database) {
    const SLEEP: Duration = Duration::from_secs(3);
    let clock = WallClock::new();
    let mut engine = Engine::start_with(database, &[("HIBERNATE_AFTER", "10ms"), ("LEASE", "3s")]);
    engine.upload("test-guests");
    engine.kill();
    let variables = clock.variables();
    engine.restart_with(&variables.each_ref().map(|(name, value)| (*name, value.as_str())));
    let began = Instant::now();
    let ids: Vec<String> =
        (0..5).map(|_| engine.begin("sleeper", &json!(u64::try_from(SLEEP.as_millis()).unwrap()))).collect();
    let mut hours = [1, -1, 48, -48, 0, 876_000, -24].into_iter().cycle();
    let jump = |hours: i64| clock.move_to(hours * 3_600_000);
    until("it sleeps under clocks that jump", || {
        jump(hours.next().unwrap());
        let statuses = ids.iter().map(|id| engine.status(id)["status"].as_str().unwrap().to_owned());
        let are_awake: Vec<bool> = statuses.map(|status| status == "completed").collect();
        assert!(began.elapsed() >= SLEEP || !are_awake.contains(&true), "awake after {:?}", began.elapsed());
        are_awake.iter().all(|is_awake| *is_awake).then_some(())
    });
    let took = began.elapsed();
    // The clock was set by hours.
    assert!(took < SLEEP + WATCHDOG, "awake after {took:?}");
    assert_eq!(http_get(&format!("{}/healthz", engine.url())), "ready\n");
    // On a slow machine a renewal of the lease, which compares the clocks, may have met only jumps to the right time.
    jump(1);
    let has_noticed = || engine.log().contains("the clock jumped");
    match database {
        Database::Sqlite => until("the jump of the clock is logged", || has_noticed().then_some(())),
        Database::Postgres => assert!(!has_noticed(), "the server's time is not compared with this machine's clock"),
    }
}
