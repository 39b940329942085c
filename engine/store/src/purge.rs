//! The deletion of a tenant: marked first, then carried out in small transactions that any engine can go on with.

use cerebelum_history::Timestamp;

use crate::audit::{self, Act};
use crate::database::Database;
use crate::db_error::DbError;
use crate::model::TenantId;
use crate::sql::{Session, Statement};
use crate::{deletion, remains};

/// How many components lose their bytes in one transaction: each may have many.
const COMPONENTS_TOGETHER: u32 = 2;

/// See [`crate::IdentityStore::delete_tenant`].
pub(crate) async fn mark(database: &Database, name: &str, act: Option<&Act>) -> Result<bool, DbError> {
    static MARK: Statement = Statement::new(
        "update tenants set deleted_at = {clock} where name = $1 and suspended_at is not null and deleted_at is null",
    );
    let mut session = database.write().await?;
    let marked = session.run(&MARK, &[name.into()]).await?;
    audit::note(&mut session, act.filter(|_| marked == 1)).await?;
    session.commit().await?;
    Ok(marked == 1)
}

/// See [`crate::IdentityStore::purge_tenant`].
pub(crate) async fn purge(
    database: &Database,
    tenant: TenantId,
    before: Timestamp,
    limit: u32,
) -> Result<u64, DbError> {
    // The rows of the tenants that are not being deleted are never touched.
    static IS_DELETED: Statement =
        Statement::new("select deleted_at from tenants where tenant_id = $1 and deleted_at is not null");
    let mut session = database.write().await?;
    let mut found = session.rows(&IS_DELETED, &[tenant.into()]).await?;
    let Some(deleted_at) = found.first_mut().map(|row| row.at()).transpose()? else { return Ok(0) };
    let mut deleted = executions(&mut session, tenant, limit).await?;
    // An execution that another transaction has locked is skipped. What it needs stays until it is gone.
    if deleted == 0 && !has_executions(&mut session, tenant).await? {
        deleted = remains::delete_of_tenant(&mut session, tenant, limit).await?;
        if deleted == 0 && !remains::are_left(&mut session, tenant).await? {
            deleted = others(&mut session, tenant, limit).await?;
            if deleted == 0 && deleted_at < before {
                forget(&mut session, tenant).await?;
            }
        }
    }
    session.commit().await?;
    Ok(deleted)
}

/// Deletes some executions, in whatever state they are. A node that runs one of them loses its claim.
async fn executions(session: &mut Session, tenant: TenantId, limit: u32) -> Result<u64, DbError> {
    static SOME: Statement = Statement::new(
        "select execution_no, tenant_id from executions where tenant_id = $1
        order by id limit $2 {postgres: for update skip locked}",
    );
    deletion::delete_found(session, &SOME, &[tenant.into(), limit.into()]).await
}

async fn has_executions(session: &mut Session, tenant: TenantId) -> Result<bool, DbError> {
    static ANY: Statement = Statement::new("select 1 from executions where tenant_id = $1 limit 1");
    Ok(!session.rows(&ANY, &[tenant.into()]).await?.is_empty())
}

/// Deletes some rows of the other tables, one table after the other.
async fn others(session: &mut Session, tenant: TenantId, limit: u32) -> Result<u64, DbError> {
    macro_rules! delete_from {
        ($table:literal, $key:literal) => {{
            static DELETE: Statement = Statement::new(concat!(
                "delete from ",
                $table,
                " where (",
                $key,
                ") in (select ",
                $key,
                " from ",
                $table,
                " where tenant_id = $1 limit $2)"
            ));
            &DELETE
        }};
    }
    let statements = [
        (delete_from!("approvals", "tenant_id, id"), limit),
        (delete_from!("approval_links", "digest"), limit),
        (delete_from!("programs", "tenant_id, program_no"), limit),
        (delete_from!("names", "tenant_id, name, digest"), limit),
        (delete_from!("grants", "tenant_id, name"), limit),
        (delete_from!("component_packs", "tenant_id, digest"), limit.min(COMPONENTS_TOGETHER)),
        (delete_from!("component_bytes", "tenant_id, digest"), limit.min(COMPONENTS_TOGETHER)),
        (delete_from!("components", "tenant_id, digest"), limit),
        (delete_from!("bulk_jobs", "tenant_id, id"), limit),
        (delete_from!("bulk_refusals", "tenant_id, id, ordinal"), limit),
        (delete_from!("views", "tenant_id, owner, name"), limit),
        (delete_from!("audit", "tenant_id, at, chance"), limit),
        (delete_from!("secrets", "tenant_id, name"), limit),
        (delete_from!("data_keys", "tenant_id"), limit),
        (delete_from!("tokens", "token_id"), limit),
        (delete_from!("tenant_bytes", "tenant_id, shard"), limit),
    ];
    for (statement, limit) in statements {
        let deleted = session.run(statement, &[tenant.into(), limit.into()]).await?;
        if deleted > 0 {
            return Ok(deleted);
        }
    }
    Ok(0)
}

/// Frees the name of a tenant of which nothing is left. Its row stays, so that no other tenant gets its number.
async fn forget(session: &mut Session, tenant: TenantId) -> Result<(), DbError> {
    static FORGET: Statement = Statement::new(
        "update tenants set name = '#' || tenant_id, quotas = $2, hosts = null
            where tenant_id = $1 and deleted_at is not null",
    );
    session.run(&FORGET, &[tenant.into(), "{}".into()]).await?;
    Ok(())
}
