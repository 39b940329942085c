//! Claims: a fenced right to run an execution, taken for those that have something to do.

use std::collections::HashMap;

use cerebelum_history::{CallName, Timestamp};

use crate::fault::Fault;
use crate::heads::{Stored, head_columns, heads};
use crate::patience::Patience;
use crate::sql::{Rows, Session, Statement};
use crate::store::{SqlStore, commit};
use crate::{CallRow, Claimed, ExecutionKey, Incarnation, State, StoreError, heads, inbox, nodes};

/// The condition of the index `executions_due`, word for word: what time alone can make claimable.
macro_rules! free {
    () => {
        "e.owner is null and e.state = 0 and e.parked is null and (e.due is not null or e.settled = 0 and e.paused = 0)"
    };
}
/// The expression of that index: when it has to be looked at.
macro_rules! wake {
    () => {
        "(case when e.settled = 1 or e.paused = 1 then e.due else 0 end)"
    };
}

/// See [`crate::Store::claim`].
pub(crate) async fn claim(store: &SqlStore, incarnation: Incarnation, limit: u32) -> Result<Vec<Claimed>, Fault> {
    static TOLD: Statement = Statement::new(concat!(
        "select ",
        head_columns!(),
        " from ",
        heads!(),
        " where (e.tenant_id, e.execution_no) in (select i.tenant_id, i.execution_no from inbox i where i.seen = 0)
            and e.owner is null and e.state = 0 and e.parked is null
        limit $1 {postgres: for no key update of e skip locked}"
    ));
    static DUE: Statement = Statement::new(concat!(
        "select ",
        head_columns!(),
        " from ",
        heads!(),
        " where ",
        free!(),
        " and ",
        wake!(),
        " <= {now} order by ",
        wake!(),
        " limit $1 {postgres: for no key update of e skip locked}"
    ));
    let mut session = store.database.write().await?;
    if limit == 0 || !nodes::stands(&mut session, incarnation).await? {
        session.undo().await;
        return Ok(Vec::new());
    }
    // Half for messages first, so that neither they nor timers ever wait for the last of the others.
    let half = usize::try_from(limit.div_ceil(2)).unwrap_or(usize::MAX);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut found = pick(&mut session, &TOLD, incarnation, half).await?;
    let more_told = found.len() == half;
    found.extend(pick(&mut session, &DUE, incarnation, limit - found.len()).await?);
    if more_told {
        // Those that were picked above are owned by now and do not come again.
        found.extend(pick(&mut session, &TOLD, incarnation, limit - found.len()).await?);
    }
    finish(store, session, incarnation, found).await
}

/// See [`crate::Store::claim_one`].
pub(crate) async fn claim_one(
    store: &SqlStore,
    incarnation: Incarnation,
    key: &ExecutionKey,
) -> Result<Option<Claimed>, Fault> {
    static FREE: Statement = Statement::new(concat!(
        "select ",
        head_columns!(),
        " from ",
        heads!(),
        " where e.tenant_id = $1 and e.id = $2 and e.owner is null and e.state = 0
        {postgres: for no key update of e skip locked}"
    ));
    let mut session = store.database.write().await?;
    if !nodes::stands(&mut session, incarnation).await? {
        session.undo().await;
        return Ok(None);
    }
    let mut rows = session.rows(&FREE, &[key.tenant.into(), key.id.as_str().into()]).await?;
    let found = rows.iter_mut().map(heads::read).collect::<Result<Vec<_>, _>>()?;
    take(&mut session, incarnation, &found).await?;
    Ok(finish(store, session, incarnation, found).await?.pop())
}

/// See [`crate::Store::next_due`].
pub(crate) async fn next_due(store: &SqlStore) -> Result<Option<Timestamp>, Fault> {
    static NEXT: Statement = Statement::new(concat!(
        "select ",
        wake!(),
        " from executions e where ",
        free!(),
        " and ",
        wake!(),
        " > {now} order by ",
        wake!(),
        " limit 1"
    ));
    let mut session = store.database.read().await?;
    let mut rows = session.rows(&NEXT, &[]).await?;
    Ok(rows.first_mut().map(|row| row.at()).transpose()?)
}

/// See [`crate::Store::look`].
pub(crate) async fn look(store: &SqlStore, key: &ExecutionKey) -> Result<Option<Claimed>, Fault> {
    let mut session = store.database.snapshot().await?;
    let Some(stored) = heads::find(&mut session, key).await? else { return Ok(None) };
    Ok(with_state(&mut session, vec![stored]).await?.pop())
}

async fn pick(
    session: &mut Session,
    statement: &'static Statement,
    incarnation: Incarnation,
    room: usize,
) -> Result<Vec<Stored>, Fault> {
    if room == 0 {
        return Ok(Vec::new());
    }
    let mut rows = session.rows(statement, &[room.into()]).await?;
    let found = rows.iter_mut().map(heads::read).collect::<Result<Vec<_>, _>>()?;
    take(session, incarnation, &found).await?;
    Ok(found)
}

async fn take(session: &mut Session, incarnation: Incarnation, found: &[Stored]) -> Result<(), Fault> {
    static TAKE: Statement = Statement::new(
        "update executions as e set owner = r.node
        from {rows node:int tenant_id:int execution_no:int}
        where e.tenant_id = r.tenant_id and e.execution_no = r.execution_no",
    );
    let mut rows = Rows::default();
    for stored in found {
        rows.push([incarnation.into(), stored.head.key.tenant.into(), stored.no.into()]);
    }
    session.run_of(&TAKE, &rows).await?;
    Ok(())
}

async fn finish(
    store: &SqlStore,
    mut session: Session,
    incarnation: Incarnation,
    found: Vec<Stored>,
) -> Result<Vec<Claimed>, Fault> {
    if found.is_empty() {
        session.undo().await;
        return Ok(Vec::new());
    }
    let mut nos = Rows::default();
    for stored in &found {
        debug_assert_eq!(stored.head.state, State::Open);
        nos.push([incarnation.into(), stored.head.key.tenant.into(), stored.no.into()]);
    }
    let numbers: Vec<_> = found.iter().map(|stored| (stored.head.key.clone(), stored.no)).collect();
    let mut claimed = with_state(&mut session, found).await?;
    // They were read before they were taken.
    claimed.iter_mut().for_each(|claimed| claimed.owner = Some(incarnation));
    match commit(session).await {
        Ok(()) => {
            store.numbers.remember(numbers);
            Ok(claimed)
        }
        Err(Fault::Told(StoreError::Unknown(cause))) => give_back(store, &nos, cause).await,
        Err(fault) => Err(fault),
    }
}

/// Frees what may have been claimed by a COMMIT whose answer was lost: nobody here knows that it is theirs.
async fn give_back(store: &SqlStore, claimed: &Rows<'_>, cause: String) -> Result<Vec<Claimed>, Fault> {
    static GIVE_BACK: Statement = Statement::new(
        "update executions as e set owner = null
        from {rows node:int tenant_id:int execution_no:int}
        where e.tenant_id = r.tenant_id and e.execution_no = r.execution_no and e.owner = r.node",
    );
    let mut patience = Patience::new();
    loop {
        let given_back = async {
            let mut session = store.database.write().await?;
            session.run_of(&GIVE_BACK, claimed).await?;
            commit(session).await
        };
        match given_back.await {
            Ok(()) => return Err(StoreError::Unavailable(cause).into()),
            // The caller must not think that nothing happened: what may be claimed is known to nobody.
            Err(fault) => patience.endure(fault).await.map_err(|_| StoreError::Unknown(cause.clone()))?,
        }
    }
}

async fn with_state(session: &mut Session, found: Vec<Stored>) -> Result<Vec<Claimed>, Fault> {
    static CALLS: Statement = Statement::new(
        "select c.execution_no, c.call, c.state
        from {rows tenant_id:int execution_no:int}
        join calls c on c.tenant_id = r.tenant_id and c.execution_no = r.execution_no
        order by c.call",
    );
    let mut nos = Rows::default();
    let mut index_of = HashMap::new();
    let mut claimed = Vec::with_capacity(found.len());
    for (index, Stored { no, head, owner }) in found.into_iter().enumerate() {
        nos.push([head.key.tenant.into(), no.into()]);
        index_of.insert(no, index);
        claimed.push(Claimed { head, owner, calls: Vec::new(), inbox: Vec::new() });
    }
    for mut row in session.rows_of(&CALLS, &nos).await? {
        let claimed = &mut claimed[index_of[&row.int()?]];
        let name = row.text()?;
        let name: CallName = name
            .parse()
            .map_err(|_| StoreError::Corrupt(format!("execution {}: `{name}` names no call", claimed.head.key.id)))?;
        claimed.calls.push(CallRow { name, state: row.text()? });
    }
    for (no, message) in inbox::of(session, &nos).await? {
        claimed[index_of[&no]].inbox.push(message);
    }
    Ok(claimed)
}
