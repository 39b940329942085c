//! The one door (L6): each effect of an execution on the outside world leaves through [`leave`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use cerebelum_history::{Failure, HttpRequest, HttpResponse, planted};
use cerebelum_store::{Incarnation, TenantId};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot, watch};

use crate::egress_log::{RequestLine, Sender};
use crate::env::{AnswerPermit, HostHeaders};
use crate::fetch::{EXECUTION_ANSWER_BYTES_MAX, ExecutionMemory, OPEN_REQUEST_BYTES, Taken, TenantMemory};
use crate::grants::Grants;
use crate::metrics::InFlight;
use crate::node::Node;
use crate::traces::Span;

/// How many requests of one execution may be outside the engine at once. Further ones wait for their turn.
const REQUESTS_OUTSIDE_MAX: usize = 20;

/// An effect on the outside world.
pub(crate) struct Effect {
    /// The request.
    pub(crate) request: HttpRequest,
    /// The headers that the host adds.
    pub(crate) headers: HostHeaders,
    /// The hosts and secrets that the component asks for and was granted.
    pub(crate) grants: Grants,
    /// The step that sends it.
    pub(crate) sender: Sender,
    /// Its span, which is completed with the answer.
    pub(crate) span: Option<Box<Span>>,
}

/// Counts the requests of an activation by their progress.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Requests whose cause is not durable yet.
    unlogged: AtomicUsize,
    /// Requests that have not left, regardless of the reason.
    inside: AtomicUsize,
}

impl Counts {
    /// Whether a request waits for its cause to become durable.
    pub(crate) fn any_unlogged(&self) -> bool {
        self.unlogged.load(Ordering::Acquire) > 0
    }

    /// How many requests have not left.
    pub(crate) fn inside(&self) -> usize {
        self.inside.load(Ordering::Acquire)
    }
}

/// The progress of a request on its way out.
#[derive(Debug)]
pub(crate) struct Departure {
    /// Its cause is durable. From here on it waits at most for its turn.
    is_caused: AtomicBool,
    has_left: AtomicBool,
    counts: Arc<Counts>,
}

impl Departure {
    /// The progress of a new request, counted with the others.
    pub(crate) fn new(counts: &Arc<Counts>) -> Arc<Self> {
        counts.unlogged.fetch_add(1, Ordering::AcqRel);
        counts.inside.fetch_add(1, Ordering::AcqRel);
        let (is_caused, has_left) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { is_caused, has_left, counts: counts.clone() })
    }

    /// Whether it could leave if there were fewer requests before it.
    pub(crate) fn awaits_turn(&self) -> bool {
        self.is_caused.load(Ordering::Acquire) && !self.has_left.load(Ordering::Acquire)
    }

    /// Records that its cause is durable.
    fn is_caused(&self) {
        if !self.is_caused.swap(true, Ordering::AcqRel) {
            self.counts.unlogged.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Records that it leaves or is given up.
    pub(crate) fn leave(&self) {
        self.is_caused();
        if !self.has_left.swap(true, Ordering::AcqRel) {
            self.counts.inside.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// An answer, and the resources that it holds until it is durable.
pub(crate) struct Arrived {
    pub(crate) result: Result<HttpResponse, Failure>,
    /// How long the request was outside.
    pub(crate) took: Duration,
    /// None when there is nothing to count.
    pub(crate) held: Option<AnswerHold>,
}

/// The resources that an answer holds until it is durable. From then on its memory counts for the execution.
pub(crate) struct AnswerHold {
    /// The memory of the answer, and what each request takes.
    _memory: (AnswerPermit, Taken),
    /// A graceful stop waits for it.
    _exchange: Exchange,
}

/// The requests that are outside, and those whose answers are not durable yet.
#[derive(Debug, Default)]
pub(crate) struct Exchanges(watch::Sender<usize>);

/// One such request.
struct Exchange(Arc<Exchanges>);

impl Exchanges {
    fn begin(self: &Arc<Self>) -> Exchange {
        self.0.send_modify(|count| *count += 1);
        Exchange(self.clone())
    }

    /// Returns when there are no such requests.
    pub(crate) async fn none(&self) {
        // The sender belongs to `self`, so it cannot be dropped meanwhile.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

/// The state that the requests of one activation share on their way out.
#[derive(Clone)]
pub(crate) struct Doorway {
    pub(crate) barrier: Arc<Barrier>,
    turns: Arc<Semaphore>,
    memory: ExecutionMemory,
    /// Of the requests of its tenant that are outside.
    open: Arc<TenantMemory>,
}

impl Doorway {
    pub(crate) fn new(node: &Node, tenant: TenantId) -> Self {
        let turns = Arc::new(Semaphore::new(REQUESTS_OUTSIDE_MAX));
        let memory = node.answers.share(tenant, EXECUTION_ANSWER_BYTES_MAX);
        Self { barrier: Arc::default(), turns, memory, open: node.open_requests.of(tenant) }
    }
}

/// Holds an activation's effects back until its changes up to their LSN are durable and it is not paused. Waiting
/// effects are notified in the order of their LSNs, and only those that may leave.
#[derive(Default)]
pub(crate) struct Barrier(Mutex<BarrierState>);

#[derive(Default)]
struct BarrierState {
    durable: u64,
    is_paused: bool,
    waiting: BTreeMap<u64, Vec<oneshot::Sender<()>>>,
}

impl BarrierState {
    fn is_open(&self, lsn: u64) -> bool {
        self.durable >= lsn && !self.is_paused
    }

    fn release(&mut self) {
        while let Some(first) =
            self.waiting.first_entry().filter(|first| *first.key() <= self.durable && !self.is_paused)
        {
            for waiting in first.remove() {
                // The receiver is gone if the request was withdrawn.
                let _ = waiting.send(());
            }
        }
    }
}

impl Barrier {
    /// Records that everything up to this LSN is durable.
    pub(crate) fn is_durable(&self, lsn: u64) {
        let mut gate = self.0.lock();
        gate.durable = lsn;
        gate.release();
    }

    /// Sets the pause. No request leaves in a pause (L16).
    pub(crate) fn pause(&self, is_paused: bool) {
        let mut gate = self.0.lock();
        if std::mem::replace(&mut gate.is_paused, is_paused) && !is_paused {
            gate.release();
        }
    }

    fn is_open(&self, lsn: u64) -> bool {
        self.0.lock().is_open(lsn)
    }

    async fn opens(&self, lsn: u64) {
        loop {
            let opened = {
                let mut gate = self.0.lock();
                if gate.is_open(lsn) {
                    return;
                }
                let (open, opened) = oneshot::channel();
                gate.waiting.entry(lsn).or_default().push(open);
                opened
            };
            // The barrier outlives the requests that wait at it. A notified request checks again.
            let _ = opened.await;
        }
    }
}

/// Lets an effect leave once everything up to the LSN `lsn` is durable, its turn has come, and the lease of this
/// incarnation still has a margin (L11).
///
/// Returns none when the effect can no longer leave: the activation has ended, and the next owner of the execution
/// makes the request again.
pub(crate) async fn leave(
    (node, incarnation): (Arc<Node>, Incarnation),
    (doorway, lsn): (Doorway, u64),
    departure: Arc<Departure>,
    effect: Effect,
) -> Option<Arrived> {
    let Doorway { barrier, turns, memory, open } = doorway;
    if !planted("effect-before-barrier") {
        barrier.opens(lsn).await;
    }
    departure.is_caused();
    let turn = turns.acquire_owned().await.ok()?;
    let taken = open.take(OPEN_REQUEST_BYTES).await;
    // A late renewal may still come. When the lease ends, this activation ends as well.
    let may_leave = || {
        let is_stopping = node.stopping.load(Ordering::Acquire);
        let is_prepared = node.web.is_prepared(&effect.grants);
        is_prepared && node.lease.has_margin(incarnation) && barrier.is_open(lsn) && !is_stopping
    };
    // It may wait for the database, so it comes before the last look at the lease.
    node.web.prepare(&effect.grants).await;
    // Counted before the check whether the engine stops, so that a stop that begins now waits for it.
    let mut exchange = node.exchanges.begin();
    while !may_leave() && !planted("effect-before-barrier") {
        drop(exchange);
        if !node.lease.holds(incarnation) {
            return None;
        }
        node.runtime.sleep(Duration::from_millis(20)).await;
        node.web.prepare(&effect.grants).await;
        exchange = node.exchanges.begin();
    }
    departure.leave();
    let (in_flight, began) = (InFlight::new(&node.metrics.outside.fetches_in_flight), node.runtime.poll_clock());
    let mut permit = memory.permit();
    let line = RequestLine::new(effect.sender, &effect.request);
    let result = node.web.fetch(effect.request, &effect.headers, &effect.grants, &mut permit).await;
    drop(in_flight);
    node.metrics.outside.fetched(result.as_ref().map(|answer| answer.status).map_err(|failure| &*failure.kind));
    let took = began.map(|began| began.elapsed());
    took.inspect(|took| node.metrics.outside.fetch.observe(took.as_secs_f64()));
    line.log(&result, took);
    crate::fail::point("effect-sent");
    drop(turn);
    Some(Arrived {
        result,
        took: took.unwrap_or_default(),
        held: Some(AnswerHold { _memory: (permit, taken), _exchange: exchange }),
    })
}
