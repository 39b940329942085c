//! Bulk jobs: an operation on every execution that matches a filter, carried out step by step, whatever engine dies.

use std::collections::BTreeMap;
use std::time::Duration;

use cerebelum_history::{Json, NAME_BYTES_MAX, Status, Timestamp};
use cerebelum_store::{
    BulkItem, BulkJob, BulkRefusal, BulkStep, Count, ExecutionRow, Filter, Incarnation, NewBulkJob, StoreError,
};
use serde::{Deserialize, Serialize};

use crate::api::ApiError;
use crate::directory::unavailable;
use crate::engine::Engine;
use crate::identity::Caller;
use crate::operations::Operation;
use crate::tenant_engine::TenantEngine;
use crate::verbs::fresh_id;

/// The most executions that one job is about, and to which a filter is counted.
const BULK_EXECUTIONS_MAX: u64 = 1_000_000;
/// A job on more executions than this needs `at_most`: the caller says how many are meant.
const BULK_UNCONFIRMED_MAX: u64 = 100;
/// The most jobs of a tenant that have not ended.
const BULK_JOBS_MAX: u32 = 8;
/// How many jobs of a tenant that have ended are kept.
const BULK_JOBS_KEPT: u32 = 100;
/// The longest operation or filter of a job as JSON, in bytes: a page shows many of them.
const BULK_TEXT_BYTES_MAX: usize = 16 << 10;
/// The most executions that all jobs of one engine touch in a second.
const BULK_EXECUTIONS_PER_SECOND: u32 = 500;
/// The executions of one step: its transaction is short.
const STEP: u32 = 50;
/// The executions of a step that deletes or reopens them: each of them may have a long history.
const LONG_STEP: u32 = 5;
/// How often jobs of other engines are looked for, and those that were created elsewhere.
const RECHECK: Duration = Duration::from_secs(5);
/// The pause after a step that failed.
const FAILED: Duration = Duration::from_secs(1);
/// While something else has waited for longer than this, a job waits as well.
const CROWDED: Duration = Duration::from_millis(250);
/// How often a job in a crowd looks again, and how often at most: it must go on some time.
const CROWD_RECHECK: Duration = Duration::from_millis(100);
const CROWD_RECHECKS_MAX: u32 = 50;

/// The executions that a job is about. An empty filter matches all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ExecutionFilter {
    /// The status, as a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// `component/workflow`, or the bare name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// Names and JSON scalars.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, Json>,
}

impl ExecutionFilter {
    fn for_store(&self, cursor: Option<String>, limit: u32) -> Result<Filter, ApiError> {
        let status = self.status.as_deref().map(str::parse::<Status>).transpose();
        let status = status.map_err(|unknown| ApiError::Invalid(unknown.to_string()))?;
        let attributes = self.attributes.iter().map(|(name, value)| (name.clone(), value.to_string())).collect();
        Ok(Filter { status, workflow: self.workflow.clone(), attributes, cursor, limit })
    }
}

/// A request for a job.
#[derive(Debug, Clone, PartialEq)]
pub struct BulkRequest {
    /// The id of the job, drawn if there is none. The same request with the same id changes nothing.
    pub id: Option<String>,
    /// What is done to each execution.
    pub operation: Operation,
    /// The executions.
    pub filter: ExecutionFilter,
    /// The most executions that are meant. A job on more than 100 needs it.
    pub at_most: Option<u64>,
}

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BulkState {
    /// It goes on.
    Running,
    /// It has come to its end.
    Done,
    /// It was stopped before its end.
    Stopped,
}

impl BulkState {
    /// Its word on the wire.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Stopped => "stopped",
        }
    }
}

/// A job for readers.
#[derive(Debug, Clone, PartialEq)]
pub struct BulkJobView {
    /// Its id.
    pub id: String,
    /// What it does to each execution.
    pub operation: Operation,
    /// The executions that it is about.
    pub filter: ExecutionFilter,
    /// How far it is.
    pub state: BulkState,
    /// The number of executions that matched when it was asked for.
    pub matched: u64,
    /// The most executions that it touches.
    pub at_most: u64,
    /// The executions on which it carried out the operation.
    pub done: u64,
    /// The executions on which it could not.
    pub refused: u64,
    /// The name of the caller who asked for it; none if the engine had no tokens.
    pub created_by: Option<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

impl TenantEngine {
    /// The number of executions that match a filter, up to a number and a million at most.
    ///
    /// # Errors
    /// When the filter is not valid, or the database does not answer.
    pub async fn count(&self, filter: &ExecutionFilter, up_to: Option<u64>) -> Result<Count, ApiError> {
        let filter = filter.for_store(None, 0)?;
        let max = up_to.unwrap_or(BULK_EXECUTIONS_MAX).min(BULK_EXECUTIONS_MAX);
        self.node.store.count(self.tenant, filter, max).await.map_err(unavailable)
    }

    /// An id for a job that does not exist yet.
    #[must_use]
    pub fn fresh_bulk_id(&self) -> String {
        fresh_id(self.node.runtime.chance()).to_string()
    }

    /// The jobs of the tenant, the newest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn bulk_jobs(&self) -> Result<Vec<BulkJobView>, ApiError> {
        let jobs = self.node.store.bulk_jobs(self.tenant).await.map_err(unavailable)?;
        jobs.into_iter().map(view).collect()
    }

    /// A job.
    ///
    /// # Errors
    /// When there is no such job, or the database does not answer.
    pub async fn bulk_job(&self, id: &str) -> Result<BulkJobView, ApiError> {
        let found = self.node.store.bulk_job(self.tenant, id).await.map_err(unavailable)?;
        view(found.ok_or_else(|| no_job(id))?)
    }

    /// The first 1,000 executions on which a job could not carry out its operation.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn bulk_refusals(&self, id: &str) -> Result<Vec<BulkRefusal>, ApiError> {
        self.node.store.bulk_refusals(self.tenant, id).await.map_err(unavailable)
    }

    /// Stops a job. What it has done stays done.
    ///
    /// # Errors
    /// When there is no such job, it has ended, or the database does not answer.
    pub async fn stop_bulk(&self, id: &str) -> Result<BulkJobView, ApiError> {
        let act = self.act("StopBulk", id, "stopped");
        let stopped = self.node.store.stop_bulk(self.tenant, id, act).await.map_err(unavailable)?;
        let job = self.bulk_job(id).await?;
        match stopped {
            true => Ok(job),
            false => Err(ApiError::Conflict(format!("bulk job `{id}` has ended already: it is {}", job.state.word()))),
        }
    }
}

impl Engine {
    /// Creates a job. The engines of the database carry it out in the background.
    ///
    /// # Errors
    /// When the caller may not do this to executions, the request is not valid, no execution matches, more match than are
    /// meant, the tenant has too many jobs, or the database does not answer.
    pub async fn start_bulk(&self, caller: &Caller, request: BulkRequest) -> Result<BulkJobView, ApiError> {
        caller.check(request.operation.action())?;
        let engine = self.of(caller);
        let (operation, filter) = check(&request)?;
        if let Some(id) = &request.id
            && let Some(there) = engine.node.store.bulk_job(engine.tenant, id).await.map_err(unavailable)?
        {
            return created_before(there, (&operation, &filter));
        }
        let matched = engine.count(&request.filter, None).await?;
        let at_most = meant(matched, request.at_most)?;
        let id = request.id.unwrap_or_else(|| engine.fresh_bulk_id());
        let act =
            engine.act("StartBulk", &id, format!("{} {} executions", request.operation.word(), matched.executions));
        let (tenant, actor) = (engine.tenant, engine.actor.clone());
        let new = NewBulkJob {
            tenant,
            id: id.clone(),
            actor,
            operation: operation.clone(),
            filter: filter.clone(),
            matched: matched.executions,
            at_most,
        };
        let limits = (BULK_JOBS_MAX, BULK_JOBS_KEPT);
        let is_created = engine.node.store.create_bulk(new, limits, act).await.map_err(unavailable)?;
        // Another request with this id may have come first.
        let there = engine.node.store.bulk_job(tenant, &id).await.map_err(unavailable)?;
        match (is_created, there) {
            (true, Some(job)) => {
                engine.node.bulk_news.notify_one();
                view(job)
            }
            (false, Some(job)) => created_before(job, (&operation, &filter)),
            (_, None) => Err(ApiError::Conflict(format!(
                "bulk-jobs-max: the tenant has {BULK_JOBS_MAX} bulk jobs that have not ended: wait for one of them, or stop one"
            ))),
        }
    }
}

/// The operation and the filter of a request as they are stored, if they are valid.
fn check(request: &BulkRequest) -> Result<(String, String), ApiError> {
    if let Some(id) = &request.id {
        id.parse::<cerebelum_history::ExecutionId>().map_err(|e| ApiError::Invalid(format!("bulk job: {e}")))?;
    }
    if let Operation::Signal { name, data } = &request.operation {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(ApiError::Invalid(format!("a signal's name has 1 to {NAME_BYTES_MAX} bytes")));
        }
        Json::parse(data.as_str()).map_err(|e| ApiError::Invalid(format!("the signal's data is {e}")))?;
    }
    let operation = Json::of(&request.operation).to_string();
    let filter = Json::of(&request.filter).to_string();
    for (what, text) in [("operation", &operation), ("filter", &filter)] {
        if text.len() > BULK_TEXT_BYTES_MAX {
            return Err(ApiError::Invalid(format!(
                "the {what} of a bulk job has at most {} KiB, a signal's data included",
                BULK_TEXT_BYTES_MAX >> 10
            )));
        }
    }
    Ok((operation, filter))
}

/// The most executions that a job touches, if the caller means as many as match.
fn meant(matched: Count, at_most: Option<u64>) -> Result<u64, ApiError> {
    let count = matched.executions;
    let shown = if matched.is_exact { count.to_string() } else { format!("more than {count}") };
    match at_most {
        _ if count == 0 => Err(ApiError::Conflict("no execution matches the filter".to_owned())),
        Some(at_most) if at_most > BULK_EXECUTIONS_MAX => {
            Err(ApiError::Invalid(format!("a bulk job is about at most {BULK_EXECUTIONS_MAX} executions: say fewer")))
        }
        Some(at_most) if matched.is_exact && count > at_most => {
            Err(ApiError::Conflict(format!("{shown} executions match, and at most {at_most} are meant: look again")))
        }
        None if !matched.is_exact || count > BULK_UNCONFIRMED_MAX => Err(ApiError::Conflict(format!(
            "{shown} executions match: `at_most` {count} (`--at-most {count}`) confirms that these are meant"
        ))),
        Some(at_most) => Ok(at_most),
        None => Ok(BULK_UNCONFIRMED_MAX),
    }
}

/// The answer to a request whose id is taken: the existing job, if it is the same one.
fn created_before(job: BulkJob, (operation, filter): (&str, &str)) -> Result<BulkJobView, ApiError> {
    if job.asked.operation == operation && job.asked.filter == filter {
        return view(job);
    }
    Err(ApiError::Conflict(format!("bulk job `{}` exists and does something else: choose another id", job.asked.id)))
}

fn no_job(id: &str) -> ApiError {
    ApiError::NotFound(format!("there is no bulk job `{}`: see `cerebelum bulk list`", id.escape_debug()))
}

fn view(job: BulkJob) -> Result<BulkJobView, ApiError> {
    let (operation, filter) = parts(&job)?;
    let BulkJob { asked, created_at, ended_at, stopped, done, refused, .. } = job;
    let state = match ended_at {
        None => BulkState::Running,
        Some(_) if stopped => BulkState::Stopped,
        Some(_) => BulkState::Done,
    };
    Ok(BulkJobView {
        id: asked.id,
        operation,
        filter,
        state,
        matched: asked.matched,
        at_most: asked.at_most,
        done,
        refused,
        created_by: asked.actor.name.clone(),
        created_at,
        ended_at,
    })
}

/// What a job does, and to which executions.
fn parts(job: &BulkJob) -> Result<(Operation, ExecutionFilter), ApiError> {
    let read = |what| ApiError::Unavailable(format!("bulk job `{}`: its stored {what} cannot be read", job.asked.id));
    let operation = serde_json::from_str(&job.asked.operation).map_err(|_| read("operation"))?;
    let filter = serde_json::from_str(&job.asked.filter).map_err(|_| read("filter"))?;
    Ok((operation, filter))
}

/// Carries out jobs forever, a step of each in turn. `engine` lends its parts: each job acts for its own tenant.
pub(crate) async fn keep_working(engine: TenantEngine) {
    let node = engine.node.clone();
    loop {
        let went_on = match node.lease.incarnation() {
            Some(incarnation) => round(&engine, incarnation).await,
            None => false,
        };
        if !went_on {
            let _ = node.runtime.within(RECHECK, node.bulk_news.notified()).await;
        }
    }
}

/// A step of each job. Returns whether there may be more to do at once.
async fn round(engine: &TenantEngine, incarnation: Incarnation) -> bool {
    let node = &engine.node;
    let jobs = node.store.claim_bulk(incarnation).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot read the bulk jobs");
        Vec::new()
    });
    let mut went_on = false;
    for job in jobs {
        quiet(engine).await;
        let began_ms = node.runtime.boot_ms();
        let engine = TenantEngine { tenant: job.asked.tenant, actor: job.asked.actor.clone(), ..engine.clone() };
        match step(&engine, &job).await {
            Ok(touched) => {
                went_on = true;
                let took = Duration::from_millis(node.runtime.boot_ms() - began_ms);
                let paced = Duration::from_secs(1) * touched / BULK_EXECUTIONS_PER_SECOND;
                node.runtime.sleep(paced.max(took)).await;
            }
            Err(error) => {
                tracing::warn!(%error, job = job.asked.id, "a bulk job cannot go on: it is tried again");
                node.runtime.sleep(FAILED).await;
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

/// Carries out a step of a job. Returns how many executions it touched.
async fn step(engine: &TenantEngine, job: &BulkJob) -> Result<u32, ApiError> {
    let (operation, filter) = parts(job)?;
    let left = job.asked.at_most.saturating_sub(job.done + job.refused);
    let most = match operation {
        Operation::Delete | Operation::Resume { .. } => LONG_STEP,
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
        let filter = filter.for_store(Some(job.cursor.clone()), limit)?;
        let page = engine.node.store.list(engine.tenant, filter).await.map_err(unavailable)?;
        let is_last = u64::try_from(page.executions.len()).unwrap_or(u64::MAX) >= left;
        step.to = page.cursor.filter(|_| !is_last);
        for head in page.executions {
            add(engine, &mut step, (&operation, &head)).await?;
        }
    }
    carry_out(engine, step).await.map_err(unavailable)
}

/// Adds an execution to a step.
async fn add(
    engine: &TenantEngine,
    step: &mut BulkStep,
    (operation, head): (&Operation, &ExecutionRow),
) -> Result<(), ApiError> {
    let execution = head.key.id.clone();
    match engine.plan(operation, head).await {
        Ok(plan) => {
            let outcome = format!("{} by bulk job {}", plan.outcome, step.id);
            let act = engine.act(operation.method(), execution.as_str(), outcome);
            engine.forgive(&head.key, &plan.commands);
            step.items.push(BulkItem { execution, commands: plan.commands, act });
        }
        // The database's own trouble is no refusal.
        Err(error @ ApiError::Unavailable(_)) => return Err(error),
        Err(why) => step.refusals.push(BulkRefusal { execution, reason: why.to_string() }),
    }
    Ok(())
}

async fn carry_out(engine: &TenantEngine, step: BulkStep) -> Result<u32, StoreError> {
    let node = &engine.node;
    let touched = u32::try_from(step.items.len() + step.refusals.len()).unwrap_or(u32::MAX);
    let planned: Vec<_> = step.items.iter().map(|item| (item.execution.clone(), item.commands.clone())).collect();
    let _turn = node.write_turns.next(engine.tenant).await;
    if node.store.bulk_step(step).await? {
        for (id, commands) in planned {
            engine.carried_out(&cerebelum_store::ExecutionKey { tenant: engine.tenant, id }, &commands);
        }
    }
    Ok(touched)
}
