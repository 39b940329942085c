//! The machine's own speed without the engine: commits per second into the same kind of database.

use std::time::Instant;

use sqlx::{Connection, Executor};
use test_engine::{Database, scratch};

/// Commits per second of one connection.
#[derive(Clone, Copy)]
pub(crate) struct Ceilings {
    /// With one row each.
    pub(crate) single: f64,
    /// Rows per second with a hundred rows each.
    pub(crate) hundred_rows: f64,
}

/// Measures one connection with durable settings.
pub(crate) async fn measure(database: Database) -> anyhow::Result<Ceilings> {
    let folder = scratch();
    match database {
        Database::Sqlite => {
            let url = format!("sqlite:{}?mode=rwc", folder.0.join("ceiling.db").display());
            let mut connection = sqlx::SqliteConnection::connect(&url).await?;
            connection.execute("pragma journal_mode = wal").await?;
            connection.execute("pragma synchronous = full").await?;
            commits(&mut connection, "insert into ceiling (body) values ('some forty bytes of text, as an event has')")
                .await
        }
        Database::Postgres => {
            let mut connection = sqlx::PgConnection::connect(&test_postgres::database()).await?;
            commits(&mut connection, "insert into ceiling (body) values ('some forty bytes of text, as an event has')")
                .await
        }
    }
}

impl Ceilings {
    /// Milliseconds of one commit with one row.
    pub(crate) fn commit_ms(&self) -> f64 {
        1_000.0 / self.single
    }
}

async fn commits<C>(connection: &mut C, insert: &'static str) -> anyhow::Result<Ceilings>
where
    C: Connection,
    for<'c> &'c mut C: Executor<'c, Database = C::Database>,
{
    connection.execute("create table ceiling (body text)").await.map(drop)?;
    let began = Instant::now();
    for _ in 0..1_000 {
        connection.execute(insert).await.map(drop)?;
    }
    let single = 1_000.0 / began.elapsed().as_secs_f64();
    let began = Instant::now();
    for _ in 0..50 {
        connection.execute("begin").await.map(drop)?;
        connection.execute("insert into ceiling (body) with recursive n(i) as (select 1 union all select i + 1 from n where i < 100) select 'some forty bytes of text, as an event has' from n").await.map(drop)?;
        connection.execute("commit").await.map(drop)?;
    }
    Ok(Ceilings { single, hundred_rows: 5_000.0 / began.elapsed().as_secs_f64() })
}
