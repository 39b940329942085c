//! A real PostgreSQL for tests: one throw-away cluster for each process, or the server that `TEST_DATABASE_URL` names.

mod cluster;
mod wire;

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};

pub use cluster::{Cluster, Shutdown, program};
pub use wire::{Cut, Wire};

/// The server of this process: the one that `TEST_DATABASE_URL` names, otherwise a cluster that ends with the process.
static SERVER: LazyLock<Server> = LazyLock::new(|| match std::env::var("TEST_DATABASE_URL") {
    Ok(url) => Server::Given(url),
    Err(_) => Server::Own(Cluster::start()),
});

enum Server {
    Given(String),
    Own(Cluster),
}

/// The address of a fresh, empty database. The server lives as long as this process.
///
/// On a server of `TEST_DATABASE_URL` the databases are called `cerebelum_test_…` and stay for inspection.
///
/// # Panics
/// When there is no PostgreSQL: tests that need one are never skipped.
#[must_use]
pub fn database() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let url = match &*SERVER {
        Server::Given(url) => url.clone(),
        Server::Own(cluster) => cluster.url("postgres"),
    };
    let name = format!("cerebelum_test_{}_{number}", std::process::id());
    let options: PgConnectOptions = url.parse().expect("the address of a PostgreSQL server");
    let fresh = options.clone().database(&name).to_url_lossy().to_string();
    // In a thread of its own, so that it does not matter whether the test runs inside tokio.
    let created = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(create(options, name))
    });
    created.join().expect("creating a database does not panic").expect("a database can be created");
    fresh
}

async fn create(options: PgConnectOptions, name: String) -> Result<(), sqlx::Error> {
    let mut connection = options.disable_statement_logging().connect().await?;
    // An earlier process may have had the same number.
    for words in [format!("drop database if exists {name}"), format!("create database {name} template template0")] {
        connection.execute(sqlx::raw_sql(AssertSqlSafe(words))).await?;
    }
    connection.close().await
}
