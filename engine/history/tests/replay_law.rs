//! The replay law: whenever the engine dies or drops a guest, recorded calls are repeated, and the end is the same.

#![expect(clippy::unwrap_used, reason = "this is all test; what cannot be unwrapped fails it")]

mod world;

use cerebelum_history::{End, Failure};
use proptest::prelude::*;
use test_programs::{Node, audit, expected, json, programs};
use world::life::{Life, Weather};

/// The number of programs with which each property is tested: `CEREBELUM_CASES`, or enough for a few seconds.
fn cases(default: u32) -> ProptestConfig {
    let cases = std::env::var("CEREBELUM_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(default);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

const STORMY: Weather =
    Weather { crash: 20, hibernate: 60, forget: 30, pause: 10, cancel: 0, slow: 60, orderly: false };

/// The end of a program without chance. What is broken in it may be mended once.
fn expected_end(program: &Node) -> Result<String, Failure> {
    expected(program, "0", false).or_else(|_| expected(program, "0", true))
}

fn check_end(program: &Node, life: &Life, end: &End) {
    audit(&life.store.events);
    if !program.is_fixed() {
        return;
    }
    match (expected_end(program), end) {
        (Ok(text), End::Completed(output)) => assert_eq!(json(&text), *output),
        (Err(failure), End::Failed(ended)) => assert_eq!(failure, *ended),
        (expected, end) => panic!("expected {expected:?}, ended with {end:?}"),
    }
    for (scope, attempt, place, number) in life.store.logs.keys() {
        let before = (scope.clone(), *attempt, *place, number - 1);
        assert!(
            *number == 1 || life.store.logs.contains_key(&before),
            "line {number} of `{scope}` came without the one before"
        );
    }
}

/// Runs the program once, and then again from every state of the store on the way.
fn check_every_cut(program: &Node, seed: u64, weather: Weather) {
    let mut life = Life::new(program, seed, weather);
    let end = life.live();
    check_end(program, &life, &end);
    let every = life.trail.len().div_ceil(40);
    for (cut, (now, mended, store)) in life.trail.into_iter().enumerate().step_by(every) {
        for believe_settled in [true, false] {
            let mut store = store.clone();
            store.settled &= believe_settled;
            let seed = seed.wrapping_add(cut as u64);
            let mut again = Life::from(program, store, (now, mended), (seed, weather));
            let end = again.live();
            check_end(program, &again, &end);
        }
    }
}

proptest! {
    #![proptest_config(cases(1_000))]

    #[test]
    fn programs_without_chance_come_to_the_same_end_from_every_cut(program in programs(false), seed: u64) {
        check_every_cut(&program, seed, STORMY);
    }

    #[test]
    fn programs_with_races_and_timeouts_never_diverge_from_any_cut(program in programs(true), seed: u64) {
        check_every_cut(&program, seed, STORMY);
    }

    #[test]
    fn cancelling_at_any_moment_leaves_a_sound_history(program in programs(true), seed: u64) {
        check_every_cut_of_cancelled(&program, seed);
    }

    #[test]
    fn hibernating_at_any_moment_changes_nothing(program in programs(true), seed: u64) {
        let calm = Weather { orderly: true, ..Weather::default() };
        let mut awake = Life::new(&program, seed, calm);
        let end = awake.live();
        let mut sleepy = Life::new(&program, seed, Weather { hibernate: 500, ..calm });
        prop_assert_eq!(sleepy.live(), end);
        let options = |life: &Life| life.store.events.iter().map(|event| (event.at, event.scope.clone())).collect::<Vec<_>>();
        prop_assert_eq!(options(&sleepy), options(&awake));
    }
}

fn check_every_cut_of_cancelled(program: &Node, seed: u64) {
    let mut life = Life::new(program, seed, Weather { cancel: 15, ..STORMY });
    life.live();
    audit(&life.store.events);
    for (cut, (now, mended, store)) in life.trail.into_iter().enumerate().step_by(3) {
        let seed = seed.wrapping_add(cut as u64);
        let mut again = Life::from(program, store, (now, mended), (seed, STORMY));
        again.live();
        audit(&again.store.events);
    }
}
