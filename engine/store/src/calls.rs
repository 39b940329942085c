//! Open calls as state (L13).

use crate::sql::Statement;

/// Inserts calls, or writes their states anew.
pub(crate) static UPSERT: Statement = Statement::new(
    "insert into calls (tenant_id, execution_no, call, state)
    select r.tenant_id, r.execution_no, r.call, r.state
    from {rows tenant_id:int execution_no:int call:text state:text}
    where true
    on conflict (tenant_id, execution_no, call) do update set state = excluded.state",
);

/// Removes calls that are open no more.
pub(crate) static DELETE: Statement = Statement::new(
    "delete from calls
    where (tenant_id, execution_no, call) in (
        select r.tenant_id, r.execution_no, r.call from {rows tenant_id:int execution_no:int call:text})",
);
