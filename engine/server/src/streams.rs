//! Streamed answers: watch, history and logs, fed after each commit and ended when the engine stops.

use std::pin::pin;

use cerebelum_history::Position;
use cerebelum_worker::{ApiError, TenantEngine};
use futures::StreamExt;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use crate::convert::refusal;
use crate::proto;

/// The number of messages that wait for a slow reader before its stream waits too.
const MESSAGES_AHEAD_MAX: usize = 2;

/// A stream of answers.
pub(crate) type Answers<T> = ReceiverStream<Result<T, tonic::Status>>;

/// The sending end of a stream.
pub(crate) struct Reader<T>(mpsc::Sender<Result<T, tonic::Status>>);

/// Why a stream ends early.
pub(crate) enum Ended {
    /// The engine refused the request.
    Refused(ApiError),
    /// The reader is gone.
    Gone,
}

impl From<ApiError> for Ended {
    fn from(refused: ApiError) -> Self {
        Self::Refused(refused)
    }
}

impl<T> Reader<T> {
    async fn tell(&self, answer: T) -> Result<(), Ended> {
        self.0.send(Ok(answer)).await.map_err(|_| Ended::Gone)
    }
}

/// The status that clients get when the engine stops.
pub(crate) fn stopping_refusal() -> tonic::Status {
    tonic::Status::unavailable("the engine is stopping; ask again when it is back")
}

/// Resolves when the engine is asked to stop.
pub(crate) async fn stopped(mut stopping: watch::Receiver<bool>) {
    // An error means that the server itself is gone, which is also a stop.
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// Runs `feed` beside its reader until it is done, the reader has gone or has lost its access, or the engine stops.
pub(crate) fn answers<T, F>(
    stopping: watch::Receiver<bool>,
    lost: impl Future<Output = ApiError> + Send + 'static,
    feed: impl FnOnce(Reader<T>) -> F,
) -> Answers<T>
where
    T: Send + 'static,
    F: Future<Output = Result<(), Ended>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(MESSAGES_AHEAD_MAX);
    let feed = feed(Reader(sender.clone()));
    tokio::spawn(async move {
        let last = tokio::select! {
            ended = feed => match ended {
                Err(Ended::Refused(refused)) => Some(refusal(refused)),
                Ok(()) | Err(Ended::Gone) => None,
            },
            () = stopped(stopping) => Some(stopping_refusal()),
            refused = lost => Some(refusal(refused)),
            () = sender.closed() => None,
        };
        if let Some(status) = last {
            // A reader that has gone meanwhile needs no explanation.
            let _ = sender.send(Err(status)).await;
        }
    });
    ReceiverStream::new(receiver)
}

/// An execution now and after every change.
pub(crate) async fn feed_watch(
    engine: TenantEngine,
    id: String,
    reader: Reader<proto::ExecutionStatus>,
) -> Result<(), Ended> {
    let mut changes = pin!(engine.watch(&id));
    while let Some(status) = changes.next().await {
        reader.tell(status?.into()).await?;
    }
    Ok(())
}

/// The events of an execution; with `follow` also future ones, across runs.
pub(crate) async fn feed_history(
    engine: TenantEngine,
    request: proto::HistoryRequest,
    reader: Reader<proto::Event>,
) -> Result<(), Ended> {
    let id = request.execution_id;
    let mut after = Position(request.after);
    if !request.follow {
        return tell_events(&engine, (&id, request.run), &mut after, &reader).await;
    }
    let mut reading = request.run;
    let mut changes = pin!(engine.follow(&id));
    while let Some(summary) = changes.next().await {
        let current = summary?.run;
        let mut run = reading.unwrap_or(current);
        while run < current {
            tell_events(&engine, (&id, Some(run)), &mut after, &reader).await?;
            (run, after) = (run + 1, Position(0));
        }
        tell_events(&engine, (&id, Some(run)), &mut after, &reader).await?;
        reading = Some(run);
    }
    Ok(())
}

async fn tell_events(
    engine: &TenantEngine,
    (id, run): (&str, Option<u32>),
    after: &mut Position,
    reader: &Reader<proto::Event>,
) -> Result<(), Ended> {
    loop {
        let events = engine.history(id, run, *after).await?;
        let Some(last) = events.last() else { return Ok(()) };
        *after = last.position;
        for event in events {
            reader.tell(event.into()).await?;
        }
    }
}

/// The log lines of an execution; with `follow` also future ones.
pub(crate) async fn feed_logs(
    engine: TenantEngine,
    request: proto::LogsRequest,
    reader: Reader<proto::LogLine>,
) -> Result<(), Ended> {
    let (id, mut after) = (request.execution_id, request.after);
    if !request.follow {
        return tell_lines(&engine, &id, &mut after, &reader).await;
    }
    let mut changes = pin!(engine.follow(&id));
    while let Some(summary) = changes.next().await {
        summary?;
        tell_lines(&engine, &id, &mut after, &reader).await?;
    }
    Ok(())
}

async fn tell_lines(
    engine: &TenantEngine,
    id: &str,
    after: &mut i64,
    reader: &Reader<proto::LogLine>,
) -> Result<(), Ended> {
    loop {
        let lines = engine.logs(id, *after).await?;
        let Some(last) = lines.last() else { return Ok(()) };
        *after = last.seq;
        for line in lines {
            reader.tell(line.into()).await?;
        }
    }
}
