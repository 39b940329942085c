//! Numbers of programs. A program is a workflow of a component; it is stored once, and rows refer to it by a small
//! number.

use std::collections::HashMap;
use std::sync::Mutex;

use crate::database::Database;
use crate::db_error::{DbError, Error};
use crate::model::{ExecutionRow, TenantId};
use crate::sql::Statement;

/// The most numbers that are remembered. The database has all of them.
const KNOWN_MAX: usize = 100_000;

/// The numbers that were looked up so far. The meaning of a number never changes.
#[derive(Default)]
pub(crate) struct ProgramIds {
    known: Mutex<HashMap<(TenantId, String), i64>>,
}

impl ProgramIds {
    /// The number of an execution's program.
    pub(crate) async fn number(&self, database: &Database, head: &ExecutionRow) -> Result<i64, DbError> {
        let key = (head.key.tenant, format!("{}\n{}", head.workflow, head.digest));
        if let Some(number) = self.known.lock().expect("nobody panics with the numbers").get(&key) {
            return Ok(*number);
        }
        let number = number(database, head).await?;
        let mut known = self.known.lock().expect("nobody panics with the numbers");
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(key, number);
        Ok(number)
    }
}

async fn number(database: &Database, head: &ExecutionRow) -> Result<i64, DbError> {
    static FIND: Statement =
        Statement::new("select program_no from programs where tenant_id = $1 and workflow = $2 and digest = $3");
    static INSERT: Statement = Statement::new(
        "insert into programs (tenant_id, workflow, digest) values ($1, $2, $3) on conflict do nothing returning program_no",
    );
    let values = [head.key.tenant.into(), head.workflow.as_str().into(), head.digest.as_str().into()];
    let mut session = database.write().await?;
    // The second look-up finds a program that another engine inserted in between.
    for statement in [&FIND, &INSERT, &FIND] {
        if let Some(row) = session.rows(statement, &values).await?.first_mut() {
            let number = row.int()?;
            session.commit().await?;
            return Ok(number);
        }
    }
    Err(Error::Unexpected("a program that was written is not there").into())
}
