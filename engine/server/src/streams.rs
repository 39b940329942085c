//! Streamed answers: watch, history and logs, fed after each commit and ended when the engine stops.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use cerebelum_history::Position;
use cerebelum_worker::{ApiError, TenantEngine};
use futures::{Stream, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use crate::answers::{AnswerBytes, Leaving, TenantBudget, full, is_counted};
use crate::convert::refusal;
use crate::proto;

/// The number of messages that wait for a slow reader before its stream waits too.
const MESSAGES_AHEAD_MAX: usize = 2;

/// How long a reader may leave the next message unread. Meanwhile the message takes memory.
const SLOW_READER_MAX: Duration = Duration::from_secs(60);

/// The executions that are read at once for a list of all.
const LISTED_AT_ONCE: u32 = 1_000;

/// A message and the memory that it takes.
type Weighed<T> = (T, Option<AnswerBytes>);

/// A stream of answers.
pub(crate) struct Answers<T> {
    messages: ReceiverStream<Result<Weighed<T>, tonic::Status>>,
    leaving: Leaving,
}

impl<T> Answers<T> {
    /// Where the shares of messages are that have been read from this stream.
    pub(crate) fn leaving(&self) -> Leaving {
        self.leaving.clone()
    }
}

impl<T> Stream for Answers<T> {
    type Item = Result<T, tonic::Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(message) = ready!(Pin::new(&mut self.messages).poll_next(context)) else { return Poll::Ready(None) };
        Poll::Ready(Some(message.map(|(message, share)| {
            share.into_iter().for_each(|share| self.leaving.add(share));
            message
        })))
    }
}

/// The sending end of a stream.
pub(crate) struct Reader<T> {
    messages: mpsc::Sender<Result<Weighed<T>, tonic::Status>>,
    budget: TenantBudget,
}

/// Why a stream ends early.
pub(crate) enum Ended {
    /// The engine refused the request.
    Refused(ApiError),
    /// The reader is gone.
    Gone,
    /// The reader does not read.
    Slow,
    /// Other readers of the tenant do not read.
    Full(tonic::Status),
}

impl From<ApiError> for Ended {
    fn from(refused: ApiError) -> Self {
        Self::Refused(refused)
    }
}

impl<T: prost::Message> Reader<T> {
    async fn tell(&self, answer: T) -> Result<(), Ended> {
        let telling = async {
            let share = self.budget.take(answer.encoded_len()).await;
            self.messages.send(Ok((answer, share))).await.map_err(|_| Ended::Gone)
        };
        tokio::time::timeout(SLOW_READER_MAX, telling).await.unwrap_or(Err(Ended::Slow))
    }

    /// The same for a message that may be large and that no page bounds: it does not wait for memory.
    async fn tell_now(&self, answer: T) -> Result<(), Ended> {
        let bytes = answer.encoded_len();
        let share = self.budget.take_now(bytes);
        if share.is_none() && is_counted(bytes) {
            return Err(Ended::Slow);
        }
        let telling = self.messages.send(Ok((answer, share)));
        let told = tokio::time::timeout(SLOW_READER_MAX, telling).await.map_err(|_| Ended::Slow)?;
        told.map_err(|_| Ended::Gone)
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
    budget: TenantBudget,
    feed: impl FnOnce(Reader<T>) -> F,
) -> Answers<T>
where
    T: prost::Message + 'static,
    F: Future<Output = Result<(), Ended>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(MESSAGES_AHEAD_MAX);
    let feed = feed(Reader { messages: sender.clone(), budget });
    tokio::spawn(async move {
        let last = tokio::select! {
            ended = feed => match ended {
                Err(Ended::Refused(refused)) => Some(refusal(refused)),
                Err(Ended::Slow) => Some(slow_refusal()),
                Err(Ended::Full(refused)) => Some(refused),
                Ok(()) | Err(Ended::Gone) => None,
            },
            () = stopped(stopping) => Some(stopping_refusal()),
            refused = lost => Some(refusal(refused)),
            () = sender.closed() => None,
        };
        if let Some(status) = last {
            // A reader that has gone meanwhile, or that does not read, needs no explanation.
            let _ = sender.send_timeout(Err(status), SLOW_READER_MAX).await;
        }
    });
    Answers { messages: ReceiverStream::new(receiver), leaving: Leaving::default() }
}

fn slow_refusal() -> tonic::Status {
    let seconds = SLOW_READER_MAX.as_secs();
    tonic::Status::unavailable(format!("the answer was not read for {seconds} s, or others were not: ask again"))
}

/// An execution, or its list entry, now and after every change.
pub(crate) async fn feed_changes<S, T: prost::Message + From<S>>(
    changes: impl Stream<Item = Result<S, ApiError>>,
    reader: Reader<T>,
) -> Result<(), Ended> {
    let mut changes = pin!(changes);
    while let Some(now) = changes.next().await {
        reader.tell_now(now?.into()).await?;
    }
    Ok(())
}

/// All executions that match, from the cursor on.
pub(crate) async fn feed_list(
    engine: TenantEngine,
    request: proto::ListRequest,
    reader: Reader<proto::Summary>,
) -> Result<(), Ended> {
    let mut request = proto::ListRequest { limit: LISTED_AT_ONCE, ..request };
    loop {
        // A reader may be slow: only the reading of a page keeps others from reading theirs, and the page itself counts as
        // an answer for as long as it is in memory.
        let page = reader.budget.whole().await.map_err(Ended::Full)?;
        let (executions, next) = engine.list(request.clone().try_into()?).await?;
        let executions: Vec<proto::Summary> = executions.into_iter().map(Into::into).collect();
        let bytes = executions.iter().map(prost::Message::encoded_len).sum();
        let held = reader.budget.take_now(bytes).ok_or_else(|| Ended::Full(full()))?;
        drop(page);
        for execution in executions {
            reader.tell(execution).await?;
        }
        drop(held);
        if next.is_none() {
            return Ok(());
        }
        request.cursor = next;
    }
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
        let _page = reader.budget.page().await.map_err(Ended::Full)?;
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
        let _page = reader.budget.page().await.map_err(Ended::Full)?;
        let lines = engine.logs(id, *after).await?;
        let Some(last) = lines.last() else { return Ok(()) };
        *after = last.seq;
        for line in lines {
            reader.tell(line.into()).await?;
        }
    }
}
