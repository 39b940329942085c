//! Garbage in any column of any table of an execution: the execution is parked or unharmed, and no other one is
//! affected.

use cerebelum_history::{Status, Timestamp};
use cerebelum_store::{ApprovalChange, ApprovalFilter, ExecutionRow, Filter, Incarnation, LogLine, Progress, State};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row, SqliteConnection};

use crate::bench::{Bench, T, call, events, key, new, opened, release, scope};
use crate::on_both;

on_both!(
    garbage_in_any_column_is_in_nobody_elses_way,
    a_missing_row_is_missed,
    an_execution_of_a_node_that_is_none_is_freed,
);

/// The tables with rows of an execution.
const TABLES: [&str; 8] = ["executions", "calls", "inbox", "approvals", "logs", "history", "progress", "attributes"];
const NUMBERS: [&str; 7] = ["null", "-1", "0", "7", "1000000000000", "-9223372036854775808", "9223372036854775807"];
const TEXTS: [&str; 6] = ["null", "''", "'no such thing!'", "'[1,'", "'sleeping'", "cast(x'ff00fe' as text)"];

/// Writes without the store, whatever the tables' constraints say.
pub(crate) enum Meddler {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Meddler {
    pub(crate) async fn of(bench: &Bench) -> Self {
        if bench.folder.is_none() {
            let mut meddler = Self::Postgres(PgConnection::connect(&bench.url).await.unwrap());
            for rule in meddler
                .texts("select conrelid::regclass::text || ' drop constraint ' || conname from pg_constraint where contype = 'c'")
                .await
            {
                meddler.run(&format!("alter table {rule}")).await;
            }
            let nullable = "select table_name || ' alter column ' || column_name || ' drop not null' from information_schema.columns
                where table_schema = 'public' and is_nullable = 'NO'";
            for column in meddler.texts(nullable).await {
                meddler.run(&format!("alter table {column}")).await;
            }
            return meddler;
        }
        let mut connection = SqliteConnection::connect(&bench.url).await.unwrap();
        connection.execute("pragma busy_timeout = 5000").await.unwrap();
        connection.execute("pragma ignore_check_constraints = on").await.unwrap();
        Self::Sqlite(connection)
    }

    /// Runs a statement. Returns whether the database accepted it.
    pub(crate) async fn run(&mut self, words: &str) -> bool {
        let words = AssertSqlSafe(words.to_owned());
        match self {
            Self::Sqlite(connection) => connection.execute(sqlx::raw_sql(words)).await.is_ok(),
            Self::Postgres(connection) => connection.execute(sqlx::raw_sql(words)).await.is_ok(),
        }
    }

    async fn texts(&mut self, words: &str) -> Vec<String> {
        let words = AssertSqlSafe(words.to_owned());
        match self {
            Self::Sqlite(connection) => {
                sqlx::query(words).fetch_all(connection).await.unwrap().iter().map(|row| row.get(0)).collect()
            }
            Self::Postgres(connection) => {
                sqlx::query(words).fetch_all(connection).await.unwrap().iter().map(|row| row.get(0)).collect()
            }
        }
    }

    /// The columns of a table, from the schema itself.
    pub(crate) async fn columns(&mut self, table: &str) -> Vec<String> {
        let words = match self {
            Self::Sqlite(_) => format!("select name from pragma_table_info('{table}') order by cid"),
            Self::Postgres(_) => format!(
                "select column_name::text from information_schema.columns
                where table_schema = 'public' and table_name = '{table}' order by ordinal_position"
            ),
        };
        self.texts(&words).await
    }

    /// The garbage to write into each column: of the column's type, as far as the table insists on it.
    pub(crate) fn garbage(&self) -> Vec<&'static str> {
        let none = match self {
            Self::Sqlite(_) => "x'00'",
            Self::Postgres(_) => "'\\x00'::bytea",
        };
        let mut all = vec![none];
        all.extend(NUMBERS);
        all.extend(TEXTS);
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// An execution with a row in each table, which waits for a time that has passed.
async fn full(bench: &Bench, node: Incarnation, id: &str) -> ExecutionRow {
    let head = bench.started(node, id).await;
    bench.send(&key(id), "{}".into()).await.unwrap();
    let seen = bench.looked(id).await.inbox[0].seq;
    let mut batch = events(node, &head, 2);
    batch.head.attributes = r#"{"x":1}"#.into();
    batch.attributes_before = Some("{}".into());
    batch.head.open_calls = Some(1);
    batch.head.status = Status::Sleeping;
    batch.opened = vec![opened("1", "{}")];
    batch.seen = vec![seen];
    batch.logs = vec![LogLine {
        scope: scope(""),
        attempt: 1,
        place: 1,
        number: 1,
        at: Timestamp(1),
        level: cerebelum_history::Level::Info,
        text: "said".into(),
    }];
    batch.progress = vec![Progress { scope: scope(""), percent: 1, message: "some".into() }];
    let id = format!("question of {id}");
    batch.approvals = vec![ApprovalChange::Open { id, call: call("2"), request: "{}".into(), deadline: None }];
    let head = batch.head.clone();
    assert_eq!(bench.write(batch).await, Ok(()));
    assert_eq!(bench.write(release(node, &head, Some(Timestamp(2_000)))).await, Ok(()));
    head
}

/// Checks that other executions are served: timers, lists, counts. Returns whether the damaged one was claimed.
async fn others_go_on(bench: &Bench, node: Incarnation, case: &str) -> bool {
    bench.sleeping("good", Some(Timestamp(3_000))).await;
    let claimed = bench.claimed(node).await;
    assert!(claimed.contains(&"good".to_owned()), "{case}: {claimed:?}");
    assert_eq!(bench.next_due().await.unwrap().filter(|due| *due < Timestamp(2_000_000)), None, "{case}");
    sweep(bench).await;
    let freed = bench.claimed(node).await;
    bench.count_by_status().await.unwrap();
    bench.approvals(T, ApprovalFilter { limit: 99, ..ApprovalFilter::default() }).await.unwrap();
    bench.delete_ended(Timestamp(1), 9).await.unwrap();
    assert!(bench.bury(&key("good"), Vec::new()).await.unwrap(), "{case}");
    assert!(bench.delete(&key("good")).await.unwrap(), "{case}");
    claimed.len() + freed.len() > 1
}

async fn sweep(bench: &Bench) {
    let mut after = 0;
    while let Some(next) = bench.sweep(after, 2).await.unwrap().next {
        after = next;
    }
}

async fn listed(bench: &Bench, status: Option<Status>) -> Vec<ExecutionRow> {
    let filter = Filter { status, limit: 99, ..Filter::default() };
    bench.list(T, filter).await.unwrap().executions
}

async fn garbage_in_any_column_is_in_nobody_elses_way(bench: Bench) {
    let node = bench.lease("n").await;
    let mut meddler = Meddler::of(&bench).await;
    let (mut cases, mut parked) = (0, 0);
    for table in TABLES {
        let columns = meddler.columns(table).await;
        assert!(columns.len() > 2, "{table} has {columns:?}");
        for column in columns {
            for garbage in meddler.garbage() {
                full(&bench, node, "bad").await;
                let case = format!("{table}.{column} = {garbage}");
                cases += u32::from(meddler.run(&format!("update {table} set {column} = {garbage}")).await);
                let claimed = others_go_on(&bench, node, &case).await;
                let rest = listed(&bench, None).await;
                assert_eq!(rest.len(), 1, "{case}: it is listed");
                let shown = &rest[0];
                bench.describe(&shown.key).await.unwrap();
                bench.logs(&shown.key, 0, 9).await.unwrap();
                if let Some(reason) = &shown.parked {
                    parked += 1;
                    let is_named = reason.starts_with("corrupt-history: ") || column == "parked";
                    assert!(is_named && !reason.contains('\n'), "{case}: {reason}");
                    assert!(column == "status" || listed(&bench, Some(Status::Parked)).await.len() <= 1, "{case}");
                }
                // An execution that waits for another time than its calls do is woken by a sweep.
                let waits = shown.paused || column == "due";
                let moves = claimed || shown.parked.is_some() || shown.state != State::Open || waits;
                assert!(moves, "{case}: it stands still in silence: {shown:?}");
                bench.bury(&shown.key, Vec::new()).await.unwrap();
                assert!(bench.delete(&shown.key).await.unwrap(), "{case}: {shown:?}");
                assert_eq!(bench.meddle("select count(*) from executions").await, 0, "{case}");
                for table in TABLES {
                    meddler.run(&format!("delete from {table}")).await;
                }
            }
        }
    }
    assert!(cases > 150 && parked > 50, "{cases} cases, {parked} parked");
}

async fn a_missing_row_is_missed(bench: Bench) {
    let node = bench.lease("n").await;
    let missing = [
        "delete from calls",
        "update executions set position = 0",
        "update executions set position = 2",
        "update executions set position = 9",
        "update executions set run = 2",
        "delete from history",
        "delete from history where first_position = 1",
        "delete from history where first_position = 2",
        "update executions set program_no = 99",
        "delete from calls; update executions set due = null, open_calls = null",
    ];
    let mut meddler = Meddler::of(&bench).await;
    for words in missing {
        full(&bench, node, "bad").await;
        assert!(meddler.run(words).await, "{words}");
        others_go_on(&bench, node, words).await;
        let shown = bench.head("bad").await;
        let beginning_is_missing = words.ends_with("first_position = 1");
        // A gap in the middle of a history is noticed when the history is read, because its chunks must follow each
        // other.
        assert!(shown.parked.is_some() != beginning_is_missing, "{words}: {:?}", shown.parked);
        assert!(bench.bury(&key("bad"), Vec::new()).await.unwrap(), "{words}");
        assert!(bench.delete(&key("bad")).await.unwrap(), "{words}");
    }
    // The same for an execution that waits only for a message.
    for words in ["delete from calls", "update executions set position = 0", "update executions set program_no = 99"] {
        let head = bench.started(node, "deaf").await;
        let mut batch = release(node, &head, None);
        batch.opened = vec![opened("1", "{}")];
        batch.head.open_calls = Some(1);
        assert_eq!(bench.write(batch).await, Ok(()));
        sweep(&bench).await;
        assert_eq!(bench.head("deaf").await.parked, None, "{words}");
        assert!(meddler.run(words).await);
        sweep(&bench).await;
        let reason = bench.head("deaf").await.parked;
        assert!(reason.as_ref().is_some_and(|reason| reason.starts_with("corrupt-history: ")), "{words}: {reason:?}");
        assert_eq!(listed(&bench, Some(Status::Parked)).await.len(), 1);
        assert!(bench.bury(&key("deaf"), Vec::new()).await.unwrap());
        assert!(bench.delete(&key("deaf")).await.unwrap());
    }
}

async fn an_execution_of_a_node_that_is_none_is_freed(bench: Bench) {
    let node = bench.lease("n").await;
    bench.start(vec![new("a")]).await;
    bench.started(node, "b").await;
    bench.meddle("update executions set owner = 12345 where id = 'a'").await;
    assert_eq!(bench.claimed(node).await, [""; 0]);
    sweep(&bench).await;
    assert_eq!(bench.claimed(node).await, ["a"], "the one that belongs to nobody, and not the one that is claimed");
}
