//! The sweep over executions that no living node has claimed: damaged ones are parked, and orphaned ones are freed.

use cerebelum_history::planted;

use crate::damage::{self, Damaged};
use crate::database::Database;
use crate::db_error::DbError;
use crate::executions::{StoredRow, ends};
use crate::load;
use crate::model::{Claimed, Sweep};
use crate::sql::{Rows, Statement};

/// See [`crate::Store::sweep`].
pub(crate) async fn sweep(database: &Database, after: i64, limit: u32) -> Result<Sweep, DbError> {
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
        return Ok(Sweep::default());
    };
    let mut session = database.background_snapshot().await?;
    let mut last = session.rows(&LAST, &[after.into(), limit.into()]).await?;
    let Some(mut last) = last.first_mut().map(|row| row.opt_int()).transpose()?.flatten() else {
        return Ok(Sweep::default());
    };
    let mut rows = session.rows(&PAGE, &[after.into(), last.into()]).await?;
    let mut found: Vec<StoredRow> = rows.iter_mut().map(load::read).collect();
    // Executions that are too large together are left for the next page.
    found.truncate(load::fitting(&mut session, &found).await?);
    if found.len() < rows.len() {
        last = found.last().map_or(last, |stored| stored.no);
    }
    let orphaned: Vec<i64> = found.iter().filter(|stored| stored.owner.is_some()).map(|stored| stored.no).collect();
    let checked = load::with_state(&mut session, found).await?;
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
    let parked = set_aside(database, &damaged).await?;
    free(database, &orphaned).await?;
    Ok(Sweep { next: Some(last), parked, sound })
}

/// Whether nothing can ever move the execution: neither time, nor a message, nor a person who could know of it.
fn stands_still(stored: &StoredRow, claimed: &Claimed) -> bool {
    let head = &stored.head;
    let waits = head.settled && !head.paused && head.due.is_none() && head.parked.is_none();
    waits && claimed.calls.is_empty() && claimed.inbox.iter().all(|message| message.seen)
}

/// Parks those of these executions that are still damaged once they are locked.
async fn set_aside(database: &Database, suspects: &[Damaged]) -> Result<u64, DbError> {
    static AGAIN: Statement = Statement::new(concat!(
        ends!(),
        " where e.execution_no = $1 and coalesce(e.state, 0) not in (1, 2, 3)
            and not exists (select 1 from nodes n where n.incarnation = e.owner and n.ended_at is null)
        {postgres: for no key update of e}"
    ));
    let mut parked = 0;
    for suspect in suspects {
        let mut session = database.write().await?;
        let mut rows = session.rows(&AGAIN, &[suspect.no.into()]).await?;
        let found: Vec<StoredRow> = rows.iter_mut().map(load::read).collect();
        let checked = load::with_state(&mut session, found).await?;
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
        damage::park(&mut session, &damaged).await?;
        session.commit().await?;
        damage::tell(&damaged);
        parked += 1;
    }
    Ok(parked)
}

/// Frees executions that belong to a node that does not exist any more.
async fn free(database: &Database, orphaned: &[i64]) -> Result<(), DbError> {
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
    let mut session = database.write().await?;
    session.run_of(&FREE, &rows).await?;
    session.commit().await?;
    Ok(())
}
