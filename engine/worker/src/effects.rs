//! The one door (L6): everything that an execution does to the outside world leaves through [`leave`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cerebelum_history::{Failure, HttpRequest, HttpResponse, planted};
use cerebelum_store::Incarnation;
use tokio::sync::{Notify, Semaphore, watch};

use crate::fetch::{EXECUTION_ANSWER_BYTES_MAX, ExecutionMemory};
use crate::node::Node;
use crate::outside::{Grants, Room};

/// How many requests of one execution may be outside at once; further ones wait for their turn.
const REQUESTS_OUTSIDE_MAX: usize = 20;

/// Something that the outside world will notice.
pub(crate) struct Effect {
    /// The request.
    pub(crate) request: HttpRequest,
    /// Its default `Idempotency-Key`.
    pub(crate) key: String,
    /// What the component asks for and may therefore be granted.
    pub(crate) grants: Grants,
    /// How far it has come.
    pub(crate) way: Arc<Way>,
}

/// How far a request has come.
#[derive(Debug, Default)]
pub(crate) struct Way {
    /// What caused it is durable: it waits for its turn, if for anything.
    is_caused: AtomicBool,
    has_left: AtomicBool,
}

impl Way {
    /// Whether it waits until its cause is durable.
    pub(crate) fn awaits_log(&self) -> bool {
        !self.is_caused.load(Ordering::Acquire)
    }

    /// Whether it could leave, were there not so many others.
    pub(crate) fn awaits_turn(&self) -> bool {
        !self.awaits_log() && !self.has_left()
    }

    /// Whether it is outside.
    pub(crate) fn has_left(&self) -> bool {
        self.has_left.load(Ordering::Acquire)
    }
}

/// An answer, and what it holds until it is durable.
pub(crate) struct Arrived {
    pub(crate) result: Result<HttpResponse, Failure>,
    /// None when there was none to count.
    pub(crate) held: Option<Held>,
}

/// What an answer holds until it is durable. From then on it is the execution's memory.
pub(crate) struct Held {
    /// The memory that it takes.
    _room: Room,
    /// A stop waits for it.
    _exchange: Exchange,
}

/// Requests that are outside, or whose answers are not durable yet.
#[derive(Debug, Default)]
pub(crate) struct Exchanges(watch::Sender<usize>);

/// One of them.
struct Exchange(Arc<Exchanges>);

impl Exchanges {
    fn begin(self: &Arc<Self>) -> Exchange {
        self.0.send_modify(|count| *count += 1);
        Exchange(self.clone())
    }

    /// Comes back when there is none.
    pub(crate) async fn none(&self) {
        // The sender is ours: it cannot end meanwhile.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

/// What the requests of one activation share on their way out.
#[derive(Clone)]
pub(crate) struct Doorway {
    pub(crate) barrier: Arc<Barrier>,
    turns: Arc<Semaphore>,
    memory: ExecutionMemory,
}

impl Doorway {
    pub(crate) fn new(node: &Node) -> Self {
        let turns = Arc::new(Semaphore::new(REQUESTS_OUTSIDE_MAX));
        Self { barrier: Arc::default(), turns, memory: node.answers.share(EXECUTION_ANSWER_BYTES_MAX) }
    }
}

/// What an activation's effects wait for: up to which mark its changes are durable, and that it is not paused. Whoever
/// waits is told in the order of asking.
#[derive(Default)]
pub(crate) struct Barrier {
    durable: AtomicU64,
    is_paused: AtomicBool,
    moved: Notify,
}

impl Barrier {
    /// Everything up to this mark is durable.
    pub(crate) fn is_durable(&self, mark: u64) {
        self.durable.store(mark, Ordering::Release);
        self.moved.notify_waiters();
    }

    /// Nothing leaves in a pause (L16).
    pub(crate) fn pause(&self, is_paused: bool) {
        if self.is_paused.swap(is_paused, Ordering::AcqRel) && !is_paused {
            self.moved.notify_waiters();
        }
    }

    fn is_open(&self, mark: u64) -> bool {
        self.durable.load(Ordering::Acquire) >= mark && !self.is_paused.load(Ordering::Acquire)
    }

    async fn opens(&self, mark: u64) {
        loop {
            let mut moved = std::pin::pin!(self.moved.notified());
            moved.as_mut().enable();
            if self.is_open(mark) {
                return;
            }
            moved.await;
        }
    }
}

/// Lets an effect out once everything up to `mark` is durable, it is its turn, and this incarnation's lease still has a
/// margin (L11).
///
/// Returns none when that will not come: the activation is over, and whoever takes the execution over asks again.
pub(crate) async fn leave(
    (node, incarnation): (Arc<Node>, Incarnation),
    doorway: Doorway,
    mark: u64,
    effect: Effect,
) -> Option<Arrived> {
    let Doorway { barrier, turns, memory } = doorway;
    if !planted("effect-before-barrier") {
        barrier.opens(mark).await;
    }
    effect.way.is_caused.store(true, Ordering::Release);
    let turn = turns.acquire_owned().await.ok()?;
    // A renewal that is late may still come; when the lease is over, so is this activation.
    let may_leave = || {
        let is_stopping = node.stopping.load(Ordering::Acquire);
        node.lease.has_margin(incarnation) && barrier.is_open(mark) && !is_stopping
    };
    // Counted before it is looked whether the engine stops: a stop that begins now waits for it.
    let mut exchange = node.exchanges.begin();
    while !may_leave() && !planted("effect-before-barrier") {
        drop(exchange);
        node.lease.incarnation().filter(|now| *now == incarnation)?;
        node.machine.sleep(Duration::from_millis(20)).await;
        exchange = node.exchanges.begin();
    }
    effect.way.has_left.store(true, Ordering::Release);
    node.metrics.fetches.add(1);
    let mut room = memory.room();
    let result = node.web.fetch(effect.request, &effect.key, &effect.grants, &mut room).await;
    crate::fail::point("effect-sent");
    drop(turn);
    Some(Arrived { result, held: Some(Held { _room: room, _exchange: exchange }) })
}
