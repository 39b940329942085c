//! One connection in use: a reader, or a transaction that writes.

use sqlx::pool::PoolConnection;
use sqlx::postgres::PgArguments;
use sqlx::sqlite::SqliteArguments;
use sqlx::{
    AssertSqlSafe, Error, Executor, PgConnection, Postgres, SqlSafeStr, SqlStr, Sqlite, SqliteConnection, Transaction,
};

use super::argument::{for_postgres, for_sqlite};
use super::{Dialect, Row, Rows, Statement, Value};

/// A conversation with the database. Dropped without [`Session::commit`], nothing of it happened.
pub(crate) enum Session {
    SqliteReader(PoolConnection<Sqlite>),
    Sqlite(Transaction<'static, Sqlite>),
    PostgresReader(PoolConnection<Postgres>),
    Postgres(Transaction<'static, Postgres>),
}

enum Link<'s> {
    Sqlite(&'s mut SqliteConnection),
    Postgres(&'s mut PgConnection),
}

enum Bound {
    Sqlite(SqliteArguments),
    Postgres(PgArguments),
}

impl Session {
    pub(crate) fn dialect(&self) -> Dialect {
        match self {
            Self::SqliteReader(_) | Self::Sqlite(_) => Dialect::Sqlite,
            Self::PostgresReader(_) | Self::Postgres(_) => Dialect::Postgres,
        }
    }

    /// Runs a statement and returns its rows.
    pub(crate) async fn rows(
        &mut self,
        statement: &'static Statement,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, Error> {
        let text = statement.text(self.dialect());
        let bound = self.bind(values)?;
        self.fetch(text.into_sql_str(), bound).await
    }

    /// Runs a statement that was put together from constant parts, and returns its rows.
    pub(crate) async fn rows_of_text(&mut self, text: String, values: &[Value<'_>]) -> Result<Vec<Row>, Error> {
        let bound = self.bind(values)?;
        self.fetch(AssertSqlSafe(text).into_sql_str(), bound).await
    }

    /// Runs a statement of many rows and returns what it answers.
    pub(crate) async fn rows_of(&mut self, statement: &'static Statement, rows: &Rows<'_>) -> Result<Vec<Row>, Error> {
        let bound = self.bind_rows(statement, rows)?;
        self.fetch(statement.text(self.dialect()).into_sql_str(), bound).await
    }

    /// Runs a statement and returns how many rows it touched.
    pub(crate) async fn run(&mut self, statement: &'static Statement, values: &[Value<'_>]) -> Result<u64, Error> {
        let bound = self.bind(values)?;
        self.execute(statement.text(self.dialect()), bound).await
    }

    /// Runs a statement of many rows; none when there are no rows.
    pub(crate) async fn run_of(&mut self, statement: &'static Statement, rows: &Rows<'_>) -> Result<u64, Error> {
        if rows.is_empty() {
            return Ok(0);
        }
        let bound = self.bind_rows(statement, rows)?;
        self.execute(statement.text(self.dialect()), bound).await
    }

    /// Runs several statements of many rows as one, PostgreSQL only; `text` has their arguments in order.
    pub(crate) async fn rows_of_parts(
        &mut self,
        text: &'static str,
        parts: &[(&'static Statement, Rows<'_>)],
    ) -> Result<Vec<Row>, Error> {
        let mut arguments = PgArguments::default();
        for (statement, rows) in parts {
            rows.add_columns(statement.columns(), &mut arguments)?;
        }
        self.fetch(text.into_sql_str(), Bound::Postgres(arguments)).await
    }

    /// Sends words that take no argument, such as `savepoint`.
    pub(crate) async fn say(&mut self, words: &'static str) -> Result<(), Error> {
        match self.link() {
            Link::Sqlite(connection) => connection.execute(sqlx::raw_sql(words)).await.map(drop),
            Link::Postgres(connection) => connection.execute(sqlx::raw_sql(words)).await.map(drop),
        }
    }

    /// Makes it all durable.
    pub(crate) async fn commit(self) -> Result<(), Error> {
        match self {
            Self::Sqlite(transaction) => transaction.commit().await,
            Self::Postgres(transaction) => transaction.commit().await,
            Self::SqliteReader(_) | Self::PostgresReader(_) => Ok(()),
        }
    }

    /// Undoes it all, and returns when its locks are gone: whoever passes over locked rows must not pass over these.
    pub(crate) async fn undo(self) {
        let undone = match self {
            Self::Sqlite(transaction) => transaction.rollback().await,
            Self::Postgres(transaction) => transaction.rollback().await,
            Self::SqliteReader(_) | Self::PostgresReader(_) => Ok(()),
        };
        if let Err(error) = undone {
            // A connection that cannot say so is closed, which undoes it as well.
            tracing::debug!(%error, "a transaction was not undone in so many words");
        }
    }

    fn bind(&self, values: &[Value<'_>]) -> Result<Bound, Error> {
        Ok(match self.dialect() {
            Dialect::Sqlite => Bound::Sqlite(for_sqlite(values)?),
            Dialect::Postgres => Bound::Postgres(for_postgres(values)?),
        })
    }

    fn bind_rows(&self, statement: &'static Statement, rows: &Rows<'_>) -> Result<Bound, Error> {
        Ok(match self.dialect() {
            Dialect::Sqlite => Bound::Sqlite(for_sqlite(&[Value::Text(Some(rows.to_json().into()))])?),
            Dialect::Postgres => {
                let mut arguments = PgArguments::default();
                rows.add_columns(statement.columns(), &mut arguments)?;
                Bound::Postgres(arguments)
            }
        })
    }

    async fn fetch(&mut self, text: SqlStr, bound: Bound) -> Result<Vec<Row>, Error> {
        match (self.link(), bound) {
            (Link::Sqlite(connection), Bound::Sqlite(arguments)) => {
                let rows = sqlx::query_with(text, arguments).fetch_all(connection).await?;
                Ok(rows.into_iter().map(Row::from).collect())
            }
            (Link::Postgres(connection), Bound::Postgres(arguments)) => {
                let rows = sqlx::query_with(text, arguments).fetch_all(connection).await?;
                Ok(rows.into_iter().map(Row::from).collect())
            }
            (Link::Sqlite(_), Bound::Postgres(_)) | (Link::Postgres(_), Bound::Sqlite(_)) => {
                unreachable!("arguments are bound for the database they go to")
            }
        }
    }

    async fn execute(&mut self, text: &'static str, bound: Bound) -> Result<u64, Error> {
        match (self.link(), bound) {
            (Link::Sqlite(connection), Bound::Sqlite(arguments)) => {
                Ok(sqlx::query_with(text, arguments).execute(connection).await?.rows_affected())
            }
            (Link::Postgres(connection), Bound::Postgres(arguments)) => {
                Ok(sqlx::query_with(text, arguments).execute(connection).await?.rows_affected())
            }
            (Link::Sqlite(_), Bound::Postgres(_)) | (Link::Postgres(_), Bound::Sqlite(_)) => {
                unreachable!("arguments are bound for the database they go to")
            }
        }
    }

    fn link(&mut self) -> Link<'_> {
        match self {
            Self::SqliteReader(connection) => Link::Sqlite(&mut *connection),
            Self::Sqlite(transaction) => Link::Sqlite(&mut *transaction),
            Self::PostgresReader(connection) => Link::Postgres(&mut *connection),
            Self::Postgres(transaction) => Link::Postgres(&mut *transaction),
        }
    }
}
