//! Heads of executions: the row of `executions` with its program, read and inserted.

use std::collections::{HashMap, HashSet};

use cerebelum_history::{CallName, Digest, ExecutionId, Position, Seed};

use crate::attributes;
use crate::chunks::Found;
use crate::fault::Fault;
use crate::sql::{Row, Rows, Session, Statement, Value, Writes};
use crate::{Batch, Chunk, Execution, ExecutionKey, Incarnation, Parent, State, StoreError, TenantId, chunks};

/// The columns of a head, in the order in which [`read`] takes them, with `e` and `p` as the tables' names.
macro_rules! head_columns {
    () => {
        "e.execution_no, e.tenant_id, e.id, p.workflow, p.digest, e.seed, e.run, e.state, e.paused, e.parked, \
         e.settled, e.position, e.stamp, e.due, e.status, e.attributes, e.facts, e.parent_id, e.parent_run, \
         e.parent_call, e.parent_awaited, e.started_at, e.ended_at, e.owner"
    };
}
/// Where heads come from.
macro_rules! heads {
    () => {
        "executions e join programs p on p.tenant_id = e.tenant_id and p.program_no = e.program_no"
    };
}
pub(crate) use {head_columns, heads};

/// How many columns `head_columns` has.
pub(crate) const COLUMNS: usize = 24;

/// A head with what only the store knows of it.
pub(crate) struct Stored {
    pub(crate) no: i64,
    pub(crate) head: Execution,
    pub(crate) owner: Option<Incarnation>,
}

/// Reads a row that begins with the columns of `head_columns`.
pub(crate) fn read(row: &mut Row) -> Result<Stored, Fault> {
    let no = row.int()?;
    let tenant = TenantId(row.count()?);
    let id = row.text()?;
    let corrupt = |what: &str| StoreError::Corrupt(format!("execution {id}: its row has {what}"));
    let key = ExecutionKey { tenant, id: id.parse().map_err(|_| corrupt("an id that is none"))? };
    let workflow = row.text()?;
    let digest = Digest::from_text(&row.text()?);
    let seed = row.bytes()?.try_into().map_err(|_| corrupt("a seed of the wrong length"))?;
    let run = row.count()?;
    let state = state_of(row.int()?).ok_or_else(|| corrupt("a state that is none"))?;
    let (paused, parked, settled) = (row.flag()?, row.opt_text()?.map(|text| unescape(&text)), row.flag()?);
    let (position, stamp, due) = (row.position()?, row.at()?, row.opt_at()?);
    let status = row.text()?;
    let attributes = row.opt_text()?.unwrap_or_else(|| EMPTY.into());
    let facts = row.opt_text()?.unwrap_or_else(|| EMPTY.into());
    let parent = parent(row, &corrupt)?;
    let (started_at, ended_at, owner) = (row.at()?, row.opt_at()?, row.opt_int()?.map(Incarnation));
    let head = Execution {
        key,
        workflow,
        digest,
        seed: Seed(seed),
        run,
        state,
        paused,
        parked,
        settled,
        position,
        stamp,
        due,
        status,
        attributes,
        facts,
        parent,
        started_at,
        ended_at,
    };
    Ok(Stored { no, head, owner })
}

fn parent(row: &mut Row, corrupt: &dyn Fn(&str) -> StoreError) -> Result<Option<Parent>, Fault> {
    let (id, run, call, awaited) = (row.opt_text()?, row.opt_int()?, row.opt_text()?, row.opt_int()?);
    let (Some(id), Some(run), Some(call), Some(awaited)) = (id, run, call, awaited) else { return Ok(None) };
    Ok(Some(Parent {
        id: id.parse().map_err(|_| corrupt("a parent's id that is none"))?,
        run: u32::try_from(run).map_err(|_| corrupt("a parent's run that is none"))?,
        call: call.parse::<CallName>().map_err(|_| corrupt("a parent's call that is none"))?,
        awaited: awaited != 0,
    }))
}

/// The head of an execution.
pub(crate) async fn find(session: &mut Session, key: &ExecutionKey) -> Result<Option<Stored>, Fault> {
    static FIND: Statement = Statement::new(concat!(
        "select ",
        head_columns!(),
        " from ",
        heads!(),
        " where e.tenant_id = $1 and e.id = $2"
    ));
    let mut rows = session.rows(&FIND, &[key.tenant.into(), key.id.as_str().into()]).await?;
    rows.first_mut().map(read).transpose()
}

/// Reads a tenant and an id.
pub(crate) fn read_key(row: &mut Row) -> Result<ExecutionKey, Fault> {
    let tenant = TenantId(row.count()?);
    let id: ExecutionId = row.text()?.parse().map_err(|_| StoreError::Corrupt("an id that is none".into()))?;
    Ok(ExecutionKey { tenant, id })
}

/// A head to be inserted.
pub(crate) struct Fresh<'a> {
    pub(crate) head: &'a Execution,
    pub(crate) no: i64,
    pub(crate) program: i64,
    /// Who has claimed it in the same breath.
    pub(crate) owner: Option<Incarnation>,
}

/// Inserts heads whose ids are free, and answers with the numbers of those that it inserted.
// Ordered by key, so that two who insert the same ids wait for each other in one direction only.
pub(crate) static INSERT: Statement = Statement::new(
    "insert into executions (execution_no, tenant_id, id, program_no, seed, run, position, state, paused, settled, parked,
        stamp, due, status, attributes, facts, parent_id, parent_run, parent_call, parent_awaited, started_at, ended_at,
        owner)
    {postgres: overriding system value}
    select r.execution_no, r.tenant_id, r.id, r.program_no, r.seed, r.run, r.position, r.state, r.paused, r.settled, r.parked,
        r.stamp, r.due, r.status, r.attributes, r.facts, r.parent_id, r.parent_run, r.parent_call, r.parent_awaited,
        r.started_at, r.ended_at, r.owner
    from {rows execution_no:int tenant_id:int id:text program_no:int seed:bytes run:int position:int state:int paused:int
        settled:int parked:text stamp:int due:int status:text attributes:text facts:text parent_id:text parent_run:int
        parent_call:text parent_awaited:int started_at:int ended_at:int owner:int}
    where true
    order by r.tenant_id, r.id
    on conflict (tenant_id, id) do nothing
    returning execution_no",
);

/// Inserts those heads whose ids are free, the first of several with the same id. Returns their numbers.
pub(crate) async fn insert(session: &mut Session, fresh: &[Fresh<'_>]) -> Result<HashSet<i64>, Fault> {
    let mut ids = HashSet::new();
    let mut rows = Rows::default();
    for fresh in fresh {
        if ids.insert(&fresh.head.key) {
            rows.push(insertion(fresh));
        }
    }
    if rows.is_empty() {
        return Ok(HashSet::new());
    }
    let mut inserted = session.rows_of(&INSERT, &rows).await?;
    Ok(inserted.iter_mut().map(|row| row.int()).collect::<Result<_, _>>()?)
}

/// The same, with their first chunks and attributes. Returns the indexes of those inserted.
pub(crate) async fn insert_whole(
    session: &mut Session,
    fresh: &[Fresh<'_>],
    first: &[&Chunk],
) -> Result<Vec<usize>, Fault> {
    let inserted = insert(session, fresh).await?;
    let (mut first_chunks, mut attributes) = (Rows::default(), Rows::default());
    let mut indexes = Vec::new();
    for (index, (fresh, first)) in std::iter::zip(fresh, first).enumerate() {
        let (tenant, no) = (fresh.head.key.tenant, fresh.no);
        if inserted.contains(&no) {
            first_chunks.push(chunks::insertion(tenant, no, fresh.head.run, first));
            attributes::add_rows(&mut attributes, tenant, no, &fresh.head.attributes);
            indexes.push(index);
        }
    }
    let mut writes = Writes::default();
    writes.add(&chunks::INSERT, first_chunks);
    writes.add(&attributes::INSERT, attributes);
    writes.run(session).await?;
    Ok(indexes)
}

/// A row for [`INSERT`].
pub(crate) fn insertion<'a>(fresh: &Fresh<'a>) -> Vec<Value<'a>> {
    let Fresh { head, no, program, owner } = *fresh;
    let parent = head.parent.as_ref();
    vec![
        no.into(),
        head.key.tenant.into(),
        head.key.id.as_str().into(),
        program.into(),
        head.seed.0.as_slice().into(),
        head.run.into(),
        head.position.into(),
        state_no(head.state).into(),
        head.paused.into(),
        head.settled.into(),
        head.parked.as_deref().map(escape).into(),
        head.stamp.into(),
        head.due.into(),
        head.status.as_str().into(),
        unless_empty(&head.attributes).into(),
        unless_empty(&head.facts).into(),
        parent.map(|parent| parent.id.as_str()).into(),
        parent.map(|parent| i64::from(parent.run)).into(),
        parent.map(|parent| parent.call.to_string()).into(),
        parent.map(|parent| i64::from(parent.awaited)).into(),
        head.started_at.into(),
        head.ended_at.into(),
        owner.filter(|_| head.state == State::Open).map(|owner| owner.0).into(),
    ]
}

/// Writes the head anew of an execution that is where its owner left it; as part of a script that begins with
/// [`crate::nodes::RECORD`]. Answers with its number and the newest message in its inbox.
pub(crate) static ADVANCE: Statement = Statement::new(
    "update executions
    set position = r.position, state = r.state, paused = r.paused, settled = r.settled, parked = r.parked,
        stamp = r.stamp, due = r.due, status = r.status, facts = r.facts, ended_at = r.ended_at,
        owner = case when r.release = 1 then null else executions.owner end
    from {rows tenant_id:int execution_no:int program_no:int run:int position:int state:int paused:int settled:int
        parked:text stamp:int due:int status:text attributes:text facts:text ended_at:int release:int owner:int
        after:int}{postgres:, w0}
    where executions.tenant_id = r.tenant_id and executions.execution_no = r.execution_no
        and executions.owner = r.owner and executions.state = 0 and executions.run = r.run
        and executions.position = r.after and executions.attributes is not distinct from r.attributes
    returning executions.execution_no, (
        select coalesce(max(i.seq), 0) from inbox i
        where i.tenant_id = executions.tenant_id and i.execution_no = executions.execution_no)",
);

/// A row for [`ADVANCE`].
pub(crate) fn advance<'a>(no: i64, batch: &'a Batch) -> Vec<Value<'a>> {
    let mut row = update(no, &batch.head, None, batch.release);
    row.extend([batch.incarnation.into(), batch.after.into()]);
    row
}

/// Writes a head anew; what never changes (key, seed, parent, start) stays. `release` ends the claim.
pub(crate) static UPDATE: Statement = Statement::new(
    "update executions as e
    set run = r.run, position = r.position, state = r.state, paused = r.paused, settled = r.settled, parked = r.parked,
        stamp = r.stamp, due = r.due, status = r.status, attributes = r.attributes, facts = r.facts, ended_at = r.ended_at,
        program_no = coalesce(r.program_no, e.program_no),
        owner = case when r.release = 1 then null else e.owner end
    from {rows tenant_id:int execution_no:int program_no:int run:int position:int state:int paused:int settled:int
        parked:text stamp:int due:int status:text attributes:text facts:text ended_at:int release:int}
    where e.tenant_id = r.tenant_id and e.execution_no = r.execution_no",
);

/// A row for [`UPDATE`].
pub(crate) fn update<'a>(no: i64, head: &'a Execution, program: Option<i64>, release: bool) -> Vec<Value<'a>> {
    vec![
        head.key.tenant.into(),
        no.into(),
        program.into(),
        head.run.into(),
        head.position.into(),
        state_no(head.state).into(),
        head.paused.into(),
        head.settled.into(),
        head.parked.as_deref().map(escape).into(),
        head.stamp.into(),
        head.due.into(),
        head.status.as_str().into(),
        unless_empty(&head.attributes).into(),
        unless_empty(&head.facts).into(),
        head.ended_at.into(),
        // What has ended belongs to nobody.
        (release || head.state != State::Open).into(),
    ]
}

/// The executions of these ids, as far as there are any, each with the chunk it began with.
pub(crate) async fn find_begun<'k>(
    session: &mut Session,
    keys: impl IntoIterator<Item = &'k ExecutionKey>,
) -> Result<HashMap<ExecutionKey, (Stored, Result<Chunk, StoreError>)>, Fault> {
    static BEGUN: Statement = Statement::new(concat!(
        "select ",
        head_columns!(),
        ", h.first_position, h.last_position, h.checksum, h.events
        from ",
        heads!(),
        " join {rows tenant:int name:text} on e.tenant_id = r.tenant and e.id = r.name
        left join {postgres: lateral (
            select * from history c where c.tenant_id = e.tenant_id and c.execution_no = e.execution_no
                and c.run = 1 and c.first_position = 1 offset 0)}{sqlite: history} h
            on h.tenant_id = e.tenant_id and h.execution_no = e.execution_no and h.run = 1 and h.first_position = 1"
    ));
    let mut wanted = Rows::default();
    keys.into_iter().for_each(|key| wanted.push([key.tenant.into(), key.id.as_str().into()]));
    let mut begun = HashMap::new();
    if wanted.is_empty() {
        return Ok(begun);
    }
    for mut row in session.rows_of(&BEGUN, &wanted).await? {
        let stored = read(&mut row)?;
        let key = stored.head.key.clone();
        let mut found = Found::new(&key, 1, Position(1));
        let first = found.read(&mut row).and_then(|()| found.up_to(Some(Position(1))));
        let first = first.map(|mut chunks| chunks.swap_remove(0));
        begun.insert(key, (stored, first));
    }
    Ok(begun)
}

const EMPTY: &str = "{}";

fn unless_empty(object: &str) -> Option<&str> {
    (object != EMPTY).then_some(object)
}

/// The number of a state in the database.
pub(crate) const fn state_no(state: State) -> i64 {
    match state {
        State::Open => 0,
        State::Completed => 1,
        State::Failed => 2,
        State::Cancelled => 3,
    }
}

const fn state_of(no: i64) -> Option<State> {
    match no {
        0 => Some(State::Open),
        1 => Some(State::Completed),
        2 => Some(State::Failed),
        3 => Some(State::Cancelled),
        _ => None,
    }
}

/// A text as databases can keep it: NUL is spelled `\0`, and the backslash `\\`.
pub(crate) fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\0', "\\0")
}

/// The text that [`escape`] was given.
pub(crate) fn unescape(text: &str) -> String {
    let mut original = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('0') => original.push('\0'),
                Some(escaped) => original.push(escaped),
                None => original.push('\\'),
            },
            plain => original.push(plain),
        }
    }
    original
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_survives_its_escape() {
        for text in ["", "plain", "\0", "a\\0b\0c\\", "\\\\0", "zwölf 🦀"] {
            assert_eq!(unescape(&escape(text)), text);
            assert!(!escape(text).contains('\0'));
        }
    }
}
