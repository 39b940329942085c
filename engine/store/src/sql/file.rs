//! A SQLite file. Its statements run in the thread of the caller (decision 014).

use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool::managed::{Metrics, Object, RecycleError, RecycleResult};
use rusqlite::functions::FunctionFlags;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, OpenFlags, ToSql, params_from_iter};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::row::SqliteValue;
use super::{Row, STATEMENTS_MAX, Script, Value};
use crate::clock::SteadyClock;
use crate::db_error::Error;
use crate::file_lock::WatchedFile;
use crate::store_calls::tell_blocks;

/// The longest that SQLite waits for a reader or a checkpoint that is in its way.
const BUSY_TIMEOUT: Duration = Duration::from_secs(4);
/// A disk that takes longer than this is not waited for inline.
const WAITED_IN_PLACE_MAX: Duration = Duration::from_millis(1);

/// Opens connections to a file whose schema is up to date.
pub(crate) struct SqliteFile {
    pub(crate) file: Arc<WatchedFile>,
    pub(crate) clock: SteadyClock,
    /// Whether the connections are read-only.
    pub(crate) only_reads: bool,
}

/// A connection to the file.
pub(crate) struct Connection {
    sqlite: rusqlite::Connection,
    file: Arc<WatchedFile>,
    /// The duration of the last script.
    took: Duration,
}

impl SqliteFile {
    fn connect(&self) -> Result<Connection, Error> {
        // The file is not created: a deleted database must not come back empty.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        self.file.check()?;
        let sqlite = rusqlite::Connection::open_with_flags(self.file.path(), flags)?;
        let clock = self.clock.clone();
        // The function is not deterministic: the time may advance during a long statement.
        sqlite.create_scalar_function("steady_ms", 0, FunctionFlags::SQLITE_UTF8, move |_| {
            Ok(i64::try_from(clock.now().0).unwrap_or(i64::MAX))
        })?;
        sqlite.busy_timeout(BUSY_TIMEOUT)?;
        sqlite.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        sqlite.execute_batch(
            "pragma synchronous = full; pragma cache_size = -16384; pragma temp_store = memory;
            pragma journal_size_limit = 67108864",
        )?;
        sqlite.pragma_update(None, "query_only", self.only_reads)?;
        Ok(Connection { sqlite, file: self.file.clone(), took: Duration::ZERO })
    }
}

impl deadpool::managed::Manager for SqliteFile {
    type Type = Connection;
    type Error = Error;

    async fn create(&self) -> Result<Connection, Error> {
        Blocking::Offload.run(|| self.connect())
    }

    async fn recycle(&self, connection: &mut Connection, _: &Metrics) -> RecycleResult<Error> {
        match connection.sqlite.is_autocommit() {
            true => Ok(()),
            false => Err(RecycleError::message("its transaction could not be undone")),
        }
    }
}

/// Whether the other tasks of the thread are moved to another one while a statement runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blocking {
    /// No: the statement reads a few rows, and waking another thread would take longer.
    Inline,
    /// Yes: the statement waits for the disk or reads a lot.
    Offload,
}

impl Blocking {
    fn run<T>(self, work: impl FnOnce() -> T) -> T {
        if self == Self::Offload {
            tell_blocks();
        }
        match (self, Handle::try_current().map(|runtime| runtime.runtime_flavor())) {
            (Self::Offload, Ok(RuntimeFlavor::MultiThread)) => tokio::task::block_in_place(work),
            // On a runtime with one thread, there is no other thread for them.
            _ => work(),
        }
    }
}

/// A connection in use.
pub(crate) struct SqliteConn {
    pub(crate) connection: Object<SqliteFile>,
    pub(crate) pace: Blocking,
}

impl SqliteConn {
    /// Runs a statement and returns its rows.
    pub(super) fn fetch(&self, text: &str, values: &[Value<'_>]) -> Result<Vec<Row>, Error> {
        self.pace.run(|| self.connection.fetch(text, values))
    }

    /// Runs a script in the transaction that is under way.
    pub(super) fn run_script(&self, script: &Script<'_>) -> Result<Vec<Row>, Error> {
        self.pace.run(|| self.connection.run_parts(script))
    }

    /// Runs a statement and returns the number of rows that it changed.
    pub(super) fn execute(&self, text: &str, values: &[Value<'_>]) -> Result<u64, Error> {
        self.pace.run(|| {
            self.connection.fetch(text, values)?;
            Ok(self.connection.sqlite.changes())
        })
    }

    /// Runs a command that takes no argument.
    pub(super) fn execute_raw(&self, words: &str) -> Result<(), Error> {
        if words == "begin immediate" {
            self.connection.check_file()?;
        }
        self.fetch(words, &[])?;
        // A write to a file that is no longer this database is not acknowledged.
        if words == "commit" { self.connection.check_file() } else { Ok(()) }
    }
}

impl Connection {
    /// Checks that the path still leads to the file. If it does not, the acknowledged writes are moved from the log
    /// beside the file into the file itself, wherever that is now. A file that is put back is then complete.
    pub(crate) fn check_file(&self) -> Result<(), Error> {
        self.file.check().inspect_err(|_| {
            if let Err(error) = self.fetch("pragma wal_checkpoint(truncate)", &[]) {
                tracing::warn!(%error, "the database's log could not be written into the file that was moved");
            }
        })
    }

    /// Runs a script: each statement once for each of its rows, all in one transaction.
    ///
    /// The commit of a small script is waited for inline, as long as the disk is fast: moving the tasks to another
    /// thread would take longer. A lock that is held elsewhere is never waited for inline.
    ///
    /// # Errors
    /// If any statement failed or did not do what the script expects. Nothing has happened then.
    pub(crate) fn run(&mut self, script: &Script<'_>) -> Result<Vec<Row>, Error> {
        let began = Instant::now();
        let answer = match script.is_small() && self.took < WAITED_IN_PLACE_MAX {
            true => {
                self.sqlite.busy_timeout(Duration::ZERO)?;
                let answer = self.transact(script);
                self.sqlite.busy_timeout(BUSY_TIMEOUT)?;
                answer
            }
            false => Blocking::Offload.run(|| self.transact(script)),
        };
        self.took = began.elapsed();
        answer
    }

    fn transact(&self, script: &Script<'_>) -> Result<Vec<Row>, Error> {
        self.check_file()?;
        self.fetch("begin immediate", &[])?;
        let answer = self.run_parts(script).and_then(|answer| self.fetch("commit", &[]).map(|_| answer));
        if answer.is_err() {
            // The pool does not reuse a connection that is still in a transaction.
            let _ = self.fetch("rollback", &[]);
        }
        // A write to a file that is no longer this database is not acknowledged.
        answer.and_then(|answer| self.check_file().map(|()| answer))
    }

    /// Runs the statements of a script, in a transaction that is under way.
    fn run_parts(&self, script: &Script<'_>) -> Result<Vec<Row>, Error> {
        let mut answer = Vec::new();
        for part in script.parts() {
            let mut statement = self.sqlite.prepare_cached(part.statement.text_of_one())?;
            for values in part.rows.iter() {
                let mut touched = rows(&mut statement, values)?;
                if part.demand.exactly && touched.len() != 1 {
                    return Err(Error::NotAsExpected);
                }
                if part.demand.answers {
                    answer.append(&mut touched);
                }
            }
        }
        Ok(answer)
    }

    fn fetch(&self, text: &str, values: &[Value<'_>]) -> Result<Vec<Row>, Error> {
        rows(&mut self.sqlite.prepare_cached(text)?, values)
    }
}

fn rows(statement: &mut CachedStatement<'_>, values: &[Value<'_>]) -> Result<Vec<Row>, Error> {
    let columns = statement.column_count();
    let mut found = statement.query(params_from_iter(values))?;
    let mut rows = Vec::new();
    while let Some(row) = found.next()? {
        let values = (0..columns)
            .map(|column| Ok(SqliteValue::from(row.get_ref(column)?)))
            .collect::<Result<Vec<_>, Error>>()?;
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
