//! The removal of old runs. A workflow that goes on by continue-as-new may live for ever, and so do the histories, log
//! lines and questions of all its runs, unless only those of the last runs are kept.
//!
//! `executions.runs_from` is the first run that is kept. Readers go by this number, so that a run is gone for all of them
//! at once. The rows of the runs before it are deleted in pieces, each a transaction of its own that holds up nothing else
//! for long. As long as some are left, `executions.clearing` is 1, and any engine goes on with them.

use crate::database::Database;
use crate::db_error::DbError;
use crate::executions::ends;
use crate::model::TenantId;
use crate::remains::{PIECE_BYTES, PIECE_ROWS, delete_bounded};
use crate::sql::{Session, Statement, Value};
use crate::{load, storage};

/// The fewest runs that are kept: the present one, and the one that it continues.
const KEPT_MIN: u32 = 2;

/// Deletes rows of the runs before `$3` of an execution from a table, the earliest runs first, up to both limits.
macro_rules! delete_from {
    ($table:literal, $key:literal, $size:literal $(, $condition:literal)?) => {
        delete_bounded!(
            $table,
            $key,
            concat!("octet_length(", $size, ")"),
            concat!(
                $table,
                " where tenant_id = $1 and execution_no = $2 and run < $3",
                $(" and ", $condition,)?
                "
                        order by run limit $4"
            ),
            "$5"
        )
    };
}

/// The size of a chain, as the index `executions_chains` has it, word for word.
macro_rules! chain {
    () => {
        "run > 1 and (case when clearing = 1 then 4294967295 else run - coalesce(runs_from, 1) end)"
    };
}

// In two steps, because PostgreSQL would otherwise walk through all executions in the order of their numbers.
static OVERDUE: Statement = Statement::new(concat!(
    "with overdue as materialized (select execution_no from executions where ",
    chain!(),
    " >= $1)
    select execution_no from overdue where execution_no > $2 order by execution_no limit $3"
));

/// See [`crate::Store::overdue_runs`].
pub(crate) async fn overdue(database: &Database, keep: u32, after: i64, limit: u32) -> Result<Vec<i64>, DbError> {
    let mut session = database.background().await?;
    let rows = session.rows(&OVERDUE, &[keep.max(KEPT_MIN).into(), after.into(), limit.into()]).await?;
    Ok(rows.into_iter().map(|mut row| row.int()).collect::<Result<_, _>>()?)
}

/// See [`crate::Store::remove_runs`].
pub(crate) async fn remove(database: &Database, no: i64, keep: u32) -> Result<u64, DbError> {
    let mut session = database.write().await?;
    match Removal::begin(&mut session, no, keep).await? {
        Some(removal) => {
            let removed = removal.delete_piece(&mut session).await?;
            session.commit().await?;
            Ok(removed)
        }
        None => {
            session.rollback().await;
            Ok(0)
        }
    }
}

/// The removal of the runs before one, of an execution whose row is locked.
struct Removal {
    tenant: TenantId,
    no: i64,
    /// The first run that is kept.
    from: u32,
    /// The bytes that the execution counts, and those that it has given back.
    bytes: i64,
    given_back: i64,
}

impl Removal {
    /// Locks the execution, so that one engine at a time removes runs of it. Returns `None` if nothing is to be removed.
    async fn begin(session: &mut Session, no: i64, keep: u32) -> Result<Option<Self>, DbError> {
        // Batches of the present run wait for this lock, and need none of the rows that are deleted.
        static LOCK: Statement = Statement::new(
            "select bytes, bytes_back, clearing from executions where execution_no = $1 {postgres: for no key update}",
        );
        static LOOK: Statement = Statement::new(concat!(ends!(), " where e.execution_no = $1"));
        let mut locked = session.rows(&LOCK, &[no.into()]).await?;
        let Some(row) = locked.first_mut() else { return Ok(None) };
        let (bytes, given_back) = (storage::read_bytes(row), storage::read_bytes(row));
        let is_begun = row.opt_int().is_ok_and(|clearing| clearing == Some(1));
        let mut found = session.rows(&LOOK, &[no.into()]).await?;
        let Some(stored) = found.first_mut().map(load::read) else { return Ok(None) };
        // If its row is damaged, the number of its run may be as well. It is repaired with all that it has.
        if stored.damage.is_some() {
            return Ok(None);
        }
        let before = stored.head.runs_from.unwrap_or(1);
        let from = before.max((stored.head.run + 1).saturating_sub(keep.max(KEPT_MIN)));
        let tenant = stored.head.key.tenant;
        Ok((is_begun || from > before).then_some(Self { tenant, no, from, bytes, given_back }))
    }

    /// Deletes a piece of the runs, and gives its bytes back. Returns the number of rows.
    async fn delete_piece(&self, session: &mut Session) -> Result<u64, DbError> {
        static DONE: Statement = Statement::new(
            "update executions set runs_from = $3, clearing = $4, bytes = bytes - $5, bytes_back = bytes_back + $5
            where tenant_id = $1 and execution_no = $2",
        );
        let (mut rows, mut bytes, mut counted) = (0, 0, 0);
        let mut is_cut = false;
        for (statement, is_counted) in statements() {
            for mut row in session.rows(statement, &self.piece()).await? {
                let size = row.opt_int()?.unwrap_or_default();
                rows += 1;
                bytes += size;
                counted += if is_counted { size } else { 0 };
            }
            is_cut = rows >= PIECE_ROWS || bytes >= i64::try_from(PIECE_BYTES).unwrap_or(i64::MAX);
            if is_cut {
                break;
            }
        }
        let mut back = counted;
        if !is_cut {
            let links = self.delete_links(session).await?;
            (rows, is_cut) = (rows + links, links >= PIECE_ROWS);
        }
        if !is_cut {
            back = self.due_back(session).await?.unwrap_or(counted);
        }
        // What an engine of the version before wrote was not all counted.
        let back = back.min(self.bytes);
        let clearing = is_cut.then_some(1);
        let values = [self.tenant.into(), self.no.into(), self.from.into(), clearing.into(), back.into()];
        session.run(&DONE, &values).await?;
        storage::give_back_runs(session, self.tenant, back).await?;
        Ok(rows)
    }

    fn piece(&self) -> [Value<'static>; 5] {
        let limits = [PIECE_ROWS, PIECE_BYTES].map(|limit| i64::try_from(limit).unwrap_or(i64::MAX));
        [self.tenant.into(), self.no.into(), self.from.into(), limits[0].into(), limits[1].into()]
    }

    /// What is still to be given back, once all rows of the runs are deleted: everything that was counted in them, also
    /// values that were dropped meanwhile, and messages that were read. `None` if an engine of the version before began the
    /// first run that is kept: then it is the size of the rows.
    async fn due_back(&self, session: &mut Session) -> Result<Option<i64>, DbError> {
        static COUNTED: Statement = Statement::new(
            "select h.bytes_before, (
                select octet_length(f.events) from history f
                where f.tenant_id = $1 and f.execution_no = $2 and f.run = 1 and f.first_position = 1)
            from history h where h.tenant_id = $1 and h.execution_no = $2 and h.run = $3 and h.first_position = 1",
        );
        let mut counted = session.rows(&COUNTED, &[self.tenant.into(), self.no.into(), self.from.into()]).await?;
        let Some(row) = counted.first_mut() else { return Ok(None) };
        let (Ok(Some(before)), Ok(first)) = (row.opt_int(), row.opt_int()) else { return Ok(None) };
        let stays = storage::of_beginning(first.unwrap_or_default());
        Ok(storage::is_believed(before).then(|| (before - stays - self.given_back).max(-self.given_back)))
    }

    /// Deletes the links to questions that are deleted.
    async fn delete_links(&self, session: &mut Session) -> Result<u64, DbError> {
        static LINKS: Statement = Statement::new(
            "delete from approval_links where digest in (
                select l.digest from approval_links l
                where l.tenant_id = $1 and l.execution_no = $2 and not exists (
                    select 1 from approvals a where a.tenant_id = l.tenant_id and a.id = l.approval_id)
                limit $3)",
        );
        let limit = i64::try_from(PIECE_ROWS).unwrap_or(i64::MAX);
        Ok(session.run(&LINKS, &[self.tenant.into(), self.no.into(), limit.into()]).await?)
    }
}

/// The statements of a piece, and whether what they delete was counted.
fn statements() -> [(&'static Statement, bool); 3] {
    // The first chunk of the first run stays: a start that is repeated is compared with the input in it.
    let history = delete_from!(
        "history",
        "tenant_id, execution_no, run, first_position",
        "events",
        "(run > 1 or first_position > 1)"
    );
    [
        (history, true),
        (delete_from!("logs", "tenant_id, execution_no, seq", "line"), true),
        (delete_from!("approvals", "id, tenant_id", "request"), false),
    ]
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::clock::MachineClocks;
    use crate::sql::Dialect;

    /// How SQLite carries out a statement.
    async fn plan(session: &mut Session, statement: &'static Statement, values: &[Value<'_>]) -> Vec<String> {
        let text = format!("explain query plan {}", statement.text(Dialect::Sqlite));
        let steps = session.rows_of_text(text, values).await.unwrap().into_iter().map(|mut row| {
            row.seek(3);
            row.text().unwrap()
        });
        steps.filter(|step| step.starts_with("SEARCH") || step.starts_with("SCAN")).collect()
    }

    /// PostgreSQL is kept from scanning tables by its settings.
    #[tokio::test(flavor = "multi_thread")]
    async fn an_index_leads_to_each_chain_and_to_each_row_of_its_old_runs() {
        let folder = tempfile::tempdir().unwrap();
        let file = format!("sqlite:{}", folder.path().join("cerebelum.db").display());
        let lease = Duration::from_secs(10);
        let (database, _) = Database::open(&file, lease, Arc::new(MachineClocks)).await.unwrap();
        let mut session = database.write().await.unwrap();
        let found = plan(&mut session, &OVERDUE, &[2_u32.into(), 0_u32.into(), 9_u32.into()]).await;
        assert!(found[0].contains("executions_chains (<expr>>?)"), "{found:?}");
        let values = [1_u32.into(), 1_u32.into(), 2_u32.into(), 9_u32.into(), 9_u32.into()];
        for (statement, _) in statements() {
            let found = plan(&mut session, statement, &values).await;
            let is_ranged = found.iter().any(|step| step.contains("tenant_id=? AND execution_no=? AND run<?"));
            let tables = ["history", "logs", "approvals"];
            let is_scanned =
                found.iter().any(|step| tables.iter().any(|table| step.contains(&format!("SCAN {table}"))));
            assert!(is_ranged && !is_scanned, "{found:?}");
        }
    }
}
