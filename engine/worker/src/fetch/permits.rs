//! Decides which hosts requests may reach: what the operator allows, and the addresses that no setting opens. The
//! decision is made per host and port, and again for each connection, on the addresses that it may be opened to.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use tokio::sync::Semaphore;
use url::Url;

/// How many names are resolved at once for one tenant: each look-up holds a thread until the system's resolver answers.
const TENANT_LOOKUPS_MAX: usize = 64;

/// The longest name of a host, in bytes.
const HOST_BYTES_MAX: usize = 253;
/// The usual port of https.
const HTTPS_PORT: u16 = 443;

/// Why a request may not be sent to its destination. Another attempt is not worthwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotGranted(pub(crate) String);

impl fmt::Display for NotGranted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotGranted {}

/// `host` or `host:port`, as an operator or a component declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    host: String,
    port: Option<u16>,
}

impl Entry {
    fn of(text: &str) -> Self {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => match port.parse() {
                Ok(port) => (host, Some(port)),
                Err(_) => (text, None),
            },
            _ => (text, None),
        };
        Self { host: bare(host).to_ascii_lowercase(), port }
    }

    fn names(&self, host: &str, port: u16) -> bool {
        self.host == bare(host).to_ascii_lowercase() && self.port.is_none_or(|on| on == port)
    }
}

/// A host without the brackets around an IPv6 address.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}

/// Whether this is `host` or `host:port` as a URL would have it: without a scheme, a path, a user or a placeholder, and in the
/// form in which URLs are compared. Any other entry would match nothing.
pub(crate) fn is_host(text: &str) -> bool {
    let Entry { host, port } = Entry::of(text);
    let shown = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let url = Url::parse(&format!("http://{shown}/"));
    let is_plain = |url: &Url| url.host_str().is_some_and(|parsed| bare(parsed) == host) && url.port().is_none();
    !host.is_empty()
        && !host.contains('*')
        && host.len() <= HOST_BYTES_MAX
        && port != Some(0)
        && url.is_ok_and(|url| is_plain(&url))
}

/// Whether a list of hosts, as a component declares it, contains this host and port.
pub(crate) fn asks_for(hosts: &[String], host: &str, port: u16) -> bool {
    hosts.iter().any(|entry| entry == "*" || Entry::of(entry).names(host, port))
}

/// Whether all that one declared host stands for is part of what another one stands for.
pub(crate) fn covers(granted: &str, asked: &str) -> bool {
    let (granted_entry, asked_entry) = (Entry::of(granted), Entry::of(asked));
    granted == "*"
        || (granted_entry.host == asked_entry.host && granted_entry.port.is_none_or(|on| asked_entry.port == Some(on)))
}

/// Whether a secret for these hosts may go there. An entry without a port means https on its usual port: over plain http
/// every machine on the way could read it.
pub(crate) fn may_receive(hosts: &[String], (host, port): (&str, u16), is_https: bool) -> bool {
    hosts
        .iter()
        .map(|entry| Entry::of(entry))
        .any(|entry| entry.names(host, port) && (entry.port.is_some() || (is_https && port == HTTPS_PORT)))
}

/// The addresses that a host and port may resolve to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// The operator named this host on this port: private addresses are allowed, too.
    Named,
    /// Only addresses of the public internet.
    Public,
}

/// The destinations that an engine permits.
#[derive(Clone)]
pub(crate) struct Permits {
    any_public: bool,
    named: Vec<Entry>,
    /// The addresses on which this engine listens.
    listeners: Vec<SocketAddr>,
    /// The host of its database (none: a local socket) and the port.
    database: Option<(Option<String>, u16)>,
    lookups: Arc<Semaphore>,
    /// A limit that others share.
    all_lookups: Option<Arc<Semaphore>>,
}

impl Permits {
    /// Permits what `allowed` lists, but never the engine's own `listeners` and its `database`.
    pub(crate) fn new(allowed: &[String], listeners: Vec<SocketAddr>, database: Option<(Option<String>, u16)>) -> Self {
        Self {
            any_public: allowed.iter().any(|entry| entry == "*"),
            named: allowed.iter().filter(|entry| *entry != "*").map(|entry| Entry::of(entry)).collect(),
            listeners,
            database,
            lookups: Arc::new(Semaphore::new(TENANT_LOOKUPS_MAX)),
            all_lookups: None,
        }
    }

    /// Resolves names in turn with others that share this limit.
    pub(crate) fn sharing(self, all_lookups: Arc<Semaphore>) -> Self {
        Self { all_lookups: Some(all_lookups), ..self }
    }

    /// Rejects hosts and ports that the operator did not allow, before any name is resolved.
    pub(crate) fn check(&self, host: &str, port: u16) -> Result<(), NotGranted> {
        let reach = self.reach(host, port)?;
        if let Ok(literal) = bare(host).parse() {
            // The addresses of the database are checked when a connection is opened.
            self.judge((host, port), reach, (literal, &[]))?;
        }
        match &self.database {
            Some((Some(database), on)) if *on == port && database.eq_ignore_ascii_case(bare(host)) => {
                Err(never((host, port), OWN_DATABASE))
            }
            _ => Ok(()),
        }
    }

    /// The addresses to which a connection for this host and port may be opened.
    ///
    /// # Errors
    /// [`NotGranted`], as the inner error, when one of them is closed to requests; otherwise the resolver's error.
    pub(crate) async fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let refused = |why: NotGranted| io::Error::other(why);
        self.check(host, port).map_err(refused)?;
        let reach = self.reach(host, port).map_err(refused)?;
        let found = self.look_up(bare(host), port).await?;
        let database = self.database_behind(port).await;
        for address in &found {
            self.judge((host, port), reach, (address.ip(), &database)).map_err(refused)?;
        }
        Ok(found)
    }

    fn reach(&self, host: &str, port: u16) -> Result<Reach, NotGranted> {
        if self.named.iter().any(|entry| entry.names(host, port)) {
            return Ok(Reach::Named);
        }
        if self.any_public && matches!(port, 80 | 443) {
            return Ok(Reach::Public);
        }
        Err(unnamed((host, port)))
    }

    /// Checks whether a request for `called` may be sent to this address, given the addresses of the database.
    fn judge(
        &self,
        called: (&str, u16),
        reach: Reach,
        (address, database): (IpAddr, &[IpAddr]),
    ) -> Result<(), NotGranted> {
        let (port, seen) = (called.1, unwrapped(address));
        if is_metadata(seen) {
            return Err(never(called, "it is where a cloud keeps its machines' credentials"));
        }
        if self.listeners.iter().any(|own| own.port() == port && leads_to(own.ip().to_canonical(), seen)) {
            return Err(never(called, "it is this engine itself"));
        }
        let is_database = match &self.database {
            Some((None, on)) => *on == port && is_here(seen),
            Some((Some(_), on)) => *on == port && database.iter().any(|own| leads_to(unwrapped(*own), seen)),
            None => false,
        };
        if is_database {
            return Err(never(called, OWN_DATABASE));
        }
        match reach {
            Reach::Named => Ok(()),
            Reach::Public if is_public(address) => Ok(()),
            Reach::Public if bare(called.0).parse::<IpAddr>().is_ok() => Err(unnamed(called)),
            Reach::Public => Err(NotGranted(format!(
                "`{}` leads to an address that is not public: allow it with --allow-http {}:{port}",
                called.0, called.0
            ))),
        }
    }

    /// The addresses of the database, if this is its port.
    async fn database_behind(&self, port: u16) -> Vec<IpAddr> {
        let Some((Some(host), on)) = &self.database else { return Vec::new() };
        if *on != port {
            return Vec::new();
        }
        // If the name cannot be resolved now, no address can be compared with it; but the engine has no database then
        // either.
        let found = self.look_up(bare(host), port).await.unwrap_or_default();
        found.into_iter().map(|address| address.ip()).collect()
    }

    async fn look_up(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(literal) = host.parse() {
            return Ok(vec![SocketAddr::new(literal, port)]);
        }
        let turn = self.lookups.clone().acquire_owned().await.map_err(io::Error::other)?;
        let shared = match &self.all_lookups {
            Some(all) => Some(all.clone().acquire_owned().await.map_err(io::Error::other)?),
            None => None,
        };
        let host = host.to_owned();
        let looked_up = tokio::task::spawn_blocking(move || {
            // Held until the resolver has answered, even when the request is gone.
            let _turn = (turn, shared);
            (host.as_str(), port).to_socket_addrs().map(Iterator::collect)
        });
        looked_up.await.map_err(io::Error::other)?
    }
}

const OWN_DATABASE: &str = "it is this engine's database";

fn never((host, port): (&str, u16), why: &str) -> NotGranted {
    NotGranted(format!("requests to {host}:{port} are never allowed: {why}"))
}

fn unnamed((host, port): (&str, u16)) -> NotGranted {
    NotGranted(format!(
        "the engine does not allow requests to {host}:{port}: start it with --allow-http {host}:{port}, or allow the host to one tenant with `cerebelum tenant set-hosts`"
    ))
}

/// Whether a connection to `seen` arrives at a socket that is bound to `own`.
fn leads_to(own: IpAddr, seen: IpAddr) -> bool {
    match own {
        own if own.is_unspecified() => is_here(seen) || is_local(seen),
        own if own.is_loopback() => is_here(seen),
        own => own == seen || seen.is_unspecified(),
    }
}

/// Whether an address refers to the machine that it is used on.
fn is_here(address: IpAddr) -> bool {
    address.is_loopback() || address.is_unspecified()
}

/// Whether this machine has the address: no other address can be bound.
fn is_local(address: IpAddr) -> bool {
    std::net::TcpListener::bind((address, 0)).is_ok()
}

/// The address that packets are delivered to. Unwraps IPv4 addresses that are embedded in IPv6.
fn unwrapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => embedded(v6).map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

/// Whether clouds serve the machine's credentials at this address: link-local addresses, and some others.
fn is_metadata(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            // Alibaba, Azure, Oracle (the older one).
            const ELSEWHERE: [[u8; 4]; 3] = [[100, 100, 100, 200], [168, 63, 129, 16], [192, 0, 0, 192]];
            v4.is_link_local() || ELSEWHERE.contains(&v4.octets())
        }
        IpAddr::V6(v6) => {
            let segments = v6.segments();
            // AWS, Google, Scaleway.
            let private = matches!(segments, [0xfd00, 0xec2, ..] | [0xfd20, 0xce, ..] | [0xfd00, 0x42, .., 0x42]);
            private || segments[0] & 0xffc0 == 0xfe80
        }
    }
}

/// Whether an address belongs to the public internet. IPv4 addresses that are embedded in IPv6 are unwrapped first.
fn is_public(address: IpAddr) -> bool {
    match unwrapped(address) {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            !(v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_broadcast() || v4.is_documentation())
                && !(v4.is_multicast() || a == 0 || a >= 240)
                && !(a == 100 && (64..128).contains(&b)
                    || a == 198 && (18..20).contains(&b)
                    || (a, b, c) == (192, 0, 0))
        }
        IpAddr::V6(v6) => v6.segments()[0] & 0xe000 == 0x2000 && v6.segments()[..2] != [0x2001, 0x0db8],
    }
}

/// The IPv4 address inside v4-mapped, v4-compatible, NAT64, 6to4 and Teredo addresses.
fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = v6.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Some(Ipv4Addr::new(a, b, c, d))
    };
    match s {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        [0x2001, 0, .., high, low] => v4(!high, !low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(allowed: &[&str]) -> Permits {
        let allowed: Vec<String> = allowed.iter().map(|text| (*text).to_owned()).collect();
        Permits::new(&allowed, vec!["127.0.0.1:9090".parse().unwrap()], Some((Some("127.0.0.1".into()), 5432)))
    }

    async fn opens(permits: &Permits, host: &str, port: u16) -> Result<(), String> {
        permits.addresses(host, port).await.map(drop).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_name_opens_its_own_port_and_a_star_only_public_addresses() {
        let both = permits(&["*", "localhost:8080", "[::1]:8081", "127.0.0.1:80"]);
        for (host, port) in
            [("localhost", 8080), ("LOCALHOST", 8080), ("[::1]", 8081), ("127.0.0.1", 80), ("[2606:4700::1111]", 443)]
        {
            assert_eq!(opens(&both, host, port).await, Ok(()), "{host}:{port}");
        }
        for (host, port) in [
            ("localhost", 80),
            ("localhost", 443),
            ("localhost", 8081),
            ("[::1]", 80),
            ("[::1]", 8080),
            ("127.0.0.1", 443),
            ("127.0.0.1", 8080),
            ("127.0.0.2", 80),
            ("1.1.1.1", 22),
        ] {
            assert!(opens(&both, host, port).await.is_err(), "{host}:{port}");
        }
    }

    #[tokio::test]
    async fn a_star_never_means_a_private_address() {
        for host in [
            "127.0.0.1",
            "10.1.2.3",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
            "169.254.169.254",
            "0.0.0.0",
            "localhost",
        ] {
            assert!(opens(&permits(&["*"]), host, 80).await.is_err(), "{host}");
        }
    }

    #[tokio::test]
    async fn the_engine_its_database_and_metadata_stay_closed_even_when_they_are_named() {
        let closed = [
            ("127.0.0.1", 9090),
            ("localhost", 9090),
            ("127.8.8.8", 9090),
            ("0.0.0.0", 9090),
            ("[::]", 9090),
            ("[::1]", 9090),
            ("[::ffff:127.0.0.1]", 9090),
            ("[::ffff:0.0.0.0]", 9090),
            ("127.0.0.1", 5432),
            ("localhost", 5432),
            ("[::1]", 5432),
            ("0.0.0.0", 5432),
            ("169.254.169.254", 80),
            ("169.254.170.2", 80),
            ("[::ffff:169.254.169.254]", 80),
            ("[fd00:ec2::254]", 80),
            ("[fd20:ce::254]", 80),
            ("[fe80::a9fe:a9fe]", 80),
            ("100.100.100.200", 80),
            ("168.63.129.16", 80),
        ];
        for (host, port) in closed {
            for grant in [host.to_owned(), format!("{host}:{port}")] {
                let why = opens(&permits(&["*", &grant]), host, port).await.unwrap_err();
                assert!(why.contains("never allowed"), "{host}:{port} named as {grant}: {why}");
            }
            assert!(opens(&permits(&["*"]), host, port).await.is_err(), "{host}:{port}");
        }
        let open = permits(&["localhost", "127.0.0.1", "10.0.0.7"]);
        assert_eq!(opens(&open, "localhost", 9091).await, Ok(()));
        assert_eq!(opens(&open, "127.0.0.1", 80).await, Ok(()));
        assert_eq!(opens(&open, "10.0.0.7", 9090).await, Ok(()));
    }

    #[tokio::test]
    async fn a_listener_on_all_addresses_is_reached_by_none_of_them() {
        let everywhere =
            |listen: &str| Permits::new(&["127.0.0.1".into(), "[::1]".into()], vec![listen.parse().unwrap()], None);
        for listen in ["0.0.0.0:9090", "[::]:9090"] {
            for host in ["127.0.0.1", "[::1]"] {
                assert!(opens(&everywhere(listen), host, 9090).await.is_err(), "{listen} by {host}");
                assert_eq!(opens(&everywhere(listen), host, 9091).await, Ok(()));
            }
        }
    }

    #[test]
    fn what_a_component_declares_is_matched_by_host_and_port() {
        let hosts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert!(asks_for(&hosts(&["*"]), "api.example.com", 443));
        assert!(asks_for(&hosts(&["api.example.com"]), "API.example.com", 8443));
        assert!(asks_for(&hosts(&["::1", "[::2]:80"]), "[::2]", 80));
        assert!(!asks_for(&hosts(&["api.example.com:443"]), "api.example.com", 80));
        assert!(!asks_for(&hosts(&["example.com"]), "api.example.com", 443));
        assert!(!asks_for(&[], "api.example.com", 443));
    }
}
