//! How fast the store appends, and how much room a sleeping execution takes, compared with the ceiling of the same
//! machine.
//!
//! `cargo run --release -p cerebelum-store --example store_rates`

#![expect(clippy::print_stdout, reason = "its figures are all it has to say")]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use cerebelum_history::{Digest, Position, Seed, Status, Timestamp};
use cerebelum_store::{
    Batch, CallRow, Chunk, ExecutionKey, ExecutionRow, Incarnation, NewExecution, State, Store, TenantId, open,
};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row, SqliteConnection};

const MEASURED: Duration = Duration::from_secs(3);
const SLEEPERS: usize = 10_000;
const LONG: Duration = Duration::from_secs(3_600);

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("rates.db");
    let url = format!("sqlite:{}", file.display());
    measure("sqlite", &url).await;
    let bytes = |suffix: &str| std::fs::metadata(format!("{}{suffix}", file.display())).map_or(0, |found| found.len());
    println!("sqlite    file {} bytes, write-ahead log {} bytes", bytes(""), bytes("-wal"));
    let url = test_postgres::database();
    measure("postgres", &url).await;
    measure_reads().await;
}

/// The rate at which one client reads executions by id, with and without the wall between tenants (decision 021).
async fn measure_reads() {
    let (walled, plain) = (test_postgres::database(), without_wall().await);
    let mut stores = Vec::new();
    for (name, url) in [("no wall", plain), ("wall", walled)] {
        let store = open(&url).await.expect("a fresh database");
        let node = store.begin_lease("reads", None, LONG).await.expect("a lease").expect("no earlier one").incarnation;
        store.append(1, vec![Batch::start(node, new("read"))]).await.expect("a start");
        stores.push((name, store));
    }
    // In turn, so that a change of the machine's pace concerns both.
    for _ in 0..3 {
        for (name, store) in &stores {
            for tenants in [1, 2] {
                let (begun, mut count) = (Instant::now(), 0_u32);
                while begun.elapsed() < MEASURED / 2 {
                    let tenant = TenantId(1 + i32::try_from(count % tenants).expect("one or two"));
                    let key = ExecutionKey { tenant, id: "read".parse().expect("an id") };
                    let _ = store.execution(&key).await.expect("a read");
                    count += 1;
                }
                let rate = f64::from(count) / begun.elapsed().as_secs_f64();
                println!("postgres  {name:8} reads of {tenants} tenants: {rate:>8.0} reads/s");
            }
        }
    }
}

/// A database whose owner may not create roles: there the engine works without the wall.
async fn without_wall() -> String {
    let url = test_postgres::database();
    let mut superuser = PgConnection::connect(&url).await.expect("a server");
    let words =
        "drop role if exists store_rates; create role store_rates login; alter schema public owner to store_rates";
    superuser.execute(words).await.expect("a role");
    url.replace("postgres@", "store_rates@")
}

async fn measure(name: &str, url: &str) {
    let store = open(url).await.expect("a fresh database");
    let node = store.begin_lease("rates", None, LONG).await.expect("a lease").expect("no earlier one").incarnation;
    println!("{name:9} ceiling, 1 row a commit:    {:>8.0} commits/s", ceiling(url, 1).await);
    println!("{name:9} ceiling, 100 rows a commit: {:>8.0} rows/s", ceiling(url, 100).await);
    for group in [1, 10, 100] {
        let rate = appends(&store, node, group).await;
        println!("{name:9} {group:>3} batches an append:     {rate:>8.0} batches/s");
    }
    println!("{name:9} starts, 100 a call:         {:>8.0} executions/s", starts(&store, node).await);
    let before: HashMap<String, i64> = tables(url).await.into_iter().collect();
    sleep(&store, node).await;
    let mut all = 0;
    for (table, bytes) in tables(url).await {
        let each = (bytes - before.get(&table).unwrap_or(&0)) / i64::try_from(SLEEPERS).expect("a small number");
        println!("{name:9}   {table:32} {each:>6} bytes each");
        all += each;
    }
    println!("{name:9} {all} bytes each sleeping execution (tables and indexes, no vacuum)");
}

async fn appends(store: &Arc<dyn Store>, node: Incarnation, group: usize) -> f64 {
    let mut heads = Vec::new();
    for number in 0..group {
        let new = new(&format!("rate-{group}-{number}"));
        heads.push(new.head.clone());
        let begins = Batch { release: false, ..Batch::start(node, new) };
        store.append(u64::from(fresh_id()), vec![begins]).await.expect("a start");
    }
    let (begun, mut count, mut id) = (Instant::now(), 0_u32, u64::try_from(group).expect("small") << 32);
    while begun.elapsed() < MEASURED {
        let batches: Vec<Batch> = heads.iter().map(|head| batch(node, head)).collect();
        heads = batches.iter().map(|batch| batch.head.clone()).collect();
        let answers = store.append(id, batches).await.expect("an append");
        assert!(answers.iter().all(Result::is_ok));
        count += u32::try_from(group).expect("a small number");
        id += 1;
    }
    f64::from(count) / begun.elapsed().as_secs_f64()
}

async fn starts(store: &Arc<dyn Store>, node: Incarnation) -> f64 {
    let (begun, mut count) = (Instant::now(), 0_u32);
    while begun.elapsed() < MEASURED {
        let news = (0..100).map(|number| new(&format!("start-{count}-{number}")));
        let batches = news.map(|new| Batch::start(node, new)).collect();
        store.append(u64::from(fresh_id()), batches).await.expect("a start");
        count += 100;
    }
    f64::from(count) / begun.elapsed().as_secs_f64()
}

/// Begins executions, and lets a batch that records their sleep release them.
async fn sleep(store: &Arc<dyn Store>, node: Incarnation) {
    for chunk in 0..SLEEPERS / 100 {
        let news: Vec<NewExecution> = (0..100).map(|number| new(&uuid(chunk * 100 + number))).collect();
        let begins = news.iter().map(|new| Batch { release: false, ..Batch::start(node, new.clone()) });
        store.append(u64::from(fresh_id()), begins.collect()).await.expect("a start");
        let batches = news.iter().map(|new| {
            let mut batch = batch(node, &new.head);
            batch.head.settled = true;
            batch.head.status = Status::Sleeping;
            batch.head.due = Some(Timestamp(4_000_000_000_000));
            batch.opened = vec![CallRow {
                name: "1".parse().expect("a call"),
                state: r#"{"sleep":{"due":4000000000000,"at":2}}"#.into(),
            }];
            batch.release = true;
            batch
        });
        store.append(u64::MAX - u64::try_from(chunk).expect("small"), batches.collect()).await.expect("an append");
    }
}

fn new(id: &str) -> NewExecution {
    let input = "x".repeat(98);
    let head = ExecutionRow {
        key: ExecutionKey { tenant: TenantId::DEFAULT, id: id.parse().expect("an id") },
        workflow: "reminders/remind".into(),
        digest: Digest::of(b"reminders"),
        seed: Seed(*blake(id).first_chunk().expect("64 digits")),
        run: 1,
        state: State::Open,
        paused: false,
        parked: None,
        settled: false,
        position: Position(1),
        stamp: Timestamp(1_700_000_000_000),
        due: None,
        status: Status::Running,
        attributes: "{}".into(),
        options: "{}".into(),
        parent: None,
        started_at: Timestamp(1_700_000_000_000),
        ended_at: None,
        open_calls: None,
        waits_for: None,
        runs_from: None,
    };
    let events =
        format!(r#"[[1,1700000000000,"",{{"ExecutionStarted":{{"workflow":"remind","input":"{input}","rules":1}}}}]]"#);
    NewExecution { head, first: Chunk { first: Position(1), last: Position(1), events } }
}

/// A unique number for an append.
fn fresh_id() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn blake(id: &str) -> Vec<u8> {
    Digest::of(id.as_bytes()).as_str().as_bytes().to_vec()
}

fn uuid(number: usize) -> String {
    let digest = Digest::of(&number.to_le_bytes());
    digest.as_str()[..32].to_owned()
}

fn batch(node: Incarnation, head: &ExecutionRow) -> Batch {
    let last = head.position.next();
    let events = format!(r#"[[{},1700000000001,"",{{"SleepStarted":{{"call":1,"ms":86400000}}}}]]"#, last.0);
    let mut batch = Batch::of(node, head.clone());
    batch.head.position = last;
    batch.chunks = vec![Chunk { first: last, last, events }];
    batch
}

/// The rows per second that one client writes into a plain table of the same database.
async fn ceiling(url: &str, rows: usize) -> f64 {
    let text = "x".repeat(100);
    let values = vec![format!("(1, '{text}')"); rows].join(", ");
    let insert = format!("insert into ceiling (n, line) values {values}");
    let create = "create table if not exists ceiling (n bigint, line text)";
    macro_rules! run {
        ($connection:ident) => {{
            $connection.execute(create).await.expect("a table");
            let (begun, mut count) = (Instant::now(), 0_u32);
            while begun.elapsed() < MEASURED {
                sqlx::query(AssertSqlSafe(insert.as_str())).execute(&mut $connection).await.expect("an insertion");
                count += u32::try_from(rows).expect("a small number");
            }
            let rate = f64::from(count) / begun.elapsed().as_secs_f64();
            $connection.execute("drop table ceiling").await.expect("no table");
            rate
        }};
    }
    if url.starts_with("sqlite:") {
        let mut connection = SqliteConnection::connect(url).await.expect("a connection");
        connection.execute("pragma synchronous = full").await.expect("a pragma");
        run!(connection)
    } else {
        let mut connection = PgConnection::connect(url).await.expect("a connection");
        run!(connection)
    }
}

/// Tables and indexes with their bytes, the largest first. SQLite reports only the total.
async fn tables(url: &str) -> Vec<(String, i64)> {
    if url.starts_with("sqlite:") {
        let mut connection = SqliteConnection::connect(url).await.expect("a connection");
        let words = "select (select page_count from pragma_page_count()) * (select page_size from pragma_page_size())
            - (select freelist_count from pragma_freelist_count()) * (select page_size from pragma_page_size())";
        let row = connection.fetch_one(words).await.expect("its size");
        vec![("everything".into(), row.get(0))]
    } else {
        let mut connection = PgConnection::connect(url).await.expect("a connection");
        let words = "select relname::text, pg_relation_size(oid) from pg_class
            where relnamespace = 'public'::regnamespace and relkind in ('r', 'i', 't') and pg_relation_size(oid) > 100000
            order by 2 desc";
        let rows = connection.fetch_all(words).await.expect("their sizes");
        rows.into_iter().map(|row| (row.get(0), row.get(1))).collect()
    }
}
