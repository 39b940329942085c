//! Pools of connections. A connection is used again if it comes back in a clean state.
//!
//! The pool of sqlx pings each connection that is returned to it, which costs one more round trip for each use. Here, a
//! connection to a server is not reused if it was left in the middle of an operation (decision 013). Operations on a
//! file are never interrupted (decision 014).

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use deadpool::managed::Manager as Opener;
use deadpool::managed::{Metrics, Object, Pool, PoolError, QueueMode, RecycleError, RecycleResult};
use sqlx::postgres::{PgConnectOptions, PgDatabaseError, PgSeverity};
use sqlx::{ConnectOptions, Connection, PgConnection};

use crate::db_error::Error;
use crate::metrics::ConnectionCounts;
use crate::model::TenantId;
use crate::walls::NAME_TENANT;

/// The longest that a caller waits for a free connection, including the time to connect.
pub(crate) const LEND_TIMEOUT: Duration = Duration::from_secs(4);
/// How long a server is asked for a connection: shorter, so that the caller learns why there is none.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// The pause between two attempts to reach a server that does not answer.
const CONNECT_AGAIN: Duration = Duration::from_millis(50);
/// The greatest age of a connection: the memory that a server holds for it grows with its age.
const AGE_MAX: Duration = Duration::from_secs(30 * 60);

/// Connections to one database, opened on demand.
pub(crate) struct Connections<O: Opener>(Pool<O>);

impl<O: Opener> Clone for Connections<O> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// How long connections to one server are assumed to be alive.
#[derive(Clone)]
pub(crate) struct ConnectionLiveness {
    /// A connection that was idle for longer is pinged before it is used.
    idle: Duration,
    /// When a connection was last found broken. Connections that were opened or last used before that may be broken
    /// too.
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
    /// A pool of at most `max` connections.
    pub(crate) fn new(opener: O, max: usize) -> Self {
        let pool = Pool::builder(opener).max_size(max).queue_mode(QueueMode::Lifo);
        Self(pool.build().expect("without timeouts of its own a pool asks for no runtime"))
    }

    /// The open connections.
    pub(crate) fn counts(&self) -> ConnectionCounts {
        let status = self.0.status();
        let idle = status.available.min(status.size);
        ConnectionCounts { used: (status.size - idle) as u64, idle: idle as u64 }
    }

    /// Waits for a free connection.
    pub(crate) async fn lend(&self) -> Result<Object<O>, Error> {
        match tokio::time::timeout(LEND_TIMEOUT, self.0.get()).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(PoolError::Backend(error))) => Err(error),
            Ok(Err(_)) | Err(_) => Err(Error::NoneFree),
        }
    }
}

/// A connection to a server.
pub(crate) struct ServerConnection {
    link: PgConnection,
    /// The tenant whose rows it shows, if it is one for reads of clients.
    tenant: Option<TenantId>,
}

/// Opens connections to a server.
pub(crate) struct Server {
    pub(crate) options: PgConnectOptions,
    pub(crate) trust: ConnectionLiveness,
}

impl Opener for Server {
    type Type = ServerConnection;
    type Error = Error;

    /// Waits for a server that is starting, and says at last why there is no connection to it.
    async fn create(&self) -> Result<ServerConnection, Error> {
        let began = Instant::now();
        loop {
            let error = match self.options.connect().await {
                Ok(link) => return Ok(ServerConnection { link, tenant: None }),
                Err(error) => error,
            };
            let is_passing = match &error {
                sqlx::Error::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
                sqlx::Error::Database(error) => error.is_transient_in_connect_phase(),
                _ => false,
            };
            if !is_passing || began.elapsed() > CONNECT_WITHIN {
                return Err(error.into());
            }
            tokio::time::sleep(CONNECT_AGAIN).await;
        }
    }

    async fn recycle(&self, connection: &mut ServerConnection, metrics: &Metrics) -> RecycleResult<Error> {
        if metrics.age() > AGE_MAX {
            return Err(RecycleError::message("it has served its time"));
        }
        if !self.trust.covers(metrics.recycled.unwrap_or(metrics.created)) {
            connection.link.ping().await.inspect_err(|_| self.trust.doubt()).map_err(Error::from)?;
        }
        Ok(())
    }
}

/// A connection to a server in use. If it is dropped in the middle of an operation, the connection is closed, which
/// rolls back everything that was not committed.
pub(crate) struct Pooled {
    connection: Option<Object<Server>>,
    in_order: bool,
}

impl Pooled {
    pub(crate) const fn new(connection: Object<Server>) -> Self {
        Self { connection: Some(connection), in_order: true }
    }

    /// The connection, for an operation that may be interrupted. It is not reused before [`Pooled::settle`].
    pub(crate) fn begin(&mut self) -> &mut PgConnection {
        self.abandon();
        &mut self.server().link
    }

    /// Shows the rows of this tenant from now on, on a connection in the role of readers.
    pub(crate) async fn show(&mut self, tenant: TenantId) -> Result<(), Error> {
        if self.server().tenant != Some(tenant) {
            let named = sqlx::query(NAME_TENANT).bind(tenant.0.to_string()).execute(self.begin()).await;
            self.settle(&named);
            named?;
            self.server().tenant = Some(tenant);
        }
        Ok(())
    }

    fn server(&mut self) -> &mut ServerConnection {
        self.connection.as_mut().expect("nobody uses what was taken")
    }

    /// Marks the connection as clean after an operation, unless the operation failed because of the connection itself.
    pub(crate) fn settle<T>(&mut self, done: &Result<T, sqlx::Error>) {
        self.in_order = match done {
            Ok(_) => true,
            Err(sqlx::Error::Database(error)) => error
                .try_downcast_ref::<PgDatabaseError>()
                .is_none_or(|error| !matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic)),
            Err(_) => false,
        };
        if let (false, Some(pool)) = (self.in_order, self.connection.as_ref().and_then(Object::pool)) {
            pool.manager().trust.doubt();
        }
    }

    /// Marks the connection as unclean: it is not reused before [`Pooled::settle`].
    pub(crate) const fn abandon(&mut self) {
        self.in_order = false;
    }

    /// Moves the connection out, marked as unclean. Nothing is left here.
    pub(crate) fn take(&mut self) -> Self {
        Self { connection: self.connection.take(), in_order: false }
    }

    /// Whether no operation is under way on the connection.
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
