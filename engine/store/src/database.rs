//! Opens a database (access, mode and schema), and hands out sessions.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};

use crate::clock::{Clocks, SteadyClock};
use crate::connections::{ConnectionLiveness, Connections, LEND_TIMEOUT, Pooled, Server};
use crate::db_error::{DbError, Error, ErrorClass, cause, error_class, state};
use crate::error::StoreError;
use crate::file_lock::WatchedFile;
use crate::metrics::ConnectionCounts;
use crate::model::TenantId;
use crate::reference_time;
use crate::schema::{POSTGRES_SCHEMA, SQLITE_SCHEMA};
use crate::sql::{Blocking, Conn, Row, STATEMENTS_MAX, Script, Session, SqliteConn, SqliteFile};
use crate::walls;

/// Connections for the engine's own reads and writes, except for leases.
const POSTGRES_CONNECTIONS_MAX: usize = 8;
/// How many of them reads of executions may take. However many executions are read, commits do not wait for them.
const POSTGRES_READS_MAX: usize = 7;
/// Connections for reads of clients. However many clients read, commits do not wait for them.
const POSTGRES_CLIENTS_MAX: usize = 4;
/// How long a statement may take that a client waits for, as PostgreSQL writes it.
const CLIENT_STATEMENT_MAX: &str = "5s";
/// Connections for reads over all tenants that can wait.
const POSTGRES_BACKGROUND_MAX: usize = 2;
/// The number of readers beside the one writer: this many for the engine itself, and as many for clients.
const SQLITE_READERS_MAX: usize = 5;
/// A connection that was idle for longer is pinged before it is used. This is longer than the pauses of an engine that
/// has nothing to do.
const TRUSTED_IDLE: Duration = Duration::from_secs(5);
/// Migrations take as long as they take.
const NO_TIMEOUTS: [(&str, &str); 3] =
    [("statement_timeout", "0"), ("lock_timeout", "0"), ("idle_in_transaction_session_timeout", "0")];
/// The longest that a transaction may be idle or wait for a lock, however long the leases are.
const TRANSACTION_TIMEOUT_MAX: Duration = Duration::from_secs(5);

/// An open database.
pub(crate) enum Database {
    /// One file: a single writer, with readers beside it. No other process uses it.
    Sqlite { writer: Connections<SqliteFile>, readers: Connections<SqliteFile>, clients: Connections<SqliteFile> },
    /// A server. Leases have a connection of their own, so that a renewal never has to wait (L11). So do notifications.
    Postgres {
        pool: Connections<Server>,
        clients: Connections<Server>,
        background: Connections<Server>,
        leases: Connections<Server>,
        listening: PgPool,
        /// Whether the clients' connections show the rows of one tenant only.
        is_walled: bool,
    },
}

impl Database {
    /// Opens `sqlite:FILE` or `postgres://…`, and brings its schema up to date.
    pub(crate) async fn open(
        url: &str,
        lease: Duration,
        clocks: Arc<dyn Clocks>,
    ) -> Result<(Self, SteadyClock), StoreError> {
        if let Some(file) = url.strip_prefix("sqlite:") {
            return open_sqlite(Path::new(file.strip_prefix("//").unwrap_or(file)), clocks).await;
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return open_postgres(url, lease, clocks).await;
        }
        Err(StoreError::Unusable("a database is `sqlite:FILE` or `postgres://USER@HOST/NAME`".into()))
    }

    /// A session that writes nothing, for one statement that reads a few rows.
    pub(crate) async fn read(&self) -> Result<Session, DbError> {
        Ok(Session::new(self.reader(Blocking::Inline).await?))
    }

    /// The same as `read`, for a statement that may read many rows.
    pub(crate) async fn search(&self) -> Result<Session, DbError> {
        Ok(Session::new(self.reader(Blocking::Offload).await?))
    }

    /// A session for reads of this tenant's clients. Clients wait for each other there, and hold up nothing else. On
    /// PostgreSQL it sees no other tenant's rows.
    pub(crate) async fn client(&self, tenant: TenantId) -> Result<Session, DbError> {
        Ok(Session::new(match self {
            Self::Sqlite { clients, .. } => on_file(clients, Blocking::Offload).await?,
            Self::Postgres { clients, is_walled, .. } => {
                let mut lent = Pooled::new(clients.lend().await?);
                if *is_walled {
                    lent.show(tenant).await?;
                }
                Conn::Postgres(lent)
            }
        }))
    }

    /// A session for reads over all tenants that can wait.
    pub(crate) async fn background(&self) -> Result<Session, DbError> {
        Ok(Session::new(self.background_link().await?))
    }

    /// A session whose statements all see the same committed state.
    pub(crate) async fn snapshot(&self) -> Result<Session, DbError> {
        Ok(Session::begin(self.reader(Blocking::Inline).await?, self.same_state()).await?)
    }

    /// The same as `snapshot`, for reads that can wait.
    pub(crate) async fn background_snapshot(&self) -> Result<Session, DbError> {
        Ok(Session::begin(self.background_link().await?, self.same_state()).await?)
    }

    const fn same_state(&self) -> &'static str {
        match self {
            Self::Sqlite { .. } => "begin",
            Self::Postgres { .. } => "begin isolation level repeatable read read only",
        }
    }

    async fn background_link(&self) -> Result<Conn, Error> {
        match self {
            Self::Sqlite { clients, .. } => on_file(clients, Blocking::Offload).await,
            Self::Postgres { background, .. } => on_server(background).await,
        }
    }

    /// A session for a transaction.
    pub(crate) async fn write(&self) -> Result<Session, DbError> {
        let (link, words) = match self {
            Self::Sqlite { writer, .. } => (on_file(writer, Blocking::Offload).await?, "begin immediate"),
            Self::Postgres { pool, .. } => (on_server(pool).await?, "begin"),
        };
        Ok(Session::begin(link, words).await?)
    }

    /// Runs a script, all of it or nothing.
    pub(crate) async fn run(&self, script: Script<'_>) -> Result<Vec<Row>, Error> {
        match self {
            Self::Sqlite { writer, .. } => writer.lend().await?.run(&script),
            Self::Postgres { pool, .. } => script.run_on_postgres(&mut Pooled::new(pool.lend().await?)).await,
        }
    }

    /// A session for one statement about a lease.
    pub(crate) async fn lease(&self) -> Result<Session, DbError> {
        Ok(Session::new(match self {
            Self::Sqlite { writer, .. } => {
                let link = on_file(writer, Blocking::Offload).await?;
                link.check_file()?;
                link
            }
            Self::Postgres { leases, .. } => on_server(leases).await?,
        }))
    }

    /// The number of connections that reads of executions may take.
    pub(crate) const fn reads_max(&self) -> usize {
        match self {
            Self::Sqlite { .. } => SQLITE_READERS_MAX,
            Self::Postgres { .. } => POSTGRES_READS_MAX,
        }
    }

    /// The open connections.
    pub(crate) fn connections(&self) -> ConnectionCounts {
        let counts = match self {
            Self::Sqlite { writer, readers, clients } => vec![writer.counts(), readers.counts(), clients.counts()],
            Self::Postgres { pool, clients, background, leases, .. } => {
                vec![pool.counts(), clients.counts(), background.counts(), leases.counts()]
            }
        };
        counts.into_iter().fold(ConnectionCounts::default(), |all, one| ConnectionCounts {
            used: all.used + one.used,
            idle: all.idle + one.idle,
        })
    }

    async fn reader(&self, pace: Blocking) -> Result<Conn, Error> {
        match self {
            Self::Sqlite { readers, .. } => on_file(readers, pace).await,
            Self::Postgres { pool, .. } => on_server(pool).await,
        }
    }
}

async fn on_file(connections: &Connections<SqliteFile>, pace: Blocking) -> Result<Conn, Error> {
    Ok(Conn::Sqlite(SqliteConn { connection: connections.lend().await?, pace }))
}

/// A connection to a server.
pub(crate) async fn on_server(connections: &Connections<Server>) -> Result<Conn, Error> {
    Ok(Conn::Postgres(Pooled::new(connections.lend().await?)))
}

async fn open_sqlite(path: &Path, clocks: Arc<dyn Clocks>) -> Result<(Database, SteadyClock), StoreError> {
    if path.as_os_str().is_empty() || path.to_string_lossy().starts_with(":memory:") {
        return Err(StoreError::Unusable("a SQLite database needs a file: `sqlite:FILE`".into()));
    }
    let file = Arc::new(WatchedFile::open(path)?);
    let place = path.display().to_string();
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .disable_statement_logging();
    let mut first = options.connect().await.map_err(|error| unusable(&place, error.into()))?;
    let migrated = SQLITE_SCHEMA.run(&mut first).await;
    migrated.map_err(|error| schema_refused(&SQLITE_SCHEMA, error))?;
    let kept = reference_time::kept_time(&mut first).await.map_err(|error| unusable(&place, error.into()))?;
    first.close().await.map_err(|error| unusable(&place, error.into()))?;
    let clock = SteadyClock::of_file(clocks, kept.as_ref());
    let opener = |only_reads| SqliteFile { file: file.clone(), clock: clock.clone(), only_reads };
    // There is one connection, so writers wait their turn for it.
    let writer = Connections::new(opener(false), 1);
    let readers = Connections::new(opener(true), SQLITE_READERS_MAX);
    let clients = Connections::new(opener(true), SQLITE_READERS_MAX);
    Ok((Database::Sqlite { writer, readers, clients }, clock))
}

/// The longest that a transaction of an engine may be idle or wait for a lock. It is less than half a lease, so that
/// what a lost owner holds is free well before its lease is over (L11).
fn transaction_timeout(lease: Duration) -> Duration {
    (lease * 2 / 5).min(TRANSACTION_TIMEOUT_MAX)
}

async fn open_postgres(
    url: &str,
    lease: Duration,
    clocks: Arc<dyn Clocks>,
) -> Result<(Database, SteadyClock), StoreError> {
    let options = PgConnectOptions::from_str(url).map_err(|error| {
        StoreError::Unusable(format!("not the address of a PostgreSQL database: {}", cause(&error.into())))
    })?;
    let place = format!("{}:{}/{}", options.get_host(), options.get_port(), options.get_database().unwrap_or_default());
    let options = options
        .application_name("cerebelum")
        .disable_statement_logging()
        .statement_cache_capacity(STATEMENTS_MAX)
        .options([("client_min_messages", "warning"), ("synchronous_commit", "on")]);
    let trust = ConnectionLiveness::new(TRUSTED_IDLE);
    let is_walled = migrate_postgres(Server { options: options.clone(), trust: trust.clone() }, &place).await?;
    let timeout = format!("{}ms", transaction_timeout(lease).as_millis());
    let options = options.options([
        ("idle_in_transaction_session_timeout", timeout.as_str()),
        ("lock_timeout", timeout.as_str()),
        ("statement_timeout", "60s"),
        ("default_transaction_isolation", "read committed"),
        // All statements here look rows up by key. A plan that was made while a table was empty must not scan the table
        // once it has grown.
        ("enable_seqscan", "off"),
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
        ("enable_bitmapscan", "off"),
        ("jit", "off"),
        ("plan_cache_mode", "force_generic_plan"),
    ]);
    let opener = || Server { options: options.clone(), trust: trust.clone() };
    let pool = Connections::new(opener(), POSTGRES_CONNECTIONS_MAX);
    let background = Connections::new(opener(), POSTGRES_BACKGROUND_MAX);
    let mut reader = opener();
    reader.options = reader.options.options([("statement_timeout", CLIENT_STATEMENT_MAX)]);
    if is_walled {
        // Not with `set role`: `reset role` would lead back.
        reader.options = reader.options.options([("role", walls::READER)]);
    }
    let clients = Connections::new(reader, POSTGRES_CLIENTS_MAX);
    let leases = Connections::new(opener(), 1);
    let listening = PgPoolOptions::new().max_connections(1).acquire_timeout(LEND_TIMEOUT).connect_lazy_with(options);
    let mut first = Session::new(on_server(&pool).await.map_err(|error| unusable(&place, error))?);
    let clock = SteadyClock::at(clocks, reference_time::server_clock(&mut first).await?.0);
    Ok((Database::Postgres { pool, clients, background, leases, listening, is_walled }, clock))
}

/// Migrates a server's schema, and returns whether the wall between tenants stands. There is no timeout, because a change
/// to a large table may take long; one that the role, the database or the server sets does not count here.
async fn migrate_postgres(mut server: Server, place: &str) -> Result<bool, StoreError> {
    server.options = server.options.options(NO_TIMEOUTS);
    let connections = Connections::new(server, 1);
    let mut lent = Pooled::new(connections.lend().await.map_err(|error| unusable(place, error))?);
    let migrated = POSTGRES_SCHEMA.run(lent.begin()).await;
    migrated.map_err(|error| schema_refused(&POSTGRES_SCHEMA, error))?;
    walls::stand(lent.begin()).await.map_err(|error| unusable(place, error))
}

fn unusable(place: &str, error: Error) -> StoreError {
    // A server that is starting or cannot be reached yet is worth another try, unlike a wrong password.
    let passing = match &error {
        Error::NoneFree | Error::Postgres(sqlx::Error::Io(_)) => true,
        Error::Postgres(error) => state(error).is_some_and(|state| state.starts_with("57P") || state.starts_with("53")),
        Error::Sqlite(_) | Error::Unexpected(_) | Error::NotAsExpected | Error::FileGone(_) => false,
    };
    match passing && error_class(&error) == ErrorClass::Transient {
        true => {
            let cause = match &error {
                Error::NoneFree => "no server answers there".to_owned(),
                Error::Postgres(sqlx::Error::Io(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                    "no server answers there".to_owned()
                }
                other => cause(other),
            };
            StoreError::Unavailable(format!("{place}: {cause}"))
        }
        false => StoreError::Unusable(format!("cannot open the database {place}: {}", cause(&error))),
    }
}

fn schema_refused(schema: &Migrator, error: MigrateError) -> StoreError {
    let known = schema.iter().map(|migration| migration.version).max().unwrap_or(0);
    match error {
        MigrateError::VersionMissing(version) => StoreError::Unusable(format!(
            "the database has schema {version}, this engine knows schemas up to {known}: use the engine that wrote it, or a newer one"
        )),
        MigrateError::VersionMismatch(version) => StoreError::Unusable(format!(
            "schema {version} of the database is not the one this engine knows: it was made by another build"
        )),
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            StoreError::Unusable(format!("cannot prepare the database's schema: {}", cause(&error.into())))
        }
        other => StoreError::Unusable(format!("cannot prepare the database's schema: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l11_what_a_lost_owner_holds_is_free_before_half_of_its_lease_is_over() {
        for lease_ms in (3_000..200_000).step_by(137) {
            let lease = Duration::from_millis(lease_ms);
            let timeout = transaction_timeout(lease);
            assert!(timeout < lease / 2 && timeout >= lease / 50 && timeout <= TRANSACTION_TIMEOUT_MAX, "{lease:?}");
        }
    }
}
