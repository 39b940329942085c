//! Opening a database, and refusing to open one.

use std::pin::pin;

use cerebelum_store::{Batch, Store, StoreError, open};
use futures::future::{Either, select};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor, PgConnection};

use crate::bench::{Bench, events, fresh, key, new};
use crate::on_both;

on_both!(a_newer_schema_is_refused_with_a_clear_line, what_was_written_is_there_after_opening_again);

async fn refusal(url: &str) -> String {
    match open(url).await.map(drop) {
        Err(StoreError::Unusable(line)) => line,
        other => panic!("{other:?}"),
    }
}

async fn a_newer_schema_is_refused_with_a_clear_line(bench: Bench) {
    let columns = "(version, description, installed_on, success, checksum, execution_time)";
    let (yes, bytes) = if bench.folder.is_some() { ("1", "x'00'") } else { ("true", "'\\x00'::bytea") };
    bench
        .meddle(format!(
            "insert into _sqlx_migrations {columns} values (999, 'later', current_timestamp, {yes}, {bytes}, 1)"
        ))
        .await;
    let Bench { store, url, folder, .. } = bench;
    closed(store).await;
    let line = refusal(&url).await;
    assert!(line.starts_with("the database has schema 999, this engine knows schemas up to "), "{line}");
    assert!(!line.contains('\n'));
    drop(folder);
}

async fn what_was_written_is_there_after_opening_again(bench: Bench) {
    let node = bench.lease("n").await;
    let head = bench.started(node, "a").await;
    let batch = events(node, &head, 3);
    assert_eq!(bench.write(batch.clone()).await, Ok(()));
    let Bench { store, url, folder, .. } = bench;
    closed(store).await;
    let store = open(&url).await.unwrap();
    assert_eq!(store.execution(&key("a")).await.unwrap().unwrap(), batch.head);
    // The node's claims survive its connection as long as its lease is valid.
    let next = events(node, &batch.head, 1);
    assert_eq!(crate::bench::written(store.append(crate::bench::fresh(), vec![next]).await.unwrap()), [Ok(())]);
    drop(folder);
}

/// Drops the last handle of a store.
async fn closed(store: std::sync::Arc<dyn Store>) {
    assert_eq!(std::sync::Arc::strong_count(&store), 1);
    drop(store);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_opener_of_the_same_sqlite_file_is_refused() {
    let bench = Bench::sqlite().await;
    let line = refusal(&bench.url).await;
    assert!(line.contains("is in use by another engine") && !line.contains('\n'), "{line}");
    bench.now().await.unwrap();
    let Bench { store, url, folder, .. } = bench;
    closed(store).await;
    open(&url).await.unwrap().now().await.unwrap();
    drop(folder);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_opened_is_refused_with_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text");
    std::fs::write(
        &text,
        "this is no database, and it is longer than a header of a hundred bytes would ever be ........",
    )
    .unwrap();
    let urls = [
        "mysql://x/y".to_owned(),
        "sqlite:".into(),
        "sqlite::memory:".into(),
        format!("sqlite:{}", folder.path().display()),
        format!("sqlite:{}", text.display()),
        "postgres://127.0.0.1:notaport/x".into(),
        test_postgres::database() + "_nobody_made",
    ];
    for url in urls {
        let line = refusal(&url).await;
        assert!(!line.is_empty() && !line.contains('\n'), "{url}: {line}");
    }
    let nobody = open("postgres://postgres@127.0.0.1:1/x").await.map(drop);
    assert!(matches!(nobody, Err(StoreError::Unavailable(_))), "{nobody:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_engines_may_open_a_fresh_postgres_at_once() {
    let url = test_postgres::database();
    let (one, two) = tokio::join!(open(&url), open(&url));
    one.unwrap().now().await.unwrap();
    two.unwrap().now().await.unwrap();
}

/// A file can have many names. Under any name, only one engine has it.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_engine_is_refused_whatever_it_calls_the_file() {
    let bench = Bench::sqlite().await;
    let folder = bench.folder.as_ref().unwrap().path().to_owned();
    let file = folder.join("cerebelum.db");
    std::os::unix::fs::symlink(&file, folder.join("symbolic.db")).unwrap();
    std::fs::hard_link(&file, folder.join("hard.db")).unwrap();
    std::fs::create_dir(folder.join("sub")).unwrap();
    std::os::unix::fs::symlink(&folder, folder.join("sub/up")).unwrap();
    for other in ["symbolic.db", "hard.db", "sub/../cerebelum.db", "sub/up/cerebelum.db", "sub/up/hard.db"] {
        let line = refusal(&format!("sqlite:{}", folder.join(other).display())).await;
        assert!(line.contains("is in use by another engine") && !line.contains('\n'), "{other}: {line}");
    }
    bench.lease("n").await;
}

/// The same against an engine in another process.
#[tokio::test(flavor = "multi_thread")]
async fn the_lock_is_on_the_file_itself() {
    let bench = Bench::sqlite().await;
    let folder = bench.folder.as_ref().unwrap().path();
    std::fs::hard_link(folder.join("cerebelum.db"), folder.join("hard.db")).unwrap();
    let mut other = std::process::Command::new("flock");
    let held = other.args(["--nonblock", "--exclusive"]).arg(folder.join("hard.db")).arg("true").status().unwrap();
    assert!(!held.success(), "another process gets no lock on it");
}

/// A write that would be lost after a restart is not acknowledged, and every acknowledged write is in the file that was
/// moved.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_moved_replaced_or_deleted_is_written_to_no_more() {
    type Harm = fn(&std::path::Path, &std::path::Path);
    let harms: [(&str, Harm); 5] = [
        ("moved", |file, away| std::fs::rename(file, away).unwrap()),
        ("deleted", |file, away| {
            std::fs::hard_link(file, away).unwrap();
            std::fs::remove_file(file).unwrap();
        }),
        ("replaced", |file, away| {
            std::fs::rename(file, away).unwrap();
            std::fs::write(file, "").unwrap();
        }),
        ("its log deleted", |file, away| {
            std::fs::hard_link(file, away).unwrap();
            std::fs::remove_file(file.with_file_name("cerebelum.db-wal")).unwrap();
        }),
        ("the memory of its connections replaced", |file, away| {
            let shared = file.with_file_name("cerebelum.db-shm");
            std::fs::hard_link(file, away).unwrap();
            std::fs::remove_file(&shared).unwrap();
            std::fs::write(shared, "").unwrap();
        }),
    ];
    for (name, harm) in harms {
        let bench = Bench::sqlite().await;
        let folder = bench.folder.as_ref().unwrap().path().to_owned();
        let (file, away) = (folder.join("cerebelum.db"), folder.join("away.db"));
        let node = bench.lease("n").await;
        let head = bench.started(node, "a").await;
        harm(&file, &away);
        let refused = [
            bench.append(fresh(), vec![Batch::start(node, new("b"))]).await.map(drop),
            bench.append(fresh(), vec![events(node, &head, 1)]).await.map(drop),
            bench.send(&key("a"), "x".into()).await.map(drop),
            bench.renew_lease(node, crate::bench::LONG).await.map(drop),
            bench.begin_lease("n", None, crate::bench::LONG).await.map(drop),
        ];
        for answer in refused {
            let Err(StoreError::Unusable(line)) = &answer else { panic!("{name}: {answer:?}") };
            assert!(line.contains("was moved, replaced or deleted") && !line.contains('\n'), "{line}");
        }
        let Bench { store, url, folder: kept, .. } = bench;
        closed(store).await;
        // Only the file itself is put back. The files beside it are lost.
        for beside in ["cerebelum.db", "cerebelum.db-wal", "cerebelum.db-shm"] {
            let _ = std::fs::remove_file(file.with_file_name(beside));
        }
        std::fs::rename(&away, &file).unwrap();
        let store = open(&url).await.unwrap();
        assert_eq!(store.execution(&key("a")).await.unwrap().map(|found| found.key), Some(key("a")), "{name}");
        assert_eq!(store.execution(&key("b")).await.unwrap(), None, "{name}: what was not acknowledged");
        drop(kept);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_reads_a_database_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cerebelum.db");
    let url = format!("sqlite:{}", file.display());
    let modes = || {
        ["", "-wal", "-shm"].map(|suffix| {
            let found = std::fs::metadata(format!("{}{suffix}", file.display())).unwrap();
            found.permissions().mode() & 0o777
        })
    };
    let store = open(&url).await.unwrap();
    crate::bench::lease(&*store, "n").await;
    assert_eq!(modes(), [0o600; 3]);
    closed(store).await;
    // A file that an earlier engine created.
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    let store = open(&url).await.unwrap();
    crate::bench::lease(&*store, "n").await;
    assert_eq!(modes(), [0o600; 3]);
}

/// A migration may wait for a lock, or change a table, for longer than its role's statements may take otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn a_migration_is_bound_by_no_timeout_of_its_role() {
    let bench = Bench::postgres().await;
    let options: PgConnectOptions = bench.url.parse().unwrap();
    let role = format!("impatient_{}", options.get_database().unwrap());
    for words in [
        format!("drop role if exists {role}"),
        format!("create role {role} superuser login password 'x'"),
        format!("alter role {role} set statement_timeout = '100ms'"),
        format!("alter role {role} set lock_timeout = '100ms'"),
    ] {
        bench.meddle(words).await;
    }
    let url = options.username(&role).password("x").to_url_lossy().to_string();
    let mut holder = PgConnection::connect(&bench.url).await.unwrap();
    let lock = "begin; lock table _sqlx_migrations in access exclusive mode";
    holder.execute(sqlx::raw_sql(lock)).await.unwrap();
    let waited = format!(
        "select count(*) from pg_stat_activity
        where usename = '{role}' and wait_event_type = 'Lock' and clock_timestamp() - query_start > '500ms'"
    );
    let release = async {
        while bench.meddle(&waited).await == 0 {
            tokio::task::yield_now().await;
        }
        holder.execute("rollback").await.unwrap();
    };
    match select(pin!(open(&url)), pin!(release)).await {
        Either::Left((opened, _)) => panic!("it has not waited: {:?}", opened.map(drop)),
        Either::Right(((), opening)) => drop(opening.await.unwrap()),
    }
}
