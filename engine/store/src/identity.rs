//! Tenants, and the tokens with which people and programs act for them.

use cerebelum_history::{Digest, Timestamp};

use crate::audit::{self, Act};
use crate::damage::RowKind;
use crate::database::Database;
use crate::db_error::DbError;
use crate::error::StoreError;
use crate::model::TenantId;
use crate::sql::{Row, Statement};

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its number.
    pub id: TenantId,
    /// Its name.
    pub name: String,
    /// The time of its creation; 0 for the one that the first migration made.
    pub created_at: Timestamp,
    /// The time since which its tokens are refused.
    pub suspended_at: Option<Timestamp>,
    /// The quotas that were set for it, as a JSON object. The store does not know what they mean.
    pub quotas: String,
    /// The time since which it is being deleted.
    pub deleted_at: Option<Timestamp>,
}

/// A token: the right of a person or a program to act for a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its public part, unique among all tenants.
    pub id: String,
    /// The tenant for which it acts.
    pub tenant: TenantId,
    /// Its role, in a word. The store does not know what a role may do.
    pub role: String,
    /// The name of its owner.
    pub name: String,
    /// The digest of its secret part.
    pub secret_digest: Digest,
    /// The time of its creation. The store sets it.
    pub created_at: Timestamp,
    /// The time from which it is refused.
    pub expires_at: Option<Timestamp>,
    /// The time since which it is refused.
    pub revoked_at: Option<Timestamp>,
    /// The time of its last use, to the minute.
    pub last_used_at: Option<Timestamp>,
}

/// See [`crate::IdentityStore::create_tenant`].
pub(crate) async fn create_tenant(
    database: &Database,
    name: &str,
    act: Option<&Act>,
) -> Result<Option<TenantId>, DbError> {
    // The row of the first tenant is locked first, so that two creations do not take the same number.
    static TURN: Statement = Statement::new("update tenants set name = name where tenant_id = 1");
    static CREATE: Statement = Statement::new(
        "insert into tenants (tenant_id, name, created_at)
        select max(t.tenant_id) + 1, $1, {clock} from tenants t where true
        on conflict (name) do nothing
        returning tenant_id",
    );
    let mut session = database.write().await?;
    session.run(&TURN, &[]).await?;
    let id = match session.rows(&CREATE, &[name.into()]).await?.first_mut() {
        Some(row) => {
            let id = TenantId(row.count()?);
            audit::note(&mut session, act).await?;
            Some(id)
        }
        None => None,
    };
    session.commit().await?;
    Ok(id)
}

/// See [`crate::IdentityStore::tenants`].
pub(crate) async fn tenants(database: &Database) -> Result<Vec<Tenant>, DbError> {
    static ALL: Statement = Statement::new(
        "select tenant_id, name, created_at, suspended_at, quotas, deleted_at from tenants
        where name <> '#' || tenant_id order by name",
    );
    let rows = database.background().await?.rows(&ALL, &[]).await?;
    Ok(RowKind::new("a tenant", 2).readable(rows, read_tenant))
}

/// See [`crate::IdentityStore::find_tenant`].
pub(crate) async fn find_tenant(database: &Database, name: &str) -> Result<Option<Tenant>, DbError> {
    static FIND: Statement = Statement::new(
        "select tenant_id, name, created_at, suspended_at, quotas, deleted_at from tenants
        where name = $1 and name <> '#' || tenant_id",
    );
    let mut rows = database.background().await?.rows(&FIND, &[name.into()]).await?;
    let Some(row) = rows.first_mut() else { return Ok(None) };
    let unreadable = |_| StoreError::Corrupt(format!("tenant {name}: its row cannot be read")).into();
    read_tenant(row).map(Some).map_err(unreadable)
}

/// See [`crate::IdentityStore::suspend_tenant`].
pub(crate) async fn suspend_tenant(
    database: &Database,
    name: &str,
    suspended: bool,
    act: Option<&Act>,
) -> Result<bool, DbError> {
    static SUSPEND: Statement =
        Statement::new("update tenants set suspended_at = coalesce(suspended_at, {clock}) where name = $1");
    static LIFT: Statement =
        Statement::new("update tenants set suspended_at = null where name = $1 and deleted_at is null");
    let mut session = database.write().await?;
    let changed = session.run(if suspended { &SUSPEND } else { &LIFT }, &[name.into()]).await?;
    audit::note(&mut session, act.filter(|_| changed == 1)).await?;
    session.commit().await?;
    Ok(changed == 1)
}

/// See [`crate::IdentityStore::set_quotas`].
pub(crate) async fn set_quotas(
    database: &Database,
    name: &str,
    (from, to): (&str, &str),
    act: Option<&Act>,
) -> Result<bool, DbError> {
    static SET: Statement = Statement::new("update tenants set quotas = $3 where name = $1 and quotas = $2");
    let mut session = database.write().await?;
    let changed = session.run(&SET, &[name.into(), from.into(), to.into()]).await?;
    audit::note(&mut session, act.filter(|_| changed == 1)).await?;
    session.commit().await?;
    Ok(changed == 1)
}

/// See [`crate::IdentityStore::count_open`].
pub(crate) async fn count_open(database: &Database, tenant: TenantId, max: u64) -> Result<u64, DbError> {
    static COUNT: Statement = Statement::new(
        "select count(*) from (
            select 1 from executions {sqlite: indexed by executions_open} where tenant_id = $1 and state = 0 limit $2
        ) as found",
    );
    let values = [tenant.into(), i64::try_from(max).unwrap_or(i64::MAX).into()];
    let rows = database.background().await?.rows(&COUNT, &values).await?;
    Ok(rows.into_iter().next().map_or(Ok(0), |mut row| row.count())?)
}

/// See [`crate::IdentityStore::create_token`].
pub(crate) async fn create_token(
    database: &Database,
    token: &Token,
    tokens_max: u32,
    act: Option<&Act>,
) -> Result<bool, DbError> {
    // The row of the tenant is locked first, so that two creations do not exceed the limit together.
    static TURN: Statement = Statement::new("update tenants set name = name where tenant_id = $1");
    static CREATE: Statement = Statement::new(
        "insert into tokens (token_id, tenant_id, role, name, secret_digest, created_at, expires_at)
        select $2, t.tenant_id, $3, $4, $5, {clock}, $6
        from tenants t
        where t.tenant_id = $1 and t.deleted_at is null and
            (select count(*) from tokens o where o.tenant_id = t.tenant_id and o.revoked_at is null
                and (o.expires_at is null or o.expires_at > {clock})) < $7",
    );
    static FORGET: Statement = Statement::new(
        "delete from tokens
        where tenant_id = $1 and token_id in (
            select o.token_id from tokens o
            where o.tenant_id = $1 and (o.revoked_at is not null or o.expires_at <= {clock})
            order by o.created_at desc, o.token_id
            {sqlite: limit -1} offset $2)",
    );
    let mut session = database.write().await?;
    session.run(&TURN, &[token.tenant.into()]).await?;
    let values = [
        token.tenant.into(),
        token.id.as_str().into(),
        token.role.as_str().into(),
        token.name.as_str().into(),
        token.secret_digest.as_str().into(),
        token.expires_at.into(),
        tokens_max.into(),
    ];
    let created = session.run(&CREATE, &values).await?;
    session.run(&FORGET, &[token.tenant.into(), tokens_max.into()]).await?;
    audit::note(&mut session, act.filter(|_| created == 1)).await?;
    session.commit().await?;
    Ok(created == 1)
}

/// See [`crate::IdentityStore::tokens`].
pub(crate) async fn tokens(database: &Database, tenant: TenantId) -> Result<Vec<Token>, DbError> {
    static OF_TENANT: Statement = Statement::new(
        "select token_id, tenant_id, role, name, secret_digest, created_at, expires_at, revoked_at, last_used_at
        from tokens where tenant_id = $1
        order by case when revoked_at is null and (expires_at is null or expires_at > {clock}) then 0 else 1 end,
            created_at desc, token_id",
    );
    let rows = database.client(tenant).await?.rows(&OF_TENANT, &[tenant.into()]).await?;
    Ok(RowKind::new("a token", 1).readable(rows, read_token))
}

/// See [`crate::IdentityStore::find_token`]. Not among the reads of clients: a slow list must not keep
/// callers out.
pub(crate) async fn find_token(database: &Database, id: &str) -> Result<Option<(Token, Tenant)>, DbError> {
    static FIND: Statement = Statement::new(
        "select k.token_id, k.tenant_id, k.role, k.name, k.secret_digest, k.created_at, k.expires_at, k.revoked_at,
            k.last_used_at, t.tenant_id, t.name, t.created_at, t.suspended_at, t.quotas, t.deleted_at
        from tokens k join tenants t on t.tenant_id = k.tenant_id
        where k.token_id = $1",
    );
    let mut rows = database.read().await?.rows(&FIND, &[id.into()]).await?;
    let Some(row) = rows.first_mut() else { return Ok(None) };
    Ok(Some((read_token(row)?, read_tenant(row)?)))
}

/// See [`crate::IdentityStore::note_use`].
pub(crate) async fn note_use(database: &Database, id: &str) -> Result<(), DbError> {
    static USED: Statement = Statement::new(
        "update tokens set last_used_at = {clock}
        where token_id = $1 and (last_used_at is null or last_used_at <= {clock} - 60000)",
    );
    let mut session = database.write().await?;
    session.run(&USED, &[id.into()]).await?;
    session.commit().await
}

/// See [`crate::IdentityStore::revoke_token`].
pub(crate) async fn revoke_token(
    database: &Database,
    tenant: TenantId,
    id: &str,
    act: Option<&Act>,
) -> Result<bool, DbError> {
    static REVOKE: Statement = Statement::new(
        "update tokens set revoked_at = {clock} where tenant_id = $1 and token_id = $2 and revoked_at is null",
    );
    let mut session = database.write().await?;
    let revoked = session.run(&REVOKE, &[tenant.into(), id.into()]).await?;
    audit::note(&mut session, act.filter(|_| revoked == 1)).await?;
    session.commit().await?;
    Ok(revoked == 1)
}

/// See [`crate::IdentityStore::has_tokens`].
pub(crate) async fn has_tokens(database: &Database) -> Result<bool, DbError> {
    static ANY: Statement = Statement::new("select token_id from tokens limit 1");
    Ok(!database.read().await?.rows(&ANY, &[]).await?.is_empty())
}

fn read_tenant(row: &mut Row) -> Result<Tenant, DbError> {
    Ok(Tenant {
        id: TenantId(row.count()?),
        name: row.text()?,
        created_at: row.at()?,
        suspended_at: row.opt_at()?,
        quotas: row.text()?,
        deleted_at: row.opt_at()?,
    })
}

fn read_token(row: &mut Row) -> Result<Token, DbError> {
    Ok(Token {
        id: row.text()?,
        tenant: TenantId(row.count()?),
        role: row.text()?,
        name: row.text()?,
        secret_digest: Digest::from_text(&row.text()?),
        created_at: row.at()?,
        expires_at: row.opt_at()?,
        revoked_at: row.opt_at()?,
        last_used_at: row.opt_at()?,
    })
}
