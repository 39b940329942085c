//! The append: many batches in one transaction. Each is accepted or refused alone (L4), and the outcome is certain even
//! if the answer is lost.
//!
//! There is one set of statements. First, all batches are written in one round trip with one commit, under the condition
//! that everything is as they expect. If something is not, the database rolls everything back, and smaller groups are
//! written in one transaction, down to single batches, whose rows are locked and checked first.

mod check;
mod rows;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;

use cerebelum_history::planted;

use self::rows::{BatchRowIds, ChildFate, PostCommit, RowsToWrite};
use crate::clock::SteadyClock;
use crate::database::Database;
use crate::db_error::{DbError, Error, ErrorClass, cause, error_class};
use crate::hints::{Hints, InboxNotice};
use crate::model::{AppendError, Batch, ExecutionKey, InboxCursor, Incarnation, TenantId};
use crate::nodes::{self, LockedNode};
use crate::program_ids::ProgramIds;
use crate::receipts::{Answers, BatchReceipts};
use crate::retry::Backoff;
use crate::row_ids::RowIds;
use crate::sql::{Row, Rows, Script, Session};

/// The receipts in the row of the node that writes here, or none while they are not known.
pub(crate) type RecentReceipts = Option<(Incarnation, BatchReceipts)>;

/// How often a single batch is checked again whose rows change between the check and the write.
const CHECKS_MAX: u32 = 4;

/// The parts of the store that an append needs.
pub(crate) struct Appender<'s> {
    pub(crate) database: &'s Database,
    pub(crate) clock: &'s SteadyClock,
    pub(crate) hints: &'s Hints,
    pub(crate) programs: &'s ProgramIds,
    pub(crate) row_ids: &'s RowIds,
    pub(crate) recent: &'s tokio::sync::Mutex<RecentReceipts>,
}

/// Batches in a transaction that has locked the rows of their nodes.
struct Locked<'b> {
    session: Session,
    nodes: Vec<LockedNode>,
    batches: &'b [Batch],
    ids: Vec<BatchRowIds>,
    answers: Answers,
    post_commit: PostCommit,
}

impl Appender<'_> {
    /// See [`crate::Store::append`].
    pub(crate) async fn append(&self, id: u64, batches: &[Batch]) -> Result<Answers, DbError> {
        if batches.is_empty() {
            return Ok(Vec::new());
        }
        let mut recent = self.recent.lock().await;
        let (answers, post_commit) = match self.append_all(&mut recent, id, batches).await {
            Some(written) => written,
            None => self.append_each(&mut recent, id, batches).await?,
        };
        self.row_ids.remember(post_commit.claimed);
        post_commit.released.iter().for_each(|key| self.row_ids.forget(key));
        self.hints.tell(post_commit.notices);
        self.hints.tell_here(post_commit.started);
        Ok(answers)
    }

    /// Writes all batches in one round trip. Returns `None` if that did not work, and nothing happened as far as is
    /// known: the receipts settle it.
    async fn append_all(
        &self,
        recent: &mut RecentReceipts,
        id: u64,
        batches: &[Batch],
    ) -> Option<(Answers, PostCommit)> {
        let (incarnation, receipts) = recent.as_ref()?;
        if receipts.of(id).is_some() || !is_group(batches, *incarnation) {
            return None;
        }
        let ids = self.allocate(batches).await.ok()?;
        let mut receipts = receipts.clone();
        receipts.add(id, &vec![Ok(InboxCursor::UNKNOWN); batches.len()]);
        let mut fence = Rows::default();
        fence.push([(*incarnation).into(), receipts.encode().into()]);
        let none = HashMap::new();
        let mut script = Script::default();
        script.add_exactly(&nodes::RECORD, fence);
        let mut post_commit = self.plan(batches, &ids, &none)?.write_to(&mut script);
        match self.database.run(script).await.and_then(|rows| read_answers(rows, &ids, &mut post_commit)) {
            Ok(answers) => {
                *recent = Some((*incarnation, receipts));
                Some((answers, post_commit))
            }
            Err(error) => {
                tracing::debug!(%error, "a group of batches does not fit as it is");
                None
            }
        }
    }

    /// Writes the batches that fit, and finds out why the others do not.
    async fn append_each(
        &self,
        recent: &mut RecentReceipts,
        id: u64,
        batches: &[Batch],
    ) -> Result<(Answers, PostCommit), DbError> {
        let mut backoff = Backoff::brief();
        loop {
            *recent = None;
            match self.try_append_each(recent, id, batches).await {
                Ok(written) => return Ok(written),
                // This is safe to repeat, whatever happened: the next attempt first looks the id up in the locked row.
                Err(error) => backoff.wait(error).await?,
            }
        }
    }

    async fn try_append_each(
        &self,
        recent: &mut RecentReceipts,
        id: u64,
        batches: &[Batch],
    ) -> Result<(Answers, PostCommit), DbError> {
        let ids = self.allocate(batches).await?;
        let mut session = self.database.write().await?;
        let incarnations: BTreeSet<Incarnation> = batches.iter().map(|batch| batch.incarnation).collect();
        let nodes = nodes::lock(&mut session, &Vec::from_iter(incarnations)).await?;
        let lost = vec![Err(AppendError::ClaimLost); batches.len()];
        let known = nodes.iter().find_map(|node| node.receipts.of(id)).filter(|_| !planted("blind-retry"));
        // A node that may no longer write must not lock anything either: a claim of the next owner skips locked rows.
        let all_lost = nodes.iter().all(|node| !node.is_valid).then_some(lost.as_slice());
        if let Some(answers) = known.or(all_lost) {
            let answers = answers.to_vec();
            session.rollback().await;
            return Ok((answers, PostCommit::default()));
        }
        let (answers, post_commit) = (lost.clone(), PostCommit::default());
        let mut locked = Locked { session, nodes, batches, ids, answers, post_commit };
        self.write_in_halves(&mut locked).await?;
        let Locked { mut session, mut nodes, answers, post_commit, .. } = locked;
        if answers.iter().all(Result::is_err) {
            session.rollback().await;
            return Ok((answers, PostCommit::default()));
        }
        if !record(&mut session, &mut nodes, id, &answers).await? {
            session.rollback().await;
            return Ok((lost, PostCommit::default()));
        }
        session.commit().await?;
        *recent = nodes.pop().filter(|_| nodes.is_empty()).map(|node| (node.incarnation, node.receipts));
        Ok((answers, post_commit))
    }

    /// Writes all batches, in order. A group that does not fit is split in two.
    async fn write_in_halves(&self, locked: &mut Locked<'_>) -> Result<(), DbError> {
        let all = 0..locked.batches.len();
        let mut groups = vec![all];
        while let Some(group) = groups.pop() {
            match group.len() {
                1 => self.write_one(locked, group.start).await?,
                _ if self.write_group(locked, group.clone()).await? => {}
                count => {
                    let half = group.start + count / 2;
                    groups.extend([half..group.end, group.start..half]);
                }
            }
        }
        Ok(())
    }

    /// Writes a group of batches if all of them fit.
    async fn write_group(&self, locked: &mut Locked<'_>, group: Range<usize>) -> Result<bool, DbError> {
        let batches = &locked.batches[group.clone()];
        let incarnation = batches[0].incarnation;
        if !locked.may_write(incarnation) || !is_group(batches, incarnation) {
            return Ok(false);
        }
        let none = HashMap::new();
        let Some(plan) = self.plan(batches, &locked.ids[group.clone()], &none) else { return Ok(false) };
        match locked.write(plan, group).await {
            Ok(()) => Ok(true),
            Err(DbError::Database(error)) if error_class(&error) == ErrorClass::Refused => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Checks a single batch, and writes it or sets the answer that refuses it.
    async fn write_one(&self, locked: &mut Locked<'_>, index: usize) -> Result<(), DbError> {
        let batch = &locked.batches[index];
        for _ in 0..CHECKS_MAX {
            let may_write = locked.may_write(batch.incarnation);
            let ids = &mut locked.ids[index];
            let fates = match check::check(&mut locked.session, batch, ids, (may_write, self.clock.now())).await? {
                Ok(fates) => fates,
                Err(refusal) => {
                    locked.answers[index] = Err(refusal);
                    return Ok(());
                }
            };
            let group = index..index + 1;
            let plan = self.plan(std::slice::from_ref(batch), &locked.ids[group.clone()], &fates);
            match locked.write(plan.expect("the check has read the number"), group).await {
                Ok(()) => return Ok(()),
                // An id was taken between the check and the write.
                Err(DbError::Database(Error::NotAsExpected)) => {}
                Err(DbError::Database(error)) if error_class(&error) == ErrorClass::Refused => {
                    tracing::warn!(cause = cause(&error), "the database refused a batch");
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        locked.answers[index] = Err(AppendError::Forbidden);
        Ok(())
    }

    /// Plans the writes of batches that concern different executions. Returns `None` if the number of one of these is
    /// not known.
    fn plan<'b>(
        &self,
        batches: &'b [Batch],
        ids: &[BatchRowIds],
        fates: &'b HashMap<usize, ChildFate>,
    ) -> Option<RowsToWrite<'b>> {
        let mut plan = RowsToWrite::default();
        for (batch, ids) in std::iter::zip(batches, ids) {
            plan.add_execution(batch, ids)?;
            plan.add_children(batch, ids, fates);
        }
        for (batch, ids) in std::iter::zip(batches, ids) {
            plan.add(batch, ids.own?, self.clock.now());
            plan.send(batch);
        }
        Some(plan)
    }

    /// Allocates the numbers of all executions that the batches insert, and finds those of the others.
    async fn allocate(&self, batches: &[Batch]) -> Result<Vec<BatchRowIds>, DbError> {
        let new = |batch: &Batch| usize::from(batch.begins) + batch.children.len();
        let mut numbers = self.row_ids.take(self.database, batches.iter().map(new).sum()).await?.into_iter();
        let mut next = || numbers.next().expect("as many were taken");
        let mut ids = Vec::with_capacity(batches.len());
        for batch in batches {
            let own = if batch.begins { Some(next()) } else { self.row_ids.of(&batch.key) };
            let program = match batch.begins || batch.next_run.is_some() {
                true => Some(self.programs.number(self.database, &batch.head).await?),
                false => None,
            };
            let mut children = Vec::with_capacity(batch.children.len());
            for child in &batch.children {
                children.push((next(), self.programs.number(self.database, &child.new.head).await?));
            }
            ids.push(BatchRowIds { own, program, children });
        }
        Ok(ids)
    }
}

impl Locked<'_> {
    fn may_write(&self, incarnation: Incarnation) -> bool {
        self.nodes.iter().any(|node| node.is_valid && node.incarnation == incarnation)
    }

    /// Writes a group of batches, or nothing.
    async fn write(&mut self, plan: RowsToWrite<'_>, group: Range<usize>) -> Result<(), DbError> {
        let mut script = Script::default();
        let mut fence = Rows::default();
        fence.push([self.batches[group.start].incarnation.into()]);
        script.add_exactly(&nodes::VALID, fence);
        let mut post_commit = plan.write_to(&mut script);
        self.session.execute("savepoint batches").await?;
        let written = self.session.run_script(script).await;
        match written.and_then(|rows| read_answers(rows, &self.ids[group.clone()], &mut post_commit)) {
            Ok(answers) => {
                self.answers[group].copy_from_slice(&answers);
                self.post_commit.append(&mut post_commit);
                Ok(())
            }
            Err(error) => {
                if error_class(&error) == ErrorClass::Refused {
                    self.session.execute("rollback to savepoint batches").await?;
                }
                Err(error.into())
            }
        }
    }
}

/// Whether these batches can be written together: they are in order by themselves, come from this incarnation, and
/// concern different executions.
fn is_group(batches: &[Batch], incarnation: Incarnation) -> bool {
    let mut keys: HashSet<&ExecutionKey> = HashSet::with_capacity(batches.len());
    batches
        .iter()
        .all(|batch| batch.incarnation == incarnation && check::is_consecutive(batch) && keys.insert(&batch.key))
}

/// Reads the results of a script: the receipts in the order of the batches, and the executions that received messages.
fn read_answers(rows: Vec<Row>, ids: &[BatchRowIds], post_commit: &mut PostCommit) -> Result<Answers, Error> {
    let mut newest = HashMap::new();
    for mut row in rows {
        match (row.opt_int()?, row.opt_int()?, row.opt_text()?) {
            (owner, Some(tenant), Some(id)) => {
                let tenant = TenantId(i32::try_from(tenant).unwrap_or_default());
                // An id that cannot be read belongs to a damaged execution, which no hint can move.
                let key = id.parse().ok().map(|id| ExecutionKey { tenant, id });
                let notice = |key| InboxNotice { key, owner: owner.map(Incarnation) };
                post_commit.notices.extend(key.map(notice));
            }
            (Some(no), Some(seq), None) => {
                newest.insert(no, InboxCursor(seq));
            }
            (_, _, _) => {}
        }
    }
    // An execution that begins has no messages.
    let of = |ids: &BatchRowIds| ids.own.and_then(|own| newest.get(&own).copied()).unwrap_or(InboxCursor(0));
    Ok(ids.iter().map(|ids| Ok(of(ids))).collect())
}

/// Records the answers in the nodes' rows. Returns `false` if a lease has run out since its row was locked.
async fn record(session: &mut Session, nodes: &mut [LockedNode], id: u64, answers: &Answers) -> Result<bool, DbError> {
    let mut rows = Rows::default();
    for node in nodes.iter_mut().filter(|node| node.is_valid) {
        node.receipts.add(id, answers);
        rows.push([node.incarnation.into(), node.receipts.encode().into()]);
    }
    Ok(session.rows_of(&nodes::RECORD, &rows).await?.len() == rows.len())
}
