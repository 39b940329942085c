//! Open calls, stored as state (L13).

use crate::db_error::{DbError, Error};
use crate::model::CallRow;
use crate::sql::{Row, Rows, Session, Statement};

/// Inserts calls, or overwrites their states.
pub(crate) static UPSERT: Statement = Statement::new(
    "insert into calls (tenant_id, execution_no, call, state)
    select r.tenant_id, r.execution_no, r.call, r.state
    from {rows tenant_id:int execution_no:int call:text state:text}
    where true
    on conflict (tenant_id, execution_no, call) do update set state = excluded.state",
);

/// Removes calls that are no longer open.
pub(crate) static DELETE: Statement = Statement::new(
    "delete from calls
    where (tenant_id, execution_no, call) in (
        select r.tenant_id, r.execution_no, r.call from {rows tenant_id:int execution_no:int call:text})",
);

/// The open calls of executions, in order of their names. Each comes with the number of its execution; a call that
/// cannot be read comes as the reason.
pub(crate) async fn of(
    session: &mut Session,
    executions: &Rows<'_>,
) -> Result<Vec<(i64, Result<CallRow, String>)>, DbError> {
    static OF: Statement = Statement::new(
        "select c.execution_no, c.call, c.state
        from {rows tenant_id:int execution_no:int}
        join calls c on c.tenant_id = r.tenant_id and c.execution_no = r.execution_no
        order by c.call",
    );
    let mut calls = Vec::new();
    for mut row in session.rows_of(&OF, executions).await? {
        calls.push((row.int()?, read(&mut row)));
    }
    Ok(calls)
}

/// The name and state of an open call, or why they cannot be read.
pub(crate) fn read(row: &mut Row) -> Result<CallRow, String> {
    let damaged = |_: Error| "the name of an open call cannot be read".to_owned();
    let name = row.text().map_err(damaged)?;
    let parsed = name.parse().map_err(|_| format!("`{}` names no open call", name.escape_debug()));
    let state = row.text().map_err(|_| format!("open call {} cannot be read", name.escape_debug()));
    Ok(CallRow { name: parsed?, state: state? })
}
