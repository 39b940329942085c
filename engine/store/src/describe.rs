//! An execution in full, read in one statement and therefore in one committed state.

use cerebelum_history::{Position, Scope};

use crate::calls;
use crate::chunks::ChunkReader;
use crate::database::Database;
use crate::db_error::DbError;
use crate::error::StoreError;
use crate::executions::{self, head_columns, heads};
use crate::model::{CallRow, Chunk, ExecutionKey, ExecutionRow, Progress};
use crate::sql::{Row, Statement};

/// An execution in full, for readers. A long history is cut to its beginning and its end.
#[derive(Debug, Clone)]
pub struct ExecutionDetail {
    /// The execution's row.
    pub head: ExecutionRow,
    /// The first chunk of the current run, unless it is already the first one of `history`.
    pub first: Option<Chunk>,
    /// The last chunks of the current run: all of them, unless they are many. [`StoreError::Corrupt`] if they are
    /// damaged.
    pub history: Result<Vec<Chunk>, StoreError>,
    /// The open calls.
    pub calls: Vec<CallRow>,
    /// The latest progress of each scope of the current run.
    pub progress: Vec<Progress>,
    /// The beginnings of the oldest messages in its inbox, in the order in which they came.
    pub inbox: Vec<String>,
}

/// The kind of each result row. The columns of the execution are repeated in every one.
const FIRST: i64 = 0;
const CHUNK: i64 = 1;
const CALL: i64 = 2;
const PROGRESS: i64 = 3;

/// The most events that are read of a long history: the last ones.
const EVENTS_MAX: i64 = 10_000;
/// The most bytes that are read of a long history: the last chunk, and as many before it as fit. The first chunk is
/// read in addition.
const BYTES_MAX: i64 = 4 << 20;

/// The most messages of an inbox whose beginnings are read.
const MESSAGES_MAX: i64 = 100;
/// A beginning has this many letters: any name of a signal fits, also if each of its letters is escaped.
const BEGINNING_LETTERS: i64 = 2_000;

/// Reads the last chunks, from the one that holds the first of the last events. Chunks beyond the byte limit come
/// without their events, and the first chunk then comes separately.
static DETAIL: Statement = Statement::new(concat!(
    "with e as (select ",
    head_columns!(),
    " from ",
    heads!(),
    " where e.tenant_id = $1 and e.id = $2),
    h as (
        select h.first_position, h.last_position, h.checksum, h.events,
            sum(octet_length(h.events)) over (order by h.first_position desc) - octet_length(h.events) < $3 as fits
        from e join history h on h.tenant_id = e.tenant_id and h.execution_no = e.execution_no and h.run = e.run
            and h.first_position >= coalesce((
                select max(b.first_position) from history b
                where b.tenant_id = e.tenant_id and b.execution_no = e.execution_no and b.run = e.run
                    and b.first_position <= e.position - $4 + 1), 1))
    select e.*, x.kind, x.a, x.b, x.c, x.t, x.u from e left join (
        select 0 as kind, b.first_position as a, b.last_position as b, b.checksum as c, b.events as t, '' as u
        from e join history b on b.tenant_id = e.tenant_id and b.execution_no = e.execution_no and b.run = e.run
            and b.first_position = 1
        where not exists (select 1 from h where h.first_position = 1 and h.fits)
        union all
        select 1, h.first_position, h.last_position, h.checksum, case when h.fits then h.events end, '' from h
        union all
        select 2, 0, 0, 0, c.call, c.state
        from e join calls c on c.tenant_id = e.tenant_id and c.execution_no = e.execution_no
        union all
        select 3, p.percent, 0, 0, p.scope, p.message
        from e join progress p on p.tenant_id = e.tenant_id and p.execution_no = e.execution_no and p.run = e.run
        union all
        select 4, m.seq, 0, 0, substr(m.message, 1, cast($6 as integer)), '' from (
            select i.seq, i.message from e join inbox i on i.tenant_id = e.tenant_id and i.execution_no = e.execution_no
            order by i.seq limit $5) m
    ) x on true
    order by x.kind, x.a, x.t"
));

/// See [`crate::Store::describe`].
pub(crate) async fn describe(database: &Database, key: &ExecutionKey) -> Result<Option<ExecutionDetail>, DbError> {
    let values = [
        key.tenant.into(),
        key.id.as_str().into(),
        BYTES_MAX.into(),
        EVENTS_MAX.into(),
        MESSAGES_MAX.into(),
        BEGINNING_LETTERS.into(),
    ];
    let rows = database.client(key.tenant).await?.rows(&DETAIL, &values).await?;
    let mut rows = rows.into_iter();
    let Some(mut row) = rows.next() else { return Ok(None) };
    let head = executions::read(&mut row).shown();
    let (mut calls, mut progress, mut inbox) = (Vec::new(), Vec::new(), Vec::new());
    let mut first = Ok(ChunkReader::new(key, head.run, Position(1)));
    let late = head.position.0.saturating_sub(EVENTS_MAX.unsigned_abs() - 1).max(1);
    let mut history = Ok(ChunkReader::new(key, head.run, Position(late)));
    let mut next = Some(row);
    while let Some(mut row) = next {
        row.seek(executions::COLUMNS);
        match row.opt_int()? {
            None => {}
            Some(FIRST) => first = first.and_then(|mut found| found.read(&mut row).map(|()| found)),
            Some(CHUNK) => history = history.and_then(|mut found| found.read_or_skip(&mut row).map(|()| found)),
            // A call that cannot be read is not shown. The execution is parked when it is claimed.
            Some(CALL) => calls.extend(call(&mut row)),
            Some(PROGRESS) => progress.extend(said(&mut row)),
            Some(_) => inbox.extend(beginning(&mut row)),
        }
        next = rows.next();
    }
    let history = history.and_then(|found| found.up_to(Some(head.position)));
    let first = first.and_then(|found| found.up_to(None));
    let (first, history) = match (first, history) {
        (Ok(mut first), Ok(history)) => (first.pop(), Ok(history)),
        (Err(damage), _) | (_, Err(damage)) => (None, Err(damage)),
    };
    Ok(Some(ExecutionDetail { head, first, history, calls, progress, inbox }))
}

fn call(row: &mut Row) -> Option<CallRow> {
    row.seek(executions::COLUMNS + 4);
    calls::read(row).ok()
}

fn said(row: &mut Row) -> Option<Progress> {
    let percent = row.count().ok()?;
    row.seek(executions::COLUMNS + 4);
    let scope = Scope::from_text(&row.text().ok()?);
    Some(Progress { scope, percent, message: executions::unescape(&row.text().ok()?) })
}

fn beginning(row: &mut Row) -> Option<String> {
    row.seek(executions::COLUMNS + 4);
    row.text().ok()
}
