//! Bulk jobs: one operation on every execution that matches a filter, step by step. A step moves the job's cursor in the
//! transaction that carries it out, so that no crash and no second engine repeats or skips an execution.

use std::sync::Arc;

use cerebelum_history::{ExecutionId, Timestamp, planted};

use crate::audit::{self, Act, Actor};
use crate::commands;
use crate::damage::RowKind;
use crate::database::Database;
use crate::db_error::DbError;
use crate::error::StoreError;
use crate::executions::{escape, unescape};
use crate::hints::InboxNotice;
use crate::model::{ExecutionKey, Incarnation, TenantId};
use crate::requests::Command;
use crate::sql::{Row, Rows, Session, Statement, Value};

/// The most refusals of a job that are kept. Further ones are only counted.
pub const REFUSALS_KEPT: u32 = 1_000;
/// The most jobs that one node works on in turn. A tenant has few, so that these are of more than a thousand tenants.
const TOGETHER: u32 = 10_000;

/// A job to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBulkJob {
    /// The tenant whose executions it is about.
    pub tenant: TenantId,
    /// Its id.
    pub id: String,
    /// The person or program in whose name it acts.
    pub actor: Arc<Actor>,
    /// What it does to each execution, as JSON that the worker understands.
    pub operation: String,
    /// The executions that it is about, as JSON that the worker understands.
    pub filter: String,
    /// The number of executions that matched when it was asked for.
    pub matched: u64,
    /// The most executions that it is about.
    pub at_most: u64,
}

/// A job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BulkJob {
    /// The job as it was asked for.
    pub asked: NewBulkJob,
    /// When it was created. Executions that were started later are left alone.
    pub created_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Whether it was stopped before its end.
    pub stopped: bool,
    /// The number of executions on which it carried out the operation.
    pub done: u64,
    /// The number of executions on which it could not.
    pub refused: u64,
    /// The place in the list of executions at which it goes on.
    pub cursor: String,
}

/// An execution on which a job could not carry out its operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BulkRefusal {
    /// The execution.
    pub execution: ExecutionId,
    /// Why not, in one line.
    pub reason: String,
}

/// What a job does to one execution.
#[derive(Debug, Clone, PartialEq)]
pub struct BulkItem {
    /// The execution.
    pub execution: ExecutionId,
    /// The commands. If the first one does not apply any more, the execution counts as refused.
    pub commands: Vec<Command>,
    /// What the audit says of it.
    pub act: Option<Act>,
}

/// A step of a job, which is carried out once or not at all.
#[derive(Debug, Clone, PartialEq)]
pub struct BulkStep {
    /// The tenant.
    pub tenant: TenantId,
    /// The job.
    pub id: String,
    /// The cursor at which the job must stand.
    pub from: String,
    /// The cursor at which it then stands, or none if nothing is left.
    pub to: Option<String>,
    /// What it does.
    pub items: Vec<BulkItem>,
    /// The executions on which it does nothing.
    pub refusals: Vec<BulkRefusal>,
}

/// The columns that [`read`] reads.
macro_rules! columns {
    () => {
        "j.tenant_id, j.id, j.caller, j.token_id, j.address, j.operation, j.filter, j.matched, j.at_most, j.created_at,
            j.ended_at, j.stopped, j.done, j.refused, j.cursor"
    };
}

/// See [`crate::BulkStore::create_bulk`].
pub(crate) async fn create(
    database: &Database,
    new: &NewBulkJob,
    (open_max, kept): (u32, u32),
    act: Option<&Act>,
) -> Result<bool, DbError> {
    // The row of the tenant is locked first, so that two creations do not exceed the limit together.
    static TURN: Statement = Statement::new(
        "select 1 from tenants where tenant_id = $1 and deleted_at is null {postgres: for no key update}",
    );
    static CREATE: Statement = Statement::new(
        "insert into bulk_jobs (created_at, at_most, matched, tenant_id, id, operation, filter, cursor, caller, token_id,
            address)
        select {clock}, $3, $4, $1, $2, $5, $6, $7, $8, $9, $10
        where (select count(*) from bulk_jobs o where o.tenant_id = $1 and o.ended_at is null) < $11
        on conflict do nothing",
    );
    let mut session = database.write().await?;
    if session.rows(&TURN, &[new.tenant.into()]).await?.is_empty() {
        return Ok(false);
    }
    let cursor = newest(&mut session, new.tenant).await?;
    let Actor { name, token, address } = &*new.actor;
    let values: [Value<'_>; 11] = [
        new.tenant.into(),
        new.id.as_str().into(),
        count_no(new.at_most).into(),
        count_no(new.matched).into(),
        escape(&new.operation).into(),
        escape(&new.filter).into(),
        cursor.into(),
        name.as_deref().map(escape).into(),
        token.as_deref().into(),
        address.as_deref().into(),
        open_max.into(),
    ];
    if session.run(&CREATE, &values).await? == 0 {
        return Ok(false);
    }
    forget(&mut session, new.tenant, kept).await?;
    audit::note(&mut session, act).await?;
    session.commit().await?;
    Ok(true)
}

/// The cursor behind which the list has all executions of a tenant that exist now.
async fn newest(session: &mut Session, tenant: TenantId) -> Result<String, DbError> {
    static NEWEST: Statement =
        Statement::new("select execution_no from executions where tenant_id = $1 order by execution_no desc limit 1");
    let mut rows = session.rows(&NEWEST, &[tenant.into()]).await?;
    let newest = rows.first_mut().map(|row| row.int()).transpose()?.unwrap_or_default();
    Ok(crate::list::cursor(newest))
}

/// Deletes the oldest jobs of a tenant that have ended, beyond a number.
async fn forget(session: &mut Session, tenant: TenantId, kept: u32) -> Result<(), DbError> {
    static FORGET: Statement = Statement::new(
        "delete from bulk_jobs where tenant_id = $1 and id in (
            select o.id from bulk_jobs o where o.tenant_id = $1 and o.ended_at is not null
            order by o.ended_at desc, o.id
            {sqlite: limit -1} offset $2)",
    );
    static REFUSALS: Statement = Statement::new(
        "delete from bulk_refusals where tenant_id = $1
            and not exists (select 1 from bulk_jobs j where j.tenant_id = $1 and j.id = bulk_refusals.id)",
    );
    if session.run(&FORGET, &[tenant.into(), kept.into()]).await? > 0 {
        session.run(&REFUSALS, &[tenant.into()]).await?;
    }
    Ok(())
}

/// See [`crate::BulkStore::bulk_jobs`].
pub(crate) async fn list(database: &Database, tenant: TenantId) -> Result<Vec<BulkJob>, DbError> {
    static ALL: Statement = Statement::new(concat!(
        "select ",
        columns!(),
        " from bulk_jobs j where j.tenant_id = $1 order by j.created_at desc, j.id"
    ));
    let rows = database.client(tenant).await?.rows(&ALL, &[tenant.into()]).await?;
    Ok(RowKind::new("a bulk job", 2).readable(rows, read))
}

/// See [`crate::BulkStore::bulk_job`].
pub(crate) async fn find(database: &Database, tenant: TenantId, id: &str) -> Result<Option<BulkJob>, DbError> {
    static FIND: Statement =
        Statement::new(concat!("select ", columns!(), " from bulk_jobs j where j.tenant_id = $1 and j.id = $2"));
    let mut rows = database.client(tenant).await?.rows(&FIND, &[tenant.into(), escape(id).into()]).await?;
    rows.first_mut().map(read).transpose()
}

/// See [`crate::BulkStore::bulk_refusals`].
pub(crate) async fn refusals(database: &Database, tenant: TenantId, id: &str) -> Result<Vec<BulkRefusal>, DbError> {
    static REFUSALS: Statement = Statement::new(
        "select execution_id, reason from bulk_refusals where tenant_id = $1 and id = $2 order by ordinal",
    );
    let rows = database.client(tenant).await?.rows(&REFUSALS, &[tenant.into(), escape(id).into()]).await?;
    Ok(RowKind::new("a refusal of a bulk job", 1).readable(rows, |row| {
        let (execution, reason) = (row.text()?, unescape(&row.text()?));
        let execution = execution.parse().map_err(|_| corrupt(id, "a refusal's execution"))?;
        Ok(BulkRefusal { execution, reason })
    }))
}

/// See [`crate::BulkStore::stop_bulk`].
pub(crate) async fn stop(
    database: &Database,
    (tenant, id): (TenantId, &str),
    act: Option<&Act>,
) -> Result<bool, DbError> {
    static STOP: Statement = Statement::new(
        "update bulk_jobs set ended_at = {clock}, stopped = 1 where tenant_id = $1 and id = $2 and ended_at is null",
    );
    let mut session = database.write().await?;
    let stopped = session.run(&STOP, &[tenant.into(), escape(id).into()]).await?;
    audit::note(&mut session, act.filter(|_| stopped > 0)).await?;
    session.commit().await?;
    Ok(stopped > 0)
}

/// See [`crate::BulkStore::claim_bulk`].
pub(crate) async fn claim(database: &Database, node: Incarnation) -> Result<Vec<(TenantId, String)>, DbError> {
    // Two nodes that both go on with a job do no harm: a step is carried out once. A claim only saves them the work.
    macro_rules! free {
        () => {
            "j.ended_at is null and (j.owner is null or j.owner = $1 or not exists (
                select 1 from nodes n where n.incarnation = j.owner and n.ended_at is null))"
        };
    }
    // The first job of each tenant, then the second ones, and so on.
    static FREE: Statement = Statement::new(concat!(
        "select j.tenant_id, j.id, case when j.owner = $1 then 1 else 0 end
        from bulk_jobs j join tenants t on t.tenant_id = j.tenant_id
        where t.deleted_at is null and ",
        free!(),
        " order by row_number() over (partition by j.tenant_id order by j.created_at), j.created_at limit $2"
    ));
    static CLAIM: Statement = Statement::new(concat!("update bulk_jobs as j set owner = $1 where ", free!()));
    let rows = database.background().await?.rows(&FREE, &[node.into(), TOGETHER.into()]).await?;
    let mut is_new = false;
    let jobs = RowKind::new("a bulk job", 2).readable(rows, |row| {
        let job = (TenantId(row.count()?), unescape(&row.text()?));
        is_new |= !row.flag()?;
        Ok(job)
    });
    if is_new {
        let mut session = database.write().await?;
        session.run(&CLAIM, &[node.into()]).await?;
        session.commit().await?;
    }
    Ok(jobs)
}

/// See [`crate::BulkStore::bulk_step`].
pub(crate) async fn step(database: &Database, step: &BulkStep) -> Result<Option<Vec<InboxNotice>>, DbError> {
    static TURN: Statement = Statement::new(
        "select refused from bulk_jobs
        where tenant_id = $1 and id = $2 and cursor = $3 and ended_at is null {postgres: for no key update}",
    );
    static MOVE: Statement = Statement::new(
        "update bulk_jobs set cursor = coalesce($3, cursor), done = done + $4, refused = refused + $5,
            ended_at = case when $3 is null then {clock} end
        where tenant_id = $1 and id = $2",
    );
    let (tenant, id) = (step.tenant, escape(&step.id));
    let mut session = database.write().await?;
    let mut job = session.rows(&TURN, &[tenant.into(), id.as_str().into(), step.from.as_str().into()]).await?;
    let refused_before: u64 = match job.first_mut() {
        Some(job) => job.count()?,
        None if planted("bulk-step-twice") => 0,
        None => return Ok(None),
    };
    let (mut moved, mut acts, mut refusals) = (Vec::new(), Rows::default(), step.refusals.clone());
    for item in &step.items {
        match carry_out(&mut session, tenant, item).await? {
            Some(notices) => {
                moved.extend(notices);
                item.act.iter().for_each(|act| acts.push(audit::insertion(act)));
            }
            None => {
                let reason = format!("execution `{}` changed in the meantime", item.execution);
                refusals.push(BulkRefusal { execution: item.execution.clone(), reason });
            }
        }
    }
    let done = step.items.len() + step.refusals.len() - refusals.len();
    note_refusals(&mut session, (tenant, &id), (refused_before, &refusals)).await?;
    if !acts.is_empty() {
        session.run_of(&audit::INSERT, &acts).await?;
    }
    let values: [Value<'_>; 5] =
        [tenant.into(), id.as_str().into(), step.to.as_deref().into(), done.into(), refusals.len().into()];
    session.run(&MOVE, &values).await?;
    session.commit().await?;
    Ok(Some(moved))
}

async fn carry_out(
    session: &mut Session,
    tenant: TenantId,
    item: &BulkItem,
) -> Result<Option<Vec<InboxNotice>>, DbError> {
    let key = ExecutionKey { tenant, id: item.execution.clone() };
    let mut moved = Vec::new();
    for (at, command) in item.commands.iter().enumerate() {
        match commands::carry_out(session, &key, command).await? {
            Some(notices) => moved.extend(notices),
            None if at == 0 => return Ok(None),
            None => {}
        }
    }
    Ok(Some(moved))
}

/// Stores the first refusals of a job.
async fn note_refusals(
    session: &mut Session,
    (tenant, id): (TenantId, &str),
    (before, refusals): (u64, &[BulkRefusal]),
) -> Result<(), DbError> {
    static NOTE: Statement = Statement::new(
        "insert into bulk_refusals (ordinal, tenant_id, id, execution_id, reason)
        select r.ordinal, r.tenant_id, r.id, r.execution_id, r.reason
        from {rows ordinal:int tenant_id:int id:text execution_id:text reason:text}",
    );
    let mut rows = Rows::default();
    for (ordinal, refusal) in (before..u64::from(REFUSALS_KEPT)).zip(refusals) {
        rows.push([
            count_no(ordinal).into(),
            tenant.into(),
            id.into(),
            refusal.execution.as_str().into(),
            escape(&refusal.reason).into(),
        ]);
    }
    if !rows.is_empty() {
        session.run_of(&NOTE, &rows).await?;
    }
    Ok(())
}

fn read(row: &mut Row) -> Result<BulkJob, DbError> {
    let (tenant, id) = (TenantId(row.count()?), unescape(&row.text()?));
    let name = row.opt_text()?.map(|name| unescape(&name));
    let actor = Arc::new(Actor { name, token: row.opt_text()?, address: row.opt_text()? });
    let (operation, filter) = (unescape(&row.text()?), unescape(&row.text()?));
    let (matched, at_most) = (row.count()?, row.count()?);
    Ok(BulkJob {
        asked: NewBulkJob { tenant, id, actor, operation, filter, matched, at_most },
        created_at: row.at()?,
        ended_at: row.opt_at()?,
        stopped: row.flag()?,
        done: row.count()?,
        refused: row.count()?,
        cursor: row.text()?,
    })
}

fn count_no(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn corrupt(id: &str, what: &str) -> StoreError {
    StoreError::Corrupt(format!("bulk job {id}: {what} cannot be read"))
}
