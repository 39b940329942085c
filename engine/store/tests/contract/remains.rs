//! The deletion of executions that have stored much: they are gone at once for every reader, and their rows go piece by
//! piece.

use cerebelum_history::{Position, Timestamp};
use cerebelum_store::{
    ApprovalChange, ApprovalFilter, ApprovalState, Command, ExecutionKey, ExecutionRow, Filter, Incarnation, State,
};

use crate::bench::{Bench, T, batch, call, end, events, fresh, key, new, written};
use crate::garbage::Meddler;
use crate::on_both;

on_both!(
    a_long_chain_goes_in_pieces_between_which_others_write,
    large_rows_make_small_pieces,
    a_deleted_execution_is_gone_at_once_and_its_id_is_free,
    what_is_left_goes_after_a_restart,
    two_engines_share_what_is_left,
    an_execution_that_cannot_be_deleted_does_not_keep_the_others,
    rows_that_cannot_be_deleted_do_not_keep_those_of_others,
    a_damaged_tenant_keeps_no_execution,
    messages_that_came_too_late_are_in_no_claims_way,
);

/// More than the rows and bytes that one transaction deletes.
const PIECE_ROWS_MAX: u64 = 2_000;
const PIECE_BYTES_MAX: i64 = 9 << 20;
/// More than anything here needs.
const PIECES_MAX: usize = 100;
const LATER: Timestamp = Timestamp(u64::MAX >> 2);

/// The tables with rows of executions, apart from the two that say which ones there are.
const TABLES: [&str; 7] = ["history", "logs", "calls", "inbox", "approvals", "approval_links", "progress"];

/// The rows of all executions in these tables.
async fn rows(bench: &Bench) -> u64 {
    let counts = TABLES.map(|table| format!("(select count(*) from {table})")).join(" + ");
    u64::try_from(bench.meddle(format!("select {counts}")).await).unwrap()
}

/// An execution that has ended with this many further chunks of a history of several runs, and as many lines.
async fn ended(bench: &Bench, node: Incarnation, id: &str, (chunks, bytes): (u64, usize)) -> ExecutionRow {
    let head = bench.started(node, id).await;
    let mut asks = events(node, &head, 1);
    let request = r#"{"title":"Go live?"}"#.into();
    asks.approvals = vec![ApprovalChange::Open { id: format!("q-{id}"), call: call("1"), request, deadline: None }];
    let head = asks.head.clone();
    assert_eq!(bench.write(asks).await, Ok(()));
    let last = end(node, &head, State::Completed);
    let head = last.head.clone();
    assert_eq!(bench.write(last).await, Ok(()));
    let numbers = format!("with recursive n(i) as (select 1 union all select i + 1 from n where i < {chunks})");
    let text = "x".repeat(bytes);
    bench
        .meddle(format!(
            "{numbers} insert into history (execution_no, tenant_id, run, first_position, last_position, checksum, events)
            select e.execution_no, e.tenant_id, 2 + i / 100, 1 + i % 100, 1 + i % 100, 0, '{text}'
            from n, executions e where e.id = '{id}'"
        ))
        .await;
    bench
        .meddle(format!(
            "{numbers} insert into logs (execution_no, seq, logged_at, tenant_id, run, attempt, number, level, scope, line)
            select e.execution_no, i, 1, e.tenant_id, 1, 1, i, 1, '', 'line' from n, executions e where e.id = '{id}'"
        ))
        .await;
    head
}

/// Deletes all that is left, and returns the number of rows of each piece.
async fn clear(bench: &Bench) -> Vec<u64> {
    let mut pieces = Vec::new();
    for _ in 0..PIECES_MAX {
        match bench.delete_remains(200).await.unwrap() {
            0 => return pieces,
            piece => pieces.push(piece),
        }
    }
    panic!("it has no end: {pieces:?}");
}

async fn a_long_chain_goes_in_pieces_between_which_others_write(bench: Bench) {
    let node = bench.lease("n").await;
    let other = bench.create_tenant("other", None).await.unwrap().unwrap();
    let mut theirs = new("a");
    theirs.head.key.tenant = other;
    let begins = cerebelum_store::Batch { release: false, ..cerebelum_store::Batch::start(node, theirs) };
    let mut head = begins.head.clone();
    assert_eq!(written(bench.append(fresh(), vec![begins]).await.unwrap()), [Ok(())]);
    ended(&bench, node, "long", (7_000, 10)).await;
    ended(&bench, node, "short", (3, 10)).await;
    let all = rows(&bench).await;
    assert!(bench.delete(&key("long")).await.unwrap());
    assert_eq!(rows(&bench).await, all, "the transaction that deletes the execution deletes none of its many rows");
    let mut pieces = 0;
    for _ in 0..PIECES_MAX {
        let before = rows(&bench).await;
        let said = bench.delete_remains(200).await.unwrap();
        let deleted = before - rows(&bench).await;
        assert!(deleted < PIECE_ROWS_MAX, "{deleted} rows in one transaction");
        assert!(said == deleted || said == deleted + 1, "{said} are said, {deleted} are gone");
        let next = events(node, &head, 1);
        head = next.head.clone();
        assert_eq!(bench.write(next).await, Ok(()), "another tenant writes");
        if said == 0 {
            break;
        }
        pieces += 1;
    }
    assert!(pieces >= 8, "{pieces} pieces");
    let left = rows(&bench).await;
    assert!(bench.delete(&key("short")).await.unwrap());
    assert_eq!(clear(&bench).await.len(), 1, "what is short goes at once");
    assert!(rows(&bench).await < left, "the short one was there until then");
    let theirs = ExecutionKey { tenant: other, id: "a".parse().unwrap() };
    assert!(bench.history(&theirs, 1, Position(1), head.position).await.unwrap().len() > pieces);
}

async fn large_rows_make_small_pieces(bench: Bench) {
    let node = bench.lease("n").await;
    ended(&bench, node, "large", (20, 1 << 20)).await;
    assert!(bench.delete(&key("large")).await.unwrap());
    let bytes = "select cast(coalesce(sum(length(events)), 0) as bigint) from history";
    let mut pieces = 0;
    loop {
        let before = bench.meddle(bytes).await;
        if bench.delete_remains(200).await.unwrap() == 0 {
            break;
        }
        let deleted = before - bench.meddle(bytes).await;
        assert!(deleted < PIECE_BYTES_MAX, "{deleted} bytes in one transaction");
        pieces += 1;
    }
    assert!(pieces >= 3, "{pieces} pieces");
    assert_eq!(rows(&bench).await, 0);
}

async fn a_deleted_execution_is_gone_at_once_and_its_id_is_free(bench: Bench) {
    let node = bench.lease("n").await;
    ended(&bench, node, "a", (3_000, 10)).await;
    assert!(bench.delete(&key("a")).await.unwrap());
    for _ in 0..2 {
        assert!(!bench.delete(&key("a")).await.unwrap(), "it is deleted once");
        assert!(bench.execution(&key("a")).await.unwrap().is_none() && bench.load(&key("a")).await.unwrap().is_none());
        assert!(bench.describe(&key("a")).await.unwrap().is_none());
        assert!(bench.find_existing(vec![key("a")]).await.unwrap()[0].is_none());
        assert!(bench.history(&key("a"), 1, Position(1), Position(9)).await.unwrap().is_empty());
        assert!(bench.logs(&key("a"), 0, 9).await.unwrap().is_empty());
        assert!(bench.approval(T, "q-a").await.unwrap().is_none());
        let listed = bench.list(T, Filter { limit: 9, ..Filter::default() }).await.unwrap();
        assert!(listed.executions.is_empty() && bench.claimed(node).await.is_empty());
        assert_eq!(bench.stored_bytes().await.unwrap().get(&T).copied().unwrap_or(0), 0, "its bytes are given back");
        assert_eq!(bench.sweep(0, 9).await.unwrap().parked, 0);
        assert!(bench.delete_remains(200).await.unwrap() > 0, "something is left");
    }
    // The next one of this id, as a child that is started again has it, asks the same question.
    let head = bench.started(node, "a").await;
    let mut asks = events(node, &head, 1);
    let request = r#"{"title":"Once more?"}"#.into();
    asks.approvals = vec![ApprovalChange::Open { id: "q-a".into(), call: call("1"), request, deadline: None }];
    let head = asks.head.clone();
    assert_eq!(bench.write(asks).await, Ok(()));
    clear(&bench).await;
    let asked = bench.approval(T, "q-a").await.unwrap().unwrap();
    assert!(asked.state == ApprovalState::Open && asked.request.contains("Once more?"), "{asked:?}");
    let open = bench.approvals(T, ApprovalFilter { limit: 9, ..ApprovalFilter::default() }).await.unwrap();
    assert_eq!(open.approvals.len(), 1);
    assert_eq!(bench.history(&key("a"), 1, Position(1), head.position).await.unwrap().len(), 2);
    assert_eq!(bench.write(batch(node, &head)).await, Ok(()));
}

async fn what_is_left_goes_after_a_restart(bench: Bench) {
    let node = bench.lease("n").await;
    ended(&bench, node, "a", (3_000, 10)).await;
    assert_eq!(bench.delete_ended(LATER, 9).await.unwrap(), 1);
    assert!(bench.delete_remains(200).await.unwrap() > 0);
    let bench = bench.reopened().await;
    let left = rows(&bench).await;
    assert!(left > 3_000, "{left} rows are left");
    assert!(bench.execution(&key("a")).await.unwrap().is_none());
    assert!(clear(&bench).await.len() > 1);
    assert_eq!(rows(&bench).await, 0);
    assert_eq!(bench.meddle("select count(*) from remains").await, 0);
}

async fn two_engines_share_what_is_left(bench: Bench) {
    let (node, second) = (bench.lease("n").await, bench.second().await);
    for id in ["a", "b", "c"] {
        ended(&bench, node, id, (1_500, 10)).await;
    }
    assert_eq!(bench.delete_ended(LATER, 9).await.unwrap(), 3);
    let first = async { while bench.delete_remains(1).await.unwrap() > 0 {} };
    let other = async { while second.delete_remains(1).await.unwrap() > 0 {} };
    tokio::join!(first, other);
    clear(&bench).await;
    assert_eq!(rows(&bench).await, 0);
}

/// Makes the database refuse to delete rows of a table under this condition, which is about `old`.
pub(crate) async fn forbid(bench: &Bench, table: &str, condition: &str) {
    let mut meddler = Meddler::of(bench).await;
    let words = match bench.folder {
        Some(_) => format!(
            "create trigger forbid_{table} before delete on {table} when {condition}
            begin select raise(abort, 'forbidden'); end"
        ),
        None => format!(
            "create function forbidden() returns trigger language plpgsql as
                $$ begin raise exception 'forbidden'; end $$;
            create trigger forbid_{table} before delete on {table} for each row when ({condition})
                execute function forbidden()"
        ),
    };
    assert!(meddler.run(&words).await, "{words}");
}

pub(crate) async fn permit(bench: &Bench, table: &str) {
    let of = if bench.folder.is_some() { String::new() } else { format!(" on {table}") };
    bench.meddle(format!("drop trigger forbid_{table}{of}")).await;
}

async fn an_execution_that_cannot_be_deleted_does_not_keep_the_others(bench: Bench) {
    let node = bench.lease("n").await;
    for id in ["bad", "b", "c", "d"] {
        ended(&bench, node, id, (1, 10)).await;
    }
    bench.meddle("update executions set ended_at = 1 where id = 'bad'").await;
    forbid(&bench, "executions", "old.id = 'bad'").await;
    assert_eq!(bench.delete_ended(LATER, 2).await.unwrap(), 2);
    assert_eq!(bench.delete_ended(LATER, 1).await.unwrap(), 1, "a slow database deletes one at a time");
    assert_eq!(bench.delete_ended(LATER, 9).await.unwrap(), 0);
    assert!(bench.execution(&key("bad")).await.unwrap().is_some(), "it is whole");
    assert_eq!(bench.history(&key("bad"), 1, Position(1), Position(3)).await.unwrap().len(), 3);
    permit(&bench, "executions").await;
    assert_eq!(bench.delete_ended(LATER, 9).await.unwrap(), 1);
}

async fn rows_that_cannot_be_deleted_do_not_keep_those_of_others(bench: Bench) {
    let node = bench.lease("n").await;
    for id in ["bad", "b", "c", "d"] {
        ended(&bench, node, id, (5, 10)).await;
    }
    let no = bench.meddle("select execution_no from executions where id = 'bad'").await;
    forbid(&bench, "history", &format!("old.execution_no = {no}")).await;
    assert_eq!(bench.delete_ended(LATER, 9).await.unwrap(), 4);
    let of_others = format!("select count(*) from history where execution_no <> {no}");
    let mut errors = 0;
    for _ in 0..10 {
        errors += usize::from(bench.delete_remains(200).await.is_err());
    }
    assert!(errors > 0, "it is said each time");
    assert_eq!(bench.meddle(of_others).await, 0);
    assert!(rows(&bench).await > 0);
    permit(&bench, "history").await;
    clear(&bench).await;
    assert_eq!(rows(&bench).await, 0);
}

async fn a_damaged_tenant_keeps_no_execution(bench: Bench) {
    let node = bench.lease("n").await;
    let mut meddler = Meddler::of(&bench).await;
    for garbage in ["-1", "0", "7", "2147483647", "1000000000000"] {
        for id in ["bad", "good"] {
            ended(&bench, node, id, (1, 10)).await;
        }
        // Neither database holds every number in this column.
        if !meddler.run(&format!("update executions set tenant_id = {garbage}, ended_at = 1 where id = 'bad'")).await {
            assert!(bench.delete(&key("bad")).await.unwrap());
        }
        bench.delete_ended(LATER, 1).await.unwrap();
        bench.delete_ended(LATER, 1).await.unwrap();
        assert_eq!(bench.meddle("select count(*) from executions").await, 0, "{garbage}");
        clear(&bench).await;
        for table in TABLES {
            meddler.run(&format!("delete from {table}")).await;
        }
    }
}

/// A claim looks at each execution that has a message which no activation has seen.
async fn messages_that_came_too_late_are_in_no_claims_way(bench: Bench) {
    let node = bench.lease("n").await;
    for (id, last) in [("ended", State::Failed), ("open", State::Open), ("parked", State::Open)] {
        let head = bench.started(node, id).await;
        for message in ["one", "two"] {
            bench.send(&key(id), message.into()).await.unwrap();
        }
        if last != State::Open {
            assert_eq!(bench.write(end(node, &head, last)).await, Ok(()));
        }
    }
    let park = Command::Park { incarnation: node, reason: "engine-error: no".into() };
    assert!(bench.command(&key("parked"), park, None).await.unwrap());
    let unseen = "select count(*) from inbox where seen = 0";
    assert_eq!(bench.meddle(unseen).await, 6);
    clear(&bench).await;
    assert_eq!(bench.meddle(unseen).await, 2, "those of the open execution");
    // What is resumed reads all of them.
    assert!(bench.command(&key("ended"), Command::Reopen("again".into()), None).await.unwrap());
    assert!(bench.command(&key("parked"), Command::Unpark, None).await.unwrap());
    clear(&bench).await;
    assert_eq!(bench.inbox("ended").await, ["one", "two", "again"]);
    assert_eq!(bench.inbox("parked").await, ["one", "two"]);
    assert_eq!(bench.meddle(unseen).await, 3);
    let mut claimed = bench.claimed(node).await;
    claimed.sort_unstable();
    assert_eq!(claimed, ["ended", "parked"], "this node has the third one already");
}
