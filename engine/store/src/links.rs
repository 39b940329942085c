//! Links with which people answer questions. Only digests of their secrets are stored; each link answers once.

use cerebelum_history::{Digest, Timestamp, planted};

use crate::approvals;
use crate::audit::{self, Act};
use crate::damage::RowKind;
use crate::database::Database;
use crate::db_error::DbError;
use crate::error::StoreError;
use crate::executions::{escape, unescape};
use crate::model::{ApprovalRow, ApprovalState, TenantId};
use crate::sql::{Row, Session, Statement};

/// How many hex digits of a link's digest are its id.
const LINK_ID_DIGITS: usize = 12;

/// The decisions that a link allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Allowed {
    /// To approve.
    Approve,
    /// To reject.
    Reject,
    /// Either of them.
    #[default]
    Both,
}

/// A link to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLink {
    /// The tenant whose question it answers.
    pub tenant: TenantId,
    /// The question.
    pub approval: String,
    /// The time of the asking for which the link was wanted.
    pub asked_at: Timestamp,
    /// The digest of its secret.
    pub digest: Digest,
    /// The name of the person who answers with it.
    pub name: String,
    /// The decisions that it allows.
    pub allowed: Allowed,
    /// The name of the caller who creates it; none if the engine has no tokens.
    pub created_by: Option<String>,
    /// How long it can be used, in milliseconds.
    pub lives_ms: u64,
}

/// A link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalLink {
    /// The digest of its secret.
    pub digest: Digest,
    /// The question that it answers.
    pub approval: String,
    /// The name of the person who answers with it.
    pub name: String,
    /// The decisions that it allows.
    pub allowed: Allowed,
    /// The name of the caller who created it; none if the engine had no tokens.
    pub created_by: Option<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// The time from which it is refused.
    pub expires_at: Timestamp,
    /// When the question was answered with it.
    pub used_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

impl ApprovalLink {
    /// Its id, which names it in lists and is of no use to open it.
    #[must_use]
    pub fn id(&self) -> &str {
        id_of(&self.digest)
    }
}

/// A link that was found by its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundLink {
    /// The tenant whose question it answers.
    pub tenant: TenantId,
    /// The link.
    pub link: ApprovalLink,
    /// Whether its time is over.
    pub is_expired: bool,
    /// The question. It has timed out once its deadline is over, whether a batch has recorded that or not.
    pub question: ApprovalRow,
}

/// What became of a link that was wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkOutcome {
    /// It was created.
    Created(ApprovalLink),
    /// The question has as many open links as it may.
    TooMany,
    /// The question had already ended in this state.
    TooLate(ApprovalState),
    /// The question was asked again meanwhile.
    AskedAgain,
    /// The question does not exist.
    Unknown,
}

/// The id of the link with this digest.
pub(crate) fn id_of(digest: &Digest) -> &str {
    digest.as_str().get(..LINK_ID_DIGITS).unwrap_or_default()
}

/// See [`crate::LinkStore::create_link`].
pub(crate) async fn create(
    database: &Database,
    new: &NewLink,
    links_max: u32,
    act: Option<&Act>,
) -> Result<LinkOutcome, DbError> {
    // The row of the question is locked first, so that two creations do not exceed the limit together.
    static TURN: Statement = Statement::new(
        "select execution_no, requested_at, state, case when deadline <= {clock} then 1 else 0 end
        from approvals where tenant_id = $1 and id = $2 {postgres: for no key update}",
    );
    static CREATE: Statement = Statement::new(
        "insert into approval_links (created_at, expires_at, execution_no, tenant_id, decisions, digest, approval_id, name,
            created_by)
        select {clock}, {clock} + $4, $2, t.tenant_id, $5, $6, $3, $7, $8
        from tenants t
        where t.tenant_id = $1 and t.deleted_at is null and
            (select count(*) from approval_links o
            where o.tenant_id = $1 and o.execution_no = $2 and o.approval_id = $3
                and o.used_at is null and o.revoked_at is null and o.expires_at > {clock}) < $9
        returning digest, approval_id, name, decisions, created_by, created_at, expires_at, used_at, revoked_at",
    );
    let (tenant, question) = (new.tenant, new.approval.as_str());
    let mut session = database.write().await?;
    let mut asked = session.rows(&TURN, &[tenant.into(), question.into()]).await?;
    let Some(asked) = asked.first_mut() else { return Ok(LinkOutcome::Unknown) };
    let (no, requested_at) = (asked.int()?, asked.at()?);
    let state = state(question, asked.int()?, asked.flag()?)?;
    if state != ApprovalState::Open {
        return Ok(LinkOutcome::TooLate(state));
    }
    if requested_at != new.asked_at {
        return Ok(LinkOutcome::AskedAgain);
    }
    let values = [
        tenant.into(),
        no.into(),
        question.into(),
        i64::try_from(new.lives_ms).unwrap_or(i64::MAX >> 2).into(),
        allowed_no(new.allowed).into(),
        new.digest.as_str().into(),
        escape(&new.name).into(),
        new.created_by.as_deref().map(escape).into(),
        links_max.into(),
    ];
    let mut created = session.rows(&CREATE, &values).await?;
    let Some(created) = created.first_mut() else { return Ok(LinkOutcome::TooMany) };
    let link = read(created)?;
    forget(&mut session, (tenant, no, question), links_max).await?;
    audit::note(&mut session, act).await?;
    session.commit().await?;
    Ok(LinkOutcome::Created(link))
}

/// Deletes the oldest links of a question that have ended, beyond a number.
async fn forget(
    session: &mut Session,
    (tenant, no, question): (TenantId, i64, &str),
    links_max: u32,
) -> Result<(), DbError> {
    static FORGET: Statement = Statement::new(
        "delete from approval_links
        where tenant_id = $1 and digest in (
            select o.digest from approval_links o
            where o.tenant_id = $1 and o.execution_no = $2 and o.approval_id = $3
                and (o.used_at is not null or o.revoked_at is not null or o.expires_at <= {clock})
            order by o.created_at desc, o.digest
            {sqlite: limit -1} offset $4)",
    );
    session.run(&FORGET, &[tenant.into(), no.into(), question.into(), links_max.into()]).await?;
    Ok(())
}

/// See [`crate::LinkStore::find_link`]. Not among the reads of clients, because the tenant is not known yet.
pub(crate) async fn find(database: &Database, digest: &Digest) -> Result<Option<FoundLink>, DbError> {
    static FIND: Statement = Statement::new(
        "select l.tenant_id, case when l.expires_at <= {clock} then 1 else 0 end,
            case when a.deadline <= {clock} then 1 else 0 end,
            l.digest, l.approval_id, l.name, l.decisions, l.created_by, l.created_at, l.expires_at, l.used_at,
            l.revoked_at, a.id, e.id, a.call, a.request, a.requested_at, a.deadline, a.state
        from approval_links l
            join tenants t on t.tenant_id = l.tenant_id
            join approvals a on a.tenant_id = l.tenant_id and a.id = l.approval_id and a.execution_no = l.execution_no
            join executions e on e.tenant_id = a.tenant_id and e.execution_no = a.execution_no
        where l.digest = $1 and l.revoked_at is null and t.suspended_at is null and t.deleted_at is null",
    );
    let mut rows = database.read().await?.rows(&FIND, &[digest.as_str().into()]).await?;
    let Some(row) = rows.first_mut() else { return Ok(None) };
    let (tenant, is_expired, is_over) = (TenantId(row.count()?), row.flag()?, row.flag()?);
    let link = read(row)?;
    let mut question = approvals::read(row)?;
    if question.state == ApprovalState::Open && is_over {
        question.state = ApprovalState::TimedOut;
    }
    Ok(Some(FoundLink { tenant, link, is_expired, question }))
}

/// See [`crate::LinkStore::links`].
pub(crate) async fn list(database: &Database, tenant: TenantId, question: &str) -> Result<Vec<ApprovalLink>, DbError> {
    static OF_QUESTION: Statement = Statement::new(
        "select l.digest, l.approval_id, l.name, l.decisions, l.created_by, l.created_at, l.expires_at, l.used_at,
            l.revoked_at
        from approvals a join approval_links l
            on l.tenant_id = a.tenant_id and l.execution_no = a.execution_no and l.approval_id = a.id
        where a.tenant_id = $1 and a.id = $2
        order by l.created_at desc, l.digest",
    );
    let rows = database.client(tenant).await?.rows(&OF_QUESTION, &[tenant.into(), question.into()]).await?;
    // The digest of a link does not open it, and its first digits are its id.
    Ok(RowKind::new("a link to an approval", 1).readable(rows, read))
}

/// See [`crate::LinkStore::revoke_link`].
pub(crate) async fn revoke(
    database: &Database,
    (tenant, question): (TenantId, &str),
    id: &str,
    act: Option<&Act>,
) -> Result<bool, DbError> {
    static REVOKE: Statement = Statement::new(
        "update approval_links set revoked_at = {clock}
        where used_at is null and revoked_at is null and digest in (
            select l.digest from approvals a join approval_links l
                on l.tenant_id = a.tenant_id and l.execution_no = a.execution_no and l.approval_id = a.id
            where a.tenant_id = $1 and a.id = $2 and substr(l.digest, 1, cast($4 as integer)) = $3)",
    );
    let mut session = database.write().await?;
    let values = [tenant.into(), question.into(), id.into(), LINK_ID_DIGITS.into()];
    let revoked = session.run(&REVOKE, &values).await?;
    audit::note(&mut session, act.filter(|_| revoked > 0)).await?;
    session.commit().await?;
    Ok(revoked > 0)
}

/// Uses up a link to a question, in the transaction that answers it. Returns `false` if it cannot be used.
pub(crate) async fn consume(
    session: &mut Session,
    (tenant, question): (TenantId, &str),
    digest: &Digest,
) -> Result<bool, DbError> {
    static CONSUME: Statement = Statement::new(
        "update approval_links set used_at = {clock}
        where digest = $3 and tenant_id = $1 and approval_id = $2
            and used_at is null and revoked_at is null and expires_at > {clock}
            and exists (select 1 from tenants t
                where t.tenant_id = $1 and t.suspended_at is null and t.deleted_at is null)",
    );
    if planted("link-not-consumed") {
        return Ok(true);
    }
    Ok(session.run(&CONSUME, &[tenant.into(), question.into(), digest.as_str().into()]).await? == 1)
}

/// Reads the columns `digest, approval_id, name, decisions, created_by, created_at, expires_at, used_at, revoked_at`.
fn read(row: &mut Row) -> Result<ApprovalLink, DbError> {
    let (digest, approval, name) = (Digest::from_text(&row.text()?), row.text()?, unescape(&row.text()?));
    let allowed = allowed_of(row.int()?).ok_or_else(|| corrupt(&approval))?;
    Ok(ApprovalLink {
        digest,
        approval,
        name,
        allowed,
        created_by: row.opt_text()?.as_deref().map(unescape),
        created_at: row.at()?,
        expires_at: row.at()?,
        used_at: row.opt_at()?,
        revoked_at: row.opt_at()?,
    })
}

/// The state of a question, whose deadline may be over before a batch has recorded that.
fn state(question: &str, no: i64, is_over: bool) -> Result<ApprovalState, DbError> {
    match approvals::state_of(no) {
        Some(ApprovalState::Open) if is_over => Ok(ApprovalState::TimedOut),
        Some(state) => Ok(state),
        None => Err(corrupt(question).into()),
    }
}

fn corrupt(question: &str) -> StoreError {
    StoreError::Corrupt(format!("a link to approval {question}: its row cannot be read"))
}

const fn allowed_no(allowed: Allowed) -> i64 {
    match allowed {
        Allowed::Approve => 1,
        Allowed::Reject => 2,
        Allowed::Both => 3,
    }
}

const fn allowed_of(no: i64) -> Option<Allowed> {
    match no {
        1 => Some(Allowed::Approve),
        2 => Some(Allowed::Reject),
        3 => Some(Allowed::Both),
        _ => None,
    }
}
