//! One connection in use: for reads, or for a transaction that writes.

use sqlx::postgres::PgArguments;
use sqlx::{AssertSqlSafe, Executor, SqlSafeStr, SqlStr};

use super::argument::for_postgres;
use super::{Dialect, Row, Rows, Script, SqliteConn, Statement, Value};
use crate::connections::Pooled;
use crate::db_error::{DbError, Error, cause, is_unknown};
use crate::error::StoreError;

/// A session with the database. If a transaction is dropped without [`Session::commit`], nothing of it happened.
pub(crate) struct Session {
    link: Conn,
    in_transaction: bool,
}

/// The connection of a session, by database.
pub(crate) enum Conn {
    Sqlite(SqliteConn),
    Postgres(Pooled),
}

/// The arguments of a statement.
#[derive(Clone, Copy)]
enum Params<'g> {
    Values(&'g [Value<'g>]),
    Rows(&'static Statement, &'g Rows<'g>),
}

impl Session {
    /// A session in which each statement stands alone.
    pub(crate) const fn new(link: Conn) -> Self {
        Self { link, in_transaction: false }
    }

    /// A session that is one transaction, begun with this command.
    pub(crate) async fn begin(link: Conn, words: &'static str) -> Result<Self, Error> {
        let mut session = Self::new(link);
        session.execute(words).await?;
        session.in_transaction = true;
        Ok(session)
    }

    pub(crate) const fn dialect(&self) -> Dialect {
        match self.link {
            Conn::Sqlite(_) => Dialect::Sqlite,
            Conn::Postgres(_) => Dialect::Postgres,
        }
    }

    /// Runs a statement and returns its rows.
    pub(crate) async fn rows(
        &mut self,
        statement: &'static Statement,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, Error> {
        self.link.fetch(statement.text(self.dialect()).into_sql_str(), Params::Values(values)).await
    }

    /// Runs a statement that was put together from constant parts, and returns its rows.
    pub(crate) async fn rows_of_text(&mut self, text: String, values: &[Value<'_>]) -> Result<Vec<Row>, Error> {
        self.link.fetch(AssertSqlSafe(text).into_sql_str(), Params::Values(values)).await
    }

    /// Runs a statement with many rows and returns its result rows.
    pub(crate) async fn rows_of(&mut self, statement: &'static Statement, rows: &Rows<'_>) -> Result<Vec<Row>, Error> {
        self.link.fetch(statement.text(self.dialect()).into_sql_str(), Params::Rows(statement, rows)).await
    }

    /// Runs a statement and returns the number of rows that it changed.
    pub(crate) async fn run(&mut self, statement: &'static Statement, values: &[Value<'_>]) -> Result<u64, Error> {
        self.link.execute(statement.text(self.dialect()), Params::Values(values)).await
    }

    /// Runs a statement with many rows, or nothing if there are no rows.
    pub(crate) async fn run_of(&mut self, statement: &'static Statement, rows: &Rows<'_>) -> Result<u64, Error> {
        match rows.is_empty() {
            true => Ok(0),
            false => self.link.execute(statement.text(self.dialect()), Params::Rows(statement, rows)).await,
        }
    }

    /// Runs a script in the transaction. On an error, the transaction goes on only from a savepoint.
    pub(crate) async fn run_script(&mut self, script: Script<'_>) -> Result<Vec<Row>, Error> {
        match &mut self.link {
            Conn::Sqlite(open) => open.run_script(&script),
            Conn::Postgres(lent) => script.run_on_postgres(lent).await,
        }
    }

    /// Sends a command that takes no argument, such as `savepoint`.
    pub(crate) async fn execute(&mut self, words: &'static str) -> Result<(), Error> {
        self.link.execute_raw(words).await
    }

    /// Commits the transaction. A COMMIT without an answer is [`StoreError::Unknown`].
    pub(crate) async fn commit(self) -> Result<(), DbError> {
        self.end("commit").await.map_err(|error| match is_unknown(&error) {
            true => DbError::Store(StoreError::Unknown(cause(&error))),
            false => DbError::Database(error),
        })
    }

    /// Rolls the transaction back, and returns when its locks are released: other transactions skip locked rows and
    /// must not miss these.
    pub(crate) async fn rollback(self) {
        if let Err(error) = self.end("rollback").await {
            // A connection that cannot roll back is closed, which has the same effect.
            tracing::debug!(%error, "a transaction was not rolled back in so many words");
        }
    }

    async fn end(mut self, words: &'static str) -> Result<(), Error> {
        if self.in_transaction {
            self.link.end(words).await?;
            self.in_transaction = false;
        }
        Ok(())
    }
}

impl Conn {
    /// Checks that the path of a database file still leads to the file.
    pub(crate) fn check_file(&self) -> Result<(), Error> {
        match self {
            Self::Sqlite(open) => open.connection.check_file(),
            Self::Postgres(_) => Ok(()),
        }
    }

    async fn fetch(&mut self, text: SqlStr, given: Params<'_>) -> Result<Vec<Row>, Error> {
        match self {
            Self::Sqlite(open) => given.to_sqlite(|values| open.fetch(text.as_str(), values)),
            Self::Postgres(lent) => lent.fetch(text, given.to_postgres()?).await,
        }
    }

    async fn execute(&mut self, text: &'static str, given: Params<'_>) -> Result<u64, Error> {
        match self {
            Self::Sqlite(open) => given.to_sqlite(|values| open.execute(text, values)),
            Self::Postgres(lent) => {
                let executed = sqlx::query_with(text, given.to_postgres()?).execute(lent.begin()).await;
                lent.settle(&executed);
                Ok(executed?.rows_affected())
            }
        }
    }

    async fn execute_raw(&mut self, words: &'static str) -> Result<(), Error> {
        match self {
            Self::Sqlite(open) => open.execute_raw(words),
            Self::Postgres(lent) => lent.execute_raw(words).await,
        }
    }

    /// Ends a transaction with this command. If the server does not confirm it, the connection is not reused.
    async fn end(&mut self, words: &'static str) -> Result<(), Error> {
        let ended = self.execute_raw(words).await;
        if let (Err(_), Self::Postgres(lent)) = (&ended, self) {
            lent.abandon();
        }
        ended
    }
}

impl Pooled {
    async fn fetch(&mut self, text: SqlStr, arguments: PgArguments) -> Result<Vec<Row>, Error> {
        let rows = sqlx::query_with(text, arguments).fetch_all(self.begin()).await;
        self.settle(&rows);
        Ok(rows?.into_iter().map(Row::from).collect())
    }

    async fn execute_raw(&mut self, words: &'static str) -> Result<(), Error> {
        let said = self.begin().execute(sqlx::raw_sql(words)).await;
        self.settle(&said);
        said?;
        Ok(())
    }
}

impl Params<'_> {
    fn to_sqlite<T>(self, run: impl FnOnce(&[Value<'_>]) -> T) -> T {
        match self {
            Self::Values(values) => run(values),
            Self::Rows(_, rows) => run(&[Value::Text(Some(rows.to_json().into()))]),
        }
    }

    fn to_postgres(self) -> Result<PgArguments, Error> {
        match self {
            Self::Values(values) => for_postgres(values),
            Self::Rows(statement, rows) => {
                let mut arguments = PgArguments::default();
                rows.add_columns(statement.columns(), &mut arguments)?;
                Ok(arguments)
            }
        }
    }
}

impl Drop for Session {
    /// Rolls back a transaction that was not ended; for a server, in the background. If the transaction was interrupted
    /// in the middle of a statement, the connection to the server is closed instead.
    fn drop(&mut self) {
        if !self.in_transaction {
            return;
        }
        match &mut self.link {
            Conn::Sqlite(open) => {
                // The pool does not reuse a connection that is still in a transaction.
                let _ = open.execute_raw("rollback");
            }
            Conn::Postgres(lent) if lent.is_in_order() => {
                let mut lent = lent.take();
                if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                    runtime.spawn(async move {
                        if lent.execute_raw("rollback").await.is_err() {
                            lent.abandon();
                        }
                    });
                }
            }
            Conn::Postgres(_) => {}
        }
    }
}
