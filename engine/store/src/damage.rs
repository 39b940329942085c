//! Executions whose rows cannot be read. They are parked by number alone, so that they do not affect other executions.
//!
//! This file does not interpret events. It checks that the rows of an execution exist and fit together.

use crate::db_error::DbError;
use crate::executions::{CORRUPT, StoredRow, escape, nameless};
use crate::model::{ExecutionKey, TenantId};
use crate::sql::{Rows, Session, Statement};

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
