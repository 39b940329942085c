//! Sealed secrets, and the hosts that a tenant's requests may reach. The store knows no key and reads no secret.

use cerebelum_history::Timestamp;

use crate::audit::{self, Act};
use crate::damage::RowKind;
use crate::database::Database;
use crate::db_error::DbError;
use crate::model::TenantId;
use crate::sql::{Row, Session, Statement};

/// The key with which a tenant's secrets are sealed, itself sealed with a key of the engines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataKey {
    /// Which key of the engines it is sealed with.
    pub key_id: String,
    /// The sealed key.
    pub wrapped: Vec<u8>,
}

/// A sealed secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSecret {
    /// Its name.
    pub name: String,
    /// The hosts to which it may go, as a JSON array.
    pub hosts: String,
    /// The sealed value.
    pub sealed: Vec<u8>,
    /// When it was first set. The store sets it.
    pub created_at: Timestamp,
    /// When it was last set. The store sets it.
    pub changed_at: Timestamp,
}

/// What requests of a tenant's steps may reach and contain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Egress {
    /// The hosts that the operator allows to the tenant, as a JSON array; none for what the configuration says.
    pub hosts: Option<String>,
    /// The quotas that were set for the tenant, as in [`crate::Tenant`].
    pub quotas: String,
    /// A number that grows with every change of secrets; 0 while there never was one.
    pub version: i64,
    /// The key of the secrets; none while there never was one.
    pub key: Option<DataKey>,
    /// The secrets, by name.
    pub secrets: Vec<StoredSecret>,
}

/// A change of a tenant's secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretChange {
    /// Set one. The key is given if it is the tenant's first.
    Put(StoredSecret, Option<DataKey>),
    /// Delete the one with this name.
    Delete(String),
    /// Replace the key and all secrets, which are sealed anew.
    Replace(DataKey, Vec<StoredSecret>),
}

/// See [`crate::SecretStore::egress`].
pub(crate) async fn egress(database: &Database, tenant: TenantId) -> Result<Egress, DbError> {
    // One statement, so that key and secrets belong together.
    static ALL: Statement = Statement::new(
        "select t.hosts, t.quotas, k.version, k.key_id, k.wrapped, s.name, s.hosts, s.sealed, s.created_at, s.changed_at
        from tenants t left join data_keys k on k.tenant_id = t.tenant_id left join secrets s on s.tenant_id = t.tenant_id
        where t.tenant_id = $1 order by s.name",
    );
    let mut egress = Egress::default();
    for mut row in database.read().await?.rows(&ALL, &[tenant.into()]).await? {
        (egress.hosts, egress.quotas) = (row.opt_text()?, row.text()?);
        let Some(version) = row.opt_int()? else { continue };
        egress.version = version;
        egress.key = Some(DataKey { key_id: row.text()?, wrapped: row.bytes()? });
        // Without its name it cannot be told from no secret at all.
        let Some(name) = row.opt_text().unwrap_or_default() else { continue };
        match read(name.clone(), &mut row) {
            Ok(secret) => egress.secrets.push(secret),
            Err(error) => RowKind::new("a secret", 1).left_out(&format!("{} {name}", tenant.0), error),
        }
    }
    Ok(egress)
}

/// Reads the columns `hosts, sealed, created_at, changed_at`. No request needs the times.
fn read(name: String, row: &mut Row) -> Result<StoredSecret, DbError> {
    let (hosts, sealed) = (row.text()?, row.bytes()?);
    let (created_at, changed_at) = (row.at().unwrap_or_default(), row.at().unwrap_or_default());
    Ok(StoredSecret { name, hosts, sealed, created_at, changed_at })
}

/// See [`crate::SecretStore::change_secrets`].
pub(crate) async fn change(
    database: &Database,
    (tenant, version): (TenantId, i64),
    change: &SecretChange,
    act: Option<&Act>,
) -> Result<bool, DbError> {
    static DELETE: Statement = Statement::new("delete from secrets where tenant_id = $1 and name = $2");
    let mut session = database.write().await?;
    let key = match change {
        SecretChange::Put(_, key) => key.as_ref(),
        SecretChange::Delete(_) => None,
        SecretChange::Replace(key, _) => Some(key),
    };
    if !take_turn(&mut session, tenant, version, key).await? {
        session.rollback().await;
        return Ok(false);
    }
    match change {
        SecretChange::Put(secret, _) => put(&mut session, tenant, secret).await?,
        SecretChange::Delete(name) => {
            session.run(&DELETE, &[tenant.into(), name.as_str().into()]).await?;
        }
        SecretChange::Replace(_, secrets) => {
            for secret in secrets {
                put(&mut session, tenant, secret).await?;
            }
        }
    }
    audit::note(&mut session, act).await?;
    session.commit().await?;
    Ok(true)
}

/// Moves the version on, if it is the expected one, and sets the key if there is a new one. Other changes of the tenant's
/// secrets wait until the transaction ends.
async fn take_turn(
    session: &mut Session,
    tenant: TenantId,
    version: i64,
    key: Option<&DataKey>,
) -> Result<bool, DbError> {
    static FIRST: Statement = Statement::new(
        "insert into data_keys (tenant_id, version, key_id, wrapped)
        select t.tenant_id, 1, $2, $3 from tenants t where t.tenant_id = $1 and t.deleted_at is null
        on conflict (tenant_id) do nothing",
    );
    static NEXT: Statement =
        Statement::new("update data_keys set version = version + 1 where tenant_id = $1 and version = $2");
    static NEXT_KEY: Statement = Statement::new(
        "update data_keys set version = version + 1, key_id = $3, wrapped = $4 where tenant_id = $1 and version = $2",
    );
    let moved = match (version, key) {
        (0, None) => 0,
        (0, Some(key)) => {
            session.run(&FIRST, &[tenant.into(), key.key_id.as_str().into(), key.wrapped.as_slice().into()]).await?
        }
        (_, None) => session.run(&NEXT, &[tenant.into(), version.into()]).await?,
        (_, Some(key)) => {
            let (id, wrapped) = (key.key_id.as_str(), key.wrapped.as_slice());
            session.run(&NEXT_KEY, &[tenant.into(), version.into(), id.into(), wrapped.into()]).await?
        }
    };
    Ok(moved == 1)
}

async fn put(session: &mut Session, tenant: TenantId, secret: &StoredSecret) -> Result<(), DbError> {
    static PUT: Statement = Statement::new(
        "insert into secrets (tenant_id, name, hosts, sealed, created_at, changed_at)
        values ($1, $2, $3, $4, {clock}, {clock})
        on conflict (tenant_id, name) do update
        set hosts = excluded.hosts, sealed = excluded.sealed, changed_at = excluded.changed_at",
    );
    let StoredSecret { name, hosts, sealed, .. } = secret;
    session.run(&PUT, &[tenant.into(), name.as_str().into(), hosts.as_str().into(), sealed.as_slice().into()]).await?;
    Ok(())
}

/// See [`crate::SecretStore::set_hosts`].
pub(crate) async fn set_hosts(
    database: &Database,
    name: &str,
    hosts: Option<String>,
    act: Option<&Act>,
) -> Result<bool, DbError> {
    static SET: Statement = Statement::new("update tenants set hosts = $2 where name = $1 and deleted_at is null");
    let mut session = database.write().await?;
    let changed = session.run(&SET, &[name.into(), hosts.into()]).await?;
    audit::note(&mut session, act.filter(|_| changed == 1)).await?;
    session.commit().await?;
    Ok(changed == 1)
}
