//! The settings for operators, with their defaults.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZero;
use std::path::PathBuf;
use std::time::Duration;

use cerebelum_sandbox::memory_to_share;

use crate::fetch::is_host;
use crate::traces::TraceSettings;
use crate::vault::SecretsKey;

/// The shortest lease. A lease is renewed every third of its duration, and an effect leaves only while more than a
/// second of it is left. With a shorter lease, one slow renewal would keep every request of every step from leaving.
pub const LEASE_MIN: Duration = Duration::from_secs(3);

/// The fewest runs of a chain that are kept: the present one, and the one that it continues.
pub const KEEP_RUNS_MIN: u32 = 2;

/// The settings of one engine.
#[derive(Clone)]
pub struct Config {
    /// The folder for its own files: the artifact cache, its node id, the default database.
    pub data: PathBuf,
    /// `sqlite:FILE` or `postgres://…`.
    pub database: String,
    /// Hosts (`host` or `host:port`) that steps may `fetch` from; `*` means any public address.
    pub allow_http: Vec<String>,
    /// The addresses of this engine. No request of a step goes there, even if `allow_http` permits it.
    pub listens_on: Vec<SocketAddr>,
    /// Whether an engine without tokens refuses every client, because clients of other machines reach it.
    pub closed: bool,
    /// Secrets by name, for `{{secret:NAME}}` in requests.
    pub secrets: BTreeMap<String, String>,
    /// Keys with which the secrets of tenants are sealed: the first one seals, all of them open. Without any, secrets
    /// cannot be stored.
    pub secrets_keys: Vec<SecretsKey>,
    /// How long an execution with nothing to do stays in memory.
    pub hibernate_after: Duration,
    /// A wait at least this long hibernates at once.
    pub hibernate_at_once: Duration,
    /// How many events may be ahead of the log per execution; 0 makes each outcome durable before it is delivered.
    pub run_ahead_events_max: usize,
    /// How many executions may be in memory at once.
    pub activations_max: usize,
    /// How many guests of one execution may move at once, so that other executions get their share of the machine.
    pub guests_moving_max: usize,
    /// How much memory, in bytes, waiting guests may have together. Beyond that, the guests that are cheapest to rerun
    /// are evicted.
    pub warm_bytes_max: u64,
    /// How much linear memory, in bytes, all guests may have together.
    pub memory_bytes_max: u64,
    /// How much host memory, in bytes, may be held for guests and clients before only one execution at a time goes on.
    pub host_bytes_max: u64,
    /// The program that compiles components in a process of its own, which is limited and has no files and no network; see
    /// [`run_as_compile_box`](crate::run_as_compile_box). With none, the engine compiles, and a hostile component can
    /// keep it busy and use up its memory.
    pub compile_box: Option<PathBuf>,
    /// How long a node may be silent before other nodes take over its claims.
    pub lease: Duration,
    /// How often the engine checks for work that no hint announced.
    pub backstop: Duration,
    /// How long a graceful stop may take.
    pub drain: Duration,
    /// Ended executions older than this are deleted; none keeps them forever.
    pub keep_ended: Option<Duration>,
    /// How many of the last runs of a chain are kept; none keeps all.
    pub keep_runs: Option<u32>,
    /// Acts in the audit older than this are deleted.
    pub keep_audit: Duration,
    /// Versions of components that were replaced longer ago than this and that no execution can need any more are
    /// removed.
    pub keep_components: Duration,
    /// Where spans of executions go; none exports none.
    pub traces: Option<TraceSettings>,
}

impl Config {
    /// The defaults, for an engine that keeps its files in `data`.
    #[must_use]
    pub fn new(data: impl Into<PathBuf>) -> Self {
        let data = data.into();
        let database = format!("sqlite:{}", data.join("cerebelum.db").display());
        Self {
            data,
            database,
            allow_http: Vec::new(),
            listens_on: Vec::new(),
            closed: false,
            secrets: BTreeMap::new(),
            secrets_keys: Vec::new(),
            hibernate_after: Duration::from_secs(2),
            hibernate_at_once: Duration::from_secs(3600),
            run_ahead_events_max: 1_000,
            activations_max: 10_000,
            guests_moving_max: std::thread::available_parallelism().map_or(1, NonZero::get) * 4,
            // The other half of the guests' memory is for guests that move.
            warm_bytes_max: memory_to_share() / 4,
            memory_bytes_max: memory_to_share() / 2,
            host_bytes_max: memory_to_share() / 8,
            compile_box: None,
            lease: Duration::from_secs(10),
            backstop: Duration::from_secs(2),
            drain: Duration::from_secs(10),
            keep_ended: None,
            keep_runs: Some(100),
            keep_audit: Duration::from_secs(90 * 86_400),
            keep_components: Duration::from_secs(30 * 86_400),
            traces: None,
        }
    }

    /// Whether an engine can run with these settings.
    ///
    /// # Errors
    /// One line for a person: which setting cannot be used, and what to set it to.
    pub fn check(&self) -> Result<(), String> {
        if self.keep_audit.is_zero() {
            return Err(
                "the audit cannot be kept for no time at all: set `keep_audit` to the time that it is kept".to_owned()
            );
        }
        if self.keep_runs.is_some_and(|keep| keep < KEEP_RUNS_MIN) {
            return Err(format!(
                "the present run of a chain and the one before it are always kept: set `keep_runs` to {KEEP_RUNS_MIN} or more, or to `all`"
            ));
        }
        if !["sqlite:", "postgres://", "postgresql://"].iter().any(|kind| self.database.starts_with(kind)) {
            return Err("a database is `sqlite:FILE` or `postgres://USER@HOST/NAME`: set `database` to one".to_owned());
        }
        if self.activations_max == 0 {
            return Err("an engine with room for no execution runs none: set `activations_max` to 1 or more".to_owned());
        }
        if let Some(wrong) = self.allow_http.iter().find(|host| *host != "*" && !is_host(host)) {
            return Err(format!(
                "`{}` in `allow_http` is not a host: write a name or an address, and a port if it is not any, such as \
                 api.example.com:443, or * for all",
                wrong.escape_debug()
            ));
        }
        if self.lease >= LEASE_MIN {
            return Ok(());
        }
        let (lease, least) = (self.lease.as_millis(), LEASE_MIN.as_secs());
        Err(format!(
            "a lease of {lease} ms is too short for requests of steps to leave: set `lease` to {least}s or more"
        ))
    }
}
