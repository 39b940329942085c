//! The removal of old runs: of a chain only the last ones are kept, and readers are told so.

use cerebelum_history::{Position, Timestamp};
use cerebelum_store::{
    ApprovalChange, Batch, Chunk, ExecutionRow, HistoryPart, Incarnation, LogLine, Store, StoreError,
};

use crate::bench::{Bench, T, call, chunk, events, fresh, key, new, release, scope, written};
use crate::garbage::Meddler;
use crate::on_all;

on_all!(
    the_last_runs_are_kept_and_readers_are_told_of_the_others,
    the_present_run_and_the_one_before_it_are_always_kept,
    chains_take_turns_in_the_order_of_their_places;
    // Only on databases:
    a_long_run_goes_in_pieces_between_which_its_chain_goes_on,
    what_was_begun_is_finished_after_a_restart_even_if_all_runs_are_kept_now,
    two_engines_remove_each_row_once,
    what_a_chain_counts_is_bounded_whatever_its_runs_did,
    runs_of_an_engine_of_the_version_before_give_back_their_size,
    questions_go_with_their_runs,
    a_chain_whose_rows_cannot_be_deleted_does_not_keep_the_others,
    a_damaged_chain_keeps_all_that_it_has,
);

/// More than the rows that one transaction deletes.
const PIECE_ROWS_MAX: u64 = 2_000;
const LATER: Timestamp = Timestamp(u64::MAX >> 2);

fn line(number: u32) -> LogLine {
    let level = cerebelum_history::Level::Info;
    LogLine { scope: scope(""), attempt: 1, place: 1, number, at: Timestamp(1), level, text: format!("line {number}") }
}

/// A batch that ends the run with a log line, and begins the next one.
fn next_run(node: Incarnation, head: &ExecutionRow) -> Batch {
    let mut batch = events(node, head, 1);
    batch.logs = vec![line(1)];
    batch.next_run = Some(chunk(1, 2));
    batch.head.run = head.run + 1;
    batch.head.position = Position(2);
    batch
}

/// A chain in its run of this number, which its node has claimed.
async fn chain(bench: &Bench, node: Incarnation, id: &str, run: u32) -> ExecutionRow {
    let mut head = bench.started(node, id).await;
    while head.run < run {
        let next = next_run(node, &head);
        head = next.head.clone();
        assert_eq!(bench.write(next).await, Ok(()));
    }
    head
}

async fn overdue(bench: &Bench, keep: u32) -> Vec<i64> {
    bench.overdue_runs(keep, 0, 99).await.unwrap()
}

/// Removes what there is to remove, and returns the number of rows of each piece.
async fn remove(bench: &Bench, keep: u32) -> Vec<u64> {
    let mut pieces = Vec::new();
    for _ in 0..100 {
        let places = overdue(bench, keep).await;
        if places.is_empty() {
            return pieces;
        }
        for place in places {
            pieces.push(bench.remove_runs(place, keep).await.unwrap());
        }
    }
    panic!("it has no end: {pieces:?}");
}

async fn read(bench: &Bench, id: &str, run: u32) -> Result<Vec<Chunk>, StoreError> {
    bench.history(&key(id), run, Position(1), Position(u64::MAX)).await
}

/// Whether this run is said to be no longer kept, and which one is the first that is.
async fn is_gone(bench: &Bench, id: &str, run: u32, from: u32) -> bool {
    let page = HistoryPart::Page { from: Position(1), bytes_max: 1 << 20 };
    let answers = [read(bench, id, run).await, bench.store.history(&key(id), run, page).await];
    answers.into_iter().all(|answer| match answer {
        Err(StoreError::NotKept(why)) => {
            why.starts_with(&format!("run {run} of execution `{id}` is no longer kept: "))
                && why.ends_with(&format!("here from run {from} on"))
        }
        _ => false,
    })
}

async fn the_last_runs_are_kept_and_readers_are_told_of_the_others(bench: Bench) {
    let node = bench.lease("n").await;
    let head = chain(&bench, node, "a", 6).await;
    bench.started(node, "short").await;
    let first = read(&bench, "a", 1).await.unwrap().remove(0);
    assert_eq!(overdue(&bench, 6).await, [0; 0]);
    assert_eq!(overdue(&bench, 3).await.len(), 1);
    // Two chunks of each run, the first chunk of the first one stays, and a line of each.
    assert_eq!(remove(&bench, 3).await, [8]);
    for run in 1..4 {
        assert!(is_gone(&bench, "a", run, 4).await, "run {run}");
    }
    for run in 4..6 {
        assert_eq!(read(&bench, "a", run).await.unwrap(), [chunk(1, 2), chunk(3, 3)], "run {run}");
    }
    assert_eq!(read(&bench, "a", 6).await.unwrap(), [chunk(1, 2)]);
    let runs: Vec<u32> = bench.logs(&key("a"), 0, 99).await.unwrap().into_iter().map(|row| row.run).collect();
    assert_eq!(runs, [4, 5]);
    assert_eq!((bench.head("a").await.runs_from, bench.head("short").await.runs_from), (Some(4), None));
    assert_eq!(bench.describe(&key("a")).await.unwrap().unwrap().head.runs_from, Some(4));
    let existing = bench.find_existing(vec![key("a")]).await.unwrap().remove(0).unwrap();
    assert_eq!(existing.1.unwrap(), first, "a start that is repeated finds the input");
    // The chain goes on under the same claim, and its number of kept runs is not lost.
    let next = next_run(node, &head);
    assert_eq!(bench.write(next.clone()).await, Ok(()));
    assert_eq!((bench.head("a").await.runs_from, bench.sweep(0, 9).await.unwrap().parked), (Some(4), 0));
    assert_eq!(remove(&bench, 3).await, [3]);
    assert!(is_gone(&bench, "a", 4, 5).await && read(&bench, "a", 5).await.is_ok());
    assert_eq!(remove(&bench, 3).await, [0; 0]);
    // More runs are kept from now on: what is gone stays gone, and nothing else goes.
    assert_eq!(overdue(&bench, 100).await, [0; 0]);
    assert_eq!(bench.write(release(node, &next.head, None)).await, Ok(()));
    assert!(bench.bury(&key("a"), Vec::new()).await.unwrap() && bench.delete(&key("a")).await.unwrap());
    assert!(bench.head("short").await.run == 1 && read(&bench, "a", 4).await.unwrap().is_empty());
}

async fn the_present_run_and_the_one_before_it_are_always_kept(bench: Bench) {
    let node = bench.lease("n").await;
    chain(&bench, node, "a", 2).await;
    for keep in [0, 1, 2] {
        assert_eq!(overdue(&bench, keep).await, [0; 0], "{keep}");
    }
    chain(&bench, node, "b", 4).await;
    let place = overdue(&bench, 0).await[0];
    bench.remove_runs(place, 0).await.unwrap();
    assert!(is_gone(&bench, "b", 2, 3).await && read(&bench, "b", 3).await.unwrap().len() == 2);
    assert_eq!(bench.remove_runs(place, 0).await.unwrap(), 0, "it is done once");
    assert_eq!(bench.remove_runs(77_777, 2).await.unwrap(), 0, "nothing is there");
}

async fn chains_take_turns_in_the_order_of_their_places(bench: Bench) {
    let node = bench.lease("n").await;
    for id in ["a", "b", "c"] {
        chain(&bench, node, id, 4).await;
    }
    let all = overdue(&bench, 2).await;
    assert!(all.len() == 3 && all.is_sorted(), "{all:?}");
    assert_eq!(bench.overdue_runs(2, 0, 2).await.unwrap(), all[..2]);
    assert_eq!(bench.overdue_runs(2, all[1], 2).await.unwrap(), all[2..]);
    bench.remove_runs(all[1], 2).await.unwrap();
    assert_eq!(overdue(&bench, 2).await, [all[0], all[2]]);
}

/// Adds chunks to a run that has ended, and as many log lines.
async fn grown(bench: &Bench, id: &str, run: u32, (chunks, bytes): (u64, usize)) {
    let numbers = format!("with recursive n(i) as (select 1 union all select i + 1 from n where i < {chunks})");
    let text = "x".repeat(bytes);
    bench
        .meddle(format!(
            "{numbers} insert into history (execution_no, tenant_id, run, first_position, last_position, checksum, events)
            select e.execution_no, e.tenant_id, {run}, 100 + i, 100 + i, 0, '{text}'
            from n, executions e where e.id = '{id}'"
        ))
        .await;
    bench
        .meddle(format!(
            "{numbers} insert into logs (execution_no, seq, logged_at, tenant_id, run, attempt, number, level, scope, line)
            select e.execution_no, 100000 * {run} + i, 1, e.tenant_id, {run}, 1, 100 + i, 1, '', 'line'
            from n, executions e where e.id = '{id}'"
        ))
        .await;
}

async fn rows(bench: &Bench) -> u64 {
    let count = "select (select count(*) from history) + (select count(*) from logs)";
    u64::try_from(bench.meddle(count).await).unwrap()
}

async fn a_long_run_goes_in_pieces_between_which_its_chain_goes_on(bench: Bench) {
    let node = bench.lease("n").await;
    let mut head = chain(&bench, node, "a", 4).await;
    grown(&bench, "a", 1, (3_500, 10)).await;
    grown(&bench, "a", 2, (20, 1 << 20)).await;
    let place = overdue(&bench, 2).await[0];
    let mut pieces = 0;
    while !overdue(&bench, 2).await.is_empty() {
        let before = rows(&bench).await;
        let said = bench.remove_runs(place, 2).await.unwrap();
        let deleted = before - rows(&bench).await;
        assert!(deleted < PIECE_ROWS_MAX && said == deleted, "{deleted} rows in one transaction, {said} are said");
        assert!(is_gone(&bench, "a", 1, 3).await && is_gone(&bench, "a", 2, 3).await, "they are gone at once");
        assert!(bench.logs(&key("a"), 0, 9_999).await.unwrap().iter().all(|line| line.run == 3));
        assert!(read(&bench, "a", 3).await.is_ok());
        let next = events(node, &head, 1);
        head = next.head.clone();
        assert_eq!(bench.write(next).await, Ok(()), "the present run goes on");
        pieces += 1;
    }
    assert!(pieces >= 10, "{pieces} pieces");
    assert_eq!(bench.meddle("select count(*) from history where run < 3").await, 1);
    assert_eq!(bench.meddle("select count(*) from logs where run < 3").await, 0);
    assert_eq!(bench.meddle("select count(*) from executions where clearing is not null").await, 0);
}

async fn what_was_begun_is_finished_after_a_restart_even_if_all_runs_are_kept_now(bench: Bench) {
    let node = bench.lease("n").await;
    let head = chain(&bench, node, "a", 4).await;
    chain(&bench, node, "b", 4).await;
    grown(&bench, "a", 2, (3_000, 10)).await;
    let place = overdue(&bench, 2).await[0];
    assert!(bench.remove_runs(place, 2).await.unwrap() > 0);
    let bench = bench.reopened().await;
    assert!(is_gone(&bench, "a", 2, 3).await);
    assert_eq!(overdue(&bench, u32::MAX).await, [place], "`b` keeps all its runs");
    assert!(remove(&bench, u32::MAX).await.len() > 1);
    assert_eq!(bench.meddle("select count(*) from history where run = 2 and first_position > 99").await, 0);
    assert_eq!((bench.head("a").await.runs_from, bench.head("b").await.runs_from), (Some(3), None));
    assert_eq!(read(&bench, "a", 4).await.unwrap().last().map(|chunk| chunk.last), Some(head.position));
}

async fn two_engines_remove_each_row_once(bench: Bench) {
    let (node, second) = (bench.lease("n").await, bench.second().await);
    let mut places = Vec::new();
    for id in ["a", "b"] {
        chain(&bench, node, id, 4).await;
        grown(&bench, id, 1, (2_500, 10)).await;
        places = overdue(&bench, 2).await;
    }
    let before = rows(&bench).await;
    let all = async |store: &dyn Store| {
        let mut deleted = 0;
        for _ in 0..12 {
            for place in &places {
                deleted += store.remove_runs(*place, 2).await.unwrap();
            }
        }
        deleted
    };
    let (one, other) = tokio::join!(all(&*bench.store), all(&*second));
    assert_eq!(one + other, before - rows(&bench).await);
    assert_eq!(overdue(&bench, 2).await, [0; 0]);
}

/// What the first tenant counts, once both counts agree.
async fn stored(bench: &Bench) -> i64 {
    let stored = bench.stored_bytes().await.unwrap().remove(&T).unwrap_or(0);
    let of_executions = "select cast(coalesce(sum(bytes), 0) as bigint) from executions where tenant_id = 1";
    let of_executions = bench.meddle(of_executions).await;
    assert_eq!(i64::try_from(stored).unwrap(), of_executions);
    of_executions
}

async fn what_a_chain_counts_is_bounded_whatever_its_runs_did(bench: Bench) {
    let node = bench.lease("n").await;
    let mut head = bench.started(node, "a").await;
    let mut counts = Vec::new();
    for _ in 0..8 {
        // A large message comes, a large value is stored and dropped later, and messages are sent.
        assert!(bench.send(&key("a"), "m".repeat(20_000)).await.unwrap());
        let consumed = bench.looked("a").await.inbox.iter().map(|row| row.seq).collect();
        let mut large = events(node, &head, 1);
        large.chunks[0].events = "v".repeat(30_000);
        large.messages = vec![("nobody".parse().unwrap(), "s".repeat(10_000))];
        large.logs = vec![LogLine { text: r"\".repeat(5_000), ..line(7) }];
        let dropped = Chunk { events: "v".to_owned(), ..large.chunks[0].clone() };
        head = large.head.clone();
        assert_eq!(bench.write(Batch { consumed, ..large }).await, Ok(()));
        let mut next = next_run(node, &head);
        next.rewritten = vec![dropped];
        head = next.head.clone();
        assert_eq!(bench.write(next).await, Ok(()));
        remove(&bench, 3).await;
        counts.push(stored(&bench).await);
    }
    assert!(counts[0] > 60_000 && counts[1] > counts[0] + 60_000, "{counts:?}");
    let steady = &counts[3..];
    assert!(steady.iter().all(|count| *count == steady[0]), "{counts:?}");
    // Two runs and the beginning of a third are kept.
    assert!((steady[0] - counts[1]).abs() < 1_000, "{counts:?}");
    assert_eq!(bench.write(release(node, &head, None)).await, Ok(()));
    assert!(bench.bury(&key("a"), Vec::new()).await.unwrap() && bench.delete(&key("a")).await.unwrap());
    assert_eq!(stored(&bench).await, 0);
}

async fn runs_of_an_engine_of_the_version_before_give_back_their_size(bench: Bench) {
    let node = bench.lease("n").await;
    let mut head = chain(&bench, node, "a", 2).await;
    let mut large = events(node, &head, 1);
    large.chunks[0].events = "v".repeat(30_000);
    head = large.head.clone();
    assert_eq!(bench.write(large).await, Ok(()));
    for _ in 0..2 {
        let next = next_run(node, &head);
        head = next.head.clone();
        assert_eq!(bench.write(next).await, Ok(()));
    }
    // As that engine would have written it.
    bench.meddle("update history set bytes_before = null").await;
    let before = stored(&bench).await;
    remove(&bench, 2).await;
    let given_back = before - stored(&bench).await;
    assert!((30_000..31_000).contains(&given_back), "{given_back}");
    // And one that did not count at all has nothing to give back.
    chain(&bench, node, "b", 4).await;
    bench.meddle("update executions set bytes = 0 where id = 'b'").await;
    bench.meddle("update history set bytes_before = null").await;
    remove(&bench, 2).await;
    assert_eq!(bench.meddle("select bytes from executions where id = 'b'").await, 0);
}

async fn questions_go_with_their_runs(bench: Bench) {
    let node = bench.lease("n").await;
    let mut head = bench.started(node, "a").await;
    for run in 1..5 {
        let mut asks = events(node, &head, 1);
        let (id, request) = (format!("q{run}"), r#"{"title":"Go on?"}"#.into());
        asks.approvals = vec![ApprovalChange::Open { id: id.clone(), call: call("1"), request, deadline: None }];
        head = asks.head.clone();
        assert_eq!(bench.write(asks).await, Ok(()));
        let link = format!(
            "insert into approval_links (created_at, expires_at, execution_no, tenant_id, decisions, digest, approval_id, name)
            select 1, 2, execution_no, tenant_id, 3, 'link of {id}', '{id}', 'ada' from executions where id = 'a'"
        );
        bench.meddle(link).await;
        let next = next_run(node, &head);
        head = next.head.clone();
        assert_eq!(bench.write(next).await, Ok(()));
    }
    // One that an engine of the version before wrote stays as long as the execution.
    bench.meddle("update approvals set run = null where id = 'q2'").await;
    remove(&bench, 2).await;
    let is_there = async |id: &str| bench.approval(T, id).await.unwrap().is_some();
    let there = [is_there("q1").await, is_there("q2").await, is_there("q3").await, is_there("q4").await];
    assert_eq!(there, [false, true, false, true]);
    assert_eq!(bench.meddle("select count(*) from approval_links").await, 2);
}

async fn a_chain_whose_rows_cannot_be_deleted_does_not_keep_the_others(bench: Bench) {
    let node = bench.lease("n").await;
    for id in ["bad", "b", "c"] {
        chain(&bench, node, id, 4).await;
    }
    let no = bench.meddle("select execution_no from executions where id = 'bad'").await;
    crate::remains::forbid(&bench, "history", &format!("old.execution_no = {no}")).await;
    let mut errors = 0;
    for place in overdue(&bench, 2).await {
        errors += usize::from(bench.remove_runs(place, 2).await.is_err());
    }
    assert_eq!((errors, overdue(&bench, 2).await), (1, vec![no]));
    assert!(is_gone(&bench, "b", 2, 3).await && is_gone(&bench, "c", 2, 3).await);
    assert_eq!(read(&bench, "bad", 2).await.unwrap().len(), 2, "it has all its runs");
    crate::remains::permit(&bench, "history").await;
    remove(&bench, 2).await;
    assert!(is_gone(&bench, "bad", 2, 3).await);
}

async fn a_damaged_chain_keeps_all_that_it_has(bench: Bench) {
    let node = bench.lease("n").await;
    let mut meddler = Meddler::of(&bench).await;
    for damage in ["run = 900", "run = 2", "position = 9", "runs_from = 4", "runs_from = 1000", "runs_from = -1"] {
        chain(&bench, node, "a", 5).await;
        let before = rows(&bench).await;
        assert!(meddler.run(&format!("update executions set {damage} where id = 'a'")).await, "{damage}");
        for place in overdue(&bench, 2).await {
            bench.remove_runs(place, 2).await.unwrap();
        }
        assert_eq!(rows(&bench).await, before, "{damage}");
        assert!(meddler.run("delete from history; delete from logs; delete from executions").await);
    }
    // An execution begins again, and none of this concerns it.
    let begins = Batch { release: false, ..Batch::start(node, new("a")) };
    assert_eq!(written(bench.append(fresh(), vec![begins]).await.unwrap()), [Ok(())]);
    assert_eq!(bench.delete_ended(LATER, 9).await.unwrap(), 0);
}
