//! What deleted executions leave behind: their rows in tables other than `executions`, which no reader finds any more. And
//! what ended ones leave in the way of others: the messages that came too late.
//!
//! They are deleted in pieces, each a transaction of its own that holds up nothing else for long. What is left is written
//! down in the table `remains`, so that any engine goes on with it after any end of another one.

use crate::database::Database;
use crate::db_error::{DbError, ErrorClass, error_class};
use crate::inbox;
use crate::model::TenantId;
use crate::sql::{Row, Rows, Session, Statement, Value};

/// The most rows that one statement deletes. A piece ends with the statement that comes to as many, so that it has fewer
/// than twice as many. The statements say the same number.
pub(crate) const PIECE_ROWS: u64 = 1_000;
/// The bytes after which one statement deletes no further row, and after which a piece ends. The statements say the same
/// number.
pub(crate) const PIECE_BYTES: u64 = 4 << 20;

/// Deletes the rows of a table that are `$found`, none after those that come to so many bytes, and returns their sizes. The
/// size of a value is in its header: neither database reads the value to find it.
///
/// A key begins with its text, if it has one: SQLite chooses the columns of an index by the type of the first one.
macro_rules! delete_bounded {
    ($table:literal, $key:literal, $size:expr, $found:expr, $bytes:literal) => {{
        static DELETE: $crate::sql::Statement = $crate::sql::Statement::new(concat!(
            "delete from ",
            $table,
            " where (",
            $key,
            ") in (
                select ",
            $key,
            " from (
                    select ",
            $key,
            ", size, sum(size) over (order by ",
            $key,
            ") as sum from (
                        select ",
            $key,
            ", ",
            $size,
            " as size
                        from ",
            $found,
            "
                    ) found
                ) summed
                where sum - size < ",
            $bytes,
            "
            )
            returning ",
            $size
        ));
        &DELETE
    }};
}
pub(crate) use delete_bounded;

/// Deletes rows of executions from a table, up to both limits.
macro_rules! delete_from {
    ($table:literal, $key:literal, $size:literal $(, $index:literal)?) => {
        delete_bounded!(
            $table,
            $key,
            concat!("coalesce(octet_length(", $size, "), 0)"),
            concat!(
                "{rows of_no:int of_tenant:int} join ",
                $table,
                $($index,)?
                " on tenant_id = r.of_tenant and execution_no = r.of_no
                        limit 1000"
            ),
            "4194304"
        )
    };
}

/// Notes that these executions have left rows behind, in the transaction that deletes them.
pub(crate) async fn note(session: &mut Session, executions: &Rows<'_>) -> Result<(), DbError> {
    static NOTE: Statement = Statement::new(
        "insert into remains (execution_no, tenant_id)
        select r.execution_no, r.tenant_id from {rows execution_no:int tenant_id:int}
        where true
        on conflict (tenant_id, execution_no) do nothing",
    );
    session.run_of(&NOTE, executions).await?;
    Ok(())
}

/// Whether deleted executions of a tenant have rows left, or may have.
pub(crate) async fn are_left(session: &mut Session, tenant: TenantId) -> Result<bool, DbError> {
    static ANY: Statement = Statement::new("select 1 from remains where tenant_id = $1 limit 1");
    Ok(!session.rows(&ANY, &[tenant.into()]).await?.is_empty())
}

/// See [`crate::Store::delete_remains`].
pub(crate) async fn delete(database: &Database, limit: u32) -> Result<u64, DbError> {
    // What another engine is deleting is skipped.
    static NEXT: Statement = Statement::new(
        "select execution_no, tenant_id, tries from remains
        order by tries, execution_no limit $1 {postgres: for update skip locked}",
    );
    let mut session = database.write().await?;
    let set_aside = inbox::set_aside(&mut session, limit).await?;
    let next = next(&mut session, &NEXT, &[limit.into()]).await?;
    match delete_piece(&mut session, &next).await {
        Ok(deleted) => {
            session.commit().await?;
            Ok(set_aside + deleted)
        }
        Err(error) => {
            session.rollback().await;
            // Trouble of the database itself passes, and says nothing of these executions.
            if let DbError::Database(error) = &error
                && error_class(error) != ErrorClass::Transient
            {
                set_behind(database, &next).await?;
            }
            Err(error)
        }
    }
}

/// Deletes a piece of what deleted executions of one tenant have left behind.
pub(crate) async fn delete_of_tenant(session: &mut Session, tenant: TenantId, limit: u32) -> Result<u64, DbError> {
    static OF_TENANT: Statement = Statement::new(
        "select execution_no, tenant_id, tries from remains where tenant_id = $1
        order by tries, execution_no limit $2 {postgres: for update skip locked}",
    );
    let next = next(session, &OF_TENANT, &[tenant.into(), limit.into()]).await?;
    delete_piece(session, &next).await
}

/// The executions that a statement finds, as rows of `execution_no` and `tenant_id`. One that has failed before comes
/// alone, so that it does not fail others again.
async fn next(
    session: &mut Session,
    statement: &'static Statement,
    values: &[Value<'_>],
) -> Result<Rows<'static>, DbError> {
    let mut next = Rows::default();
    for mut row in session.rows(statement, values).await? {
        let (no, tenant, tries) = (row.int()?, row.int()?, row.int()?);
        if tries > 0 && !next.is_empty() {
            break;
        }
        next.push([no.into(), tenant.into()]);
        if tries > 0 {
            break;
        }
    }
    Ok(next)
}

/// Deletes a piece of what these executions have left behind, and forgets them if that was all. Returns the number of rows.
async fn delete_piece(session: &mut Session, executions: &Rows<'_>) -> Result<u64, DbError> {
    static FORGET: Statement = Statement::new(
        "delete from remains where (tenant_id, execution_no) in (
            select r.tenant_id, r.execution_no from {rows execution_no:int tenant_id:int})",
    );
    if executions.is_empty() {
        return Ok(0);
    }
    let (mut rows, mut bytes) = (0, 0);
    for statement in statements() {
        for mut deleted in session.rows_of(statement, executions).await? {
            rows += 1;
            bytes += size(&mut deleted);
        }
        if rows >= PIECE_ROWS || bytes >= PIECE_BYTES {
            return Ok(rows);
        }
    }
    Ok(rows + session.run_of(&FORGET, executions).await?)
}

/// The statements of a piece, the tables with the most bytes first.
fn statements() -> [&'static Statement; 7] {
    [
        delete_from!("history", "tenant_id, execution_no, run, first_position", "events"),
        delete_from!("logs", "tenant_id, execution_no, seq", "line"),
        delete_from!("approval_links", "digest", "name"),
        // Their primary key does not lead to those of one execution.
        delete_from!("approvals", "id, tenant_id", "request", " {sqlite: indexed by approvals_of_execution}"),
        delete_from!("calls", "call, tenant_id, execution_no", "state"),
        delete_from!("inbox", "tenant_id, execution_no, seq", "message"),
        delete_from!("progress", "scope, tenant_id, execution_no", "message"),
    ]
}

fn size(deleted: &mut Row) -> u64 {
    deleted.count().unwrap_or_default()
}

/// Puts executions behind the others, because a piece of theirs could not be deleted.
async fn set_behind(database: &Database, executions: &Rows<'_>) -> Result<(), DbError> {
    static BEHIND: Statement = Statement::new(
        "update remains set tries = tries + 1 where (tenant_id, execution_no) in (
            select r.tenant_id, r.execution_no from {rows execution_no:int tenant_id:int})",
    );
    let mut session = database.write().await?;
    session.run_of(&BEHIND, executions).await?;
    session.commit().await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::MachineClocks;
    use crate::sql::Dialect;

    #[test]
    fn the_statements_have_the_limits_of_a_piece() {
        for statement in statements() {
            let text = statement.text(Dialect::Sqlite);
            assert!(text.contains(&format!("limit {PIECE_ROWS}\n")), "{text}");
            assert!(text.contains(&format!("< {PIECE_BYTES}\n")), "{text}");
        }
    }

    /// PostgreSQL is kept from scanning tables by its settings.
    #[tokio::test(flavor = "multi_thread")]
    async fn an_index_leads_to_each_row_of_a_piece() {
        let folder = tempfile::tempdir().unwrap();
        let file = format!("sqlite:{}", folder.path().join("cerebelum.db").display());
        let lease = std::time::Duration::from_secs(10);
        let (database, _) = Database::open(&file, lease, Arc::new(MachineClocks)).await.unwrap();
        let mut session = database.write().await.unwrap();
        for statement in statements() {
            let text = format!("explain query plan {}", statement.text(Dialect::Sqlite));
            let mut searches = Vec::new();
            for mut row in session.rows_of_text(text.clone(), &["[[1,1]]".into()]).await.unwrap() {
                row.seek(3);
                searches.extend(Some(row.text().unwrap()).filter(|line| line.starts_with("SEARCH")));
            }
            // Every row by its whole key, and before that all rows of an execution.
            let key = statement.text(Dialect::Sqlite).split(['(', ')']).nth(1).unwrap().split(", ").count();
            let columns: Vec<usize> = searches.iter().map(|line| line.matches("=?").count()).collect();
            assert!(columns[0] == key || searches[0].contains("rowid=?"), "{searches:?} in {text}");
            assert!(columns[1..].iter().all(|count| *count == 2), "{searches:?} in {text}");
        }
    }
}
