//! Rows that cannot be read. An execution with such rows is parked by number alone, so that it does not affect other
//! executions. A list of anything else is served without them.
//!
//! This file does not interpret events. It checks that the rows of an execution exist and fit together.

use std::collections::HashSet;
use std::sync::Mutex;

use crate::db_error::{DbError, cause};
use crate::executions::{CORRUPT, StoredRow, escape, nameless};
use crate::model::{ExecutionKey, TenantId};
use crate::sql::{Row, Rows, Session, Statement};

/// The most damaged rows of lists that the log names. It says nothing of further ones.
const ROWS_NAMED_MAX: usize = 1_000;

/// The kind of the rows of a list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowKind {
    /// The word for one of them, with its article.
    pub(crate) word: &'static str,
    /// The number of columns at the beginning that name a row.
    pub(crate) key_columns: usize,
}

impl RowKind {
    pub(crate) const fn new(word: &'static str, key_columns: usize) -> Self {
        Self { word, key_columns }
    }

    /// What can be read of these rows, in order. A row that cannot be read does not hide the others: it is left out, and
    /// the log names it.
    pub(crate) fn readable<T>(self, rows: Vec<Row>, mut read: impl FnMut(&mut Row) -> Result<T, DbError>) -> Vec<T> {
        let mut found = Vec::with_capacity(rows.len());
        for mut row in rows {
            let key = row.glimpse(self.key_columns);
            match read(&mut row) {
                Ok(one) => found.push(one),
                Err(error) => self.left_out(&key, error),
            }
        }
        found
    }

    /// Logs that a row was left out, once for each row: lists are read again and again.
    pub(crate) fn left_out(self, key: &str, error: DbError) {
        static NAMED: Mutex<Option<HashSet<(&'static str, String)>>> = Mutex::new(None);
        let mut named = NAMED.lock().expect("no thread panics while it has the names of rows");
        let named = named.get_or_insert_default();
        if named.len() < ROWS_NAMED_MAX && named.insert((self.word, key.to_owned())) {
            let cause = match error {
                DbError::Store(error) => error.to_string(),
                DbError::Database(error) => cause(&error),
            };
            tracing::warn!(key, cause, "the row of {} cannot be read: it is not listed", self.word);
        }
    }
}

/// An execution that must not be run.
#[derive(Debug, Clone)]
pub(crate) struct Damaged {
    pub(crate) no: i64,
    /// The key by which operators can refer to it: its own, or the one that it is given.
    key: ExecutionKey,
    pub(crate) what: String,
}

impl Damaged {
    /// The damage of an execution, if it has any.
    pub(crate) fn of(stored: &StoredRow) -> Option<Self> {
        let what = stored.damage.clone()?;
        Some(Self { no: stored.no, key: stored.head.key.clone(), what })
    }
}

/// Parks executions, whichever node has claimed them. An execution without a valid id or tenant is given one, so that
/// it can be ended and removed.
pub(crate) async fn park(session: &mut Session, damaged: &[Damaged]) -> Result<(), DbError> {
    // The statement changes only what readers need to find the execution. The damage itself stays as it is, for a later
    // repair.
    static PARK: Statement = Statement::new(
        "update executions
        set parked = r.reason, status = 'parked', owner = null, id = coalesce(r.id, executions.id),
            tenant_id = case when exists (select 1 from tenants t where t.tenant_id = executions.tenant_id)
                then executions.tenant_id else r.tenant_id end
        from {rows execution_no:int reason:text id:text tenant_id:int}
        where executions.execution_no = r.execution_no and coalesce(executions.state, 0) not in (1, 2, 3)",
    );
    let mut rows = Rows::default();
    for Damaged { no, key, what } in damaged {
        let id = Some(key.id.as_str().to_owned()).filter(|_| key.id == nameless(*no));
        let reason = escape(&format!("{CORRUPT}{what}"));
        rows.push([(*no).into(), reason.into(), id.into(), TenantId::DEFAULT.into()]);
    }
    session.run_of(&PARK, &rows).await?;
    Ok(())
}

/// Logs that each of them is parked.
pub(crate) fn tell(damaged: &[Damaged]) {
    for Damaged { key, what, .. } in damaged {
        tracing::error!(execution = %key, reason = format!("{CORRUPT}{what}"), "parked");
    }
}

#[cfg(test)]
mod tests {
    use crate::State;

    #[test]
    fn what_is_open_is_told_from_what_has_ended() {
        let ended = [State::Completed, State::Failed, State::Cancelled].map(crate::executions::state_no);
        assert_eq!(ended, [1, 2, 3], "the statements above name the states that have ended");
    }
}
