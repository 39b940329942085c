//! Limits on incoming requests: the bytes of all of them together, and how slowly one may arrive.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use cerebelum_worker::{Engine, TenantId, TenantMap, at_most_one_of};
use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt};
use tonic::Status;

use crate::access::Access;
use crate::convert::refusal;

/// The bytes of requests that may be in memory until these requests are answered. One tenant may have as many of them as
/// are still free: half if it is alone, then half of the rest, so that no number of tenants takes the last of them. They are
/// an eighth of the memory that the process may have if that is less.
const REQUEST_BYTES_MAX: usize = 256 << 20;
/// The bytes of the requests of all clients without a token, whose forms are small.
const STRANGER_REQUEST_BYTES_MAX: usize = 16 << 20;
/// The beginning of a caller's request that is not counted: what is small gets in whatever others send.
const FREE_BYTES: usize = 4 << 10;
/// The same of a request without a token: a login is possible.
const STRANGER_FREE_BYTES: usize = 1 << 10;
/// The calls whose messages are processed as they arrive, so that only a part of their bytes is in memory at once.
const WORKED_OFF: [&str; 2] = ["/cerebelum.v1.Engine/StartMany", "/v1/starts"];
/// The bytes of that part: the starts that are passed to the engine together, the message that exceeded that bound, and
/// the message after it.
const WORKED_OFF_BYTES_MAX: usize = 16 << 20;
/// How long a request without a token may take to arrive.
const STRANGER_ARRIVAL_MAX: Duration = Duration::from_secs(30);
/// In this time each further [`PACE_BYTES`] of a caller's request arrive, or its end. Of what is processed as it arrives,
/// anything at all.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// See [`SILENCE_MAX`].
const PACE_BYTES: usize = 256 << 10;

/// Bytes of requests that are not answered yet: of all clients together, of each tenant, and of those without a token.
#[derive(Debug, Clone)]
pub(crate) struct Intake {
    bytes_max: usize,
    all: Arc<AtomicUsize>,
    tenants: Arc<TenantMap<AtomicUsize>>,
}

impl Default for Intake {
    fn default() -> Self {
        Self { bytes_max: at_most_one_of(8, REQUEST_BYTES_MAX), all: Arc::default(), tenants: Arc::default() }
    }
}

impl Intake {
    /// The share of a request that begins: of a tenant, or of a client without a token.
    fn begin(&self, tenant: Option<TenantId>, own_max: usize) -> Taken {
        let (is_caller, free) = (tenant.is_some(), if tenant.is_some() { FREE_BYTES } else { STRANGER_FREE_BYTES });
        let (all, tenant) = (self.all.clone(), self.tenants.of(tenant, AtomicUsize::default));
        let (free, own, bytes_max) = (AtomicUsize::new(free), AtomicUsize::new(0), self.bytes_max);
        Taken { bytes_max, all, tenant, is_caller, free, own, own_max }
    }
}

/// The share of one request.
struct Taken {
    /// The most that all requests may take.
    bytes_max: usize,
    all: Arc<AtomicUsize>,
    /// Of its tenant, or of all clients without a token.
    tenant: Arc<AtomicUsize>,
    is_caller: bool,
    /// The number of its bytes that are still not counted.
    free: AtomicUsize,
    own: AtomicUsize,
    /// The number of its bytes that can be in memory at once.
    own_max: usize,
}

impl Taken {
    fn add(&self, bytes: usize) -> Result<(), Status> {
        let free = self.free.load(Ordering::Relaxed).min(bytes);
        self.free.fetch_sub(free, Ordering::Relaxed);
        let bytes = (bytes - free).min(self.own_max - self.own.load(Ordering::Relaxed));
        if bytes == 0 {
            return Ok(());
        }
        self.own.fetch_add(bytes, Ordering::Relaxed);
        // Both are counted in any case, because both are given back at the end.
        let tenant = self.tenant.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let all = self.all.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let fits = match self.is_caller {
            true => tenant <= self.bytes_max.saturating_sub(all),
            false => tenant <= STRANGER_REQUEST_BYTES_MAX && all <= self.bytes_max,
        };
        if fits {
            return Ok(());
        }
        let whose = if self.is_caller { "of your tenant" } else { "without a token" };
        Err(Status::resource_exhausted(format!(
            "the requests under way are too large, {} MiB {whose} and {} MiB in all: try again in a moment",
            tenant >> 20,
            all >> 20
        )))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.all.fetch_sub(*self.own.get_mut(), Ordering::Relaxed);
        self.tenant.fetch_sub(*self.own.get_mut(), Ordering::Relaxed);
    }
}

/// How slowly a request may arrive, and how much of it has.
struct Arrival {
    /// From here on the time is counted.
    since: Instant,
    /// What has arrived since then.
    bytes: usize,
    /// With so many bytes the time begins anew.
    step: usize,
    time: Duration,
    /// The caller's access, which may end meanwhile.
    access: Option<(Access, Engine)>,
    /// Resolves when it has. Most requests are there at once and need none.
    lost: Option<BoxFuture<'static, Status>>,
}

impl Arrival {
    fn new(access: Option<(Access, Engine)>, is_worked_off: bool) -> Self {
        let (step, time) = match &access {
            None => (usize::MAX, STRANGER_ARRIVAL_MAX),
            Some(_) if is_worked_off => (1, SILENCE_MAX),
            Some(_) => (PACE_BYTES, SILENCE_MAX),
        };
        Self { since: Instant::now(), bytes: 0, step, time, access, lost: None }
    }

    fn note(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes >= self.step {
            (self.since, self.bytes) = (Instant::now(), 0);
        }
    }

    /// Waits for what is to arrive; the status if that takes too long, or the caller's access has ended.
    async fn wait<T>(&mut self, arriving: impl Future<Output = T>) -> Result<T, Status> {
        let mut arriving = std::pin::pin!(arriving);
        if let Some(there) = arriving.as_mut().now_or_never() {
            return Ok(there);
        }
        let left = self.time.saturating_sub(self.since.elapsed());
        let access = &mut self.access;
        let lost = self.lost.get_or_insert_with(|| match access.take() {
            Some((access, engine)) => access.lost(engine).map(refusal).boxed(),
            None => std::future::pending().boxed(),
        });
        tokio::select! {
            biased;
            there = arriving => Ok(there),
            refused = lost => Err(refused),
            () = tokio::time::sleep(left) => Err(self.late()),
        }
    }

    fn late(&self) -> Status {
        let seconds = self.time.as_secs();
        Status::deadline_exceeded(match self.step {
            usize::MAX => format!("a request without a token takes at most {seconds} s"),
            1 => format!("the request said nothing for {seconds} s"),
            step => format!("the request came too slowly: less than {} KiB in {seconds} s", step >> 10),
        })
    }
}

/// Counts the bytes of a request until its answer begins.
pub(crate) async fn count(State((all, engine)): State<(Intake, Engine)>, request: Request, next: Next) -> Response {
    let is_worked_off = WORKED_OFF.contains(&request.uri().path());
    let own_max = if is_worked_off { WORKED_OFF_BYTES_MAX } else { usize::MAX };
    let access = request.extensions().get::<Access>().cloned();
    let taken = Arc::new(all.begin(access.as_ref().map(|access| access.caller.tenant), own_max));
    let arrival = Arrival::new(access.map(|access| (access, engine)), is_worked_off);
    let counted = taken.clone();
    let request = request.map(|body| Body::from_stream(pieces(body, counted, arrival)));
    let response = next.run(request).await;
    drop(taken);
    response
}

/// The pieces of a body, each as soon as it has been counted.
fn pieces(body: Body, taken: Arc<Taken>, arrival: Arrival) -> impl Stream<Item = Result<Bytes, Status>> + Send {
    futures::stream::unfold(Some((body.into_data_stream(), taken, arrival)), |state| async move {
        let (mut rest, taken, mut arrival) = state?;
        let piece = match arrival.wait(rest.next()).await {
            Ok(piece) => piece?.map_err(|_| Status::cancelled("the request broke off")),
            Err(late) => Err(late),
        };
        let piece = piece.and_then(|piece| taken.add(piece.len()).map(|()| piece));
        let rest = piece.as_ref().ok().map(|piece| {
            arrival.note(piece.len());
            (rest, taken, arrival)
        });
        Some((piece, rest))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_many_tenants_send_too_much_there_is_room_for_the_next() {
        let intake = Intake::default();
        let request = |tenant| {
            let request = intake.begin(Some(TenantId(tenant)), usize::MAX);
            assert!(request.add(FREE_BYTES).is_ok(), "a small request is never refused");
            request
        };
        let mut held = Vec::new();
        for tenant in 1..=8 {
            let rest = REQUEST_BYTES_MAX >> tenant;
            held.push(request(tenant));
            assert!(held.last().unwrap().add(rest).is_ok(), "{tenant} has half of what is free");
            let refused = request(tenant).add(1).unwrap_err();
            assert!(refused.message().contains("MiB of your tenant"), "{refused}");
        }
        held.clear();
        assert!(request(1).add(REQUEST_BYTES_MAX / 2).is_ok());
    }

    #[test]
    fn clients_without_a_token_take_a_small_part_and_can_always_log_in() {
        let intake = Intake::default();
        let form = intake.begin(None, usize::MAX);
        assert!(form.add(STRANGER_FREE_BYTES + STRANGER_REQUEST_BYTES_MAX).is_ok());
        let refused = form.add(1).unwrap_err();
        assert!(refused.message().contains("16 MiB without a token"), "{refused}");
        let login = intake.begin(None, usize::MAX);
        assert!(login.add(STRANGER_FREE_BYTES).is_ok());
        assert!(login.add(1).is_err());
        assert!(intake.begin(Some(TenantId(1)), usize::MAX).add(REQUEST_BYTES_MAX / 3).is_ok());
    }

    #[tokio::test]
    async fn a_request_that_does_not_arrive_in_time_ends() {
        let taken = Arc::new(Intake::default().begin(None, usize::MAX));
        let silent = Body::from_stream(futures::stream::pending::<Result<Bytes, Status>>());
        let arrival =
            Arrival { since: Instant::now().checked_sub(STRANGER_ARRIVAL_MAX).unwrap(), ..Arrival::new(None, false) };
        let mut pieces = Box::pin(pieces(silent, taken, arrival));
        let late = pieces.next().await.unwrap().unwrap_err();
        assert_eq!(late.message(), "a request without a token takes at most 30 s");
        assert!(pieces.next().await.is_none());
    }

    #[test]
    fn a_trickle_does_not_begin_the_time_anew() {
        let began = Instant::now();
        let mut arrival = Arrival { step: PACE_BYTES, since: began, ..Arrival::new(None, false) };
        for _ in 0..4_000 {
            arrival.note(1);
        }
        assert_eq!((arrival.since, arrival.bytes), (began, 4_000));
        assert!(arrival.late().message().contains("less than 256 KiB"), "{}", arrival.late());
        arrival.note(PACE_BYTES);
        assert!(arrival.since > began && arrival.bytes == 0);
    }
}
