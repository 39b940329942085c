//! Limits on incoming requests: the bytes of all of them together, and the silence within one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use futures::StreamExt;
use tonic::Status;

/// The bytes of requests that may be in memory until these requests are answered.
const REQUEST_BYTES_MAX: usize = 256 << 20;
/// The call whose messages are processed as they arrive, so that only a part of its bytes is in memory at once.
const WORKED_OFF: &str = "/cerebelum.v1.Engine/StartMany";
/// The bytes of that part: the starts that are passed to the engine together, the message that exceeded that bound, and
/// the message after it.
const WORKED_OFF_BYTES_MAX: usize = 16 << 20;
/// How long an incomplete request may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Bytes of requests that are not answered yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Intake(Arc<AtomicUsize>);

/// The share of one request.
struct Taken {
    all: Intake,
    own: AtomicUsize,
    /// The number of its bytes that can be in memory at once.
    own_max: usize,
}

impl Taken {
    fn add(&self, bytes: usize) -> Result<(), Status> {
        let bytes = bytes.min(self.own_max - self.own.load(Ordering::Relaxed));
        self.own.fetch_add(bytes, Ordering::Relaxed);
        match self.all.0.fetch_add(bytes, Ordering::Relaxed) + bytes > REQUEST_BYTES_MAX {
            true => Err(Status::resource_exhausted(format!(
                "the requests under way have more than {} MiB: try again in a moment",
                REQUEST_BYTES_MAX >> 20
            ))),
            false => Ok(()),
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.all.0.fetch_sub(*self.own.get_mut(), Ordering::Relaxed);
    }
}

/// Counts the bytes of a request until its answer begins.
pub(crate) async fn count(State(all): State<Intake>, request: Request, next: Next) -> Response {
    let own_max = if request.uri().path() == WORKED_OFF { WORKED_OFF_BYTES_MAX } else { usize::MAX };
    let taken = Arc::new(Taken { all, own: AtomicUsize::new(0), own_max });
    let counted = taken.clone();
    let request = request.map(|body| Body::from_stream(pieces(body, counted)));
    let response = next.run(request).await;
    drop(taken);
    response
}

fn pieces(body: Body, taken: Arc<Taken>) -> impl futures::Stream<Item = Result<Bytes, Status>> + Send {
    futures::stream::unfold(Some((body.into_data_stream(), taken)), |state| async move {
        let (mut rest, taken) = state?;
        let Ok(piece) = tokio::time::timeout(SILENCE_MAX, rest.next()).await else {
            let late = format!("the request said nothing for {} s", SILENCE_MAX.as_secs());
            return Some((Err(Status::deadline_exceeded(late)), None));
        };
        let piece = piece?.map_err(|_| Status::cancelled("the request broke off"));
        let piece = piece.and_then(|piece| taken.add(piece.len()).map(|()| piece));
        let rest = piece.is_ok().then_some((rest, taken));
        Some((piece, rest))
    })
}
