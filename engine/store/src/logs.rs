//! Log lines and progress of guests.

use cerebelum_history::{Level, Position, Scope, Timestamp};

use crate::database::Database;
use crate::db_error::{DbError, Error};
use crate::executions::{escape, unescape};
use crate::model::{ExecutionKey, LogLine, LogRow, Progress, TenantId};
use crate::sql::{Row, Statement, Value};

/// Inserts lines that are new. Their numbers follow the last one of their execution.
pub(crate) static INSERT: Statement = Statement::new(
    "insert into logs (tenant_id, execution_no, seq, run, scope, attempt, place, number, logged_at, level, line)
    select r.tenant_id, r.execution_no,
        {postgres: r.ordinal}{sqlite: 1} + coalesce((
            select max(l.seq) from logs l where l.tenant_id = r.tenant_id and l.execution_no = r.execution_no), 0),
        r.run, r.scope, r.attempt, r.place, r.number, r.logged_at, r.level, r.line
    from {rows ordinal:int tenant_id:int execution_no:int run:int scope:text attempt:int place:int number:int
        logged_at:int level:int line:text}
    where true
    order by r.ordinal
    on conflict (tenant_id, execution_no, run, scope, attempt, place, number) do nothing",
);

/// Writes the latest progress of scopes.
pub(crate) static PROGRESS: Statement = Statement::new(
    "insert into progress (tenant_id, execution_no, run, scope, percent, message)
    select r.tenant_id, r.execution_no, r.run, r.scope, r.percent, r.message
    from {rows tenant_id:int execution_no:int run:int scope:text percent:int message:text}
    where true
    on conflict (tenant_id, execution_no, scope) do update
    set run = excluded.run, percent = excluded.percent, message = excluded.message",
);

/// Removes the progress of executions whose run has ended.
pub(crate) static PROGRESS_GONE: Statement = Statement::new(
    "delete from progress
    where (tenant_id, execution_no) in (select r.tenant_id, r.execution_no from {rows tenant_id:int execution_no:int})",
);

/// A row for [`INSERT`]. `ordinal` grows from 1 within one statement. SQLite inserts line by line and counts by itself.
pub(crate) fn insertion(ordinal: usize, tenant: TenantId, no: i64, run: u32, line: &LogLine) -> Vec<Value<'_>> {
    vec![
        ordinal.into(),
        tenant.into(),
        no.into(),
        run.into(),
        line.scope.as_str().into(),
        line.attempt.into(),
        Position(line.place).into(),
        line.number.into(),
        line.at.into(),
        level_no(line.level).into(),
        escape(&line.text).into(),
    ]
}

/// A page of lines ends with the line that brings it to this many bytes.
const PAGE_BYTES_MAX: usize = 8 << 20;
/// The number of lines that are read at once.
const READ_AT_ONCE: u32 = 256;

/// See [`crate::Store::logs`].
pub(crate) async fn logs(
    database: &Database,
    key: &ExecutionKey,
    mut after: i64,
    limit: u32,
) -> Result<Vec<LogRow>, DbError> {
    static LOGS: Statement = Statement::new(
        "select l.seq, l.run, l.scope, l.attempt, l.place, l.number, l.logged_at, l.level, l.line
        from executions e join logs l on l.tenant_id = e.tenant_id and l.execution_no = e.execution_no
        where e.tenant_id = $1 and e.id = $2 and l.seq > $3 and l.run >= coalesce(e.runs_from, 1)
        order by l.seq
        limit $4",
    );
    let (mut logs, mut bytes, mut left) = (Vec::new(), 0, limit);
    while left > 0 && bytes < PAGE_BYTES_MAX {
        let count = left.min(READ_AT_ONCE);
        left -= count;
        let values = [key.tenant.into(), key.id.as_str().into(), after.into(), count.into()];
        let rows = database.client(key.tenant).await?.rows(&LOGS, &values).await?;
        let is_last = rows.len() < usize::try_from(count).unwrap_or(usize::MAX);
        for mut row in rows {
            after = row.int()?;
            let line = read(after, &mut row).unwrap_or_else(|_| unreadable(after));
            bytes += line.line.text.len();
            logs.push(line);
        }
        if is_last {
            break;
        }
    }
    Ok(logs)
}

fn read(seq: i64, row: &mut Row) -> Result<LogRow, Error> {
    let run = row.count()?;
    let scope = Scope::from_text(&row.text()?);
    let (attempt, place, number, at) = (row.count()?, row.count()?, row.count()?, row.at()?);
    let level = level_of(row.int()?).ok_or(Error::Unexpected("a log line has no level"))?;
    let text = unescape(&row.text()?);
    Ok(LogRow { seq, run, line: LogLine { scope, attempt, place, number, at, level, text } })
}

/// The replacement for a line that cannot be read, so that it does not hide other lines.
fn unreadable(seq: i64) -> LogRow {
    let line = LogLine {
        scope: Scope::root(),
        attempt: 1,
        place: 0,
        number: 0,
        at: Timestamp(0),
        level: Level::Error,
        text: "(this line is damaged and cannot be read)".into(),
    };
    LogRow { seq, run: 1, line }
}

/// See [`crate::Store::progress`].
pub(crate) async fn progress(database: &Database, key: &ExecutionKey) -> Result<Vec<Progress>, DbError> {
    static LATEST: Statement = Statement::new(
        "select p.scope, p.percent, p.message
        from executions e join progress p on p.tenant_id = e.tenant_id and p.execution_no = e.execution_no
        where e.tenant_id = $1 and e.id = $2 and p.run = e.run
        order by p.scope",
    );
    let mut session = database.client(key.tenant).await?;
    let rows = session.rows(&LATEST, &[key.tenant.into(), key.id.as_str().into()]).await?;
    let said = |mut row: Row| -> Result<Progress, Error> {
        let scope = Scope::from_text(&row.text()?);
        Ok(Progress { scope, percent: row.count()?, message: unescape(&row.text()?) })
    };
    // Progress that cannot be read is not shown. The next report replaces it.
    Ok(rows.into_iter().filter_map(|row| said(row).ok()).collect())
}

const fn level_no(level: Level) -> i64 {
    match level {
        Level::Debug => 0,
        Level::Info => 1,
        Level::Warn => 2,
        Level::Error => 3,
    }
}

const fn level_of(no: i64) -> Option<Level> {
    match no {
        0 => Some(Level::Debug),
        1 => Some(Level::Info),
        2 => Some(Level::Warn),
        3 => Some(Level::Error),
        _ => None,
    }
}
