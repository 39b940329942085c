//! The engine as one tenant sees it: components, executions and questions of that tenant, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use cerebelum_history::{CallerSpan, Event, ExecutionId, Position, SpanContext, Timestamp};
use cerebelum_sandbox::WorkflowInfo;
use cerebelum_store::{
    Act, Actor, ApprovalFilter, ChildCounts, ExecutionKey, ExecutionRow, HistoryPart, State, TenantId,
};
use cerebelum_timeline::{AsOf, Graph, Plan, Timeline};

use crate::api::{ApiError, ApprovalView, ApprovalsRequest, EventView, ExecutionStatus, ListRequest, LogView, Summary};
use crate::directory::manifest_of;
use crate::identity::Role;
use crate::node::Node;
use crate::scheduler::Scheduler;
use crate::schema::Checker;
use crate::tenant_turns::TenantTurn;
use crate::{convert, restore};

/// How many bytes of a history are read together, unless a single chunk is larger.
const HISTORY_PAGE_BYTES_MAX: u64 = 1 << 20;
/// How many log lines are read together.
const LINES_PER_PAGE: u32 = 200;
/// How often a client's wait for an execution checks it without a hint. Commits of other nodes give no hint.
pub(crate) const RECHECK: Duration = Duration::from_secs(1);
/// How many questions a page has, unless the request asks for fewer.
const APPROVALS_PAGE: u32 = 1_000;

/// The engine as one tenant sees it; cheap to clone. The id of another tenant's execution is not found, because the
/// tenant is part of every key. All answers show committed state only (L7).
#[derive(Clone)]
pub struct TenantEngine {
    pub(crate) node: Arc<Node>,
    pub(crate) scheduler: Arc<Scheduler>,
    pub(crate) checker: Arc<Checker>,
    pub(crate) tenant: TenantId,
    pub(crate) actor: Arc<Actor>,
    pub(crate) role: Role,
    /// The span from which the caller's request came.
    pub(crate) span: Option<Arc<CallerSpan>>,
}

impl TenantEngine {
    /// Waits for this tenant's turn to have a request processed that writes. A tenant that is alone needs none.
    pub(crate) async fn request_turn(&self) -> Option<TenantTurn> {
        match self.node.shares.are_several() {
            true => Some(self.node.turns.requests.next(self.tenant).await),
            false => None,
        }
    }

    /// What the caller does, for the audit: the method of the interface, what it is done to, and what comes of it.
    pub(crate) fn act(
        &self,
        operation: &'static str,
        object: impl Into<String>,
        outcome: impl Into<String>,
    ) -> Option<Act> {
        let (tenant, chance, actor) = (self.tenant, self.node.runtime.chance(), self.actor.clone());
        Some(Act { tenant, chance, actor, operation, object: object.into(), outcome: outcome.into() })
    }

    /// The caller's span, if it is recorded: what the caller sends is linked to it.
    pub(crate) fn cause(&self) -> Option<SpanContext> {
        self.span.as_ref().map(|caller| caller.span).filter(|span| span.is_sampled)
    }

    /// Refuses an id that no execution has.
    ///
    /// # Errors
    /// When there is no such execution, or the database does not answer.
    pub async fn exists(&self, id: &str) -> Result<(), ApiError> {
        self.head(&self.key(id)?).await.map(drop)
    }

    /// An execution's list entry.
    ///
    /// # Errors
    /// When there is no such execution, or the database does not answer.
    pub async fn summary(&self, id: &str) -> Result<Summary, ApiError> {
        Ok(convert::summary(&self.head(&self.key(id)?).await?))
    }

    /// The full status of an execution.
    ///
    /// # Errors
    /// When there is no such execution, or the database does not answer.
    pub async fn status(&self, id: &str) -> Result<ExecutionStatus, ApiError> {
        let whole = self.node.store.describe(&self.key(id)?).await?;
        convert::status(whole.ok_or_else(|| no_execution(id))?)
    }

    /// The full status of an execution, if it has ended.
    async fn ended(&self, key: &ExecutionKey) -> Result<Option<ExecutionStatus>, ApiError> {
        if self.head(key).await?.state == State::Open {
            return Ok(None);
        }
        let status = self.status(key.id.as_str()).await?;
        // It may have been reopened in between.
        Ok(Some(status).filter(|status| status.summary.status.is_ended()))
    }

    /// Waits until the execution has ended and returns its status, or returns its current status after the timeout.
    ///
    /// # Errors
    /// When there is no such execution, or the database does not answer.
    pub async fn wait(&self, id: &str, timeout: Option<Duration>) -> Result<ExecutionStatus, ApiError> {
        let key = self.key(id)?;
        let runtime = &self.node.runtime;
        let began = runtime.boot_ms();
        let mut commits = self.node.watchers.watch(&key);
        let mut hints = commits.borrow().hints;
        // An execution that is in memory here announces its end and its hibernation. In this order, no end is missed.
        if !self.scheduler.is_active(&key)
            && let Some(status) = self.ended(&key).await?
        {
            return Ok(status);
        }
        loop {
            let waited = Duration::from_millis(runtime.boot_ms() - began);
            let left = timeout.map_or(RECHECK, |timeout| timeout.saturating_sub(waited));
            if left.is_zero() {
                return self.status(id).await;
            }
            let moved = runtime.within(left.min(RECHECK), commits.changed()).await;
            let news = *commits.borrow_and_update();
            let is_sure = moved.is_some() && news.hints == hints;
            hints = news.hints;
            if is_sure && news.ended {
                return self.status(id).await;
            }
            // Another node may have ended it.
            if !is_sure && let Some(status) = self.ended(&key).await? {
                return Ok(status);
            }
        }
    }

    /// A page of executions, newest first, and the cursor of the next page.
    ///
    /// # Errors
    /// When the cursor is not valid, or the database does not answer.
    pub async fn list(&self, request: ListRequest) -> Result<(Vec<Summary>, Option<String>), ApiError> {
        let limit = if request.limit == 0 { 100 } else { request.limit.min(1_000) };
        let filter = request.filter.for_store(request.cursor, limit);
        let page = self.node.store.list(self.tenant, filter).await?;
        let summaries = page.executions.iter().map(convert::summary).collect();
        Ok((summaries, page.cursor))
    }

    /// The children of each of these executions by status, in order; of each, up to `max`, the newest ones.
    ///
    /// # Errors
    /// When an id is not valid, or the database does not answer.
    pub async fn children_by_status(&self, parents: &[&str], max: u32) -> Result<Vec<ChildCounts>, ApiError> {
        let parents = parents.iter().map(|id| Ok(self.key(id)?.id)).collect::<Result<_, ApiError>>()?;
        let _turn = self.node.turns.counts.next(self.tenant).await;
        Ok(self.node.store.children_by_status(self.tenant, parents, max).await?)
    }

    /// A page of the events after a position in an execution's run (the current one unless another is named). It is
    /// empty at the end.
    ///
    /// # Errors
    /// When there is no such execution or run, or the database does not answer.
    pub async fn history(&self, id: &str, run: Option<u32>, after: Position) -> Result<Vec<EventView>, ApiError> {
        Ok(convert::events(after, &self.events(id, run, after).await?))
    }

    async fn events(&self, id: &str, run: Option<u32>, after: Position) -> Result<Vec<Event>, ApiError> {
        let key = self.key(id)?;
        let head = self.head(&key).await?;
        let run = run.unwrap_or(head.run);
        if run == 0 || run > head.run {
            return Err(ApiError::NotFound(format!("execution `{id}` has no run {run}: it has had {}", head.run)));
        }
        let to = if run == head.run { head.position } else { Position(u64::MAX >> 1) };
        if to <= after {
            return Ok(Vec::new());
        }
        let next = after.next();
        let part = HistoryPart::Page { from: next, bytes_max: HISTORY_PAGE_BYTES_MAX };
        let page = self.node.store.history(&key, run, part).await?;
        let mut events = restore::events_of(&page)?;
        // The chunk of the first wanted event may begin with earlier events.
        let told = page.first().map_or(0, |chunk| next.0.saturating_sub(chunk.first.0));
        let told = usize::try_from(told).unwrap_or(usize::MAX).min(events.len());
        Ok(events.split_off(told))
    }

    /// An execution's run (the current one unless another is named) as it was after the event at a position, or after the
    /// last event if there are not so many, read page by page.
    ///
    /// # Errors
    /// When there is no such execution or run, or the database does not answer.
    pub async fn as_of(&self, id: &str, run: Option<u32>, position: Position) -> Result<AsOf, ApiError> {
        let mut then = AsOf::default();
        while then.position < position.0 {
            let events = self.events(id, run, Position(then.position)).await?;
            if events.is_empty() {
                break;
            }
            let left = usize::try_from(position.0 - then.position).unwrap_or(usize::MAX);
            events.iter().take(left).for_each(|event| then.add(event));
        }
        Ok(then)
    }

    /// An execution's run (the current one unless another is named) as lanes of bars, read page by page; of a window
    /// only what was open in it.
    ///
    /// # Errors
    /// When there is no such execution or run, or the database does not answer.
    pub async fn timeline(
        &self,
        id: &str,
        run: Option<u32>,
        window: Option<(Timestamp, Timestamp)>,
    ) -> Result<Timeline, ApiError> {
        let mut timeline = window.map(Timeline::within).unwrap_or_default();
        self.each_event(id, run, |event| timeline.add(event)).await?;
        Ok(timeline)
    }

    /// An execution's run (the current one unless another is named) as boxes below each other, read page by page. What
    /// its workflow plans is below them while it is open.
    ///
    /// # Errors
    /// When there is no such execution or run, or the database does not answer.
    pub async fn graph(&self, id: &str, run: Option<u32>) -> Result<Graph, ApiError> {
        let mut graph = self.workflow_plan(id, run).await?.map(Graph::of).unwrap_or_default();
        self.each_event(id, run, |event| graph.add(event)).await?;
        Ok(graph)
    }

    /// The plan of an execution's run, if it is open and its workflow has one.
    async fn workflow_plan(&self, id: &str, run: Option<u32>) -> Result<Option<Plan>, ApiError> {
        let head = self.head(&self.key(id)?).await?;
        if head.ended_at.is_some() || run.is_some_and(|run| run != head.run) {
            return Ok(None);
        }
        let workflow = head.workflow.rsplit('/').next().unwrap_or_default();
        let described = self.node.directory.described(self.tenant, (&head.digest, workflow)).await?;
        Ok(Plan::of(described.and_then(|info| info.input_schema).as_ref()))
    }

    async fn each_event(&self, id: &str, run: Option<u32>, mut take: impl FnMut(&Event)) -> Result<(), ApiError> {
        let mut after = Position(0);
        loop {
            let events = self.events(id, run, after).await?;
            if events.is_empty() {
                return Ok(());
            }
            events.iter().for_each(&mut take);
            after = Position(after.0 + events.len() as u64);
        }
    }

    /// A workflow of a component's current version.
    ///
    /// # Errors
    /// When there is no such workflow, or the database does not answer.
    pub async fn workflow(&self, component: &str, workflow: &str) -> Result<WorkflowInfo, ApiError> {
        let components = self.node.store.components(self.tenant).await?;
        let current = components.iter().find(|of| of.current && of.name == component);
        let manifest = current.map(manifest_of).transpose().map_err(ApiError::Unavailable)?;
        let found = manifest.and_then(|manifest| manifest.workflows.into_iter().find(|of| of.name == workflow));
        found.ok_or_else(|| {
            ApiError::NotFound(format!("there is no workflow `{component}/{workflow}`: see `cerebelum components`"))
        })
    }

    /// Log lines after a sequence number.
    ///
    /// # Errors
    /// When there is no such execution, or the database does not answer.
    pub async fn logs(&self, id: &str, after: i64) -> Result<Vec<LogView>, ApiError> {
        let key = self.existing(id).await?;
        let rows = self.node.store.logs(&key, after, LINES_PER_PAGE).await?;
        Ok(rows.into_iter().map(convert::log).collect())
    }

    /// A page of open questions, or of all questions of one execution, newest first, and the cursor of the next page.
    ///
    /// # Errors
    /// When there is no such execution, the cursor is not valid, or the database does not answer.
    pub async fn approvals(&self, request: ApprovalsRequest) -> Result<(Vec<ApprovalView>, Option<String>), ApiError> {
        let execution = match request.execution {
            Some(id) => Some(self.existing(&id).await?.id),
            None => None,
        };
        let limit = if request.limit == 0 { APPROVALS_PAGE } else { request.limit };
        let filter = ApprovalFilter { id: None, execution, cursor: request.cursor, limit };
        let page = self.node.store.approvals(self.tenant, filter).await?;
        // An unreadable question does not hide the others.
        let approvals = page.approvals.into_iter().filter_map(|row| convert::approval(row).ok());
        Ok((approvals.collect(), page.cursor))
    }

    /// The key of an execution. Fails if the execution does not exist.
    pub(crate) async fn existing(&self, id: &str) -> Result<ExecutionKey, ApiError> {
        Ok(self.head(&self.key(id)?).await?.key)
    }

    /// The row of an execution that exists.
    pub(crate) async fn head(&self, key: &ExecutionKey) -> Result<ExecutionRow, ApiError> {
        let head = self.node.store.execution(key).await?;
        head.ok_or_else(|| no_execution(key.id.as_str()))
    }

    /// The key of the execution with this id, whether it exists or not.
    pub(crate) fn key(&self, id: &str) -> Result<ExecutionKey, ApiError> {
        let id: ExecutionId =
            id.parse().map_err(|e: cerebelum_history::InvalidName| ApiError::Invalid(e.to_string()))?;
        Ok(ExecutionKey { tenant: self.tenant, id })
    }
}

pub(crate) fn no_execution(id: &str) -> ApiError {
    ApiError::NotFound(format!("there is no execution `{id}`: see `cerebelum list`"))
}
