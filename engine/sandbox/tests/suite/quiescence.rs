//! Law L1 and determinism: equal inputs and deliveries produce equal requests, regardless of timing and threads.

use std::time::Duration;

use cerebelum_sandbox::{Config, Program, Sandbox};

use crate::support::{ample, config, program_of, run, run_on, sandbox, workflow};

async fn ticking(tick: Duration) -> Program {
    program_of(&Sandbox::new(Config { tick, ..config() }).unwrap()).await
}

#[tokio::test]
async fn l01_requests_do_not_depend_on_when_the_epoch_ticks() {
    let (hasty, calm) = (ticking(Duration::from_micros(100)).await, ticking(Duration::from_secs(1)).await);
    let inputs = [
        ("compute", "5"),
        ("yields", "50"),
        ("many", "500"),
        ("join", "1"),
        ("race", "1"),
        ("spawn", "1"),
        ("blocking", "50"),
    ];
    for (name, input) in inputs {
        let (often, rarely) = (run_on(&hasty, workflow(name, input)).await, run_on(&calm, workflow(name, input)).await);
        assert_eq!(often, rarely, "{name}");
        assert!(often.end.unwrap().is_ok(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn guests_move_between_threads_without_a_difference() {
    let program = ticking(Duration::from_micros(100)).await;
    let alone = run_on(&program, workflow("compute", "2")).await;
    let crowd = (0..16).map(|_| {
        let program = program.clone();
        tokio::spawn(async move { run_on(&program, workflow("compute", "2")).await })
    });
    for ran in futures::future::join_all(crowd).await {
        assert_eq!(ran.unwrap(), alone);
    }
}

#[tokio::test]
async fn equal_seeds_make_equal_runs_and_others_do_not() {
    let once = run(workflow("chance", "1")).await;
    for _ in 0..5 {
        assert_eq!(run(workflow("chance", "1")).await, once);
    }
    let mut other = workflow("chance", "1");
    other.seed = [8; 32];
    assert_ne!(run(other).await.output(), once.output());
}

#[tokio::test]
async fn a_guest_may_be_dropped_in_the_middle_of_a_turn() {
    let sandbox = Sandbox::new(Config { tick: Duration::from_micros(100), ..config() }).unwrap();
    let program = program_of(&sandbox).await;
    for _ in 0..200 {
        let mut guest = program.start(workflow("loop", "1"), ample()).await.unwrap();
        let turn = std::pin::pin!(guest.turn(None));
        // The turn gets as far as its first epoch yield.
        assert!(futures::poll!(turn).is_pending());
    }
    assert_eq!((sandbox.live(), sandbox.usage().started), (0, 200));
}

#[tokio::test]
async fn a_hundred_parked_guests_wake_one_after_the_other() {
    let program = program_of(&sandbox()).await;
    let mut parked = Vec::new();
    for _ in 0..100 {
        let mut guest = program.start(workflow("sequential", "2"), ample()).await.unwrap();
        guest.turn(None).await.unwrap();
        parked.push(guest);
    }
    for mut guest in parked {
        let clock = cerebelum_history::Timestamp(crate::support::BEGAN + 1);
        for (ordinal, ended) in [(1, false), (2, true)] {
            let outcome = cerebelum_history::Outcome::Value(crate::support::json("1"));
            let delivery = cerebelum_history::Delivery { ordinal, outcome, clock };
            assert_eq!(guest.turn(Some(delivery)).await.unwrap().end.is_some(), ended);
        }
    }
}
