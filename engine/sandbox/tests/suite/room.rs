//! Admission: a guest without a slot or memory waits, and none fails because of it.

use cerebelum_history::GuestInput;
use cerebelum_sandbox::{Config, HostError, Ledger, Sandbox};

use crate::support::{ample, config, play, program_of, run_on, workflow};

#[tokio::test]
async fn a_start_waits_for_a_slot() {
    let sandbox = Sandbox::new(Config { small_instances_max: 2, ..config() }).unwrap();
    let program = program_of(&sandbox).await;
    let first = program.start(workflow("sequential", "1"), ample()).await.unwrap();
    let _second = program.start(workflow("sequential", "1"), ample()).await.unwrap();
    let mut third = Box::pin(program.start(workflow("sequential", "1"), ample()));
    assert!(futures::poll!(&mut third).is_pending());
    assert_eq!(sandbox.live(), 2);
    drop(first);
    let mut third = third.await.unwrap();
    assert_eq!(sandbox.live(), 2);
    assert_eq!(play(&mut third, crate::support::answer).await.output(), "0");
    assert_eq!(sandbox.live(), 1, "a guest that has ended lives no more");
}

#[tokio::test]
async fn a_start_waits_for_memory() {
    let program_bytes = program_of(&crate::support::sandbox()).await.memory_bytes();
    // The share for starts has room for one and a half guests.
    let limits = Config { memory_bytes_max: program_bytes * 2, ..config() };
    let sandbox = Sandbox::new(limits).unwrap();
    let program = program_of(&sandbox).await;
    let first = program.start(workflow("sequential", "1"), ample()).await.unwrap();
    let mut second = Box::pin(program.start(workflow("sequential", "1"), ample()));
    assert!(futures::poll!(&mut second).is_pending());
    drop(first);
    second.await.unwrap();
    assert_eq!(sandbox.live(), 0);
}

#[tokio::test]
async fn a_guest_that_waits_for_the_ledger_gives_its_place_to_one_of_another_workflow() {
    let program_bytes = program_of(&crate::support::sandbox()).await.memory_bytes();
    let sandbox = Sandbox::new(Config { memory_bytes_max: program_bytes * 2, ..config() }).unwrap();
    let program = program_of(&sandbox).await;
    let ledger = Ledger::new(0);
    let (holder, large) = (ledger.account(), ledger.account());
    let _held = (holder.hold(1), large.hold(1));
    let _moves = holder.may_move(0).expect("one goes on above the bound");
    let mut first = program.start(workflow("sequential", "1"), large).await.unwrap();
    let mut turn = Box::pin(first.turn(None));
    assert!(futures::poll!(&mut turn).is_pending());
    let mut same = Box::pin(program.start(workflow("sequential", "1"), ledger.account()));
    assert!(futures::poll!(&mut same).is_pending() && futures::poll!(&mut turn).is_pending(), "not for its own");
    drop(same);
    let other = GuestInput { workflow: "another/workflow".to_owned(), ..workflow("sequential", "1") };
    let mut other = Box::pin(program.start(other, ledger.account()));
    assert!(futures::poll!(&mut other).is_pending());
    assert_eq!(turn.await, Err(HostError::Displaced));
    drop(first);
    other.await.unwrap();
}

#[tokio::test]
async fn l18_growing_beyond_the_nodes_memory_is_the_engines_trouble() {
    let limits = Config { memory_bytes_max: 8 << 20, ..config() };
    let program = program_of(&Sandbox::new(limits).unwrap()).await;
    let mut guest = program.start(workflow("memory", "1"), ample()).await.unwrap();
    assert_eq!(guest.turn(None).await, Err(HostError::MemoryUsedUp));
    drop(guest);
    assert_eq!(run_on(&program, workflow("sequential", "3")).await.output(), "3");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_full_house_never_runs_out_of_slots() {
    let sandbox = Sandbox::new(Config { small_instances_max: 3, ..config() }).unwrap();
    let program = program_of(&sandbox).await;
    let crowd = (0..300).map(|_| {
        let program = program.clone();
        tokio::spawn(async move { run_on(&program, workflow("blocking", "3")).await })
    });
    for ran in futures::future::join_all(crowd).await {
        assert_eq!(ran.unwrap().output(), "3");
    }
    assert_eq!((sandbox.live(), sandbox.usage().started), (0, 300));
}
