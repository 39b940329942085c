//! Children of accepted batches: each is inserted, or found to exist already.

use crate::append::BatchRowIds;
use crate::db_error::DbError;
use crate::executions::NewRow;
use crate::sql::Session;
use crate::{Batch, Child, ExecutionKey, executions};

/// Inserts children. Returns the messages to their parents with the batch index, in the order of the calls.
pub(super) async fn insert<'b>(
    session: &mut Session,
    batches: &'b [Batch],
    numbered: &[BatchRowIds],
    accepted: &[usize],
    fresh: &mut Vec<ExecutionKey>,
) -> Result<Vec<(usize, &'b str)>, DbError> {
    let mut children: Vec<(usize, &'b Child)> = Vec::new();
    let (mut rows, mut first) = (Vec::new(), Vec::new());
    for &index in accepted {
        let batch = &batches[index];
        for (child, &(no, program)) in std::iter::zip(&batch.children, &numbered[index].children) {
            children.push((index, child));
            rows.push(NewRow { head: &child.new.head, no, program, owner: None });
            first.push(&child.new.first);
        }
    }
    let inserted = executions::insert_whole(session, &rows, &first).await?;
    let mut messages = Vec::new();
    for (ordinal, (index, child)) in children.into_iter().enumerate() {
        if inserted.contains(&ordinal) {
            fresh.push(child.new.head.key.clone());
            messages.extend(child.accepted.as_deref().map(|accepted| (index, accepted)));
            continue;
        }
        let existing = executions::find(session, &child.new.head.key).await?;
        let parents =
            existing.as_ref().and_then(|existing| existing.head.parent.as_ref()).zip(child.new.head.parent.as_ref());
        match parents.is_some_and(|(there, here)| there.is_same_call(here)) {
            true => messages.extend(child.accepted.as_deref().map(|accepted| (index, accepted))),
            false => messages.push((index, child.refused.as_str())),
        }
    }
    Ok(messages)
}
