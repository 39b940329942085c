//! New executions: each is inserted once, however often and from wherever the start is requested.

use std::collections::HashSet;

use crate::database::Database;
use crate::db_error::DbError;
use crate::executions::NewRow;
use crate::retry::Backoff;
use crate::store::{SqlStore, commit};
use crate::{ExecutionKey, Existing, NewExecution, StartOutcome, StoreError, executions};

/// The most attempts if an id is taken and free again, over and over.
const ATTEMPTS_MAX: u32 = 8;

/// See [`crate::Store::start`].
pub(crate) async fn start(store: &SqlStore, new: &[NewExecution]) -> Result<Vec<StartOutcome>, DbError> {
    let mut patience = Backoff::new();
    let mut attempts = 0;
    loop {
        match try_start(store, new).await {
            Ok(Some(started)) => {
                let fresh = std::iter::zip(new, &started).filter(|(_, started)| **started == StartOutcome::New);
                store.hints.tell_here(fresh.map(|(new, _)| new.head.key.clone()));
                return Ok(started);
            }
            Ok(None) if attempts == ATTEMPTS_MAX => {
                return Err(StoreError::Unavailable(
                    "an execution of this id is started and deleted all the time".into(),
                )
                .into());
            }
            Ok(None) => attempts += 1,
            // This is safe to repeat: an execution that was stored after all is recognized by its seed.
            Err(fault) => patience.wait(fault).await?,
        }
    }
}

/// See [`crate::Store::find_existing`].
pub(crate) async fn find_existing(
    database: &Database,
    keys: &[ExecutionKey],
) -> Result<Vec<Option<Existing>>, DbError> {
    let mut patience = Backoff::new();
    let found = loop {
        let found = async { executions::find_existing(&mut database.search().await?, keys).await };
        match found.await {
            Ok(found) => break found,
            Err(fault) => patience.wait(fault).await?,
        }
    };
    let of = |key| found.get(key).map(|(stored, first)| (stored.head.clone(), first.clone()));
    Ok(keys.iter().map(of).collect())
}

/// Returns `None` if an id was taken, and free again a moment later.
async fn try_start(store: &SqlStore, new: &[NewExecution]) -> Result<Option<Vec<StartOutcome>>, DbError> {
    let numbers = store.numbers.take(&store.database, new.len()).await?;
    let mut fresh = Vec::with_capacity(new.len());
    for (new, no) in std::iter::zip(new, numbers) {
        let program = store.programs.number(&store.database, &new.head).await?;
        fresh.push(NewRow { head: &new.head, no, program, owner: None });
    }
    let mut session = store.database.write().await?;
    let first: Vec<_> = new.iter().map(|new| &new.first).collect();
    let inserted: HashSet<usize> = executions::insert_whole(&mut session, &fresh, &first).await?.into_iter().collect();
    let taken = (0..new.len()).filter(|index| !inserted.contains(index)).map(|index| &new[index].head.key);
    let existing = executions::find_existing(&mut session, taken).await?;
    let mut started = Vec::with_capacity(new.len());
    for (index, new) in new.iter().enumerate() {
        started.push(if inserted.contains(&index) {
            StartOutcome::New
        } else {
            let Some((existing, first)) = existing.get(&new.head.key) else { return Ok(None) };
            match existing.head.seed == new.head.seed {
                true => StartOutcome::New,
                false => StartOutcome::Exists(Box::new(existing.head.clone()), first.clone()?),
            }
        });
    }
    match inserted.is_empty() {
        true => session.undo().await,
        false => commit(session).await?,
    }
    Ok(Some(started))
}
