//! Executions: start, look, follow, steer.

use std::collections::HashMap;
use std::convert::Infallible;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use cerebelum_worker::ApiError;
use futures::StreamExt;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};
use tokio_util::io::StreamReader;
use tonic::{Code, Status};
use utoipa::ToSchema;

use super::body::{JSON_BYTES_MAX, Json, each_once, needs_type, parse, pieces};
use super::filter::FilterParameters;
use super::lines::{NDJSON, at_once, lines};
use super::problem::Problems;
use super::query::{Parameters, Path};
use super::{Problem, Shared, asked, json};
use crate::access::Access;
use crate::convert::refusal;
use crate::json::shapes::{EventJson, ExecutionsJson, LogJson, ResultJson, StatusJson, SummaryJson};
use crate::kinds::too_large;
use crate::proto;
use crate::proto::engine_server::Engine as _;
use crate::proto::start_many_response::result::Result::{Refused, Started};
use crate::span::Span;

/// A start.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Start {
    /// `component/workflow`, or the name of the workflow while it is unique.
    #[schema(example = "hello/greet")]
    workflow: String,
    /// The workflow's input; `null` if it is left out.
    #[schema(value_type = Option<serde_json::Value>)]
    input: Option<Box<RawValue>>,
    /// The id of the execution, made by the engine if it is left out. A start with an id can be repeated safely.
    id: Option<String>,
    /// Names and JSON scalars, by which lists can be filtered.
    #[schema(value_type = Option<HashMap<String, serde_json::Value>>)]
    #[serde(default, deserialize_with = "each_once")]
    attributes: HashMap<String, Box<RawValue>>,
    /// The execution begins after this time.
    #[schema(value_type = Option<String>, example = "10m")]
    delay: Option<Span>,
    /// The execution fails if it has not ended after this time.
    #[schema(value_type = Option<String>, example = "2d")]
    deadline: Option<Span>,
}

impl From<Start> for proto::StartRequest {
    fn from(from: Start) -> Self {
        let attributes = from.attributes.into_iter();
        Self {
            workflow: from.workflow,
            input: from.input.map(|input| input.get().to_owned()).unwrap_or_default(),
            execution_id: from.id,
            attributes: attributes.map(|(name, value)| (name, value.get().to_owned())).collect(),
            delay_ms: from.delay.map_or(0, |delay| delay.ms),
            deadline_ms: from.deadline.map(|deadline| deadline.ms),
        }
    }
}

/// Starts an execution. The same start with the same id again changes nothing.
#[utoipa::path(post, path = "/v1/executions", operation_id = "Start", tag = "executions", request_body = Start,
    params(("wait" = Option<String>, Query, description = "Answer when the execution has ended, or after this time of at most 60 s, with what `GET /v1/executions/{id}` answers")),
    responses((status = 200, body = SummaryJson), Problems))]
pub(super) async fn start(
    State(service): State<Shared>,
    access: Access,
    query: Parameters,
    Json(wish): Json<Start>,
) -> Result<Response, Problem> {
    let wait: Option<Span> = query.only("wait")?;
    let started = service.start(asked(access.clone(), wish.into())).await?.into_inner();
    let Some(wait) = wait else { return Ok(json(crate::json::of(&started))) };
    let request = proto::WaitRequest { execution_id: started.execution_id.clone(), timeout_ms: Some(wait.ms) };
    // The execution has started, whatever becomes of the wait.
    let waited = service.wait(asked(access, request)).await;
    Ok(json(waited.map_or_else(|_| crate::json::of(&started), |now| crate::json::of(now.get_ref()))))
}

/// Starts many executions: one start a line, one answer a line, in the same order. A start that is refused is answered
/// by a problem, and the others go on.
#[utoipa::path(post, path = "/v1/starts", operation_id = "StartMany", tag = "executions",
    request_body(content = String, content_type = "application/x-ndjson", description = "A start a line"),
    responses((status = 200, body = String, content_type = "application/x-ndjson", description = "A summary or a problem a line"), Problems))]
pub(super) async fn start_many(
    State(service): State<Shared>,
    access: Access,
    query: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    query.end()?;
    needs_type(&headers, &[NDJSON])?;
    // The codec has only errors of its own kind: the reason for which the body ended is kept beside.
    let bytes = StreamReader::new(pieces(body).map(|piece| piece.map_err(std::io::Error::other)));
    let read = FramedRead::new(bytes, LinesCodec::new_with_max_length(JSON_BYTES_MAX));
    let wishes = read.filter(|line| std::future::ready(!matches!(line, Ok(line) if line.trim().is_empty())));
    let wishes = wishes.map(|line| match line {
        Ok(line) => {
            Ok(parse::<Start>(line.as_bytes()).map(Into::into).map_err(|problem| ApiError::Invalid(problem.detail)))
        }
        Err(broken) => Err(broken_line(broken)),
    });
    let results = service.start_all(&access, wishes).await?;
    let texts = results.into_iter().filter_map(|result| result.result).map(|result| {
        let line = match result {
            Started(summary) => crate::json::of(&summary),
            Refused(why) => Problem::from(Status::new(why.code.into(), why.message)).line(),
        };
        Ok::<_, Infallible>(line + "\n")
    });
    let body = Body::from_stream(futures::stream::iter(texts));
    Ok(([(axum::http::header::CONTENT_TYPE, NDJSON)], body).into_response())
}

fn broken_line(broken: LinesCodecError) -> Status {
    match broken {
        LinesCodecError::MaxLineLengthExceeded => {
            too_large(Code::InvalidArgument, format!("a line may have at most {} MiB", JSON_BYTES_MAX >> 20))
        }
        LinesCodecError::Io(error) => {
            let met = error.get_ref().and_then(|cause| cause.downcast_ref::<Status>()).cloned();
            met.unwrap_or_else(|| Status::invalid_argument("the lines are not UTF-8"))
        }
    }
}

/// Executions, newest first.
#[utoipa::path(get, path = "/v1/executions", operation_id = "List", tag = "executions",
    params(FilterParameters,
        ("limit" = Option<u32>, Query, description = "At most 1000; 100 if it is left out"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before")),
    responses((status = 200, body = ExecutionsJson), Problems))]
pub(super) async fn list(
    State(service): State<Shared>,
    access: Access,
    mut query: Parameters,
) -> Result<Response, Problem> {
    let (cursor, limit) = (query.take("cursor")?, query.take("limit")?.unwrap_or_default());
    let request = proto::ListRequest { cursor, limit, ..query.take_filter()?.list() };
    query.end()?;
    let page = service.list(asked(access, request)).await?.into_inner();
    Ok(json(crate::json::of(&page)))
}

/// An execution, with its steps and what it waits for.
#[utoipa::path(get, path = "/v1/executions/{id}", operation_id = "Status", tag = "executions", params(("id" = String, Path)),
    responses((status = 200, body = StatusJson), Problems))]
pub(super) async fn status(
    State(service): State<Shared>,
    access: Access,
    Path(execution_id): Path<String>,
    query: Parameters,
) -> Result<Response, Problem> {
    query.end()?;
    let status = service.status(asked(access, proto::StatusRequest { execution_id })).await?.into_inner();
    Ok(json(crate::json::of(&status)))
}

/// Waits for the end of an execution and says how it ended. After the time the answer has the status of now.
#[utoipa::path(get, path = "/v1/executions/{id}/result", operation_id = "Wait", tag = "executions",
    params(("id" = String, Path), ("wait" = Option<String>, Query, description = "A duration of at most 60 s; none if it is left out")),
    responses((status = 200, body = ResultJson), Problems))]
pub(super) async fn result(
    State(service): State<Shared>,
    access: Access,
    Path(execution_id): Path<String>,
    mut query: Parameters,
) -> Result<Response, Problem> {
    let timeout_ms = Some(query.take("wait")?.map_or(0, |wait: Span| wait.ms));
    query.end()?;
    let status = service.wait(asked(access, proto::WaitRequest { execution_id, timeout_ms })).await?.into_inner();
    Ok(json(crate::json::result(&status)))
}

/// Server-sent events: the execution now, and after every change until it has ended. A client that comes back with the
/// last id after the end is told that there is nothing more (204).
#[utoipa::path(get, path = "/v1/executions/{id}/events", operation_id = "Watch", tag = "executions",
    params(("id" = String, Path), ("last-event-id" = Option<String>, Header)),
    responses((status = 200, body = String, content_type = "text/event-stream"), (status = 204, description = "It has ended, and the client knows"), Problems))]
pub(super) async fn events(
    State(service): State<Shared>,
    access: Access,
    Path(execution_id): Path<String>,
    query: Parameters,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    query.end()?;
    let mut answers = service.watch(asked(access, proto::WatchRequest { execution_id })).await?.into_inner();
    let (first, leaving) = (answers.next().await.transpose()?, answers.leaving());
    let known = headers.get("last-event-id").map(|id| id.as_bytes());
    let summary = first.as_ref().and_then(|status| status.summary.as_ref());
    if summary.is_some_and(|now| now.ended_at.is_some() && known == Some(version(now).as_bytes())) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let answers = futures::stream::iter(first.map(Ok)).chain(answers);
    let events = answers.map(|answer| {
        Ok::<_, Infallible>(match answer {
            Ok(status) => {
                let id = status.summary.as_ref().map(version).unwrap_or_default();
                Event::default().event("status").id(id).data(crate::json::of(&status))
            }
            Err(refused) => Event::default().event("problem").data(Problem::from(refused).line()),
        })
    });
    Ok((Extension(leaving), Sse::new(events).keep_alive(KeepAlive::default())).into_response())
}

/// What changes with every change of an execution.
fn version(of: &proto::Summary) -> String {
    format!("{}-{}-{}", of.run, of.events, of.status)
}

/// The events of an execution's history, one a line.
#[utoipa::path(get, path = "/v1/executions/{id}/history", operation_id = "History", tag = "executions",
    params(("id" = String, Path), ("run" = Option<u32>, Query, description = "The current run if it is left out"),
        ("after" = Option<u64>, Query, description = "Only events after this position"),
        ("follow" = Option<bool>, Query, description = "Go on with future events until the execution has ended")),
    responses((status = 200, body = EventJson, content_type = "application/x-ndjson"), Problems))]
pub(super) async fn history(
    State(service): State<Shared>,
    access: Access,
    Path(execution_id): Path<String>,
    mut query: Parameters,
) -> Result<Response, Problem> {
    let request = proto::HistoryRequest {
        execution_id,
        run: query.take("run")?,
        after: query.take("after")?.unwrap_or_default(),
        follow: query.take("follow")?.unwrap_or_default(),
    };
    query.end()?;
    let follow = request.follow;
    if follow {
        let engine = service.engine.of(&access.caller);
        engine.exists(&request.execution_id).await.map_err(refusal)?;
    }
    let answers = service.history(asked(access, request)).await?.into_inner();
    match follow {
        true => Ok(at_once(answers, crate::json::of)),
        false => lines(answers, crate::json::of).await,
    }
}

/// The log lines of an execution, one a line.
#[utoipa::path(get, path = "/v1/executions/{id}/logs", operation_id = "Logs", tag = "executions",
    params(("id" = String, Path), ("after" = Option<i64>, Query, description = "Only lines after this `seq`"),
        ("follow" = Option<bool>, Query, description = "Go on with future lines until the execution has ended")),
    responses((status = 200, body = LogJson, content_type = "application/x-ndjson"), Problems))]
pub(super) async fn logs(
    State(service): State<Shared>,
    access: Access,
    Path(execution_id): Path<String>,
    mut query: Parameters,
) -> Result<Response, Problem> {
    let (after, follow) = (query.take("after")?.unwrap_or_default(), query.take("follow")?.unwrap_or_default());
    query.end()?;
    let engine = service.engine.of(&access.caller);
    engine.exists(&execution_id).await.map_err(refusal)?;
    let request = proto::LogsRequest { execution_id, after, follow };
    let answers = service.logs(asked(access, request)).await?.into_inner();
    Ok(at_once(answers, |line| crate::json::log_line(line, None)))
}

/// Sends a signal; the body is its data.
#[utoipa::path(post, path = "/v1/executions/{id}/signals/{name}", operation_id = "Signal", tag = "executions",
    params(("id" = String, Path), ("name" = String, Path)), request_body = Option<serde_json::Value>,
    responses((status = 204, description = "The signal will be delivered"), Problems))]
pub(super) async fn signal(
    State(service): State<Shared>,
    access: Access,
    Path((execution_id, name)): Path<(String, String)>,
    query: Parameters,
    Json(data): Json<Option<Box<RawValue>>>,
) -> Result<StatusCode, Problem> {
    query.end()?;
    let request =
        proto::SignalRequest { execution_id, name, data: data.map(|data| data.get().to_owned()).unwrap_or_default() };
    service.signal(asked(access, request)).await?;
    Ok(StatusCode::NO_CONTENT)
}

macro_rules! steer {
    ($(#[$doc:meta])* $verb:ident, $path:literal, $id:literal, $request:ident) => {
        $(#[$doc])*
        #[utoipa::path(post, path = $path, operation_id = $id, tag = "executions", params(("id" = String, Path)),
            responses((status = 204, description = "The request is recorded"), Problems))]
        pub(super) async fn $verb(
            State(service): State<Shared>,
            access: Access,
            Path(execution_id): Path<String>,
            query: Parameters,
        ) -> Result<StatusCode, Problem> {
            query.end()?;
            service.$verb(asked(access, proto::$request { execution_id })).await?;
            Ok(StatusCode::NO_CONTENT)
        }
    };
}

steer!(
    /// Cancels an execution: its compensations run.
    cancel, "/v1/executions/{id}/cancel", "Cancel", CancelRequest
);
steer!(
    /// Terminates an execution at once: nothing more of it runs.
    terminate, "/v1/executions/{id}/terminate", "Terminate", TerminateRequest
);
steer!(
    /// Pauses an execution until it is resumed.
    pause, "/v1/executions/{id}/pause", "Pause", PauseRequest
);

/// Resumes an execution that was paused or parked, or that has failed.
#[utoipa::path(post, path = "/v1/executions/{id}/resume", operation_id = "Resume", tag = "executions",
    params(("id" = String, Path), ("force" = Option<bool>, Query, description = "Also if its history does not fit its component")),
    responses((status = 204, description = "The request is recorded"), Problems))]
pub(super) async fn resume(
    State(service): State<Shared>,
    access: Access,
    Path(execution_id): Path<String>,
    query: Parameters,
) -> Result<StatusCode, Problem> {
    let force = query.only("force")?.unwrap_or_default();
    service.resume(asked(access, proto::ResumeRequest { execution_id, force })).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Deletes an execution that has ended, with its history and logs.
#[utoipa::path(delete, path = "/v1/executions/{id}", operation_id = "Delete", tag = "executions", params(("id" = String, Path)),
    responses((status = 204, description = "It is deleted"), Problems))]
pub(super) async fn delete(
    State(service): State<Shared>,
    access: Access,
    Path(execution_id): Path<String>,
    query: Parameters,
) -> Result<StatusCode, Problem> {
    query.end()?;
    service.delete(asked(access, proto::DeleteRequest { execution_id })).await?;
    Ok(StatusCode::NO_CONTENT)
}
