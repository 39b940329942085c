//! An execution in full, read in one statement and hence in one committed state.

use cerebelum_history::{Position, Scope};

use crate::chunks::Found;
use crate::database::Database;
use crate::fault::Fault;
use crate::heads::{self, head_columns, heads};
use crate::sql::{Row, Statement};
use crate::{CallRow, ExecutionKey, Progress, State, Whole, calls};

/// What a row holds beside the head, which is repeated in each.
const CHUNK: i64 = 1;
const CALL: i64 = 2;

/// How much of an execution is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Everything.
    All,
    /// Everything if it has ended, otherwise its head.
    HeadUnlessEnded,
}

/// See [`crate::Store::whole`] and [`crate::Store::whole_if_ended`].
pub(crate) async fn whole(database: &Database, key: &ExecutionKey, extent: Extent) -> Result<Option<Whole>, Fault> {
    static WHOLE: Statement = Statement::new(concat!(
        "with e as (select ",
        head_columns!(),
        " from ",
        heads!(),
        " where e.tenant_id = $1 and e.id = $2)
        select e.*, x.kind, x.a, x.b, x.c, x.t, x.u from e left join (
            select 1 as kind, h.first_position as a, h.last_position as b, h.checksum as c, h.events as t, '' as u
            from e join history h on h.tenant_id = e.tenant_id and h.execution_no = e.execution_no and h.run = e.run
            where $3 = 0 or e.state <> 0
            union all
            select 2, 0, 0, 0, c.call, c.state
            from e join calls c on c.tenant_id = e.tenant_id and c.execution_no = e.execution_no
            where $3 = 0 or e.state <> 0
            union all
            select 3, p.percent, 0, 0, p.scope, p.message
            from e join progress p on p.tenant_id = e.tenant_id and p.execution_no = e.execution_no and p.run = e.run
            where $3 = 0 or e.state <> 0
        ) x on true
        order by x.kind, x.a, x.t"
    ));
    let values = [key.tenant.into(), key.id.as_str().into(), (extent == Extent::HeadUnlessEnded).into()];
    let rows = database.search().await?.rows(&WHOLE, &values).await?;
    let mut rows = rows.into_iter();
    let Some(mut row) = rows.next() else { return Ok(None) };
    let head = heads::read(&mut row).shown();
    let (mut calls, mut progress) = (Vec::new(), Vec::new());
    let mut history = Ok(Found::new(key, head.run, Position(1)));
    let mut next = Some(row);
    while let Some(mut row) = next {
        row.seek(heads::COLUMNS);
        match row.opt_int()? {
            None => {}
            Some(CHUNK) => history = history.and_then(|mut found| found.read(&mut row).map(|()| found)),
            // What cannot be read is not shown; the execution is parked when it is to run.
            Some(CALL) => calls.extend(call(&mut row)),
            Some(_) => progress.extend(said(&mut row)),
        }
        next = rows.next();
    }
    let is_read = extent == Extent::All || head.state != State::Open;
    let history = history.and_then(|found| found.up_to(Some(head.position).filter(|_| is_read)));
    Ok(Some(Whole { head, history, calls, progress }))
}

fn call(row: &mut Row) -> Option<CallRow> {
    row.seek(heads::COLUMNS + 4);
    calls::read(row).ok()
}

fn said(row: &mut Row) -> Option<Progress> {
    let percent = row.count().ok()?;
    row.seek(heads::COLUMNS + 4);
    let scope = Scope::from_text(&row.text().ok()?);
    Some(Progress { scope, percent, message: heads::unescape(&row.text().ok()?) })
}
