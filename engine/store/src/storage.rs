//! How many bytes tenants have stored. What an execution writes is counted in the transaction that writes it, in the
//! execution's row and for its tenant, and given back when the execution is deleted.

use std::collections::BTreeMap;

use cerebelum_history::planted;

use crate::damage::RowKind;
use crate::database::Database;
use crate::db_error::DbError;
use crate::model::{Batch, Chunk, Incarnation, TenantId};
use crate::sql::{Row, Rows, Session, Statement, Value};

/// What an execution counts besides its history: its row, its places in indexes, its open calls.
const EXECUTION_BYTES: usize = 1_024;
/// Shorter messages from outside are not counted when they arrive, so that they cost no more than before. An inbox is
/// bounded; as an event they are counted like everything else.
const MESSAGE_BYTES_MIN: usize = 4_096;
/// Nodes count in as many rows of a tenant, each node in one.
const NODE_SHARDS: i64 = 16;
/// Everything else is counted in as many further rows.
const OTHER_SHARDS: i64 = 16;
/// Removed runs are given back in a row of their own. A transaction that holds one of the rows above may wait for the row of
/// an execution, which the removal of its runs holds.
const RUNS_SHARD: i64 = NODE_SHARDS + OTHER_SHARDS;

/// A count of bytes of a tenant, or 0 if nothing can have counted so many: a damaged number must neither stop the count of
/// its tenant nor that of all.
macro_rules! believed {
    ($bytes:literal) => {
        concat!("(case when ", $bytes, " between -1125899906842624 and 1125899906842624 then ", $bytes, " else 0 end)")
    };
}

/// Counts bytes for tenants; less than none where they are given back.
pub(crate) static ADD: Statement = Statement::new(concat!(
    "insert into tenant_bytes (tenant_id, shard, bytes)
    select r.tenant_id, r.shard, r.bytes from {rows tenant_id:int shard:int bytes:int}
    where true
    order by r.tenant_id, r.shard
    on conflict (tenant_id, shard) do update set bytes = ",
    believed!("tenant_bytes.bytes"),
    " + excluded.bytes"
));

/// The row of a tenant in which a node counts.
pub(crate) fn shard_of(incarnation: Incarnation) -> i64 {
    incarnation.0.rem_euclid(NODE_SHARDS)
}

/// A row for [`ADD`].
pub(crate) fn addition(tenant: TenantId, shard: i64, bytes: i64) -> [Value<'static>; 3] {
    [tenant.into(), shard.into(), bytes.into()]
}

/// What a batch stores for its own execution.
pub(crate) fn of_batch(batch: &Batch) -> i64 {
    let row = if batch.begins { EXECUTION_BYTES } else { 0 };
    let history: usize = batch.chunks.iter().chain(&batch.next_run).map(|chunk| chunk.events.len()).sum();
    let logs: usize = batch.logs.iter().map(|line| line.text.len()).sum();
    let messages: usize = batch.messages.iter().map(|(_, message)| message.len()).sum();
    whole(row + history + logs + messages)
}

/// What a batch stores for the run that it ends, where this chunk begins the next one.
pub(crate) fn of_ending_run(batch: &Batch, next: &Chunk) -> i64 {
    of_batch(batch) - whole(next.events.len())
}

/// What a child stores that begins with this chunk.
pub(crate) fn of_child(first: &Chunk) -> i64 {
    whole(EXECUTION_BYTES + first.events.len())
}

/// Counts a message from outside for the execution that gets it.
pub(crate) async fn count_message(
    session: &mut Session,
    (tenant, no): (TenantId, i64),
    message: &str,
) -> Result<(), DbError> {
    static COUNT: Statement =
        Statement::new("update executions set bytes = bytes + $3 where tenant_id = $1 and execution_no = $2");
    if message.len() < MESSAGE_BYTES_MIN {
        return Ok(());
    }
    let bytes = whole(message.len());
    session.run(&COUNT, &[tenant.into(), no.into(), bytes.into()]).await?;
    add(session, no, [(tenant, bytes)]).await
}

/// The most bytes of one execution that are believed, as many as in `believed`. The sum of a few hundred of them is still a number.
const BELIEVED_MAX: i64 = 1 << 50;

/// What an execution counts that has nothing but its first chunk, of this size.
pub(crate) fn of_beginning(first: i64) -> i64 {
    whole(EXECUTION_BYTES) + first
}

pub(crate) fn is_believed(bytes: i64) -> bool {
    (0..BELIEVED_MAX).contains(&bytes)
}

/// Reads what an execution has stored. A damaged number counts as nothing: it must not keep the execution from being
/// deleted, nor spoil the count of its tenant.
pub(crate) fn read_bytes(row: &mut Row) -> i64 {
    row.int().ok().filter(|bytes| is_believed(*bytes)).unwrap_or(0)
}

/// Gives back what deleted executions had stored. `no` is the number of one of them.
pub(crate) async fn give_back(session: &mut Session, no: i64, stored: BTreeMap<TenantId, i64>) -> Result<(), DbError> {
    if planted("stored-bytes-kept") {
        return Ok(());
    }
    add(session, no, stored.into_iter().map(|(tenant, bytes)| (tenant, -bytes))).await
}

/// Gives back what removed runs had stored.
pub(crate) async fn give_back_runs(session: &mut Session, tenant: TenantId, bytes: i64) -> Result<(), DbError> {
    add_in(session, RUNS_SHARD, [(tenant, -bytes)]).await
}

/// See [`crate::IdentityStore::stored_bytes`].
pub(crate) async fn of_tenants(database: &Database) -> Result<BTreeMap<TenantId, u64>, DbError> {
    static SUMS: Statement = Statement::new(concat!(
        "select tenant_id, sum(",
        believed!("bytes"),
        "){postgres: ::bigint} from tenant_bytes group by tenant_id"
    ));
    let rows = database.background().await?.rows(&SUMS, &[]).await?;
    let sum = |row: &mut Row| Ok((TenantId(row.count()?), u64::try_from(row.int()?).unwrap_or(0)));
    Ok(RowKind::new("the stored bytes of a tenant", 1).readable(rows, sum).into_iter().collect())
}

async fn add(session: &mut Session, no: i64, stored: impl IntoIterator<Item = (TenantId, i64)>) -> Result<(), DbError> {
    add_in(session, NODE_SHARDS + no.rem_euclid(OTHER_SHARDS), stored).await
}

async fn add_in(
    session: &mut Session,
    shard: i64,
    stored: impl IntoIterator<Item = (TenantId, i64)>,
) -> Result<(), DbError> {
    let mut rows = Rows::default();
    stored.into_iter().for_each(|(tenant, bytes)| rows.push(addition(tenant, shard, bytes)));
    session.run_of(&ADD, &rows).await?;
    Ok(())
}

fn whole(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
