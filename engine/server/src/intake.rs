//! Limits on incoming requests: the bytes of all of them together, and the silence within one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use cerebelum_worker::{TenantId, TenantMap};
use futures::StreamExt;
use tonic::Status;

use crate::access::Access;

/// The bytes of requests that may be in memory until these requests are answered.
const REQUEST_BYTES_MAX: usize = 256 << 20;
/// The same for the requests of one tenant, so that others always get theirs in.
const TENANT_REQUEST_BYTES_MAX: usize = 192 << 20;
/// The same for the requests of all clients without a token, whose forms are small.
const STRANGER_REQUEST_BYTES_MAX: usize = 16 << 20;
/// The beginning of such a request that is not counted: a login is possible whatever other clients send.
const STRANGER_FREE_BYTES: usize = 1 << 10;
/// How long such a request may take to arrive.
const STRANGER_ARRIVAL_MAX: Duration = Duration::from_secs(30);
/// The calls whose messages are processed as they arrive, so that only a part of their bytes is in memory at once.
const WORKED_OFF: [&str; 2] = ["/cerebelum.v1.Engine/StartMany", "/v1/starts"];
/// The bytes of that part: the starts that are passed to the engine together, the message that exceeded that bound, and
/// the message after it.
const WORKED_OFF_BYTES_MAX: usize = 16 << 20;
/// How long an incomplete request may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Bytes of requests that are not answered yet: of all clients together, of each tenant, and of those without a token.
#[derive(Debug, Clone, Default)]
pub(crate) struct Intake {
    all: Arc<AtomicUsize>,
    tenants: Arc<TenantMap<AtomicUsize>>,
}

impl Intake {
    /// The share of a request that begins: of a tenant, or of a client without a token.
    fn begin(&self, tenant: Option<TenantId>, own_max: usize) -> Taken {
        let (whose, tenant_max, free) = match tenant {
            Some(_) => ("your tenant's requests", TENANT_REQUEST_BYTES_MAX, 0),
            None => ("requests without a token", STRANGER_REQUEST_BYTES_MAX, STRANGER_FREE_BYTES),
        };
        let (all, tenant) = (self.all.clone(), self.tenants.of(tenant, AtomicUsize::default));
        Taken { all, tenant, whose, tenant_max, free: AtomicUsize::new(free), own: AtomicUsize::new(0), own_max }
    }
}

/// The share of one request.
struct Taken {
    all: Arc<AtomicUsize>,
    tenant: Arc<AtomicUsize>,
    whose: &'static str,
    tenant_max: usize,
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
        let counts = [(&self.tenant, self.whose, self.tenant_max), (&self.all, "the requests", REQUEST_BYTES_MAX)];
        // Both are counted in any case, because both are given back at the end.
        let over = counts.map(|(count, whose, max)| {
            (count.fetch_add(bytes, Ordering::Relaxed) + bytes > max).then_some((whose, max >> 20))
        });
        match over.into_iter().flatten().next() {
            Some((whose, mib)) => Err(Status::resource_exhausted(format!(
                "{whose} under way have more than {mib} MiB: try again in a moment"
            ))),
            None => Ok(()),
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.all.fetch_sub(*self.own.get_mut(), Ordering::Relaxed);
        self.tenant.fetch_sub(*self.own.get_mut(), Ordering::Relaxed);
    }
}

/// Counts the bytes of a request until its answer begins.
pub(crate) async fn count(State(all): State<Intake>, request: Request, next: Next) -> Response {
    let own_max = if WORKED_OFF.contains(&request.uri().path()) { WORKED_OFF_BYTES_MAX } else { usize::MAX };
    let tenant = request.extensions().get::<Access>().map(|access| access.caller.tenant);
    let taken = Arc::new(all.begin(tenant, own_max));
    let counted = taken.clone();
    let until = tenant.is_none().then(|| Instant::now() + STRANGER_ARRIVAL_MAX);
    let request = request.map(|body| Body::from_stream(pieces(body, counted, until)));
    let response = next.run(request).await;
    drop(taken);
    response
}

/// The pieces of a body, each as soon as it has been counted. The last one has to be there at `until`.
fn pieces(
    body: Body,
    taken: Arc<Taken>,
    until: Option<Instant>,
) -> impl futures::Stream<Item = Result<Bytes, Status>> + Send {
    futures::stream::unfold(Some((body.into_data_stream(), taken)), move |state| async move {
        let (mut rest, taken) = state?;
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let patience = left.map_or(SILENCE_MAX, |left| left.min(SILENCE_MAX));
        let Ok(piece) = tokio::time::timeout(patience, rest.next()).await else {
            let late = match left {
                Some(_) => format!("a request without a token takes at most {} s", STRANGER_ARRIVAL_MAX.as_secs()),
                None => format!("the request said nothing for {} s", SILENCE_MAX.as_secs()),
            };
            return Some((Err(Status::deadline_exceeded(late)), None));
        };
        let piece = piece?.map_err(|_| Status::cancelled("the request broke off"));
        let piece = piece.and_then(|piece| taken.add(piece.len()).map(|()| piece));
        let rest = piece.is_ok().then_some((rest, taken));
        Some((piece, rest))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_that_sends_too_much_leaves_room_for_others() {
        let intake = Intake::default();
        let request = |tenant| intake.begin(Some(TenantId(tenant)), usize::MAX);
        let first = request(1);
        assert!(first.add(TENANT_REQUEST_BYTES_MAX).is_ok());
        let refused = request(1).add(1).unwrap_err();
        assert!(refused.message().starts_with("your tenant's requests under way have more than 192 MiB"), "{refused}");
        let other = request(2);
        assert!(other.add(REQUEST_BYTES_MAX - TENANT_REQUEST_BYTES_MAX).is_ok());
        assert!(request(3).add(1).unwrap_err().message().starts_with("the requests under way"));
        drop(first);
        assert!(request(1).add(TENANT_REQUEST_BYTES_MAX).is_ok());
    }

    #[test]
    fn clients_without_a_token_take_a_small_part_and_can_always_log_in() {
        let intake = Intake::default();
        let form = intake.begin(None, usize::MAX);
        assert!(form.add(STRANGER_FREE_BYTES + STRANGER_REQUEST_BYTES_MAX).is_ok());
        let refused = form.add(1).unwrap_err();
        assert!(refused.message().starts_with("requests without a token under way have more than 16 MiB"), "{refused}");
        let login = intake.begin(None, usize::MAX);
        assert!(login.add(STRANGER_FREE_BYTES).is_ok());
        assert!(login.add(1).is_err());
        assert!(intake.begin(Some(TenantId(1)), usize::MAX).add(TENANT_REQUEST_BYTES_MAX).is_ok());
    }

    #[tokio::test]
    async fn a_request_that_does_not_arrive_in_time_ends() {
        let taken = Arc::new(Intake::default().begin(None, usize::MAX));
        let silent = Body::from_stream(futures::stream::pending::<Result<Bytes, Status>>());
        let mut pieces = Box::pin(pieces(silent, taken, Some(Instant::now())));
        let late = pieces.next().await.unwrap().unwrap_err();
        assert_eq!(late.message(), "a request without a token takes at most 30 s");
        assert!(pieces.next().await.is_none());
    }
}
