//! Carries out bulk jobs step by step, whatever engine dies. Each step happens once or not at all.

use std::collections::HashMap;
use std::time::Duration;

use cerebelum_store::{
    BulkItem, BulkJob, BulkRefusal, BulkStep, ExecutionKey, ExecutionRow, Incarnation, StoreError, TenantId,
};

use super::parts;
use crate::api::ApiError;
use crate::clock::millis;
use crate::execution_filter::ExecutionFilter;
use crate::operations::Operation;
use crate::tenant_engine::TenantEngine;

/// The most executions that all jobs of one engine touch in a second.
const BULK_EXECUTIONS_PER_SECOND: u32 = 500;
/// The executions of one step: its transaction is short.
const STEP: u32 = 50;
/// The executions of a step that reopens them: each of them may have a long history.
const LONG_STEP: u32 = 5;
/// How often jobs of other engines are looked for, and those that were created elsewhere.
const RECHECK: Duration = Duration::from_secs(5);
/// The first pause of a job after a step that failed, which doubles each time, and the longest one.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// After so many failures in a row, an execution that the database cannot read counts as refused.
const TRIES_MAX: u32 = 6;
/// How long a job's turn lasts at most, apart from the step that it began.
const TURN: Duration = Duration::from_millis(100);
/// While something else has waited for longer than this, a job waits as well.
const CROWDED: Duration = Duration::from_millis(250);
/// How often a job in a crowd looks again, and how often at most: it must go on some time.
const CROWD_RECHECK: Duration = Duration::from_millis(100);
const CROWD_RECHECKS_MAX: u32 = 50;

/// Jobs whose last step failed: how often in a row, and when the next try is.
type Failing = HashMap<(TenantId, String), (u32, u64)>;

/// Carries out jobs forever, in turns. `engine` lends its parts: each job acts for its own tenant.
pub(crate) async fn keep_working(engine: TenantEngine) {
    let (node, mut failing) = (engine.node.clone(), Failing::new());
    loop {
        let went_on = match node.lease.incarnation() {
            Some(incarnation) => round(&engine, incarnation, &mut failing).await,
            None => false,
        };
        if !went_on {
            let pause = if failing.is_empty() { RECHECK } else { RETRY };
            let _ = node.runtime.within(pause, node.bulk_news.notified()).await;
        }
    }
}

/// A turn of each job. Returns whether there may be more to do at once.
async fn round(engine: &TenantEngine, incarnation: Incarnation, failing: &mut Failing) -> bool {
    let node = &engine.node;
    let jobs = node.store.claim_bulk(incarnation).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot read the bulk jobs");
        Vec::new()
    });
    // Jobs that have ended meanwhile are forgotten.
    let mut before = std::mem::take(failing);
    let mut went_on = false;
    for key in jobs {
        let (tries, next_ms) = before.remove(&key).unwrap_or_default();
        if node.runtime.boot_ms() < next_ms {
            failing.insert(key, (tries, next_ms));
            continue;
        }
        quiet(engine).await;
        match turn(engine, (key.0, &key.1), tries).await {
            Ok(has_more) => went_on |= has_more,
            Err(error) => {
                let pause = (RETRY * 2_u32.saturating_pow(tries)).min(RETRY_MAX);
                tracing::warn!(%error, job = key.1, tries, ?pause, "a bulk job cannot go on: it is tried again");
                failing.insert(key, (tries.saturating_add(1), node.runtime.boot_ms().saturating_add(millis(pause))));
            }
        }
    }
    went_on
}

/// Waits while others wait.
async fn quiet(engine: &TenantEngine) {
    for _ in 0..CROWD_RECHECKS_MAX {
        if engine.node.liveness.oldest().is_none_or(|(_, waited)| waited < CROWDED) {
            return;
        }
        engine.node.runtime.sleep(CROWD_RECHECK).await;
    }
}

/// A few steps of a job, and a pause after them. Returns whether there may be more to do.
async fn turn(engine: &TenantEngine, (tenant, id): (TenantId, &str), tries: u32) -> Result<bool, ApiError> {
    let (runtime, mut touched) = (&engine.node.runtime, 0);
    let began_ms = runtime.boot_ms();
    let took = || Duration::from_millis(runtime.boot_ms() - began_ms);
    let mut has_more = true;
    while has_more && touched < STEP && took() < TURN {
        let job = engine.node.store.bulk_job(tenant, id).await?;
        let Some(job) = job.filter(|job| job.ended_at.is_none()) else { return Ok(false) };
        let engine = TenantEngine { tenant, actor: job.asked.actor.clone(), ..engine.clone() };
        has_more = match parts(&job) {
            (Operation::Unknown, _) => false,
            (operation, filter) => {
                let (count, has_more) = step(&engine, &job, (&operation, &filter), tries).await?;
                touched += count;
                has_more
            }
        };
    }
    let paced = Duration::from_secs(1) * touched / BULK_EXECUTIONS_PER_SECOND;
    runtime.sleep(paced.max(took())).await;
    Ok(has_more)
}

/// Carries out a step of a job. Returns how many executions it touched, and whether there may be more.
async fn step(
    engine: &TenantEngine,
    job: &BulkJob,
    (operation, filter): (&Operation, &ExecutionFilter),
    tries: u32,
) -> Result<(u32, bool), ApiError> {
    let left = job.asked.at_most.saturating_sub(job.done + job.refused);
    let most = match operation {
        Operation::Resume { .. } => LONG_STEP,
        _ => STEP,
    };
    let limit = u32::try_from(left).unwrap_or(u32::MAX).min(most);
    let mut step = BulkStep {
        tenant: engine.tenant,
        id: job.asked.id.clone(),
        from: job.cursor.clone(),
        to: None,
        items: Vec::new(),
        refusals: Vec::new(),
    };
    if limit > 0 {
        let filter = filter.for_store(Some(job.cursor.clone()), limit);
        let page = engine.node.store.list(engine.tenant, filter).await?;
        let is_last = u64::try_from(page.executions.len()).unwrap_or(u64::MAX) >= left;
        step.to = page.cursor.filter(|_| !is_last);
        for head in page.executions {
            add(engine, &mut step, (operation, &head), tries).await?;
        }
    }
    let has_more = step.to.is_some();
    Ok((carry_out(engine, step).await?, has_more))
}

/// Adds an execution to a step.
async fn add(
    engine: &TenantEngine,
    step: &mut BulkStep,
    (operation, head): (&Operation, &ExecutionRow),
    tries: u32,
) -> Result<(), ApiError> {
    let execution = head.key.id.clone();
    match engine.plan(operation, head).await {
        Ok(plan) => {
            let outcome = format!("{} by bulk job {}", plan.outcome, step.id);
            let act = engine.act(operation.method(), execution.as_str(), outcome);
            engine.forgive(&head.key, &plan.commands);
            step.items.push(BulkItem { execution, commands: plan.commands, act });
        }
        // The database's own trouble is no refusal, unless it stays: the other executions do not wait for this one.
        Err(error @ ApiError::Unavailable(_)) if tries < TRIES_MAX => return Err(error),
        Err(why) => step.refusals.push(BulkRefusal { execution, reason: why.to_string() }),
    }
    Ok(())
}

async fn carry_out(engine: &TenantEngine, step: BulkStep) -> Result<u32, StoreError> {
    let node = &engine.node;
    let touched = u32::try_from(step.items.len() + step.refusals.len()).unwrap_or(u32::MAX);
    let planned: Vec<_> = step.items.iter().map(|item| (item.execution.clone(), item.commands.clone())).collect();
    let _turn = node.turns.writes.next(engine.tenant).await;
    if node.store.bulk_step(step).await? {
        for (id, commands) in planned {
            engine.carried_out(&ExecutionKey { tenant: engine.tenant, id }, &commands);
        }
    }
    Ok(touched)
}
