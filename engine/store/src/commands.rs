//! Commands to executions by their keys: messages of people, and actions of operators.

use cerebelum_history::ExecutionId;

use crate::audit::{self, Act};
use crate::database::Database;
use crate::db_error::DbError;
use crate::executions::{escape, state_no};
use crate::hints::InboxNotice;
use crate::model::{ExecutionKey, Incarnation, State};
use crate::requests::Command;
use crate::sql::{Session, Statement};
use crate::{deletion, inbox};

/// The executions that a command has moved, or none if it does not fit the execution's state.
pub(crate) type Moved = Option<Vec<InboxNotice>>;

/// See [`crate::Store::command`].
pub(crate) async fn command(
    database: &Database,
    key: &ExecutionKey,
    command: &Command,
    act: Option<&Act>,
) -> Result<Moved, DbError> {
    let mut session = database.write().await?;
    let moved = carry_out(&mut session, key, command).await?;
    match moved.is_some() {
        true => {
            audit::note(&mut session, act).await?;
            session.commit().await?;
        }
        false => session.rollback().await,
    }
    Ok(moved)
}

/// Carries out a command in a transaction.
pub(crate) async fn carry_out(session: &mut Session, key: &ExecutionKey, command: &Command) -> Result<Moved, DbError> {
    match command {
        Command::Send(message) => Ok(inbox::put(session, key, message).await?.map(|notice| vec![notice])),
        Command::Reopen(message) => reopen(session, key, message).await,
        Command::Unpark => unpark(session, key).await,
        Command::Park { incarnation, reason } => park(session, key, *incarnation, reason).await,
        Command::Bury { messages } => bury(session, key, messages).await,
        Command::Delete => delete(session, key).await,
    }
}

async fn reopen(session: &mut Session, key: &ExecutionKey, message: &str) -> Result<Moved, DbError> {
    static REOPEN: Statement = Statement::new(
        "update executions set state = 0, ended_at = null, parked = null, status = 'running'
        where tenant_id = $1 and id = $2 and state = $3
        returning execution_no",
    );
    let values = [key.tenant.into(), key.id.as_str().into(), state_no(State::Failed).into()];
    let mut reopened = session.rows(&REOPEN, &values).await?;
    let Some(row) = reopened.first_mut() else { return Ok(None) };
    inbox::insert(session, key.tenant, row.int()?, message).await?;
    Ok(Some(vec![InboxNotice { key: key.clone(), owner: None }]))
}

async fn unpark(session: &mut Session, key: &ExecutionKey) -> Result<Moved, DbError> {
    // An execution that is not settled is due at once.
    static UNPARK: Statement = Statement::new(
        "update executions set parked = null, settled = 0, status = 'running', crashes = null
        where tenant_id = $1 and id = $2 and state = 0 and parked is not null
        returning owner",
    );
    let mut unparked = session.rows(&UNPARK, &[key.tenant.into(), key.id.as_str().into()]).await?;
    let Some(row) = unparked.first_mut() else { return Ok(None) };
    Ok(Some(vec![InboxNotice { key: key.clone(), owner: row.opt_int()?.map(Incarnation) }]))
}

async fn park(
    session: &mut Session,
    key: &ExecutionKey,
    incarnation: Incarnation,
    reason: &str,
) -> Result<Moved, DbError> {
    static PARK: Statement = Statement::new(
        "update executions set parked = $3, status = 'parked', owner = null
        where tenant_id = $1 and id = $2 and coalesce(state, 0) not in (1, 2, 3) and (owner is null or owner = $4)",
    );
    let values = [key.tenant.into(), key.id.as_str().into(), escape(reason).into(), incarnation.into()];
    Ok((session.run(&PARK, &values).await? > 0).then(Vec::new))
}

async fn bury(session: &mut Session, key: &ExecutionKey, messages: &[(ExecutionId, String)]) -> Result<Moved, DbError> {
    static BURY: Statement = Statement::new(
        "update executions
        set state = 3, status = 'cancelled', ended_at = {clock}, owner = null, parked = null, due = null
        where tenant_id = $1 and id = $2 and coalesce(state, 0) not in (1, 2, 3)
        returning execution_no",
    );
    static CALLS: Statement = Statement::new("delete from calls where tenant_id = $1 and execution_no = $2");
    static INBOX: Statement = Statement::new("delete from inbox where tenant_id = $1 and execution_no = $2");
    static QUESTIONS: Statement =
        Statement::new("update approvals set state = 4 where tenant_id = $1 and execution_no = $2 and state = 0");
    let mut buried = session.rows(&BURY, &[key.tenant.into(), key.id.as_str().into()]).await?;
    let Some(row) = buried.first_mut() else { return Ok(None) };
    let no = row.int()?;
    for statement in [&CALLS, &INBOX, &QUESTIONS] {
        session.run(statement, &[key.tenant.into(), no.into()]).await?;
    }
    let mut moved = vec![InboxNotice { key: key.clone(), owner: None }];
    for (id, message) in messages {
        let to = ExecutionKey { tenant: key.tenant, id: id.clone() };
        moved.extend(inbox::put(session, &to, message).await?);
    }
    Ok(Some(moved))
}

async fn delete(session: &mut Session, key: &ExecutionKey) -> Result<Moved, DbError> {
    static ENDED: Statement = Statement::new(
        "select execution_no, tenant_id from executions where tenant_id = $1 and id = $2 and state <> 0 {postgres: for update}",
    );
    let deleted = deletion::delete_found(session, &ENDED, &[key.tenant.into(), key.id.as_str().into()]).await?;
    Ok((deleted > 0).then(Vec::new))
}
