//! Nodes and their leases: which node may write, and how a node that may no longer write is fenced off (L11).

use std::time::Duration;

use cerebelum_history::{Timestamp, planted};

use crate::clock::SteadyClock;
use crate::crashes::free_suspects;
use crate::damage::RowKind;
use crate::database::Database;
use crate::db_error::DbError;
use crate::model::{ExecutionKey, Incarnation, Lease};
use crate::receipts::BatchReceipts;
use crate::reference_time::keep_time;
use crate::sql::{Rows, Session, Statement};
use crate::{crashes, executions};

/// Ended incarnations are kept for this long, for nodes that still ask about their last batch.
const ENDED_KEPT_MS: i64 = 24 * 3_600_000;

/// A node whose lease nobody has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRow {
    /// Its name.
    pub name: String,
    /// Its current incarnation.
    pub incarnation: Incarnation,
    /// How long its lease lasts still; zero if it is over and other nodes have yet to notice.
    pub lease_left: Duration,
    /// The number of executions that it has claimed.
    pub executions: u64,
}

/// See [`crate::Store::begin_lease`].
pub(crate) async fn begin(
    (database, clock): (&Database, &SteadyClock),
    (node, after): (&str, Option<Incarnation>),
    duration: Duration,
) -> Result<Result<Lease, Incarnation>, DbError> {
    static EARLIER: Statement = Statement::new(
        "select incarnation from nodes where name = $1 and ended_at is null order by incarnation {postgres: for update}",
    );
    static LAST: Statement = Statement::new("select coalesce(max(incarnation), 0) from nodes where name = $1");
    static INSERT: Statement = Statement::new(
        "insert into nodes (name, duration_ms, reads_packs) values ($1, $2, 1)
        on conflict do nothing returning incarnation, {clock}",
    );
    static LEASE: Statement = Statement::new("insert into leases (incarnation, expires_at) values ($1, $2)");
    static FORGET: Statement = Statement::new("delete from nodes where ended_at < {now} - $1");
    let duration_ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX).max(1);
    let mut session = database.write().await?;
    let mut earlier = Rows::default();
    for mut row in session.rows(&EARLIER, &[node.into()]).await? {
        earlier.push([row.int()?.into()]);
    }
    // Read once the earlier incarnation is locked: an incarnation that ended it meanwhile is seen.
    let last = match session.rows(&LAST, &[node.into()]).await?.first_mut() {
        Some(row) => row.int()?,
        None => 0,
    };
    if after.map_or(0, |after| after.0) < last && !planted("late-lease-begins") {
        return Ok(Err(Incarnation(last)));
    }
    retire(&mut session, &earlier).await?;
    session.run(&FORGET, &[ENDED_KEPT_MS.into()]).await?;
    let mut inserted = session.rows(&INSERT, &[node.into(), duration_ms.into()]).await?;
    let Some(row) = inserted.first_mut() else {
        // Another incarnation was inserted at the same moment.
        return Ok(Err(Incarnation(last)));
    };
    let (incarnation, now) = (row.int()?, row.at()?);
    let expires_at = now.plus(duration_ms.unsigned_abs());
    session.run(&LEASE, &[incarnation.into(), expires_at.into()]).await?;
    keep_time(&mut session, clock, now).await?;
    session.commit().await?;
    let remaining = Duration::from_millis(expires_at.since(now));
    Ok(Ok(Lease { incarnation: Incarnation(incarnation), remaining, now: clock.now() }))
}

/// See [`crate::Store::renew_lease`].
pub(crate) async fn renew(
    (database, clock): (&Database, &SteadyClock),
    incarnation: Incarnation,
    duration: Duration,
) -> Result<Option<Lease>, DbError> {
    // Only the lease's own row is changed. A takeover deletes that row first, so this statement either finds it or does
    // not.
    static RENEW: Statement = Statement::new(
        "update leases set expires_at = {clock} + $2
        where incarnation = $1
            and (expires_at > {clock} or exists (
                select 1 from nodes n where n.incarnation = $1 and n.ended_at is null and n.lengthened_until > {clock}))
        returning expires_at, {clock}",
    );
    let duration_ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    let mut session = database.lease().await?;
    let mut rows = session.rows(&RENEW, &[incarnation.into(), duration_ms.into()]).await?;
    let Some(row) = rows.first_mut() else { return Ok(None) };
    let (expires_at, now) = (row.at()?, row.at()?);
    keep_time(&mut session, clock, now).await?;
    let remaining = Duration::from_millis(expires_at.since(now));
    Ok(Some(Lease { incarnation, remaining, now: clock.now() }))
}

/// See [`crate::Store::end_lease`]. Returns one of the executions that are free now.
pub(crate) async fn end(database: &Database, incarnation: Incarnation) -> Result<Option<ExecutionKey>, DbError> {
    static LOCK: Statement = Statement::new(
        "select incarnation from nodes where incarnation = $1 and ended_at is null {postgres: for update}",
    );
    static OWNED: Statement = Statement::new("select tenant_id, id from executions where owner = $1 limit 1");
    let mut session = database.write().await?;
    if session.rows(&LOCK, &[incarnation.into()]).await?.is_empty() {
        return Ok(None);
    }
    let mut owned = session.rows(&OWNED, &[incarnation.into()]).await?;
    // The key only serves as a hint to other nodes. An execution whose id cannot be read is found without a hint.
    let owned = owned.first_mut().and_then(|row| executions::read_key(row).ok());
    let mut ended = Rows::default();
    ended.push([incarnation.into()]);
    retire(&mut session, &ended).await?;
    session.commit().await?;
    Ok(owned)
}

/// See [`crate::Store::nodes`].
pub(crate) async fn list(database: &Database) -> Result<Vec<NodeRow>, DbError> {
    static STANDING: Statement = Statement::new(
        "select n.name, n.incarnation,
            case when l.expires_at > n.lengthened_until then l.expires_at else n.lengthened_until end - {clock},
            (select count(*) from executions e where e.owner = n.incarnation)
        from nodes n join leases l on l.incarnation = n.incarnation
        where n.ended_at is null
        order by n.name",
    );
    let rows = database.background().await?.rows(&STANDING, &[]).await?;
    Ok(RowKind::new("a node", 2).readable(rows, |row| {
        let (name, incarnation) = (row.text()?, Incarnation(row.int()?));
        let left_ms = u64::try_from(row.int()?).unwrap_or_default();
        Ok(NodeRow { name, incarnation, lease_left: Duration::from_millis(left_ms), executions: row.count()? })
    }))
}

/// See [`crate::Store::expire_leases`].
pub(crate) async fn expire_leases(database: &Database) -> Result<u64, DbError> {
    // A node that is just committing or renewing is skipped: it is alive, or will be found next time.
    static EXPIRED: Statement = Statement::new(
        "select n.incarnation, case when l.expires_at > n.lengthened_until then l.expires_at else n.lengthened_until end
        from nodes n join leases l on l.incarnation = n.incarnation
        where n.ended_at is null and l.expires_at <= {clock} and n.lengthened_until <= {clock}
        order by n.incarnation {postgres: for update skip locked}",
    );
    let mut session = database.write().await?;
    let (mut expired, mut died) = (Rows::default(), Rows::default());
    for mut row in session.rows(&EXPIRED, &[]).await? {
        let node = row.int()?;
        expired.push([node.into()]);
        died.push([node.into(), row.at()?.into()]);
    }
    if expired.is_empty() {
        return Ok(0);
    }
    session.run_of(&crashes::COUNT, &died).await?;
    retire(&mut session, &expired).await?;
    session.commit().await?;
    Ok(u64::try_from(expired.len()).unwrap_or(u64::MAX))
}

/// Ends incarnations whose rows are locked, and frees the executions that they had claimed.
async fn retire(session: &mut Session, incarnations: &Rows<'_>) -> Result<(), DbError> {
    static FORGET_LEASE: Statement =
        Statement::new("delete from leases where incarnation in (select r.node from {rows node:int})");
    static END: Statement =
        Statement::new("update nodes set ended_at = {clock} where incarnation in (select r.node from {rows node:int})");
    static FREE: Statement =
        Statement::new("update executions set owner = null where owner in (select r.node from {rows node:int})");
    for statement in [&FORGET_LEASE, &END, &FREE] {
        session.run_of(statement, incarnations).await?;
    }
    Ok(())
}

/// A lease that is valid.
pub(crate) struct Standing {
    /// Whether a suspect that can move has no owner.
    pub(crate) free_suspects: bool,
}

/// The lease of an incarnation, if it is valid. It then stays valid until this transaction ends.
pub(crate) async fn standing(
    session: &mut Session,
    incarnation: Incarnation,
    now: Timestamp,
) -> Result<Option<Standing>, DbError> {
    // This is a shared lock on the key: a takeover waits for it, and batches of the same node do not.
    static STANDS: Statement = Statement::new(concat!(
        "select ",
        free_suspects!("$2"),
        " from nodes n join leases l on l.incarnation = n.incarnation
        where n.incarnation = $1 and n.ended_at is null and (l.expires_at > {clock} or n.lengthened_until > {clock})
        {postgres: for key share of n}"
    ));
    let mut rows = session.rows(&STANDS, &[incarnation.into(), now.into()]).await?;
    rows.first_mut().map(|row| Ok(Standing { free_suspects: row.flag()? })).transpose()
}

/// A node's row, locked for the batches of one append.
pub(crate) struct LockedNode {
    pub(crate) incarnation: Incarnation,
    /// Whether its lease is valid.
    pub(crate) is_valid: bool,
    pub(crate) receipts: BatchReceipts,
}

/// Whether the lease of a row of `nodes` is valid. A committed batch counts as a renewal.
macro_rules! is_valid {
    () => {
        "n.ended_at is null and (n.lengthened_until > {clock} or exists (
            select 1 from leases l where l.incarnation = n.incarnation and l.expires_at > {clock}))"
    };
}

/// Locks the rows of these incarnations until the transaction ends.
pub(crate) async fn lock(session: &mut Session, incarnations: &[Incarnation]) -> Result<Vec<LockedNode>, DbError> {
    static LOCK: Statement = Statement::new(concat!(
        "select n.incarnation, n.batches, case when ",
        is_valid!(),
        " then 1 else 0 end
        from nodes n
        where n.incarnation in (select r.node from {rows node:int})
        order by n.incarnation {postgres: for no key update of n}"
    ));
    let mut rows = Rows::default();
    for incarnation in incarnations {
        rows.push([(*incarnation).into()]);
    }
    let mut locked = Vec::new();
    for mut row in session.rows_of(&LOCK, &rows).await? {
        let incarnation = Incarnation(row.int()?);
        let receipts = BatchReceipts::decode(&row.text()?);
        locked.push(LockedNode { incarnation, is_valid: row.flag()?, receipts });
    }
    Ok(locked)
}

/// Records the receipts of batches, extends the lease, and checks once more that it is valid. Returns the incarnations
/// whose leases are.
pub(crate) static RECORD: Statement = Statement::new(concat!(
    "update nodes as n
    set batches = r.receipts, lengthened_until = {clock} + n.duration_ms
    from {rows node:int receipts:text}
    where n.incarnation = r.node and ",
    is_valid!(),
    " returning incarnation"
));

/// The incarnations whose leases are valid: the fence of a script in a transaction that has locked their rows.
pub(crate) static VALID: Statement = Statement::new(concat!(
    "select n.incarnation from {rows node:int} join nodes n on n.incarnation = r.node where ",
    is_valid!()
));
