//! The faults: nodes die, stand still beyond their lease and come back, and the database is slow or away.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::world::{LEASE_MS, NODES, World};

/// The faults that may happen in a world: a few kinds often show more than all of them at once.
const CLIMATES: [&[HostError]; 6] = [
    &[HostError::Crash, HostError::Crash, HostError::Kill],
    &[HostError::Kill, HostError::Kill, HostError::Standstill, HostError::Outage, HostError::Stop, HostError::Weather],
    &[HostError::Outage, HostError::Weather, HostError::Weather],
    &[HostError::Kill],
    &[HostError::Standstill, HostError::StandstillAtCommit, HostError::Weather],
    &[HostError::Stop, HostError::Standstill, HostError::StandstillAtCommit, HostError::Outage],
];

#[derive(Debug, Clone, Copy)]
enum HostError {
    Kill,
    /// The node dies while a guest computes, which is remembered (L18).
    Crash,
    Standstill,
    /// The node stands still when its next batches are on disk and it has not heard so: what they cause, such as a request,
    /// is what it does first when it goes on (L11).
    StandstillAtCommit,
    Outage,
    Stop,
    Weather,
}

/// Causes faults until this time.
pub(crate) async fn reign(world: Arc<World>, until_ms: u64) {
    let clockwork = &world.clockwork;
    let draw = |length: usize| usize::try_from(clockwork.below(length as u64)).expect("a small number");
    let climate = CLIMATES[draw(CLIMATES.len())];
    if climate.iter().any(|trouble| matches!(trouble, HostError::Weather)) {
        change_weather(&world);
    }
    while clockwork.now_ms() < until_ms {
        clockwork.sleep_ms(20 + clockwork.below(1_200)).await;
        let trouble = climate[draw(climate.len())];
        let node = usize::try_from(clockwork.below(NODES as u64)).expect("a small number");
        tracing::info!(at = clockwork.now_ms(), node, ?trouble, "trouble");
        match trouble {
            HostError::Kill => {
                world.kill(node);
                clockwork.sleep_ms(clockwork.below(1_000)).await;
                world.boot(node);
            }
            HostError::Crash => crash(&world, node).await,
            HostError::Standstill => {
                clockwork.stand_still(node, clockwork.below(3 * LEASE_MS));
                world.report.count("stops");
            }
            HostError::StandstillAtCommit => {
                world.weather.standstills_ms[node].store(clockwork.below(3 * LEASE_MS), Ordering::Relaxed);
            }
            HostError::Outage => world.cut_off(clockwork.below(2 * LEASE_MS)),
            HostError::Stop => stop(&world, node).await,
            HostError::Weather => change_weather(&world),
        }
    }
}

fn change_weather(world: &World) {
    let w = &world.weather;
    let shares =
        [(&w.unreachable, 150), (&w.answer_lost, 150), (&w.slow, 300), (&w.hint_lost, 1_000), (&w.rejected, 100)];
    for (share, max) in shares {
        // Now and then a kind of fault does not happen.
        let share_now = if world.clockwork.permille(300) { 0 } else { world.clockwork.below(max) };
        share.store(share_now, Ordering::Relaxed);
    }
}

/// A death in the middle of a guest's next turn, and a new start.
async fn crash(world: &Arc<World>, node: usize) {
    world.crash_soon(node);
    for _ in 0..30 {
        world.clockwork.sleep_ms(50).await;
        if world.has_crashed(node) {
            world.clockwork.sleep_ms(world.clockwork.below(300)).await;
            world.boot(node);
            return;
        }
    }
    // No guest has moved: perhaps there is none, or one begins at this moment.
    if !world.crashes_no_more(node) {
        world.boot(node);
    }
}

/// A graceful stop, and a new start.
async fn stop(world: &Arc<World>, node: usize) {
    let engine = world.engine(node).take();
    if let Some(engine) = engine {
        let (tell, told) = futures::channel::oneshot::channel();
        world.clockwork.spawn(Some(node), async move {
            engine.stop().await;
            // The node may be killed meanwhile.
            let _ = tell.send(());
        });
        let patience = world.clockwork.sleep(std::time::Duration::from_secs(12));
        futures::future::select(told, patience).await;
        world.report.count("graceful stops");
    }
    world.kill(node);
    world.boot(node);
}
