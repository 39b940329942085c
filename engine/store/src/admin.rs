//! Actions of operators on executions: reopen, unpark, delete.

use cerebelum_history::Timestamp;

use crate::db_error::DbError;
use crate::hints::InboxNotice;
use crate::sql::{Rows, Session, Statement, Value};
use crate::store::SqlStore;
use crate::{ExecutionKey, Incarnation, State, executions, inbox};

/// See [`crate::Store::reopen`].
pub(crate) async fn reopen(store: &SqlStore, key: &ExecutionKey, message: &str) -> Result<bool, DbError> {
    static REOPEN: Statement = Statement::new(
        "update executions set state = 0, ended_at = null, parked = null, status = 'running'
        where tenant_id = $1 and id = $2 and state = $3
        returning execution_no",
    );
    let mut session = store.database.write().await?;
    let values = [key.tenant.into(), key.id.as_str().into(), executions::state_no(State::Failed).into()];
    let mut reopened = session.rows(&REOPEN, &values).await?;
    let Some(row) = reopened.first_mut() else { return Ok(false) };
    inbox::insert(&mut session, key.tenant, row.int()?, message).await?;
    session.commit().await?;
    store.hints.tell([InboxNotice { key: key.clone(), owner: None }]);
    Ok(true)
}

/// See [`crate::Store::unpark`].
pub(crate) async fn unpark(store: &SqlStore, key: &ExecutionKey) -> Result<bool, DbError> {
    // An execution that is not settled is due at once.
    static UNPARK: Statement = Statement::new(
        "update executions set parked = null, settled = 0, status = 'running', crashes = null
        where tenant_id = $1 and id = $2 and state = 0 and parked is not null
        returning owner",
    );
    let mut session = store.database.write().await?;
    let mut unparked = session.rows(&UNPARK, &[key.tenant.into(), key.id.as_str().into()]).await?;
    let Some(row) = unparked.first_mut() else { return Ok(false) };
    let owner = row.opt_int()?.map(Incarnation);
    session.commit().await?;
    store.hints.tell([InboxNotice { key: key.clone(), owner }]);
    Ok(true)
}

/// See [`crate::Store::delete`].
pub(crate) async fn delete(store: &SqlStore, key: &ExecutionKey) -> Result<bool, DbError> {
    static ENDED: Statement = Statement::new(
        "select execution_no, tenant_id from executions where tenant_id = $1 and id = $2 and state <> 0 {postgres: for update}",
    );
    Ok(delete_found(store, &ENDED, &[key.tenant.into(), key.id.as_str().into()]).await? > 0)
}

/// See [`crate::Store::delete_ended`].
pub(crate) async fn delete_ended(store: &SqlStore, before: Timestamp, limit: u32) -> Result<u64, DbError> {
    // This is the condition of the index `executions_ended`, word for word.
    static ENDED: Statement = Statement::new(
        "select execution_no, tenant_id from executions where ended_at is not null and ended_at < $1 and state <> 0
        order by ended_at limit $2 {postgres: for update skip locked}",
    );
    delete_found(store, &ENDED, &[before.into(), limit.into()]).await
}

/// Deletes the executions that a statement finds and locks. Returns their number.
async fn delete_found(store: &SqlStore, statement: &'static Statement, values: &[Value<'_>]) -> Result<u64, DbError> {
    let mut session = store.database.write().await?;
    let mut found = Rows::default();
    for mut row in session.rows(statement, values).await? {
        found.push([row.int()?.into(), row.int()?.into()]);
    }
    let count = found.len();
    if count == 0 {
        session.rollback().await;
        return Ok(0);
    }
    delete_all(&mut session, &found).await?;
    session.commit().await?;
    Ok(u64::try_from(count).unwrap_or(u64::MAX))
}

/// There are no foreign keys: they would cost each insertion a look-up, only to make this one function shorter.
async fn delete_all(session: &mut Session, executions: &Rows<'_>) -> Result<(), DbError> {
    macro_rules! delete_from {
        ($table:literal) => {{
            static DELETE: Statement = Statement::new(concat!(
                "delete from ",
                $table,
                " where (tenant_id, execution_no) in (
                    select r.tenant_id, r.execution_no from {rows execution_no:int tenant_id:int})"
            ));
            &DELETE
        }};
    }
    let statements = [
        delete_from!("history"),
        delete_from!("calls"),
        delete_from!("inbox"),
        delete_from!("approvals"),
        delete_from!("logs"),
        delete_from!("progress"),
        delete_from!("attributes"),
        delete_from!("executions"),
    ];
    for statement in statements {
        session.run_of(statement, executions).await?;
    }
    Ok(())
}
