//! One connection in use: a reader, or a transaction that writes.

use sqlx::postgres::PgArguments;
use sqlx::{AssertSqlSafe, Executor, SqlSafeStr, SqlStr};

use super::argument::for_postgres;
use super::{Dialect, Row, Rows, SqliteConn, Statement, Value};
use crate::connections::Pooled;
use crate::db_error::Error;

/// A conversation with the database. Dropped without [`Session::commit`], nothing of it happened.
pub(crate) struct Session {
    link: Conn,
    in_transaction: bool,
}

/// Which database it is held with.
pub(crate) enum Conn {
    Sqlite(SqliteConn),
    Postgres(Pooled),
}

/// What a statement is given.
#[derive(Clone, Copy)]
enum Params<'g> {
    Values(&'g [Value<'g>]),
    Rows(&'static Statement, &'g Rows<'g>),
}

impl Session {
    /// A conversation of statements that are each by itself.
    pub(crate) const fn new(link: Conn) -> Self {
        Self { link, in_transaction: false }
    }

    /// A conversation that begins with these words, and is one transaction.
    pub(crate) async fn begin(link: Conn, words: &'static str) -> Result<Self, Error> {
        let mut session = Self::new(link);
        session.say(words).await?;
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

    /// Runs a statement of many rows and returns what it answers.
    pub(crate) async fn rows_of(&mut self, statement: &'static Statement, rows: &Rows<'_>) -> Result<Vec<Row>, Error> {
        self.link.fetch(statement.text(self.dialect()).into_sql_str(), Params::Rows(statement, rows)).await
    }

    /// Runs a statement and returns how many rows it touched.
    pub(crate) async fn run(&mut self, statement: &'static Statement, values: &[Value<'_>]) -> Result<u64, Error> {
        self.link.execute(statement.text(self.dialect()), Params::Values(values)).await
    }

    /// Runs a statement of many rows; none when there are no rows.
    pub(crate) async fn run_of(&mut self, statement: &'static Statement, rows: &Rows<'_>) -> Result<u64, Error> {
        match rows.is_empty() {
            true => Ok(0),
            false => self.link.execute(statement.text(self.dialect()), Params::Rows(statement, rows)).await,
        }
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
        match &mut self.link {
            Conn::Sqlite(_) => unreachable!("SQLite runs them one after the other"),
            Conn::Postgres(lent) => lent.fetch(text.into_sql_str(), arguments).await,
        }
    }

    /// Runs a statement once for each row, SQLite only, and returns what it answers.
    pub(crate) async fn rows_one_by_one(
        &mut self,
        statement: &'static Statement,
        rows: &Rows<'_>,
    ) -> Result<Vec<Row>, Error> {
        match &self.link {
            Conn::Sqlite(open) => open.fetch_each(statement.text_of_one(), rows),
            Conn::Postgres(_) => unreachable!("PostgreSQL takes them together"),
        }
    }

    /// Sends words that take no argument, such as `savepoint`.
    pub(crate) async fn say(&mut self, words: &'static str) -> Result<(), Error> {
        self.link.say(words).await
    }

    /// Makes it all durable.
    pub(crate) async fn commit(self) -> Result<(), Error> {
        self.end("commit").await
    }

    /// Undoes it all, and returns when its locks are gone: whoever passes over locked rows must not pass over these.
    pub(crate) async fn undo(self) {
        if let Err(error) = self.end("rollback").await {
            // A connection that cannot say so is closed, which undoes it as well.
            tracing::debug!(%error, "a transaction was not undone in so many words");
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
    /// Makes sure that a database file is still the one of its name.
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

    async fn say(&mut self, words: &'static str) -> Result<(), Error> {
        match self {
            Self::Sqlite(open) => open.say(words),
            Self::Postgres(lent) => lent.say(words).await,
        }
    }

    /// Says the last words of a transaction. Where a server does not understand them nobody uses the connection again.
    async fn end(&mut self, words: &'static str) -> Result<(), Error> {
        let ended = self.say(words).await;
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

    async fn say(&mut self, words: &'static str) -> Result<(), Error> {
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
    /// A transaction that nobody ended is undone, that of a server in the background; there, one that broke off in a
    /// statement goes with its connection.
    fn drop(&mut self) {
        if !self.in_transaction {
            return;
        }
        match &mut self.link {
            Conn::Sqlite(open) => {
                // The pool does not lend again what is still in a transaction.
                let _ = open.say("rollback");
            }
            Conn::Postgres(lent) if lent.is_in_order() => {
                let mut lent = lent.take();
                if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                    runtime.spawn(async move {
                        if lent.say("rollback").await.is_err() {
                            lent.abandon();
                        }
                    });
                }
            }
            Conn::Postgres(_) => {}
        }
    }
}
