//! The places for connections: those of tenants, and few for connections that have not yet shown a caller.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use cerebelum_worker::{ApiError, TenantId};
use tokio::sync::Notify;

/// The number of open connections of callers. One tenant may have as many of them as are still free: half if it is alone,
/// then half of the rest, so that no number of tenants takes the last of them.
const CONNECTIONS_MAX: usize = 1_024;
/// The number of connections without a caller. One address may have as many of them as are still free.
const STRANGERS_MAX: usize = 1_024;
/// How long a connection that has sent a request, but shown no caller, may stay in any case.
pub(crate) const STRANGER_MIN: Duration = Duration::from_secs(10);
/// The bits of an IPv6 address that one client's network has in common.
const NETWORK_BITS: u32 = 64;

/// All places.
#[derive(Debug)]
pub(crate) struct Places {
    callers: Mutex<Callers>,
    strangers: Mutex<VecDeque<Weak<Connection>>>,
    stranger_min: Duration,
}

/// How many connections callers have, in all and of each tenant.
#[derive(Debug, Default)]
struct Callers {
    all: usize,
    tenants: HashMap<TenantId, usize>,
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    places: Arc<Places>,
    /// The tenant of its caller, once it has one: it has a place of that tenant until it is closed.
    tenant: OnceLock<TenantId>,
    has_asked: AtomicBool,
    cut: Notify,
    unread: Notify,
    since: Instant,
    /// The address of the other end.
    pub(crate) peer: IpAddr,
}

fn lock<T>(held: &Mutex<T>) -> MutexGuard<'_, T> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The network of an address: a client of IPv6 has many addresses.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> NETWORK_BITS << NETWORK_BITS).into()),
        address @ IpAddr::V4(_) => address,
    }
}

impl Places {
    pub(crate) fn new(stranger_min: Duration) -> Arc<Self> {
        Arc::new(Self { callers: Mutex::default(), strangers: Mutex::default(), stranger_min })
    }

    /// A place for a new connection. If there are too many without a caller, one of the network with most of them is told
    /// to end: the oldest that has not sent a request, or else the oldest, if it has had its time. None if there is none.
    pub(crate) fn meet(self: &Arc<Self>, peer: IpAddr) -> Option<Arc<Connection>> {
        let mut held = lock(&self.strangers);
        held.retain(|one| one.upgrade().is_some_and(|one| !one.has_caller()));
        let mut networks: HashMap<IpAddr, usize> = HashMap::new();
        let strangers: Vec<Arc<Connection>> = held.iter().filter_map(Weak::upgrade).collect();
        strangers.iter().for_each(|one| *networks.entry(network(one.peer)).or_default() += 1);
        let own = networks.get(&network(peer)).copied().unwrap_or_default();
        if own + strangers.len() >= STRANGERS_MAX {
            let (most, _) = networks.into_iter().max_by_key(|(_, count)| *count)?;
            let of_most = || strangers.iter().filter(|one| network(one.peer) == most);
            let is_silent = |one: &&Arc<Connection>| !one.has_asked.load(Ordering::Relaxed);
            let oldest = || of_most().next().filter(|one| one.since.elapsed() >= self.stranger_min);
            let goes = of_most().find(is_silent).or_else(oldest)?;
            held.retain(|one| !std::ptr::eq(one.as_ptr(), Arc::as_ptr(goes)));
            goes.cut.notify_one();
        }
        let (tenant, has_asked, cut, unread) = (OnceLock::new(), AtomicBool::new(false), Notify::new(), Notify::new());
        let connection =
            Arc::new(Connection { places: self.clone(), tenant, has_asked, cut, unread, since: Instant::now(), peer });
        held.push_back(Arc::downgrade(&connection));
        Some(connection)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some(tenant) = self.tenant.get() else { return };
        let mut callers = lock(&self.places.callers);
        callers.all -= 1;
        if let Some(count) = callers.tenants.get_mut(tenant) {
            *count -= 1;
        }
        callers.tenants.retain(|_, count| *count > 0);
    }
}

impl Connection {
    /// Whether a caller has used this connection.
    pub(crate) fn has_caller(&self) -> bool {
        self.tenant.get().is_some()
    }

    /// Notes that a request has come.
    pub(crate) fn asked(&self) {
        self.has_asked.store(true, Ordering::Relaxed);
    }

    /// Whether a request has come.
    pub(crate) fn has_asked(&self) -> bool {
        self.has_asked.load(Ordering::Relaxed)
    }

    /// Gives the connection up, because its other end does not read.
    pub(crate) fn give_up(&self) {
        self.unread.notify_one();
    }

    /// Resolves when the connection was given up.
    pub(crate) async fn unread(&self) {
        self.unread.notified().await;
    }

    /// Resolves when the connection has to make room for another one.
    pub(crate) async fn cut(&self) {
        self.cut.notified().await;
        if self.has_caller() {
            // It found its caller in the same moment.
            std::future::pending::<()>().await;
        }
    }

    /// Notes the tenant of the first caller, and takes a place of that tenant.
    pub(crate) fn belongs_to(&self, tenant: TenantId) -> Result<(), ApiError> {
        let mut callers = lock(&self.places.callers);
        if self.has_caller() {
            return Ok(());
        }
        let own = callers.tenants.get(&tenant).copied().unwrap_or_default();
        if own + callers.all >= CONNECTIONS_MAX {
            let why = "too many connections: send requests over fewer, or close some";
            return Err(ApiError::Quota(why.to_owned()));
        }
        callers.all += 1;
        *callers.tenants.entry(tenant).or_default() += 1;
        self.tenant.get_or_init(|| tenant);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

    fn is_cut(one: &Connection) -> bool {
        futures::FutureExt::now_or_never(one.cut()).is_some()
    }

    #[test]
    fn the_oldest_silent_one_makes_room_and_callers_stay() {
        let places = Places::new(Duration::ZERO);
        let caller = places.meet(HERE).unwrap();
        caller.belongs_to(TenantId(1)).unwrap();
        let all: Vec<_> = (0..STRANGERS_MAX / 2).map(|_| places.meet(HERE).unwrap()).collect();
        all[0].asked();
        let newest = places.meet(HERE).unwrap();
        assert!(is_cut(&all[1]));
        let others = all.iter().enumerate().filter(|(number, _)| *number != 1).map(|(_, one)| one);
        assert!(others.chain([&newest, &caller]).all(|one| !is_cut(one)));
    }

    #[test]
    fn an_address_with_many_silent_connections_keeps_no_other_waiting() {
        let places = Places::new(Duration::from_secs(3_600));
        let mut crowd = Vec::new();
        for _ in 0..4 * STRANGERS_MAX {
            crowd.push(places.meet(THERE).expect("the oldest of the same address goes"));
        }
        assert_eq!(crowd.iter().filter(|one| !is_cut(one)).count(), STRANGERS_MAX / 2);
        let others: Vec<_> = (0..20).map(|_| places.meet(HERE).unwrap()).collect();
        assert!(others.iter().all(|one| !is_cut(one)));
    }

    #[test]
    fn what_has_asked_has_its_time_and_a_newer_one_is_not_met() {
        let places = Places::new(Duration::from_secs(3_600));
        let all: Vec<_> = (0..STRANGERS_MAX / 2).map(|_| places.meet(HERE).unwrap()).collect();
        all.iter().for_each(|one| one.asked());
        assert!(places.meet(HERE).is_none());
        assert!(places.meet(THERE).is_some());
        all[7].belongs_to(TenantId(1)).unwrap();
        drop(places.meet(HERE).unwrap());
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::3"), of("2001:db8:1:2:ffff::4"));
        assert_ne!(of("2001:db8:1:2::3"), of("2001:db8:1:3::3"));
        assert_eq!(of("::ffff:127.0.0.1"), HERE);
        assert_ne!(of("127.0.0.1"), of("127.0.0.2"));
    }

    #[test]
    fn however_many_tenants_connect_there_is_a_place_for_the_next() {
        let places = Places::new(Duration::ZERO);
        let connect = |tenant| {
            let one = places.meet(HERE).unwrap();
            one.belongs_to(TenantId(tenant)).map(|()| one)
        };
        let mut held = Vec::new();
        for tenant in 1..=6 {
            for _ in 0..CONNECTIONS_MAX >> tenant {
                held.push(connect(tenant).expect("it has half of what is free"));
            }
            assert!(connect(tenant).is_err());
        }
        assert!(held[0].belongs_to(TenantId(9)).is_ok(), "a connection has its place");
        assert!(connect(7).is_ok());
        held.clear();
        assert!(connect(1).is_ok());
    }
}
