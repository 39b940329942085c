//! The future behind every durable call. The call does nothing until the future is awaited; dropping it cancels the
//! call.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as Poller, Poll};

use futures::future::{FusedFuture, LocalBoxFuture};

use crate::error::Result;

/// The request that a durable call makes once it is awaited.
pub trait Ask<'a>: Unpin + 'a {
    /// The type of a success.
    type Output;
    /// Issues the call.
    #[doc(hidden)]
    fn ask(self) -> LocalBoxFuture<'a, Result<Self::Output>>;
}

/// The types that a request yields, without holding a value of them.
pub(crate) type Yields<T> = std::marker::PhantomData<fn() -> T>;

/// A durable call: configure it, then `.await` it, or pass it to `join!` or `select!`.
///
/// It does nothing before it is polled for the first time. Dropping a call that is under way (the loser of a
/// `select!`) cancels it, and the cancellation is recorded in the history.
#[must_use = "a durable call does nothing until it is awaited"]
pub struct Durable<'a, A: Ask<'a>> {
    state: State<'a, A>,
}

enum State<'a, A: Ask<'a>> {
    Asking(A),
    Waiting(LocalBoxFuture<'a, Result<A::Output>>),
    Done,
}

impl<'a, A: Ask<'a>> Durable<'a, A> {
    pub(crate) const fn new(ask: A) -> Self {
        Self { state: State::Asking(ask) }
    }

    /// The same call with a changed request. Only builder methods use this, and they own a call that was not polled
    /// yet.
    pub(crate) fn map<'b, B: Ask<'b>>(self, change: impl FnOnce(A) -> B) -> Durable<'b, B> {
        Durable::new(change(self.into_ask()))
    }

    pub(crate) fn into_ask(self) -> A {
        match self.state {
            State::Asking(ask) => ask,
            State::Waiting(_) | State::Done => panic!("a durable call is configured before it is awaited"),
        }
    }
}

impl<'a, A: Ask<'a>> Future for Durable<'a, A> {
    type Output = Result<A::Output>;

    fn poll(mut self: Pin<&mut Self>, poller: &mut Poller<'_>) -> Poll<Self::Output> {
        loop {
            match std::mem::replace(&mut self.state, State::Done) {
                State::Asking(ask) => self.state = State::Waiting(ask.ask()),
                State::Waiting(mut waiting) => {
                    let polled = waiting.as_mut().poll(poller);
                    if polled.is_pending() {
                        self.state = State::Waiting(waiting);
                    }
                    return polled;
                }
                State::Done => panic!("a durable call was polled after it had completed"),
            }
        }
    }
}

// Lets `futures::select!` take a call as it is, without `.fuse()`.
impl<'a, A: Ask<'a>> FusedFuture for Durable<'a, A> {
    fn is_terminated(&self) -> bool {
        matches!(self.state, State::Done)
    }
}
