//! Decides which batches are accepted: the fence, the position and the questions are checked under locks, before
//! anything is written.

use std::collections::{HashMap, HashSet};

use cerebelum_history::{Position, Timestamp, planted};

use super::{Answers, BatchRowIds};
use crate::db_error::DbError;
use crate::executions::{self, NewRow};
use crate::sql::{Rows, Session, Statement};
use crate::{AppendError, ApprovalChange, ApprovalState, Batch, InboxCursor, Incarnation, TenantId, approvals};

/// The locked row of an execution.
#[derive(Debug, Clone)]
pub(super) struct ExecutionRow {
    pub(super) no: i64,
    pub(super) run: u32,
    pub(super) attributes: Option<String>,
    owner: Option<Incarnation>,
    position: Position,
    is_open: bool,
    newest: InboxCursor,
}

/// The locked row of a question.
struct Question {
    execution_no: i64,
    is_open: bool,
    deadline: Option<Timestamp>,
}

/// The nodes that may write, and the time.
pub(super) struct Standing {
    /// The nodes whose leases are valid.
    pub(super) nodes: HashSet<Incarnation>,
    /// The database's time, without the jumps of its clock.
    pub(super) now: Timestamp,
}

/// The verdicts on the batches of one wave.
pub(super) struct WaveVerdicts {
    verdicts: Vec<(usize, Result<ExecutionRow, AppendError>)>,
}

impl WaveVerdicts {
    /// The accepted batches by index with their rows. The verdicts of all batches are written to `answers`.
    pub(super) fn accepted(self, answers: &mut Answers) -> Vec<(usize, ExecutionRow)> {
        let mut accepted = Vec::new();
        for (index, verdict) in self.verdicts {
            answers[index] = verdict.as_ref().map(|row| row.newest).map_err(|refusal| *refusal);
            accepted.extend(verdict.ok().map(|row| (index, row)));
        }
        accepted
    }
}

/// Locks the rows that the batches of a wave concern, and judges each batch alone.
pub(super) async fn judge(
    session: &mut Session,
    (batches, numbered): (&[Batch], &[BatchRowIds]),
    wave: &[usize],
    standing: &Standing,
) -> Result<WaveVerdicts, DbError> {
    let Standing { nodes: standing, now } = standing;
    let begun = begin(session, (batches, numbered), wave, standing).await?;
    let mut executions = lock_executions(session, batches, wave).await?;
    let questions = lock_questions(session, batches, wave).await?;
    let verdicts = wave.iter().map(|&index| {
        let batch = &batches[index];
        let verdict = executions.remove(&index).ok_or(AppendError::ClaimLost).and_then(|row| {
            if batch.begins {
                let ours = begun.contains(&row.no);
                // The execution may go on as a new run at once. Its first events then belong to the previous run.
                let run = row.run - u32::from(ours && batch.next_run.is_some());
                return ours.then_some(ExecutionRow { attributes: None, run, ..row }).ok_or(AppendError::Exists);
            }
            fence(batch, &row, standing)?;
            join(batch, &row)?;
            referee(batch, &row, &questions, *now)?;
            Ok(row)
        });
        (index, verdict)
    });
    Ok(WaveVerdicts { verdicts: verdicts.collect() })
}

/// Inserts the rows of executions that begin, if their ids are free, and returns their numbers. These executions have
/// no events yet.
async fn begin(
    session: &mut Session,
    (batches, numbered): (&[Batch], &[BatchRowIds]),
    wave: &[usize],
    standing: &HashSet<Incarnation>,
) -> Result<HashSet<i64>, DbError> {
    let mut fresh = Vec::new();
    for &index in wave {
        let batch = &batches[index];
        if let Some((no, program)) = numbered[index].begins.filter(|_| standing.contains(&batch.incarnation)) {
            fresh.push(NewRow { head: &batch.head, no, program, owner: Some(batch.incarnation) });
        }
    }
    executions::insert(session, &fresh).await
}

/// Checks that the claim belongs to this incarnation, and that its lease is valid (L11).
fn fence(batch: &Batch, row: &ExecutionRow, standing: &HashSet<Incarnation>) -> Result<(), AppendError> {
    let holds = row.is_open && row.owner == Some(batch.incarnation) && standing.contains(&batch.incarnation);
    if holds || planted("no-fence") { Ok(()) } else { Err(AppendError::ClaimLost) }
}

/// Checks that the new events follow the last ones without a gap, and that the row says where they end.
fn join(batch: &Batch, row: &ExecutionRow) -> Result<(), AppendError> {
    let mut end = batch.after;
    let mut joins = row.position == batch.after;
    for chunk in &batch.chunks {
        joins &= chunk.first == end.next() && chunk.last >= chunk.first;
        end = chunk.last;
    }
    joins &= match &batch.next_run {
        Some(next) => {
            next.first == Position(1)
                && next.last >= next.first
                && batch.head.run == row.run + 1
                && batch.head.position == next.last
        }
        None => batch.head.run == row.run && batch.head.position == end,
    };
    if joins || planted("gaps-allowed") { Ok(()) } else { Err(AppendError::Moved) }
}

/// Checks that a question that the batch closes is still open, and is not timed out too early (L9).
fn referee(
    batch: &Batch,
    row: &ExecutionRow,
    questions: &HashMap<(TenantId, &str), Question>,
    now: Timestamp,
) -> Result<(), AppendError> {
    let mut opened = HashSet::new();
    for change in &batch.approvals {
        match change {
            ApprovalChange::Open { id, .. } => {
                opened.insert(id.as_str());
            }
            ApprovalChange::Close { id, .. } if opened.contains(id.as_str()) => {}
            ApprovalChange::Close { id, to } => {
                let question = questions.get(&(batch.key.tenant, id.as_str()));
                let question = question.filter(|question| question.is_open && question.execution_no == row.no);
                if question.is_none() && planted("no-referee") {
                    continue;
                }
                let question = question.ok_or(AppendError::AlreadyAnswered)?;
                if *to == ApprovalState::TimedOut && question.deadline.is_some_and(|deadline| deadline > now) {
                    return Err(AppendError::TooEarly);
                }
            }
        }
    }
    Ok(())
}

async fn lock_executions(
    session: &mut Session,
    batches: &[Batch],
    wave: &[usize],
) -> Result<HashMap<usize, ExecutionRow>, DbError> {
    // Ordered by key, so that two transactions that lock the same rows cannot deadlock.
    static LOCK: Statement = Statement::new(
        "select r.ordinal, e.execution_no, e.run, e.attributes, e.owner, e.position, e.state,
            (select coalesce(max(i.seq), 0) from inbox i
            where i.tenant_id = e.tenant_id and i.execution_no = e.execution_no)
        from {rows ordinal:int tenant_id:int id:text}
        join executions e on e.tenant_id = r.tenant_id and e.id = r.id
        order by e.tenant_id, e.execution_no {postgres: for no key update of e}",
    );
    let mut rows = Rows::default();
    for &index in wave {
        let key = &batches[index].key;
        rows.push([index.into(), key.tenant.into(), key.id.as_str().into()]);
    }
    let mut executions = HashMap::with_capacity(wave.len());
    for mut row in session.rows_of(&LOCK, &rows).await? {
        let index = row.count()?;
        let (no, run, attributes) = (row.int()?, row.count()?, row.opt_text()?);
        let owner = row.opt_int()?.map(Incarnation);
        let (position, is_open, newest) = (row.position()?, row.int()? == 0, InboxCursor(row.int()?));
        executions.insert(index, ExecutionRow { no, run, attributes, owner, position, is_open, newest });
    }
    Ok(executions)
}

async fn lock_questions<'b>(
    session: &mut Session,
    batches: &'b [Batch],
    wave: &[usize],
) -> Result<HashMap<(TenantId, &'b str), Question>, DbError> {
    static LOCK: Statement = Statement::new(
        "select r.ordinal, a.execution_no, a.state, a.deadline
        from {rows ordinal:int tenant_id:int id:text}
        join approvals a on a.tenant_id = r.tenant_id and a.id = r.id
        order by a.tenant_id, a.id {postgres: for no key update of a}",
    );
    let mut closed: Vec<(TenantId, &str)> = Vec::new();
    let mut rows = Rows::default();
    for &index in wave {
        for change in &batches[index].approvals {
            if let ApprovalChange::Close { id, .. } = change {
                let tenant = batches[index].key.tenant;
                rows.push([closed.len().into(), tenant.into(), id.as_str().into()]);
                closed.push((tenant, id));
            }
        }
    }
    let mut questions = HashMap::new();
    if rows.is_empty() {
        return Ok(questions);
    }
    for mut row in session.rows_of(&LOCK, &rows).await? {
        let ordinal: usize = row.count()?;
        let execution_no = row.int()?;
        let is_open = approvals::is_open(row.int()?);
        questions.insert(closed[ordinal], Question { execution_no, is_open, deadline: row.opt_at()? });
    }
    Ok(questions)
}
