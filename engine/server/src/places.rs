//! The places for connections: those of tenants, and few for connections that have not yet shown a caller.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use cerebelum_worker::{ApiError, TenantId, TenantMap};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// The number of open connections of callers.
const CONNECTIONS_MAX: usize = 512;
/// The same of one tenant, so that others can always connect.
const TENANT_CONNECTIONS_MAX: usize = 448;
/// The number of connections without a caller; for a further one, the oldest is closed.
const STRANGERS_MAX: usize = 384;
/// How long a connection without a caller may stay in any case. Further ones wait to be accepted.
pub(crate) const STRANGER_MIN: Duration = Duration::from_secs(10);
/// How often that is looked at.
const STRANGER_CHECK: Duration = Duration::from_millis(10);

/// All places.
#[derive(Debug)]
pub(crate) struct Places {
    all: Arc<Semaphore>,
    tenants: TenantMap<Semaphore>,
    strangers: Mutex<VecDeque<Weak<Connection>>>,
    stranger_min: Duration,
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    places: Arc<Places>,
    /// Once the connection has a caller.
    place: OnceLock<Place>,
    cut: Notify,
    unread: Notify,
    since: Instant,
    /// The address of the other end.
    pub(crate) peer: IpAddr,
}

/// The place of a connection, among all and among those of its tenant.
#[derive(Debug)]
struct Place {
    _of_all: OwnedSemaphorePermit,
    _of_tenant: OwnedSemaphorePermit,
    /// Keeps the tenant's semaphore, which is shared by its connections.
    _tenant: Arc<Semaphore>,
}

fn lock<T>(held: &Mutex<T>) -> MutexGuard<'_, T> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Places {
    pub(crate) fn new(stranger_min: Duration) -> Arc<Self> {
        let all = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Arc::new(Self { all, tenants: TenantMap::default(), strangers: Mutex::default(), stranger_min })
    }

    /// A new connection. If there are too many without a caller, the oldest of these is told to end.
    pub(crate) async fn meet(self: &Arc<Self>, peer: IpAddr) -> Arc<Connection> {
        while !self.has_room_for_stranger() {
            tokio::time::sleep(STRANGER_CHECK).await;
        }
        let (place, cut, unread) = (OnceLock::new(), Notify::new(), Notify::new());
        let connection = Arc::new(Connection { places: self.clone(), place, cut, unread, since: Instant::now(), peer });
        lock(&self.strangers).push_back(Arc::downgrade(&connection));
        connection
    }

    /// Whether there is room for one more connection without a caller, if need be after the oldest was told to end.
    fn has_room_for_stranger(&self) -> bool {
        let mut strangers = lock(&self.strangers);
        if strangers.len() < STRANGERS_MAX {
            return true;
        }
        strangers.retain(|one| one.upgrade().is_some_and(|one| !one.has_caller()));
        let oldest = strangers.front().and_then(Weak::upgrade);
        if let Some(oldest) = oldest.filter(|_| strangers.len() >= STRANGERS_MAX) {
            if oldest.since.elapsed() < self.stranger_min {
                return false;
            }
            strangers.pop_front();
            oldest.cut.notify_one();
        }
        true
    }
}

impl Connection {
    /// Whether a caller has used this connection.
    pub(crate) fn has_caller(&self) -> bool {
        self.place.get().is_some()
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
        if self.has_caller() {
            return Ok(());
        }
        let full = |_| ApiError::Quota("too many connections: send requests over fewer, or close some".to_owned());
        let _tenant = self.places.tenants.of(tenant, || Semaphore::new(TENANT_CONNECTIONS_MAX));
        let _of_tenant = _tenant.clone().try_acquire_owned().map_err(full)?;
        let _of_all = self.places.all.clone().try_acquire_owned().map_err(full)?;
        // Another request of this connection may have been first: then this place is given back.
        let _ = self.place.set(Place { _of_all, _of_tenant, _tenant });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[tokio::test]
    async fn the_oldest_stranger_makes_room_and_callers_stay() {
        let places = Places::new(Duration::ZERO);
        let caller = places.meet(HERE).await;
        caller.belongs_to(TenantId(1)).unwrap();
        let oldest = places.meet(HERE).await;
        let mut others = Vec::new();
        for _ in 1..STRANGERS_MAX {
            others.push(places.meet(HERE).await);
        }
        assert!(futures::poll!(std::pin::pin!(oldest.cut())).is_pending());
        let newest = places.meet(HERE).await;
        oldest.cut().await;
        for one in others.iter().chain([&newest, &caller]) {
            assert!(futures::poll!(std::pin::pin!(one.cut())).is_pending());
        }
    }

    #[tokio::test]
    async fn a_stranger_has_a_moment_to_show_a_caller() {
        let places = Places::new(Duration::from_secs(3_600));
        let mut all = Vec::new();
        for _ in 0..STRANGERS_MAX {
            all.push(places.meet(HERE).await);
        }
        let mut newest = std::pin::pin!(places.meet(HERE));
        assert!(futures::poll!(newest.as_mut()).is_pending());
        all[7].belongs_to(TenantId(1)).unwrap();
        newest.await;
    }

    #[tokio::test]
    async fn a_tenant_leaves_places_for_others() {
        let places = Places::new(Duration::ZERO);
        let connect = async |tenant| {
            let one = places.meet(HERE).await;
            one.belongs_to(TenantId(tenant)).map(|()| one)
        };
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for _ in 0..TENANT_CONNECTIONS_MAX {
            first.push(connect(1).await.unwrap());
        }
        assert!(connect(1).await.is_err());
        for _ in TENANT_CONNECTIONS_MAX..CONNECTIONS_MAX {
            second.push(connect(2).await.unwrap());
        }
        assert!(connect(2).await.is_err() && connect(3).await.is_err());
        assert!(second[0].belongs_to(TenantId(3)).is_ok(), "a connection has its place");
        first.pop();
        assert!(connect(3).await.is_ok());
    }
}
