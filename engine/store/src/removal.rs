//! Removal of components. A version first loses its name, and is deleted once nothing can refer to it any more.
//!
//! A start, or a call of another component's step, looks a name up and is stored a little later. A version that loses
//! its last name therefore keeps its bytes for a while. An execution that looked it up before is stored by then, and
//! counts as its user.

use cerebelum_history::{Digest, ExecutionId, Timestamp};

use crate::audit::{self, Act};
use crate::damage::RowKind;
use crate::database::Database;
use crate::db_error::DbError;
use crate::model::TenantId;
use crate::sql::{Row, Session, Statement};
use crate::{components, packs};

/// A version of a component: a digest that a name stands for, or stood for earlier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The tenant that owns the name.
    pub tenant: TenantId,
    /// The name under which it was uploaded.
    pub name: String,
    /// The digest of its bytes.
    pub digest: Digest,
}

/// The versions that may lose their name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removable {
    /// Any version, even the one that new executions use.
    Any,
    /// Only a version that was replaced by another one.
    Replaced,
}

/// See [`crate::ComponentStore::remove_component`]. Returns the number of uploads and removals so far, if anything was removed.
pub(crate) async fn remove(
    database: &Database,
    version: &Version,
    which: Removable,
    act: Option<&Act>,
) -> Result<Option<i64>, DbError> {
    static UNNAME: Statement =
        Statement::new("delete from names where tenant_id = $1 and name = $2 and digest = $3 and current <= $4");
    static FORGET_IN_TIME: Statement = Statement::new(
        "update components set nameless_since = {clock}
        where tenant_id = $1 and digest = $2 and not exists (
            select 1 from names n where n.tenant_id = components.tenant_id and n.digest = components.digest)",
    );
    static FORGET_GRANTS: Statement = Statement::new(
        "delete from grants where tenant_id = $1 and name = $2 and not exists (
            select 1 from names n where n.tenant_id = grants.tenant_id and n.name = grants.name)",
    );
    let Version { tenant, name, digest } = version;
    let mut session = database.write().await?;
    let turn = components::lock_uploads(&mut session, *tenant).await?.uploads;
    let current_max: i64 = match which {
        Removable::Any => 1,
        Removable::Replaced => 0,
    };
    let values = [(*tenant).into(), name.as_str().into(), digest.as_str().into(), current_max.into()];
    if session.run(&UNNAME, &values).await? == 0 {
        session.rollback().await;
        return Ok(None);
    }
    session.run(&FORGET_IN_TIME, &[(*tenant).into(), digest.as_str().into()]).await?;
    // The next component of this name begins without grants.
    session.run(&FORGET_GRANTS, &[(*tenant).into(), name.as_str().into()]).await?;
    audit::note(&mut session, act).await?;
    session.commit().await?;
    Ok(Some(turn))
}

/// See [`crate::ComponentStore::delete_component`]. Returns the number of uploads and removals so far, if it was deleted.
pub(crate) async fn delete(
    database: &Database,
    tenant: TenantId,
    digest: &Digest,
    before: Timestamp,
) -> Result<Option<i64>, DbError> {
    static DELETE: Statement = Statement::new(
        "delete from components
        where tenant_id = $1 and digest = $2 and nameless_since < $3 and not exists (
            select 1 from names n where n.tenant_id = components.tenant_id and n.digest = components.digest)",
    );
    static DELETE_BYTES: Statement = Statement::new("delete from component_bytes where tenant_id = $1 and digest = $2");
    let mut session = database.write().await?;
    // An upload of the same component happens entirely before this transaction or entirely after it.
    let turn = components::lock_uploads(&mut session, tenant).await?.uploads;
    if session.run(&DELETE, &[tenant.into(), digest.as_str().into(), before.into()]).await? == 0 {
        session.rollback().await;
        return Ok(None);
    }
    session.run(&DELETE_BYTES, &[tenant.into(), digest.as_str().into()]).await?;
    packs::delete_orphans(&mut session, tenant).await?;
    session.commit().await?;
    Ok(Some(turn))
}

/// See [`crate::ComponentStore::component_users`].
pub(crate) async fn users(
    database: &Database,
    tenant: TenantId,
    digest: &Digest,
    limit: u32,
) -> Result<Vec<ExecutionId>, DbError> {
    find_users(database.client(tenant).await?, tenant, digest, limit).await
}

/// See [`crate::ComponentStore::is_component_used`]. The histories of a large tenant take longer than a client may.
pub(crate) async fn is_used(database: &Database, tenant: TenantId, digest: &Digest) -> Result<bool, DbError> {
    Ok(!find_users(database.background().await?, tenant, digest, 1).await?.is_empty())
}

async fn find_users(
    mut session: Session,
    tenant: TenantId,
    digest: &Digest,
    limit: u32,
) -> Result<Vec<ExecutionId>, DbError> {
    // These are the open executions, and the failed ones, which may be reopened. Calls of another component's step name
    // its digest: open ones in `calls`, those of a failed execution in its history.
    static USERS: Statement = Statement::new(
        "select e.id from executions e join programs p on p.tenant_id = e.tenant_id and p.program_no = e.program_no
        where e.tenant_id = $1 and e.state in (0, 2) and p.digest = $2
        union
        select e.id from calls c join executions e on e.tenant_id = c.tenant_id and e.execution_no = c.execution_no
        where c.tenant_id = $1 and {postgres: strpos}{sqlite: instr}(c.state, $2) > 0 and e.state in (0, 2)
        union
        select e.id from executions e join history h
            on h.tenant_id = e.tenant_id and h.execution_no = e.execution_no and h.run = e.run
        where e.tenant_id = $1 and e.state = 2 and {postgres: strpos}{sqlite: instr}(h.events, $2) > 0
        order by 1 limit $3",
    );
    let rows = session.rows(&USERS, &[tenant.into(), digest.as_str().into(), limit.into()]).await?;
    // An execution whose id cannot be read is damaged, and is still a user.
    let id = |mut row: Row| row.text().ok().and_then(|id| id.parse().ok()).unwrap_or_else(unreadable);
    Ok(rows.into_iter().map(id).collect())
}

fn unreadable() -> ExecutionId {
    "damaged".parse().expect("a word is an execution id")
}

/// See [`crate::ComponentStore::replaced_components`].
pub(crate) async fn replaced(database: &Database, before: Timestamp) -> Result<Vec<Version>, DbError> {
    // A version that became current after this one replaced it at that time or later.
    static REPLACED: Statement = Statement::new(
        "select n.tenant_id, n.name, n.digest from names n
        where n.current = 0 and exists (
            select 1 from names l where l.tenant_id = n.tenant_id and l.name = n.name
                and l.uploaded_at > n.uploaded_at and l.uploaded_at < $1)
        order by n.tenant_id, n.name, n.digest",
    );
    let mut session = database.background().await?;
    let rows = session.rows(&REPLACED, &[before.into()]).await?;
    Ok(RowKind::new("the name of a component", 3).readable(rows, |row| {
        let tenant = TenantId(row.count()?);
        Ok(Version { tenant, name: row.text()?, digest: Digest::from_text(&row.text()?) })
    }))
}

/// See [`crate::ComponentStore::nameless_components`].
pub(crate) async fn nameless(database: &Database, before: Timestamp) -> Result<Vec<(TenantId, Digest)>, DbError> {
    static NAMELESS: Statement = Statement::new(
        "select c.tenant_id, c.digest from components c
        where c.nameless_since < $1 and not exists (
            select 1 from names n where n.tenant_id = c.tenant_id and n.digest = c.digest)
        order by c.tenant_id, c.digest",
    );
    let mut session = database.background().await?;
    let rows = session.rows(&NAMELESS, &[before.into()]).await?;
    let found = |row: &mut Row| Ok((TenantId(row.count()?), Digest::from_text(&row.text()?)));
    Ok(RowKind::new("a component", 2).readable(rows, found))
}

/// See [`crate::ComponentStore::digests`].
pub(crate) async fn digests(database: &Database) -> Result<Vec<Digest>, DbError> {
    static DIGESTS: Statement = Statement::new("select distinct digest from components order by digest");
    let mut session = database.background().await?;
    let rows = session.rows(&DIGESTS, &[]).await?;
    Ok(RowKind::new("a component", 1).readable(rows, |row| Ok(Digest::from_text(&row.text()?))))
}
