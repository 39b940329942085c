//! Questions to people. A single compare-and-set on a question's row decides each one (L9).

use cerebelum_history::{Digest, ExecutionId, Timestamp};

use crate::audit::{self, Act};
use crate::database::Database;
use crate::db_error::{DbError, Error};
use crate::error::StoreError;
use crate::hints::InboxNotice;
use crate::inbox;
use crate::links;
use crate::model::{AnswerOutcome, ApprovalPage, ApprovalRow, ApprovalState, ExecutionKey, Incarnation, TenantId};
use crate::requests::ApprovalFilter;
use crate::sql::{Row, Session, Statement};

/// The most questions on a page.
const PAGE_MAX: u32 = 1_000;
/// A page ends with the question that brings it to this many bytes.
const PAGE_BYTES_MAX: usize = 8 << 20;
/// The number of questions that are read at once.
const READ_AT_ONCE: usize = 32;
/// Sorts after all ids, which are ASCII.
const LAST_ID: &str = "\u{10ffff}";

/// An answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The tenant whose question it is.
    pub tenant: TenantId,
    /// The question.
    pub id: String,
    /// The time of the asking to which this is the answer. An execution that was reopened may ask again, and otherwise.
    /// None for whichever is open.
    pub asked_at: Option<Timestamp>,
    /// What becomes of the question.
    pub to: ApprovalState,
    /// What the execution is told.
    pub message: String,
    /// The digest of the link with which it came, which is used up.
    pub link: Option<Digest>,
}

/// Inserts questions. If an execution asks one of its questions again, that question is open again. An id that belongs
/// to another execution is left alone, unless that one was deleted: a child that is started again asks what it asked before.
pub(crate) static ASK: Statement = Statement::new(
    "insert into approvals (tenant_id, id, execution_no, call, request, requested_at, deadline, state, run)
    select r.tenant_id, r.id, r.execution_no, r.call, r.request, r.requested_at, r.deadline, r.state, r.run
    from {rows tenant_id:int id:text execution_no:int call:text request:text requested_at:int deadline:int state:int
        run:int}
    where true
    on conflict (tenant_id, id) do update
    set execution_no = excluded.execution_no, call = excluded.call, request = excluded.request,
        requested_at = excluded.requested_at, deadline = excluded.deadline, state = excluded.state,
        run = excluded.run
    where approvals.execution_no = excluded.execution_no or not exists (
        select 1 from executions e
        where e.tenant_id = approvals.tenant_id and e.execution_no = approvals.execution_no)",
);

/// Closes open questions of an execution whose deadlines are not after the given time.
pub(crate) static CLOSE: Statement = Statement::new(
    "update approvals as a set state = r.state
    from {rows tenant_id:int id:text execution_no:int state:int now:int}
    where a.tenant_id = r.tenant_id and a.id = r.id and a.state = 0 and a.execution_no = r.execution_no
        and (a.deadline is null or a.deadline <= r.now)
    returning 1",
);

/// See [`crate::Store::answer`].
pub(crate) async fn answer(
    database: &Database,
    answer: &Answer,
    act: Option<&Act>,
) -> Result<(AnswerOutcome, Option<InboxNotice>), DbError> {
    // The deadline is compared with the database's own clock: several engines take answers, each with a steady clock of
    // its own, and one clock has to decide.
    // The clock is read once the row is locked: an answer that has waited for a lock may have become late meanwhile.
    static COMPARE_AND_SET: Statement = Statement::new(
        "with open as materialized (
            select tenant_id, id, deadline from approvals
            where tenant_id = $1 and id = $2 and state = 0 and requested_at = coalesce($4, requested_at)
            {postgres: for no key update}
        )
        update approvals as a set state = $3 from open
        where a.tenant_id = open.tenant_id and a.id = open.id and (open.deadline is null or open.deadline > {clock})
        returning execution_no",
    );
    static ASKED_BY: Statement =
        Statement::new("select id, owner from executions where tenant_id = $1 and execution_no = $2");
    let Answer { tenant, id, asked_at, to, message, link } = answer;
    let mut session = database.write().await?;
    let values = [(*tenant).into(), id.as_str().into(), state_no(*to).into(), (*asked_at).into()];
    let mut set = session.rows(&COMPARE_AND_SET, &values).await?;
    let Some(set) = set.first_mut() else { return Ok((refusal(&mut session, answer).await?, None)) };
    let no = set.int()?;
    let mut asked_by = session.rows(&ASKED_BY, &[(*tenant).into(), no.into()]).await?;
    let Some(asked_by) = asked_by.first_mut() else { return Ok((AnswerOutcome::Unknown, None)) };
    let (execution, owner) = (execution_id(asked_by)?, asked_by.opt_int()?.map(Incarnation));
    if let Some(link) = link
        && !links::consume(&mut session, (*tenant, id), link).await?
    {
        session.rollback().await;
        return Ok((AnswerOutcome::LinkEnded, None));
    }
    inbox::insert(&mut session, *tenant, no, message).await?;
    audit::note(&mut session, act).await?;
    session.commit().await?;
    let notice = InboxNotice { key: ExecutionKey { tenant: *tenant, id: execution.clone() }, owner };
    Ok((AnswerOutcome::Accepted(execution), Some(notice)))
}

/// Why an answer does not count.
async fn refusal(session: &mut Session, answer: &Answer) -> Result<AnswerOutcome, DbError> {
    // The row is locked: if an answer is just arriving in time, that answer counts, and not the state that was
    // committed before.
    static ENDED: Statement = Statement::new(
        "select state, requested_at from approvals where tenant_id = $1 and id = $2 {postgres: for no key update}",
    );
    let mut ended = session.rows(&ENDED, &[answer.tenant.into(), answer.id.as_str().into()]).await?;
    let Some(ended) = ended.first_mut() else { return Ok(AnswerOutcome::Unknown) };
    let (state, requested_at) = (ended.int()?, ended.at()?);
    if answer.asked_at.is_some_and(|asked_at| asked_at != requested_at) {
        return Ok(AnswerOutcome::AskedAgain);
    }
    match state_of(state) {
        // The question has timed out, although no batch has recorded that yet.
        Some(ApprovalState::Open) => Ok(AnswerOutcome::TooLate(ApprovalState::TimedOut)),
        Some(state) => Ok(AnswerOutcome::TooLate(state)),
        None => Err(corrupt(&answer.id).into()),
    }
}

/// See [`crate::Store::approvals`].
pub(crate) async fn list(
    database: &Database,
    tenant: TenantId,
    filter: &ApprovalFilter,
) -> Result<ApprovalPage, DbError> {
    static OPEN: Statement = Statement::new(
        "select a.id, e.id, a.call, a.request, a.requested_at, a.deadline, a.state
        from approvals a join executions e on e.tenant_id = a.tenant_id and e.execution_no = a.execution_no
        where a.tenant_id = $1 and a.state = 0 and (a.requested_at, a.id) < ($2, $3)
        order by a.requested_at desc, a.id desc
        limit $4",
    );
    static OF_EXECUTION: Statement = Statement::new(
        "select a.id, e.id, a.call, a.request, a.requested_at, a.deadline, a.state
        from executions e join approvals a on a.tenant_id = e.tenant_id and a.execution_no = e.execution_no
        where e.tenant_id = $1 and e.id = $5 and (a.requested_at, a.id) < ($2, $3)
        order by a.requested_at desc, a.id desc
        limit $4",
    );
    if let Some(id) = &filter.id {
        let approvals = find(database, tenant, id).await?.into_iter().collect();
        return Ok(ApprovalPage { approvals, cursor: None });
    }
    let (mut at, mut id) = filter.cursor.as_deref().map_or(Ok((i64::MAX, LAST_ID.to_owned())), place)?;
    let limit = usize::try_from(filter.limit.clamp(1, PAGE_MAX)).unwrap_or(usize::MAX);
    let (mut page, mut bytes) = (ApprovalPage::default(), 0);
    loop {
        let count = (limit - page.approvals.len()).min(READ_AT_ONCE);
        let mut values = vec![tenant.into(), at.into(), id.clone().into(), count.into()];
        values.extend(filter.execution.as_ref().map(|id| id.as_str().into()));
        let statement = if filter.execution.is_some() { &OF_EXECUTION } else { &OPEN };
        let rows = database.client(tenant).await?.rows(statement, &values).await?;
        let mut is_last = rows.len() < count;
        let before = (at, id.clone());
        for mut row in rows {
            // A question that cannot be read does not hide the others. Its execution is parked when it is looked at.
            let key = sort_key(&mut row);
            row.seek(0);
            let approval = key.map(|key| {
                (at, id) = key;
                read(&mut row)
            });
            let Ok(Ok(approval)) = approval else {
                tracing::warn!(near = id, "the row of an approval cannot be read: it is not listed");
                continue;
            };
            bytes += approval.request.len();
            page.approvals.push(approval);
            if bytes >= PAGE_BYTES_MAX || page.approvals.len() == limit {
                page.cursor = Some(format!("{at:x}:{id}"));
                return Ok(page);
            }
        }
        // If not even the place of the last rows is known, the list cannot go on behind them.
        is_last |= before == (at, id.clone());
        if is_last {
            return Ok(page);
        }
    }
}

/// The position of a question in the list.
fn sort_key(row: &mut Row) -> Result<(i64, String), Error> {
    let id = row.text_again(0)?;
    row.seek(4);
    Ok((row.int()?, id))
}

fn place(cursor: &str) -> Result<(i64, String), StoreError> {
    let parsed = cursor.split_once(':').and_then(|(at, id)| Some((i64::from_str_radix(at, 16).ok()?, id.to_owned())));
    parsed.ok_or_else(|| StoreError::Invalid("the cursor is not one that a list of approvals returned".into()))
}

/// One question.
async fn find(database: &Database, tenant: TenantId, id: &str) -> Result<Option<ApprovalRow>, DbError> {
    static FIND: Statement = Statement::new(
        "select a.id, e.id, a.call, a.request, a.requested_at, a.deadline, a.state
        from approvals a join executions e on e.tenant_id = a.tenant_id and e.execution_no = a.execution_no
        where a.tenant_id = $1 and a.id = $2",
    );
    let mut session = database.client(tenant).await?;
    let mut rows = session.rows(&FIND, &[tenant.into(), id.into()]).await?;
    rows.first_mut().map(read).transpose()
}

/// Reads the columns `id, execution, call, request, requested_at, deadline, state`.
pub(crate) fn read(row: &mut Row) -> Result<ApprovalRow, DbError> {
    let id = row.text()?;
    let execution = execution_id(row)?;
    let call = row.text()?.parse().map_err(|_| corrupt(&id))?;
    let (request, requested_at, deadline) = (row.text()?, row.at()?, row.opt_at()?);
    let state = state_of(row.int()?).ok_or_else(|| corrupt(&id))?;
    Ok(ApprovalRow { id, execution, call, request, requested_at, deadline, state })
}

fn execution_id(row: &mut Row) -> Result<ExecutionId, DbError> {
    let id = row.text()?;
    Ok(id.parse().map_err(|_| StoreError::Corrupt(format!("`{id}` in the table of executions is no id")))?)
}

fn corrupt(id: &str) -> StoreError {
    StoreError::Corrupt(format!("approval {id}: its row cannot be read"))
}

/// The number of a state in the database.
pub(crate) const fn state_no(state: ApprovalState) -> i64 {
    match state {
        ApprovalState::Open => 0,
        ApprovalState::Approved => 1,
        ApprovalState::Rejected => 2,
        ApprovalState::TimedOut => 3,
        ApprovalState::Withdrawn => 4,
    }
}

/// The state with a number of the database.
pub(crate) const fn state_of(no: i64) -> Option<ApprovalState> {
    match no {
        0 => Some(ApprovalState::Open),
        1 => Some(ApprovalState::Approved),
        2 => Some(ApprovalState::Rejected),
        3 => Some(ApprovalState::TimedOut),
        4 => Some(ApprovalState::Withdrawn),
        _ => None,
    }
}
