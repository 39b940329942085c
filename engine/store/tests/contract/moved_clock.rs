//! Clocks that jump: a timer fires when its time has passed, not when a clock is set.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cerebelum_history::Timestamp;
use cerebelum_store::{Batch, ClaimFilter, Clocks, Size, Store, open_with};

use crate::bench::{Bench, LONG, fresh, key, lease, new, written};

const BEGAN: u64 = 1_700_000_000_000;
const MINUTE: u64 = 60_000;
const YEARS: i64 = 100 * 366 * 24 * 60 * 60_000;

/// A machine whose clocks are set by hand.
#[derive(Default)]
struct Machine {
    boot: AtomicU64,
    wall: AtomicU64,
    boots: AtomicU64,
}

impl Clocks for Machine {
    fn boot_ms(&self) -> u64 {
        self.boot.load(Ordering::Relaxed)
    }
    fn wall_ms(&self) -> u64 {
        self.wall.load(Ordering::Relaxed)
    }
    fn boot_id(&self) -> String {
        format!("boot {}", self.boots.load(Ordering::Relaxed))
    }
}

impl Machine {
    fn new() -> Arc<Self> {
        let machine = Self::default();
        machine.boot.store(1_000, Ordering::Relaxed);
        machine.wall.store(BEGAN, Ordering::Relaxed);
        Arc::new(machine)
    }
    fn pass(&self, ms: u64) {
        self.boot.fetch_add(ms, Ordering::Relaxed);
        self.wall.fetch_add(ms, Ordering::Relaxed);
    }
    fn jump(&self, ms: i64) {
        let _ =
            self.wall.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |wall| Some(wall.saturating_add_signed(ms)));
    }
}

struct Scene {
    machine: Arc<Machine>,
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        Self { machine: Machine::new(), folder: tempfile::tempdir().unwrap() }
    }
    async fn open(&self) -> Arc<dyn Store> {
        let url = format!("sqlite:{}", self.folder.path().join("cerebelum.db").display());
        open_with(&url, self.machine.clone()).await.unwrap()
    }
}

async fn sleep_until(store: &dyn Store, id: &str, due: u64) {
    let mut sleeper = new(id);
    sleeper.head.settled = true;
    sleeper.head.due = Some(Timestamp(due));
    let node = lease(store, "starter").await;
    assert_eq!(written(store.append(fresh(), vec![Batch::start(node, sleeper)]).await.unwrap()), [Ok(())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jump_of_the_wall_clock_neither_fires_a_timer_early_nor_delays_it() {
    for (there, back) in [(3_600_000, 0), (120_000, -120_000), (YEARS, 0), (-3_600_000, 0), (-3_600_000, 7_200_000)] {
        let scene = Scene::new();
        let store = scene.open().await;
        let node = lease(&*store, "n").await;
        let due = store.now().await.unwrap().0 + 10 * MINUTE;
        sleep_until(&*store, "sleeper", due).await;
        for step in 0..3 {
            scene.machine.jump([there, back, 0][step]);
            scene.machine.pass(3 * MINUTE);
            let lease =
                store.renew_lease(node, LONG).await.unwrap().expect("a lease does not end because a clock jumps");
            assert_eq!(lease.remaining, LONG);
            assert_eq!(
                store.claim(node, ClaimFilter::Next { limit: 9, size: Size::Any }).await.unwrap(),
                [],
                "{there}, {back}: after {} minutes",
                3 * (step + 1)
            );
        }
        scene.machine.pass(MINUTE + 1_000);
        let claimed = store.claim(node, ClaimFilter::Next { limit: 9, size: Size::Any }).await.unwrap();
        assert_eq!(claimed.len(), 1, "{there}, {back}: a second after its time");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_engine_with_another_wall_clock_counts_the_time_that_passed() {
    for jump in [3_600_000, YEARS, -3_600_000] {
        let scene = Scene::new();
        let store = scene.open().await;
        lease(&*store, "n").await;
        let due = store.now().await.unwrap().0 + 10 * MINUTE;
        sleep_until(&*store, "sleeper", due).await;
        drop(store);
        scene.machine.jump(jump);
        scene.machine.pass(5 * MINUTE);
        let store = scene.open().await;
        let node = lease(&*store, "n").await;
        assert_eq!(store.claim(node, ClaimFilter::Next { limit: 9, size: Size::Any }).await.unwrap(), [], "{jump}");
        drop(store);
        scene.machine.pass(5 * MINUTE + 1);
        let store = scene.open().await;
        let node = lease(&*store, "n").await;
        assert_eq!(
            store.claim(node, ClaimFilter::Next { limit: 9, size: Size::Any }).await.unwrap().len(),
            1,
            "{jump}"
        );
    }
}

/// After a restart of the machine, only its wall clock shows how long it was off. The wall clock is believed as far as
/// it is plausible.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_of_the_machine_the_time_is_the_wall_clocks_unless_that_is_absurd() {
    let hour = 60 * MINUTE;
    for (wall, expected) in [(BEGAN + hour, BEGAN + hour), (BEGAN - hour, BEGAN), (BEGAN + YEARS.unsigned_abs(), BEGAN)]
    {
        let scene = Scene::new();
        let store = scene.open().await;
        lease(&*store, "n").await;
        drop(store);
        scene.machine.boots.fetch_add(1, Ordering::Relaxed);
        scene.machine.boot.store(10, Ordering::Relaxed);
        scene.machine.wall.store(wall, Ordering::Relaxed);
        assert_eq!(scene.open().await.now().await.unwrap().0, expected);
    }
}

/// A test cannot set the clock of a PostgreSQL server. It moves the engine's own clock against it, which has the same
/// effect.
#[tokio::test(flavor = "multi_thread")]
async fn when_a_servers_clock_jumps_timers_keep_their_time() {
    for jump in [3_600_000_u64, 120_000] {
        let bench = Bench::postgres().await;
        let machine = Machine::new();
        let store = open_with(&bench.url, machine.clone()).await.unwrap();
        let node = lease(&*store, "n").await;
        let began = store.now().await.unwrap().0;
        // By the server's clock the timer is long overdue, but for this engine its time has yet to pass.
        machine.pass(jump);
        let later = store.now().await.unwrap().0;
        assert!(later.abs_diff(began + jump) < 10);
        sleep_until(&*store, "sleeper", later + MINUTE).await;
        // For the server this is a jump back, and for the engine one minute.
        machine.pass(1_000);
        let lease = store.renew_lease(node, LONG).await.unwrap().unwrap();
        assert!(lease.now.0.abs_diff(later + 1_000) < jump / 100, "followed slowly");
        assert_eq!(store.claim(node, ClaimFilter::Next { limit: 9, size: Size::Any }).await.unwrap(), []);
        machine.pass(MINUTE + jump / 100);
        assert_eq!(
            store.claim(node, ClaimFilter::Next { limit: 9, size: Size::Any }).await.unwrap().len(),
            1,
            "it does not wait until the server has caught up"
        );
        assert!(store.renew_lease(node, Duration::from_secs(60)).await.unwrap().is_some());
        assert!(bench.execution(&key("sleeper")).await.unwrap().is_some());
    }
}
