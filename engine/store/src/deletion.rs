//! The deletion of executions. An execution is gone with its row, by which readers find everything else. The rows of other
//! tables, of which there may be gigabytes, are deleted later ([`crate::remains`]).

use std::collections::BTreeMap;

use cerebelum_history::Timestamp;

use crate::database::Database;
use crate::db_error::{DbError, ErrorClass, cause, error_class};
use crate::model::TenantId;
use crate::sql::{Rows, Session, Statement, Value};
use crate::{remains, storage};

/// The most executions that cannot be deleted which one call steps over.
const FAILED_MAX: u32 = 100;

/// See [`crate::Store::delete_ended`].
pub(crate) async fn delete_ended(database: &Database, before: Timestamp, limit: u32) -> Result<u64, DbError> {
    match delete_some(database, before, (limit, 0)).await {
        // One of them cannot be deleted, and stays the first that is found: the others do not wait for it.
        Err(DbError::Database(error)) if error_class(&error) != ErrorClass::Transient => {
            delete_each(database, before, limit).await
        }
        deleted => deleted,
    }
}

/// Deletes executions one by one, and steps over those that cannot be deleted.
async fn delete_each(database: &Database, before: Timestamp, limit: u32) -> Result<u64, DbError> {
    let (mut deleted, mut failed, mut why) = (0, 0, String::new());
    while deleted < u64::from(limit) && failed < FAILED_MAX {
        match delete_some(database, before, (1, failed)).await {
            Ok(0) => break,
            Ok(count) => deleted += count,
            Err(DbError::Database(error)) if error_class(&error) != ErrorClass::Transient => {
                (failed, why) = (failed + 1, cause(&error));
            }
            Err(error) => return Err(error),
        }
    }
    if failed > 0 {
        tracing::warn!(failed, cause = why, "executions that have ended cannot be deleted: they stay");
    }
    Ok(deleted)
}

/// Deletes up to a number of executions that ended before this time, after the first ones, which are skipped.
async fn delete_some(database: &Database, before: Timestamp, (limit, skipped): (u32, u32)) -> Result<u64, DbError> {
    // This is the condition of the index `executions_ended`, word for word.
    static ENDED: Statement = Statement::new(
        "select execution_no, tenant_id from executions where ended_at is not null and ended_at < $1 and state <> 0
        order by ended_at limit $2 offset $3 {postgres: for update skip locked}",
    );
    let mut session = database.write().await?;
    let deleted = delete_found(&mut session, &ENDED, &[before.into(), limit.into(), skipped.into()]).await?;
    session.commit().await?;
    Ok(deleted)
}

/// Deletes the executions that a statement finds and locks, in a transaction that is short however much they have stored.
/// Returns their number.
pub(crate) async fn delete_found(
    session: &mut Session,
    statement: &'static Statement,
    values: &[Value<'_>],
) -> Result<u64, DbError> {
    // Lists look in this table first; an execution has few rows in it.
    static ATTRIBUTES: Statement = Statement::new(
        "delete from attributes where (tenant_id, execution_no) in (
            select r.tenant_id, r.execution_no from {rows execution_no:int tenant_id:int})",
    );
    // The number alone is unique: a damaged tenant keeps no execution from being deleted.
    static EXECUTIONS: Statement = Statement::new(
        "delete from executions where execution_no in (select r.execution_no from {rows execution_no:int})
        returning execution_no, tenant_id, bytes",
    );
    let (mut found, mut numbers) = (Rows::default(), Rows::default());
    for mut row in session.rows(statement, values).await? {
        let no = row.int()?;
        numbers.push([no.into()]);
        if let Some(tenant) = row.opt_int()? {
            found.push([no.into(), tenant.into()]);
        }
    }
    if numbers.is_empty() {
        return Ok(0);
    }
    session.run_of(&ATTRIBUTES, &found).await?;
    let (mut last, mut stored) = (0, BTreeMap::new());
    for mut row in session.rows_of(&EXECUTIONS, &numbers).await? {
        last = row.int()?;
        let Ok(tenant) = row.count() else { continue };
        *stored.entry(TenantId(tenant)).or_default() += storage::read_bytes(&mut row);
    }
    remains::note(session, &found).await?;
    storage::give_back(session, last, stored).await?;
    Ok(u64::try_from(numbers.len()).unwrap_or(u64::MAX))
}
