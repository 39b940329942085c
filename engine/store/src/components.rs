//! Components: the bytes are stored once per digest, with the names under which they were uploaded.

use std::collections::HashMap;
use std::sync::Mutex;

use cerebelum_history::Digest;

use crate::audit::{self, Act};
use crate::database::Database;
use crate::db_error::DbError;
use crate::error::StoreError;
use crate::model::{Component, TenantId};
use crate::packs;
use crate::packs::Packed;
use crate::requests::Upload;
use crate::sql::{Row, Session, Statement};

/// Retries are bounded: between attempts, the component from which a difference was computed may be removed, and so may
/// the next one.
const ATTEMPTS_MAX: u32 = 8;

/// See [`crate::ComponentStore::keep_component`]. Returns the number of uploads so far.
pub(crate) async fn keep(database: &Database, upload: &Upload, act: Option<&Act>) -> Result<i64, DbError> {
    for _ in 0..ATTEMPTS_MAX {
        let packed = packs::pack(database, upload.tenant, &upload.digest, &upload.bytes).await?;
        if let Some(uploads) = try_keep(database, (upload, act), packed.as_ref()).await? {
            return Ok(uploads);
        }
    }
    Err(StoreError::Unavailable("components are uploaded and removed all the time".into()).into())
}

/// Stores the component with these bytes, or with the bytes that are already stored. Returns `None` if no bytes are
/// stored, or the base of the difference is gone.
async fn try_keep(
    database: &Database,
    (upload, act): (&Upload, Option<&Act>),
    packed: Option<&Packed>,
) -> Result<Option<i64>, DbError> {
    static KEEP: Statement = Statement::new(
        "insert into components (tenant_id, digest, manifest, size_bytes) values ($1, $2, $3, $4)
        on conflict (tenant_id, digest) do update set manifest = excluded.manifest, nameless_since = null",
    );
    static RETIRE: Statement = Statement::new(
        "update names set current = 0 where tenant_id = $1 and name = $2 and current = 1 and digest <> $3",
    );
    static NAME: Statement = Statement::new(
        "insert into names (tenant_id, name, digest, uploaded_at, current) values ($1, $2, $3, {clock}, 1)
        on conflict (tenant_id, name, digest) do update set uploaded_at = {clock}, current = 1
        where names.current = 0",
    );
    let Upload { tenant, name, digest, manifest, bytes } = upload;
    let tenant = *tenant;
    let mut session = database.write().await?;
    let Turn { uploads, is_deleted } = take_turn(&mut session, tenant).await?;
    if is_deleted {
        return Err(StoreError::Rejected("the tenant is deleted".into()).into());
    }
    if !packs::are_there(&mut session, tenant, digest).await? {
        let is_stored = match packed {
            Some(packed) => packs::insert(&mut session, (tenant, digest), bytes.len(), packed).await?,
            None => false,
        };
        if !is_stored {
            session.rollback().await;
            return Ok(None);
        }
    }
    session.run(&KEEP, &[tenant.into(), digest.as_str().into(), manifest.as_str().into(), bytes.len().into()]).await?;
    packs::write_for_older_engines(&mut session, (tenant, digest), bytes).await?;
    let named = [tenant.into(), name.as_str().into(), digest.as_str().into()];
    session.run(&RETIRE, &named).await?;
    session.run(&NAME, &named).await?;
    audit::note(&mut session, act).await?;
    session.commit().await?;
    Ok(Some(uploads))
}

/// What a turn of a tenant's uploads and removals finds.
pub(crate) struct Turn {
    /// The number of uploads and removals so far.
    pub(crate) uploads: i64,
    /// Whether the tenant is being deleted, so that it takes nothing new.
    is_deleted: bool,
}

/// Waits for other uploads and removals of the tenant, and makes later ones wait until the transaction ends.
pub(crate) async fn take_turn(session: &mut Session, tenant: TenantId) -> Result<Turn, DbError> {
    static TURN: Statement =
        Statement::new("update tenants set uploads = uploads + 1 where tenant_id = $1 returning uploads, deleted_at");
    let mut rows = session.rows(&TURN, &[tenant.into()]).await?;
    let Some(row) = rows.first_mut() else { return Ok(Turn { uploads: 0, is_deleted: true }) };
    Ok(Turn { uploads: row.int()?, is_deleted: row.opt_int()?.is_some() })
}

/// The number of uploads to a file, as far as it is known: no other process writes to the file. The number is not known
/// for a server.
#[derive(Default)]
pub(crate) struct Uploads(Mutex<HashMap<TenantId, i64>>);

impl Uploads {
    /// Notes that there were at least this many.
    pub(crate) fn count(&self, tenant: TenantId, uploads: i64) {
        let mut counted = self.0.lock().expect("nobody panics while counting");
        let counted = counted.entry(tenant).or_default();
        *counted = uploads.max(*counted);
    }

    /// See [`crate::ComponentStore::uploads`].
    pub(crate) async fn of(&self, database: &Database, tenant: TenantId) -> Result<i64, DbError> {
        let counted = self.0.lock().expect("nobody panics while counting").get(&tenant).copied();
        if let (Database::Sqlite { .. }, Some(counted)) = (database, counted) {
            return Ok(counted);
        }
        let uploads = uploads(database, tenant).await?;
        self.count(tenant, uploads);
        Ok(uploads)
    }
}

/// See [`crate::ComponentStore::components`].
pub(crate) async fn list(database: &Database, tenant: TenantId) -> Result<Vec<Component>, DbError> {
    static LIST: Statement = Statement::new(
        "select n.name, n.digest, c.manifest, c.size_bytes, n.uploaded_at, n.current
        from names n join components c on c.tenant_id = n.tenant_id and c.digest = n.digest
        where n.tenant_id = $1
        order by n.name, n.current desc, n.uploaded_at desc, n.digest",
    );
    let mut session = database.client(tenant).await?;
    let rows = session.rows(&LIST, &[tenant.into()]).await?;
    rows.into_iter().map(|mut row| read(&mut row)).collect()
}

async fn uploads(database: &Database, tenant: TenantId) -> Result<i64, DbError> {
    static UPLOADS: Statement = Statement::new("select uploads from tenants where tenant_id = $1");
    let mut rows = database.read().await?.rows(&UPLOADS, &[tenant.into()]).await?;
    Ok(rows.first_mut().map_or(Ok(0), |row| row.int())?)
}

/// See [`crate::ComponentStore::component_bytes`].
pub(crate) async fn bytes(database: &Database, tenant: TenantId, digest: &Digest) -> Result<Option<Vec<u8>>, DbError> {
    let bytes = match packs::bytes(database, tenant, digest).await? {
        Some(bytes) => bytes,
        None => match whole_bytes(database, tenant, digest).await? {
            Some(bytes) => bytes,
            None => return Ok(None),
        },
    };
    if Digest::of(&bytes) != *digest {
        return Err(
            StoreError::Corrupt(format!("component {digest}: its bytes are not those that were uploaded")).into()
        );
    }
    Ok(Some(bytes))
}

/// The bytes of a component in the form in which earlier engines stored them.
async fn whole_bytes(database: &Database, tenant: TenantId, digest: &Digest) -> Result<Option<Vec<u8>>, DbError> {
    static BYTES: Statement = Statement::new("select bytes from component_bytes where tenant_id = $1 and digest = $2");
    let mut rows = database.search().await?.rows(&BYTES, &[tenant.into(), digest.as_str().into()]).await?;
    Ok(rows.first_mut().map(Row::bytes).transpose()?)
}

fn read(row: &mut Row) -> Result<Component, DbError> {
    let name = row.text()?;
    let digest = Digest::from_text(&row.text()?);
    let (manifest, size) = (row.text()?, row.count()?);
    Ok(Component { name, digest, manifest, size, uploaded_at: row.at()?, current: row.flag()? })
}
