//! Questions to people. Each has one referee: a compare-and-set on its row (L9).

use cerebelum_history::ExecutionId;

use crate::fault::Fault;
use crate::hints::Moved;
use crate::sql::{Row, Rows, Statement};
use crate::store::{SqlStore, commit};
use crate::{Answered, ApprovalRow, ApprovalState, ExecutionKey, Incarnation, StoreError, TenantId, inbox};

/// More questions than anybody reads in one list.
const LISTED_MAX: u32 = 10_000;

/// Inserts questions. One that its own execution asks again stands again; an id of another execution is left alone.
pub(crate) static ASK: Statement = Statement::new(
    "insert into approvals (tenant_id, id, execution_no, call, request, requested_at, deadline, state)
    select r.tenant_id, r.id, r.execution_no, r.call, r.request, r.requested_at, r.deadline, r.state
    from {rows tenant_id:int id:text execution_no:int call:text request:text requested_at:int deadline:int state:int}
    where true
    on conflict (tenant_id, id) do update
    set call = excluded.call, request = excluded.request, requested_at = excluded.requested_at,
        deadline = excluded.deadline, state = excluded.state
    where approvals.execution_no = excluded.execution_no",
);

/// Closes questions that are locked and known to be open.
pub(crate) static CLOSE: Statement = Statement::new(
    "update approvals as a set state = r.state
    from {rows tenant_id:int id:text state:int}
    where a.tenant_id = r.tenant_id and a.id = r.id and a.state = 0",
);

/// See [`crate::Store::answer`].
pub(crate) async fn answer(
    store: &SqlStore,
    tenant: TenantId,
    id: &str,
    to: ApprovalState,
    message: &str,
) -> Result<Answered, Fault> {
    static COMPARE_AND_SET: Statement = Statement::new(
        "update approvals set state = $3
        where tenant_id = $1 and id = $2 and state = 0 and (deadline is null or deadline > {clock})
        returning execution_no",
    );
    static ASKED_BY: Statement =
        Statement::new("select id, owner from executions where tenant_id = $1 and execution_no = $2");
    // Locked: whoever is just answering it in time has the last word, not what was committed before.
    static ENDED: Statement =
        Statement::new("select state from approvals where tenant_id = $1 and id = $2 {postgres: for no key update}");
    let mut session = store.database.write().await?;
    let mut set = session.rows(&COMPARE_AND_SET, &[tenant.into(), id.into(), state_no(to).into()]).await?;
    let Some(set) = set.first_mut() else {
        let mut ended = session.rows(&ENDED, &[tenant.into(), id.into()]).await?;
        let Some(ended) = ended.first_mut() else { return Ok(Answered::Unknown) };
        return Ok(Answered::TooLate(match state_of(ended.int()?) {
            // Nobody has written it down yet, but its time is over.
            Some(ApprovalState::Open) => ApprovalState::TimedOut,
            Some(state) => state,
            None => return Err(corrupt(id).into()),
        }));
    };
    let no = set.int()?;
    let mut asked_by = session.rows(&ASKED_BY, &[tenant.into(), no.into()]).await?;
    let Some(asked_by) = asked_by.first_mut() else { return Ok(Answered::Unknown) };
    let (execution, owner) = (execution_id(asked_by)?, asked_by.opt_int()?.map(Incarnation));
    let mut rows = Rows::default();
    rows.push([0_i64.into(), tenant.into(), no.into(), message.into()]);
    session.run_of(&inbox::INSERT, &rows).await?;
    commit(session).await?;
    store.hints.tell([Moved { key: ExecutionKey { tenant, id: execution.clone() }, owner }]);
    Ok(Answered::Accepted(execution))
}

/// See [`crate::Store::approvals`].
pub(crate) async fn list(
    store: &SqlStore,
    tenant: TenantId,
    execution: Option<&ExecutionId>,
) -> Result<Vec<ApprovalRow>, Fault> {
    static OPEN: Statement = Statement::new(
        "select a.id, e.id, a.call, a.request, a.requested_at, a.deadline, a.state
        from approvals a join executions e on e.tenant_id = a.tenant_id and e.execution_no = a.execution_no
        where a.tenant_id = $1 and a.state = 0
        order by a.requested_at desc, a.id
        limit $2",
    );
    static OF_EXECUTION: Statement = Statement::new(
        "select a.id, e.id, a.call, a.request, a.requested_at, a.deadline, a.state
        from executions e join approvals a on a.tenant_id = e.tenant_id and a.execution_no = e.execution_no
        where e.tenant_id = $1 and e.id = $3
        order by a.requested_at desc, a.id
        limit $2",
    );
    let mut session = store.database.search().await?;
    let rows = match execution {
        None => session.rows(&OPEN, &[tenant.into(), LISTED_MAX.into()]).await?,
        Some(id) => session.rows(&OF_EXECUTION, &[tenant.into(), LISTED_MAX.into(), id.as_str().into()]).await?,
    };
    rows.into_iter().map(|mut row| read(&mut row)).collect()
}

/// See [`crate::Store::approval`].
pub(crate) async fn find(store: &SqlStore, tenant: TenantId, id: &str) -> Result<Option<ApprovalRow>, Fault> {
    static FIND: Statement = Statement::new(
        "select a.id, e.id, a.call, a.request, a.requested_at, a.deadline, a.state
        from approvals a join executions e on e.tenant_id = a.tenant_id and e.execution_no = a.execution_no
        where a.tenant_id = $1 and a.id = $2",
    );
    let mut session = store.database.read().await?;
    let mut rows = session.rows(&FIND, &[tenant.into(), id.into()]).await?;
    rows.first_mut().map(read).transpose()
}

fn read(row: &mut Row) -> Result<ApprovalRow, Fault> {
    let id = row.text()?;
    let execution = execution_id(row)?;
    let call = row.text()?.parse().map_err(|_| corrupt(&id))?;
    let (request, requested_at, deadline) = (row.text()?, row.at()?, row.opt_at()?);
    let state = state_of(row.int()?).ok_or_else(|| corrupt(&id))?;
    Ok(ApprovalRow { id, execution, call, request, requested_at, deadline, state })
}

fn execution_id(row: &mut Row) -> Result<ExecutionId, Fault> {
    let id = row.text()?;
    Ok(id.parse().map_err(|_| StoreError::Corrupt(format!("`{id}` in the table of executions is no id")))?)
}

fn corrupt(id: &str) -> StoreError {
    StoreError::Corrupt(format!("approval {id}: its row cannot be read"))
}

/// The number of a state in the database.
pub(crate) const fn state_no(state: ApprovalState) -> i64 {
    match state {
        ApprovalState::Open => 0,
        ApprovalState::Approved => 1,
        ApprovalState::Rejected => 2,
        ApprovalState::TimedOut => 3,
        ApprovalState::Withdrawn => 4,
    }
}

/// Whether this is the number of [`ApprovalState::Open`].
pub(crate) const fn is_open(no: i64) -> bool {
    no == state_no(ApprovalState::Open)
}

const fn state_of(no: i64) -> Option<ApprovalState> {
    match no {
        0 => Some(ApprovalState::Open),
        1 => Some(ApprovalState::Approved),
        2 => Some(ApprovalState::Rejected),
        3 => Some(ApprovalState::TimedOut),
        4 => Some(ApprovalState::Withdrawn),
        _ => None,
    }
}
