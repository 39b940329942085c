//! Bulk jobs: an operation on every execution that matches a filter. Clients create them; `work.rs` carries them out.

mod work;

use cerebelum_history::{Json, Timestamp};
use cerebelum_store::{BulkJob, BulkRefusal, Count, NewBulkJob};

use crate::api::ApiError;
use crate::engine::Engine;
use crate::execution_filter::ExecutionFilter;
use crate::identity::Caller;
use crate::operations::Operation;
use crate::tenant_engine::TenantEngine;
use crate::verbs::{check_signal_name, fresh_id, signal};
pub(crate) use work::keep_working;

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
        let filter = filter.for_store(None, 0);
        let max = up_to.unwrap_or(BULK_EXECUTIONS_MAX).min(BULK_EXECUTIONS_MAX);
        // A count may examine all executions of a tenant, on a connection that others need as well.
        let _turn = self.node.turns.counts.next(self.tenant).await;
        Ok(self.node.store.count(self.tenant, filter, max).await?)
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
        let jobs = self.node.store.bulk_jobs(self.tenant).await?;
        Ok(jobs.into_iter().map(view).collect())
    }

    /// A job.
    ///
    /// # Errors
    /// When there is no such job, or the database does not answer.
    pub async fn bulk_job(&self, id: &str) -> Result<BulkJobView, ApiError> {
        let found = self.node.store.bulk_job(self.tenant, id).await?;
        Ok(view(found.ok_or_else(|| no_job(id))?))
    }

    /// The first 1,000 executions on which a job could not carry out its operation.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn bulk_refusals(&self, id: &str) -> Result<Vec<BulkRefusal>, ApiError> {
        Ok(self.node.store.bulk_refusals(self.tenant, id).await?)
    }

    /// Stops a job. What it has done stays done.
    ///
    /// # Errors
    /// When there is no such job, it has ended, or the database does not answer.
    pub async fn stop_bulk(&self, id: &str) -> Result<BulkJobView, ApiError> {
        let act = self.act("StopBulk", id, "stopped");
        let _turn = self.node.turns.writes.next(self.tenant).await;
        let stopped = self.node.store.stop_bulk(self.tenant, id, act).await?;
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
            && let Some(there) = engine.node.store.bulk_job(engine.tenant, id).await?
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
        let _turn = engine.node.turns.writes.next(tenant).await;
        let is_created = engine.node.store.create_bulk(new, limits, act).await?;
        // Another request with this id may have come first.
        let there = engine.node.store.bulk_job(tenant, &id).await?;
        match (is_created, there) {
            (true, Some(job)) => {
                engine.node.bulk_news.notify_one();
                Ok(view(job))
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
        check_signal_name(name)?;
        signal(name, data, None)?;
    }
    let operation = Json::of(&request.operation).to_string();
    let filter = request.filter.stored();
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
    match at_most {
        _ if !matched.is_exact => Err(ApiError::Conflict(format!(
            "more than {count} executions match, and they could not all be counted: narrow the filter"
        ))),
        _ if count == 0 => Err(ApiError::Conflict("no execution matches the filter".to_owned())),
        Some(at_most) if count > at_most => {
            Err(ApiError::Conflict(format!("{count} executions match, and at most {at_most} are meant: look again")))
        }
        Some(at_most) => Ok(at_most.min(BULK_EXECUTIONS_MAX)),
        None if count > BULK_UNCONFIRMED_MAX => Err(ApiError::Conflict(format!(
            "{count} executions match: `at_most` {count} (`--at-most {count}`) confirms that these are meant"
        ))),
        None => Ok(BULK_UNCONFIRMED_MAX),
    }
}

/// The answer to a request whose id is taken: the existing job, if it is the same one.
fn created_before(job: BulkJob, (operation, filter): (&str, &str)) -> Result<BulkJobView, ApiError> {
    if job.asked.operation == operation && job.asked.filter == filter {
        return Ok(view(job));
    }
    Err(ApiError::Conflict(format!("bulk job `{}` exists and does something else: choose another id", job.asked.id)))
}

fn no_job(id: &str) -> ApiError {
    ApiError::NotFound(format!("there is no bulk job `{}`: see `cerebelum bulk list`", id.escape_debug()))
}

fn view(job: BulkJob) -> BulkJobView {
    let (operation, filter) = parts(&job);
    let BulkJob { asked, created_at, ended_at, stopped, done, refused, .. } = job;
    let state = match ended_at {
        None => BulkState::Running,
        Some(_) if stopped => BulkState::Stopped,
        Some(_) => BulkState::Done,
    };
    BulkJobView {
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
    }
}

/// What a job does, and to which executions. What cannot be read is left to the engine that wrote it.
fn parts(job: &BulkJob) -> (Operation, ExecutionFilter) {
    let filter = ExecutionFilter::read(&job.asked.filter);
    match (serde_json::from_str(&job.asked.operation), filter) {
        (Ok(operation), Ok(filter)) => (operation, filter),
        (_, filter) => (Operation::Unknown, filter.unwrap_or_default()),
    }
}
