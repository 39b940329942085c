//! Executions whose rows cannot be read. They are parked by number alone, so that they do not affect other executions.
//!
//! This file does not interpret events. It checks that the rows of an execution exist and fit together.

use cerebelum_history::planted;

use crate::db_error::DbError;
use crate::executions::{CORRUPT, StoredRow, ends, escape, nameless};
use crate::hints::InboxNotice;
use crate::sql::{Rows, Session, Statement};
use crate::store::SqlStore;
use crate::{Audit, Claimed, ExecutionKey, Incarnation, TenantId, claim, inbox};

/// An execution that must not be run.
#[derive(Debug, Clone)]
pub(crate) struct Damaged {
    no: i64,
    /// The key by which operators can refer to it: its own, or the one that it is given.
    key: ExecutionKey,
    what: String,
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
        tracing::error!(execution = %key.id, reason = format!("{CORRUPT}{what}"), "parked");
    }
}

/// See [`crate::Store::park`].
pub(crate) async fn park_one(
    store: &SqlStore,
    incarnation: Incarnation,
    key: &ExecutionKey,
    reason: &str,
) -> Result<bool, DbError> {
    static PARK: Statement = Statement::new(
        "update executions set parked = $3, status = 'parked', owner = null
        where tenant_id = $1 and id = $2 and coalesce(state, 0) not in (1, 2, 3) and (owner is null or owner = $4)",
    );
    let mut session = store.database.write().await?;
    let values = [key.tenant.into(), key.id.as_str().into(), escape(reason).into(), incarnation.into()];
    let parked = session.run(&PARK, &values).await? > 0;
    session.commit().await?;
    store.row_ids.forget(key);
    Ok(parked)
}

/// See [`crate::Store::bury`].
pub(crate) async fn bury(
    store: &SqlStore,
    key: &ExecutionKey,
    messages: &[(ExecutionKey, String)],
) -> Result<bool, DbError> {
    static BURY: Statement = Statement::new(
        "update executions
        set state = 3, status = 'cancelled', ended_at = {clock}, owner = null, parked = null, due = null
        where tenant_id = $1 and id = $2 and coalesce(state, 0) not in (1, 2, 3)
        returning execution_no",
    );
    static CALLS: Statement = Statement::new("delete from calls where tenant_id = $1 and execution_no = $2");
    static INBOX: Statement = Statement::new("delete from inbox where tenant_id = $1 and execution_no = $2");
    static QUESTIONS: Statement =
        Statement::new("update approvals set state = 4 where tenant_id = $1 and execution_no = $2 and state = 0");
    let mut session = store.database.write().await?;
    let mut buried = session.rows(&BURY, &[key.tenant.into(), key.id.as_str().into()]).await?;
    let Some(row) = buried.first_mut() else { return Ok(false) };
    let no = row.int()?;
    for statement in [&CALLS, &INBOX, &QUESTIONS] {
        session.run(statement, &[key.tenant.into(), no.into()]).await?;
    }
    let mut moved = vec![InboxNotice { key: key.clone(), owner: None }];
    for (to, message) in messages {
        moved.extend(inbox::put(&mut session, to, message).await?);
    }
    session.commit().await?;
    store.row_ids.forget(key);
    store.hints.tell(moved);
    Ok(true)
}

/// See [`crate::Store::audit`].
pub(crate) async fn audit(store: &SqlStore, after: i64, limit: u32) -> Result<Audit, DbError> {
    static LAST: Statement = Statement::new(
        "select max(execution_no) from (
            select execution_no from executions where execution_no >= $1 order by execution_no limit $2) page",
    );
    // An execution that a living node has claimed is in that node's memory, and the node notices damage itself.
    static PAGE: Statement = Statement::new(concat!(
        ends!(),
        " where e.execution_no >= $1 and e.execution_no <= $2 and coalesce(e.state, 0) not in (1, 2, 3)
            and (e.parked is null or e.owner is not null)
            and not exists (select 1 from nodes n where n.incarnation = e.owner and n.ended_at is null)
        order by e.execution_no"
    ));
    // Numbers begin at 1, unless they were damaged.
    let Some(after) = (if after == 0 { Some(i64::MIN) } else { after.checked_add(1) }) else {
        return Ok(Audit::default());
    };
    let mut session = store.database.client_snapshot().await?;
    let mut last = session.rows(&LAST, &[after.into(), limit.into()]).await?;
    let Some(mut last) = last.first_mut().map(|row| row.opt_int()).transpose()?.flatten() else {
        return Ok(Audit::default());
    };
    let mut rows = session.rows(&PAGE, &[after.into(), last.into()]).await?;
    let mut found: Vec<StoredRow> = rows.iter_mut().map(claim::read).collect();
    // Executions that are too large together are left for the next page.
    found.truncate(claim::fitting(&mut session, &found).await?);
    if found.len() < rows.len() {
        last = found.last().map_or(last, |stored| stored.no);
    }
    let orphaned: Vec<i64> = found.iter().filter(|stored| stored.owner.is_some()).map(|stored| stored.no).collect();
    let checked = claim::with_state(&mut session, found).await?;
    drop(session);
    let (mut damaged, mut sound) = (Vec::new(), Vec::new());
    for (mut stored, claimed) in checked {
        if stands_still(&stored, &claimed) {
            stored.spoil(|| "nothing can ever move it: it waits, and no call of it is open".to_owned());
        }
        match Damaged::of(&stored) {
            Some(damage) if !planted("damage-stays-silent") => damaged.push(damage),
            Some(_) => {}
            None => sound.push(claimed),
        }
    }
    let parked = set_aside(store, &damaged).await?;
    free(store, &orphaned).await?;
    Ok(Audit { next: Some(last), parked, sound })
}

/// Whether nothing can ever move the execution: neither time, nor a message, nor a person who could know of it.
fn stands_still(stored: &StoredRow, claimed: &Claimed) -> bool {
    let head = &stored.head;
    let waits = head.settled && !head.paused && head.due.is_none() && head.parked.is_none();
    waits && claimed.calls.is_empty() && claimed.inbox.iter().all(|message| message.seen)
}

/// Parks those of these executions that are still damaged once they are locked.
async fn set_aside(store: &SqlStore, suspects: &[Damaged]) -> Result<u64, DbError> {
    static AGAIN: Statement = Statement::new(concat!(
        ends!(),
        " where e.execution_no = $1 and coalesce(e.state, 0) not in (1, 2, 3)
            and not exists (select 1 from nodes n where n.incarnation = e.owner and n.ended_at is null)
        {postgres: for no key update of e}"
    ));
    let mut parked = 0;
    for suspect in suspects {
        let mut session = store.database.write().await?;
        let mut rows = session.rows(&AGAIN, &[suspect.no.into()]).await?;
        let found: Vec<StoredRow> = rows.iter_mut().map(claim::read).collect();
        let checked = claim::with_state(&mut session, found).await?;
        let still = checked.into_iter().next().and_then(|(mut stored, claimed)| {
            if stands_still(&stored, &claimed) {
                stored.spoil(|| suspect.what.clone());
            }
            Damaged::of(&stored)
        });
        let Some(damage) = still else {
            session.rollback().await;
            continue;
        };
        let damaged = [damage];
        park(&mut session, &damaged).await?;
        session.commit().await?;
        tell(&damaged);
        parked += 1;
    }
    Ok(parked)
}

/// Frees executions that belong to a node that does not exist any more.
async fn free(store: &SqlStore, orphaned: &[i64]) -> Result<(), DbError> {
    static FREE: Statement = Statement::new(
        "update executions set owner = null
        where execution_no in (select r.execution_no from {rows execution_no:int})
            and not exists (select 1 from nodes n where n.incarnation = executions.owner and n.ended_at is null)",
    );
    if orphaned.is_empty() {
        return Ok(());
    }
    let mut rows = Rows::default();
    orphaned.iter().for_each(|no| rows.push([(*no).into()]));
    let mut session = store.database.write().await?;
    session.run_of(&FREE, &rows).await?;
    session.commit().await?;
    Ok(())
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
