//! Connections that are lent, and used again when they come back in order.
//!
//! The pool of sqlx asks each connection that comes back whether it still stands: one more round trip for each use, and a
//! writer that is not free meanwhile. Here a connection that was left in the middle of something is not used again.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use deadpool::managed::{Metrics, Object, Pool, PoolError, QueueMode, RecycleError, RecycleResult};
use sqlx::postgres::{PgDatabaseError, PgSeverity};
use sqlx::{ConnectOptions, Connection, Error};

/// How long a call waits for a free connection, connecting included.
pub(crate) const LEND_TIMEOUT: Duration = Duration::from_secs(4);
/// Between two attempts to reach a server that is not there.
const CONNECT_AGAIN: Duration = Duration::from_millis(50);
/// What a server keeps in memory for a connection grows with it.
const AGE_MAX: Duration = Duration::from_secs(30 * 60);

/// Connections to one database, opened when they are needed.
pub(crate) struct Connections<C: Connection + 'static>(Pool<Opener<C>>);

impl<C: Connection> Clone for Connections<C> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// When a connection to a server was last found broken: those that were opened or used before may be so, too.
pub(crate) type Doubt = Arc<Mutex<Option<Instant>>>;

impl<C: Connection> Connections<C> {
    /// At most so many. One that was idle for longer than `trusted_idle`, or since another one broke, is asked whether it
    /// still stands.
    pub(crate) fn new(options: C::Options, max: usize, (trusted_idle, doubt): (Duration, Doubt)) -> Self {
        let pool = Pool::builder(Opener { options, trusted_idle, doubt }).max_size(max).queue_mode(QueueMode::Lifo);
        Self(pool.build().expect("without timeouts of its own a pool asks for no runtime"))
    }

    /// A connection, as soon as one is free.
    pub(crate) async fn lend(&self) -> Result<Lent<C>, Error> {
        match tokio::time::timeout(LEND_TIMEOUT, self.0.get()).await {
            Ok(Ok(connection)) => Ok(Lent { connection: Some(connection), in_order: true }),
            Ok(Err(PoolError::Backend(error))) => Err(error),
            Ok(Err(_)) => Err(Error::PoolClosed),
            Err(_) => Err(Error::PoolTimedOut),
        }
    }
}

/// Opens connections.
struct Opener<C: Connection> {
    options: C::Options,
    trusted_idle: Duration,
    doubt: Doubt,
}

impl<C: Connection> Opener<C> {
    fn doubted_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.doubt.lock().expect("nobody panics with a point in time")
    }
}

impl<C: Connection> deadpool::managed::Manager for Opener<C> {
    type Type = C;
    type Error = Error;

    /// Waits for a server that is starting; whoever asks gives up when that takes too long.
    async fn create(&self) -> Result<C, Error> {
        loop {
            match self.options.connect().await {
                Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
                Err(Error::Database(told)) if told.is_transient_in_connect_phase() => {}
                connected => return connected,
            }
            tokio::time::sleep(CONNECT_AGAIN).await;
        }
    }

    async fn recycle(&self, connection: &mut C, metrics: &Metrics) -> RecycleResult<Error> {
        if metrics.age() > AGE_MAX && self.trusted_idle < AGE_MAX {
            return Err(RecycleError::message("it has served its time"));
        }
        let used_at = metrics.recycled.unwrap_or(metrics.created);
        let is_doubted = self.doubted_at().is_some_and(|doubted_at| used_at < doubted_at);
        if is_doubted || used_at.elapsed() > self.trusted_idle {
            let answered = connection.ping().await;
            answered.inspect_err(|_| *self.doubted_at() = Some(Instant::now()))?;
        }
        Ok(())
    }
}

/// A connection in use. Dropped in the middle of something it is closed, which undoes what was not committed.
pub(crate) struct Lent<C: Connection + 'static> {
    connection: Option<Object<Opener<C>>>,
    in_order: bool,
}

impl<C: Connection> Lent<C> {
    /// The connection, for something that may break off: until [`Lent::settle`] nobody else will use it.
    pub(crate) fn begin(&mut self) -> &mut C {
        self.abandon();
        self.connection.as_mut().expect("it is taken away in drop only")
    }

    /// Whoever uses it next finds nothing of what was done with it, unless this made the connection itself fail.
    pub(crate) fn settle<T>(&mut self, done: &Result<T, Error>) {
        self.in_order = match done {
            Ok(_) => true,
            Err(Error::Database(told)) => told
                .try_downcast_ref::<PgDatabaseError>()
                .is_none_or(|told| !matches!(told.severity(), PgSeverity::Fatal | PgSeverity::Panic)),
            Err(_) => false,
        };
        if let (false, Some(pool)) = (self.in_order, self.connection.as_ref().and_then(Object::pool)) {
            *pool.manager().doubted_at() = Some(Instant::now());
        }
    }

    /// Until [`Lent::settle`] nobody else will use it.
    pub(crate) const fn abandon(&mut self) {
        self.in_order = false;
    }

    /// Whether nothing is under way on it.
    pub(crate) const fn is_in_order(&self) -> bool {
        self.in_order
    }
}

impl<C: Connection> Drop for Lent<C> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take().filter(|_| !self.in_order) {
            drop(Object::take(connection));
        }
    }
}
