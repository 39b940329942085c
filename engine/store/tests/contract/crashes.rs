//! Crashes that are counted in an execution's row: nodes that died and never came back to their data folders (L18).

use cerebelum_history::Timestamp;
use cerebelum_store::{Command, Incarnation, Size};

use crate::bench::{Bench, LONG, batch, events, key, new, release};
use crate::on_all;

on_all!(
    l18_what_could_move_when_a_node_died_for_good_has_crashed_once_more,
    l18_crashes_count_only_where_an_execution_still_stands,
    l18_a_node_claims_one_suspect_at_a_time,
    l18_what_waits_and_what_is_given_back_has_not_crashed,
);

/// Lets nodes with ever new names claim everything there is and die for good, one after the other.
async fn die(bench: &Bench, heir: Incarnation, times: u32) {
    for time in 0..times {
        let dying = bench.lease(&format!("container-{time}")).await;
        bench.claimed(dying).await;
        bench.expire(dying).await;
        bench.expire_leases().await.unwrap();
    }
    let standing = bench.renew_lease(heir, LONG).await.unwrap();
    assert!(standing.is_some(), "the heir outlives them");
}

async fn l18_what_could_move_when_a_node_died_for_good_has_crashed_once_more(bench: Bench) {
    let heir = bench.lease("heir").await;
    bench.start(vec![new("a")]).await;
    for crashes in 0..3 {
        assert_eq!(bench.looked("a").await.crashes, crashes);
        die(&bench, heir, 1).await;
    }
    let claimed = bench.claim(heir, 9, Size::Any).await.unwrap().remove(0);
    assert_eq!((claimed.head.key.id.as_str(), claimed.crashes), ("a", 3));
    assert!(
        bench
            .command(&key("a"), Command::Park { incarnation: heir, reason: "engine-crash: …".to_owned() }, None)
            .await
            .unwrap()
    );
    assert!(bench.unpark(&key("a")).await.unwrap());
    assert_eq!(bench.looked("a").await.crashes, 0, "a person who resumes it wants it tried again");
}

async fn l18_crashes_count_only_where_an_execution_still_stands(bench: Bench) {
    let heir = bench.lease("heir").await;
    bench.start(vec![new("a")]).await;
    die(&bench, heir, 3).await;
    let claimed = bench.claim(heir, 9, Size::Any).await.unwrap().remove(0);
    assert_eq!(bench.write(events(heir, &claimed.head, 1)).await, Ok(()));
    assert_eq!(bench.looked("a").await.crashes, 0);
    bench.end_lease(heir).await.unwrap();
    let heir = bench.lease("heir").await;
    die(&bench, heir, 1).await;
    assert_eq!(bench.looked("a").await.crashes, 1, "the earlier ones were elsewhere");
}

async fn l18_a_node_claims_one_suspect_at_a_time(bench: Bench) {
    let heir = bench.lease("heir").await;
    for id in ["a", "b", "c"] {
        bench.start(vec![new(id)]).await;
    }
    die(&bench, heir, 2).await;
    let now = bench.now().await.unwrap();
    bench.start(vec![new("other")]).await;
    assert_eq!(bench.claimed(heir).await, ["a", "other"]);
    assert_eq!(bench.claimed(heir).await, [""; 0]);
    let again = bench.next_due().await.unwrap().expect("the others are looked at again");
    assert!(again > now && again.since(now) < 10_000, "{again:?} after {now:?}");
    // Another node may claim a suspect of its own.
    let other = bench.lease("other").await;
    assert_eq!(bench.claimed(other).await, ["b"]);
    // The suspect that dies with that node is now more suspect than the one that never ran alone.
    bench.expire(other).await;
    bench.expire_leases().await.unwrap();
    let head = bench.head("a").await;
    assert_eq!(bench.write(events(heir, &head, 1)).await, Ok(()));
    assert_eq!(bench.claimed(heir).await, ["c"]);
    let head = bench.head("c").await;
    assert_eq!(bench.write(release(heir, &head, None)).await, Ok(()));
    assert_eq!(bench.looked("b").await.crashes, 3);
    assert_eq!(bench.claimed(heir).await, ["b"]);
}

async fn l18_what_waits_and_what_is_given_back_has_not_crashed(bench: Bench) {
    let heir = bench.lease("heir").await;
    let now = bench.now().await.unwrap();
    let dying = bench.lease("dying").await;
    for (id, due) in [("later", now.plus(3_600_000)), ("due", Timestamp(0))] {
        let head = bench.started(dying, id).await;
        let mut waits = batch(dying, &head);
        (waits.head.settled, waits.head.due) = (true, Some(due));
        assert_eq!(bench.write(waits).await, Ok(()));
    }
    bench.start(vec![new("left")]).await;
    let leaving = bench.lease("leaving").await;
    assert_eq!(bench.claimed(leaving).await, ["left"]);
    bench.end_lease(leaving).await.unwrap();
    bench.expire(dying).await;
    bench.expire_leases().await.unwrap();
    for (id, crashes) in [("later", 0), ("due", 1), ("left", 0)] {
        assert_eq!(bench.looked(id).await.crashes, crashes, "{id}");
    }
    assert!(bench.renew_lease(heir, LONG).await.unwrap().is_some());
}
