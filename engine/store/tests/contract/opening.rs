//! Opening a database, and refusing to.

use cerebelum_store::{Store, StoreError, open};

use crate::bench::{Bench, events, key};
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
    // The node's claims survive its connection, as long as its lease stands.
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
