//! Connections that are lent, and used again when they come back in order.
//!
//! The pool of sqlx asks each connection that comes back whether it still stands: one more round trip for each use. Here a
//! connection to a server that was left in the middle of something is not used again (decision 013); what is done with
//! one to a file is not broken off in the middle (decision 014).

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use deadpool::managed::Manager as Opener;
use deadpool::managed::{Metrics, Object, Pool, PoolError, QueueMode, RecycleError, RecycleResult};
use sqlx::postgres::{PgConnectOptions, PgDatabaseError, PgSeverity};
use sqlx::{ConnectOptions, Connection, PgConnection};

use crate::db_error::Error;

/// How long a call waits for a free connection, connecting included.
pub(crate) const LEND_TIMEOUT: Duration = Duration::from_secs(4);
/// Between two attempts to reach a server that is not there.
const CONNECT_AGAIN: Duration = Duration::from_millis(50);
/// What a server keeps in memory for a connection grows with it.
const AGE_MAX: Duration = Duration::from_secs(30 * 60);

/// Connections to one database, opened when they are needed.
pub(crate) struct Connections<O: Opener>(Pool<O>);

impl<O: Opener> Clone for Connections<O> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// How far connections to one server are trusted.
#[derive(Clone)]
pub(crate) struct ConnectionLiveness {
    /// One that was idle for longer is asked whether it still stands.
    idle: Duration,
    /// When one was last found broken: those that were opened or used before may be so, too.
    doubted_at: Arc<Mutex<Option<Instant>>>,
}

impl ConnectionLiveness {
    pub(crate) fn new(idle: Duration) -> Self {
        Self { idle, doubted_at: Arc::default() }
    }

    fn doubt(&self) {
        *self.doubted_at() = Some(Instant::now());
    }

    fn covers(&self, used_at: Instant) -> bool {
        used_at.elapsed() <= self.idle && self.doubted_at().is_none_or(|doubted_at| used_at >= doubted_at)
    }

    fn doubted_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.doubted_at.lock().expect("nobody panics with a point in time")
    }
}

impl<O: Opener<Error = Error>> Connections<O> {
    /// At most so many.
    pub(crate) fn new(opener: O, max: usize) -> Self {
        let pool = Pool::builder(opener).max_size(max).queue_mode(QueueMode::Lifo);
        Self(pool.build().expect("without timeouts of its own a pool asks for no runtime"))
    }

    /// A connection, as soon as one is free.
    pub(crate) async fn lend(&self) -> Result<Object<O>, Error> {
        match tokio::time::timeout(LEND_TIMEOUT, self.0.get()).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(PoolError::Backend(error))) => Err(error),
            Ok(Err(_)) | Err(_) => Err(Error::NoneFree),
        }
    }
}

/// Opens connections to a server.
pub(crate) struct Server {
    pub(crate) options: PgConnectOptions,
    pub(crate) trust: ConnectionLiveness,
}

impl Opener for Server {
    type Type = PgConnection;
    type Error = Error;

    /// Waits for a server that is starting; whoever asks gives up when that takes too long.
    async fn create(&self) -> Result<PgConnection, Error> {
        loop {
            match self.options.connect().await {
                Err(sqlx::Error::Io(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
                Err(sqlx::Error::Database(run)) if run.is_transient_in_connect_phase() => {}
                connected => return Ok(connected?),
            }
            tokio::time::sleep(CONNECT_AGAIN).await;
        }
    }

    async fn recycle(&self, connection: &mut PgConnection, metrics: &Metrics) -> RecycleResult<Error> {
        if metrics.age() > AGE_MAX {
            return Err(RecycleError::message("it has served its time"));
        }
        if !self.trust.covers(metrics.recycled.unwrap_or(metrics.created)) {
            connection.ping().await.inspect_err(|_| self.trust.doubt()).map_err(Error::from)?;
        }
        Ok(())
    }
}

/// A connection to a server in use. Dropped in the middle of something it is closed, which undoes what was not committed.
pub(crate) struct Pooled {
    connection: Option<Object<Server>>,
    in_order: bool,
}

impl Pooled {
    pub(crate) const fn new(connection: Object<Server>) -> Self {
        Self { connection: Some(connection), in_order: true }
    }

    /// The connection, for something that may break off: until [`Pooled::settle`] nobody else will use it.
    pub(crate) fn begin(&mut self) -> &mut PgConnection {
        self.abandon();
        self.connection.as_mut().expect("nobody uses what was taken")
    }

    /// Whoever uses it next finds nothing of what was done with it, unless this made the connection itself fail.
    pub(crate) fn settle<T>(&mut self, done: &Result<T, sqlx::Error>) {
        self.in_order = match done {
            Ok(_) => true,
            Err(sqlx::Error::Database(run)) => run
                .try_downcast_ref::<PgDatabaseError>()
                .is_none_or(|run| !matches!(run.severity(), PgSeverity::Fatal | PgSeverity::Panic)),
            Err(_) => false,
        };
        if let (false, Some(pool)) = (self.in_order, self.connection.as_ref().and_then(Object::pool)) {
            pool.manager().trust.doubt();
        }
    }

    /// Until [`Pooled::settle`] nobody else will use it.
    pub(crate) const fn abandon(&mut self) {
        self.in_order = false;
    }

    /// The same connection in other hands, abandoned; nothing is left here.
    pub(crate) fn take(&mut self) -> Self {
        Self { connection: self.connection.take(), in_order: false }
    }

    /// Whether nothing is under way on it.
    pub(crate) const fn is_in_order(&self) -> bool {
        self.in_order
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take().filter(|_| !self.in_order) {
            drop(Object::take(connection));
        }
    }
}
