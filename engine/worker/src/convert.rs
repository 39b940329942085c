//! Converts rows and events into the types of the API.

use cerebelum_history::{
    ApprovalRequest, Approvers, End, Event, EventData, Failure, FirstWait, Json, LastFailure, Message, Position, Scope,
    Status, StepLine, WaitKind, Waiting, steps, waiting_on,
};
use cerebelum_sandbox::Manifest;
use cerebelum_store::{
    ApprovalRow, ApprovalState, Component, ExecutionDetail, ExecutionRow, LogRow, State, StoreError,
};

use crate::api::{
    ApiError, ApprovalView, ComponentInfo, EventView, ExecutionStatus, LogView, ProgressView, StepView, Summary,
    WaitingOn,
};
use crate::grants::{Granted, capabilities};
use crate::restore;
use crate::traces::trace_ids;

/// What a new version asks for and the one before did not (` +http:HOST`), and the other way round (` -secret:NAME`).
pub(crate) fn changed_capabilities(before: Option<&Manifest>, now: &Manifest) -> String {
    let (before, now) = (before.map(capabilities).unwrap_or_default(), capabilities(now));
    let added = now.iter().filter(|one| !before.contains(one)).map(|one| format!(" +{one}"));
    let gone = before.iter().filter(|one| !now.contains(one)).map(|one| format!(" -{one}"));
    added.chain(gone).collect()
}

pub(crate) fn component(component: &Component, manifest: &Manifest, granted: &Granted) -> ComponentInfo {
    ComponentInfo {
        name: component.name.clone(),
        digest: component.digest.clone(),
        workflows: manifest.workflows.iter().map(|workflow| workflow.name.clone()).collect(),
        steps: manifest.steps.iter().map(|step| step.name.clone()).collect(),
        capabilities: capabilities(manifest),
        size: component.size,
        uploaded_at: component.uploaded_at,
        current: component.current,
        proposed: component.proposed,
        not_granted: granted.missing(manifest),
    }
}

pub(crate) fn summary(head: &ExecutionRow) -> Summary {
    let attributes = if head.attributes.is_empty() { "{}" } else { &head.attributes };
    Summary {
        id: head.key.id.clone(),
        workflow: head.workflow.clone(),
        digest: head.digest.clone(),
        status: head.status,
        attributes: Json::parse(attributes).unwrap_or_else(|_| Json::null()),
        started_at: head.started_at,
        ended_at: head.ended_at,
        run: head.run,
        events: head.position.0,
        parent: head.parent.as_ref().map(|parent| parent.id.clone()),
        waits_for: waits_for(head),
        failure: parked(head).map(|failure| failure.for_lists()).or_else(|| failure(head)),
        runs_from: head.runs_from,
    }
}

/// What an execution waits for, if it is neither held nor over.
fn waits_for(head: &ExecutionRow) -> Option<FirstWait> {
    let stored = head.waits_for.as_deref().filter(|_| !matches!(standing(head), Status::Parked | Status::Paused))?;
    serde_json::from_str(stored).ok().filter(|wait: &FirstWait| wait.at == head.position && head.state == State::Open)
}

/// Why an execution failed, as its row has it.
fn failure(head: &ExecutionRow) -> Option<Failure> {
    let stored = head.waits_for.as_deref().filter(|_| head.state == State::Failed)?;
    let last: LastFailure = serde_json::from_str(stored).ok()?;
    (last.at == head.position).then_some(last.failure)
}

/// Why an execution is parked.
fn parked(head: &ExecutionRow) -> Option<Failure> {
    let reason = head.parked.as_ref()?;
    let (kind, message) = reason.split_once(": ").unwrap_or(("parked", reason));
    Some(Failure::new(kind, message))
}

/// The status that decides what clients may do. The flags of the row decide; the derived status beside them is a copy
/// (L20).
pub(crate) fn standing(head: &ExecutionRow) -> Status {
    match head.state {
        State::Completed => Status::Completed,
        State::Failed => Status::Failed,
        State::Cancelled => Status::Cancelled,
        State::Open if head.parked.is_some() => Status::Parked,
        State::Open if head.paused => Status::Paused,
        State::Open => head.status,
    }
}

/// The input of an execution, from the first events of its history.
pub(crate) fn input(events: &[Event]) -> Option<Json> {
    match &events.first()?.data {
        EventData::ExecutionStarted { input, .. } => Some(input.clone()),
        _ => None,
    }
}

pub(crate) fn status(whole: ExecutionDetail) -> Result<ExecutionStatus, ApiError> {
    let ExecutionDetail { head, first, history, calls, progress, inbox } = whole;
    let earlier_events = history.as_ref().ok().and_then(|chunks| chunks.first()).map_or(0, |chunk| chunk.first.0 - 1);
    let beginning = first.and_then(|first| restore::decode(&first).ok());
    let (mut output, mut failure) = (None, None);
    let history = match history.and_then(|chunks| restore::events_of(&chunks)) {
        // The history is shown as far as it can be read. A missing history is an error only if it hides the execution's
        // end.
        Err(StoreError::Corrupt(_)) if head.state == State::Open => Vec::new(),
        // An execution that was ended by its key alone has no event about its end.
        Err(StoreError::Corrupt(cause)) if head.state == State::Cancelled => {
            failure = Some(Failure::new("corrupt-history", cause));
            Vec::new()
        }
        read => read?,
    };
    let open = restore::open_calls(&calls).unwrap_or_default();
    let lines = steps(&history, &open);
    match history.last().and_then(|event| event.data.end()) {
        Some(End::Completed(value)) => output = Some(value),
        Some(End::Failed(cause) | End::Cancelled(cause)) => failure = Some(cause),
        Some(End::Continued(_)) | None => {}
    }
    failure = parked(&head).or(failure);
    let mut waiting_on: Vec<WaitingOn> = waiting_on(&open).into_iter().map(waiting).collect();
    waiting_on.extend(delay(&head).filter(|_| history.len() <= 1 && open.is_empty()));
    let progress = progress.into_iter().map(|progress| {
        let of_step = lines.iter().find(|line| line.call.step_scope() == progress.scope);
        let name = of_step.map_or(&*head.workflow, |line| &line.name).to_owned();
        ProgressView { name, scope: progress.scope, percent: progress.percent, message: progress.message }
    });
    let trace = restore::options(&head).ok().and_then(|options| options.trace);
    Ok(ExecutionStatus {
        trace_ids: trace.map_or_else(Vec::new, |trace| trace_ids(&restore::identity(&head), &trace)),
        summary: summary(&head),
        input: input(beginning.as_deref().unwrap_or(&history)).unwrap_or_else(Json::null),
        output,
        failure,
        waiting_on,
        progress: progress.collect(),
        steps: lines.into_iter().map(step).collect(),
        earlier_events,
        unread_signals: unread_signals(&inbox),
    })
}

/// The names of these signals in the order in which the first of each came.
fn unread_signals(inbox: &[String]) -> Vec<String> {
    let mut names = Vec::new();
    for name in inbox.iter().filter_map(|message| Message::signal_name(message)) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The wait of an execution whose start is delayed.
fn delay(head: &ExecutionRow) -> Option<WaitingOn> {
    let starts_at = restore::options(head).ok()?.starts_at.filter(|_| head.state == State::Open)?;
    Some(WaitingOn {
        kind: WaitKind::Delay.word().to_owned(),
        name: String::new(),
        scope: Scope::root(),
        since: head.started_at,
        until: Some(starts_at),
        attempts: None,
        last: None,
    })
}

fn waiting(of: Waiting) -> WaitingOn {
    WaitingOn {
        kind: of.kind.word().to_owned(),
        name: of.name,
        scope: of.call.scope,
        since: of.since,
        until: of.until,
        attempts: of.attempts,
        last: of.last,
    }
}

fn step(line: StepLine) -> StepView {
    StepView {
        name: line.name,
        scope: line.call.step_scope(),
        input_preview: line.input_preview,
        status: line.status,
        attempt: line.attempt,
        started_at: line.started_at,
        ended_at: line.ended_at,
        output: line.output,
        failure: line.failure,
    }
}

pub(crate) fn events(after: Position, events: &[Event]) -> Vec<EventView> {
    let numbered = (after.0.saturating_add(1)..).zip(events);
    let view = |(position, event): (u64, &Event)| EventView {
        position: Position(position),
        time: event.at,
        kind: event.data.kind(),
        scope: event.scope.clone(),
        fields: event.data.fields(),
    };
    numbered.map(view).collect()
}

pub(crate) fn log(row: LogRow) -> LogView {
    let line = row.line;
    LogView {
        seq: row.seq,
        time: line.at,
        level: line.level,
        scope: line.scope,
        attempt: line.attempt,
        text: line.text,
    }
}

/// The request of a question.
pub(crate) fn request(row: &ApprovalRow) -> Result<ApprovalRequest, ApiError> {
    serde_json::from_str(&row.request)
        .map_err(|e| ApiError::Unavailable(format!("the stored approval `{}` cannot be read: {e}", row.id)))
}

pub(crate) fn approval(row: ApprovalRow) -> Result<ApprovalView, ApiError> {
    let asked = request(&row)?;
    Ok(ApprovalView {
        id: row.id,
        execution: row.execution,
        approvers: Approvers::of(asked.schema.as_ref()).unwrap_or_default().entries().to_vec(),
        kind: asked.kind,
        title: asked.title,
        data: asked.data,
        schema: asked.schema,
        requested_at: row.requested_at,
        deadline: row.deadline,
        state: approval_state(row.state).to_owned(),
    })
}

pub(crate) fn approval_state(state: ApprovalState) -> &'static str {
    match state {
        ApprovalState::Open => "open",
        ApprovalState::Approved => "approved",
        ApprovalState::Rejected => "rejected",
        ApprovalState::TimedOut => "timed-out",
        ApprovalState::Withdrawn => "withdrawn",
    }
}
