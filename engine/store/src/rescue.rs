//! What people do to executions from outside: reopen, unpark, delete.

use crate::fault::Fault;
use crate::hints::Moved;
use crate::sql::{Rows, Session, Statement};
use crate::store::{SqlStore, commit};
use crate::{ExecutionKey, Incarnation, State, heads, inbox};

/// See [`crate::Store::reopen`].
pub(crate) async fn reopen(store: &SqlStore, key: &ExecutionKey, message: &str) -> Result<bool, Fault> {
    static REOPEN: Statement = Statement::new(
        "update executions set state = 0, ended_at = null, parked = null, status = 'running'
        where tenant_id = $1 and id = $2 and state = $3
        returning execution_no",
    );
    let mut session = store.database.write().await?;
    let values = [key.tenant.into(), key.id.as_str().into(), heads::state_no(State::Failed).into()];
    let mut reopened = session.rows(&REOPEN, &values).await?;
    let Some(row) = reopened.first_mut() else { return Ok(false) };
    let mut rows = Rows::default();
    rows.push([0_i64.into(), key.tenant.into(), row.int()?.into(), message.into()]);
    session.run_of(&inbox::INSERT, &rows).await?;
    commit(session).await?;
    store.hints.tell([Moved { key: key.clone(), owner: None }]);
    Ok(true)
}

/// See [`crate::Store::unpark`].
pub(crate) async fn unpark(store: &SqlStore, key: &ExecutionKey) -> Result<bool, Fault> {
    // What is not settled is due at once.
    static UNPARK: Statement = Statement::new(
        "update executions set parked = null, settled = 0, status = 'running'
        where tenant_id = $1 and id = $2 and state = 0 and parked is not null
        returning owner",
    );
    let mut session = store.database.write().await?;
    let mut unparked = session.rows(&UNPARK, &[key.tenant.into(), key.id.as_str().into()]).await?;
    let Some(row) = unparked.first_mut() else { return Ok(false) };
    let owner = row.opt_int()?.map(Incarnation);
    commit(session).await?;
    store.hints.tell([Moved { key: key.clone(), owner }]);
    Ok(true)
}

/// See [`crate::Store::delete`].
pub(crate) async fn delete(store: &SqlStore, key: &ExecutionKey) -> Result<bool, Fault> {
    static ENDED: Statement = Statement::new(
        "select execution_no from executions where tenant_id = $1 and id = $2 and state <> 0 {postgres: for update}",
    );
    let mut session = store.database.write().await?;
    let mut ended = session.rows(&ENDED, &[key.tenant.into(), key.id.as_str().into()]).await?;
    let Some(row) = ended.first_mut() else { return Ok(false) };
    let no = row.int()?;
    delete_all(&mut session, key, no).await?;
    commit(session).await?;
    Ok(true)
}

/// No foreign keys: they would cost each insertion a look-up to make this one function shorter.
async fn delete_all(session: &mut Session, key: &ExecutionKey, no: i64) -> Result<(), Fault> {
    macro_rules! delete_from {
        ($table:literal) => {{
            static DELETE: Statement =
                Statement::new(concat!("delete from ", $table, " where tenant_id = $1 and execution_no = $2"));
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
        session.run(statement, &[key.tenant.into(), no.into()]).await?;
    }
    Ok(())
}
