//! What goes wrong with a database, and what that means to the caller.

use sqlx::Error;

use crate::StoreError;

/// Why something inside the store did not succeed.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The database or the way to it failed.
    Database(Error),
    /// What the caller is to be told.
    Told(StoreError),
}

/// What a failure of the database allows to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    /// Nothing happened and the same may succeed in a moment: connection lost, lock not granted, disk full, deadlock.
    Passing,
    /// A constraint or a type refused what was to be written: the same will be refused again.
    Refused,
    /// The database file or cluster is damaged.
    Damaged,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Told(error)
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Told(error) => error,
            Fault::Database(error) => {
                tracing::debug!(%error, "the database failed");
                match severity(&error) {
                    Severity::Passing => Self::Unavailable(cause(&error)),
                    Severity::Refused => {
                        Self::Corrupt(format!("the database refused what breaks its rules: {}", cause(&error)))
                    }
                    Severity::Damaged => Self::Corrupt(format!("the database is damaged: {}", cause(&error))),
                }
            }
        }
    }
}

/// What a failure of the database allows to do next.
pub(crate) fn severity(error: &Error) -> Severity {
    match error {
        Error::Database(told) => match told.try_downcast_ref::<sqlx::postgres::PgDatabaseError>() {
            Some(postgres) => severity_of_state(postgres.code()),
            None => severity_of_sqlite(told.code().and_then(|code| code.parse().ok()).unwrap_or(0)),
        },
        Error::ColumnDecode { .. } | Error::Decode(_) | Error::Encode(_) | Error::TypeNotFound { .. } => {
            Severity::Refused
        }
        Error::RowNotFound | Error::ColumnIndexOutOfBounds { .. } | Error::ColumnNotFound(_) => Severity::Refused,
        _ => Severity::Passing,
    }
}

/// Whether the answer to a COMMIT leaves open what happened.
pub(crate) fn is_unknown(error: &Error) -> bool {
    match error {
        Error::Database(told) => match told.try_downcast_ref::<sqlx::postgres::PgDatabaseError>() {
            // A server that is told to stop may say so instead of answering the COMMIT it has just made.
            Some(postgres) => postgres.code().starts_with("57P") || postgres.code().starts_with("08"),
            None => false,
        },
        Error::Io(_) | Error::Protocol(_) | Error::WorkerCrashed | Error::Tls(_) => true,
        _ => false,
    }
}

/// A few words for the operator, without any statement in them.
pub(crate) fn cause(error: &Error) -> String {
    match error {
        Error::Database(told) => match (told.constraint(), told.code()) {
            (Some(constraint), _) => format!("constraint {constraint}"),
            (None, Some(code)) => format!("{} (code {code})", told.message().lines().next().unwrap_or_default()),
            (None, None) => told.message().lines().next().unwrap_or_default().to_owned(),
        },
        Error::Io(io) => io.to_string(),
        Error::PoolTimedOut => "no connection became free in time".into(),
        Error::PoolClosed => "the store is closed".into(),
        Error::WorkerCrashed => "its thread has ended".into(),
        other => other.to_string().lines().next().unwrap_or_default().to_owned(),
    }
}

fn severity_of_state(state: &str) -> Severity {
    match (&state[..2.min(state.len())], state) {
        // Integrity, data and syntax.
        ("23" | "22" | "42", _) => Severity::Refused,
        (_, "XX001" | "XX002") => Severity::Damaged,
        _ => Severity::Passing,
    }
}

fn severity_of_sqlite(code: i32) -> Severity {
    match code & 0xff {
        // SQLITE_CORRUPT, SQLITE_NOTADB
        11 | 26 => Severity::Damaged,
        // SQLITE_ERROR, SQLITE_TOOBIG, SQLITE_CONSTRAINT, SQLITE_MISMATCH, SQLITE_RANGE
        1 | 18 | 19 | 20 | 25 => Severity::Refused,
        _ => Severity::Passing,
    }
}
