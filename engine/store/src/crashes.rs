//! Executions that could run when their nodes died, again and again (L18). A node's own record of what ran when it died
//! is in its data folder. The counts here cover nodes that never came back to their data folder.
//!
//! A crash is counted at the execution's position. Once the execution has moved on from there, the crash no longer
//! counts.

use cerebelum_history::Timestamp;

use crate::db_error::DbError;
use crate::executions::ends;
use crate::model::Incarnation;
use crate::sql::{Row, Session, Statement};

/// How often a node looks for a free suspect while it waits for the suspect that it has claimed to go on, in
/// milliseconds.
pub(crate) const LOOK_AGAIN_MS: u64 = 100;

/// Whether a row of `executions` is a suspect: it has crashed twice at its current position. A node claims one suspect
/// at a time. The index `executions_suspected` uses the same number.
macro_rules! suspected {
    ($row:literal) => {
        concat!("(", $row, ".crashes >= 2 and ", $row, ".crashed_at = ", $row, ".position)")
    };
}
/// Whether the row `e` can move at the time given by the parameter.
macro_rules! movable {
    ($now:literal) => {
        concat!(
            "(e.state = 0 and e.parked is null and (e.settled = 0 and e.paused = 0 or e.due <= ",
            $now,
            " or exists (select 1 from inbox i where i.tenant_id = e.tenant_id and i.execution_no = e.execution_no
                and i.seen = 0)))"
        )
    };
}
/// Whether a suspect that can move at the time given by the parameter has no owner.
macro_rules! free_suspects {
    ($now:literal) => {
        concat!(
            "(case when exists (select 1 from executions e where e.owner is null and ",
            $crate::crashes::suspected!("e"),
            " and ",
            $crate::crashes::movable!($now),
            ") then 1 else 0 end)"
        )
    };
}
pub(crate) use {free_suspects, movable, suspected};

/// Counts a crash for every execution that these nodes could run when their leases ended.
pub(crate) static COUNT: Statement = Statement::new(concat!(
    "update executions as e
    set crashes = case when e.crashed_at = e.position and e.crashes between 1 and 1000 then e.crashes + 1 else 1 end,
        crashed_at = e.position
    from {rows node:int at:int}
    where e.owner = r.node and ",
    movable!("r.at")
));

/// A suspect that can move, for a node that has none. The one with the fewest crashes comes first.
pub(crate) async fn free_suspect(
    session: &mut Session,
    incarnation: Incarnation,
    now: Timestamp,
) -> Result<Vec<Row>, DbError> {
    static FREE: Statement = Statement::new(concat!(
        ends!(),
        " where e.owner is null and ",
        suspected!("e"),
        " and ",
        movable!("$2"),
        " and not exists (select 1 from executions s where s.owner = $1 and s.state = 0 and s.parked is null and ",
        suspected!("s"),
        ")
        order by e.crashes, e.execution_no limit 1 {postgres: for no key update of e skip locked}"
    ));
    Ok(session.rows(&FREE, &[incarnation.into(), now.into()]).await?)
}
