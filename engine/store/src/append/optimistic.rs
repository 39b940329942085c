//! The optimistic path: if everything is as the batches expect, they are written in one round trip with one commit.
//!
//! Nothing is checked beforehand. The script overwrites each execution's row only if it is the one from which the batch
//! was made. If it is not, the database rolls everything back, and [`super::append_judged`] finds out why.

use std::collections::{HashMap, HashSet};

use super::plan::Tables;
use super::{Answers, BatchRowIds, PostCommit, RecentBatches, number};
use crate::db_error::Error;
use crate::executions::{self, NewRow};
use crate::sql::{Row, Rows, Script};
use crate::store::SqlStore;
use crate::{ApprovalChange, Batch, ExecutionKey, InboxCursor, attributes, nodes};

/// Writes all batches, or nothing.
pub(super) async fn append(
    store: &SqlStore,
    lane: &mut RecentBatches,
    id: u64,
    batches: &[Batch],
) -> Option<(Answers, PostCommit)> {
    let (incarnation, outcomes) = lane.as_ref()?;
    let fits = |batch: &Batch| batch.incarnation == *incarnation && is_plain(batch);
    let keys: HashSet<&ExecutionKey> = batches.iter().map(|batch| &batch.key).collect();
    if keys.len() < batches.len() || !batches.iter().all(fits) || outcomes.of(id).is_some() {
        return None;
    }
    let numbered = number(store, batches).await.ok()?;
    let mut news = PostCommit::default();
    let mut tables = Tables::default();
    let (mut begun, mut advanced) = (Rows::default(), Rows::default());
    let mut numbers = Vec::with_capacity(batches.len());
    for (batch, BatchRowIds { begins, .. }) in std::iter::zip(batches, &numbered) {
        let no = match *begins {
            Some((no, program)) => {
                let owner = Some(batch.incarnation).filter(|_| !batch.release);
                begun.push(executions::insertion(&NewRow { head: &batch.head, no, program, owner }));
                attributes::add_rows(&mut tables.attributes, batch.key.tenant, no, &batch.head.attributes);
                no
            }
            None => {
                let no = store.numbers.of(&batch.key)?;
                advanced.push(executions::advance(no, batch));
                no
            }
        };
        tables.add(batch, no, batch.head.run);
        news.of(batch, no);
        numbers.push(no);
    }
    let mut outcomes = outcomes.clone();
    outcomes.add(id, &vec![Ok(InboxCursor::UNKNOWN); batches.len()]);
    let mut record = Rows::default();
    record.push([(*incarnation).into(), outcomes.encode().into()]);
    let mut script = Script::default();
    script.add_exactly(&nodes::RECORD, record);
    script.add_answering(&executions::ADVANCE, advanced);
    script.add_exactly(&executions::INSERT, begun);
    tables.add_to(&mut script);
    match store.database.run(script).await.and_then(|rows| newest(rows, &numbers)) {
        Ok(answers) => {
            *lane = Some((*incarnation, outcomes));
            Some((answers, news))
        }
        Err(error) => {
            tracing::debug!(%error, "something is not as expected");
            None
        }
    }
}

/// Whether a batch concerns only its own execution, and closes no question that may have been answered.
fn is_plain(batch: &Batch) -> bool {
    let asks = |change: &ApprovalChange| matches!(change, ApprovalChange::Open { .. });
    !batch.relabels
        && batch.children.is_empty()
        && batch.messages.is_empty()
        && batch.next_run.is_none()
        && batch.approvals.iter().all(asks)
}

/// The receipts, in the order of these numbers. An execution that begins has no messages.
fn newest(rows: Vec<Row>, numbers: &[i64]) -> Result<Answers, Error> {
    let mut newest = HashMap::new();
    for mut row in rows {
        newest.insert(row.int()?, InboxCursor(row.int()?));
    }
    Ok(numbers.iter().map(|no| Ok(newest.get(no).copied().unwrap_or(InboxCursor(0)))).collect())
}
