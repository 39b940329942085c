//! The bytes of answers that clients have not read yet: bounded for all clients together, and for those of each tenant.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use cerebelum_worker::{TenantId, TenantMap, at_most_one_of};
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tonic::Status;

use crate::access::Access;
use crate::kinds;
use crate::places::Connection;
use crate::rest::Problem;

/// The bytes of answers that may wait to be read.
const ANSWER_BYTES_MAX: usize = 128 << 20;
/// The same for the answers of one tenant, so that others always get theirs.
const TENANT_ANSWER_BYTES_MAX: usize = 96 << 20;
/// The same for all clients without a token.
const STRANGER_ANSWER_BYTES_MAX: usize = 16 << 20;
/// Answers and pieces of this size are never counted: the limits on connections and calls bound them.
const SMALL_BYTES_MAX: usize = 4 << 10;
/// The pages of histories and logs that the streams of one tenant have in memory at once, and the statuses and lists that
/// are made for it. Further ones wait.
const TENANT_PAGES_MAX: usize = 32;
/// What a status or a list counts as.
const WHOLE_PAGES: u32 = 8;
/// How long a stream waits for such a page.
const PAGE_WAIT_MAX: Duration = Duration::from_secs(10);
/// How long an answer that is counted may take to be written, besides the time that its bytes take at the slowest pace.
/// Streams have a time of their own.
const WRITE_MAX: Duration = Duration::from_secs(60);
const WRITE_BYTES_PER_SECOND_MIN: u64 = 64 << 10;
/// The unit in which answers are counted.
const UNIT_BYTES: usize = 1 << 10;

/// What all answers may take.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    bytes_max: usize,
    all: Arc<Semaphore>,
    tenants: Arc<TenantMap<Own>>,
}

/// What belongs to one tenant.
#[derive(Debug)]
struct Own {
    /// All that this tenant may take at once.
    units: usize,
    /// What of it is free.
    bytes: Arc<Semaphore>,
    pages: Arc<Semaphore>,
}

impl Default for Budget {
    fn default() -> Self {
        let bytes_max = at_most_one_of(8, ANSWER_BYTES_MAX);
        Self { bytes_max, all: Arc::new(Semaphore::new(bytes_max / UNIT_BYTES)), tenants: Arc::default() }
    }
}

impl Budget {
    /// What the answers of a tenant may take, or those of all clients without one.
    pub(crate) fn of(&self, tenant: Option<TenantId>) -> TenantBudget {
        let own = self.tenants.of(tenant, || {
            let bytes = if tenant.is_some() { TENANT_ANSWER_BYTES_MAX } else { STRANGER_ANSWER_BYTES_MAX };
            let units = bytes.min(self.bytes_max / 4 * 3) / UNIT_BYTES;
            let bytes = Arc::new(Semaphore::new(units));
            Own { units, bytes, pages: Arc::new(Semaphore::new(TENANT_PAGES_MAX)) }
        });
        TenantBudget { all: self.all.clone(), own }
    }
}

/// What the answers of one tenant may take.
#[derive(Debug, Clone)]
pub(crate) struct TenantBudget {
    all: Arc<Semaphore>,
    own: Arc<Own>,
}

/// The bytes that one answer takes until this is dropped.
#[derive(Debug)]
pub(crate) struct AnswerBytes {
    _of_tenant: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
    /// What the tenant has is remembered as long as anything of it is taken.
    _own: Arc<Own>,
}

/// A page, or what counts as some, until this is dropped.
#[derive(Debug)]
pub(crate) struct Pages {
    _of_tenant: OwnedSemaphorePermit,
    _own: Arc<Own>,
}

impl TenantBudget {
    /// Takes these bytes if they are free.
    pub(crate) fn take_now(&self, bytes: usize) -> Option<AnswerBytes> {
        let units = self.units(bytes);
        let _of_tenant = self.own.bytes.clone().try_acquire_many_owned(units).ok()?;
        let _of_all = self.all.clone().try_acquire_many_owned(units).ok()?;
        Some(AnswerBytes { _of_tenant, _of_all, _own: self.own.clone() })
    }

    /// Waits until a page may be read. It counts until the result is dropped.
    pub(crate) async fn page(&self) -> Result<Pages, Status> {
        self.pages(1).await
    }

    /// Waits until a status or a list may be made, which has some megabytes, in several forms.
    pub(crate) async fn whole(&self) -> Result<Pages, Status> {
        self.pages(WHOLE_PAGES).await
    }

    async fn pages(&self, pages: u32) -> Result<Pages, Status> {
        let pages = self.own.pages.clone().acquire_many_owned(pages);
        let waited = tokio::time::timeout(PAGE_WAIT_MAX, pages).await;
        let _of_tenant = waited.ok().and_then(Result::ok).ok_or_else(full)?;
        Ok(Pages { _of_tenant, _own: self.own.clone() })
    }

    /// What an answer is counted as: all there is, if it has more. A single answer is never too large to be sent.
    fn units(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT_BYTES).min(self.own.units)).expect("there are few units")
    }

    /// Takes these bytes as soon as they are free. Few bytes take nothing.
    pub(crate) async fn take(&self, bytes: usize) -> Option<AnswerBytes> {
        if !is_counted(bytes) {
            return None;
        }
        let units = self.units(bytes);
        let _of_tenant = self.own.bytes.clone().acquire_many_owned(units).await.ok()?;
        let _of_all = self.all.clone().acquire_many_owned(units).await.ok()?;
        Some(AnswerBytes { _of_tenant, _of_all, _own: self.own.clone() })
    }
}

/// Whether an answer, or a piece of one, is large enough to be counted.
pub(crate) const fn is_counted(bytes: usize) -> bool {
    bytes > SMALL_BYTES_MAX
}

/// The shares of messages that have left their stream and are not yet in a piece of the body.
#[derive(Debug, Clone, Default)]
pub(crate) struct Leaving(Arc<Mutex<Vec<AnswerBytes>>>);

impl Leaving {
    pub(crate) fn add(&self, share: AnswerBytes) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(share);
    }

    pub(crate) fn take(&self) -> Vec<AnswerBytes> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Counts the bytes of an answer until they are written to the connection. A whole answer for which there is no room is
/// refused; streams count their messages themselves, and wait.
pub(crate) async fn weigh(State(budget): State<Budget>, request: Request, next: Next) -> Response {
    let tenant = request.extensions().get::<Access>().map(|access| access.caller.tenant);
    let connection = request.extensions().get::<Arc<Connection>>().map(Arc::downgrade).unwrap_or_default();
    let mut response = next.run(request).await;
    let budget = budget.of(tenant);
    let leaving = response.extensions_mut().remove::<Leaving>();
    let mut share = None;
    if let (None, Some(bytes)) = (&leaving, response.body().size_hint().exact()) {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        if is_counted(bytes) {
            share = budget.take_now(bytes);
            if share.is_none() {
                return Problem::from(full()).into_response();
            }
        }
    }
    let grpc = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|held| held.as_bytes().starts_with(b"application/grpc"));
    let kind = match (leaving, share, grpc) {
        (Some(leaving), ..) => Kind::Stream(leaving),
        (None, Some(share), _) => Kind::Counted(Some(share)),
        (None, None, true) => Kind::Grpc(budget),
        (None, None, false) => return response,
    };
    response.map(|body| Body::new(Weighed { body, kind, connection }))
}

/// The refusal of an answer for which there is no memory.
pub(crate) fn full() -> Status {
    Status::resource_exhausted(
        "answers that were not read yet take too much memory: read them, or try again in a moment",
    )
}

/// How the pieces of a body are counted.
enum Kind {
    /// By the stream of which they are messages.
    Stream(Leaving),
    /// The whole body, before it began.
    Counted(Option<AnswerBytes>),
    /// As they come; the answer ends with a refusal if there is no room.
    Grpc(TenantBudget),
}

struct Weighed {
    body: Body,
    kind: Kind,
    connection: Weak<Connection>,
}

impl HttpBody for Weighed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(context)) else { return Poll::Ready(None) };
        let bytes = match frame?.into_data() {
            Ok(bytes) => bytes,
            Err(mut end) => {
                end.trailers_mut().into_iter().for_each(kinds::explain);
                return Poll::Ready(Some(Ok(end)));
            }
        };
        let is_stream = matches!(self.kind, Kind::Stream(_));
        let shares = match &mut self.kind {
            Kind::Stream(leaving) => leaving.take(),
            Kind::Counted(share) => share.take().into_iter().collect(),
            Kind::Grpc(_) if !is_counted(bytes.len()) => Vec::new(),
            Kind::Grpc(budget) => match budget.take_now(bytes.len()) {
                Some(share) => vec![share],
                None => {
                    self.body = Body::empty();
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers_of(&full())))));
                }
            },
        };
        if shares.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        let _written = (!is_stream).then(|| in_time(self.connection.clone(), write_max(bytes.len())));
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(Held { bytes, _shares: shares, _written })))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// How long so many bytes may take to be written.
fn write_max(bytes: usize) -> Duration {
    WRITE_MAX + Duration::from_secs(bytes as u64 / WRITE_BYTES_PER_SECOND_MIN)
}

/// Closes the connection unless the returned value is dropped within this time, as it is with bytes that are written.
fn in_time(connection: Weak<Connection>, most: Duration) -> oneshot::Sender<()> {
    let (written, waits) = oneshot::channel();
    tokio::spawn(async move {
        if tokio::time::timeout(most, waits).await.is_err()
            && let Some(connection) = connection.upgrade()
        {
            connection.give_up();
        }
    });
    written
}

/// A refusal at the end of a gRPC answer.
fn trailers_of(refused: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(refused.code() as i32));
    // It is an answer of the engine and has no characters that would have to be escaped.
    if let Ok(message) = HeaderValue::from_str(refused.message()) {
        trailers.insert("grpc-message", message);
    }
    kinds::explain(&mut trailers);
    trailers
}

/// Bytes that count until the connection has written them.
struct Held {
    bytes: Bytes,
    _shares: Vec<AnswerBytes>,
    _written: Option<oneshot::Sender<()>>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_tenant_whose_answers_are_not_read_leaves_room_for_others() {
        let budget = Budget::default();
        let first = budget.of(Some(TenantId(1)));
        let mut held = Vec::new();
        while let Some(share) = first.take_now(1 << 20) {
            held.push(share);
        }
        assert_eq!(held.len(), TENANT_ANSWER_BYTES_MAX >> 20);
        assert!(budget.of(Some(TenantId(1))).take_now(5_000).is_none());
        assert!(first.take(SMALL_BYTES_MAX).await.is_none(), "few bytes wait for nothing");
        assert!(budget.of(Some(TenantId(2))).take_now(1 << 20).is_some());
        let strangers = budget.of(None);
        assert!(strangers.take_now(usize::MAX).is_some(), "a single answer is never too large");
        let waiting = tokio::spawn({
            let first = first.clone();
            async move { first.take(1 << 20).await.is_some() }
        });
        held.pop();
        assert!(waiting.await.unwrap());
        drop(first);
        held.push(budget.of(Some(TenantId(1))).take_now(1 << 20).unwrap());
        assert!(
            budget.of(Some(TenantId(1))).take_now(5_000).is_none(),
            "no request is there, and the answers still are"
        );
    }

    #[tokio::test]
    async fn pages_count_while_no_request_waits_for_one() {
        let budget = Budget::default();
        let free = || budget.of(Some(TenantId(1))).own.pages.available_permits();
        let page = budget.of(Some(TenantId(1))).whole().await.unwrap();
        assert_eq!(free(), TENANT_PAGES_MAX - WHOLE_PAGES as usize);
        drop(page);
        assert_eq!(free(), TENANT_PAGES_MAX);
    }

    #[test]
    fn a_refusal_is_valid_in_trailers() {
        let trailers = trailers_of(&full());
        assert_eq!(trailers["grpc-status"], "8");
        assert!(trailers["grpc-message"].to_str().unwrap().contains("not read"));
    }

    #[tokio::test]
    async fn a_connection_on_which_an_answer_is_not_read_is_given_up() {
        const MOST: Duration = Duration::from_millis(50);
        let places = crate::places::Places::new(Duration::ZERO);
        let meet = || places.meet([127, 0, 0, 1].into()).unwrap();
        let (read, unread) = (meet(), meet());
        drop(in_time(Arc::downgrade(&read), MOST));
        let _unwritten = in_time(Arc::downgrade(&unread), MOST);
        unread.unread().await;
        let waited = tokio::time::timeout(3 * MOST, read.unread()).await;
        assert!(waited.is_err(), "an answer that was read leaves its connection alone");
        assert_eq!(write_max(1 << 20).as_secs(), 60 + 16, "a minute, and a second for each 64 KiB");
    }
}
