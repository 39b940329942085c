//! Chunks of histories. They are written with a checksum, which is verified on every read.

use cerebelum_history::Position;

use crate::database::Database;
use crate::db_error::{DbError, Error};
use crate::error::StoreError;
use crate::model::{Chunk, ExecutionKey, ExecutionRow, TenantId};
use crate::requests::HistoryPart;
use crate::sql::{Row, Rows, Session, Statement, Value};

/// Inserts chunks. With the first one of a further run stands what the execution had counted before this run: the batch
/// counts `ending` for the run before. PostgreSQL sees the execution's row as it was before the batch, SQLite as it is
/// after it.
pub(crate) static INSERT: Statement = Statement::new(
    "insert into history (tenant_id, execution_no, run, first_position, last_position, checksum, events, bytes_before)
    select r.tenant_id, r.execution_no, r.run, r.first_position, r.last_position, r.checksum, r.events,
        case when r.ending is not null then (
            select e.bytes + e.bytes_back {postgres: + r.ending}{sqlite: - octet_length(r.events)}
            from executions e where e.tenant_id = r.tenant_id and e.execution_no = r.execution_no) end
    from {rows tenant_id:int execution_no:int run:int first_position:int last_position:int checksum:int events:text
        ending:int}",
);

/// Overwrites chunks that have the same first and last position.
pub(crate) static REWRITE: Statement = Statement::new(
    "update history as h
    set checksum = r.checksum, events = r.events
    from {rows tenant_id:int execution_no:int run:int first_position:int last_position:int checksum:int events:text}
    where h.tenant_id = r.tenant_id and h.execution_no = r.execution_no and h.run = r.run
        and h.first_position = r.first_position and h.last_position = r.last_position",
);

/// A row for [`INSERT`]. `ending` is given for the first chunk of a further run.
pub(crate) fn insertion((tenant, no): (TenantId, i64), run: u32, chunk: &Chunk, ending: Option<i64>) -> Vec<Value<'_>> {
    let mut row = rewrite((tenant, no), run, chunk);
    row.push(ending.into());
    row
}

/// A row for [`REWRITE`].
pub(crate) fn rewrite((tenant, no): (TenantId, i64), run: u32, chunk: &Chunk) -> Vec<Value<'_>> {
    vec![
        tenant.into(),
        no.into(),
        run.into(),
        chunk.first.into(),
        chunk.last.into(),
        checksum(run, chunk).into(),
        chunk.events.as_str().into(),
    ]
}

/// CRC-32 over run, positions and events, as the signed number that PostgreSQL stores.
fn checksum(run: u32, chunk: &Chunk) -> i64 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&run.to_le_bytes());
    hasher.update(&chunk.first.0.to_le_bytes());
    hasher.update(&chunk.last.0.to_le_bytes());
    hasher.update(chunk.events.as_bytes());
    i64::from(hasher.finalize().cast_signed())
}

/// The number of chunks that are read at once for a page. A chunk holds what one commit wrote.
const PAGE_CHUNKS: u32 = 16;

/// The chunks to read: the first ones of a run that hold any of these positions, up to a limit.
struct Range {
    run: u32,
    from: Position,
    to: Position,
    limit: u32,
}

/// See [`crate::Store::history`]. The result is empty if the execution, the run or the positions do not exist.
pub(crate) async fn history(
    database: &Database,
    key: &ExecutionKey,
    run: u32,
    part: &HistoryPart,
) -> Result<Vec<Chunk>, DbError> {
    match part {
        HistoryPart::Between(from, to) => {
            let range = Range { run, from: (*from).max(Position(1)), to: (*to).min(POSITION_MAX), limit: u32::MAX };
            let (found, end) = some(&mut database.search().await?, key, &range).await?;
            Ok(found.up_to(end)?)
        }
        HistoryPart::Page { from, bytes_max } => page(database, key, (run, *from), *bytes_max).await,
        HistoryPart::At(firsts) => find(&mut database.search().await?, key, run, firsts).await,
    }
}

/// Reads a page for a client.
async fn page(
    database: &Database,
    key: &ExecutionKey,
    (run, from): (u32, Position),
    bytes_max: u64,
) -> Result<Vec<Chunk>, DbError> {
    let mut from = from.max(Position(1));
    let (mut page, mut bytes) = (Vec::new(), 0);
    loop {
        let range = Range { run, from, to: POSITION_MAX, limit: PAGE_CHUNKS };
        let (found, end) = some(&mut database.client(key.tenant).await?, key, &range).await?;
        let is_last = found.len() < usize::try_from(PAGE_CHUNKS).unwrap_or(usize::MAX);
        for chunk in found.up_to(end.filter(|_| is_last))? {
            if bytes > 0 && bytes + chunk.events.len() as u64 > bytes_max {
                return Ok(page);
            }
            bytes += chunk.events.len() as u64;
            from = chunk.last.next();
            page.push(chunk);
        }
        if is_last {
            return Ok(page);
        }
    }
}

/// The largest position that the databases can store.
const POSITION_MAX: Position = Position(i32::MAX as u64);

/// Reads a range of chunks, and returns the position up to which there must be some.
async fn some<'k>(
    session: &mut Session,
    key: &'k ExecutionKey,
    &Range { run, from, to, limit }: &Range,
) -> Result<(ChunkReader<'k>, Option<Position>), DbError> {
    // One statement sees one committed state of the execution's row and its history. On PostgreSQL it is worded so that
    // a table without statistics is not scanned as a whole. Chunks before the one that holds the first position are not
    // read.
    static READ: Statement = Statement::new(
        "select e.run, e.position, e.runs_from, h.first_position, h.last_position, h.checksum, h.events
        from executions e left join {postgres: lateral (
            select * from history c where c.tenant_id = e.tenant_id and c.execution_no = e.execution_no
                and c.run = $3 and c.first_position <= $5 and c.first_position >= coalesce((
                    select max(b.first_position) from history b
                    where b.tenant_id = e.tenant_id and b.execution_no = e.execution_no and b.run = $3
                        and b.first_position <= $4), 1) offset 0)}{sqlite: history} h
            on h.tenant_id = e.tenant_id and h.execution_no = e.execution_no
            and h.run = $3 and h.first_position <= $5 and h.last_position >= $4
            {sqlite: and h.first_position >= coalesce((
                select max(b.first_position) from history b
                where b.tenant_id = e.tenant_id and b.execution_no = e.execution_no and b.run = $3
                    and b.first_position <= $4), 1)}
        where e.tenant_id = $1 and e.id = $2
        order by h.first_position
        limit $6",
    );
    let values = [key.tenant.into(), key.id.as_str().into(), run.into(), from.into(), to.into(), limit.into()];
    let (mut found, mut end) = (ChunkReader::new(key, run, from), None);
    for mut row in session.rows(&READ, &values).await? {
        let (current_run, position): (u32, Position) = (row.count()?, row.position()?);
        // A number that cannot be read is damage, for which the execution is parked. It hides no run.
        let runs_from = row.opt_int().ok().flatten().and_then(|from| u32::try_from(from).ok());
        if let Some(from) = runs_from.filter(|from| run < *from && run < current_run) {
            return Err(StoreError::not_kept(&key.id, run, from).into());
        }
        // An earlier run ended where its last chunk ends. A later run may have no chunks.
        end = match current_run.cmp(&run) {
            std::cmp::Ordering::Equal => Some(position.min(to)),
            std::cmp::Ordering::Greater => Some(Position(1).min(to)),
            std::cmp::Ordering::Less => None,
        };
        found.read(&mut row)?;
    }
    Ok((found, end))
}

/// Reads the last chunk of an execution's current run, if there is one.
pub(crate) async fn last(session: &mut Session, row: &ExecutionRow) -> Result<Option<Chunk>, DbError> {
    let range = Range { run: row.run, from: row.position, to: row.position, limit: 1 };
    let (found, end) = some(session, &row.key, &range).await?;
    Ok(found.up_to(end)?.pop())
}

/// Reads the chunks that begin at these positions.
async fn find(session: &mut Session, key: &ExecutionKey, run: u32, firsts: &[Position]) -> Result<Vec<Chunk>, DbError> {
    static FIND: Statement = Statement::new(
        "select h.first_position, h.last_position, h.checksum, h.events
        from {rows tenant_id:int id:text run:int first_position:int}
        join executions e on e.tenant_id = r.tenant_id and e.id = r.id
        join {postgres: lateral (
            select * from history c where c.tenant_id = e.tenant_id and c.execution_no = e.execution_no
                and c.run = r.run and c.first_position = r.first_position offset 0)}{sqlite: history} h
            on h.tenant_id = e.tenant_id and h.execution_no = e.execution_no
            and h.run = r.run and h.first_position = r.first_position
        order by h.first_position",
    );
    let mut wanted = Rows::default();
    for first in firsts {
        wanted.push([key.tenant.into(), key.id.as_str().into(), run.into(), (*first).into()]);
    }
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let mut chunks = Vec::with_capacity(firsts.len());
    for mut row in session.rows_of(&FIND, &wanted).await? {
        let first = row.position()?;
        let mut found = ChunkReader::new(key, run, first);
        found.add(first, row.position()?, (row.int()?, row.text()?))?;
        chunks.append(&mut found.chunks);
    }
    let missing = firsts.iter().find(|first| chunks.binary_search_by_key(*first, |chunk| chunk.first).is_err());
    match missing {
        Some(first) => Err(ChunkReader::new(key, run, *first).corrupt(*first, "is missing").into()),
        None => Ok(chunks),
    }
}

/// Reads chunks in order, verifies them, and checks that there are no gaps.
pub(crate) struct ChunkReader<'k> {
    key: &'k ExecutionKey,
    run: u32,
    from: Position,
    chunks: Vec<Chunk>,
}

impl<'k> ChunkReader<'k> {
    /// A reader that has no chunks yet and expects the chunk that holds `from` first.
    pub(crate) const fn new(key: &'k ExecutionKey, run: u32, from: Position) -> Self {
        Self { key, run, from, chunks: Vec::new() }
    }

    /// Reads the next chunk from the following columns of the row: first and last position, checksum, events.
    pub(crate) fn read(&mut self, row: &mut Row) -> Result<(), StoreError> {
        let unreadable = |error: Error| StoreError::from(DbError::from(error));
        let Some(first) = row.opt_int().map_err(unreadable)? else { return Ok(()) };
        let (last, sum) = (row.position().map_err(unreadable)?, row.int().map_err(unreadable)?);
        self.add(Position(u64::try_from(first).unwrap_or(0)), last, (sum, row.text().map_err(unreadable)?))
    }

    /// The same as `read`, for rows that may have no events. Such a row drops all chunks up to it.
    pub(crate) fn read_or_skip(&mut self, row: &mut Row) -> Result<(), StoreError> {
        let unreadable = |error: Error| StoreError::from(DbError::from(error));
        let (first, last) = (row.position().map_err(unreadable)?, row.position().map_err(unreadable)?);
        let sum = row.int().map_err(unreadable)?;
        match row.opt_text().map_err(unreadable)? {
            Some(events) => self.add(first, last, (sum, events)),
            None if self.chunks.is_empty() && first <= self.from => {
                self.from = last.next();
                Ok(())
            }
            None => Err(self.corrupt(self.next(), "is missing")),
        }
    }

    /// Adds the next chunk after a check of its checksum.
    fn add(&mut self, first: Position, last: Position, (sum, events): (i64, String)) -> Result<(), StoreError> {
        let follows = match self.chunks.last() {
            Some(before) => first == before.last.next(),
            None => first <= self.from,
        };
        if !follows {
            return Err(self.corrupt(self.next(), "is missing"));
        }
        let chunk = Chunk { first, last, events };
        if sum != checksum(self.run, &chunk) {
            return Err(self.corrupt(first, "does not match its checksum"));
        }
        self.chunks.push(chunk);
        Ok(())
    }

    /// The number of chunks.
    const fn len(&self) -> usize {
        self.chunks.len()
    }

    /// All chunks, which must reach to `end`.
    pub(crate) fn up_to(self, end: Option<Position>) -> Result<Vec<Chunk>, StoreError> {
        match end {
            Some(end) if self.next() <= end => Err(self.corrupt(self.next(), "is missing")),
            Some(_) | None => Ok(self.chunks),
        }
    }

    /// The first position that was not read yet.
    fn next(&self) -> Position {
        self.chunks.last().map_or(self.from, |last| last.last.next())
    }

    fn corrupt(&self, position: Position, what: &str) -> StoreError {
        let (id, run) = (&self.key.id, self.run);
        StoreError::Corrupt(format!("the history of execution {id}, run {run}: position {} {what}", position.0))
    }
}
