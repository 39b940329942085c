//! Executions with their open calls and messages, as claims and sweeps read them.

use std::collections::HashMap;

use crate::calls;
use crate::database::Database;
use crate::db_error::DbError;
use crate::executions::{self, StoredRow, ends};
use crate::inbox;
use crate::model::{Claimed, ExecutionKey};
use crate::sql::{Row, Rows, Session, Statement};

/// The most bytes of open calls and messages that all executions of one claim may have together.
const CLAIM_BYTES_MAX: u64 = 16 << 20;

/// The bytes of open calls and messages of an execution's row.
macro_rules! brings {
    ($row:literal) => {
        concat!(
            "((select coalesce(sum(octet_length(c.state)), 0) from calls c
                where c.tenant_id = ",
            $row,
            ".tenant_id and c.execution_no = ",
            $row,
            ".execution_no)
            + (select coalesce(sum(octet_length(i.message)), 0) from inbox i
                where i.tenant_id = ",
            $row,
            ".tenant_id and i.execution_no = ",
            $row,
            ".execution_no))"
        )
    };
}
pub(crate) use brings;

/// See [`crate::Store::load`].
pub(crate) async fn load(database: &Database, key: &ExecutionKey) -> Result<Option<Claimed>, DbError> {
    static LOOK: Statement = Statement::new(concat!(ends!(), " where e.tenant_id = $1 and e.id = $2"));
    let mut session = database.snapshot().await?;
    let mut rows = session.rows(&LOOK, &[key.tenant.into(), key.id.as_str().into()]).await?;
    let Some(row) = rows.first_mut() else { return Ok(None) };
    let stored = read(row);
    let (stored, claimed) = with_state(&mut session, vec![stored]).await?.remove(0);
    stored.intact()?;
    Ok(Some(claimed))
}

/// Reads an execution's row and, in the column after it, the position at which its history ends. Both positions must be
/// the same.
pub(crate) fn read(row: &mut Row) -> StoredRow {
    let mut stored = executions::read(row);
    row.seek(executions::COLUMNS);
    let (at, run) = (stored.head.position, stored.head.run);
    match row.opt_int() {
        Ok(Some(end)) if u64::try_from(end) == Ok(at.0) => {}
        Ok(Some(end)) => stored.spoil(|| format!("its history ends at position {end}, its head is at {}", at.0)),
        Ok(None) => stored.spoil(|| format!("the history of run {} is missing", run)),
        Err(_) => stored.spoil(|| "the end of its history cannot be read".to_owned()),
    }
    stored
}

/// The number of executions, from the first on, whose bytes fit into one claim. It is at least one.
pub(crate) async fn fitting(session: &mut Session, found: &[StoredRow]) -> Result<usize, DbError> {
    static SIZES: Statement = Statement::new(concat!(
        "select r.ordinal, ",
        brings!("r"),
        " from {rows ordinal:int tenant_id:int execution_no:int} order by r.ordinal"
    ));
    if found.len() < 2 {
        return Ok(found.len());
    }
    let mut rows = Rows::default();
    for (ordinal, stored) in found.iter().enumerate() {
        rows.push([ordinal.into(), stored.head.key.tenant.into(), stored.no.into()]);
    }
    let mut bytes = 0_u64;
    for mut row in session.rows_of(&SIZES, &rows).await? {
        let ordinal: usize = row.count()?;
        bytes = bytes.saturating_add(row.count()?);
        if bytes > CLAIM_BYTES_MAX && ordinal > 0 {
            return Ok(ordinal);
        }
    }
    Ok(found.len())
}

/// Adds the open calls and messages of each execution. A call or message that is missing or cannot be read marks its
/// execution as damaged.
pub(crate) async fn with_state(
    session: &mut Session,
    mut found: Vec<StoredRow>,
) -> Result<Vec<(StoredRow, Claimed)>, DbError> {
    let mut nos = Rows::default();
    let mut index_of = HashMap::new();
    let mut states: Vec<_> = found.iter().map(|_| (Vec::new(), Vec::new())).collect();
    for (index, StoredRow { no, head, .. }) in found.iter().enumerate() {
        nos.push([head.key.tenant.into(), (*no).into()]);
        index_of.insert(*no, index);
    }
    for (no, call) in calls::of(session, &nos).await? {
        let Some(&index) = index_of.get(&no) else { continue };
        match call {
            Ok(call) => states[index].0.push(call),
            Err(damage) => found[index].spoil(|| damage),
        }
    }
    for (no, message) in inbox::of(session, &nos).await? {
        let Some(&index) = index_of.get(&no) else { continue };
        match message {
            Ok(message) => states[index].1.push(message),
            Err(damage) => found[index].spoil(|| damage),
        }
    }
    let mut with_state = Vec::with_capacity(found.len());
    for (mut stored, (calls, inbox)) in std::iter::zip(found, states) {
        let crashes = stored.crashes;
        let (counted, there) = (stored.head.open_calls, calls.len());
        if let Some(counted) = counted.filter(|counted| usize::try_from(*counted) != Ok(there)) {
            stored.spoil(|| format!("{counted} calls of it are open, and {there} of them are there"));
        }
        let claimed =
            Claimed { head: stored.head.clone(), owner: stored.owner, calls, inbox, crashes, leaves_others: false };
        with_state.push((stored, claimed));
    }
    Ok(with_state)
}
