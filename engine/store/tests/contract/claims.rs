//! Claims: which executions are claimed, by which node, and with which rows.

use std::collections::HashSet;

use cerebelum_history::Timestamp;
use cerebelum_store::{Backlog, ClaimFilter, Claimed, ExecutionKey, SMALL_BYTES, Size, TenantId};

use crate::bench::{Bench, T, batch, events, key, lease, new, opened, release};
use crate::on_all;

on_all!(
    what_is_due_or_not_settled_is_claimed,
    a_claim_brings_head_calls_and_inbox,
    an_unseen_message_wakes_also_what_is_paused,
    a_deadline_wakes_also_what_is_paused,
    what_is_parked_is_left_alone,
    one_is_claimed_by_name_whatever_its_state,
    no_execution_is_claimed_twice,
    tenants_have_their_turn,
    claims_are_bounded,
    messages_and_timers_share_a_bounded_claim,
    a_claim_for_small_executions_leaves_large_ones,
    the_next_due_time_is_that_of_the_earliest_free_sleeper,
    the_backlog_is_what_is_due_and_has_no_owner,
);

async fn what_is_due_or_not_settled_is_claimed(bench: Bench) {
    let node = bench.lease("n").await;
    let now = bench.now().await.unwrap();
    bench.sleeping("due", Some(now)).await;
    bench.sleeping("later", Some(now.plus(60_000))).await;
    bench.sleeping("never", None).await;
    bench.started(node, "owned").await;
    bench.start(vec![new("unsettled")]).await;
    let mut paused = new("paused");
    paused.head.paused = true;
    bench.start(vec![paused]).await;
    assert_eq!(bench.claimed(node).await, ["due", "unsettled"]);
    assert_eq!(bench.claimed(node).await, [""; 0]);
}

async fn a_claim_brings_head_calls_and_inbox(bench: Bench) {
    let node = bench.lease("n").await;
    for id in ["a", "b"] {
        let head = bench.started(node, id).await;
        let mut batch = release(node, &head, Some(Timestamp(5)));
        batch.opened = vec![opened("1", &format!("\"{id}\"")), opened("2", "{}")];
        assert_eq!(bench.write(batch).await, Ok(()));
        for message in ["first", "second", "third"] {
            assert!(bench.send(&key(id), format!("{id} {message}")).await.unwrap());
        }
    }
    let expected = [bench.looked("a").await, bench.looked("b").await].map(|free| Claimed { owner: Some(node), ..free });
    let mut claimed = bench.claim(node, 9, Size::Any).await.unwrap();
    claimed.sort_by(|a, b| a.head.key.cmp(&b.head.key));
    assert_eq!(claimed, expected);
    let Claimed { head, owner, calls, inbox, crashes: _, leaves_others: _ } = &claimed[1];
    assert_eq!(*owner, Some(node));
    assert_eq!((head.due, calls[0].state.as_str()), (Some(Timestamp(5)), "\"b\""));
    assert_eq!(inbox.iter().map(|row| row.message.as_str()).collect::<Vec<_>>(), ["b first", "b second", "b third"]);
    assert!(inbox.is_sorted_by_key(|row| row.seq) && inbox.iter().all(|row| !row.seen));
}

async fn an_unseen_message_wakes_also_what_is_paused(bench: Bench) {
    let node = bench.lease("n").await;
    let head = bench.started(node, "a").await;
    let mut pause = release(node, &head, None);
    pause.head.paused = true;
    assert_eq!(bench.write(pause.clone()).await, Ok(()));
    assert_eq!(bench.claimed(node).await, [""; 0]);
    assert!(bench.send(&key("a"), "resume".into()).await.unwrap());
    let claimed = bench.claim(node, 9, Size::Any).await.unwrap().remove(0);
    let mut seen = release(node, &claimed.head, None);
    seen.seen = vec![claimed.inbox[0].seq];
    assert_eq!(bench.write(seen).await, Ok(()));
    // The message was seen and kept, so it no longer wakes the execution.
    assert_eq!(bench.claimed(node).await, [""; 0]);
    assert!(bench.looked("a").await.inbox[0].seen);
    assert!(bench.send(&key("a"), "again".into()).await.unwrap());
    assert_eq!(bench.claimed(node).await, ["a"]);
}

async fn a_deadline_wakes_also_what_is_paused(bench: Bench) {
    let node = bench.lease("n").await;
    let head = bench.started(node, "a").await;
    let mut pause = release(node, &head, Some(Timestamp(1)));
    pause.head.paused = true;
    pause.head.settled = false;
    assert_eq!(bench.write(pause).await, Ok(()));
    assert_eq!(bench.claimed(node).await, ["a"]);
}

async fn what_is_parked_is_left_alone(bench: Bench) {
    let node = bench.lease("n").await;
    let head = bench.started(node, "a").await;
    let mut park = batch(node, &head);
    park.head.parked = Some("diverged".into());
    park.release = true;
    assert_eq!(bench.write(park).await, Ok(()));
    assert!(bench.send(&key("a"), "hello".into()).await.unwrap());
    assert_eq!(bench.claimed(node).await, [""; 0]);
    assert!(bench.unpark(&key("a")).await.unwrap());
    assert!(!bench.unpark(&key("a")).await.unwrap());
    assert!(!bench.unpark(&key("nobody")).await.unwrap());
    assert_eq!(bench.claimed(node).await, ["a"]);
}

async fn one_is_claimed_by_name_whatever_its_state(bench: Bench) {
    let (node, other) = (bench.lease("n").await, bench.lease("o").await);
    let mut parked = new("parked");
    (parked.head.parked, parked.head.paused) = (Some("crashed".into()), true);
    bench.start(vec![parked]).await;
    bench.sleeping("never", None).await;
    assert_eq!(bench.claim_one(node, &key("parked")).await.unwrap().unwrap().head.parked.as_deref(), Some("crashed"));
    assert!(bench.claim_one(node, &key("never")).await.unwrap().is_some());
    assert_eq!(bench.claim_one(other, &key("never")).await.unwrap(), None);
    assert_eq!(bench.claim_one(node, &key("never")).await.unwrap(), None);
    assert_eq!(bench.claim_one(node, &key("nobody")).await.unwrap(), None);
}

async fn no_execution_is_claimed_twice(bench: Bench) {
    let news = (0..200).map(|number| new(&format!("e{number}"))).collect();
    bench.start(news).await;
    let mut claimers = Vec::new();
    for node in 0..4 {
        let store = bench.second().await;
        let incarnation = lease(&*store, &format!("n{node}")).await;
        claimers.push(tokio::spawn(async move {
            let mut ids = Vec::new();
            loop {
                let claimed = store.claim(incarnation, ClaimFilter::Next { limit: 7, size: Size::Any }).await.unwrap();
                if claimed.is_empty() {
                    return ids;
                }
                ids.extend(claimed.into_iter().map(|claimed| claimed.head.key.id));
            }
        }));
    }
    let mut ids = Vec::new();
    for claimer in claimers {
        ids.extend(claimer.await.unwrap());
    }
    assert_eq!((ids.len(), ids.iter().collect::<HashSet<_>>().len()), (200, 200));
}

async fn claims_are_bounded(bench: Bench) {
    let node = bench.lease("n").await;
    for number in 0..5 {
        bench.sleeping(&format!("e{number}"), Some(Timestamp(10 - number))).await;
    }
    assert_eq!(bench.claim(node, 0, Size::Any).await.unwrap(), []);
    // The execution that is overdue longest comes first.
    let claimed: Vec<_> =
        bench.claim(node, 2, Size::Any).await.unwrap().into_iter().map(|claimed| claimed.head.due).collect();
    assert_eq!(claimed, [Some(Timestamp(6)), Some(Timestamp(7))]);
    assert_eq!(bench.claim(node, 9, Size::Any).await.unwrap().len(), 3);
}

async fn messages_and_timers_share_a_bounded_claim(bench: Bench) {
    let node = bench.lease("n").await;
    for number in 0..10 {
        bench.sleeping(&format!("due{number}"), Some(Timestamp(1))).await;
        bench.sleeping(&format!("told{number}"), None).await;
        bench.send(&key(&format!("told{number}")), "hello".into()).await.unwrap();
    }
    let told = |claimed: &[Claimed]| claimed.iter().filter(|claimed| !claimed.inbox.is_empty()).count();
    let first = bench.claim(node, 8, Size::Any).await.unwrap();
    assert_eq!((first.len(), told(&first)), (8, 4));
    let second = bench.claim(node, 50, Size::Any).await.unwrap();
    assert_eq!((second.len(), told(&second)), (12, 6));
    bench.write(events(node, &first[0].head, 1)).await.unwrap();
}

/// A large execution stays free for a claim of any size, whether it is due or has messages. A small one is claimed.
async fn a_claim_for_small_executions_leaves_large_ones(bench: Bench) {
    let node = bench.lease("n").await;
    let large = "x".repeat(usize::try_from(SMALL_BYTES).unwrap() + 1);
    bench.sleeping("due", Some(Timestamp(1))).await;
    for (id, due, message) in
        [("told", None, "hello"), ("full", None, &*large), ("full-due", Some(Timestamp(1)), &*large)]
    {
        bench.sleeping(id, due).await;
        bench.send(&key(id), message.into()).await.unwrap();
    }
    let ids = |claimed: Vec<Claimed>| -> Vec<String> {
        let mut ids: Vec<String> = claimed.iter().map(|claimed| claimed.head.key.id.to_string()).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(bench.claim(node, 9, Size::Small).await.unwrap()), ["due", "told"]);
    assert_eq!(ids(bench.claim(node, 9, Size::Small).await.unwrap()), [""; 0]);
    assert_eq!(ids(bench.claim(node, 9, Size::Any).await.unwrap()), ["full", "full-due"]);
}

async fn the_next_due_time_is_that_of_the_earliest_free_sleeper(bench: Bench) {
    let node = bench.lease("n").await;
    let now = bench.now().await.unwrap();
    assert_eq!(bench.next_due().await.unwrap(), None);
    bench.sleeping("past", Some(Timestamp(1))).await;
    bench.sleeping("later", Some(now.plus(90_000))).await;
    let head = bench.sleeping("sooner", Some(now.plus(60_000))).await;
    bench.sleeping("never", None).await;
    assert_eq!(bench.next_due().await.unwrap(), Some(now.plus(60_000)));
    assert!(bench.claim_one(node, &head.key).await.unwrap().is_some());
    assert_eq!(bench.next_due().await.unwrap(), Some(now.plus(90_000)));
    assert_eq!(bench.write(release(node, &head, Some(now.plus(70_000)))).await, Ok(()));
    assert_eq!(bench.next_due().await.unwrap(), Some(now.plus(70_000)));
}

async fn the_backlog_is_what_is_due_and_has_no_owner(bench: Bench) {
    let node = bench.lease("n").await;
    assert_eq!(bench.backlog().await.unwrap(), Backlog::default());
    let now = bench.now().await.unwrap();
    bench.sleeping("late", Some(Timestamp(now.0 - 40_000))).await;
    bench.sleeping("later", Some(now.plus(600_000))).await;
    bench.sleeping("never", None).await;
    bench.started(node, "owned").await;
    let Backlog { due, oldest_ms } = bench.backlog().await.unwrap();
    assert_eq!(due, 1);
    assert!((40_000..900_000).contains(&oldest_ms), "{oldest_ms}");
    let mut at_once = new("at-once");
    at_once.head.stamp = Timestamp(now.0 - 900_000);
    bench.start(vec![at_once]).await;
    let Backlog { due, oldest_ms } = bench.backlog().await.unwrap();
    assert_eq!(due, 2);
    assert!(oldest_ms >= 900_000, "what can move at once has been due since its last event: {oldest_ms}");
    assert_eq!(bench.claimed(node).await, ["at-once", "late"]);
    assert_eq!(bench.backlog().await.unwrap(), Backlog::default());
}

async fn tenants_have_their_turn(bench: Bench) {
    let node = bench.lease("n").await;
    let other = bench.create_tenant("other", None).await.unwrap().unwrap();
    let own = (0..50).map(|number| new(&format!("a{number}")));
    let theirs = (0..3).map(|number| {
        let mut theirs = new(&format!("b{number}"));
        theirs.head.key.tenant = other;
        theirs
    });
    bench.start(own.chain(theirs).collect()).await;
    let claim = async |limit, without: &[TenantId], after| {
        let filter = ClaimFilter::InTurn { limit, size: Size::Any, without: without.to_vec(), after };
        let claimed = bench.store.claim(node, filter).await.unwrap();
        let count = |tenant| claimed.iter().filter(|claimed| claimed.head.key.tenant == tenant).count();
        (count(T), count(other))
    };
    assert_eq!(claim(1, &[], T).await, (0, 1), "the next tenant comes first");
    assert_eq!(claim(1, &[], other).await, (1, 0));
    assert_eq!(claim(8, &[], TenantId(0)).await, (4, 2), "each has half, as far as it needs that");
    assert_eq!(claim(8, &[T], TenantId(0)).await, (0, 0));
    assert_eq!(claim(8, &[], T).await, (8, 0));
    let key = ExecutionKey { tenant: other, id: "c".parse().unwrap() };
    let mut sleeps = new("c");
    (sleeps.head.key, sleeps.head.settled) = (key.clone(), true);
    bench.start(vec![sleeps]).await;
    assert_eq!(claim(8, &[T], T).await, (0, 0));
    assert!(bench.send(&key, "wake up".into()).await.unwrap());
    assert_eq!(claim(8, &[], T).await, (4, 1), "a message is something to do");
}
