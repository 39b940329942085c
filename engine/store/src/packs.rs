//! The stored bytes of components: compressed, and if a similar component is already stored, only the difference from
//! it (decision 018).

use std::sync::Arc;

use cerebelum_history::Digest;
use tokio::sync::Semaphore;

use crate::database::Database;
use crate::db_error::{DbError, Error};
use crate::error::StoreError;
use crate::model::TenantId;
use crate::sql::{Row, Session, Statement};

/// The number of stored components with which a new one is compared, the latest first.
const BASES_MAX: u32 = 2;
/// A difference is stored if it has at most one in this many of the bytes. A component that is stored whole takes about
/// 40 % of its own bytes, and other components can be stored as differences from it.
const DIFFERENCE_SHARE: usize = 8;
/// An upper bound for the size of any component, in bytes.
const SIZE_MAX: usize = 256 << 20;
/// The number of components that are packed or unpacked at once. Each takes several times the memory of a component.
static PLACES: Semaphore = Semaphore::const_new(2);

/// The bytes of a component, packed.
pub(crate) struct Packed {
    /// The component from which this is the difference.
    base: Option<Digest>,
    packed: Vec<u8>,
}

/// A pack as it is stored.
struct Pack {
    size: usize,
    packed: Vec<u8>,
}

/// Packs a component's bytes, unless they are already stored. The base of a difference may be removed before the
/// difference is stored, see [`insert`].
pub(crate) async fn pack(
    database: &Database,
    tenant: TenantId,
    digest: &Digest,
    bytes: &Arc<Vec<u8>>,
) -> Result<Option<Packed>, DbError> {
    if are_there(&mut database.read().await?, tenant, digest).await? {
        return Ok(None);
    }
    let _place = PLACES.acquire().await.expect("nobody closes the semaphore");
    for base in similar(database, tenant, bytes.len()).await? {
        let Some(theirs) = find(database, tenant, &base).await? else { continue };
        let (mine, digest) = (bytes.clone(), base.clone());
        let difference = away(move || {
            // A damaged base is reported when it is needed for its own sake. No difference is built on it.
            let theirs = cerebelum_delta::unpack(&theirs.packed, None, theirs.size).ok()?;
            (Digest::of(&theirs) == digest).then(|| cerebelum_delta::pack(&mine, Some(&theirs)).ok())?
        });
        let max = bytes.len() / DIFFERENCE_SHARE;
        if let Some(packed) = difference.await?.filter(|packed| packed.len() <= max) {
            return Ok(Some(Packed { base: Some(base), packed }));
        }
    }
    let bytes = bytes.clone();
    let packed = away(move || cerebelum_delta::pack(&bytes, None)).await?;
    let packed = packed.map_err(|error| StoreError::Rejected(format!("a component cannot be packed: {error}")))?;
    Ok(Some(Packed { base: None, packed }))
}

/// Stores packed bytes, in a transaction that has its turn. Returns `false` and stores nothing if the base of the
/// difference is gone.
pub(crate) async fn insert(
    session: &mut Session,
    (tenant, digest): (TenantId, &Digest),
    size: usize,
    Packed { base, packed }: &Packed,
) -> Result<bool, DbError> {
    static IS_BASE: Statement =
        Statement::new("select 1 from component_packs where tenant_id = $1 and digest = $2 and base is null");
    static INSERT: Statement = Statement::new(
        "insert into component_packs (tenant_id, digest, base, packed_at, size_bytes, packed)
        values ($1, $2, $3, {clock}, $4, $5) on conflict do nothing",
    );
    if let Some(base) = base
        && session.rows(&IS_BASE, &[tenant.into(), base.as_str().into()]).await?.is_empty()
    {
        return Ok(false);
    }
    let base = base.as_ref().map(Digest::as_str);
    let values = [tenant.into(), digest.as_str().into(), base.into(), size.into(), packed.as_slice().into()];
    session.run(&INSERT, &values).await?;
    Ok(true)
}

/// Whether a component's bytes are stored, packed or in the form of earlier engines.
pub(crate) async fn are_there(session: &mut Session, tenant: TenantId, digest: &Digest) -> Result<bool, DbError> {
    static ARE_THERE: Statement = Statement::new(
        "select 1 from component_packs where tenant_id = $1 and digest = $2
        union all
        select 1 from component_bytes where tenant_id = $1 and digest = $2",
    );
    Ok(!session.rows(&ARE_THERE, &[tenant.into(), digest.as_str().into()]).await?.is_empty())
}

/// Also stores the bytes whole while an engine runs that can read nothing else, in a transaction that has its turn.
/// Once no such engine runs, whole copies are deleted.
pub(crate) async fn write_for_older_engines(
    session: &mut Session,
    (tenant, digest): (TenantId, &Digest),
    bytes: &[u8],
) -> Result<(), DbError> {
    static OLDER: Statement =
        Statement::new("select 1 from nodes where ended_at is null and reads_packs is null limit 1");
    static INSERT: Statement = Statement::new(
        "insert into component_bytes (tenant_id, digest, bytes) values ($1, $2, $3) on conflict do nothing",
    );
    static DELETE: Statement = Statement::new(
        "delete from component_bytes where tenant_id = $1 and exists (select 1 from component_packs p
            where p.tenant_id = component_bytes.tenant_id and p.digest = component_bytes.digest)",
    );
    match session.rows(&OLDER, &[]).await?.is_empty() {
        true => session.run(&DELETE, &[tenant.into()]).await?,
        false => session.run(&INSERT, &[tenant.into(), digest.as_str().into(), bytes.into()]).await?,
    };
    Ok(())
}

/// Deletes the bytes of removed components, in a transaction that has its turn. A base stays until all components that
/// are stored as differences from it are gone.
pub(crate) async fn delete_orphans(session: &mut Session, tenant: TenantId) -> Result<(), DbError> {
    static DELETE: Statement = Statement::new(
        "delete from component_packs where tenant_id = $1
            and not exists (select 1 from components c
                where c.tenant_id = component_packs.tenant_id and c.digest = component_packs.digest)
            and not exists (select 1 from component_packs d
                where d.tenant_id = component_packs.tenant_id and d.base = component_packs.digest)",
    );
    // The differences are deleted first, then the bases that no difference needs any more.
    for _ in 0..2 {
        session.run(&DELETE, &[tenant.into()]).await?;
    }
    Ok(())
}

/// The bytes of a component: unpacked, but not verified.
pub(crate) async fn bytes(database: &Database, tenant: TenantId, digest: &Digest) -> Result<Option<Vec<u8>>, DbError> {
    static READ: Statement = Statement::new(
        "select p.size_bytes, p.packed, p.base, b.size_bytes, b.packed
        from components c join component_packs p on p.tenant_id = c.tenant_id and p.digest = c.digest
        left join component_packs b on b.tenant_id = p.tenant_id and b.digest = p.base
        where c.tenant_id = $1 and c.digest = $2",
    );
    let _place = PLACES.acquire().await.expect("nobody closes the semaphore");
    let mut rows = database.search().await?.rows(&READ, &[tenant.into(), digest.as_str().into()]).await?;
    let Some(row) = rows.first_mut() else { return Ok(None) };
    let pack = read(row)?;
    let base = row.opt_text()?;
    let corrupt = |cause: String| DbError::from(StoreError::Corrupt(format!("component {digest}: {cause}")));
    let base = match base {
        None => None,
        Some(base) => match row.opt_int()? {
            Some(size) => Some(Pack { size: usize::try_from(size).unwrap_or(0), packed: row.bytes()? }),
            None => {
                return Err(corrupt(format!("the bytes of {base}, which it is stored as a difference from, are gone")));
            }
        },
    };
    let unpacked = away(move || {
        let base = base.map(|base| cerebelum_delta::unpack(&base.packed, None, base.size)).transpose()?;
        cerebelum_delta::unpack(&pack.packed, base.as_deref(), pack.size)
    });
    Ok(Some(unpacked.await?.map_err(|error| corrupt(format!("its bytes cannot be unpacked: {error}")))?))
}

/// The stored components to which a component of this size may be similar.
async fn similar(database: &Database, tenant: TenantId, size: usize) -> Result<Vec<Digest>, DbError> {
    static SIMILAR: Statement = Statement::new(
        "select digest from component_packs
        where tenant_id = $1 and base is null and size_bytes between $2 and $3
        order by packed_at desc, digest limit $4",
    );
    let values = [tenant.into(), (size / 2).into(), (size * 2).into(), BASES_MAX.into()];
    let rows = database.search().await?.rows(&SIMILAR, &values).await?;
    rows.into_iter().map(|mut row| Ok(Digest::from_text(&row.text()?))).collect()
}

/// A pack that is stored whole.
async fn find(database: &Database, tenant: TenantId, digest: &Digest) -> Result<Option<Pack>, DbError> {
    static FIND: Statement = Statement::new(
        "select size_bytes, packed from component_packs where tenant_id = $1 and digest = $2 and base is null",
    );
    let mut rows = database.search().await?.rows(&FIND, &[tenant.into(), digest.as_str().into()]).await?;
    Ok(rows.first_mut().map(read).transpose()?)
}

fn read(row: &mut Row) -> Result<Pack, Error> {
    let size: usize = row.count()?;
    // The memory is allocated at once, so a damaged number must not exhaust the machine.
    Ok(Pack { size: size.min(SIZE_MAX), packed: row.bytes()? })
}

/// Runs a computation away from the async threads.
async fn away<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, DbError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| StoreError::Unavailable(format!("packing a component broke off: {error}")).into())
}
