//! Reads: pages are bounded in bytes, filters in length, and commits do not wait for readers, however many there are.

use std::time::Duration;

use cerebelum_history::{Level, Position, Status, Timestamp};
use cerebelum_store::{ApprovalChange, ApprovalFilter, Chunk, Filter, HistoryPart, LogLine, State, StoreError};
use sqlx::{Connection, Executor};

use crate::bench::{Bench, T, call, end, events, key, new, scope};
use crate::on_both;

on_both!(
    a_filter_that_is_longer_than_anything_is_refused_by_name,
    filters_that_no_index_serves_find_everything_page_by_page,
    questions_are_listed_page_by_page,
    pages_end_when_they_have_enough_bytes,
    a_history_is_read_page_by_page,
);

const MIB: usize = 1 << 20;

async fn a_filter_that_is_longer_than_anything_is_refused_by_name(bench: Bench) {
    bench.start(vec![new("a")]).await;
    let filter = |workflow: usize, (name, value, count): (usize, usize, usize)| Filter {
        workflow: Some("%_".repeat(workflow)).filter(|workflow| !workflow.is_empty()),
        attributes: vec![("n".repeat(name), format!("\"{}\"", "v".repeat(value))); count],
        ..Filter::default()
    };
    let none = (0, 0, 0);
    for (wrong, named) in [
        (filter(257, none), "workflow"),
        (filter(5 * MIB, none), "workflow"),
        (filter(0, (257, 1, 1)), "attribute name"),
        (filter(0, (1, MIB, 1)), "attribute value"),
        (filter(0, (1, 1, 17)), "16 attributes"),
    ] {
        match bench.list(T, wrong).await {
            Err(StoreError::Invalid(line)) => assert!(line.contains(named) && !line.contains('\n'), "{line}"),
            other => panic!("{named}: {other:?}"),
        }
    }
    for right in [filter(256, (256, MIB - 2, 16)), filter(256, none), filter(0, (0, 0, 1))] {
        assert_eq!(bench.list(T, right).await.unwrap().executions, []);
    }
}

async fn filters_that_no_index_serves_find_everything_page_by_page(bench: Bench) {
    let node = bench.lease("n").await;
    for number in 0..20 {
        let head = bench.started(node, &format!("e{number:02}")).await;
        let state = if number % 3 == 0 { State::Completed } else { State::Failed };
        assert_eq!(bench.write(end(node, &head, state)).await, Ok(()));
    }
    for (status, workflow, count) in [
        (Status::Completed, None, 7),
        (Status::Failed, None, 13),
        (Status::Failed, Some("order"), 13),
        (Status::Completed, Some("shop/order"), 7),
    ] {
        let (mut cursor, mut ids) = (None, Vec::new());
        loop {
            let filter = Filter {
                status: Some(status),
                workflow: workflow.map(Into::into),
                cursor,
                limit: 3,
                ..Filter::default()
            };
            let page = bench.list(T, filter).await.unwrap();
            assert!(page.executions.len() <= 3);
            ids.extend(page.executions.into_iter().map(|head| head.key.id));
            cursor = page.cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(ids.len(), count, "{status} {workflow:?}");
        assert!(ids.is_sorted_by(|a, b| a > b), "newest first, each once: {ids:?}");
    }
}

async fn questions_are_listed_page_by_page(bench: Bench) {
    let node = bench.lease("n").await;
    let head = bench.started(node, "a").await;
    let mut batch = events(node, &head, 1);
    let ask = |number: u32| ApprovalChange::Open {
        id: format!("q{number:02}"),
        call: call("1"),
        request: "{}".into(),
        deadline: None,
    };
    // All questions are asked at once.
    batch.approvals = (0..25).map(ask).collect();
    assert_eq!(bench.write(batch).await, Ok(()));
    for execution in [None, Some("a".parse().unwrap())] {
        let (mut cursor, mut ids) = (None, Vec::new());
        loop {
            let filter = ApprovalFilter { id: None, execution: execution.clone(), cursor, limit: 7 };
            let page = bench.approvals(T, filter).await.unwrap();
            assert!(page.approvals.len() <= 7);
            ids.extend(page.approvals.into_iter().map(|row| row.id));
            cursor = page.cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(ids, (0..25).rev().map(|number| format!("q{number:02}")).collect::<Vec<_>>());
    }
    for cursor in ["", "x", "zz:1", "'; drop table approvals"] {
        let filter = ApprovalFilter { cursor: Some(cursor.into()), limit: 3, ..ApprovalFilter::default() };
        assert!(matches!(bench.approvals(T, filter).await, Err(StoreError::Invalid(_))), "{cursor:?}");
    }
}

async fn pages_end_when_they_have_enough_bytes(bench: Bench) {
    let node = bench.lease("n").await;
    for number in 0..20 {
        let head = bench.started(node, &format!("e{number}")).await;
        let mut batch = events(node, &head, 1);
        batch.attributes_before = Some("{}".into());
        batch.head.attributes = format!("{{\"a\":\"{}\"}}", "x".repeat(MIB));
        let request = format!("\"{}\"", "x".repeat(MIB));
        batch.approvals =
            vec![ApprovalChange::Open { id: format!("q{number}"), call: call("1"), request, deadline: None }];
        let line = |number| LogLine {
            scope: scope(""),
            attempt: 1,
            place: 1,
            number,
            at: Timestamp(1),
            level: Level::Info,
            text: "x".repeat(MIB / 32),
        };
        batch.logs = (0..if number == 0 { 600 } else { 0 }).map(line).collect();
        assert_eq!(bench.write(batch).await, Ok(()));
    }
    let page = bench.list(T, Filter { limit: 1_000, ..Filter::default() }).await.unwrap();
    assert!((8..=9).contains(&page.executions.len()) && page.cursor.is_some(), "{}", page.executions.len());
    let page = bench.approvals(T, ApprovalFilter { limit: 1_000, ..ApprovalFilter::default() }).await.unwrap();
    assert!((8..=9).contains(&page.approvals.len()) && page.cursor.is_some(), "{}", page.approvals.len());
    let (mut after, mut pages) = (0, Vec::new());
    loop {
        let lines = bench.logs(&key("e0"), after, 1_000).await.unwrap();
        let Some(last) = lines.last() else { break };
        after = last.seq;
        pages.push(lines.len());
    }
    assert_eq!(pages, [256, 256, 88]);
}

async fn a_history_is_read_page_by_page(bench: Bench) {
    let node = bench.lease("n").await;
    let mut head = bench.started(node, "a").await;
    for _ in 0..40 {
        let batch = events(node, &head, 2);
        head = batch.head.clone();
        assert_eq!(bench.write(batch).await, Ok(()));
    }
    let page =
        async |id: &str, from, bytes_max| bench.store.history(&key(id), 1, HistoryPart::Page { from, bytes_max }).await;
    let whole = bench.history(&key("a"), 1, Position(1), Position(u64::MAX)).await.unwrap();
    let chunk = whole[5].events.len() as u64;
    for bytes_max in [0, 1, 3 * chunk, u64::MAX] {
        let (mut from, mut read): (Position, Vec<Chunk>) = (Position(1), Vec::new());
        while from <= head.position {
            let page = page("a", from, bytes_max).await.unwrap();
            let bytes: usize = page.iter().map(|chunk| chunk.events.len()).sum();
            assert!(page.len() == 1 || bytes as u64 <= bytes_max, "{bytes} of {bytes_max}");
            from = page[page.len() - 1].last.next();
            read.extend(page);
        }
        assert_eq!(read, whole);
    }
    assert_eq!(page("a", from_end(&head), u64::MAX).await.unwrap(), []);
    assert_eq!(page("nobody", Position(1), u64::MAX).await.unwrap(), []);
    bench.meddle("delete from history where first_position = 60").await;
    let damaged = page("a", Position(1), u64::MAX).await;
    assert!(matches!(damaged, Err(StoreError::Corrupt(_))), "{damaged:?}");
}

fn from_end(head: &cerebelum_store::ExecutionRow) -> Position {
    head.position.next()
}

/// Writes of the engine do not wait for the reads of clients, whatever these are and however long the server takes.
#[tokio::test(flavor = "multi_thread")]
async fn readers_that_wait_keep_no_commit_waiting() {
    let bench = Bench::postgres().await;
    let node = bench.lease("n").await;
    let head = bench.started(node, "a").await;
    // Reads of log lines, questions or components wait for this lock, but none of the writes below does.
    let mut other = sqlx::PgConnection::connect(&bench.url).await.unwrap();
    let mut locking = other.begin().await.unwrap();
    locking.execute("lock table logs, approvals, names in access exclusive mode").await.unwrap();
    let mut readers = Vec::new();
    for number in 0..60 {
        let store = bench.store.clone();
        readers.push(tokio::spawn(async move {
            match number % 3 {
                0 => drop(store.logs(&key("a"), 0, 9).await),
                1 => drop(store.approvals(T, ApprovalFilter { limit: 9, ..ApprovalFilter::default() }).await),
                _ => drop(store.components(T).await),
            }
        }));
    }
    let waiting =
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    while bench.meddle(waiting).await < 4 {
        tokio::task::yield_now().await;
    }
    // The lock is held until after this: what waited for the readers would wait for ever.
    let others = async {
        let batch = events(node, &head, 1);
        assert_eq!(bench.write(batch).await, Ok(()));
        bench.start(vec![new("b")]).await;
        assert_eq!(bench.claimed(node).await, ["b"]);
        assert!(bench.renew_lease(node, Duration::from_secs(60)).await.unwrap().is_some());
    };
    tokio::time::timeout(Duration::from_secs(60), others).await.expect("commits do not wait for readers");
    locking.rollback().await.unwrap();
    for reader in readers {
        reader.await.unwrap();
    }
}
