//! Executions: start, look, follow, steer.

use std::collections::HashMap;
use std::convert::Infallible;

use axum::Extension;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use cerebelum_worker::ApiError;
use futures::StreamExt;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};
use tokio_util::io::StreamReader;
use tonic::{Code, Status};
use utoipa::ToSchema;

use super::ask::{Answer, Ask, in_json};
use super::body::{JSON_BYTES_MAX, Json, each_once, needs_type, parse, pieces, written};
use super::filter::FilterParameters;
use super::lines::{NDJSON, at_once, lines};
use super::problem::{Problem, Problems};
use super::query::Path;
use crate::client::Verbs;
use crate::convert::refusal;
use crate::json;
use crate::json::shapes::{EventJson, ExecutionsJson, LogJson, ResultJson, StatusJson, SummaryJson};
use crate::kinds::too_large;
use crate::proto;
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
            input: written(from.input),
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
pub(super) async fn start(mut ask: Ask, Json(wish): Json<Start>) -> Answer {
    let wait: Option<Span> = ask.query.take("wait")?;
    let client = ask.end()?;
    let started = client.ask(Verbs::start, wish.into()).await?;
    let Some(wait) = wait else { return Ok(in_json(json::of(&started))) };
    let request = proto::WaitRequest { execution_id: started.execution_id.clone(), timeout_ms: Some(wait.ms) };
    // The execution has started, whatever becomes of the wait.
    let waited = client.ask(Verbs::wait, request).await;
    Ok(in_json(waited.map_or_else(|_| json::of(&started), |now| json::of(&now))))
}

/// Starts many executions: one start a line, one answer a line, in the same order. A start that is refused is answered
/// by a problem, and the others go on.
#[utoipa::path(post, path = "/v1/starts", operation_id = "StartMany", tag = "executions",
    request_body(content = String, content_type = "application/x-ndjson", description = "A start a line"),
    responses((status = 200, body = String, content_type = "application/x-ndjson", description = "A summary or a problem a line"), Problems))]
pub(super) async fn start_many(ask: Ask, headers: HeaderMap, body: Body) -> Answer {
    let client = ask.end()?;
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
    let results = client.service.start_all(&client.access, wishes).await?;
    let texts = results.into_iter().filter_map(|result| result.result).map(|result| {
        let line = match result {
            Started(summary) => json::of(&summary),
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
pub(super) async fn list(mut ask: Ask) -> Answer {
    let (cursor, limit) = (ask.query.take("cursor")?, ask.query.take("limit")?.unwrap_or_default());
    let request = proto::ListRequest { cursor, limit, ..ask.query.take_filter()?.list() };
    ask.show(Verbs::list, request).await
}

/// An execution, with its steps and what it waits for.
#[utoipa::path(get, path = "/v1/executions/{id}", operation_id = "Status", tag = "executions", params(("id" = String, Path)),
    responses((status = 200, body = StatusJson), Problems))]
pub(super) async fn status(ask: Ask, Path(execution_id): Path<String>) -> Answer {
    ask.show(Verbs::status, proto::StatusRequest { execution_id }).await
}

/// Waits for the end of an execution and says how it ended. After the time the answer has the status of now.
#[utoipa::path(get, path = "/v1/executions/{id}/result", operation_id = "Wait", tag = "executions",
    params(("id" = String, Path), ("wait" = Option<String>, Query, description = "A duration of at most 60 s; none if it is left out")),
    responses((status = 200, body = ResultJson), Problems))]
pub(super) async fn result(mut ask: Ask, Path(execution_id): Path<String>) -> Answer {
    let timeout_ms = Some(ask.query.take("wait")?.map_or(0, |wait: Span| wait.ms));
    let status = ask.end()?.ask(Verbs::wait, proto::WaitRequest { execution_id, timeout_ms }).await?;
    Ok(in_json(json::result(&status)))
}

/// Server-sent events: the execution now, and after every change until it has ended. A client that comes back with the
/// last id after the end is told that there is nothing more (204).
#[utoipa::path(get, path = "/v1/executions/{id}/events", operation_id = "Watch", tag = "executions",
    params(("id" = String, Path), ("last-event-id" = Option<String>, Header)),
    responses((status = 200, body = String, content_type = "text/event-stream"), (status = 204, description = "It has ended, and the client knows"), Problems))]
pub(super) async fn events(ask: Ask, Path(execution_id): Path<String>, headers: HeaderMap) -> Answer {
    let mut answers = ask.end()?.ask(Verbs::watch, proto::WatchRequest { execution_id }).await?;
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
                Event::default().event("status").id(id).data(json::of(&status))
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
pub(super) async fn history(mut ask: Ask, Path(execution_id): Path<String>) -> Answer {
    let request = proto::HistoryRequest {
        execution_id,
        run: ask.query.take("run")?,
        after: ask.query.take("after")?.unwrap_or_default(),
        follow: ask.query.take("follow")?.unwrap_or_default(),
    };
    let (client, follow) = (ask.end()?, request.follow);
    if follow {
        client.engine().exists(&request.execution_id).await.map_err(refusal)?;
    }
    let answers = client.ask(Verbs::history, request).await?;
    match follow {
        true => Ok(at_once(answers)),
        false => lines(answers).await,
    }
}

/// The log lines of an execution, one a line.
#[utoipa::path(get, path = "/v1/executions/{id}/logs", operation_id = "Logs", tag = "executions",
    params(("id" = String, Path), ("after" = Option<i64>, Query, description = "Only lines after this `seq`"),
        ("follow" = Option<bool>, Query, description = "Go on with future lines until the execution has ended")),
    responses((status = 200, body = LogJson, content_type = "application/x-ndjson"), Problems))]
pub(super) async fn logs(mut ask: Ask, Path(execution_id): Path<String>) -> Answer {
    let (after, follow) = (ask.query.take("after")?.unwrap_or_default(), ask.query.take("follow")?.unwrap_or_default());
    let client = ask.end()?;
    client.engine().exists(&execution_id).await.map_err(refusal)?;
    Ok(at_once(client.ask(Verbs::logs, proto::LogsRequest { execution_id, after, follow }).await?))
}

/// Sends a signal; the body is its data.
#[utoipa::path(post, path = "/v1/executions/{id}/signals/{name}", operation_id = "Signal", tag = "executions",
    params(("id" = String, Path), ("name" = String, Path)), request_body = Option<serde_json::Value>,
    responses((status = 204, description = "The signal will be delivered"), Problems))]
pub(super) async fn signal(
    ask: Ask,
    Path((execution_id, name)): Path<(String, String)>,
    Json(data): Json<Option<Box<RawValue>>>,
) -> Answer {
    ask.done(Verbs::signal, proto::SignalRequest { execution_id, name, data: written(data) }).await
}

/// Cancels an execution: its compensations run.
#[utoipa::path(post, path = "/v1/executions/{id}/cancel", operation_id = "Cancel", tag = "executions", params(("id" = String, Path)),
    responses((status = 204, description = "The request is recorded"), Problems))]
pub(super) async fn cancel(ask: Ask, Path(execution_id): Path<String>) -> Answer {
    ask.done(Verbs::cancel, proto::CancelRequest { execution_id }).await
}

/// Terminates an execution at once: nothing more of it runs.
#[utoipa::path(post, path = "/v1/executions/{id}/terminate", operation_id = "Terminate", tag = "executions", params(("id" = String, Path)),
    responses((status = 204, description = "The request is recorded"), Problems))]
pub(super) async fn terminate(ask: Ask, Path(execution_id): Path<String>) -> Answer {
    ask.done(Verbs::terminate, proto::TerminateRequest { execution_id }).await
}

/// Pauses an execution until it is resumed.
#[utoipa::path(post, path = "/v1/executions/{id}/pause", operation_id = "Pause", tag = "executions", params(("id" = String, Path)),
    responses((status = 204, description = "The request is recorded"), Problems))]
pub(super) async fn pause(ask: Ask, Path(execution_id): Path<String>) -> Answer {
    ask.done(Verbs::pause, proto::PauseRequest { execution_id }).await
}

/// Resumes an execution that was paused or parked, or that has failed.
#[utoipa::path(post, path = "/v1/executions/{id}/resume", operation_id = "Resume", tag = "executions",
    params(("id" = String, Path), ("force" = Option<bool>, Query, description = "Also if its history does not fit its component")),
    responses((status = 204, description = "The request is recorded"), Problems))]
pub(super) async fn resume(mut ask: Ask, Path(execution_id): Path<String>) -> Answer {
    let force = ask.query.take("force")?.unwrap_or_default();
    ask.done(Verbs::resume, proto::ResumeRequest { execution_id, force }).await
}

/// Deletes an execution that has ended, with its history and logs.
#[utoipa::path(delete, path = "/v1/executions/{id}", operation_id = "Delete", tag = "executions", params(("id" = String, Path)),
    responses((status = 204, description = "It is deleted"), Problems))]
pub(super) async fn delete(ask: Ask, Path(execution_id): Path<String>) -> Answer {
    ask.done(Verbs::delete, proto::DeleteRequest { execution_id }).await
}
