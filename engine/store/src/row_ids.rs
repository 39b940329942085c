//! Numbers of executions: given out before the row is written, and remembered while the execution is claimed here.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::ExecutionKey;
use crate::database::Database;
use crate::db_error::DbError;
use crate::sql::Statement;

/// The most numbers taken from a server at once.
const TAKEN_MAX: usize = 512;
/// Numbers that are older are not given out: lists are ordered by them, also where several nodes start executions.
const FRESH: Duration = Duration::from_secs(1);

/// The numbers at hand.
#[derive(Default)]
pub(crate) struct RowIds {
    free: tokio::sync::Mutex<Free>,
    known: Mutex<HashMap<ExecutionKey, i64>>,
}

/// What can be given out.
#[derive(Default)]
struct Free {
    /// Taken from a server.
    numbers: VecDeque<i64>,
    /// When, and how many.
    taken: Option<(Instant, usize)>,
    /// The next one of a file, which has one engine.
    next: Option<i64>,
}

impl RowIds {
    /// So many numbers that nobody else has, rising.
    pub(crate) async fn take(&self, database: &Database, count: usize) -> Result<Vec<i64>, DbError> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut free = self.free.lock().await;
        match database {
            Database::Sqlite { .. } => {
                let first = match free.next {
                    Some(next) => next,
                    None => last_used(database).await? + 1,
                };
                let next = first + i64::try_from(count).unwrap_or(i64::MAX);
                free.next = Some(next);
                Ok((first..next).collect())
            }
            Database::Postgres { .. } => {
                let (at, before) = free.taken.unwrap_or((Instant::now(), 0));
                let before = if at.elapsed() > FRESH { 0 } else { before };
                if before == 0 {
                    free.numbers.clear();
                }
                if free.numbers.len() < count {
                    // Whoever needs many soon needs more.
                    let more = (count - free.numbers.len()).max((before * 2).min(TAKEN_MAX));
                    let fetched = fetch(database, more).await?;
                    free.numbers.extend(fetched);
                    free.taken = Some((Instant::now(), more));
                }
                Ok(free.numbers.drain(..count).collect())
            }
        }
    }

    /// The number of an execution that is claimed here.
    pub(crate) fn of(&self, key: &ExecutionKey) -> Option<i64> {
        self.known().get(key).copied()
    }

    /// Executions are claimed here, and these are their numbers.
    pub(crate) fn remember(&self, claimed: impl IntoIterator<Item = (ExecutionKey, i64)>) {
        self.known().extend(claimed);
    }

    /// An execution is claimed here no longer.
    pub(crate) fn forget(&self, key: &ExecutionKey) {
        self.known().remove(key);
    }

    /// Nothing is claimed here.
    pub(crate) fn forget_all(&self) {
        self.known().clear();
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<ExecutionKey, i64>> {
        self.known.lock().expect("nobody panics with the numbers")
    }
}

/// The last number that was ever used in a file; AUTOINCREMENT keeps count.
async fn last_used(database: &Database) -> Result<i64, DbError> {
    static LAST: Statement =
        Statement::new("select coalesce(max(seq), 0) from sqlite_sequence where name = 'executions'");
    let mut rows = database.read().await?.rows(&LAST, &[]).await?;
    Ok(rows.first_mut().map_or(Ok(0), |row| row.int())?)
}

async fn fetch(database: &Database, count: usize) -> Result<Vec<i64>, DbError> {
    static FETCH: Statement = Statement::new(
        "select nextval(pg_get_serial_sequence('executions', 'execution_no')) from generate_series(1, $1)",
    );
    let mut rows = database.read().await?.rows(&FETCH, &[count.into()]).await?;
    Ok(rows.iter_mut().map(|row| row.int()).collect::<Result<_, _>>()?)
}
