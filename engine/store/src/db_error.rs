//! Errors of a database, and what they mean to the caller.

use crate::error::StoreError;

/// An error of a database or of the connection to it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error(transparent)]
    Postgres(#[from] sqlx::Error),
    /// All connections are in use.
    #[error("no connection became free in time")]
    NoneFree,
    /// The data is not what was written.
    #[error("{0}")]
    Unexpected(&'static str),
    /// A statement did not change the rows that it has to change.
    #[error("the rows are not as the statement expects")]
    NotAsExpected,
    /// The database file was moved, replaced or deleted while it was open.
    #[error(
        "the database file `{0}` was moved, replaced or deleted while the engine runs, so nothing more is written: \
         stop the engine, put the file back, and start it again"
    )]
    FileGone(String),
}

/// Why an operation inside the store failed.
#[derive(Debug)]
pub(crate) enum DbError {
    /// The database or the way to it failed.
    Database(Error),
    /// An error that is reported to the caller as it is.
    Store(StoreError),
}

/// The class of a database error, which decides what the caller may do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorClass {
    /// Nothing happened, and the same operation may succeed in a moment: connection lost, lock not granted, disk full,
    /// deadlock. Only errors that are known to be temporary belong here.
    Transient,
    /// Nothing happened, and it is not known whether the same operation can ever succeed: too large, too slow, out of
    /// memory, or an unknown error. A smaller operation may succeed.
    Rejected,
    /// A constraint or a type does not allow the write: it would be refused again.
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
    fn from(error: DbError) -> Self {
        match error {
            DbError::Store(error) => error,
            DbError::Database(error @ Error::FileGone(_)) => Self::Unusable(error.to_string()),
            DbError::Database(error) => {
                tracing::debug!(%error, "the database failed");
                let corrupt = |what: &str| {
                    tracing::error!(cause = cause(&error), "{what}");
                    Self::Corrupt(format!("{what}, and the engine's log says how"))
                };
                match error_class(&error) {
                    ErrorClass::Transient => Self::Unavailable(cause(&error)),
                    ErrorClass::Rejected => Self::Rejected(cause(&error)),
                    ErrorClass::Refused => corrupt("the database refused what breaks its rules"),
                    ErrorClass::Damaged => corrupt("the database is damaged"),
                }
            }
        }
    }
}

/// The class of an error.
pub(crate) fn error_class(error: &Error) -> ErrorClass {
    match error {
        Error::Sqlite(rusqlite::Error::SqliteFailure(run, _)) => class_of_sqlite(run.extended_code),
        Error::Sqlite(_) | Error::Unexpected(_) | Error::NotAsExpected | Error::FileGone(_) => ErrorClass::Refused,
        Error::NoneFree => ErrorClass::Transient,
        Error::Postgres(error) => match error {
            sqlx::Error::Database(_) => class_of_state(state(error).unwrap_or_default()),
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

/// Whether this answer to a COMMIT leaves it open whether the transaction was committed.
pub(crate) fn is_unknown(error: &Error) -> bool {
    let Error::Postgres(error) = error else { return false };
    match error {
        // A server that is shutting down may report that instead of answering the COMMIT that it has just completed.
        sqlx::Error::Database(_) => {
            state(error).is_some_and(|state| state.starts_with("57P") || state.starts_with("08"))
        }
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed | sqlx::Error::Tls(_) => true,
        _ => false,
    }
}

/// A short cause for the operator, without any SQL in it.
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

/// The SQLSTATE of an error from PostgreSQL.
pub(crate) fn state(error: &sqlx::Error) -> Option<&str> {
    let sqlx::Error::Database(run) = error else { return None };
    run.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().map(sqlx::postgres::PgDatabaseError::code)
}

fn class_of_state(state: &str) -> ErrorClass {
    match (&state[..2.min(state.len())], state) {
        // Integrity, data and syntax errors.
        ("23" | "22" | "42", _) => ErrorClass::Refused,
        (_, "XX001" | "XX002") => ErrorClass::Damaged,
        // Connection errors, a login or a database that the server does not know (a person changed them under the engine),
        // transactions rolled back in favour of others, errors of the server's operating system, a server that shuts
        // down.
        ("08" | "28" | "3D" | "40" | "58", _) | (_, "57P01" | "57P02" | "57P03" | "57P05") => ErrorClass::Transient,
        // Disk full, too many connections, a lock not granted in time, a session that was idle for too long, a server
        // that became read-only because another one was promoted.
        (_, "53100" | "53300" | "55P03" | "55006" | "25P03" | "25006") => ErrorClass::Transient,
        _ => ErrorClass::Rejected,
    }
}

fn class_of_sqlite(code: i32) -> ErrorClass {
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
