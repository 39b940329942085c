//! What goes wrong with a database, and what that means to the caller.

use crate::StoreError;

/// What a database, or the way to it, answers when something fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error(transparent)]
    Postgres(#[from] sqlx::Error),
    /// All connections are in use.
    #[error("no connection became free in time")]
    NoneFree,
    /// What was found is not what was written.
    #[error("{0}")]
    Unexpected(&'static str),
    /// The database file was moved, replaced or deleted while it was open.
    #[error(
        "the database file `{0}` was moved, replaced or deleted while the engine runs, so nothing more is written: \
         stop the engine, put the file back, and start it again"
    )]
    FileGone(String),
}

/// Why something inside the store did not succeed.
#[derive(Debug)]
pub(crate) enum DbError {
    /// The database or the way to it failed.
    Database(Error),
    /// What the caller is to be told.
    Store(StoreError),
}

/// What a failure of the database allows to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorClass {
    /// Nothing happened and the same may succeed in a moment: connection lost, lock not granted, disk full, deadlock. Only
    /// what is known to pass counts as passing.
    Transient,
    /// Nothing happened, and nobody knows whether the same will ever succeed: too large, too slow, out of memory, or
    /// nothing that is known. Less at once may succeed.
    Rejected,
    /// A constraint or a type refused what was to be written: the same will be refused again.
    Refused,
    /// The database file or cluster is damaged.
    Damaged,
}

impl<E: Into<Error>> From<E> for DbError {
    fn from(error: E) -> Self {
        Self::Database(error.into())
    }
}

impl From<StoreError> for DbError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<DbError> for StoreError {
    fn from(fault: DbError) -> Self {
        match fault {
            DbError::Store(error) => error,
            DbError::Database(error @ Error::FileGone(_)) => Self::Unusable(error.to_string()),
            DbError::Database(error) => {
                tracing::debug!(%error, "the database failed");
                let run = |what: &str| {
                    tracing::error!(cause = cause(&error), "{what}");
                    Self::Corrupt(format!("{what}, and the engine's log says how"))
                };
                match severity(&error) {
                    ErrorClass::Transient => Self::Unavailable(cause(&error)),
                    ErrorClass::Rejected => Self::Rejected(cause(&error)),
                    ErrorClass::Refused => run("the database refused what breaks its rules"),
                    ErrorClass::Damaged => run("the database is damaged"),
                }
            }
        }
    }
}

/// What a failure of the database allows to do next.
pub(crate) fn severity(error: &Error) -> ErrorClass {
    match error {
        Error::Sqlite(rusqlite::Error::SqliteFailure(run, _)) => severity_of_sqlite(run.extended_code),
        Error::Sqlite(_) | Error::Unexpected(_) | Error::FileGone(_) => ErrorClass::Refused,
        Error::NoneFree => ErrorClass::Transient,
        Error::Postgres(error) => match error {
            sqlx::Error::Database(_) => severity_of_state(state(error).unwrap_or_default()),
            sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::Decode(_)
            | sqlx::Error::Encode(_)
            | sqlx::Error::TypeNotFound { .. }
            | sqlx::Error::RowNotFound
            | sqlx::Error::ColumnIndexOutOfBounds { .. }
            | sqlx::Error::ColumnNotFound(_) => ErrorClass::Refused,
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => ErrorClass::Transient,
            _ => ErrorClass::Rejected,
        },
    }
}

/// Whether the answer to a COMMIT leaves open what happened.
pub(crate) fn is_unknown(error: &Error) -> bool {
    let Error::Postgres(error) = error else { return false };
    match error {
        // A server that is told to stop may say so instead of answering the COMMIT it has just made.
        sqlx::Error::Database(_) => {
            state(error).is_some_and(|state| state.starts_with("57P") || state.starts_with("08"))
        }
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed | sqlx::Error::Tls(_) => true,
        _ => false,
    }
}

/// A few words for the operator, without any statement in them.
pub(crate) fn cause(error: &Error) -> String {
    let first_line = |text: &str| text.lines().next().unwrap_or_default().to_owned();
    match error {
        Error::Sqlite(rusqlite::Error::SqliteFailure(run, message)) => {
            let message = message.as_deref().map_or_else(|| run.to_string(), first_line);
            format!("{message} (code {})", run.extended_code)
        }
        Error::Postgres(sqlx::Error::Database(run)) => match (run.constraint(), run.code()) {
            (Some(constraint), _) => format!("constraint {constraint}"),
            (None, Some(code)) => format!("{} (code {code})", first_line(run.message())),
            (None, None) => first_line(run.message()),
        },
        Error::Postgres(sqlx::Error::Io(io)) => io.to_string(),
        other => first_line(&other.to_string()),
    }
}

/// The SQLSTATE of what PostgreSQL said.
pub(crate) fn state(error: &sqlx::Error) -> Option<&str> {
    let sqlx::Error::Database(run) = error else { return None };
    run.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().map(sqlx::postgres::PgDatabaseError::code)
}

fn severity_of_state(state: &str) -> ErrorClass {
    match (&state[..2.min(state.len())], state) {
        // Integrity, data and syntax.
        ("23" | "22" | "42", _) => ErrorClass::Refused,
        (_, "XX001" | "XX002") => ErrorClass::Damaged,
        // Connections, transactions rolled back for others' sake, the system around the server, a server that stops.
        ("08" | "40" | "58", _) | (_, "57P01" | "57P02" | "57P03" | "57P05") => ErrorClass::Transient,
        // Disk full, too many connections; a lock not granted in time, a session that was idle for too long; a server
        // that only reads, because another one has taken its part.
        (_, "53100" | "53300" | "55P03" | "55006" | "25P03" | "25006") => ErrorClass::Transient,
        _ => ErrorClass::Rejected,
    }
}

fn severity_of_sqlite(code: i32) -> ErrorClass {
    match code & 0xff {
        // SQLITE_CORRUPT, SQLITE_NOTADB
        11 | 26 => ErrorClass::Damaged,
        // SQLITE_ERROR, SQLITE_TOOBIG, SQLITE_CONSTRAINT, SQLITE_MISMATCH, SQLITE_RANGE
        1 | 18 | 19 | 20 | 25 => ErrorClass::Refused,
        // SQLITE_BUSY, _LOCKED, _READONLY, _INTERRUPT, _IOERR, _FULL, _CANTOPEN, _PROTOCOL, _SCHEMA
        5 | 6 | 8 | 9 | 10 | 13 | 14 | 15 | 17 => ErrorClass::Transient,
        _ => ErrorClass::Rejected,
    }
}
