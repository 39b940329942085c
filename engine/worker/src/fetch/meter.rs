//! Counts what a connection moves, all of it, bounds what its server may send, and lets other tasks run in between.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper_util::client::legacy::connect::{Connected, Connection};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::budget::Budget;

/// How many bytes a server may send between two answers that are read: handshakes, heads, and what HTTP takes no notice
/// of, such as answers of the class 1xx.
const UNREAD_BYTES_MAX: u64 = 2 << 20;
/// How many bytes one answer may take on its connection: twice the largest body, for what surrounds its pieces.
const ANSWER_WIRE_BYTES_MAX: u64 = 16 << 20;
/// A connection that always has something to read lets other tasks run after so many bytes.
const READ_AT_ONCE_BYTES_MAX: usize = 16 << 10;

/// What a connection has received. A response has the meter of its connection among its extensions.
#[derive(Debug, Clone)]
pub(super) struct Meter {
    budget: Arc<Budget>,
    wire: Arc<Mutex<Wire>>,
}

#[derive(Debug)]
struct Wire {
    received: u64,
    received_max: u64,
    /// How many answers are being read: over HTTP/2 there may be several.
    answers: u64,
}

impl Wire {
    /// The bounds begin anew.
    fn allow(&mut self) {
        self.received_max = self.received + UNREAD_BYTES_MAX + self.answers * ANSWER_WIRE_BYTES_MAX;
    }
}

impl Meter {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        let wire = Wire { received: 0, received_max: UNREAD_BYTES_MAX, answers: 0 };
        Self { budget, wire: Arc::new(Mutex::new(wire)) }
    }

    /// An answer begins to be read.
    pub(super) fn answer(&self) -> AnswerOnWire {
        let mut wire = self.wire.lock();
        wire.answers += 1;
        wire.allow();
        drop(wire);
        AnswerOnWire(self.clone())
    }

    fn received(&self, bytes: u64) {
        self.budget.spend(bytes);
        self.wire.lock().received += bytes;
    }

    fn check(&self) -> io::Result<()> {
        let wire = self.wire.lock();
        match wire.received < wire.received_max {
            true => Ok(()),
            false => Err(io::Error::other("the server sent too much besides the bodies of answers")),
        }
    }
}

/// An answer that is being read.
#[derive(Debug)]
pub(super) struct AnswerOnWire(Meter);

impl Drop for AnswerOnWire {
    fn drop(&mut self) {
        let mut wire = self.0.wire.lock();
        wire.answers -= 1;
        wire.allow();
    }
}

/// A connection with its meter.
#[derive(Debug)]
pub(super) struct Metered<C> {
    inner: C,
    meter: Meter,
    /// What was read since other tasks ran.
    at_once: usize,
}

impl<C> Metered<C> {
    pub(super) fn new(inner: C, meter: Meter) -> Self {
        Self { inner, meter, at_once: 0 }
    }
}

impl<C: Connection> Connection for Metered<C> {
    fn connected(&self) -> Connected {
        self.inner.connected().extra(self.meter.clone())
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for Metered<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.at_once >= READ_AT_ONCE_BYTES_MAX {
            self.at_once = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.meter.check()?;
        let most = buffer.remaining().min(READ_AT_ONCE_BYTES_MAX - self.at_once);
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(most));
        let read = Pin::new(&mut self.inner).poll_read(context, &mut part);
        if read.is_pending() {
            self.at_once = 0;
        }
        ready!(read)?;
        let bytes = part.filled().len();
        buffer.advance(bytes);
        self.at_once += bytes;
        self.meter.received(bytes as u64);
        Poll::Ready(Ok(()))
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Metered<C> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(context, bytes))?;
        self.meter.budget.spend(written as u64);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(context, pieces))?;
        self.meter.budget.spend(written as u64);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A server that always has something more to say.
    fn endless() -> (Metered<tokio::io::Join<tokio::io::Repeat, tokio::io::Sink>>, Arc<Budget>) {
        let budget = Arc::new(Budget::default());
        let talks = tokio::io::join(tokio::io::repeat(b'x'), tokio::io::sink());
        (Metered::new(talks, Meter::new(budget.clone())), budget)
    }

    /// Reads until the connection fails, and returns how many bytes that were.
    async fn read_all(connection: &mut (impl AsyncRead + Unpin)) -> u64 {
        let (mut all, mut piece) = (0, vec![0; 10_000]);
        loop {
            match connection.read(&mut piece).await {
                Ok(read) => all += read as u64,
                Err(error) => {
                    assert!(error.to_string().contains("too much"), "{error}");
                    return all;
                }
            }
        }
    }

    #[tokio::test]
    async fn all_that_moves_is_counted_once() {
        let (mut connection, budget) = endless();
        connection.read_exact(&mut [0; 1_000]).await.unwrap();
        assert_eq!(budget.spent(), 1_000);
        connection.write_all(&[0; 300]).await.unwrap();
        let written =
            connection.write_vectored(&[io::IoSlice::new(&[0; 20]), io::IoSlice::new(&[0; 4])]).await.unwrap();
        connection.flush().await.unwrap();
        assert_eq!(budget.spent(), 1_300 + written as u64);
    }

    #[tokio::test]
    async fn a_server_that_never_ends_is_cut_off_and_what_it_sent_is_counted() {
        let slack = 10_000;
        let (mut connection, budget) = endless();
        let before = read_all(&mut connection).await;
        assert!((UNREAD_BYTES_MAX..UNREAD_BYTES_MAX + slack).contains(&before), "{before} before any answer");
        let meter = connection.meter.clone();
        let two = [meter.answer(), meter.answer()];
        let during = read_all(&mut connection).await;
        let max = UNREAD_BYTES_MAX + 2 * ANSWER_WIRE_BYTES_MAX;
        assert!((max - slack..max + slack).contains(&during), "{during} for two answers");
        drop(two);
        let after = read_all(&mut connection).await;
        assert!((UNREAD_BYTES_MAX - slack..UNREAD_BYTES_MAX + slack).contains(&after), "{after} after them");
        assert_eq!(budget.spent(), before + during + after);
    }

    #[test]
    fn a_connection_that_always_has_something_lets_others_run() {
        let (mut connection, _) = endless();
        let (mut turns, mut piece) = (0, [0; 4 << 10]);
        for _ in 0..10 * READ_AT_ONCE_BYTES_MAX / piece.len() + 10 {
            turns += u32::from(connection.read(&mut piece).now_or_never().is_none());
        }
        assert_eq!(turns, 10);
    }
}
