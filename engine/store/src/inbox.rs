//! Messages to executions: everything that is sent between executions, and from people to executions (L10).

use crate::db_error::DbError;
use crate::hints::InboxNotice;
use crate::model::{ExecutionKey, InboxRow, Incarnation, TenantId};
use crate::sql::{Rows, Session, Statement};
use crate::storage;

/// Inserts messages, in order.
pub(crate) static INSERT: Statement = Statement::new(
    "insert into inbox (tenant_id, execution_no, message)
    select r.tenant_id, r.execution_no, r.message
    from {rows ordinal:int tenant_id:int execution_no:int message:text}
    order by r.ordinal",
);

/// Inserts messages to executions by id, in order. An execution that does not exist or has ended gets none. The others
/// cannot be deleted before the transaction ends. Returns their owners, tenants and ids.
pub(crate) static SEND: Statement = Statement::new(
    "insert into inbox (tenant_id, execution_no, message)
    select e.tenant_id, e.execution_no, r.message
    from {rows ordinal:int tenant_id:int id:text message:text}
    join executions e on e.tenant_id = r.tenant_id and e.id = r.id
    where e.state = 0
    order by r.ordinal {postgres: for key share of e}
    returning
        (select e.owner from executions e where e.tenant_id = inbox.tenant_id and e.execution_no = inbox.execution_no),
        tenant_id,
        (select e.id from executions e where e.tenant_id = inbox.tenant_id and e.execution_no = inbox.execution_no)",
);

/// Removes messages that were consumed.
pub(crate) static CONSUME: Statement = Statement::new(
    "delete from inbox
    where (tenant_id, execution_no, seq) in (
        select r.tenant_id, r.execution_no, r.seq from {rows tenant_id:int execution_no:int seq:int})",
);

/// Marks messages as seen.
pub(crate) static MARK_SEEN: Statement = Statement::new(
    "update inbox set seen = 1
    where (tenant_id, execution_no, seq) in (
        select r.tenant_id, r.execution_no, r.seq from {rows tenant_id:int execution_no:int seq:int})",
);

/// Marks up to a number of messages as seen that no activation will see: an execution that has ended, or is parked, is not
/// claimed for its messages, and every claim would look at them. One that is resumed reads all its messages. Returns their
/// number.
pub(crate) async fn set_aside(session: &mut Session, limit: u32) -> Result<u64, DbError> {
    static SET_ASIDE: Statement = Statement::new(
        "update inbox set seen = 1
        where (tenant_id, execution_no, seq) in (
            select i.tenant_id, i.execution_no, i.seq from inbox i {sqlite: indexed by inbox_unseen}
            where i.seen = 0 and exists (
                select 1 from executions e where e.tenant_id = i.tenant_id and e.execution_no = i.execution_no
                    and (e.state in (1, 2, 3) or e.parked is not null))
            limit $1)",
    );
    Ok(session.run(&SET_ASIDE, &[limit.into()]).await?)
}

/// Reads the oldest messages `$from` an inbox: at most 32 MiB and one message of each execution. An activation that has
/// consumed these learns that there are more from its [`crate::InboxCursor`].
macro_rules! oldest_messages {
    ($columns:literal, $from:literal) => {
        concat!(
            "select ",
            $columns,
            " from (
                select m.seq, m.size, sum(m.size) over (partition by m.execution_no order by m.seq) as sum
                from (select i.seq, i.execution_no, octet_length(i.message) as size from ",
            $from,
            ") m
            ) p
            join inbox i on i.seq = p.seq
            where p.sum - p.size < 33554432
            order by i.seq"
        )
    };
}

/// The messages of executions, oldest first. Each comes with the number of its execution; a message that cannot be read
/// comes as the reason.
pub(crate) async fn of(
    session: &mut Session,
    executions: &Rows<'_>,
) -> Result<Vec<(i64, Result<InboxRow, String>)>, DbError> {
    static OF: Statement = Statement::new(oldest_messages!(
        "i.execution_no, i.seq, i.message, i.seen",
        "{rows tenant_id:int execution_no:int}
        join inbox i on i.tenant_id = r.tenant_id and i.execution_no = r.execution_no"
    ));
    let mut messages = Vec::new();
    for mut row in session.rows_of(&OF, executions).await? {
        let (no, seq) = (row.int()?, row.int()?);
        let message = row.text().and_then(|message| Ok(InboxRow { seq, message, seen: row.flag()? }));
        messages.push((no, message.map_err(|_| format!("message {seq} in its inbox cannot be read"))));
    }
    Ok(messages)
}

/// See [`crate::Store::unseen`]. It reads at most as much as [`of`] does.
pub(crate) async fn unseen(session: &mut Session, key: &ExecutionKey) -> Result<Vec<InboxRow>, DbError> {
    static UNSEEN: Statement = Statement::new(oldest_messages!(
        "i.seq, i.message",
        "executions e
        join inbox i on i.tenant_id = e.tenant_id and i.execution_no = e.execution_no and i.seen = 0
        where e.tenant_id = $1 and e.id = $2"
    ));
    let mut messages = Vec::new();
    for mut row in session.rows(&UNSEEN, &[key.tenant.into(), key.id.as_str().into()]).await? {
        messages.push(InboxRow { seq: row.int()?, message: row.text()?, seen: false });
    }
    Ok(messages)
}

/// See [`crate::Store::unread`].
pub(crate) async fn unread(session: &mut Session, key: &ExecutionKey) -> Result<(u64, u64), DbError> {
    static UNREAD: Statement = Statement::new(
        "select count(*), coalesce(sum(octet_length(i.message)), 0)
        from executions e
        join inbox i on i.tenant_id = e.tenant_id and i.execution_no = e.execution_no
        where e.tenant_id = $1 and e.id = $2",
    );
    let mut rows = session.rows(&UNREAD, &[key.tenant.into(), key.id.as_str().into()]).await?;
    let Some(row) = rows.first_mut() else { return Ok((0, 0)) };
    Ok((row.count()?, row.count()?))
}

/// Puts a message into an open execution's inbox. The execution cannot be deleted before the transaction ends.
pub(crate) async fn put(
    session: &mut Session,
    key: &ExecutionKey,
    message: &str,
) -> Result<Option<InboxNotice>, DbError> {
    static RECEIVER: Statement = Statement::new(
        "select execution_no, owner from executions
        where tenant_id = $1 and id = $2 and state = 0 {postgres: for key share}",
    );
    let mut receivers = session.rows(&RECEIVER, &[key.tenant.into(), key.id.as_str().into()]).await?;
    let Some(receiver) = receivers.first_mut() else { return Ok(None) };
    insert(session, key.tenant, receiver.int()?, message).await?;
    Ok(Some(InboxNotice { key: key.clone(), owner: receiver.opt_int()?.map(Incarnation) }))
}

/// Puts a message into the inbox of the execution with this number.
pub(crate) async fn insert(session: &mut Session, tenant: TenantId, no: i64, message: &str) -> Result<(), DbError> {
    let mut rows = Rows::default();
    rows.push([0_i64.into(), tenant.into(), no.into(), message.into()]);
    session.run_of(&INSERT, &rows).await?;
    storage::count_message(session, (tenant, no), message).await
}
