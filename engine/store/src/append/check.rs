//! Decides whether a single batch is accepted: the fence, the position, the questions and the children are checked under
//! locks, before anything is written. These rules name the refusal. The statements of the plan have them as conditions.

use std::collections::{HashMap, HashSet};

use cerebelum_history::{Json, Parent, Position, Timestamp, planted};

use super::rows::{BatchRowIds, ChildFate};
use crate::db_error::DbError;
use crate::error::StoreError;
use crate::model::{
    AppendError, ApprovalChange, ApprovalState, Batch, Child, ExecutionKey, ExecutionRow, Incarnation, State,
};
use crate::sql::{Rows, Session, Statement};
use crate::{approvals, chunks, executions};

/// The children of a batch that exist already, by index, or why the batch is refused.
type Verdict = Result<HashMap<usize, ChildFate>, AppendError>;

/// Locks the rows that a batch concerns, checks it, and reads the number of its execution.
pub(super) async fn check(
    session: &mut Session,
    batch: &Batch,
    ids: &mut BatchRowIds,
    (may_write, now): (bool, Timestamp),
) -> Result<Verdict, DbError> {
    let unfenced = planted("no-fence");
    if !may_write && !unfenced {
        return Ok(Err(AppendError::ClaimLost));
    }
    let row = lock(session, &batch.key).await?;
    if batch.begins {
        if row.is_some() {
            return Ok(Err(AppendError::Exists));
        }
    } else {
        let Some(row) = row.filter(|row| row.is_open && row.owner == Some(batch.incarnation) || unfenced) else {
            return Ok(Err(AppendError::ClaimLost));
        };
        let follows = row.position == batch.after && row.run == batch.run() && is_consecutive(batch);
        if !follows && !planted("gaps-allowed") {
            return Ok(Err(AppendError::Moved));
        }
        if let Err(refusal) = check_approvals(session, batch, row.no, now).await? {
            return Ok(Err(refusal));
        }
        ids.own = Some(row.no);
    }
    Ok(Ok(existing_children(session, &batch.children).await?))
}

/// Whether the new events are without gaps, and the row says where they end.
pub(super) fn is_consecutive(batch: &Batch) -> bool {
    if batch.begins || planted("gaps-allowed") {
        return true;
    }
    let mut end = batch.after;
    for chunk in &batch.chunks {
        if chunk.first != end.next() || chunk.last < chunk.first {
            return false;
        }
        end = chunk.last;
    }
    match &batch.next_run {
        Some(next) => next.first == Position(1) && next.last >= next.first && batch.head.position == next.last,
        None => batch.head.position == end,
    }
}

/// The locked row of an execution.
struct LockedRow {
    no: i64,
    run: u32,
    owner: Option<Incarnation>,
    position: Position,
    is_open: bool,
}

async fn lock(session: &mut Session, key: &ExecutionKey) -> Result<Option<LockedRow>, DbError> {
    static LOCK: Statement = Statement::new(
        "select execution_no, run, owner, position, state from executions
        where tenant_id = $1 and id = $2 {postgres: for no key update}",
    );
    let mut rows = session.rows(&LOCK, &[key.tenant.into(), key.id.as_str().into()]).await?;
    let Some(row) = rows.first_mut() else { return Ok(None) };
    let (no, run, owner) = (row.int()?, row.count()?, row.opt_int()?.map(Incarnation));
    Ok(Some(LockedRow { no, run, owner, position: row.position()?, is_open: row.int()? == 0 }))
}

/// Checks that each question that the batch closes is still open, and is not timed out too early (L9).
async fn check_approvals(
    session: &mut Session,
    batch: &Batch,
    no: i64,
    now: Timestamp,
) -> Result<Result<(), AppendError>, DbError> {
    static LOCK: Statement = Statement::new(
        "select a.id, a.execution_no, a.state, a.deadline
        from {rows tenant_id:int id:text}
        join approvals a on a.tenant_id = r.tenant_id and a.id = r.id
        order by a.id {postgres: for no key update of a}",
    );
    let (mut opened, mut closed, mut rows) = (HashSet::new(), Vec::new(), Rows::default());
    for change in &batch.approvals {
        match change {
            ApprovalChange::Open { id, .. } => {
                opened.insert(id.as_str());
            }
            ApprovalChange::Close { id, .. } if opened.contains(id.as_str()) => {}
            ApprovalChange::Close { id, to } => {
                rows.push([batch.key.tenant.into(), id.as_str().into()]);
                closed.push((id, *to));
            }
        }
    }
    if closed.is_empty() || planted("no-referee") {
        return Ok(Ok(()));
    }
    let mut open: HashMap<String, Option<Timestamp>> = HashMap::new();
    for mut row in session.rows_of(&LOCK, &rows).await? {
        let (id, asked_by, state) = (row.text()?, row.int()?, row.int()?);
        if asked_by == no && state == approvals::state_no(ApprovalState::Open) {
            open.insert(id, row.opt_at()?);
        }
    }
    for (id, to) in closed {
        let Some(deadline) = open.get(id) else { return Ok(Err(AppendError::AlreadyAnswered)) };
        if to == ApprovalState::TimedOut && deadline.is_some_and(|deadline| deadline > now) {
            return Ok(Err(AppendError::TooEarly));
        }
    }
    Ok(Ok(()))
}

/// The most bytes of ends that are told again in one batch.
const ENDS_TOLD_BYTES_MAX: usize = 16 << 20;

/// The children that exist already, by index. Of two children with the same id, the first one counts.
async fn existing_children(session: &mut Session, children: &[Child]) -> Result<HashMap<usize, ChildFate>, DbError> {
    let (mut fates, mut told) = (HashMap::new(), 0);
    let mut first: HashMap<&ExecutionKey, &ExecutionRow> = HashMap::new();
    for (index, Child { new, .. }) in children.iter().enumerate() {
        let stored = executions::find(session, &new.head.key).await?.map(|stored| stored.head);
        let Some(there) = stored.as_ref().or_else(|| first.get(&new.head.key).copied()) else {
            first.insert(&new.head.key, &new.head);
            continue;
        };
        let fate = match new.head.parent.as_ref().filter(|_| is_same_child(there, &new.head)) {
            None => ChildFate::Refused,
            Some(parent) if there.state != State::Open => {
                let message = farewell(session, (parent, there), told < ENDS_TOLD_BYTES_MAX).await?;
                told += message.as_ref().map_or(0, String::len);
                message.map_or(ChildFate::Accepted, ChildFate::Ended)
            }
            Some(_) => ChildFate::Accepted,
        };
        fates.insert(index, fate);
    }
    Ok(fates)
}

/// Whether the same call of the same execution has started both.
fn is_same_child(there: &ExecutionRow, new: &ExecutionRow) -> bool {
    let is_same_call =
        there.parent.as_ref().zip(new.parent.as_ref()).is_some_and(|(one, other)| one.is_same_call(other));
    is_same_call && there.seed == new.seed
}

/// What a child that has ended tells a parent that waits for it: the parent heard it before, and made its call again.
async fn farewell(
    session: &mut Session,
    (parent, child): (&Parent, &ExecutionRow),
    is_read: bool,
) -> Result<Option<String>, DbError> {
    let last = match is_read {
        true => match chunks::last(session, child).await {
            Err(DbError::Store(StoreError::Corrupt(_))) => None,
            read => read?,
        },
        false => None,
    };
    let events = last.as_ref().map(|chunk| chunk.events.as_str());
    let message = parent.farewell_again(&child.key.id, events, child.state == State::Cancelled);
    Ok(message.map(|message| Json::of(&message).to_string()))
}
