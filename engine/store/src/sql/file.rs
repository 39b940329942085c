//! A SQLite file: its statements run in the thread that asks for them (decision 014).

use std::path::PathBuf;
use std::time::Duration;

use deadpool::managed::{Metrics, Object, RecycleError, RecycleResult};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, ToSql, params_from_iter};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::{Row, Script, Value};
use crate::fault::Error;

/// How long SQLite waits for a reader or a checkpoint in its way.
const BUSY_TIMEOUT: Duration = Duration::from_secs(4);
/// More texts of statements than there are.
const STATEMENTS_MAX: usize = 512;

/// Opens connections to a file that has its schema.
pub(crate) struct SqliteFile {
    pub(crate) path: PathBuf,
    /// Whether they refuse to write.
    pub(crate) only_reads: bool,
}

impl SqliteFile {
    fn connect(&self) -> Result<Connection, Error> {
        let connection = Connection::open(&self.path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        connection.execute_batch(
            "pragma synchronous = full; pragma cache_size = -16384; pragma temp_store = memory;
            pragma journal_size_limit = 67108864",
        )?;
        connection.pragma_update(None, "query_only", self.only_reads)?;
        Ok(connection)
    }
}

impl deadpool::managed::Manager for SqliteFile {
    type Type = Connection;
    type Error = Error;

    async fn create(&self) -> Result<Connection, Error> {
        Pace::Long.run(|| self.connect())
    }

    async fn recycle(&self, connection: &mut Connection, _: &Metrics) -> RecycleResult<Error> {
        match connection.is_autocommit() {
            true => Ok(()),
            false => Err(RecycleError::message("its transaction could not be undone")),
        }
    }
}

/// Whether the other tasks of a thread go on in another one while a statement runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// No: it looks at a few rows, and to wake another thread would take longer.
    Quick,
    /// Yes: it waits for the disk, or reads much.
    Long,
}

impl Pace {
    fn run<T>(self, work: impl FnOnce() -> T) -> T {
        match (self, Handle::try_current().map(|runtime| runtime.runtime_flavor())) {
            (Self::Long, Ok(RuntimeFlavor::MultiThread)) => tokio::task::block_in_place(work),
            // A runtime of one thread has nobody to go on.
            _ => work(),
        }
    }
}

/// A connection in use.
pub(crate) struct Open {
    pub(crate) connection: Object<SqliteFile>,
    pub(crate) pace: Pace,
}

impl Open {
    /// Runs a statement and returns its rows.
    pub(super) fn fetch(&self, text: &str, values: &[Value<'_>]) -> Result<Vec<Row>, Error> {
        self.pace.run(|| rows(&mut self.connection.prepare_cached(text)?, values))
    }

    /// Runs a statement and returns how many rows it touched.
    pub(super) fn execute(&self, text: &str, values: &[Value<'_>]) -> Result<u64, Error> {
        self.pace.run(|| {
            rows(&mut self.connection.prepare_cached(text)?, values)?;
            Ok(self.connection.changes())
        })
    }

    /// Runs words that take no argument.
    pub(super) fn say(&self, words: &str) -> Result<(), Error> {
        self.fetch(words, &[]).map(drop)
    }

    /// Runs a script: each statement once for each of its rows, in one transaction.
    ///
    /// # Errors
    /// When anything failed or was not as expected. Nothing has happened then.
    pub(crate) fn run(connection: Object<SqliteFile>, script: &Script<'_>) -> Result<Vec<Row>, Error> {
        // Of an execution that writes alone; its commit is waited for here, as there is nobody else to go on with.
        let pace = if script.is_of_single_rows() { Pace::Quick } else { Pace::Long };
        pace.run(|| {
            let open = Self { connection, pace: Pace::Quick };
            open.say("begin immediate")?;
            let answer = run_parts(&open.connection, script).and_then(|answer| open.say("commit").map(|()| answer));
            if answer.is_err() {
                // The pool does not lend again what is still in a transaction.
                let _ = open.say("rollback");
            }
            answer
        })
    }
}

fn run_parts(connection: &Connection, script: &Script<'_>) -> Result<Vec<Row>, Error> {
    let mut answer = Vec::new();
    for part in script.parts() {
        let mut statement = connection.prepare_cached(part.statement.text_of_one())?;
        for values in part.rows.iter() {
            let mut touched = rows(&mut statement, values)?;
            if part.demand.exactly && touched.len() != 1 {
                return Err(Error::Unexpected("a row that was expected is not there"));
            }
            if part.demand.answers {
                answer.append(&mut touched);
            }
        }
    }
    Ok(answer)
}

fn rows(statement: &mut CachedStatement<'_>, values: &[Value<'_>]) -> Result<Vec<Row>, Error> {
    let columns = statement.column_count();
    let mut found = statement.query(params_from_iter(values))?;
    let mut rows = Vec::new();
    while let Some(row) = found.next()? {
        let values = (0..columns).map(|column| row.get(column)).collect::<Result<Vec<_>, _>>()?;
        rows.push(Row::from(values));
    }
    Ok(rows)
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Int(int) => int.map_or(ValueRef::Null, ValueRef::Integer),
            Self::Text(text) => text.as_deref().map_or(ValueRef::Null, |text| ValueRef::Text(text.as_bytes())),
            Self::Bytes(bytes) => bytes.map_or(ValueRef::Null, ValueRef::Blob),
        }))
    }
}
