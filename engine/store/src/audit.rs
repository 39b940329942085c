//! The audit: one row with the actor for each act of a client that was acknowledged, in the transaction of the act.

use std::sync::Arc;

use cerebelum_history::{Timestamp, planted};

use crate::damage::RowKind;
use crate::database::Database;
use crate::db_error::DbError;
use crate::error::StoreError;
use crate::executions::{escape, unescape};
use crate::model::TenantId;
use crate::sql::{Row, Rows, Session, Statement, Value};

/// The most bytes of an object or an outcome; the rest is cut off.
const ACT_TEXT_BYTES_MAX: usize = 512;
/// The most acts on a page.
const PAGE_MAX: usize = 1_000;
/// The most acts that are read for one page. With a filter, a page may be short and not be the last one.
const READ_MAX: usize = 10_000;

/// The person or program that acts, and from where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Actor {
    /// The name of the token's owner; none if the engine has no tokens.
    pub name: Option<String>,
    /// The public part of the token.
    pub token: Option<String>,
    /// The address from which the request came, as far as the engine knows it.
    pub address: Option<String>,
}

/// What a client does, to be stored together with what it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// The tenant to which it happens.
    pub tenant: TenantId,
    /// A random number, which tells acts of one millisecond apart.
    pub chance: u64,
    /// The person or program that acts.
    pub actor: Arc<Actor>,
    /// The method of the interface, such as `Start`.
    pub operation: &'static str,
    /// What it is done to: the id of an execution, question or token, or the name of a component or tenant.
    pub object: String,
    /// What came of it, in a word or a few.
    pub outcome: String,
}

/// An act as it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// The time of its transaction, by the database's clock.
    pub at: Timestamp,
    /// The person or program that acted.
    pub actor: Actor,
    /// The method of the interface.
    pub operation: String,
    /// What it was done to.
    pub object: String,
    /// What came of it.
    pub outcome: String,
}

/// The acts to list. An empty filter lists all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only acts with this method of the interface.
    pub operation: Option<String>,
    /// Only acts of the caller with this name.
    pub caller: Option<String>,
    /// Only what was done to this object.
    pub object: Option<String>,
    /// Only acts at this time or later.
    pub since: Option<Timestamp>,
    /// Only acts after this place, as returned with the previous page.
    pub cursor: Option<String>,
    /// The most acts on the page, up to 1,000.
    pub limit: u32,
}

/// A page of acts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditPage {
    /// The newest first.
    pub acts: Vec<AuditRow>,
    /// Where the next page begins, if there may be one.
    pub cursor: Option<String>,
}

/// Inserts acts, at this very moment.
pub(crate) static INSERT: Statement = Statement::new(
    "insert into audit (tenant_id, at, chance, caller, token_id, address, operation, object, outcome)
    select r.tenant_id, {clock}, r.chance, r.caller, r.token_id, r.address, r.operation, r.object, r.outcome
    from {rows tenant_id:int chance:int caller:text token_id:text address:text operation:text object:text outcome:text}",
);

/// A row for [`INSERT`].
pub(crate) fn insertion(act: &Act) -> Vec<Value<'_>> {
    let Actor { name, token, address } = &*act.actor;
    vec![
        act.tenant.into(),
        chance_no(act.chance).into(),
        name.as_deref().map(escape).into(),
        token.as_deref().into(),
        address.as_deref().into(),
        act.operation.into(),
        escape(cut(&act.object)).into(),
        escape(cut(&act.outcome)).into(),
    ]
}

/// Stores what a client does in the transaction that does it. What the engine does by itself is no act.
pub(crate) async fn note(session: &mut Session, act: Option<&Act>) -> Result<(), DbError> {
    let Some(act) = act.filter(|_| !planted("act-forgotten")) else { return Ok(()) };
    let mut rows = Rows::default();
    rows.push(insertion(act));
    session.run_of(&INSERT, &rows).await?;
    Ok(())
}

/// See [`crate::AuditStore::acts`].
pub(crate) async fn list(database: &Database, tenant: TenantId, filter: &AuditFilter) -> Result<AuditPage, DbError> {
    static NEWEST: Statement = Statement::new(
        "select at, chance, caller, token_id, address, operation, object, outcome
        from audit where tenant_id = $1 and (at, chance) < ($2, $3) and at >= $4
        order by at desc, chance desc limit $5",
    );
    let mut place = filter.cursor.as_deref().map_or(Ok((i64::MAX, i64::MAX)), place)?;
    let limit = usize::try_from(filter.limit).unwrap_or(usize::MAX).clamp(1, PAGE_MAX);
    // With a filter most of what is read may not be wanted.
    let together = if filter.takes_all() { limit } else { PAGE_MAX };
    let since = filter.since.unwrap_or(Timestamp(0));
    let (mut page, mut seen) = (AuditPage::default(), 0);
    while seen < READ_MAX {
        let values = [tenant.into(), place.0.into(), place.1.into(), since.into(), together.into()];
        let rows = database.client(tenant).await?.rows(&NEWEST, &values).await?;
        seen += rows.len();
        let is_last = rows.len() < together;
        for mut row in rows {
            let key = row.glimpse(2);
            let act = row.int().and_then(|at| Ok((at, row.int()?))).map_err(DbError::from).and_then(|of_act| {
                place = of_act;
                read(place.0, &mut row)
            });
            match act {
                Ok(act) => page.acts.extend(Some(act).filter(|act| filter.takes(act))),
                Err(error) => RowKind::new("an act in the audit", 2).left_out(&key, error),
            }
            if page.acts.len() == limit {
                page.cursor = Some(cursor(place));
                return Ok(page);
            }
        }
        if is_last {
            return Ok(page);
        }
    }
    page.cursor = Some(cursor(place));
    Ok(page)
}

/// See [`crate::AuditStore::delete_acts`].
pub(crate) async fn delete(
    database: &Database,
    tenant: TenantId,
    before: Timestamp,
    limit: u32,
) -> Result<u64, DbError> {
    static DELETE: Statement = Statement::new(
        "delete from audit where (tenant_id, at, chance) in (
            select a.tenant_id, a.at, a.chance from audit a where a.tenant_id = $1 and a.at < $2
            order by a.at, a.chance limit $3)",
    );
    let mut session = database.write().await?;
    let deleted = session.run(&DELETE, &[tenant.into(), before.into(), limit.into()]).await?;
    session.commit().await?;
    Ok(deleted)
}

impl AuditFilter {
    fn takes_all(&self) -> bool {
        self.operation.is_none() && self.object.is_none() && self.caller.is_none()
    }

    /// Whether an act fits, apart from its time. The case of the operation does not matter.
    #[must_use]
    pub fn takes(&self, act: &AuditRow) -> bool {
        let fits = |wanted: &Option<String>, found: Option<&str>| wanted.is_none() || wanted.as_deref() == found;
        let is_operation = |wanted: &String| wanted.eq_ignore_ascii_case(&act.operation);
        self.operation.as_ref().is_none_or(is_operation)
            && self.object.as_ref().is_none_or(|object| is_of(object, &act.object))
            && fits(&self.caller, act.actor.name.as_deref())
    }
}

/// Whether what an act was done to is this object, or a question of this execution (`ID@…`).
fn is_of(object: &str, found: &str) -> bool {
    found.strip_prefix(object).is_some_and(|rest| rest.is_empty() || rest.starts_with('@'))
}

/// The beginning of a text that is too long.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(ACT_TEXT_BYTES_MAX)]
}

/// A random number as the database has it: never negative.
fn chance_no(chance: u64) -> i64 {
    i64::try_from(chance >> 1).unwrap_or(i64::MAX)
}

fn cursor((at, chance): (i64, i64)) -> String {
    format!("{at:x}:{chance:x}")
}

fn place(cursor: &str) -> Result<(i64, i64), StoreError> {
    let number = |digits: &str| i64::from_str_radix(digits, 16).ok();
    let parsed = cursor.split_once(':').and_then(|(at, chance)| Some((number(at)?, number(chance)?)));
    parsed.ok_or_else(|| StoreError::Invalid("the cursor is not one that an audit returned".into()))
}

fn read(at: i64, row: &mut Row) -> Result<AuditRow, DbError> {
    let at = Timestamp(u64::try_from(at).unwrap_or_default());
    let name = row.opt_text()?.map(|name| unescape(&name));
    let actor = Actor { name, token: row.opt_text()?, address: row.opt_text()? };
    let (operation, object, outcome) = (row.text()?, unescape(&row.text()?), unescape(&row.text()?));
    Ok(AuditRow { at, actor, operation, object, outcome })
}
