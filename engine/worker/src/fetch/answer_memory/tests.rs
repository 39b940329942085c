//! Who waits for memory, and that no tenant waits for another one.

use futures::FutureExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

const A: TenantId = TenantId(1);
const B: TenantId = TenantId(2);

/// Whether a permit may grow so far at once. Beyond the bytes that are free.
fn grows(permit: &mut AnswerPermit, counted: usize) -> bool {
    permit.grow_to(FREE_ANSWER_BYTES + counted).now_or_never().is_some()
}

/// Takes the overdraft of a tenant away, so that only shares count.
fn without_overdraft(execution: &ExecutionMemory) -> OwnedSemaphorePermit {
    execution.tenant.overdraft.clone().try_acquire_owned().expect("it is free")
}

fn is_free(engine: &AnswerMemory) -> bool {
    *engine.0.taken.lock() == 0
}

#[test]
fn answers_beyond_the_memory_wait_and_go_on_when_another_one_is_put_away() {
    let engine = AnswerMemory::new(200);
    let execution = engine.share(A, 100);
    let (mut a, mut b, mut c) = (execution.permit(), execution.permit(), execution.permit());
    assert!(grows(&mut a, 90));
    assert!(grows(&mut b, 90), "one may exceed it");
    let mut waits = Box::pin(c.grow_to(FREE_ANSWER_BYTES + 90));
    assert!(waits.as_mut().now_or_never().is_none(), "no more than one");
    drop(a);
    assert!(waits.as_mut().now_or_never().is_some(), "there is room again");
    drop(waits);
    drop((b, c));
    assert!(is_free(&engine) && execution.tenant.overdraft.available_permits() == 1);
}

#[test]
fn whatever_one_tenant_holds_the_share_of_another_is_ready_at_once() {
    for seed in 0..200 {
        let mut random = StdRng::seed_from_u64(seed);
        let engine = AnswerMemory::new(1_000);
        // None of these permits ever shrinks, and some of them wait.
        let mut held = Vec::new();
        for _ in 0..random.random_range(1..20) {
            let execution = engine.share(A, random.random_range(100..1_000));
            for _ in 0..random.random_range(1..20) {
                let (mut permit, mut bytes) = (execution.permit(), 0);
                let waiting = random.random_range(0..20);
                held.push(Box::pin(async move {
                    for _ in 0..waiting {
                        bytes += random_step(seed, bytes);
                        permit.grow_to(FREE_ANSWER_BYTES + bytes).await;
                    }
                    std::future::pending::<()>().await;
                }));
            }
        }
        for waits in &mut held {
            assert!(waits.as_mut().now_or_never().is_none());
        }
        let execution = engine.share(B, 1_000);
        let _overdraft = without_overdraft(&execution);
        let share = (1_000 - *engine.0.taken.lock()) / 2;
        assert!(share >= 250, "seed {seed}: it is at least a quarter beside one other tenant, and is {share}");
        let mut left = share;
        let mut permits = Vec::new();
        while left > 0 {
            let bytes = random.random_range(1..=left);
            permits.push(execution.permit());
            assert!(grows(permits.last_mut().unwrap(), bytes), "seed {seed}: {bytes} of {left} left");
            left -= bytes;
        }
        assert!(!grows(&mut execution.permit(), 2), "seed {seed}: there is no more than its share");
        drop((held, permits));
        assert!(is_free(&engine), "seed {seed}");
    }
}

/// How much further a permit grows: of different sizes, the same for a seed.
fn random_step(seed: u64, bytes: usize) -> usize {
    1 + (usize::try_from(seed).unwrap_or(0) * 31 + bytes * 17) % 60
}

#[test]
fn a_small_answer_never_waits() {
    let engine = AnswerMemory::new(100);
    let execution = engine.share(A, 100);
    let _overdraft = without_overdraft(&execution);
    let mut greedy = execution.permit();
    assert!(grows(&mut greedy, 50) && !grows(&mut greedy, 51));
    for _ in 0..1_000 {
        assert!(grows(&mut execution.permit(), 0));
    }
}

#[test]
fn one_execution_cannot_take_the_memory_of_its_tenant() {
    let engine = AnswerMemory::new(200);
    let (greedy, modest) = (engine.share(A, 20), engine.share(A, 20));
    let mut permits: Vec<_> = (0..9).map(|_| greedy.permit()).collect();
    let grown = permits.iter_mut().filter_map(|permit| grows(permit, 15).then_some(())).count();
    assert_eq!(grown, 2, "one within its share, and the one that may exceed it");
    assert!(grows(&mut modest.permit(), 20), "others have theirs");
}

#[test]
fn who_no_longer_waits_takes_nothing() {
    let engine = AnswerMemory::new(100);
    let execution = engine.share(A, 100);
    let _overdraft = without_overdraft(&execution);
    let (mut first, mut second) = (execution.permit(), execution.permit());
    assert!(grows(&mut first, 40));
    for _ in 0..10 {
        assert!(!grows(&mut second, 40));
    }
    drop(first);
    assert!(grows(&mut second, 50));
    drop(second);
    assert!(is_free(&engine) && execution.bytes.available_permits() == 100);
}

#[tokio::test]
async fn answers_that_grow_together_all_arrive() {
    let engine = AnswerMemory::new(100);
    let arriving = (0..25).map(|number| {
        let execution = engine.share(TenantId(number % 5), 40);
        async move {
            let mut permits: Vec<_> = (0..5).map(|_| execution.permit()).collect();
            let all = permits.iter_mut().map(|permit| async move {
                for bytes in (0..=30).step_by(3) {
                    permit.grow_to(FREE_ANSWER_BYTES + bytes).await;
                    tokio::task::yield_now().await;
                }
                permit.held.clear();
                permit.overdraft = None;
            });
            futures::future::join_all(all).await;
        }
    });
    let all = futures::future::join_all(arriving);
    tokio::time::timeout(std::time::Duration::from_secs(20), all).await.expect("none waits for ever");
    assert!(is_free(&engine));
}
