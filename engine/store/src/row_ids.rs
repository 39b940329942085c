//! Numbers of executions. They are allocated before the row is written, and remembered while the execution is claimed
//! here.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::database::Database;
use crate::db_error::DbError;
use crate::model::ExecutionKey;
use crate::sql::Statement;

/// The most numbers taken from a server at once.
const TAKEN_MAX: usize = 512;
/// Older numbers are not used any more: lists are ordered by number, even where several nodes start executions.
const FRESH: Duration = Duration::from_secs(1);

/// Allocated numbers, and the numbers of claimed executions.
#[derive(Default)]
pub(crate) struct RowIds {
    free: tokio::sync::Mutex<Free>,
    known: Mutex<HashMap<ExecutionKey, i64>>,
}

/// Numbers that can be allocated.
#[derive(Default)]
struct Free {
    /// Numbers that were fetched from a server.
    numbers: VecDeque<i64>,
    /// The time of the last fetch, and how many numbers it fetched.
    taken: Option<(Instant, usize)>,
    /// The next number of a file, which has only one engine.
    next: Option<i64>,
}

impl RowIds {
    /// Allocates `count` unique numbers in rising order.
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
                    // A node that needs many numbers will soon need more.
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

    /// Remembers the numbers of executions that are claimed here.
    pub(crate) fn remember(&self, claimed: impl IntoIterator<Item = (ExecutionKey, i64)>) {
        self.known().extend(claimed);
    }

    /// Forgets an execution that is no longer claimed here.
    pub(crate) fn forget(&self, key: &ExecutionKey) {
        self.known().remove(key);
    }

    /// Forgets all executions, because none is claimed here.
    pub(crate) fn forget_all(&self) {
        self.known().clear();
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<ExecutionKey, i64>> {
        self.known.lock().expect("nobody panics with the numbers")
    }
}

/// The last number that was ever used in a file, as AUTOINCREMENT keeps it.
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
