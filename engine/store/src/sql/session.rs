//! One connection in use: a reader, or a transaction that writes.

use sqlx::postgres::PgArguments;
use sqlx::sqlite::SqliteArguments;
use sqlx::{AssertSqlSafe, Error, Executor, PgConnection, SqlSafeStr, SqlStr, SqliteConnection};

use super::argument::{for_postgres, for_sqlite};
use super::{Dialect, Row, Rows, Statement, Value};
use crate::connections::Lent;

/// A conversation with the database. Dropped without [`Session::commit`], nothing of it happened.
pub(crate) struct Session {
    link: Link,
    in_transaction: bool,
}

/// Which database it is held with.
pub(crate) enum Link {
    Sqlite(Lent<SqliteConnection>),
    Postgres(Lent<PgConnection>),
}

enum Bound {
    Sqlite(SqliteArguments),
    Postgres(PgArguments),
}

impl Session {
    /// A conversation of statements that are each by itself.
    pub(crate) const fn new(link: Link) -> Self {
        Self { link, in_transaction: false }
    }

    /// A conversation that begins with these words, and is one transaction.
    pub(crate) async fn begin(link: Link, words: &'static str) -> Result<Self, Error> {
        let mut session = Self::new(link);
        session.say(words).await?;
        session.in_transaction = true;
        Ok(session)
    }

    pub(crate) const fn dialect(&self) -> Dialect {
        match self.link {
            Link::Sqlite(_) => Dialect::Sqlite,
            Link::Postgres(_) => Dialect::Postgres,
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
        if !self.in_transaction {
            return Ok(());
        }
        let ended = self.link.end(words).await;
        self.in_transaction = false;
        ended
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
        let fetched = match (&mut self.link, bound) {
            (Link::Sqlite(lent), Bound::Sqlite(arguments)) => {
                let rows = sqlx::query_with(text, arguments).fetch_all(lent.begin()).await;
                rows.map(|rows| rows.into_iter().map(Row::from).collect())
            }
            (Link::Postgres(lent), Bound::Postgres(arguments)) => {
                let rows = sqlx::query_with(text, arguments).fetch_all(lent.begin()).await;
                rows.map(|rows| rows.into_iter().map(Row::from).collect())
            }
            (Link::Sqlite(_), Bound::Postgres(_)) | (Link::Postgres(_), Bound::Sqlite(_)) => unreachable!("{MISBOUND}"),
        };
        self.link.settle(&fetched);
        fetched
    }

    async fn execute(&mut self, text: &'static str, bound: Bound) -> Result<u64, Error> {
        let executed = match (&mut self.link, bound) {
            (Link::Sqlite(lent), Bound::Sqlite(arguments)) => {
                sqlx::query_with(text, arguments).execute(lent.begin()).await.map(|done| done.rows_affected())
            }
            (Link::Postgres(lent), Bound::Postgres(arguments)) => {
                sqlx::query_with(text, arguments).execute(lent.begin()).await.map(|done| done.rows_affected())
            }
            (Link::Sqlite(_), Bound::Postgres(_)) | (Link::Postgres(_), Bound::Sqlite(_)) => unreachable!("{MISBOUND}"),
        };
        self.link.settle(&executed);
        executed
    }
}

impl Link {
    async fn say(&mut self, words: &'static str) -> Result<(), Error> {
        let said = match self {
            Self::Sqlite(lent) => lent.begin().execute(sqlx::raw_sql(words)).await.map(drop),
            Self::Postgres(lent) => lent.begin().execute(sqlx::raw_sql(words)).await.map(drop),
        };
        self.settle(&said);
        said
    }

    /// Says the last words of a transaction. Where they are not understood nobody uses the connection again.
    async fn end(&mut self, words: &'static str) -> Result<(), Error> {
        let ended = self.say(words).await;
        if ended.is_err() {
            self.abandon();
        }
        ended
    }

    fn settle<T>(&mut self, done: &Result<T, Error>) {
        match self {
            Self::Sqlite(lent) => lent.settle(done),
            Self::Postgres(lent) => lent.settle(done),
        }
    }

    /// From here on nobody else uses it, unless it is settled again.
    const fn abandon(&mut self) {
        match self {
            Self::Sqlite(lent) => lent.abandon(),
            Self::Postgres(lent) => lent.abandon(),
        }
    }

    /// The same link in other hands, abandoned; nothing is left here.
    fn take(&mut self) -> Self {
        match self {
            Self::Sqlite(lent) => Self::Sqlite(lent.take()),
            Self::Postgres(lent) => Self::Postgres(lent.take()),
        }
    }

    const fn is_in_order(&self) -> bool {
        match self {
            Self::Sqlite(lent) => lent.is_in_order(),
            Self::Postgres(lent) => lent.is_in_order(),
        }
    }
}

impl Drop for Session {
    /// A transaction that nobody ended is undone in the background; one that broke off in a statement, with its connection.
    fn drop(&mut self) {
        if !self.in_transaction || !self.link.is_in_order() {
            return;
        }
        let mut link = self.link.take();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { link.end("rollback").await });
        }
    }
}

const MISBOUND: &str = "arguments are bound for the database they go to";
