//! Claims: the fenced right to run an execution. A node takes claims on executions that have something to do.

use cerebelum_history::{Timestamp, planted};

use crate::crashes::{self, free_suspects, suspected};
use crate::damage::{self, Damaged};
use crate::database::Database;
use crate::db_error::DbError;
use crate::error::StoreError;
use crate::executions::{StoredRow, ends};
use crate::load::{brings, fitting, read, with_state};
use crate::metrics::{BACKLOG_MAX, Backlog};
use crate::model::{Claimed, ExecutionKey, Incarnation, State, TenantId};
use crate::nodes;
use crate::requests::{ClaimFilter, SMALL_BYTES, Size};
use crate::retry::Backoff;
use crate::row_ids::RowIds;
use crate::sql::{Row, Rows, Session, Statement, Value};

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

/// Executions `$with` unseen messages, with a further condition on their size.
macro_rules! told {
    ($with:expr, $small:expr) => {
        Statement::new(concat!(
            ends!(),
            " where ",
            $with,
            " and e.owner is null and e.state = 0 and e.parked is null and ",
            suspected!("e"),
            " is not true",
            $small,
            " limit $1 {postgres: for no key update of e skip locked}"
        ))
    };
}
/// Executions that are due, `$of` one tenant or all, with a further condition on their size.
macro_rules! due {
    ($of:expr, $small:expr) => {
        Statement::new(concat!(
            ends!(),
            " where ",
            $of,
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
macro_rules! with_messages {
    () => {
        "(e.tenant_id, e.execution_no) in (select i.tenant_id, i.execution_no from inbox i where i.seen = 0)"
    };
}
macro_rules! with_messages_of_tenant {
    () => {
        "e.tenant_id = $2 and e.execution_no in
            (select i.execution_no from inbox i where i.tenant_id = $2 and i.seen = 0)"
    };
}
static TOLD: Statement = told!(with_messages!(), "");
static TOLD_SMALL: Statement = told!(with_messages!(), concat!(" and ", brings!("e"), " <= $2"));
static TOLD_OF: Statement = told!(with_messages_of_tenant!(), "");
static TOLD_OF_SMALL: Statement = told!(with_messages_of_tenant!(), concat!(" and ", brings!("e"), " <= $3"));
static DUE: Statement = due!("", "");
static DUE_SMALL: Statement = due!("", concat!(" and ", brings!("e"), " <= $3"));
static DUE_OF: Statement = due!("e.tenant_id = $3 and ", "");
static DUE_OF_SMALL: Statement = due!("e.tenant_id = $3 and ", concat!(" and ", brings!("e"), " <= $4"));

/// The most tenants that have their turn in one claim; the others have theirs in the next one.
const TENANTS_MAX: usize = 32;

/// A statement that finds executions, and its values behind the limit.
type Finder = (&'static Statement, Vec<Value<'static>>);

/// How executions are found that have something to do: of one tenant, or of all.
struct Search {
    told: Finder,
    due: Finder,
}

impl Search {
    fn new(now: Timestamp, size: Size, tenant: Option<TenantId>) -> Self {
        let (told, due) = match (size, tenant) {
            (Size::Any, None) => (&TOLD, &DUE),
            (Size::Small, None) => (&TOLD_SMALL, &DUE_SMALL),
            (Size::Any, Some(_)) => (&TOLD_OF, &DUE_OF),
            (Size::Small, Some(_)) => (&TOLD_OF_SMALL, &DUE_OF_SMALL),
        };
        let bytes = (size == Size::Small).then(|| Value::from(i64::try_from(SMALL_BYTES).unwrap_or(i64::MAX)));
        let values: Vec<Value<'static>> = tenant.map(Value::from).into_iter().chain(bytes).collect();
        Self { told: (told, values.clone()), due: (due, [vec![now.into()], values].concat()) }
    }
}

/// See [`crate::Store::claim`].
pub(crate) async fn claim(
    parts: (&Database, &RowIds),
    now: Timestamp,
    incarnation: Incarnation,
    filter: &ClaimFilter,
) -> Result<Vec<Claimed>, DbError> {
    match filter {
        ClaimFilter::Next { limit, size } => {
            let Some((mut session, mut picked)) = begin(parts.0, now, incarnation, (*limit, *size)).await? else {
                return Ok(Vec::new());
            };
            let limit = usize::try_from(*limit).unwrap_or(usize::MAX).saturating_sub(picked.found.len());
            picked.search(&mut session, &Search::new(now, *size, None), incarnation, limit).await?;
            finish(parts, session, incarnation, picked).await
        }
        ClaimFilter::InTurn { limit, size, without, after } => {
            let Some((session, picked)) = begin(parts.0, now, incarnation, (*limit, *size)).await? else {
                return Ok(Vec::new());
            };
            claim_in_turn(parts, (session, picked), (now, incarnation), (*limit, *size), (without, *after)).await
        }
        ClaimFilter::One(key) => claim_one(parts, now, incarnation, key).await,
    }
}

/// Begins a claim, with a suspect if this node may have one. None if the node may claim nothing.
async fn begin(
    database: &Database,
    now: Timestamp,
    incarnation: Incarnation,
    (limit, size): (u32, Size),
) -> Result<Option<(Session, Picked)>, DbError> {
    let mut session = database.write().await?;
    let standing = nodes::standing(&mut session, incarnation, now).await?;
    let Some(standing) = standing.filter(|_| limit > 0) else {
        session.rollback().await;
        return Ok(None);
    };
    let mut picked = Picked::default();
    if standing.free_suspects && size == Size::Any {
        let suspect = crashes::free_suspect(&mut session, incarnation, now).await?;
        picked.take(&mut session, incarnation, suspect).await?;
    }
    Ok(Some((session, picked)))
}

/// Claims as many executions of each tenant as of any other.
async fn claim_in_turn(
    parts: (&Database, &RowIds),
    (mut session, mut picked): (Session, Picked),
    (now, incarnation): (Timestamp, Incarnation),
    (limit, size): (u32, Size),
    (without, after): (&[TenantId], TenantId),
) -> Result<Vec<Claimed>, DbError> {
    static WITH_WORK: Statement = Statement::new(concat!(
        "select t.tenant_id from tenants t
        where exists (
                select 1 from executions e {sqlite: indexed by executions_due_of}
                where e.tenant_id = t.tenant_id and ",
        free!(),
        " and ",
        wake!(),
        " <= $1)
            or exists (
                select 1 from inbox i
                join executions e on e.tenant_id = i.tenant_id and e.execution_no = i.execution_no
                where i.tenant_id = t.tenant_id and i.seen = 0 and e.owner is null and e.state = 0 and e.parked is null)
        order by case when t.tenant_id > $2 then 0 else 1 end, t.tenant_id limit $3"
    ));
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut tenants = Vec::new();
    for mut row in session.rows(&WITH_WORK, &[now.into(), after.into(), (TENANTS_MAX + without.len()).into()]).await? {
        tenants.push(TenantId(row.count()?));
    }
    tenants.retain(|tenant| !without.contains(tenant));
    tenants.truncate(TENANTS_MAX.min(limit));
    let share = limit / tenants.len().max(1);
    for tenant in tenants {
        let room = share.min(limit.saturating_sub(picked.found.len()));
        picked.search(&mut session, &Search::new(now, size, Some(tenant)), incarnation, room).await?;
    }
    finish(parts, session, incarnation, picked).await
}

/// Claims this execution if it is free and open.
async fn claim_one(
    parts: (&Database, &RowIds),
    now: Timestamp,
    incarnation: Incarnation,
    key: &ExecutionKey,
) -> Result<Vec<Claimed>, DbError> {
    static FREE: Statement = Statement::new(concat!(
        ends!(),
        " where e.tenant_id = $1 and e.id = $2 and e.owner is null and e.state = 0
        {postgres: for no key update of e skip locked}"
    ));
    let mut session = parts.0.write().await?;
    if nodes::standing(&mut session, incarnation, now).await?.is_none() {
        session.rollback().await;
        return Ok(Vec::new());
    }
    let rows = session.rows(&FREE, &[key.tenant.into(), key.id.as_str().into()]).await?;
    let mut picked = Picked::default();
    picked.take(&mut session, incarnation, rows).await?;
    finish(parts, session, incarnation, picked).await
}

/// See [`crate::Store::next_due`].
pub(crate) async fn next_due(database: &Database, now: Timestamp) -> Result<Option<Timestamp>, DbError> {
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
    let mut session = database.read().await?;
    let mut rows = session.rows(&NEXT, &[now.into()]).await?;
    let row = rows.first_mut().expect("a select without a table has one row");
    let (due, has_suspects) = (row.opt_at()?, row.flag()?);
    let look_again = has_suspects.then(|| now.plus(crashes::LOOK_AGAIN_MS));
    Ok(due.into_iter().chain(look_again).min())
}

/// See [`crate::Store::backlog`]. An execution that can move at once has been due since its last event.
pub(crate) async fn backlog(database: &Database, now: Timestamp) -> Result<Backlog, DbError> {
    static BACKLOG: Statement = Statement::new(concat!(
        "select
            (select count(*) from (select 1 from executions e where ",
        free!(),
        " and ",
        wake!(),
        " <= $1 limit $2) as due),
            (select min(since) from (select e.stamp as since from executions e where ",
        free!(),
        " and ",
        wake!(),
        " = 0 limit $2) as at_once),
            (select min(since) from (select ",
        wake!(),
        " as since from executions e where ",
        free!(),
        " and ",
        wake!(),
        " > 0 and ",
        wake!(),
        " <= $1 order by ",
        wake!(),
        " limit 1) as timed)",
    ));
    let mut session = database.background().await?;
    let mut rows = session.rows(&BACKLOG, &[now.into(), BACKLOG_MAX.into()]).await?;
    let row = rows.first_mut().expect("a select without a table has one row");
    let (due, at_once, timed) = (row.count()?, row.opt_at()?, row.opt_at()?);
    let oldest_ms = at_once.into_iter().chain(timed).min().map_or(0, |since| now.since(since));
    Ok(Backlog { due, oldest_ms })
}

/// The executions that were picked for a node, and the damaged ones that must not be run.
#[derive(Default)]
struct Picked {
    found: Vec<StoredRow>,
    damaged: Vec<Damaged>,
}

impl Picked {
    /// Picks up to `room` further executions. Half of the room is for messages first, so that a flood of messages never
    /// starves timers, nor the reverse.
    async fn search(
        &mut self,
        session: &mut Session,
        search: &Search,
        incarnation: Incarnation,
        room: usize,
    ) -> Result<(), DbError> {
        let (half, all) = (self.found.len() + room.div_ceil(2), self.found.len() + room);
        let more_told = self.pick(session, &search.told, incarnation, half).await?;
        self.pick(session, &search.due, incarnation, all).await?;
        if more_told {
            // The executions that were picked above have an owner now and are not found again.
            self.pick(session, &search.told, incarnation, all).await?;
        }
        Ok(())
    }

    /// Picks the executions that a statement finds, until there are `until` of them. Returns whether there may be more.
    async fn pick(
        &mut self,
        session: &mut Session,
        (statement, more): &Finder,
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
    (database, row_ids): (&Database, &RowIds),
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
            row_ids.remember(numbers);
            damage::tell(&damaged);
            Ok(claimed)
        }
        Err(DbError::Store(StoreError::Unknown(cause))) => give_back(database, &nos, cause).await,
        Err(fault) => Err(fault),
    }
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
async fn give_back(database: &Database, claimed: &Rows<'_>, cause: String) -> Result<Vec<Claimed>, DbError> {
    static GIVE_BACK: Statement = Statement::new(
        "update executions as e set owner = null
        from {rows node:int tenant_id:int execution_no:int}
        where e.tenant_id = r.tenant_id and e.execution_no = r.execution_no and e.owner = r.node",
    );
    let mut backoff = Backoff::new();
    loop {
        let given_back = async {
            let mut session = database.write().await?;
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
