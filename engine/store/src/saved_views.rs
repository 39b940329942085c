//! Saved views of lists: of a whole tenant, or of one person. The store does not read what a view shows.

use cerebelum_history::Timestamp;

use crate::audit::{self, Act};
use crate::damage::RowKind;
use crate::database::Database;
use crate::db_error::DbError;
use crate::model::TenantId;
use crate::sql::Statement;

/// What stands in the place of an owner when a view is the whole tenant's. No token has an empty name.
const SHARED: &str = "";

/// Which view: two people may each have one of the same name, beside one of the tenant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ViewKey {
    /// The tenant.
    pub tenant: TenantId,
    /// The name with which its owner's tokens act; none if it is the whole tenant's.
    pub owner: Option<String>,
    /// Its name.
    pub name: String,
}

/// A view to be saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewView {
    /// Which one. If there is one already, it is replaced.
    pub key: ViewKey,
    /// What it shows, as JSON.
    pub content: String,
    /// The name of the caller who saves it; none if the engine has no tokens.
    pub saved_by: Option<String>,
}

/// A saved view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredView {
    /// Which one.
    pub key: ViewKey,
    /// What it shows, as JSON.
    pub content: String,
    /// The name of the caller who saved it; none if the engine had no tokens.
    pub saved_by: Option<String>,
    /// When it was last saved.
    pub saved_at: Timestamp,
}

/// The most views.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ViewLimits {
    /// Of one owner.
    pub of_owner: u32,
    /// Of a tenant, of all its owners together.
    pub of_tenant: u32,
}

fn owner(key: &ViewKey) -> &str {
    key.owner.as_deref().unwrap_or(SHARED)
}

/// See [`crate::ViewStore::save_view`].
pub(crate) async fn save(
    database: &Database,
    new: &NewView,
    limits: ViewLimits,
    act: Option<&Act>,
) -> Result<bool, DbError> {
    // The row of the tenant is locked first, so that two views do not exceed a limit together.
    static TURN: Statement = Statement::new(
        "select 1 from tenants where tenant_id = $1 and deleted_at is null {postgres: for no key update}",
    );
    // The views of a person whose tokens are gone could be deleted by no caller.
    static LEFT_BEHIND: Statement = Statement::new(
        "delete from views where tenant_id = $1 and owner <> '' and owner <> $2
            and not exists (select 1 from tokens t where t.tenant_id = views.tenant_id and t.name = views.owner)",
    );
    static COUNT: Statement = Statement::new(
        "select count(*), count(case when owner = $2 then 1 end), count(case when owner = $2 and name = $3 then 1 end)
        from views where tenant_id = $1",
    );
    static SAVE: Statement = Statement::new(
        "insert into views (saved_at, tenant_id, owner, name, content, saved_by)
        values ({clock}, $1, $2, $3, $4, $5)
        on conflict (tenant_id, owner, name) do update
        set saved_at = excluded.saved_at, content = excluded.content, saved_by = excluded.saved_by",
    );
    let (tenant, owner, name) = (new.key.tenant, owner(&new.key), new.key.name.as_str());
    let mut session = database.write().await?;
    if session.rows(&TURN, &[tenant.into()]).await?.is_empty() {
        return Ok(false);
    }
    session.run(&LEFT_BEHIND, &[tenant.into(), owner.into()]).await?;
    let mut counted = session.rows(&COUNT, &[tenant.into(), owner.into(), name.into()]).await?;
    let Some(row) = counted.first_mut() else { return Ok(false) };
    let (all, own, same): (u64, u64, u64) = (row.count()?, row.count()?, row.count()?);
    if same == 0 && (own >= limits.of_owner.into() || all >= limits.of_tenant.into()) {
        session.rollback().await;
        return Ok(false);
    }
    let values =
        [tenant.into(), owner.into(), name.into(), new.content.as_str().into(), new.saved_by.as_deref().into()];
    session.run(&SAVE, &values).await?;
    audit::note(&mut session, act).await?;
    session.commit().await?;
    Ok(true)
}

/// See [`crate::ViewStore::views`].
pub(crate) async fn list(database: &Database, tenant: TenantId, of: Option<&str>) -> Result<Vec<StoredView>, DbError> {
    static LIST: Statement = Statement::new(
        "select owner, name, content, saved_by, saved_at from views
        where tenant_id = $1 and owner in ('', $2)",
    );
    let mut session = database.client(tenant).await?;
    let rows = session.rows(&LIST, &[tenant.into(), of.unwrap_or(SHARED).into()]).await?;
    let mut views = RowKind::new("a saved view", 2).readable(rows, |row| {
        let owner = Some(row.text()?).filter(|owner| owner != SHARED);
        let key = ViewKey { tenant, owner, name: row.text()? };
        Ok(StoredView { key, content: row.text()?, saved_by: row.opt_text()?, saved_at: row.at()? })
    });
    // Databases disagree on the order of letters.
    views.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(views)
}

/// See [`crate::ViewStore::delete_view`].
pub(crate) async fn delete(database: &Database, key: &ViewKey, act: Option<&Act>) -> Result<bool, DbError> {
    static DELETE: Statement = Statement::new("delete from views where tenant_id = $1 and owner = $2 and name = $3");
    let mut session = database.write().await?;
    let deleted = session.run(&DELETE, &[key.tenant.into(), owner(key).into(), key.name.as_str().into()]).await?;
    audit::note(&mut session, act.filter(|_| deleted == 1)).await?;
    session.commit().await?;
    Ok(deleted == 1)
}
