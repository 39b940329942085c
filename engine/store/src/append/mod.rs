//! The append: many batches in one transaction, each accepted or refused alone (L4), settled even when its answer is lost.

mod children;
mod judge;
mod outcomes;
mod plan;

use std::collections::{BTreeSet, HashSet};

use cerebelum_history::planted;

use crate::fault::{Fault, Severity, severity};
use crate::hints::Moved;
use crate::nodes::Locked;
use crate::patience::Patience;
use crate::sql::{Rows, Session, Writes};
use crate::store::{SqlStore, commit};
use crate::{Batch, ExecutionKey, Incarnation, Newest, Refusal, nodes};

pub(crate) use outcomes::Outcomes;

type Answers = Vec<Result<Newest, Refusal>>;

/// Whether a batch that the database itself refuses can be told from its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grouping {
    /// All together, in as few statements as possible.
    Together,
    /// Each behind a savepoint of its own.
    Apart,
}

/// The numbers of the programs that a batch's new heads have: of its next run, and of its children in order.
struct Programs {
    next_run: Option<i64>,
    children: Vec<i64>,
}

/// What is told to others once it is durable.
#[derive(Default)]
struct News {
    moved: Vec<Moved>,
    fresh: Vec<ExecutionKey>,
}

/// See [`crate::Store::append`].
pub(crate) async fn append(store: &SqlStore, id: u64, batches: &[Batch]) -> Result<Answers, Fault> {
    if batches.is_empty() {
        return Ok(Vec::new());
    }
    let mut patience = Patience::new();
    let mut grouping = Grouping::Together;
    loop {
        match try_append(store, id, batches, grouping).await {
            Ok((answers, news)) => {
                store.hints.tell(news.moved);
                store.hints.tell_here(news.fresh);
                return Ok(answers);
            }
            // One of them breaks a rule of the tables. The others shall not suffer for it.
            Err(Fault::Database(error)) if grouping == Grouping::Together && severity(&error) == Severity::Refused => {
                tracing::warn!(cause = crate::fault::cause(&error), "the database refused a group of batches");
                grouping = Grouping::Apart;
            }
            // Safe to repeat, whatever became of it: the next attempt looks the id up in the locked row first.
            Err(fault) => patience.endure(fault).await?,
        }
    }
}

async fn try_append(
    store: &SqlStore,
    id: u64,
    batches: &[Batch],
    grouping: Grouping,
) -> Result<(Answers, News), Fault> {
    let programs = number_programs(store, batches).await?;
    let mut session = store.database.write().await?;
    let incarnations: BTreeSet<Incarnation> = batches.iter().map(|batch| batch.incarnation).collect();
    let mut nodes = nodes::lock(&mut session, &Vec::from_iter(incarnations)).await?;
    let known = nodes.iter().find_map(|node| node.outcomes.of(id));
    if let Some(answers) = known.filter(|_| !planted("blind-retry")) {
        session.undo().await;
        return Ok((answers.to_vec(), News::default()));
    }
    let standing: HashSet<Incarnation> = nodes.iter().filter(|node| node.stands).map(|node| node.incarnation).collect();
    let mut answers = vec![Err(Refusal::ClaimLost); batches.len()];
    if standing.is_empty() {
        // Whoever may no longer write locks nothing either: the next owner's claim passes over what is locked.
        session.undo().await;
        return Ok((answers, News::default()));
    }
    let mut news = News::default();
    let mut pending = Writes::default();
    for wave in waves(batches, grouping) {
        std::mem::take(&mut pending).run(&mut session).await?;
        let judged = judge::judge(&mut session, batches, &wave, &standing).await?;
        let accepted = judged.accepted(&mut answers);
        if accepted.is_empty() {
            continue;
        }
        if grouping == Grouping::Together {
            pending = plan::plan(&mut session, batches, &programs, accepted, &mut news).await?;
        } else {
            let index = wave[0];
            session.say("savepoint batch").await?;
            let mut told = News::default();
            let written = async {
                plan::plan(&mut session, batches, &programs, accepted, &mut told).await?.run(&mut session).await?;
                Ok(())
            };
            match written.await {
                Ok(()) => {
                    news.moved.append(&mut told.moved);
                    news.fresh.append(&mut told.fresh);
                }
                Err(Fault::Database(error)) if severity(&error) == Severity::Refused => {
                    session.say("rollback to savepoint batch").await?;
                    answers[index] = Err(Refusal::Forbidden);
                }
                Err(fault) => return Err(fault),
            }
        }
    }
    if answers.iter().all(Result::is_err) {
        session.undo().await;
        return Ok((answers, News::default()));
    }
    if !record(&mut session, pending, &mut nodes, id, &answers).await? {
        session.undo().await;
        return Ok((vec![Err(Refusal::ClaimLost); batches.len()], News::default()));
    }
    commit(session).await?;
    Ok((answers, news))
}

/// Writes what is pending, and the answers into the nodes' rows. `false`: a lease has run out since its row was locked.
async fn record(
    session: &mut Session,
    mut pending: Writes<'_>,
    nodes: &mut [Locked],
    id: u64,
    answers: &Answers,
) -> Result<bool, Fault> {
    let mut rows = Rows::default();
    for node in nodes.iter_mut().filter(|node| node.stands) {
        node.outcomes.add(id, answers);
        rows.push([node.incarnation.into(), node.outcomes.encode().into()]);
    }
    let expected = rows.len();
    pending.add(&nodes::RECORD, rows);
    Ok(pending.run(session).await?.len() == expected)
}

/// Groups of batches that touch different executions, so that each group can be written at once. Later batches of an
/// execution come in later groups.
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

async fn number_programs(store: &SqlStore, batches: &[Batch]) -> Result<Vec<Programs>, Fault> {
    let mut numbers = Vec::with_capacity(batches.len());
    for batch in batches {
        let mut programs = Programs { next_run: None, children: Vec::with_capacity(batch.children.len()) };
        if batch.next_run.is_some() {
            programs.next_run = Some(store.programs.number(&store.database, &batch.head).await?);
        }
        for child in &batch.children {
            programs.children.push(store.programs.number(&store.database, &child.new.head).await?);
        }
        numbers.push(programs);
    }
    Ok(numbers)
}
