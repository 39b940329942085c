//! The durable state while the engine is dead, read from its database without changing it.

use std::collections::BTreeMap;

use cerebelum_history::{CallName, Event, Message, OpenCall, Seed};
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};

use test_engine::Database;

/// An execution as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) number: i64,
    pub(crate) id: String,
    pub(crate) run: u32,
    pub(crate) position: u64,
    pub(crate) status: String,
    pub(crate) is_open: bool,
    /// Open, not claimed, and waiting for something to happen.
    pub(crate) hibernates: bool,
    pub(crate) parked: Option<String>,
    pub(crate) parent: Option<String>,
    pub(crate) seed: Seed,
    pub(crate) runs: BTreeMap<u32, Vec<Event>>,
    pub(crate) calls: BTreeMap<CallName, OpenCall>,
    pub(crate) inbox: Vec<Message>,
}

/// The executions to read.
#[derive(Debug, Clone)]
pub(crate) enum Wanted {
    /// The open ones, all with a number above this one, and further ones.
    Moving { above: i64, also: Vec<i64> },
    /// All with a number above the first one, up to the last one.
    Between(i64, i64),
}

impl Wanted {
    fn clause(&self) -> String {
        match self {
            Self::Moving { above, also } => {
                let also: String = also.iter().map(|number| format!(", {number}")).collect();
                format!("(state = 0 or execution_no > {above} or execution_no in (0{also}))")
            }
            Self::Between(above, last) => format!("(execution_no > {above} and execution_no <= {last})"),
        }
    }
}

const HEADS: &str = "
    select execution_no as number, id, cast(run as bigint) as run, cast(position as bigint) as position, status, cast(state as bigint) as state,
        cast(settled as bigint) as settled, owner, parked, parent_id, seed
    from executions
    where WANTED
    order by execution_no";

const HISTORY: &str = "
    select execution_no as number, cast(run as bigint) as run, cast(first_position as bigint) as first, cast(last_position as bigint) as last, events
    from history
    where execution_no in (select execution_no from executions where WANTED)
    order by execution_no, run, first_position";

const CALLS: &str = "
    select execution_no as number, call, state
    from calls
    where execution_no in (select execution_no from executions where WANTED)";

const INBOX: &str = "
    select execution_no as number, message
    from inbox
    where execution_no in (select execution_no from executions where WANTED)
    order by seq";

/// The bytes of all executions, in their rows and as their tenants have them.
const BYTES: &str = "
    select cast(coalesce((select sum(bytes) from executions), 0) as bigint) as counted,
        cast(coalesce((select sum(bytes) from tenant_bytes), 0) as bigint) as summed";

const OTHERS: &str = "
    select count(*)
    from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'";

macro_rules! read_with {
    ($connection:expr, $wanted:expr) => {{
        let mut connection = $connection;
        let words = |sql: &str| AssertSqlSafe(sql.replace("WANTED", $wanted));
        let mut found: BTreeMap<i64, Stored> = BTreeMap::new();
        for row in sqlx::query(words(HEADS)).fetch_all(&mut connection).await? {
            let (state, settled): (i64, i64) = (row.try_get("state")?, row.try_get("settled")?);
            let (owner, parked): (Option<i64>, Option<String>) = (row.try_get("owner")?, row.try_get("parked")?);
            let seed: Vec<u8> = row.try_get("seed")?;
            let stored = Stored {
                number: row.try_get("number")?,
                id: row.try_get("id")?,
                run: u32::try_from(row.try_get::<i64, _>("run")?)?,
                position: u64::try_from(row.try_get::<i64, _>("position")?)?,
                status: row.try_get("status")?,
                is_open: state == 0,
                hibernates: state == 0 && settled == 1 && owner.is_none() && parked.is_none(),
                parked,
                parent: row.try_get("parent_id")?,
                seed: Seed(seed.try_into().map_err(|_| anyhow::anyhow!("a seed has 32 bytes"))?),
                runs: BTreeMap::new(),
                calls: BTreeMap::new(),
                inbox: Vec::new(),
            };
            found.insert(stored.number, stored);
        }
        for row in sqlx::query(words(HISTORY)).fetch_all(&mut connection).await? {
            let (first, last): (i64, i64) = (row.try_get("first")?, row.try_get("last")?);
            let run = u32::try_from(row.try_get::<i64, _>("run")?)?;
            let Some(stored) = found.get_mut(&row.try_get("number")?) else { continue };
            stored.keep_chunk(run, (first, last), row.try_get("events")?)?;
        }
        for row in sqlx::query(words(CALLS)).fetch_all(&mut connection).await? {
            let Some(stored) = found.get_mut(&row.try_get("number")?) else { continue };
            let call = OpenCall::decode(row.try_get("state")?).map_err(anyhow::Error::msg)?;
            stored.calls.insert(row.try_get::<&str, _>("call")?.parse()?, call);
        }
        for row in sqlx::query(words(INBOX)).fetch_all(&mut connection).await? {
            let Some(stored) = found.get_mut(&row.try_get("number")?) else { continue };
            stored.inbox.push(serde_json::from_str(row.try_get("message")?)?);
        }
        let bytes = sqlx::query(BYTES).fetch_one(&mut connection).await?;
        let (counted, summed): (i64, i64) = (bytes.try_get("counted")?, bytes.try_get("summed")?);
        anyhow::ensure!(counted == summed, "executions have stored {counted} bytes, and their tenants {summed}");
        connection.close().await?;
        found
    }};
}

impl Stored {
    fn keep_chunk(&mut self, run: u32, (first, last): (i64, i64), text: &str) -> anyhow::Result<()> {
        let events = self.runs.entry(run).or_default();
        let chunk = Event::decode(text)?;
        let expected = (events.len() as i64 + 1, events.len() as i64 + chunk.len() as i64);
        let id = &self.id;
        anyhow::ensure!(
            (first, last) == expected,
            "I2: run {run} of {id} has a gap: positions {first}..{last} stand where {expected:?} should"
        );
        events.extend(chunk);
        Ok(())
    }

    /// The events of the current run.
    pub(crate) fn events(&self) -> &[Event] {
        self.runs.get(&self.run).map_or(&[], Vec::as_slice)
    }
}

/// Reads the wanted executions. A SQLite file is not written, so that its log is still there for the engine to recover.
pub(crate) async fn read(database: Database, url: &str, wanted: &Wanted) -> anyhow::Result<Vec<Stored>> {
    let clause = wanted.clause();
    let found = match database {
        Database::Sqlite => {
            let file = url.strip_prefix("sqlite:").unwrap_or(url);
            read_with!(SqliteConnectOptions::new().filename(file).read_only(true).connect().await?, &clause)
        }
        Database::Postgres => {
            let options: PgConnectOptions = url.parse()?;
            let mut connection = options.disable_statement_logging().connect().await?;
            // A COMMIT that the killed engine had sent is still carried out.
            while sqlx::query_scalar::<_, i64>(OTHERS).fetch_one(&mut connection).await? > 0 {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            read_with!(connection, &clause)
        }
    };
    Ok(found.into_values().collect())
}
