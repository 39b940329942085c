//! The append: many batches in one transaction. Each is accepted or refused alone (L4), and the outcome is certain even
//! if the answer is lost.

mod children;
mod locked;
mod optimistic;
mod plan;
mod receipts;

use std::collections::{BTreeSet, HashSet};

use cerebelum_history::planted;

use self::locked::Standing;
use crate::db_error::{DbError, ErrorClass, severity};
use crate::hints::InboxNotice;
use crate::nodes::Locked;
use crate::retry::Backoff;
use crate::sql::{Rows, Session, Writes};
use crate::store::{SqlStore, commit};
use crate::{AppendError, Batch, ExecutionKey, InboxCursor, Incarnation, nodes};

pub(crate) use receipts::BatchReceipts;

type Answers = Vec<Result<InboxCursor, AppendError>>;

/// The receipts of the last batches in the row of the node that writes here, or none while they are not known.
pub(crate) type RecentBatches = Option<(Incarnation, BatchReceipts)>;

/// How batches are grouped, which decides whether a batch that the database itself refuses can be told from the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grouping {
    /// All batches together, in as few statements as possible.
    Together,
    /// Each batch after a savepoint of its own.
    Apart,
}

/// The numbers of the executions that a batch inserts, and of their programs.
struct BatchRowIds {
    /// The execution that begins.
    begins: Option<(i64, i64)>,
    /// The children, in order.
    children: Vec<(i64, i64)>,
    /// The program of the next run.
    next_run: Option<i64>,
}

/// The news for other parts of the engine, published once the batches are durable.
#[derive(Default)]
struct PostCommit {
    moved: Vec<InboxNotice>,
    fresh: Vec<ExecutionKey>,
    /// Executions that the node of these batches has claimed, with their numbers.
    claimed: Vec<(ExecutionKey, i64)>,
    /// Executions that are no longer claimed.
    released: Vec<ExecutionKey>,
}

impl PostCommit {
    fn of(&mut self, batch: &Batch, no: i64) {
        match batch.release {
            true => self.released.push(batch.key.clone()),
            false => self.claimed.push((batch.key.clone(), no)),
        }
    }
}

/// See [`crate::Store::append`].
pub(crate) async fn append(store: &SqlStore, id: u64, batches: &[Batch]) -> Result<Answers, DbError> {
    if batches.is_empty() {
        return Ok(Vec::new());
    }
    let mut lane = store.lane.lock().await;
    let (answers, news) = match optimistic::append(store, &mut lane, id, batches).await {
        Some(written) => written,
        None => append_judged(store, &mut lane, id, batches).await?,
    };
    store.numbers.remember(news.claimed);
    news.released.iter().for_each(|key| store.numbers.forget(key));
    store.hints.tell(news.moved);
    store.hints.tell_here(news.fresh);
    Ok(answers)
}

/// The general path: reads the current rows under locks before anything is written.
async fn append_judged(
    store: &SqlStore,
    lane: &mut RecentBatches,
    id: u64,
    batches: &[Batch],
) -> Result<(Answers, PostCommit), DbError> {
    let mut patience = Backoff::new();
    let mut grouping = Grouping::Together;
    loop {
        *lane = None;
        match try_append(store, lane, id, (batches, grouping)).await {
            Ok(written) => return Ok(written),
            // One of the batches violates a constraint of the tables. The others must not be affected.
            Err(DbError::Database(error))
                if grouping == Grouping::Together && severity(&error) == ErrorClass::Refused =>
            {
                tracing::warn!(cause = crate::db_error::cause(&error), "the database refused a group of batches");
                grouping = Grouping::Apart;
            }
            // This is safe to repeat, whatever happened: the next attempt first looks the id up in the locked row.
            Err(fault) => patience.wait(fault).await?,
        }
    }
}

async fn try_append(
    store: &SqlStore,
    lane: &mut RecentBatches,
    id: u64,
    (batches, grouping): (&[Batch], Grouping),
) -> Result<(Answers, PostCommit), DbError> {
    let numbered = number(store, batches).await?;
    let mut session = store.database.write().await?;
    let incarnations: BTreeSet<Incarnation> = batches.iter().map(|batch| batch.incarnation).collect();
    let mut nodes = nodes::lock(&mut session, &Vec::from_iter(incarnations)).await?;
    let known = nodes.iter().find_map(|node| node.outcomes.of(id));
    if let Some(answers) = known.filter(|_| !planted("blind-retry")) {
        session.undo().await;
        return Ok((answers.to_vec(), PostCommit::default()));
    }
    let standing = nodes.iter().filter(|node| node.stands).map(|node| node.incarnation).collect();
    let standing = Standing { nodes: standing, now: store.clock.now() };
    let mut answers = vec![Err(AppendError::ClaimLost); batches.len()];
    if standing.nodes.is_empty() {
        // A node that may no longer write must not lock anything either: a claim of the next owner skips locked rows.
        session.undo().await;
        return Ok((answers, PostCommit::default()));
    }
    let mut news = PostCommit::default();
    let mut pending = Writes::default();
    for wave in waves(batches, grouping) {
        std::mem::take(&mut pending).run(&mut session).await?;
        let asked = (batches, numbered.as_slice());
        if grouping == Grouping::Together {
            pending = lay_out(&mut session, asked, (&wave, &standing), &mut answers, &mut news).await?;
            continue;
        }
        session.say("savepoint batch").await?;
        let mut run = PostCommit::default();
        let written = async {
            let writes = lay_out(&mut session, asked, (&wave, &standing), &mut answers, &mut run).await?;
            writes.run(&mut session).await?;
            Ok(())
        };
        match written.await {
            Ok(()) => news.add(run),
            Err(DbError::Database(error)) if severity(&error) == ErrorClass::Refused => {
                session.say("rollback to savepoint batch").await?;
                answers[wave[0]] = Err(AppendError::Forbidden);
            }
            Err(fault) => return Err(fault),
        }
    }
    if answers.iter().all(Result::is_err) {
        session.undo().await;
        return Ok((answers, PostCommit::default()));
    }
    if !record(&mut session, pending, &mut nodes, id, &answers).await? {
        session.undo().await;
        return Ok((vec![Err(AppendError::ClaimLost); batches.len()], PostCommit::default()));
    }
    commit(session).await?;
    *lane = nodes.pop().filter(|_| nodes.is_empty()).map(|node| (node.incarnation, node.outcomes));
    Ok((answers, news))
}

/// Judges the batches of a wave, and plans the writes of the accepted ones.
async fn lay_out<'b>(
    session: &mut Session,
    (batches, numbered): (&'b [Batch], &[BatchRowIds]),
    (wave, standing): (&[usize], &Standing),
    answers: &mut Answers,
    news: &mut PostCommit,
) -> Result<Writes<'b>, DbError> {
    let judged = locked::judge(session, (batches, numbered), wave, standing).await?;
    let accepted = judged.accepted(answers);
    if accepted.is_empty() {
        return Ok(Writes::default());
    }
    plan::plan(session, batches, numbered, accepted, news).await
}

impl PostCommit {
    fn add(&mut self, mut other: Self) {
        self.moved.append(&mut other.moved);
        self.fresh.append(&mut other.fresh);
        self.claimed.append(&mut other.claimed);
        self.released.append(&mut other.released);
    }
}

/// Runs the pending writes, and records the answers in the nodes' rows. Returns `false` if a lease has run out since
/// its row was locked.
async fn record(
    session: &mut Session,
    mut pending: Writes<'_>,
    nodes: &mut [Locked],
    id: u64,
    answers: &Answers,
) -> Result<bool, DbError> {
    let mut rows = Rows::default();
    for node in nodes.iter_mut().filter(|node| node.stands) {
        node.outcomes.add(id, answers);
        rows.push([node.incarnation.into(), node.outcomes.encode().into()]);
    }
    let expected = rows.len();
    pending.add(&nodes::RECORD, rows);
    Ok(pending.run(session).await?.len() == expected)
}

/// Groups of batches that concern different executions, so that each group can be written at once. Later batches of an
/// execution belong to later groups.
fn waves(batches: &[Batch], grouping: Grouping) -> Vec<Vec<usize>> {
    let mut waves: Vec<Vec<usize>> = Vec::new();
    let mut keys: HashSet<&ExecutionKey> = HashSet::new();
    for (index, batch) in batches.iter().enumerate() {
        let fits = grouping == Grouping::Together && keys.insert(&batch.key);
        match waves.last_mut().filter(|_| fits) {
            Some(wave) => wave.push(index),
            None => {
                keys = HashSet::from([&batch.key]);
                waves.push(vec![index]);
            }
        }
    }
    waves
}

async fn number(store: &SqlStore, batches: &[Batch]) -> Result<Vec<BatchRowIds>, DbError> {
    let new = |batch: &Batch| usize::from(batch.begins) + batch.children.len();
    let numbers = store.numbers.take(&store.database, batches.iter().map(new).sum()).await?;
    let mut numbers = numbers.into_iter();
    let mut numbered = Vec::with_capacity(batches.len());
    for batch in batches {
        let mut of_batch =
            BatchRowIds { begins: None, children: Vec::with_capacity(batch.children.len()), next_run: None };
        let heads = batch.children.iter().map(|child| (&child.new.head, false));
        for (head, begins) in Some((&batch.head, true)).filter(|_| batch.begins).into_iter().chain(heads) {
            let no = numbers.next().expect("so many were taken");
            let both = (no, store.programs.number(&store.database, head).await?);
            match begins {
                true => of_batch.begins = Some(both),
                false => of_batch.children.push(both),
            }
        }
        if batch.next_run.is_some() {
            of_batch.next_run = Some(store.programs.number(&store.database, &batch.head).await?);
        }
        numbered.push(of_batch);
    }
    Ok(numbered)
}
