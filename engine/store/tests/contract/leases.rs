//! Leases: which node may write, and which one may no longer write.

use std::time::Duration;

use cerebelum_history::Timestamp;
use cerebelum_store::{AppendError, Incarnation};

use crate::bench::{Bench, LONG, batch, events, key, lease, release};
use crate::on_all;

on_all!(
    standing_nodes_are_listed_with_what_they_have,
    a_lease_is_renewed_while_it_stands,
    l11_an_expired_lease_is_never_renewed,
    what_an_expired_node_had_claimed_is_taken_over,
    a_restart_of_the_same_node_retires_the_earlier_one_at_once,
    l11_a_beginning_that_is_carried_out_late_ends_no_later_lease,
    an_ended_lease_frees_what_it_had_claimed,
    a_lost_lease_claims_nothing;
    // Only on databases:
    a_committed_batch_counts_as_a_renewal,
    many_starts_of_one_node_leave_one_incarnation,
);

async fn a_lease_is_renewed_while_it_stands(bench: Bench) {
    let lease = bench.begin_lease("n", None, Duration::from_secs(60)).await.unwrap().unwrap();
    assert_eq!(lease.remaining, Duration::from_secs(60));
    let renewed = bench.renew_lease(lease.incarnation, LONG).await.unwrap().unwrap();
    assert_eq!(renewed.incarnation, lease.incarnation);
    // The clock may tick between the two reads of it in one statement.
    assert!(renewed.remaining <= LONG && renewed.remaining > LONG / 2, "{renewed:?}");
    assert!(renewed.now >= lease.now && bench.now().await.unwrap() >= renewed.now);
    assert_eq!(bench.renew_lease(Incarnation(99), LONG).await.unwrap(), None);
    assert_eq!(bench.expire_leases().await.unwrap(), 0);
}

async fn l11_an_expired_lease_is_never_renewed(bench: Bench) {
    let node = bench.lease("n").await;
    let head = bench.started(node, "a").await;
    bench.expire(node).await;
    assert_eq!(bench.renew_lease(node, LONG).await.unwrap(), None);
    assert_eq!(bench.write(events(node, &head, 1)).await, Err(AppendError::ClaimLost));
    // The lease stays over, even before a takeover.
    assert_eq!(bench.renew_lease(node, LONG).await.unwrap(), None);
    assert_eq!(bench.head("a").await.position, head.position);
}

async fn what_an_expired_node_had_claimed_is_taken_over(bench: Bench) {
    let (old, heir) = (bench.lease("old").await, bench.lease("heir").await);
    let head = bench.started(old, "a").await;
    bench.started(heir, "b").await;
    assert_eq!(bench.expire_leases().await.unwrap(), 0);
    assert_eq!(bench.claimed(heir).await, [""; 0]);
    bench.expire(old).await;
    // An expired claim is not free yet: the takeover frees it.
    assert_eq!(bench.claimed(heir).await, [""; 0]);
    assert_eq!(bench.expire_leases().await.unwrap(), 1);
    assert_eq!(bench.expire_leases().await.unwrap(), 0);
    assert_eq!(bench.write(events(old, &head, 1)).await, Err(AppendError::ClaimLost));
    assert_eq!(bench.claimed(heir).await, ["a"]);
    assert_eq!(bench.write(events(old, &head, 1)).await, Err(AppendError::ClaimLost));
    assert_eq!(bench.write(events(heir, &head, 1)).await, Ok(()));
}

async fn a_restart_of_the_same_node_retires_the_earlier_one_at_once(bench: Bench) {
    let before = bench.lease("n").await;
    let head = bench.started(before, "a").await;
    let after = bench.lease("n").await;
    assert!(after > before);
    assert_eq!(bench.renew_lease(before, LONG).await.unwrap(), None);
    assert_eq!(bench.write(events(before, &head, 1)).await, Err(AppendError::ClaimLost));
    assert_eq!(bench.claimed(before).await, [""; 0]);
    assert_eq!(bench.claimed(after).await, ["a"]);
}

async fn an_ended_lease_frees_what_it_had_claimed(bench: Bench) {
    let (leaving, staying) = (bench.lease("leaving").await, bench.lease("staying").await);
    let head = bench.started(leaving, "a").await;
    bench.end_lease(leaving).await.unwrap();
    bench.end_lease(leaving).await.unwrap();
    bench.end_lease(Incarnation(99)).await.unwrap();
    assert_eq!(bench.renew_lease(leaving, LONG).await.unwrap(), None);
    assert_eq!(bench.write(events(leaving, &head, 1)).await, Err(AppendError::ClaimLost));
    assert_eq!(bench.claimed(staying).await, ["a"]);
}

async fn a_committed_batch_counts_as_a_renewal(bench: Bench) {
    let node = bench.lease("n").await;
    let head = bench.started(node, "a").await;
    assert_eq!(bench.write(batch(node, &head)).await, Ok(()));
    bench.meddle(format!("update leases set expires_at = 1 where incarnation = {}", node.0)).await;
    assert_eq!(bench.expire_leases().await.unwrap(), 0);
    assert_eq!(bench.write(batch(node, &head)).await, Ok(()));
    assert!(bench.renew_lease(node, LONG).await.unwrap().is_some());
}

async fn a_lost_lease_claims_nothing(bench: Bench) {
    let node = bench.lease("n").await;
    let head = bench.started(node, "a").await;
    assert_eq!(bench.write(release(node, &head, Some(Timestamp(1)))).await, Ok(()));
    bench.expire(node).await;
    assert_eq!(bench.claimed(node).await, [""; 0]);
    assert_eq!(bench.claim_one(node, &key("a")).await.unwrap(), None);
    let next = bench.lease("next").await;
    assert_eq!(bench.claimed(next).await, ["a"]);
}

async fn l11_a_beginning_that_is_carried_out_late_ends_no_later_lease(bench: Bench) {
    let other = bench.lease("other").await;
    let first = bench.begin_lease("n", None, LONG).await.unwrap().unwrap().incarnation;
    let second = bench.begin_lease("n", Some(first), LONG).await.unwrap().unwrap().incarnation;
    let head = bench.started(second, "a").await;
    for late in [None, Some(other), Some(first)] {
        assert_eq!(bench.begin_lease("n", late, LONG).await.unwrap(), Err(second), "{late:?}");
    }
    assert!(bench.renew_lease(second, LONG).await.unwrap().is_some());
    assert_eq!(bench.write(events(second, &head, 1)).await, Ok(()));
    // A lease that has ended is known still.
    bench.end_lease(second).await.unwrap();
    assert_eq!(bench.begin_lease("n", Some(first), LONG).await.unwrap(), Err(second));
    assert!(bench.begin_lease("n", Some(second), LONG).await.unwrap().is_ok());
    assert!(bench.renew_lease(other, LONG).await.unwrap().is_some());
}

async fn many_starts_of_one_node_leave_one_incarnation(bench: Bench) {
    let mut beginning = Vec::new();
    for _ in 0..8 {
        let store = bench.second().await;
        beginning.push(tokio::spawn(async move { lease(&*store, "n").await }));
    }
    let mut standing = 0;
    for begun in beginning {
        standing += usize::from(bench.renew_lease(begun.await.unwrap(), LONG).await.unwrap().is_some());
    }
    assert_eq!(bench.meddle("select count(*) from nodes where ended_at is null").await, 1);
    assert!(standing >= 1);
}

async fn standing_nodes_are_listed_with_what_they_have(bench: Bench) {
    let (one, two) = (bench.lease("one").await, bench.lease("two").await);
    bench.started(two, "a").await;
    let listed = bench.nodes().await.unwrap();
    let told: Vec<_> = listed.iter().map(|node| (node.name.as_str(), node.incarnation, node.executions)).collect();
    assert_eq!(told, [("one", one, 0), ("two", two, 1)]);
    assert!(listed.iter().all(|node| node.lease_left > std::time::Duration::from_secs(300)), "{listed:?}");
    bench.end_lease(one).await.unwrap();
    assert_eq!(bench.nodes().await.unwrap().len(), 1);
}
