//! Claims: the fenced right to run an execution. A node takes claims on executions that have something to do.

use std::collections::HashMap;

use cerebelum_history::{Timestamp, planted};

use crate::calls;
use crate::crashes::{self, free_suspects, suspected};
use crate::damage::{self, Damaged};
use crate::db_error::DbError;
use crate::executions::{StoredRow, ends};
use crate::retry::Backoff;
use crate::sql::{Row, Rows, Session, Statement, Value};
use crate::store::SqlStore;
use crate::{Claimed, ExecutionKey, Incarnation, State, StoreError, executions, inbox, nodes};

/// The most bytes of open calls and messages that all executions of one claim may have together.
const CLAIM_BYTES_MAX: u64 = 16 << 20;

/// An execution is small if it has at most this many bytes of open calls and messages.
pub const SMALL_BYTES: u64 = 128 << 10;

/// The sizes of executions that a claim accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Any size.
    Any,
    /// At most [`SMALL_BYTES`]: there is no room for larger ones at present.
    Small,
}

/// The condition of the index `executions_due`, word for word: executions that time alone can make claimable.
macro_rules! free {
    () => {
        "e.owner is null and e.state = 0 and e.parked is null and (e.due is not null or e.settled = 0 and e.paused = 0)"
    };
}
/// The expression of that index: the time at which the execution has to be looked at.
macro_rules! wake {
    () => {
        "(case when e.settled = 1 or e.paused = 1 then e.due else 0 end)"
    };
}

/// The bytes of open calls and messages of an execution's row.
macro_rules! brings {
    ($row:literal) => {
        concat!(
            "((select coalesce(sum(octet_length(c.state)), 0) from calls c
                where c.tenant_id = ",
            $row,
            ".tenant_id and c.execution_no = ",
            $row,
            ".execution_no)
            + (select coalesce(sum(octet_length(i.message)), 0) from inbox i
                where i.tenant_id = ",
            $row,
            ".tenant_id and i.execution_no = ",
            $row,
            ".execution_no))"
        )
    };
}
/// Executions with unseen messages, with a further condition on their size.
macro_rules! run {
    ($small:expr) => {
        Statement::new(concat!(
            ends!(),
            " where (e.tenant_id, e.execution_no) in
                (select i.tenant_id, i.execution_no from inbox i where i.seen = 0)
                and e.owner is null and e.state = 0 and e.parked is null and ",
            suspected!("e"),
            " is not true",
            $small,
            " limit $1 {postgres: for no key update of e skip locked}"
        ))
    };
}
/// Executions that are due, with a further condition on their size.
macro_rules! due {
    ($small:expr) => {
        Statement::new(concat!(
            ends!(),
            " where ",
            free!(),
            " and ",
            wake!(),
            " <= $2 and ",
            suspected!("e"),
            " is not true",
            $small,
            " order by ",
            wake!(),
            " limit $1 {postgres: for no key update of e skip locked}"
        ))
    };
}
static TOLD: Statement = run!("");
static TOLD_SMALL: Statement = run!(concat!(" and ", brings!("e"), " <= $2"));
static DUE: Statement = due!("");
static DUE_SMALL: Statement = due!(concat!(" and ", brings!("e"), " <= $3"));

/// See [`crate::Store::claim`].
pub(crate) async fn claim(
    store: &SqlStore,
    incarnation: Incarnation,
    limit: u32,
    size: Size,
) -> Result<Vec<Claimed>, DbError> {
    let now = store.clock.now();
    let bytes = Value::from(i64::try_from(SMALL_BYTES).unwrap_or(i64::MAX));
    let (run, told_values, due, due_values): (_, &[Value<'_>], _, &[Value<'_>]) = match size {
        Size::Any => (&TOLD, &[], &DUE, &[now.into()]),
        Size::Small => (&TOLD_SMALL, std::slice::from_ref(&bytes), &DUE_SMALL, &[now.into(), bytes.clone()]),
    };
    let mut session = store.database.write().await?;
    let standing = nodes::standing(&mut session, incarnation, now).await?;
    let Some(standing) = standing.filter(|_| limit > 0) else {
        session.rollback().await;
        return Ok(Vec::new());
    };
    // Half of the limit is for messages first, so that a flood of messages never starves timers, nor the reverse.
    let half = usize::try_from(limit.div_ceil(2)).unwrap_or(usize::MAX);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut picked = Picked::default();
    if standing.free_suspects && size == Size::Any {
        let suspect = crashes::free_suspect(&mut session, incarnation, now).await?;
        picked.take(&mut session, incarnation, suspect).await?;
    }
    let more_told = picked.pick(&mut session, (run, told_values), incarnation, half).await?;
    picked.pick(&mut session, (due, due_values), incarnation, limit).await?;
    if more_told {
        // The executions that were picked above have an owner now and are not found again.
        picked.pick(&mut session, (run, told_values), incarnation, limit).await?;
    }
    finish(store, session, incarnation, picked).await
}

/// See [`crate::Store::claim_one`].
pub(crate) async fn claim_one(
    store: &SqlStore,
    incarnation: Incarnation,
    key: &ExecutionKey,
) -> Result<Option<Claimed>, DbError> {
    static FREE: Statement = Statement::new(concat!(
        ends!(),
        " where e.tenant_id = $1 and e.id = $2 and e.owner is null and e.state = 0
        {postgres: for no key update of e skip locked}"
    ));
    let mut session = store.database.write().await?;
    if nodes::standing(&mut session, incarnation, store.clock.now()).await?.is_none() {
        session.rollback().await;
        return Ok(None);
    }
    let rows = session.rows(&FREE, &[key.tenant.into(), key.id.as_str().into()]).await?;
    let mut picked = Picked::default();
    picked.take(&mut session, incarnation, rows).await?;
    Ok(finish(store, session, incarnation, picked).await?.pop())
}

/// See [`crate::Store::next_due`].
pub(crate) async fn next_due(store: &SqlStore) -> Result<Option<Timestamp>, DbError> {
    static NEXT: Statement = Statement::new(concat!(
        "select (select ",
        wake!(),
        " from executions e where ",
        free!(),
        " and ",
        wake!(),
        " > $1 order by ",
        wake!(),
        " limit 1), ",
        free_suspects!("$1"),
    ));
    let now = store.clock.now();
    let mut session = store.database.read().await?;
    let mut rows = session.rows(&NEXT, &[now.into()]).await?;
    let row = rows.first_mut().expect("a select without a table has one row");
    let (due, has_suspects) = (row.opt_at()?, row.flag()?);
    let look_again = has_suspects.then(|| now.plus(crashes::LOOK_AGAIN_MS));
    Ok(due.into_iter().chain(look_again).min())
}

/// See [`crate::Store::peek`].
pub(crate) async fn peek(store: &SqlStore, key: &ExecutionKey) -> Result<Option<Claimed>, DbError> {
    static LOOK: Statement = Statement::new(concat!(ends!(), " where e.tenant_id = $1 and e.id = $2"));
    let mut session = store.database.snapshot().await?;
    let mut rows = session.rows(&LOOK, &[key.tenant.into(), key.id.as_str().into()]).await?;
    let Some(row) = rows.first_mut() else { return Ok(None) };
    let stored = read(row);
    let (stored, claimed) = with_state(&mut session, vec![stored]).await?.remove(0);
    stored.intact()?;
    Ok(Some(claimed))
}

/// Reads an execution's row and, in the column after it, the position at which its history ends. Both positions must be
/// the same.
pub(crate) fn read(row: &mut Row) -> StoredRow {
    let mut stored = executions::read(row);
    row.seek(executions::COLUMNS);
    let (at, run) = (stored.head.position, stored.head.run);
    match row.opt_int() {
        Ok(Some(end)) if u64::try_from(end) == Ok(at.0) => {}
        Ok(Some(end)) => stored.spoil(|| format!("its history ends at position {end}, its head is at {}", at.0)),
        Ok(None) => stored.spoil(|| format!("the history of run {} is missing", run)),
        Err(_) => stored.spoil(|| "the end of its history cannot be read".to_owned()),
    }
    stored
}

/// The executions that were picked for a node, and the damaged ones that must not be run.
#[derive(Default)]
struct Picked {
    found: Vec<StoredRow>,
    damaged: Vec<Damaged>,
}

impl Picked {
    /// Picks the executions that a statement finds, until there are `until` of them. Returns whether there may be more.
    async fn pick(
        &mut self,
        session: &mut Session,
        (statement, more): (&'static Statement, &[Value<'_>]),
        incarnation: Incarnation,
        until: usize,
    ) -> Result<bool, DbError> {
        while self.found.len() < until {
            let room = until - self.found.len();
            let values: Vec<_> = [room.into()].into_iter().chain(more.iter().cloned()).collect();
            let rows = session.rows(statement, &values).await?;
            let (is_last, before) = (rows.len() < room, self.damaged.len());
            self.take(session, incarnation, rows).await?;
            // The damaged ones have left room for others.
            if is_last || self.damaged.len() == before {
                return Ok(!is_last);
            }
        }
        Ok(true)
    }

    /// Makes the node the owner of these executions. Damaged ones are parked instead.
    async fn take(&mut self, session: &mut Session, incarnation: Incarnation, rows: Vec<Row>) -> Result<(), DbError> {
        static TAKE: Statement = Statement::new(
            "update executions as e set owner = r.node
            from {rows node:int tenant_id:int execution_no:int}
            where e.tenant_id = r.tenant_id and e.execution_no = r.execution_no",
        );
        let (mut taken, mut damaged) = (Rows::default(), Vec::new());
        for mut row in rows {
            let stored = read(&mut row);
            if let Some(damage) = Damaged::of(&stored) {
                if planted("damage-fails-claim") {
                    stored.intact()?;
                    continue;
                }
                damaged.push(damage);
                continue;
            }
            taken.push([incarnation.into(), stored.head.key.tenant.into(), stored.no.into()]);
            self.found.push(stored);
        }
        damage::park(session, &damaged).await?;
        self.damaged.append(&mut damaged);
        session.run_of(&TAKE, &taken).await?;
        Ok(())
    }
}

async fn finish(
    store: &SqlStore,
    mut session: Session,
    incarnation: Incarnation,
    Picked { found, mut damaged }: Picked,
) -> Result<Vec<Claimed>, DbError> {
    if found.is_empty() && damaged.is_empty() {
        session.rollback().await;
        return Ok(Vec::new());
    }
    let (found, leaves_others) = cut(&mut session, found).await?;
    let (mut nos, mut numbers, mut claimed, mut unfit) = (Rows::default(), Vec::new(), Vec::new(), Vec::new());
    for (stored, mut with_state) in with_state(&mut session, found).await? {
        debug_assert_eq!(stored.head.state, State::Open);
        if let Some(damage) = Damaged::of(&stored) {
            unfit.push(damage);
            continue;
        }
        nos.push([incarnation.into(), stored.head.key.tenant.into(), stored.no.into()]);
        numbers.push((stored.head.key.clone(), stored.no));
        // The row was read before it was taken.
        (with_state.owner, with_state.leaves_others) = (Some(incarnation), leaves_others);
        claimed.push(with_state);
    }
    damage::park(&mut session, &unfit).await?;
    damaged.append(&mut unfit);
    match session.commit().await {
        Ok(()) => {
            store.row_ids.remember(numbers);
            damage::tell(&damaged);
            Ok(claimed)
        }
        Err(DbError::Store(StoreError::Unknown(cause))) => give_back(store, &nos, cause).await,
        Err(fault) => Err(fault),
    }
}

/// The number of executions, from the first on, whose bytes fit into one claim. It is at least one.
pub(crate) async fn fitting(session: &mut Session, found: &[StoredRow]) -> Result<usize, DbError> {
    static SIZES: Statement = Statement::new(concat!(
        "select r.ordinal, ",
        brings!("r"),
        " from {rows ordinal:int tenant_id:int execution_no:int} order by r.ordinal"
    ));
    if found.len() < 2 {
        return Ok(found.len());
    }
    let mut rows = Rows::default();
    for (ordinal, stored) in found.iter().enumerate() {
        rows.push([ordinal.into(), stored.head.key.tenant.into(), stored.no.into()]);
    }
    let mut bytes = 0_u64;
    for mut row in session.rows_of(&SIZES, &rows).await? {
        let ordinal: usize = row.count()?;
        bytes = bytes.saturating_add(row.count()?);
        if bytes > CLAIM_BYTES_MAX && ordinal > 0 {
            return Ok(ordinal);
        }
    }
    Ok(found.len())
}

/// Keeps the executions that fit, and frees the others again. Returns whether any were freed.
async fn cut(session: &mut Session, mut found: Vec<StoredRow>) -> Result<(Vec<StoredRow>, bool), DbError> {
    static FREE: Statement = Statement::new(
        "update executions as e set owner = null
        from {rows tenant_id:int execution_no:int}
        where e.tenant_id = r.tenant_id and e.execution_no = r.execution_no",
    );
    let left = found.split_off(fitting(session, &found).await?);
    let mut rows = Rows::default();
    for stored in &left {
        rows.push([stored.head.key.tenant.into(), stored.no.into()]);
    }
    session.run_of(&FREE, &rows).await?;
    Ok((found, !left.is_empty()))
}

/// Frees executions that may have been claimed by a COMMIT whose answer was lost, because this node does not know that
/// they are its own.
async fn give_back(store: &SqlStore, claimed: &Rows<'_>, cause: String) -> Result<Vec<Claimed>, DbError> {
    static GIVE_BACK: Statement = Statement::new(
        "update executions as e set owner = null
        from {rows node:int tenant_id:int execution_no:int}
        where e.tenant_id = r.tenant_id and e.execution_no = r.execution_no and e.owner = r.node",
    );
    let mut backoff = Backoff::new();
    loop {
        let given_back = async {
            let mut session = store.database.write().await?;
            session.run_of(&GIVE_BACK, claimed).await?;
            session.commit().await
        };
        match given_back.await {
            Ok(()) => return Err(StoreError::Unavailable(cause).into()),
            // The caller must not conclude that nothing happened: no node knows of the executions that may be claimed.
            Err(fault) => backoff.wait(fault).await.map_err(|_| StoreError::Unknown(cause.clone()))?,
        }
    }
}

/// Adds the open calls and messages of each execution. A call or message that is missing or cannot be read marks its
/// execution as damaged.
pub(crate) async fn with_state(
    session: &mut Session,
    mut found: Vec<StoredRow>,
) -> Result<Vec<(StoredRow, Claimed)>, DbError> {
    let mut nos = Rows::default();
    let mut index_of = HashMap::new();
    let mut states: Vec<_> = found.iter().map(|_| (Vec::new(), Vec::new())).collect();
    for (index, StoredRow { no, head, .. }) in found.iter().enumerate() {
        nos.push([head.key.tenant.into(), (*no).into()]);
        index_of.insert(*no, index);
    }
    for (no, call) in calls::of(session, &nos).await? {
        let Some(&index) = index_of.get(&no) else { continue };
        match call {
            Ok(call) => states[index].0.push(call),
            Err(damage) => found[index].spoil(|| damage),
        }
    }
    for (no, message) in inbox::of(session, &nos).await? {
        let Some(&index) = index_of.get(&no) else { continue };
        match message {
            Ok(message) => states[index].1.push(message),
            Err(damage) => found[index].spoil(|| damage),
        }
    }
    let mut with_state = Vec::with_capacity(found.len());
    for (mut stored, (calls, inbox)) in std::iter::zip(found, states) {
        let crashes = stored.crashes;
        let (counted, there) = (stored.head.open_calls, calls.len());
        if let Some(counted) = counted.filter(|counted| usize::try_from(*counted) != Ok(there)) {
            stored.spoil(|| format!("{counted} calls of it are open, and {there} of them are there"));
        }
        let claimed =
            Claimed { head: stored.head.clone(), owner: stored.owner, calls, inbox, crashes, leaves_others: false };
        with_state.push((stored, claimed));
    }
    Ok(with_state)
}
