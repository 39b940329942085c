//! Components: the bytes are stored once per digest, with the names under which they were uploaded.

use std::collections::HashMap;
use std::sync::Mutex;

use cerebelum_history::Digest;

use crate::audit::{self, Act};
use crate::damage::RowKind;
use crate::database::Database;
use crate::db_error::DbError;
use crate::error::StoreError;
use crate::model::{Component, TenantId};
use crate::packs;
use crate::packs::Packed;
use crate::removal::Version;
use crate::requests::{Upload, VersionChange, VersionState};
use crate::sql::{Row, Session, Statement};

/// Retries are bounded: between attempts, the component from which a difference was computed may be removed, and so may
/// the next one.
const ATTEMPTS_MAX: u32 = 8;

/// See [`crate::ComponentStore::keep_component`]. Returns the number of uploads so far, if this is one.
pub(crate) async fn keep(database: &Database, upload: &Upload, act: Option<&Act>) -> Result<Option<i64>, DbError> {
    for _ in 0..ATTEMPTS_MAX {
        let packed = packs::pack(database, upload.tenant, &upload.digest, &upload.bytes).await?;
        match try_keep(database, (upload, act), packed.as_ref()).await? {
            Kept::Yes(uploads) => return Ok(Some(uploads)),
            Kept::TooLate => return Ok(None),
            Kept::WithoutBytes => {}
        }
    }
    Err(StoreError::Unavailable("components are uploaded and removed all the time".into()).into())
}

/// What came of storing a component.
enum Kept {
    /// It is stored. This is the number of uploads so far.
    Yes(i64),
    /// There was another upload since its state was decided.
    TooLate,
    /// No bytes are stored, or the base of the difference is gone.
    WithoutBytes,
}

/// Stores the component with these bytes, or with the bytes that are already stored.
async fn try_keep(
    database: &Database,
    (upload, act): (&Upload, Option<&Act>),
    packed: Option<&Packed>,
) -> Result<Kept, DbError> {
    static KEEP: Statement = Statement::new(
        "insert into components (tenant_id, digest, manifest, size_bytes) values ($1, $2, $3, $4)
        on conflict (tenant_id, digest) do update set manifest = excluded.manifest, nameless_since = null",
    );
    let Upload { tenant, name, digest, manifest, bytes, change } = upload;
    let tenant = *tenant;
    let mut session = database.write().await?;
    let UploadLock { uploads, is_deleted } = lock_uploads(&mut session, tenant).await?;
    if is_deleted {
        return Err(StoreError::Rejected("the tenant is deleted".into()).into());
    }
    if !change.is_next(uploads) {
        session.rollback().await;
        return Ok(Kept::TooLate);
    }
    if !packs::are_there(&mut session, tenant, digest).await? {
        let is_stored = match packed {
            Some(packed) => packs::insert(&mut session, (tenant, digest), bytes.len(), packed).await?,
            None => false,
        };
        if !is_stored {
            session.rollback().await;
            return Ok(Kept::WithoutBytes);
        }
    }
    session.run(&KEEP, &[tenant.into(), digest.as_str().into(), manifest.as_str().into(), bytes.len().into()]).await?;
    packs::write_for_older_engines(&mut session, (tenant, digest), bytes).await?;
    put(&mut session, (tenant, name, digest), change).await?;
    audit::note(&mut session, act).await?;
    session.commit().await?;
    Ok(Kept::Yes(uploads))
}

/// See [`crate::ComponentStore::change_version`]. Returns the number of uploads so far, if this counts as one.
pub(crate) async fn change_version(
    database: &Database,
    version: &Version,
    change: &VersionChange,
    act: Option<&Act>,
) -> Result<Option<i64>, DbError> {
    let Version { tenant, name, digest } = version;
    let mut session = database.write().await?;
    let turn = lock_uploads(&mut session, *tenant).await?;
    if turn.is_deleted || !change.is_next(turn.uploads) {
        session.rollback().await;
        return Ok(None);
    }
    put(&mut session, (*tenant, name, digest), change).await?;
    audit::note(&mut session, act).await?;
    session.commit().await?;
    Ok(Some(turn.uploads))
}

impl VersionChange {
    /// Whether this upload, by its number, is the next one after the decision.
    fn is_next(&self, uploads: i64) -> bool {
        uploads == self.uploads + 1
    }
}

/// Gives a version its state among those of its name, and the name its grants.
async fn put(
    session: &mut Session,
    (tenant, name, digest): (TenantId, &str, &Digest),
    change: &VersionChange,
) -> Result<(), DbError> {
    static RETIRE: Statement = Statement::new(
        "update names set current = 0 where tenant_id = $1 and name = $2 and current = 1 and digest <> $3",
    );
    static NAME: Statement = Statement::new(
        "insert into names (tenant_id, name, digest, uploaded_at, current) values ($1, $2, $3, {clock}, 1)
        on conflict (tenant_id, name, digest) do update set uploaded_at = {clock}, current = 1, proposed_at = null
        where names.current = 0",
    );
    static UPLOADED: Statement = Statement::new(
        "insert into names (tenant_id, name, digest, uploaded_at, current) values ($1, $2, $3, {clock}, 0)
        on conflict (tenant_id, name, digest) do update set uploaded_at = {clock} where names.current = 0",
    );
    static PROPOSE: Statement = Statement::new(
        "update names set proposed_at = uploaded_at where tenant_id = $1 and name = $2 and digest = $3 and current = 0",
    );
    static GRANT: Statement = Statement::new(
        "insert into grants (tenant_id, name, capabilities) values ($1, $2, $3)
        on conflict (tenant_id, name) do update set capabilities = excluded.capabilities",
    );
    let named = [tenant.into(), name.into(), digest.as_str().into()];
    let statements = match change.state {
        VersionState::Current => [&RETIRE, &NAME],
        VersionState::Proposed => [&UPLOADED, &PROPOSE],
    };
    for statement in statements {
        session.run(statement, &named).await?;
    }
    session.run(&GRANT, &[tenant.into(), name.into(), change.granted.as_str().into()]).await?;
    Ok(())
}

/// What a turn of a tenant's uploads and removals finds.
pub(crate) struct UploadLock {
    /// The number of uploads and removals so far.
    pub(crate) uploads: i64,
    /// Whether the tenant is being deleted, so that it takes nothing new.
    is_deleted: bool,
}

/// Waits for other uploads and removals of the tenant, and makes later ones wait until the transaction ends.
pub(crate) async fn lock_uploads(session: &mut Session, tenant: TenantId) -> Result<UploadLock, DbError> {
    static TURN: Statement =
        Statement::new("update tenants set uploads = uploads + 1 where tenant_id = $1 returning uploads, deleted_at");
    let mut rows = session.rows(&TURN, &[tenant.into()]).await?;
    let Some(row) = rows.first_mut() else { return Ok(UploadLock { uploads: 0, is_deleted: true }) };
    Ok(UploadLock { uploads: row.int()?, is_deleted: row.opt_int()?.is_some() })
}

/// The number of uploads to a file, as far as it is known: no other process writes to the file. The number is not known
/// for a server.
#[derive(Default)]
pub(crate) struct Uploads(Mutex<HashMap<TenantId, i64>>);

impl Uploads {
    /// Notes that there were at least this many.
    fn count(&self, tenant: TenantId, uploads: i64) {
        let mut counted = self.0.lock().expect("nobody panics while counting");
        let counted = counted.entry(tenant).or_default();
        *counted = uploads.max(*counted);
    }

    /// Notes the number after something that counts as an upload, and returns whether it happened.
    pub(crate) fn counted(&self, tenant: TenantId, uploads: Option<i64>) -> bool {
        uploads.inspect(|uploads| self.count(tenant, *uploads)).is_some()
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
        "select n.name, n.digest, c.manifest, c.size_bytes, n.uploaded_at, n.current, n.proposed_at, g.capabilities
        from names n join components c on c.tenant_id = n.tenant_id and c.digest = n.digest
        left join grants g on g.tenant_id = n.tenant_id and g.name = n.name
        where n.tenant_id = $1
        order by n.name, n.current desc, n.uploaded_at desc, n.digest",
    );
    let mut session = database.client(tenant).await?;
    let rows = session.rows(&LIST, &[tenant.into()]).await?;
    Ok(RowKind::new("a version of a component", 2).readable(rows, read))
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

/// Reads a version. It is left out only if it cannot be told which one it is: a version that is missing from the list would
/// count as one without a name, which was granted all that it asks for.
fn read(row: &mut Row) -> Result<Component, DbError> {
    let name = row.text()?;
    let digest = Digest::from_text(&row.text()?);
    // What starts it, or asks for it by its name, says that its declarations cannot be read.
    let (manifest, size) = (row.text().unwrap_or_default(), row.count().unwrap_or_default());
    let (uploaded_at, current) = (row.at().unwrap_or_default(), row.flag().unwrap_or_default());
    // An engine that knows no proposals may have made it current since.
    let proposed = row.opt_at().unwrap_or_default() == Some(uploaded_at) && !current;
    // Of a damaged record nothing is granted.
    let granted = row.opt_text().unwrap_or_else(|_| Some("[]".into()));
    Ok(Component { name, digest, manifest, size, uploaded_at, current, proposed, granted })
}
