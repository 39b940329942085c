//! Rows of executions: the row of `executions` with its program, read and inserted.

use std::collections::HashMap;

use cerebelum_history::{Digest, ExecutionId, Parent, Position, Seed, Status, Timestamp};

use crate::chunks::ChunkReader;
use crate::database::Database;
use crate::db_error::{DbError, Error};
use crate::error::StoreError;
use crate::model::{Batch, ExecutionKey, ExecutionRow, Existing, Incarnation, State, TenantId};
use crate::retry::Backoff;
use crate::sql::{Row, Rows, Session, Statement, Value};

/// The columns of an execution, in the order in which [`read`] takes them, with `e` and `p` as the tables' names.
macro_rules! head_columns {
    () => {
        "e.execution_no, e.tenant_id, e.id, p.workflow, p.digest, e.seed, e.run, e.state, e.paused, e.parked, \
         e.settled, e.position, e.stamp, e.due, e.status, e.attributes, e.facts, e.parent_id, e.parent_run, \
         e.parent_call, e.parent_awaited, e.started_at, e.ended_at, e.owner, \
         case when e.counted_at = e.position then e.open_calls end, \
         case when e.crashed_at = e.position then e.crashes end, e.waits_for, e.runs_from"
    };
}
/// The tables of these columns. A missing program is damage, and must not hide its executions.
macro_rules! heads {
    () => {
        "executions e left join programs p on p.tenant_id = e.tenant_id and p.program_no = e.program_no"
    };
}
/// The last position in the history of the execution's current run, for statements that verify it.
macro_rules! history_end {
    () => {
        "(select h.last_position from history h where h.tenant_id = e.tenant_id and h.execution_no = e.execution_no \
         and h.run = e.run order by h.first_position desc limit 1)"
    };
}
/// The columns of executions with the end of each one's history after them.
macro_rules! ends {
    () => {
        concat!(
            "select ",
            $crate::executions::head_columns!(),
            ", ",
            $crate::executions::history_end!(),
            " from ",
            $crate::executions::heads!()
        )
    };
}
pub(crate) use {ends, head_columns, heads, history_end};

/// The number of columns in `head_columns`.
pub(crate) const COLUMNS: usize = 28;

/// An execution's row with the columns that only the store uses.
pub(crate) struct StoredRow {
    pub(crate) no: i64,
    pub(crate) head: ExecutionRow,
    pub(crate) owner: Option<Incarnation>,
    /// How often nodes died for good while the execution could move from its current position.
    pub(crate) crashes: u32,
    /// Why the execution must not be run, in words that follow `corrupt-history: `. The row then holds what could be
    /// read.
    pub(crate) damage: Option<String>,
}

impl StoredRow {
    /// The row for readers. An open execution that is damaged is shown as parked.
    pub(crate) fn shown(self) -> ExecutionRow {
        let Self { mut head, damage, .. } = self;
        if let Some(damage) = damage.filter(|_| head.state == State::Open) {
            head.parked = Some(format!("{CORRUPT}{damage}"));
            head.status = Status::Parked;
        }
        head
    }

    /// The row, or the damage as an error.
    pub(crate) fn intact(self) -> Result<Self, StoreError> {
        match &self.damage {
            Some(damage) => Err(StoreError::Corrupt(format!("execution {}: {damage}", self.head.key.id))),
            None => Ok(self),
        }
    }

    /// Records damage, unless some was recorded before.
    pub(crate) fn spoil(&mut self, damage: impl FnOnce() -> String) {
        self.damage.get_or_insert_with(damage);
    }
}

/// The beginning of the reason of a parked execution whose rows cannot be read.
pub(crate) const CORRUPT: &str = "corrupt-history: ";

/// Reads columns one after the other. A column that cannot be read counts as empty, and the first such column is
/// recorded: the damage belongs to the row, and must never fail the whole statement.
struct Columns<'r> {
    row: &'r mut Row,
    damage: Option<String>,
}

impl Columns<'_> {
    /// The next column, if `read` succeeds.
    fn next<T>(&mut self, name: &str, read: impl FnOnce(&mut Row) -> Result<T, Error>) -> Option<T> {
        match read(self.row) {
            Ok(value) => Some(value),
            Err(_) => self.spoil(name),
        }
    }

    /// The next column, if `read` succeeds and finds a valid value.
    fn sane<T>(&mut self, name: &str, read: impl FnOnce(&mut Row) -> Result<Option<T>, Error>) -> Option<T> {
        match read(self.row) {
            Ok(Some(value)) => Some(value),
            Ok(None) | Err(_) => self.spoil(name),
        }
    }

    fn spoil<T>(&mut self, name: &str) -> Option<T> {
        self.damage.get_or_insert_with(|| format!("the column `{name}` of its row cannot be read"));
        None
    }
}

/// Reads a row that begins with the columns of `head_columns`.
pub(crate) fn read(row: &mut Row) -> StoredRow {
    let mut columns = Columns { row, damage: None };
    let no = columns.next("execution_no", Row::int).unwrap_or_default();
    let tenant = TenantId(columns.next("tenant_id", Row::count).unwrap_or_default());
    let id = columns.sane("id", |row| Ok(row.text()?.parse().ok())).unwrap_or_else(|| nameless(no));
    let workflow = columns.next("program_no", Row::text).unwrap_or_default();
    let digest = columns.next("digest", Row::text).unwrap_or_default();
    let seed = columns.sane("seed", |row| Ok(row.bytes()?.try_into().ok())).unwrap_or_default();
    let run = columns.sane("run", |row| Ok(Some(row.count()?).filter(|run| *run > 0))).unwrap_or(1);
    let state = columns.sane("state", |row| Ok(state_of(row.int()?))).unwrap_or(State::Open);
    let paused = columns.sane("paused", flag).unwrap_or_default();
    let parked = columns.next("parked", Row::opt_text).flatten().map(|text| unescape(&text));
    let settled = columns.sane("settled", flag).unwrap_or_default();
    let position = columns.sane("position", |row| Ok(Some(row.position()?).filter(|at| at.0 > 0)));
    let stamp = columns.sane("stamp", |row| Ok(past(row.opt_int()?)));
    let due = columns.next("due", Row::opt_at).flatten();
    let status = columns.sane("status", |row| Ok(row.text()?.parse().ok())).unwrap_or(Status::Parked);
    let attributes = columns.next("attributes", Row::opt_text).flatten();
    let options = columns.next("facts", Row::opt_text).flatten();
    let parent = parent(&mut columns);
    let started_at = columns.sane("started_at", |row| Ok(past(row.opt_int()?)));
    let ended_at = columns.next("ended_at", Row::opt_at).flatten();
    let owner = columns.next("owner", Row::opt_int).flatten().map(Incarnation);
    let open_calls = columns.sane("open_calls", |row| {
        Ok(match row.opt_int()? {
            None => Some(None),
            Some(count) => u32::try_from(count).ok().map(Some),
        })
    });
    let crashes = columns.next("crashes", Row::opt_int).flatten();
    // It is only shown: nothing depends on it, so it is no damage if it cannot be read.
    let waits_for = columns.row.opt_text().ok().flatten();
    let runs_from = columns.sane("runs_from", |row| {
        Ok(match row.opt_int()? {
            None => Some(None),
            // The present run is always kept, and the one before it.
            Some(from) => u32::try_from(from).ok().filter(|from| (2..run).contains(from)).map(Some),
        })
    });
    if (state == State::Open) != ended_at.is_none() {
        let _: Option<()> = columns.spoil("ended_at");
    }
    let damage = columns.damage;
    let head = ExecutionRow {
        key: ExecutionKey { tenant, id },
        workflow,
        digest: Digest::from_text(&digest),
        seed: Seed(seed),
        run,
        state,
        paused,
        parked,
        settled,
        position: position.unwrap_or_default(),
        stamp: stamp.unwrap_or_default(),
        due,
        status,
        attributes: attributes.unwrap_or_else(|| EMPTY.into()),
        options: options.unwrap_or_else(|| EMPTY.into()),
        parent,
        started_at: started_at.unwrap_or_default(),
        ended_at,
        open_calls: open_calls.flatten(),
        waits_for,
        runs_from: runs_from.flatten(),
    };
    StoredRow { no, head, owner, crashes: crashes.map_or(0, |count| u32::try_from(count).unwrap_or(u32::MAX)), damage }
}

/// The id of an execution whose own cannot be read. Parking gives it this id, so that operators can refer to it.
pub(crate) fn nameless(no: i64) -> ExecutionId {
    format!("damaged:{no}").parse().expect("a word, a colon and digits are an execution id")
}

fn flag(row: &mut Row) -> Result<Option<bool>, Error> {
    Ok(match row.int()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    })
}

/// A past time. A negative number is not a valid time.
fn past(at: Option<i64>) -> Option<Timestamp> {
    u64::try_from(at?).ok().map(Timestamp)
}

fn parent(columns: &mut Columns<'_>) -> Option<Parent> {
    let id = columns.next("parent_id", Row::opt_text).flatten();
    let run = columns.next("parent_run", Row::opt_int).flatten();
    let call = columns.next("parent_call", Row::opt_text).flatten();
    let awaited = columns.next("parent_awaited", Row::opt_int).flatten();
    match (id, run, call, awaited) {
        (None, None, None, None) => None,
        (Some(id), Some(run), Some(call), Some(awaited @ (0 | 1))) => {
            let whole = id.parse().ok().zip(u32::try_from(run).ok()).zip(call.parse().ok());
            let parent = |((id, run), call)| Parent { id, run, call, awaited: awaited == 1 };
            whole.map(parent).or_else(|| columns.spoil("parent_id"))
        }
        _ => columns.spoil("parent_id"),
    }
}

/// The row of an execution.
pub(crate) async fn find(session: &mut Session, key: &ExecutionKey) -> Result<Option<StoredRow>, DbError> {
    static FIND: Statement = Statement::new(concat!(
        "select ",
        head_columns!(),
        " from ",
        heads!(),
        " where e.tenant_id = $1 and e.id = $2"
    ));
    let mut rows = session.rows(&FIND, &[key.tenant.into(), key.id.as_str().into()]).await?;
    Ok(rows.first_mut().map(read))
}

/// Reads a tenant and an id.
pub(crate) fn read_key(row: &mut Row) -> Result<ExecutionKey, DbError> {
    let tenant = TenantId(row.count()?);
    let id: ExecutionId = row.text()?.parse().map_err(|_| StoreError::Corrupt("an id that is none".into()))?;
    Ok(ExecutionKey { tenant, id })
}

/// An execution's row to insert.
pub(crate) struct NewRow<'a> {
    pub(crate) row: &'a ExecutionRow,
    pub(crate) no: i64,
    pub(crate) program: i64,
    /// The node that claims the execution in the same transaction.
    pub(crate) owner: Option<Incarnation>,
    /// The bytes that it stores.
    pub(crate) bytes: i64,
}

/// Inserts executions whose ids are free, and returns the numbers of the inserted ones.
// Ordered by key, so that two transactions that insert the same ids cannot deadlock.
pub(crate) static INSERT: Statement = Statement::new(
    "insert into executions (execution_no, tenant_id, id, program_no, seed, run, position, state, paused, settled, parked,
        stamp, due, status, attributes, facts, parent_id, parent_run, parent_call, parent_awaited, started_at, ended_at,
        owner, open_calls, waits_for, counted_at, bytes)
    {postgres: overriding system value}
    select r.execution_no, r.tenant_id, r.id, r.program_no, r.seed, r.run, r.position, r.state, r.paused, r.settled, r.parked,
        r.stamp, r.due, r.status, r.attributes, r.facts, r.parent_id, r.parent_run, r.parent_call, r.parent_awaited,
        r.started_at, r.ended_at, r.owner, r.open_calls, r.waits_for, r.position, r.bytes
    from {rows execution_no:int tenant_id:int id:text program_no:int seed:bytes run:int position:int state:int paused:int
        settled:int parked:text stamp:int due:int status:text attributes:text facts:text parent_id:text parent_run:int
        parent_call:text parent_awaited:int started_at:int ended_at:int owner:int
        open_calls:int waits_for:text bytes:int}
    where true
    order by r.tenant_id, r.id
    on conflict (tenant_id, id) do nothing
    returning execution_no",
);

/// A row for [`INSERT`].
pub(crate) fn insertion<'a>(fresh: &NewRow<'a>) -> Vec<Value<'a>> {
    let NewRow { row: head, no, program, owner, bytes } = *fresh;
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
        head.status.word().into(),
        unless_empty(&head.attributes).into(),
        unless_empty(&head.options).into(),
        parent.map(|parent| parent.id.as_str()).into(),
        parent.map(|parent| i64::from(parent.run)).into(),
        parent.map(|parent| parent.call.to_string()).into(),
        parent.map(|parent| i64::from(parent.awaited)).into(),
        head.started_at.into(),
        head.ended_at.into(),
        owner.filter(|_| head.state == State::Open).map(|owner| owner.0).into(),
        head.open_calls.map(i64::from).into(),
        head.waits_for.as_deref().into(),
        bytes.into(),
    ]
}

/// Overwrites an execution's row, except for what never changes (key, seed, parent, start), if the execution is where its
/// owner left it. It is part of a script that begins with a fence, [`crate::nodes::RECORD`] or [`crate::nodes::VALID`].
/// Returns the execution's number, the newest message in its inbox, and a null in the place of the id that
/// [`crate::inbox::SEND`] returns.
pub(crate) static ADVANCE: Statement = Statement::new(
    "update executions
    set run = r.run, position = r.position, state = r.state, paused = r.paused, settled = r.settled, parked = r.parked,
        stamp = r.stamp, due = r.due, status = r.status, facts = r.facts, ended_at = r.ended_at,
        attributes = case when r.changes_attributes = 1 then r.attributes else executions.attributes end,
        open_calls = r.open_calls, waits_for = r.waits_for, counted_at = r.position, bytes = executions.bytes + r.bytes, program_no = coalesce(r.program_no, executions.program_no),
        owner = case when r.release = 1 then null else executions.owner end
    from {rows tenant_id:int execution_no:int owner:int run_before:int position_before:int run:int position:int
        program_no:int state:int paused:int settled:int parked:text stamp:int due:int status:text facts:text ended_at:int
        changes_attributes:int attributes:text release:int open_calls:int waits_for:text bytes:int}{postgres:, w0}
    where executions.tenant_id = r.tenant_id and executions.execution_no = r.execution_no
        and executions.owner = r.owner and executions.state = 0
        and executions.run = r.run_before and executions.position = r.position_before
    returning executions.execution_no, (
        select coalesce(max(i.seq), 0) from inbox i
        where i.tenant_id = executions.tenant_id and i.execution_no = executions.execution_no),
        {postgres: null::text}{sqlite: null}",
);

/// A row for [`ADVANCE`]. A program is given for a new run; `bytes` are those that the batch stores.
pub(crate) fn advance(no: i64, batch: &Batch, (program, bytes): (Option<i64>, i64)) -> Vec<Value<'_>> {
    let row = &batch.head;
    vec![
        row.key.tenant.into(),
        no.into(),
        batch.incarnation.into(),
        batch.run().into(),
        batch.after.into(),
        row.run.into(),
        row.position.into(),
        program.into(),
        state_no(row.state).into(),
        row.paused.into(),
        row.settled.into(),
        row.parked.as_deref().map(escape).into(),
        row.stamp.into(),
        row.due.into(),
        row.status.word().into(),
        unless_empty(&row.options).into(),
        row.ended_at.into(),
        batch.attributes_before.is_some().into(),
        batch.attributes_before.as_ref().and_then(|_| unless_empty(&row.attributes)).into(),
        // An execution that has ended has no owner.
        (batch.release || row.state != State::Open).into(),
        row.open_calls.map(i64::from).into(),
        row.waits_for.as_deref().into(),
        bytes.into(),
    ]
}

/// See [`crate::Store::find_existing`].
pub(crate) async fn find_existing(
    database: &Database,
    keys: &[ExecutionKey],
) -> Result<Vec<Option<Existing>>, DbError> {
    static FIND: Statement = Statement::new(concat!(
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
    keys.iter().for_each(|key| wanted.push([key.tenant.into(), key.id.as_str().into()]));
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let mut backoff = Backoff::new();
    let rows = loop {
        match async { Ok(database.search().await?.rows_of(&FIND, &wanted).await?) }.await {
            Ok(rows) => break rows,
            Err(error) => backoff.wait(error).await?,
        }
    };
    let mut found = HashMap::new();
    for mut row in rows {
        let stored = read(&mut row);
        row.seek(COLUMNS);
        let key = stored.head.key.clone();
        let first = match &stored.damage {
            Some(damage) => Err(StoreError::Corrupt(format!("execution {}: {damage}", key.id))),
            None => {
                let mut chunks = ChunkReader::new(&key, 1, Position(1));
                let read = chunks.read(&mut row).and_then(|()| chunks.up_to(Some(Position(1))));
                read.map(|mut chunks| chunks.swap_remove(0))
            }
        };
        found.insert(key, (stored.head, first));
    }
    Ok(keys.iter().map(|key| found.get(key).cloned()).collect())
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

/// A text that both databases can store: NUL is written as `\0`, and the backslash as `\\`.
pub(crate) fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\0', "\\0")
}

/// Undoes [`escape`].
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
