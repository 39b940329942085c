//! The engine's settings and their meaning: a flag overrides the variable, the variable the file, the file the default.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use cerebelum_server::{CertificateFiles, Listen, PublicUrl, Reach, Span, TraceUrl};
use cerebelum_worker::{Config, SecretsKey};
use clap::{Args, CommandFactory, ValueEnum};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::args::Cli;
use crate::exit::{CliError, Outcome};
use crate::traces;

/// Variables with this prefix hold secrets.
const SECRET_PREFIX: &str = "CEREBELUM_SECRET_";

/// A wait of this length ends a trace: readers of a trace expect minutes and not days.
const TRACE_SEGMENT_AFTER: Duration = Duration::from_secs(600);

/// How the engine's own log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// For programs
    Json,
}

/// How many of the last runs of a chain are kept: a number, or none for `all`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "toml::Value")]
struct KeepRuns(Option<u32>);

impl FromStr for KeepRuns {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "all" => Ok(Self(None)),
            _ => text.parse().map(|keep| Self(Some(keep))).map_err(|_| "write a number of runs, such as 100, or `all`"),
        }
    }
}

impl TryFrom<toml::Value> for KeepRuns {
    type Error = &'static str;

    fn try_from(value: toml::Value) -> Result<Self, Self::Error> {
        match value {
            toml::Value::String(text) => text.parse(),
            other => other.to_string().parse(),
        }
    }
}

/// Settings as one layer gives them: the flags and variables (through clap), or the file. What is left out comes from
/// the layer below.
#[derive(Debug, Clone, Default, PartialEq, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// Where histories are kept: sqlite:FILE or postgres://… [default: sqlite:DATA/cerebelum.db]
    #[arg(long, value_name = "URL", env = "CEREBELUM_DATABASE", hide_env_values = true)]
    database: Option<String>,
    /// The address to listen on; beyond loopback only with TLS or behind a proxy [default: 127.0.0.1:9090]
    #[arg(long, value_name = "ADDRESS", env = "CEREBELUM_LISTEN", hide_env_values = true, value_parser = listen)]
    listen: Option<SocketAddr>,
    /// The certificate chain of the port, in PEM; it is read again when it changes
    #[arg(long, value_name = "FILE", env = "CEREBELUM_TLS_CERT", hide_env_values = true)]
    tls_cert: Option<PathBuf>,
    /// The private key of the certificate, in PEM
    #[arg(long, value_name = "FILE", env = "CEREBELUM_TLS_KEY", hide_env_values = true)]
    tls_key: Option<PathBuf>,
    /// Authorities in PEM: clients have to present a certificate that one of them has signed
    #[arg(long, value_name = "FILE", env = "CEREBELUM_TLS_CLIENT_CA", hide_env_values = true)]
    tls_client_ca: Option<PathBuf>,
    /// A proxy in front of the port has TLS; only the proxy may reach the port
    #[arg(long, value_name = "BOOL", env = "CEREBELUM_BEHIND_PROXY", hide_env_values = true, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    behind_proxy: Option<bool>,
    /// The address by which people reach this engine, for links in mails; with a path, such as https://example.com/ops, pages and REST are below that path
    #[arg(long, value_name = "URL", env = "CEREBELUM_PUBLIC_URL", hide_env_values = true)]
    #[serde(deserialize_with = "parsed")]
    public_url: Option<PublicUrl>,
    /// The address of a trace in the tool that shows traces, such as https://tempo.example.com/trace/{trace_id}: an execution's page leads there
    #[arg(long, value_name = "URL", env = "CEREBELUM_TRACE_URL", hide_env_values = true)]
    #[serde(deserialize_with = "parsed")]
    trace_url: Option<TraceUrl>,
    /// A file with keys for the secrets of tenants, 64 hex digits a line: the first one seals, all of them open; the same
    /// on all engines of a database
    #[arg(long, value_name = "FILE", env = "CEREBELUM_SECRETS_KEY", hide_env_values = true)]
    secrets_key: Option<PathBuf>,
    /// The folder for this engine's own files; one engine each [default: .cerebelum]
    #[arg(long, value_name = "DIR", env = "CEREBELUM_DATA", hide_env_values = true)]
    data: Option<PathBuf>,
    /// A host that steps may fetch from; * is any public address, loopback and private ones only when named
    #[arg(
        long,
        value_name = "HOST[:PORT]",
        env = "CEREBELUM_ALLOW_HTTP",
        hide_env_values = true,
        value_delimiter = ','
    )]
    allow_http: Option<Vec<String>>,
    /// How long an execution with nothing to do stays in memory [default: 2s]
    #[arg(long, value_name = "D", env = "CEREBELUM_HIBERNATE_AFTER", hide_env_values = true)]
    hibernate_after: Option<Span>,
    /// How long an execution is kept after its end; without it, for ever
    #[arg(long, value_name = "D", env = "CEREBELUM_KEEP_ENDED", hide_env_values = true)]
    keep_ended: Option<Span>,
    /// How many of the last runs of a chain are kept, 2 or more, or `all` [default: 100]
    #[arg(long, value_name = "N", env = "CEREBELUM_KEEP_RUNS", hide_env_values = true)]
    keep_runs: Option<KeepRuns>,
    /// How long the audit keeps what was done [default: 90d]
    #[arg(long, value_name = "D", env = "CEREBELUM_KEEP_AUDIT", hide_env_values = true)]
    keep_audit: Option<Span>,
    /// How long a version of a component is kept after another has replaced it, if no execution needs it [default: 30d]
    #[arg(long, value_name = "D", env = "CEREBELUM_KEEP_COMPONENTS", hide_env_values = true)]
    keep_components: Option<Span>,
    /// A wait of at least this long leaves memory at once [default: 1h]
    #[arg(long, value_name = "D", env = "CEREBELUM_HIBERNATE_AT_ONCE", hide_env_values = true)]
    hibernate_at_once: Option<Span>,
    /// How many executions may be in memory at once [default: 10000]
    #[arg(long, value_name = "N", env = "CEREBELUM_ACTIVATIONS_MAX", hide_env_values = true)]
    activations_max: Option<usize>,
    /// How much memory, in bytes, guests that only wait may have together; beyond it those that wait longest leave it [default: a quarter of the memory that this process may have]
    #[arg(long, value_name = "BYTES", env = "CEREBELUM_WARM_BYTES_MAX", hide_env_values = true)]
    warm_bytes_max: Option<u64>,
    /// How much linear memory, in bytes, all guests may have together [default: half of the memory that this process may have]
    #[arg(long, value_name = "BYTES", env = "CEREBELUM_MEMORY_BYTES_MAX", hide_env_values = true)]
    memory_bytes_max: Option<u64>,
    /// How much host memory, in bytes, may be held for guests and clients; beyond it nothing new begins and one execution at a time goes on [default: an eighth of the memory that this process may have]
    #[arg(long, value_name = "BYTES", env = "CEREBELUM_HOST_BYTES_MAX", hide_env_values = true)]
    host_bytes_max: Option<u64>,
    /// How long an engine may be silent before others on the same database take its work over; 3s or more [default: 10s]
    #[arg(long, value_name = "D", env = "CEREBELUM_LEASE", hide_env_values = true)]
    lease: Option<Span>,
    /// How many events of an execution may wait for the disk before its guest does; 0: each outcome is durable before it is delivered [default: 1000]
    #[arg(long, value_name = "N", env = "CEREBELUM_RUN_AHEAD_EVENTS_MAX", hide_env_values = true)]
    run_ahead_events_max: Option<usize>,
    /// How the engine's log on stderr is written; RUST_LOG says how much [default: text]
    #[arg(long, value_name = "FORMAT", env = "CEREBELUM_LOG_FORMAT", hide_env_values = true)]
    log_format: Option<LogFormat>,
    /// A wait of at least this long begins a new trace; OTEL_EXPORTER_OTLP_ENDPOINT says where spans go [default: 10m]
    #[arg(long, value_name = "D", env = "CEREBELUM_TRACE_SEGMENT_AFTER", hide_env_values = true)]
    trace_segment_after: Option<Span>,
    #[arg(skip)]
    secrets: BTreeMap<String, String>,
}

/// Every setting with its value.
pub(crate) struct Effective {
    pub(crate) engine: Config,
    pub(crate) listen: Listen,
    pub(crate) log_format: LogFormat,
    trace_segment_after: Duration,
    /// The file from which the keys for secrets were read.
    secrets_key: Option<PathBuf>,
}

/// The effective settings: `flags` over the file over the defaults; secrets from the file and from `variables`.
pub(crate) fn effective(
    flags: Settings,
    file: Option<&Path>,
    variables: impl Iterator<Item = (String, String)>,
) -> Outcome<Effective> {
    let below = file.map(read).transpose()?.unwrap_or_default();
    let mut engine = Config::new(flags.data.or(below.data).unwrap_or_else(|| ".cerebelum".into()));
    let set_span = |to: &mut Duration, flag: Option<Span>, below: Option<Span>| {
        *to = flag.or(below).map_or(*to, Span::duration);
    };
    set_span(&mut engine.hibernate_after, flags.hibernate_after, below.hibernate_after);
    set_span(&mut engine.hibernate_at_once, flags.hibernate_at_once, below.hibernate_at_once);
    set_span(&mut engine.lease, flags.lease, below.lease);
    set_span(&mut engine.keep_audit, flags.keep_audit, below.keep_audit);
    set_span(&mut engine.keep_components, flags.keep_components, below.keep_components);
    engine.database = flags.database.or(below.database).unwrap_or(engine.database);
    engine.allow_http = flags.allow_http.or(below.allow_http).unwrap_or(engine.allow_http);
    engine.keep_ended = flags.keep_ended.or(below.keep_ended).map(Span::duration).or(engine.keep_ended);
    engine.keep_runs = flags.keep_runs.or(below.keep_runs).map_or(engine.keep_runs, |keep| keep.0);
    engine.activations_max = flags.activations_max.or(below.activations_max).unwrap_or(engine.activations_max);
    engine.warm_bytes_max = flags.warm_bytes_max.or(below.warm_bytes_max).unwrap_or(engine.warm_bytes_max);
    engine.memory_bytes_max = flags.memory_bytes_max.or(below.memory_bytes_max).unwrap_or(engine.memory_bytes_max);
    engine.host_bytes_max = flags.host_bytes_max.or(below.host_bytes_max).unwrap_or(engine.host_bytes_max);
    engine.run_ahead_events_max =
        flags.run_ahead_events_max.or(below.run_ahead_events_max).unwrap_or(engine.run_ahead_events_max);
    engine.secrets = below.secrets;
    let variables: BTreeMap<String, String> = variables.collect();
    let secret =
        |(name, value): (&String, &String)| Some((name.strip_prefix(SECRET_PREFIX)?.to_owned(), value.clone()));
    engine.secrets.extend(variables.iter().filter_map(secret));
    let mut trace_segment_after = TRACE_SEGMENT_AFTER;
    set_span(&mut trace_segment_after, flags.trace_segment_after, below.trace_segment_after);
    engine.traces = traces::settings(&variables, trace_segment_after).map_err(CliError::usage)?;
    let secrets_key = flags.secrets_key.or(below.secrets_key);
    engine.secrets_keys = secrets_key.as_deref().map(read_keys).transpose()?.unwrap_or_default();
    engine.check().map_err(CliError::usage)?;
    let certificate = (flags.tls_cert.or(below.tls_cert), flags.tls_key.or(below.tls_key));
    let client_authorities = flags.tls_client_ca.or(below.tls_client_ca);
    let reach =
        reach((certificate, client_authorities), flags.behind_proxy.or(below.behind_proxy).unwrap_or_default())?;
    engine.closed = reach != Reach::ThisMachine;
    let address = flags.listen.or(below.listen).unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 9090)));
    Ok(Effective {
        engine,
        listen: Listen {
            address,
            reach,
            public_url: flags.public_url.or(below.public_url),
            trace_url: flags.trace_url.or(below.trace_url),
        },
        log_format: flags.log_format.or(below.log_format).unwrap_or(LogFormat::Text),
        trace_segment_after,
        secrets_key,
    })
}

/// From where clients may come.
fn reach(
    (certificate, client_authorities): ((Option<PathBuf>, Option<PathBuf>), Option<PathBuf>),
    behind_proxy: bool,
) -> Outcome<Reach> {
    match (certificate, behind_proxy) {
        ((None, None), _) if client_authorities.is_some() => Err(CliError::usage(
            "clients have certificates only where this engine has TLS: set --tls-cert and --tls-key too",
        )),
        ((None, None), false) => Ok(Reach::ThisMachine),
        ((None, None), true) => Ok(Reach::BehindProxy),
        ((Some(certificate), Some(key)), false) => {
            Ok(Reach::Tls(CertificateFiles { certificate, key, client_authorities }))
        }
        ((Some(_), Some(_)), true) => {
            Err(CliError::usage("either this engine has TLS or the proxy: leave out --tls-cert or --behind-proxy"))
        }
        _ => Err(CliError::usage("a certificate and its key belong together: set both --tls-cert and --tls-key")),
    }
}

fn read_keys(path: &Path) -> Outcome<Vec<SecretsKey>> {
    let wrong = |why: String| CliError::usage(format!("the keys for secrets in {}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
    SecretsKey::read_all(&text).map_err(wrong)
}

fn read(path: &Path) -> Outcome<Settings> {
    let name = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|e| CliError::usage(format!("cannot read the configuration {name}: {e}")))?;
    toml::from_str(&text).map_err(|e| {
        let line = e.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
        CliError::usage(format!("{name}, line {line}: {}", e.message().replace('\n', " ")))
    })
}

/// The variables of this process that are text.
pub(crate) fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

impl Effective {
    /// As a configuration file with a comment on each key; secrets by name only.
    pub(crate) fn to_toml(&self) -> String {
        let mut text = String::new();
        for (key, value) in self.entries() {
            let (meaning, variable) = explain(key);
            text.push_str(&format!("# {meaning}\n# --{}, {variable}\n", key.replace('_', "-")));
            text.push_str(&match value {
                Some(value) => format!("{key} = {value}\n\n"),
                None => format!("# {key} =\n\n"),
            });
        }
        text.push_str("# What steps may put into requests as {{secret:NAME}}; values are not shown\n");
        text.push_str(&format!("# {SECRET_PREFIX}<NAME>\n[secrets]\n"));
        for name in self.engine.secrets.keys() {
            text.push_str(&format!("# {name}\n"));
        }
        text
    }

    fn entries(&self) -> [(&'static str, Option<toml::Value>); 25] {
        let text = |value: String| Some(toml::Value::String(value));
        let span = |value: Duration| text(Span::of(value).to_string());
        let number = |value: usize| Some(i64::try_from(value).unwrap_or(i64::MAX).into());
        let bytes = |value: u64| Some(i64::try_from(value).unwrap_or(i64::MAX).into());
        let format = self.log_format.to_possible_value().map(|value| value.get_name().to_owned());
        let (engine, reach) = (&self.engine, &self.listen.reach);
        let file = |path: &Path| text(path.display().to_string());
        let (certificate, key, client_authorities) = match reach {
            Reach::Tls(files) => {
                (file(&files.certificate), file(&files.key), files.client_authorities.as_deref().and_then(file))
            }
            _ => (None, None, None),
        };
        [
            ("database", text(without_password(&engine.database))),
            ("listen", text(self.listen.address.to_string())),
            ("tls_cert", certificate),
            ("tls_key", key),
            ("tls_client_ca", client_authorities),
            ("behind_proxy", Some((*reach == Reach::BehindProxy).into())),
            ("public_url", self.listen.public_url.as_ref().and_then(|url| text(url.to_string()))),
            ("trace_url", self.listen.trace_url.as_ref().and_then(|url| text(url.to_string()))),
            ("secrets_key", self.secrets_key.as_deref().and_then(file)),
            ("data", text(engine.data.display().to_string())),
            ("allow_http", Some(engine.allow_http.clone().into())),
            ("hibernate_after", span(engine.hibernate_after)),
            ("hibernate_at_once", span(engine.hibernate_at_once)),
            ("keep_ended", engine.keep_ended.and_then(span)),
            ("keep_runs", engine.keep_runs.map_or_else(|| text("all".to_owned()), |keep| Some(i64::from(keep).into()))),
            ("keep_audit", span(engine.keep_audit)),
            ("keep_components", span(engine.keep_components)),
            ("activations_max", number(engine.activations_max)),
            ("warm_bytes_max", bytes(engine.warm_bytes_max)),
            ("memory_bytes_max", bytes(engine.memory_bytes_max)),
            ("host_bytes_max", bytes(engine.host_bytes_max)),
            ("run_ahead_events_max", number(engine.run_ahead_events_max)),
            ("lease", span(engine.lease)),
            ("log_format", format.map(toml::Value::String)),
            ("trace_segment_after", span(self.trace_segment_after)),
        ]
    }
}

/// The meaning of a key and the variable that sets it. The text is the flag's own help, so that there is only one text.
fn explain(key: &str) -> (String, String) {
    let cli = Cli::command();
    let flag = cli
        .find_subcommand("serve")
        .and_then(|serve| serve.get_arguments().find(|argument| argument.get_id() == key))
        .expect("every key is a flag of serve");
    let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
    let variable = flag.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    (help, variable)
}

/// A database's address without its password, to be shown.
pub(crate) fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    // A password may contain an `@`, a host cannot.
    let Some((account, place)) = rest.rsplit_once('@') else { return url.to_owned() };
    match account.split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:…@{place}"),
        None => url.to_owned(),
    }
}

/// A value that is written as a text.
fn parsed<'de, T, D>(from: D) -> Result<Option<T>, D::Error>
where
    T: FromStr<Err: Display>,
    D: Deserializer<'de>,
{
    let text = Option::<String>::deserialize(from)?;
    text.map(|text| text.parse()).transpose().map_err(D::Error::custom)
}

/// An address to listen on.
fn listen(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "write an address and a port, such as 127.0.0.1:9090")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::Verb;

    fn flags(line: &[&str]) -> Settings {
        let cli = Cli::try_parse_from(["cerebelum", "serve"].iter().chain(line)).unwrap();
        let Verb::Serve(serve) = cli.verb else { panic!("serve was asked for") };
        serve.settings
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn a_flag_beats_the_file_and_the_file_beats_the_default() {
        let file = file("data = \"/var/lib/c\"\nhibernate_after = \"1m\"\nallow_http = [\"a\", \"b\"]\n");
        let shown = effective(flags(&["--hibernate-after", "5s"]), Some(file.path()), [].into_iter()).unwrap();
        assert_eq!(shown.engine.hibernate_after, Duration::from_secs(5));
        assert_eq!(shown.engine.database, "sqlite:/var/lib/c/cerebelum.db");
        assert_eq!(shown.engine.allow_http, ["a", "b"]);
        assert_eq!(shown.engine.run_ahead_events_max, 1_000);
        let named =
            effective(flags(&["--allow-http", "x", "--allow-http", "y:1,z"]), Some(file.path()), [].into_iter());
        assert_eq!(named.unwrap().engine.allow_http, ["x", "y:1", "z"]);
    }

    #[test]
    fn secrets_come_from_the_file_and_a_variable_beats_it() {
        let file = file("[secrets]\nA = \"1\"\nB = \"2\"\n");
        let variables = [("CEREBELUM_SECRET_B", "hush"), ("CEREBELUM_SECRET_c", "4"), ("HOME", "/")];
        let variables = variables.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned()));
        let shown = effective(Settings::default(), Some(file.path()), variables).unwrap();
        let expected = [("A", "1"), ("B", "hush"), ("c", "4")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(shown.engine.secrets, expected.into());
        assert!(!shown.to_toml().contains("hush"), "a secret's value is shown");
    }

    #[test]
    fn unknown_and_malformed_keys_are_named_with_their_line() {
        let why =
            |text: &str| effective(Settings::default(), Some(file(text).path()), [].into_iter()).err().unwrap().line;
        let unknown = why("data = \"x\"\nhibernate_aftr = \"1s\"\n");
        assert!(unknown.contains("line 2") && unknown.contains("hibernate_aftr"), "{unknown}");
        assert!(why("keep_ended = \"soon\"").contains("write 500ms"));
        assert!(why("data = ").contains("line 1"));
        assert!(!why("data = 1").contains('\n'));
    }

    #[test]
    fn what_is_printed_can_be_read_again() {
        let shown = effective(flags(&["--keep-ended", "30d"]), None, [].into_iter()).unwrap();
        let again = effective(Settings::default(), Some(file(&shown.to_toml()).path()), [].into_iter()).unwrap();
        assert_eq!(shown.to_toml(), again.to_toml());
        assert_eq!(again.engine.keep_ended, Some(Duration::from_secs(30 * 86_400)));
        assert!(shown.to_toml().contains("CEREBELUM_KEEP_ENDED"));
    }

    #[test]
    fn runs_are_kept_by_their_number_or_all_of_them() {
        let of = |text: &str| effective(Settings::default(), Some(file(text).path()), [].into_iter());
        for (text, expected) in [("", Some(100)), ("keep_runs = 7", Some(7)), ("keep_runs = \"all\"", None)] {
            let shown = of(text).unwrap();
            assert_eq!(shown.engine.keep_runs, expected, "{text}");
            assert_eq!(of(&shown.to_toml()).unwrap().engine.keep_runs, expected, "{text}");
        }
        for text in ["keep_runs = 1", "keep_runs = 0"] {
            assert!(of(text).err().unwrap().line.contains("to 2 or more, or to `all`"), "{text}");
        }
        assert!(of("keep_runs = \"some\"").err().unwrap().line.contains("such as 100, or `all`"));
        assert_eq!(effective(flags(&["--keep-runs", "all"]), None, [].into_iter()).unwrap().engine.keep_runs, None);
    }

    #[test]
    fn a_password_is_not_shown() {
        assert_eq!(without_password("postgres://me:a@b:c@host:5432/db"), "postgres://me:…@host:5432/db");
        assert_eq!(without_password("postgres://host/db"), "postgres://host/db");
        assert_eq!(without_password("sqlite:.cerebelum/cerebelum.db"), "sqlite:.cerebelum/cerebelum.db");
    }

    #[test]
    fn every_key_has_a_variable_that_names_it() {
        for (key, _) in effective(Settings::default(), None, [].into_iter()).unwrap().entries() {
            let (meaning, variable) = explain(key);
            assert_eq!(variable, format!("CEREBELUM_{}", key.to_uppercase()));
            assert!(!meaning.is_empty());
        }
    }
}
