//! Stored bytes: what executions write is counted for their tenant, and given back when they are deleted.

use cerebelum_history::{Parent, Timestamp};
use cerebelum_store::{AppendError, Batch, Child, ExecutionKey, State, TenantId};

use crate::bench::{Bench, T, batch, call, chunk, end, events, fresh, key, new, release, written};
use crate::on_both;

on_both!(
    what_is_written_is_counted_and_given_back,
    a_refused_batch_counts_nothing,
    each_tenant_counts_for_itself,
    an_execution_of_an_engine_of_the_version_before_gives_nothing_back,
);

/// The bytes of the first tenant, once both counts agree.
async fn stored(bench: &Bench) -> u64 {
    let stored = bench.stored_bytes().await.unwrap().remove(&T).unwrap_or(0);
    let of_executions =
        bench.meddle("select cast(coalesce(sum(bytes), 0) as bigint) from executions where tenant_id = 1").await;
    assert_eq!(i64::try_from(stored).unwrap(), of_executions);
    stored
}

async fn what_is_written_is_counted_and_given_back(bench: Bench) {
    let (node, before) = (bench.lease("n").await, stored(&bench).await);
    assert_eq!(before, 0);
    let head = bench.started(node, "a").await;
    let mut last = stored(&bench).await;
    assert!(last > 1_024, "{last}");
    let mut grows = async |bench: &Bench, by: u64| {
        let now = stored(bench).await;
        assert!((by..by + 3_000).contains(&(now - last)), "{now} after {last}");
        last = now;
    };
    let mut long = events(node, &head, 1);
    long.chunks[0].events = format!(r#"[{{"log":"{}"}}]"#, "x".repeat(10_000));
    let head = long.head.clone();
    assert_eq!(bench.write(long).await, Ok(()));
    grows(&bench, 10_000).await;
    let mut child = new("b");
    child.head.parent = Some(Parent { id: head.key.id.clone(), run: 1, call: call("1"), awaited: false });
    child.first.events = "y".repeat(20_000);
    let mut starts = batch(node, &head);
    starts.children = vec![Child { new: child, accepted: None, refused: "refused".into() }];
    starts.messages = vec![("a".parse().unwrap(), "m".repeat(5_000))];
    assert_eq!(bench.write(starts).await, Ok(()));
    grows(&bench, 25_000).await;
    assert!(bench.send(&key("b"), "z".repeat(30_000)).await.unwrap());
    grows(&bench, 30_000).await;
    let next_run = Batch {
        next_run: Some(chunk(1, 1)),
        chunks: Vec::new(),
        head: cerebelum_store::ExecutionRow { run: 2, position: cerebelum_history::Position(1), ..head.clone() },
        ..release(node, &head, None)
    };
    assert_eq!(bench.write(next_run).await, Ok(()));
    assert!(bench.bury(&key("a"), Vec::new()).await.unwrap());
    assert!(bench.bury(&key("b"), Vec::new()).await.unwrap());
    let all = stored(&bench).await;
    assert!(bench.delete(&key("a")).await.unwrap());
    assert!(stored(&bench).await < all);
    assert_eq!(bench.delete_ended(Timestamp(u64::MAX >> 2), 10).await.unwrap(), 1);
    assert_eq!(stored(&bench).await, 0);
}

async fn a_refused_batch_counts_nothing(bench: Bench) {
    let node = bench.lease("n").await;
    let (a, b) = (bench.started(node, "a").await, bench.started(node, "b").await);
    let before = stored(&bench).await;
    let (good, mut bad) = (events(node, &a, 1), events(node, &b, 1));
    bad.after = bad.after.next();
    let id = fresh();
    for _ in 0..2 {
        let answers = bench.append_all(id, vec![bad.clone(), good.clone()]).await;
        assert_eq!(answers, [Err(AppendError::Moved), Ok(())]);
    }
    let one = stored(&bench).await - before;
    assert_eq!(one, good.chunks[0].events.len() as u64, "the batch that was written, once");
}

async fn each_tenant_counts_for_itself(bench: Bench) {
    let node = bench.lease("n").await;
    let other = bench.create_tenant("other", None).await.unwrap().unwrap();
    let ours = bench.started(node, "a").await;
    let mut theirs = new("a");
    theirs.head.key.tenant = other;
    let begins = Batch { release: false, ..Batch::start(node, theirs) };
    assert_eq!(written(bench.append(fresh(), vec![begins.clone()]).await.unwrap()), [Ok(())]);
    let sums = async || bench.stored_bytes().await.unwrap();
    let before = sums().await;
    let both = vec![events(node, &ours, 1), end(node, &begins.head, State::Completed)];
    assert_eq!(bench.append_all(fresh(), both).await, [Ok(()), Ok(())]);
    let after = sums().await;
    assert!(after[&T] > before[&T] && after[&other] > before[&other], "{before:?} {after:?}");
    assert!(bench.delete(&ExecutionKey { tenant: other, id: "a".parse().unwrap() }).await.unwrap());
    let left = sums().await;
    assert_eq!((left[&T], left.get(&other).copied().unwrap_or(0)), (after[&T], 0));
    assert!(!left.contains_key(&TenantId(77)));
}

async fn an_execution_of_an_engine_of_the_version_before_gives_nothing_back(bench: Bench) {
    let node = bench.lease("n").await;
    let head = bench.started(node, "a").await;
    // As that engine would have written it.
    bench.meddle("update executions set bytes = 0").await;
    bench.meddle("delete from tenant_bytes").await;
    assert_eq!(bench.write(end(node, &head, State::Completed)).await, Ok(()));
    let last = stored(&bench).await;
    assert!(last < 1_024, "{last}");
    assert!(bench.delete(&key("a")).await.unwrap());
    assert_eq!(stored(&bench).await, 0);
}
